# SPDX-License-Identifier: LGPL-2.1-or-later
"""libdcae from Python, through ctypes: just what the benchmark needs. The declarations follow dcae.h."""
import ctypes as c

import numpy as np

ENCODE, DECODE = 0, 1
BACKEND = {"cpu": 1, "cuda": 2}
PRECISION = {"auto": 0, "f32": 1, "bf16": 2, "f16": 3}
TILING = {"auto": 0, "off": 1, "exact": 2, "blend": 3}


class _Error(c.Structure):
    _fields_ = [("domain", c.c_uint32), ("code", c.c_int), ("message", c.c_char_p)]


class _ModelParams(c.Structure):
    _fields_ = [("path", c.c_char_p), ("variant", c.c_char_p), ("config", c.c_char_p), ("hub_cache", c.c_char_p),
                ("hub_only", c.c_int)]


class _ModelInfo(c.Structure):
    _fields_ = [("name", c.c_char_p), ("hash", c.c_char_p), ("ratio", c.c_uint), ("in_channels", c.c_uint),
                ("latent_channels", c.c_uint), ("scaling_factor", c.c_double), ("channel_prefix", c.c_int)]


class _CodecParams(c.Structure):
    _fields_ = [("model", c.c_void_p), ("direction", c.c_int), ("backend", c.c_int), ("device", c.c_int),
                ("cuda_context", c.c_void_p), ("precision", c.c_int), ("threads", c.c_uint), ("max_isa", c.c_int),
                ("cancellable", c.c_void_p), ("progress", c.c_void_p), ("progress_data", c.c_void_p),
                ("timings", c.c_int)]


class _Tiling(c.Structure):
    _fields_ = [("mode", c.c_int), ("tile_width", c.c_uint), ("tile_height", c.c_uint), ("stride_width", c.c_uint),
                ("stride_height", c.c_uint), ("memory_limit", c.c_uint64)]


class _Geometry(c.Structure):
    _fields_ = [("width", c.c_uint), ("height", c.c_uint), ("latent_width", c.c_uint), ("latent_height", c.c_uint),
                ("latent_channels", c.c_uint), ("batch", c.c_uint), ("edge", c.c_int), ("scale", c.c_int),
                ("tiling", _Tiling)]


class _Component(c.Structure):
    _fields_ = [("data", c.c_void_p), ("row_stride", c.c_ssize_t), ("pixel_stride", c.c_ssize_t)]


class _Image(c.Structure):
    _fields_ = [("memory", c.c_int), ("width", c.c_uint), ("height", c.c_uint), ("color", c.c_int),
                ("component", _Component * 4), ("chroma_w_shift", c.c_uint), ("chroma_h_shift", c.c_uint),
                ("kr", c.c_double), ("kb", c.c_double), ("full_range", c.c_int), ("chroma_x", c.c_double),
                ("chroma_y", c.c_double)]


class _Latent(c.Structure):
    _fields_ = [("memory", c.c_int), ("format", c.c_int), ("c", c.c_uint), ("h", c.c_uint), ("w", c.c_uint),
                ("data", c.c_void_p)]


class _OpTiming(c.Structure):
    _fields_ = [("label", c.c_char_p), ("kind", c.c_char_p), ("ms", c.c_double), ("flop", c.c_double)]


class _PlanInfo(c.Structure):
    _fields_ = [("tiling", c.c_int), ("width", c.c_uint), ("height", c.c_uint), ("latent_channels", c.c_uint),
                ("latent_width", c.c_uint), ("latent_height", c.c_uint), ("activation_bytes", c.c_uint64),
                ("weight_bytes", c.c_uint64), ("bands", c.c_uint), ("tiles", c.c_uint),
                ("precision", c.c_int), ("isa", c.c_int), ("threads", c.c_uint)]


class Codec:
    """One direction of one model at one size. run() goes from `image`, u8 [height][width][3], to `latent`, f32 [c][h][w],
    or back, and returns what it wrote."""

    def __init__(self, library, model, direction, width, height, threads, precision="f32", tiling="off",
                 memory_limit=0, backend="cpu"):
        self.lib = c.CDLL(library)
        self.lib.dcae_model_open.restype = self.lib.dcae_codec_new.restype = c.c_void_p
        self.lib.dcae_model_info.restype = c.POINTER(_ModelInfo)
        self.lib.dcae_codec_timings.restype = c.POINTER(_OpTiming)
        self.lib.dcae_codec_plan_info.restype = c.POINTER(_PlanInfo)
        self.direction = direction
        params = _ModelParams(path=model.encode())
        opened = self._call(self.lib.dcae_model_open, c.byref(params))
        info = self.lib.dcae_model_info(c.c_void_p(opened)).contents
        self.latent = np.zeros((info.latent_channels, height // info.ratio, width // info.ratio), np.float32)
        self.image = np.zeros((height, width, 3), np.uint8)
        params = _CodecParams(model=opened, direction=direction, backend=BACKEND[backend], device=0,
                              precision=PRECISION[precision],
                              threads=threads, timings=True)
        self.codec = c.c_void_p(self._call(self.lib.dcae_codec_new, c.byref(params)))
        geometry = _Geometry(width=width, height=height, latent_width=width // info.ratio,
                             latent_height=height // info.ratio,
                             tiling=_Tiling(mode=TILING[tiling], memory_limit=memory_limit))
        self._call(self.lib.dcae_codec_configure, self.codec, c.byref(geometry))

    def timings(self):
        """[label, kind, ms, flop] of every op of the last run."""
        n = c.c_uint()
        ops = self.lib.dcae_codec_timings(self.codec, c.byref(n))
        return [[ops[i].label.decode(), ops[i].kind.decode(), ops[i].ms, ops[i].flop] for i in range(n.value)]

    def plan(self):
        info = self.lib.dcae_codec_plan_info(self.codec).contents
        return {"tiling": next(k for k, v in TILING.items() if v == info.tiling), "bands": info.bands,
                "activation_mib": info.activation_bytes >> 20, "weight_mib": info.weight_bytes >> 20}

    def _call(self, function, *args):
        error = c.POINTER(_Error)()
        result = function(*args, c.byref(error))
        if not result:
            raise RuntimeError(error.contents.message.decode())
        return result

    def run(self):
        height, width, _ = self.image.shape
        image = _Image(width=width, height=height)
        for i in range(3):
            image.component[i] = _Component(self.image.ctypes.data + i, width * 3, 3)
        latent = _Latent(c=self.latent.shape[0], h=self.latent.shape[1], w=self.latent.shape[2],
                         data=self.latent.ctypes.data)
        self._call(self.lib.dcae_codec_run, self.codec, c.byref(image), c.byref(latent), 1)
        return self.latent if self.direction == ENCODE else self.image
