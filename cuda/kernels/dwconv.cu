/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dwconv.cu - DWCONV: depthwise convolution of any odd size with zero padding, bias and gate; and
 * GROUPED_LINEAR, the 1×1 convolution in groups. Neighbouring threads take neighbouring channels; a
 * thread makes a few pixels of one row, so that it reads its weights once for all of them.
 *
 * grid = (blocks of channels × pixels, rows, images).
 */
#include "common.cuh"

/* Sums of channel c for DCAE_DWCONV_PIXELS pixels from (y, x) on, in the order of the taps. ksize
 * is a constant for the sizes that are unrolled. */
INLINE void depthwise(const DcaeKernelDwconv &p, int ksize, int channels, int n, int y, int x,
                      int c, float sum[DCAE_DWCONV_PIXELS])
{
    const float *weight = (const float *)p.weight + c;
    const float bias = p.bias ? ((const float *)p.bias)[c] : 0.0f;
    const int half = ksize / 2;
#pragma unroll
    for (int i = 0; i < DCAE_DWCONV_PIXELS; i++)
        sum[i] = bias;
#pragma unroll
    for (int ky = 0; ky < ksize; ky++) {
        const int iy = y + ky - half;
        if ((unsigned)iy >= (unsigned)p.in.h)
            continue;
        const element *row = pixel_at(p.in, n, iy, 0) + c;
#pragma unroll
        for (int kx = 0; kx < ksize; kx++) {
            const float w = weight[(long long)(ky * ksize + kx) * channels];
#pragma unroll
            for (int i = 0; i < DCAE_DWCONV_PIXELS; i++) {
                const int ix = x + i + kx - half;
                if ((unsigned)ix < (unsigned)p.in.w)
                    sum[i] = fmaf(to_float(row[(long long)ix * p.in.pixel_stride]), w, sum[i]);
            }
        }
    }
}

INLINE void depthwise_store(const DcaeKernelDwconv &p, int ksize, int n, int y, int x, int c)
{
    const int channels = p.gate ? 2 * p.c : p.c;
    element *out = pixel_at(p.out, n, y, x) + c;
    float sum[DCAE_DWCONV_PIXELS] = {}, gate[DCAE_DWCONV_PIXELS];
    if (c < p.c) {
        depthwise(p, ksize, channels, n, y, x, c, sum);
        if (p.gate) {
            depthwise(p, ksize, channels, n, y, x, c + p.c, gate);
#pragma unroll
            for (int i = 0; i < DCAE_DWCONV_PIXELS; i++)
                sum[i] *= act_silu(gate[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < DCAE_DWCONV_PIXELS; i++)
        if (x + i < p.out.w)
            out[(long long)i * p.out.pixel_stride] = to_element(sum[i]);
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_dwconv(const DcaeKernelDwconv p)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int x = i / p.store_c * DCAE_DWCONV_PIXELS, c = i % p.store_c;
    const int y = p.y0 + (int)blockIdx.y, n = (int)blockIdx.z;
    if (x >= p.out.w)
        return;
    if (p.ksize == 3)
        depthwise_store(p, 3, n, y, x, c);
    else if (p.ksize == 5)
        depthwise_store(p, 5, n, y, x, c);
    else
        depthwise_store(p, p.ksize, n, y, x, c);
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_grouped(const DcaeKernelGrouped p)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int x = i / p.store_c * DCAE_GROUPED_PIXELS, c = i % p.store_c;
    const int y = p.y0 + (int)blockIdx.y, n = (int)blockIdx.z;
    float sum[DCAE_GROUPED_PIXELS] = {};
    if (x >= p.out.w)
        return;
    if (c < p.c) {
        const int group = c / p.outputs;
        const element *in = pixel_at(p.in, n, y, x) + group * p.inputs;
        const float *weight =
            (const float *)p.weight + (long long)group * p.inputs * p.outputs + c % p.outputs;
        for (int k = 0; k < p.inputs; k++) {
            const float w = weight[(long long)k * p.outputs];
#pragma unroll
            for (int j = 0; j < DCAE_GROUPED_PIXELS; j++)
                if (x + j < p.out.w)
                    sum[j] = fmaf(to_float(in[(long long)j * p.in.pixel_stride + k]), w, sum[j]);
        }
    }
    element *out = pixel_at(p.out, n, y, x) + c;
#pragma unroll
    for (int j = 0; j < DCAE_GROUPED_PIXELS; j++)
        if (x + j < p.out.w)
            out[(long long)j * p.out.pixel_stride] = to_element(sum[j]);
}
