/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_ops.c - a backend seen through its contract: every layer of several golden models as a
 * program of its own (latent in, the op, latent out), attention, pictures and blend the same way,
 * against the definitions; bands, threads and batches bit for bit; cancelling, errors, progress.
 * The thread pool, which has no other test, is tried here too.
 */
#include <math.h>
#include <string.h>

#include "cpu/cpu_kernels.h"
#include "cpu/cpu_pool.h"
#include "dcae_tiling.h"
#include "definitions.h"
#include "emulated.h"
#include "small_program.h"

/* Relative L2 error of one op in f32. Sums of up to a few hundred products err by 1e-7 to 1e-6,
 * Winograd by up to 1e-6; a wrong tap or channel by more than 1e-3.
 */
#define MAX_RELATIVE_ERROR 2e-6
/* The same in bf16: input, weights and output are rounded, 1.7e-3 each, and the input's share grows
 * where a sum cancels. */
#define MAX_BF16_ERROR 1e-2

#define BATCH 2

/* A way to run a program. */
typedef struct {
    const char *name;
    const DcaeBackend *backend;
    DcaePrecision precision;
    DcaeIsa isa;
    const DcaeCpuKernels *cpu_kernels; /* or NULL: isa and precision say which */
    guint threads;
    guint band_rows; /* 0: whole frames */
    double max_error;
} Way;

#define MAX_WAYS 5

/* f32 on every instruction set; bf16 emulated and, where the machine has it, real. */
static guint make_ways(Way ways[MAX_WAYS])
{
    static const char *const names[] = {"", "generic", "avx2", "avx512"};
    static DcaeCpuKernels emulated;
    Way bf16 = {.name = "bf16",
                .backend = &dcae_cpu_backend,
                .precision = DCAE_PRECISION_BF16,
                .isa = DCAE_ISA_AVX512,
                .threads = 1,
                .max_error = MAX_BF16_ERROR};
    guint n = 0;
    for (DcaeIsa isa = DCAE_ISA_GENERIC; isa <= dcae_cpu_isa(); isa++)
        ways[n++] = (Way){.name = names[isa],
                          .backend = &dcae_cpu_backend,
                          .precision = DCAE_PRECISION_F32,
                          .isa = isa,
                          .threads = 1,
                          .max_error = MAX_RELATIVE_ERROR};
    if (dcae_cpu_has_bf16())
        ways[n++] = bf16;
    bf16.name = "emulated bf16";
    bf16.cpu_kernels = &emulated;
    if (emulated_kernels_init(&emulated, DCAE_PRECISION_BF16))
        ways[n++] = bf16;
    return n;
}

/* ---- small programs */

/* A value that is read from the latent at (x, y). */
static guint small_input(Small *s, guint x, guint y, guint h, guint w, guint c)
{
    DcaeOp *op = small_op(s, DCAE_OP_LATENT_IN);
    op->out = small_value(s, h, w, c);
    op->frame_x = x;
    op->frame_y = y;
    op->frame_w = s->in_w;
    op->frame_h = s->in_h;
    return op->out;
}

/* `layer` on an h × w picture. The residual is the input's first channels. */
static void small_layer(Small *s, DcaeLayer *layer, guint h, guint w)
{
    guint up = layer->row_ratio_up, down = layer->row_ratio_down;
    guint c = layer->residual ? MAX(layer->in_c, layer->out_c) : layer->in_c;
    small_begin(s, h, w, c);
    guint in = small_input(s, 0, 0, h, w, c);
    DcaeOp *op = small_op(s, layer->kind);
    op->layer = layer;
    op->layer_index = 0;
    op->label = layer->label;
    op->in = in;
    op->out = small_value(s, h * up / down, w * up / down, layer->out_c);
    op->residual = layer->residual ? in : DCAE_NO_VALUE;
    s->program.layers = layer;
    s->program.n_layers = 1;
    small_output(s, op->out);
}

static gsize in_floats(const Small *s)
{
    return (gsize)s->in_c * s->in_h * s->in_w;
}

static gsize out_floats(const Small *s)
{
    return (gsize)s->out_c * s->out_h * s->out_w;
}

static float *random_floats(GRand *rand, gsize n)
{
    float *x = g_new(float, n);
    for (gsize i = 0; i < n; i++)
        x[i] = (float)g_rand_double_range(rand, -1.5, 1.5);
    return x;
}

