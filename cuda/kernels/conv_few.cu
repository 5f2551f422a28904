/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv_few.cu - 3×3 convolutions of at most three output channels, such as the decoder's last. A
 * tile of the other kernels would be empty but for three columns; here columns are taps × channels,
 * 27 of 32: every input pixel is read once, multiplied by the weights of all taps on the tensor
 * cores, and the products of neighbours are added in the order of the taps. On the way in the pixel
 * may get its RMSNORM and ReLU, in the order of norm.cuh.
 *
 * A block makes DCAE_FEW_H × DCAE_FEW_W pixels of the products of a frame one pixel wider on each
 * side. grid = (blocks of columns, blocks of rows, images).
 */
#include "norm.cuh"

#ifndef DCAE_F32

#include "mma.cuh"

#define FRAME_W (DCAE_FEW_W + 2)
#define FRAME (FRAME_W * (DCAE_FEW_H + 2))
#define CHUNKS (DCAE_FEW_IN / 32)
#define WEIGHT_ROW (DCAE_FEW_IN + 32) /* elements: lanes of a column and the next on other banks */
#define PART_ROW 29                   /* floats: odd, so that neighbouring pixels are on other banks */
#define MMA_COLUMNS 8

/* Of a pixel each of four lanes has eight channels of every 32. */
typedef struct {
    uint4 chunk[CHUNKS];
} Channels;

INLINE unsigned word_of(const uint4 &v, int i)
{
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

INLINE void unpack(const uint4 &v, int half, float f[4])
{
    const unsigned a = word_of(v, 2 * half), b = word_of(v, 2 * half + 1);
    f[0] = to_float((element)(a & 0xffff)), f[1] = to_float((element)(a >> 16));
    f[2] = to_float((element)(b & 0xffff)), f[3] = to_float((element)(b >> 16));
}

INLINE unsigned pack(float low, float high)
{
    return to_element(low) | (unsigned)to_element(high) << 16;
}

INLINE void load_channels(const DcaeKernelConv &p, const element *from, bool inside, int quarter,
                          Channels *in)
{
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
        in->chunk[j] = make_uint4(0, 0, 0, 0);
        if (inside && j * 32 + quarter * 8 < p.in_padded)
            in->chunk[j] = *(const uint4 *)(from + j * 32);
    }
}

/* Sum of the squares of a pixel: 32 groups of four channels pairwise, of which a lane has eight. */
INLINE float pixel_squares(const Channels &in)
{
    float group[CHUNKS][2], half[2];
#pragma unroll
    for (int j = 0; j < CHUNKS; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float f[4];
            unpack(in.chunk[j], h, f);
            group[j][h] = squares(f, 0.0f);
        }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        half[h] = (group[0][h] + group[2][h]) + (group[1][h] + group[3][h]);
        half[h] += __shfl_xor_sync(0xffffffff, half[h], 2);
        half[h] += __shfl_xor_sync(0xffffffff, half[h], 1);
    }
    return half[0] + half[1];
}

/* norm: weights, then biases, of all channels. */
INLINE void normalise(const DcaeKernelConv &p, const float *norm, bool inside, int quarter,
                      Channels *in)
{
    const float scale = norm_scale(pixel_squares(*in), p.in_c);
    if (!inside)
        return;
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
        unsigned words[4];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float *at = norm + j * 32 + quarter * 8 + h * 4;
            const float4 w = *(const float4 *)at, b = *(const float4 *)(at + DCAE_FEW_IN);
            float f[4];
            unpack(in->chunk[j], h, f);
            f[0] = fmaf(f[0] * scale, w.x, b.x), f[1] = fmaf(f[1] * scale, w.y, b.y);
            f[2] = fmaf(f[2] * scale, w.z, b.z), f[3] = fmaf(f[3] * scale, w.w, b.w);
            if (p.norm_relu)
#pragma unroll
                for (int i = 0; i < 4; i++)
                    f[i] = act_relu(f[i]);
            words[2 * h] = pack(f[0], f[1]);
            words[2 * h + 1] = pack(f[2], f[3]);
        }
        in->chunk[j] = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

/* 16 pixels, of which lanes have `in` (row lane / 4) and `below` (8 rows further), by all columns.
 * The order of channels in a step is that of the lanes' loads, for pixels and weights alike. */
INLINE void multiply_pixels(const DcaeKernelConv &p, const element *weight, const Channels &in,
                            const Channels &below, float sum[DCAE_FEW_COLUMNS / MMA_COLUMNS][4])
{
    const int lane = (int)threadIdx.x & 31;
#pragma unroll
    for (int j = 0; j < CHUNKS; j++) {
        const uint4 a = in.chunk[j], b = below.chunk[j];
        const unsigned first[4] = {a.x, b.x, a.y, b.y}, second[4] = {a.z, b.z, a.w, b.w};
        if (j > 0 && j * 32 >= p.k)
            continue;
#pragma unroll
        for (int n = 0; n < DCAE_FEW_COLUMNS / MMA_COLUMNS; n++) {
            const uint4 w = *(const uint4 *)(weight + (n * MMA_COLUMNS + (lane >> 2)) * WEIGHT_ROW +
                                             j * 32 + (lane & 3) * 8);
            multiply_add(sum[n], first, w.x, w.y);
            multiply_add(sum[n], second, w.z, w.w);
        }
    }
}

