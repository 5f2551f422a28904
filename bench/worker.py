# SPDX-License-Identifier: LGPL-2.1-or-later
"""One way to run one direction of a model, in a process of its own, so that its memory is its own too. The other scripts
start it and talk to it by lines: `run` answers with milliseconds, `save FILE` stores the last output, `ops` answers with
libdcae's time of every op of the last run, `quit` with the peak memory in MiB."""
import argparse
import logging
import warnings

import numpy as np

from common import latent, picture, serve


def dcae(args, precision, backend="cpu"):
    from libdcae import DECODE, ENCODE, Codec

    direction = ENCODE if args.direction == "encode" else DECODE
    codec = Codec(args.library, args.model, direction, args.width, args.height, args.threads, precision, args.tiling,
                  args.memory_limit << 20, backend)
    if direction == ENCODE:
        codec.image[...] = picture(args.width, args.height)
    else:
        channels, height, width = codec.latent.shape
        codec.latent[...] = latent(channels, width, height)
    args.extra["ops"] = codec.timings
    args.extra["plan"] = codec.plan
    return codec.run


def load_torch(args, dtype, tiled=False):
    import torch
    from diffusers import AutoencoderDC
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    model = AutoencoderDC.from_pretrained(args.model, torch_dtype=dtype).eval()
    if tiled:
        model.enable_tiling()
    half = model.encoder if args.direction == "encode" else model.decoder
    ratio, channels = model.spatial_compression_ratio, model.config.latent_channels
    if tiled:  # the model cuts the frame, then calls its half
        half = ((lambda x: model.encode(x).latent) if args.direction == "encode" else
                (lambda x: model.decode(x).sample))
        setattr(model, "decoder" if args.direction == "encode" else "encoder", None)
    else:
        del model
    if args.direction == "encode":
        data = torch.from_numpy(picture(args.width, args.height)).permute(2, 0, 1)[None].float() / 127.5 - 1
    else:
        data = torch.from_numpy(latent(channels, args.width // ratio, args.height // ratio))[None]
    return torch, half, data.to(dtype)


def finish(args, array):
    """[1, c, h, w] floats to what libdcae gives."""
    if args.direction == "encode":
        return array[0]
    return np.rint((array[0].transpose(1, 2, 0) * 127.5 + 127.5).clip(0, 255)).astype(np.uint8)


def diffusers(args, dtype="float32", channels_last=False, compiled=False, tiled=False, device="cpu"):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no CUDA device")

    torch, half, data = load_torch(args, getattr(torch, dtype), tiled)
    if channels_last:
        half, data = half.to(memory_format=torch.channels_last), data.to(memory_format=torch.channels_last)
    half = half.to(device)
    if compiled:
        half = torch.compile(half)

    def run():  # the frame goes up and the result comes down, as with libdcae
        with torch.inference_mode():
            return finish(args, half(data.to(device)).float().cpu().numpy())
    return run


def openvino(args, precision="f32"):
    import openvino as ov
    import torch

    torch, half, data = load_torch(args, torch.float32)
    with torch.inference_mode():
        graph = ov.convert_model(half, example_input=data, input=[tuple(data.shape)])
    del half
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": precision,
                                                      "INFERENCE_NUM_THREADS": args.threads})
    array = data.numpy()
    return lambda: finish(args, compiled(array)[0])


PEERS = {
    "dcae f32": lambda args: dcae(args, "f32"),
    "dcae bf16": lambda args: dcae(args, "bf16"),
    "diffusers f32": diffusers,
    "diffusers f32 channels last": lambda args: diffusers(args, channels_last=True),
    "diffusers f32 torch.compile": lambda args: diffusers(args, compiled=True),
    "diffusers f32 tiled": lambda args: diffusers(args, tiled=True),
    "diffusers bf16": lambda args: diffusers(args, "bfloat16"),
    "openvino f32": openvino,
    "dcae cuda f32": lambda args: dcae(args, "f32", "cuda"),
    "dcae cuda bf16": lambda args: dcae(args, "bf16", "cuda"),
    "diffusers cuda f32": lambda args: diffusers(args, device="cuda"),
    "diffusers cuda bf16 channels last": lambda args: diffusers(args, "bfloat16", channels_last=True, device="cuda"),
    "diffusers cuda bf16 torch.compile": lambda args: diffusers(args, "bfloat16", channels_last=True, compiled=True,
                                                                device="cuda"),
    "openvino bf16": lambda args: openvino(args, "bf16"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("direction", choices=["encode", "decode"])
    parser.add_argument("model")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--library", default="")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiling", default="auto")
    parser.add_argument("--memory-limit", type=int, default=0, help="MiB")
    args = parser.parse_args()
    args.extra = {}
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    serve(lambda: PEERS[args.peer](args), args.extra, limit="cuda" not in args.peer)


if __name__ == "__main__":
    main()
