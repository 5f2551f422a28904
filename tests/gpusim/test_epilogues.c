/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_epilogues.c - what convolutions do with a finished product, in each kernel that does it:
 * CONV against the definition in double precision, CONV_WIDE and the parts of CONV with CONV_ADD
 * against the bytes of CONV, which they must give where sums are exact. Every activation with every
 * place and shortcut; the rest by chance. Planes are of a tile and a bit; combinations that no
 * layer of a model has are among them, since the kernels don't know that. Knows nothing of plans.
 */
#include <math.h>
#include <string.h>

#include "dcae_tensor.h"
#include "device.h"

#define MOST_COLUMNS 1024

/* Pixels as they lie in memory; every element is exact in the module's type. */
typedef struct {
    DcaeKernelRows rows;
    float *raw;
    gsize n;
} Plane;

enum { NO_RESIDUAL = -1, ONE_PART, TWO_PARTS, PACKED };

/* One case: the arguments, and what they point to on the host. */
typedef struct {
    Device *d;
    DcaeKernelConv args;
    Plane in, out, residual;
    float *weight; /* [phase][column][k] */
    float bias[MOST_COLUMNS], norm_weight[MOST_COLUMNS], norm_bias[MOST_COLUMNS];
    guint phases;
} Case;

static gboolean is_f32(const Device *d)
{
    return d->context.precision == DCAE_PRECISION_F32;
}

static guint random_of(Device *d, guint n)
{
    return (guint)g_rand_int_range(d->random, 0, (gint)n);
}

/* A multiple of 1/8 up to 1: sums of some hundred products of them have no rounding error. */
static float eighths(Device *d)
{
    return (float)g_rand_int_range(d->random, -8, 9) / 8;
}

static CUdeviceptr upload_numbers(Device *d, const float *values, gsize n)
{
    g_autofree guint16 *bits = g_new(guint16, n);

    if (is_f32(d))
        return device_upload(d, values, n * sizeof *values);
    for (gsize i = 0; i < n; i++)
        bits[i] = device_bits_of(d, values[i]);
    return device_upload(d, bits, n * sizeof *bits);
}

static float *download_numbers(Device *d, CUdeviceptr memory, gsize n)
{
    float *values = g_new(float, n);
    g_autofree guint16 *bits = g_new(guint16, n);

    if (is_f32(d)) {
        device_download(d, values, memory, n * sizeof *values);
        return values;
    }
    device_download(d, bits, memory, n * sizeof *bits);
    for (gsize i = 0; i < n; i++)
        values[i] = device_value_of(d, bits[i]);
    return values;
}

static Plane make_plane(Device *d, guint h, guint w, guint channels, guint parts)
{
    guint half = dcae_round_up(channels, 16), stride = parts == TWO_PARTS ? 2 * half : half;
    guint low = parts == PACKED ? DCAE_LOW_PACKED : parts == TWO_PARTS ? half : 0;
    Plane p = {.n = (gsize)h * w * stride,
               .rows = {.row_stride = (gint64)w * stride,
                        .image_stride = (gint64)h * w * stride,
                        .pixel_stride = (gint)stride,
                        .h = (gint)h,
                        .w = (gint)w,
                        .low = (gint)low}};

    p.raw = g_new(float, p.n);
    for (gsize i = 0; i < p.n; i++)
        p.raw[i] = eighths(d) * (low > 0 && i % stride >= low ? 1.0f / 512 : 1.0f);
    p.rows.data = upload_numbers(d, p.raw, p.n);
    return p;
}

static double raw_at(const Plane *p, gint y, gint x, gint c)
{
    return p->raw[(y * p->rows.w + x) * p->rows.pixel_stride + c];
}

/* Channel c of a pixel, both parts. */
static double value_at(const Plane *p, gint y, gint x, gint c)
{
    return raw_at(p, y, x, c) + (p->rows.low ? raw_at(p, y, x, c + p->rows.low) : 0);
}

/* ---- the definition */

