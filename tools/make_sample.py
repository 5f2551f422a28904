#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes examples/sample.webm: slow pans and zooms over three photographs that scikit-image ships.

usage: make_sample.py OUT.webm

Needs scikit-image and Pillow (PyPI or Debian) and GStreamer's base and good plugins. Frames are cut from the photographs at
sub-pixel positions, so that every frame is new to a codec, and stored as VP8 at a quality that stays well above
what the demonstration model can keep.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

WIDTH, HEIGHT, RATE, FRAMES_EACH = 320, 240, 24, 24
# Photograph, and the first and last view: left, top and width in its pixels. The height follows from the picture's shape.
SHOTS = [
    (data.astronaut, (60, 0, 330), (20, 10, 480)),
    (data.chelsea, (0, 0, 390), (51, 10, 380)),
    (data.coffee, (60, 10, 500), (150, 60, 360)),
]


def view(photograph, first, last, t):
    """One frame; t goes from 0 to 1, slowly at both ends."""
    t = t * t * (3 - 2 * t)
    left, top, width = (a + (b - a) * t for a, b in zip(first, last))
    box = (left, top, left + width, top + width * HEIGHT / WIDTH)
    return photograph.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)


def write_frames(folder):
    number = 0
    for load, first, last in SHOTS:
        photograph = Image.fromarray(load())
        for i in range(FRAMES_EACH):
            view(photograph, first, last, i / (FRAMES_EACH - 1)).save(folder / f"{number:03}.png")
            number += 1


def encode(folder, out):
    pipeline = (f"multifilesrc location={folder}/%03d.png caps=image/png,framerate={RATE}/1 ! pngdec ! videoconvert ! "
                "video/x-raw,format=I420,colorimetry=bt601 ! vp8enc deadline=1 cpu-used=0 threads=1 end-usage=cq cq-level=6 "
                f"max-quantizer=16 target-bitrate=8000000 keyframe-max-dist={FRAMES_EACH} ! webmmux ! filesink location={out}")
    subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], check=True)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: make_sample.py OUT.webm")
    with tempfile.TemporaryDirectory() as folder:
        write_frames(Path(folder))
        encode(folder, sys.argv[1])


if __name__ == "__main__":
    main()
