/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dwconv.cu - DWCONV: depthwise convolution of any odd size with zero padding, bias and gate; and
 * GROUPED_LINEAR, the 1×1 convolution in groups. Neighbouring threads take neighbouring channels; a
 * thread makes a few pixels of one row, so that it reads its weights once for all of them.
 *
 * grid = (blocks of channels × pixels, rows, images).
 */
#include "common.cuh"

#define PIXELS DCAE_DWCONV_PIXELS

/* Sums of channel c for PIXELS pixels from (y, x) on, in the order of the taps, for a ksize that is
 * a constant: an input is loaded once for all pixels. */
INLINE void depthwise(const DcaeKernelDwconv &p, const int ksize, int channels, int n, int y, int x,
                      int c, float sum[PIXELS])
{
    const float *weight = (const float *)p.weight + c;
    const int half = ksize / 2;
#pragma unroll
    for (int ky = 0; ky < ksize; ky++) {
        const int iy = y + ky - half;
        const element *row = pixel_at(p.in, n, iy, x - half) + c;
        float w[8], in[PIXELS + 7];
        if (ky != half && (unsigned)iy >= (unsigned)p.in.h)
            continue;
#pragma unroll
        for (int kx = 0; kx < ksize; kx++)
            w[kx] = weight[(long long)(ky * ksize + kx) * channels];
#pragma unroll
        for (int k = 0; k < PIXELS + ksize - 1; k++)
            in[k] = k == half || (unsigned)(x + k - half) < (unsigned)p.in.w
                        ? to_float(row[(long long)k * p.in.pixel_stride])
                        : 0.0f;
#pragma unroll
        for (int kx = 0; kx < ksize; kx++)
#pragma unroll
            for (int i = 0; i < PIXELS; i++)
                sum[i] = fmaf(in[kx + i], w[kx], sum[i]);
    }
}

/* The same for any ksize, and for values of two parts. */
INLINE void depthwise_any(const DcaeKernelDwconv &p, int ksize, int channels, int n, int y, int x,
                          int c, float sum[PIXELS])
{
    const float *weight = (const float *)p.weight + c;
    const int half = ksize / 2;
    int ky = max(half - y, 0);
    do {
        int kx = 0;
#pragma unroll 1
        do {
            const float w = weight[(long long)(ky * ksize + kx) * channels];
#pragma unroll
            for (int i = 0; i < PIXELS; i++) {
                const int ix = x + i + kx - half;
                if ((unsigned)ix < (unsigned)p.in.w)
                    sum[i] = fmaf(load_one(p.in, pixel_at(p.in, n, y + ky - half, ix) + c), w, sum[i]);
            }
        } while (++kx < ksize);
    } while (++ky < min(ksize, p.in.h + half - y));
}

INLINE void depthwise_start(const DcaeKernelDwconv &p, int ksize, int channels, int n, int y, int x,
                            int c, float sum[PIXELS])
{
    const float bias = p.bias ? ((const float *)p.bias)[c] : 0.0f;
#pragma unroll
    for (int i = 0; i < PIXELS; i++)
        sum[i] = bias;
    if (ksize == 3 && !low_of(p.in))
        depthwise(p, 3, channels, n, y, x, c, sum);
    else if (ksize == 5 && !low_of(p.in))
        depthwise(p, 5, channels, n, y, x, c, sum);
    else
        depthwise_any(p, ksize, channels, n, y, x, c, sum);
}

INLINE void depthwise_store(const DcaeKernelDwconv &p, int n, int y, int x, int c)
{
    const int channels = p.gate ? 2 * p.c : p.c;
    element *out = pixel_at(p.out, n, y, x) + c;
    float sum[PIXELS] = {}, gate[PIXELS];
    if (c < p.c) {
        depthwise_start(p, p.ksize, channels, n, y, x, c, sum);
        if (p.gate) {
            depthwise_start(p, p.ksize, channels, n, y, x, c + p.c, gate);
#pragma unroll
            for (int i = 0; i < PIXELS; i++)
                sum[i] *= act_silu(gate[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < PIXELS; i++)
        if (i == 0 || x + i < p.out.w)
            store_one(p.out, out + (long long)i * p.out.pixel_stride, sum[i]);
}

KERNEL __launch_bounds__(DCAE_THREADS, 4) dcae_k_dwconv(const DcaeKernelDwconv p)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    const int x = i / p.store_c * PIXELS, c = i % p.store_c;
    const int y = p.y0 + (int)blockIdx.y, n = (int)blockIdx.z;
    if (x >= p.out.w)
        return;
    depthwise_store(p, n, y, x, c);
}

#undef PIXELS

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
        int k = 0;
        do {
            const float w = weight[(long long)k * p.outputs];
#pragma unroll
            for (int j = 0; j < DCAE_GROUPED_PIXELS; j++)
                if (j == 0 || x + j < p.out.w)
                    sum[j] = fmaf(load_one(p.in, in + (long long)j * p.in.pixel_stride + k), w, sum[j]);
        } while (++k < p.inputs);
    }
    element *out = pixel_at(p.out, n, y, x) + c;
#pragma unroll
    for (int j = 0; j < DCAE_GROUPED_PIXELS; j++)
        if (j == 0 || x + j < p.out.w)
            store_one(p.out, out + (long long)j * p.out.pixel_stride, sum[j]);
}
