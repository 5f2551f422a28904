/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * attention.cu - linear attention: ATTN_SUM in two kernels (partial sums of chunks of rows, then
 * their sum in order), ATTN_APPLY. Sums are f32 in every precision, and each is added in one fixed
 * order, every fourth pixel of a chunk, those four, and chunk by chunk: the same input gives the
 * same bits, however rows are cut into bands at borders of chunks.
 *
 * Threads keep 4 × 4 sums in registers. A block takes DCAE_ATTN_TILE channels of a head in each
 * direction; heads are padded to that with zeros.
 */
#include "common.cuh"

#define DENOMINATOR 1e-15f
#define TILE DCAE_ATTN_TILE
#define ROW (TILE + 4)       /* floats: rows of four neighbouring pixels lie on different banks */
#define SUM_PIXELS 32        /* in shared memory at a time */
#define SUM_THREADS (TILE * TILE / 16) /* that make the sums of one tile */
#define SUM_GROUPS (DCAE_THREADS / SUM_THREADS)

/* Channels c to c + 3 of a head of d channels, which lie from p on; 0 from d on. */
INLINE void load_head(const DcaeKernelRows &rows, const element *p, int c, int d, float v[4])
{
    v[0] = v[1] = v[2] = v[3] = 0.0f;
    if (c >= d)
        return;
    if (d % 4 == 0) {
        load_four(rows, p + c, v);
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i == 0 || c + i < d)
            v[i] = load_one(rows, p + c + i);
}

/* SUM_PIXELS pixels from p0 on of the chunk that begins in row y0: relu(k) and v, of the tiles that
 * begin at channels i0 and j0. */
INLINE void load_kv(const DcaeKernelAttnSum &p, int head, int y0, int p0, int pixels, int i0, int j0,
                    float *k, float *v)
{
    const int d = p.head_dim;
#pragma unroll 1
    for (int r = 0; r < SUM_PIXELS * TILE / 2 / DCAE_THREADS; r++) {
        const int e = (int)threadIdx.x + r * DCAE_THREADS;
        const int pixel = e / (TILE / 2), at = p0 + pixel, group = e % (TILE / 2) * 4;
        const bool is_k = group < TILE;
        const int c = is_k ? group : group - TILE;
        float x[4] = {};
        if (at < pixels)
            load_head(p.in,
                      pixel_at(p.in, 0, y0 + at / p.in.w, at % p.in.w) + (2 * head + !is_k) * d,
                      c + (is_k ? i0 : j0), d, x);
        if (is_k)
#pragma unroll
            for (int i = 0; i < 4; i++)
                x[i] = act_relu(x[i]);
        *(float4 *)((is_k ? k : v) + pixel * ROW + c) = make_float4(x[0], x[1], x[2], x[3]);
    }
}

/* Chunk and head blockIdx.x, tile blockIdx.z: heads may be more than a grid has in y. Element (j, i)
 * of the state is the sum of v[j]·relu(k[i]); row head_dim is the sum of relu(k). Thread s of a group
 * makes i from 4·(s % 8) on and j from 4·(s / 8) on, of every SUM_GROUPS-th pixel. */
