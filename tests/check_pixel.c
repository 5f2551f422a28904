/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_pixel.c - PIXELS_IN, PIXELS_OUT, LATENT_IN, LATENT_OUT and BLEND: every picture format with
 * odd sizes and strides (negative ones too), tiles inside a picture, both paddings, rounding of
 * latents, values that are not finite, and bands bit for bit against the whole.
 */
#include "checkkernels.h"

#include <math.h>
#include <string.h>

/* ---- pictures in memory */

typedef enum {
    PACKED_RGB,
    PACKED_BGRX, /* bottom row first */
    PLANAR_GBR,
    PACKED_GRAY,
    SEMIPLANAR_420, /* NV12 */
    PLANAR_420,     /* I420 */
    PLANAR_444,
    N_LAYOUTS
} Layout;

typedef struct {
    DcaeImage image;
    guint8 *memory;
    gsize size;
    char name[64];
} Picture;

static DcaeComponent component(guint8 *data, gssize row_stride, gssize pixel_stride)
{
    return (DcaeComponent){.data = data, .row_stride = row_stride, .pixel_stride = pixel_stride};
}

/* Planes one after the other, rows of `stride` bytes, in the middle of memory of twice the size. */
static void set_components(Picture *p, Layout layout, guint w, guint h)
{
    DcaeComponent *c = p->image.component;
    gssize stride = 4 * (gssize)w + 5, half = (w + 1) / 2 + 3;
    guint8 *data = p->memory + 64, *second = data + stride * (gssize)h;
    guint8 *third = second + stride * (gssize)h, *last = data + stride * ((gssize)h - 1);
    switch (layout) {
    case PACKED_RGB:
        for (int i = 0; i < 3; i++)
            c[i] = component(data + i, stride, 3);
        break;
    case PACKED_BGRX:
        for (int i = 0; i < 3; i++)
            c[i] = component(last + 2 - i, -stride, 4);
        c[3] = component(last + 3, -stride, 4);
        break;
    case PACKED_GRAY:
        c[0] = component(data, stride, 1);
        break;
    case SEMIPLANAR_420:
        c[0] = component(data, stride, 1);
        c[1] = component(second, stride, 2);
        c[2] = component(second + 1, stride, 2);
        break;
    case PLANAR_420:
        c[0] = component(data, stride, 1);
        c[1] = component(second, half, 1);
        c[2] = component(third, half, 1);
        break;
    default:
        c[0] = component(data, stride, 1);
        c[1] = component(second, stride, 1);
        c[2] = component(third, stride, 1);
        break;
    }
}

static void picture_make(Check *check, Picture *p, Layout layout, guint w, guint h)
{
    static const double places[][2] = {{0, 0.5}, {0.5, 0.5}, {0, 0}, {0.5, 1}};
    guint place = check_range(check, 0, 3), bt709 = check_range(check, 0, 1);
    gboolean yuv = layout >= SEMIPLANAR_420;
    p->image = (DcaeImage){.width = w,
                           .height = h,
                           .color = yuv                     ? DCAE_COLOR_YUV
                                    : layout == PACKED_GRAY ? DCAE_COLOR_GRAY
                                                            : DCAE_COLOR_RGB,
                           .kr = bt709 ? 0.2126 : 0.299,
                           .kb = bt709 ? 0.0722 : 0.114,
                           .full_range = check_range(check, 0, 1) != 0};
    if (layout == SEMIPLANAR_420 || layout == PLANAR_420) {
        p->image.chroma_w_shift = p->image.chroma_h_shift = 1;
        p->image.chroma_x = places[place][0];
        p->image.chroma_y = places[place][1];
    }
    p->size = 3 * (4 * (gsize)w + 5) * h + 128;
    p->memory = g_malloc(p->size);
    for (gsize i = 0; i < p->size; i++)
        p->memory[i] = (guint8)check_range(check, 0, 255);
    set_components(p, layout, w, h);
}

static const char *const layout_names[N_LAYOUTS] = {"rgb",  "bgrx", "planar", "gray",
                                                    "nv12", "i420", "y444"};

/* Columns and rows of component i. */
static guint component_w(const DcaeImage *image, guint i)
{
    guint shift = i == 1 || i == 2 ? image->chroma_w_shift : 0;
    return (image->width + (1u << shift) - 1) >> shift;
}

static guint component_h(const DcaeImage *image, guint i)
{
    guint shift = i == 1 || i == 2 ? image->chroma_h_shift : 0;
    return (image->height + (1u << shift) - 1) >> shift;
}

