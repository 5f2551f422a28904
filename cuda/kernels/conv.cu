/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv.cu - CONV and LINEAR as an implicit matrix product: rows are product pixels, whose inputs
 * are gathered from the picture (taps outside it are zeros), columns are output channels. Every
 * output is one sum in one fixed order, whichever tile it lies in: bands come out as whole frames.
 *
 * A block makes one tile, or a part of its sums. Blocks of the same pixels follow each other, so that
 * they share the pixels in the L2 cache. grid = (tiles of pixels × tiles of columns, splits, images ×
 * phases).
 */
#include "epilogue.cuh"
#include "norm.cuh"

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
    if (p.place == DCAE_PLACE_NEAREST) {
        at = product_place(p, t.phase, m);
        at.y += (t.phase >> 1) - 1;
        at.x += (t.phase & 1) - 1;
        return at;
    }
    if (p.place == DCAE_PLACE_DOWN) {
        at = square_place(p, m >> 2);
        at.y = 2 * at.y + (m >> 1 & 1);
        at.x = 2 * at.x + (m & 1);
    } else {
        at = product_place(p, 0, m);
    }
    at.y = at.y * p.stride - p.taps / 2;
    at.x = at.x * p.stride - p.taps / 2;
    return at;
}

/* Where a thread is in the product's length: tap and channel. */
typedef struct {
    int ky, kx, c;
} Cursor;

