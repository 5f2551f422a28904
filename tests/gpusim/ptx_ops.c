/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Arithmetic and logic: one small function per operation over 32 lanes, and a table of full names,
 * every modifier spelled out. A name that is not in the table is not implemented, and the module is
 * refused; so an operation can't lose its rounding or flushing unseen. Knows registers only; memory
 * is in ptx_mem.c.
 */
#include <fenv.h>
#include <math.h>

#include "ptx_exec.h"

typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

#define PUT(slot, t)           \
    do {                       \
        if (sizeof(t[0]) == 8) \
            put64(w, slot, t); \
        else                   \
            put32(w, slot, t); \
    } while (0)

#define OP1(name, TD, TA, expr)               \
    static void name(Warp *w, const Insn *in) \
    {                                         \
        const TA *A = row(w, in->src[0]);     \
        TD t[LANES];                          \
        for (int l = 0; l < LANES; l++) {     \
            const TA a = A[l];                \
            t[l] = (TD)(expr);                \
        }                                     \
        PUT(in->dst[0], t);                   \
    }

#define OP2(name, TD, TA, TB, expr)           \
    static void name(Warp *w, const Insn *in) \
    {                                         \
        const TA *A = row(w, in->src[0]);     \
        const TB *B = row(w, in->src[1]);     \
        TD t[LANES];                          \
        for (int l = 0; l < LANES; l++) {     \
            const TA a = A[l];                \
            const TB b = B[l];                \
            t[l] = (TD)(expr);                \
        }                                     \
        PUT(in->dst[0], t);                   \
    }

#define OP3(name, TD, TA, TB, TC, expr)       \
    static void name(Warp *w, const Insn *in) \
    {                                         \
        const TA *A = row(w, in->src[0]);     \
        const TB *B = row(w, in->src[1]);     \
        const TC *C = row(w, in->src[2]);     \
        TD t[LANES];                          \
        for (int l = 0; l < LANES; l++) {     \
            const TA a = A[l];                \
            const TB b = B[l];                \
            const TC c = C[l];                \
            t[l] = (TD)(expr);                \
        }                                     \
        PUT(in->dst[0], t);                   \
    }

/* Integers. Signed sums are computed unsigned: PTX wraps, C does not. 16-bit registers are
 * zero-extended words. */
OP2(add_w, u32, u32, u32, a + b)
OP2(add_d, u64, u64, u64, a + b)
OP2(add_h, u32, u32, u32, (u16)(a + b))
OP2(sub_w, u32, u32, u32, a - b)
OP2(sub_d, u64, u64, u64, a - b)
OP2(sub_h, u32, u32, u32, (u16)(a - b))
OP2(mul_lo_w, u32, u32, u32, a *b)
OP2(mul_lo_d, u64, u64, u64, a *b)
OP2(mul_lo_h, u32, u32, u32, (u16)(a *b))
OP2(mul_hi_u32, u32, u32, u32, ((u64)a * b) >> 32)
OP2(mul_hi_s32, u32, s32, s32, ((s64)a * b) >> 32)
OP2(mul_hi_u64, u64, u64, u64, ((unsigned __int128)a * b) >> 64)
OP2(mul_hi_s64, u64, s64, s64, ((__int128)a * b) >> 64)
OP2(mul_hi_u16, u32, u32, u32, (u16)((u32)(u16)a *(u16)b >> 16))
OP2(mul_hi_s16, u32, u32, u32, (u16)(((s32)(s16)a * (s16)b) >> 16))
OP2(mul_wide_u32, u64, u32, u32, (u64)a *b)
OP2(mul_wide_s32, u64, s32, s32, (s64)a *b)
OP2(mul_wide_u16, u32, u32, u32, (u32)(u16)a *(u16)b)
OP2(mul_wide_s16, u32, u32, u32, (s32)(s16)a *(s16)b)
OP3(mad_lo_w, u32, u32, u32, u32, a *b + c)
OP3(mad_lo_d, u64, u64, u64, u64, a *b + c)
OP3(mad_lo_h, u32, u32, u32, u32, (u16)(a *b + c))
OP3(mad_hi_u32, u32, u32, u32, u32, (u32)(((u64)a * b) >> 32) + c)
OP3(mad_hi_s32, u32, s32, s32, u32, (u32)(((s64)a * b) >> 32) + c)
OP3(mad_wide_u32, u64, u32, u32, u64, (u64)a *b + c)
OP3(mad_wide_s32, u64, s32, s32, u64, (u64)((s64)a *b) + c)
OP3(mad_wide_u16, u32, u32, u32, u32, (u32)(u16)a *(u16)b + c)
OP3(mad_wide_s16, u32, u32, u32, u32, (u32)((s32)(s16)a *(s16)b) + c)
OP3(sad_u32, u32, u32, u32, u32, c + (a > b ? a - b : b - a))
OP3(sad_s32, u32, s32, s32, u32, c + (a > b ? (u32)a - (u32)b : (u32)b - (u32)a))