/* ---- one op without weights */

typedef struct {
    DcaeProgram program;
    DcaeValue value;
    DcaeOp op;
    gint not_finite;
} Case;

static void case_make(Case *k, DcaeOpKind kind, guint h, guint w, guint c)
{
    gboolean in = kind == DCAE_OP_PIXELS_IN || kind == DCAE_OP_LATENT_IN;
    k->value = (DcaeValue){.h = h, .w = w, .c = c};
    k->program = (DcaeProgram){.values = &k->value, .n_values = 1, .ops = &k->op, .n_ops = 1};
    k->op = (DcaeOp){.kind = kind,
                     .in = in ? DCAE_NO_VALUE : 0,
                     .out = in ? 0 : DCAE_NO_VALUE,
                     .residual = DCAE_NO_VALUE,
                     .state = DCAE_NO_VALUE,
                     .above = DCAE_NO_VALUE,
                     .left = DCAE_NO_VALUE,
                     .scale = 1};
}

static void case_run(Check *check, Case *k, const CheckTensor *value, const DcaeImage *image,
                     const DcaeLatent *latent, guint y0, guint y1)
{
    DcaeCpuCall call = {.program = &k->program,
                        .op = &k->op,
                        .image = image,
                        .latent = latent,
                        .y0 = y0,
                        .y1 = y1,
                        .threads = check_range(check, 0, 20), /* cuts the rows into other tasks */
                        .not_finite = &k->not_finite};
    if (k->op.out == DCAE_NO_VALUE)
        call.in = value->rows;
    else
        call.out = value->rows;
    check_run(check, &check->build->kernels.kernel[k->op.kind], &call);
}

/* Runs an *_IN op in bands of rows and compares with the whole. */
static void check_in_bands(Check *check, Case *k, const char *name, const CheckTensor *whole,
                           const DcaeImage *image, const DcaeLatent *latent)
{
    for (guint y = 0, rows; y < k->value.h; y += rows) {
        rows = check_range(check, 1, 5);
        rows = MIN(rows, k->value.h - y);
        CheckTensor *band = check_tensor_rows(whole, y, rows);
        check_tensor_poison(band);
        case_run(check, k, band, image, latent, y, y + rows);
        check_tensor_guards(check, band);
        check_same(check, name, whole, band);
        check_tensor_free(band);
    }
}

/* ---- PIXELS_IN */

static void check_pixels_in(Check *check, Layout layout, guint w, guint h, guint x, guint y,
                            guint out_w, guint out_h, DcaePad pad)
{
    Picture p = {0};
    Case k = {0};
    g_autofree char *name =
        g_strdup_printf("pixels in %s %ux%u at %u,%u of %ux%u %s", layout_names[layout], out_w,
                        out_h, x, y, w, h, pad == DCAE_PAD_ZERO ? "zero" : "extend");
    if (!check_begin(check, name))
        return;
    picture_make(check, &p, layout, w, h);
    case_make(&k, DCAE_OP_PIXELS_IN, out_h, out_w, 3);
    k.op.frame_x = x;
    k.op.frame_y = y;
    k.op.frame_w = w;
    k.op.frame_h = h;
    k.op.pad = pad;
    CheckTensor *out = check_tensor_new(check, out_h, out_w, 3, 0, 3, 0, out_h);
    check_tensor_poison(out);
    case_run(check, &k, out, &p.image, NULL, 0, out_h);
    check_tensor_guards(check, out);
    gsize n = (gsize)out_h * out_w * 3;
    g_autofree double *wanted = g_new(double, n), *got = check_dense(out);
    def_pixels_in(&k.op, &p.image, out_h, out_w, 3, wanted);
    /* RGB: a division and a subtraction. Others: some ten roundings of numbers up to 2.5. */
    double allowed = ldexp(1, -24) * (p.image.color == DCAE_COLOR_RGB ? 2 : 32);
    for (gsize i = 0; i < n; i++)
        if (!(fabs(got[i] - wanted[i]) <= allowed + check_store_error(out, wanted[i])))
            check_fail(check, "%s: value %" G_GSIZE_FORMAT " is %.9g, not %.9g", name, i, got[i],
                       wanted[i]);
    check_in_bands(check, &k, name, out, &p.image, NULL);
    check_end(check, name);
    check_tensor_free(out);
    g_free(p.memory);
}

/* ---- PIXELS_OUT */

