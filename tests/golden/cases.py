# SPDX-License-Identifier: LGPL-2.1-or-later
"""The table of golden models and cases; it says what is covered and holds no code that runs a network.

A stage is written as one word: block type (R ResBlock, E EfficientViTBlock), width, "x" number of blocks and, after a
colon, the kernel sizes of an EfficientViTBlock's extra scales: "R16x2", "E40x1:3,5".
"""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Model:
    """One random AutoencoderDC and how its files are stored."""

    encoder: str  # stages from the picture to the latent
    decoder: str  # stages in the same order; the decoder runs them from the last to the first
    latent: int
    head_dim: int = 16
    down: str = "pixel_unshuffle"
    up: str = "pixel_shuffle"
    norms: object = "rms_norm"  # of the decoder: one for all stages, or a list
    acts: object = "silu"
    conv_act: str = "relu"
    shortcuts: bool = True  # encoder_out_shortcut and decoder_in_shortcut
    scaling: float = 0.5
    layout: str = "diffusers"  # or "original": one file with the keys of the original implementation
    prefix: str = ""  # original layout: a wrapper level before every key
    dtype: str = "f16"  # of the stored weights: f32, f16, bf16, or mixed (changing from tensor to tensor)
    variant: str = ""  # Diffusers layout: the weight file's variant, stored in dtype
    plain_too: bool = False  # beside the variant there is a plain f32 file, which must not be read instead
    shard: int = 0  # Diffusers layout: largest size of a shard in bytes; 0 is one file
    sparse_config: bool = False  # config.json leaves out what equals the default and has unknown keys


@dataclass(frozen=True)
class Case:
    """One picture size and setting, run with a model. Without a model, the one of the case's own name."""

    name: str
    width: int
    height: int
    model: str = ""  # the name of the case whose model files are used; empty: this case's own
    frames: int = 1
    edge: str = "extend"  # what to do with sizes that are no multiple of the ratio: extend, zero, crop
    tile: tuple = field(default=())  # blend tiling: tile width, tile height, stride width, stride height in pixels
    slicing: bool = False
    channels: int = 0  # use the first latent channels alone; 0 is all


SANA = "R4x1 R8x1 R8x1 E16x1:5 E16x1:5 E16x1:5"
IN32 = "R8x0 R8x1 R8x2 E16x1 E16x1 E16x1"
IN64 = "R8x0 R8x1 R8x1 E16x1 E16x1 E16x1 E16x1"
IN128 = "R8x0 R8x1 R8x1 E16x1 E16x1 E16x1 E16x1 E32x1"
SMALL = "R4x1 R8x1 E16x1:5"


def like_in(stages):
    """The decoder settings of the "in" and "mix" models: batch_norm and relu in the first three stages."""
    return dict(norms=["batch_norm"] * 3 + ["rms_norm"] * (stages - 3), acts=["relu"] * 3 + ["silu"] * (stages - 3))


