/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_forms.c - forms of the same work must give the same bytes, since the host picks one by plane
 * and plan: a convolution with the norm of all columns in its blocks or as a pass of its own; a
 * convolution of few channels with the norm of its input or behind that norm. And what no golden
 * model shows of these kernels: few channels against the general kernel, attention of heads of
 * other sizes and norms of many channels against double precision. Values are random; knows nothing
 * of plans.
 */
#include <math.h>
#include <string.h>

#include "dcae_tensor.h"
#include "device.h"

#define WIDTH 37
#define HEIGHT 7
#define PIXELS (WIDTH * HEIGHT)

static CUdeviceptr floats(Device *d, guint n)
{
    g_autofree float *f = g_new(float, n);

    for (guint i = 0; i < n; i++)
        f[i] = (float)g_rand_double_range(d->random, -0.5, 0.5);
    return device_upload(d, f, n * sizeof *f);
}

/* Numbers from 2^-5 to 1 and their negatives, in both 16-bit types; f32 takes those of bf16. */
static guint16 number(Device *d)
{
    gboolean bf16 = d->context.precision != DCAE_PRECISION_F16;
    guint32 bits = (guint32)g_rand_int_range(d->random, 0, 1 << 16);
    guint exponent = (bf16 ? 127 : 15) - 1 - bits % 5, digits = bf16 ? 7 : 10;

    return (guint16)((bits & 0x8000) | exponent << digits | (bits >> 3 & ((1u << digits) - 1)));
}

static CUdeviceptr numbers(Device *d, gsize n)
{
    g_autofree guint16 *numbers = g_new(guint16, n);

    for (gsize i = 0; i < n; i++)
        numbers[i] = number(d);
    return device_upload(d, numbers, n * sizeof *numbers);
}

/* A plane of random values; low: in two parts. */
static DcaeKernelRows plane(Device *d, guint channels, gboolean low)
{
    guint stride = dcae_round_up(channels, 16) * (low ? 2 : 1);

    return (DcaeKernelRows){.data = numbers(d, (gsize)PIXELS * stride),
                            .row_stride = (gint64)WIDTH * stride,
                            .image_stride = (gint64)PIXELS * stride,
                            .pixel_stride = (gint)stride,
                            .h = HEIGHT,
                            .w = WIDTH,
                            .low = low ? (gint)stride / 2 : 0};
}

static guint16 *download(Device *d, const DcaeKernelRows *rows)
{
    gsize bytes = (gsize)PIXELS * (gsize)rows->pixel_stride * 2;
    guint16 *data = g_malloc(bytes);

    device_download(d, data, rows->data, bytes);
    return data;
}

static DcaeKernelConv conv_args(Device *d, guint in_c, guint out_c, guint columns, guint k)
{
    return (DcaeKernelConv){
        .in = plane(d, in_c, FALSE),
        .weight = numbers(d, (gsize)columns * k),
        .bias = floats(d, columns),
        .k = (gint)k,
        .columns = (gint)columns,
        .in_padded = (gint)dcae_round_up(in_c, 16),
        .in_wrap = G_MAXINT,
        .taps = 3,
        .stride = 1,
        .y1 = HEIGHT,
        .products = PIXELS,
        .product_w = WIDTH,
        .in_c = (gint)in_c,
        .out_c = (gint)out_c,
        .store_c = (gint)dcae_round_up(out_c, 16),
        .filled = (gint)dcae_round_up(out_c, 8),
        .splits = 1,
    };
}

static guint norm_blocks(DcaeKernelNorm *a)
{
    for (a->lanes = 32; a->lanes < DCAE_THREADS && 4 * a->lanes < a->c;)
        a->lanes *= 2;
    return dcae_ceil_div(PIXELS, DCAE_THREADS / (guint)a->lanes);
}

/* ---- the norm of all columns */

