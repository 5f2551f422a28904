/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_cudaops.c - the CUDA backend against the CPU backend, op by op: every distinct layer of the
 * released models, with their channels and random weights, on a plane of a few pixels; and their
 * attention. Runs on the stand-in driver of tests/gpusim, or where DCAE_TEST_DEVICE says so on a
 * device. test_ops compares the CPU backend with the definitions.
 */
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "../cuda/cuda_launch.h"
#include "cpu/cpu_kernels.h"
#include "golden_case.h"
#include "gpusim/client.h"
#include "small_program.h"

/* Inputs and weights are numbers of bf16, which all precisions hold exactly. So in 16 bit the
 * result is rounded once, by a relative 1.7e-3 in bf16 and 2.1e-4 in f16 on average, and twice
 * where the norm is a pass of its own. What is left in f32 is the order of sums and, on the CPU,
 * Winograd's transforms: up to 5e-6 in sums of ten thousand products. A wrong tap, channel or bias
 * is more than 1e-2. */
#define MAX_ERROR_F32 6e-6
/* The same where an activation can leave a few small numbers of many. */
#define MAX_ERROR_F32_RANDOM 3e-5
#define MAX_ERROR_BF16 2.8e-3
#define MAX_ERROR_F16 3.5e-4

/* Multiply-adds of the tiles that one pixel needs, from which on an op is left out: the stand-in
 * takes a second for so many. What is left out in all precisions are ops of 1024 channels and more,
 * of which the same with half the channels is there; in f32 and f16, where less is special to a
 * layer, those of 512 channels and more with nine taps. */
#define MOST_BF16 1.3e9
#define MOST_F32 0.1e9
#define MOST_F16 0.32e9
/* Below this an op runs on a plane of more than a tile, with a ragged end; the ops without tiles
 * where they have at most so many channels. */
#define CHEAP 0.04e9
#define CHEAP_C 1024

/* ---- a model with one layer's weights */

static const char small_config[] =
    "{\"latent_channels\": 4, \"encoder_block_types\": \"ResBlock\", "
    "\"decoder_block_types\": \"ResBlock\", \"encoder_block_out_channels\": [8], "
    "\"decoder_block_out_channels\": [8], \"encoder_layers_per_block\": [1], "
    "\"decoder_layers_per_block\": [1], \"encoder_qkv_multiscales\": [[]], "
    "\"decoder_qkv_multiscales\": [[]]}";

/* A number of bf16 in (low, high): its upper 16 bits. */
static guint16 random_number(GRand *rand, double low, double high)
{
    union {
        float f;
        guint32 bits;
    } u = {.f = (float)g_rand_double_range(rand, low, high)};

    return (guint16)(u.bits >> 16);
}

typedef struct {
    GString *header;
    GByteArray *data;
    GRand *rand;
} File;

static void add_tensor(File *f, const char *name, const char *suffix, const guint *shape,
                       double low, double high)
{
    gsize n = 1, begin = f->data->len;

    g_string_append_printf(f->header, "%s\"%s%s\":{\"dtype\":\"BF16\",\"shape\":[",
                           f->header->len > 1 ? "," : "", name, suffix);
    for (guint i = 0; i < 4 && shape[i] > 0; i++) {
        g_string_append_printf(f->header, "%s%u", i > 0 ? "," : "", shape[i]);
        n *= shape[i];
    }
    g_byte_array_set_size(f->data, (guint)(begin + n * sizeof(guint16)));
    guint16 *to = (guint16 *)(gpointer)(f->data->data + begin);
    for (gsize i = 0; i < n; i++)
        to[i] = random_number(f->rand, low, high);
    g_string_append_printf(f->header, "],\"data_offsets\":[%" G_GSIZE_FORMAT ",%u]}", begin,
                           f->data->len);
}

/* Weights with the variance of 1 / inputs, so that results are about as large as inputs. */
static void add_layer(File *f, const DcaeLayer *l)
{
    gboolean linear = l->kind == DCAE_OP_LINEAR;
    guint inputs = l->kind == DCAE_OP_DWCONV           ? 1
                   : l->kind == DCAE_OP_GROUPED_LINEAR ? l->in_c / l->groups
                                                       : l->in_c;
    guint weight[4] = {l->source_c, inputs, linear ? 0 : l->ksize, linear ? 0 : l->ksize};
    guint per_channel[4] = {l->source_c}, norm[4] = {l->out_c};
    double scale = sqrt(3.0 / (inputs * l->ksize * l->ksize));

    for (guint i = 0; i < l->n_sources; i++)
        add_tensor(f, l->source[i], ".weight", weight, -scale, scale);
    if (l->bias)
        add_tensor(f, l->source[0], ".bias", per_channel, -1, 1);
    if (l->norm == DCAE_NORM_NONE)
        return;
    add_tensor(f, l->norm_name, ".weight", norm, 0.5, 1.5);
    add_tensor(f, l->norm_name, ".bias", norm, -1, 1);
    if (l->norm == DCAE_NORM_BATCH) {
        add_tensor(f, l->norm_name, ".running_mean", norm, -0.5, 0.5);
        add_tensor(f, l->norm_name, ".running_var", norm, 0.5, 2);
    }
}

