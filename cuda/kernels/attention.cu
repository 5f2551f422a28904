/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * attention.cu - linear attention: ATTN_SUM in two kernels (partial sums of chunks of rows, then
 * their sum in order), ATTN_APPLY. Sums are f32 in every precision, and each is added in one fixed
 * order, pixel by pixel and chunk by chunk: the same input gives the same bits, however rows are
 * cut into bands at borders of chunks.
 */
#include "common.cuh"

#define DENOMINATOR 1e-15f

/* Chunk blockIdx.x, head blockIdx.y, elements from blockIdx.z · threads · DCAE_ATTN_ELEMENTS on.
 * Element (j, i) of the state is the sum of v[j]·relu(k[i]); row head_dim is the sum of relu(k). */
KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_attn_sum(const DcaeKernelAttnSum p)
{
    float *kv = (float *)dynamic_shared; /* [pixel][relu(k) | v | 1] */
    const int d = p.head_dim, row = 2 * d + 1, size = (d + 1) * d;
    const int head = (int)blockIdx.y, y0 = p.y0 + (int)blockIdx.x * p.chunk_rows;
    const int first = (int)blockIdx.z * DCAE_THREADS * DCAE_ATTN_ELEMENTS + (int)threadIdx.x;
    const int pixels = (min(y0 + p.chunk_rows, p.y1) - y0) * p.in.w;
    float sum[DCAE_ATTN_ELEMENTS] = {};
    int at_k[DCAE_ATTN_ELEMENTS], at_v[DCAE_ATTN_ELEMENTS];

#pragma unroll
    for (int r = 0; r < DCAE_ATTN_ELEMENTS; r++) {
        const int e = min(first + r * DCAE_THREADS, size - 1);
        at_k[r] = e % d;
        at_v[r] = d + e / d;
    }
    for (int p0 = 0; p0 < pixels; p0 += DCAE_ATTN_PIXELS) {
        const int count = min(DCAE_ATTN_PIXELS, pixels - p0);
        __syncthreads();
        for (int i = (int)threadIdx.x; i < count * row; i += DCAE_THREADS) {
            const int pixel = i / row, c = i - pixel * row, at = p0 + pixel;
            float v = 1.0f;
            if (c < 2 * d)
                v = load_one(p.in,
                             pixel_at(p.in, 0, y0 + at / p.in.w, at % p.in.w) + head * 2 * d + c);
            kv[i] = c < d ? act_relu(v) : v;
        }
        __syncthreads();
        for (int i = 0; i < count; i++)
#pragma unroll
            for (int r = 0; r < DCAE_ATTN_ELEMENTS; r++)
                sum[r] = fmaf(kv[i * row + at_k[r]], kv[i * row + at_v[r]], sum[r]);
    }
    float *out = (float *)p.partial + ((long long)blockIdx.x * p.heads + head) * size;
#pragma unroll
    for (int r = 0; r < DCAE_ATTN_ELEMENTS; r++)
        if (first + r * DCAE_THREADS < size)
            out[first + r * DCAE_THREADS] = sum[r];
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_attn_add(const DcaeKernelAttnSum p)
{
    const int size = p.heads * (p.head_dim + 1) * p.head_dim;
    const int i = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x);
    float *state = (float *)p.state;
    if (i >= size)
        return;
    float sum = state[i];
    for (int c = 0; c < p.chunks; c++)
        sum += ((const float *)p.partial)[(long long)c * size + i];
    state[i] = sum;
}

/* DCAE_ATTN_PIXELS pixels (blockIdx.x) of the rows, head blockIdx.y, image blockIdx.z. */
KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_attn_apply(const DcaeKernelAttnApply p)
{
    const int d = p.head_dim, stride = d + 1, size = (d + 1) * d;
    const int head = (int)blockIdx.y, n = (int)blockIdx.z, p0 = (int)blockIdx.x * DCAE_ATTN_PIXELS;
    const int count = min(DCAE_ATTN_PIXELS, (p.y1 - p.y0) * p.out.w - p0);
    float *state = (float *)dynamic_shared, *q = state + size; /* state: [i][j] */
    const float *from = (const float *)p.state + n * p.state_stride + (long long)head * size;

    for (int i = (int)threadIdx.x; i < size; i += DCAE_THREADS)
        state[i % d * stride + i / d] = from[i];
    for (int i = (int)threadIdx.x; i < count * d; i += DCAE_THREADS) {
        const int at = p0 + i / d;
        const element *in = pixel_at(p.in, n, p.y0 + at / p.out.w, at % p.out.w) + head * d + i % d;
        q[i] = act_relu(load_one(p.in, in));
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < count * d; i += DCAE_THREADS) {
        const int pixel = i / d, j = i - pixel * d, at = p0 + pixel;
        float sum = 0.0f, ones = 0.0f;
        for (int k = 0; k < d; k++) {
            sum = fmaf(state[k * stride + j], q[pixel * d + k], sum);
            ones = fmaf(state[k * stride + d], q[pixel * d + k], ones);
        }
        store_one(p.out, pixel_at(p.out, n, p.y0 + at / p.out.w, at % p.out.w) + head * d + j,
                  sum / (ones + DENOMINATOR));
    }
    const int used = p.heads * d, padding = head == p.heads - 1 ? p.store_c - used : 0;
    for (int i = (int)threadIdx.x; i < count * padding; i += DCAE_THREADS) {
        const int at = p0 + i / padding;
        store_one(p.out, pixel_at(p.out, n, p.y0 + at / p.out.w, at % p.out.w) + used + i % padding,
                  0.0f);
    }
}
