/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv.cu - CONV and LINEAR as an implicit matrix product: rows are product pixels, whose inputs
 * are gathered from the picture (taps outside it are zeros), columns are output channels. Every
 * output is one sum in one fixed order, whichever tile it lies in: bands come out as whole frames.
 *
 * A block makes one tile. Blocks of the same pixels follow each other, so that they share the
 * pixels in the L2 cache. grid = (tiles of pixels × tiles of columns, 1, images × phases).
 */
#include "epilogue.cuh"

/* Where a block is. */
INLINE Tile tile_of_block(const DcaeKernelConv &p, int tile_m, int tile_n)
{
    const int n_tiles = p.columns / tile_n, phases = p.place == DCAE_PLACE_NEAREST ? 4 : 1;
    Tile t;
    t.m0 = (int)(blockIdx.x / n_tiles) * tile_m;
    t.n0 = (int)(blockIdx.x % n_tiles) * tile_n;
    t.image = (int)blockIdx.z / phases;
    t.phase = (int)blockIdx.z % phases;
    return t;
}

/* Input pixel of tap (0, 0) of product pixel m; far outside where there is no such product. */
INLINE Place first_tap(const DcaeKernelConv &p, const Tile &t, int m)
{
    Place at;
    if (m >= product_count(p, t.phase)) {
        at.y = at.x = -1000000;
        return at;
    }
    at = product_place(p, t.phase, m);
    if (p.place == DCAE_PLACE_NEAREST) {
        at.y += (t.phase >> 1) - 1;
        at.x += (t.phase & 1) - 1;
    } else {
        at.y = at.y * p.stride - p.taps / 2;
        at.x = at.x * p.stride - p.taps / 2;
    }
    return at;
}

/* Where a thread is in the product's length: tap and channel. */
typedef struct {
    int ky, kx, c;
} Cursor;

INLINE void cursor_add(const DcaeKernelConv &p, Cursor *at, int channels)
{
    at->c += channels;
    while (at->c >= p.in_padded) {
        at->c -= p.in_padded;
        if (++at->kx == p.taps) {
            at->kx = 0;
            at->ky++;
        }
    }
}

/* The inputs at the cursor of the pixel whose first tap is `at`, or NULL where they are zeros. */
INLINE const element *tap_inputs(const DcaeKernelConv &p, int image, Place at, const Cursor &k)
{
    const int y = at.y + k.ky, x = at.x + k.kx;
    if (k.ky >= p.taps || (unsigned)y >= (unsigned)p.in.h || (unsigned)x >= (unsigned)p.in.w)
        return 0;
    return pixel_at(p.in, image, y, x) + k.c;
}

#ifdef DCAE_F32

#define TILE_M DCAE_F32_TILE_M
#define TILE_N DCAE_F32_TILE_N
#define STEP DCAE_F32_STEP
#define A_ROW (TILE_M + 4)
#define TILE_ROW (TILE_N + DCAE_TILE_PAD)