/* Division by zero gives all ones, as machines do. */
OP2(div_u32, u32, u32, u32, b ? a / b : FULL_MASK)
OP2(div_s32, u32, s32, s32, !b ? -1 : b == -1 ? (s32)(0u - (u32)a) : a / b)
OP2(div_u64, u64, u64, u64, b ? a / b : UINT64_MAX)
OP2(div_s64, u64, s64, s64, !b ? -1 : b == -1 ? (s64)(0u - (u64)a) : a / b)
OP2(div_u16, u32, u32, u32, (u16)b ? (u16)a / (u16)b : 0xffff)
OP2(div_s16, u32, u32, u32, (u16)(!(u16)b ? -1 : (s32)(s16)a / (s16)b))
OP2(rem_u32, u32, u32, u32, b ? a % b : a)
OP2(rem_s32, u32, s32, s32, !b ? a : b == -1 ? 0 : a % b)
OP2(rem_u64, u64, u64, u64, b ? a % b : a)
OP2(rem_s64, u64, s64, s64, !b ? a : b == -1 ? 0 : a % b)
OP2(rem_u16, u32, u32, u32, (u16)b ? (u16)a % (u16)b : (u16)a)
OP2(rem_s16, u32, u32, u32, (u16)(!(u16)b ? (s16)a : (s32)(s16)a % (s16)b))

OP2(min_u32, u32, u32, u32, a < b ? a : b)
OP2(min_s32, u32, s32, s32, a < b ? a : b)
OP2(min_u64, u64, u64, u64, a < b ? a : b)
OP2(min_s64, u64, s64, s64, a < b ? a : b)
OP2(min_u16, u32, u32, u32, a < b ? a : b)
OP2(min_s16, u32, u32, u32, (s16)a < (s16)b ? a : b)
OP2(max_u32, u32, u32, u32, a > b ? a : b)
OP2(max_s32, u32, s32, s32, a > b ? a : b)
OP2(max_u64, u64, u64, u64, a > b ? a : b)
OP2(max_s64, u64, s64, s64, a > b ? a : b)
OP2(max_u16, u32, u32, u32, a > b ? a : b)
OP2(max_s16, u32, u32, u32, (s16)a > (s16)b ? a : b)
OP1(abs_s32, u32, u32, (s32)a < 0 ? 0u - a : a)
OP1(abs_s64, u64, u64, (s64)a < 0 ? 0u - a : a)
OP1(abs_s16, u32, u32, (u16)((s16)a < 0 ? 0u - a : a))
OP1(neg_s32, u32, u32, 0u - a)
OP1(neg_s64, u64, u64, 0u - a)
OP1(neg_s16, u32, u32, (u16)(0u - a))

OP2(and_w, u32, u32, u32, a &b)
OP2(and_d, u64, u64, u64, a &b)
OP2(or_w, u32, u32, u32, a | b)
OP2(or_d, u64, u64, u64, a | b)
OP2(xor_w, u32, u32, u32, a ^ b)
OP2(xor_d, u64, u64, u64, a ^ b)
OP1(not_w, u32, u32, ~a)
OP1(not_d, u64, u64, ~a)
OP1(not_h, u32, u32, (u16)~a)
OP1(cnot_w, u32, u32, a == 0)

/* Shift counts beyond the width are clamped to it. */
OP2(shl_w, u32, u32, u32, b > 31 ? 0 : a << (b & 31))
OP2(shl_d, u64, u64, u32, b > 63 ? 0 : a << (b & 63))
OP2(shl_h, u32, u32, u32, b > 15 ? 0 : (u16)(a << (b & 15)))
OP2(shr_u32, u32, u32, u32, b > 31 ? 0 : a >> (b & 31))
OP2(shr_s32, u32, s32, u32, a >> (b > 31 ? 31 : b))
OP2(shr_u64, u64, u64, u32, b > 63 ? 0 : a >> (b & 63))
OP2(shr_s64, u64, s64, u32, a >> (b > 63 ? 63 : b))
OP2(shr_u16, u32, u32, u32, b > 15 ? 0 : a >> (b & 15))
OP2(shr_s16, u32, u32, u32, (u16)((s16)a >> (b > 15 ? 15 : b)))
OP3(shf_l_wrap, u32, u32, u32, u32, (((u64)b << 32 | a) << (c & 31)) >> 32)
OP3(shf_r_wrap, u32, u32, u32, u32, ((u64)b << 32 | a) >> (c & 31))
OP3(shf_l_clamp, u32, u32, u32, u32, c > 31 ? a : (((u64)b << 32 | a) << c) >> 32)
OP3(shf_r_clamp, u32, u32, u32, u32, c > 31 ? b : ((u64)b << 32 | a) >> c)