MODELS = {
    # Every way to change size: convolution or shuffle down, interpolation or shuffle up, group sizes 1 to 4.
    "res-conv-interpolate": Model("R12x1 R16x2 R16x1 R32x1", "R12x1 R24x1 R12x2 R24x1", 8, down="conv", up="interpolate"),
    "res-shuffle": Model("R12x1 R24x1 R12x2 R24x1", "R6x2 R24x1 R12x1 R24x1", 8, conv_act="silu"),
    "conv-shuffle": Model("R10x1 R20x1 R40x1", "R5x1 R20x1 R20x1", 20, down="conv", conv_act="gelu"),
    "unshuffle-interpolate": Model("R8x1 R32x1 R32x1", "R6x1 R12x1 R24x1", 8, up="interpolate", conv_act="mish"),
    # No layers in the first stage, the last stage, or either; a single stage.
    "first-empty-conv": Model("R8x0 R16x1 R32x1", "R8x0 R24x1 R24x1", 8, down="conv", up="interpolate"),
    "first-empty-original": Model("R8x0 R16x1 R32x1", "R8x0 R24x1 R24x1", 8, down="conv", layout="original"),
    "last-empty": Model("R8x1 R16x1 E32x0", "R8x1 E16x1 R64x0", 16, down="conv"),
    "both-empty": Model("R4x0 R24x1 R48x0", "R4x0 R24x1 R24x0", 24),
    "two-stages-no-blocks": Model("R4x0 R12x0", "R4x0 R20x0", 4, dtype="f32"),
    "single-stage": Model("R12x2", "E24x1:3", 4, head_dim=8, dtype="f32"),
    # The released models' shapes, narrow.
    "f32-sana": Model(SANA, SANA, 8, down="conv", up="interpolate", scaling=0.41407),
    "f32-sana-original": Model(SANA, SANA, 8, down="conv", up="interpolate", layout="original"),
    "f32-in": Model(IN32, IN32, 8, scaling=0.3189, **like_in(6)),
    "f64-in-original": Model(IN64, IN64, 16, layout="original", prefix="state_dict.", **like_in(7)),
    "f128-in": Model(IN128, IN128, 32, **like_in(8)),
    "f32-lite-original": Model(SANA, "R8x0 R8x1 R16x2 R16x1 R16x1 R16x1", 8, down="conv", conv_act="silu",
                               layout="original", prefix="module."),
    "f32-no-shortcut": Model("R8x0 R12x1 R12x1 R12x1 R24x1 R24x1", "R8x0 R12x1 R12x1 R12x1 R24x1 R24x1", 10,
                             conv_act="silu", shortcuts=False, scaling=1.0),
    "f16-no-shortcut-original": Model("R8x0 R12x1 R12x1 R12x1 R24x1", "R8x0 R12x1 R12x1 R12x1 R24x1", 12, conv_act="silu",
                                      shortcuts=False, layout="original"),
    # Attention: scales, head sizes that do and do not divide the width, norms.
    "two-kernels": Model("R10x1 R20x1 E40x1:3,5", "E20x1:5,3 R20x1 E20x1", 10, down="conv"),
    "two-kernels-original": Model("R6x1 R12x1 E24x1:3,5", "R6x1 E12x1:7 E24x1:3,5", 8, head_dim=8, down="conv",
                                  layout="original", prefix="model."),
    "kernels-1-3-7": Model("R6x1 E24x1:1,3,7", "E24x1:7,1,3 E24x1", 4, head_dim=8),
    "head-8": Model("R6x1 R12x1 E24x2", "R12x1 E24x1:3 E48x1:5", 8, head_dim=8, down="conv", up="interpolate"),
    "head-12-of-40": Model("E20x1 E40x1:5", "E20x1:5 E40x1:3", 10, head_dim=12),
    "batchnorm": Model("R8x1 R16x1 E32x1:5", "R12x1 E24x1:3 E32x1:5", 8, norms="batch_norm", acts=["relu", "silu", "gelu"]),
    "batchnorm-original": Model("R4x1 R16x1 E32x1:5", "R12x2 E24x1 E24x1:5", 8, norms=["batch_norm", "batch_norm", "rms_norm"],
                                acts=["mish", "silu", "silu"], layout="original", up="interpolate"),
    # Activations of the decoder, names in any case, null for none.
    "activations": Model("R4x1 R8x1 R16x1 R16x1 R16x1", "R12x1 R12x1 R12x1 R12x1 R12x1", 4, conv_act="SiLU",
                         acts=["gelu", "Mish", "ReLU", "swish", None]),
    "identity": Model("R8x1 R16x1", "R8x2 R16x1", 4, acts=[None, "gelu"], norms=["batch_norm", "rms_norm"], conv_act="swish",
                      dtype="f32"),
    # Wide layers.
    "wide-128": Model("R32x1 E128x1:5", "R16x1 R64x1", 16, head_dim=32, down="conv", up="interpolate"),
    "wide-72": Model("R72x1 R144x0", "R72x1 R72x1", 8),
    "wide-72-conv": Model("R72x1 R96x0", "R8x1 R8x1", 8, down="conv"),
    "wide-160": Model("R40x1 R160x0", "R40x1 R160x0", 16, up="interpolate", dtype="bf16"),
    # Files: variants, shards, mixed types, a configuration that leaves out the defaults.
    "variant-fp16": Model(SMALL, SMALL, 8, variant="fp16"),
    "variant-beside-plain": Model(SMALL, SMALL, 8, variant="fp16", plain_too=True),
    "shards": Model(SMALL, SMALL, 8, shard=30_000, dtype="f32"),
    "shards-bf16": Model(SMALL, SMALL, 8, shard=20_000, dtype="bf16", variant="bf16"),
    "mixed-dtypes": Model("R8x1 R16x1 E32x1:5", "R8x1 R16x1 E16x1:3", 8, dtype="mixed"),
    "mixed-original": Model(SMALL, SMALL, 4, dtype="mixed", layout="original"),
    "sparse-config": Model("R8x1 R16x1 R32x1", "R8x1 R16x1 R32x1", 32, head_dim=32, scaling=1.0, sparse_config=True),
    # For tiling: attention whose border tiles fall below the quadratic threshold.
    "tiling": Model("R8x1 R8x1 R16x1 E32x1:3", "R8x1 R8x1 R16x1 E32x1:3", 8),
}

