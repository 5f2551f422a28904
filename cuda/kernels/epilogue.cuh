/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * epilogue.cuh - what a convolution does with a finished tile of products in shared memory: bias,
 * activation, shuffle, shortcut, RMSNorm, residual, store. Threads take four neighbouring output
 * channels at a time. Knows nothing of how products are made; conv.cu includes it.
 */
#ifndef DCAE_EPILOGUE_CUH
#define DCAE_EPILOGUE_CUH

#include "common.cuh"

/* A finished tile: value (m, n) is data[m * row + n]. */
typedef struct {
    const float *data;
    int row;          /* floats */
    int m0, n0;       /* first product pixel, first column */
    int image, phase; /* phase: parity of the output pixel, 2·dy + dx */
} Tile;

typedef struct {
    int y, x;
} Place;

/* Output row parity dy of the phase: the first such row from y0 on, halved. */
INLINE int phase_row0(const DcaeKernelConv &p, int phase)
{
    const int dy = phase >> 1;
    return (p.y0 + ((p.y0 ^ dy) & 1)) >> 1;
}

/* Product pixels that there really are. */
INLINE int product_count(const DcaeKernelConv &p, int phase)
{
    if (p.place != DCAE_PLACE_NEAREST)
        return p.products;
    const int dy = phase >> 1, first = p.y0 + ((p.y0 ^ dy) & 1);
    return first < p.y1 ? (p.y1 - first + 1) / 2 * p.product_w : 0;
}

/* Square of product pixels, of DOWN: the output pixel. */
INLINE Place square_place(const DcaeKernelConv &p, int square)
{
    const int row = square / p.product_w;
    Place at;
    at.y = p.y0 + row;
    at.x = square - row * p.product_w;
    return at;
}

/* Product pixel m on the grid of products (NEAREST: of its phase), where it isn't DOWN. */
INLINE Place product_place(const DcaeKernelConv &p, int phase, int m)
{
    const int row = m / p.product_w;
    Place at;
    at.x = m - row * p.product_w;
    at.y = row + (p.place == DCAE_PLACE_NEAREST ? phase_row0(p, phase)
                  : p.place == DCAE_PLACE_UP    ? p.y0 / 2
                                                : p.y0);
    return at;
}

/* ---- shortcuts: adds that of channels c to c + 3 of output pixel `at` to v */

INLINE float shortcut_one(const DcaeKernelConv &p, int image, Place at, int c)
{
    const int in_c = p.in_c, out_c = p.out_c;
    float sum = 0.0f;
    if (p.shortcut == SHORTCUT_MEAN) {
        const element *in = pixel_at(p.in, image, at.y, at.x);
        const int group = in_c / out_c;
        __builtin_assume(group > 0);
        for (int i = 0; i < group; i++)
            sum += load_one(p.in, in + c * group + i);
        return sum / (float)group;
    }
    if (p.shortcut == SHORTCUT_REPEAT)
        return load_one(p.in, pixel_at(p.in, image, at.y, at.x) + c / (out_c / in_c));
    if (p.shortcut == SHORTCUT_DOWN_MEAN) {
        const int group = 4 * in_c / out_c;
        __builtin_assume(group > 0);
        for (int i = 0; i < group; i++) {
            const int u = c * group + i;
            sum += load_one(p.in, pixel_at(p.in, image, 2 * at.y + (u >> 1 & 1), 2 * at.x + (u & 1)) +
                                      (u >> 2));
        }
        return sum / (float)group;
    }
    const int repeat = 4 * out_c / in_c;
    return load_one(p.in, pixel_at(p.in, image, at.y >> 1, at.x >> 1) +
                              (4 * c + 2 * (at.y & 1) + (at.x & 1)) / repeat);
}

INLINE void add_shortcut(const DcaeKernelConv &p, int image, Place at, int c, float v[4])
{
    if (p.shortcut == SHORTCUT_NONE)
        return;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (c + i < p.out_c)
            v[i] += shortcut_one(p, image, at, c + i);
}

/* ---- four channels of an output pixel */

INLINE void add_bias(const DcaeKernelConv &p, int column, float v[4])
{
    const float4 b = *(const float4 *)((const float *)p.bias + column);
    v[0] = activate(p.act, v[0] + b.x);
    v[1] = activate(p.act, v[1] + b.y);
    v[2] = activate(p.act, v[2] + b.z);
    v[3] = activate(p.act, v[3] + b.w);
}

/* Adds the residual and stores, where c is one of store_c channels. Those from out_c on are padding
 * and get 0. packed: whether the value may be. */
INLINE void store_channels(const DcaeKernelConv &p, int image, Place at, int c, float v[4],
                           bool packed)
{
    element *out = pixel_at(p.out, image, at.y, at.x) + c;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (c + i >= p.out_c)
            v[i] = 0.0f;
    if (p.residual.data) {
        const element *residual = pixel_at(p.residual, image, at.y, at.x) + c;
        float r[4];
        if (c + 4 <= p.out_c) {
            load_four(p.residual, residual, r);
#pragma unroll
            for (int i = 0; i < 4; i++)
                v[i] += r[i];
        } else {
#pragma unroll
            for (int i = 0; i < 3; i++)
                if (c + i < p.out_c)
                    v[i] += load_one(p.residual, residual + i);
        }
    }
    if (c + 4 <= p.store_c) {
        store_four(p.out, out, v, packed);
        return;
    }
#pragma unroll
    for (int i = 0; i < 3; i++)
        if (i == 0 || c + i < p.store_c)
            store_one(p.out, out + i, v[i], packed);
}

