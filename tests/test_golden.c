/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_golden.c - the network against the reference: every case of tests/golden/cases.txt holds a
 * small random model with the reference's latents and pictures (golden/generate.py made them). Each
 * is run through the public codec, and through program, plan and backend directly for what the
 * codec can't show: unrounded pictures, forced bands, every instruction set.
 */
#include "dcae_backend.h"
#include "dcae_tiling.h"
#include "golden_case.h"

#include "cpu/cpu_kernels.h"

static DcaeImage rgb_image(guint8 *pixels, guint w, guint h)
{
    DcaeImage image = {.width = w, .height = h, .color = DCAE_COLOR_RGB};

    for (guint i = 0; i < 3; i++)
        image.component[i] =
            (DcaeComponent){.data = pixels + i, .row_stride = 3 * (gssize)w, .pixel_stride = 3};
    return image;
}

static gsize latent_floats(const GoldenCase *c)
{
    return (gsize)c->latent_c * c->latent_h * c->latent_w;
}

/* Arrays of `frames` views into one block of memory. */
static DcaeImage *image_views(guint8 *pixels, guint frames, guint w, guint h)
{
    DcaeImage *views = g_new0(DcaeImage, frames);

    for (guint i = 0; i < frames; i++)
        views[i] = rgb_image(pixels + (gsize)i * w * h * 3, w, h);
    return views;
}

static DcaeLatent *latent_views(float *data, guint frames, guint c, guint h, guint w)
{
    DcaeLatent *views = g_new0(DcaeLatent, frames);

    for (guint i = 0; i < frames; i++)
        views[i] = (DcaeLatent){
            .format = DCAE_LATENT_F32, .c = c, .h = h, .w = w, .data = data + (gsize)i * c * h * w};
    return views;
}

/* ---- through the public codec ---- */

static void run_codec(const GoldenCase *c, DcaeDirection direction, const DcaeImage *images,
                      const DcaeLatent *latents)
{
    const DcaeGeometry *g = direction == DCAE_ENCODE ? &c->encode : &c->decode;
    g_autoptr(GError) error = NULL;
    DcaeCodec *codec = dcae_codec_new(
        &(DcaeCodecParams){.model = c->model, .direction = direction, .backend = DCAE_BACKEND_CPU},
        &error);

    g_assert_no_error(error);
    dcae_codec_configure(codec, g, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < c->frames; i += g->batch) {
        dcae_codec_run(codec, images + i, latents + i, MIN(g->batch, c->frames - i), &error);
        g_assert_no_error(error);
    }
    dcae_codec_free(codec);
}

static void check_codec_encode(GoldenCase *c)
{
    g_autofree float *out = g_new0(float, c->frames *latent_floats(c));
    g_autofree DcaeImage *images =
        image_views(c->pixels, c->frames, c->encode.width, c->encode.height);
    g_autofree DcaeLatent *latents =
        latent_views(out, c->frames, c->latent_c, c->latent_h, c->latent_w);

    run_codec(c, DCAE_ENCODE, images, latents);
    double error = golden_error(out, c->latents, c->frames * latent_floats(c));
    g_test_message("%s: encode relative L2 error %.2e", c->name, error);
    g_assert_cmpfloat(error, <=, GOLDEN_MAX_ERROR);
}

static void check_codec_decode(GoldenCase *c)
{
    gsize plane = (gsize)c->decoded_w * c->decoded_h;
    g_autofree guint8 *out = g_new0(guint8, c->frames * plane * 3);
    g_autofree DcaeImage *images = image_views(out, c->frames, c->decoded_w, c->decoded_h);
    g_autofree DcaeLatent *latents = latent_views(c->latents_in, c->frames, c->latent_c,
                                                  c->decode.latent_height, c->decode.latent_width);

    run_codec(c, DCAE_DECODE, images, latents);
    golden_check_pixels(c, out, 3 * (gsize)c->decoded_w);
}

/* ---- through program, plan and backend ---- */

typedef struct {
    DcaeIsa isa;
    guint threads;
    guint band_rows; /* 0: whole frames */
} Way;

typedef struct {
    float *data;
    gsize n;
    guint bands;
} Result;

/* Decode: the last op of each tile is turned into LATENT_OUT, which writes the picture's unrounded
 * values, planar. */
static DcaeProgram *build_program(const GoldenCase *c, DcaeDirection direction, guint *batch)
{
    const DcaeModelInfo *info = dcae_model_info(c->model);
    DcaeGeometry g;
    g_autoptr(GError) error = NULL;

    dcae_tiling_resolve(direction, info->ratio, info->latent_channels, info->channel_prefix,
                        direction == DCAE_ENCODE ? &c->encode : &c->decode, &g, &error);
    g_assert_no_error(error);
    *batch = g.batch;
    DcaeProgram *program = dcae_graph_build(dcae_model_config(c->model), direction, &g);
    for (guint i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == DCAE_OP_PIXELS_OUT)
            program->ops[i].kind = DCAE_OP_LATENT_OUT;
    return program;
}