KERNEL __launch_bounds__(DCAE_THREADS, 5) dcae_k_attn_sum(const DcaeKernelAttnSum p)
{
    __shared__ __align__(16) float k[SUM_PIXELS * ROW], v[SUM_PIXELS * ROW];
    __shared__ float others[SUM_GROUPS - 1][20][SUM_THREADS];
    const int d = p.head_dim, tiles = (d + TILE - 1) / TILE;
    const int chunk = (int)blockIdx.x / p.heads, head = (int)blockIdx.x % p.heads;
    const int i0 = (int)blockIdx.z % tiles * TILE, j0 = (int)blockIdx.z / tiles * TILE;
    const int y0 = p.y0 + chunk * p.chunk_rows;
    const int pixels = (min(y0 + p.chunk_rows, p.y1) - y0) * p.in.w;
    const int group = (int)threadIdx.x / SUM_THREADS, s = (int)threadIdx.x % SUM_THREADS;
    const int i = s % (TILE / 4) * 4, j = s / (TILE / 4) * 4;
    float sum[5][4] = {}; /* the last row: of relu(k) */
    int p0 = 0;

    do {
        __syncthreads();
        load_kv(p, head, y0, p0, pixels, i0, j0, k, v);
        __syncthreads();
#pragma unroll
        for (int pixel = 0; pixel < SUM_PIXELS; pixel += SUM_GROUPS) {
            const float4 a = *(const float4 *)(k + (pixel + group) * ROW + i);
            const float4 b = *(const float4 *)(v + (pixel + group) * ROW + j);
            const float ka[4] = {a.x, a.y, a.z, a.w}, vb[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int y = 0; y < 4; y++)
#pragma unroll
                for (int x = 0; x < 4; x++)
                    sum[y][x] = fmaf(vb[y], ka[x], sum[y][x]);
            if (j == 0)
#pragma unroll
                for (int x = 0; x < 4; x++)
                    sum[4][x] += ka[x];
        }
        p0 += SUM_PIXELS;
    } while (p0 < pixels);
    if (group > 0)
#pragma unroll
        for (int e = 0; e < 20; e++)
            others[group - 1][e][s] = sum[e / 4][e % 4];
    __syncthreads();
    if (group > 0)
        return;
    float *out = (float *)p.partial + (long long)blockIdx.x * (d + 1) * d;
#pragma unroll
    for (int e = 0; e < 20; e++) {
        const int row = e / 4 < 4 ? j0 + j + e / 4 : d, column = i0 + i + e % 4;
        float total = sum[e / 4][e % 4];
#pragma unroll
        for (int g = 0; g < SUM_GROUPS - 1; g++)
            total += others[g][e][s];
        if (column < d && (e / 4 < 4 ? row < d : j0 + j == 0))
            out[row * d + column] = total;
    }
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_attn_add(const DcaeKernelAttnSum p)
{
    const int size = p.heads * (p.head_dim + 1) * p.head_dim;
    const int i = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x);
    float *state = (float *)p.state;
    if (i >= size)
        return;
    float sum = state[i] + ((const float *)p.partial)[i];
#pragma unroll 8
    for (int c = 1; c < p.chunks; c++)
        sum += ((const float *)p.partial)[(long long)c * size + i];
    state[i] = sum;
}

/* ---- */

#define ROUNDS (DCAE_ATTN_PIXELS * TILE / 4 / DCAE_THREADS) /* pixels of a thread */

/* Channels [k0, k0 + TILE) of the state [k][j] from column j0 on, and their sums of relu(k). */
INLINE void load_state(const float *from, int d, int k0, int j0, float *state, float *ones)
{
#pragma unroll
    for (int r = 0; r < TILE * TILE / DCAE_THREADS; r++) {
        const int e = (int)threadIdx.x + r * DCAE_THREADS, j = e / TILE, k = e % TILE;
        state[k * ROW + j] = j0 + j < d && k0 + k < d ? from[(j0 + j) * d + k0 + k] : 0.0f;
    }
    if (threadIdx.x < TILE)
        ones[threadIdx.x] = k0 + (int)threadIdx.x < d ? from[d * d + k0 + (int)threadIdx.x] : 0.0f;
}

/* relu(q), channels [k0, k0 + TILE) of `count` pixels from p0 on. */
INLINE void load_q(const DcaeKernelAttnApply &p, int n, int head, int p0, int count, int k0, float *q)
{
#pragma unroll 1 /* registers: a third block in a multiprocessor */
    for (int r = 0; r < ROUNDS; r++) {
        const int e = (int)threadIdx.x + r * DCAE_THREADS;
        const int pixel = e / (TILE / 4), c = e % (TILE / 4) * 4, at = p0 + pixel;
        float x[4] = {};
        if (pixel < count)
            load_head(p.in,
                      pixel_at(p.in, n, p.y0 + at / p.out.w, at % p.out.w) + head * p.head_dim,
                      k0 + c, p.head_dim, x);
        *(float4 *)(q + pixel * ROW + c) =
            make_float4(act_relu(x[0]), act_relu(x[1]), act_relu(x[2]), act_relu(x[3]));
    }
}

/* Adds TILE channels: `sum` of four columns, `ones` of the thread's four channels, which its seven
 * neighbours complete. */