static double product_of(const Case *t, guint phase, gint column, gint y, gint x)
{
    const DcaeKernelConv *a = &t->args;
    const float *weight =
        t->weight + ((gsize)phase * (gsize)a->columns + (gsize)column) * (gsize)a->k;
    double sum = 0;

    for (gint tap = 0; tap < a->taps * a->taps; tap++) {
        gint at_y = y + tap / a->taps, at_x = x + tap % a->taps;
        if (at_y < 0 || at_y >= a->in.h || at_x < 0 || at_x >= a->in.w)
            continue;
        for (gint c = 0; c < a->in_padded; c++)
            sum += weight[tap * a->in_padded + c] * raw_at(&t->in, at_y, at_x, c);
    }
    return sum;
}

/* Product and bias of channel c of output pixel (y, x). */
static double sum_of(const Case *t, gint y, gint x, gint c)
{
    const DcaeKernelConv *a = &t->args;
    guint square = (guint)(2 * (y & 1) + (x & 1)), phase = 0;
    gint column = c, at_y = y * a->stride - a->taps / 2, at_x = x * a->stride - a->taps / 2;

    if (a->place == DCAE_PLACE_NEAREST) {
        phase = square;
        at_y = (y >> 1) + (y & 1) - 1;
        at_x = (x >> 1) + (x & 1) - 1;
    } else if (a->place == DCAE_PLACE_UP) {
        column = (gint)square * a->up_c + c;
        at_y = (y >> 1) - a->taps / 2;
        at_x = (x >> 1) - a->taps / 2;
    } else if (a->place == DCAE_PLACE_DOWN) {
        column = c / 4;
        at_y = 2 * y + (c >> 1 & 1) - a->taps / 2;
        at_x = 2 * x + (c & 1) - a->taps / 2;
    }
    return product_of(t, phase, column, at_y, at_x) + t->bias[column];
}

static double activated(gint act, double x)
{
    switch (act) {
    case DCAE_ACT_RELU:
        return MAX(x, 0);
    case DCAE_ACT_SILU:
        return x / (1 + exp(-x));
    case DCAE_ACT_GELU:
        return 0.5 * x * erfc(-x * sqrt(0.5));
    case DCAE_ACT_MISH:
        return x * tanh(log1p(exp(x)));
    default:
        return x;
    }
}

static double shortcut_of(const Case *t, gint y, gint x, gint c)
{
    gint in_c = t->args.in_c, out_c = t->args.out_c, group;
    double sum = 0;

    switch (t->args.shortcut) {
    case DCAE_SHORTCUT_MEAN:
        group = in_c / out_c;
        for (gint i = 0; i < group; i++)
            sum += value_at(&t->in, y, x, c * group + i);
        return sum / group;
    case DCAE_SHORTCUT_REPEAT:
        return value_at(&t->in, y, x, c / (out_c / in_c));
    case DCAE_SHORTCUT_DOWN_MEAN:
        group = 4 * in_c / out_c;
        for (gint u = c * group; u < (c + 1) * group; u++)
            sum += value_at(&t->in, 2 * y + (u >> 1 & 1), 2 * x + (u & 1), u / 4);
        return sum / group;
    case DCAE_SHORTCUT_UP_REPEAT:
        return value_at(&t->in, y / 2, x / 2, (4 * c + 2 * (y & 1) + (x & 1)) / (4 * out_c / in_c));
    default:
        return 0;
    }
}

/* The channels of an output pixel. */
static void pixel_of(const Case *t, gint y, gint x, double *v)
{
    const DcaeKernelConv *a = &t->args;
    double squares = 0;

    for (gint c = 0; c < a->out_c; c++) {
        v[c] = activated(a->act, sum_of(t, y, x, c)) + shortcut_of(t, y, x, c);
        squares += v[c] * v[c];
    }
    for (gint c = 0; c < a->out_c; c++) {
        if (a->norm_weight)
            v[c] = v[c] / sqrt(squares / a->out_c + 1e-5) * t->norm_weight[c] + t->norm_bias[c];
        if (a->residual.data)
            v[c] += value_at(&t->residual, y, x, c);
    }
}

/* The module's rounding, or that of two parts; activations and norms in f32, on the stand-in's
 * approximations of functions. */
