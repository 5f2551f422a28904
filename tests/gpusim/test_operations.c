/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The interpreter's arithmetic against C, expression by expression: the lists here repeat those of
 * kernels/operations.cu in the same order. Inputs mix edge cases with random numbers.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "test_host.h"

#define COUNT 256

static const guint32 edges[] = {0,          1,          2,          7,          0x7fffffff,
                                0x80000000, 0xffffffff, 0x80000001, 0x0000ffff, 0x00008000};

static guint32 word_with_edges(int i)
{
    return i % 3 ? random_word() : edges[random_word() % G_N_ELEMENTS(edges)];
}

/* Runs a kernel of (in, out, n) on COUNT pairs and returns its COUNT * results numbers. */
static void *run(const char *kernel, const void *in, gsize in_bytes, gsize out_bytes)
{
    Fixture f;
    int n = COUNT;
    void *out = g_malloc(out_bytes);
    fixture_begin(&f, "operations.ptx");
    CUdeviceptr pin = upload(in, in_bytes), pout = upload(NULL, out_bytes);
    launch(&f, kernel, (COUNT + 95) / 96, 96, (void *[]){&pin, &pout, &n});
    OK(cu.cuMemcpyDtoH_v2(out, pout, out_bytes));
    OK(cu.cuMemFree_v2(pin));
    OK(cu.cuMemFree_v2(pout));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
    return out;
}

static guint32 rotate_in(guint32 low, guint32 high, int left)
{
    return (guint32)((((guint64)high << 32 | low) << left) >> 32);
}

static guint32 permute(guint32 a, guint32 b, guint32 selector)
{
    guint8 bytes[8];
    guint32 r = 0;
    memcpy(bytes, &a, 4);
    memcpy(bytes + 4, &b, 4);
    for (int i = 0; i < 4; i++)
        r |= (guint32)bytes[(selector >> (4 * i)) & 7] << (8 * i);
    return r;
}

static guint32 reverse(guint32 a)
{
    guint32 r = 0;
    for (int i = 0; i < 32; i++)
        r = r << 1 | ((a >> i) & 1);
    return r;
}

static void expected_32(guint32 a, guint32 b, guint32 *o)
{
    const gint32 sa = (gint32)a, sb = (gint32)b, d = sb | 1, ha = sa >> 1, hb = sb >> 1;
    const guint32 list[24] = {
        a / (b | 1),
        d == -1 ? 0u - a : (guint32)(sa / d),
        a % (b | 1),
        d == -1 ? 0 : (guint32)(sa % d),
        (guint32)((guint64)a * b >> 32),
        (guint32)((guint64)((gint64)sa * sb) >> 32),
        (guint32)__builtin_popcount(a),
        a ? (guint32)__builtin_clz(a) : 32,
        reverse(a),
        permute(a, b, 0x5140 + (b & 7)),
        a >> (b & 31),
        (guint32)(sa >> (b & 31)),
        a << (b & 31),
        (guint32)MIN(sa, sb),
        MAX(a, b),
        sa < 0 ? 0u - a : a,
        rotate_in(a, b, 7),
        (guint32)(((guint64)b << 32 | a) >> 9),
        a < b ? a ^ b : a & ~b,
        (guint16)(a * b),
        (guint32)(gint32)(gint16)(a + b),
        (guint32)(gint32)(gint8)a,
        a + (guint32)(ha > hb ? ha - hb : hb - ha),
        (sa > 5 && sb < 7) || a == b,
    };
    memcpy(o, list, sizeof list);
}

static void test_32(void)
{
    guint32 in[COUNT][2], want[24];
    random_seed(1);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++)
            in[i][j] = word_with_edges(i + j);
    guint32 *out = run("operations_32", in, sizeof in, COUNT * sizeof want);
    for (int i = 0; i < COUNT; i++) {
        expected_32(in[i][0], in[i][1], want);
        for (int j = 0; j < 24; j++)
            if (out[i * 24 + j] != want[j])
                g_error("operations_32 %d of %08x, %08x: %08x instead of %08x", j, in[i][0],
                        in[i][1], out[i * 24 + j], want[j]);
    }
    g_free(out);
}

