/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Conversions between number formats (cvt), comparisons (setp) and moves, with packing and
 * unpacking of registers. The frequent integer conversions have loops of their own; all others go
 * through one exact intermediate: a 64-bit integer, or a double, which holds every f16, bf16 and
 * f32 value.
 */
#include <math.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "ptx_exec.h"

/* --- half precision --- */

float half_to_float(uint16_t h)
{
#ifdef __F16C__
    return _cvtsh_ss(h);
#else
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7fff;
    if (magnitude >= 0x7c00)
        return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    if (magnitude < 0x400)
        return (sign ? -1.0f : 1.0f) * (float)magnitude * 0x1p-24f;
    return bits_to_float(sign | ((magnitude << 13) + 0x38000000));
#endif
}

/* Rounds |x| to a format of `digits` bits behind the point, least normal exponent `least`, given
 * bias. */
static uint32_t round_to_format(double x, int digits, int least, int bias)
{
    if (x < ldexp(1.0, least))
        return (uint32_t)rint(ldexp(x, digits - least));
    int exponent;
    frexp(x, &exponent);
    exponent--;
    const uint32_t significand = (uint32_t)rint(ldexp(x, digits - exponent));
    return ((uint32_t)(exponent + bias) << digits) + significand - (1u << digits);
}

uint16_t double_to_half(double d)
{
    const uint16_t sign = signbit(d) ? 0x8000 : 0;
    if (isnan(d))
        return 0x7fff;
    if (fabs(d) >= 65520.0)
        return sign | 0x7c00;
    return (uint16_t)(sign | round_to_format(fabs(d), 10, -14, 15));
}

uint16_t double_to_bf16(double d)
{
    const uint16_t sign = signbit(d) ? 0x8000 : 0;
    if (isnan(d))
        return 0x7fff;
    if (fabs(d) >= 0x1p128)
        return sign | 0x7f80;
    return (uint16_t)(sign | round_to_format(fabs(d), 7, -126, 127));
}

uint16_t float_to_half(float f)
{
#ifdef __F16C__
    return isnan(f) ? 0x7fff : _cvtss_sh(f, 0);
#else
    return double_to_half(f);
#endif
}

/* --- cvt --- */

static bool is_float_type(Type t)
{
    return t == T_F16 || t == T_BF16 || t == T_F32 || t == T_F64;
}

static bool is_signed_type(Type t)
{
    return t == T_S8 || t == T_S16 || t == T_S32 || t == T_S64;
}

static double load_float(uint64_t bits, Type t)
{
    double d;
    switch (t) {
    case T_F16:
        return half_to_float((uint16_t)bits);
    case T_BF16:
        return bf16_to_float((uint16_t)bits);
    case T_F32:
        return bits_to_float((uint32_t)bits);
    default:
        memcpy(&d, &bits, sizeof d);
        return d;
    }
}

static uint64_t store_float(double d, Type t)
{
    uint64_t bits;
    switch (t) {
    case T_F16:
        return (float)d == d ? float_to_half((float)d) : double_to_half(d);
    case T_BF16:
        return (float)d == d ? float_to_bf16((float)d) : double_to_bf16(d);
    case T_F32:
        return float_to_bits((float)d);
    default:
        memcpy(&bits, &d, sizeof bits);
        return bits;
    }
}

/* The integer of a type in the low bits, extended to 64. */
static uint64_t load_integer(uint64_t bits, Type t)
{
    switch (t) {
    case T_U8:
    case T_B8:
        return (uint8_t)bits;
    case T_S8:
        return (uint64_t)(int8_t)bits;
    case T_U16:
    case T_B16:
        return (uint16_t)bits;
    case T_S16:
        return (uint64_t)(int16_t)bits;
    case T_U32:
    case T_B32:
        return (uint32_t)bits;
    case T_S32:
        return (uint64_t)(int32_t)bits;
    default:
        return bits;
    }
}

