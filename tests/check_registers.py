#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# check_registers.py - the inner loops of the matrix products keep their accumulators in registers.
#
#     check_registers.py OBJDUMP ARCHIVE FUNCTION LOOPS
#
# Disassembles ARCHIVE, finds FUNCTION's loops of at least 12 fused multiply-adds or bf16 products, and fails where one
# has a vector on the stack, or where fewer than LOOPS are found.
import re
import subprocess
import sys

LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
STACK = re.compile(r"\(%rsp|-0x[0-9a-f]+\(%rbp\)")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")


def functions(text):
    """Yields (name, [(address, mnemonic, operands)])."""
    name, lines = None, []
    for line in text.splitlines():
        start = FUNCTION.match(line)
        if start:
            if lines:
                yield name, lines
            name, lines = start.group(1), []
            continue
        instruction = LINE.match(line)
        if instruction:
            lines.append((int(instruction.group(1), 16), instruction.group(2), instruction.group(3)))
    if lines:
        yield name, lines


def inner_loops(lines):
    """Yields the instructions of each loop that has no other jump in it."""
    index = {address: i for i, (address, _, _) in enumerate(lines)}
    for i, (address, mnemonic, operands) in enumerate(lines):
        target = re.match(r"([0-9a-f]+) ", operands)
        if not mnemonic.startswith("j") or not target:
            continue
        first = index.get(int(target.group(1), 16))
        if first is None or first >= i:
            continue
        body = lines[first:i]
        if not any(m.startswith("j") for _, m, _ in body):
            yield body


def main():
    objdump, archive, function, wanted = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", archive], check=True,
                          capture_output=True, text=True).stdout
    found, bad = 0, 0
    for name, lines in functions(text):
        if name != function:
            continue
        for body in inner_loops(lines):
            if sum(m.startswith(("vfmadd", "vdpbf16")) and m.endswith("ps") for _, m, _ in body) < 12:
                continue
            found += 1
            for address, mnemonic, operands in body:
                if STACK.search(operands) and re.search(r"%[xyz]mm", operands):
                    print(f"{name}+{address:x}: {mnemonic} {operands}")
                    bad += 1
    print(f"{found} loops, {bad} stack references")
    return 0 if found >= wanted and bad == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