static void check_pixel(const Case *t, const float *before, const float *got, const double *wanted)
{
    DcaePrecision precision = t->d->context.precision;
    gint low = t->out.rows.low, stride = t->out.rows.pixel_stride, store_c = t->args.store_c;
    double part = precision == DCAE_PRECISION_F32   ? 1e-5
                  : precision == DCAE_PRECISION_F16 ? 1.0 / 2048
                  : low > 0                         ? 1.0 / 32768
                                                    : 1.0 / 256;

    for (gint c = 0; c < store_c; c++) {
        double w = c < t->args.out_c ? wanted[c] : 0;
        double g = got[c] + (low > 0 ? got[c + low] : 0);
        g_assert_cmpfloat(fabs(g - w), <=, part * fabs(w) + 2e-5);
        if (low == DCAE_LOW_PACKED) {
            g_assert_cmpfloat(got[c + 2 * low], ==, got[c]);
            g_assert_cmpfloat(got[c + 3 * low], ==, 0);
        }
    }
    for (gint c = store_c; c < stride; c++)
        if (low == 0 || c % low >= store_c)
            g_assert_cmpfloat(got[c], ==, before[c]);
}

static void check_definition(const Case *t, const float *got)
{
    const DcaeKernelRows *out = &t->out.rows;
    g_autofree double *wanted = g_new(double, (gsize)t->args.out_c);

    for (gint i = 0; i < out->h * out->w; i++) {
        const float *pixel = got + (gsize)i * (gsize)out->pixel_stride;
        const float *before = t->out.raw + (gsize)i * (gsize)out->pixel_stride;
        gint y = i / out->w;
        if (y < t->args.y0 || y >= t->args.y1) {
            for (gint c = 0; c < out->pixel_stride; c++)
                g_assert_cmpfloat(pixel[c], ==, before[c]);
            continue;
        }
        pixel_of(t, y, i % out->w, wanted);
        check_pixel(t, before, pixel, wanted);
    }
}

/* ---- cases */

/* What a case is about; the rest is chosen by chance. */
typedef struct {
    guint place, act, shortcut, out_c;
    guint group; /* input channels of an output channel, or the other way round, where that works */
    guint in_parts, out_parts;
    gint residual_parts; /* NO_RESIDUAL: there is none */
    gboolean padded;     /* zeros behind the channels, to the end of the pixel */
    guint h, w;
} Shape;

/* Input channels that go with a shortcut. */
static guint shortcut_c(guint shortcut, guint out_c, guint n)
{
    switch (shortcut) {
    case DCAE_SHORTCUT_MEAN:
        return out_c * n;
    case DCAE_SHORTCUT_REPEAT:
        return out_c % n == 0 ? out_c / n : out_c;
    case DCAE_SHORTCUT_DOWN_MEAN:
        return out_c * n % 4 == 0 ? out_c * n / 4 : out_c;
    case DCAE_SHORTCUT_UP_REPEAT:
        return out_c % n == 0 ? out_c / n : out_c;
    default:
        return 3;
    }
}

static guint random_parts(Device *d, guint channels)
{
    if (d->context.precision != DCAE_PRECISION_BF16 || random_of(d, 3) == 0)
        return ONE_PART;
    return channels <= DCAE_LOW_PACKED && random_of(d, 2) == 0 ? PACKED : TWO_PARTS;
}

/* Whether a column of the product belongs to a channel. */
static gboolean is_column(const DcaeKernelConv *a, gint column)
{
    if (a->place == DCAE_PLACE_UP)
        return column / a->up_c < 4 && column % a->up_c < a->out_c;
    return (a->place == DCAE_PLACE_DOWN ? 4 * column : column) < a->out_c;
}

static void set_weights(Case *t)
{
    DcaeKernelConv *a = &t->args;
    gsize columns = (gsize)a->columns, k = (gsize)a->k, n = t->phases * columns * k;
    g_autofree float *packed = g_new0(float, n);

    g_assert_cmpuint(columns, <=, MOST_COLUMNS);
    t->weight = g_new0(float, n);
    for (gsize i = 0; i < n; i++) {
        gsize column = i / k % columns, at = i % k, phase = i / k / columns;
        if (is_column(a, (gint)column))
            t->weight[i] = eighths(t->d);
        packed[is_f32(t->d) ? (phase * k + at) * columns + column : i] = t->weight[i];
    }
    a->weight = upload_numbers(t->d, packed, n);
    for (gsize i = 0; i < columns; i++) {
        gboolean used = is_column(a, (gint)i);
        t->bias[i] = used ? eighths(t->d) : 0;
        t->norm_weight[i] = used ? 1 + eighths(t->d) / 2 : 0;
        t->norm_bias[i] = used ? eighths(t->d) : 0;
    }
    a->bias = device_upload(t->d, t->bias, columns * sizeof(float));
}