static unsigned bits_of(Type t)
{
    switch (t) {
    case T_U8:
    case T_S8:
    case T_B8:
        return 8;
    case T_U16:
    case T_S16:
    case T_B16:
        return 16;
    case T_U32:
    case T_S32:
    case T_B32:
        return 32;
    default:
        return 64;
    }
}

static uint64_t clamp_integer(uint64_t v, bool from_signed, Type t)
{
    const unsigned n = bits_of(t);
    if (is_signed_type(t)) {
        const int64_t most = INT64_MAX >> (64 - n), least = -most - 1;
        if (!from_signed)
            return v > (uint64_t)most ? (uint64_t)most : v;
        return (uint64_t)((int64_t)v > most ? most : (int64_t)v < least ? least : (int64_t)v);
    }
    const uint64_t most = UINT64_MAX >> (64 - n);
    if (from_signed && (int64_t)v < 0)
        return 0;
    return v > most ? most : v;
}

static double round_integral(double d, int mode)
{
    switch (mode) {
    case ROUND_RNI:
        return rint(d);
    case ROUND_RZI:
        return trunc(d);
    case ROUND_RMI:
        return floor(d);
    case ROUND_RPI:
        return ceil(d);
    default:
        return d;
    }
}

static uint64_t float_to_integer(double d, const Insn *in)
{
    const Type t = (Type)in->type;
    const unsigned n = bits_of(t);
    if (isnan(d))
        return 0;
    d = round_integral(d, in->mode);
    if (is_signed_type(t)) {
        const double limit = ldexp(1.0, (int)n - 1);
        if (d >= limit)
            return (uint64_t)(INT64_MAX >> (64 - n));
        return d < -limit ? (uint64_t)(INT64_MIN >> (64 - n)) : (uint64_t)(int64_t)d;
    }
    if (d <= 0.0)
        return 0;
    return d >= ldexp(1.0, (int)n) ? UINT64_MAX >> (64 - n) : (uint64_t)d;
}

static double integer_to_float(uint64_t v, bool is_signed, Type t)
{
    if (t == T_F32) /* one rounding, not two */
        return is_signed ? (float)(int64_t)v : (float)v;
    return is_signed ? (double)(int64_t)v : (double)v;
}

static double flush_double(double d)
{
    return fabs(d) < 0x1p-126 ? copysign(0.0, d) : d;
}

static uint64_t convert(uint64_t bits, const Insn *in)
{
    const Type to = (Type)in->type, from = (Type)in->type2;
    if (!is_float_type(from)) {
        const uint64_t v = load_integer(bits, from);
        if (is_float_type(to))
            return store_float(integer_to_float(v, is_signed_type(from), to), to);
        return load_integer(in->flags & OPF_SAT ? clamp_integer(v, is_signed_type(from), to) : v,
                            to);
    }
    double d = load_float(bits, from);
    if (in->flags & OPF_FTZ)
        d = from == T_F32 ? flush_double(d) : d;
    if (!is_float_type(to))
        return float_to_integer(d, in);
    d = round_integral(d, in->mode);
    if (in->flags & OPF_SAT)
        d = d > 0.0 ? d < 1.0 ? d : 1.0 : 0.0;
    if ((in->flags & OPF_FTZ) && to == T_F32)
        d = flush_double(d);
    return store_float(d, to);
}

static void convert_pair(Warp *w, const Insn *in)
{
    const float *high = row(w, in->src[0]), *low = row(w, in->src[1]);
    uint32_t t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = in->type == T_BF16X2
                   ? (uint32_t)float_to_bf16(high[l]) << 16 | float_to_bf16(low[l])
                   : (uint32_t)float_to_half(high[l]) << 16 | float_to_half(low[l]);
    put32(w, in->dst[0], t);
}

