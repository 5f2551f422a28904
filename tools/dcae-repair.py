#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# dcae-repair - makes a whole safetensors file of a clip of latents that was cut
# short: by a crash, a full disk or an interrupted copy. Frames that are whole
# are kept as they are. Knows the file's structure only, nothing of the network.
"""Make a clip of latents that was cut short readable for every safetensors library."""

import argparse
import json
import os
import struct
import sys

MAX_HEADER = 100_000_000
ELEMENT_SIZE = {"F32": 4, "F16": 2, "BF16": 2}
NO_TIME = -1
MAX_TIME = (1 << 62) - 1


class RepairError(Exception):
    pass


def read_header(file, size):
    """Returns the parsed JSON and the number of bytes before the data."""
    start = file.read(8)
    if len(start) < 8:
        raise RepairError("the file is empty or ends before the header's length")
    (length,) = struct.unpack("<Q", start)
    if not 2 <= length <= MAX_HEADER:
        raise RepairError(f"header length {length}: this is no safetensors file")
    if 8 + length > size:
        raise RepairError("the file ends inside its header; nothing can be saved")
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError) as error:
        raise RepairError(f"the header is no JSON: {error}") from error
    if not isinstance(header, dict):
        raise RepairError("the header is no JSON object")
    check_types(header)
    return header, 8 + length


def check_types(header):
    """Raises RepairError unless everything in the header is of the type it has to be."""
    for name, entry in header.items():
        if not isinstance(entry, dict):
            raise RepairError(f"'{name}' of the header is no JSON object")
        if name == "__metadata__":
            if not all(isinstance(value, str) for value in entry.values()):
                raise RepairError("the metadata are not all strings")
            continue
        offsets, shape = entry.get("data_offsets"), entry.get("shape")
        numbers = [*offsets, *shape] if isinstance(offsets, list) and isinstance(shape, list) else [None]
        if any(type(x) is not int or x < 0 for x in numbers) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise RepairError(f"tensor '{name}' can't be read: shape {shape}, offsets {offsets}")


def frame_size(name, tensor):
    shape = tensor["shape"]
    begin, end = tensor["data_offsets"]
    size = ELEMENT_SIZE.get(tensor.get("dtype"))
    if size is None:
        raise RepairError(f"tensor '{name}' has type {tensor.get('dtype')}, not F32, F16 or BF16")
    if len(shape) != 4 or 0 in shape[1:]:
        raise RepairError(f"tensor '{name}' is {shape}, not [frames, channels, height, width]")
    for x in shape[1:]:
        size *= x
    if end - begin != shape[0] * size:
        raise RepairError(f"tensor '{name}' has offsets that contradict its shape")
    return shape[0], size


def frame_times(metadata, n):
    """Tables at a constant rate; -1 where no rate is known."""
    try:
        rate_n, rate_d = (int(x) for x in metadata.get("dcae.framerate", "0/1").split("/"))
        first = int(metadata.get("dcae.first-pts", "0"))
    except ValueError as error:
        raise RepairError(f"metadata dcae.framerate or dcae.first-pts can't be read: {error}") from error
    if rate_n <= 0 or rate_d <= 0:
        return [NO_TIME] * n, [NO_TIME] * n
    times = [first + i * 1_000_000_000 * rate_d // rate_n for i in range(n + 1)]
    if first < 0 or times[-1] > MAX_TIME:
        raise RepairError("metadata dcae.framerate and dcae.first-pts give times that no clip can have")
    return times[:-1], [b - a for a, b in zip(times, times[1:])]


def plan(header, header_size, size, everything):
    """Returns the new header, the bytes of data to keep and the bytes to append, or None."""
    metadata = header.pop("__metadata__", {})
    name = next((x for x in ("latents", "latent_tensor") if x in header), None)
    if name is None:
        raise RepairError("there is no tensor 'latents'")
    n, one = frame_size(name, header[name])
    tensors = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
    data = size - header_size
    end = max(tensor["data_offsets"][1] for _, tensor in tensors)
    complete = metadata.get("dcae.complete", "true") == "true"
    if complete and data == end:
        return None
    begin = header[name]["data_offsets"][0]
    whole = max(0, data - begin) // one
    frames = whole if everything and not complete else min(n, whole)
    if frames == 0:
        hint = "" if complete or not whole else f"; there are {whole} in the file, try --all"
        raise RepairError(f"its header knows no whole frame{hint}")
    kept = {}
    for key, tensor in tensors:
        if key == name:
            stop = begin + frames * one
            kept[key] = {**tensor, "shape": [frames, *tensor["shape"][1:]], "data_offsets": [begin, stop]}
            if frames != n or not complete:
                break
        elif tensor["data_offsets"][1] <= data:
            kept[key] = tensor
        else:
            break
    stop = max(tensor["data_offsets"][1] for tensor in kept.values())
    tail = b""
    if any(key.startswith("dcae.") for key in metadata) and "pts" not in kept:
        for key, table in zip(("pts", "duration"), frame_times(metadata, frames)):
            if key not in kept:
                at = stop + len(tail)
                kept[key] = {"dtype": "I64", "shape": [frames], "data_offsets": [at, at + 8 * frames]}
                tail += struct.pack(f"<{frames}q", *table)
    if "dcae.complete" in metadata:
        metadata = {**metadata, "dcae.complete": "true"}
    if metadata:
        kept["__metadata__"] = metadata
    return kept, stop, tail, frames, n


def encode(header, room):
    """The header as bytes, as long as before where it fits."""
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    length = max(room - 8, (len(text) + 7) // 8 * 8)
    return struct.pack("<Q", length) + text.ljust(length)


def repair(path, output, everything):
    size = os.path.getsize(path)
    if output and os.path.exists(output) and os.path.samefile(path, output):
        raise RepairError("--output is the clip itself; leave it out to repair in place")
    with open(path, "rb") as file:
        header, header_size = read_header(file, size)
    todo = plan(header, header_size, size, everything)
    if todo is None:
        print(f"{path}: nothing to repair")
        return
    new, stop, tail, frames, n = todo
    start = encode(new, header_size)
    if output:
        with open(path, "rb") as source, open(output, "wb") as target:
            target.write(start)
            source.seek(header_size)
            copy_bytes(source, target, stop)
            target.write(tail)
    elif len(start) != header_size:
        raise RepairError("the new header needs more room than the old one has; use --output")
    else:
        with open(path, "r+b") as file:
            # The header last: until then the file is what it was before.
            file.truncate(header_size + stop)
            file.seek(header_size + stop)
            file.write(tail)
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)
            file.write(start)
    print(f"{output or path}: {frames} frames" + (f" of {n}" if frames < n else ""))


def copy_bytes(source, target, count):
    while count > 0:
        block = source.read(min(count, 1 << 20))
        if not block:
            raise RepairError("the file became shorter while it was read")
        target.write(block)
        count -= len(block)


def main():
    parser = argparse.ArgumentParser(prog="dcae-repair", description=__doc__)
    parser.add_argument("clip", help="the file; repaired in place unless --output is given")
    parser.add_argument("-o", "--output", help="write the repaired clip here and leave the file alone")
    parser.add_argument("-a", "--all", action="store_true",
                        help="for clips that were never finished: count every whole frame in the file, also those "
                             "after the last update of the header (if the writer was killed at its very end, the "
                             "last ones may be time stamps read as latents)")
    arguments = parser.parse_args()
    try:
        repair(arguments.clip, arguments.output, arguments.all)
    except (RepairError, OSError) as error:
        message = str(error) if isinstance(error, OSError) else f"{arguments.clip}: {error}"
        print(f"dcae-repair: {message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
