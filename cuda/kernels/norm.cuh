/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * norm.cuh - RMSNORM of pixels. Its sum of squares has one order, which depends on the number of
 * channels alone: four neighbouring channels one after the other, 32 such groups pairwise, and
 * those of 128 channels each in order. So a norm has the same bits whether threads of one warp or
 * of several make a pixel, and whichever kernel does it. Knows nothing of convolutions.
 */
#ifndef DCAE_NORM_CUH
#define DCAE_NORM_CUH

#include "common.cuh"

INLINE float squares(const float v[4], float sum)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum = fmaf(v[i], v[i], sum);
    return sum;
}

INLINE float norm_scale(float sum, int channels)
{
    return 1.0f / sqrtf(sum / (float)channels + NORM_EPS);
}

/* Channels c to c + 3 of the pixel at `p`, of which c is there; 0 from channel `channels` on. */
INLINE void norm_load_from(const DcaeKernelRows &rows, const element *p, int c, int channels,
                           float v[4])
{
    load_four(rows, p + c, v);
#pragma unroll
    for (int i = 1; i < 4; i++)
        if (c + i >= channels)
            v[i] = 0.0f;
}

/* The same where c may be behind the last channel. */
INLINE void norm_load(const DcaeKernelRows &rows, const element *p, int c, int channels, float v[4])
{
    v[0] = v[1] = v[2] = v[3] = 0.0f;
    if (c < channels)
        norm_load_from(rows, p, c, channels, v);
}

/* Norm, activation, residual r and store of channels c to c + 3, which are to be written.
 * packed: whether the value may be. */
INLINE void norm_store(const DcaeKernelNorm &p, element *out, int c, int act, float scale,
                       const float r[4], float v[4], bool packed)
{
    if (c < p.c) {
        const float4 w = *(const float4 *)((const float *)p.weight + c);
        const float4 b = *(const float4 *)((const float *)p.bias + c);
        const float weight[4] = {w.x, w.y, w.z, w.w}, bias[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] = i == 0 || c + i < p.c
                       ? activate(act, fmaf(v[i] * scale, weight[i], bias[i])) + r[i]
                       : 0.0f;
    }
    store_four(p.out, out + c, v, packed);
}

/* Pixels [m0, m0 + pixels) of the rows, up to DCAE_ALL_COLUMNS channels each, a warp a pixel. They
 * are read in one part; so many channels are never packed. */
INLINE void norm_tile(const DcaeKernelNorm &p, int image, int m0, int pixels, int threads)
{
    const int lane = (int)threadIdx.x & 31, count = (p.y1 - p.y0) * p.out.w;
    DcaeKernelRows rows = p.in;
    rows.low = 0;
    for (int m = m0 + ((int)threadIdx.x >> 5); m < min(m0 + pixels, count); m += threads / 32) {
        const int y = p.y0 + m / p.out.w, x = m % p.out.w;
        const element *in = pixel_at(p.in, image, y, x);
        const element *residual = p.residual.data ? pixel_at(p.residual, image, y, x) : 0;
        element *out = pixel_at(p.out, image, y, x);
        float v[DCAE_ALL_COLUMNS / 128][4], r[DCAE_ALL_COLUMNS / 128][4], sum = 0.0f;
#pragma unroll
        for (int g = 0; g < DCAE_ALL_COLUMNS / 128; g++) {
            norm_load(rows, in, 4 * lane + 128 * g, p.c, v[g]);
            norm_load(p.residual, residual, 4 * lane + 128 * g, residual ? p.c : 0, r[g]);
        }
#pragma unroll
        for (int g = 0; g < DCAE_ALL_COLUMNS / 128; g++)
            sum += lanes_sum(squares(v[g], 0.0f), 32);
        const float scale = norm_scale(sum, p.c);
#pragma unroll
        for (int g = 0; g < DCAE_ALL_COLUMNS / 128; g++)
            if (4 * lane + 128 * g < p.store_c)
                norm_store(p, out, 4 * lane + 128 * g, ACT_NONE, scale, r[g], v[g], false);
    }
}

#endif