/* 32 and 64 bits, without saturation: most of the conversions in kernels are these. */
static bool convert_integers(Warp *w, const Insn *in)
{
    const bool from32 = in->type2 == T_S32 || in->type2 == T_U32;
    const bool to64 = in->type == T_S64 || in->type == T_U64,
               to32 = in->type == T_S32 || in->type == T_U32;
    const bool from64 = in->type2 == T_S64 || in->type2 == T_U64;
    if (to64 && from32 && (in->flags & (OPF_SAT | OPF_WIDE_SRC)) == 0) {
        const uint32_t *a = row(w, in->src[0]);
        uint64_t t[LANES];
        if (in->type2 == T_S32)
            for (int l = 0; l < LANES; l++)
                t[l] = (uint64_t)(int64_t)(int32_t)a[l];
        else
            for (int l = 0; l < LANES; l++)
                t[l] = a[l];
        put64(w, in->dst[0], t);
        return true;
    }
    if (to32 && from64 && (in->flags & (OPF_SAT | OPF_WIDE_DST)) == 0) {
        const uint64_t *a = row(w, in->src[0]);
        uint32_t t[LANES];
        for (int l = 0; l < LANES; l++)
            t[l] = (uint32_t)a[l];
        put32(w, in->dst[0], t);
        return true;
    }
    return false;
}

void exec_cvt(Warp *w, const Insn *in)
{
    if (in->type == T_F16X2 || in->type == T_BF16X2) {
        convert_pair(w, in);
        return;
    }
    if (convert_integers(w, in))
        return;
    const uint32_t *a32 = row(w, in->src[0]);
    const uint64_t *a64 = row(w, in->src[0]);
    uint32_t t32[LANES] = {0};
    uint64_t t64[LANES] = {0};
    for (int l = 0; l < LANES; l++) {
        if (!((w->exec >> l) & 1))
            continue;
        const uint64_t r = convert(in->flags & OPF_WIDE_SRC ? a64[l] : a32[l], in);
        t64[l] = r;
        t32[l] = in->bytes == 2 ? (uint16_t)r : (uint32_t)r;
    }
    if (in->flags & OPF_WIDE_DST)
        put64(w, in->dst[0], t64);
    else
        put32(w, in->dst[0], t32);
}

/* --- setp --- */

#define COMPARE_LOOP(expr)            \
    for (int l = 0; l < LANES; l++) { \
        const T a = A[l], b = B[l];   \
        r |= (uint32_t)(expr) << l;   \
    }                                 \
    break;

#define COMPARE_INTEGERS(name, type, storage)                    \
    static uint32_t name(const void *x, const void *y, int mode) \
    {                                                            \
        typedef type T;                                          \
        const storage *XA = x, *XB = y;                          \
        T A[LANES], B[LANES];                                    \
        uint32_t r = 0;                                          \
        for (int l = 0; l < LANES; l++) {                        \
            A[l] = (T)XA[l];                                     \
            B[l] = (T)XB[l];                                     \
        }                                                        \
        switch (mode) {                                          \
        case CMP_EQ:                                             \
            COMPARE_LOOP(a == b)                                 \
        case CMP_NE:                                             \
            COMPARE_LOOP(a != b)                                 \
        case CMP_LT:                                             \
        case CMP_LO:                                             \
            COMPARE_LOOP(a < b)                                  \
        case CMP_LE:                                             \
        case CMP_LS:                                             \
            COMPARE_LOOP(a <= b)                                 \
        case CMP_GT:                                             \
        case CMP_HI:                                             \
            COMPARE_LOOP(a > b)                                  \
        default:                                                 \
            COMPARE_LOOP(a >= b)                                 \
        }                                                        \
        return r;                                                \
    }

COMPARE_INTEGERS(compare_s16, int16_t, uint32_t)
COMPARE_INTEGERS(compare_u16, uint16_t, uint32_t)
COMPARE_INTEGERS(compare_s32, int32_t, uint32_t)
COMPARE_INTEGERS(compare_u32, uint32_t, uint32_t)
COMPARE_INTEGERS(compare_s64, int64_t, uint64_t)
COMPARE_INTEGERS(compare_u64, uint64_t, uint64_t)