/* ---- running */

/* An open instance of a program. */
typedef struct {
    const DcaeBackend *backend;
    DcaeBackendParams params;
    DcaePlan *plan;
    DcaeWeights *weights;
    void *instance;
} Run;

static void run_open(Run *run, const DcaeProgram *program, DcaeModel *model, const Way *way,
                     GCancellable *cancellable)
{
    DcaeTraits traits = {0};
    g_autoptr(GError) error = NULL;
    run->backend = way->backend;
    run->params = (DcaeBackendParams){.precision = way->precision,
                                      .threads = way->threads,
                                      .isa = way->isa,
                                      .cpu_kernels = way->cpu_kernels,
                                      .cancellable = cancellable};
    run->backend->traits(&run->params, &traits);
    DcaePlanParams plan_params = {
        .exact = way->band_rows > 0, .band_rows = way->band_rows, .batch = BATCH};
    run->plan = dcae_plan_new(program, &traits, &plan_params, &error);
    g_assert_no_error(error);
    run->weights = run->backend->prepare(model, program, &run->params, &error);
    g_assert_no_error(error);
    run->backend->open(&run->instance, run->weights, run->plan, &run->params, &error);
    g_assert_no_error(error);
}

static void run_close(Run *run)
{
    run->backend->close(run->instance);
    run->backend->weights_free(run->weights);
    dcae_plan_free(run->plan);
}

static DcaeLatent latent_view(float *data, guint c, guint h, guint w)
{
    return (DcaeLatent){.format = DCAE_LATENT_F32, .c = c, .h = h, .w = w, .data = data};
}

static gboolean run_frames(const Run *run, const DcaeView *in, const DcaeView *out, double *ms,
                           GError **error)
{
    guint64 ticket;
    return run->backend->submit(run->instance, in, out, BATCH, &ticket, error) &&
           run->backend->wait(run->instance, ticket, ms, error);
}

/* Latents [BATCH] in, latents out, new. */
static float *run_latents(const Small *s, DcaeModel *model, const Way *way, float *in)
{
    Run run = {0};
    float *out = g_new0(float, BATCH *out_floats(s));
    DcaeView in_view[BATCH], out_view[BATCH];
    g_autoptr(GError) error = NULL;
    for (guint i = 0; i < BATCH; i++) {
        in_view[i].latent = latent_view(in + i * in_floats(s), s->in_c, s->in_h, s->in_w);
        out_view[i].latent = latent_view(out + i * out_floats(s), s->out_c, s->out_h, s->out_w);
    }
    run_open(&run, &s->program, model, way, NULL);
    run_frames(&run, in_view, out_view, NULL, &error);
    g_assert_no_error(error);
    run_close(&run);
    return out;
}

/* planar [c][h][w] -> [h][w][first channels of c] */
static double *interleaved(const float *planar, guint c, guint h, guint w, guint first)
{
    double *out = g_new(double, (gsize)h *w *first);
    g_assert_cmpuint(first, <=, c);
    for (gsize p = 0; p < (gsize)h * w; p++)
        for (guint n = 0; n < first; n++)
            out[p * first + n] = planar[(gsize)n * h * w + p];
    return out;
}

/* got: planar [c][h][w]; wanted: [h][w][c]. */
static double relative_error(const float *got, const double *wanted, guint c, gsize pixels)
{
    double error = 0, norm = 0;
    for (gsize p = 0; p < pixels; p++) {
        for (guint n = 0; n < c; n++) {
            double d = got[n * pixels + p] - wanted[p * c + n];
            error += d * d;
            norm += wanted[p * c + n] * wanted[p * c + n];
        }
    }
    return sqrt(error / MAX(norm, 1e-30));
}

/* Bands and more threads: the same bits. */
static void check_cuts(const Small *s, DcaeModel *model, const Way *way, float *in,
                       const float *whole)
{
    static const guint others[][2] = {{3, 0}, {2, 2}}; /* threads, band_rows */
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        Way other = *way;
        other.threads = others[i][0];
        other.band_rows = others[i][1];
        g_autofree float *out = run_latents(s, model, &other, in);
        gsize bytes = BATCH * out_floats(s) * sizeof(float);
        g_assert_cmpmem(out, bytes, whole, bytes);
    }
}

/* ---- layers */

