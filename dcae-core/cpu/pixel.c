/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * pixel.c - the ends of the network: PIXELS_IN and PIXELS_OUT between 8-bit pictures and [-1, 1],
 * LATENT_IN and LATENT_OUT between planar latents and NHWC.
 *
 * Pictures go through lines of floats, one per colour component: whatever format and strides a
 * picture has, only load_line() and store_component() know. Chroma of 4:2:0 is interpolated
 * linearly at the place that the picture states, both ways.
 */
#include "../dcae_tensor.h"
#include "cpu_families.h"
#include "rows.h"

#include <math.h>

/* Picture rows a task, at most; even, so that no task cuts a pair of 4:2:0 rows. */
#define MAX_ROWS 8

/* Luma weights of RGB to gray (BT.709). */
#define GRAY_R 0.2126f
#define GRAY_B 0.0722f

static inline gsize round_up(gsize n)
{
    return (n + 15) / 16 * 16;
}

/* Rows of a call before its first pair of picture rows: 0 or 1. */
static guint rows_before_pair(const DcaeCpuCall *call)
{
    return (call->op->frame_y + call->y0) % 2;
}

/* Picture rows a task: fewer in a band of few rows, which every thread should have some of. */
static guint task_rows(const DcaeCpuCall *call)
{
    guint pairs = dcae_ceil_div(call->y1 - call->y0 + rows_before_pair(call), 2);
    return CLAMP(2 * dcae_ceil_div(pairs, MAX(call->threads, 1)), 2, MAX_ROWS);
}

static gsize pixels_n_tasks(const DcaeCpuCall *call)
{
    return dcae_ceil_div(call->y1 - call->y0 + rows_before_pair(call), task_rows(call));
}

/* Rows [*y0, *y1) of a task. All but the first begin at a pair. */
static void task_range(const DcaeCpuCall *call, gsize task, guint *y0, guint *y1)
{
    guint rows = task_rows(call), before = rows_before_pair(call), begin = (guint)task * rows;
    *y0 = call->y0 + MAX(begin, before) - before;
    *y1 = MIN(call->y0 + begin + rows - before, call->y1);
}

/* ---- picture to network: scratch holds R, G, B lines in [-1, 1] and a chroma line */

/* n samples of a component, as floats. */
static void load_samples(const DcaeComponent *component, guint y, gsize n, float *to)
{
    const guint8 *from = component->data + (gssize)y * component->row_stride;
    gssize step = component->pixel_stride;
    for (gsize x = 0; x < n; x++)
        to[x] = from[(gssize)x * step];
}

/* 8-bit samples to [-1, 1], rounded as the reference's x / 127.5 - 1. */
static void samples_to_unit(float *line, gsize n)
{
    vec half = vec_set1(127.5f), one = vec_set1(1.0f);
    for (gsize x = 0; x < n; x += VEC_WIDTH)
        vec_store(line + x, vec_sub(vec_div(vec_load(line + x), half), one));
}

/* line = clamp(line · scale + offset). */
static void scale_clamped(float *line, gsize n, float scale, float offset, float low, float high)
{
    vec a = vec_set1(scale), b = vec_set1(offset), lo = vec_set1(low), hi = vec_set1(high);
    for (gsize x = 0; x < n; x += VEC_WIDTH)
        vec_store(line + x, vec_min(hi, vec_max(lo, vec_add(vec_mul(vec_load(line + x), a), b))));
}

/* Where luma sample i lies between chroma samples: index of the first, weight of the second. */
static void chroma_place(guint i, guint shift, double position, guint n, guint *first,
                         guint *second, float *weight)
{
    double at = ((double)i - (shift ? position : 0.0)) / (double)(1u << shift);
    gint64 floor_at = (gint64)floor(at);
    *weight = (float)(at - (double)floor_at);
    *first = (guint)CLAMP(floor_at, 0, (gint64)n - 1);
    *second = (guint)CLAMP(floor_at + 1, 0, (gint64)n - 1);
}