/* low: the result in two parts. */
static void check_all_columns(DcaePrecision precision, guint out_c, gboolean residual, gboolean low)
{
    Device d;
    device_open(&d, precision);
    guint columns = DCAE_ALL_COLUMNS, tiles = dcae_ceil_div(PIXELS, DCAE_MMA_TILE_M);
    DcaeKernelConv conv = conv_args(&d, 32, out_c, columns, 9 * 32);
    DcaeKernelNorm norm = {.residual = residual ? plane(&d, out_c, low) : (DcaeKernelRows){0},
                           .weight = floats(&d, columns),
                           .bias = floats(&d, columns),
                           .y1 = HEIGHT,
                           .c = (gint)out_c,
                           .store_c = conv.store_c};
    DcaeKernelRows out = plane(&d, out_c, low), other = plane(&d, out_c, low);

    conv.out = norm.in = norm.out = out;
    conv.out.low = norm.in.low = 0;
    guint blocks = norm_blocks(&norm);
    device_run(&d, DCAE_KERNEL_CONV_WIDE, tiles * (columns / DCAE_WIDE_TILE_N), 1, 1,
               DCAE_WIDE_THREADS, &conv);
    device_run(&d, DCAE_KERNEL_NORM, blocks, 1, 1, DCAE_THREADS, &norm);
    conv.after = norm;
    conv.out.data = conv.after.in.data = conv.after.out.data = other.data;
    device_run(&d, DCAE_KERNEL_CONV_WIDE, tiles, 1, 1, DCAE_WIDE_THREADS, &conv);
    g_autofree guint16 *separate = download(&d, &out), *fused = download(&d, &other);
    g_assert_cmpmem(separate, (gsize)PIXELS * (gsize)out.pixel_stride * 2, fused,
                    (gsize)PIXELS * (gsize)out.pixel_stride * 2);
    device_close(&d);
}

static void test_all_columns(void)
{
    check_all_columns(DCAE_PRECISION_BF16, 512, TRUE, TRUE);
    check_all_columns(DCAE_PRECISION_BF16, 389, TRUE, FALSE);
    check_all_columns(DCAE_PRECISION_BF16, 261, FALSE, TRUE);
    check_all_columns(DCAE_PRECISION_BF16, 133, FALSE, FALSE);
    check_all_columns(DCAE_PRECISION_BF16, 5, TRUE, TRUE);
    check_all_columns(DCAE_PRECISION_F16, 512, TRUE, FALSE);
    check_all_columns(DCAE_PRECISION_F16, 389, FALSE, FALSE);
    check_all_columns(DCAE_PRECISION_F16, 261, TRUE, FALSE);
    check_all_columns(DCAE_PRECISION_F16, 133, FALSE, FALSE);
    check_all_columns(DCAE_PRECISION_F16, 5, TRUE, FALSE);
}

/* ---- attention and norms of shapes that no golden model has */

static guint size_of(const Device *d)
{
    return d->context.precision == DCAE_PRECISION_F32 ? 4 : 2;
}

/* Random values of a plane in the module's type, and the same as floats. */
static DcaeKernelRows typed_plane(Device *d, guint channels, float *values)
{
    guint stride = dcae_round_up(channels, 16);
    gsize n = (gsize)PIXELS * stride;
    g_autofree guint16 *bits = g_new0(guint16, n);
    DcaeKernelRows rows = {.row_stride = (gint64)WIDTH * stride,
                           .image_stride = (gint64)n,
                           .pixel_stride = (gint)stride,
                           .h = HEIGHT,
                           .w = WIDTH};

    for (gsize i = 0; i < n; i++) {
        bits[i] = i % stride < channels ? number(d) : 0;
        values[i] = device_value_of(d, bits[i]);
    }
    rows.data = size_of(d) == 4 ? device_upload(d, values, n * 4) : device_upload(d, bits, n * 2);
    return rows;
}

static float *download_values(Device *d, const DcaeKernelRows *rows)
{
    gsize n = (gsize)PIXELS * (gsize)rows->pixel_stride;
    float *values = g_new(float, n);
    g_autofree guint16 *bits = NULL;

    if (size_of(d) == 4) {
        device_download(d, values, rows->data, n * 4);
        return values;
    }
    bits = download(d, rows);
    for (gsize i = 0; i < n; i++)
        values[i] = device_value_of(d, bits[i]);
    return values;
}

/* One rounding to the module's type, and f32 sums of a few hundred terms up to 1, which may cancel.
 */
static void check_value(const Device *d, double got, double wanted)
{
    double part = d->context.precision == DCAE_PRECISION_F32    ? 2e-5
                  : d->context.precision == DCAE_PRECISION_BF16 ? 1.0 / 256
                                                                : 1.0 / 2048;

    g_assert_cmpfloat(fabs(got - wanted), <=, part * fabs(wanted) + 1e-4);
}

/* The state of one head in double, and what attention makes of pixel i. */
static void reference_state(const float *kv, guint stride, guint dim, guint head, double *state)
{
    for (guint i = 0; i < PIXELS; i++)
        for (guint k = 0; k < dim; k++) {
            const float *at = kv + (gsize)i * stride + (gsize)head * 2 * dim;
            double x = MAX(at[k], 0);
            for (guint j = 0; j < dim; j++)
                state[j * dim + k] += x * at[dim + j];
            state[dim * dim + k] += x;
        }
}