CASES = [
    Case("res-conv-interpolate", 40, 72),
    Case("res-shuffle", 40, 24, frames=2),
    Case("conv-shuffle", 52, 44),
    Case("unshuffle-interpolate", 76, 36),
    Case("first-empty-conv", 44, 60),
    Case("first-empty-original", 28, 44),
    Case("last-empty", 68, 28),
    Case("both-empty", 36, 52),
    Case("two-stages-no-blocks", 34, 46),
    Case("single-stage", 37, 29),
    Case("smallest-single-stage", 1, 1, model="single-stage"),
    Case("f32-sana", 64, 96),
    Case("f32-sana-original", 96, 32),
    Case("f32-in", 32, 64),
    Case("f32-in-smallest", 32, 32, model="f32-in"),
    Case("f64-in-original", 128, 64),
    Case("f128-in", 256, 128),
    Case("f32-lite-original", 64, 32),
    Case("f32-no-shortcut", 64, 64),
    Case("f32-no-shortcut-3-channels", 64, 32, model="f32-no-shortcut", channels=3),
    Case("f16-no-shortcut-original", 80, 48, channels=8),
    Case("two-kernels", 68, 52),
    Case("two-kernels-original", 76, 44),
    Case("kernels-1-3-7", 38, 26),
    Case("head-8", 76, 44),
    Case("head-8-at-threshold", 16, 8, model="head-8"),  # 4 × 2 latents are not more than the head's 8: quadratic
    Case("head-8-above-threshold", 12, 12, model="head-8"),  # 3 × 3 latents: linear
    Case("head-8-row", 132, 4, model="head-8"),
    Case("head-8-column", 4, 132, model="head-8"),
    Case("head-12-of-40", 50, 34),
    Case("batchnorm", 60, 52),
    Case("batchnorm-original", 28, 36, frames=2),
    Case("activations", 64, 80),
    Case("identity", 42, 30),
    Case("wide-128", 38, 34),
    Case("wide-72", 34, 30),
    Case("wide-72-conv", 38, 26),
    Case("wide-160", 34, 42),
    Case("variant-fp16", 20, 36),
    Case("variant-beside-plain", 36, 44),
    Case("shards", 44, 36),
    Case("shards-bf16", 36, 36),
    Case("mixed-dtypes", 60, 28),
    Case("mixed-original", 20, 28),
    Case("sparse-config", 36, 60),
    # Sizes that are no multiple of the ratio, without tiling: the picture is padded or cut before the reference sees it.
    Case("edge-extend", 45, 37, model="tiling"),
    Case("edge-extend-below-ratio", 5, 3, model="tiling"),
    Case("edge-zero", 45, 37, model="tiling", edge="zero"),
    Case("edge-crop", 45, 39, model="tiling", edge="crop"),
    # The reference's tiling.
    Case("tiling", 104, 88, tile=(64, 64, 48, 48)),
    Case("tiling-non-square", 88, 56, model="tiling", tile=(64, 32, 40, 24)),
    Case("tiling-short-border", 72, 72, model="tiling", tile=(64, 64, 32, 32)),  # the last tile is 1 latent, the blend 4
    Case("tiling-no-overlap", 72, 56, model="tiling", tile=(32, 32, 32, 32)),
    Case("tiling-wide-overlap", 72, 64, model="tiling", tile=(48, 48, 8, 16)),
    Case("tiling-one-direction", 136, 40, model="tiling", tile=(64, 64, 48, 48)),
    Case("tiling-not-needed", 64, 48, model="tiling", tile=(64, 64, 48, 48)),
    Case("tiling-crop", 101, 53, model="tiling", edge="crop", tile=(64, 48, 48, 32)),
    Case("tiling-crop-to-tile", 69, 66, model="tiling", edge="crop", tile=(64, 64, 48, 56)),  # 8 × 8 latents decode untiled
    Case("tiling-crop-thin-border", 65, 75, model="tiling", edge="crop", tile=(40, 40, 32, 24)),
    Case("tiling-extend", 69, 59, model="tiling", tile=(48, 48, 40, 32)),
    Case("tiling-zero", 69, 59, model="tiling", edge="zero", tile=(48, 48, 40, 32)),
    Case("tiling-slicing", 48, 40, model="tiling", frames=3, tile=(32, 32, 24, 16), slicing=True),
    Case("tiling-batch", 56, 40, model="tiling", frames=2, tile=(48, 48, 32, 40)),
    Case("slicing", 20, 28, model="shards", frames=2, slicing=True),
    Case("tiling-f32", 96, 96, model="f32-sana", tile=(64, 64, 32, 32)),
    Case("tiling-interpolate", 64, 56, model="res-conv-interpolate", tile=(48, 40, 40, 32)),
    Case("tiling-batchnorm", 52, 44, model="batchnorm", tile=(32, 24, 24, 16)),
]