/* A line of chroma samples, interpolated to n luma columns. */
static void widen_line(const DcaeImage *image, const float *from, guint w, gsize n, float *to)
{
    guint shift = image->chroma_w_shift, period = 1u << shift, first, second;
    float weight;
    /* Columns of one phase have the same weight, except those whose places are cut off at the
     * borders. */
    for (guint phase = 0; phase < period; phase++) {
        gsize x = phase;
        for (; x < n; x += period) {
            chroma_place((guint)x, shift, image->chroma_x, w, &first, &second, &weight);
            to[x] = from[first] + (from[second] - from[first]) * weight;
            if (second == first + 1)
                break;
        }
        for (gsize k = first; x < n && k + 1 < w; x += period, k++)
            to[x] = from[k] + (from[k + 1] - from[k]) * weight;
        for (; x < n; x += period)
            to[x] = from[w - 1];
    }
}

/* Samples of a chroma component for luma row y, interpolated to n luma columns. rows: two lines. */
static void load_chroma(const DcaeImage *image, const DcaeComponent *component, guint y, gsize n,
                        float *rows, gsize line, float *to)
{
    guint w_shift = image->chroma_w_shift, h_shift = image->chroma_h_shift;
    guint w = (image->width + (1u << w_shift) - 1) >> w_shift;
    guint h = (image->height + (1u << h_shift) - 1) >> h_shift, first, second;
    float weight;
    chroma_place(y, h_shift, image->chroma_y, h, &first, &second, &weight);
    load_samples(component, first, w, rows);
    load_samples(component, second, w, rows + line);
    for (guint x = 0; x < w; x++)
        rows[x] += (rows[line + x] - rows[x]) * weight;
    if (w_shift > 0)
        widen_line(image, rows, w, n, to);
    else
        memcpy(to, rows, n * sizeof(float));
}

/* Y'CbCr lines (8-bit samples) to RGB in [-1, 1], in place. */
static void yuv_to_rgb(const DcaeImage *image, float *line[3], gsize n)
{
    double kr = image->kr, kb = image->kb, kg = 1.0 - kr - kb;
    double luma = image->full_range ? 2.0 / 255.0 : 2.0 / 219.0;
    double chroma = image->full_range ? 2.0 / 255.0 : 2.0 / 224.0;
    vec black = vec_set1(image->full_range ? 0.0f : 16.0f), middle = vec_set1(128.0f);
    vec one = vec_set1(1.0f), minus = vec_set1(-1.0f), scale = vec_set1((float)luma);
    vec r_v = vec_set1((float)(chroma * 2.0 * (1.0 - kr)));
    vec g_u = vec_set1((float)(-chroma * 2.0 * (1.0 - kb) * kb / kg));
    vec g_v = vec_set1((float)(-chroma * 2.0 * (1.0 - kr) * kr / kg));
    vec b_u = vec_set1((float)(chroma * 2.0 * (1.0 - kb)));
    for (gsize x = 0; x < n; x += VEC_WIDTH) {
        vec y = vec_fma(vec_sub(vec_load(line[0] + x), black), scale, minus);
        vec u = vec_sub(vec_load(line[1] + x), middle), v = vec_sub(vec_load(line[2] + x), middle);
        vec r = vec_fma(v, r_v, y), b = vec_fma(u, b_u, y);
        vec g = vec_fma(v, g_v, vec_fma(u, g_u, y));
        vec_store(line[0] + x, vec_min(one, vec_max(minus, r)));
        vec_store(line[1] + x, vec_min(one, vec_max(minus, g)));
        vec_store(line[2] + x, vec_min(one, vec_max(minus, b)));
    }
}

/* The first n pixels of row y as R, G, B lines in [-1, 1]. */
static void load_line(const DcaeImage *image, guint y, gsize n, float *line[3], float *chroma,
                      gsize stride)
{
    if (image->color == DCAE_COLOR_GRAY) {
        load_samples(&image->component[0], y, n, line[0]);
        if (image->full_range)
            samples_to_unit(line[0], n);
        else
            scale_clamped(line[0], n, 2.0f / 219.0f, -251.0f / 219.0f, -1.0f, 1.0f);
        memcpy(line[1], line[0], n * sizeof(float));
        memcpy(line[2], line[0], n * sizeof(float));
        return;
    }
    load_samples(&image->component[0], y, n, line[0]);
    if (image->color == DCAE_COLOR_YUV) {
        load_chroma(image, &image->component[1], y, n, chroma, stride, line[1]);
        load_chroma(image, &image->component[2], y, n, chroma, stride, line[2]);
        yuv_to_rgb(image, line, n);
        return;
    }
    load_samples(&image->component[1], y, n, line[1]);
    load_samples(&image->component[2], y, n, line[2]);
    for (int i = 0; i < 3; i++)
        samples_to_unit(line[i], n);
}

