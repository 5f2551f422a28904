#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes a random AutoencoderDC checkpoint, to test loading, memory and speed at full size.

    make_checkpoint.py dc-ae-f32c32-sana-1.0 OUT            a Diffusers directory
    make_checkpoint.py config.json OUT --dtype bf16 --shards 3
    make_checkpoint.py dc-ae-f64c128-in-1.0 OUT.safetensors --layout original
    make_checkpoint.py --list

Needs numpy alone. Tensors are made and written one after the other, so memory stays small. The
weights depend on the seed and the tensor's Diffusers name only: both layouts, all types and any
number of shards hold the same model. They are scaled so that activations stay of order one through
all depth; what the network computes with them is noise.
"""

import argparse
import json
import os
import struct
import sys
import zlib
from collections import namedtuple

import numpy as np

DEFAULTS = {
    "in_channels": 3, "latent_channels": 32, "attention_head_dim": 32,
    "encoder_block_types": "ResBlock", "decoder_block_types": "ResBlock",
    "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
    "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
    "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "upsample_block_type": "pixel_shuffle", "downsample_block_type": "pixel_unshuffle",
    "decoder_norm_types": "rms_norm", "decoder_act_fns": "silu",
    "encoder_out_shortcut": True, "decoder_in_shortcut": True,
    "decoder_conv_act_fn": "relu", "scaling_factor": 1.0,
}
RES, VIT = "ResBlock", "EfficientViTBlock"


def sana():
    types = [RES] * 3 + [VIT] * 3
    return {"encoder_block_types": types, "decoder_block_types": types,
            "downsample_block_type": "conv", "upsample_block_type": "interpolate",
            "scaling_factor": 0.41407}


def sana_lite():
    return {"encoder_block_types": [RES] * 3 + [VIT] * 3, "downsample_block_type": "conv",
            "decoder_layers_per_block": [0, 3, 5, 4, 4, 4],
            "decoder_conv_act_fn": "silu", "scaling_factor": 0.41407}


def first(extra, latent, scaling):
    """The in and mix models; extra: stages of 2048 channels."""
    n = 6 + extra
    widths = [128, 256, 512, 512, 1024, 1024] + [2048] * extra
    types = [RES] * 3 + [VIT] * (n - 3)
    return {"latent_channels": latent, "encoder_block_types": types, "decoder_block_types": types,
            "encoder_block_out_channels": widths, "decoder_block_out_channels": widths,
            "encoder_layers_per_block": [0, 4, 8] + [2] * (n - 3),
            "decoder_layers_per_block": [0, 5, 10] + [2] * (n - 3),
            "encoder_qkv_multiscales": [[]] * n, "decoder_qkv_multiscales": [[]] * n,
            "decoder_norm_types": ["batch_norm"] * 3 + ["rms_norm"] * (n - 3),
            "decoder_act_fns": ["relu"] * 3 + ["silu"] * (n - 3), "scaling_factor": scaling}


def second(extra):
    """DC-AE 1.5; extra: stages beyond the sixth."""
    widths = [128, 256, 512, 512, 1024, 1024] + [1024] * extra
    layers = [0, 5, 10, 4, 4, 4] + [4] * extra
    scales = [[]] * (6 + extra)
    return {"latent_channels": 128,
            "encoder_block_out_channels": widths, "decoder_block_out_channels": widths,
            "encoder_layers_per_block": layers, "decoder_layers_per_block": layers,
            "encoder_qkv_multiscales": scales, "decoder_qkv_multiscales": scales,
            "encoder_out_shortcut": False, "decoder_in_shortcut": False,
            "decoder_conv_act_fn": "silu", "scaling_factor": 1.0}


RELEASED = {
    "dc-ae-f32c32-sana-1.0": sana(),
    "dc-ae-f32c32-sana-1.1": sana(),
    "dc-ae-f32c32-mix-1.0": first(0, 32, 0.4552),
    "dc-ae-f32c32-in-1.0": first(0, 32, 0.3189),
    "dc-ae-f64c128-mix-1.0": first(1, 128, 0.4538),
    "dc-ae-f64c128-in-1.0": first(1, 128, 0.2889),
    "dc-ae-f128c512-mix-1.0": first(2, 512, 0.3620),
    "dc-ae-f128c512-in-1.0": first(2, 512, 0.4883),
    "dc-ae-lite-f32c32-sana-1.1": sana_lite(),
    "dc-ae-f32c128-1.5": second(0),
    "dc-ae-f64c128-1.5": second(1),
}

# One tensor by both its names. kind: normal (mean 0), around (mean `mean`), variance, count.
Tensor = namedtuple("Tensor", "name original shape kind std mean")


def per_stage(config, key):
    value = config[key]
    n = len(config["encoder_block_out_channels"])
    return list(value) if isinstance(value, (list, tuple)) else [value] * n


def conv(name, original, out, inp, k, groups=1, bias=True, gain=1.0):
    """A convolution whose output has the variance of its input times gain squared."""
    std = gain / np.sqrt(inp // groups * k * k)
    yield Tensor(name + ".weight", original + ".weight", (out, inp // groups, k, k), "normal", std, 0)
    if bias:
        yield Tensor(name + ".bias", original + ".bias", (out,), "normal", 0.02, 0)


def linear(name, original, out, inp):
    yield Tensor(name + ".weight", original + ".weight", (out, inp), "normal", inp ** -0.5, 0)


def norm(name, original, kind, width, mean):
    yield Tensor(name + ".weight", original + ".weight", (width,), "around", 0.1 * mean, mean)
    yield Tensor(name + ".bias", original + ".bias", (width,), "normal", 0.02, 0)
    if kind == "batch_norm":
        yield Tensor(name + ".running_mean", original + ".running_mean", (width,), "normal", 0.1, 0)
        yield Tensor(name + ".running_var", original + ".running_var", (width,), "variance", 0.2, 1)
        yield Tensor(name + ".num_batches_tracked", original + ".num_batches_tracked", (), "count",
                     0, 1000)


# Each residual branch ends in a norm; a weight well below 1 keeps the sum of dozens of them small.
BRANCH = 0.25


def res_block(name, original, width, norm_type):
    yield from conv(name + ".conv1", original + ".main.conv1.conv", width, width, 3, gain=2 ** 0.5)
    yield from conv(name + ".conv2", original + ".main.conv2.conv", width, width, 3, bias=False)
    yield from norm(name + ".norm", original + ".main.conv2.norm", norm_type, width, BRANCH)


def vit_block(name, original, width, norm_type, scales, d):
    heads = width // d
    inner = heads * d
    context, local = original + ".context_module.main", original + ".local_module.main"
    for part in "qkv":
        yield from linear(f"{name}.attn.to_{part}", context + ".qkv.conv", inner, width)
    for i, k in enumerate(scales):
        scale, aggreg = f"{name}.attn.to_qkv_multiscale.{i}", f"{context}.aggreg.{i}"
        yield from conv(scale + ".proj_in", aggreg + ".0", 3 * inner, 3 * inner, k, 3 * inner, False)
        yield from conv(scale + ".proj_out", aggreg + ".1", 3 * inner, 3 * inner, 1, 3 * heads, False)
    yield from linear(name + ".attn.to_out", context + ".proj.conv", width, inner * (1 + len(scales)))
    yield from norm(name + ".attn.norm_out", context + ".proj.norm", norm_type, width, BRANCH)
    glu = name + ".conv_out"
    yield from conv(glu + ".conv_inverted", local + ".inverted_conv.conv", 8 * width, width, 1)
    yield from conv(glu + ".conv_depth", local + ".depth_conv.conv", 8 * width, 8 * width, 3, 8 * width)
    yield from conv(glu + ".conv_point", local + ".point_conv.conv", width, 4 * width, 1, bias=False)
    yield from norm(glu + ".norm", local + ".point_conv.norm", "rms_norm", width, BRANCH)


def block(name, original, config, side, stage):
    width = config[side + "_block_out_channels"][stage]
    kind = "rms_norm" if side == "encoder" else per_stage(config, "decoder_norm_types")[stage]
    if per_stage(config, side + "_block_types")[stage] == RES:
        yield from res_block(name, original, width, kind)
    else:
        scales = config[side + "_qkv_multiscales"][stage]
        yield from vit_block(name, original, width, kind, scales, config["attention_head_dim"])


def encoder(config):
    widths, layers = config["encoder_block_out_channels"], config["encoder_layers_per_block"]
    n, latent = len(widths), config["latent_channels"]
    unshuffle = config["downsample_block_type"] == "pixel_unshuffle"
    inner = ".conv" if unshuffle else ""
    if layers[0] > 0:
        yield from conv("encoder.conv_in", "encoder.project_in.conv", widths[0],
                        config["in_channels"], 3, gain=2)
    else:
        yield from conv("encoder.conv_in.conv", "encoder.project_in.conv" + inner,
                        widths[1] // 4 if unshuffle else widths[1], config["in_channels"], 3, gain=2)
    for i in range(n):
        name, original = f"encoder.down_blocks.{i}", f"encoder.stages.{i}.op_list"
        for b in range(layers[i]):
            yield from block(f"{name}.{b}", f"{original}.{b}", config, "encoder", i)
        if i < n - 1 and layers[i] > 0:
            b = layers[i]
            yield from conv(f"{name}.{b}.conv", f"{original}.{b}.main.conv" + inner,
                            widths[i + 1] // 4 if unshuffle else widths[i + 1], widths[i], 3,
                            gain=0.5)
    main = ".main" if config["encoder_out_shortcut"] else ""
    yield from conv("encoder.conv_out", f"encoder.project_out{main}.op_list.0.conv", latent,
                    widths[-1], 3, gain=0.5)


def decoder(config):
    widths, layers = config["decoder_block_out_channels"], config["decoder_layers_per_block"]
    n = len(widths)
    shuffle = 1 if config["upsample_block_type"] == "interpolate" else 4
    main = ".main" if config["decoder_in_shortcut"] else ""
    yield from conv("decoder.conv_in", f"decoder.project_in{main}.conv", widths[-1],
                    config["latent_channels"], 3, gain=0.5)
    for i in range(n):
        name, original = f"decoder.up_blocks.{i}", f"decoder.stages.{i}.op_list"
        step = int(i < n - 1 and layers[i] > 0)
        if step:
            yield from conv(f"{name}.0.conv", f"{original}.0.main.conv.conv", widths[i] * shuffle,
                            widths[i + 1], 3, gain=0.5)
        for b in range(step, step + layers[i]):
            yield from block(f"{name}.{b}", f"{original}.{b}", config, "decoder", i)
    last = widths[0] if layers[0] > 0 else widths[1]
    yield from norm("decoder.norm_out", "decoder.project_out.op_list.0", "rms_norm", last, 1.0)
    if layers[0] > 0:
        yield from conv("decoder.conv_out", "decoder.project_out.op_list.2.conv",
                        config["in_channels"], last, 3, gain=0.5)
    else:
        yield from conv("decoder.conv_out.conv", "decoder.project_out.op_list.2.conv.conv",
                        config["in_channels"] * shuffle, last, 3, gain=0.5)


def network(config):
    yield from encoder(config)
    yield from decoder(config)


# ---- values ----

def values(tensor, seed, limit=1 << 22):
    """The tensor's values as pieces of float32."""
    count = int(np.prod(tensor.shape, dtype=np.int64))
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(tensor.name.encode())]))
    for start in range(0, count, limit):
        x = random.standard_normal(min(limit, count - start), dtype=np.float32)
        x *= np.float32(tensor.std)
        x += np.float32(tensor.mean)
        yield np.abs(x) + np.float32(0.1) if tensor.kind == "variance" else x


