#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checks which part of the project may include, call or name what, so that the arrows between the parts stay as
CONTRIBUTING.md draws them: gst -> dcae-core -> backend contract <- cpu, cuda.

usage: check_includes.py [SOURCE_DIR]

Prints one line for each breach and exits with 1 where there is any. RULES is the whole table.
"""
import re
import sys
from pathlib import Path

LIBC = {"assert", "ctype", "dirent", "dlfcn", "errno", "fcntl", "float", "inttypes", "limits", "locale", "math",
        "pthread", "sched", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string", "time",
        "unistd"}
LIBC_FOLDERS = ("sys/", "linux/")
OWN = "own folder"
GLIB = ("glib.h", "glib-object.h", "gmodule.h", "glib/", "gio/")
INTRINSICS = re.compile(r"(^|/)(\w*intrin|arm_neon|arm_sve|cpuid)\.h$")
VECTOR = re.compile(r"\b(_mm\d*_\w+|__m(128|256|512)[id]?|vld1q?_\w+|float32x4_t)\b")

PRINTS = (re.compile(r"\b(v?f?printf|puts|putchar|fputs|perror|g_print|g_printerr|g_message|g_warning|g_debug|g_info)\s*\("),
          "prints")
ENVIRONMENT = (re.compile(r"\b(secure_)?g?_?getenv\s*\("), "reads the environment")
LAYER_NAMES = (re.compile(r'"[^"\n]*\b(encoder|decoder|down_blocks|up_blocks|conv_in|conv_out|attn|to_q|conv_inverted)'
                          r'\b[^"\n]*"'), "names layers of the network")
BACKENDS = (re.compile(r"\bdcae_(cpu|cuda)_backend\b"), "names a backend")
TEST_HOOKS = (re.compile(r"^\s*#\s*if.*\b\w*TEST\w*\b", re.M), "has a hook for tests")

CORE_PRODUCT = (PRINTS, ENVIRONMENT, TEST_HOOKS)
GRAPH_TYPES = ("dcae.h", "dcae_backend.h", "dcae_model.h", "dcae_plan.h", "dcae_graph.h", "dcae_layer_weights.h",
               "dcae_memory.h", "dcae_tensor.h")

# First match wins: paths, what may be included besides libc, what the text must not do. A name that ends in "/" is a
# folder of a library, "NAME*" a prefix, OWN any header that lies beside the file.
RULES = [
    (r"gst/gstdcaecuda\.c", ("dcae.h", "config.h", OWN, "gst/", *GLIB), (TEST_HOOKS, BACKENDS)),
    (r"gst/.*", ("dcae.h", "config.h", OWN, "gst/!cuda", *GLIB), (TEST_HOOKS, BACKENDS)),
    (r"dcae-core/dcae_graph\.[ch]", ("dcae.h", "dcae_graph.h", "dcae_config.h", "dcae_tensor.h", "dcae_tiling.h", *GLIB),
     (*CORE_PRODUCT, BACKENDS)),
    (r"dcae-core/dcae_codec\.c|dcae-core/dcae_backend\.h", ("dcae*", "cpu_features.h", "cpu_kernels.h", *GLIB), CORE_PRODUCT),
    (r"dcae-core/dcae[^/]*\.[ch]", ("dcae*", "json-glib/", *GLIB), (*CORE_PRODUCT, BACKENDS)),
    (r"dcae-core/cpu/(vec|elem)\.h", ("vec.h", "*intrin.h", *GLIB), CORE_PRODUCT),
    (r"dcae-core/cpu/vec_act\.h", ("vec.h", "dcae_config.h", *GLIB), CORE_PRODUCT),  # DcaeAct
    (r"dcae-core/cpu/cpu_features\.[ch]", ("dcae.h", OWN, "cpuid.h", *GLIB), CORE_PRODUCT),
    (r"dcae-core/cpu/.*", (*GRAPH_TYPES, OWN, *GLIB), (*CORE_PRODUCT, LAYER_NAMES)),
    (r"cuda/cuda_stub\.c", GRAPH_TYPES, CORE_PRODUCT),
    (r"cuda/kernels/.*", ("*.cuh", "*.cu", "args.h"), (TEST_HOOKS,)),
    (r"cuda/.*", (*GRAPH_TYPES, OWN, "args.h", *GLIB), (*CORE_PRODUCT, LAYER_NAMES)),
    (r"(tools|bench|examples)/.*", ("dcae.h", *GLIB), ()),
    (r"tests/.*", None, ()),
]

SUFFIXES = {".c", ".h", ".cu", ".cuh", ".cpp"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def strip_comments(text):
    """Comments blanked, line breaks kept; strings stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*")', re.S)
    return pattern.sub(lambda m: m[1] or re.sub(r"[^\n]", " ", m[0]), text)


def included(folder_of_file, header, allowed):
    name = header.rsplit("/", 1)[-1]
    if OWN in allowed and "/" not in header and (folder_of_file / header).is_file():
        return True
    if header.startswith(LIBC_FOLDERS) or ("/" not in header and header.removesuffix(".h") in LIBC):
        return True
    if header in ("cuda.h", "cudaGL.h", "cublas_v2.h", "cuda_runtime.h"):
        return False
    for item in allowed:
        folder, bang, forbidden = item.partition("!")
        if folder.endswith("/"):
            if header.startswith(folder) and not (bang and header.startswith(folder + forbidden)):
                return True
        elif folder.startswith("*"):
            if name.endswith(folder[1:]):
                return True
        elif folder.endswith("*"):
            if name.startswith(folder[:-1]):
                return True
        elif header == folder or header.endswith("/" + folder):
            return True
    return False


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check(root, path):
    text = (root / path).read_text(encoding="utf-8")
    rule = next(((allowed, bans) for pattern, allowed, bans in RULES if re.fullmatch(pattern, path)), None)
    if "SPDX-License-Identifier: LGPL-2.1-or-later" not in text[:400]:
        yield f"{path}:1: the licence line is missing"
    if rule is None:
        yield f"{path}:1: no rule of check_includes.py covers this file"
        return
    allowed, bans = rule
    code = strip_comments(text)
    if allowed is not None:
        for match in INCLUDE.finditer(code):
            if not included((root / path).parent, match[2], allowed):
                yield f"{path}:{line_of(code, match.start(2))}: must not include {match[2]}"
        if path not in ("dcae-core/cpu/vec.h", "dcae-core/cpu/elem.h") and (match := VECTOR.search(code)):
            yield f"{path}:{line_of(code, match.start())}: intrinsics belong into dcae-core/cpu/vec.h or elem.h"
    for pattern, what in bans:
        for match in pattern.finditer(code):
            yield f"{path}:{line_of(code, match.start())}: {what}, which this part must not: {match[0].strip()}"


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
    files = sorted(p for folder in ("gst", "dcae-core", "cuda", "tests", "tools", "bench", "examples")
                   for p in (root / folder).rglob("*") if p.suffix in SUFFIXES and p.is_file())
    breaches = [b for p in files for b in check(root, p.relative_to(root).as_posix())]
    print("\n".join(breaches))
    print(f"{len(files)} files, {len(breaches)} breaches")
    return 1 if breaches or not files else 0


if __name__ == "__main__":
    sys.exit(main())