static DcaeModel *open_model(const char *name)
{
    g_autofree char *path =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", name, "model", NULL);
    g_autoptr(GError) error = NULL;
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = path}, &error);
    g_assert_no_error(error);
    return model;
}

/* For latents of n × n pixels. */
static DcaeProgram *model_program(DcaeModel *model, DcaeDirection direction, guint n)
{
    const DcaeModelInfo *info = dcae_model_info(model);
    DcaeGeometry wanted = {.width = info->ratio * n, .height = info->ratio * n}, geometry;
    g_autoptr(GError) error = NULL;
    if (direction == DCAE_DECODE)
        wanted = (DcaeGeometry){.latent_width = n, .latent_height = n};
    dcae_tiling_resolve(direction, info->ratio, info->latent_channels, info->channel_prefix,
                        &wanted, &geometry, &error);
    g_assert_no_error(error);
    return dcae_graph_build(dcae_model_config(model), direction, &geometry);
}

static float *read_tensor(DcaeModel *model, const char *prefix, const char *suffix,
                          const guint64 *shape, guint rank)
{
    g_autofree char *name = g_strconcat(prefix, suffix, NULL);
    g_autoptr(GError) error = NULL;
    gsize n = 1;
    for (guint i = 0; i < rank; i++)
        n *= shape[i];
    float *x = g_new(float, n);
    dcae_model_read(model, name, shape, rank, x, &error);
    g_assert_no_error(error);
    return x;
}

/* Is stacked row `row` one that the layer uses? */
static gboolean picked(const DcaeLayer *l, guint row)
{
    guint phase = l->pick_period ? row % l->pick_period : 0;
    return l->pick_period == 0 || (phase >= l->pick_first && phase < l->pick_first + l->pick_count);
}

/* The layer's weight and bias in their own order. */
static void read_product(DcaeModel *model, const DcaeLayer *l, DcaeLayerWeights *weights)
{
    gsize inputs = l->kind == DCAE_OP_DWCONV           ? 1
                   : l->kind == DCAE_OP_GROUPED_LINEAR ? l->in_c / l->groups
                                                       : l->in_c;
    gsize floats = inputs * l->ksize * l->ksize, n = 0;
    guint64 shape[4] = {l->source_c, inputs, l->ksize, l->ksize};
    float *weight = g_new(float, l->conv_c *floats), *bias = g_new0(float, l->conv_c);
    for (guint s = 0; s < l->n_sources; s++) {
        g_autofree float *source =
            read_tensor(model, l->source[s], ".weight", shape, l->kind == DCAE_OP_LINEAR ? 2 : 4);
        g_autofree float *source_bias =
            l->bias ? read_tensor(model, l->source[s], ".bias", shape, 1) : NULL;
        for (guint row = 0; row < l->source_c; row++) {
            if (!picked(l, s * l->source_c + row))
                continue;
            g_assert_cmpuint(n, <, l->conv_c);
            memcpy(weight + n * floats, source + row * floats, floats * sizeof(float));
            bias[n++] = source_bias ? source_bias[row] : 0;
        }
    }
    g_assert_cmpuint(n, ==, l->conv_c);
    weights->weight = weight;
    weights->bias = bias;
}

/* The reference's batch norm after the product: x·a + b, of channel n. */
static void batch_norm_terms(DcaeModel *model, const DcaeLayer *l, double *a, double *b)
{
    guint64 shape = l->out_c;
    g_autofree float *weight = read_tensor(model, l->norm_name, ".weight", &shape, 1);
    g_autofree float *bias = read_tensor(model, l->norm_name, ".bias", &shape, 1);
    g_autofree float *mean = read_tensor(model, l->norm_name, ".running_mean", &shape, 1);
    g_autofree float *variance = read_tensor(model, l->norm_name, ".running_var", &shape, 1);
    for (guint n = 0; n < l->out_c; n++) {
        a[n] = weight[n] / sqrt(variance[n] + 1e-5);
        b[n] = bias[n] - mean[n] * a[n];
    }
}