/* layer: NULL for ops without weights. */
static DcaeModel *make_model(const DcaeLayer *layer, GRand *rand)
{
    static const guint conv_out[4] = {4, 8, 3, 3}, conv_in[4] = {8, 4, 3, 3};
    g_autoptr(GString) header = g_string_new("{");
    g_autoptr(GByteArray) data = g_byte_array_new();
    File f = {.header = header, .data = data, .rand = rand};
    g_autofree char *dir = g_dir_make_tmp("dcae-ops-XXXXXX", NULL);
    g_autofree char *config_path = g_build_filename(dir, "config.json", NULL);
    g_autofree char *path = g_build_filename(dir, "diffusion_pytorch_model.safetensors", NULL);
    g_autoptr(GError) error = NULL;

    add_tensor(&f, "encoder.conv_out", ".weight", conv_out, -1, 1);
    add_tensor(&f, "decoder.conv_in", ".weight", conv_in, -1, 1);
    if (layer != NULL)
        add_layer(&f, layer);
    g_string_append_c(header, '}');
    guint64 length = header->len;
    g_byte_array_prepend(data, (const guint8 *)header->str, (guint)header->len);
    g_byte_array_prepend(data, (const guint8 *)&length, sizeof length);
    g_assert_true(g_file_set_contents(config_path, small_config, -1, NULL));
    g_assert_true(g_file_set_contents(path, (const char *)data->data, data->len, NULL));
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = dir}, &error);
    g_assert_no_error(error);
    g_remove(path);
    g_remove(config_path);
    g_rmdir(dir);
    return model;
}

/* ---- programs: latent in, the op, latent out */

/* Fills a value from the latent's upper left corner. */
static void add_input(Small *s, guint value)
{
    DcaeOp *op = small_op(s, DCAE_OP_LATENT_IN);

    op->out = value;
    op->frame_w = s->in_w;
    op->frame_h = s->in_h;
}

/* A plane of four times the pixels, of which one goes into the latent, to be overwritten: beside
 * it the others are planes from deep in the network, whose residual stream bf16 keeps in two
 * parts. */
static void add_big_plane(Small *s)
{
    guint value = small_value(s, s->in_h, s->in_w, 1);

    add_input(s, value);
    small_output(s, value);
    s->ops[s->program.n_ops - 1].out_h = s->ops[s->program.n_ops - 1].out_w = 1;
}

/* A latent of four times the pixels of what the op works on. */
static void begin(Small *s, guint h, guint w, guint c)
{
    small_begin(s, 2 * h, 2 * w, c);
}

/* Channels of the values that an op reads and writes, and its first ones of them. */
typedef struct {
    guint in_c, in_c0, out_c, out_c0;
} Channels;

/* h × w is the output. */
static void make_layer(Small *s, const Channels *c, DcaeLayer *layer, guint h, guint w,
                       gboolean deep)
{
    guint up = layer->row_ratio_up, down = layer->row_ratio_down;
    guint in_h = h * down / up, in_w = w * down / up;

    begin(s, MAX(h, in_h), MAX(w, in_w), MAX(c->in_c, c->out_c));
    if (deep)
        add_big_plane(s);
    guint in = small_value(s, in_h, in_w, c->in_c), out = small_value(s, h, w, c->out_c);
    add_input(s, in);
    if (c->out_c > layer->out_c)
        add_input(s, out); /* the op writes some of the channels */
    guint residual = layer->residual ? small_value(s, h, w, layer->out_c) : DCAE_NO_VALUE;
    if (layer->residual)
        add_input(s, residual);
    DcaeOp *op = small_op(s, layer->kind);
    op->layer = layer;
    op->layer_index = 0;
    op->label = layer->label;
    op->in = in;
    op->in_c0 = c->in_c0;
    op->out = out;
    op->out_c0 = c->out_c0;
    op->residual = residual;
    s->program.layers = layer;
    s->program.n_layers = 1;
    small_output(s, out);
}

/* k, v and q of one latent -> attention. */
static void make_attention(Small *s, guint heads, guint d, guint h, guint w)
{
    begin(s, h, w, 3 * heads * d);
    guint in = small_value(s, h, w, 3 * heads * d);

    add_input(s, in);
    small_attention(s, in, heads, d);
}

/* ---- running */

typedef struct {
    const char *name;
    const DcaeBackend *backend;
    DcaePrecision precision;
    double max_error, most; /* multiply-adds of a tile */
} Way;

static const Way ways[] = {
    {"f32", &dcae_cuda_backend, DCAE_PRECISION_F32, MAX_ERROR_F32, MOST_F32},
    {"bf16", &dcae_cuda_backend, DCAE_PRECISION_BF16, MAX_ERROR_BF16, MOST_BF16},
    {"f16", &dcae_cuda_backend, DCAE_PRECISION_F16, MAX_ERROR_F16, MOST_F16},
};
static const Way cpu_way = {"cpu", &dcae_cpu_backend, DCAE_PRECISION_F32, 0, 0};

static float *random_input(GRand *rand, const Small *s)
{
    gsize n = (gsize)s->in_c * s->in_h * s->in_w;
    float *x = g_new(float, n);

    for (gsize i = 0; i < n; i++) {
        guint32 bits = (guint32)random_number(rand, -1.5, 1.5) << 16;
        memcpy(&x[i], &bits, sizeof bits);
    }
    return x;
}

static gsize out_floats(const Small *s)
{
    return (gsize)s->out_c * s->out_h * s->out_w;
}