static gsize pixels_in_scratch_bytes(const DcaeCpuCall *call)
{
    return 5 * (round_up(call->op->frame_w) + 16) * sizeof(float);
}

/* All lanes of a pixel, padding and what rounding took off included. */
static inline void clear_pixel(const DcaeCpuCall *call, guint y, guint x)
{
    elem_t *out = dcae_rows_at(&call->out, y, x);
    gsize bytes = (call->out.c + dcae_out_padding(call)) * sizeof *out;
    memset(out, 0, bytes);
    if (call->out.low > 0)
        memset(out + call->out.low, 0, bytes);
}

/* Row y of the value from the lines of picture row frame_y + y, which pads it on the right. */
static void interleave(const DcaeCpuCall *call, guint y, float *line[3], gsize n)
{
    gsize c = MIN(call->out.c, 3);
    DcaePad pad = call->op->pad;
    for (guint x = 0; x < call->out.w; x++) {
        elem_t *out = dcae_rows_at(&call->out, y, x);
        gsize at = (gsize)call->op->frame_x + x;
        clear_pixel(call, y, x);
        if (at >= n && pad == DCAE_PAD_ZERO)
            continue;
        at = MIN(at, n - 1);
        for (gsize i = 0; i < c; i++)
            elem_set_sum(out + i, call->out.low, line[i][at]);
    }
}

static void pixels_in_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    const DcaeOp *op = call->op;
    gsize stride = round_up(op->frame_w) + 16;
    float *base = scratch, *line[3] = {base, base + stride, base + 2 * stride};
    guint y0, y1;
    gsize n = MIN((gsize)op->frame_x + call->out.w, op->frame_w);
    task_range(call, task, &y0, &y1);
    memset(scratch, 0, pixels_in_scratch_bytes(call));
    for (guint y = y0; y < y1; y++) {
        guint row = op->frame_y + y;
        if (row >= op->frame_h && op->pad == DCAE_PAD_ZERO) {
            for (guint x = 0; x < call->out.w; x++)
                clear_pixel(call, y, x);
            continue;
        }
        load_line(call->image, MIN(row, op->frame_h - 1), n, line, base + 3 * stride, stride);
        interleave(call, y, line, n);
    }
}

/* ---- network to picture: scratch holds R, G, B lines in 0 … 255 of two rows and one line more */

/* Row y of the value as R, G, B lines, clamped; FALSE where a value is NaN or infinite. */
static gboolean planar_line(const DcaeCpuCall *call, guint y, gsize n, float *line[3])
{
    gsize last = MIN(call->in.c, 3) - 1;
    gsize offset[3] = {0, MIN(1, last), MIN(2, last)};
    const elem_t *in = dcae_rows_at(&call->in, y, 0);
    vec check = vec_zero(), zero = vec_zero(), high = vec_set1(255.0f);
    vec one = vec_set1(1.0f), half = vec_set1(127.5f);
    for (gsize x = 0; x < n; x++, in += call->in.pixel_stride)
        for (int i = 0; i < 3; i++)
            line[i][x] = elem_get_sum(in + offset[i], call->in.low);
    for (int i = 0; i < 3; i++)
        for (gsize x = 0; x < n; x += VEC_WIDTH) {
            vec v = vec_load_n(line[i] + x, MIN(n - x, VEC_WIDTH));
            check = vec_fma(v, zero, check); /* NaN from then on */
            v = vec_mul(vec_add(v, one), half);
            vec_store(line[i] + x, vec_min(high, vec_max(v, zero)));
        }
    return vec_sum(check) == 0.0f;
}

