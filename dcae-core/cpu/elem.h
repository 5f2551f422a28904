/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * elem.h - how activations lie in memory: the other half of the vocabulary of vec.h, one section
 * per storage type. DCAE_ELEM_BF16 beside one of vec.h's 16-wide sections stores bf16 and
 * multiplies pairs of it; without it an element is a float. Kernels compute in f32 vectors, so
 * nothing but these names knows the type.
 *
 *   elem_t                    an element of an activation
 *   ELEM_WORD                 elements in 32 bits: a word, what a lane of a matrix product takes
 *   elem_load, _load_n        VEC_WIDTH elements, or the first n, as f32; other lanes read as 0
 *   elem_store, _store_n      the same back, rounded to nearest even; NaN stays NaN
 *   elem_get, elem_set        one element
 *   elem_copy(to, from)       VEC_WIDTH elements as they are
 *   elem_pack(to, x)          ELEM_WORD floats into one word
 *   elem_load_sum, _load_sum_n, _store_sum, _store_sum_n, _get_sum, _set_sum
 *                             the same for an element kept in two: the rounded one, and `low`
 *                             elements further what rounding took off it; low 0: there is none
 *   elem_dot(a, b, c)         c + the products of the words' elements, a chain of vec_fma from the
 *                             last element to the first
 *
 * bf16 arithmetic is that of the processor's instructions, emulated or not: subnormal inputs of
 * elem_store and elem_dot count as 0, and subnormal sums become 0. The emulation errs where a sum
 * below the smallest normal number rounds up to it.
 */
#ifndef DCAE_ELEM_H
#define DCAE_ELEM_H

#include "vec.h"

#if !defined(DCAE_ELEM_BF16)

#define ELEM_WORD 1

typedef float elem_t;

VEC_INLINE vec elem_load(const elem_t *p)
{
    return vec_load(p);
}
VEC_INLINE vec elem_load_n(const elem_t *p, size_t n)
{
    return vec_load_n(p, n);
}
VEC_INLINE void elem_store(elem_t *p, vec v)
{
    vec_store(p, v);
}
VEC_INLINE void elem_store_n(elem_t *p, vec v, size_t n)
{
    vec_store_n(p, v, n);
}
VEC_INLINE float elem_get(const elem_t *p)
{
    return *p;
}
VEC_INLINE void elem_set(elem_t *p, float x)
{
    *p = x;
}
VEC_INLINE void elem_copy(elem_t *to, const elem_t *from)
{
    vec_store(to, vec_load(from));
}
VEC_INLINE void elem_pack(float *to, const float *x)
{
    *to = *x;
}
VEC_INLINE vec elem_dot(vec a, vec b, vec c)
{
    return vec_fma(a, b, c);
}

#else

#define ELEM_WORD 2

/* Rows of elements are read as words. */
typedef uint16_t elem_t __attribute__((may_alias));

VEC_INLINE float elem_get(const elem_t *p)
{
    uint32_t bits = (uint32_t)*p << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
VEC_INLINE void elem_set(elem_t *p, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        *p = (elem_t)(bits >> 16 | 0x40u);
    else if ((bits & 0x7f800000u) == 0)
        *p = (elem_t)(bits >> 16 & 0x8000u);
    else
        *p = (elem_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}
VEC_INLINE void elem_copy(elem_t *to, const elem_t *from)
{
    _mm256_storeu_si256((__m256i *)to, _mm256_loadu_si256((const __m256i *)from));
}
/* The first element in the low half. */
VEC_INLINE void elem_pack(float *to, const float *x)
{
    elem_set((elem_t *)to, x[0]);
    elem_set((elem_t *)to + 1, x[1]);
}

#if defined(DCAE_VEC_AVX512)

VEC_INLINE vec elem_widen(__m256i v)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}
VEC_INLINE vec elem_load(const elem_t *p)
{
    return elem_widen(_mm256_loadu_si256((const __m256i *)p));
}
VEC_INLINE vec elem_load_n(const elem_t *p, size_t n)
{
    return elem_widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p));
}
VEC_INLINE void elem_store(elem_t *p, vec v)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
VEC_INLINE void elem_store_n(elem_t *p, vec v, size_t n)
{
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << n) - 1), (__m256i)_mm512_cvtneps_pbh(v));
}
VEC_INLINE vec elem_dot(vec a, vec b, vec c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}

