#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Builds a fuzz target with clang's libFuzzer and the sanitizers and runs it on its corpus; new
# inputs stay in a temporary folder. Crashes are written to the current folder.
#
#     tests/fuzz/run.sh header|config|model|demux [seconds]
set -e
here=$(cd "$(dirname "$0")" && pwd)
core=$here/../../dcae-core
target=$1
seconds=${2:-60}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources=
for f in error json file checkpoint directory safetensors config infer names hub model; do
    sources="$sources $core/dcae_$f.c"
done
packages="gio-2.0 json-glib-1.0"
if [ "$target" = demux ]; then
    for f in demux latent timeline; do
        sources="$sources $here/../../gst/gstdcae$f.c"
    done
    packages="$packages gstreamer-base-1.0 gstreamer-video-1.0 gstreamer-tag-1.0"
fi
# shellcheck disable=SC2086
flags=$(pkg-config --cflags --libs $packages)
# shellcheck disable=SC2086
clang -g -O1 -std=c11 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=undefined -I"$core" -I"$here/../../gst" -I"$here" "$here/fuzz_$target.c" $sources \
    -o "$work/fuzz" $flags -lm
mkdir "$work/corpus"
# GLib keeps what it allocates as it is loaded; the test clipdemux-leaks looks for leaks.
if [ "$target" = demux ]; then
    export ASAN_OPTIONS=detect_leaks=0
fi
"$work/fuzz" -max_total_time="$seconds" -timeout=10 "$work/corpus" "$here/corpus/$target"