/* error: of the run; what comes before must succeed. */
static void try_views(const Small *s, DcaeModel *model, const Way *way, const DcaeView *in,
                      const DcaeView *out, GError **run_error)
{
    const DcaeBackend *backend = way->backend;
    DcaeBackendParams params = {
        .precision = way->precision, .threads = 1, .device = -1, .isa = dcae_cpu_isa()};
    DcaeTraits traits = {0};
    g_autoptr(GError) error = NULL;
    void *instance = NULL;
    guint64 ticket;

    backend->traits(&params, &traits);
    DcaePlan *plan = dcae_plan_new(&s->program, &traits, &(DcaePlanParams){.batch = 1}, &error);
    g_assert_no_error(error);
    DcaeWeights *weights = backend->prepare(model, &s->program, &params, &error);
    g_assert_no_error(error);
    backend->open(&instance, weights, plan, &params, &error);
    g_assert_no_error(error);
    if (backend->submit(instance, in, out, 1, &ticket, run_error))
        backend->wait(instance, ticket, NULL, run_error);
    backend->close(instance);
    backend->weights_free(weights);
    dcae_plan_free(plan);
}

static void run_views(const Small *s, DcaeModel *model, const Way *way, const DcaeView *in,
                      const DcaeView *out)
{
    g_autoptr(GError) error = NULL;

    try_views(s, model, way, in, out, &error);
    g_assert_no_error(error);
}

/* The latent that the program makes of `in`, new. */
static float *run(const Small *s, DcaeModel *model, const Way *way, float *in)
{
    float *out = g_new0(float, out_floats(s));
    DcaeView in_view = {
        .latent = {.format = s->format[0], .c = s->in_c, .h = s->in_h, .w = s->in_w, .data = in}};
    DcaeView out_view = {
        .latent = {
            .format = s->format[1], .c = s->out_c, .h = s->out_h, .w = s->out_w, .data = out}};

    run_views(s, model, way, &in_view, &out_view);
    return out;
}

#define RANDOM "a random layer"

/* Largest error of the ops of a kind, for the log. */
static double worst[DCAE_N_OP_KINDS][G_N_ELEMENTS(ways)];

static void compare(const Small *s, DcaeModel *model, const char *what, DcaeOpKind kind,
                    const gboolean *wanted_ways)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(815);
    g_autofree float *in = random_input(rand, s);
    g_autofree float *wanted = run(s, model, &cpu_way, in);

    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        if (!wanted_ways[i])
            continue;
        gint64 start = g_get_monotonic_time();
        g_autofree float *got = run(s, model, &ways[i], in);
        double error = golden_error(got, wanted, out_floats(s)), most = ways[i].max_error;
        if (strcmp(what, RANDOM) == 0)
            most = MAX(most, MAX_ERROR_F32_RANDOM);
        worst[kind][i] = MAX(worst[kind][i], error);
        if (!(error <= most))
            g_test_message("%s in %s: relative L2 error %.2g", what, ways[i].name, error);
        g_assert_cmpfloat(error, <=, most);
        double seconds = (double)(g_get_monotonic_time() - start) / 1e6;
        if (seconds > 1)
            g_test_message("%s in %s: %.1f s", what, ways[i].name, seconds);
    }
    sim_check();
}

/* ---- the ops of the released models */

/* Multiply-adds of the tiles of one pixel. */
static double tile_cost(const DcaeLayer *layer, DcaePrecision precision)
{
    if (layer->kind != DCAE_OP_CONV && layer->kind != DCAE_OP_LINEAR)
        return 0;
    DcaeCudaProduct p = dcae_cuda_product(layer, precision);
    double tile_m = precision == DCAE_PRECISION_F32 ? DCAE_F32_TILE_M : DCAE_MMA_TILE_M;
    return tile_m * p.k * p.columns * p.phases;
}

/* Ops with the same text run the same way. */
static char *describe(const DcaeProgram *program, const DcaeOp *op)
{
    const DcaeLayer *l = op->layer;

    return g_strdup_printf(
        "%s %u of %u from %u -> %u -> %u of %u from %u, k%u s%u g%u%s%s%s, act %d, shuffle %d, "
        "shortcut %d, norm %d%s, rows %u, %u, %u of %u sources",
        dcae_op_kind_name(op->kind), l->in_c, program->values[op->in].c, op->in_c0, l->conv_c,
        l->out_c, program->values[op->out].c, op->out_c0, l->ksize, l->stride, l->groups,
        l->nearest2 ? ", nearest" : "", l->bias ? ", bias" : "", l->gate ? ", gate" : "", l->act,
        l->shuffle, l->shortcut, l->norm, l->residual ? ", residual" : "", l->pick_period,
        l->pick_first, l->pick_count, l->n_sources);
}

static void check_layer(const DcaeProgram *program, const DcaeOp *op, const char *what)
{
    static char *const sources[] = {"op.0", "op.1", "op.2"};
    gboolean any = FALSE, wanted[G_N_ELEMENTS(ways)];
    Channels channels = {program->values[op->in].c, op->in_c0, program->values[op->out].c,
                         op->out_c0};
    DcaeLayer layer = *op->layer;

    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        wanted[i] = tile_cost(&layer, ways[i].precision) <= ways[i].most;
        any |= wanted[i];
    }
    if (!any) {
        g_test_message("left out: %s", what);
        return;
    }
    for (guint i = 0; i < layer.n_sources; i++)
        layer.source[i] = sources[i];
    layer.norm_name = layer.norm_name != NULL ? "op.norm" : NULL;
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);
    DcaeModel *model = make_model(&layer, rand);
    gboolean cheap =
        tile_cost(&layer, DCAE_PRECISION_BF16) <= CHEAP &&
        (layer.kind == DCAE_OP_CONV || layer.kind == DCAE_OP_LINEAR || layer.conv_c <= CHEAP_C);
    /* What cuBLAS writes is never part of the residual stream, nor what makes the picture. */
    gboolean streams = (layer.kind != DCAE_OP_LINEAR || layer.norm != DCAE_NORM_NONE) &&
                       !dcae_cuda_product(&layer, DCAE_PRECISION_BF16).few;
    for (int deep = 0; deep < (cheap && streams ? 2 : 1); deep++) {
        Small s;
        make_layer(&s, &channels, &layer, cheap ? 10 : 4, cheap ? 14 : 6,
                   streams && (deep || !cheap));
        compare(&s, model, what, op->kind, wanted);
        wanted[0] = wanted[2] = FALSE; /* only bf16 knows deep planes */
    }
    dcae_model_unref(model);
}

