// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Operations one by one: each kernel writes the results of many expressions of two inputs, and
// test_gpusim computes the same in C. out is [n][COUNT]; the list of expressions is repeated there,
// in the same order.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned u32;
typedef unsigned long long u64;
typedef long long s64;

extern "C" __global__ void operations_32(const u32 *in, u32 *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const u32 a = in[2 * i], b = in[2 * i + 1];
    const int sa = (int)a, sb = (int)b;
    u32 *o = out + i * 24;
    o[0] = a / (b | 1);
    o[1] = (u32)(sa / (sb | 1));
    o[2] = a % (b | 1);
    o[3] = (u32)(sa % (sb | 1));
    o[4] = __umulhi(a, b);
    o[5] = (u32)__mulhi(sa, sb);
    o[6] = __popc(a);
    o[7] = __clz(a);
    o[8] = __brev(a);
    o[9] = __byte_perm(a, b, 0x5140 + (b & 7));
    o[10] = a >> (b & 31);
    o[11] = (u32)(sa >> (b & 31));
    o[12] = a << (b & 31);
    o[13] = (u32)min(sa, sb);
    o[14] = max(a, b);
    o[15] = (u32)abs(sa);
    o[16] = __funnelshift_l(a, b, 7);
    o[17] = __funnelshift_r(a, b, 9);
    o[18] = a < b ? a ^ b : a & ~b;
    o[19] = (u32)(unsigned short)(a * b);
    o[20] = (u32)(int)(short)(a + b);
    o[21] = (u32)(int)(signed char)a;
    o[22] = __sad(sa >> 1, sb >> 1, a);
    o[23] = (sa > 5 && sb < 7) || a == b;
}

extern "C" __global__ void operations_64(const u64 *in, u64 *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const u64 a = in[2 * i], b = in[2 * i + 1];
    const s64 sa = (s64)a, sb = (s64)b;
    u64 *o = out + i * 14;
    o[0] = a / (b | 1);
    o[1] = (u64)(sa / (sb | 1));
    o[2] = a % (b | 1);
    o[3] = (u64)(sa % (sb | 1));
    o[4] = __umul64hi(a, b);
    o[5] = (u64)__mul64hi(sa, sb);
    o[6] = a * b + 12345;
    o[7] = a >> (b & 63);
    o[8] = (u64)(sa >> (b & 63));
    o[9] = a << (b & 63);
    o[10] = (u64)min(sa, sb);
    o[11] = __popcll(a) + (u64)__clzll(a);
    o[12] = sa < sb ? (u64)(int)a : (u64)(u32)b;
    o[13] = (u64)(s64)(int)a * (u64)(s64)(int)b;
}

extern "C" __global__ void operations_float(const float *in, float *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float a = in[2 * i], b = in[2 * i + 1];
    float *o = out + i * 24;
    o[0] = a + b;
    o[1] = a * b;
    o[2] = a / b;
    o[3] = fmaf(a, b, a);
    o[4] = sqrtf(fabsf(a));
    o[5] = fminf(a, b);
    o[6] = fmaxf(a, b);
    o[7] = roundf(a);
    o[8] = rintf(a);
    o[9] = truncf(a);
    o[10] = floorf(a);
    o[11] = ceilf(b);
    o[12] = (float)(int)a;
    o[13] = (float)(u32)fabsf(b);
    o[14] = __bfloat162float(__float2bfloat16(a));
    o[15] = __half2float(__float2half(a));
    o[16] = (float)((double)a * b + 0.125);
    o[17] = __saturatef(a);
    o[18] = a < b || isnan(a) ? 1.0f : 0.0f;
    o[19] = __uint_as_float(__float_as_uint(a) ^ 0x80000000u);
    o[20] = (float)(s64)a;
    o[21] = copysignf(a, b);
    const __nv_bfloat162 p = __floats2bfloat162_rn(a, b);
    o[22] = __low2float(p) + 2.0f * __high2float(p);
    o[23] = __half2float(__hfma(__float2half(a), __float2half(b), __float2half(1.0f)));
}

// Approximations: compared with a tolerance.
extern "C" __global__ void operations_approximate(const float *in, float *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const float a = in[2 * i], b = in[2 * i + 1];
    float *o = out + i * 8;
    o[0] = __expf(a);
    o[1] = expf(b);
    o[2] = rsqrtf(fabsf(a));
    o[3] = __fdividef(a, b);
    o[4] = __logf(fabsf(b));
    o[5] = tanhf(a);
    o[6] = __sinf(b);
    o[7] = powf(fabsf(a), 0.75f);
}

