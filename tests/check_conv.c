/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_conv.c - CONV and LINEAR: every form of a layer at sizes around the tiles, as a whole
 * against the definition, and cut into bands bit for bit against the whole.
 */
#include "checkkernels.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A convolution, described by what differs from a plain 3×3. */
typedef struct {
    guint in_c, conv_c;
    guint ksize; /* 0: 3; 1: LINEAR */
    guint stride;
    gboolean nearest2, bias, residual;
    DcaeAct act;
    DcaeShuffle shuffle;
    DcaeShortcut shortcut;
    DcaeNorm norm;
} Form;

/* A form on one picture with everything that a call points to. */
typedef struct {
    DcaeLayer layer;
    DcaeLayerWeights weights;
    DcaeProgram program;
    DcaeValue values[3];
    DcaeOp op;
    CheckTensor *in, *out, *residual;
    float *packed;
    guint first_border; /* output rows above the first border of row tiles, less than the align */
    char name[160];
} Case;

static const char *const act_names[] = {"", " relu", " silu", " gelu", " mish"};
static const char *const shuffle_names[] = {"", " down", " up"};
static const char *const shortcut_names[] = {"", " +mean", " +repeat", " +down_mean",
                                             " +up_repeat"};

static void case_layer(Case *k, const Form *form)
{
    DcaeLayer *l = &k->layer;
    gboolean down = form->stride == 2 || form->shuffle == DCAE_SHUFFLE_DOWN;
    gboolean up = form->nearest2 || form->shuffle == DCAE_SHUFFLE_UP;
    l->ksize = form->ksize ? form->ksize : 3;
    *l = (DcaeLayer){.kind = l->ksize == 1 ? DCAE_OP_LINEAR : DCAE_OP_CONV,
                     .label = k->name,
                     .in_c = form->in_c,
                     .conv_c = form->conv_c,
                     .out_c = form->shuffle == DCAE_SHUFFLE_DOWN ? 4 * form->conv_c
                              : form->shuffle == DCAE_SHUFFLE_UP ? form->conv_c / 4
                                                                 : form->conv_c,
                     .ksize = l->ksize,
                     .stride = form->stride ? form->stride : 1,
                     .nearest2 = form->nearest2,
                     .bias = form->bias,
                     .act = form->act,
                     .shuffle = form->shuffle,
                     .shortcut = form->shortcut,
                     .norm = form->norm,
                     .residual = form->residual,
                     .row_ratio_up = up ? 2 : 1,
                     .row_ratio_down = down ? 2 : 1,
                     .above = l->ksize / 2,
                     .below = form->stride == 2 ? 0 : l->ksize / 2};
}

static void case_name(Case *k, guint h, guint w, CheckFill fill)
{
    static const char *const fill_names[] = {"", " zero", " constant", " mixed"};
    const DcaeLayer *l = &k->layer;
    g_snprintf(k->name, sizeof k->name, "%s %u->%u%s%s%s%s%s%s%s%s %ux%u%s",
               l->kind == DCAE_OP_LINEAR ? "linear" : "conv", l->in_c, l->conv_c,
               l->stride == 2 ? " stride2" : "", l->nearest2 ? " nearest2" : "",
               l->bias ? " bias" : "", act_names[l->act], shuffle_names[l->shuffle],
               shortcut_names[l->shortcut], l->norm == DCAE_NORM_RMS ? " rms" : "",
               l->residual ? " residual" : "", w, h, fill_names[fill]);
}

/* Whether the layer is computed in transformed tiles whose products are of bf16 pairs. */
static gboolean transforms_words(const Check *check, const DcaeLayer *l)
{
    return check_is_bf16(check) && l->ksize == 3 && !l->nearest2 &&
           l->shuffle == DCAE_SHUFFLE_NONE && MIN(l->in_c, l->conv_c) > DCAE_CPU_NARROW &&
           (gsize)l->in_c * l->conv_c <= 512 * 1024;
}

