#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Trains the demonstration model on a CPU, from scratch or from weights that exist.

usage: train_demo.py --out DIR --minutes N [--start MODEL_DIR] PICTURE_DIR ...
       train_demo.py --measure MODEL_DIR

Needs torch, diffusers, numpy, Pillow and, to measure, scikit-image, all from PyPI. Any photographs do; the weights in
models/demo come from Debian's wallpapers, which unpack without being installed:

    apt-get download plasma-workspace-wallpapers lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 \\
        ukui-wallpapers gnome-backgrounds mate-backgrounds
    for p in *.deb; do dpkg -x $p pictures; done

Writes DIR/model (Diffusers layout, f16, scaling_factor measured) at the end, and DIR/checkpoint.pt every few minutes, from
which the next run with the same DIR goes on. Measures on scikit-image's photographs, which are not to be trained on.
"""
import argparse
import math
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from diffusers.models import normalization
from PIL import Image

CONFIG = dict(
    latent_channels=16, attention_head_dim=32,
    encoder_block_types=["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"],
    decoder_block_types=["ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock"],
    encoder_block_out_channels=[32, 32, 64, 128], decoder_block_out_channels=[32, 32, 64, 128],
    encoder_layers_per_block=[0, 1, 2, 2], decoder_layers_per_block=[0, 2, 2, 3],
    encoder_qkv_multiscales=[[], [], [], [5]], decoder_qkv_multiscales=[[], [], [], [5]],
    downsample_block_type="pixel_unshuffle", upsample_block_type="pixel_shuffle", scaling_factor=1.0)

SMALL_CROPS, LARGE_CROPS = (96, 6), (192, 2)  # side in pixels, crops a step
LARGE_FROM = 0.8  # of the time: then larger crops, so that attention meets more positions
WARM_UP = 60  # seconds of rising learning rate
SAVE_EVERY = 180  # seconds
EMA = 0.999
EDGES = 0.3  # weight of the loss on differences of neighbouring pixels, which keeps edges sharp
HELD_OUT = ["astronaut", "coffee", "chelsea", "rocket"]


# ---- pictures

def load_pictures(folders):
    """All photographs below the folders at full, half and quarter size, at most 2600 wide; copies are left out."""
    pictures, seen = [], set()
    for path in sorted(p for folder in folders for p in Path(folder).rglob("*") if is_photograph(p)):
        try:
            picture = Image.open(path).convert("RGB")
        except (OSError, Image.DecompressionBombError):
            continue
        fingerprint = picture.resize((8, 8)).tobytes()
        if min(picture.size) < 300 or fingerprint in seen:
            continue
        seen.add(fingerprint)
        largest = min(1, 2600 / picture.width)
        for scale in (largest, largest / 2, largest / 4):
            size = round(picture.width * scale), round(picture.height * scale)
            if min(size) >= LARGE_CROPS[0]:
                pictures.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS)))
    if not pictures:
        sys.exit(f"train_demo.py: no photographs of 300 pixels and more in {', '.join(map(str, folders))}")
    return pictures


def is_photograph(path):
    """Small files are icons and flat drawings."""
    return path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp") and path.is_file() and path.stat().st_size > 60_000


def crops(pictures, size, count):
    """A batch of random crops, in [-1, 1]. Flat ones are mostly thrown away: there is little to learn from skies."""
    batch = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        while True:
            picture = random.choice(pictures)
            y, x = (random.randrange(side - size + 1) for side in picture.shape[:2])
            crop = picture[y:y + size, x:x + size]
            if crop.std() > 6 or random.random() < 0.15:
                break
        batch[i] = crop[:, ::-1] if random.random() < 0.5 else crop
    return to_input(batch).contiguous(memory_format=torch.channels_last)


def to_input(pixels):
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


# ---- model

def new_model():
    """Random weights with quiet residual branches: training starts from the averaging and duplicating shortcuts alone,
    which saves three quarters of the first thousand steps."""
    model = AutoencoderDC(**CONFIG)
    for name, weight in model.named_parameters():
        if name.endswith(("norm.weight", "norm_out.weight")) and name != "decoder.norm_out.weight":
            torch.nn.init.constant_(weight, 0.1)
    return model


def fast_rms_norm(self, x):
    """The reference's formula in one fused call."""
    x = F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
    return x if self.bias is None else x + self.bias


