/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * common.cuh - the element type of a module and what all kernels share: loads and stores that
 * convert to f32, activations, places of pixels. A module is compiled with one of DCAE_F32,
 * DCAE_BF16, DCAE_F16. Arithmetic outside the tensor cores is f32 everywhere.
 */
#ifndef DCAE_COMMON_CUH
#define DCAE_COMMON_CUH

#include "args.h"

#define INLINE __device__ __forceinline__
#define KERNEL extern "C" __global__ void

/* Values of the host's enums (dcae_config.h, dcae_graph.h, dcae.h). */
enum { ACT_NONE, ACT_RELU, ACT_SILU, ACT_GELU, ACT_MISH };
enum { SHORTCUT_NONE, SHORTCUT_MEAN, SHORTCUT_REPEAT, SHORTCUT_DOWN_MEAN, SHORTCUT_UP_REPEAT };
enum { COLOR_RGB, COLOR_GRAY, COLOR_YUV };
enum { LATENT_F32, LATENT_F16, LATENT_BF16 };
enum { PAD_ZERO, PAD_EXTEND };

#define NORM_EPS 1e-5f

/* Of the kernels whose shared memory the host sizes at launch. */
extern __shared__ __align__(128) unsigned char dynamic_shared[];

INLINE float half_to_float(unsigned short h)
{
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

INLINE unsigned short float_to_half(float f)
{
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

INLINE float bfloat_to_float(unsigned short h)
{
    return __uint_as_float((unsigned)h << 16);
}

INLINE unsigned short float_to_bfloat(float f)
{
    unsigned short h;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}

/* ---- elements */

#if defined DCAE_F32
typedef float element;

INLINE float to_float(element e)
{
    return e;
}

INLINE element to_element(float f)
{
    return f;
}

INLINE void load4(const element *p, float v[4])
{
    const float4 x = *(const float4 *)p;
    v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}

INLINE void store4(element *p, const float v[4])
{
    *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
}
#else
typedef unsigned short element;

INLINE float to_float(element e)
{
#ifdef DCAE_BF16
    return bfloat_to_float(e);
#else
    return half_to_float(e);
#endif
}

INLINE element to_element(float f)
{
#ifdef DCAE_BF16
    return float_to_bfloat(f);
#else
    return float_to_half(f);
#endif
}

INLINE void load4(const element *p, float v[4])
{
    const uint2 x = *(const uint2 *)p;
    v[0] = to_float((element)(x.x & 0xffff)), v[1] = to_float((element)(x.x >> 16));
    v[2] = to_float((element)(x.y & 0xffff)), v[3] = to_float((element)(x.y >> 16));
}

INLINE void store4(element *p, const float v[4])
{
    uint2 x;
    x.x = to_element(v[0]) | (unsigned)to_element(v[1]) << 16;
    x.y = to_element(v[2]) | (unsigned)to_element(v[3]) << 16;
    *(uint2 *)p = x;
}
#endif

/* Where the rest of a value lies; the same for a whole launch. */
INLINE int low_of(const DcaeKernelRows &rows)
{
#ifdef DCAE_BF16
    return rows.low;
#else
    return 0;
#endif
}

/* One channel at p of a pixel of `rows`. */
INLINE float load_one(const DcaeKernelRows &rows, const element *p)
{
    const int low = low_of(rows);
    return low ? to_float(*p) + to_float(p[low]) : to_float(*p);
}

/* packed: whether the value may be. */
INLINE void store_one(const DcaeKernelRows &rows, element *p, float f, bool packed = true)
{
    const int low = low_of(rows);
    const element value = to_element(f);
    *p = value;
    if (low)
        p[low] = to_element(f - to_float(value));
    if (packed && low == DCAE_LOW_PACKED) {
        p[2 * DCAE_LOW_PACKED] = value;
        p[3 * DCAE_LOW_PACKED] = to_element(0.0f);
    }
}

/* Four channels from p on. */
INLINE void load_four(const DcaeKernelRows &rows, const element *p, float v[4])
{
    const int low = low_of(rows);
    load4(p, v);
    if (low) {
        float rest[4];
        load4(p + low, rest);
#pragma unroll
        for (int i = 0; i < 4; i++)
            v[i] += rest[i];
    }
}

INLINE void store_four(const DcaeKernelRows &rows, element *p, const float v[4], bool packed = true)
{
    const int low = low_of(rows);
    store4(p, v);
    if (low) {
        float rest[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            rest[i] = v[i] - to_float(to_element(v[i]));
        store4(p + low, rest);
    }
    if (packed && low == DCAE_LOW_PACKED) {
        const float zeros[4] = {};
        store4(p + 2 * DCAE_LOW_PACKED, v);
        store4(p + 3 * DCAE_LOW_PACKED, zeros);
    }
}

/* Pixel (y, x) of image n. */
INLINE element *pixel_at(const DcaeKernelRows &rows, int n, int y, int x)
{
    return (element *)rows.data + n * rows.image_stride + (y - rows.row0) * rows.row_stride +
           (long long)x * rows.pixel_stride;
}

/* ---- activations: f32 keeps the digits that the exact functions have */

INLINE float act_silu(float x)
{
#ifdef DCAE_F32
    return x / (1.0f + expf(-x));
#else
    return __fdividef(x, 1.0f + __expf(-x));
#endif
}

/* x·tanh(ln(1 + e^x)) = x·n / (n + 2) with n = e^x·(e^x + 2). Above 20 that is x. */
INLINE float act_mish(float x)
{
    const float e = expf(fminf(x, 20.0f)), n = e * (e + 2.0f);
    return x * (n / (n + 2.0f));
}

/* NaN stays NaN, which fmaxf() would turn into 0. */
INLINE float act_relu(float x)
{
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(0.0f));
    return y;
}

INLINE float activate(int act, float x)
{
    if (act == ACT_NONE)
        return x;
    if (act == ACT_RELU)
        return act_relu(x);
    if (act == ACT_SILU)
        return act_silu(x);
    if (act == ACT_GELU)
        return 0.5f * x * erfcf(x * -0.70710678f);
    return act_mish(x);
}

/* Sum over groups of `lanes` neighbouring lanes, a power of two; the same bits in all of them. */
INLINE float lanes_sum(float v, int lanes)
{
    for (int i = lanes / 2; i > 0; i /= 2)
        v += __shfl_xor_sync(0xffffffff, v, i);
    return v;
}

#endif
