#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Adds up the results of test runs and prints them, "N passed, N failed" and what was skipped, as its last line.

usage: count_tests.py testlog.json… [--also-failed NAME…]

The files are those that `meson test` writes. A program that lists its cases (TAP, Check) counts as many as it lists, any
other counts as one; one that dies or fails without saying which case counts as one failure more. Exits with 1 where
anything failed or nothing passed.
"""
import argparse
import json
import re
import sys

TAP = re.compile(r"^(?:\s{4})*(not ok|ok)\b(?: \d+)?(.*)$", re.M)
CHECK = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.M)


def count(test):
    """(passed, failed, skipped) of one program."""
    output, result = test.get("stdout", ""), test["result"]
    if result == "SKIP":
        return 0, 0, 1
    passed = failed = skipped = 0
    if summary := CHECK.findall(output):
        failed = sum(int(f) + int(e) for _, f, e in summary)
        passed = sum(int(n) for n, _, _ in summary) - failed
    else:
        for verdict, rest in TAP.findall(output):
            if verdict == "not ok":
                failed += 1
            elif re.search(r"#\s*skip", rest, re.I):
                skipped += 1
            else:
                passed += 1
    if result != "OK" and not failed:
        failed = 1
    if result == "OK" and not passed + failed + skipped:
        passed = 1
    return passed, failed, skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("logs", nargs="*")
    parser.add_argument("--also-failed", nargs="*", default=[], metavar="NAME", help="failures that no log knows")
    args = parser.parse_args()
    totals = [0, len(args.also_failed), 0]
    for path in args.logs:
        with open(path, encoding="utf-8") as log:
            for line in log:
                test = json.loads(line)
                counts = count(test)
                totals = [a + b for a, b in zip(totals, counts)]
                if counts[1]:
                    print(f"FAILED: {test['name']} ({counts[1]}), see {path}")
    for name in args.also_failed:
        print(f"FAILED: {name}")
    print(f"{totals[0]} passed, {totals[1]} failed" + (f", {totals[2]} skipped" if totals[2] else ""))
    return 1 if totals[1] or not totals[0] else 0


if __name__ == "__main__":
    sys.exit(main())
