# SPDX-License-Identifier: LGPL-2.1-or-later
"""The 3×3 convolutions of the encoder's residual blocks (128, 256 and 512 channels, at 512×512: of 512², 256² and 128²
pixels), one by one: libdcae against ncnn's Winograd and PyTorch, in turn, on the same threads.

libdcae's time is that of the op inside the whole network, as its timings say it, and includes more than the convolution:
bias and SiLU (conv1), or norm and residual (conv2). The others do the convolution with bias alone, on an input that lies
as they want it. GFLOP/s count the direct convolution (2 · 9 · c² a pixel), so a Winograd may pass what the machine has.

    bench/layers.py build/sana --library build/dcae-core/libdcae.so --csv layers.csv
"""
import argparse
import os
import statistics

from common import HERE, banner, network, relative_error, spread, start, table, write_csv

OTHERS = ["ncnn", "torch", "torch channels last"]
STAGES = 3


def check_network(args):
    """The whole network once, small: what the op times belong to is the right network."""
    outputs = []
    for name in ("dcae f32", "diffusers f32"):
        contestant = network(name, args, "encode", 128, 128)
        outputs.append(contestant.output())
        contestant.quit()
    error = relative_error(*outputs)
    if not error < 1e-4:
        raise SystemExit(f"libdcae differs from diffusers by {error:.1e}: not the same network")


def start_others(args, stage):
    size = [str(args.width >> stage), str(args.height >> stage)]
    layer = f"encoder.down_blocks.{stage}.0.conv1"
    some = [start(name, [os.path.join(HERE, "convolution.py"), name, args.model, layer, *size, str(args.threads)],
                  args.threads) for name in OTHERS]
    some = [p for p in some if p]
    outputs = {p.name: p.output() for p in some}
    for name, output in outputs.items():
        error = relative_error(output, outputs["torch"])
        if not error < 1e-4:
            raise SystemExit(f"{name} differs from torch by {error:.1e} at {size}: not the same convolution")
    return some


def one_stage(args, stage, dcae):
    """Rounds of: the whole network with libdcae, then each other way as often as the network has this convolution."""
    others = start_others(args, stage)
    times = {"dcae conv1": [], "dcae conv2": []}
    flop = 0
    for _ in range(args.rounds):
        dcae.run()
        n = len(times["dcae conv1"])
        for label, _, ms, op_flop in dcae.ask_json("ops"):
            prefix, _, conv = label.rpartition(".")
            if prefix.startswith(f"encoder.down_blocks.{stage}.") and conv in ("conv1", "conv2"):
                times["dcae " + conv].append(ms)
                flop = op_flop
        for _ in times["dcae conv1"][n:]:
            for p in others:
                p.run()
    for p in others:
        times[p.name] = p.ms
        p.quit()
    channels = round((flop / 18 / (args.width >> stage) / (args.height >> stage)) ** 0.5)
    ncnn = statistics.median(times.get("ncnn", [float("nan")]))
    return [{"channels": channels, "size": f"{args.width >> stage}x{args.height >> stage}", "contestant": name,
             "threads": args.threads, **spread(ms), "GFLOP/s": round(flop / 1e6 / statistics.median(ms)),
             "times_as_fast_as_ncnn": round(ncnn / statistics.median(ms), 2)} for name, ms in times.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="dc-ae-f32c32-sana-1.0, as a Diffusers directory")
    parser.add_argument("--library", required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", default="")
    args = parser.parse_args()
    banner(f"residual-block convolutions of {args.width}x{args.height} encode, f32, {args.threads} threads, "
           f"{args.rounds} rounds in turn; dcae with its epilogues, the others with bias alone")
    check_network(args)
    dcae = network("dcae f32", args, "encode", args.width, args.height, tiling="off")
    rows = [row for stage in range(STAGES) for row in one_stage(args, stage, dcae)]
    dcae.quit()
    table(rows)
    if args.csv:
        write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