static double reference_apply(const double *state, const float *q, guint dim, guint j)
{
    double sum = 0, ones = 1e-15;

    for (guint k = 0; k < dim; k++) {
        sum += state[j * dim + k] * MAX(q[k], 0);
        ones += state[dim * dim + k] * MAX(q[k], 0);
    }
    return sum / ones;
}

static void check_attention(DcaePrecision precision, guint dim, guint heads)
{
    Device d;
    device_open(&d, precision);
    guint tiles = dcae_ceil_div(dim, DCAE_ATTN_TILE), size = (dim + 1) * dim;
    guint kv_stride = dcae_round_up(2 * dim * heads, 16), stride = dcae_round_up(dim * heads, 16);
    g_autofree float *kv = g_new(float, (gsize)PIXELS *kv_stride);
    g_autofree float *q = g_new(float, (gsize)PIXELS *stride);
    g_autofree float *zeros = g_new0(float, heads *size);
    DcaeKernelAttnSum sum = {.in = typed_plane(&d, 2 * dim * heads, kv),
                             .partial = floats(&d, 3 * heads * size),
                             .state = device_upload(&d, zeros, heads * size * 4),
                             .y1 = HEIGHT,
                             .chunk_rows = 3,
                             .chunks = 3,
                             .heads = (gint)heads,
                             .head_dim = (gint)dim};
    DcaeKernelAttnApply apply = {.in = typed_plane(&d, dim * heads, q),
                                 .state = sum.state,
                                 .y1 = HEIGHT,
                                 .heads = (gint)heads,
                                 .head_dim = (gint)dim,
                                 .store_c = (gint)stride};

    apply.out = apply.in;
    apply.out.data = floats(&d, PIXELS * stride);
    device_run(&d, DCAE_KERNEL_ATTN_SUM, 3 * heads, 1, tiles * tiles, DCAE_THREADS, &sum);
    device_run(&d, DCAE_KERNEL_ATTN_ADD, dcae_ceil_div(heads * size, DCAE_THREADS), 1, 1,
               DCAE_THREADS, &sum);
    device_run(&d, DCAE_KERNEL_ATTN_APPLY, dcae_ceil_div(PIXELS, DCAE_ATTN_PIXELS) * heads * tiles,
               1, 1, DCAE_THREADS, &apply);
    g_autofree float *got = download_values(&d, &apply.out);
    for (guint head = 0; head < heads; head++) {
        g_autofree double *state = g_new0(double, size);
        reference_state(kv, kv_stride, dim, head, state);
        for (guint i = 0; i < PIXELS; i++)
            for (guint j = 0; j < dim; j++) {
                gsize at = (gsize)i * stride + head * dim;
                check_value(&d, got[at + j], reference_apply(state, q + at, dim, j));
            }
    }
    for (guint i = 0; i < PIXELS; i++)
        for (guint c = dim * heads; c < stride; c++)
            g_assert_cmpfloat(got[(gsize)i * stride + c], ==, 0);
    device_close(&d);
}

static void test_attention(void)
{
    for (DcaePrecision p = DCAE_PRECISION_F32; p <= DCAE_PRECISION_F16; p++) {
        check_attention(p, 6, 2);
        check_attention(p, 40, 1);
    }
}