/* Rounds n values of 0 … 255 into a component. */
static void store_component(const DcaeComponent *component, guint y, guint x0, gsize n,
                            const float *from)
{
    guint8 bytes[VEC_WIDTH];
    guint8 *to =
        component->data + (gssize)y * component->row_stride + (gssize)x0 * component->pixel_stride;
    for (gsize x = 0; x < n; x += VEC_WIDTH) {
        gsize lanes = MIN(n - x, VEC_WIDTH);
        vec_store_u8(bytes, vec_load(from + x));
        for (gsize i = 0; i < lanes; i++, to += component->pixel_stride)
            *to = bytes[i];
    }
}

/* to = (r·kr + g·kg + b·kb)·scale + offset. */
static void weigh(float *line[3], gsize n, const float weight[3], float offset, float *to)
{
    vec r = vec_set1(weight[0]), g = vec_set1(weight[1]), b = vec_set1(weight[2]);
    vec add = vec_set1(offset);
    for (gsize x = 0; x < n; x += VEC_WIDTH) {
        vec v = vec_fma(vec_load(line[0] + x), r, add);
        v = vec_fma(vec_load(line[1] + x), g, v);
        vec_store(to + x, vec_fma(vec_load(line[2] + x), b, v));
    }
}

static void store_luma(const DcaeImage *image, double kr, double kb, guint y, guint x, gsize n,
                       float *line[3], float *buffer)
{
    double scale = image->full_range ? 1.0 : 219.0 / 255.0;
    const float weight[3] = {(float)(kr * scale), (float)((1.0 - kr - kb) * scale),
                             (float)(kb * scale)};
    weigh(line, n, weight, image->full_range ? 0.0f : 16.0f, buffer);
    store_component(&image->component[0], y, x, n, buffer);
}

/* Averages columns of a line into chroma samples, in place: sample n is written after the last read
 * of column n. The share of a column is how much of the pixel lies in the two-pixel wide window
 * around the sample: cosited that is 1 2 1, centred 1 1. x0: picture column of line[0]. Returns the
 * number of samples. */
static gsize shrink_line(const DcaeImage *image, guint x0, gsize n, float *line)
{
    guint shift = image->chroma_w_shift;
    gsize first = ((gsize)x0 + (1u << shift) - 1) >> shift;
    gsize end = ((gsize)x0 + n + (1u << shift) - 1) >> shift;
    float share[4];
    if (shift == 0)
        return n;
    for (int i = 0; i < 4; i++)
        share[i] = (float)CLAMP(1.5 - fabs(i - 1 - image->chroma_x), 0.0, 1.0);
    for (gsize c = first; c < end; c++) {
        gint64 left = (gint64)(c << shift) - 1 - (gint64)x0;
        float sum = 0.0f, shares = 0.0f;
        for (gint64 i = left < 0 ? -left : 0; i < 4 && left + i < (gint64)n; i++) {
            sum += share[i] * line[left + i];
            shares += share[i];
        }
        line[c - first] = sum / shares;
    }
    return end - first;
}

/* Chroma of the pair of rows that begins with picture row y. second: lines of the next row, or NULL
 * where there is none. Between the rows the sample is interpolated, so that a pair needs no others.
 */
static void store_chroma(const DcaeImage *image, guint y, guint x, gsize n, float *line[3],
                         float *second[3], float *buffer)
{
    double kr = image->kr, kb = image->kb, kg = 1.0 - kr - kb;
    double scale = image->full_range ? 1.0 : 224.0 / 255.0;
    double u = scale / (2.0 * (1.0 - kb)), v = scale / (2.0 * (1.0 - kr));
    const float weight[2][3] = {
        {(float)(-kr * u), (float)(-kg * u), (float)((1.0 - kb) * u)},
        {(float)((1.0 - kr) * v), (float)(-kg * v), (float)(-kb * v)},
    };
    vec share = vec_set1(second ? (float)CLAMP(image->chroma_y, 0.0, 1.0) : 0.0f);
    for (int i = 0; second && i < 3; i++)
        for (gsize j = 0; j < n; j += VEC_WIDTH) {
            vec a = vec_load(line[i] + j), b = vec_load(second[i] + j);
            vec_store(line[i] + j, vec_fma(vec_sub(b, a), share, a));
        }
    guint w_shift = image->chroma_w_shift, h_shift = image->chroma_h_shift;
    for (int i = 0; i < 2; i++) {
        weigh(line, n, weight[i], 128.0f, buffer);
        gsize samples = shrink_line(image, x, n, buffer);
        store_component(&image->component[1 + i], y >> h_shift,
                        (x + (1u << w_shift) - 1) >> w_shift, samples, buffer);
    }
}

