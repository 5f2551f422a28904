/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_case.c - see golden_case.h.
 */
#include <math.h>
#include <string.h>

#include "golden_case.h"

#include "dcae_tiling.h"

static char *data_path(const char *name, const char *file)
{
    return g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", name, file, NULL);
}

/* Copies a tensor out of a safetensors file that is wholly in memory. */
static void *take_tensor(const DcaeSafetensorsHeader *header, const guint8 *data, const char *name,
                         guint64 shape[4])
{
    const DcaeTensor *t = dcae_safetensors_header_find(header, name);

    g_assert_nonnull(t);
    g_assert_cmpuint(t->rank, ==, 4);
    memcpy(shape, t->shape, 4 * sizeof *shape);
    return g_memdup2(data + t->begin, t->end - t->begin);
}

static guint number(const DcaeSafetensorsHeader *header, const char *key)
{
    const char *text = dcae_safetensors_header_metadata(header, key);
    g_assert_nonnull(text);
    return (guint)g_ascii_strtoull(text, NULL, 10);
}

static gboolean is(const DcaeSafetensorsHeader *header, const char *key, const char *value)
{
    return g_strcmp0(dcae_safetensors_header_metadata(header, key), value) == 0;
}

static void open_model(GoldenCase *c, const DcaeSafetensorsHeader *header)
{
    g_autofree char *path = data_path(c->name, dcae_safetensors_header_metadata(header, "model"));
    const char *config = dcae_safetensors_header_metadata(header, "config");
    g_autofree char *config_path = *config != '\0' ? data_path(c->name, config) : NULL;
    g_autoptr(GError) error = NULL;
    DcaeModelParams params = {
        .path = path,
        .variant = dcae_safetensors_header_metadata(header, "variant"),
        .config = config_path,
    };

    c->model = dcae_model_open(&params, &error);
    g_assert_no_error(error);
}

static void read_settings(GoldenCase *c, const DcaeSafetensorsHeader *header)
{
    DcaeTiling tiling = {
        .mode = is(header, "tiling", "blend") ? DCAE_TILING_BLEND : DCAE_TILING_OFF,
        .tile_width = number(header, "tile_width"),
        .tile_height = number(header, "tile_height"),
        .stride_width = number(header, "stride_width"),
        .stride_height = number(header, "stride_height"),
    };
    c->encode.tiling = c->decode.tiling = tiling;
    c->encode.latent_channels = c->decode.latent_channels = number(header, "latent_channels");
    c->encode.edge = is(header, "edge", "crop")   ? DCAE_EDGE_CROP
                     : is(header, "edge", "zero") ? DCAE_EDGE_ZERO
                                                  : DCAE_EDGE_EXTEND;
    c->encode.batch = c->decode.batch = is(header, "slicing", "1") ? 1 : c->frames;
}

GoldenCase *golden_case_load(const char *name)
{
    GoldenCase *c = g_new0(GoldenCase, 1);
    g_autofree char *path = data_path(name, "io.safetensors");
    g_autofree guint8 *file = NULL;
    g_autoptr(GError) error = NULL;
    gsize size;
    guint64 length, shape[4];

    c->name = g_strdup(name);
    g_assert_true(g_file_get_contents(path, (char **)&file, &size, &error));
    memcpy(&length, file, 8);
    DcaeSafetensorsHeader *header = dcae_safetensors_header_parse(file + 8, length, path, &error);
    g_assert_no_error(error);
    const guint8 *data = file + 8 + length;

    c->pixels = take_tensor(header, data, "pixels", shape);
    c->frames = (guint)shape[0];
    c->encode.height = (guint)shape[1];
    c->encode.width = (guint)shape[2];
    c->latents_in = take_tensor(header, data, "latents_in", shape);
    c->decode.latent_height = (guint)shape[2];
    c->decode.latent_width = (guint)shape[3];
    c->decoded = take_tensor(header, data, "decoded", shape);
    c->decoded_h = (guint)shape[2];
    c->decoded_w = (guint)shape[3];
    c->latents = take_tensor(header, data, "latents", shape);
    c->latent_c = (guint)shape[1];
    c->latent_h = (guint)shape[2];
    c->latent_w = (guint)shape[3];
    open_model(c, header);
    read_settings(c, header);
    dcae_safetensors_header_free(header);
    return c;
}

void golden_case_free(GoldenCase *c)
{
    dcae_model_unref(c->model);
    g_free(c->name);
    g_free(c->pixels);
    g_free(c->latents);
    g_free(c->latents_in);
    g_free(c->decoded);
    g_free(c);
}

double golden_relative_error(const float *got, const float *wanted, gsize n)
{
    double error = 0, norm = 0;

    for (gsize i = 0; i < n; i++) {
        double d = (double)got[i] - wanted[i];
        error += d * d;
        norm += (double)wanted[i] * wanted[i];
    }
    return sqrt(error / MAX(norm, 1e-30));
}

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
static DcaeProgram *golden_program(const GoldenCase *c, DcaeDirection direction, guint *batch)
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
    DcaeBackendParams params = {
        .precision = way->precision, .threads = way->threads, .isa = way->isa, .device = -1};
    DcaeTraits traits = {0};
    g_autoptr(GError) error = NULL;
    void *instance = NULL;
    guint batch;
    DcaeProgram *program = golden_program(c, direction, &batch);

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
