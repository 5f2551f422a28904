/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * vec.h - the vector vocabulary: one set of names, one section per instruction set.
 *
 * A kernel file is written once over these names and compiled once per section, chosen by one of
 * DCAE_VEC_GENERIC, DCAE_VEC_AVX2, DCAE_VEC_AVX512 and DCAE_VEC_EMU512 (the 16-wide vocabulary on
 * pairs of 8-wide registers, for tests on machines without AVX-512). Everything here is static
 * inline: a shared out-of-line copy compiled for a stronger set would leak into plain code. This
 * and elem.h are the only homes of intrinsics.
 *
 *   vec, VEC_WIDTH           f32 vector, lanes; VEC_WIDTH divides 16
 *   VEC_NAME(x)              x_generic, x_avx2, x_avx512, x_emu512; with DCAE_ELEM_BF16 (elem.h)
 *                            x_avx512bf16, x_emu512bf16
 *   VEC_TILE_ROWS, _VECS     register tile of a matrix product that fits the register file beside
 *                            its operands; VEC_TILE_ROWS_1: rows where a tile is one vector wide
 *   VEC_UNROLL               before a loop over a register tile: without it gcc and clang leave the
 *                            accumulator array in memory
 *   VEC_PIN_PTR(p)           keeps p in a register of its own (gcc spills derived row pointers)
 *   VEC_PIN(v)               keeps v in a register (nothing where that would hurt)
 *
 * Loads and stores need no alignment. Every function is exact IEEE f32 lane by lane; vec_fma rounds
 * once, except in the generic section, which rounds product and sum.
 */
#ifndef DCAE_VEC_H
#define DCAE_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline, unused))

#if defined(__SANITIZE_ADDRESS__)
#define VEC_UNROLL /* instrumented code in registers is no use, and takes minutes to compile */
#elif defined(__clang__)
#define VEC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VEC_UNROLL _Pragma("GCC unroll 16")
#endif

#define VEC_PIN_PTR(p) __asm__("" : "+r"(p))

#define VEC_PASTE_(name, suffix) name##_##suffix
#define VEC_PASTE(name, suffix) VEC_PASTE_(name, suffix)
#define VEC_NAME(name) VEC_PASTE(name, VEC_SUFFIX)

#if defined(DCAE_VEC_AVX512)

#include <immintrin.h>

#ifdef DCAE_ELEM_BF16
#define VEC_SUFFIX avx512bf16
#else
#define VEC_SUFFIX avx512
#endif
#define VEC_WIDTH 16
#define VEC_TILE_ROWS 12
#define VEC_TILE_VECS 2
#define VEC_TILE_ROWS_1 12
#define VEC_PIN(v) __asm__("" : "+v"(v))

typedef __m512 vec;