static void set_norm(Case *t)
{
    gsize bytes = (gsize)t->args.columns * sizeof(float);

    t->args.norm_weight = device_upload(t->d, t->norm_weight, bytes);
    t->args.norm_bias = device_upload(t->d, t->norm_bias, bytes);
}

/* Rows, and the products of them; a tile has 128 pixels. */
static void set_rows(Case *t, guint h, guint w)
{
    DcaeKernelConv *a = &t->args;
    gboolean half = a->place == DCAE_PLACE_NEAREST || a->place == DCAE_PLACE_UP;
    gboolean band = random_of(t->d, 3) == 0;

    a->y0 = band ? a->place == DCAE_PLACE_UP ? 2 : 1 : 0;
    a->y1 = (gint)h - (band && a->place == DCAE_PLACE_NEAREST ? 1 : 0);
    if (a->place == DCAE_PLACE_NEAREST && random_of(t->d, 4) == 0)
        a->y1 = a->y0 + 1; /* no product of the other phases */
    gint rows = a->y1 - a->y0;
    a->product_w = (gint)(half ? w / 2 : w);
    a->products = half                          ? (rows + 1) / 2 * a->product_w
                  : a->place == DCAE_PLACE_DOWN ? 4 * rows * a->product_w
                                                : rows * a->product_w;
}

static Shape random_shape(Device *d, guint place, guint act, guint shortcut)
{
    static const guint channels[] = {1, 3, 4, 5, 13, 31, 64, 66, 127, 128, 130, 200};
    gboolean half = place == DCAE_PLACE_UP || place == DCAE_PLACE_NEAREST;
    Shape s = {.place = place, .act = act, .shortcut = shortcut, .w = half ? 20 : 10};

    s.h = half ? 28 : place == DCAE_PLACE_DOWN ? 5 : 14;
    s.out_c = channels[random_of(d, is_f32(d) ? 8 : G_N_ELEMENTS(channels))];
    s.group = 1 + random_of(d, 4);
    s.in_parts = random_parts(d, shortcut_c(shortcut, s.out_c, s.group));
    s.out_parts = random_parts(d, s.out_c);
    s.residual_parts = random_of(d, 2) == 0 ? (gint)random_parts(d, s.out_c) : NO_RESIDUAL;
    s.padded = random_of(d, 2) == 0;
    return s;
}

/* Of 16 bit: columns for tiles of CONV_WIDE. */
static void make_case(Case *t, Device *d, const Shape *s)
{
    guint place = s->place, out_c = s->out_c, h = s->h, w = s->w, act = s->act;
    guint shortcut = s->shortcut, in_c = shortcut_c(shortcut, out_c, s->group);
    guint in_padded = s->in_parts == PACKED ? 16 : 16 * (1 + random_of(d, 3));
    guint taps = place == DCAE_PLACE_NEAREST ? 2 : random_of(d, 4) == 0 ? 3 : 1;
    guint up_c = dcae_round_up(out_c, 16);
    guint columns = place == DCAE_PLACE_UP     ? 4 * up_c
                    : place == DCAE_PLACE_DOWN ? dcae_ceil_div(out_c, 4)
                                               : out_c;

    *t = (Case){.d = d, .phases = place == DCAE_PLACE_NEAREST ? 4 : 1};
    t->in = make_plane(d, 2 * h, 2 * w, MAX(in_c, in_padded), s->in_parts);
    t->out = make_plane(d, h, w, out_c, s->out_parts);
    t->args = (DcaeKernelConv){
        .in = t->in.rows,
        .out = t->out.rows,
        .k =
            (gint)dcae_round_up(taps * taps * in_padded, is_f32(d) ? DCAE_F32_STEP : DCAE_MMA_STEP),
        .columns = (gint)dcae_round_up(columns, is_f32(d) ? DCAE_F32_TILE_N : DCAE_WIDE_TILE_N),
        .in_padded = (gint)in_padded,
        .in_wrap = G_MAXINT,
        .taps = (gint)taps,
        .stride = place == DCAE_PLACE_PLAIN && random_of(d, 2) == 0 ? 2 : 1,
        .place = (gint)place,
        .in_c = (gint)in_c,
        .out_c = (gint)out_c,
        .up_c = (gint)up_c,
        .store_c = (gint)(!s->padded               ? out_c
                          : s->out_parts == PACKED ? DCAE_LOW_PACKED
                                                   : dcae_round_up(out_c, 16)),
        .act = (gint)act,
        .shortcut = (gint)shortcut,
        .splits = 1,
        .filled = (gint)(place == DCAE_PLACE_UP ? dcae_round_up(columns, DCAE_WIDE_TILE_N)
                                                : dcae_round_up(columns, 8)),
    };
    if (s->residual_parts != NO_RESIDUAL) {
        t->residual = make_plane(d, h, w, out_c, (guint)s->residual_parts);
        t->args.residual = t->residual.rows;
    }
    set_weights(t);
    set_rows(t, h, w);
    if (place <= DCAE_PLACE_NEAREST && out_c <= (is_f32(d) ? 64 : 128) && random_of(d, 3) == 0)
        set_norm(t);
}

