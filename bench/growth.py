# SPDX-License-Identifier: LGPL-2.1-or-later
"""How time and memory grow with the frame: libdcae without a limit, libdcae within --memory-limit (exact tiling where the
whole frame does not fit), diffusers whole and in its blended tiles. What does not fit in free memory is left out with a
line. A size's contestants that fit together are measured in turn; the first run of each counts as a round.

The outputs are compared first: with the limit the result must be the same bit for bit. That of tiled diffusers is
another, with its blended seams; its error is printed, not checked.

    bench/growth.py build/sana --library build/dcae-core/libdcae.so --csv growth.csv --plot growth.png
    bench/growth.py build/sana --library build/dcae-core/libdcae.so --sizes 512x512,1920x1088 --only dcae
"""
import argparse

import numpy as np

from common import (MIB, available_mib, banner, machine, needed_mib, network, pyplot, relative_error, table, write_csv)

SIZES = "256x256,512x512,1024x1024,1920x1088,3840x2176"
WHOLE, LIMITED = "dcae whole", "dcae in memory limit"
CONTESTANTS = {  # name: (what worker.py calls it, whether it keeps the limit)
    WHOLE: ("dcae f32", False),
    LIMITED: ("dcae f32", True),
    "diffusers": ("diffusers f32", False),
    "diffusers tiled": ("diffusers f32 tiled", False),
}


def groups(args, names, width, height):
    """Contestants that fit in free memory side by side, in order."""
    free = available_mib()
    used, found = 0, [[]]
    for name in names:
        peer, limited = CONTESTANTS[name]
        need = needed_mib(peer, width, height, args.memory_limit if limited else 0)
        if used + need > free and found[-1]:
            used = 0
            found.append([])
        found[-1].append(name)
        used += need
    return found


def measure_group(args, names, direction, width, height, outputs):
    running = {}
    for name in names:
        peer, limited = CONTESTANTS[name]
        process = network(peer, args, direction, width, height, tiling="auto" if limited else "off",
                          memory_limit=args.memory_limit if limited else 0)
        if process:
            running[name] = process
            outputs[name] = process.output()
    check(outputs, f"{direction} {width}x{height}")
    for _ in range(1, args.rounds if width * height <= args.once_above * MIB else 1):
        for process in running.values():
            process.run()
    for name, process in running.items():
        ms = min([process.first_ms, *process.ms])
        plan = process.ask_json("plan") if name in (WHOLE, LIMITED) else {"tiling": "", "bands": ""}
        yield {"direction": direction, "size": f"{width}x{height}", "contestant": name, "threads": args.threads,
               "tiling": plan["tiling"], "bands": plan["bands"], "min_ms": round(ms, 1),
               "ns_a_pixel": round(ms * 1e6 / width / height), "peak_MiB": process.quit()}


def check(outputs, where):
    if WHOLE in outputs and LIMITED in outputs and not np.array_equal(outputs[WHOLE], outputs[LIMITED]):
        raise SystemExit(f"{where}: the memory limit changes the result")
    ours = outputs.get(LIMITED, outputs.get(WHOLE))
    errors = {}
    for name, output in outputs.items():
        errors[name] = relative_error(output.astype(np.float64), ours.astype(np.float64)) if ours is not None else 0.0
        if name == "diffusers" and not errors[name] < 1e-3:
            raise SystemExit(f"{where}: libdcae differs from diffusers by {errors[name]:.1e}: not the same network")
    return errors


def measure(args, names, direction, size):
    width, height = map(int, size.split("x"))
    outputs, rows = {}, []
    for group in groups(args, names, width, height):
        rows += measure_group(args, group, direction, width, height, outputs)
    errors = check(outputs, f"{direction} {size}")
    for row in rows:
        row["differs_from_dcae"] = f"{errors[row['contestant']]:.1e}"
    return rows


def plot(path, args, rows):
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(12, 5))
    for direction, style in (("encode", "o-"), ("decode", "s--")):
        for i, name in enumerate(CONTESTANTS):
            some = [r for r in rows if r["direction"] == direction and r["contestant"] == name]
            pixels = [pixels_of(r["size"]) / 1e6 for r in some]
            for axis, values in zip(axes, ([r["ns_a_pixel"] / 1e3 for r in some], [r["peak_MiB"] / 1024 for r in some])):
                if some:
                    axis.plot(pixels, values, style, color=f"C{i}", label=f"{name}, {direction}")
    for axis, title in zip(axes, ("ms for a thousand pixels", "peak memory of the process, GiB")):
        sizes = list(dict.fromkeys(r["size"] for r in rows))
        axis.set(xscale="log", title=title, ylim=(0, None))
        axis.set_xticks([pixels_of(s) / 1e6 for s in sizes], sizes, fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{args.threads} threads, memory limit {args.memory_limit} MiB, {machine()[0]}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def pixels_of(size):
    width, height = map(int, size.split("x"))
    return width * height


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--library", required=True)
    parser.add_argument("--sizes", default=SIZES, help="WIDTHxHEIGHT, comma-separated")
    parser.add_argument("--direction", choices=["encode", "decode", "both"], default="both")
    parser.add_argument("--only", default="", help="contestants whose name begins so")
    parser.add_argument("--memory-limit", type=int, default=576, help="MiB of activations, for libdcae (576)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--once-above", type=float, default=4, help="million pixels (2^20) above which one run is all (4)")
    parser.add_argument("--csv", default="")
    parser.add_argument("--plot", default="", help="PNG to write")
    args = parser.parse_args()
    names = [n for n in CONTESTANTS if n.startswith(args.only)]
    banner(f"growth with the frame, f32, {args.threads} threads, best of {args.rounds} rounds in turn, memory limit "
           f"{args.memory_limit} MiB of activations")
    rows = []
    for direction in ["encode", "decode"] if args.direction == "both" else [args.direction]:
        for size in args.sizes.split(","):
            some = measure(args, names, direction, size)
            table(some)
            rows += some
            if args.csv:
                write_csv(args.csv, rows)
            if args.plot:
                plot(args.plot, args, rows)


if __name__ == "__main__":
    main()