static bool compare_doubles(double a, double b, int mode)
{
    const bool unordered = isnan(a) || isnan(b);
    switch (mode) {
    case CMP_EQ:
        return a == b;
    case CMP_NE:
        return !unordered && a != b;
    case CMP_LT:
        return a < b;
    case CMP_LE:
        return a <= b;
    case CMP_GT:
        return a > b;
    case CMP_GE:
        return a >= b;
    case CMP_EQU:
        return unordered || a == b;
    case CMP_NEU:
        return unordered || a != b;
    case CMP_LTU:
        return unordered || a < b;
    case CMP_LEU:
        return unordered || a <= b;
    case CMP_GTU:
        return unordered || a > b;
    case CMP_GEU:
        return unordered || a >= b;
    case CMP_NUM:
        return !unordered;
    default:
        return unordered;
    }
}

/* The modes that compilers write for f32; C compares NaN as these do. */
static bool compare_f32(const void *x, const void *y, int mode, uint32_t *result)
{
    typedef float T;
    const T *A = x, *B = y;
    uint32_t r = 0;
    switch (mode) {
    case CMP_EQ:
        COMPARE_LOOP(a == b)
    case CMP_NEU:
        COMPARE_LOOP(a != b)
    case CMP_LT:
        COMPARE_LOOP(a < b)
    case CMP_LE:
        COMPARE_LOOP(a <= b)
    case CMP_GT:
        COMPARE_LOOP(a > b)
    case CMP_GE:
        COMPARE_LOOP(a >= b)
    default:
        return false;
    }
    *result = r;
    return true;
}

static uint32_t compare_floats(const void *x, const void *y, const Insn *in)
{
    uint32_t r = 0;
    if (in->type == T_F32 && !(in->flags & OPF_FTZ) && compare_f32(x, y, in->mode, &r))
        return r;
    const bool wide = in->type == T_F64;
    for (int l = 0; l < LANES; l++) {
        double a =
            load_float(wide ? ((const uint64_t *)x)[l] : ((const uint32_t *)x)[l], (Type)in->type);
        double b =
            load_float(wide ? ((const uint64_t *)y)[l] : ((const uint32_t *)y)[l], (Type)in->type);
        if (in->flags & OPF_FTZ) {
            a = flush_double(a);
            b = flush_double(b);
        }
        r |= (uint32_t)compare_doubles(a, b, in->mode) << l;
    }
    return r;
}

static uint32_t combine(uint32_t r, uint32_t p, int logic)
{
    switch (logic) {
    case BOOL_AND:
        return r & p;
    case BOOL_OR:
        return r | p;
    case BOOL_XOR:
        return r ^ p;
    default:
        return r;
    }
}

/* A bit per lane. */
static uint32_t compare(const Insn *in, const void *a, const void *b)
{
    switch (in->type) {
    case T_S32:
        return compare_s32(a, b, in->mode);
    case T_U32:
    case T_B32:
        return compare_u32(a, b, in->mode);
    case T_S64:
        return compare_s64(a, b, in->mode);
    case T_U64:
    case T_B64:
        return compare_u64(a, b, in->mode);
    case T_S16:
        return compare_s16(a, b, in->mode);
    case T_U16:
    case T_B16:
        return compare_u16(a, b, in->mode);
    default:
        return compare_floats(a, b, in);
    }
}

/* Both halves of each register. */
static void set_pairs(Warp *w, const Insn *in)
{
    const uint32_t *a = row(w, in->src[0]), *b = row(w, in->src[1]);
    const Type half = in->type == T_F16X2 ? T_F16 : T_BF16;
    const uint32_t one = in->type == T_F16X2 ? 0x3c00 : 0x3f80;
    uint32_t t[LANES];
    for (int l = 0; l < LANES; l++) {
        const bool low = compare_doubles(load_float(a[l] & 0xffff, half),
                                         load_float(b[l] & 0xffff, half), in->mode);
        const bool high =
            compare_doubles(load_float(a[l] >> 16, half), load_float(b[l] >> 16, half), in->mode);
        t[l] = (low ? one : 0) | (high ? one << 16 : 0);
    }
    put32(w, in->dst[0], t);
}