/* The definition of the layer on one picture; batch norm applied to the result, not folded. */
static double *define_layer(DcaeModel *model, const Small *s, const DcaeLayer *l, const float *in)
{
    DcaeLayer plain = *l;
    DcaeLayerWeights weights = {0};
    guint64 shape = l->out_c;
    gboolean batch_norm = l->norm == DCAE_NORM_BATCH;
    g_autofree double *x = interleaved(in, s->in_c, s->in_h, s->in_w, l->in_c);
    g_autofree double *residual =
        l->residual ? interleaved(in, s->in_c, s->in_h, s->in_w, l->out_c) : NULL;
    Definition def = {.layer = &plain,
                      .weights = &weights,
                      .in_h = s->in_h,
                      .in_w = s->in_w,
                      .out_h = s->out_h,
                      .out_w = s->out_w,
                      .in = x,
                      .residual = batch_norm ? NULL : residual};
    if (l->n_sources > 0)
        read_product(model, l, &weights);
    if (l->norm == DCAE_NORM_RMS) {
        weights.norm_weight = read_tensor(model, l->norm_name, ".weight", &shape, 1);
        weights.norm_bias = read_tensor(model, l->norm_name, ".bias", &shape, 1);
    }
    (l->kind == DCAE_OP_DWCONV           ? def_dwconv
     : l->kind == DCAE_OP_GROUPED_LINEAR ? def_grouped
     : l->kind == DCAE_OP_RMSNORM        ? def_norm
                                         : def_conv)(&def);
    if (batch_norm) {
        g_autofree double *a = g_new(double, l->out_c), *b = g_new(double, l->out_c);
        batch_norm_terms(model, l, a, b);
        for (gsize i = 0; i < (gsize)s->out_h * s->out_w * l->out_c; i++)
            def.out[i] =
                def.out[i] * a[i % l->out_c] + b[i % l->out_c] + (residual ? residual[i] : 0);
    }
    g_free((gpointer)weights.weight);
    g_free((gpointer)weights.bias);
    g_free((gpointer)weights.norm_weight);
    g_free((gpointer)weights.norm_bias);
    g_free(def.scale);
    return def.out;
}

static double check_layer(DcaeModel *model, DcaeLayer *layer, const Way *way, GRand *rand)
{
    Small s;
    double worst = 0;
    small_layer(&s, layer, 6, 10);
    g_autofree float *in = random_floats(rand, BATCH * in_floats(&s));
    g_autofree float *out = run_latents(&s, model, way, in);
    for (guint i = 0; i < BATCH; i++) {
        g_autofree double *wanted = define_layer(model, &s, layer, in + i * in_floats(&s));
        double error =
            relative_error(out + i * out_floats(&s), wanted, s.out_c, (gsize)s.out_h * s.out_w);
        if (!(error <= way->max_error))
            g_error("%s on %s, %s: relative L2 error %g", layer->label, way->backend->name,
                    way->name, error);
        worst = MAX(worst, error);
    }
    check_cuts(&s, model, way, in, out);
    return worst;
}

static void test_layers(gconstpointer name)
{
    DcaeModel *model = open_model(name);
    GRand *rand = g_rand_new_with_seed(4711);
    Way ways[MAX_WAYS];
    guint n_ways = make_ways(ways);
    for (guint w = 0; w < n_ways; w++) {
        double worst[DCAE_N_OP_KINDS] = {0};
        for (DcaeDirection d = DCAE_ENCODE; d <= DCAE_DECODE; d++) {
            DcaeProgram *program = model_program(model, d, 2);
            for (guint i = 0; i < program->n_layers; i++) {
                DcaeLayer *l = &program->layers[i];
                worst[l->kind] = MAX(worst[l->kind], check_layer(model, l, &ways[w], rand));
            }
            dcae_program_free(program);
        }
        for (guint k = 0; k < DCAE_N_OP_KINDS; k++)
            if (worst[k] > 0)
                g_test_message("%s, %s, %s: relative L2 error at most %.2g", (const char *)name,
                               ways[w].name, dcae_op_kind_name(k), worst[k]);
    }
    g_rand_free(rand);
    dcae_model_unref(model);
}

/* ---- ops without weights; a model is passed because prepare() wants one */

/* k, v and q of one latent -> attention. */
static double *define_attention(const Small *s, guint heads, guint d, const float *in)
{
    gsize pixels = (gsize)s->in_h * s->in_w, n = (gsize)heads * d, all = (gsize)heads * (d + 1) * d;
    g_autofree double *kv = interleaved(in, s->in_c, s->in_h, s->in_w, (guint)(2 * n));
    g_autofree double *q = interleaved(in + 2 * n * pixels, (guint)n, s->in_h, s->in_w, (guint)n);
    g_autofree double *state = g_new0(double, all), *scale = g_new0(double, all);
    g_autofree double *scales = g_new(double, pixels *n);
    double *out = g_new(double, pixels *n);
    def_attn_sum(kv, pixels, heads, d, state, scale);
    def_attn_apply(q, pixels, heads, d, state, out, scales);
    return out;
}

