#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# mutate.py - plants faults in the shipped PTX, one at a time, and says which ones no test notices. Test programs hold
# the PTX as text: a copy of the program gets a changed line of the same length, so that nothing is built. Knows no
# kernel. A command of its own, not part of the test run.
"""Plants faults in the kernels of BUILD and runs tests on them. A fault that every test passes is a missing test, or
one that changes nothing: read it."""
import argparse
import collections
import concurrent.futures
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from check_coverage import Module, read_sources  # noqa: E402

COMPARE = {"lt": "le", "le": "lt", "gt": "ge", "ge": "gt", "eq": "ne", "ne": "eq",
           "ltu": "leu", "leu": "ltu", "gtu": "geu", "geu": "gtu", "neu": "equ", "equ": "neu",
           "lo": "ls", "ls": "lo", "hi": "hs", "hs": "hi"}


def swap(op, other):
    def change(text):
        return re.sub(rf"\b{op}\.", f"{other}.", text, count=1) if re.match(rf"(@!?%p\d+ )?{op}\.", text) else None
    return change


def compare(text):
    m = re.match(r"(setp|set)\.(\w+)\.", text)
    return text.replace(f".{m[2]}.", f".{COMPARE[m[2]]}.", 1) if m and m[2] in COMPARE else None


def constant(text):
    """The last operand is a small number: one more, or one less where that takes another digit."""
    m = re.search(r"(?<=[ ,+])(\d{1,6})(\]?;)$", text)
    if not m or re.match(r"(ret|bar|bra|\.|cp\.async\.wait)", text):
        return None
    n = int(m[1])
    other = n + 1 if len(str(n + 1)) == len(m[1]) else n - 1
    return f"{text[:m.start()]}{other}{m[2]}"


def negate(text):
    m = re.match(r"@(!?)(%p\d+) +bra(?:\.uni)?\s+(\S+;)$", text)
    return f"@{'' if m[1] else '!'}{m[2]} bra {m[3]}" if m else None


def select(text):
    m = re.match(r"(selp\.\w+\s+\S+, )(\S+), (\S+), (%p\d+;)$", text)
    return f"{m[1]}{m[3]}, {m[2]}, {m[4]}" if m and m[2] != m[3] else None


def no_addend(text):
    m = re.match(r"fma\.rn\.(f\d+)(\s+\S+, \S+, \S+), \S+;$", text)
    return f"mul.{m[1]}{m[2]};" if m else None


def drop(pattern):
    return lambda text: "" if re.match(pattern, text) else None


FAULTS = {
    "+ to -": swap("add", "sub"),
    "- to +": swap("sub", "add"),
    "* to +": lambda text: swap(r"mul", "add")(text) if ".f32" in text else None,
    "min to max": swap("min", "max"),
    "max to min": swap("max", "min"),
    "another comparison": compare,
    "constant off by one": constant,
    "branch the other way": negate,
    "the other of two": select,
    "addend dropped": no_addend,
    "barrier dropped": drop(r"bar(rier)?\.sync"),
    "wait dropped": drop(r"cp\.async\.wait_"),
    "copy dropped": drop(r"(@!?%p\d+ )?cp\.async\.c[ag]\."),
    "store dropped": drop(r"(@!?%p\d+ )?st\.(global|shared)\."),
}


class Program:
    """A test of the build: its command, and what it executes."""

    def __init__(self, test, arguments, coverage):
        self.name, self.command = " ".join([test["name"], *arguments]), [*test["cmd"], *arguments]
        self.environment = {**os.environ, **test["env"]}
        self.environment["GPUSIM_COVERAGE"] = self.coverage = coverage
        with open(test["cmd"][0], "rb") as f:
            self.image = f.read()
        self.seconds, self.hits = 0.0, set()

    def run(self, limit, path=None):
        """None where all passes, else the first thing that doesn't."""
        environment = dict(self.environment)
        if path:
            del environment["GPUSIM_COVERAGE"]
        with subprocess.Popen([path or self.command[0], *self.command[1:]], env=environment, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, errors="replace") as process:
            timer = threading.Timer(limit, process.kill)
            timer.start()
            wrong = next((line.strip() for line in process.stdout if line.startswith("not ok")), None)
            process.kill() if wrong else process.wait()
            late = not timer.is_alive()
            timer.cancel()
        return wrong or ("no end" if late else None) or (f"status {process.returncode}" if process.returncode else None)

    def measure(self, modules):
        start = time.monotonic()
        wrong = self.run(3600)
        self.seconds = time.monotonic() - start
        if wrong:
            sys.exit(f"{self.name} fails without any fault: {wrong}")
        with open(self.coverage, encoding="utf-8") as f:
            for line in f:
                count, module, _, number, _ = line.split("\t", 4)
                if module in modules and count != "0":
                    self.hits.add((modules[module], int(number)))


