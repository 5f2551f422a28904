/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_layer.c - see check_layer.h.
 */
#include "check_layer.h"

#include <math.h>
#include <string.h>

/* A layer on one picture with everything that a call points to. */
typedef struct {
    const CheckLayer *check;
    DcaeLayer layer;
    DcaeLayerWeights weights;
    DcaeProgram program;
    DcaeValue values[2];
    DcaeOp op;
    CheckTensor *in, *out;
    float *packed;
    char name[128];
} Case;

static void case_name(Case *k, const CheckLayer *layer, guint h, guint w, CheckFill fill)
{
    static const char *const acts[] = {"", " relu", " silu", " gelu", " mish"};
    static const char *const fills[] = {"", " zero", " constant", " mixed"};
    const DcaeLayer *l = &layer->layer;
    char form[48] = "";
    if (l->kind == DCAE_OP_DWCONV)
        g_snprintf(form, sizeof form, " %ux%u", l->ksize, l->ksize);
    if (l->kind == DCAE_OP_GROUPED_LINEAR)
        g_snprintf(form, sizeof form, " in %u groups", l->groups);
    g_snprintf(k->name, sizeof k->name, "%s%s %u->%u%s%s%s%s %ux%u",
               l->kind == DCAE_OP_DWCONV    ? "dwconv"
               : l->kind == DCAE_OP_RMSNORM ? "norm"
                                            : "grouped",
               form, l->in_c, l->out_c, l->bias ? " bias" : "", l->gate ? " gate" : "",
               acts[l->act], fills[fill], w, h);
}

static float *random_array(Check *check, gsize n, float scale)
{
    float *a = check_alloc(n);
    check_fill(check, a, n, CHECK_NORMAL);
    for (gsize i = 0; i < n; i++)
        a[i] *= scale;
    return a;
}

/* behind: channels of the output value behind the layer's. */
static void case_make(Check *check, Case *k, const CheckLayer *layer, guint h, guint w, guint in_c0,
                      guint out_c0, guint behind)
{
    DcaeLayer *l = &k->layer;
    const DcaeCpuKernel *kernel = &check->build->kernels.kernel[layer->layer.kind];
    k->check = layer;
    *l = layer->layer;
    l->label = k->name;
    l->stride = l->row_ratio_up = l->row_ratio_down = 1;
    l->above = l->below = l->ksize / 2;
    k->values[0] = (DcaeValue){.h = h, .w = w, .c = in_c0 + l->in_c};
    k->values[1] = (DcaeValue){.h = h, .w = w, .c = out_c0 + l->out_c + behind};
    k->program = (DcaeProgram){.values = k->values, .n_values = 2, .ops = &k->op, .n_ops = 1};
    k->op = (DcaeOp){.kind = l->kind,
                     .layer = l,
                     .label = k->name,
                     .in = 0,
                     .in_c0 = in_c0,
                     .out = 1,
                     .out_c0 = out_c0,
                     .residual = DCAE_NO_VALUE,
                     .state = DCAE_NO_VALUE};
    k->in = check_tensor_new(check, h, w, k->values[0].c, in_c0, l->in_c, 0, h);
    k->out = check_tensor_new(check, h, w, k->values[1].c, out_c0, l->out_c, 0, h);
    if (l->kind == DCAE_OP_RMSNORM) {
        k->weights.norm_weight = random_array(check, l->out_c, 1);
        k->weights.norm_bias = random_array(check, l->out_c, 0.3f);
    } else {
        k->weights.weight =
            random_array(check, l->conv_c * layer->terms, 1 / sqrtf((float)layer->terms));
        k->weights.bias = l->bias ? random_array(check, l->conv_c, 0.3f) : NULL;
    }
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
}

static DcaeCpuCall case_call(const Case *k)
{
    return (DcaeCpuCall){.program = &k->program,
                         .op = &k->op,
                         .packed = k->packed,
                         .in = k->in->rows,
                         .out = k->out->rows,
                         .y1 = k->values[0].h};
}