/* Whether the product is of bf16 pairs as they lie in memory: of the first part of its inputs. */
static gboolean multiplies_words(const Check *check, const DcaeLayer *l)
{
    gboolean transformed =
        l->ksize == 3 && l->stride == 1 && (gsize)l->in_c * l->conv_c <= 512 * 512;
    return check_is_bf16(check) && l->in_c > DCAE_CPU_NARROW && !transformed &&
           !transforms_words(check, l);
}

/* h, w: the input's size. The op takes in_c0 and out_c0 channels behind the first. */
static void case_values(const Check *check, Case *k, guint h, guint w, guint in_c0, guint out_c0,
                        guint out_behind)
{
    const DcaeLayer *l = &k->layer;
    guint up = l->row_ratio_up, down = l->row_ratio_down;
    guint out_h = (h * up + down - 1) / down, out_w = (w * up + down - 1) / down;
    k->values[0] = (DcaeValue){.h = h, .w = w, .c = in_c0 + l->in_c};
    k->values[1] = (DcaeValue){.h = out_h, .w = out_w, .c = out_c0 + l->out_c + out_behind};
    k->values[2] = (DcaeValue){.h = out_h, .w = out_w, .c = l->out_c};
    k->program = (DcaeProgram){.values = k->values, .n_values = 3, .ops = &k->op, .n_ops = 1};
    k->op = (DcaeOp){.kind = l->kind,
                     .layer = l,
                     .label = k->name,
                     .in = 0,
                     .in_c0 = in_c0,
                     .out = 1,
                     .out_c0 = out_c0,
                     .residual = l->residual ? 2 : DCAE_NO_VALUE,
                     .state = DCAE_NO_VALUE};
    k->in = (multiplies_words(check, l) ? check_tensor_new_plain : check_tensor_new)(
        check, h, w, k->values[0].c, in_c0, l->in_c, 0, h);
    k->out = check_tensor_new(check, out_h, out_w, k->values[1].c, out_c0, l->out_c, 0, out_h);
    k->residual = check_tensor_new(check, out_h, out_w, l->out_c, 0, l->out_c, 0, out_h);
}

static float *random_array(Check *check, gsize n, float scale)
{
    float *a = check_alloc(n);
    check_fill(check, a, n, CHECK_NORMAL);
    for (gsize i = 0; i < n; i++)
        a[i] *= scale;
    return a;
}

/* Numbers that bf16 products take as they are. */
static const float *random_weights(Check *check, gsize n, float scale)
{
    float *a = random_array(check, n, scale);
    for (gsize i = 0; i < n; i++)
        a[i] = check_round_weight(check, a[i]);
    return a;
}

static void case_weights(Check *check, Case *k)
{
    const DcaeLayer *l = &k->layer;
    const DcaeCpuKernel *kernel = &check->build->kernels.kernel[l->kind];
    gsize terms = (gsize)l->in_c * l->ksize * l->ksize;
    k->weights = (DcaeLayerWeights){
        .weight = random_weights(check, l->conv_c * terms, 1 / sqrtf((float)terms)),
        .bias = l->bias ? random_array(check, l->conv_c, 0.3f) : NULL,
        .norm_weight = l->norm == DCAE_NORM_RMS ? random_array(check, l->out_c, 1) : NULL,
        .norm_bias = l->norm == DCAE_NORM_RMS ? random_array(check, l->out_c, 0.3f) : NULL};
    k->packed = check_alloc(kernel->packed_bytes(l) / sizeof(float));
    kernel->pack(l, &k->weights, k->packed);
}

static void case_free(Case *k)
{
    dcae_aligned_free((gpointer)k->weights.weight);
    dcae_aligned_free((gpointer)k->weights.bias);
    dcae_aligned_free((gpointer)k->weights.norm_weight);
    dcae_aligned_free((gpointer)k->weights.norm_bias);
    dcae_aligned_free(k->packed);
    check_tensor_free(k->in);
    check_tensor_free(k->out);
    check_tensor_free(k->residual);
}