VEC_INLINE vec vec_zero(void)
{
    return _mm512_setzero_ps();
}
VEC_INLINE vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
}
VEC_INLINE vec vec_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
VEC_INLINE void vec_store(float *p, vec v)
{
    _mm512_storeu_ps(p, v);
}
VEC_INLINE vec vec_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
VEC_INLINE void vec_store_n(float *p, vec v, size_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}
VEC_INLINE vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
VEC_INLINE vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
VEC_INLINE vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}
VEC_INLINE vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
VEC_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
VEC_INLINE vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
VEC_INLINE vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}
VEC_INLINE vec vec_select_lt(vec a, vec b, vec yes, vec no)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
VEC_INLINE vec vec_abs(vec a)
{
    return _mm512_abs_ps(a);
}
VEC_INLINE vec vec_copysign(vec magnitude, vec sign)
{
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_set1_epi32(INT32_MIN),
                                                         _mm512_castps_si512(sign),
                                                         _mm512_castps_si512(magnitude), 0xca));
}
VEC_INLINE vec vec_round(vec a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VEC_INLINE vec vec_pow2(vec n)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
VEC_INLINE float vec_sum(vec a)
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
VEC_INLINE void vec_store_u8(uint8_t *p, vec v)
{
    __m512i i = _mm512_max_epi32(_mm512_cvtps_epi32(v), _mm512_setzero_si512());
    _mm_storeu_si128((__m128i *)p, _mm512_cvtusepi32_epi8(i));
}

#elif defined(DCAE_VEC_AVX2) || defined(DCAE_VEC_EMU512)

#include <immintrin.h>

/* The 8-wide operations; both vocabularies below are made of them. */
VEC_INLINE __m256i v8_mask(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
VEC_INLINE __m256 v8_select_lt(__m256 a, __m256 b, __m256 yes, __m256 no)
{
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
VEC_INLINE __m256 v8_abs(__m256 a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
VEC_INLINE __m256 v8_copysign(__m256 magnitude, __m256 sign)
{
    __m256 bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_and_ps(bit, sign), _mm256_andnot_ps(bit, magnitude));
}
VEC_INLINE __m256 v8_round(__m256 a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
VEC_INLINE __m256 v8_pow2(__m256 n)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
VEC_INLINE float v8_sum(__m256 h)
{
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
VEC_INLINE void v8_store_u8(uint8_t *p, __m256 v)
{
    __m256i i = _mm256_cvtps_epi32(v);
    __m128i s = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(s, s));
}

#if defined(DCAE_VEC_AVX2)

#define VEC_SUFFIX avx2
#define VEC_WIDTH 8
#define VEC_TILE_ROWS 6
#define VEC_TILE_VECS 2
#define VEC_TILE_ROWS_1 12
#define VEC_PIN(v) __asm__("" : "+x"(v))

typedef __m256 vec;

VEC_INLINE vec vec_zero(void)
{
    return _mm256_setzero_ps();
}
VEC_INLINE vec vec_set1(float x)
{
    return _mm256_set1_ps(x);
}
VEC_INLINE vec vec_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
VEC_INLINE void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v);
}
VEC_INLINE vec vec_load_n(const float *p, size_t n)
{
    return _mm256_maskload_ps(p, v8_mask(n));
}
VEC_INLINE void vec_store_n(float *p, vec v, size_t n)
{
    _mm256_maskstore_ps(p, v8_mask(n), v);
}
VEC_INLINE vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
VEC_INLINE vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
VEC_INLINE vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}
VEC_INLINE vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
VEC_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return _mm256_fnmadd_ps(a, b, c);
}
VEC_INLINE vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
VEC_INLINE vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}
VEC_INLINE vec vec_select_lt(vec a, vec b, vec yes, vec no)
{
    return v8_select_lt(a, b, yes, no);
}
VEC_INLINE vec vec_abs(vec a)
{
    return v8_abs(a);
}
VEC_INLINE vec vec_copysign(vec magnitude, vec sign)
{
    return v8_copysign(magnitude, sign);
}
VEC_INLINE vec vec_round(vec a)
{
    return v8_round(a);
}
VEC_INLINE vec vec_pow2(vec n)
{
    return v8_pow2(n);
}
VEC_INLINE float vec_sum(vec a)
{
    return v8_sum(a);
}
VEC_INLINE void vec_store_u8(uint8_t *p, vec v)
{
    v8_store_u8(p, v);
}

#else /* DCAE_VEC_EMU512 */

#ifdef DCAE_ELEM_BF16
#define VEC_SUFFIX emu512bf16
#else
#define VEC_SUFFIX emu512
#endif
#define VEC_WIDTH 16
#define VEC_TILE_ROWS 12
#define VEC_TILE_VECS 2
#define VEC_TILE_ROWS_1 12
#define VEC_PIN(v) ((void)0)

typedef struct {
    __m256 lo, hi;
} vec;

#define VEC_PAIR(lo, hi) \
    (vec)                \
    {                    \
        lo, hi           \
    }

