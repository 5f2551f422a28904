/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_attention.c - GROUPED_LINEAR, ATTN_SUM and ATTN_APPLY: head sizes around the vectors, rows
 * longer than a chunk, and bands bit for bit against the whole.
 */
#include "check_layer.h"

#include <math.h>
#include <string.h>

/* A sum of n products: n roundings at most, on average their root; four times that and a few for
 * the division. */
static double tolerance(gsize terms)
{
    return ldexp(1, -24) * (16 + 4 * sqrt((double)terms));
}

static CheckLayer grouped(guint groups, guint inputs, guint outputs)
{
    return (CheckLayer){.layer = {.kind = DCAE_OP_GROUPED_LINEAR,
                                  .in_c = groups * inputs,
                                  .conv_c = groups * outputs,
                                  .out_c = groups * outputs,
                                  .groups = groups,
                                  .ksize = 1},
                        .define = def_grouped,
                        .terms = inputs,
                        .tolerance = tolerance};
}

/* Attention of one picture: value 0 is k and v, 1 is q, 2 the output, 3 the state. */
typedef struct {
    guint h, w, heads, d;
    DcaeProgram program;
    DcaeValue values[4];
    DcaeOp sum, apply;
    CheckTensor *kv, *q, *out;
    float *state;
    char name[96];
} Case;

static gboolean case_begin(Check *check, Case *k, guint heads, guint d, guint h, guint w,
                           CheckFill fill)
{
    static const char *const fills[] = {"", " zero", " constant", " mixed"};
    k->h = h;
    k->w = w;
    k->heads = heads;
    k->d = d;
    g_snprintf(k->name, sizeof k->name, "attention %u heads of %u%s %ux%u", heads, d, fills[fill],
               w, h);
    return check_begin(check, k->name);
}

static void case_make(Check *check, Case *k, CheckFill fill)
{
    guint n = k->heads * k->d, kv_c0 = check_range(check, 0, 3), q_c0 = check_range(check, 0, 3);
    k->values[0] = (DcaeValue){.h = k->h, .w = k->w, .c = kv_c0 + 2 * n};
    k->values[1] = (DcaeValue){.h = k->h, .w = k->w, .c = q_c0 + n};
    k->values[2] = (DcaeValue){.h = k->h, .w = k->w, .c = n};
    k->values[3] = (DcaeValue){.h = k->heads, .w = k->d + 1, .c = k->d, .state = TRUE};
    k->program = (DcaeProgram){.values = k->values, .n_values = 4};
    k->sum = k->apply = (DcaeOp){.heads = k->heads,
                                 .head_dim = k->d,
                                 .state = 3,
                                 .out = DCAE_NO_VALUE,
                                 .residual = DCAE_NO_VALUE};
    k->sum.kind = DCAE_OP_ATTN_SUM;
    k->sum.in_c0 = kv_c0;
    k->apply.kind = DCAE_OP_ATTN_APPLY;
    k->apply.in = 1;
    k->apply.in_c0 = q_c0;
    k->apply.out = 2;
    k->kv = check_tensor_new(check, k->h, k->w, k->values[0].c, kv_c0, 2 * n, 0, k->h);
    k->q = check_tensor_new(check, k->h, k->w, k->values[1].c, q_c0, n, 0, k->h);
    k->out = check_tensor_new(check, k->h, k->w, n, 0, n, 0, k->h);
    k->state = g_new0(float, k->heads *(k->d + 1) * k->d);
    check_tensor_fill(check, k->kv, fill);
    check_tensor_fill(check, k->q, fill);
}

static void case_free(Case *k)
{
    check_tensor_free(k->kv);
    check_tensor_free(k->q);
    check_tensor_free(k->out);
    g_free(k->state);
}

static gsize state_floats(const Case *k)
{
    return (gsize)k->heads * (k->d + 1) * k->d;
}

static void run_sum(Check *check, const Case *k, const CheckTensor *kv, float *state, guint y0,
                    guint y1)
{
    DcaeCpuCall call = {
        .program = &k->program, .op = &k->sum, .in = kv->rows, .state = state, .y0 = y0, .y1 = y1};
    check_run(check, &check->build->kernels.kernel[DCAE_OP_ATTN_SUM], &call);
}

static void run_apply(Check *check, const Case *k, const CheckTensor *q, const CheckTensor *out,
                      guint y0, guint y1)
{
    DcaeCpuCall call = {.program = &k->program,
                        .op = &k->apply,
                        .in = q->rows,
                        .out = out->rows,
                        .state = k->state,
                        .y0 = y0,
                        .y1 = y1};
    check_run(check, &check->build->kernels.kernel[DCAE_OP_ATTN_APPLY], &call);
}

/* stored: the tensor that got went through, or NULL. */
static void compare(Check *check, const Case *k, const char *what, const double *got,
                    const double *wanted, const double *scale, gsize n, double allowed,
                    const CheckTensor *stored)
{
    for (gsize i = 0; i < n; i++) {
        double limit = allowed * scale[i] + (stored ? check_store_error(stored, wanted[i]) : 0);
        if (!(fabs(got[i] - wanted[i]) <= limit))
            check_fail(check, "%s: %s %" G_GSIZE_FORMAT " is %.9g, not %.9g (%.1f tolerances)",
                       k->name, what, i, got[i], wanted[i], fabs(got[i] - wanted[i]) / limit);
    }
}