static void expected_64(guint64 a, guint64 b, guint64 *o)
{
    const gint64 sa = (gint64)a, sb = (gint64)b, d = sb | 1;
    const guint64 list[14] = {
        a / (b | 1),
        d == -1 ? 0u - a : (guint64)(sa / d),
        a % (b | 1),
        d == -1 ? 0 : (guint64)(sa % d),
        (guint64)((unsigned __int128)a * b >> 64),
        (guint64)((unsigned __int128)((__int128)sa * sb) >> 64),
        a * b + 12345,
        a >> (b & 63),
        (guint64)(sa >> (b & 63)),
        a << (b & 63),
        (guint64)MIN(sa, sb),
        (guint64)__builtin_popcountll(a) + (a ? (guint64)__builtin_clzll(a) : 64),
        sa < sb ? (guint64)(gint64)(gint32)a : (guint64)(guint32)b,
        (guint64)(gint64)(gint32)a * (guint64)(gint64)(gint32)b,
    };
    memcpy(o, list, sizeof list);
}

static void test_64(void)
{
    guint64 in[COUNT][2], want[14];
    random_seed(2);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++)
            in[i][j] = (guint64)word_with_edges(i + j) << 32 | word_with_edges(i);
    guint64 *out = run("operations_64", in, sizeof in, COUNT * sizeof want);
    for (int i = 0; i < COUNT; i++) {
        expected_64(in[i][0], in[i][1], want);
        for (int j = 0; j < 14; j++)
            if (out[i * 14 + j] != want[j])
                g_error("operations_64 %d of %016" G_GINT64_MODIFIER "x, %016" G_GINT64_MODIFIER
                        "x: %016" G_GINT64_MODIFIER "x instead of %016" G_GINT64_MODIFIER "x",
                        j, in[i][0], in[i][1], out[i * 14 + j], want[j]);
    }
    g_free(out);
}

/* Rounds to a format with `digits` bits behind the point and that least exponent, as a float. */
static float rounded(double x, int digits, int least)
{
    int exponent;
    if (x == 0.0 || !isfinite(x))
        return (float)x;
    frexp(x, &exponent);
    exponent = MAX(exponent - 1, least);
    return (float)ldexp(rint(ldexp(x, digits - exponent)), exponent - digits);
}

static float as_half(double x)
{
    const float r = rounded(x, 10, -14);
    return fabsf(r) > 65504.0f ? copysignf(INFINITY, r) : r;
}

static float negate_bits(float a)
{
    guint32 u;
    memcpy(&u, &a, 4);
    u ^= 0x80000000u;
    memcpy(&a, &u, 4);
    return a;
}

static void expected_float(float a, float b, float *o)
{
    const float list[24] = {
        a + b,
        a * b,
        a / b,
        fmaf(a, b, a),
        sqrtf(fabsf(a)),
        fminf(a, b),
        fmaxf(a, b),
        roundf(a),
        rintf(a),
        truncf(a),
        floorf(a),
        ceilf(b),
        (float)(gint32)a,
        (float)(guint32)fabsf(b),
        rounded(a, 7, -126),
        as_half(a),
        (float)((double)a * b + 0.125),
        a > 0.0f ? fminf(a, 1.0f) : 0.0f,
        a < b || isnan(a) ? 1.0f : 0.0f,
        negate_bits(a),
        (float)(gint64)a,
        copysignf(a, b),
        rounded(a, 7, -126) + 2.0f * rounded(b, 7, -126),
        as_half((double)as_half(a) * as_half(b) + 1.0),
    };
    memcpy(o, list, sizeof list);
}