class Fault:
    def __init__(self, module, number, kind, old, new):
        self.module, self.number, self.kind, self.old, self.new = module, number, kind, old, new

    def __str__(self):
        place, source = self.module.source(self.number)
        return f"{self.module.precision} {place} [{self.kind}] {self.old.strip()}\n      of: {source}"

    def plant(self, image):
        """A copy of the program with the changed line; None where it doesn't hold this PTX."""
        start = image.find(self.module.text)
        if start < 0:
            return None
        at = start + self.module.offsets[self.number - 1]
        assert image[at:at + len(self.old)] == self.old.encode()
        return image[:at] + self.new.encode() + image[at + len(self.old):]


def load_module(path, sources):
    module = Module(path, sources)
    with open(path, "rb") as f:
        module.text = f.read()
    module.lines = module.text.decode("ascii").split("\n")
    module.offsets = [0]
    for line in module.lines:
        module.offsets.append(module.offsets[-1] + len(line) + 1)
    return module


def faults_of(module, number):
    old = module.lines[number - 1]
    text = old.strip()
    for kind, change in FAULTS.items():
        new = change(text)
        if new is None or new == text:
            continue
        new = "\t" + re.sub(r"\s+", " ", new)
        if len(new) <= len(old):
            yield Fault(module, number, kind, old, new.ljust(len(old)))


def choose(hits, count, seed, only):
    """Faults in executed instructions, no two of one kind in one line of the sources: loops are unrolled."""
    places = collections.defaultdict(list)
    for module, number in sorted(hits, key=lambda hit: (hit[0].precision, hit[1])):
        place = module.source(number)[0]
        if only and not re.search(only, f"{module.precision} {place}"):
            continue
        for fault in faults_of(module, number):
            places[fault.kind, place].append(fault)
    chance = random.Random(seed)
    kinds = collections.defaultdict(list)
    for key in sorted(places):
        kinds[key[0]].append(chance.choice(places[key]))
    for faults in kinds.values():
        chance.shuffle(faults)
    chosen = []
    while len(chosen) < count and any(kinds.values()):
        for kind in sorted(kinds):
            if kinds[kind] and len(chosen) < count:
                chosen.append(kinds[kind].pop())
    return chosen


def try_fault(fault, programs, folder):
    """Who notices it, or None."""
    for program in programs:
        if (fault.module, fault.number) not in program.hits:
            continue
        image = fault.plant(program.image)
        if image is None:
            continue
        fd, path = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(fd, "wb") as f:
                f.write(image)
            os.chmod(path, 0o700)
            wrong = program.run(30 + 5 * program.seconds, path)
        finally:
            os.unlink(path)
        if wrong:
            return f"{program.name}: {wrong}"
    return None


def find_programs(build, wanted, folder):
    shown = subprocess.run(["meson", "introspect", build, "--tests"], check=True, capture_output=True, text=True)
    tests = {test["name"]: test for test in json.loads(shown.stdout)}
    programs = []
    for text in wanted:
        name, *arguments = text.split()
        if name not in tests:
            sys.exit(f"{build} has no test {name}")
        programs.append(Program(tests[name], arguments, os.path.join(folder, f"{len(programs)}.coverage")))
    return programs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", help="a build folder with -Dcuda=enabled, built")
    parser.add_argument("tests", nargs="*", default=["forms", "epilogues"],
                        help="tests of the build, each with arguments of its own in one word (default: forms epilogues)")
    parser.add_argument("--faults", type=int, default=40, help="how many (default: 40)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (default: 1)")
    parser.add_argument("--only", help="regular expression: PRECISION FILE:LINE of the sources, like 'bf16 conv.cu'")
    parser.add_argument("--minutes", type=float, default=20, help="begin no fault after these (default: 20)")
    parser.add_argument("--jobs", type=int, default=1, help="faults at the same time (default: 1)")
    options = parser.parse_args()
    root = os.path.dirname(os.path.dirname(HERE))
    sources = read_sources(os.path.join(root, "cuda", "kernels"))
    paths = [os.path.join(options.build, "cuda", f"dcae_kernels_{p}.S.p", f"dcae_{p}.ptx") for p in ("f32", "bf16", "f16")]
    modules = {module.hash: module for module in (load_module(path, sources) for path in paths)}
    end = time.monotonic() + 60 * options.minutes

    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        programs = find_programs(options.build, options.tests, folder)
        for program in programs:
            program.measure(modules)
            print(f"{program.name}: {program.seconds:.0f} s, {len(program.hits)} instructions", flush=True)
        programs.sort(key=lambda program: program.seconds)
        chosen = choose(set().union(*(program.hits for program in programs)), options.faults, options.seed, options.only)

        def judge(fault):
            if time.monotonic() > end:
                return "skipped"
            start = time.monotonic()
            by = try_fault(fault, programs, folder)
            print(f"{'found  ' if by else 'MISSED '}{time.monotonic() - start:5.0f} s  {fault}\n      {by or ''}", flush=True)
            return by

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(judge, chosen))
    missed = [fault for fault, by in zip(chosen, results) if by is None]
    print(f"\n{len(chosen)} faults, {results.count('skipped')} of them for want of time not tried, {len(missed)} missed:")
    for fault in missed:
        print(f"- {fault}")


if __name__ == "__main__":
    main()