static DcaeProgram *released_program(const DcaeConfig *config, DcaeDirection direction)
{
    guint ratio = dcae_config_ratio(config);

    return dcae_graph_build(config, direction,
                            &(DcaeGeometry){.width = ratio,
                                            .height = ratio,
                                            .latent_width = 1,
                                            .latent_height = 1,
                                            .latent_channels = config->latent_channels,
                                            .batch = 1});
}

static void report_worst(void)
{
    for (guint k = 0; k < DCAE_N_OP_KINDS; k++)
        if (worst[k][1] > 0)
            g_test_message("%s: relative L2 error at most %.2g in f32, %.2g in bf16, %.2g in f16",
                           dcae_op_kind_name(k), worst[k][0], worst[k][1], worst[k][2]);
}

/* Every distinct op of a kind. */
static void test_layers(gconstpointer data)
{
    DcaeOpKind kind = (DcaeOpKind)GPOINTER_TO_INT(data);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < 2 * dcae_config_n_released(); i++) {
        const DcaeConfig *config = dcae_config_released(dcae_config_released_name(i / 2));
        DcaeProgram *program = released_program(config, i % 2 ? DCAE_DECODE : DCAE_ENCODE);
        for (guint k = 0; k < program->n_ops; k++) {
            if (program->ops[k].kind != kind)
                continue;
            char *what = describe(program, &program->ops[k]);
            if (g_hash_table_add(seen, what))
                check_layer(program, &program->ops[k], what);
        }
        dcae_program_free(program);
    }
    g_test_message("%u different ops", g_hash_table_size(seen));
    g_assert_cmpuint(g_hash_table_size(seen), >=, 3);
    report_worst();
}

/* More pixels than a chunk of the sum has; heads of all kinds of sizes. */
static void test_attention(void)
{
    static const guint sizes[][4] = {
        {16, 32, 25, 23}, {32, 32, 3, 5}, {64, 32, 3, 5}, {1, 1, 2, 3},   {3, 5, 3, 7},
        {5, 8, 9, 7},     {2, 24, 6, 5},  {3, 40, 5, 9},  {1, 128, 7, 5}, {2, 4, 60, 60},
        {1, 3, 15, 241},  {1, 1, 11, 13}, {1, 4, 11, 13}, {4, 1, 11, 13}, {2, 2, 65, 61},
        {13, 1, 12, 12},  {7, 1, 12, 12}, {1, 33, 5, 9},  {2, 67, 4, 9},  {30, 3, 5, 9}};
    static const gboolean all[G_N_ELEMENTS(ways)] = {TRUE, TRUE, TRUE};
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    DcaeModel *model = make_model(NULL, rand);

    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        const guint *size = sizes[i];
        Small s;
        g_autofree char *what = g_strdup_printf("attention of %u heads of %u", size[0], size[1]);
        make_attention(&s, size[0], size[1], size[2], size[3]);
        compare(&s, model, what, DCAE_OP_ATTN_APPLY, all);
    }
    report_worst();
    dcae_model_unref(model);
}

/* ---- layers that no model has, for the branches that kernels have for them */

/* Rows that end within a thread's pixels, planes smaller than the kernel. */
static void test_depthwise(void)
{
    static const gboolean all[G_N_ELEMENTS(ways)] = {TRUE, TRUE, TRUE};
    static const guint cases[][3] = {{3, 5, 70}, {3, 1, 70}, {5, 5, 70}, {5, 7, 70}, {5, 1, 70},
                                     {5, 9, 70}, {7, 5, 70}, {7, 1, 70}, {5, 7, 5}};
    g_autoptr(GRand) rand = g_rand_new_with_seed(17);

    for (guint i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        const guint *size = cases[i / 2], gate = i % 2;
        DcaeLayer l = {.kind = DCAE_OP_DWCONV,
                       .in_c = size[2] * (gate + 1),
                       .conv_c = size[2] * (gate + 1),
                       .out_c = size[2],
                       .ksize = size[0],
                       .stride = 1,
                       .groups = 1,
                       .gate = gate != 0,
                       .bias = i % 3 == 0,
                       .row_ratio_up = 1,
                       .row_ratio_down = 1,
                       .above = size[0] / 2,
                       .below = size[0] / 2,
                       .n_sources = 1,
                       .source = {"op.0"},
                       .source_c = size[2] * (gate + 1),
                       .label = "depthwise"};
        Channels c = {l.in_c, 0, l.out_c, 0};
        Small s;
        make_layer(&s, &c, &l, 3, size[1], FALSE);
        DcaeModel *model = make_model(&l, rand);
        g_autofree char *what =
            g_strdup_printf("depthwise %u×%u, %u pixels wide", size[0], size[0], size[1]);
        compare(&s, model, what, DCAE_OP_DWCONV, all);
        dcae_model_unref(model);
    }
}

