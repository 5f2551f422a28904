#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks the files of the project themselves: no path of one machine, no file outside of the project, no word of
unfinished work, nothing too large, every command executable.

usage: check_tree.py [SOURCE_DIR]

Prints one line for each breach. Exits with 77 (skipped) where SOURCE_DIR is no git checkout, since then it can't be
told which files belong to the project.
"""
import re
import subprocess
import sys
from pathlib import Path

LARGEST = 6 << 20  # bytes
TEXT_RULES = [
    (re.compile(r"(?<![\w.$}])/(root|work|farm|Users)/[A-Za-z.]"), "path of one machine"),
    (re.compile(r"\.\./" + "shared"), "file outside of the project"),
]
CODE_RULES = [(re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X|for " + r"now)\b"), "word of unfinished work")]
CODE = {".c", ".h", ".cu", ".cuh", ".py", ".sh", ".build", ".md"}


def breaches(root, name):
    path = root / name
    data = path.read_bytes()
    if len(data) > LARGEST:
        yield f"{name}: {len(data)} bytes are more than {LARGEST}"
    if b"\0" in data[:8192]:
        return
    text = data.decode("utf-8", "replace")
    rules = TEXT_RULES + (CODE_RULES if path.suffix in CODE else [])
    for number, line in enumerate(text.split("\n"), 1):
        for pattern, what in rules:
            if match := pattern.search(line):
                yield f"{name}:{number}: {what}: {match[0]}"
    if text.startswith("#!") and not path.stat().st_mode & 0o100:
        yield f"{name}: starts with #! and is not executable"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    listing = subprocess.run(["git", "-c", "safe.directory=*", "-C", root, "ls-files", "-z"], capture_output=True)
    if listing.returncode:
        print("no git checkout: skipped")
        return 77
    names = [n for n in listing.stdout.decode().split("\0") if n and (root / n).is_file()]
    found = [b for n in names for b in breaches(root, n)]
    print("\n".join(found))
    print(f"{len(names)} files, {len(found)} breaches")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
