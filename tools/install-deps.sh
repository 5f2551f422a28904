#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# install-deps.sh - installs the Debian or Ubuntu packages that are missing, and nothing where all
# are there. Uses sudo only where it is not root.
#
# usage: tools/install-deps.sh [build] [demo] [codecs] [test] [cuda] [cuda-memory]
#
# cuda         a compiler for the CUDA backend: from PyPI into build/nvcc, unless there is one (find-nvcc.sh)
# cuda-memory  for pictures in device memory: gstreamer-cuda-1.0, with which Debian installs all of OpenCV
set -eu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

build="gcc libc6-dev meson ninja-build pkg-config libglib2.0-dev libjson-glib-dev libgstreamer1.0-dev
       libgstreamer-plugins-base1.0-dev"
demo="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good python3 python3-numpy python3-pil"
codecs="gstreamer1.0-plugins-bad gstreamer1.0-libav"
test="g++ clang clang-format valgrind libc6-dbg binutils git gstreamer1.0-plugins-base-apps gstreamer1.0-plugins-bad"
cuda="g++ python3"
# The headers of gstreamer-cuda-1.0 include GL/gl.h.
cuda_memory="libgstreamer-plugins-bad1.0-dev libgl-dev"
# Wheels that together are a compiler; g++ preprocesses for it.
nvcc_wheels="nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96"

wanted='' nvcc=''
for set in "${@:-build}"; do
    case $set in
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $demo" ;;
    codecs) wanted="$wanted $codecs" ;;
    test) wanted="$wanted $demo $test" ;;
    cuda)
        wanted="$wanted $cuda"
        if ! "$here/find-nvcc.sh" >/dev/null; then
            nvcc=missing
            python3 -m pip --version >/dev/null 2>&1 || wanted="$wanted python3-pip"
        fi
        ;;
    cuda-memory) wanted="$wanted $cuda_memory" ;;
    *)
        echo "install-deps.sh: no set of packages is called \"$set\": build, demo, codecs, test, cuda, cuda-memory" >&2
        exit 2
        ;;
    esac
done

# The compiler appears at once or not at all.
install_nvcc() {
    local folder
    folder=$(dirname "$here")/build/nvcc
    echo "installing the CUDA compiler from PyPI into $folder"
    rm -rf "$folder" "$folder.part"
    # shellcheck disable=SC2086
    python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --no-deps --no-compile \
        --only-binary=:all: --target "$folder.part" $nvcc_wheels </dev/null || {
        rm -rf "$folder.part"
        echo "install-deps.sh: pip could not install the CUDA compiler ($nvcc_wheels)" >&2
        return 1
    }
    mv "$folder.part" "$folder"
    "$here/find-nvcc.sh" >/dev/null || {
        echo "install-deps.sh: the CUDA compiler in $folder does not run on this machine" >&2
        return 1
    }
}

install_packages() {
    local missing= package run=
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        echo "install-deps.sh: this is no Debian or Ubuntu; going on with what is installed. Debian's names of what is needed:" >&2
        echo " $wanted" | tr -s ' \n' ' ' >&2
        echo >&2
        return 0
    fi
    for package in $wanted; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed*) ;;
        *) missing="$missing $package" ;;
        esac
    done
    [ -n "$missing" ] || return 0

    echo "installing:$missing"
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "install-deps.sh: run this as root:  apt-get install$missing" >&2
            return 1
        fi
        run=sudo
        [ -t 0 ] || run="sudo -n" # nobody is there to type a password
    fi
    apt() {
        $run env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
    }
    apt update || echo "install-deps.sh: the package lists could not be updated; trying with the old ones" >&2
    # shellcheck disable=SC2086
    apt install -y --no-install-recommends $missing
}

install_packages
[ -z "$nvcc" ] || install_nvcc