static guint case_align(const Check *check, const Case *k)
{
    const DcaeCpuKernel *kernel = &check->build->kernels.kernel[k->layer.kind];
    return kernel->row_align ? kernel->row_align(&k->layer) : 1;
}

/* Shifts the borders as far as the kernel lets it. */
static void case_borders(Check *check, Case *k)
{
    const DcaeCpuKernel *kernel = &check->build->kernels.kernel[k->layer.kind];
    guint shift = kernel->row_shift ? kernel->row_shift(&k->layer) : 0;
    if (shift > 0)
        k->first_border = shift * check_range(check, 0, case_align(check, k) / shift - 1);
}

static DcaeCpuCall case_call(const Check *check, const Case *k)
{
    return (DcaeCpuCall){.program = &k->program,
                         .op = &k->op,
                         .packed = k->packed,
                         .in = k->in->rows,
                         .out = k->out->rows,
                         .residual = k->residual->rows,
                         .skip = k->first_border ? case_align(check, k) - k->first_border : 0,
                         .y0 = 0,
                         .y1 = k->values[1].h};
}

/* ---- against the definition */

/* Whether a layer is computed in tiles of 6×6 pixels, whose transforms have larger factors. */
static gboolean in_large_tiles(const DcaeLayer *l)
{
    return l->ksize == 3 && l->stride == 1 && !l->nearest2 && MIN(l->in_c, l->conv_c) > 64 &&
           l->in_c * l->conv_c <= 128 * 128;
}

/* The error of a chain of k products grows like sqrt(k) roundings of its running sum; five
 * roundings are for what follows the sum. The worst error over many seeds was 0.4 of this.
 * Winograd's is the same with normal numbers. In a constant picture the errors of the weights do
 * not average out: it reached 3.7 times as much. And it takes the neighbours of a pixel along,
 * which with mixed magnitudes can be much larger than the pixel's own terms: 17 times. In large
 * tiles all of that is up to 4.4 times as much.
 *
 * Where transformed inputs and weights are rounded to bf16 each term adds its share to an error
 * that is to the sum as 4e-3 (stride 2) or 6e-3 to 1; the scale grows by the root of their number
 * more than the sum does. The worst over a thousand cases was 0.7 of this, with mixed magnitudes
 * 0.4. */
static double tolerance(const Check *check, const DcaeLayer *l, CheckFill fill)
{
    /* Sums of a nearest2's taps are rounded to bf16 weights. */
    double folded = multiplies_words(check, l) && l->nearest2 ? ldexp(1, -8) : 0;
    double terms = (double)l->in_c * l->ksize * l->ksize;
    if (transforms_words(check, l))
        return (l->stride == 2 ? 0.1 : 0.16) / sqrt(terms) * (fill == CHECK_MIXED ? 5 : 1);
    gboolean direct = l->ksize == 1 || l->in_c < 16 || (check_is_bf16(check) && l->stride > 1);
    double factor = direct || fill == CHECK_NORMAL ? 1 : fill == CHECK_MIXED ? 40 : 8;
    return folded + ldexp(1, -24) * (5 + 2 * sqrt(terms)) * factor * (in_large_tiles(l) ? 8 : 1);
}

/* Of a whole picture of normal numbers. Measured: 1.2e-6 direct and 2.1e-6 by Winograd's transform
 * at 512 channels, with the root of the number of terms below; a third more is allowed, and other
 * points than those chosen fail here. In large tiles 4.4e-6 at 128 channels; small pictures vary
 * more, so twice that is allowed. A norm multiplies the sums' error by def.lift. */
