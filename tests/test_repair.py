#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# test_repair.py - dcae-repair makes whole safetensors files of cut clips and
# leaves all others alone. Runs the tool as users do: test_repair.py TOOL.
import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

TOOL = sys.argv.pop(1)
FRAME = 2 * 3 * 4 * 2
ROOM = 1024


def clip(frames, complete="false", counted=None, metadata=None, tables=False, room=ROOM):
    counted = frames if counted is None else counted
    header = {"latents": {"dtype": "F16", "shape": [counted, 2, 3, 4], "data_offsets": [0, counted * FRAME]}}
    data = bytes(i // FRAME % 256 for i in range(frames * FRAME))
    if tables:
        for name in ("pts", "duration"):
            header[name] = {"dtype": "I64", "shape": [frames], "data_offsets": [len(data), len(data) + 8 * frames]}
            data += struct.pack(f"<{frames}q", *range(frames))
    if metadata is not None:
        header["__metadata__"] = {"dcae.complete": complete, **metadata}
    text = json.dumps(header).encode()
    return struct.pack("<Q", room - 8) + text.ljust(room - 8) + data


class Repair(unittest.TestCase):
    def run_tool(self, data, *arguments):
        self.path = os.path.join(self.dir.name, "clip.safetensors")
        with open(self.path, "wb") as file:
            file.write(data)
        return subprocess.run([sys.executable, TOOL, self.path, *arguments], capture_output=True, text=True)

    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def check(self, frames, path=None):
        """A file that a strict reader takes: no holes, no trailing bytes."""
        with open(path or self.path, "rb") as file:
            data = file.read()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8:8 + length])
        metadata = header.pop("__metadata__", {})
        at = 0
        for _, tensor in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            self.assertEqual(tensor["data_offsets"][0], at)
            at = tensor["data_offsets"][1]
        self.assertEqual(8 + length + at, len(data))
        self.assertEqual(header["latents"]["shape"], [frames, 2, 3, 4])
        for i in range(frames):
            self.assertEqual(data[8 + length + i * FRAME], i % 256)
        tables = {}
        for name in ("pts", "duration"):
            if name in header:
                begin, end = header[name]["data_offsets"]
                tables[name] = list(struct.unpack(f"<{frames}q", data[8 + length + begin:8 + length + end]))
        return metadata, tables

    def test_unfinished(self):
        metadata = {"dcae.framerate": "10/1", "dcae.first-pts": "7"}
        result = self.run_tool(clip(5, counted=3, metadata=metadata)[:-5])
        self.assertEqual(result.returncode, 0, result.stderr)
        metadata, tables = self.check(3)
        self.assertEqual(metadata["dcae.complete"], "true")
        self.assertEqual(tables["pts"], [7, 100000007, 200000007])
        self.assertEqual(tables["duration"], [100000000] * 3)
        result = subprocess.run([sys.executable, TOOL, self.path], capture_output=True, text=True)
        self.assertIn("nothing to repair", result.stdout)

    def test_all(self):
        result = self.run_tool(clip(5, counted=0, metadata={})[:-5])
        self.assertEqual(result.returncode, 1)
        self.assertIn("try --all", result.stderr)
        result = self.run_tool(clip(5, counted=0, metadata={})[:-5], "--all")
        self.assertEqual(result.returncode, 0, result.stderr)
        _, tables = self.check(4)
        self.assertEqual(tables["pts"], [-1] * 4)

    def test_cut_everywhere(self):
        for plain in (True, False):
            whole = clip(4, complete="true", metadata=None if plain else {}, tables=True)
            for size in (*range(0, ROOM, 211), *range(ROOM, len(whole), 13)):
                result = self.run_tool(whole[:size])
                frames = min(4, (size - ROOM) // FRAME) if size > ROOM else 0
                self.assertEqual(result.returncode, 0 if frames else 1, result.stderr)
                if frames:
                    self.check(frames)
                else:
                    self.assertTrue(result.stderr.startswith("dcae-repair: "), result.stderr)

    def test_output(self):
        data = clip(4, metadata={}, room=len(clip(4, metadata={}, room=300).split(b"}}")[0]) + 8)
        other = os.path.join(self.dir.name, "other.safetensors")
        result = self.run_tool(data)
        self.assertEqual(result.returncode, 1)
        self.assertIn("use --output", result.stderr)
        result = self.run_tool(data, "--output", other)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.check(4, other)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), data)
        result = self.run_tool(data, "--output", self.path)
        self.assertEqual(result.returncode, 1)
        self.assertIn("the clip itself", result.stderr)
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), data)

    @staticmethod
    def entry(shape="[9,1,1,1]", offsets="[0,36]", metadata='{"dcae.complete":"false"}'):
        return (f'{{"latents":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}},'
                f'"__metadata__":{metadata}}}').encode()

    def test_other_files(self):
        def header(text):
            return struct.pack("<Q", len(text)) + text + bytes(20)

        for data in (b"", b"1234", b"\xff" * 100, struct.pack("<Q", 4) + b"nope", struct.pack("<Q", 4) + b"[1] ",
                     struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 16) + b'{"latents": 3}  ',
                     clip(1)[:-1].replace(b"}}", b'},"x":3}'), header(b'{"latents":' * 20000),
                     header(self.entry(offsets='["0",4]')), header(self.entry(offsets="[4]")),
                     header(self.entry(offsets="[4,0]")), header(self.entry(shape="[1,1,1]")),
                     header(self.entry(shape="3")), header(self.entry(shape="[true,1,1,1]")),
                     header(self.entry(metadata="3")), header(self.entry(metadata='{"dcae.framerate":3}')),
                     header(self.entry(metadata='{"dcae.framerate":"1/9223372036854775807"}'))):
            result = self.run_tool(data)
            self.assertEqual(result.returncode, 1)
            self.assertNotIn("Traceback", result.stderr)
            with open(self.path, "rb") as file:
                self.assertEqual(file.read(), data)


if __name__ == "__main__":
    unittest.main()