/* Which bytes of the picture the op may write, and whether they hold what they should. */
static void compare_picture(Check *check, const char *name, const Case *k, const Picture *p,
                            const guint8 *before, const double *in)
{
    const DcaeOp *op = &k->op;
    g_autofree guint8 *may = g_malloc0(p->size);
    for (guint i = 0; i < 4; i++) {
        const DcaeComponent *c = &p->image.component[i];
        guint x_shift = i == 1 || i == 2 ? p->image.chroma_w_shift : 0;
        guint y_shift = i == 1 || i == 2 ? p->image.chroma_h_shift : 0;
        for (guint y = 0; c->data && y < component_h(&p->image, i); y++) {
            for (guint x = 0; x < component_w(&p->image, i); x++) {
                const guint8 *at =
                    c->data + (gssize)y * c->row_stride + (gssize)x * c->pixel_stride;
                guint px = x << x_shift, py = y << y_shift;
                if (px < op->frame_x || px >= op->frame_x + op->out_w || py < op->frame_y ||
                    py >= op->frame_y + op->out_h)
                    continue;
                may[at - p->memory] = 1;
                double wanted = def_pixels_out(op, &p->image, k->value.w, 3, in, i, y, x);
                /* Half a step of rounding, and f32 near the middle between two. */
                if (!(fabs(*at - wanted) <= 0.5 + 1e-3))
                    check_fail(check, "%s: component %u (%u, %u) is %u, not %.4f", name, i, x, y,
                               *at, wanted);
            }
        }
    }
    for (gsize i = 0; i < p->size; i++)
        if (!may[i] && p->memory[i] != before[i]) {
            check_fail(check, "%s: byte %" G_GSIZE_FORMAT " is outside the op's pixels", name, i);
            return;
        }
}

static void check_out_bands(Check *check, Case *k, const char *name, const CheckTensor *in,
                            const Picture *p)
{
    g_autofree guint8 *whole = g_memdup2(p->memory, p->size);
    for (guint y = 0, rows; y < k->op.out_h; y += rows) {
        /* Bands, too, begin at pairs of picture rows. */
        rows = 2 * check_range(check, 1, 5) - (k->op.frame_y + y) % 2;
        rows = MIN(rows, k->op.out_h - y);
        CheckTensor *band = check_tensor_rows(in, y, rows);
        case_run(check, k, band, &p->image, NULL, y, y + rows);
        check_tensor_free(band);
    }
    if (memcmp(whole, p->memory, p->size) != 0)
        check_fail(check, "%s: bands differ from the whole", name);
}

/* The value is out_w + extra columns wide; out_w × out_h of it go to (x, y) of a w × h picture. */
static void check_pixels_out(Check *check, Layout layout, guint w, guint h, guint x, guint y,
                             guint out_w, guint out_h)
{
    Picture p = {0};
    Case k = {0};
    g_autofree char *name = g_strdup_printf("pixels out %s %ux%u at %u,%u of %ux%u",
                                            layout_names[layout], out_w, out_h, x, y, w, h);
    if (!check_begin(check, name))
        return;
    picture_make(check, &p, layout, w, h);
    case_make(&k, DCAE_OP_PIXELS_OUT, out_h + 2, out_w + check_range(check, 0, 3), 3);
    k.op.frame_x = x;
    k.op.frame_y = y;
    k.op.frame_w = w;
    k.op.frame_h = h;
    k.op.out_w = out_w;
    k.op.out_h = out_h;
    CheckTensor *in = check_tensor_new(check, k.value.h, k.value.w, 3, 0, 3, 0, k.value.h);
    check_tensor_fill(check, in, CHECK_NORMAL);
    g_autofree double *values = check_dense(in);
    g_autofree guint8 *before = g_memdup2(p.memory, p.size);
    case_run(check, &k, in, &p.image, NULL, 0, out_h);
    compare_picture(check, name, &k, &p, before, values);
    if (k.not_finite)
        check_fail(check, "%s: finite values are called not finite", name);
    check_out_bands(check, &k, name, in, &p);
    check_set_element(in,
                      (out_h - 1) * in->rows.row_stride + (out_w - 1) * in->rows.pixel_stride + 1,
                      check_range(check, 0, 1) ? NAN : INFINITY);
    case_run(check, &k, in, &p.image, NULL, 0, out_h);
    if (!k.not_finite)
        check_fail(check, "%s: a value that is not finite went unnoticed", name);
    check_end(check, name);
    check_tensor_free(in);
    g_free(p.memory);
}

