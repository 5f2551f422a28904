#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# What a frame should take on a GPU, calculated: list_launches says what is launched and with how much arithmetic and
# memory traffic (test_launches holds that against the stand-in's counters), ptxas and nvdisasm say what the kernels take
# of a multiprocessor. Nothing here was ever measured on hardware.
"""usage: roofline.py BUILD [--model MODEL] [--nvdisasm PROGRAM] [--write FOLDER]

BUILD     build folder with the CUDA backend and tests (ninja -C BUILD tests/gpusim/list_launches)
FOLDER    with cuda.md and roofline.md, whose parts between the marks "roofline begin" and "roofline end" are replaced;
          without it everything is printed
"""
import argparse
import collections
import csv
import math
import os
import re
import subprocess

MODEL = "dc-ae-f32c32-sana-1.0"
SIZES = [(512, 512), (1920, 1088), (3840, 2176)]
MEMORY_4K = 2.5e9

# The rule of the tables.
PEAK_SHARE, BANDWIDTH_SHARE, LAUNCH_SECONDS = 0.66, 0.85, 3e-6
BLAS_TILE = (128, 128)  # cuBLAS doesn't say; one block of it fills a multiprocessor

# Dense bf16 with f32 sums, plain f32, memory. From NVIDIA's data sheets: "H100 Tensor Core GPU" (SXM; 1979 TFLOP/s with
# sparsity), "Ada GPU Architecture", appendix A (RTX 4090), "A10 Tensor Core GPU".
Device = collections.namedtuple("Device", "name arch sms tensor plain bandwidth")
DEVICES = [Device("H100 SXM", 90, 132, 989e12, 67e12, 3.35e12), Device("RTX 4090", 89, 128, 165.2e12, 82.6e12, 1.008e12),
           Device("A10", 86, 72, 125e12, 31.2e12, 0.6e12)]

# Of a multiprocessor, by architecture: threads, blocks, bytes of shared memory (CUDA C++ Programming Guide, table of
# technical specifications). Registers: 65536, given to warps in pieces of 256; a block costs 1 KiB of shared memory more.
LIMITS = {80: (2048, 32, 164 << 10), 86: (1536, 16, 100 << 10), 89: (1536, 24, 100 << 10), 90: (2048, 32, 228 << 10),
          100: (2048, 32, 228 << 10), 120: (1536, 24, 100 << 10)}

Resources = collections.namedtuple("Resources", "registers spills stack shared")


def kernel_file(build, precision, name):
    folder = os.path.join(build, "cuda", f"dcae_kernels_{precision}.S.p")
    if not os.path.isdir(folder):
        folder = os.path.join(build, "cuda", f"cuda-kernels-{precision}.p")
    return os.path.join(folder, name)


def read_resources(build, precision, arch):
    """Kernel -> Resources, from what `ptxas -v` printed when the kernels were built."""
    with open(kernel_file(build, precision, f"dcae_{precision}_sm_{arch}.txt"), encoding="utf-8") as file:
        text = file.read()
    found = {}
    for block in text.split("Compiling entry function")[1:]:
        name = re.search(r"dcae_k_(\w+)", block).group(1)
        number = lambda pattern: int(m.group(1)) if (m := re.search(pattern, block)) else 0
        found[name] = Resources(number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores") +
                                number(r"(\d+) bytes spill loads"), number(r"(\d+) bytes stack frame"),
                                number(r"(\d+) bytes smem"))
    return found