INLINE void apply_tile(const float *q, const float *state, const float *ones, int j,
                       float sum[ROUNDS][4], float total[ROUNDS])
{
#pragma unroll
    for (int k = 0; k < TILE; k += 4) {
        float x[ROUNDS][4];
#pragma unroll
        for (int r = 0; r < ROUNDS; r++) {
            const float4 f = *(const float4 *)(q + r * (DCAE_ATTN_PIXELS / ROUNDS) * ROW + k);
            x[r][0] = f.x, x[r][1] = f.y, x[r][2] = f.z, x[r][3] = f.w;
        }
#pragma unroll
        for (int u = 0; u < 4; u++) {
            const float4 s = *(const float4 *)(state + (k + u) * ROW + j);
#pragma unroll
            for (int r = 0; r < ROUNDS; r++) {
                sum[r][0] = fmaf(s.x, x[r][u], sum[r][0]);
                sum[r][1] = fmaf(s.y, x[r][u], sum[r][1]);
                sum[r][2] = fmaf(s.z, x[r][u], sum[r][2]);
                sum[r][3] = fmaf(s.w, x[r][u], sum[r][3]);
            }
        }
    }
    const float4 o = *(const float4 *)(ones + j);
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const float4 f = *(const float4 *)(q + r * (DCAE_ATTN_PIXELS / ROUNDS) * ROW + j);
        total[r] = fmaf(o.x, f.x, fmaf(o.y, f.y, fmaf(o.z, f.z, fmaf(o.w, f.w, total[r]))));
    }
}

INLINE void store_head(const DcaeKernelAttnApply &p, element *out, int c, const float v[4])
{
    if (p.head_dim % 4 == 0) {
        if (c < p.head_dim)
            store_four(p.out, out + c, v);
        return;
    }
#pragma unroll 1
    for (int i = 0; i < min(4, p.head_dim - c); i++)
        store_one(p.out, out + c + i, i == 0 ? v[0] : i == 1 ? v[1] : i == 2 ? v[2] : v[3]);
}

/* DCAE_ATTN_PIXELS pixels of the rows, head and tile of columns, all blockIdx.x; image blockIdx.z. A
 * thread makes four columns of pixels that lie 32 apart. */
KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_attn_apply(const DcaeKernelAttnApply p)
{
    __shared__ __align__(16) float q[DCAE_ATTN_PIXELS * ROW], state[TILE * ROW], ones[TILE];
    const int d = p.head_dim, tiles = (d + TILE - 1) / TILE, n = (int)blockIdx.z;
    const int tile = (int)blockIdx.x % (p.heads * tiles);
    const int head = tile / tiles, j0 = tile % tiles * TILE;
    const int p0 = (int)blockIdx.x / (p.heads * tiles) * DCAE_ATTN_PIXELS;
    const int count = min(DCAE_ATTN_PIXELS, (p.y1 - p.y0) * p.out.w - p0);
    const int first = (int)threadIdx.x / (TILE / 4), j = (int)threadIdx.x % (TILE / 4) * 4;
    const float *from = (const float *)p.state + n * p.state_stride + (long long)head * (d + 1) * d;
    float sum[ROUNDS][4] = {}, total[ROUNDS] = {};
    int k0 = 0;

    do {
        __syncthreads();
        load_state(from, d, k0, j0, state, ones);
        load_q(p, n, head, p0, count, k0, q);
        __syncthreads();
        apply_tile(q + first * ROW, state, ones, j, sum, total);
        k0 += TILE;
    } while (k0 < d);
#pragma unroll
    for (int r = 0; r < ROUNDS; r++) {
        const int pixel = first + r * (DCAE_ATTN_PIXELS / ROUNDS), at = p0 + pixel;
        const float scale = lanes_sum(total[r], TILE / 4) + DENOMINATOR;
        const float v[4] = {sum[r][0] / scale, sum[r][1] / scale, sum[r][2] / scale,
                            sum[r][3] / scale};
        if (pixel < count)
            store_head(p, pixel_at(p.out, n, p.y0 + at / p.out.w, at % p.out.w) + head * d, j0 + j,
                       v);
    }
    const int used = p.heads * d;
    const int padding = head == p.heads - 1 && j0 == 0 ? p.store_c - used : 0;
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < count * padding; i += DCAE_THREADS) {
        const int at = p0 + i / padding;
        store_one(p.out, pixel_at(p.out, n, p.y0 + at / p.out.w, at % p.out.w) + used + i % padding,
                  0.0f);
    }
}

#undef TILE
#undef ROW
#undef ROUNDS