VEC_INLINE vec vec_zero(void)
{
    return VEC_PAIR(_mm256_setzero_ps(), _mm256_setzero_ps());
}
VEC_INLINE vec vec_set1(float x)
{
    return VEC_PAIR(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
VEC_INLINE vec vec_load(const float *p)
{
    return VEC_PAIR(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
VEC_INLINE void vec_store(float *p, vec v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
VEC_INLINE vec vec_load_n(const float *p, size_t n)
{
    size_t lo = n < 8 ? n : 8;
    return VEC_PAIR(_mm256_maskload_ps(p, v8_mask(lo)), _mm256_maskload_ps(p + 8, v8_mask(n - lo)));
}
VEC_INLINE void vec_store_n(float *p, vec v, size_t n)
{
    size_t lo = n < 8 ? n : 8;
    _mm256_maskstore_ps(p, v8_mask(lo), v.lo);
    _mm256_maskstore_ps(p + 8, v8_mask(n - lo), v.hi);
}
VEC_INLINE vec vec_add(vec a, vec b)
{
    return VEC_PAIR(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_sub(vec a, vec b)
{
    return VEC_PAIR(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_mul(vec a, vec b)
{
    return VEC_PAIR(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_div(vec a, vec b)
{
    return VEC_PAIR(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return VEC_PAIR(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
VEC_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return VEC_PAIR(_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi));
}
VEC_INLINE vec vec_max(vec a, vec b)
{
    return VEC_PAIR(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_min(vec a, vec b)
{
    return VEC_PAIR(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
VEC_INLINE vec vec_select_lt(vec a, vec b, vec yes, vec no)
{
    return VEC_PAIR(v8_select_lt(a.lo, b.lo, yes.lo, no.lo),
                    v8_select_lt(a.hi, b.hi, yes.hi, no.hi));
}
VEC_INLINE vec vec_abs(vec a)
{
    return VEC_PAIR(v8_abs(a.lo), v8_abs(a.hi));
}
VEC_INLINE vec vec_copysign(vec magnitude, vec sign)
{
    return VEC_PAIR(v8_copysign(magnitude.lo, sign.lo), v8_copysign(magnitude.hi, sign.hi));
}
VEC_INLINE vec vec_round(vec a)
{
    return VEC_PAIR(v8_round(a.lo), v8_round(a.hi));
}
VEC_INLINE vec vec_pow2(vec n)
{
    return VEC_PAIR(v8_pow2(n.lo), v8_pow2(n.hi));
}
VEC_INLINE float vec_sum(vec a)
{
    return v8_sum(_mm256_add_ps(a.lo, a.hi));
}
VEC_INLINE void vec_store_u8(uint8_t *p, vec v)
{
    v8_store_u8(p, v.lo);
    v8_store_u8(p + 8, v.hi);
}

#endif

#elif defined(DCAE_VEC_GENERIC)

/* Vector extensions of gcc and clang, 4 lanes: SSE2 on x86-64, NEON on AArch64. */
#define VEC_SUFFIX generic
#define VEC_WIDTH 4
#define VEC_TILE_ROWS 6
#define VEC_TILE_VECS 2
#define VEC_TILE_ROWS_1 12
#define VEC_PIN(v) ((void)0)

typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_i32 __attribute__((vector_size(16)));

VEC_INLINE vec vec_set1(float x)
{
    return (vec){x, x, x, x};
}
VEC_INLINE vec vec_zero(void)
{
    return vec_set1(0.0f);
}
VEC_INLINE vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC_INLINE void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}
VEC_INLINE vec vec_load_n(const float *p, size_t n)
{
    vec v = vec_zero();
    for (size_t i = 0; i < n; i++)
        v[i] = p[i];
    return v;
}
VEC_INLINE void vec_store_n(float *p, vec v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = v[i];
}
VEC_INLINE vec vec_add(vec a, vec b)
{
    return a + b;
}
VEC_INLINE vec vec_sub(vec a, vec b)
{
    return a - b;
}
VEC_INLINE vec vec_mul(vec a, vec b)
{
    return a * b;
}
VEC_INLINE vec vec_div(vec a, vec b)
{
    return a / b;
}
VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}
VEC_INLINE vec vec_fnma(vec a, vec b, vec c)
{
    return c - a * b;
}
VEC_INLINE vec vec_select_lt(vec a, vec b, vec yes, vec no)
{
    vec_i32 mask = (vec_i32)(a < b);
    return (vec)((mask & (vec_i32)yes) | (~mask & (vec_i32)no));
}
VEC_INLINE vec vec_max(vec a, vec b)
{
    return vec_select_lt(b, a, a, b);
}
VEC_INLINE vec vec_min(vec a, vec b)
{
    return vec_select_lt(a, b, a, b);
}
VEC_INLINE vec vec_abs(vec a)
{
    return (vec)((vec_i32)a & INT32_MAX);
}
VEC_INLINE vec vec_copysign(vec magnitude, vec sign)
{
    return (vec)(((vec_i32)magnitude & INT32_MAX) | ((vec_i32)sign & INT32_MIN));
}
/* Adding 1.5·2^23 leaves no bits for a fraction: round to nearest even. */
VEC_INLINE vec vec_round(vec a)
{
    vec big = vec_set1(12582912.0f);
    return (a + big) - big;
}
VEC_INLINE vec vec_pow2(vec n)
{
    return (vec)((__builtin_convertvector(n, vec_i32) + 127) << 23);
}
VEC_INLINE float vec_sum(vec a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}
VEC_INLINE void vec_store_u8(uint8_t *p, vec v)
{
    vec r = vec_round(vec_min(vec_max(v, vec_zero()), vec_set1(255.0f)));
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)r[i];
}

#else
#error "define one of DCAE_VEC_GENERIC, DCAE_VEC_AVX2, DCAE_VEC_AVX512, DCAE_VEC_EMU512"
#endif

/* Contracts, the same in every section:
 *
 *   vec_load_n, vec_store_n  first n lanes, 0 <= n <= VEC_WIDTH; memory behind them is not touched,
 *                            other lanes read as 0
 *   vec_fma(a, b, c)         a·b + c;  vec_fnma: c - a·b
 *   vec_max, vec_min         b where a or b is NaN: vec_max(0, x) is a ReLU that keeps NaN
 *   vec_select_lt            a < b ? yes : no
 *   vec_round                to nearest even, |a| < 2^22
 *   vec_pow2(n)              2^n, n integral, -126 <= n <= 127
 *   vec_sum                  all lanes: halves are added until one is left
 *   vec_store_u8             VEC_WIDTH bytes; rounds to nearest even and saturates, |v| < 2^15
 */

/* Rows and columns of the register tile in floats. */
#define VEC_PANEL (VEC_TILE_VECS * VEC_WIDTH)

#endif