def encode(x, dtype):
    if dtype == "F32":
        return x.astype("<f4").tobytes()
    if dtype == "F16":
        return x.astype("<f2").tobytes()
    bits = x.astype("<f4").view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()


SIZE = {"F32": 4, "F16": 2, "BF16": 2, "I64": 8}
Stored = namedtuple("Stored", "name shape dtype size parts")


def stored(config, layout, dtype, wrapper):
    """What the file holds. The original layout has q, k and v in one tensor and linear layers as
    1×1 convolutions. Counters come first, so that they stay aligned to 8 bytes."""
    result = {}
    for t in network(config):
        kind = "I64" if t.kind == "count" else dtype
        name, shape = t.name, t.shape
        if layout == "original":
            name = wrapper + t.original
            shape = shape + (1, 1) if len(shape) == 2 else shape
        if name in result:
            old = result[name]
            result[name] = old._replace(shape=(old.shape[0] + shape[0],) + shape[1:],
                                        parts=old.parts + [t])
        else:
            result[name] = Stored(name, shape, kind, 0, [t])
    for name, s in result.items():
        result[name] = s._replace(size=SIZE[s.dtype] * int(np.prod(s.shape, dtype=np.int64)))
    return sorted(result.values(), key=lambda s: s.dtype != "I64")


