# SPDX-License-Identifier: LGPL-2.1-or-later
"""libdcae with one thread, two, and so on to --most, in turn: how much each more brings. The results must be the same bit
for bit.

    bench/threads.py build/sana 512 512 --library build/dcae-core/libdcae.so
"""
import argparse
import os
import statistics

import numpy as np

from common import banner, network, spread, table, write_csv


def measure(args, direction):
    counts = [1 << i for i in range(args.most.bit_length()) if 1 << i <= args.most]
    running = {n: network("dcae " + args.precision, args, direction, args.width, args.height, threads=n) for n in counts}
    if None in running.values():
        raise SystemExit("nothing is measured")
    outputs = [process.output() for process in running.values()]
    if not all(np.array_equal(output, outputs[0]) for output in outputs):
        raise SystemExit("the number of threads changes the result")
    for _ in range(args.rounds):
        for process in running.values():
            process.run()
    one = statistics.median(running[1].ms)
    return [{"direction": direction, "size": f"{args.width}x{args.height}", "threads": n, **spread(process.ms),
             "times_as_fast_as_one": round(one / statistics.median(process.ms), 3), "peak_MiB": process.quit()}
            for n, process in running.items()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--library", required=True)
    parser.add_argument("--direction", choices=["encode", "decode", "both"], default="both")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--most", type=int, default=min(2, os.cpu_count()), help="threads")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", default="")
    args = parser.parse_args()
    banner(f"{args.width}x{args.height} {args.precision}, threads against one, {args.rounds} rounds in turn")
    rows = []
    for direction in ["encode", "decode"] if args.direction == "both" else [args.direction]:
        rows += measure(args, direction)
    table(rows)
    if args.csv:
        write_csv(args.csv, rows)


if __name__ == "__main__":
    main()
