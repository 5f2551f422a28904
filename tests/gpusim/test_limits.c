/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_limits.c - launches at the limits of what a configuration and a picture may be: the tallest
 * plane, the most heads, more than kernels count. Looks at launches without the driver, and runs
 * the tallest plane on the stand-in. Knows nothing of models.
 */
#include <string.h>

#include "../../cuda/cuda_launch.h"
#include "../small_program.h"
#include "dcae_tensor.h"

#define TALLEST 65536u /* rows of the largest frame at the ratio 1 */
#define MOST_IN_GRID 65535u

static DcaePlan *make_plan(const Small *s, DcaePrecision precision)
{
    DcaeBackendParams params = {.precision = precision, .threads = 1, .device = -1};
    DcaeTraits traits = {0};
    g_autoptr(GError) error = NULL;

    dcae_cuda_backend.traits(&params, &traits);
    DcaePlan *plan = dcae_plan_new(&s->program, &traits, &(DcaePlanParams){.batch = 1}, &error);
    g_assert_no_error(error);
    return plan;
}

/* A layer of a kind, and the program that runs it on an h × w plane between latents. */
static void make_layer(Small *s, DcaeLayer *layer, DcaeOpKind kind, guint h, guint w, guint c)
{
    *layer = (DcaeLayer){.kind = kind,
                         .in_c = c,
                         .conv_c = c,
                         .out_c = c,
                         .ksize = kind == DCAE_OP_CONV || kind == DCAE_OP_DWCONV ? 3 : 1,
                         .stride = 1,
                         .groups = 1,
                         .row_ratio_up = 1,
                         .row_ratio_down = 1,
                         .label = "layer"};
    layer->above = layer->below = layer->ksize / 2;
    if (kind == DCAE_OP_RMSNORM)
        layer->norm = DCAE_NORM_RMS;
    small_begin(s, h, w, c);
    guint in = small_value(s, h, w, c), out = small_value(s, h, w, c);
    DcaeOp *op = small_op(s, DCAE_OP_LATENT_IN);
    op->out = in;
    op->frame_w = w;
    op->frame_h = h;
    op = small_op(s, kind);
    op->layer = layer;
    op->layer_index = 0;
    op->in = in;
    op->out = out;
    s->program.layers = layer;
    s->program.n_layers = 1;
    small_output(s, out);
}

static void make_attention(Small *s, guint heads, guint d, guint h, guint w)
{
    small_begin(s, h, w, 3 * heads * d);
    guint in = small_value(s, h, w, 3 * heads * d);

    small_op(s, DCAE_OP_LATENT_IN)->out = in;
    small_attention(s, in, heads, d);
}

/* Pictures to picture, and a blend between. */
static void make_pictures(Small *s, guint h, guint w)
{
    small_begin(s, h, w, 3);
    guint value = small_value(s, h, w, 3);
    DcaeOp *op = small_op(s, DCAE_OP_PIXELS_IN);

    op->out = value;
    op->frame_w = w;
    op->frame_h = h;
    op = small_op(s, DCAE_OP_BLEND);
    op->in = op->out = value;
    op = small_op(s, DCAE_OP_PIXELS_OUT);
    op->in = value;
    op->frame_w = op->out_w = w;
    op->frame_h = op->out_h = h;
}

/* First row of a launch whose grid.y is rows; -1 for other kernels. */
static gint first_row(const DcaeCudaLaunch *l)
{
    switch (l->kernel) {
    case DCAE_KERNEL_DWCONV:
        return l->args.dwconv.y0;
    case DCAE_KERNEL_GROUPED:
        return l->args.grouped.y0;
    case DCAE_KERNEL_BLEND:
        return l->args.blend.y0;
    case DCAE_KERNEL_PIXELS_IN:
    case DCAE_KERNEL_PIXELS_OUT:
        return l->args.pixels.y0;
    case DCAE_KERNEL_LATENT_IN:
    case DCAE_KERNEL_LATENT_OUT:
        return l->args.latent.y0;
    default:
        return -1;
    }
}

static void check_step(const DcaeCudaCall *call)
{
    DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES];
    guint n = dcae_cuda_launches(call, launches), rows = call->step->y0;

    g_assert_cmpuint(n, >, 0);
    for (guint i = 0; i < n; i++) {
        const guint *grid = launches[i].grid;
        for (guint k = 0; k < 3; k++) {
            g_assert_cmpuint(grid[k], >, 0);
            g_assert_cmpuint(grid[k], <=, k == 0 ? (guint)G_MAXINT : MOST_IN_GRID);
        }
        if (first_row(&launches[i]) < 0)
            continue;
        g_assert_cmpint(first_row(&launches[i]), ==, (gint)rows);
        rows += grid[1];
        if (i == n - 1)
            g_assert_cmpuint(rows, ==, call->step->y1);
    }
}

