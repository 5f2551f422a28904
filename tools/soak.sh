#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# soak.sh - one process encodes and decodes frame after frame, and one pipeline after another writes
# and plays clips of changing size; fails where the process grows or a pipeline fails.
#
# usage: tools/soak.sh [SECONDS [MODEL]]   (default: 300, the demonstration model)
set -eu -o pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
. "$top/tools/common.sh"
seconds=${1:-300}
model=()
[ $# -lt 2 ] || model=("model=$2")
limit=$((32 * 1024)) # KiB: more than allocators of many threads settle by, less than one leaked frame each pass

build_in "$top/build/release" -Dbuildtype=debugoptimized -Dtests=false
use_build "$top/build/release"
work=$(mktemp -d)
pid=
trap 'if [ -n "$pid" ]; then kill -KILL $pid 2>/dev/null || true; wait $pid 2>/dev/null || true; fi; rm -rf "$work"' EXIT

memory() { awk '/^VmRSS:/ { print $2 }' "/proc/$pid/status"; }

gst-launch-1.0 -q videotestsrc ! video/x-raw,format=NV12,width=160,height=120 ! dcaeenc "${model[@]}" ! \
    dcaedec "${model[@]}" ! fakesink >"$work/endless.log" 2>&1 &
pid=$!
sleep 20
kill -0 $pid 2>/dev/null || { cat "$work/endless.log" >&2; die "the endless pipeline ended"; }
first=$(memory)
end=$((SECONDS + seconds)) passes=0
while [ $SECONDS -lt $end ]; do
    width=$((33 + passes * 37 % 200)) height=$((40 + passes * 23 % 150))
    launch "$work/write.log" -e videotestsrc num-buffers=5 ! video/x-raw,width=$width,height=$height,framerate=25/1 ! \
        dcaeenc "${model[@]}" ! dcaemux ! filesink location="$work/clip.safetensors" || die "writing ${width}x$height failed"
    launch "$work/play.log" filesrc location="$work/clip.safetensors" ! dcaedemux ! dcaedec "${model[@]}" ! fakesink ||
        die "playing ${width}x$height failed"
    passes=$((passes + 1))
    kill -0 $pid 2>/dev/null || { cat "$work/endless.log" >&2; die "the endless pipeline ended"; }
    now=$(memory)
    [ "$now" -le $((first + limit)) ] || die "the endless pipeline grew from $first to $now KiB"
done
echo "$passes clips; the endless pipeline: $first KiB after 20 s, $now KiB after $((SECONDS)) s"