/* The products of 16 pixels, `part` those of the first, of the columns that there are. */
INLINE void store_products(const float sum[DCAE_FEW_COLUMNS / MMA_COLUMNS][4], float *part)
{
    const int lane = (int)threadIdx.x & 31;
#pragma unroll
    for (int n = 0; n < DCAE_FEW_COLUMNS / MMA_COLUMNS; n++) {
        const int column = n * MMA_COLUMNS + (lane & 3) * 2;
        float *to = part + (lane >> 2) * PART_ROW + column;
        if (column >= 9 * DCAE_FEW_OUT)
            continue;
        to[0] = sum[n][0], to[1] = sum[n][1];
        to[8 * PART_ROW] = sum[n][2], to[8 * PART_ROW + 1] = sum[n][3];
    }
}

/* Adds the taps' products of one output pixel; `part`: those of the pixel of tap (0, 0). */
INLINE void add_taps(const DcaeKernelConv &p, int image, int y, int x, const float *part)
{
    element *out = pixel_at(p.out, image, y, x);
    const int low = low_of(p.out);
    const float zeros[4] = {};
    float v[4] = {};
#pragma unroll
    for (int tap = 0; tap < 9; tap++)
#pragma unroll
        for (int c = 0; c < DCAE_FEW_OUT; c++)
            v[c] += part[(tap / 3 * FRAME_W + tap % 3) * PART_ROW + tap * DCAE_FEW_OUT + c];
#pragma unroll
    for (int c = 0; c < DCAE_FEW_OUT; c++)
        v[c] = c == 0 || c < p.out_c ? v[c] + ((const float *)p.bias)[c] : 0.0f;
    store_four(p.out, out, v);
#pragma unroll 1
    for (int c = 4; c < p.store_c; c += 4) {
        store4(out + c, zeros);
        if (low)
            store4(out + c + low, zeros);
    }
}

/* Weights and norm to shared memory, zeros behind their ends. */
INLINE void load_weights(const DcaeKernelConv &p, element *weight, float *norm)
{
    const int c = (int)threadIdx.x;
#pragma unroll
    for (int round = 0; round < DCAE_FEW_COLUMNS * DCAE_FEW_IN / 8 / DCAE_THREADS; round++) {
        const int i = round * DCAE_THREADS + (int)threadIdx.x;
        const int column = i / (DCAE_FEW_IN / 8), k = i % (DCAE_FEW_IN / 8) * 8;
        uint4 w = make_uint4(0, 0, 0, 0);
        if (k < p.k)
            w = *(const uint4 *)((const element *)p.weight + (long long)column * p.k + k);
        *(uint4 *)(weight + column * WEIGHT_ROW + k) = w;
    }
    if (p.norm_weight && c < DCAE_FEW_IN) {
        norm[c] = c < p.in_c ? ((const float *)p.norm_weight)[c] : 0.0f;
        norm[DCAE_FEW_IN + c] = c < p.in_c ? ((const float *)p.norm_bias)[c] : 0.0f;
    }
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_conv_few(const DcaeKernelConv p)
{
    __shared__ __align__(16) element weight[DCAE_FEW_COLUMNS * WEIGHT_ROW];
    __shared__ __align__(16) float norm[2 * DCAE_FEW_IN];
    __shared__ float part[FRAME * PART_ROW];
    const int lane = (int)threadIdx.x & 31, quarter = lane & 3, image = (int)blockIdx.z;
    const int x0 = (int)blockIdx.x * DCAE_FEW_W, y0 = p.y0 + (int)blockIdx.y * DCAE_FEW_H;

    __builtin_assume(threadIdx.x < DCAE_THREADS);
    load_weights(p, weight, norm);
    __syncthreads();
#pragma unroll 1
    for (int i = (int)threadIdx.x >> 5; i < FRAME / 16; i += DCAE_THREADS / 32) {
        const int y = y0 - 1 + i / (FRAME_W / 16), x = x0 - 1 + i % (FRAME_W / 16) * 16 + (lane >> 2);
        const bool row = y >= 0 && y < min(p.in.h, p.y1 + 1);
        const bool inside[2] = {row && x >= 0 && x < p.in.w, row && x + 8 < p.in.w};
        const element *from = pixel_at(p.in, image, y, x) + quarter * 8;
        Channels in[2];
        float sum[DCAE_FEW_COLUMNS / MMA_COLUMNS][4] = {};
#pragma unroll
        for (int r = 0; r < 2; r++)
            load_channels(p, from + (long long)8 * r * p.in.pixel_stride, inside[r], quarter, &in[r]);
        if (p.norm_weight)
#pragma unroll
            for (int r = 0; r < 2; r++)
                normalise(p, norm, inside[r], quarter, &in[r]);
        multiply_pixels(p, weight, in[0], in[1], sum);
        store_products(sum, part + i * 16 * PART_ROW);
    }
    __syncthreads();
    const int dy = (int)threadIdx.x / DCAE_FEW_W, dx = (int)threadIdx.x % DCAE_FEW_W;
    if (dy < DCAE_FEW_H && y0 + dy < p.y1 && x0 + dx < p.out.w)
        add_taps(p, image, y0 + dy, x0 + dx, part + (dy * FRAME_W + dx) * PART_ROW);
}

#endif
