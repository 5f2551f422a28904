/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * norm.cu - RMSNORM, which is also the norm and residual of convolutions whose channels don't fit
 * one tile. Each thread makes four channels of a pixel, or more of them where a pixel has more than
 * four for each thread of a block.
 *
 * grid = (blocks of pixels of the rows, 1, images).
 */
#include "norm.cuh"

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_norm(const DcaeKernelNorm p)
{
    __shared__ float warp_sum[DCAE_THREADS / 32];
    const int warp = (int)threadIdx.x >> 5, warps = p.lanes / 32;
    const int i = (int)blockIdx.x * (DCAE_THREADS / p.lanes) + (int)threadIdx.x / p.lanes;
    const int y = p.y0 + i / p.out.w, x = i % p.out.w, n = (int)blockIdx.z;
    const int first = (int)threadIdx.x % p.lanes * 4;
    const bool inside = y < p.y1;
    const element *in = pixel_at(p.in, n, y, x), *residual = pixel_at(p.residual, n, y, x);
    element *out = pixel_at(p.out, n, y, x);
    float v[4] = {}, r[4] = {}, sum = 0.0f;

    if (inside) {
        norm_load(p.in, in, first, p.c, v);
        norm_load(p.residual, residual, first, p.residual.data ? p.c : 0, r);
        sum = squares(v, 0.0f);
#pragma unroll 1
        for (int c = first + 4 * p.lanes; c < p.c; c += 4 * p.lanes) {
            float more[4];
            norm_load_from(p.in, in, c, p.c, more);
            sum = squares(more, sum);
        }
    }
    sum = lanes_sum(sum, 32);
    if (warps > 1) {
        if ((threadIdx.x & 31) == 0)
            warp_sum[warp] = sum;
        __syncthreads();
        sum = 0.0f;
        for (int w = 0; w < warps; w++)
            sum += warp_sum[warp / warps * warps + w];
    }
    if (!inside)
        return;
    const float scale = norm_scale(sum, p.c);
    if (first < p.store_c)
        norm_store(p, out, first, p.act, scale, r, v, true);
    for (int c = first + 4 * p.lanes; c < p.store_c; c += 4 * p.lanes) {
        norm_load(p.in, in, c, p.c, v);
        norm_load(p.residual, residual, c, p.residual.data ? p.c : 0, r);
        norm_store(p, out, c, p.act, scale, r, v, false);
    }
}