static void store_alpha(const DcaeImage *image, guint y, guint x0, gsize n)
{
    const DcaeComponent *alpha = &image->component[3];
    guint8 *to = alpha->data;
    if (!to)
        return;
    to += (gssize)y * alpha->row_stride + (gssize)x0 * alpha->pixel_stride;
    for (gsize x = 0; x < n; x++, to += alpha->pixel_stride)
        *to = 255;
}

static gsize pixels_out_line(const DcaeOp *op)
{
    return round_up(op->out_w) + 16;
}

static gsize pixels_out_scratch_bytes(const DcaeCpuCall *call)
{
    return 7 * pixels_out_line(call->op) * sizeof(float);
}

/* Row y of the value into the picture; luma and chroma where it is YUV. lines: this row's, next:
 * the next row's, or NULL where no row of a pair follows. */
static void store_line(const DcaeCpuCall *call, guint y, float *line[3], float *next[3],
                       float *buffer)
{
    const DcaeImage *image = call->image;
    const DcaeOp *op = call->op;
    guint row = op->frame_y + y, x = op->frame_x, n = op->out_w;
    store_alpha(image, row, x, n);
    if (image->color == DCAE_COLOR_RGB) {
        for (int i = 0; i < 3; i++)
            store_component(&image->component[i], row, x, n, line[i]);
    } else if (image->color == DCAE_COLOR_GRAY) {
        store_luma(image, GRAY_R, GRAY_B, row, x, n, line, buffer);
    } else {
        store_luma(image, image->kr, image->kb, row, x, n, line, buffer);
        if (row % (1u << image->chroma_h_shift) == 0)
            store_chroma(image, row, x, n, line, next, buffer);
    }
}

static void pixels_out_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    const DcaeOp *op = call->op;
    gsize stride = pixels_out_line(op), n = op->out_w;
    float *base = scratch, *buffer = base + 6 * stride;
    float *line[3] = {base, base + stride, base + 2 * stride};
    float *next[3] = {base + 3 * stride, base + 4 * stride, base + 5 * stride};
    guint y0, y1;
    gboolean finite = TRUE,
             pairs = call->image->color == DCAE_COLOR_YUV && call->image->chroma_h_shift > 0;
    task_range(call, task, &y0, &y1);
    y1 = MIN(y1, op->out_h);
    memset(scratch, 0, pixels_out_scratch_bytes(call));
    for (guint y = y0; y < y1; y++) {
        gboolean pair = pairs && (op->frame_y + y) % 2 == 0 && y + 1 < y1;
        finite &= planar_line(call, y, n, line);
        if (pair)
            finite &= planar_line(call, y + 1, n, next);
        store_line(call, y, line, pair ? next : NULL, buffer);
    }
    if (!finite)
        g_atomic_int_set(call->not_finite, 1);
}

/* ---- latents */

static inline guint32 float_bits(float x)
{
    guint32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float bits_float(guint32 bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float half_to_float(guint16 half)
{
    guint32 sign = (guint32)(half & 0x8000u) << 16, exponent = half >> 10 & 31,
            mantissa = half & 1023;
    if (exponent == 31)
        return bits_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float tiny = (float)mantissa * 0x1p-24f;
        return sign ? -tiny : tiny;
    }
    return bits_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Round to nearest even; too large becomes infinity. */
static inline guint16 float_to_half(float x)
{
    guint32 bits = float_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (guint16)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) /* 65520, half way to the next power of two */
        return (guint16)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) /* subnormal: adding 0.5 leaves steps of 2^-24 */
        return (guint16)(sign | (float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u));
    magnitude += 0xfffu + (magnitude >> 13 & 1);
    return (guint16)(sign | (magnitude - 0x38000000u) >> 13);
}