/* A norm of one part; packed: what comes out is in two. */
static void check_norm(DcaePrecision precision, guint channels, gboolean residual_there,
                       gboolean packed)
{
    Device d;
    device_open(&d, precision);
    guint stride = dcae_round_up(channels, 16);
    g_autofree float *in = g_new(float, (gsize)PIXELS *stride);
    g_autofree float *residual = g_new(float, (gsize)PIXELS *stride);
    g_autofree float *ones = g_new(float, stride);
    for (guint c = 0; c < stride; c++)
        ones[c] = 1;
    DcaeKernelNorm norm = {.in = typed_plane(&d, channels, in),
                           .residual = residual_there ? typed_plane(&d, channels, residual)
                                                      : (DcaeKernelRows){0},
                           .weight = device_upload(&d, ones, stride * 4),
                           .bias = device_upload(&d, ones, stride * 4),
                           .y1 = HEIGHT,
                           .c = (gint)channels,
                           .store_c = (gint)(packed ? DCAE_LOW_PACKED : stride)};

    norm.out = norm.in;
    norm.out.data = floats(&d, PIXELS * stride);
    norm.out.low = packed ? DCAE_LOW_PACKED : 0;
    guint blocks = norm_blocks(&norm);
    device_run(&d, DCAE_KERNEL_NORM, blocks, 1, 1, DCAE_THREADS, &norm);
    g_autofree float *got = download_values(&d, &norm.out);
    for (guint i = 0; i < PIXELS; i++) {
        const gsize at = (gsize)i * stride;
        double squares = 0;
        for (guint c = 0; c < channels; c++)
            squares += (double)in[at + c] * in[at + c];
        for (guint c = 0; c < channels; c++)
            check_value(&d, got[at + c],
                        in[at + c] / sqrt(squares / channels + 1e-5) + 1 +
                            (residual_there ? residual[at + c] : 0));
        for (guint c = channels; c < stride && !packed; c++)
            g_assert_cmpfloat(got[at + c], ==, 0);
        for (guint c = 0; c < DCAE_LOW_PACKED && packed; c++) {
            /* what rounding takes off is half of the last of eight bits */
            g_assert_cmpfloat(fabsf(got[at + c + DCAE_LOW_PACKED]), <=, fabsf(got[at + c]) / 256);
            g_assert_cmpfloat(got[at + c + 2 * DCAE_LOW_PACKED], ==, got[at + c]);
            g_assert_cmpfloat(got[at + c + 3 * DCAE_LOW_PACKED], ==, 0);
        }
    }
    device_close(&d);
}

/* Up to more than eight for each thread of a block. */
static void test_norms(void)
{
    for (DcaePrecision p = DCAE_PRECISION_F32; p <= DCAE_PRECISION_F16; p++) {
        check_norm(p, 1101, FALSE, FALSE);
        check_norm(p, 2054, TRUE, FALSE);
    }
    check_norm(DCAE_PRECISION_BF16, 3, TRUE, TRUE);
}

/* ---- few channels */

static void run_few(Device *d, DcaeKernelConv *conv)
{
    device_run(d, DCAE_KERNEL_CONV_FEW, dcae_ceil_div(WIDTH, DCAE_FEW_W),
               dcae_ceil_div((guint)(conv->y1 - conv->y0), DCAE_FEW_H), 1, DCAE_THREADS, conv);
}

/* The same in two bands. */
static void run_few_bands(Device *d, DcaeKernelConv *conv)
{
    conv->y1 = 3;
    run_few(d, conv);
    conv->y0 = 3;
    conv->y1 = HEIGHT;
    run_few(d, conv);
    conv->y0 = 0;
}

/* low: of the pixels that come out; they have 16 channels, or four where that is DCAE_LOW_PACKED.
 */
static void check_few_norm(DcaePrecision precision, guint in_c, guint out_c, DcaeAct act, guint low)
{
    Device d;
    device_open(&d, precision);
    guint padded = dcae_round_up(in_c, 16), k = dcae_round_up(in_c, 32);
    DcaeKernelConv conv = conv_args(&d, in_c, out_c, DCAE_FEW_COLUMNS, k);
    DcaeKernelNorm norm = {.in = conv.in,
                           .out = plane(&d, in_c, FALSE),
                           .weight = floats(&d, padded),
                           .bias = floats(&d, padded),
                           .y1 = HEIGHT,
                           .c = (gint)in_c,
                           .store_c = (gint)padded,
                           .act = (gint)act};
    DcaeKernelRows out = plane(&d, 3, low == 16), other = plane(&d, 3, low == 16);

    out.low = other.low = (gint)low;
    if (low == DCAE_LOW_PACKED)
        conv.store_c = DCAE_LOW_PACKED;
    conv.out = out;
    guint blocks = norm_blocks(&norm);
    device_run(&d, DCAE_KERNEL_NORM, blocks, 1, 1, DCAE_THREADS, &norm);
    conv.in = norm.out;
    run_few_bands(&d, &conv);
    conv.in = norm.in;
    conv.out = other;
    conv.norm_weight = norm.weight;
    conv.norm_bias = norm.bias;
    conv.norm_relu = act == DCAE_ACT_RELU;
    run_few(&d, &conv);
    g_autofree guint16 *separate = download(&d, &out), *fused = download(&d, &other);
    gsize bytes = PIXELS * (gsize)out.pixel_stride * 2;
    g_assert_cmpmem(separate, bytes, fused, bytes);
    device_close(&d);
}