static void test_float(void)
{
    static const float special[] = {0.0f,  -0.0f,    0.5f,     -0.5f, 1.5f,  2.5f,
                                    -2.5f, 65519.0f, 65504.0f, 1e-7f, 3e-5f, 0.99999994f};
    float in[COUNT][2], want[24];
    random_seed(3);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++)
            in[i][j] = (i + j) % 4 ? random_float() * exp2f((float)(random_word() % 20) - 6.0f)
                                   : special[random_word() % G_N_ELEMENTS(special)];
    float *out = run("operations_float", in, sizeof in, COUNT * sizeof want);
    for (int i = 0; i < COUNT; i++) {
        expected_float(in[i][0], in[i][1], want);
        for (int j = 0; j < 24; j++) {
            const float got = out[i * 24 + j];
            if (got != want[j] && !(isnan(got) && isnan(want[j])))
                g_error("operations_float %d of %.9g, %.9g: %.9g instead of %.9g", j, in[i][0],
                        in[i][1], got, want[j]);
        }
    }
    g_free(out);
}

static void test_approximate(void)
{
    float in[COUNT][2];
    random_seed(4);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++)
            in[i][j] = random_float() * 4.0f + 0.01f;
    float *out = run("operations_approximate", in, sizeof in, COUNT * 8 * 4);
    for (int i = 0; i < COUNT; i++) {
        const double a = in[i][0], b = in[i][1];
        const double want[8] = {exp(a),  exp(b), 1.0 / sqrt(fabs(a)), a / b, log(fabs(b)),
                                tanh(a), sin(b), pow(fabs(a), 0.75)};
        for (int j = 0; j < 8; j++)
            /* the hardware's approximations promise 2^-20 or so; ours are nearer */
            if (fabs(out[i * 8 + j] - want[j]) > 4e-6 * (1.0 + fabs(want[j])))
                g_error("operations_approximate %d of %.9g, %.9g: %.9g instead of %.9g", j, a, b,
                        out[i * 8 + j], want[j]);
    }
    g_free(out);
}

static void expected_warp(const guint32 *v, const guint32 *x, guint32 l, guint32 *o)
{
    memset(o, 0, 12 * 4);
    o[0] = x[l >= 3 ? l - 3 : l];
    o[1] = x[(l & 15) + 5 < 16 ? l + 5 : l];
    o[2] = x[l ^ 9];
    o[3] = x[(l & ~7u) | (v[l] & 7)];
    o[6] = 1;
    for (guint32 m = 0; m < 32; m++) {
        o[4] |= (x[m] & 1) << m;
        o[5] |= m == (v[0] & 31);
        o[6] &= x[m] > 10;
        o[7] |= (guint32)((v[m] & 3) == (v[l] & 3)) << m;
        o[8] += v[m];
        o[9] = m && (gint32)o[9] > (gint32)x[m] ? o[9] : x[m];
    }
    if (l & 1) {
        o[10] = x[l ^ 2];
        o[11] = 16;
        return;
    }
    const guint32 by_case[8] = {v[l] + 1, v[l] * 3,  v[l] ^ 0x55, v[l] - 9,
                                ~v[l],    v[l] >> 3, 42,          42};
    o[10] = by_case[v[l] & 7];
}