// Warp operations, with divergence before and after.
extern "C" __global__ void operations_warp(const u32 *in, u32 *out)
{
    const u32 lane = threadIdx.x & 31, v = in[threadIdx.x];
    u32 *o = out + threadIdx.x * 12;
    u32 x = v;
    for (u32 i = 0; i < (v & 7); i++)
        x = x * 1664525u + 1013904223u;
    __syncwarp();
    o[0] = __shfl_up_sync(~0u, x, 3);
    o[1] = __shfl_down_sync(~0u, x, 5, 16);
    o[2] = __shfl_xor_sync(~0u, x, 9);
    o[3] = __shfl_sync(~0u, x, (int)(v & 31), 8);
    o[4] = __ballot_sync(~0u, x & 1);
    o[5] = __any_sync(~0u, lane == (in[0] & 31));
    o[6] = __all_sync(~0u, x > 10);
    o[7] = __match_any_sync(~0u, v & 3);
    o[8] = __reduce_add_sync(~0u, v);
    o[9] = (u32)__reduce_max_sync(~0u, (int)x);
    if (lane & 1) {
        o[10] = __shfl_xor_sync(0xaaaaaaaau, x, 2);
        o[11] = __popc(__activemask());
    } else {
        switch (v & 7) {
        case 0:
            x = v + 1;
            break;
        case 1:
            x = v * 3;
            break;
        case 2:
            x = v ^ 0x55;
            break;
        case 3:
            x = v - 9;
            break;
        case 4:
            x = ~v;
            break;
        case 5:
            x = v >> 3;
            break;
        default:
            x = 42;
        }
        o[10] = x;
        o[11] = 0;
    }
}

__device__ __noinline__ float halve(float x, int times)
{
    for (int i = 0; i < times; i++)
        x *= 0.5f;
    return x;
}

__constant__ float weights[4] = {1.0f, 2.0f, 0.5f, -3.0f};
__device__ u32 tickets[2];

// Calls, constants, module variables, local arrays, atomics; the last block sums up what the others
// wrote.
extern "C" __global__ void operations_memory(const float *in, float *partial, float *out, int n)
{
    __shared__ float sum;
    __shared__ u32 ticket;
    float local[8];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 0)
        sum = 0.0f;
    __syncthreads();
    for (int k = 0; k < 8; k++)
        local[k] = i < n ? in[i] * (float)k : 0.0f;
    atomicAdd(&sum, halve(local[i & 7], 2) * weights[i & 3]);
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        __threadfence();
        ticket = atomicAdd(&tickets[0], 1u);
    }
    __syncthreads();
    if (ticket == gridDim.x - 1 && threadIdx.x == 0) {
        __threadfence();
        float total = 0.0f;
        for (u32 k = 0; k < gridDim.x; k++)
            total += partial[k];
        *out = total;
        tickets[0] = 0;
        atomicMax(&tickets[1], gridDim.x);
    }
}

struct Table {
    float value[6];
    short scale;
    signed char offset;
};

// Block-wide votes, indexed parameters, three-dimensional indices. out is [threads of the grid][6].
extern "C" __global__ void operations_block(const __grid_constant__ Table table, float *out)
{
    const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    float *o = out + ((size_t)block * (blockDim.x * blockDim.y * blockDim.z) + t) * 6;
    o[0] = (float)__syncthreads_count(t % 3 == 0);
    o[1] = (float)__syncthreads_and(t < 1000);
    o[2] = (float)__syncthreads_or(t == 5 && block == 1);
    o[3] = table.value[t % 6] * table.scale + table.offset;
    o[4] = (float)(threadIdx.x * 10000 + threadIdx.y * 100 + threadIdx.z);
    o[5] = (float)(blockIdx.x * 10000 + blockIdx.y * 100 + blockIdx.z);
}

#define ASM3(op, d, a, b, c) asm(op " %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c))
#define ASM2(op, d, a, b) asm(op " %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b))

