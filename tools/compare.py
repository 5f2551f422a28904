#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares a video with its reconstruction: prints the PSNR, and draws a frame from the middle of both side by side.

usage: compare.py [--gain N] [--frames N] ORIGINAL RECONSTRUCTION OUT.png

Any two files that GStreamer plays and that have the same size and number of frames. Needs gst-launch-1.0 and Debian's
python3-numpy and python3-pil, hence the interpreter's path above. Frames are read as they are decoded and a few are
kept, so that long videos need little memory.
"""
import argparse
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KEEP = 16  # frames kept as candidates for the picture
IDENTICAL = 100.0  # dB, what a frame without any error counts as
PANEL = 960  # pixels, widest panel of the picture
CAPTION = 26


class VideoError(Exception):
    pass


class Video:
    """The frames of one file as arrays [height, width, 3], through a pipe from gst-launch-1.0."""

    def __init__(self, path):
        self.path = path
        if not os.path.isfile(path):
            raise VideoError(f"{path}: no such file")
        self.width, self.height = self._probe()

    def _pipeline(self, sink):
        # RGBx, since rows of RGB are padded where the width is no multiple of 4.
        return ["filesrc", f"location={self.path}", "!", "decodebin", "!", "videoconvert", "!",
                "capsfilter", "name=rgb", "caps=video/x-raw,format=RGBx", "!", *sink]

    def _probe(self):
        run = subprocess.run(["gst-launch-1.0", "-v", *self._pipeline(["fakesink", "num-buffers=1", "sync=false"])],
                             capture_output=True, text=True)
        found = re.search(r":rgb\.GstPad:src: caps = .*?width=\(int\)(\d+), height=\(int\)(\d+)", run.stdout)
        if not found:
            raise VideoError(f"{self.path}: {last_error(run.stderr)}")
        return int(found[1]), int(found[2])

    def frames(self):
        reader, writer = os.pipe()
        process = subprocess.Popen(["gst-launch-1.0", "-q", *self._pipeline(["fdsink", f"fd={writer}", "sync=false"])],
                                   pass_fds=[writer], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        os.close(writer)
        size = self.width * self.height * 4
        try:
            with os.fdopen(reader, "rb") as pipe:
                while len(data := pipe.read(size)) == size:
                    yield np.frombuffer(data, np.uint8).reshape(self.height, self.width, 4)[:, :, :3]
            if data:
                raise VideoError(f"{self.path}: the size of the frames changes in the middle")
            if process.wait() != 0:
                raise VideoError(f"{self.path}: {last_error(process.stderr.read())}")
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def last_error(text):
    """The message of gst-launch's first error, which names the cause; those after it only repeat it."""
    found = re.search(r"ERROR: (?:from element \S+: )?(.*)", text)
    return found[1] if found else "can't be played"


def psnr(a, b):
    error = np.mean(np.square(a.astype(np.float32) - b))
    return min(IDENTICAL, 10 * math.log10(255 ** 2 / error)) if error > 0 else IDENTICAL


def measure(original, reconstruction, frames):
    """Returns the PSNR of every frame, and (number, original, reconstruction) of a frame near the middle."""
    values, kept, step = [], [], 1
    ours, theirs = original.frames(), reconstruction.frames()
    while frames is None or len(values) < frames:
        a, b = next(ours, None), next(theirs, None)
        if a is None or b is None:
            break
        if len(values) % step == 0:
            kept.append((len(values), a, b))
        if len(kept) == KEEP:
            kept, step = kept[::2], step * 2
        values.append(psnr(a, b))
    if len(values) != frames and (a is None) != (b is None):
        longer, shorter = (original, reconstruction) if b is None else (reconstruction, original)
        raise VideoError(f"{shorter.path} has {len(values)} frames and {longer.path} has more")
    if not values:
        raise VideoError(f"{original.path}: has no frames")
    return values, min(kept, key=lambda k: abs(k[0] - len(values) / 2))


def draw(frame, gain):
    number, original, reconstruction = frame
    error = np.clip(np.abs(original.astype(np.int16) - reconstruction) * gain, 0, 255).astype(np.uint8)
    panels = [(original, f"original, frame {number}"),
              (reconstruction, f"reconstruction, {psnr(original, reconstruction):.2f} dB"),
              (error, f"error × {gain:g}")]
    height, width = original.shape[:2]
    if width > PANEL:
        width, height = PANEL, max(1, round(height * PANEL / width))
    sheet = Image.new("RGB", (3 * width, height + CAPTION), "white")
    pen, font = ImageDraw.Draw(sheet), caption_font()
    for i, (pixels, caption) in enumerate(panels):
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.LANCZOS)
        sheet.paste(picture, (i * width, CAPTION))
        pen.text((i * width + 6, 5), caption, fill="black", font=font)
    return sheet


def caption_font():
    try:
        return ImageFont.truetype("DejaVuSans.ttf", 14)
    except OSError:
        return ImageFont.load_default()


def compare(args):
    original, reconstruction = Video(args.original), Video(args.reconstruction)
    sizes = [(v.width, v.height) for v in (original, reconstruction)]
    if sizes[0] != sizes[1]:
        raise VideoError("{} is {}x{} and {} is {}x{}: sizes must be the same".format(
            original.path, *sizes[0], reconstruction.path, *sizes[1]))
    values, frame = measure(original, reconstruction, args.frames)
    draw(frame, args.gain).save(args.out)
    print(f"{Path(args.reconstruction).name}: {len(values)} frames of {original.width}x{original.height}, "
          f"PSNR {sum(values) / len(values):.2f} dB (mean of frames), {min(values):.2f} dB (worst frame)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gain", type=float, default=5, help="how much the error is enlarged (default 5)")
    parser.add_argument("--frames", type=int, help="compare only so many frames (default all)")
    parser.add_argument("original")
    parser.add_argument("reconstruction")
    parser.add_argument("out", help="picture to write")
    try:
        compare(parser.parse_args())
    except (VideoError, OSError, ValueError) as error:
        sys.exit(f"compare.py: {error}")


if __name__ == "__main__":
    main()