static void test_attention(void)
{
    static const guint sizes[][4] = {{1, 1, 1, 1}, {3, 5, 2, 3}, {4, 8, 9, 7}, {2, 32, 12, 70}};
    DcaeModel *model = open_model("res-shuffle");
    GRand *rand = g_rand_new_with_seed(1);
    Way ways[MAX_WAYS];
    guint n_ways = make_ways(ways);
    for (guint j = 0; j < n_ways; j++) {
        for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
            Way way = ways[j];
            Small s;
            guint heads = sizes[i][0], d = sizes[i][1], h = sizes[i][2], w = sizes[i][3];
            small_begin(&s, h, w, 3 * heads * d);
            small_attention(&s, small_input(&s, 0, 0, h, w, 3 * heads * d), heads, d);
            g_autofree float *in = random_floats(rand, BATCH * in_floats(&s));
            g_autofree float *out = run_latents(&s, model, &way, in);
            for (guint n = 0; n < BATCH; n++) {
                g_autofree double *wanted = define_attention(&s, heads, d, in + n * in_floats(&s));
                g_assert_cmpfloat(relative_error(out + n * out_floats(&s), wanted, s.out_c,
                                                 (gsize)s.out_h * s.out_w),
                                  <=, way.max_error);
            }
            check_cuts(&s, model, &way, in, out);
        }
    }
    g_rand_free(rand);
    dcae_model_unref(model);
}

static void test_blend(void)
{
    const guint c = 5, h = 8, w = 9;
    DcaeModel *model = open_model("res-shuffle");
    GRand *rand = g_rand_new_with_seed(2);
    Way ways[MAX_WAYS];
    guint n_ways = make_ways(ways);
    for (guint j = 0; j < n_ways; j++) {
        Way way = ways[j];
        way.threads = 2;
        Small s;
        small_begin(&s, 20, 20, c);
        /* Each tile has an output of its own; the last one overwrites what these two write. */
        guint above = small_input(&s, 0, 0, 6, w, c);
        small_output(&s, above);
        guint left = small_input(&s, 3, 4, h, 7, c);
        small_output(&s, left);
        guint tile = small_input(&s, 10, 11, h, w, c);
        DcaeOp *op = small_op(&s, DCAE_OP_BLEND);
        op->in = op->out = tile;
        op->above = above;
        op->left = left;
        op->blend_h = 3;
        op->blend_w = 4;
        small_output(&s, tile);
        g_autofree float *in = random_floats(rand, BATCH * in_floats(&s));
        g_autofree float *out = run_latents(&s, model, &way, in);
        g_autofree double *all = interleaved(in, c, 20, 20, c);
        g_autofree double *values[3] = {g_new(double, 6 * w * c), g_new(double, h * 7 * c),
                                        g_new(double, h *w *c)};
        for (guint y = 0; y < h; y++) {
            if (y < 6)
                memcpy(values[0] + y * w * c, all + y * 20 * c, w * c * sizeof(double));
            memcpy(values[1] + y * 7 * c, all + ((4 + y) * 20 + 3) * c, 7 * c * sizeof(double));
            memcpy(values[2] + y * w * c, all + ((11 + y) * 20 + 10) * c, w * c * sizeof(double));
        }
        def_blend(&(DefBlend){.h = h,
                              .w = w,
                              .c = c,
                              .above_h = 6,
                              .left_w = 7,
                              .blend_h = 3,
                              .blend_w = 4,
                              .tile = values[2],
                              .above = values[0],
                              .left = values[1]});
        g_assert_cmpfloat(relative_error(out, values[2], c, h * w), <=, way.max_error);
        check_cuts(&s, model, &way, in, out);
        g_free(values[1]);
        g_free(values[2]);
    }
    g_rand_free(rand);
    dcae_model_unref(model);
}

/* A picture through PIXELS_IN and PIXELS_OUT comes back as it was: what lies between is checked
 * kernel by kernel in checkkernels. */
