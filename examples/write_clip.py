#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes a latent clip file that plays: a clip at half its speed, its new frames half way between two latents.

usage: write_clip.py [--torch] IN.safetensors OUT.safetensors

    gst-launch-1.0 playbin uri=file:///path/OUT.safetensors

All a clip needs is a tensor "latents" [frames, channels, height, width] of F32, F16 or BF16. With PyTorch that is
save_file({"latents": latents}, path); write_numpy() does the same with NumPy alone. The metadata are optional: they say what
a player can't know from the tensor, which is the frame rate, the model, whether the latents are scaled, and the picture's size
where it is no multiple of the model's ratio. Without them a clip plays at 25 frames a second.
"""
import argparse
import json
import struct

import numpy as np

from read_clip import read_numpy, read_torch

# What still holds after the frames were changed. Their time stamps do not, and are left out: the rate stands for them.
KEPT = ["width", "height", "spatial-ratio", "pixel-aspect-ratio", "colorimetry", "model", "model-hash", "scaled",
        "scaling-factor", "framerate"]


def half_speed(latents):
    """Between each two frames their mean. Works on arrays of NumPy and of PyTorch alike."""
    slow = latents.repeat(2, 0) if isinstance(latents, np.ndarray) else latents.repeat_interleave(2, 0)
    slow[1:-1:2] = (latents[:-1] + latents[1:]) / 2
    return slow[:-1]


def write_torch(path, latents, metadata):
    from safetensors.torch import save_file

    save_file({"latents": latents.contiguous()}, path, metadata={"format": "pt", **metadata})


def write_numpy(path, latents, metadata):
    dtype = {"float32": "F32", "float16": "F16"}[latents.dtype.name]
    data = np.ascontiguousarray(latents, latents.dtype.newbyteorder("<"))
    header = json.dumps({"__metadata__": {"format": "pt", **metadata},
                         "latents": {"dtype": dtype, "shape": list(data.shape), "data_offsets": [0, data.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.write(data.tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="read and write with PyTorch and the safetensors package")
    parser.add_argument("clip")
    parser.add_argument("out")
    args = parser.parse_args()
    read, write = (read_torch, write_torch) if args.torch else (read_numpy, write_numpy)
    latents, metadata = read(args.clip)
    kept = {f"dcae.{name}": metadata[f"dcae.{name}"] for name in KEPT if f"dcae.{name}" in metadata}
    write(args.out, half_speed(latents), kept)


if __name__ == "__main__":
    main()
