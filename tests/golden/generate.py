#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes the golden data: small random AutoencoderDC models and what the reference, Diffusers in f32, makes of them.

usage: generate.py [--check] [CASE ...]

Needs the packages of requirements.txt. Without names all cases are written and directories that are no longer in the
table are removed. --check writes nothing and reports how far the committed data are from a fresh run. The table is in
cases.py, the format of the files in README.md.
"""
import argparse
import copy
import json
import shutil
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, logging
from diffusers.loaders.single_file_utils import convert_autoencoder_dc_checkpoint_to_diffusers
from safetensors.torch import load_file

from cases import CASES, MODELS

HERE = Path(__file__).resolve().parent
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.uint8: "U8"}
DEFAULTS = {"attention_head_dim": 32, "latent_channels": 32, "in_channels": 3, "scaling_factor": 1.0,
            "encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock", "decoder_norm_types": "rms_norm",
            "decoder_act_fns": "silu", "upsample_block_type": "pixel_shuffle", "downsample_block_type": "pixel_unshuffle",
            "encoder_out_shortcut": True, "decoder_in_shortcut": True, "decoder_conv_act_fn": "relu"}


# ---- models

def parse_stages(text):
    """"R16x2 E40x1:3,5" as lists: block types, widths, numbers of blocks, extra scales."""
    types, widths, layers, scales = [], [], [], []
    for word in text.split():
        word, _, kernels = word.partition(":")
        width, count = word[1:].split("x")
        types.append({"R": "ResBlock", "E": "EfficientViTBlock"}[word[0]])
        widths.append(int(width))
        layers.append(int(count))
        scales.append([int(k) for k in kernels.split(",")] if kernels else [])
    return types, widths, layers, scales


def configuration(model):
    """The arguments of AutoencoderDC, which are also the keys of config.json."""
    config = dict(latent_channels=model.latent, attention_head_dim=model.head_dim, decoder_norm_types=model.norms,
                  downsample_block_type=model.down, upsample_block_type=model.up, decoder_act_fns=model.acts,
                  decoder_conv_act_fn=model.conv_act, encoder_out_shortcut=model.shortcuts,
                  decoder_in_shortcut=model.shortcuts, scaling_factor=model.scaling)
    for side in "encoder", "decoder":
        types, widths, layers, scales = parse_stages(getattr(model, side))
        config[f"{side}_block_types"] = types[0] if len(set(types)) == 1 else types
        config[f"{side}_block_out_channels"] = widths
        config[f"{side}_layers_per_block"] = layers
        config[f"{side}_qkv_multiscales"] = scales
    return config


def randomise(ae, seed):
    """Random weights that keep every layer's values near 1, so that a mistake in any of them shows in the output."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for name, tensor in ae.state_dict().items():
            if name.endswith("running_mean"):
                uniform(tensor, -0.5, 0.5)
            elif name.endswith("running_var"):
                uniform(tensor, 0.3, 2.5)
            elif name.endswith("num_batches_tracked"):
                tensor.fill_(seed % 1000)
            elif name.endswith("bias"):
                uniform(tensor, -0.3, 0.3)
            elif tensor.dim() == 1:  # weights of norms
                uniform(tensor, 0.3, 1.2)
            else:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return ae


def stored_types(state, dtype):
    """The tensors as they are stored. "mixed" gives each of the three types to a third of them."""
    order = [torch.float32, torch.float16, torch.bfloat16]
    result = {}
    for i, (name, tensor) in enumerate(sorted(state.items())):
        to = order[i % 3] if dtype == "mixed" else TYPES[dtype]
        result[name] = tensor.to(to) if tensor.is_floating_point() else tensor
    return result