static void test_warp(void)
{
    enum { THREADS = 64 };
    Fixture f;
    guint32 in[THREADS], x[THREADS], out[THREADS][12], want[12];
    random_seed(5);
    for (int i = 0; i < THREADS; i++) {
        x[i] = in[i] = random_word();
        for (guint32 k = 0; k < (in[i] & 7); k++)
            x[i] = x[i] * 1664525u + 1013904223u;
    }
    fixture_begin(&f, "operations.ptx");
    CUdeviceptr pin = upload(in, sizeof in), pout = upload(NULL, sizeof out);
    launch(&f, "operations_warp", 1, THREADS, (void *[]){&pin, &pout});
    OK(cu.cuMemcpyDtoH_v2(out, pout, sizeof out));
    for (guint32 i = 0; i < THREADS; i++) {
        const guint32 first = i & ~31u;
        expected_warp(in + first, x + first, i & 31, want);
        want[5] = (in[0] & 31) < 32;
        for (int j = 0; j < 12; j++)
            if (out[i][j] != want[j])
                g_error("operations_warp %d of thread %u: %08x instead of %08x", j, i, out[i][j],
                        want[j]);
    }
    OK(cu.cuMemFree_v2(pin));
    OK(cu.cuMemFree_v2(pout));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

static void test_memory(void)
{
    enum { N = 300, BLOCKS = 5, THREADS = 64 };
    static const float weights[4] = {1.0f, 2.0f, 0.5f, -3.0f};
    Fixture f;
    float in[N], out;
    double want = 0.0;
    int n = N;
    random_seed(6);
    for (int i = 0; i < N; i++) {
        in[i] = random_float();
        want += (double)in[i] * (i % 64 & 7) * 0.25 * weights[i & 3];
    }
    fixture_begin(&f, "operations.ptx");
    for (unsigned seed = 0; seed < 4; seed++) {
        cu.seed(seed);
        CUdeviceptr pin = upload(in, sizeof in), pout = upload(NULL, 4);
        CUdeviceptr partial = upload(NULL, BLOCKS * 4);
        launch(&f, "operations_memory", BLOCKS, THREADS, (void *[]){&pin, &partial, &pout, &n});
        OK(cu.cuMemcpyDtoH_v2(&out, pout, 4));
        g_assert_cmpfloat_with_epsilon(out, want, 1e-3); /* f32 sums of 300 numbers up to 5 */
        OK(cu.cuMemFree_v2(pin));
        OK(cu.cuMemFree_v2(pout));
        OK(cu.cuMemFree_v2(partial));
    }
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

static guint32 field(guint32 a, guint32 position, guint32 length, bool is_signed)
{
    guint32 r = 0;
    for (guint32 i = 0; i < 32; i++) {
        guint32 from = position + i; /* beyond the field a signed one repeats its last bit */
        if (i >= length || from > 31) {
            if (!is_signed || !length)
                continue;
            from = MIN(position + length - 1, 31);
        }
        r |= ((a >> from) & 1) << i;
    }
    return r;
}

static guint32 insert(guint32 a, guint32 b, guint32 position, guint32 length)
{
    for (guint32 i = 0; i < length && position + i < 32; i++)
        b = (b & ~(1u << (position + i))) | ((a >> i) & 1) << (position + i);
    return b;
}

static guint32 dot(guint32 a, guint32 b, guint32 c, bool is_signed)
{
    for (int i = 0; i < 32; i += 8)
        c += is_signed ? (guint32)((gint8)(a >> i) * (gint8)(b >> i))
                       : (a >> i & 255) * (b >> i & 255);
    return c;
}

/* prmt with sign replication in bit 3 of each selector */
static guint32 permute_signs(guint32 a, guint32 b, guint32 selector)
{
    guint32 r = 0;
    for (int i = 0; i < 4; i++) {
        const guint32 byte = permute(a, b, selector >> (4 * i) & 7) & 255;
        const bool replicate = selector >> (4 * i) & 8;
        r |= (replicate ? (byte & 128 ? 255 : 0) : byte) << (8 * i);
    }
    return r;
}

static guint32 float_as_int(guint32 bits, bool is_signed)
{
    float f;
    memcpy(&f, &bits, 4);
    if (isnan(f))
        return 0;
    if (is_signed)
        return f >= 0x1p31f ? 0x7fffffff : f < -0x1p31f ? 0x80000000 : (guint32)(gint32)rintf(f);
    return f >= 0x1p32f ? 0xffffffff : f <= 0.0f ? 0 : (guint32)truncf(f);
}

static void expected_rare(guint32 a, guint32 b, guint32 *o)
{
    const gint32 sa = (gint32)a, sb = (gint32)b, ha = (gint32)(a >> 1), hb = (gint32)(b >> 1);
    const guint32 position = b & 63, length = b >> 8 & 63, c = a ^ (b << 3), n = b & 63;
    const guint32 top = sa < 0 ? ~a : a;
    const guint32 list[24] = {
        field(a, position, length, false),
        field(a, position, length, true),
        insert(a, b, position, length),
        (a & b) | (~a & c), /* 0xca: a chooses */
        (guint32)((guint64)a * b >> 32) + 77,
        (guint32)((guint64)((gint64)sa * sb) >> 32) + 77,
        dot(a, b, 9, false),
        dot(a, b, 9, true),
        a + (guint32)(ha > hb ? ha - hb : hb - ha),
        a ? 31 - (guint32)__builtin_clz(a) : 0xffffffff,
        top ? 31 - (guint32)__builtin_clz(top) : 0xffffffff,
        permute_signs(a, b, 0x9c3f ^ (b & 0x7777)),
        n > 31 ? a
        : n    ? b << n | a >> (32 - n)
               : b,
        n > 31 ? b
        : n    ? b << (32 - n) | a >> n
               : a,
        (guint32)CLAMP(sa, -32768, 32767),
        (guint32)CLAMP(sa, 0, 255),
        float_as_int(a, true),
        float_as_int(a, false),
        sa < sb ? 0xffffffff : 0,
        a <= b,
        n > 31 ? 0 : a << n,
        n > 31 ? 0 : a >> n,
        (guint32)(sa >> MIN(n, 31)),
        (b & 127) > 31 ? 0 : a << n, /* the low half of 64 bits */
    };
    memcpy(o, list, sizeof list);
}

static void test_rare(void)
{
    guint32 in[COUNT][2], want[24];
    random_seed(7);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2; j++)
            in[i][j] = word_with_edges(i + j);
    guint32 *out = run("operations_rare", in, sizeof in, COUNT * sizeof want);
    for (int i = 0; i < COUNT; i++) {
        expected_rare(in[i][0], in[i][1], want);
        for (int j = 0; j < 24; j++)
            if (out[i * 24 + j] != want[j])
                g_error("operations_rare %d of %08x, %08x: %08x instead of %08x", j, in[i][0],
                        in[i][1], out[i * 24 + j], want[j]);
    }
    g_free(out);
}

/* Numbers of one half format: its value, and the format's nearest to a value. */
static double half_value(guint16 h, bool is_bf16)
{
    if (is_bf16)
        return from_bf16(h);
    const int exponent = h >> 10 & 31, digits = h & 0x3ff;
    const double magnitude = exponent ? ldexp(1024 + digits, exponent - 25) : ldexp(digits, -24);
    return h & 0x8000 ? -magnitude : magnitude;
}

static double nearest(double x, bool is_bf16)
{
    return is_bf16 ? rounded(x, 7, -126) : as_half(x);
}

static double expected_half(int j, double a, double b, bool is_bf16)
{
    switch (j) {
    case 0:
        return nearest(a + b, is_bf16);
    case 1:
        return nearest(a - b, is_bf16);
    case 2:
        return nearest(a * b, is_bf16);
    case 3:
    case 7:
        return nearest(a * b + a, is_bf16);
    case 4:
    case 8:
        return MAX(a, b);
    case 5:
    case 9:
        return MIN(a, b);
    case 6:
        return -a;
    default:
        return fabs(a);
    }
}

static void test_half(void)
{
    guint32 in[COUNT][2];
    random_seed(8);
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < 2;
             j++) /* exponents from 8 to 15: finite, not large, in either format */
            in[i][j] = (random_word() & 0x9fff9fff) | 0x20002000;
    guint32 *out = run("operations_half", in, sizeof in, COUNT * 12 * 4);
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < 11; j++)
            for (int half = 0; half < 32; half += 16) {
                const bool is_bf16 = j >= 7;
                const double a = half_value((guint16)(in[i][0] >> half), is_bf16);
                const double b = half_value((guint16)(in[i][1] >> half), is_bf16);
                const double got = half_value((guint16)(out[i * 12 + j] >> half), is_bf16);
                if (got != expected_half(j, a, b, is_bf16))
                    g_error("operations_half %d of %g, %g: %g instead of %g", j, a, b, got,
                            expected_half(j, a, b, is_bf16));
            }
        const double high = as_half((float)(gint32)in[i][0]);
        const double low = as_half((float)(gint32)in[i][1] * 1e-7f);
        g_assert_true(out[i * 12 + 11] >> 16 == (high > 0 ? 0x7c00 : 0xfc00)); /* infinite */
        g_assert_cmpfloat(half_value((guint16)out[i * 12 + 11], false), ==, low);
    }
    g_free(out);
}