/* ---- latents */

static DcaeLatent latent_make(Check *check, DcaeLatentFormat format, guint c, guint h, guint w)
{
    gsize n = (gsize)c * h * w, size = format == DCAE_LATENT_F32 ? 4 : 2;
    DcaeLatent latent = {.format = format, .c = c, .h = h, .w = w, .data = g_malloc(n * size)};
    for (gsize i = 0; i < n; i++) {
        float x = (float)g_rand_double_range(check->rand, -4, 4);
        guint16 bits = (guint16)check_range(check, 0, 0xffff);
        guint exponent = format == DCAE_LATENT_F16 ? 0x7c00 : 0x7f80;
        if ((bits & exponent) == exponent)
            bits = (guint16)(bits & ~exponent);
        memcpy((guint8 *)latent.data + i * size, size == 4 ? (void *)&x : (void *)&bits, size);
    }
    return latent;
}

static const char *const format_names[] = {"f32", "f16", "bf16"};

/* A tile at (x, y) of a latent that reaches `more` samples further. lacking: channels of the value
 * that the latent doesn't have. */
static void check_latent_in(Check *check, DcaeLatentFormat format, guint c, guint lacking, guint h,
                            guint w, guint x, guint y)
{
    Case k = {0};
    g_autofree char *name = g_strdup_printf("latent in %s %u+%u channels %ux%u at %u,%u",
                                            format_names[format], c, lacking, w, h, x, y);
    if (!check_begin(check, name))
        return;
    DcaeLatent latent = latent_make(check, format, c, y + h + 1, x + w + 2);
    case_make(&k, DCAE_OP_LATENT_IN, h, w, c + lacking);
    k.op.frame_x = x;
    k.op.frame_y = y;
    k.op.scale = 2.415f;
    CheckTensor *out = check_tensor_new(check, h, w, c + lacking, 0, c + lacking, 0, h);
    check_tensor_poison(out);
    case_run(check, &k, out, NULL, &latent, 0, h);
    check_tensor_guards(check, out);
    g_autofree double *got = check_dense(out);
    for (gsize i = 0; i < (gsize)h * w * (c + lacking); i++) {
        gsize n = i % (c + lacking), px = i / (c + lacking) % w, py = i / (c + lacking) / w;
        gsize at = (n * latent.h + y + py) * latent.w + x + px;
        double wanted = n < c ? (double)(float)def_latent_value(&latent, at) * 2.415f : 0;
        wanted = check_round(out, (float)wanted);
        /* Infinity in two parts is NaN. */
        if (got[i] != wanted && !(isnan(got[i]) && isnan(wanted)))
            check_fail(check, "%s: value %" G_GSIZE_FORMAT " is %.9g, not %.9g", name, i, got[i],
                       wanted);
    }
    check_in_bands(check, &k, name, out, NULL, &latent);
    check_end(check, name);
    check_tensor_free(out);
    g_free(latent.data);
}

/* Numbers where rounding is hard: ties, the border of subnormal numbers, the largest. */
static void hard_numbers(Check *check, CheckTensor *t, DcaeLatentFormat format)
{
    int least = format == DCAE_LATENT_F16 ? -14 : -126, digits = format == DCAE_LATENT_F16 ? 10 : 7;
    for (gsize i = 0; i < t->n_elements; i++) {
        int steps = (int)check_range(check, 0, 4097);
        if (i % t->rows.pixel_stride >= t->value_c)
            continue;
        if (i % 5 == 0)
            check_set_element(t, i, ldexpf((float)steps * 0.5f, least - digits));
        else if (i % 5 == 1)
            check_set_element(t, i,
                              ldexpf(1 + ldexpf((float)steps, -digits - 1), 3) * (i % 2 ? 1 : -1));
        else if (i % 5 == 2 && format == DCAE_LATENT_F16)
            check_set_element(t, i, 65504 + (float)(steps % 17) - 0x1p-8f);
    }
}

