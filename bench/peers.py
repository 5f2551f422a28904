# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares libdcae with other ways to run the same weights, in one run: every contestant in a process of its own, all
loaded, then measured in turn, round after round, on the same number of threads. Outputs are compared before anything is
timed. Prints a table; writes it as CSV and as a plot where asked to.

    bench/peers.py build/sana 512 512 --library build/dcae-core/libdcae.so --csv peers.csv --plot peers.png
"""
import argparse

from common import banner, machine, network, pyplot, relative_error, spread, table, write_csv

REFERENCE = "diffusers f32"
F32 = ["dcae f32", "diffusers f32", "diffusers f32 channels last", "diffusers f32 torch.compile", "openvino f32"]
BF16 = ["dcae bf16", "diffusers bf16", "openvino bf16"]
CUDA = ["dcae f32", "dcae cuda f32", "dcae cuda bf16", "diffusers cuda f32", "diffusers cuda bf16 channels last",
        "diffusers cuda bf16 torch.compile"]


def check(contestants):
    """Everybody computes the same network: else a time says nothing. Returns each one's distance from the reference."""
    outputs = {p.name: p.output().astype("float64") for p in contestants}
    reference = REFERENCE if REFERENCE in outputs else contestants[0].name
    errors = {name: relative_error(output, outputs[reference]) for name, output in outputs.items()}
    for name, error in errors.items():
        # One result of eight bits in a hundred that rounds the other way is 1e-4; bf16 keeps eight bits through
        # a hundred layers.
        limit = 5e-2 if "bf16" in name else 1e-3
        if not error < limit:
            for p in contestants:
                p.kill()
            raise SystemExit(f"{name} differs from {reference} by {error:.1e}: not the same network")
    return errors


def measure(args, names, direction):
    contestants = [p for p in (network(name, args, direction, args.width, args.height, tiling=args.tiling,
                                       memory_limit=args.memory_limit) for name in names) if p]
    errors = check(contestants)
    for _ in range(args.rounds):
        for p in contestants:
            p.run()
    return [{"direction": direction, "size": f"{args.width}x{args.height}", "contestant": p.name,
             "threads": args.threads, **spread(p.ms), "peak_MiB": p.quit(), "error": f"{errors[p.name]:.1e}"}
            for p in contestants]


def plot(path, rows):
    plt = pyplot()
    directions = list(dict.fromkeys(r["direction"] for r in rows))
    names = list(dict.fromkeys(r["contestant"] for r in rows))
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.2 + 0.5 * len(names)), sharey=True)
    for axis, key, title in zip(axes, ("median_ms", "peak_MiB"), ("ms a frame (median)", "peak memory, MiB")):
        for i, direction in enumerate(directions):
            some = [r for r in rows if r["direction"] == direction]
            bars = axis.barh([names.index(r["contestant"]) + 0.4 * i for r in some], [r[key] for r in some], 0.38,
                             label=direction)
            axis.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
        axis.set_title(title)
        axis.margins(x=0.15)
    axes[0].set_yticks([i + 0.2 * (len(directions) - 1) for i in range(len(names))], names)
    axes[0].invert_yaxis()
    axes[1].legend()
    figure.suptitle(f"{rows[0]['size']}, {rows[0]['threads']} threads, {machine()[0]}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--library", required=True, help="libdcae.so of the build to measure")
    parser.add_argument("--direction", choices=["encode", "decode", "both"], default="both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiling", default="auto", help="of libdcae")
    parser.add_argument("--memory-limit", type=int, default=0, help="MiB, for libdcae")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: the CPU backend is run to compare")
    parser.add_argument("--peers", default="", help="comma-separated; default: all that this machine can run")
    parser.add_argument("--csv", default="")
    parser.add_argument("--plot", default="", help="PNG to write")
    args = parser.parse_args()
    bf16 = "avx512_bf16" in machine()[1]
    names = args.peers.split(",") if args.peers else CUDA if args.device == "cuda" else F32 + (BF16 if bf16 else [])
    banner(f"{args.width}x{args.height}, {args.threads} threads, {args.rounds} rounds in turn; error: relative L2 from "
           f"{REFERENCE} (decode: of 8-bit pixels)")
    rows = []
    for direction in ["encode", "decode"] if args.direction == "both" else [args.direction]:
        rows += measure(args, names, direction)
    table(rows)
    if args.csv:
        write_csv(args.csv, rows)
    if args.plot:
        plot(args.plot, rows)


if __name__ == "__main__":
    main()