static double relative_tolerance(const Check *check, const DcaeLayer *l, double lift)
{
    if (transforms_words(check, l)) /* worst of a thousand: 3.9e-3 and 7.1e-3 */
        return lift * (l->stride == 2 ? 5e-3 : 7.6e-3);
    if (check_is_bf16(check)) /* outputs and folded weights, 1.7e-3 each */
        return l->nearest2 ? 3e-3 : 2e-3;
    double terms = (double)l->in_c * l->ksize * l->ksize;
    if (in_large_tiles(l))
        return 2 * lift * (7e-7 + 7.2e-6 * sqrt(terms / 4608));
    return 1.3 * lift * (3e-7 + 1.9e-6 * sqrt(terms / 4608));
}

static void compare(Check *check, const Case *k, CheckFill fill)
{
    const DcaeLayer *l = &k->layer;
    Definition def = {.layer = l,
                      .weights = &k->weights,
                      .in_h = k->values[0].h,
                      .in_w = k->values[0].w,
                      .out_h = k->values[1].h,
                      .out_w = k->values[1].w};
    double *in = check_dense(k->in), *residual = l->residual ? check_dense(k->residual) : NULL;
    double *got = check_dense(k->out), allowed = tolerance(check, l, fill);
    gsize n = (gsize)def.out_h * def.out_w * l->out_c;
    def.in = in;
    def.residual = residual;
    def_conv(&def);
    double errors = 0, squares = 0;
    for (gsize i = 0; i < n; i++) {
        double error = fabs(got[i] - def.out[i]);
        errors += error * error;
        squares += def.out[i] * def.out[i];
        double limit = allowed * def.scale[i] + check_store_error(k->out, def.out[i]);
        if (!(error <= limit))
            check_fail(check,
                       "%s: pixel (%" G_GSIZE_FORMAT ", %" G_GSIZE_FORMAT
                       ") channel %" G_GSIZE_FORMAT " is %.9g, not %.9g: %.1f times the tolerance",
                       k->name, i / l->out_c % def.out_w, i / l->out_c / def.out_w, i % l->out_c,
                       got[i], def.out[i], error / limit);
    }
    double relative = sqrt(errors / squares), most = relative_tolerance(check, l, def.lift);
    if (fill == CHECK_NORMAL && n >= 2000 && !(relative <= most))
        check_fail(check, "%s: relative L2 error is %.3g, not below %.3g", k->name, relative, most);
    g_free(in);
    g_free(residual);
    g_free(got);
    g_free(def.out);
    g_free(def.scale);
}

/* ---- cut into bands */

/* Runs output rows [y0, y1) with only those rows in memory that the layer names, and compares. */
static void check_band(Check *check, const Case *k, guint y0, guint y1)
{
    const DcaeCpuKernel *kernel = &check->build->kernels.kernel[k->layer.kind];
    DcaeCpuCall call = case_call(check, k);
    gint in_y0, in_y1;
    dcae_op_input_rows(&k->op, y0, y1, &in_y0, &in_y1);
    in_y0 = MAX(in_y0, 0);
    in_y1 = MIN(in_y1, (gint)k->values[0].h);
    CheckTensor *in = check_tensor_rows(k->in, (guint)in_y0, (guint)(in_y1 - in_y0));
    CheckTensor *residual = check_tensor_rows(k->residual, y0, y1 - y0);
    CheckTensor *out = check_tensor_rows(k->out, y0, y1 - y0);
    check_tensor_poison(out);
    call.in = in->rows;
    call.residual = residual->rows;
    call.out = out->rows;
    if (y0 > 0)
        call.skip = 0;
    call.y0 = y0;
    call.y1 = y1;
    call.threads = check_range(check, 0, 20); /* cuts the rows into other tasks */
    check_run(check, kernel, &call);
    check_tensor_guards(check, out);
    check_same(check, k->name, k->out, out);
    check_tensor_free(in);
    check_tensor_free(residual);
    check_tensor_free(out);
}

static void check_bands(Check *check, const Case *k)
{
    guint align = case_align(check, k), h = k->values[1].h;
    for (guint y = 0; y < h;) {
        guint rows = align * check_range(check, 1, 1 + h / align / 2);
        if (y == 0 && k->first_border > 0)
            rows -= align - k->first_border;
        check_band(check, k, y, MIN(y + rows, h));
        y += rows;
    }
}