static void run_frames(const GoldenCase *c, DcaeDirection direction, void *instance, guint batch,
                       float *out)
{
    gboolean encode = direction == DCAE_ENCODE;
    guint oc = encode ? c->latent_c : 3, oh = encode ? c->latent_h : c->decoded_h,
          ow = encode ? c->latent_w : c->decoded_w;
    g_autofree DcaeImage *images =
        image_views(c->pixels, c->frames, c->encode.width, c->encode.height);
    g_autofree DcaeLatent *latents = latent_views(c->latents_in, c->frames, c->latent_c,
                                                  c->decode.latent_height, c->decode.latent_width);
    g_autofree DcaeLatent *outs = latent_views(out, c->frames, oc, oh, ow);
    g_autofree DcaeView *in_views = g_new0(DcaeView, c->frames),
                        *out_views = g_new0(DcaeView, c->frames);
    g_autoptr(GError) error = NULL;
    guint64 ticket;

    for (guint i = 0; i < c->frames; i++) {
        if (encode)
            in_views[i].image = images[i];
        else
            in_views[i].latent = latents[i];
        out_views[i].latent = outs[i];
    }
    for (guint i = 0; i < c->frames; i += batch) {
        dcae_cpu_backend.submit(instance, in_views + i, out_views + i, MIN(batch, c->frames - i),
                                &ticket, &error);
        g_assert_no_error(error);
        dcae_cpu_backend.wait(instance, ticket, NULL, &error);
        g_assert_no_error(error);
    }
}

static Result run_way(const GoldenCase *c, DcaeDirection direction, const Way *way)
{
    const DcaeBackend *backend = &dcae_cpu_backend;
    DcaeBackendParams params = {
        .precision = DCAE_PRECISION_F32, .threads = way->threads, .isa = way->isa};
    DcaeTraits traits = {0};
    g_autoptr(GError) error = NULL;
    void *instance = NULL;
    guint batch;
    DcaeProgram *program = build_program(c, direction, &batch);

    backend->traits(&params, &traits);
    DcaePlanParams plan_params = {.exact = way->band_rows > 0,
                                  .band_rows = way->band_rows,
                                  .tight = way->band_rows == 3,
                                  .batch = batch};
    DcaePlan *plan = dcae_plan_new(program, &traits, &plan_params, &error);
    g_assert_no_error(error);
    DcaeWeights *weights = backend->prepare(c->model, program, &params, &error);
    g_assert_no_error(error);
    backend->open(&instance, weights, plan, &params, &error);
    g_assert_no_error(error);

    Result result = {.bands = plan->bands};
    result.n = c->frames * (direction == DCAE_ENCODE ? latent_floats(c)
                                                     : (gsize)3 * c->decoded_h * c->decoded_w);
    result.data = g_new0(float, result.n);
    run_frames(c, direction, instance, batch, result.data);
    backend->close(instance);
    backend->weights_free(weights);
    dcae_plan_free(plan);
    dcae_program_free(program);
    return result;
}

/* Every instruction set: within the bound of the reference. Bands of any height and any number of
 * threads: the same bits as whole frames on one thread. */
static void check_ways(GoldenCase *c, DcaeDirection direction)
{
    static const Way others[] = {{.threads = 3},
                                 {.threads = 2, .band_rows = 1},
                                 {.threads = 1, .band_rows = 3},
                                 {.threads = 5, .band_rows = 6}};
    const float *wanted = direction == DCAE_ENCODE ? c->latents : c->decoded;
    gboolean blend = c->encode.tiling.mode == DCAE_TILING_BLEND;

    for (DcaeIsa isa = DCAE_ISA_GENERIC; isa <= dcae_cpu_isa(); isa++) {
        Result whole = run_way(c, direction, &(Way){.isa = isa, .threads = 1});
        double error = golden_error(whole.data, wanted, whole.n);
        g_test_message("%s: %s, instruction set %d: relative L2 error %.2e", c->name,
                       direction == DCAE_ENCODE ? "encode" : "decode", isa, error);
        g_assert_cmpfloat(error, <=, GOLDEN_MAX_ERROR);
        for (guint i = 0; i < (blend ? 1 : G_N_ELEMENTS(others)); i++) {
            Way way = others[i];
            way.isa = isa;
            Result other = run_way(c, direction, &way);
            /* The last segment alone is counted in picture rows on decode, so a one-row limit must
             * cut it. */
            if (way.band_rows == 1 && direction == DCAE_DECODE && c->decoded_h >= 32)
                g_assert_cmpuint(other.bands, >, 1);
            g_assert_cmpmem(other.data, other.n * sizeof(float), whole.data,
                            whole.n * sizeof(float));
            g_free(other.data);
        }
        g_free(whole.data);
    }
}

static void test_case(gconstpointer name)
{
    GoldenCase *c = golden_load(name);

    check_codec_encode(c);
    check_codec_decode(c);
    check_ways(c, DCAE_ENCODE);
    check_ways(c, DCAE_DECODE);
    golden_free(c);
}

int main(int argc, char **argv)
{
    g_auto(GStrv) names = golden_names();

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("/golden/%s", names[i]);
        g_test_add_data_func(path, names[i], test_case);
    }
    return g_test_run();
}
