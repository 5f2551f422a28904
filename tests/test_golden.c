/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_golden.c - the network against the reference: every case of tests/golden/cases.txt holds a
 * small random model with the reference's latents and pictures (golden/generate.py made them). Each
 * is run through the public codec, and through program, plan and backend directly for what the
 * codec can't show: unrounded pictures, forced bands, every instruction set.
 */
#include <math.h>
#include <string.h>

#include "dcae_backend.h"
#include "dcae_tiling.h"

#include "cpu/cpu_kernels.h"

/* Relative L2 error against the reference in f32: both sides round, each about sqrt(depth) · 1e-7 ·
 * a few; the promise to users is 2e-5, Winograd included. */
#define MAX_RELATIVE_ERROR 2e-5

typedef struct {
    char *name;
    DcaeModel *model;
    DcaeGeometry encode, decode;
    guint frames;
    guint8 *pixels;              /* [frames][height][width][3] */
    float *latents, *latents_in; /* [frames][c][h][w] */
    float *decoded;              /* [frames][3][decoded_h][decoded_w] */
    guint decoded_h, decoded_w;
    guint latent_c, latent_h, latent_w; /* of latents */
} Case;

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

static void open_model(Case *c, const DcaeSafetensorsHeader *header)
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

static void read_settings(Case *c, const DcaeSafetensorsHeader *header)
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

static Case *case_load(const char *name)
{
    Case *c = g_new0(Case, 1);
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

static void case_free(Case *c)
{
    dcae_model_unref(c->model);
    g_free(c->name);
    g_free(c->pixels);
    g_free(c->latents);
    g_free(c->latents_in);
    g_free(c->decoded);
    g_free(c);
}

static double relative_error(const float *got, const float *wanted, gsize n)
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

static gsize latent_floats(const Case *c)
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

static void run_codec(const Case *c, DcaeDirection direction, const DcaeImage *images,
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

static void check_codec_encode(Case *c)
{
    g_autofree float *out = g_new0(float, c->frames *latent_floats(c));
    g_autofree DcaeImage *images =
        image_views(c->pixels, c->frames, c->encode.width, c->encode.height);
    g_autofree DcaeLatent *latents =
        latent_views(out, c->frames, c->latent_c, c->latent_h, c->latent_w);

    run_codec(c, DCAE_ENCODE, images, latents);
    double error = relative_error(out, c->latents, c->frames * latent_floats(c));
    g_test_message("%s: encode relative L2 error %.2e", c->name, error);
    g_assert_cmpfloat(error, <=, MAX_RELATIVE_ERROR);
}

/* The reference's picture in 8 bit, and ours, differ by at most one step: the two may lie on either
 * side of a rounding border. */
static void check_codec_decode(Case *c)
{
    gsize plane = (gsize)c->decoded_w * c->decoded_h;
    g_autofree guint8 *out = g_new0(guint8, c->frames * plane * 3);
    g_autofree DcaeImage *images = image_views(out, c->frames, c->decoded_w, c->decoded_h);
    g_autofree DcaeLatent *latents = latent_views(c->latents_in, c->frames, c->latent_c,
                                                  c->decode.latent_height, c->decode.latent_width);
    gsize different = 0;

    run_codec(c, DCAE_DECODE, images, latents);
    for (gsize i = 0; i < c->frames * plane * 3; i++) {
        gsize frame = i / (plane * 3), pixel = i / 3 % plane, channel = i % 3;
        double wanted = c->decoded[(frame * 3 + channel) * plane + pixel] * 127.5 + 127.5;
        int step = (int)out[i] - (int)lrint(CLAMP(wanted, 0, 255));
        g_assert_cmpint(ABS(step), <=, 1);
        different += step != 0;
    }
    /* A value lies within 2e-5 of a border once in some ten thousand; many more mean wrong
     * rounding. */
    g_assert_cmpuint(different, <=, c->frames * plane * 3 / 1000 + 2);
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
static DcaeProgram *build_program(const Case *c, DcaeDirection direction, guint *batch)
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

static void run_frames(const Case *c, DcaeDirection direction, void *instance, guint batch,
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

static Result run_way(const Case *c, DcaeDirection direction, const Way *way)
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
static void check_ways(Case *c, DcaeDirection direction)
{
    static const Way others[] = {{.threads = 3},
                                 {.threads = 2, .band_rows = 1},
                                 {.threads = 1, .band_rows = 3},
                                 {.threads = 5, .band_rows = 6}};
    const float *wanted = direction == DCAE_ENCODE ? c->latents : c->decoded;
    gboolean blend = c->encode.tiling.mode == DCAE_TILING_BLEND;

    for (DcaeIsa isa = DCAE_ISA_GENERIC; isa <= dcae_cpu_isa(); isa++) {
        Result whole = run_way(c, direction, &(Way){.isa = isa, .threads = 1});
        double error = relative_error(whole.data, wanted, whole.n);
        g_test_message("%s: %s, instruction set %d: relative L2 error %.2e", c->name,
                       direction == DCAE_ENCODE ? "encode" : "decode", isa, error);
        g_assert_cmpfloat(error, <=, MAX_RELATIVE_ERROR);
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
    Case *c = case_load(name);

    check_codec_encode(c);
    check_codec_decode(c);
    check_ways(c, DCAE_ENCODE);
    check_ways(c, DCAE_DECODE);
    case_free(c);
}

int main(int argc, char **argv)
{
    g_autofree char *list =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", "cases.txt", NULL);
    g_autofree char *text = NULL;

    g_test_init(&argc, &argv, NULL);
    if (!g_file_get_contents(list, &text, NULL, NULL))
        g_error("%s can't be read", list);
    g_auto(GStrv) names = g_strsplit(g_strstrip(text), "\n", -1);
    for (guint i = 0; names[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("/golden/%s", names[i]);
        g_test_add_data_func(path, names[i], test_case);
    }
    return g_test_run();
}
