#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# memcheck.sh - runs a short pipeline each way, encode and mux, demux and decode, under valgrind's
# memcheck: no error in memory use and nothing of ours lost. Skipped (77) without valgrind.
#
# usage: memcheck.sh FOLDER, with GST_PLUGIN_PATH, GST_DCAE_MODELS_PATH and GST_REGISTRY set.
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
folder=${1:?usage: memcheck.sh FOLDER}
command -v valgrind >/dev/null || exit 77
mkdir -p "$folder"
cd "$folder" || exit 1

suppressions=(--suppressions="$here/valgrind.supp")
for file in /usr/share/glib-2.0/valgrind/glib.supp /usr/share/gstreamer-1.0/gst.supp; do
    if [ -f "$file" ]; then suppressions+=(--suppressions="$file"); fi
done
export G_SLICE=always-malloc G_DEBUG=gc-friendly GST_REGISTRY_FORK=no ORC_CODE=backup

# The registry is made outside of valgrind, so that only the pipeline is looked at.
gst-inspect-1.0 dcaeenc >/dev/null || exit 1

run() {
    timeout 250 valgrind --tool=memcheck --error-exitcode=99 --leak-check=full --show-leak-kinds=definite \
        --errors-for-leak-kinds=definite --num-callers=30 "${suppressions[@]}" \
        gst-launch-1.0 -q "$@" >"$log" 2>&1 && ! grep -q '^ERROR' "$log"
}
log=encode.log
run videotestsrc num-buffers=2 ! video/x-raw,format=I420,width=50,height=42 ! dcaeenc threads=2 ! dcaemux ! \
    filesink location=clip.safetensors || { tail -n 60 $log; exit 1; }
log=decode.log
run filesrc location=clip.safetensors ! dcaedemux ! dcaedec threads=2 tiling=blend tile-width=32 tile-height=32 ! \
    fakesink || { tail -n 60 $log; exit 1; }