/* Rows that end at each of a thread's pixels, odd and even numbers of inputs a group. */
static void test_grouped(void)
{
    static const gboolean all[G_N_ELEMENTS(ways)] = {TRUE, TRUE, TRUE};
    static const guint inputs[] = {1, 2, 3, 32};
    static const guint many[] = {23, 5, 1}; /* in bf16 values of one part, of two, packed */
    g_autoptr(GRand) rand = g_rand_new_with_seed(19);

    for (guint i = 0; i < 3 * DCAE_GROUPED_PIXELS * G_N_ELEMENTS(inputs); i++) {
        guint n = inputs[i / 3 / DCAE_GROUPED_PIXELS], w = 1 + i / 3 % DCAE_GROUPED_PIXELS;
        guint groups = many[i % 3], outputs = 3 * groups;
        DcaeLayer l = {.kind = DCAE_OP_GROUPED_LINEAR,
                       .in_c = groups * n,
                       .conv_c = outputs,
                       .out_c = outputs,
                       .ksize = 1,
                       .stride = 1,
                       .groups = groups,
                       .row_ratio_up = 1,
                       .row_ratio_down = 1,
                       .n_sources = 1,
                       .source = {"op.0"},
                       .source_c = outputs,
                       .label = "grouped"};
        Channels c = {l.in_c, 0, l.out_c, 0};
        Small s;
        make_layer(&s, &c, &l, 2, w, FALSE);
        DcaeModel *model = make_model(&l, rand);
        g_autofree char *what = g_strdup_printf("%u groups of %u, %u pixels wide", groups, n, w);
        compare(&s, model, what, DCAE_OP_GROUPED_LINEAR, all);
        dcae_model_unref(model);
    }
}

#define N_RANDOM 440

static guint pick(GRand *rand, const guint *from, guint n)
{
    return from[g_rand_int_range(rand, 0, (gint)n)];
}

/* Places of a convolution's products. */
enum { PLAIN, STRIDED, NEAREST, DOWN, UP, N_PLACES };

/* Sets shortcut and input channels, in most cases, where out_c has any that fit. */
static void random_shortcut(GRand *rand, DcaeLayer *l, int place)
{
    guint n = (guint)g_rand_int_range(rand, 1, 10);

    if (place == PLAIN && g_rand_boolean(rand) && l->out_c % n == 0) {
        l->shortcut = DCAE_SHORTCUT_REPEAT;
        l->in_c = l->out_c / n;
    } else if (place == PLAIN && l->out_c * n <= 800) {
        l->shortcut = DCAE_SHORTCUT_MEAN;
        l->in_c = l->out_c * n;
        if (l->in_c > 200)
            l->kind = DCAE_OP_LINEAR;
    } else if (place == DOWN &&
               n == 9) { /* a place where no model has these; kernels don't know that */
        l->shortcut = l->out_c % 8 ? DCAE_SHORTCUT_REPEAT : DCAE_SHORTCUT_UP_REPEAT;
        l->in_c = l->out_c / (l->out_c % 8 ? 2 : 4);
    } else if (place == DOWN && n >= 6) {
        l->shortcut = DCAE_SHORTCUT_MEAN;
        l->in_c = l->out_c * (n - 5);
    } else if ((place == STRIDED || place == DOWN) && l->out_c * n % 4 == 0 &&
               l->out_c * n <= 800) {
        l->shortcut = DCAE_SHORTCUT_DOWN_MEAN;
        l->in_c = l->out_c * n / 4;
    } else if ((place == NEAREST || place == UP) && 4 * l->out_c % n == 0) {
        l->shortcut = DCAE_SHORTCUT_UP_REPEAT;
        l->in_c = 4 * l->out_c / n;
    }
}

/* A convolution whose product is one for tiles of 128 columns (size 0), long enough to be made in
 * parts (1), or one of 256 columns with a norm (2). */
static DcaeLayer random_conv(GRand *rand, guint size)
{
    static const guint in_c[] = {3, 4, 5, 8, 16, 20, 48, 64, 65, 72, 80, 96, 130},
                       out_c[] = {1, 3, 4, 5, 6, 8, 13, 20, 31, 50, 64, 66, 67, 69, 88, 103, 128},
                       long_in_c[] = {66, 80, 128, 130, 200},
                       wide_out_c[] = {129, 130, 135, 144, 200, 253, 256};
    int place = g_rand_int_range(rand, 0, size == 2 ? DOWN : N_PLACES);
    DcaeLayer l = {.kind = place == PLAIN || place >= DOWN ? DCAE_OP_LINEAR : DCAE_OP_CONV,
                   .in_c = size == 1 ? pick(rand, long_in_c, G_N_ELEMENTS(long_in_c))
                                     : pick(rand, in_c, G_N_ELEMENTS(in_c)),
                   .out_c = size == 2 ? pick(rand, wide_out_c, G_N_ELEMENTS(wide_out_c))
                                      : pick(rand, out_c, G_N_ELEMENTS(out_c)),
                   .nearest2 = place == NEAREST,
                   .shuffle = place == DOWN ? DCAE_SHUFFLE_DOWN
                              : place == UP ? DCAE_SHUFFLE_UP
                                            : DCAE_SHUFFLE_NONE,
                   .act = (DcaeAct)g_rand_int_range(rand, 0, 5),
                   .residual = g_rand_boolean(rand)};

    if (size == 1 || g_rand_boolean(rand))
        l.kind = DCAE_OP_CONV;
    if (place == DOWN)
        l.out_c = (l.out_c + 3) / 4 * 4;
    l.conv_c = place == DOWN ? l.out_c / 4 : place == UP ? 4 * l.out_c : l.out_c;
    l.stride = place == STRIDED ? 2 : 1;
    if (g_rand_int_range(rand, 0, 3) > 0)
        random_shortcut(rand, &l, place);
    l.ksize = l.kind == DCAE_OP_CONV ? 3 : 1;
    if (size == 2 || (size == 0 && g_rand_int_range(rand, 0, 4) == 0))
        l.norm = DCAE_NORM_RMS;
    return l;
}