static void check_latent_out(Check *check, DcaeLatentFormat format, guint c, guint h, guint w,
                             guint x, guint y)
{
    Case k = {0};
    g_autofree char *name = g_strdup_printf("latent out %s %u channels %ux%u at %u,%u",
                                            format_names[format], c, w, h, x, y);
    if (!check_begin(check, name))
        return;
    DcaeLatent latent = latent_make(check, format, c, y + h + 1, x + w + 2);
    gsize size = format == DCAE_LATENT_F32 ? 4 : 2, n = (gsize)c * latent.h * latent.w;
    g_autofree guint8 *before = g_memdup2(latent.data, n * size);
    case_make(&k, DCAE_OP_LATENT_OUT, h + 1, w + 1, c);
    k.op.frame_x = x;
    k.op.frame_y = y;
    k.op.out_w = w;
    k.op.out_h = h;
    CheckTensor *in = check_tensor_new(check, h + 1, w + 1, c, 0, c, 0, h + 1);
    check_tensor_fill(check, in, CHECK_NORMAL);
    hard_numbers(check, in, format);
    g_autofree double *values = check_dense(in);
    case_run(check, &k, in, NULL, &latent, 0, h);
    for (gsize i = 0; i < n; i++) {
        gsize ch = i / latent.w / latent.h, py = i / latent.w % latent.h, px = i % latent.w;
        gboolean inside = px >= x && px < x + w && py >= y && py < y + h;
        double got = def_latent_value(&latent, i), wanted = got;
        if (inside)
            wanted = def_latent_round(format, values[((py - y) * (w + 1) + px - x) * c + ch]);
        if (got != wanted)
            check_fail(check, "%s: number %" G_GSIZE_FORMAT " is %.9g, not %.9g", name, i, got,
                       wanted);
        if (!inside && memcmp(before + i * size, (guint8 *)latent.data + i * size, size) != 0)
            check_fail(check, "%s: number %" G_GSIZE_FORMAT " is outside the tile", name, i);
    }
    k.not_finite = 0;
    check_tensor_fill(check, in, CHECK_CONSTANT);
    case_run(check, &k, in, NULL, &latent, 0, h);
    if (k.not_finite)
        check_fail(check, "%s: finite values are called not finite", name);
    check_set_element(in, 0, format == DCAE_LATENT_F16 ? 65520.0f : NAN);
    case_run(check, &k, in, NULL, &latent, 0, h);
    if (!k.not_finite)
        check_fail(check, "%s: a number that is not finite went unnoticed", name);
    check_end(check, name);
    check_tensor_free(in);
    g_free(latent.data);
}

/* ---- blend */

static void check_blend_tile(Check *check, guint c, guint h, guint w, guint above_h, guint left_w,
                             guint blend_h, guint blend_w)
{
    Case k = {0};
    g_autofree char *name = g_strdup_printf("blend %ux%ux%u above %u left %u over %ux%u", w, h, c,
                                            above_h, left_w, blend_w, blend_h);
    if (!check_begin(check, name))
        return;
    case_make(&k, DCAE_OP_BLEND, h, w, c);
    k.op.in = k.op.out = 0;
    k.op.above = above_h ? 0 : DCAE_NO_VALUE;
    k.op.left = left_w ? 0 : DCAE_NO_VALUE;
    k.op.blend_h = blend_h;
    k.op.blend_w = blend_w;
    CheckTensor *tile = check_tensor_new(check, h, w, c, 0, c, 0, h);
    CheckTensor *above = check_tensor_new(check, above_h, w, c, 0, c, 0, above_h);
    CheckTensor *left = check_tensor_new(check, h, left_w, c, 0, c, 0, h);
    check_tensor_fill(check, tile, CHECK_NORMAL);
    check_tensor_fill(check, above, CHECK_NORMAL);
    check_tensor_fill(check, left, CHECK_NORMAL);
    g_autofree double *wanted = check_dense(tile), *from_above = check_dense(above),
                      *from_left = check_dense(left);
    DefBlend def = {.h = h,
                    .w = w,
                    .c = c,
                    .above_h = above_h,
                    .left_w = left_w,
                    .blend_h = blend_h,
                    .blend_w = blend_w,
                    .tile = wanted,
                    .above = above_h ? from_above : NULL,
                    .left = left_w ? from_left : NULL};
    def_blend(&def);
    DcaeCpuCall call = {.program = &k.program,
                        .op = &k.op,
                        .in = tile->rows,
                        .out = tile->rows,
                        .above = above->rows,
                        .left = left->rows,
                        .y1 = h};
    check_run(check, &check->build->kernels.kernel[DCAE_OP_BLEND], &call);
    g_autofree double *got = check_dense(tile);
    for (gsize i = 0; i < (gsize)h * w * c; i++)
        /* Two mixes of normal numbers below 8, four roundings each, and stored twice. */
        if (!(fabs(got[i] - wanted[i]) <= ldexp(8 * 8, -24) + 2 * check_store_error(tile, 8)))
            check_fail(check, "%s: value %" G_GSIZE_FORMAT " is %.9g, not %.9g", name, i, got[i],
                       wanted[i]);
    check_end(check, name);
    check_tensor_free(tile);
    check_tensor_free(above);
    check_tensor_free(left);
}