static void test_few_norm(void)
{
    check_few_norm(DCAE_PRECISION_BF16, 128, 3, DCAE_ACT_RELU, DCAE_LOW_PACKED);
    check_few_norm(DCAE_PRECISION_BF16, 80, 2, DCAE_ACT_NONE, 16);
    check_few_norm(DCAE_PRECISION_BF16, 16, 1, DCAE_ACT_RELU, 0);
    check_few_norm(DCAE_PRECISION_F16, 128, 3, DCAE_ACT_NONE, 0);
    check_few_norm(DCAE_PRECISION_F16, 80, 2, DCAE_ACT_RELU, 0);
    check_few_norm(DCAE_PRECISION_F16, 16, 1, DCAE_ACT_RELU, 0);
}

/* The same weights as columns of the general kernel: [channel][tap][k]. */
static void check_few_product(DcaePrecision precision, guint in_c, guint out_c, guint y0, guint low)
{
    Device d;
    device_open(&d, precision);
    /* two parts have 16 bits */
    float part = low > 0 ? 2e-5f : precision == DCAE_PRECISION_BF16 ? 1.0f / 128 : 1.0f / 1024;
    guint k = dcae_round_up(in_c, 32);
    DcaeKernelConv few = conv_args(&d, in_c, out_c, DCAE_FEW_COLUMNS, k), conv;
    g_autofree guint16 *a = g_new0(guint16, DCAE_FEW_COLUMNS * k);
    g_autofree guint16 *b = g_new0(guint16, (gsize)DCAE_MMA_TILE_N * 9 * k);

    for (guint tap = 0; tap < 9; tap++)
        for (guint n = 0; n < out_c; n++)
            for (guint c = 0; c < in_c; c++)
                a[(tap * DCAE_FEW_OUT + n) * k + c] = b[(n * 9 + tap) * in_c + c] = number(&d);
    few.y0 = (gint)y0;
    few.weight = device_upload(&d, a, DCAE_FEW_COLUMNS * k * 2);
    /* to the end of the pixel, or as if other channels followed */
    few.store_c = low == DCAE_LOW_PACKED || out_c == 1 ? 4 : 16;
    few.out = plane(&d, 3, low == 16);
    few.out.low = (gint)low;
    guint stride = (guint)few.out.pixel_stride;
    conv = few;
    conv.weight = device_upload(&d, b, (gsize)DCAE_MMA_TILE_N * 9 * k * 2);
    conv.columns = DCAE_MMA_TILE_N;
    conv.bias = floats(&d, DCAE_MMA_TILE_N);
    few.bias = conv.bias;
    conv.k = (gint)(9 * in_c);
    conv.products = (gint)(HEIGHT - y0) * WIDTH;
    conv.out.data = device_upload(&d, b, PIXELS * stride * 2);
    run_few(&d, &few);
    device_run(&d, DCAE_KERNEL_CONV, dcae_ceil_div((guint)conv.products, DCAE_MMA_TILE_M), 1, 1,
               DCAE_MMA_THREADS, &conv);
    g_autofree guint16 *got = download(&d, &few.out), *wanted = download(&d, &conv.out);
    for (guint i = y0 * WIDTH; i < PIXELS; i++)
        for (guint c = 0; c < (guint)few.store_c; c++) {
            guint at = i * stride + c;
            float g = device_value_of(&d, got[at]), w = device_value_of(&d, wanted[at]);
            if (low > 0) {
                g += device_value_of(&d, got[at + low]);
                w += device_value_of(&d, wanted[at + low]);
            }
            /* sums of about a thousand terms below 1 in another order */
            g_assert_cmpfloat(fabsf(g - w), <=, c < out_c ? 1e-3f + part * fabsf(w) : 0);
        }
    device_close(&d);
}

static void test_few_product(void)
{
    check_few_product(DCAE_PRECISION_BF16, 128, 3, 0, DCAE_LOW_PACKED);
    check_few_product(DCAE_PRECISION_BF16, 64, 1, 0, DCAE_LOW_PACKED);
    check_few_product(DCAE_PRECISION_BF16, 32, 2, 3, 0);
    check_few_product(DCAE_PRECISION_BF16, 32, 3, 0, 16);
    check_few_product(DCAE_PRECISION_F16, 96, 1, 3, 0);
    check_few_product(DCAE_PRECISION_F16, 64, 2, 0, 0);
    check_few_product(DCAE_PRECISION_F16, 32, 3, 0, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_forget_coverage();
    g_test_add_func("/forms/all-columns", test_all_columns);
    g_test_add_func("/forms/attention", test_attention);
    g_test_add_func("/forms/norms", test_norms);
    g_test_add_func("/forms/few-norm", test_few_norm);
    g_test_add_func("/forms/few-product", test_few_product);
    return g_test_run();
}
