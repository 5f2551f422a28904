#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reads a latent clip file and prints what is in it.

usage: read_clip.py [--torch] CLIP.safetensors

A clip is an ordinary safetensors file. With PyTorch, two lines of the safetensors package are all it takes: see
read_torch(). read_numpy() needs NumPy alone and reads the file format by hand, BF16 included, which NumPy has no type for.
Both return the latents as [frames, channels, height, width] and the metadata, a dictionary of strings.
"""
import argparse
import json
import struct

import numpy as np


def read_torch(path):
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        name = "latents" if "latents" in file.keys() else "latent_tensor"  # the latter as ComfyUI's .latent has it
        return file.get_tensor(name), file.metadata() or {}


def read_numpy(path):
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
    metadata = header.pop("__metadata__", {})
    latents = header.get("latents") or header["latent_tensor"]
    begin, end = latents["data_offsets"]
    stored = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[latents["dtype"]]
    data = np.fromfile(path, stored, (end - begin) // np.dtype(stored).itemsize, offset=8 + size + begin)
    if data.size != np.prod(latents["shape"]):
        raise SystemExit(f"{path} is cut short: tools/dcae-repair.py makes a whole file of what is there")
    if latents["dtype"] == "BF16":  # the upper half of an f32
        data = (data.astype(np.uint32) << 16).view(np.float32)
    return data.reshape(latents["shape"]), metadata


def describe(latents, metadata):
    print("latents", tuple(latents.shape), latents.dtype)
    if "dcae.scaled" in metadata:
        print("scaled" if metadata["dcae.scaled"] == "true" else "not scaled", "by the model's scaling_factor")
    for key, value in sorted(metadata.items()):
        print(f"  {key} = {value}")
    for number, frame in enumerate(latents[:3]):
        print(f"frame {number}: mean {float(frame.mean()):.4f}, standard deviation {float(frame.std()):.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="read with PyTorch and the safetensors package")
    parser.add_argument("clip")
    args = parser.parse_args()
    describe(*(read_torch if args.torch else read_numpy)(args.clip))


if __name__ == "__main__":
    main()
