/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * norm.cu - RMSNORM, which is also the norm and residual of convolutions whose channels don't fit
 * one tile. A warp makes one pixel; each lane adds its squares in order, then the lanes are added
 * pairwise: the bits depend on the number of channels alone.
 *
 * grid = (blocks of pixels of the rows, 1, images).
 */
#include "common.cuh"

#define WARPS (DCAE_THREADS / 32)

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_norm(const DcaeKernelNorm p)
{
    const int i = (int)(blockIdx.x * WARPS + (threadIdx.x >> 5)), lane = (int)threadIdx.x & 31;
    const int y = p.y0 + i / p.out.w, x = i % p.out.w, n = (int)blockIdx.z;
    if (y >= p.y1)
        return;
    const element *in = pixel_at(p.in, n, y, x);
    const element *residual = p.residual.data ? pixel_at(p.residual, n, y, x) : 0;
    element *out = pixel_at(p.out, n, y, x);
    const float *weight = (const float *)p.weight, *bias = (const float *)p.bias;
    float sum = 0.0f;
    for (int c = lane; c < p.c; c += 32) {
        const float v = load_one(p.in, in + c);
        sum = fmaf(v, v, sum);
    }
    const float scale = 1.0f / sqrtf(lanes_sum(sum, 32) / (float)p.c + NORM_EPS);
    for (int c = lane; c < p.store_c; c += 32) {
        float v = 0.0f;
        if (c < p.c) {
            v = activate(p.act, fmaf(load_one(p.in, in + c) * scale, weight[c], bias[c]));
            if (residual)
                v += load_one(p.residual, residual + c);
        }
        store_one(p.out, out + c, v);
    }
}