class Training:
    """Model, optimiser and the running average of the weights, which is what is kept in the end."""

    def __init__(self, model):
        self.model = model.to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0)
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self.steps = 0

    def save(self, path):
        torch.save(dict(model=self.model.state_dict(), optimiser=self.optimiser.state_dict(), average=self.average,
                        steps=self.steps), path)

    def load(self, path):
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.steps = state["average"], state["steps"]

    def step(self, x, rate):
        """One step; returns the mean square error of the clamped picture."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        y = self.model(x).sample
        edges = sum((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3))
        loss = (y - x).abs().mean() + EDGES * edges
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        decay = min(EMA, (1 + self.steps) / (10 + self.steps))
        for name, value in self.model.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)
        return float(F.mse_loss(y.detach().clamp(-1, 1), x))


def train(training, pictures, minutes, peak_rate, checkpoint):
    start = saved = time.monotonic()
    errors = []
    while (elapsed := time.monotonic() - start) < minutes * 60:
        part = elapsed / (minutes * 60)
        rate = peak_rate * min(1, elapsed / WARM_UP) * (1 - 0.98 * part)
        errors.append(training.step(crops(pictures, *(SMALL_CROPS if part < LARGE_FROM else LARGE_CROPS)), rate))
        if len(errors) == 50:
            print(f"step {training.steps}, {elapsed:.0f} s: {decibels(np.mean(errors)):.2f} dB, rate {rate:.1e}", flush=True)
            errors.clear()
        if time.monotonic() - saved > SAVE_EVERY:
            training.save(checkpoint)
            saved = time.monotonic()
    training.save(checkpoint)


def export(training, pictures, folder):
    """Writes the average of the weights, as f16, with the scaling factor that gives latents a standard deviation of 1."""
    model = training.model.to(memory_format=torch.contiguous_format)
    model.load_state_dict(training.average)
    with torch.no_grad():
        latents = torch.cat([model.encode(crops(pictures, LARGE_CROPS[0], 8)).latent.flatten() for _ in range(8)])
    model.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))
    model.half().save_pretrained(folder)


# ---- measuring

def decibels(error):
    """PSNR of values in [-1, 1]."""
    return 10 * math.log10(4 / error)


def measure(folder):
    """PSNR of the 8-bit picture on photographs that were held out, their sides cut to multiples of the ratio."""
    from skimage import data

    model = AutoencoderDC.from_pretrained(folder).float().eval()
    ratio = model.spatial_compression_ratio
    for name in HELD_OUT:
        picture = getattr(data, name)()
        picture = picture[:picture.shape[0] // ratio * ratio, :picture.shape[1] // ratio * ratio]
        x = to_input(picture[None])
        with torch.no_grad():
            y = model(x).sample
        y = ((y + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
        print(f"{name}: {decibels(float(F.mse_loss(y, x))):.2f} dB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", help="folders with photographs")
    parser.add_argument("--out", type=Path, help="folder for the checkpoint and the model")
    parser.add_argument("--minutes", type=float, default=80)
    parser.add_argument("--start", help="model to go on from, such as models/demo (default: random weights)")
    parser.add_argument("--rate", type=float, help="highest learning rate (default 1.2e-3, 6e-4 with --start)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", metavar="MODEL_DIR", help="measure a model and do nothing else")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.measure:
        return measure(args.measure)
    if not args.pictures or not args.out:
        parser.error("folders with photographs and --out are needed")
    pictures = load_pictures(args.pictures)
    print(f"{len(pictures)} pictures, {sum(p.nbytes for p in pictures) >> 20} MiB", flush=True)
    normalization.RMSNorm.forward = fast_rms_norm
    training = Training(AutoencoderDC.from_pretrained(args.start).float() if args.start else new_model())
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        print(f"goes on from {checkpoint}, step {training.steps}", flush=True)
    train(training, pictures, args.minutes, args.rate or (6e-4 if args.start else 1.2e-3), checkpoint)
    export(training, pictures, args.out / "model")
    measure(args.out / "model")


if __name__ == "__main__":
    main()
