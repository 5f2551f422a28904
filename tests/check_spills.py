#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# No kernel keeps registers in memory, on any architecture: reads what ptxas said of each, which
# cuda/build_kernels.py leaves beside the machine code. Knows nothing of the kernels.
"""usage: check_spills.py KERNELS FOLDER_OF_A_PRECISION ..."""

import glob
import os
import re
import sys


def functions(path):
    """(kernel, stack, stores, loads) of each kernel of a report."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    return [(m[1], *map(int, m.groups()[1:])) for m in re.finditer(
        r"Function properties for dcae_k_(\w+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads",
        text)]


def main():
    least, folders = int(sys.argv[1]), sys.argv[2:]
    reports = sorted(path for folder in folders for path in glob.glob(os.path.join(folder, "*_sm_*.txt")))
    bad = [] if reports else ["no reports of ptxas in " + ", ".join(folders)]
    for path in reports:
        found = functions(path)
        if len(found) < least:
            bad.append(f"{path}: {len(found)} kernels, at least {least} expected")
        bad += [f"{os.path.basename(path)}: {kernel} has {stack} bytes of stack, spills {stores} and loads {loads}"
                for kernel, stack, stores, loads in found if stack or stores or loads]
    print("\n".join(bad) or f"{len(reports)} reports, no spills")
    sys.exit(bool(bad))


main()
