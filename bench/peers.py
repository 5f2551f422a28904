# SPDX-License-Identifier: LGPL-2.1-or-later
"""Compares libdcae with other ways to run the same weights, in one run: every contestant in a process of its own, all
loaded, then measured in turn, round after round, on the same number of threads. Outputs are compared before anything is
timed. Prints a table and writes it as CSV.

    python3 -m venv build/bench && build/bench/bin/pip install -r bench/requirements.txt
    build/bench/bin/python tools/make_checkpoint.py dc-ae-f32c32-sana-1.0 build/sana
    build/bench/bin/python bench/peers.py build/sana 512 512 --library build/dcae-core/libdcae.so
"""
import argparse
import csv
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCE = "diffusers f32"


def machine():
    with open("/proc/cpuinfo") as info:
        lines = info.read().splitlines()
    model = next((l.split(":")[1].strip() for l in lines if l.startswith("model name")), platform.processor())
    flags = next((l.split(":")[1].split() for l in lines if l.startswith("flags")), [])
    isa = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "SSE2"
    return f"{model}, {isa}{', BF16' if 'avx512_bf16' in flags else ''}", flags


class Contestant:
    def __init__(self, name, args):
        self.name = name
        self.ms = []
        command = [sys.executable, os.path.join(HERE, "worker.py"), name, args.direction, args.model, str(args.width),
                   str(args.height), "--library", os.path.abspath(args.library), "--threads", str(args.threads),
                   "--tiling", args.tiling, "--memory-limit", str(args.memory_limit)]
        env = dict(os.environ, OMP_NUM_THREADS=str(args.threads), HF_HUB_OFFLINE="1")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{name} did not start; what it printed is above")

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def output(self, folder):
        path = os.path.join(folder, self.name.replace(" ", "-") + ".npy")
        self.ask("save " + path)
        return np.load(path).astype(np.float64)


def relative_error(got, wanted):
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def check(contestants):
    """Everybody computes the same network: else a time says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = {p.name: p.output(folder) for p in contestants}
    wanted = outputs.get(REFERENCE, next(iter(outputs.values())))
    errors = {name: relative_error(output, wanted) for name, output in outputs.items()}
    for name, error in errors.items():
        limit = 5e-2 if "bf16" in name else 1e-3
        if not error < limit:
            raise SystemExit(f"{name} differs from {REFERENCE} by {error:.1e}: not the same network")
    return errors


def run(args, names):
    contestants = []
    for name in names:
        try:
            contestants.append(Contestant(name, args))
        except RuntimeError as error:
            print(error, file=sys.stderr)
    errors = check(contestants)
    for _ in range(args.rounds):
        for p in contestants:
            p.ms.append(float(p.ask("run")))
    rows = []
    for p in contestants:
        rows.append({"direction": args.direction, "size": f"{args.width}x{args.height}", "peer": p.name,
                     "threads": args.threads, "median_ms": round(statistics.median(p.ms), 1),
                     "min_ms": round(min(p.ms), 1), "max_ms": round(max(p.ms), 1), "peak_mib": int(p.ask("quit")),
                     "error": f"{errors[p.name]:.1e}"})
        p.process.wait()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("--library", required=True, help="libdcae.so of the build to measure")
    parser.add_argument("--direction", choices=["encode", "decode", "both"], default="both")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiling", default="off")
    parser.add_argument("--memory-limit", type=int, default=0, help="MiB, for libdcae")
    parser.add_argument("--peers", default="", help="comma-separated; default: all that this machine can run")
    parser.add_argument("--csv", default="")
    args = parser.parse_args()
    name, flags = machine()
    bf16 = "avx512_bf16" in flags
    names = args.peers.split(",") if args.peers else [
        "dcae f32", "diffusers f32", "diffusers f32 channels last", "diffusers f32 torch.compile", "openvino f32"
    ] + (["dcae bf16", "diffusers bf16", "openvino bf16"] if bf16 else [])
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    print(f"{name}; commit {commit.strip()}; {args.rounds} rounds")
    rows = []
    for direction in ["encode", "decode"] if args.direction == "both" else [args.direction]:
        args.direction = direction
        rows += run(args, names)
    print("| direction | size | contestant | median ms | min | max | peak MiB | error |\n|---|---|---|---|---|---|---|---|")
    for r in rows:
        print("| {direction} | {size} | {peer} | {median_ms} | {min_ms} | {max_ms} | {peak_mib} | {error} |".format(**r))
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