static void free_case(Case *t)
{
    g_free(t->in.raw);
    g_free(t->out.raw);
    g_free(t->residual.raw);
    g_free(t->weight);
}

/* ---- the kernels */

static float *run_kernel(Case *t, DcaeKernelConv *a, DcaeCudaKernelId kernel)
{
    gboolean wide = kernel == DCAE_KERNEL_CONV_WIDE;
    guint tile_m = is_f32(t->d) ? DCAE_F32_TILE_M : DCAE_MMA_TILE_M;
    guint tile_n = is_f32(t->d) ? DCAE_F32_TILE_N : wide ? DCAE_WIDE_TILE_N : DCAE_MMA_TILE_N;
    guint threads = wide ? DCAE_WIDE_THREADS : DCAE_MMA_THREADS, n = (guint)a->columns / tile_n;

    a->out.data = upload_numbers(t->d, t->out.raw, t->out.n);
    device_run(t->d, kernel, dcae_ceil_div((guint)a->products, tile_m) * n, (guint)a->splits,
               t->phases, threads, a);
    if (a->partial) {
        a->out.data = upload_numbers(t->d, t->out.raw, t->out.n);
        device_run(t->d, DCAE_KERNEL_CONV_ADD,
                   dcae_ceil_div((guint)a->products, DCAE_ADD_TILE_M) * n, 1, t->phases,
                   DCAE_MMA_THREADS, a);
    }
    return download_numbers(t->d, a->out.data, t->out.n);
}

static void run_case(Case *t)
{
    DcaeKernelConv conv = t->args, wide = conv, parts = conv;
    g_autofree float *wanted = run_kernel(t, &conv, DCAE_KERNEL_CONV);

    check_definition(t, wanted);
    if (is_f32(t->d))
        return;
    g_autofree float *of_wide = run_kernel(t, &wide, DCAE_KERNEL_CONV_WIDE);
    g_assert_cmpmem(of_wide, t->out.n * sizeof(float), wanted, t->out.n * sizeof(float));
    if (parts.norm_weight)
        return; /* has no parts */
    guint steps = (guint)parts.k / DCAE_MMA_STEP;
    guint share = dcae_ceil_div(steps, 1 + random_of(t->d, MIN(steps, 3)));
    parts.splits = (gint)dcae_ceil_div(steps, share);
    gsize pixels = dcae_round_up((guint)parts.products, DCAE_MMA_TILE_M);
    gsize n = t->phases * (gsize)parts.splits * pixels * (gsize)parts.columns;
    g_autofree float *zeros = g_new0(float, n);
    parts.partial = device_upload(t->d, zeros, n * sizeof *zeros);
    g_autofree float *of_parts = run_kernel(t, &parts, DCAE_KERNEL_CONV);
    g_assert_cmpmem(of_parts, t->out.n * sizeof(float), wanted, t->out.n * sizeof(float));
}

static void run_shape(Device *d, const Shape *shape)
{
    Case t;

    make_case(&t, d, shape);
    run_case(&t);
    free_case(&t);
}

#define ROUNDS 2

static void test_epilogues(gconstpointer data)
{
    for (guint i = 0; i < ROUNDS * 4 * 5 * 5; i++) {
        Device d;
        device_open(&d, (DcaePrecision)GPOINTER_TO_INT(data));
        g_rand_set_seed(d.random, i);
        Shape shape = random_shape(&d, i % 4, i / 4 % 5, i / 20 % 5);
        run_shape(&d, &shape);
        device_close(&d);
    }
}