void check_pixel(Check *check)
{
    for (Layout layout = 0; layout < N_LAYOUTS; layout++) {
        check_pixels_in(check, layout, 1, 1, 0, 0, 8, 8, DCAE_PAD_EXTEND);
        check_pixels_in(check, layout, 16, 8, 0, 0, 16, 8, DCAE_PAD_ZERO);
        check_pixels_in(check, layout, 37, 21, 0, 0, 40, 24, DCAE_PAD_EXTEND);
        check_pixels_in(check, layout, 37, 21, 0, 0, 40, 24, DCAE_PAD_ZERO);
        check_pixels_in(check, layout, 37, 21, 24, 16, 16, 8, DCAE_PAD_ZERO);
        check_pixels_in(check, layout, 37, 21, 8, 8, 8, 8, DCAE_PAD_ZERO);
        check_pixels_out(check, layout, 1, 1, 0, 0, 1, 1);
        check_pixels_out(check, layout, 16, 8, 0, 0, 16, 8);
        check_pixels_out(check, layout, 37, 21, 0, 0, 37, 21);
        check_pixels_out(check, layout, 37, 29, 16, 8, 21, 21);
        check_pixels_out(check, layout, 40, 30, 8, 8, 16, 16);
        check_pixels_out(check, layout, 13, 40, 3, 3, 10, 25);
    }
    for (DcaeLatentFormat format = DCAE_LATENT_F32; format <= DCAE_LATENT_BF16; format++) {
        check_latent_in(check, format, 32, 0, 3, 5, 0, 0);
        check_latent_in(check, format, 5, 2, 4, 3, 2, 1);
        check_latent_in(check, format, 16, 16, 1, 1, 0, 3);
        check_latent_out(check, format, 32, 4, 5, 0, 0);
        check_latent_out(check, format, 3, 6, 17, 3, 2);
    }
    check_blend_tile(check, 3, 16, 24, 16, 0, 8, 8);
    check_blend_tile(check, 3, 16, 24, 0, 16, 8, 8);
    check_blend_tile(check, 32, 8, 8, 8, 8, 2, 3);
    check_blend_tile(check, 32, 2, 8, 8, 8, 4, 4);
    check_blend_tile(check, 20, 8, 2, 3, 8, 4, 4);
    check_blend_tile(check, 20, 8, 8, 3, 2, 4, 4);
    check_blend_tile(check, 17, 8, 8, 8, 8, 0, 0);
}

/* ---- speed: GB/s of picture bytes are flop over 1e9 */

static void bench_picture(Check *check, Layout layout, gboolean in, guint w, guint h)
{
    Picture p = {0};
    Case k = {0};
    g_autofree char *name =
        g_strdup_printf("pixels %s %s %ux%u", in ? "in" : "out", layout_names[layout], w, h);
    if (!check_begin(check, name))
        return;
    picture_make(check, &p, layout, w, h);
    case_make(&k, in ? DCAE_OP_PIXELS_IN : DCAE_OP_PIXELS_OUT, h, w, 3);
    k.op.frame_w = k.op.out_w = w;
    k.op.frame_h = k.op.out_h = h;
    CheckTensor *value = check_tensor_new(check, h, w, 3, 0, 3, 0, h);
    check_tensor_fill(check, value, CHECK_CONSTANT);
    DcaeCpuCall call = {.program = &k.program,
                        .op = &k.op,
                        .in = value->rows,
                        .out = value->rows,
                        .image = &p.image,
                        .not_finite = &k.not_finite,
                        .y1 = h};
    check_bench_line(check, name,
                     check_time(check, &check->build->kernels.kernel[k.op.kind], &call, 0.2),
                     3.0 * w * h);
    check_tensor_free(value);
    g_free(p.memory);
}

void bench_pixel(Check *check)
{
    static const Layout layouts[] = {PACKED_RGB, PACKED_GRAY, SEMIPLANAR_420, PLANAR_420};
    for (gsize i = 0; i < G_N_ELEMENTS(layouts); i++) {
        bench_picture(check, layouts[i], TRUE, 1920, 1080);
        bench_picture(check, layouts[i], FALSE, 1920, 1080);
    }
}