static void test_atomic(void)
{
    enum { THREADS = 96 };
    Fixture f;
    guint32 cells[16] = {0};
    float sum = 0.0f;
    cells[3] = 1000;
    cells[5] = 0xffffffff;
    cells[14] = 77;
    fixture_begin(&f, "operations.ptx");
    CUdeviceptr p = upload(cells, sizeof cells), s = upload(&sum, 4);
    launch(&f, "operations_atomic", 1, THREADS, (void *[]){&p, &s});
    OK(cu.cuMemcpyDtoH_v2(cells, p, sizeof cells));
    OK(cu.cuMemcpyDtoH_v2(&sum, s, 4));
    guint32 inc = 0, dec = 0;
    for (int i = 0; i < THREADS; i++) {
        inc = inc >= 10 ? 0 : inc + 1;
        dec = dec == 0 || dec > 10 ? 10 : dec - 1;
    }
    const guint32 want[16] = {THREADS * (THREADS - 1) / 2,
                              (guint32)-50,
                              45,
                              3,
                              95 * 7,
                              0xffff0000,
                              0xffff,
                              0,
                              inc,
                              dec,
                              2 * THREADS,
                              77};
    for (int i = 0; i < 12; i++)
        g_assert_cmphex(cells[i], ==, want[i]);
    g_assert_cmphex((guint64)cells[13] << 32 | cells[12], ==, (guint64)want[0] << 30);
    g_assert_cmpuint(cells[14], ==, 5);
    g_assert_cmpfloat(sum, ==, THREADS * 0.25f);
    OK(cu.cuMemFree_v2(p));
    OK(cu.cuMemFree_v2(s));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

typedef struct {
    float value[6];
    gint16 scale;
    gint8 offset;
} Table;

static void test_block(void)
{
    enum { X = 7, Y = 3, Z = 2, THREADS = X * Y * Z, BLOCKS = 2 * 3 * 2 };
    Table table = {.value = {1, 2, 4, 8, 16, 32}, .scale = -3, .offset = -7};
    Fixture f;
    CUfunction function;
    float out[BLOCKS][THREADS][6];
    fixture_begin(&f, "operations.ptx");
    CUdeviceptr pout = upload(NULL, sizeof out);
    OK(cu.cuModuleGetFunction(&function, f.module, "operations_block"));
    OK(cu.cuLaunchKernel(function, 2, 3, 2, X, Y, Z, 0, NULL, (void *[]){&table, &pout}, NULL));
    OK(cu.cuMemcpyDtoH_v2(out, pout, sizeof out));
    for (int b = 0; b < BLOCKS; b++)
        for (int t = 0; t < THREADS; t++) {
            const float want[6] = {THREADS / 3,
                                   1,
                                   b == 1,
                                   table.value[t % 6] * table.scale + table.offset,
                                   (float)(t % X * 10000 + t / X % Y * 100 + t / X / Y),
                                   (float)(b % 2 * 10000 + b / 2 % 3 * 100 + b / 6)};
            for (int j = 0; j < 6; j++)
                g_assert_cmpfloat(out[b][t][j], ==, want[j]);
        }
    OK(cu.cuMemFree_v2(pout));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

void add_operation_tests(void)
{
    g_test_add_func("/gpusim/operations/32", test_32);
    g_test_add_func("/gpusim/operations/64", test_64);
    g_test_add_func("/gpusim/operations/float", test_float);
    g_test_add_func("/gpusim/operations/approximate", test_approximate);
    g_test_add_func("/gpusim/operations/warp", test_warp);
    g_test_add_func("/gpusim/operations/memory", test_memory);
    g_test_add_func("/gpusim/operations/block", test_block);
    g_test_add_func("/gpusim/operations/rare", test_rare);
    g_test_add_func("/gpusim/operations/half", test_half);
    g_test_add_func("/gpusim/operations/atomic", test_atomic);
}
