# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a pipeline costs beside the core, and how many frames a second one does.

The same raw frames go through gst-launch-1.0 (filesrc ! rawvideoparse ! dcaeenc ! fakesink) and through libdcae alone, in
turn. gst-launch reports each buffer that reaches fakesink; a frame's time is the distance of two reports, so neither
loading nor the first frame counts, and what counts is reading, parsing, the element, and the sink. The latents of both
are compared first, bit for bit.

    bench/pipeline.py cost build/sana 512 512 --build build
    bench/pipeline.py rate models/demo --build build
"""
import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time

import numpy as np

from common import banner, network, picture, spread, table, write_csv

RATE_SIZES = "320x240,640x480"
DISTINCT = 8  # frames that differ; more of them would only fill the disk


def gst(args, pipeline, folder, watch=False):
    """Runs a pipeline. watch: returns the moments, in seconds, at which buffers reached fakesink."""
    env = dict(os.environ, GST_PLUGIN_PATH=os.path.abspath(os.path.join(args.build, "gst")), LC_ALL="C",
               GST_REGISTRY=os.path.join(folder, "registry"))
    command = ["gst-launch-1.0", "-v" if watch else "-q", *pipeline.split()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    moments, said = [], []
    for line in process.stdout:
        if "last-message = chain" in line:
            moments.append(time.perf_counter())
        elif "ERROR" in line or re.search("[Dd]ebug", line):
            said.append(line)
    if process.wait():
        raise SystemExit(f"{' '.join(command)}\n{''.join(said)}")
    return moments


class Pipelines:
    """The descriptions of the pipelines for one model and size, on frames and latents in a folder."""

    def __init__(self, args, folder, width, height, frames):
        self.args, self.folder = args, folder
        self.raw = os.path.join(folder, f"{width}x{height}.raw")
        self.pictures = [picture(width, height, seed) for seed in range(1, min(frames, DISTINCT) + 1)]
        with open(self.raw, "wb") as file:
            for i in range(frames):
                file.write(self.pictures[i % DISTINCT].tobytes())
        # No preroll: the first frame is no special case, and reports are in time.
        self.sink = "fakesink silent=false sync=false async=false"
        self.source = f"filesrc location={self.raw} ! rawvideoparse format=rgb width={width} height={height} framerate=30/1"
        settings = f"model={os.path.abspath(args.model)} backend=cpu threads={args.threads} precision={args.precision}"
        self.encoder = f"dcaeenc {settings} scale-latents=false"
        self.decoder = f"dcaedec {settings}"
        self.clip = os.path.join(folder, f"{width}x{height}.safetensors")

    def check(self, core):
        """The element's first latent is what the core makes of the same picture: else a comparison says nothing."""
        path = os.path.join(self.folder, "latents")
        gst(self.args, f"{self.source} ! {self.encoder} ! filesink location={path}", self.folder)
        wanted = core.output().reshape(-1)
        if not np.array_equal(np.fromfile(path, np.float32, wanted.size), wanted):
            core.kill()
            raise SystemExit("the element's latents are not the core's")

    def write_clip(self):
        gst(self.args, f"{self.source} ! {self.encoder} ! dcaemux ! filesink location={self.clip}", self.folder)

    def frame_ms(self, middle):
        moments = gst(self.args, f"{middle} ! {self.sink}", self.folder, watch=True)
        if len(moments) < 2:
            raise SystemExit(f"{middle}: {len(moments)} frames came out, at least two are needed")
        return (moments[-1] - moments[0]) * 1e3 / (len(moments) - 1)


def start_core(args, width, height):
    core = network("dcae " + args.precision, args, "encode", width, height)
    if core is None:
        raise SystemExit("nothing is measured")
    return core


def cost(args):
    banner(f"dcaeenc in gst-launch-1.0 against the core alone, {args.width}x{args.height} {args.precision}, {args.threads} "
           f"threads, {args.rounds} rounds of {args.frames} frames in turn")
    core = start_core(args, args.width, args.height)
    with tempfile.TemporaryDirectory() as folder:
        some = Pipelines(args, folder, args.width, args.height, args.frames)
        some.check(core)
        alone, piped = [], []
        for _ in range(args.rounds):
            core.run()  # the pipeline does not count its first frame either
            alone.append(statistics.mean(core.run() for _ in range(args.frames - 1)))
            piped.append(some.frame_ms(f"{some.source} ! {some.encoder}"))
    core.quit()
    ratios = [p / a for p, a in zip(piped, alone)]
    rows = [{"what": "core alone", **spread(alone), "costs_more": ""},
            {"what": "gst-launch-1.0", **spread(piped), "costs_more": f"{(statistics.median(ratios) - 1) * 100:.2f} %"}]
    table(rows)
    print("costs more: median over rounds; per round "
          + ", ".join(f"{(ratio - 1) * 100:.2f} %" for ratio in ratios))
    return rows


def rate(args):
    banner(f"frames a second in gst-launch-1.0, {args.precision}, {args.threads} threads, median of {args.rounds} rounds of "
           f"{args.frames} frames in turn")
    rows = []
    for size in args.sizes.split(","):
        width, height = map(int, size.split("x"))
        with tempfile.TemporaryDirectory() as folder:
            some = Pipelines(args, folder, width, height, args.frames)
            core = start_core(args, width, height)
            some.check(core)
            core.quit()
            some.write_clip()
            ways = {"encode": f"{some.source} ! {some.encoder}",
                    "decode": f"filesrc location={some.clip} ! dcaedemux ! {some.decoder}",
                    "encode and decode": f"{some.source} ! {some.encoder} ! {some.decoder}"}
            ms = {way: [] for way in ways}
            for _ in range(args.rounds):
                for way, middle in ways.items():
                    ms[way].append(some.frame_ms(middle))
        rows += [{"size": size, "way": way, "threads": args.threads, "frames_a_second":
                  round(1e3 / statistics.median(values), 1), **spread(values)} for way, values in ms.items()]
    table(rows)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, frames, rounds in (("cost", 4, 5), ("rate", 60, 3)):
        command = commands.add_parser(name)
        command.add_argument("model")
        if name == "cost":
            command.add_argument("width", type=int)
            command.add_argument("height", type=int)
        else:
            command.add_argument("--sizes", default=RATE_SIZES)
        command.add_argument("--build", required=True, help="build folder: its library and plugin are measured")
        command.add_argument("--threads", type=int, default=2)
        command.add_argument("--precision", choices=["f32", "bf16"], default="f32")
        command.add_argument("--frames", type=int, default=frames, help="of a round, two at least")
        command.add_argument("--rounds", type=int, default=rounds)
        command.add_argument("--csv", default="")
    args = parser.parse_args()
    args.library = os.path.join(args.build, "dcae-core", "libdcae.so")
    rows = cost(args) if args.command == "cost" else rate(args)
    if args.csv:
        write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