static void test_pixels(void)
{
    const guint h = 10, w = 13;
    DcaeModel *model = open_model("res-shuffle");
    Way ways[MAX_WAYS];
    guint n_ways = make_ways(ways);
    for (guint j = 0; j < n_ways; j++) {
        Way way = ways[j];
        way.threads = 2;
        guint8 in[BATCH][10 * 13 * 3], out[BATCH][10 * 13 * 3] = {{0}};
        DcaeView in_view[BATCH], out_view[BATCH];
        double ms[2] = {-1, -1};
        g_autoptr(GError) error = NULL;
        Small s;
        Run run = {0};
        small_begin(&s, 0, 0, 0);
        DcaeOp *op = small_op(&s, DCAE_OP_PIXELS_IN);
        op->frame_w = w;
        op->frame_h = h;
        guint value = op->out = small_value(&s, h, w, 3);
        op = small_op(&s, DCAE_OP_PIXELS_OUT);
        op->in = value;
        op->frame_w = op->out_w = w;
        op->frame_h = op->out_h = h;
        for (guint i = 0; i < BATCH; i++) {
            for (gsize b = 0; b < sizeof in[i]; b++)
                in[i][b] = (guint8)(b * 7 + i * 31);
            in_view[i].image = (DcaeImage){.width = w, .height = h};
            out_view[i].image = in_view[i].image;
            for (guint c = 0; c < 3; c++) {
                in_view[i].image.component[c] = (DcaeComponent){in[i] + c, 3 * w, 3};
                out_view[i].image.component[c] = (DcaeComponent){out[i] + c, 3 * w, 3};
            }
        }
        run_open(&run, &s.program, model, &way, NULL);
        run_frames(&run, in_view, out_view, ms, &error);
        g_assert_no_error(error);
        g_assert_cmpmem(in, sizeof in, out, sizeof out);
        g_assert_cmpfloat(ms[0], >=, 0);
        g_assert_cmpfloat(ms[1], >=, 0);
        run_close(&run);
    }
    dcae_model_unref(model);
}

/* ---- the rest of the contract */

static Way strongest(void)
{
    return (Way){.backend = &dcae_cpu_backend,
                 .precision = DCAE_PRECISION_F32,
                 .isa = dcae_cpu_isa(),
                 .threads = 2};
}