/* Every launch of a program fits a grid, and those by rows take each row once. */
static void check_launches(const Small *s)
{
    static const DcaeCudaLayer layer = {.weight = 256};
    static const DcaeKernelImage picture = {.w = 1};
    DcaeLatent latent = {.c = s->in_c, .h = s->in_h, .w = s->in_w};

    for (DcaePrecision p = DCAE_PRECISION_F32; p <= DCAE_PRECISION_F16; p++) {
        DcaePlan *plan = make_plan(s, p);
        g_autoptr(GError) error = NULL;
        DcaeCudaCall call = {.plan = plan,
                             .precision = p,
                             .arena = 256,
                             .workspace = 256,
                             .layers = &layer,
                             .images = 1,
                             .picture = &picture,
                             .latent = &latent};

        dcae_cuda_check_plan(plan, p, &error);
        g_assert_no_error(error);
        for (guint i = 0; i < plan->n_steps; i++) {
            call.step = &plan->steps[i];
            if (call.step->kind == DCAE_STEP_RUN)
                check_step(&call);
        }
        dcae_plan_free(plan);
    }
}

static void test_tallest(void)
{
    static const DcaeOpKind kinds[] = {DCAE_OP_CONV, DCAE_OP_LINEAR, DCAE_OP_DWCONV,
                                       DCAE_OP_GROUPED_LINEAR, DCAE_OP_RMSNORM};
    Small s;

    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++) {
        DcaeLayer layer;
        make_layer(&s, &layer, kinds[i], TALLEST, 1, 5);
        check_launches(&s);
        make_layer(&s, &layer, kinds[i], TALLEST, 900, 300);
        check_launches(&s);
    }
    make_pictures(&s, TALLEST, 3);
    check_launches(&s);
    make_attention(&s, 3, 2, TALLEST, 900); /* chunks of one row */
    check_launches(&s);
}

/* attention_head_dim 1 in the widest stage: a head for each channel of each scale. */
static void test_most_heads(void)
{
    Small s;

    make_attention(&s, 9 * 65536, 1, 33, 17);
    check_launches(&s);
    make_attention(&s, 70000, DCAE_ATTN_TILE + 1, 2, 3);
    check_launches(&s);
}

static void expect_too_large(const Small *s)
{
    DcaePlan *plan = make_plan(s, DCAE_PRECISION_BF16);
    g_autoptr(GError) error = NULL;

    g_assert_false(dcae_cuda_check_plan(plan, DCAE_PRECISION_BF16, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "more than a CUDA kernel counts"));
    dcae_plan_free(plan);
}

/* Pixels, a row, blocks. */
static void test_too_large(void)
{
    DcaeLayer layer;
    Small s;

    make_layer(&s, &layer, DCAE_OP_CONV, TALLEST, TALLEST, 4);
    expect_too_large(&s);
    make_layer(&s, &layer, DCAE_OP_RMSNORM, 1, TALLEST, 20000);
    expect_too_large(&s);
    make_layer(&s, &layer, DCAE_OP_LINEAR, 8192, 8192, 1024);
    expect_too_large(&s);
    make_attention(&s, 60000, 1, 1000, 1000);
    expect_too_large(&s);
}

/* Products of the largest frame are more than 32 bits count. */
static void test_largest_unshuffle(void)
{
    DcaeLayer layer;
    Small s;

    make_layer(&s, &layer, DCAE_OP_CONV, 32768, 32768, 128);
    layer.shuffle = DCAE_SHUFFLE_DOWN;
    layer.conv_c = 32;
    g_assert_cmpuint(dcae_cuda_splits(&s.program, &s.ops[1], DCAE_PRECISION_BF16), ==, 1);
    g_assert_cmpuint(dcae_cuda_split_workspace(&s.program, &s.ops[1], DCAE_PRECISION_BF16, 2), ==,
                     0);
}

/* Latent in, latent out: every row arrives. */
static void test_run_tallest(void)
{
    const DcaeBackend *backend = &dcae_cuda_backend;
    DcaeBackendParams params = {.precision = DCAE_PRECISION_F32, .threads = 1, .device = -1};
    g_autofree float *in = g_new(float, TALLEST), *out = g_new0(float, TALLEST);
    g_autoptr(GError) error = NULL;
    void *instance = NULL;
    guint64 ticket;
    Small s;

    small_begin(&s, TALLEST, 1, 1);
    guint value = small_value(&s, TALLEST, 1, 1);
    DcaeOp *op = small_op(&s, DCAE_OP_LATENT_IN);
    op->out = value;
    op->frame_w = 1;
    op->frame_h = TALLEST;
    small_output(&s, value);
    for (guint i = 0; i < TALLEST; i++)
        in[i] = (float)i;
    DcaeView from = {.latent = {.c = 1, .h = TALLEST, .w = 1, .data = in}};
    DcaeView to = {.latent = {.c = 1, .h = TALLEST, .w = 1, .data = out}};
    DcaePlan *plan = make_plan(&s, DCAE_PRECISION_F32);
    DcaeWeights *weights = backend->prepare(NULL, &s.program, &params, &error);
    g_assert_no_error(error);
    backend->open(&instance, weights, plan, &params, &error);
    g_assert_no_error(error);
    if (backend->submit(instance, &from, &to, 1, &ticket, &error))
        backend->wait(instance, ticket, NULL, &error);
    g_assert_no_error(error);
    g_assert_cmpmem(in, TALLEST * sizeof *in, out, TALLEST * sizeof *out);
    backend->close(instance);
    backend->weights_free(weights);
    dcae_plan_free(plan);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/limits/tallest", test_tallest);
    g_test_add_func("/limits/most-heads", test_most_heads);
    g_test_add_func("/limits/too-large", test_too_large);
    g_test_add_func("/limits/largest-unshuffle", test_largest_unshuffle);
    g_test_add_func("/limits/run-tallest", test_run_tallest);
    return g_test_run();
}
