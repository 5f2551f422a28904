// SPDX-License-Identifier: LGPL-2.1-or-later
//
// One warp, one tile: every tensor-core operation of the interpreter against a plain matrix
// product. Fragments are loaded here element by element, as the tables of the PTX manual place them
// (g = lane / 4, t = lane % 4), or by ldmatrix.
//
// a is [16][k] row by row, b is [k][8] row by row, c and d are f32 [16][8].

typedef unsigned short u16;

__device__ __forceinline__ unsigned pair(const u16 *p, int stride)
{
    return p[0] | (unsigned)p[stride] << 16;
}

__device__ __forceinline__ void load_c(float c[4], const float *in, int lane)
{
    for (int i = 0; i < 4; i++)
        c[i] = in[(lane / 4 + (i / 2) * 8) * 8 + lane % 4 * 2 + i % 2];
}

__device__ __forceinline__ void store_c(const float c[4], float *out, int lane)
{
    for (int i = 0; i < 4; i++)
        out[(lane / 4 + (i / 2) * 8) * 8 + lane % 4 * 2 + i % 2] = c[i];
}

#define MMA_K16(name, type)                                                                     \
    extern "C" __global__ void name(const u16 *a, const u16 *b, const float *c, float *d)       \
    {                                                                                           \
        const int lane = threadIdx.x, g = lane / 4, t = lane % 4;                               \
        unsigned fa[4], fb[2];                                                                  \
        float fc[4];                                                                            \
        load_c(fc, c, lane);                                                                    \
        fa[0] = pair(a + g * 16 + 2 * t, 1);                                                    \
        fa[1] = pair(a + (g + 8) * 16 + 2 * t, 1);                                              \
        fa[2] = pair(a + g * 16 + 2 * t + 8, 1);                                                \
        fa[3] = pair(a + (g + 8) * 16 + 2 * t + 8, 1);                                          \
        fb[0] = pair(b + 2 * t * 8 + g, 8);                                                     \
        fb[1] = pair(b + (2 * t + 8) * 8 + g, 8);                                               \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                     \
                     ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "                                      \
                     "{%8,%9}, {%0,%1,%2,%3};"                                                  \
                     : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3])                       \
                     : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1])); \
        store_c(fc, d, lane);                                                                   \
    }

#define MMA_K8(name, type)                                                                     \
    extern "C" __global__ void name(const u16 *a, const u16 *b, const float *c, float *d)      \
    {                                                                                          \
        const int lane = threadIdx.x, g = lane / 4, t = lane % 4;                              \
        float fc[4];                                                                           \
        load_c(fc, c, lane);                                                                   \
        const unsigned a0 = pair(a + g * 8 + 2 * t, 1), a1 = pair(a + (g + 8) * 8 + 2 * t, 1); \
        const unsigned b0 = pair(b + 2 * t * 8 + g, 8);                                        \
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32." type "." type                     \
                     ".f32 {%0,%1,%2,%3}, {%4,%5}, "                                           \
                     "{%6}, {%0,%1,%2,%3};"                                                    \
                     : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3])                      \
                     : "r"(a0), "r"(a1), "r"(b0));                                             \
        store_c(fc, d, lane);                                                                  \
    }

MMA_K16(mma_k16_bf16, "bf16")
MMA_K16(mma_k16_f16, "f16")
MMA_K8(mma_k8_bf16, "bf16")
MMA_K8(mma_k8_f16, "f16")

extern "C" __global__ void mma_k8_tf32(const unsigned *a, const unsigned *b, const float *c,
                                       float *d)
{
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    float fc[4];
    load_c(fc, c, lane);
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3])
        : "r"(a[g * 8 + t]), "r"(a[(g + 8) * 8 + t]), "r"(a[g * 8 + t + 4]),
          "r"(a[(g + 8) * 8 + t + 4]), "r"(b[t * 8 + g]), "r"(b[(t + 4) * 8 + g]));
    store_c(fc, d, lane);
}

// The same product with A by ldmatrix.x4 and B, which lies [k][n], by ldmatrix.x2.trans.
extern "C" __global__ void ldmatrix_bf16(const u16 *a, const u16 *b, const float *c, float *d)
{
    __shared__ __align__(16) u16 sa[16 * 16], sb[16 * 8];
    const int lane = threadIdx.x;
    float fc[4];
    unsigned fa[4], fb[2];
    for (int i = lane; i < 256; i += 32)
        sa[i] = a[i];
    for (int i = lane; i < 128; i += 32)
        sb[i] = b[i];
    __syncthreads();
    load_c(fc, c, lane);
    const unsigned pa = (unsigned)__cvta_generic_to_shared(sa + lane % 16 * 16 + lane / 16 * 8);
    const unsigned pb = (unsigned)__cvta_generic_to_shared(sb + lane % 16 * 8);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                 : "r"(pa));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(fb[0]), "=r"(fb[1])
                 : "r"(pb));
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(fc[0]), "+f"(fc[1]), "+f"(fc[2]), "+f"(fc[3])
                 : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
    store_c(fc, d, lane);
}