def to_original(state, config):
    """The inverse of Diffusers' conversion: the same tensors under the keys of the original implementation."""
    result = {}
    for name, tensor in state.items():
        if ".attn.to_k." in name or ".attn.to_v." in name:
            continue  # stacked under to_q
        if ".attn.to_q." in name:
            parts = [state[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            tensor = torch.cat(parts)[:, :, None, None]
        elif name.endswith("attn.to_out.weight"):
            tensor = tensor[:, :, None, None]
        result[original_name(name, config)] = tensor
    return result


def original_name(name, config):
    side, part, rest = name.split(".", 2)
    stride2 = side == "encoder" and config["downsample_block_type"] != "pixel_unshuffle"
    if part == "conv_in" and stride2:
        rest = rest.removeprefix("conv.")  # a stride-2 convolution is one level less deep than the other ways down and up
    if part not in ("down_blocks", "up_blocks"):
        return f"{side}.{original_ends(side, part, config)}.{rest}"
    stage, index, rest = rest.split(".", 2)
    stem = f"{side}.stages.{stage}.op_list.{index}"
    if rest.startswith("attn."):
        for new, old in (("attn.to_qkv_multiscale", "aggreg"), ("proj_in", "0"), ("proj_out", "1"), ("attn.to_q", "qkv.conv"),
                         ("attn.to_out", "proj.conv"), ("attn.norm_out", "proj.norm")):
            rest = rest.replace(new, old)
        return f"{stem}.context_module.main.{rest}"
    if rest.startswith("conv_out."):
        for new, old in (("conv_inverted", "inverted_conv.conv"), ("conv_depth", "depth_conv.conv"),
                         ("conv_point", "point_conv.conv"), ("norm", "point_conv.norm")):
            rest = rest.replace(f"conv_out.{new}", old)
        return f"{stem}.local_module.main.{rest}"
    first, _, last = rest.partition(".")
    first = {"conv1": "conv1.conv", "conv2": "conv2.conv", "norm": "conv2.norm",
             "conv": "conv" if stride2 else "conv.conv"}[first]
    return f"{stem}.main.{first}.{last}"


def original_ends(side, part, config):
    """Original names of the layers outside the stages."""
    if side == "encoder":
        out = "project_out.main.op_list.0.conv" if config["encoder_out_shortcut"] else "project_out.op_list.0.conv"
        return {"conv_in": "project_in.conv", "conv_out": out}[part]
    into = "project_in.main.conv" if config["decoder_in_shortcut"] else "project_in.conv"
    return {"conv_in": into, "norm_out": "project_out.op_list.0", "conv_out": "project_out.op_list.2.conv"}[part]


# ---- files

def write_safetensors(path, tensors, metadata):
    """A safetensors file whose bytes depend on its contents alone (the library's order of metadata does not)."""
    header, offset = {"__metadata__": dict(sorted(metadata.items()))}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())


def write_config(path, model, sparse):
    config = json.loads(path.read_text()) if path.exists() else {"_class_name": "AutoencoderDC", **configuration(model)}
    if sparse:
        config = {k: v for k, v in config.items() if k not in DEFAULTS or v != DEFAULTS[k]}
        config["_a_key_of_a_later_version"] = {"nested": [1, None]}
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def write_model(folder, name, model):
    """Writes the files of a model and returns (path below folder, reference model that was loaded from those files)."""
    ae = randomise(AutoencoderDC(**configuration(model)), zlib.crc32(name.encode()))
    if model.layout == "original":
        return write_original(folder, model, ae)
    target = folder / "model"
    limit = model.shard or "1GB"
    if model.plain_too:
        ae.save_pretrained(target)
    half = copy.deepcopy(ae)
    if model.dtype in TYPES:
        half = half.to(TYPES[model.dtype])
    half.save_pretrained(target, variant=model.variant or None, max_shard_size=limit)
    if model.dtype == "mixed":
        write_safetensors(target / "diffusion_pytorch_model.safetensors", stored_types(ae.state_dict(), "mixed"),
                          {"format": "pt"})
    write_config(target / "config.json", model, model.sparse_config)
    reference = AutoencoderDC.from_pretrained(target, variant=model.variant or None, low_cpu_mem_usage=False)
    return "model", reference.float()


def write_original(folder, model, ae):
    config = configuration(model)
    state = stored_types(ae.state_dict(), model.dtype)
    original = to_original(state, config)
    check_conversion(original, state)
    write_safetensors(folder / "model.safetensors", {model.prefix + k: v for k, v in sorted(original.items())},
                      {"format": "pt"})
    write_config(folder / "config.json", model, False)
    ae.load_state_dict(state)  # f16 values, in f32
    return "model.safetensors", ae


def check_conversion(original, state):
    """Diffusers' own conversion must give back what we started from. What it does not know is mended: more than one
    extra scale, and an encoder and a decoder of which only one begins with an empty stage."""
    back = convert_autoencoder_dc_checkpoint_to_diffusers(dict(original))
    for key in list(back):
        stem, _, last = key.rpartition(".")
        if stem in ("encoder.conv_in", "decoder.conv_out") and key not in state:
            back[f"{stem}.conv.{last}"] = back.pop(key)
        head, found, tail = key.partition("attn.aggreg.")
        if found:
            scale, half, last = tail.split(".")
            back[f"{head}attn.to_qkv_multiscale.{scale}.{('proj_in', 'proj_out')[int(half)]}.{last}"] = back.pop(key)
    assert back.keys() == state.keys(), sorted(back.keys() ^ state.keys())
    for key in back:
        assert torch.equal(back[key], state[key]), key


# ---- the reference

def picture(case, seed):
    """Smooth colours, edges, and noise; every value from 0 to 255 occurs in pictures that are large enough."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:case.height, 0:case.width]
    frames = []
    for _ in range(case.frames):
        waves = [np.sin(x * fx + y * fy + phase) for fx, fy, phase in rng.uniform(-0.4, 0.4, (6, 3)) * (1, 1, 15)]
        frame = np.stack([sum(w * a for w, a in zip(waves, rng.normal(0, 45, 6))) for _ in range(3)], -1) + 128
        left, top = rng.integers(0, max(1, case.width // 2)), rng.integers(0, max(1, case.height // 2))
        frame[top:top + case.height // 3, left:left + case.width // 3] = rng.integers(0, 256, 3)
        frames.append(frame + rng.normal(0, 12, frame.shape))
    return torch.from_numpy(np.clip(np.rint(np.stack(frames)), 0, 255).astype(np.uint8))


def to_input(pixels, case, ratio):
    """What the reference is given: [-1, 1], and for other edge modes than the tiled crop sizes that it can take."""
    x = pixels.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1
    if case.edge == "crop":
        if not is_tiled(case):
            x = x[:, :, :case.height // ratio * ratio, :case.width // ratio * ratio]
        return x
    pad = (0, -case.width % ratio, 0, -case.height % ratio)
    return F.pad(x, pad, mode="replicate") if case.edge == "extend" else F.pad(x, pad)


def is_tiled(case):
    return bool(case.tile) and (case.width > case.tile[0] or case.height > case.tile[1])


def prepare(ae, case):
    """A copy of the reference with the case's settings."""
    ae = copy.deepcopy(ae).eval()
    if case.tile:
        width, height, stride_width, stride_height = case.tile
        ae.enable_tiling(height, width, stride_height, stride_width)
    if case.slicing:
        ae.enable_slicing()
    if case.channels:
        for layer, keep in ((ae.encoder.conv_out, slice(case.channels)), (ae.decoder.conv_in, (slice(None), slice(case.channels)))):
            layer.weight = torch.nn.Parameter(layer.weight[keep])
        ae.encoder.conv_out.bias = torch.nn.Parameter(ae.encoder.conv_out.bias[:case.channels])
    return ae


def run_case(ae, case):
    """Returns the tensors of io.safetensors and the rounding error of the reference, by a second run in f64."""
    seed = zlib.crc32(b"io " + case.name.encode())
    ae, pixels = prepare(ae, case), picture(case, seed)
    double = copy.deepcopy(ae).double()
    x = to_input(pixels, case, ae.spatial_compression_ratio)
    with torch.no_grad():
        latents = ae.encode(x).latent
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
        latents_in = latents + 0.2 * latents.std(correction=0) * noise + (0.3 * noise if latents.numel() < 8 else 0)
        decoded = ae.decode(latents_in).sample
        errors = (relative(latents, double.encode(x.double()).latent), relative(decoded, double.decode(latents_in.double()).sample))
    return dict(pixels=pixels, latents=latents, latents_in=latents_in, decoded=decoded), errors


def relative(value, truth):
    return float((value.double() - truth.double()).norm() / truth.double().norm())


def metadata(case, model, model_path, ratio, errors):
    """Strings, as safetensors wants them; README.md explains each."""
    owner = case.model or case.name
    place = f"{model_path}" if owner == case.name else f"../{owner}/{model_path}"
    tile = case.tile or (0, 0, 0, 0)
    return {"model": place, "variant": model.variant, "layout": model.layout, "weights": model.dtype,
            "config": place.replace("model.safetensors", "config.json") if model.layout == "original" else "",
            "ratio": str(ratio), "scaling_factor": repr(model.scaling), "latent_channels": str(case.channels),
            "edge": case.edge, "tiling": "blend" if case.tile else "off",
            "tile_width": str(tile[0]), "tile_height": str(tile[1]),
            "stride_width": str(tile[2]), "stride_height": str(tile[3]), "slicing": str(int(case.slicing)),
            "encode_rounding": f"{errors[0]:.0e}", "decode_rounding": f"{errors[1]:.0e}"}


# ---- program

def summarise(name, model, tensors, errors):
    decoded = tensors["decoded"]
    inside = float((decoded.abs() < 1).float().mean())
    print(f"{name:28} latents {'x'.join(map(str, tensors['latents'].shape)):14} std {float(tensors['latents'].std(correction=0)):5.2f}"
          f"  decoded std {float(decoded.std()):5.2f} inside {inside:4.0%}  f32 rounding {errors[0]:.1e} {errors[1]:.1e}")
    assert all(torch.isfinite(t).all() for t in tensors.values())
    assert max(errors) < 4e-6, "the reference's own rounding is too near the tolerance of 2e-5"


def generate(out, wanted):
    loaded = {}
    for case in CASES:
        owner = case.model or case.name
        if owner not in loaded:
            folder = out / owner
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            loaded[owner] = write_model(folder, owner, MODELS[owner])
        if case.name not in wanted:
            continue
        path, ae = loaded[owner]
        tensors, errors = run_case(ae, case)
        (out / case.name).mkdir(exist_ok=True)
        summarise(case.name, MODELS[owner], tensors, errors)
        write_safetensors(out / case.name / "io.safetensors", tensors,
                          metadata(case, MODELS[owner], path, ae.spatial_compression_ratio, errors))


def check(fresh, wanted):
    """Compares a fresh run with the committed data. Another machine rounds differently; more than 1e-5 is a change."""
    worst = 0.0
    for name in wanted:
        old, new = (load_file(root / name / "io.safetensors") for root in (HERE, fresh))
        assert torch.equal(old["pixels"], new["pixels"]), name
        for key in ("latents", "decoded"):
            error = relative(new[key], old[key])
            worst = max(worst, error)
            if error > 1e-5:
                sys.exit(f"{name}: {key} differs by {error:.1e}")
    print(f"{len(wanted)} cases agree, largest relative difference {worst:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed data and write nothing")
    parser.add_argument("cases", nargs="*", metavar="CASE")
    args = parser.parse_args()
    names = [c.name for c in CASES]
    unknown = set(args.cases) - set(names)
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    wanted = args.cases or names
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch), wanted)
        if args.check:
            check(Path(scratch), wanted)
            return
        replace(Path(scratch), wanted, everything=not args.cases)
    (HERE / "cases.txt").write_text("".join(f"{name}\n" for name in names))


def replace(fresh, wanted, everything):
    """Moves the fresh directories into place. Models belong to the case of their name, and go with it."""
    if everything:
        for folder in HERE.iterdir():
            if folder.is_dir() and (folder / "io.safetensors").exists():
                shutil.rmtree(folder)
    for name in wanted:
        shutil.rmtree(HERE / name, ignore_errors=True)
        shutil.move(fresh / name, HERE / name)


if __name__ == "__main__":
    main()