/* ---- tiles */

/* Squares of four product pixels become 4·n channels of one output pixel. */
INLINE void finish_down(const DcaeKernelConv &p, const Tile &t, int tile_m, int tile_n, int threads)
{
#pragma unroll 1
    for (int round = 0; round < tile_m / 4 * tile_n / threads; round++) {
        const int i = round * threads + (int)threadIdx.x;
        const int square = i / tile_n, n = i % tile_n, m = t.m0 + 4 * square, c = 4 * (t.n0 + n);
        const float *in = t.data + 4 * square * t.row + n;
        if (m >= p.products || c >= p.store_c)
            continue;
        const Place at = square_place(p, m / 4);
        const float b = ((const float *)p.bias)[t.n0 + n];
        float v[4];
#pragma unroll
        for (int k = 0; k < 4; k++)
            v[k] = activate(p.act, in[k * t.row] + b);
        add_shortcut(p, t.image, at, c, v);
        store_channels(p, t.image, at, c, v, true);
    }
}

/* Norm of a pixel whose channels are spread over `lanes` neighbouring lanes, each of which has
 * `groups` groups of four, 4·lanes channels apart. c: of the first group. */
INLINE void norm_channels(const DcaeKernelConv &p, int lanes, int groups, int c, float v[][4])
{
    float sum = 0.0f;
#pragma unroll
    for (int g = 0; g < groups; g++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            sum = fmaf(v[g][i], v[g][i], sum);
    const float scale = 1.0f / sqrtf(lanes_sum(sum, lanes) / (float)p.out_c + NORM_EPS);
#pragma unroll
    for (int g = 0; g < groups; g++) {
        const int at = c + g * 4 * lanes;
        const float4 w = *(const float4 *)((const float *)p.norm_weight + at);
        const float4 b = *(const float4 *)((const float *)p.norm_bias + at);
        v[g][0] = fmaf(v[g][0] * scale, w.x, b.x);
        v[g][1] = fmaf(v[g][1] * scale, w.y, b.y);
        v[g][2] = fmaf(v[g][2] * scale, w.z, b.z);
        v[g][3] = fmaf(v[g][3] * scale, w.w, b.w);
    }
}

#define MAX_GROUPS 2

/* Finishes tile_m pixels of tile_n columns. Every lane goes through every round, since the norm is
 * a sum over lanes. norm: whether there may be one. */
INLINE void finish_tile(const DcaeKernelConv &p, const Tile &t, int tile_m, int tile_n, int threads,
                        bool norm)
{
    const int groups = tile_n > 128 ? MAX_GROUPS : 1, lanes = tile_n / 4 / groups;
    const int count = product_count(p, t.phase), n = (int)threadIdx.x % lanes * 4;
    if (p.place == DCAE_PLACE_DOWN) {
        finish_down(p, t, tile_m, tile_n, threads);
        return;
    }
#pragma unroll 1
    for (int round = 0; round < tile_m * lanes / threads; round++) {
        const int i = round * (threads / lanes) + (int)threadIdx.x / lanes, m = t.m0 + i;
        const Place product = product_place(p, t.phase, m < count ? m : 0);
        Place at[MAX_GROUPS];
        float v[MAX_GROUPS][4];
        int c[MAX_GROUPS];
        bool inside[MAX_GROUPS];
#pragma unroll
        for (int g = 0; g < groups; g++) {
            const int column = t.n0 + n + g * 4 * lanes;
            const float4 x = *(const float4 *)(t.data + i * t.row + n + g * 4 * lanes);
            int square = 0;
            at[g] = product;
            c[g] = column;
            if (p.place == DCAE_PLACE_NEAREST) {
                at[g].y = 2 * product.y + (t.phase >> 1);
                at[g].x = 2 * product.x + (t.phase & 1);
            } else if (p.place == DCAE_PLACE_UP) {
                square = column / p.up_c;
                c[g] = column - square * p.up_c;
                at[g].y = 2 * product.y + (square >> 1);
                at[g].x = 2 * product.x + (square & 1);
            }
            inside[g] = m < count && c[g] < p.store_c && square < 4;
            v[g][0] = x.x, v[g][1] = x.y, v[g][2] = x.z, v[g][3] = x.w;
            add_bias(p, column, v[g]);
            if (inside[g])
                add_shortcut(p, t.image, at[g], c[g], v[g]);
        }
        if (norm && p.norm_weight)
            norm_channels(p, lanes, groups, c[0], v);
#pragma unroll
        for (int g = 0; g < groups; g++)
            if (inside[g]) /* a packed value has but few channels */
                store_channels(p, t.image, at[g], c[g], v[g], g == 0);
    }
}

#endif