static void test_not_finite(void)
{
    Way way = strongest();
    DcaeModel *model = open_model("res-shuffle");
    Small s;
    Run run = {0};
    DcaeView in_view[BATCH], out_view[BATCH];
    float in[BATCH][8] = {{0}}, out[BATCH][8];
    g_autoptr(GError) error = NULL;
    small_begin(&s, 2, 2, 2);
    small_output(&s, small_input(&s, 0, 0, 2, 2, 2));
    for (guint i = 0; i < BATCH; i++) {
        in_view[i].latent = latent_view(in[i], 2, 2, 2);
        out_view[i].latent = latent_view(out[i], 2, 2, 2);
    }
    run_open(&run, &s.program, model, &way, NULL);
    in[1][5] = NAN;
    g_assert_false(run_frames(&run, in_view, out_view, NULL, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE);
    g_assert_nonnull(strstr(error->message, "frame 2"));
    g_clear_error(&error);
    /* The next batch is not stained. */
    in[1][5] = 0;
    g_assert_true(run_frames(&run, in_view, out_view, NULL, &error));
    g_assert_no_error(error);
    run_close(&run);
    dcae_model_unref(model);
}

static void test_tickets(void)
{
    Way way = strongest();
    DcaeModel *model = open_model("res-shuffle");
    Small s;
    Run run = {0};
    DcaeView in_view[BATCH], out_view[BATCH];
    float in[BATCH][8] = {{NAN}}, out[BATCH][8];
    guint64 first, second;
    g_autoptr(GError) error = NULL;
    small_begin(&s, 2, 2, 2);
    small_output(&s, small_input(&s, 0, 0, 2, 2, 2));
    for (guint i = 0; i < BATCH; i++) {
        in_view[i].latent = latent_view(in[i], 2, 2, 2);
        out_view[i].latent = latent_view(out[i], 2, 2, 2);
    }
    run_open(&run, &s.program, model, &way, NULL);
    g_assert_true(run.backend->submit(run.instance, in_view, out_view, 1, &first, &error));
    in[0][0] = 1;
    g_assert_true(run.backend->submit(run.instance, in_view, out_view, 1, &second, &error));
    g_assert_true(run.backend->wait(run.instance, second, NULL, &error));
    g_assert_false(run.backend->wait(run.instance, first, NULL, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE);
    run_close(&run);
    dcae_model_unref(model);
}

static void test_cancel(void)
{
    Way way = strongest();
    DcaeModel *model = open_model("res-shuffle");
    GCancellable *cancellable = g_cancellable_new();
    DcaeProgram *program = model_program(model, DCAE_ENCODE, 2);
    DcaeView in_view[BATCH] = {{{0}}}, out_view[BATCH] = {{{0}}};
    Run run = {0};
    g_autoptr(GError) error = NULL;
    run_open(&run, program, model, &way, cancellable);
    g_cancellable_cancel(cancellable);
    /* No view is looked at: cancelling is noticed before the first step. */
    g_assert_false(run_frames(&run, in_view, out_view, NULL, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_CANCELLED);
    g_clear_error(&error);
    g_assert_null(run.backend->prepare(model, program, &run.params, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_CANCELLED);
    run_close(&run);
    dcae_program_free(program);
    dcae_model_unref(model);
    g_object_unref(cancellable);
}

static void note_progress(const char *stage, double fraction, void *data)
{
    double *last = data;
    g_assert_cmpstr(stage, ==, "model-pack");
    g_assert_cmpfloat(fraction, >=, *last);
    *last = fraction;
}

static void test_prepare(void)
{
    DcaeModel *model = open_model("res-shuffle");
    DcaeProgram *program = model_program(model, DCAE_DECODE, 2);
    double last = 0;
    DcaeBackendParams params = {.precision = DCAE_PRECISION_F32,
                                .threads = 3,
                                .isa = dcae_cpu_isa(),
                                .progress = note_progress,
                                .progress_data = &last};
    g_autoptr(GError) error = NULL;
    DcaeWeights *weights = dcae_cpu_backend.prepare(model, program, &params, &error);
    g_assert_no_error(error);
    g_assert_cmpfloat(last, ==, 1);
    g_assert_cmpuint(dcae_cpu_backend.weights_bytes(weights), >, 0);
    dcae_cpu_backend.weights_free(weights);
    /* A layer whose tensors are not in the file. */
    g_free(program->layers[1].source[0]);
    program->layers[1].source[0] = g_strdup("decoder.nowhere");
    last = 0;
    g_assert_null(dcae_cpu_backend.prepare(model, program, &params, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_WEIGHTS);
    g_assert_nonnull(strstr(error->message, "decoder.nowhere.weight"));
    dcae_program_free(program);
    dcae_model_unref(model);
}

static void test_probe(void)
{
    static const DcaePrecision not_here[] = {DCAE_PRECISION_BF16, DCAE_PRECISION_F16};
    DcaeBackendParams params = {.precision = DCAE_PRECISION_F32, .threads = 1};
    g_autoptr(GError) error = NULL;
    g_assert_true(dcae_cpu_backend.probe(&params, &error));
    for (gsize i = 0; i < G_N_ELEMENTS(not_here); i++) {
        params.precision = not_here[i];
        g_assert_false(dcae_cpu_backend.probe(&params, &error));
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED);
        g_clear_error(&error);
    }
    params.precision = DCAE_PRECISION_BF16;
    params.isa = dcae_cpu_isa();
    g_assert_cmpint(dcae_cpu_backend.probe(&params, NULL), ==, dcae_cpu_has_bf16());
    params.isa = DCAE_ISA_AVX2;
    g_assert_false(dcae_cpu_backend.probe(&params, NULL));
}

static DcaeCpuKernels kernels_of(const Way *way)
{
    DcaeCpuKernels kernels;
    if (way->cpu_kernels)
        return *way->cpu_kernels;
    dcae_cpu_kernels_init(&kernels, way->isa, way->precision);
    return kernels;
}

static DcaeRows rows_of(const DcaeProgram *program, guint value)
{
    const DcaeValue *v = value != DCAE_NO_VALUE ? &program->values[value] : NULL;
    return v ? (DcaeRows){.h = v->h, .w = v->w, .c = v->c} : (DcaeRows){0};
}

/* Bands that the planner takes for as fast as whole frames have a task for each thread. */
static void check_free_rows(const DcaeProgram *program, const DcaeOp *op, const Way *way,
                            guint threads)
{
    const DcaeCpuKernels kernels = kernels_of(way);
    DcaeBackendParams params = {.precision = way->precision,
                                .isa = way->isa,
                                .cpu_kernels = way->cpu_kernels,
                                .threads = threads};
    DcaeCpuCall call = {.program = program,
                        .op = op,
                        .in = rows_of(program, op->in),
                        .out = rows_of(program, op->out),
                        .threads = threads};
    DcaeTraits traits;
    dcae_cpu_backend.traits(&params, &traits);
    guint align = traits.row_align(program, op, &params);
    guint rows = traits.free_rows(program, op, &params);

    call.y1 = op->out != DCAE_NO_VALUE ? call.out.h : call.in.h;
    gsize whole = kernels.kernel[op->kind].n_tasks(&call);
    g_assert_true(rows % align == 0 || rows >= call.y1);
    call.y1 = MIN(rows, call.y1);
    g_assert_cmpuint(kernels.kernel[op->kind].n_tasks(&call), >=, MIN(threads, whole));
}

static void test_free_rows(void)
{
    static const char *const names[] = {"f32-sana", "f32-in", "wide-72-conv", "wide-160"};
    static const guint threads[] = {1, 2, 3, 16, 256};
    Way ways[MAX_WAYS];
    guint n_ways = make_ways(ways);
    for (gsize n = 0; n < G_N_ELEMENTS(names); n++) {
        DcaeModel *model = open_model(names[n]);
        for (DcaeDirection d = DCAE_ENCODE; d <= DCAE_DECODE; d++) {
            DcaeProgram *program = model_program(model, d, 9);
            for (guint i = 0; i < program->n_ops; i++)
                for (gsize t = 0; t < n_ways * G_N_ELEMENTS(threads); t++)
                    check_free_rows(program, &program->ops[i], &ways[t % n_ways],
                                    threads[t / n_ways]);
            dcae_program_free(program);
        }
        dcae_model_unref(model);
    }
}

/* ---- thread pool */

typedef struct {
    gint *runs; /* of each task */
    guint threads;
} PoolCount;

static void count_task(gpointer data, gsize task, guint thread)
{
    PoolCount *count = data;
    g_assert_cmpuint(thread, <, count->threads);
    g_atomic_int_inc(&count->runs[task]);
}

static void test_pool(void)
{
    static const guint threads[] = {1, 2, 3, 16, 256};
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_autoptr(GError) error = NULL;
        DcaePool *pool = dcae_pool_new(threads[i], &error);
        g_assert_no_error(error);
        g_assert_cmpuint(dcae_pool_threads(pool), ==, threads[i]);
        for (guint round = 0; round < 300; round++) {
            gsize n = round % 3 == 0 ? round % 5 : round;
            g_autofree gint *runs = g_new0(gint, n + 1);
            PoolCount count = {.runs = runs, .threads = threads[i]};
            dcae_pool_run(pool, n, count_task, &count);
            for (gsize t = 0; t < n; t++)
                g_assert_cmpint(runs[t], ==, 1);
            if (round % 100 == 50)
                g_usleep(2000); /* long enough for the threads to fall asleep */
        }
        dcae_pool_free(pool);
    }
    dcae_pool_free(NULL);
}

int main(int argc, char **argv)
{
    static const char *const models[] = {
        "f32-sana",      "f32-in",       "batchnorm",   "activations",     "kernels-1-3-7",
        "head-12-of-40", "conv-shuffle", "two-kernels", "f32-no-shortcut", "unshuffle-interpolate"};
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(models); i++) {
        g_autofree char *path = g_strdup_printf("/ops/layers/%s", models[i]);
        g_test_add_data_func(path, models[i], test_layers);
    }
    g_test_add_func("/ops/attention", test_attention);
    g_test_add_func("/ops/blend", test_blend);
    g_test_add_func("/ops/pixels", test_pixels);
    g_test_add_func("/ops/not-finite", test_not_finite);
    g_test_add_func("/ops/tickets", test_tickets);
    g_test_add_func("/ops/cancel", test_cancel);
    g_test_add_func("/ops/prepare", test_prepare);
    g_test_add_func("/ops/probe", test_probe);
    g_test_add_func("/ops/free-rows", test_free_rows);
    g_test_add_func("/ops/pool", test_pool);
    return g_test_run();
}