void exec_set(Warp *w, const Insn *in)
{
    if (in->type == T_F16X2 || in->type == T_BF16X2) {
        set_pairs(w, in);
        return;
    }
    const uint32_t r = compare(in, row(w, in->src[0]), row(w, in->src[1]));
    const uint32_t yes = in->type2 == T_F32 ? 0x3f800000 : FULL_MASK;
    uint32_t t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = (r >> l) & 1 ? yes : 0;
    put32(w, in->dst[0], t);
}

void exec_setp(Warp *w, const Insn *in)
{
    const uint32_t r = compare(in, row(w, in->src[0]), row(w, in->src[1]));
    uint32_t p = 0;
    if (in->vec != BOOL_NONE)
        p = in->flags & OPF_NOT ? ~get_pred(w, in->src[2]) : get_pred(w, in->src[2]);
    if (in->ndst > 1)
        put_pred(w, in->dst[1], combine(~r, p, in->vec));
    put_pred(w, in->dst[0], combine(r, p, in->vec));
}

/* --- moves --- */

void exec_mov32(Warp *w, const Insn *in)
{
    put32(w, in->dst[0], row(w, in->src[0]));
}

void exec_mov64(Warp *w, const Insn *in)
{
    put64(w, in->dst[0], row(w, in->src[0]));
}

void exec_mov_pred(Warp *w, const Insn *in)
{
    put_pred(w, in->dst[0], get_pred(w, in->src[0]));
}

void exec_mov_pack(Warp *w, const Insn *in)
{
    uint64_t t[LANES] = {0};
    for (unsigned i = 0; i < in->vec; i++) {
        const uint32_t *a = row(w, in->src[i]);
        for (int l = 0; l < LANES; l++)
            t[l] |= (uint64_t)a[l] << (8 * in->bytes * i);
    }
    if (in->flags & OPF_WIDE_DST) {
        put64(w, in->dst[0], t);
        return;
    }
    uint32_t t32[LANES];
    for (int l = 0; l < LANES; l++)
        t32[l] = (uint32_t)t[l];
    put32(w, in->dst[0], t32);
}

void exec_mov_unpack(Warp *w, const Insn *in)
{
    const uint32_t *a32 = row(w, in->src[0]);
    const uint64_t *a64 = row(w, in->src[0]);
    const uint64_t mask = in->bytes == 4 ? 0xffffffffu : 0xffffu;
    uint32_t t[MAX_DST][LANES];
    for (unsigned i = 0; i < in->vec; i++)
        for (int l = 0; l < LANES; l++) {
            const uint64_t v = in->flags & OPF_WIDE_SRC ? a64[l] : a32[l];
            t[i][l] = (uint32_t)((v >> (8 * in->bytes * i)) & mask);
        }
    for (unsigned i = 0; i < in->vec; i++)
        put32(w, in->dst[i], t[i]);
}

/* Into a window by addition, out of it by subtraction (imm is negative), which must find an address
 * inside. */
void exec_cvta(Warp *w, const Insn *in)
{
    const uint64_t *a = row(w, in->src[0]);
    uint64_t t[LANES];
    for (int l = 0; l < LANES; l++) {
        t[l] = a[l] + (uint64_t)in->imm;
        if ((in->flags & OPF_RETURN) && ((w->exec >> l) & 1) && t[l] >= WINDOW_BYTES)
            launch_fault(
                w, l, "generic address 0x%" G_GINT64_MODIFIER "x does not lie in that space", a[l]);
    }
    put64(w, in->dst[0], t);
}
