#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Compiles the kernels of one precision: nvcc makes PTX once, ptxas makes machine code for each
# architecture from that same PTX, and an assembler file puts all of it into .rodata. The PTX is
# marked with the lowest version that its instructions allow, so that drivers older than the compiler
# take it. Where the environment names a folder as DCAE_KERNEL_CACHE, build folders share through it what
# the same compiler made of the same sources.
"""usage: build_kernels.py NVCC SOURCE PRECISION OUTPUT.S PRIVATE_DIR [ARCHITECTURE ...]"""

import concurrent.futures
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

PTX_VERSION = "7.0"  # cp.async, mma.sync with bf16, max.NaN


def clean(raw):
    """The PTX without what says where it comes from, and without hints that older drivers don't know: the same kernels
    give the same bytes, whichever build of the compiler made them and wherever the sources lie. Also returns, for each of
    its lines, which line of which source it was made of."""
    # A line that pragmas and comments leave empty counts for nothing.
    noise = re.compile(r'//.*|\s*\.pragma "used_bytes_mask .*|\s*\.(loc|file)\s.*|\$L__(tmp|func_begin|func_end)\d+:|')
    files = dict(re.findall(r'^\s*\.file\s+(\d+) "(?:.*/)?([^"/]+)"', raw, re.MULTILINE))
    raw = re.sub(r"^\s*\.section\s.*?^\s*\}\n", "", raw, flags=re.MULTILINE | re.DOTALL)
    raw, n = re.subn(r"^\.version .*$", f".version {PTX_VERSION}", raw, flags=re.MULTILINE)
    if n != 1:
        sys.exit(f"PTX has {n} lines with .version")
    text, places, place = [], [], "-"
    for line in raw.splitlines():
        loc = re.match(r"\s*\.loc\s+(\d+) (\d+)", line)
        if loc:
            place = f"{files[loc[1]]}:{loc[2]}"
        if not noise.fullmatch(line):
            text.append(line)
            places.append(place)
    return "\n".join(text) + "\n", "\n".join(places) + "\n"


def make_ptx(nvcc, source, precision, path):
    """Leaves PTX in path and the places in the sources of each of its lines in path.lines."""
    subprocess.run([nvcc, "-O3", "-ptx", "-lineinfo", "-arch=compute_80", f"-DDCAE_{precision.upper()}",
                    "-o", path, source], check=True)
    with open(path, encoding="utf-8") as f:
        text, lines = clean(f.read())
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    with open(path + ".lines", "w", encoding="utf-8") as f:
        f.write(lines)


def cache_key(nvcc, source, arguments):
    """A digest of all that the result depends on."""
    digest = hashlib.sha256(subprocess.run([nvcc, "--version"], check=True, capture_output=True).stdout)
    digest.update("\0".join(arguments).encode())
    for path in [__file__] + sorted(glob.glob(os.path.join(os.path.dirname(source), "*"))):
        with open(path, "rb") as f:
            digest.update(os.path.basename(path).encode() + b"\0" + hashlib.sha256(f.read()).digest())
    return digest.hexdigest()


def fetch(folder, names, private):
    """Copies files from the cache; False where they aren't all there. A folder that is in use is young."""
    try:
        os.utime(folder)
        for name in names:
            shutil.copy(os.path.join(folder, name), private)
    except FileNotFoundError:
        return False
    return True


def unused(folder):
    try:
        return time.time() - os.path.getmtime(folder) > 24 * 60 * 60
    except FileNotFoundError:  # another build deletes it
        return False


def store(folder, names, private):
    """Puts files into the cache, all of them at once; what nobody has used for a day goes."""
    part = f"{folder}.{os.getpid()}"
    os.makedirs(part, exist_ok=True)
    for name in names:
        shutil.copy(os.path.join(private, name), part)
    try:
        os.rename(part, folder)
    except OSError:  # another build was faster
        shutil.rmtree(part)
    for other in glob.glob(folder.rsplit("-", 1)[0] + "-*"):
        if re.fullmatch(r".*-[0-9a-f]{64}", other) and unused(other):
            shutil.rmtree(other, ignore_errors=True)


def compile_kernels(nvcc, source, precision, architectures, private):
    """Leaves dcae_PRECISION.ptx, where it comes from (.ptx.lines), the cubins and what ptxas says of each (.txt: registers,
    spills) in the folder `private`; returns the names of PTX and cubins."""
    ptx = os.path.join(private, f"dcae_{precision}.ptx")
    cubins = {arch: f"dcae_{precision}_sm_{arch}.cubin" for arch in architectures}
    results = [os.path.basename(ptx), *cubins.values()]
    names = results + [results[0] + ".lines"] + [name.replace(".cubin", ".txt") for name in cubins.values()]
    cache = os.environ.get("DCAE_KERNEL_CACHE")
    folder = cache and os.path.join(cache, f"{precision}-{cache_key(nvcc, source, [precision, *architectures])}")
    if folder and fetch(folder, names, private):
        return results
    ptxas = os.path.join(os.path.dirname(os.path.realpath(nvcc)), "ptxas")
    make_ptx(nvcc, source, precision, ptx)

    def assemble(arch):
        cubin = os.path.join(private, cubins[arch])
        said = subprocess.run([ptxas, "-v", "-O3", f"-arch=sm_{arch}", "-o", cubin, ptx], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        if said.returncode:
            sys.exit(said.stdout)
        with open(cubin.replace(".cubin", ".txt"), "w", encoding="utf-8") as f:
            f.write(said.stdout)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(assemble, architectures))
    if folder:
        store(folder, names, private)
    return results


def embed(symbol, path, is_text):
    return (f"    .balign 16\n    .globl {symbol}\n    .hidden {symbol}\n"
            f"    .type {symbol}, @object\n{symbol}:\n    .incbin \"{path}\"\n"
            + ("    .byte 0\n" if is_text else "") + f"    .size {symbol}, . - {symbol}\n")


def main():
    nvcc, source, precision, output, private = sys.argv[1:6]
    architectures = sys.argv[6:]
    os.makedirs(private, exist_ok=True)
    private = os.path.abspath(private)
    ptx, *cubins = compile_kernels(nvcc, source, precision, architectures, private)
    text = "/* Made by build_kernels.py. */\n    .section .rodata\n"
    for arch, cubin in zip(architectures, cubins):
        text += embed(f"dcae_cuda_{precision}_sm_{arch}", os.path.join(private, cubin), False)
    text += embed(f"dcae_cuda_{precision}_ptx", os.path.join(private, ptx), True)
    text += "    .section .note.GNU-stack,\"\",@progbits\n"
    with open(output, "w", encoding="utf-8") as f:
        f.write(text)


main()
