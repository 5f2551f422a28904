#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# demo.sh - installs what is missing, builds, encodes a video or picture to DC-AE latents, decodes
# them again, and leaves both and a picture that compares them in build/demo.
#
# usage: ./demo.sh [FILE [FRAMES]]
#
# FILE    any video or picture that GStreamer can play; default: the sample clip
# FRAMES  how many frames of FILE to take; default: 50, and all of the sample
# MODEL   environment: another model than the demonstration model, as the property `model` takes it
set -eu -o pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
. "$top/tools/common.sh"

case ${1:-} in -h | --help) sed -n '/^# usage/,/^[^#]/s/^# \?//p' "$0"; exit 0 ;; esac
[ $# -le 2 ] || die "usage: ./demo.sh [FILE [FRAMES]]"
file=${1:-$top/examples/sample.webm}
frames=${2:-50}
[ -f "$file" ] || die "$file: no such file"
case $frames in '' | 0 | *[!0-9]*) die "FRAMES must be a whole number above 0, not \"$frames\"" ;; esac
file=$(cd "$(dirname "$file")" && pwd -P)/$(basename "$file")
[ $# -ge 1 ] || frames=1000000
model=()
if [ -n "${MODEL:-}" ]; then
    if [ -e "$MODEL" ]; then MODEL=$(realpath "$MODEL"); fi
    model=("model=$MODEL")
fi

say "packages"
"$top/tools/install-deps.sh" build demo || die "packages are missing, see above"
"$top/tools/install-deps.sh" cuda || echo "there is no compiler for the CUDA backend; going on without it"
if [ $# -ge 1 ]; then
    "$top/tools/install-deps.sh" codecs || echo "more codecs could not be installed; trying without them"
fi
echo "all there"

say "building in $top/build/release"
build_in "$top/build/release" -Dbuildtype=debugoptimized -Dtests=false -Dcuda=auto
use_build "$top/build/release"
# The clip names its model but not where it is: a decoder finds it by name.
case ${MODEL:-} in /*) GST_DCAE_MODELS_PATH="$(dirname "$MODEL"):$GST_DCAE_MODELS_PATH" ;; esac

out=$top/build/demo
mkdir -p "$out"
cd "$out"
rm -f clip.safetensors decoded.mkv comparison.png
gst-inspect-1.0 dcaeenc >inspect.log 2>&1 || { tail -n 5 inspect.log >&2; die "GStreamer does not take the plugin"; }
uri=$(python3 -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).as_uri())' "$file")

say "encoding $file"
# identity ends the stream instead of passing buffer number eos-after.
launch encode.log -e uridecodebin uri="$uri" caps="video/x-raw(ANY)" expose-all-streams=false ! deinterlace ! \
    identity eos-after=$((frames + 1)) ! videoconvert ! dcaeenc "${model[@]}" ! dcaemux ! filesink location=clip.safetensors ||
    die "encoding failed; all of it is in $out/encode.log"
[ -s clip.safetensors ] || die "encoding wrote no clip; see $out/encode.log"

say "decoding"
launch decode.log -e filesrc location=clip.safetensors ! decodebin ! videoconvert ! jpegenc quality=95 ! \
    matroskamux ! filesink location=decoded.mkv || die "decoding failed; all of it is in $out/decode.log"
[ -s decoded.mkv ] || die "decoding wrote no video; see $out/decode.log"

say "comparing"
watch compare.log 120 "$top/tools/compare.py" --frames "$frames" "$file" clip.safetensors comparison.png ||
    { tail -n 3 compare.log >&2; die "the comparison failed"; }
cat compare.log

say "done"
cat <<EOT
latents        $out/clip.safetensors ($(stat -c %s clip.safetensors) bytes)
decoded video  $out/decoded.mkv
side by side   $out/comparison.png
EOT
