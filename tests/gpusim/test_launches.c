/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_launches.c - the arithmetic and the bytes that launches.c states, which the roofline tables
 * are made of, against what the stand-in counts when it runs the same launch.
 */
#include <dlfcn.h>
#include <math.h>

#include "../../cuda/cuda_gemm.h"
#include "../../cuda/cuda_staging.h"
#include "../../cuda/cuda_weights.h"
#include "../golden_case.h"
#include "dcae_tiling.h"
#include "gpusim.h"
#include "launches.h"

/* Sectors at the ends of arrays, and arithmetic of epilogues on plain units. */
#define BYTES_SLACK 0.04
#define BYTES_FLOOR 2048.0
#define FLOP_SLACK 0.25
#define FLOP_FLOOR 2e4

static struct {
    void (*reset)(void);
    void (*counters)(GpusimCounters *out);
    unsigned (*report_count)(void);
    const char *(*report_text)(unsigned index);
} sim;

static gboolean open_sim(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);

    if (library == NULL)
        return FALSE;
    *(void **)&sim.reset = dlsym(library, "gpusim_reset");
    *(void **)&sim.counters = dlsym(library, "gpusim_counters");
    *(void **)&sim.report_count = dlsym(library, "gpusim_report_count");
    *(void **)&sim.report_text = dlsym(library, "gpusim_report_text");
    return sim.reset != NULL && sim.counters != NULL;
}

/* ---- a frame, run launch by launch */

typedef struct {
    DcaeProgram *program;
    DcaePlan *plan;
    DcaeWeights *weights;
    const DcaeCudaDriver *cu;
    DcaePrecision precision;
    CUdeviceptr arena, workspace, frame, latent;
    CUstream stream;
    DcaeCudaGemm *gemm;
} Run;

static CUdeviceptr zeros(Run *r, gsize bytes)
{
    CUdeviceptr memory;

    g_assert_cmpint(r->cu->cuMemAlloc_v2(&memory, MAX(bytes, 256)), ==, 0);
    g_assert_cmpint(r->cu->cuMemsetD8Async(memory, 0, MAX(bytes, 256), r->stream), ==, 0);
    return memory;
}

static void run_open(Run *r, const GoldenCase *c, DcaeDirection direction, DcaePrecision precision,
                     guint band_rows)
{
    const DcaeModelInfo *info = dcae_model_info(c->model);
    DcaeBackendParams params = {.precision = precision, .threads = 1, .device = -1};
    g_autoptr(GError) error = NULL;
    DcaeGeometry g;
    DcaeTraits traits;

    *r = (Run){.precision = precision};
    dcae_tiling_resolve(direction, info->ratio, info->latent_channels, info->channel_prefix,
                        direction == DCAE_ENCODE ? &c->encode : &c->decode, &g, &error);
    g_assert_no_error(error);
    g.batch = 1;
    r->program = dcae_graph_build(dcae_model_config(c->model), direction, &g);
    dcae_cuda_backend.traits(&params, &traits);
    r->plan = dcae_plan_new(r->program, &traits,
                            &(DcaePlanParams){.batch = 1, .band_rows = band_rows}, &error);
    g_assert_no_error(error);
    r->weights = dcae_cuda_backend.prepare(c->model, r->program, &params, &error);
    g_assert_no_error(error);
    g_assert_true(dcae_cuda_enter(&r->weights->context, &error));
    r->cu = r->weights->context.cu;
    g_assert_cmpint(r->cu->cuStreamCreate(&r->stream, CU_STREAM_NON_BLOCKING), ==, 0);
    r->arena = zeros(r, r->plan->arena_bytes);
    r->workspace = zeros(r, MAX(r->plan->workspace_bytes, DCAE_CUDA_GEMM_WORKSPACE));
    r->frame = zeros(r, (gsize)4 * g.width * g.height);
    r->latent =
        zeros(r, (gsize)4 * r->program->latent_c * r->program->latent_h * r->program->latent_w);
    r->gemm = dcae_cuda_gemm_new(r->stream, r->workspace, &error);
    g_assert_no_error(error);
}

static void run_close(Run *r)
{
    dcae_cuda_gemm_free(r->gemm);
    r->cu->cuMemFree_v2(r->arena);
    r->cu->cuMemFree_v2(r->workspace);
    r->cu->cuMemFree_v2(r->frame);
    r->cu->cuMemFree_v2(r->latent);
    r->cu->cuStreamDestroy_v2(r->stream);
    dcae_cuda_leave(&r->weights->context);
    dcae_cuda_backend.weights_free(r->weights);
    dcae_plan_free(r->plan);
    dcae_program_free(r->program);
}

/* The step's own launches, with real addresses; their order is that of launches.c. */
static guint real_launches(const Run *r, guint step, DcaeCudaLaunch *launches)
{
    const DcaeOp *op = &r->program->ops[r->plan->steps[step].op];
    static guint8 pixel[3]; /* stands for the host's picture, which lies in r->frame */
    const gssize stride = 3 * (gssize)r->program->picture_w;
    const DcaeImage image = {
        .width = r->program->picture_w,
        .height = r->program->picture_h,
        .component = {{pixel, stride, 3}, {pixel + 1, stride, 3}, {pixel + 2, stride, 3}}};
    const DcaeLatent latent = {
        .c = r->program->latent_c, .h = r->program->latent_h, .w = r->program->latent_w};
    DcaeKernelImage picture;
    DcaeCudaCall call = {
        .plan = r->plan,
        .step = &r->plan->steps[step],
        .precision = r->precision,
        .arena = r->arena,
        .workspace = r->workspace,
        .layers = r->weights->layers,
        .images = 1,
        .picture = &picture,
        .latent = &latent,
        .latent_data = r->latent,
        .not_finite = r->workspace,
    };

    dcae_cuda_picture(&image, op->kind == DCAE_OP_PIXELS_IN, r->frame, &picture);
    return dcae_cuda_launches(&call, launches);
}

