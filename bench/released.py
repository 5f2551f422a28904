# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loads and runs every released model at full size, with random weights made on the way: from a Diffusers directory and
from an original single file (whose configuration is inferred), both directions, against diffusers. Prints error, loading
time, time of a frame and peak memory of the process.

    python bench/released.py --library build/dcae-core/libdcae.so [MODEL …]
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np

import common
from libdcae import DECODE, ENCODE, Codec

MAKE = os.path.join(common.HERE, "..", "tools", "make_checkpoint.py")


def run_half(args):
    """One direction of one file in a process of its own; the output goes to a file, figures to standard output."""
    start = time.perf_counter()
    direction = ENCODE if args.half == "encode" else DECODE
    codec = Codec(args.library, args.models[0], direction, args.size, args.size, args.threads)
    loaded = time.perf_counter()
    codec.image[...] = common.picture(args.size, args.size)
    codec.latent[...] = common.latent(*codec.latent.shape[::2], codec.latent.shape[1])
    output = codec.run()
    done = time.perf_counter()
    np.save(args.output, output)
    print(json.dumps({"load_s": loaded - start, "frame_s": done - loaded,
                      "peak_mib": common.peak_mib()}))


def ours(args, path, half, output):
    command = [sys.executable, __file__, "--library", args.library, "--threads", str(args.threads), "--size",
               str(args.size), "--half", half, "--output", output, path]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def reference(args, path):
    """Latent of the picture and picture of the latent, as our codec gives them."""
    import torch
    from diffusers import AutoencoderDC

    torch.set_num_threads(args.threads)
    model = AutoencoderDC.from_pretrained(path, torch_dtype=torch.float32).eval()
    side = args.size // model.spatial_compression_ratio
    pixels = torch.from_numpy(common.picture(args.size, args.size)).permute(2, 0, 1)[None].float() / 127.5 - 1
    latent = torch.from_numpy(common.latent(model.config.latent_channels, side, side))[None]
    with torch.inference_mode():
        encoded, decoded = model.encoder(pixels)[0].numpy(), model.decoder(latent)[0].numpy()
    return encoded, np.rint((decoded.transpose(1, 2, 0) * 127.5 + 127.5).clip(0, 255)).astype(np.uint8)


def difference(half, got, wanted):
    if half == "encode":
        return f"{np.linalg.norm(got - wanted) / np.linalg.norm(wanted):.1e}"
    return f"{np.abs(got.astype(int) - wanted).max()} of 255"


def run_model(args, name, folder):
    directory, single = os.path.join(folder, name), os.path.join(folder, name + ".safetensors")
    subprocess.run([sys.executable, MAKE, name, directory], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, MAKE, name, single, "--layout", "original"], check=True, stdout=subprocess.DEVNULL)
    wanted = dict(zip(("encode", "decode"), reference(args, directory)))
    for half in ("encode", "decode"):
        outputs = [os.path.join(folder, layout + ".npy") for layout in ("diffusers", "original")]
        figures = [ours(args, path, half, output) for path, output in zip((directory, single), outputs)]
        got = [np.load(output) for output in outputs]
        print("| {} | {} | {} | {} | {:.1f} | {:.2f} | {} |".format(
            name, half, difference(half, got[0], wanted[half]), "same bits" if np.array_equal(*got) else "DIFFERS",
            figures[0]["load_s"], figures[0]["frame_s"], figures[0]["peak_mib"]), flush=True)
    for root, _, files in os.walk(folder):
        for file in files:
            os.unlink(os.path.join(root, file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--library", required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--size", type=int, default=256, help="side of the square picture, a multiple of every ratio")
    parser.add_argument("--half", choices=["encode", "decode"], help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.library = os.path.abspath(args.library)
    if args.half:
        run_half(args)
        return
    names = args.models or subprocess.run([sys.executable, MAKE, "--list"], check=True, stdout=subprocess.PIPE,
                                          text=True).stdout.split()
    common.banner(f"Released models with random weights, {args.size}×{args.size}, {args.threads} threads")
    print("| model | direction | against diffusers | original file | load s | frame s | peak MiB |\n|---|---|---|---|---|---|---|")
    for name in names:
        with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
            run_model(args, name, folder)


if __name__ == "__main__":
    main()