/* Thread t makes pixels 8·(t / 16) to + 7 of columns 4·(t % 16) to + 3. */
KERNEL __launch_bounds__(DCAE_F32_THREADS) dcae_k_conv(const DcaeKernelConv p)
{
    __shared__ __align__(16) float shared[TILE_M * TILE_ROW];
    float *a = shared, *b = shared + STEP * A_ROW;
    Tile t = tile_of_block(p, TILE_M, TILE_N);
    const int tid = (int)threadIdx.x, m = tid / 16 * 8, n = tid % 16 * 4;
    const int a_row = tid >> 2, b_row = tid >> 4, b_n = (tid & 15) * 4;
    const Place tap[2] = {first_tap(p, t, t.m0 + a_row), first_tap(p, t, t.m0 + a_row + 32)};
    const float *weight =
        (const float *)p.weight + ((long long)t.phase * p.k + b_row) * p.columns + t.n0 + b_n;
    const float4 zero = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    Cursor cursor = {0, 0, (tid & 3) * 4};
    float sum[8][4] = {};

    for (int k = 0; k < p.k; k += STEP) {
        float4 in[2], w[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const element *from = tap_inputs(p, t.image, tap[i], cursor);
            in[i] = from ? *(const float4 *)from : zero;
            w[i] = *(const float4 *)(weight + (long long)(k + 8 * i) * p.columns);
        }
        cursor_add(p, &cursor, STEP);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float *to = a + (tid & 3) * 4 * A_ROW + a_row + 32 * i;
            to[0] = in[i].x, to[A_ROW] = in[i].y, to[2 * A_ROW] = in[i].z, to[3 * A_ROW] = in[i].w;
            *(float4 *)(b + (b_row + 8 * i) * TILE_N + b_n) = w[i];
        }
        __syncthreads();
#pragma unroll
        for (int j = 0; j < STEP; j++) {
            const float4 a0 = *(const float4 *)(a + j * A_ROW + m);
            const float4 a1 = *(const float4 *)(a + j * A_ROW + m + 4);
            const float4 b0 = *(const float4 *)(b + j * TILE_N + n);
            const float x[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
            const float y[4] = {b0.x, b0.y, b0.z, b0.w};
#pragma unroll
            for (int r = 0; r < 8; r++)
#pragma unroll
                for (int c = 0; c < 4; c++)
                    sum[r][c] = fmaf(x[r], y[c], sum[r][c]);
        }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 8; r++)
        *(float4 *)(shared + (m + r) * TILE_ROW + n) =
            make_float4(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
    __syncthreads();
    t.data = shared;
    t.row = TILE_ROW;
    finish_tile(p, t, TILE_M, TILE_N, DCAE_F32_THREADS);
}

#else

#include "mma.cuh"

#define TILE_M DCAE_MMA_TILE_M
#define TILE_N DCAE_MMA_TILE_N
#define STEP DCAE_MMA_STEP
#define STAGES DCAE_MMA_STAGES
#define TILE_ROW (TILE_N + DCAE_TILE_PAD)
#define STAGE_BYTES ((TILE_M + TILE_N) * STEP * 2)

/* What a thread loads of each step: eight channels of two rows of each operand. */
typedef struct {
    Place tap[2];
    Cursor cursor;
    const element *weight; /* of its first column */
} Loader;

/* Loads the step at the cursor into a stage, asynchronously. Nothing where the product is through,
 * but the group is committed all the same, so that waits count steps. */
INLINE void load_step(const DcaeKernelConv &p, const Tile &t, Loader *l, unsigned stage, int step)
{
    const int row = (int)threadIdx.x >> 2, chunk = (int)threadIdx.x & 3;
    if (step * STEP < p.k) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const element *from = tap_inputs(p, t.image, l->tap[i], l->cursor);
            const unsigned at = swizzle(row + 64 * i, chunk);
            copy_async16(stage + at, from ? from : (const element *)p.weight, from ? 16 : 0);
            copy_async16(stage + TILE_M * STEP * 2 + at,
                         l->weight + (long long)64 * i * p.k + step * STEP, 16);
        }
        cursor_add(p, &l->cursor, STEP);
    }
    copy_async_commit();
}

/* Products of one step: a warp makes 64 pixels × 32 columns. */
INLINE void multiply_step(unsigned stage, int warp_m, int warp_n, float sum[4][4][4])
{
    const int lane = (int)threadIdx.x & 31;
    const unsigned b_base = stage + TILE_M * STEP * 2;
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        unsigned a[4][4], b[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            load_matrix4(a[i], stage + swizzle(warp_m + i * 16 + (lane & 15), k * 2 + (lane >> 4)));
#pragma unroll
        for (int j = 0; j < 2; j++)
            load_matrix4(b[j], b_base + swizzle(warp_n + j * 16 + (lane & 7) + (lane >> 4) * 8,
                                                k * 2 + (lane >> 3 & 1)));
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++)
                multiply_add(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

KERNEL __launch_bounds__(DCAE_MMA_THREADS) dcae_k_conv(const DcaeKernelConv p)
{
    const unsigned base = (unsigned)__cvta_generic_to_shared(dynamic_shared);
    Tile t = tile_of_block(p, TILE_M, TILE_N);
    const int tid = (int)threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int warp_m = (warp & 1) * 64, warp_n = (warp >> 1) * 32, steps = p.k / STEP;
    Loader l;
    float sum[4][4][4] = {};

    l.tap[0] = first_tap(p, t, t.m0 + (tid >> 2));
    l.tap[1] = first_tap(p, t, t.m0 + (tid >> 2) + 64);
    l.cursor.ky = l.cursor.kx = l.cursor.c = 0;
    cursor_add(p, &l.cursor, (tid & 3) * 8);
    l.weight = (const element *)p.weight +
               ((long long)t.phase * p.columns + t.n0 + (tid >> 2)) * p.k + (tid & 3) * 8;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++)
        load_step(p, t, &l, base + i * STAGE_BYTES, i);
    for (int step = 0; step < steps; step++) {
        copy_async_wait(STAGES - 2);
        __syncthreads();
        load_step(p, t, &l, base + (step + STAGES - 1) % STAGES * STAGE_BYTES, step + STAGES - 1);
        multiply_step(base + step % STAGES * STAGE_BYTES, warp_m, warp_n, sum);
    }
    copy_async_wait(0);
    __syncthreads();
    float *tile = (float *)dynamic_shared;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float *to =
                tile + (warp_m + i * 16 + (lane >> 2)) * TILE_ROW + warp_n + j * 8 + (lane & 3) * 2;
            *(float2 *)to = make_float2(sum[i][j][0], sum[i][j][1]);
            *(float2 *)(to + 8 * TILE_ROW) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
    __syncthreads();
    t.data = tile;
    t.row = TILE_ROW;
    finish_tile(p, t, TILE_M, TILE_N, DCAE_MMA_THREADS);
}

#endif