static DcaeLayer random_depthwise(GRand *rand)
{
    static const guint c[] = {2, 3, 5, 17, 40, 64, 65, 90}, ksize[] = {1, 3, 5, 7, 9};
    DcaeLayer l = {.kind = DCAE_OP_DWCONV,
                   .out_c = pick(rand, c, G_N_ELEMENTS(c)),
                   .stride = 1,
                   .ksize = pick(rand, ksize, G_N_ELEMENTS(ksize)),
                   .gate = g_rand_boolean(rand)};

    l.in_c = l.conv_c = l.out_c * (l.gate ? 2 : 1);
    return l;
}

static DcaeLayer random_grouped(GRand *rand)
{
    static const guint groups[] = {1, 2, 3, 5, 12}, each[] = {1, 2, 3, 4, 7, 8, 19};
    guint n = pick(rand, groups, G_N_ELEMENTS(groups));
    DcaeLayer l = {.kind = DCAE_OP_GROUPED_LINEAR, .stride = 1, .ksize = 1, .groups = n};

    l.in_c = n * pick(rand, each, G_N_ELEMENTS(each));
    l.conv_c = l.out_c = n * pick(rand, each, G_N_ELEMENTS(each));
    return l;
}

static DcaeLayer random_norm(GRand *rand)
{
    static const guint c[] = {1, 4, 5, 31, 64, 70, 100, 130, 300, 514, 600, 1030, 2050};
    guint n = pick(rand, c, G_N_ELEMENTS(c));

    return (DcaeLayer){.kind = DCAE_OP_RMSNORM,
                       .in_c = n,
                       .conv_c = n,
                       .out_c = n,
                       .ksize = 1,
                       .stride = 1,
                       .norm = DCAE_NORM_RMS,
                       .act = (DcaeAct)g_rand_int_range(rand, 0, 5)};
}

static DcaeLayer random_layer(GRand *rand)
{
    int which = g_rand_int_range(rand, 0, 20);
    DcaeLayer l = which < 15    ? random_conv(rand, (guint)which / 5)
                  : which < 17  ? random_depthwise(rand)
                  : which == 17 ? random_grouped(rand)
                                : random_norm(rand);
    gboolean up = l.nearest2 || l.shuffle == DCAE_SHUFFLE_UP;
    gboolean down = l.stride == 2 || l.shuffle == DCAE_SHUFFLE_DOWN;
    guint halo = l.ksize / 2;

    l.label = "random layer";
    l.groups = MAX(l.groups, 1);
    l.bias = l.kind == DCAE_OP_CONV || l.kind == DCAE_OP_LINEAR ||
             (l.kind == DCAE_OP_DWCONV && g_rand_boolean(rand));
    l.row_ratio_up = up ? 2 : 1;
    l.row_ratio_down = down ? 2 : 1;
    l.above = halo;
    l.below = l.stride == 2 ? 0 : halo;
    if (l.kind != DCAE_OP_RMSNORM) {
        l.n_sources = 1;
        l.source[0] = "op.0";
        l.source_c = l.conv_c;
    }
    l.norm_name = l.norm != DCAE_NORM_NONE ? "op.norm" : NULL;
    return l;
}

static void test_random(void)
{
    static const gboolean all[G_N_ELEMENTS(ways)] = {TRUE, TRUE, TRUE};
    static const guint heights[] = {2, 4, 6, 10}, widths[] = {2, 4, 10, 14, 22};
    g_autoptr(GRand) rand = g_rand_new_with_seed(2024);

    for (guint i = 0; i < N_RANDOM; i++) {
        DcaeLayer layer = random_layer(rand);
        Channels c = {layer.in_c, 0, layer.out_c, 0};
        Small s;
        gboolean few = dcae_cuda_product(&layer, DCAE_PRECISION_BF16).few ||
                       dcae_cuda_product(&layer, DCAE_PRECISION_F16).few;
        /* part: of the value, which norms write by four channels. */
        gboolean part = g_rand_boolean(rand), deep = g_rand_boolean(rand);
        if (part && !few && (layer.norm == DCAE_NORM_NONE || layer.out_c % 4 == 0)) {
            c.out_c0 = 4 * (guint)g_rand_int_range(rand, 0, 3);
            c.out_c += c.out_c0 + (guint)g_rand_int_range(rand, 0, 9);
        }
        make_layer(&s, &c, &layer, pick(rand, heights, G_N_ELEMENTS(heights)),
                   pick(rand, widths, G_N_ELEMENTS(widths)), deep && !few);
        g_autofree char *text = describe(&s.program, &s.ops[s.program.n_ops - 2]);
        g_test_message("layer %u: %s", i, text);
        DcaeModel *model = make_model(&layer, rand);
        compare(&s, model, RANDOM, layer.kind, all);
        dcae_model_unref(model);
    }
    report_worst();
}

/* ---- the ends of the network, and blend */

