/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * vec_act.h - activations on vectors, f32. NaN stays NaN.
 *
 * Largest error measured against double on [-20, 20]: exp 9e-8, silu and mish 3e-7 relative; erf
 * 1.8e-7 relative; gelu 5e-7 absolute.
 */
#ifndef DCAE_VEC_ACT_H
#define DCAE_VEC_ACT_H

#include "../dcae_config.h"
#include "vec.h"

/* e^x; x is clamped to [-87, 88], where the result is a normal number. */
VEC_INLINE vec vec_exp(vec x)
{
    x = vec_min(vec_set1(88.0f), vec_max(vec_set1(-87.0f), x));
    vec n = vec_round(vec_mul(x, vec_set1(1.44269504f)));
    /* ln 2 in two parts: n times the first is exact. */
    vec r = vec_fnma(n, vec_set1(0.693145752f), x);
    r = vec_fnma(n, vec_set1(1.42860677e-6f), r);
    vec p = vec_fma(vec_set1(1.39261759e-3f), r, vec_set1(8.36317334e-3f));
    p = vec_fma(p, r, vec_set1(4.16665561e-2f));
    p = vec_fma(p, r, vec_set1(0.166665778f));
    p = vec_fma(p, r, vec_set1(0.5f));
    p = vec_fma(vec_mul(r, r), p, r);
    return vec_mul(vec_add(p, vec_set1(1.0f)), vec_pow2(n));
}

VEC_INLINE vec vec_silu(vec x)
{
    vec one = vec_set1(1.0f);
    return vec_div(x, vec_add(one, vec_exp(vec_sub(vec_zero(), x))));
}

/* erf by x·P(x²) below 1 and 1 - exp(-t·Q(t)) above, where it reaches 1 at t = 3.95. */
VEC_INLINE vec vec_erf(vec x)
{
    vec s = vec_mul(x, x), t = vec_min(vec_set1(3.95f), vec_abs(x));
    vec p = vec_fma(vec_set1(7.87587487e-5f), s, vec_set1(-8.0168643e-4f));
    p = vec_fma(p, s, vec_set1(5.18908724e-3f));
    p = vec_fma(p, s, vec_set1(-2.68542115e-2f));
    p = vec_fma(p, s, vec_set1(0.112835944f));
    p = vec_fma(p, s, vec_set1(-0.37612626f));
    p = vec_fma(p, s, vec_set1(1.12837911f));
    vec q = vec_fma(vec_set1(-2.40307514e-7f), t, vec_set1(3.69452937e-6f));
    q = vec_fma(q, t, vec_set1(-5.35694653e-6f));
    q = vec_fma(q, t, vec_set1(-3.14399804e-4f));
    q = vec_fma(q, t, vec_set1(3.78743629e-3f));
    q = vec_fma(q, t, vec_set1(-2.42493413e-2f));
    q = vec_fma(q, t, vec_set1(0.106935881f));
    q = vec_fma(q, t, vec_set1(0.634667218f));
    q = vec_fma(q, t, vec_set1(1.1287806f));
    vec large = vec_sub(vec_set1(1.0f), vec_exp(vec_sub(vec_zero(), vec_mul(t, q))));
    return vec_select_lt(vec_set1(1.0f), t, vec_copysign(large, x), vec_mul(x, p));
}

VEC_INLINE vec vec_gelu(vec x)
{
    vec half = vec_mul(x, vec_set1(0.5f));
    return vec_fma(half, vec_erf(vec_mul(x, vec_set1(0.707106781f))), half);
}

/* x·tanh(log(1 + e^x)) = x·m / (m + 2) with m = e^x (e^x + 2); above 20 the factor is 1. */
VEC_INLINE vec vec_mish(vec x)
{
    vec two = vec_set1(2.0f), e = vec_exp(vec_min(vec_set1(20.0f), x));
    vec m = vec_mul(e, vec_add(e, two));
    return vec_mul(x, vec_div(m, vec_add(m, two)));
}

/* act is the same for a whole call, so the branch is outside the loop or well predicted. */
VEC_INLINE vec vec_act(DcaeAct act, vec x)
{
    switch (act) {
    case DCAE_ACT_RELU:
        return vec_max(vec_zero(), x);
    case DCAE_ACT_SILU:
        return vec_silu(x);
    case DCAE_ACT_GELU:
        return vec_gelu(x);
    case DCAE_ACT_MISH:
        return vec_mish(x);
    default:
        return x;
    }
}

#endif
