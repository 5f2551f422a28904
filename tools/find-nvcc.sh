#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# find-nvcc.sh - prints the path of a CUDA compiler that knows all architectures of the kernels (12.8 or
# later): the one in PATH, where toolkits are usually installed, or what `install-deps.sh cuda` put into
# build/. Fails without a word where there is none.
build=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)/build

for nvcc in "$(command -v nvcc 2>/dev/null)" /usr/local/cuda/bin/nvcc /opt/cuda/bin/nvcc "$build"/nvcc/nvidia/cu*/bin/nvcc; do
    [ -x "$nvcc" ] || continue
    # shellcheck disable=SC2046
    set -- $("$nvcc" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
    [ $# -eq 2 ] || continue
    if [ "$1" -gt 12 ] || { [ "$1" -eq 12 ] && [ "$2" -ge 8 ]; }; then
        printf '%s\n' "$nvcc"
        exit 0
    fi
done
exit 1
