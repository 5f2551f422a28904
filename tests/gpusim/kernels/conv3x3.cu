// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Sample kernel for the stand-in driver's own test: a 3x3 convolution, stride 1, zero padding 1, as
// an implicit GEMM on tensor cores. It is written the way production kernels are (cp.async stages,
// XOR-swizzled shared memory, ldmatrix, mma.sync), so that the interpreter meets real compiler
// output; it is not tuned and ships nowhere.
//
//   in      bf16 [h][w][cin], cin a multiple of 8
//   weight  bf16 [cout][9][cin]
//   bias    f32 [cout]
//   out     bf16 [h][w][cout]
//
// One block makes 64 pixels x 64 output channels with 4 warps of 32 x 32. grid = (ceil(h*w/64),
// ceil(cout/64)).

#include <cuda_bf16.h>

#define TILE_M 64
#define TILE_N 64
#define TILE_K 32
#define STAGES 3
#define STAGE_BYTES ((TILE_M + TILE_N) * TILE_K * 2)

struct ConvArgs {
    const __nv_bfloat16 *in;
    const __nv_bfloat16 *weight;
    const float *bias;
    __nv_bfloat16 *out;
    int h, w, cin, cout;
    int silu;
};

// Row r of a tile is 64 bytes: 4 chunks of 16. Swizzling by bits 1-2 of the row keeps 8 rows of
// ldmatrix on 8 different bank groups.
__device__ __forceinline__ unsigned swizzle(unsigned row, unsigned chunk)
{
    return row * 64 + ((chunk ^ ((row >> 1) & 3)) << 4);
}

__device__ __forceinline__ void cp_async16(unsigned dst, const void *src, unsigned bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4(unsigned r[4], unsigned addr)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(addr)
                 : "memory");
}

__device__ __forceinline__ void mma_bf16(float c[4], const unsigned a[4], unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Loads K step `step` (one tap, 32 channels) of both tiles into its stage. 128 threads, 2 + 2
// chunks each.
__device__ __forceinline__ void load_stage(const ConvArgs &p, unsigned smem, int step, int m0,
                                           int n0, int chunks)
{
    const int tap = step / chunks;
    const int c0 = (step % chunks) * TILE_K;
    const int dy = tap / 3 - 1, dx = tap % 3 - 1;
    const unsigned base = smem + (step % STAGES) * STAGE_BYTES;

#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int chunk = threadIdx.x & 3;
        const int row = (threadIdx.x >> 2) + i * 32;
        const int c = c0 + chunk * 8;
        const int m = m0 + row, n = n0 + row;
        const int y = m / p.w + dy, x = m % p.w + dx;
        const bool a_ok = c < p.cin && m < p.h * p.w && y >= 0 && y < p.h && x >= 0 && x < p.w;
        const bool b_ok = c < p.cin && n < p.cout;
        const __nv_bfloat16 *a = a_ok ? p.in + ((size_t)y * p.w + x) * p.cin + c : p.in;
        const __nv_bfloat16 *b = b_ok ? p.weight + ((size_t)n * 9 + tap) * p.cin + c : p.weight;
        cp_async16(base + swizzle(row, chunk), a, a_ok ? 16 : 0);
        cp_async16(base + TILE_M * TILE_K * 2 + swizzle(row, chunk), b, b_ok ? 16 : 0);
    }
}

extern "C" __global__ void __launch_bounds__(128) sample_conv3x3(const ConvArgs p)
{
    extern __shared__ __align__(128) unsigned char shared[];
    const unsigned smem = (unsigned)__cvta_generic_to_shared(shared);
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int m0 = blockIdx.x * TILE_M, n0 = blockIdx.y * TILE_N;
    const int wm = (warp & 1) * 32, wn = (warp >> 1) * 32;
    const int chunks = (p.cin + TILE_K - 1) / TILE_K;
    const int steps = 9 * chunks;
    float acc[2][4][4] = {};

    for (int s = 0; s < STAGES - 1; s++) {
        if (s < steps)
            load_stage(p, smem, s, m0, n0, chunks);
        asm volatile("cp.async.commit_group;" ::: "memory");
    }
    for (int step = 0; step < steps; step++) {
        asm volatile("cp.async.wait_group %0;" ::"n"(STAGES - 2) : "memory");
        __syncthreads();
        if (step + STAGES - 1 < steps)
            load_stage(p, smem, step + STAGES - 1, m0, n0, chunks);
        asm volatile("cp.async.commit_group;" ::: "memory");

        const unsigned a_base = smem + (step % STAGES) * STAGE_BYTES;
        const unsigned b_base = a_base + TILE_M * TILE_K * 2;
#pragma unroll
        for (int k = 0; k < 2; k++) {
            unsigned a[2][4], b[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                // A: lanes 0-15 give rows 0-15 of the left 8 columns, lanes 16-31 of the right 8.
                ldmatrix_x4(a[i], a_base + swizzle(wm + i * 16 + (lane & 15), k * 2 + (lane >> 4)));
                // B: lanes 0-7 n 0-7 k low, 8-15 n 0-7 k high, 16-23 n 8-15 k low, 24-31 n 8-15 k
                // high.
                ldmatrix_x4(b[i], b_base + swizzle(wn + i * 16 + (lane & 7) + ((lane >> 4) << 3),
                                                   k * 2 + ((lane >> 3) & 1)));
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    mma_bf16(acc[i][j], a[i], b[j >> 1][(j & 1) * 2], b[j >> 1][(j & 1) * 2 + 1]);
        }
    }

    const int pixels = p.h * p.w;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const int m = m0 + wm + i * 16 + (lane >> 2) + (e >> 1) * 8;
                const int n = n0 + wn + j * 8 + (lane & 3) * 2 + (e & 1);
                if (m < pixels && n < p.cout) {
                    float v = acc[i][j][e] + p.bias[n];
                    if (p.silu)
                        v = v / (1.0f + __expf(-v));
                    p.out[(size_t)m * p.cout + n] = __float2bfloat16(v);
                }
            }
}
