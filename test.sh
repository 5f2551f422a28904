#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test.sh - installs what is missing, builds with gcc and clang and with sanitizers, warnings being
# errors, and runs all tests. Its last line says how many passed and failed.
#
# usage: ./test.sh [quick]
#
# quick  one build and its tests: no clang, no sanitizers, no valgrind
set -u -o pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$top/tools/common.sh"
unset MODEL GST_PLUGIN_PATH GST_DCAE_MODELS_PATH GST_DEBUG GST_TRACERS G_DEBUG DCAE_TEST_DATA
case "$*" in '' | quick) ;; *) die "usage: ./test.sh [quick]" ;; esac
quick=${1:-}
cd "$top" || exit 1
logs=() failed=()

# step NAME COMMAND…: a failure is noted, and the others go on.
step() {
    local name=$1
    shift
    say "$name"
    ("$@") || failed+=("$name")
}

# tests BUILD NAME [MESON TEST OPTION…]: runs tests of a build; each test program's results are counted.
tests() {
    local build=$1 name=$2
    shift 2
    say "tests: $name"
    [ -f "$build/build.ninja" ] || return 0
    rm -f "$build/meson-logs/$name"*
    meson test -C "$build" --no-rebuild --print-errorlogs --logbase "$name" "$@" </dev/null | grep -vE '^(ninja|$)'
    if [ -f "$build/meson-logs/$name.json" ]; then
        logs+=("$build/meson-logs/$name.json")
    else
        failed+=("tests: $name")
    fi
}

formatted() {
    find dcae-core cuda tests tools bench -name '*.[ch]' -print0 2>/dev/null | xargs -0 clang-format --dry-run -Werror
}

say "packages"
tools/install-deps.sh build test || die "packages are missing, see above"
echo "all there"

step "compiler for the CUDA backend" tools/install-deps.sh cuda
step "gstreamer-cuda-1.0" tools/install-deps.sh cuda-memory
step "clang-format" formatted
step "gcc, warnings as errors" build_in build/gcc -Dbuildtype=debugoptimized -Dwerror=true -Dcuda=auto
if [ "$quick" = quick ]; then
    tests build/gcc gcc --no-suite slow
else
    tests build/gcc gcc
    CC_NAME=clang step "clang, warnings as errors" build_in build/clang -Dbuildtype=debugoptimized -Dwerror=true \
        -Dcuda=disabled
    tests build/clang clang --suite core
    step "address and undefined-behaviour sanitizers" build_in build/sanitize -Dbuildtype=debugoptimized -Doptimization=1 \
        -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=true -Dcuda=disabled
    # GStreamer's plugin scanner is not built with the sanitizers and could not load the plugin.
    export GST_REGISTRY_FORK=no ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    tests build/sanitize sanitize-core --suite core
    ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 tests build/sanitize sanitize-elements --suite elements
fi

say "results"
exec python3 tests/count_tests.py "${logs[@]}" ${failed:+--also-failed "${failed[@]}"}