/* Latents of each format into latents of each other, whose numbers hold in all of them. */
static void test_latents(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(3);
    DcaeModel *model = make_model(NULL, rand);

    for (guint i = 0; i < 9 * G_N_ELEMENTS(ways); i++) {
        static const guint channels[] = {3, 40, 70};
        DcaeLatentFormat formats[2] = {(DcaeLatentFormat)(i % 3), (DcaeLatentFormat)(i / 3 % 3)};
        Small s;
        begin(&s, 5, 7, channels[i % 3]);
        guint value = small_value(&s, 5, 7, channels[i % 3]);
        add_input(&s, value);
        small_output(&s, value);
        gsize n = out_floats(&s) * sizeof(float);
        g_autofree float *in = random_input(rand, &s), *wanted = NULL, *got = NULL;
        if (formats[0] != DCAE_LATENT_F32)
            for (gsize k = 0; k < (gsize)s.in_c * s.in_h * s.in_w; k++)
                ((guint16 *)in)[k] = (guint16)g_rand_int_range(rand, 0x3c00, 0x4000);
        s.format[0] = formats[0];
        s.format[1] = formats[1];
        wanted = run(&s, model, &cpu_way, in);
        got = run(&s, model, &ways[i / 9], in);
        g_assert_cmpmem(got, n, wanted, n);
    }
    sim_check();
    dcae_model_unref(model);
}

/* A latent with one number that is not finite, of each format. */
static void test_not_finite(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(6);
    DcaeModel *model = make_model(NULL, rand);

    for (guint i = 0; i < 3 * G_N_ELEMENTS(ways); i++) {
        Small s;
        begin(&s, 2, 3, 5);
        guint value = small_value(&s, 2, 3, 5);
        add_input(&s, value);
        small_output(&s, value);
        g_autofree float *in = random_input(rand, &s), *out = g_new0(float, out_floats(&s));
        DcaeView from = {.latent = {.c = s.in_c, .h = s.in_h, .w = s.in_w, .data = in}};
        DcaeView to = {.latent = {.format = (DcaeLatentFormat)(i % 3),
                                  .c = s.out_c,
                                  .h = s.out_h,
                                  .w = s.out_w,
                                  .data = out}};
        g_autoptr(GError) error = NULL;
        in[(gsize)3 * s.in_h * s.in_w] = i % 2 ? NAN : -INFINITY;
        try_views(&s, model, &ways[i / 3], &from, &to, &error);
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE);
    }
    sim_check();
    dcae_model_unref(model);
}

/* Pictures of every colour model, subsampling and arrangement of components. */
typedef struct {
    DcaeColorModel color;
    guint n, pixel_stride, w_shift, h_shift; /* components; 1: each in a plane of its own */
    gboolean full_range;
    gdouble chroma_x, chroma_y;
} PictureKind;

static const PictureKind picture_kinds[] = {
    {DCAE_COLOR_RGB, 3, 3, 0, 0, TRUE, 0, 0},      {DCAE_COLOR_RGB, 4, 4, 0, 0, TRUE, 0, 0},
    {DCAE_COLOR_RGB, 3, 1, 0, 0, TRUE, 0, 0},      {DCAE_COLOR_GRAY, 1, 1, 0, 0, TRUE, 0, 0},
    {DCAE_COLOR_GRAY, 1, 1, 0, 0, FALSE, 0, 0},    {DCAE_COLOR_YUV, 3, 1, 1, 1, FALSE, 0, 0.5},
    {DCAE_COLOR_YUV, 3, 1, 1, 1, TRUE, 0.5, 0.5},  {DCAE_COLOR_YUV, 3, 1, 1, 1, FALSE, 0.5, 0},
    {DCAE_COLOR_YUV, 3, 1, 0, 0, FALSE, 0, 0},     {DCAE_COLOR_YUV, 3, 1, 0, 0, TRUE, 0, 0},
    {DCAE_COLOR_YUV, 3, 1, 1, 0, FALSE, 0.5, 0.5}, {DCAE_COLOR_YUV, 3, 1, 0, 1, TRUE, 0.5, 0.5},
};

#define PICTURE_W 13
#define PICTURE_H 9
#define PICTURE_BYTES ((gsize)4 * 16 * 4 * PICTURE_H)

static DcaeImage picture_view(const PictureKind *kind, guint8 *memory)
{
    DcaeImage image = {.width = PICTURE_W,
                       .height = PICTURE_H,
                       .color = kind->color,
                       .chroma_w_shift = kind->w_shift,
                       .chroma_h_shift = kind->h_shift,
                       .kr = 0.2126,
                       .kb = 0.0722,
                       .full_range = kind->full_range,
                       .chroma_x = kind->chroma_x,
                       .chroma_y = kind->chroma_y};

    for (guint i = 0; i < kind->n; i++)
        image.component[i] =
            (DcaeComponent){.data = memory + i * (kind->pixel_stride == 1 ? PICTURE_BYTES / 4 : 1),
                            .row_stride = 16 * (gssize)kind->pixel_stride,
                            .pixel_stride = (gssize)kind->pixel_stride};
    return image;
}

/* A picture at one end of the network, a latent at the other; the value is larger than the picture,
 * or, when it is read, lies on its lower right part. */
static void make_picture_program(Small *s, gboolean encode, guint variant)
{
    gboolean inner = encode && variant % 2 == 1;
    guint h = inner ? 4 : PICTURE_H + 3, w = inner ? 6 : PICTURE_W + 3;

    begin(s, h, w, 3);
    guint value = small_value(s, h, w, 3);
    if (!encode)
        add_input(s, value);
    DcaeOp *op = small_op(s, encode ? DCAE_OP_PIXELS_IN : DCAE_OP_PIXELS_OUT);
    op->in = encode ? DCAE_NO_VALUE : value;
    op->out = encode ? value : DCAE_NO_VALUE;
    op->frame_x = inner ? 6 : 0;
    op->frame_y = inner ? 4 : 0;
    op->frame_w = PICTURE_W;
    op->frame_h = PICTURE_H;
    op->out_w = MIN(w, PICTURE_W - op->frame_x);
    op->out_h = MIN(h, PICTURE_H - op->frame_y);
    op->pad = variant / 2 % 2 ? DCAE_PAD_ZERO : DCAE_PAD_EXTEND;
    if (encode)
        small_output(s, value);
}