static inline guint16 float_to_bfloat(float x)
{
    guint32 bits = float_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (guint16)(bits >> 16 | 0x40u);
    return (guint16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static gsize latent_n_tasks(const DcaeCpuCall *call)
{
    return call->y1 - call->y0;
}

static gsize no_scratch(const DcaeCpuCall *call)
{
    return 0;
}

static inline float latent_load(const DcaeLatent *latent, gsize i)
{
    const guint8 *data = latent->data;
    guint16 bits;
    float x;
    if (latent->format == DCAE_LATENT_F32) {
        memcpy(&x, data + i * sizeof x, sizeof x);
        return x;
    }
    memcpy(&bits, data + i * sizeof bits, sizeof bits);
    return latent->format == DCAE_LATENT_F16 ? half_to_float(bits)
                                             : bits_float((guint32)bits << 16);
}

/* FALSE where what was stored is NaN or infinite. */
static inline gboolean latent_store(const DcaeLatent *latent, gsize i, float x)
{
    guint8 *data = latent->data;
    if (latent->format == DCAE_LATENT_F32) {
        memcpy(data + i * sizeof x, &x, sizeof x);
        return (float_bits(x) & 0x7f800000u) != 0x7f800000u;
    }
    gboolean half = latent->format == DCAE_LATENT_F16;
    guint16 bits = half ? float_to_half(x) : float_to_bfloat(x);
    memcpy(data + i * sizeof bits, &bits, sizeof bits);
    return half ? (bits & 0x7c00u) != 0x7c00u : (bits & 0x7f80u) != 0x7f80u;
}

/* Index of channel c's sample in picture row y + frame_y of the op's place. */
static inline gsize latent_index(const DcaeCpuCall *call, gsize c, guint y)
{
    const DcaeLatent *latent = call->latent;
    return (c * latent->h + call->op->frame_y + y) * latent->w + call->op->frame_x;
}

static void latent_in_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    guint y = call->y0 + (guint)task;
    gsize stride = call->out.pixel_stride, channels = MIN(call->out.c, call->latent->c);
    gsize lacking = call->out.c + dcae_out_padding(call) - channels;
    elem_t *out = dcae_rows_at(&call->out, y, 0);
    float scale = call->op->scale;
    for (gsize c = 0; c < channels; c++) {
        gsize from = latent_index(call, c, y);
        for (gsize x = 0; x < call->out.w; x++)
            elem_set_sum(out + x * stride + c, call->out.low,
                         latent_load(call->latent, from + x) * scale);
    }
    for (gsize x = 0; lacking > 0 && x < call->out.w; x++) {
        memset(out + x * stride + channels, 0, lacking * sizeof *out);
        if (call->out.low > 0)
            memset(out + call->out.low + x * stride + channels, 0, lacking * sizeof *out);
    }
}

static void latent_out_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    guint y = call->y0 + (guint)task;
    gsize stride = call->in.pixel_stride;
    const elem_t *in = dcae_rows_at(&call->in, y, 0);
    float scale = call->op->scale;
    gboolean finite = TRUE;
    gsize channels = MIN(call->in.c, call->latent->c);
    for (gsize c = 0; y < call->op->out_h && c < channels; c++) {
        gsize to = latent_index(call, c, y);
        for (gsize x = 0; x < call->op->out_w; x++)
            finite &= latent_store(call->latent, to + x,
                                   elem_get_sum(in + x * stride + c, call->in.low) * scale);
    }
    if (!finite)
        g_atomic_int_set(call->not_finite, 1);
}

void VEC_NAME(dcae_cpu_pixel)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_PIXELS_IN] = (DcaeCpuKernel){
        .n_tasks = pixels_n_tasks,
        .scratch_bytes = pixels_in_scratch_bytes,
        .run = pixels_in_run,
    };
    kernels->kernel[DCAE_OP_PIXELS_OUT] = (DcaeCpuKernel){
        .n_tasks = pixels_n_tasks,
        .scratch_bytes = pixels_out_scratch_bytes,
        .run = pixels_out_run,
    };
    kernels->kernel[DCAE_OP_LATENT_IN] = (DcaeCpuKernel){
        .n_tasks = latent_n_tasks,
        .scratch_bytes = no_scratch,
        .run = latent_in_run,
    };
    kernels->kernel[DCAE_OP_LATENT_OUT] = (DcaeCpuKernel){
        .n_tasks = latent_n_tasks,
        .scratch_bytes = no_scratch,
        .run = latent_out_run,
    };
}