static void execute(Run *r, const Launch *l)
{
    DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES];
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(l->index, <, real_launches(r, l->step, launches));
    DcaeCudaLaunch *real = &launches[l->index];
    if (l->blas) {
        dcae_cuda_gemm_run(r->gemm, &real->args.conv, r->precision, 1, &error);
        g_assert_no_error(error);
    } else {
        void *arguments[] = {&real->args};
        g_assert_cmpint(real->kernel, ==, l->launch.kernel);
        g_assert_cmpint(r->cu->cuLaunchKernel(r->weights->context.kernel[real->kernel],
                                              real->grid[0], real->grid[1], real->grid[2],
                                              real->threads, 1, 1, real->shared, r->stream,
                                              arguments, NULL),
                        ==, 0);
    }
    g_assert_cmpint(r->cu->cuStreamSynchronize(r->stream), ==, 0);
}

/* ---- comparison */

static gboolean is_near(double got, double stated, double slack, double floor)
{
    return fabs(got - stated) <= MAX(slack * stated, floor);
}

static gboolean is_product(const Launch *l)
{
    return l->launch.kernel == DCAE_KERNEL_CONV || l->launch.kernel == DCAE_KERNEL_CONV_WIDE ||
           l->launch.kernel == DCAE_KERNEL_CONV_ADD;
}

/* Returns FALSE, and says so, where a launch does something else than was stated. */
static gboolean compare(const Launch *l, const GpusimCounters *c)
{
    double in = (double)c->global_bytes_in, out = (double)c->global_bytes_out,
           flop = (double)c->flops;
    gboolean ok;

    if (l->blas)
        ok = is_near((double)c->blas_multiply_adds, l->multiply_adds, 0, 0);
    else
        ok = is_near((double)c->mma_multiply_adds, l->multiply_adds, 0, 0) &&
             is_near(in, l->bytes_in, BYTES_SLACK, BYTES_FLOOR) &&
             is_near(out, l->bytes_out, BYTES_SLACK, BYTES_FLOOR) &&
             (l->flop == 0 || is_near(flop, l->flop, FLOP_SLACK, is_product(l) ? 1e6 : FLOP_FLOOR));
    if (!ok)
        g_test_message(
            "%s, %s: stated %.0f multiply-adds, %.0f operations, %.0f bytes in, %.0f out; "
            "counted %.0f, %.0f, %.0f, %.0f",
            l->op->label, l->name, l->multiply_adds, l->flop, l->bytes_in, l->bytes_out,
            (double)(c->mma_multiply_adds + c->blas_multiply_adds), flop, in, out);
    return ok;
}

typedef struct {
    const char *name;
    DcaeDirection direction;
    DcaePrecision precision;
    guint band_rows;
} Case;

static const Case cases[] = {
    {"f32-sana", DCAE_ENCODE, DCAE_PRECISION_BF16, 0},
    {"f32-sana", DCAE_DECODE, DCAE_PRECISION_F16, 0},
    {"f32-sana", DCAE_DECODE, DCAE_PRECISION_F32, 0},
    {"res-shuffle", DCAE_ENCODE, DCAE_PRECISION_BF16, 0},
    {"res-shuffle", DCAE_DECODE, DCAE_PRECISION_BF16, 3},
    {"unshuffle-interpolate", DCAE_DECODE, DCAE_PRECISION_F16, 0},
    {"unshuffle-interpolate", DCAE_ENCODE, DCAE_PRECISION_F32, 0},
    {"wide-160", DCAE_ENCODE, DCAE_PRECISION_BF16, 0},
};

static void test_case(gconstpointer data)
{
    const Case *t = data;
    GoldenCase *c = golden_load(t->name);
    guint wrong = 0, findings = 0, last_step = G_MAXUINT;
    GpusimCounters counters;
    Run r;

    run_open(&r, c, t->direction, t->precision, t->band_rows);
    g_assert_cmpuint(launches_weight_bytes(r.program, t->precision), ==,
                     dcae_cuda_backend.weights_bytes(r.weights));
    g_autoptr(GArray) all = launches_of_plan(r.plan, t->precision);
    g_assert_cmpint(r.cu->cuStreamSynchronize(r.stream), ==, 0);
    for (guint i = 0; i < all->len; i++) {
        const Launch *l = &g_array_index(all, Launch, i);
        if (l->op == NULL)
            continue;
        if (l->blas && l->step == last_step)
            continue;
        last_step = l->step;
        sim.reset();
        execute(&r, l);
        sim.counters(&counters);
        wrong += !compare(l, &counters);
        if (sim.report_count() > 0)
            g_test_message("%s", sim.report_text(0));
        findings += sim.report_count();
    }
    g_test_message("%u launches, %u with other numbers than stated", all->len, wrong);
    g_assert_cmpuint(wrong, ==, 0);
    g_assert_cmpuint(findings, ==, 0);
    run_close(&r);
    golden_free(c);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!open_sim()) {
        g_printerr("the stand-in driver is not in LD_LIBRARY_PATH\n");
        return 77;
    }
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        static const char *const precisions[] = {"auto", "f32", "bf16", "f16"};
        g_autofree char *path =
            g_strdup_printf("/launches/%s/%s/%s%s", cases[i].name, precisions[cases[i].precision],
                            cases[i].direction == DCAE_ENCODE ? "encode" : "decode",
                            cases[i].band_rows > 0 ? "-bands" : "");
        g_test_add_data_func(path, &cases[i], test_case);
    }
    return g_test_run();
}
