#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# check_coverage.py - which instructions of the shipped kernels the tests of a build have left unexecuted; fails where
# these are too many. The stand-in driver counts instructions; the build says which source line each was made of. What is
# listed as out of reach is named by kernel and source text, not by line numbers, so that kernels can change around it.
"""usage: check_coverage.py LEAST LIST KERNELS PTX... -- COVERAGE...

LEAST     percent of the instructions that must be executed or listed
LIST      what can't be executed: lines of KERNEL<tab>SOURCE LINE<tab>REASON; KERNEL is a pattern like bf16/conv*, and
          SOURCE LINE a part of the line in the sources
KERNELS   folder of the kernels' sources
PTX       shipped PTX of each precision, dcae_PRECISION.ptx, beside which PTX.lines says where its lines come from
COVERAGE  what the tests wrote for GPUSIM_COVERAGE; where one is missing, its test did not run: skipped (77)"""
import collections
import fnmatch
import os
import re
import sys


def g_str_hash(data):
    """As GLib has it, by which the stand-in names modules."""
    value = 5381
    for byte in data:
        value = (value * 33 + (byte - 256 if byte > 127 else byte)) & 0xffffffff
    return f"{value:08x}"


class Module:
    def __init__(self, path, sources):
        with open(path, "rb") as f:
            self.hash = g_str_hash(f.read())
        self.precision = re.search(r"dcae_(\w+)\.ptx$", path)[1]
        with open(path + ".lines", encoding="utf-8") as f:
            self.places = f.read().splitlines()
        self.sources = sources

    def source(self, line):
        """Place and text of the source line that PTX line `line` was made of."""
        place = self.places[line - 1]
        name, _, number = place.partition(":")
        if name not in self.sources:
            return place, "(compiler)"
        return place, self.sources[name][int(number) - 1].strip()


def read_sources(folder):
    sources = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            sources[name] = f.read().splitlines()
    return sources


def read_hits(paths, modules):
    """Executions of each instruction of the modules, by all tests together."""
    hits = collections.Counter()
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                count, module, kernel, number, _ = line.split("\t", 4)
                if module in modules:
                    hits[module, kernel.removeprefix("dcae_k_"), int(number)] += int(count)
    return hits


def read_list(path):
    entries = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            if line.startswith("#") or not line.strip():
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 3 or not fields[2]:
                sys.exit(f"{path}:{number}: not KERNEL<tab>SOURCE LINE<tab>REASON")
            entries.append(fields)
    return entries


def main():
    split = sys.argv.index("--")
    least, uncovered, kernels, *ptx = sys.argv[1:split]
    coverage = sys.argv[split + 1:]
    missing = [path for path in coverage if not os.path.exists(path)]
    if missing:
        print("not run before this:", *(os.path.basename(path) for path in missing))
        sys.exit(77)
    sources = read_sources(kernels)
    modules = {module.hash: module for module in (Module(path, sources) for path in ptx)}
    hits = read_hits(coverage, modules)
    without = set(modules) - {module for module, _, _ in hits}
    if without:
        sys.exit("no test has loaded the module of " + ", ".join(modules[m].precision for m in without))
    entries, used = read_list(uncovered), collections.Counter()
    left, listed = collections.Counter(), 0
    for (module, kernel, line), count in hits.items():
        if count:
            continue
        place, text = modules[module].source(line)
        name = f"{modules[module].precision}/{kernel}"
        found = next((i for i, e in enumerate(entries) if fnmatch.fnmatch(name, e[0]) and e[1] in text), None)
        if found is None:
            left[name, place, text] += 1
        else:
            used[found] += 1
            listed += 1
    for (name, place, text), count in sorted(left.items()):
        print(f"never executed: {name}\t{place}\t{count} instructions of: {text}")
    for i, entry in enumerate(entries):
        if not used[i]:
            print("listed, but executed or gone:", *entry[:2])
    executed = sum(1 for count in hits.values() if count)
    share = 100 * (executed + listed) / len(hits)
    print(f"{executed} of {len(hits)} instructions executed, {listed} listed as out of reach: {share:.1f} %, {least} % wanted")
    sys.exit(1 if share < float(least) else 0)


if __name__ == "__main__":
    main()
