#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Compiles the kernels of one precision: nvcc makes PTX once, ptxas makes machine code for each
# architecture from that same PTX, and an assembler file puts all of it into .rodata. The PTX is
# marked with the lowest version that its instructions allow, so that drivers older than the compiler
# take it.
"""usage: build_kernels.py NVCC SOURCE PRECISION OUTPUT.S PRIVATE_DIR [ARCHITECTURE ...]"""

import os
import re
import subprocess
import sys

PTX_VERSION = "7.0"  # cp.async, mma.sync with bf16


def make_ptx(nvcc, source, precision, path):
    subprocess.run([nvcc, "-O3", "-ptx", "-arch=compute_80", f"-DDCAE_{precision.upper()}",
                    "-o", path, source], check=True)
    with open(path, encoding="ascii") as f:
        text = f.read()
    # A hint that newer compilers give and older drivers don't know.
    text = re.sub(r'^\s*\.pragma "used_bytes_mask [^"]*";\n', "", text, flags=re.MULTILINE)
    # Comments name the compiler's build: without them the same kernels give the same bytes.
    text = re.sub(r"^//.*\n", "", text, flags=re.MULTILINE)
    text, n = re.subn(r"^\.version .*$", f".version {PTX_VERSION}", text, flags=re.MULTILINE)
    if n != 1:
        sys.exit(f"{path}: {n} lines with .version")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def embed(symbol, path, is_text):
    return (f"    .balign 16\n    .globl {symbol}\n    .hidden {symbol}\n"
            f"    .type {symbol}, @object\n{symbol}:\n    .incbin \"{path}\"\n"
            + ("    .byte 0\n" if is_text else "") + f"    .size {symbol}, . - {symbol}\n")


def main():
    nvcc, source, precision, output, private = sys.argv[1:6]
    ptxas = os.path.join(os.path.dirname(os.path.realpath(nvcc)), "ptxas")
    os.makedirs(private, exist_ok=True)
    private = os.path.abspath(private)
    ptx = os.path.join(private, f"dcae_{precision}.ptx")
    make_ptx(nvcc, source, precision, ptx)
    text = "/* Made by build_kernels.py. */\n    .section .rodata\n"
    for arch in sys.argv[6:]:
        cubin = os.path.join(private, f"dcae_{precision}_sm_{arch}.cubin")
        subprocess.run([ptxas, "-O3", f"-arch=sm_{arch}", "-o", cubin, ptx], check=True)
        text += embed(f"dcae_cuda_{precision}_sm_{arch}", cubin, False)
    text += embed(f"dcae_cuda_{precision}_ptx", ptx, True)
    text += "    .section .note.GNU-stack,\"\",@progbits\n"
    with open(output, "w", encoding="utf-8") as f:
        f.write(text)


main()
