# SPDX-License-Identifier: LGPL-2.1-or-later
#
# common.sh - what the commands of this project share: messages, build folders, and a gst-launch-1.0
# that cannot hang. Sourced by bash scripts that have set `top` to the project's folder.

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# build_in FOLDER [MESON OPTION…]: sets the folder up and builds. A folder that belongs to another
# place or to other options is made anew.
build_in() {
    local folder=$1 log=$1.log stamp
    shift
    stamp="$top $CC_NAME $* $("$top/tools/find-nvcc.sh" || true)"
    mkdir -p "$(dirname "$folder")"
    if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/.made-for" 2>/dev/null)" != "$stamp" ]; then
        rm -rf "$folder"
        CC=$CC_NAME meson setup "$folder" "$top" "$@" >"$log" 2>&1 ||
            { tail -n 25 "$log" >&2; die "setting up the build failed; all of it is in $log"; }
        printf '%s' "$stamp" >"$folder/.made-for"
    fi
    echo "minutes, where much is new; the log is $log"
    ninja -C "$folder" 2>&1 | tee "$log" | progress || { grep -A 12 -m 3 -E 'FAILED|error:' "$log" >&2 || tail -n 25 "$log" >&2
        die "building failed; all of it is in $log"; }
}
CC_NAME=${CC:-gcc}

# Ninja's "[done/all]" of each line, on one line of a terminal; nothing elsewhere.
progress() {
    if [ -t 1 ]; then awk '{ printf "\r%s\033[K", $1; fflush() } END { printf "\r\033[K" }'; else cat >/dev/null; fi
}
export DCAE_KERNEL_CACHE="$top/build/kernels" # build folders share what was compiled for CUDA

# use_build FOLDER: this build's plugin, this project's models, a registry of its own.
use_build() {
    export GST_PLUGIN_PATH="$1/gst" GST_REGISTRY="$1/registry.bin" GST_DCAE_MODELS_PATH="$top/models"
    export GST_REGISTRY_FORK=yes LC_ALL=C.UTF-8
}

# watch LOG SECONDS COMMAND…: runs a command, and ends it where it hangs. gst-launch-1.0 1.22 hangs
# after some errors that come before preroll: it is interrupted a second after it printed one. A
# command that has not used the processor for SECONDS hangs as well.
watch() {
    local log=$1 patience=$2 pid status=0 idle=0 old='' now errors=0
    shift 2
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    trap 'kill -INT $pid 2>/dev/null; exit 130' INT TERM
    while kill -0 $pid 2>/dev/null; do
        sleep 0.5
        if grep -qE '^ERROR:|: ERROR:|erroneous pipeline' "$log"; then
            errors=$((errors + 1))
            [ $errors -eq 3 ] && kill -INT $pid 2>/dev/null
            [ $errors -ge 13 ] && kill -KILL $pid 2>/dev/null
        fi
        now=$(cut -d' ' -f14-17 "/proc/$pid/stat" 2>/dev/null) || break
        if [ "$now" = "$old" ]; then idle=$((idle + 1)); else idle=0; fi
        old=$now
        if [ $idle -ge $((2 * patience)) ]; then
            echo "ERROR: nothing happened for $patience seconds" >>"$log"
            kill -KILL $pid 2>/dev/null
        fi
    done
    wait $pid || status=$?
    trap - INT TERM
    if [ $errors -gt 0 ] && [ $status -eq 0 ]; then status=1; fi
    return $status
}

# launch LOG ELEMENT…: gst-launch-1.0, watched.
launch() {
    local log=$1
    shift
    watch "$log" 60 gst-launch-1.0 "$@" || {
        grep -E 'ERROR|WARNING|Additional debug info' -A 1 "$log" | grep -v '^--' | head -n 12 >&2
        return 1
    }
}
