/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_run.c - see golden_run.h.
 */
#include "golden_run.h"

#include "dcae_tiling.h"

static DcaeImage rgb_image(guint8 *pixels, guint w, guint h)
{
    DcaeImage image = {.width = w, .height = h, .color = DCAE_COLOR_RGB};

    for (guint i = 0; i < 3; i++)
        image.component[i] =
            (DcaeComponent){.data = pixels + i, .row_stride = 3 * (gssize)w, .pixel_stride = 3};
    return image;
}

gsize golden_latent_floats(const GoldenCase *c)
{
    return (gsize)c->latent_c * c->latent_h * c->latent_w;
}

DcaeImage *golden_image_views(guint8 *pixels, guint frames, guint w, guint h)
{
    DcaeImage *views = g_new0(DcaeImage, frames);

    for (guint i = 0; i < frames; i++)
        views[i] = rgb_image(pixels + (gsize)i * w * h * 3, w, h);
    return views;
}

DcaeLatent *golden_latent_views(float *data, guint frames, guint c, guint h, guint w)
{
    DcaeLatent *views = g_new0(DcaeLatent, frames);

    for (guint i = 0; i < frames; i++)
        views[i] = (DcaeLatent){
            .format = DCAE_LATENT_F32, .c = c, .h = h, .w = w, .data = data + (gsize)i * c * h * w};
    return views;
}

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

static void run_frames(const GoldenCase *c, DcaeDirection direction, const DcaeBackend *backend,
                       void *instance, guint batch, float *out)
{
    gboolean encode = direction == DCAE_ENCODE;
    guint oc = encode ? c->latent_c : 3, oh = encode ? c->latent_h : c->decoded_h,
          ow = encode ? c->latent_w : c->decoded_w;
    g_autofree DcaeImage *images =
        golden_image_views(c->pixels, c->frames, c->encode.width, c->encode.height);
    g_autofree DcaeLatent *latents = golden_latent_views(
        c->latents_in, c->frames, c->latent_c, c->decode.latent_height, c->decode.latent_width);
    g_autofree DcaeLatent *outs = golden_latent_views(out, c->frames, oc, oh, ow);
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
        backend->submit(instance, in_views + i, out_views + i, MIN(batch, c->frames - i), &ticket,
                        &error);
        g_assert_no_error(error);
        backend->wait(instance, ticket, NULL, &error);
        g_assert_no_error(error);
    }
}

GoldenResult golden_run(const GoldenCase *c, DcaeDirection direction, const GoldenWay *way)
{
    const DcaeBackend *backend = way->backend;
    DcaeBackendParams params = {.precision = way->precision,
                                .threads = way->threads,
                                .isa = way->isa,
                                .cpu_kernels = way->cpu_kernels,
                                .device = -1};
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

    GoldenResult result = {.bands = plan->bands};
    result.n = c->frames * (direction == DCAE_ENCODE ? golden_latent_floats(c)
                                                     : (gsize)3 * c->decoded_h * c->decoded_w);
    result.data = g_new0(float, result.n);
    run_frames(c, direction, backend, instance, batch, result.data);
    backend->close(instance);
    backend->weights_free(weights);
    dcae_plan_free(plan);
    dcae_program_free(program);
    return result;
}
