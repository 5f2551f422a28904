# SPDX-License-Identifier: LGPL-2.1-or-later
"""One 3×3 convolution in a process of its own: layers.py starts it, and common.py says how they talk. The weights are a
layer's of the model, the input is noise, the answer to `save` is the output as [c][h][w]. Only the convolution itself is
timed: weights are prepared, the input is already laid out as the library wants it, memory is reused."""
import argparse
import glob
import os
import tempfile

import numpy as np

from common import machine, serve


def weights(model, layer):
    from safetensors import safe_open

    found = {}
    for path in glob.glob(os.path.join(model, "*.safetensors")):
        with safe_open(path, "np") as file:
            for name in (f"{layer}.weight", f"{layer}.bias"):
                if name in file.keys():
                    found[name] = file.get_tensor(name).astype(np.float32)
    weight = found[f"{layer}.weight"]
    return weight, found.get(f"{layer}.bias", np.zeros(len(weight), np.float32))


def torch_conv(args, weight, bias, data, channels_last=False):
    import torch

    torch.set_num_threads(args.threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    conv = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
    conv.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    conv = conv.to(memory_format=layout)
    x = torch.from_numpy(data)[None].contiguous(memory_format=layout)

    def run():
        with torch.inference_mode():
            return conv(x)[0].numpy()
    return run


class NcnnConv:
    """A net of one layer. The output stays in ncnn's packed layout until it is asked for (__array__)."""

    def __init__(self, args, weight, bias, data):
        import ncnn

        self.ncnn, self.net = ncnn, ncnn.Net()
        self.opt = self.net.opt
        self.opt.num_threads = args.threads
        for name in dir(self.opt):
            if "16" in name or "int8" in name:  # 32-bit numbers in memory and in arithmetic
                setattr(self.opt, name, False)
        self.opt.use_winograd_convolution = self.opt.use_packing_layout = True
        self.opt.blob_allocator, self.opt.workspace_allocator = self.pools = (ncnn.PoolAllocator(), ncnn.PoolAllocator())
        with tempfile.TemporaryDirectory() as folder:
            param, model = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
            with open(param, "w") as file:
                file.write("7767517\n2 2\nInput in 0 1 in\nConvolution conv 1 1 in out "
                           f"0={weight.shape[0]} 1=3 2=1 3=1 4=1 5=1 6={weight.size}\n")
            with open(model, "wb") as file:
                file.write(bytes(4) + weight.tobytes() + bias.tobytes())
            if self.net.load_param(param) or self.net.load_model(model):
                raise RuntimeError("ncnn does not take the layer")
        pack = 16 if "avx512f" in machine()[1] else 8 if "avx2" in machine()[1] else 4
        self.data = ncnn.convert_packing(ncnn.Mat(data).clone(), pack, self.opt)
        self.out = None

    def __call__(self):
        extractor = self.net.create_extractor()
        extractor.input("in", self.data)
        self.out = None  # gives its memory back to the pool
        failed, self.out = extractor.extract("out", 1)  # 1: leave it packed
        if failed:
            raise RuntimeError("ncnn does not run the layer")
        return self

    def __array__(self, dtype=None, copy=None):
        return np.array(self.ncnn.convert_packing(self.out, 1, self.opt))


PEERS = {"ncnn": NcnnConv, "torch": torch_conv, "torch channels last": lambda *args: torch_conv(*args, channels_last=True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("model")
    parser.add_argument("layer")
    parser.add_argument("width", type=int)
    parser.add_argument("height", type=int)
    parser.add_argument("threads", type=int)
    args = parser.parse_args()

    def prepare():
        weight, bias = weights(args.model, args.layer)
        shape = (weight.shape[1], args.height, args.width)
        return PEERS[args.peer](args, weight, bias, np.random.default_rng(3).normal(0, 1, shape).astype(np.float32))
    serve(prepare)


if __name__ == "__main__":
    main()