/* ---- against an emulation of the same instructions */

/* The same weights; outputs at most one step of an element apart, in case a processor sums the two
 * products of a word in another order than is documented. Says so where bits differ. */
static void check_twin(Check *check, const Case *k)
{
    const DcaeCpuKernel *twin = &check->build->twin->kernel[k->layer.kind];
    gsize bytes = twin->packed_bytes(&k->layer), different = 0;
    float *packed = check_alloc(bytes / sizeof(float));
    CheckTensor *out = check_tensor_rows(k->out, 0, k->values[1].h);
    DcaeCpuCall call = case_call(check, k);
    twin->pack(&k->layer, &k->weights, packed);
    if (memcmp(packed, k->packed, bytes) != 0)
        check_fail(check, "%s: the emulation packs other weights", k->name);
    check_tensor_poison(out);
    call.packed = packed;
    call.out = out->rows;
    check_run(check, twin, &call);
    g_autofree double *emulated = check_dense(out), *real = check_dense(k->out);
    for (gsize i = 0; i < (gsize)out->rows.h * out->rows.w * out->rows.c; i++) {
        different += real[i] != emulated[i];
        if (!(fabs(real[i] - emulated[i]) <= 2 * check_store_error(out, real[i]) + 1e-5))
            check_fail(check, "%s: %.9g, but %.9g emulated", k->name, real[i], emulated[i]);
    }
    if (different > 0)
        printf("# %s: %" G_GSIZE_FORMAT " outputs differ from the emulation's\n", k->name,
               different);
    dcae_aligned_free(packed);
    check_tensor_free(out);
}

static void check_form(Check *check, const Form *form, guint h, guint w, CheckFill fill)
{
    Case k = {0};
    gboolean offsets = form->shortcut == DCAE_SHORTCUT_NONE && fill == CHECK_NORMAL;
    case_layer(&k, form);
    case_name(&k, h, w, fill);
    if (!check_begin(check, k.name))
        return;
    guint in_c0 = offsets ? check_range(check, 0, 5) : 0;
    guint out_c0 = offsets ? check_range(check, 0, 5) : 0;
    guint behind = offsets ? check_range(check, 0, 1) * 7 : 0;
    case_values(check, &k, h, w, in_c0, out_c0, behind);
    case_weights(check, &k);
    case_borders(check, &k);
    check_tensor_fill(check, k.in, fill);
    check_tensor_fill(check, k.residual, fill);
    check_tensor_poison(k.out);
    DcaeCpuCall call = case_call(check, &k);
    call.threads = check_range(check, 0, 4); /* cuts the rows into other tasks */
    check_run(check, &check->build->kernels.kernel[k.layer.kind], &call);
    check_tensor_guards(check, k.out);
    compare(check, &k, fill);
    check_bands(check, &k);
    if (check->build->twin)
        check_twin(check, &k);
    check_end(check, k.name);
    case_free(&k);
}