static void compare(Check *check, const Case *k)
{
    guint h = k->values[0].h, w = k->values[0].w;
    g_autofree double *in = check_dense(k->in), *got = check_dense(k->out);
    Definition def = {.layer = &k->layer,
                      .weights = &k->weights,
                      .in_h = h,
                      .in_w = w,
                      .out_h = h,
                      .out_w = w,
                      .in = in};
    double allowed = k->check->tolerance(k->check->terms);
    gsize n = (gsize)h * w * k->layer.out_c;
    k->check->define(&def);
    for (gsize i = 0; i < n; i++) {
        double error = fabs(got[i] - def.out[i]);
        double limit = allowed * def.scale[i] + check_store_error(k->out, def.out[i]);
        if (!(error <= limit))
            check_fail(check,
                       "%s: pixel (%" G_GSIZE_FORMAT ", %" G_GSIZE_FORMAT
                       ") channel %" G_GSIZE_FORMAT " is %.9g, not %.9g: %.1f times the tolerance",
                       k->name, i / k->layer.out_c % w, i / k->layer.out_c / w, i % k->layer.out_c,
                       got[i], def.out[i], error / limit);
    }
    g_free(def.out);
    g_free(def.scale);
}

/* Runs rows [y0, y1) with only the rows in memory that the layer names, and compares. */
static void check_band(Check *check, const Case *k, guint y0, guint y1)
{
    DcaeCpuCall call = case_call(k);
    guint half = k->layer.ksize / 2, h = k->values[0].h;
    guint in_y0 = y0 > half ? y0 - half : 0, in_y1 = MIN(y1 + half, h);
    CheckTensor *in = check_tensor_rows(k->in, in_y0, in_y1 - in_y0);
    CheckTensor *out = check_tensor_rows(k->out, y0, y1 - y0);
    check_tensor_poison(out);
    call.in = in->rows;
    call.out = out->rows;
    call.y0 = y0;
    call.y1 = y1;
    call.threads = check_range(check, 0, 20); /* cuts the rows into other tasks */
    check_run(check, &check->build->kernels.kernel[k->layer.kind], &call);
    check_tensor_guards(check, out);
    check_same(check, k->name, k->out, out);
    check_tensor_free(in);
    check_tensor_free(out);
}

void check_layer(Check *check, const CheckLayer *layer, guint h, guint w, CheckFill fill)
{
    Case k = {0};
    case_name(&k, layer, h, w, fill);
    if (!check_begin(check, k.name))
        return;
    gboolean offsets = fill == CHECK_NORMAL;
    case_make(check, &k, layer, h, w, offsets ? check_range(check, 0, 5) : 0,
              offsets ? check_range(check, 0, 5) : 0, offsets ? check_range(check, 0, 1) * 7 : 0);
    check_tensor_fill(check, k.in, fill);
    check_tensor_poison(k.out);
    DcaeCpuCall call = case_call(&k);
    check_run(check, &check->build->kernels.kernel[k.layer.kind], &call);
    check_tensor_guards(check, k.out);
    compare(check, &k);
    for (guint y = 0; y < h;) {
        guint rows = check_range(check, 1, 1 + h / 2);
        check_band(check, &k, y, MIN(y + rows, h));
        y += rows;
    }
    check_end(check, k.name);
    case_free(&k);
}

void bench_layer(Check *check, const CheckLayer *layer, guint h, guint w)
{
    Case k = {0};
    case_name(&k, layer, h, w, CHECK_NORMAL);
    if (!check_begin(check, k.name))
        return;
    case_make(check, &k, layer, h, w, 0, 0, 0);
    check_tensor_fill(check, k.in, CHECK_CONSTANT);
    check_tensor_fill(check, k.out, CHECK_CONSTANT);
    DcaeCpuCall call = case_call(&k);
    CheckTime time = check_time(check, &check->build->kernels.kernel[k.layer.kind], &call, 0.4);
    check_bench_line(check, k.name, time, 2.0 * h * w * k.layer.conv_c * (double)layer->terms);
    case_free(&k);
}