static void check_encode(const PictureKind *kind, guint variant, DcaeModel *model, GRand *rand)
{
    g_autofree guint8 *memory = g_malloc(PICTURE_BYTES);
    Small s;

    for (gsize i = 0; i < PICTURE_BYTES; i++)
        memory[i] = (guint8)g_rand_int_range(rand, 0, 256);
    make_picture_program(&s, TRUE, variant);
    gsize n = out_floats(&s);
    g_autofree float *wanted = g_new0(float, n), *got = g_new0(float, n);
    DcaeView in = {.image = picture_view(kind, memory)};
    DcaeView out = {.latent = {.c = s.out_c, .h = s.out_h, .w = s.out_w, .data = wanted}};
    run_views(&s, model, &cpu_way, &in, &out);
    out.latent.data = got;
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        run_views(&s, model, &ways[i], &in, &out);
        g_assert_cmpfloat(golden_error(got, wanted, n), <=, ways[i].max_error);
    }
}

/* A sample may be rounded to either side; bytes around the samples stay as they are. */
static void check_decode(const PictureKind *kind, guint variant, DcaeModel *model, GRand *rand)
{
    g_autofree guint8 *wanted = g_malloc(PICTURE_BYTES), *got = g_malloc(PICTURE_BYTES);
    Small s;

    make_picture_program(&s, FALSE, variant);
    g_autofree float *values = random_input(rand, &s);
    DcaeView in = {.latent = {.c = s.in_c, .h = s.in_h, .w = s.in_w, .data = values}};
    DcaeView out = {.image = picture_view(kind, wanted)};
    memset(wanted, 77, PICTURE_BYTES);
    run_views(&s, model, &cpu_way, &in, &out);
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        guint different = 0;
        memset(got, 77, PICTURE_BYTES);
        out.image = picture_view(kind, got);
        run_views(&s, model, &ways[i], &in, &out);
        for (gsize k = 0; k < PICTURE_BYTES; k++) {
            g_assert_cmpint(ABS(got[k] - wanted[k]), <=, 1);
            different += got[k] != wanted[k];
        }
        g_assert_cmpuint(different, <=, 4);
    }
}

static void test_pictures(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(5);
    DcaeModel *model = make_model(NULL, rand);

    for (guint i = 0; i < G_N_ELEMENTS(picture_kinds); i++)
        for (guint variant = 0; variant < 4; variant++) {
            check_encode(&picture_kinds[i], variant, model, rand);
            check_decode(&picture_kinds[i], variant, model, rand);
        }
    sim_check();
    dcae_model_unref(model);
}

/* Tiles that have one above, one to the left, or both. */
static void test_blend(void)
{
    static const gboolean all[G_N_ELEMENTS(ways)] = {TRUE, TRUE, TRUE};
    static const guint channels[] = {3, 5, 70, 130};
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    DcaeModel *model = make_model(NULL, rand);

    for (guint i = 0; i < 3 * G_N_ELEMENTS(channels); i++) {
        guint c = channels[i / 3];
        Small s;
        begin(&s, 10, 12, c);
        if (i % 2 == 0)
            add_big_plane(&s);
        guint above = small_value(&s, 6, 9, c), left = small_value(&s, 7, 7, c),
              tile = small_value(&s, 8, 10, c);
        add_input(&s, above);
        s.ops[s.program.n_ops - 1].frame_x = 3;
        add_input(&s, left);
        s.ops[s.program.n_ops - 1].frame_y = 2;
        add_input(&s, tile);
        DcaeOp *op = small_op(&s, DCAE_OP_BLEND);
        op->in = op->out = tile;
        op->above = i % 3 != 1 ? above : DCAE_NO_VALUE;
        op->left = i % 3 != 0 ? left : DCAE_NO_VALUE;
        op->blend_h = 3;
        op->blend_w = 4;
        small_output(&s, tile);
        compare(&s, model, "blend", DCAE_OP_BLEND, all);
    }
    dcae_model_unref(model);
}

int main(int argc, char **argv)
{
    static const DcaeOpKind kinds[] = {DCAE_OP_CONV, DCAE_OP_LINEAR, DCAE_OP_DWCONV,
                                       DCAE_OP_GROUPED_LINEAR, DCAE_OP_RMSNORM};

    g_test_init(&argc, &argv, NULL);
    if (sim_open() == SIM_NO_DRIVER) {
        g_print("1..0 # SKIP neither the stand-in driver nor a device\n");
        return 0;
    }
    if (g_getenv("GPUSIM_COVERAGE") != NULL)
        g_remove(g_getenv("GPUSIM_COVERAGE")); /* of an older run */
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/ops/%s", dcae_op_kind_name(kinds[i]));
        g_test_add_data_func(path, GINT_TO_POINTER(kinds[i]), test_layers);
    }
    g_test_add_func("/ops/attention", test_attention);
    g_test_add_func("/ops/depthwise", test_depthwise);
    g_test_add_func("/ops/grouped", test_grouped);
    g_test_add_func("/ops/random", test_random);
    g_test_add_func("/ops/latents", test_latents);
    g_test_add_func("/ops/not-finite", test_not_finite);
    g_test_add_func("/ops/pictures", test_pictures);
    g_test_add_func("/ops/blend", test_blend);
    return g_test_run();
}