#elif defined(DCAE_VEC_EMU512)

VEC_INLINE __m256 v8_widen(__m128i v)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}
/* Subnormal numbers become zeros of their sign. */
VEC_INLINE __m256 v8_flush(__m256 x)
{
    __m256 keep = _mm256_cmp_ps(v8_abs(x), _mm256_set1_ps(0x1p-126f), _CMP_NLT_UQ);
    return _mm256_and_ps(x, _mm256_or_ps(keep, _mm256_set1_ps(-0.0f)));
}
/* 8 lanes rounded to bf16, in the low halves of 32 bits. Out of line below: quicker to compile. */
VEC_INLINE __m256i v8_narrow(__m256 x)
{
    __m256i bits = _mm256_castps_si256(v8_flush(x)), high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    return _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
}
VEC_INLINE vec elem_load(const elem_t *p)
{
    return VEC_PAIR(v8_widen(_mm_loadu_si128((const __m128i *)p)),
                    v8_widen(_mm_loadu_si128((const __m128i *)(p + 8))));
}
static __attribute__((noinline, unused)) void elem_store(elem_t *p, vec v)
{
    __m256i packed = _mm256_packus_epi32(v8_narrow(v.lo), v8_narrow(v.hi));
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
static __attribute__((noinline, unused)) vec elem_load_n(const elem_t *p, size_t n)
{
    elem_t all[VEC_WIDTH] = {0};
    memcpy(all, p, n * sizeof *p);
    return elem_load(all);
}
static __attribute__((noinline, unused)) void elem_store_n(elem_t *p, vec v, size_t n)
{
    elem_t all[VEC_WIDTH];
    elem_store(all, v);
    memcpy(p, all, n * sizeof *p);
}
/* Products of two bf16 numbers are exact, so each sum rounds once. */
VEC_INLINE __m256 v8_dot(__m256 a, __m256 b, __m256 c)
{
    __m256 high = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u));
    __m256 a0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16));
    __m256 b0 = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(b), 16));
    __m256 a1 = _mm256_and_ps(a, high), b1 = _mm256_and_ps(b, high);
    c = v8_flush(_mm256_fmadd_ps(v8_flush(a1), v8_flush(b1), v8_flush(c)));
    return v8_flush(_mm256_fmadd_ps(v8_flush(a0), v8_flush(b0), c));
}
VEC_INLINE vec elem_dot(vec a, vec b, vec c)
{
    return VEC_PAIR(v8_dot(a.lo, b.lo, c.lo), v8_dot(a.hi, b.hi, c.hi));
}

#else
#error "bf16 needs DCAE_VEC_AVX512 or DCAE_VEC_EMU512"
#endif

#endif

#if ELEM_WORD == 1
#define ELEM_HAS_LOW(low) 0
#else
#define ELEM_HAS_LOW(low) ((low) != 0)
#endif

VEC_INLINE vec elem_load_sum(const elem_t *p, size_t low)
{
    vec v = elem_load(p);
    return ELEM_HAS_LOW(low) ? vec_add(v, elem_load(p + low)) : v;
}
VEC_INLINE vec elem_load_sum_n(const elem_t *p, size_t low, size_t n)
{
    vec v = elem_load_n(p, n);
    return ELEM_HAS_LOW(low) ? vec_add(v, elem_load_n(p + low, n)) : v;
}
VEC_INLINE float elem_get_sum(const elem_t *p, size_t low)
{
    return ELEM_HAS_LOW(low) ? elem_get(p) + elem_get(p + low) : elem_get(p);
}
VEC_INLINE void elem_set_sum(elem_t *p, size_t low, float x)
{
    elem_set(p, x);
    if (ELEM_HAS_LOW(low))
        elem_set(p + low, x - elem_get(p));
}
VEC_INLINE void elem_store_sum(elem_t *p, size_t low, vec v)
{
    elem_store(p, v);
    if (ELEM_HAS_LOW(low))
        elem_store(p + low, vec_sub(v, elem_load(p)));
}
VEC_INLINE void elem_store_sum_n(elem_t *p, size_t low, vec v, size_t n)
{
    elem_store_n(p, v, n);
    if (ELEM_HAS_LOW(low))
        elem_store_n(p + low, vec_sub(v, elem_load_n(p, n)), n);
}

#endif