static u32 reverse_bits(u32 a)
{
    u32 r = 0;
    for (int i = 0; i < 32; i++)
        r |= ((a >> i) & 1) << (31 - i);
    return r;
}

static u32 permute_bytes(u32 a, u32 b, u32 selector)
{
    const u64 both = (u64)b << 32 | a;
    u32 r = 0;
    for (int i = 0; i < 4; i++) {
        const u32 s = (selector >> (4 * i)) & 15;
        u32 byte = (u32)(both >> (8 * (s & 7))) & 255;
        if (s & 8)
            byte = byte & 128 ? 255 : 0;
        r |= byte << (8 * i);
    }
    return r;
}

static u64 field_extract(u64 a, u32 position, u32 length, int width, bool is_signed)
{
    position &= 255;
    length &= 255;
    const int last =
        (int)(position + length) - 1 < width - 1 ? (int)(position + length) - 1 : width - 1;
    const u64 sign = is_signed && length ? (a >> last) & 1 : 0;
    u64 r = 0;
    for (int i = 0; i < width; i++) {
        const bool inside = (u32)i < length && (int)position + i < width;
        r |= (inside ? (a >> (position + i)) & 1 : sign) << i;
    }
    return r;
}

static u64 field_insert(u64 a, u64 b, u32 position, u32 length, int width)
{
    position &= 255;
    length &= 255;
    for (u32 i = 0; i < length && (int)(position + i) < width; i++)
        b = (b & ~((u64)1 << (position + i))) | ((a >> i) & 1) << (position + i);
    return b;
}

static u32 lop3(u32 a, u32 b, u32 c, u32 table)
{
    u32 r = 0;
    for (int i = 0; i < 8; i++)
        if ((table >> i) & 1)
            r |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}

static u32 dp4a_u(u32 a, u32 b, u32 c)
{
    for (int i = 0; i < 4; i++)
        c += (a >> (8 * i) & 255) * (b >> (8 * i) & 255);
    return c;
}

static u32 dp4a_s(u32 a, u32 b, u32 c)
{
    for (int i = 0; i < 4; i++)
        c += (u32)((s32)(int8_t)(a >> (8 * i)) * (int8_t)(b >> (8 * i)));
    return c;
}

OP1(popc_w, u32, u32, __builtin_popcount(a))
OP1(popc_d, u32, u64, __builtin_popcountll(a))
OP1(clz_w, u32, u32, a ? __builtin_clz(a) : 32)
OP1(clz_d, u32, u64, a ? __builtin_clzll(a) : 64)
OP1(brev_w, u32, u32, reverse_bits(a))
OP1(bfind_u32, u32, u32, a ? 31 - __builtin_clz(a) : -1)
OP1(bfind_shift_u32, u32, u32, a ? __builtin_clz(a) : -1)
OP1(bfind_s32, u32, s32, (a < 0 ? ~a : a) ? 31 - __builtin_clz((u32)(a < 0 ? ~a : a)) : -1)
OP3(prmt_w, u32, u32, u32, u32, permute_bytes(a, b, c))
OP3(bfe_u32, u32, u32, u32, u32, field_extract(a, b, c, 32, false))
OP3(bfe_s32, u32, u32, u32, u32, field_extract(a, b, c, 32, true))
OP3(bfe_u64, u64, u64, u32, u32, field_extract(a, b, c, 64, false))
OP3(bfe_s64, u64, u64, u32, u32, field_extract(a, b, c, 64, true))
OP3(dp4a_u32, u32, u32, u32, u32, dp4a_u(a, b, c))
OP3(dp4a_s32, u32, u32, u32, u32, dp4a_s(a, b, c))

static void bfi_w(Warp *w, const Insn *in)
{
    const u32 *a = row(w, in->src[0]), *b = row(w, in->src[1]), *p = row(w, in->src[2]),
              *n = row(w, in->src[3]);
    u32 t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = (u32)field_insert(a[l], b[l], p[l], n[l], 32);
    put32(w, in->dst[0], t);
}

static void bfi_d(Warp *w, const Insn *in)
{
    const u64 *a = row(w, in->src[0]), *b = row(w, in->src[1]);
    const u32 *p = row(w, in->src[2]), *n = row(w, in->src[3]);
    u64 t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = field_insert(a[l], b[l], p[l], n[l], 64);
    put64(w, in->dst[0], t);
}

