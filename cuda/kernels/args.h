/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * args.h - what kernels get, shared by host and device: one struct per kernel, passed by value, and
 * the sizes that both sides must agree on. Strides are in elements of the module's type unless a
 * field says otherwise.
 */
#ifndef DCAE_KERNEL_ARGS_H
#define DCAE_KERNEL_ARGS_H

#ifdef __CUDACC__
typedef void *DcaePointer;
#else
#include <stdint.h>
typedef uint64_t DcaePointer;
#endif

/* Tile of the convolution kernels: product pixels, columns of the product, length of a step. f32
 * runs on plain multiply-adds, the 16-bit types on tensor cores. */
#define DCAE_F32_TILE_M 64
#define DCAE_F32_TILE_N 64
#define DCAE_F32_STEP 16
#define DCAE_F32_THREADS 128
#define DCAE_MMA_TILE_M 128
#define DCAE_MMA_TILE_N 128
#define DCAE_MMA_STEP 32
#define DCAE_MMA_THREADS 128
#define DCAE_MMA_STAGES 4
#define DCAE_WIDE_TILE_N 256
#define DCAE_WIDE_THREADS 256
#define DCAE_WIDE_STAGES 3
/* Of CONV_ADD, which has DCAE_MMA_TILE_N columns and DCAE_MMA_THREADS: each thread adds one group
 * of four columns, so that the few pixels of a split product make many blocks. */
#define DCAE_ADD_TILE_M 4
/* CONV_WIDE with the norm of all columns: so many fit the registers of a warp. */
#define DCAE_ALL_COLUMNS 512
/* CONV_FEW, of convolutions without activation: output pixels of a block, most channels in and out,
 * columns (taps × channels out). */
#define DCAE_FEW_W 30
#define DCAE_FEW_H 6
#define DCAE_FEW_IN 128
#define DCAE_FEW_OUT 3
#define DCAE_FEW_COLUMNS 32
/* Floats that a row of the finished tile in shared memory is longer than its columns: four rows of
 * eight columns, which half a warp writes, lie on different banks. */
#define DCAE_TILE_PAD 8

#define DCAE_THREADS 256      /* of a block of the other kernels */
#define DCAE_DWCONV_PIXELS 4  /* of a thread of DWCONV, side by side */
#define DCAE_GROUPED_PIXELS 8 /* of a thread of GROUPED_LINEAR, side by side */
#define DCAE_ATTN_TILE 32     /* channels of a head, in each direction, that a block takes */
#define DCAE_ATTN_PIXELS 128  /* of a block of ATTN_APPLY */
#define DCAE_MAX_HEAD_DIM 128

/* Rows of a value. Channel 0 of the op at pixel (y, x) of image n of the batch is
 * data[n * image_stride + (y - row0) * row_stride + x * pixel_stride].
 *
 * low: in bf16 some values are sums of two numbers, the rounded value and what rounding took off
 * it, which lies `low` elements behind it; 0: there is none. DCAE_LOW_PACKED: up to four channels,
 * and the pixel's 16 elements are value, rest, value again and zeros. */
typedef struct {
    DcaePointer data; /* 0: absent */
    long long row_stride, image_stride;
    int pixel_stride, row0, h, w, low;
} DcaeKernelRows;

#define DCAE_LOW_PACKED 4
/* Elements of a pixel of a value of three channels, in every precision. */
#define DCAE_PICTURE_C 16

/* How product pixels become output pixels. */
enum {
    DCAE_PLACE_PLAIN,
    DCAE_PLACE_NEAREST, /* four products, one for each parity of the output pixel */
    DCAE_PLACE_DOWN,    /* pixel-unshuffle; four product pixels of a square lie side by side */
    DCAE_PLACE_UP,      /* pixel-shuffle; columns are grouped by output pixel */
};

/* RMSNORM, and the norm of convolutions whose channels don't fit a tile: out = act(norm(in)) +
 * residual; out may be in. */
typedef struct {
    DcaeKernelRows in, out, residual;
    DcaePointer weight, bias;
    int y0, y1, c, store_c, act; /* store_c: a multiple of 4 */
    int lanes; /* threads that make a pixel: a power of two from 32 to DCAE_THREADS */
} DcaeKernelNorm;