def blocks_per_sm(arch, resources, threads, dynamic):
    most_threads, most_blocks, memory = LIMITS[arch]
    warps = math.ceil(threads / 32)
    registers = warps * math.ceil(resources.registers * 32 / 256) * 256
    return max(1, min(most_threads // (warps * 32), most_blocks, 65536 // registers,
                      memory // (resources.shared + dynamic + 1024)))


# ---- time

class Launch:
    def __init__(self, row):
        self.label, self.kind, self.kernel = row["label"], row["kind"], row["kernel"]
        for key in ("in_c", "out_c", "ksize", "blocks", "threads", "shared", "m", "n"):
            setattr(self, key, int(row[key]))
        for key in ("multiply_adds", "flop", "bytes_in", "bytes_out"):
            setattr(self, key, float(row[key]))
        if self.kernel == "cublas":
            self.blocks = math.ceil(self.m / BLAS_TILE[0]) * math.ceil(self.n / BLAS_TILE[1])

    @property
    def operations(self):
        return 2 * self.multiply_adds + self.flop

    @property
    def bytes(self):
        return self.bytes_in + self.bytes_out

    def time(self, device, resources):
        """(seconds, what bounds it, blocks per multiprocessor, share of full waves)"""
        arithmetic = (2 * self.multiply_adds / device.tensor + self.flop / device.plain) / PEAK_SHARE
        memory = self.bytes / (BANDWIDTH_SHARE * device.bandwidth)
        bound = "arithmetic" if arithmetic >= memory else "memory"
        if self.kernel in ("copy", "clear"):
            return memory + LAUNCH_SECONDS, bound, 0, 1.0
        at_once = 1 if self.kernel == "cublas" else blocks_per_sm(device.arch, resources[self.kernel], self.threads,
                                                                  self.shared)
        waves = self.blocks / (device.sms * at_once)
        share = waves / math.ceil(waves)
        return max(arithmetic, memory) / share + LAUNCH_SECONDS, bound, at_once, share


def list_launches(build, model, width, height, direction, precision, mib=None):
    """(launches, {weights, arena, workspace, staging, bands})"""
    folder = os.path.join(build, "tests", "gpusim")
    env = dict(os.environ, LD_LIBRARY_PATH=folder)
    command = [os.path.join(folder, "list_launches"), model, str(width), str(height), direction, precision]
    text = subprocess.run(command + ([f"{mib:.3f}"] if mib else []), env=env, check=True, capture_output=True,
                          text=True).stdout.splitlines()
    memory = {line.split()[1]: int(line.split()[2]) for line in text if line.startswith("#")}
    return [Launch(row) for row in csv.DictReader(line for line in text if not line.startswith("#"))], memory


def bound_by_memory(launches, device, resources):
    """3×3 convolutions of 128 channels and more whose time is that of memory."""
    return sorted({l.label for l in launches if l.kind == "conv" and l.kernel.startswith("conv") and l.ksize == 3 and
                   min(l.in_c, l.out_c) >= 128 and l.time(device, resources)[1] == "memory"})


# ---- tables

def row(*cells):
    return "| " + " | ".join(str(c) for c in cells) + " |"


def summary(everything, resources):
    lines = [row("direction", "size", "launches", "TFLOP", "GB", *(f"{d.name}: ms (frames/s)" for d in DEVICES)),
             "|" + "---|" * (5 + len(DEVICES))]
    for (direction, size), (launches, _) in everything.items():
        seconds = [sum(l.time(d, resources[d.arch])[0] for l in launches) for d in DEVICES]
        lines.append(row(direction, f"{size[0]}×{size[1]}", len(launches),
                         f"{sum(l.operations for l in launches) / 1e12:.2f}", f"{sum(l.bytes for l in launches) / 1e9:.2f}",
                         *(f"{1e3 * s:.2f} ({1 / s:.1f})" for s in seconds)))
    return lines


def launch_table(launches, device, resources):
    """Launches that differ in nothing but their layer are one line."""
    groups = collections.OrderedDict()
    for l in launches:
        key = (l.kernel, l.kind, l.in_c, l.out_c, l.ksize, l.blocks, l.operations, l.bytes)
        groups.setdefault(key, []).append(l)
    lines = [row("kernel", "op", "channels", "times", "blocks", "a multiprocessor", "full waves", "GFLOP", "MB", "µs", "bound"),
             "|" + "---|" * 11]
    for same in groups.values():
        l = same[0]
        seconds, bound, at_once, share = l.time(device, resources)
        channels = f"{l.in_c} → {l.out_c}" if l.in_c else ""
        lines.append(row(l.kernel, f"{l.kind} {l.ksize}×{l.ksize}" if l.ksize > 1 else l.kind, channels, len(same), l.blocks,
                         at_once or "", f"{share:.2f}", f"{l.operations / 1e9:.2f}", f"{l.bytes / 1e6:.1f}",
                         f"{1e6 * seconds:.1f}", bound))
    return lines


def costliest(launches, device, resources, n=6):
    """What the n most expensive kinds of launch take of the frame."""
    total = collections.Counter()
    for l in launches:
        seconds = l.time(device, resources)[0]
        channels = f", {l.in_c} → {l.out_c} channels" if l.in_c else ""
        total[f"{l.kernel} ({l.kind}{channels})"] += seconds
    everything = sum(total.values())
    return [f"{name}: {1e3 * s:.2f} ms, {100 * s / everything:.0f} %" for name, s in total.most_common(n)]


def disassembly(nvdisasm, cubin):
    """Kernel -> (instructions, tensor-core instructions) of the loop with most of the latter."""
    text = subprocess.run([nvdisasm, "-c", cubin], check=True, capture_output=True, text=True).stdout
    found = {}
    for part in re.split(r"^\.text\.dcae_k_", text, flags=re.M)[1:]:
        name = re.match(r"\w+", part).group(0)
        ops, labels, loops = [], {}, []
        for line in part.splitlines():
            if m := re.match(r"\s*(\.L_x?_?\w+):", line):
                labels[m.group(1)] = len(ops)
            elif m := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line):
                ops.append(m.group(1))
                target = re.search(r"\.L_x?_?\w+", m.group(2)) if m.group(1).startswith("BRA") else None
                if target and target.group(0) in labels:
                    loops.append(ops[labels[target.group(0)]:])
        tensor = lambda some: sum(op.startswith(("HMMA", "HGMMA")) for op in some)
        loop = max(loops, key=lambda some: (tensor(some), -len(some)), default=[])
        found[name] = (len(loop), tensor(loop))
    return found


def static_table(build, precision, threads, nvdisasm):
    lines = [row("kernel", "threads", "shared memory", *(f"{a // 10}.{a % 10}: registers, blocks" for a in LIMITS),
                 "spills, stack", *(["tensor-core instructions, of the main loop"] if nvdisasm else [])),
             "|" + "---|" * (4 + len(LIMITS) + bool(nvdisasm))]
    resources = {a: read_resources(build, precision, a) for a in LIMITS}
    code = disassembly(nvdisasm, kernel_file(build, precision, f"dcae_{precision}_sm_90.cubin")) if nvdisasm else {}
    for kernel, (n, dynamic) in threads.items():
        r = {a: resources[a][kernel] for a in LIMITS}
        worst = max((r[a].spills, r[a].stack) for a in LIMITS)
        share = []
        if nvdisasm:
            length, in_loop = code[kernel]
            share = [f"{in_loop} of {length}, {100 * in_loop / length:.0f} %" if in_loop else ""]
        lines.append(row(kernel, n, dynamic + r[90].shared,
                         *(f"{r[a].registers}, {blocks_per_sm(a, r[a], n, dynamic)}" for a in LIMITS),
                         "none" if worst == (0, 0) else f"{worst[0]}, {worst[1]} bytes", *share))
    return lines


def memory_lines(build, model, resources):
    """4K in bands, with the memory-limit that keeps all of it below MEMORY_4K."""
    width, height = SIZES[-1]
    lines = []
    for direction in ("encode", "decode"):
        _, whole = list_launches(build, model, width, height, direction, "bf16")
        mib = (MEMORY_4K - whole["weights"] - whole["staging"]) / (1 << 20)
        launches, m = list_launches(build, model, width, height, direction, "bf16", mib)
        total = m["weights"] + m["arena"] + m["workspace"] + m["staging"]
        gb = lambda n: f"{n / 1e9:.2f} GB"
        lines.append(f"- {direction}, memory-limit={mib:.0f}: {gb(total)} = weights {gb(m['weights'])} + arena {gb(m['arena'])} + "
                     f"workspace {gb(m['workspace'])} + frames under way {gb(m['staging'])}; {m['bands']} bands, {len(launches)} launches; "
                     f"{DEVICES[0].name}: {1e3 * sum(l.time(DEVICES[0], resources)[0] for l in launches):.0f} ms; not cut: arena {gb(whole['arena'])}")
    return lines


def replace(path, lines):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    begin, end = "<!-- roofline begin -->\n", "<!-- roofline end -->"
    head, rest = text.split(begin)
    with open(path, "w", encoding="utf-8") as file:
        file.write(head + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("build")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--nvdisasm", default="")
    parser.add_argument("--write", default="")
    args = parser.parse_args()
    resources = {d.arch: read_resources(args.build, "bf16", d.arch) for d in DEVICES}
    everything = {(direction, size): list_launches(args.build, args.model, *size, direction, "bf16")
                  for direction in ("encode", "decode") for size in SIZES}
    threads = {}
    for launches, _ in everything.values():
        for l in launches:
            if l.kernel in resources[90]:
                threads[l.kernel] = (l.threads, max(l.shared, threads.get(l.kernel, (0, 0))[1]))

    short = ["", "**Calculated, never measured on hardware.** bf16, one frame after the other:", "",
             *summary(everything, resources), "", "Most of the time at 1920×1088 on an H100:", ""]
    full = []
    for direction in ("encode", "decode"):
        launches, _ = everything[direction, SIZES[1]]
        short += [f"- {direction}: " + "; ".join(costliest(launches, DEVICES[0], resources[90]))]
    slow = sorted({f"{label}, {size[0]}×{size[1]}" for (_, size), (launches, _) in everything.items() for d in DEVICES
                   for label in bound_by_memory(launches, d, resources[d.arch])})
    short += ["", "3×3 convolutions of 128 channels and more that memory bounds on one of the devices: " + ("; ".join(slow) or "none") + ".", "",
              "Device memory at 3840×2176, exact tiling:", "", *memory_lines(args.build, args.model, resources[90]), ""]
    static = ["", "Registers, blocks a multiprocessor, spills: ptxas. Tensor-core instructions: sm_90.", "",
              *static_table(args.build, "bf16", threads, args.nvdisasm), ""]
    for (direction, size), (launches, _) in everything.items():
        full += ["", f"## {direction}, {size[0]}×{size[1]}, H100", "", *launch_table(launches, DEVICES[0], resources[90])]
    if args.write:
        replace(os.path.join(args.write, "cuda.md"), short + static)
        replace(os.path.join(args.write, "roofline.md"), full + [""])
    else:
        print("\n".join(short + static + full))


if __name__ == "__main__":
    main()