static void lop3_w(Warp *w, const Insn *in)
{
    const u32 *a = row(w, in->src[0]), *b = row(w, in->src[1]), *c = row(w, in->src[2]),
              *f = row(w, in->src[3]);
    u32 t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = lop3(a[l], b[l], c[l], f[l]);
    put32(w, in->dst[0], t);
}

/* Floats. Each f32 operation has a twin that flushes subnormals. */
static inline float flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

#define F1(name, expr)                     \
    OP1(name, float, float, expr)          \
    static inline float name##_of(float a) \
    {                                      \
        return (expr);                     \
    }                                      \
    OP1(name##_ftz, float, float, flush(name##_of(flush(a))))

#define F2(name, expr)                              \
    OP2(name, float, float, float, expr)            \
    static inline float name##_of(float a, float b) \
    {                                               \
        return (expr);                              \
    }                                               \
    OP2(name##_ftz, float, float, float, flush(name##_of(flush(a), flush(b))))

static inline float min_f(float a, float b)
{
    if (a == 0.0f && b == 0.0f)
        return signbit(a) ? a : b;
    return isnan(a) ? b : isnan(b) ? a : a < b ? a : b;
}

static inline float max_f(float a, float b)
{
    if (a == 0.0f && b == 0.0f)
        return signbit(a) ? b : a;
    return isnan(a) ? b : isnan(b) ? a : a > b ? a : b;
}

static inline float clamp01(float a)
{
    return a > 0.0f ? a < 1.0f ? a : 1.0f : 0.0f;
}

F2(add_f, a + b)
F2(sub_f, a - b)
F2(mul_f, a *b)
F2(div_f, a / b)
F2(min_f32, min_f(a, b))
F2(max_f32, max_f(a, b))
OP2(min_nan_f32, float, float, float, isnan(a) || isnan(b) ? NAN : min_f(a, b))
OP2(max_nan_f32, float, float, float, isnan(a) || isnan(b) ? NAN : max_f(a, b))
OP2(add_sat_f, float, float, float, clamp01(a + b))
OP2(add_sat_f_ftz, float, float, float, flush(clamp01(flush(a) + flush(b))))
OP2(mul_sat_f, float, float, float, clamp01(a *b))
OP2(mul_sat_f_ftz, float, float, float, flush(clamp01(flush(a) * flush(b))))
F1(abs_f, fabsf(a))
F1(neg_f, -a)
F1(rcp_f, 1.0f / a)
F1(sqrt_f, sqrtf(a))
F1(rsqrt_f, (float)(1.0 / sqrt((double)a)))
F1(ex2_f, exp2f(a))
F1(lg2_f, log2f(a))
F1(sin_f, sinf(a))
F1(cos_f, cosf(a))
OP1(tanh_f, float, float, tanhf(a))
/* tf32: 10 bits behind the point, ties away from zero */
OP1(cvt_tf32, u32, u32, (a & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : (a + 0x1000u) & ~0x1fffu)
OP2(copysign_f, float, float, float, copysignf(b, a))
OP3(fma_f, float, float, float, float, __builtin_fmaf(a, b, c))
OP3(fma_f_ftz, float, float, float, float, flush(__builtin_fmaf(flush(a), flush(b), flush(c))))
OP3(fma_sat_f, float, float, float, float, clamp01(__builtin_fmaf(a, b, c)))
OP3(fma_sat_f_ftz, float, float, float, float,
    flush(clamp01(__builtin_fmaf(flush(a), flush(b), flush(c)))))
OP2(add_g, double, double, double, a + b)
OP2(sub_g, double, double, double, a - b)
OP2(mul_g, double, double, double, a *b)
OP2(div_g, double, double, double, a / b)
OP2(min_g, double, double, double, fmin(a, b))
OP2(max_g, double, double, double, fmax(a, b))
OP1(abs_g, double, double, fabs(a))
OP1(neg_g, double, double, -a)
OP1(rcp_g, double, double, 1.0 / a)
OP1(sqrt_g, double, double, sqrt(a))
OP3(fma_g, double, double, double, double, fma(a, b, c))

/* Rounding other than to nearest: the processor's own, kept from the optimiser by volatile
 * operands. */
#define DIRECTED2(name, mode, expr)                 \
    static float name##_of(float x, float y)        \
    {                                               \
        const int old = fegetround();               \
        volatile float a = x, b = y, r;             \
        fesetround(mode);                           \
        r = (expr);                                 \
        fesetround(old);                            \
        return r;                                   \
    }                                               \
    OP2(name, float, float, float, name##_of(a, b)) \
    OP2(name##_ftz, float, float, float, flush(name##_of(flush(a), flush(b))))

DIRECTED2(add_rz_f, FE_TOWARDZERO, a + b)
DIRECTED2(add_rm_f, FE_DOWNWARD, a + b)
DIRECTED2(add_rp_f, FE_UPWARD, a + b)
DIRECTED2(mul_rz_f, FE_TOWARDZERO, a *b)
DIRECTED2(mul_rm_f, FE_DOWNWARD, a *b)
DIRECTED2(mul_rp_f, FE_UPWARD, a *b)

#define DIRECTED3(name, mode, expr)                           \
    static float name##_of(float x, float y, float z)         \
    {                                                         \
        const int old = fegetround();                         \
        volatile float a = x, b = y, c = z, r;                \
        fesetround(mode);                                     \
        r = (expr);                                           \
        fesetround(old);                                      \
        return r;                                             \
    }                                                         \
    OP3(name, float, float, float, float, name##_of(a, b, c)) \
    OP3(name##_ftz, float, float, float, float, flush(name##_of(flush(a), flush(b), flush(c))))

DIRECTED3(fma_rz_f, FE_TOWARDZERO, fmaf(a, b, c))
DIRECTED3(fma_rm_f, FE_DOWNWARD, fmaf(a, b, c))
DIRECTED3(fma_rp_f, FE_UPWARD, fmaf(a, b, c))

/* Half formats are computed in double, where sums and products of them are exact or as good as. */
#define HALF_PAIR(kind, to_float, from_double)                                                \
    static inline u32 kind##_fma(u32 a, u32 b, u32 c)                                         \
    {                                                                                         \
        return from_double((double)to_float((u16)a) * to_float((u16)b) + to_float((u16)c));   \
    }                                                                                         \
    static inline u32 kind##_max(u32 a, u32 b)                                                \
    {                                                                                         \
        return from_double(max_f(to_float((u16)a), to_float((u16)b)));                        \
    }                                                                                         \
    static inline u32 kind##_min(u32 a, u32 b)                                                \
    {                                                                                         \
        return from_double(min_f(to_float((u16)a), to_float((u16)b)));                        \
    }                                                                                         \
    static inline u32 kind##_add(u32 a, u32 b)                                                \
    {                                                                                         \
        return from_double((double)to_float((u16)a) + to_float((u16)b));                      \
    }                                                                                         \
    static inline u32 kind##_sub(u32 a, u32 b)                                                \
    {                                                                                         \
        return from_double((double)to_float((u16)a) - to_float((u16)b));                      \
    }                                                                                         \
    static inline u32 kind##_mul(u32 a, u32 b)                                                \
    {                                                                                         \
        return from_double((double)to_float((u16)a) * to_float((u16)b));                      \
    }                                                                                         \
    OP2(add_##kind, u32, u32, u32, kind##_add(a, b))                                          \
    OP2(sub_##kind, u32, u32, u32, kind##_sub(a, b))                                          \
    OP2(mul_##kind, u32, u32, u32, kind##_mul(a, b))                                          \
    OP2(max_##kind, u32, u32, u32, kind##_max(a, b))                                          \
    OP2(min_##kind, u32, u32, u32, kind##_min(a, b))                                          \
    OP3(fma_##kind, u32, u32, u32, u32, kind##_fma(a, b, c))                                  \
    OP2(add_##kind##x2, u32, u32, u32, kind##_add(a, b) | kind##_add(a >> 16, b >> 16) << 16) \
    OP2(sub_##kind##x2, u32, u32, u32, kind##_sub(a, b) | kind##_sub(a >> 16, b >> 16) << 16) \
    OP2(mul_##kind##x2, u32, u32, u32, kind##_mul(a, b) | kind##_mul(a >> 16, b >> 16) << 16) \
    OP2(max_##kind##x2, u32, u32, u32, kind##_max(a, b) | kind##_max(a >> 16, b >> 16) << 16) \
    OP2(min_##kind##x2, u32, u32, u32, kind##_min(a, b) | kind##_min(a >> 16, b >> 16) << 16) \
    OP3(fma_##kind##x2, u32, u32, u32, u32,                                                   \
        kind##_fma(a, b, c) | kind##_fma(a >> 16, b >> 16, c >> 16) << 16)

HALF_PAIR(f16, half_to_float, double_to_half)
HALF_PAIR(bf16, bf16_to_float, double_to_bf16)
OP1(neg_16, u32, u32, a ^ 0x8000u)
OP1(neg_16x2, u32, u32, a ^ 0x80008000u)
OP1(abs_16, u32, u32, a & 0x7fffu)
OP1(abs_16x2, u32, u32, a & 0x7fff7fffu)

/* Selection and predicates. */
static void selp_w(Warp *w, const Insn *in)
{
    const u32 *a = row(w, in->src[0]), *b = row(w, in->src[1]);
    const u32 p = get_pred(w, in->src[2]);
    u32 t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = (p >> l) & 1 ? a[l] : b[l];
    put32(w, in->dst[0], t);
}

static void selp_d(Warp *w, const Insn *in)
{
    const u64 *a = row(w, in->src[0]), *b = row(w, in->src[1]);
    const u32 p = get_pred(w, in->src[2]);
    u64 t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = (p >> l) & 1 ? a[l] : b[l];
    put64(w, in->dst[0], t);
}

#define PRED2(name, expr)                                                   \
    static void name(Warp *w, const Insn *in)                               \
    {                                                                       \
        const u32 a = get_pred(w, in->src[0]), b = get_pred(w, in->src[1]); \
        put_pred(w, in->dst[0], (expr));                                    \
    }

PRED2(and_p, a &b)
PRED2(or_p, a | b)
PRED2(xor_p, a ^ b)

static void not_p(Warp *w, const Insn *in)
{
    put_pred(w, in->dst[0], ~get_pred(w, in->src[0]));
}

/* The same operation under the names of signed, unsigned and untyped integers of one width. */
#define BOTH(op, bits, fn, sig) \
    {op ".s" #bits, fn, sig},   \
    {                           \
        op ".u" #bits, fn, sig  \
    }
#define FTZ(op, fn, sig)             \
    {op ".f32", fn, sig},            \
    {                                \
        op ".ftz.f32", fn##_ftz, sig \
    }
#define RN(op, fn, sig) FTZ(op, fn, sig), FTZ(op ".rn", fn, sig)
#define HALVES(op, fn, sig16, sig32)                              \
    {op ".f16", fn##_f16, sig16}, {op ".bf16", fn##_bf16, sig16}, \
        {op ".f16x2", fn##_f16x2, sig32},                         \
    {                                                             \
        op ".bf16x2", fn##_bf16x2, sig32                          \
    }

static const OpEntry entries[] = {
    BOTH("add", 32, add_w, "www"),
    BOTH("add", 64, add_d, "ddd"),
    BOTH("add", 16, add_h, "hhh"),
    BOTH("sub", 32, sub_w, "www"),
    BOTH("sub", 64, sub_d, "ddd"),
    BOTH("sub", 16, sub_h, "hhh"),
    BOTH("mul.lo", 32, mul_lo_w, "www"),
    BOTH("mul.lo", 64, mul_lo_d, "ddd"),
    BOTH("mul.lo", 16, mul_lo_h, "hhh"),
    {"mul.hi.u32", mul_hi_u32, "www"},
    {"mul.hi.s32", mul_hi_s32, "www"},
    {"mul.hi.u64", mul_hi_u64, "ddd"},
    {"mul.hi.s64", mul_hi_s64, "ddd"},
    {"mul.hi.u16", mul_hi_u16, "hhh"},
    {"mul.hi.s16", mul_hi_s16, "hhh"},
    {"mul.wide.u32", mul_wide_u32, "dww"},
    {"mul.wide.s32", mul_wide_s32, "dww"},
    {"mul.wide.u16", mul_wide_u16, "whh"},
    {"mul.wide.s16", mul_wide_s16, "whh"},
    BOTH("mad.lo", 32, mad_lo_w, "wwww"),
    BOTH("mad.lo", 64, mad_lo_d, "dddd"),
    BOTH("mad.lo", 16, mad_lo_h, "hhhh"),
    {"mad.hi.u32", mad_hi_u32, "wwww"},
    {"mad.hi.s32", mad_hi_s32, "wwww"},
    {"mad.wide.u32", mad_wide_u32, "dwwd"},
    {"mad.wide.s32", mad_wide_s32, "dwwd"},
    {"mad.wide.u16", mad_wide_u16, "whhw"},
    {"mad.wide.s16", mad_wide_s16, "whhw"},
    {"sad.u32", sad_u32, "wwww"},
    {"sad.s32", sad_s32, "wwww"},
    {"div.u32", div_u32, "www"},
    {"div.s32", div_s32, "www"},
    {"div.u64", div_u64, "ddd"},
    {"div.s64", div_s64, "ddd"},
    {"div.u16", div_u16, "hhh"},
    {"div.s16", div_s16, "hhh"},
    {"rem.u32", rem_u32, "www"},
    {"rem.s32", rem_s32, "www"},
    {"rem.u64", rem_u64, "ddd"},
    {"rem.s64", rem_s64, "ddd"},
    {"rem.u16", rem_u16, "hhh"},
    {"rem.s16", rem_s16, "hhh"},
    {"min.u32", min_u32, "www"},
    {"min.s32", min_s32, "www"},
    {"min.u64", min_u64, "ddd"},
    {"min.s64", min_s64, "ddd"},
    {"min.u16", min_u16, "hhh"},
    {"min.s16", min_s16, "hhh"},
    {"max.u32", max_u32, "www"},
    {"max.s32", max_s32, "www"},
    {"max.u64", max_u64, "ddd"},
    {"max.s64", max_s64, "ddd"},
    {"max.u16", max_u16, "hhh"},
    {"max.s16", max_s16, "hhh"},
    {"abs.s32", abs_s32, "ww"},
    {"abs.s64", abs_s64, "dd"},
    {"abs.s16", abs_s16, "hh"},
    {"neg.s32", neg_s32, "ww"},
    {"neg.s64", neg_s64, "dd"},
    {"neg.s16", neg_s16, "hh"},
    {"and.b32", and_w, "www"},
    {"and.b64", and_d, "ddd"},
    {"and.b16", and_w, "hhh"},
    {"and.pred", and_p, "ppp"},
    {"or.b32", or_w, "www"},
    {"or.b64", or_d, "ddd"},
    {"or.b16", or_w, "hhh"},
    {"or.pred", or_p, "ppp"},
    {"xor.b32", xor_w, "www"},
    {"xor.b64", xor_d, "ddd"},
    {"xor.b16", xor_w, "hhh"},
    {"xor.pred", xor_p, "ppp"},
    {"not.b32", not_w, "ww"},
    {"not.b64", not_d, "dd"},
    {"not.b16", not_h, "hh"},
    {"not.pred", not_p, "pp"},
    {"cnot.b32", cnot_w, "ww"},
    {"shl.b32", shl_w, "www"},
    {"shl.b64", shl_d, "ddw"},
    {"shl.b16", shl_h, "hhw"},
    {"shr.u32", shr_u32, "www"},
    {"shr.b32", shr_u32, "www"},
    {"shr.s32", shr_s32, "www"},
    {"shr.u64", shr_u64, "ddw"},
    {"shr.b64", shr_u64, "ddw"},
    {"shr.s64", shr_s64, "ddw"},
    {"shr.u16", shr_u16, "hhw"},
    {"shr.b16", shr_u16, "hhw"},
    {"shr.s16", shr_s16, "hhw"},
    {"shf.l.wrap.b32", shf_l_wrap, "wwww"},
    {"shf.r.wrap.b32", shf_r_wrap, "wwww"},
    {"shf.l.clamp.b32", shf_l_clamp, "wwww"},
    {"shf.r.clamp.b32", shf_r_clamp, "wwww"},
    {"popc.b32", popc_w, "ww"},
    {"popc.b64", popc_d, "wd"},
    {"clz.b32", clz_w, "ww"},
    {"clz.b64", clz_d, "wd"},
    {"brev.b32", brev_w, "ww"},
    {"bfind.u32", bfind_u32, "ww"},
    {"bfind.shiftamt.u32", bfind_shift_u32, "ww"},
    {"bfind.s32", bfind_s32, "ww"},
    {"prmt.b32", prmt_w, "wwww"},
    {"bfe.u32", bfe_u32, "wwww"},
    {"bfe.s32", bfe_s32, "wwww"},
    {"bfe.u64", bfe_u64, "ddww"},
    {"bfe.s64", bfe_s64, "ddww"},
    {"bfi.b32", bfi_w, "wwwww"},
    {"bfi.b64", bfi_d, "dddww"},
    {"lop3.b32", lop3_w, "wwwww"},
    {"dp4a.u32.u32", dp4a_u32, "wwww"},
    {"dp4a.s32.s32", dp4a_s32, "wwww"},
    RN("add", add_f, "fff"),
    RN("sub", sub_f, "fff"),
    RN("mul", mul_f, "fff"),
    FTZ("fma.rn", fma_f, "ffff"),
    FTZ("mad.rn", fma_f, "ffff"),
    {"fma.rn.sat.f32", fma_sat_f, "ffff"},
    {"fma.rn.ftz.sat.f32", fma_sat_f_ftz, "ffff"},
    {"mul.sat.f32", mul_sat_f, "fff"},
    {"add.ftz.sat.f32", add_sat_f_ftz, "fff"},
    {"mul.ftz.sat.f32", mul_sat_f_ftz, "fff"},
    FTZ("fma.rz", fma_rz_f, "ffff"),
    FTZ("fma.rm", fma_rm_f, "ffff"),
    FTZ("fma.rp", fma_rp_f, "ffff"),
    {"add.sat.f32", add_sat_f, "fff"},
    {"add.rn.sat.f32", add_sat_f, "fff"},
    FTZ("add.rz", add_rz_f, "fff"),
    FTZ("add.rm", add_rm_f, "fff"),
    FTZ("add.rp", add_rp_f, "fff"),
    FTZ("mul.rz", mul_rz_f, "fff"),
    FTZ("mul.rm", mul_rm_f, "fff"),
    FTZ("mul.rp", mul_rp_f, "fff"),
    FTZ("div.rn", div_f, "fff"),
    FTZ("div.full", div_f, "fff"),
    FTZ("div.approx", div_f, "fff"),
    FTZ("min", min_f32, "fff"),
    FTZ("max", max_f32, "fff"),
    {"min.NaN.f32", min_nan_f32, "fff"},
    {"max.NaN.f32", max_nan_f32, "fff"},
    FTZ("abs", abs_f, "ff"),
    FTZ("neg", neg_f, "ff"),
    FTZ("rcp.rn", rcp_f, "ff"),
    FTZ("rcp.approx", rcp_f, "ff"),
    FTZ("sqrt.rn", sqrt_f, "ff"),
    FTZ("sqrt.approx", sqrt_f, "ff"),
    FTZ("rsqrt.approx", rsqrt_f, "ff"),
    FTZ("ex2.approx", ex2_f, "ff"),
    FTZ("lg2.approx", lg2_f, "ff"),
    FTZ("sin.approx", sin_f, "ff"),
    FTZ("cos.approx", cos_f, "ff"),
    {"cvt.rna.tf32.f32", cvt_tf32, "wf"},
    {"tanh.approx.f32", tanh_f, "ff"},
    {"copysign.f32", copysign_f, "fff"},
    {"add.f64", add_g, "ggg"},
    {"add.rn.f64", add_g, "ggg"},
    {"sub.f64", sub_g, "ggg"},
    {"sub.rn.f64", sub_g, "ggg"},
    {"mul.f64", mul_g, "ggg"},
    {"mul.rn.f64", mul_g, "ggg"},
    {"div.rn.f64", div_g, "ggg"},
    {"min.f64", min_g, "ggg"},
    {"max.f64", max_g, "ggg"},
    {"abs.f64", abs_g, "gg"},
    {"neg.f64", neg_g, "gg"},
    {"rcp.rn.f64", rcp_g, "gg"},
    {"sqrt.rn.f64", sqrt_g, "gg"},
    {"fma.rn.f64", fma_g, "gggg"},
    HALVES("add", add, "hhh", "www"),
    HALVES("add.rn", add, "hhh", "www"),
    HALVES("sub", sub, "hhh", "www"),
    HALVES("sub.rn", sub, "hhh", "www"),
    HALVES("mul", mul, "hhh", "www"),
    HALVES("mul.rn", mul, "hhh", "www"),
    HALVES("max", max, "hhh", "www"),
    HALVES("min", min, "hhh", "www"),
    HALVES("fma.rn", fma, "hhhh", "wwww"),
    {"neg.f16", neg_16, "hh"},
    {"neg.bf16", neg_16, "hh"},
    {"neg.f16x2", neg_16x2, "ww"},
    {"neg.bf16x2", neg_16x2, "ww"},
    {"abs.f16", abs_16, "hh"},
    {"abs.bf16", abs_16, "hh"},
    {"abs.f16x2", abs_16x2, "ww"},
    {"abs.bf16x2", abs_16x2, "ww"},
    {"selp.b32", selp_w, "wwwp"},
    {"selp.u32", selp_w, "wwwp"},
    {"selp.s32", selp_w, "wwwp"},
    {"selp.f32", selp_w, "fffp"},
    {"selp.b16", selp_w, "hhhp"},
    {"selp.u16", selp_w, "hhhp"},
    {"selp.s16", selp_w, "hhhp"},
    {"selp.b64", selp_d, "dddp"},
    {"selp.u64", selp_d, "dddp"},
    {"selp.s64", selp_d, "dddp"},
    {"selp.f64", selp_d, "gggp"},
};

const OpEntry *op_lookup(const char *name)
{
    static GHashTable *table;
    if (g_once_init_enter(&table)) {
        GHashTable *t = g_hash_table_new(g_str_hash, g_str_equal);
        for (size_t i = 0; i < G_N_ELEMENTS(entries); i++)
            g_hash_table_insert(t, (gpointer)entries[i].name, (gpointer)&entries[i]);
        g_once_init_leave(&table, t);
    }
    return g_hash_table_lookup(table, name);
}