/* Means of many channels: all lengths that an unrolled loop tells apart, in the tile of 128 columns
 * and behind it. */
static void check_means(DcaePrecision precision, guint place, guint shortcut, guint parts)
{
    Device d;
    device_open(&d, precision);
    for (guint group = 6; group < 10; group++) {
        Shape shape = {.place = place,
                       .shortcut = shortcut,
                       .out_c = 132,
                       .group = group,
                       .in_parts = parts,
                       .residual_parts = NO_RESIDUAL,
                       .h = 2,
                       .w = 3};
        run_shape(&d, &shape);
    }
    device_close(&d);
}

static void test_means(gconstpointer data)
{
    DcaePrecision precision = (DcaePrecision)GPOINTER_TO_INT(data);
    guint most = precision == DCAE_PRECISION_BF16 ? TWO_PARTS : ONE_PART;

    for (guint parts = ONE_PART; parts <= most; parts++) {
        check_means(precision, DCAE_PLACE_PLAIN, DCAE_SHORTCUT_MEAN, parts);
        check_means(precision, DCAE_PLACE_PLAIN, DCAE_SHORTCUT_DOWN_MEAN, parts);
        check_means(precision, DCAE_PLACE_DOWN, DCAE_SHORTCUT_MEAN, parts);
        check_means(precision, DCAE_PLACE_DOWN, DCAE_SHORTCUT_DOWN_MEAN, parts);
    }
}

/* Pixels that end in the middle of four channels, and one that does not. */
static void check_ends(DcaePrecision precision, guint place, guint out_c)
{
    gboolean bf16 = precision == DCAE_PRECISION_BF16, narrow = out_c <= DCAE_LOW_PACKED;
    guint most = !bf16 ? ONE_PART : narrow ? PACKED : TWO_PARTS;
    Device d;

    device_open(&d, precision);
    for (guint parts = ONE_PART; parts <= most; parts++) {
        Shape shape = {.place = place,
                       .shortcut = DCAE_SHORTCUT_UP_REPEAT,
                       .out_c = out_c,
                       .group = 1,
                       .in_parts = parts,
                       .out_parts = parts,
                       .residual_parts = (gint)(most - parts),
                       .h = 2,
                       .w = 4};
        run_shape(&d, &shape);
    }
    device_close(&d);
}

static void test_ends(gconstpointer data)
{
    static const guint channels[] = {1, 3, 129, 131, 132};

    for (guint i = 0; i < G_N_ELEMENTS(channels); i++) {
        if (GPOINTER_TO_INT(data) == DCAE_PRECISION_F32 && channels[i] > 128)
            continue;
        check_ends((DcaePrecision)GPOINTER_TO_INT(data), DCAE_PLACE_PLAIN, channels[i]);
        check_ends((DcaePrecision)GPOINTER_TO_INT(data), DCAE_PLACE_DOWN, channels[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    device_forget_coverage();
    g_test_add_data_func("/epilogues/f32", GINT_TO_POINTER(DCAE_PRECISION_F32), test_epilogues);
    g_test_add_data_func("/epilogues/bf16", GINT_TO_POINTER(DCAE_PRECISION_BF16), test_epilogues);
    g_test_add_data_func("/epilogues/f16", GINT_TO_POINTER(DCAE_PRECISION_F16), test_epilogues);
    g_test_add_data_func("/ends/f32", GINT_TO_POINTER(DCAE_PRECISION_F32), test_ends);
    g_test_add_data_func("/ends/bf16", GINT_TO_POINTER(DCAE_PRECISION_BF16), test_ends);
    g_test_add_data_func("/ends/f16", GINT_TO_POINTER(DCAE_PRECISION_F16), test_ends);
    g_test_add_data_func("/means/f32", GINT_TO_POINTER(DCAE_PRECISION_F32), test_means);
    g_test_add_data_func("/means/bf16", GINT_TO_POINTER(DCAE_PRECISION_BF16), test_means);
    g_test_add_data_func("/means/f16", GINT_TO_POINTER(DCAE_PRECISION_F16), test_means);
    return g_test_run();
}