/* pixels: most that this leads on to. A pixel has at least 16 channels. */
INLINE void cursor_add(const DcaeKernelConv &p, Cursor *at, int channels, int pixels)
{
    at->c += channels;
#pragma unroll
    for (int i = 0; i < pixels; i++) {
        if (at->c < p.in_padded)
            continue;
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
    return pixel_at(p.in, image, y, x) + (k.c < p.in_wrap ? k.c : k.c - p.in_wrap);
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

    __builtin_assume(p.k >= STEP);
    for (int k = 0; k < p.k; k += STEP) {
        float4 in[2], w[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const element *from = tap_inputs(p, t.image, tap[i], cursor);
            in[i] = from ? *(const float4 *)from : zero;
            w[i] = *(const float4 *)(weight + (long long)(k + 8 * i) * p.columns);
        }
        cursor_add(p, &cursor, STEP, 1);
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
    finish_tile(p, t, TILE_M, TILE_N, DCAE_F32_THREADS, true);
}

#else

#include "mma.cuh"

#define TILE_M DCAE_MMA_TILE_M
#define STEP DCAE_MMA_STEP
#define WARP 64 /* a warp makes 64 pixels × 64 columns */
#define ROW_BYTES (STEP * 2)

/* A tile of 128 pixels × tile_n columns by tile_n warps-of-64-columns × 2; constants after
 * inlining. */
typedef struct {
    int tile_n, threads, stages;
} Shape;

/* What a thread loads of each step: eight channels of some rows of each operand. */
typedef struct {
    Place tap[4];
    Cursor cursor;
    const element *weight; /* of its first column */
} Loader;

INLINE Loader loader_init(const DcaeKernelConv &p, const Tile &t, const Shape s, int first)
{
    const int row = (int)threadIdx.x >> 2, chunk = (int)threadIdx.x & 3, rows = s.threads / 4;
    const int tap = first * STEP / p.in_padded;
    Loader l;
#pragma unroll
    for (int i = 0; i < TILE_M / rows; i++)
        l.tap[i] = first_tap(p, t, t.m0 + row + rows * i);
    l.cursor.ky = tap / p.taps;
    l.cursor.kx = tap % p.taps;
    l.cursor.c = first * STEP - tap * p.in_padded;
    cursor_add(p, &l.cursor, chunk * 8, 1);
    l.weight =
        (const element *)p.weight + ((long long)t.phase * p.columns + t.n0 + row) * p.k + chunk * 8;
    return l;
}

/* Loads the step at the cursor into a stage, asynchronously. Nothing where the product is through,
 * but the group is committed all the same, so that waits count steps. */
INLINE void load_step(const DcaeKernelConv &p, const Tile &t, const Shape s, Loader *l,
                      unsigned stage, int step, int end)
{
    const int row = (int)threadIdx.x >> 2, chunk = (int)threadIdx.x & 3, rows = s.threads / 4;
    if (step < end) {
#pragma unroll
        for (int i = 0; i < TILE_M / rows; i++) {
            const element *from = tap_inputs(p, t.image, l->tap[i], l->cursor);
            copy_async16(stage + swizzle(row + rows * i, chunk),
                         from ? from : (const element *)p.weight, from ? 16 : 0);
        }
#pragma unroll
        for (int i = 0; i < s.tile_n / rows; i++)
            copy_async16(stage + TILE_M * ROW_BYTES + swizzle(row + rows * i, chunk),
                         l->weight + (long long)rows * i * p.k + step * STEP, 16);
        cursor_add(p, &l->cursor, STEP, 2);
    }
    copy_async_commit();
}

/* Products of one step. */
INLINE void multiply_step(unsigned stage, int warp_m, int warp_n, float sum[4][8][4])
{
    const int lane = (int)threadIdx.x & 31;
    const unsigned b_base = stage + TILE_M * ROW_BYTES;
#pragma unroll
    for (int k = 0; k < STEP / 16; k++) {
        unsigned a[4][4], b[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            load_matrix4(a[i], stage + swizzle(warp_m + i * 16 + (lane & 15), k * 2 + (lane >> 4)));
#pragma unroll
        for (int j = 0; j < 4; j++)
            load_matrix4(b[j], b_base + swizzle(warp_n + j * 16 + (lane & 7) + (lane >> 4) * 8,
                                                k * 2 + (lane >> 3 & 1)));
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 8; j++)
                multiply_add(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
}

/* Writes a warp's products to rows of the tile in shared memory. */
INLINE void spill_products(const float sum[4][8][4], float *tile, int row, int warp_n)
{
    const int lane = (int)threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            float *to = tile + (i * 16 + (lane >> 2)) * row + warp_n + j * 8 + (lane & 3) * 2;
            *(float2 *)to = make_float2(sum[i][j][0], sum[i][j][1]);
            *(float2 *)(to + 8 * row) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
}

/* Where the parts of a tile's sums lie, split 0 first; floats from split to split in *split_stride. */
INLINE float *partial_at(const DcaeKernelConv &p, const Tile &t, long long *split_stride)
{
    const int tiles = (p.products + TILE_M - 1) / TILE_M;
    *split_stride = (long long)tiles * TILE_M * p.columns;
    return (float *)p.partial + (long long)blockIdx.z * p.splits * *split_stride +
           (long long)t.m0 * p.columns + t.n0;
}

/* Writes a warp's part of the sums, of the first `filled` columns. */
INLINE void store_partial(const float sum[4][8][4], float *to, int columns, int filled)
{
    const int lane = (int)threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (j * 8 >= filled)
                continue;
            float *at = to + (long long)(i * 16 + (lane >> 2)) * columns + j * 8 + (lane & 3) * 2;
            *(float2 *)at = make_float2(sum[i][j][0], sum[i][j][1]);
            *(float2 *)(at + 8 * columns) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
}

/* The tile is finished in two halves of 64 pixels: so much f32 fits where the stages were. Only of
 * tiles of DCAE_MMA_TILE_N columns there are parts, each of them a step at least. */
INLINE void convolve(const DcaeKernelConv &p, const Shape s, Tile t)
{
    const unsigned base = (unsigned)__cvta_generic_to_shared(dynamic_shared);
    const unsigned stage_bytes = (TILE_M + s.tile_n) * ROW_BYTES;
    const int warp = (int)threadIdx.x >> 5, steps = p.k / STEP;
    const bool parts = s.tile_n == DCAE_MMA_TILE_N;
    const int share = parts ? (steps + p.splits - 1) / p.splits : steps;
    const int first = parts ? (int)blockIdx.y * share : 0, end = min(first + share, steps);
    const int warp_m = (warp & 1) * WARP, warp_n = (warp >> 1) * WARP;
    Loader l = loader_init(p, t, s, first);
    float sum[4][8][4] = {};

    load_step(p, t, s, &l, base, first, first + 1);
#pragma unroll
    for (int i = 1; i < s.stages - 1; i++)
        load_step(p, t, s, &l, base + i * stage_bytes, first + i, end);
    int step = 0;
    do {
        const int next = step + s.stages - 1;
        if (s.stages == 4)
            copy_async_wait(2);
        else
            copy_async_wait(1);
        __syncthreads();
        load_step(p, t, s, &l, base + next % s.stages * stage_bytes, first + next, end);
        multiply_step(base + step % s.stages * stage_bytes, warp_m, warp_n, sum);
    } while (++step < end - first);
    copy_async_wait(0);
    if (parts && p.partial) {
        long long split_stride;
        float *to = partial_at(p, t, &split_stride);
        to += (long long)blockIdx.y * split_stride;
        store_partial(sum, to + (long long)warp_m * p.columns + warp_n, p.columns,
                      p.filled - t.n0 - warp_n);
        return;
    }
    t.data = (const float *)dynamic_shared;
    t.row = s.tile_n + DCAE_TILE_PAD;
#pragma unroll 1
    for (int half = 0; half < 2; half++, t.m0 += WARP) {
        __syncthreads();
        if (warp_m == half * WARP)
            spill_products(sum, (float *)dynamic_shared, t.row, warp_n);
        __syncthreads();
        finish_tile(p, t, WARP, s.tile_n, s.threads, true);
    }
}

KERNEL __launch_bounds__(DCAE_MMA_THREADS, 2) dcae_k_conv(const DcaeKernelConv p)
{
    const Shape s = {DCAE_MMA_TILE_N, DCAE_MMA_THREADS, DCAE_MMA_STAGES};
    convolve(p, s, tile_of_block(p, TILE_M, DCAE_MMA_TILE_N));
}

/* Adds the parts of DCAE_ADD_TILE_M pixels × DCAE_MMA_TILE_N columns in order. Same grid, without
 * splits. Products with a norm have no parts. */
KERNEL __launch_bounds__(DCAE_MMA_THREADS) dcae_k_conv_add(const DcaeKernelConv p)
{
    __shared__ __align__(16) float shared[DCAE_ADD_TILE_M * (DCAE_MMA_TILE_N + DCAE_TILE_PAD)];
    Tile t = tile_of_block(p, DCAE_ADD_TILE_M, DCAE_MMA_TILE_N);
    long long split_stride;
    const float *from = partial_at(p, t, &split_stride);
    t.data = shared;
    t.row = DCAE_MMA_TILE_N + DCAE_TILE_PAD;
    static_assert(DCAE_ADD_TILE_M * DCAE_MMA_TILE_N == 4 * DCAE_MMA_THREADS, "four sums a thread");
    const int m = (int)threadIdx.x / (DCAE_MMA_TILE_N / 4);
    const int n = (int)threadIdx.x % (DCAE_MMA_TILE_N / 4) * 4;
    const float *at = from + (long long)m * p.columns + n;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    for (int k = 0; k < p.splits && t.n0 + n < p.filled; k++) {
        const float4 part = *(const float4 *)(at + k * split_stride);
        sum.x += part.x, sum.y += part.y, sum.z += part.z, sum.w += part.w;
    }
    *(float4 *)(shared + m * t.row + n) = sum;
    __syncthreads();
    finish_tile(p, t, DCAE_ADD_TILE_M, DCAE_MMA_TILE_N, DCAE_MMA_THREADS, false);
}

/* Twice the columns: fewer loads a product, and norms of up to 256 channels; with p.after of more. */
KERNEL __launch_bounds__(DCAE_WIDE_THREADS) dcae_k_conv_wide(const DcaeKernelConv p)
{
    const Shape s = {DCAE_WIDE_TILE_N, DCAE_WIDE_THREADS, DCAE_WIDE_STAGES};
    const bool all = p.after.out.data != 0;
    Tile t = tile_of_block(p, TILE_M, all ? p.columns : DCAE_WIDE_TILE_N);
    const int end = all ? p.columns : t.n0 + DCAE_WIDE_TILE_N;

    do {
        convolve(p, s, t);
        __syncthreads();
        t.n0 += DCAE_WIDE_TILE_N;
    } while (t.n0 < end);
    if (all)
        norm_tile(p.after, t.image, t.m0, TILE_M, DCAE_WIDE_THREADS);
}

#endif