static const Form forms[] = {
    {.in_c = 16, .conv_c = 16, .ksize = 1},
    {.in_c = 37, .conv_c = 21, .ksize = 1, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 128, .conv_c = 600, .ksize = 1, .bias = TRUE},
    {.in_c = 1100, .conv_c = 40, .ksize = 1, .norm = DCAE_NORM_RMS, .residual = TRUE},
    {.in_c = 33, .conv_c = 48, .ksize = 1, .act = DCAE_ACT_GELU, .residual = TRUE},
    {.in_c = 3, .conv_c = 32, .bias = TRUE},
    {.in_c = 32, .conv_c = 3, .bias = TRUE},
    {.in_c = 1, .conv_c = 1},
    {.in_c = 5, .conv_c = 9, .bias = TRUE, .act = DCAE_ACT_MISH},
    {.in_c = 16, .conv_c = 16, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 32, .conv_c = 32, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 32, .conv_c = 32, .norm = DCAE_NORM_RMS, .residual = TRUE},
    {.in_c = 40, .conv_c = 72, .bias = TRUE, .act = DCAE_ACT_RELU, .norm = DCAE_NORM_RMS},
    {.in_c = 128, .conv_c = 128, .norm = DCAE_NORM_RMS, .residual = TRUE},
    {.in_c = 72, .conv_c = 97, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 68,
     .conv_c = 68,
     .bias = TRUE,
     .shuffle = DCAE_SHUFFLE_DOWN,
     .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
    {.in_c = 68, .conv_c = 136, .shuffle = DCAE_SHUFFLE_UP, .shortcut = DCAE_SHORTCUT_UP_REPEAT},
    {.in_c = 272, .conv_c = 48, .bias = TRUE, .act = DCAE_ACT_GELU},
    {.in_c = 512, .conv_c = 24, .bias = TRUE},
    {.in_c = 512, .conv_c = 24, .nearest2 = TRUE},
    {.in_c = 64, .conv_c = 16, .bias = TRUE, .shortcut = DCAE_SHORTCUT_MEAN},
    {.in_c = 16, .conv_c = 64, .bias = TRUE, .shortcut = DCAE_SHORTCUT_REPEAT},
    {.in_c = 3, .conv_c = 8, .bias = TRUE, .shuffle = DCAE_SHUFFLE_DOWN},
    {.in_c = 32, .conv_c = 8, .shuffle = DCAE_SHUFFLE_DOWN, .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
    {.in_c = 32,
     .conv_c = 16,
     .bias = TRUE,
     .shuffle = DCAE_SHUFFLE_DOWN,
     .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
    {.in_c = 32, .conv_c = 12, .bias = TRUE, .shuffle = DCAE_SHUFFLE_UP},
    {.in_c = 64,
     .conv_c = 128,
     .bias = TRUE,
     .shuffle = DCAE_SHUFFLE_UP,
     .shortcut = DCAE_SHORTCUT_UP_REPEAT},
    {.in_c = 32,
     .conv_c = 128,
     .bias = TRUE,
     .shuffle = DCAE_SHUFFLE_UP,
     .shortcut = DCAE_SHORTCUT_UP_REPEAT},
    /* Too many channels for large tiles. */
    {.in_c = 512, .conv_c = 40, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 272, .conv_c = 64, .norm = DCAE_NORM_RMS, .residual = TRUE},
    {.in_c = 144, .conv_c = 128, .bias = TRUE, .shuffle = DCAE_SHUFFLE_UP},
    {.in_c = 16, .conv_c = 32, .stride = 2, .bias = TRUE},
    {.in_c = 64, .conv_c = 128, .stride = 2, .bias = TRUE, .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
    {.in_c = 80, .conv_c = 160, .stride = 2, .bias = TRUE, .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
    {.in_c = 525, .conv_c = 66, .stride = 2, .norm = DCAE_NORM_RMS},
    {.in_c = 525, .conv_c = 66, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 20, .conv_c = 20, .nearest2 = TRUE, .bias = TRUE, .act = DCAE_ACT_SILU},
    {.in_c = 64, .conv_c = 32, .nearest2 = TRUE, .bias = TRUE, .shortcut = DCAE_SHORTCUT_UP_REPEAT},
    {.in_c = 32, .conv_c = 32, .nearest2 = TRUE, .norm = DCAE_NORM_RMS, .residual = TRUE},
};

/* Heights and widths of the input; forms that halve a picture take even ones. */
static const guint sizes[][2] = {{1, 1}, {2, 3},   {4, 4},  {5, 9},
                                 {8, 6}, {11, 13}, {3, 34}, {17, 20}};

/* A form, and a size, that no table thought of. */
static void check_random(Check *check, GRand *rand)
{
    guint size = g_rand_boolean(rand) ? 40 : 150;
    Form form = {.in_c = 1 + g_rand_int(rand) % size,
                 .conv_c = 1 + g_rand_int(rand) % size,
                 .ksize = g_rand_int(rand) % 4 ? 3 : 1,
                 .bias = g_rand_boolean(rand),
                 .residual = g_rand_boolean(rand),
                 .act = g_rand_int(rand) % (DCAE_ACT_MISH + 1),
                 .norm = g_rand_boolean(rand) ? DCAE_NORM_RMS : DCAE_NORM_NONE};
    guint h = 1 + g_rand_int(rand) % 18, w = 1 + g_rand_int(rand) % 18;
    switch (form.ksize == 3 ? g_rand_int(rand) % 6 : 0) {
    case 1:
        form.shuffle = DCAE_SHUFFLE_UP;
        form.conv_c = (form.conv_c + 3) / 4 * 4;
        break;
    case 2:
        form.shuffle = DCAE_SHUFFLE_DOWN;
        h *= 2;
        w *= 2;
        break;
    case 3:
        form.stride = 2;
        break;
    case 4:
        form.nearest2 = TRUE;
        break;
    }
    check_form(check, &form, h, w, CHECK_NORMAL);
}

void check_conv(Check *check)
{
    GRand *rand = g_rand_new_with_seed((guint32)check->seed);
    for (guint i = 0; i < 40; i++)
        check_random(check, rand);
    g_rand_free(rand);
    for (gsize f = 0; f < G_N_ELEMENTS(forms); f++) {
        guint even =
            forms[f].shuffle == DCAE_SHUFFLE_DOWN || forms[f].shortcut == DCAE_SHORTCUT_DOWN_MEAN;
        for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_form(check, &forms[f], sizes[s][0] << even, sizes[s][1] << even, CHECK_NORMAL);
        /* More tiles than a block has, of whatever size. */
        if (forms[f].in_c == 72 || forms[f].in_c == 80)
            check_form(check, &forms[f], 44, 50, CHECK_NORMAL);
        for (CheckFill fill = CHECK_ZERO; fill < CHECK_N_FILLS; fill++)
            check_form(check, &forms[f], 6, 10, fill);
    }
}

/* ---- speed */

typedef struct {
    Form form;
    guint h, w; /* of the input */
} Timing;

static const Timing timings[] = {
    {{.in_c = 128, .conv_c = 128, .bias = TRUE, .act = DCAE_ACT_SILU}, 512, 512},
    {{.in_c = 128, .conv_c = 128, .norm = DCAE_NORM_RMS, .residual = TRUE}, 512, 512},
    {{.in_c = 256, .conv_c = 256, .bias = TRUE, .act = DCAE_ACT_SILU}, 256, 256},
    {{.in_c = 256, .conv_c = 256, .norm = DCAE_NORM_RMS, .residual = TRUE}, 256, 256},
    {{.in_c = 512, .conv_c = 512, .bias = TRUE, .act = DCAE_ACT_SILU}, 128, 128},
    {{.in_c = 512, .conv_c = 512, .norm = DCAE_NORM_RMS, .residual = TRUE}, 128, 128},
    {{.in_c = 1024, .conv_c = 1024, .bias = TRUE, .act = DCAE_ACT_SILU}, 16, 16},
    {{.in_c = 128, .conv_c = 256, .stride = 2, .bias = TRUE}, 512, 512},
    {{.in_c = 256, .conv_c = 512, .stride = 2, .bias = TRUE, .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
     256,
     256},
    {{.in_c = 512, .conv_c = 512, .stride = 2, .bias = TRUE, .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
     128,
     128},
    {{.in_c = 256,
      .conv_c = 128,
      .nearest2 = TRUE,
      .bias = TRUE,
      .shortcut = DCAE_SHORTCUT_UP_REPEAT},
     256,
     256},
    {{.in_c = 512,
      .conv_c = 256,
      .nearest2 = TRUE,
      .bias = TRUE,
      .shortcut = DCAE_SHORTCUT_UP_REPEAT},
     128,
     128},
    {{.in_c = 512,
      .conv_c = 512,
      .nearest2 = TRUE,
      .bias = TRUE,
      .shortcut = DCAE_SHORTCUT_UP_REPEAT},
     64,
     64},
    {{.in_c = 1024,
      .conv_c = 512,
      .nearest2 = TRUE,
      .bias = TRUE,
      .shortcut = DCAE_SHORTCUT_UP_REPEAT},
     32,
     32},
    {{.in_c = 512, .conv_c = 4096, .ksize = 1, .bias = TRUE, .act = DCAE_ACT_SILU}, 64, 64},
    {{.in_c = 2048, .conv_c = 512, .ksize = 1, .norm = DCAE_NORM_RMS, .residual = TRUE}, 64, 64},
    {{.in_c = 1024, .conv_c = 3072, .ksize = 1}, 16, 16},
    {{.in_c = 1024, .conv_c = 8192, .ksize = 1, .bias = TRUE, .act = DCAE_ACT_SILU}, 32, 32},
    {{.in_c = 4096, .conv_c = 1024, .ksize = 1, .norm = DCAE_NORM_RMS, .residual = TRUE}, 32, 32},
    {{.in_c = 1024, .conv_c = 8192, .ksize = 1, .bias = TRUE, .act = DCAE_ACT_SILU}, 16, 16},
    {{.in_c = 3, .conv_c = 128, .bias = TRUE}, 512, 512},
    {{.in_c = 128, .conv_c = 3, .bias = TRUE}, 512, 512},
    /* The demonstration model's at 320×240. */
    {{.in_c = 3, .conv_c = 8, .bias = TRUE, .shuffle = DCAE_SHUFFLE_DOWN}, 240, 320},
    {{.in_c = 32, .conv_c = 32, .bias = TRUE, .act = DCAE_ACT_SILU}, 120, 160},
    {{.in_c = 32, .conv_c = 32, .norm = DCAE_NORM_RMS, .residual = TRUE}, 120, 160},
    {{.in_c = 32,
      .conv_c = 16,
      .bias = TRUE,
      .shuffle = DCAE_SHUFFLE_DOWN,
      .shortcut = DCAE_SHORTCUT_DOWN_MEAN},
     120,
     160},
    {{.in_c = 64, .conv_c = 64, .norm = DCAE_NORM_RMS, .residual = TRUE}, 60, 80},
    {{.in_c = 64,
      .conv_c = 128,
      .bias = TRUE,
      .shuffle = DCAE_SHUFFLE_UP,
      .shortcut = DCAE_SHORTCUT_UP_REPEAT},
     60,
     80},
    {{.in_c = 32, .conv_c = 12, .bias = TRUE, .shuffle = DCAE_SHUFFLE_UP}, 120, 160},
};

static void bench_form(Check *check, const Form *form, guint h, guint w)
{
    Case k = {0};
    case_layer(&k, form);
    case_name(&k, h, w, CHECK_NORMAL);
    if (!check_begin(check, k.name))
        return;
    case_values(check, &k, h, w, 0, 0, 0);
    case_weights(check, &k);
    check_tensor_fill(check, k.in, CHECK_CONSTANT);
    check_tensor_fill(check, k.residual, CHECK_CONSTANT);
    DcaeCpuCall call = case_call(check, &k);
    CheckTime time = check_time(check, &check->build->kernels.kernel[k.layer.kind], &call, 0.4);
    double pixels = form->shuffle ? (double)h * w : (double)k.values[1].h * k.values[1].w;
    check_bench_line(check, k.name, time,
                     2 * pixels * k.layer.ksize * k.layer.ksize * form->in_c * form->conv_c);
    case_free(&k);
}

void bench_conv(Check *check)
{
    for (gsize t = 0; t < G_N_ELEMENTS(timings); t++)
        bench_form(check, &timings[t].form, timings[t].h, timings[t].w);
}