// Operations that compilers write now and then. out is [n][24].
extern "C" __global__ void operations_rare(const u32 *in, u32 *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const u32 a = in[2 * i], b = in[2 * i + 1];
    u32 *o = out + i * 24;
    ASM3("bfe.u32", o[0], a, b & 63, (b >> 8) & 63);
    ASM3("bfe.s32", o[1], a, b & 63, (b >> 8) & 63);
    asm("bfi.b32 %0, %1, %2, %3, %4;" : "=r"(o[2]) : "r"(a), "r"(b), "r"(b & 63), "r"((b >> 8) & 63));
    asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(o[3]) : "r"(a), "r"(b), "r"(a ^ (b << 3)));
    ASM3("mad.hi.u32", o[4], a, b, 77u);
    ASM3("mad.hi.s32", o[5], a, b, 77u);
    ASM3("dp4a.u32.u32", o[6], a, b, 9u);
    ASM3("dp4a.s32.s32", o[7], a, b, 9u);
    ASM3("sad.s32", o[8], a >> 1, b >> 1, a);
    asm("bfind.u32 %0, %1;" : "=r"(o[9]) : "r"(a));
    asm("bfind.s32 %0, %1;" : "=r"(o[10]) : "r"(a));
    ASM3("prmt.b32", o[11], a, b, 0x9c3fu ^ (b & 0x7777u));
    ASM3("shf.l.clamp.b32", o[12], a, b, b & 63);
    ASM3("shf.r.clamp.b32", o[13], a, b, b & 63);
    asm("{.reg .s16 t; cvt.sat.s16.s32 t, %1; cvt.s32.s16 %0, t;}" : "=r"(o[14]) : "r"(a));
    asm("{.reg .u16 t; cvt.sat.u8.s32 t, %1; cvt.u32.u16 %0, t;}" : "=r"(o[15]) : "r"(a));
    asm("cvt.rni.s32.f32 %0, %1;" : "=r"(o[16]) : "f"(__uint_as_float(a)));
    asm("cvt.rzi.u32.f32 %0, %1;" : "=r"(o[17]) : "f"(__uint_as_float(a)));
    asm("set.lt.u32.s32 %0, %1, %2;" : "=r"(o[18]) : "r"(a), "r"(b));
    asm("{.reg .pred p, q; setp.gt.u32 p|q, %1, %2; selp.u32 %0, 1, 0, q;}" : "=r"(o[19]) : "r"(a), "r"(b));
    ASM2("shl.b32", o[20], a, b & 63);
    ASM2("shr.u32", o[21], a, b & 63);
    ASM2("shr.s32", o[22], a, b & 63);
    asm("{.reg .u64 t; cvt.u64.u32 t, %1; shl.b64 t, t, %2; cvt.u32.u64 %0, t;}" : "=r"(o[23]) : "r"(a), "r"(b & 127));
}

// Pairs of halves: a and b are two f16 or bf16 each. out is [n][12].
extern "C" __global__ void operations_half(const u32 *in, u32 *out, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    const u32 a = in[2 * i], b = in[2 * i + 1];
    u32 *o = out + i * 12;
    ASM2("add.f16x2", o[0], a, b);
    ASM2("sub.f16x2", o[1], a, b);
    ASM2("mul.f16x2", o[2], a, b);
    ASM3("fma.rn.f16x2", o[3], a, b, a);
    ASM2("max.f16x2", o[4], a, b);
    ASM2("min.f16x2", o[5], a, b);
    asm("neg.f16x2 %0, %1;" : "=r"(o[6]) : "r"(a));
    ASM3("fma.rn.bf16x2", o[7], a, b, a);
    ASM2("max.bf16x2", o[8], a, b);
    ASM2("min.bf16x2", o[9], a, b);
    asm("abs.bf16x2 %0, %1;" : "=r"(o[10]) : "r"(a));
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(o[11]) : "f"((float)(int)a), "f"((float)(int)b * 1e-7f));
}

// Atomics of 96 threads on one cell each. out is [16], in the state that test_operations.c gives it.
extern "C" __global__ void operations_atomic(u32 *out, float *sum)
{
    const u32 t = threadIdx.x;
    atomicAdd(&out[0], t);
    atomicMin((int *)&out[1], (int)t - 50);
    atomicMax((int *)&out[2], (int)t - 50);
    atomicMin(&out[3], t + 3);
    atomicMax(&out[4], t * 7);
    atomicAnd(&out[5], ~(1u << (t & 15)));
    atomicOr(&out[6], 1u << (t & 15));
    atomicXor(&out[7], t);
    atomicInc(&out[8], 10u);
    atomicDec(&out[9], 10u);
    u32 seen, old = 0;
    do {
        seen = old;
        old = atomicCAS(&out[10], seen, seen + 2);
    } while (old != seen);
    atomicAdd((u64 *)&out[12], (u64)t << 30);
    atomicAdd(sum, 0.25f);
    if (t == 95)
        out[11] = atomicExch(&out[14], 5u);
}