static void compare_state(Check *check, const Case *k)
{
    gsize n = state_floats(k), pixels = (gsize)k->h * k->w;
    g_autofree double *kv = check_dense(k->kv), *wanted = g_new0(double, n),
                      *scale = g_new0(double, n);
    g_autofree double *got = g_new(double, n);
    for (gsize i = 0; i < n; i++)
        got[i] = k->state[i];
    def_attn_sum(kv, pixels, k->heads, k->d, wanted, scale);
    compare(check, k, "state", got, wanted, scale, n, tolerance(pixels), NULL);
}

static void compare_out(Check *check, const Case *k)
{
    gsize n = (gsize)k->h * k->w * k->heads * k->d, n_state = state_floats(k);
    g_autofree double *q = check_dense(k->q), *got = check_dense(k->out),
                      *wanted = g_new(double, n);
    g_autofree double *scale = g_new(double, n), *state = g_new(double, n_state);
    for (gsize i = 0; i < n_state; i++)
        state[i] = k->state[i];
    def_attn_apply(q, (gsize)k->h * k->w, k->heads, k->d, state, wanted, scale);
    compare(check, k, "output", got, wanted, scale, n, tolerance(k->d), k->out);
}

static void check_bands(Check *check, const Case *k)
{
    g_autofree float *state = g_new0(float, state_floats(k));
    for (guint y = 0, rows; y < k->h; y += rows) {
        rows = check_range(check, 1, 1 + k->h / 2);
        rows = MIN(rows, k->h - y);
        CheckTensor *kv = check_tensor_rows(k->kv, y, rows);
        CheckTensor *q = check_tensor_rows(k->q, y, rows);
        CheckTensor *out = check_tensor_rows(k->out, y, rows);
        check_tensor_poison(out);
        run_sum(check, k, kv, state, y, y + rows);
        run_apply(check, k, q, out, y, y + rows);
        check_tensor_guards(check, out);
        check_same(check, k->name, k->out, out);
        check_tensor_free(kv);
        check_tensor_free(q);
        check_tensor_free(out);
    }
    if (memcmp(state, k->state, state_floats(k) * sizeof(float)) != 0)
        check_fail(check, "%s: the state of bands differs from that of the whole", k->name);
}

static void check_case(Check *check, guint heads, guint d, guint h, guint w, CheckFill fill)
{
    Case k = {0};
    if (!case_begin(check, &k, heads, d, h, w, fill))
        return;
    case_make(check, &k, fill);
    check_tensor_poison(k.out);
    run_sum(check, &k, k.kv, k.state, 0, h);
    compare_state(check, &k);
    run_apply(check, &k, k.q, k.out, 0, h);
    check_tensor_guards(check, k.out);
    compare_out(check, &k);
    check_bands(check, &k);
    check_end(check, k.name);
    case_free(&k);
}

void check_attention(Check *check)
{
    static const guint groups[][3] = {{1, 1, 1},   {3, 5, 5},   {4, 8, 8},    {17, 8, 8},
                                      {2, 12, 12}, {3, 32, 32}, {40, 32, 32}, {2, 64, 64}};
    static const guint dims[] = {1, 3, 5, 8, 12, 16, 31, 32, 33, 64};
    static const guint sizes[][2] = {{1, 1}, {2, 3}, {5, 9}, {3, 70}};
    for (gsize g = 0; g < G_N_ELEMENTS(groups); g++) {
        CheckLayer layer = grouped(groups[g][0], groups[g][1], groups[g][2]);
        for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_layer(check, &layer, sizes[s][0], sizes[s][1], CHECK_NORMAL);
        for (CheckFill fill = CHECK_ZERO; fill < CHECK_N_FILLS; fill++)
            check_layer(check, &layer, 2, 5, fill);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(dims); i++) {
        for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_case(check, 3, dims[i], sizes[s][0], sizes[s][1], CHECK_NORMAL);
        for (CheckFill fill = CHECK_ZERO; fill < CHECK_N_FILLS; fill++)
            check_case(check, 2, dims[i], 4, 6, fill);
    }
}

/* ---- speed */

static void bench_case(Check *check, guint heads, guint d, guint h, guint w)
{
    Case k = {0};
    if (!case_begin(check, &k, heads, d, h, w, CHECK_NORMAL))
        return;
    case_make(check, &k, CHECK_CONSTANT);
    DcaeCpuCall sum = {
        .program = &k.program, .op = &k.sum, .in = k.kv->rows, .state = k.state, .y1 = h};
    DcaeCpuCall apply = {.program = &k.program,
                         .op = &k.apply,
                         .in = k.q->rows,
                         .out = k.out->rows,
                         .state = k.state,
                         .y1 = h};
    double flop = 2.0 * h * w * heads * (d + 1) * d;
    g_autofree char *sum_name = g_strconcat(k.name, " sum", NULL);
    g_autofree char *apply_name = g_strconcat(k.name, " apply", NULL);
    const DcaeCpuKernel *kernels = check->build->kernels.kernel;
    check_bench_line(check, sum_name, check_time(check, &kernels[DCAE_OP_ATTN_SUM], &sum, 0.3),
                     flop);
    check_bench_line(check, apply_name,
                     check_time(check, &kernels[DCAE_OP_ATTN_APPLY], &apply, 0.3), flop);
    case_free(&k);
}

void bench_attention(Check *check)
{
    CheckLayer layer = grouped(32, 32, 32);
    bench_layer(check, &layer, 64, 64);
    bench_layer(check, &layer, 16, 16);
    bench_case(check, 32, 32, 64, 64);
    bench_case(check, 64, 32, 16, 16);
}