/* CONV and LINEAR: out = norm(act(product + bias) + shortcut) + residual. */
typedef struct {
    DcaeKernelRows in, out, residual;
    DcaePointer weight; /* f32: [phase][k][columns]; 16 bit: [phase][columns][k] */
    DcaePointer bias, norm_weight, norm_bias; /* f32, padded with zeros to columns; norm_*: 0 where
                                                 there is no norm */
    int k; /* length of the product: taps² pixels of in_padded channels, rounded up to a step */
    int columns;   /* of the product, padded to a tile */
    int in_padded; /* channels of an input pixel, padded to 16; three times those where the product
                      takes value · weight, rest · weight and value · rest of the weight */
    int in_wrap;   /* from this channel on they are the pixel's first again */
    int taps;      /* in one direction: 1, 2 or 3 */
    int stride, place;
    int y0, y1;        /* output rows */
    int products;      /* product pixels of a phase, at most */
    int product_w;     /* per row of products; DOWN: squares */
    int in_c, out_c;   /* of the layer */
    int up_c;          /* UP: columns of one output pixel */
    int store_c;       /* channels of an output pixel that are written; those from out_c on are 0 */
    int act, shortcut; /* DcaeAct, DcaeShortcut */

    /* Of few tiles each product is made in `splits` parts, by blocks of their own; CONV_ADD adds
     * them in order and finishes the tiles. partial: f32 [image · phase][split][product pixels in
     * whole tiles][columns]. */
    int splits;
    DcaePointer partial; /* 0 where splits is 1 */
    int filled; /* columns that are more than padding, in eights: the others have no parts */

    /* CONV_WIDE of up to DCAE_ALL_COLUMNS columns: a block makes all tiles of its pixels and then
     * this norm of them, whose values it has just written. out.data is 0 where there is none. */
    DcaeKernelNorm after;

    /* CONV_FEW: norm_weight and norm_bias are those of an RMSNORM of the input, with or without
     * ReLU, that is made while the input is read. */
    int norm_relu;
} DcaeKernelConv;

typedef struct {
    DcaeKernelRows in, out;
    DcaePointer weight, bias; /* f32 [taps][conv_c], [conv_c] or 0 */
    int ksize, gate;
    int y0, y1, c, store_c; /* c: output channels */
} DcaeKernelDwconv;

typedef struct {
    DcaeKernelRows in, out;
    DcaePointer weight; /* f32 [group][input][output] */
    int inputs, outputs;
    int y0, y1, c, store_c;
} DcaeKernelGrouped;

/* ATTN_SUM adds rows in chunks of chunk_rows, each into its own partial state; ATTN_ADD adds those
 * to the state in order. Both work on one image. */
typedef struct {
    DcaeKernelRows in;
    DcaePointer partial; /* f32 [chunk][head][head_dim + 1][head_dim] */
    DcaePointer state;   /* f32 [head][head_dim + 1][head_dim] */
    int y0, y1, chunk_rows, chunks, heads, head_dim;
} DcaeKernelAttnSum;

typedef struct {
    DcaeKernelRows in, out;
    DcaePointer state;
    long long state_stride; /* floats from image to image */
    int y0, y1, heads, head_dim, store_c;
} DcaeKernelAttnApply;

typedef struct {
    DcaeKernelRows out, above, left;
    int y0, y1, c, blend_h, blend_w; /* blend_*: 0 where there is no tile on that side */
} DcaeKernelBlend;

/* A component of a picture; strides in bytes. */
typedef struct {
    DcaePointer data;
    long long row_stride, pixel_stride;
} DcaeKernelComponent;

typedef struct {
    DcaeKernelComponent component[4];
    int w, h, color, w_shift, h_shift, full_range; /* color: DcaeColorModel */
    float kr, kb, chroma_x, chroma_y;
} DcaeKernelImage;

/* PIXELS_IN and PIXELS_OUT of one image, of three channels. */
typedef struct {
    DcaeKernelImage image;
    DcaeKernelRows rows;
    DcaePointer not_finite; /* PIXELS_OUT: an int that becomes 1 where a value is NaN or infinite */
    int frame_x, frame_y, frame_w, frame_h, out_w, out_h, pad;
    int y0, y1;
} DcaeKernelPixels;

/* LATENT_IN and LATENT_OUT of one image. */
typedef struct {
    DcaeKernelRows rows;
    DcaePointer latent, not_finite;
    float scale;
    int format, latent_c, latent_h, latent_w; /* format: DcaeLatentFormat */
    int frame_x, frame_y, out_w, out_h;
    int y0, y1, c, store_c;
} DcaeKernelLatent;

#endif