def write_file(path, tensors, seed):
    header, place = {"__metadata__": {"format": "pt"}}, 0
    for s in tensors:
        header[s.name] = {"dtype": s.dtype, "shape": list(s.shape),
                          "data_offsets": [place, place + s.size]}
        place += s.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for s in tensors:
            for part in s.parts:
                if s.dtype == "I64":
                    out.write(struct.pack("<q", part.mean))
                    continue
                for x in values(part, seed):
                    out.write(encode(x, s.dtype))
    return place


def split(tensors, n):
    """n runs of about equal size, none empty."""
    total, shards, place = sum(s.size for s in tensors), [[] for _ in range(n)], 0
    for i, s in enumerate(tensors):
        shards[min(place * n // max(total, 1), n - 1)].append(s)
        place += s.size
    return [s for s in shards if s]


def write_directory(path, config, tensors, args):
    os.makedirs(path, exist_ok=True)
    text = {"_class_name": "AutoencoderDC", "_diffusers_version": "0.32.0", **config}
    with open(os.path.join(path, "config.json"), "w") as out:
        json.dump(text, out, indent=2, sort_keys=True)
        out.write("\n")
    variant = "." + args.variant if args.variant else ""
    stem = "diffusion_pytorch_model" + variant
    if args.shards == 1:
        write_file(os.path.join(path, stem + ".safetensors"), tensors, args.seed)
        return
    index, total = {}, 0
    shards = split(tensors, args.shards)
    for i, shard in enumerate(shards):
        name = f"{stem}-{i + 1:05}-of-{len(shards):05}.safetensors"
        total += write_file(os.path.join(path, name), shard, args.seed)
        index.update({s.name: name for s in shard})
    name = f"diffusion_pytorch_model.safetensors.index{variant}.json"
    with open(os.path.join(path, name), "w") as out:
        json.dump({"metadata": {"total_size": total}, "weight_map": index}, out, indent=2)


def check_stages(config):
    """What is wrong with the lists of stages, as the library says it; None where nothing is."""
    n = len(config["encoder_block_out_channels"])
    for key, value in config.items():
        if isinstance(value, list) and len(value) != n:
            return f"'{key}' has {len(value)} entries, but 'encoder_block_out_channels' has {n}"
    for side in ("encoder", "decoder"):
        key = side + "_layers_per_block"
        if n < 2 and not any(config[key]):
            return f"'{key}' leaves the only stage empty"
        for i, layers in enumerate(config[key]):
            if not layers and 0 < i < n - 1:
                return (f"'{key}' has 0 for stage {i}, but only the first and the last stage may "
                        "be empty")
    return None


def load_config(name):
    if name in RELEASED:
        return {**DEFAULTS, **RELEASED[name]}
    with open(name) as file:
        given = json.load(file)
    config = {**DEFAULTS, **{k: v for k, v in given.items() if k in DEFAULTS}}
    fault = check_stages(config)
    if fault:
        sys.exit(f"{name}: {fault}")
    return config


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="name of a released model, or a config.json")
    parser.add_argument("out", nargs="?", help="directory (diffusers) or file (original) to write")
    parser.add_argument("--layout", choices=["diffusers", "original"], default="diffusers")
    parser.add_argument("--dtype", choices=["f32", "f16", "bf16"], default="f32")
    parser.add_argument("--shards", type=int, default=1, help="number of files (diffusers)")
    parser.add_argument("--variant", default="", help="as fp16 (diffusers)")
    parser.add_argument("--wrapper", default="", choices=["", "state_dict.", "model.", "module."],
                        help="what stands before every name (original)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the released models' names")
    args = parser.parse_args()
    if args.list:
        print("\n".join(RELEASED))
        return 0
    if not args.model or not args.out or args.shards < 1:
        parser.error("a model, a place to write to and at least one shard are needed")
    if args.layout == "original" and (args.shards > 1 or args.variant):
        parser.error("the original layout is one file without variants")
    config = load_config(args.model)
    tensors = stored(config, args.layout, args.dtype.upper(), args.wrapper)
    if args.layout == "original":
        write_file(args.out, tensors, args.seed)
    else:
        write_directory(args.out, config, tensors, args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
