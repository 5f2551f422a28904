/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_cuda.c - the CUDA backend on the stand-in driver of tests/gpusim, which must be the
 * libcuda.so.1 that LD_LIBRARY_PATH finds first: golden cases in every precision, bands, pictures
 * of every kind against the CPU backend, several frames under way, failing calls. Without any
 * driver it checks what is said then.
 */
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>

#include "golden_run.h"

#include "../cuda/cuda_driver.h"
#include "gpusim/client.h"

/* The promise for 16-bit types, whose roundings of 2^-9 and 2^-11 add up over the layers. */
#define MAX_ERROR_16 1e-2

/* On a real device nothing counts and nothing fails on demand. */
static gboolean on_device;

/* ---- golden cases */

typedef struct {
    const char *name;
    DcaePrecision precision;
    DcaeDirection direction;
    gboolean bands;
    guint seed;
} GoldenTest;

static GoldenWay cuda_way(DcaePrecision precision, guint band_rows)
{
    return (GoldenWay){.backend = &dcae_cuda_backend,
                       .precision = precision,
                       .threads = 1,
                       .band_rows = band_rows};
}

/* Bands of any height give the bits of whole frames. */
static void check_bands(const GoldenCase *c, const GoldenTest *t, const GoldenResult *whole)
{
    static const guint band_rows[] = {1, 3};

    for (guint i = 0; i < G_N_ELEMENTS(band_rows); i++) {
        GoldenWay way = cuda_way(t->precision, band_rows[i]);
        GoldenResult r = golden_run(c, t->direction, &way);
        g_assert_cmpmem(r.data, r.n * sizeof(float), whole->data, whole->n * sizeof(float));
        g_free(r.data);
    }
}

static void test_golden(gconstpointer data)
{
    const GoldenTest *t = data;
    GoldenCase *c = golden_load(t->name);
    GoldenWay way = cuda_way(t->precision, 0);
    const float *wanted = t->direction == DCAE_ENCODE ? c->latents : c->decoded;
    gint64 start = g_get_monotonic_time();

    sim.reset();
    sim.seed(t->seed);
    GoldenResult whole = golden_run(c, t->direction, &way);
    double error = golden_error(whole.data, wanted, whole.n);
    g_test_message("%s: relative L2 error %.2e, %.2f s", t->name, error,
                   (double)(g_get_monotonic_time() - start) / 1e6);
    sim_check();
    g_assert_cmpfloat(error, <=,
                      t->precision == DCAE_PRECISION_F32 ? GOLDEN_MAX_ERROR : MAX_ERROR_16);
    if (t->bands)
        check_bands(c, t, &whole);
    sim_check();
    g_free(whole.data);
    golden_free(c);
}

static void add_golden(const char *name, DcaePrecision precision, gboolean bands, guint seed)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16"};

    for (guint d = 0; d < 2; d++) {
        GoldenTest *t = g_new(GoldenTest, 1);
        g_autofree char *path = g_strdup_printf("/golden/%s/%s/%s", precisions[precision], name,
                                                d == 0 ? "encode" : "decode");
        *t = (GoldenTest){g_strdup(name), precision, d == 0 ? DCAE_ENCODE : DCAE_DECODE, bands,
                          seed};
        g_test_add_data_func(path, t, test_golden);
    }
}

/* What a run of some seconds takes; -m slow takes all cases in all precisions. Every kind of layer,
 * place of product pixels, edge, a batch and blend tiles are among them. */
static const struct {
    const char *name;
    DcaePrecision precision;
    gboolean bands;
    guint seed;
} quick[] = {
    {"smallest-single-stage", DCAE_PRECISION_F32, TRUE, 0},
    {"first-empty-original", DCAE_PRECISION_F32, FALSE, 3},
    {"last-empty", DCAE_PRECISION_F32, FALSE, 0},
    {"f32-in", DCAE_PRECISION_F32, FALSE, 0},
    {"f32-sana-original", DCAE_PRECISION_F32, TRUE, 1},
    {"single-stage", DCAE_PRECISION_F32, TRUE, 0},
    {"f32-no-shortcut-3-channels", DCAE_PRECISION_F32, FALSE, 0},
    {"head-8-row", DCAE_PRECISION_F32, FALSE, 2},
    {"res-shuffle", DCAE_PRECISION_F32, TRUE, 0},
    {"conv-shuffle", DCAE_PRECISION_F32, FALSE, 0},
    {"unshuffle-interpolate", DCAE_PRECISION_F32, TRUE, 0},
    {"kernels-1-3-7", DCAE_PRECISION_F32, FALSE, 0},
    {"batchnorm-original", DCAE_PRECISION_F32, FALSE, 0},
    {"activations", DCAE_PRECISION_F32, FALSE, 0},
    {"wide-160", DCAE_PRECISION_F32, FALSE, 0},
    {"edge-zero", DCAE_PRECISION_F32, FALSE, 0},
    {"edge-crop", DCAE_PRECISION_F32, FALSE, 0},
    {"tiling-no-overlap", DCAE_PRECISION_F32, FALSE, 0},
    {"tiling-crop-to-tile", DCAE_PRECISION_F32, FALSE, 0},
    {"identity", DCAE_PRECISION_BF16, TRUE, 0},
    {"f32-sana", DCAE_PRECISION_BF16, FALSE, 5},
    {"f32-sana-original", DCAE_PRECISION_BF16, FALSE, 0},
    {"f32-in-smallest", DCAE_PRECISION_BF16, FALSE, 0},
    {"head-8-row", DCAE_PRECISION_BF16, FALSE, 0},
    {"activations", DCAE_PRECISION_BF16, FALSE, 0},
    {"mixed-original", DCAE_PRECISION_BF16, TRUE, 0},
    {"res-shuffle", DCAE_PRECISION_BF16, TRUE, 0},
    {"conv-shuffle", DCAE_PRECISION_BF16, FALSE, 0},
    {"unshuffle-interpolate", DCAE_PRECISION_BF16, FALSE, 0},
    {"wide-160", DCAE_PRECISION_BF16, TRUE, 0},
    {"kernels-1-3-7", DCAE_PRECISION_BF16, FALSE, 0},
    {"tiling-no-overlap", DCAE_PRECISION_BF16, FALSE, 0},
    {"f16-no-shortcut-original", DCAE_PRECISION_F16, TRUE, 0},
    {"unshuffle-interpolate", DCAE_PRECISION_F16, FALSE, 0},
};

static void add_all_golden(void)
{
    g_auto(GStrv) names = golden_names();

    for (guint i = 0; names[i] != NULL; i++)
        for (DcaePrecision p = DCAE_PRECISION_F32; p <= DCAE_PRECISION_F16; p++)
            add_golden(names[i], p, g_strrstr(names[i], "tiling") == NULL, i % 8);
}

/* ---- order */

/* Warps, blocks and streams in other orders give the same bits. */
static void test_seeds(gconstpointer data)
{
    static const guint seeds[] = {1, 2, 7, 11, 12, 0x23, 0x57, 0x9e};
    const GoldenTest *t = data;
    GoldenCase *c = golden_load(t->name);
    GoldenWay way = cuda_way(t->precision, 0);
    GoldenResult first = {0};

    sim.reset();
    for (guint i = 0; i < G_N_ELEMENTS(seeds); i++) {
        sim.seed(seeds[i]);
        GoldenResult r = golden_run(c, t->direction, &way);
        if (i == 0)
            first = r;
        else
            g_assert_cmpmem(r.data, r.n * sizeof(float), first.data, first.n * sizeof(float));
        if (i > 0)
            g_free(r.data);
        sim_check();
    }
    sim.seed(0);
    g_free(first.data);
    golden_free(c);
}

/* ---- pictures of every kind, against the CPU backend */

#define PICTURE_W 37
#define PICTURE_H 22

typedef struct {
    const char *name;
    DcaeColorModel color;
    gboolean full_range, alpha;
    guint n_planes, shift;
    gdouble chroma_x, chroma_y;
} PictureKind;

/* Planes: 1 = all components interleaved, 2 = luma and interleaved chroma, 3 = one each. */
static const PictureKind picture_kinds[] = {
    {"RGB", DCAE_COLOR_RGB, TRUE, FALSE, 1, 0, 0, 0},
    {"RGBA", DCAE_COLOR_RGB, TRUE, TRUE, 1, 0, 0, 0},
    {"GBR", DCAE_COLOR_RGB, TRUE, FALSE, 3, 0, 0, 0},
    {"GRAY8", DCAE_COLOR_GRAY, TRUE, FALSE, 1, 0, 0, 0},
    {"GRAY8-limited", DCAE_COLOR_GRAY, FALSE, FALSE, 1, 0, 0, 0},
    {"NV12", DCAE_COLOR_YUV, FALSE, FALSE, 2, 1, 0, 0.5},
    {"I420-full", DCAE_COLOR_YUV, TRUE, FALSE, 3, 1, 0.5, 0.5},
    {"Y444", DCAE_COLOR_YUV, FALSE, FALSE, 3, 0, 0, 0},
};

#define PICTURE_BYTES (4 * 64 * 64)

/* A picture in PICTURE_BYTES of memory, rows padded by an odd number of bytes. */
static DcaeImage make_picture(const PictureKind *kind, guint8 *memory)
{
    DcaeImage image = {.width = PICTURE_W,
                       .height = PICTURE_H,
                       .color = kind->color,
                       .chroma_w_shift = kind->shift,
                       .chroma_h_shift = kind->shift,
                       .kr = 0.2126,
                       .kb = 0.0722,
                       .full_range = kind->full_range,
                       .chroma_x = kind->chroma_x,
                       .chroma_y = kind->chroma_y};
    guint n = kind->color == DCAE_COLOR_GRAY ? 1 : kind->alpha ? 4 : 3;

    for (guint i = 0; i < n; i++) {
        guint plane = kind->n_planes == 1 ? 0 : MIN(i, kind->n_planes - 1);
        guint step = kind->n_planes == 1 ? n : kind->n_planes == 2 && plane == 1 ? 2 : 1;
        guint place = kind->n_planes == 1 ? i : kind->n_planes == 2 && plane == 1 ? i - 1 : 0;
        image.component[i] = (DcaeComponent){.data = memory + plane * PICTURE_BYTES / 4 + place,
                                             .row_stride = (gssize)(PICTURE_W * step + 5),
                                             .pixel_stride = (gssize)step};
    }
    return image;
}

typedef struct {
    DcaeBackendKind backend;
    DcaePrecision precision;
} CodecWay;

static DcaeCodec *open_codec(DcaeModel *model, DcaeDirection direction, CodecWay way,
                             const DcaeGeometry *geometry, GError **error)
{
    DcaeCodec *codec = dcae_codec_new(&(DcaeCodecParams){.model = model,
                                                         .direction = direction,
                                                         .backend = way.backend,
                                                         .precision = way.precision,
                                                         .threads = 1,
                                                         .timings = TRUE},
                                      error);
    if (codec != NULL && !dcae_codec_configure(codec, geometry, error))
        g_clear_pointer(&codec, dcae_codec_free);
    return codec;
}

/* Runs one frame through a new codec. */
static gboolean run_codec(DcaeModel *model, DcaeDirection direction, CodecWay way,
                          const DcaeGeometry *geometry, DcaeImage *image, DcaeLatent *latent,
                          GError **error)
{
    DcaeCodec *codec = open_codec(model, direction, way, geometry, error);
    gboolean ok = FALSE;

    if (codec != NULL) {
        const DcaePlanInfo *info = dcae_codec_plan_info(codec);
        latent->c = info->latent_channels;
        latent->h = info->latent_height;
        latent->w = info->latent_width;
        ok = dcae_codec_run(codec, image, latent, 1, error);
        dcae_codec_free(codec);
    }
    return ok;
}

static const CodecWay both[2] = {{DCAE_BACKEND_CPU, DCAE_PRECISION_F32},
                                 {DCAE_BACKEND_CUDA, DCAE_PRECISION_F32}};

/* Encodes on both backends; the latents of the CUDA backend are returned in `latent`. */
static void check_picture_encode(GoldenCase *c, const PictureKind *kind, DcaeLatent *latent)
{
    g_autofree guint8 *memory = g_malloc(PICTURE_BYTES);
    g_autofree float *cpu = g_new0(float, 1 << 14);
    DcaeGeometry g = {.width = PICTURE_W, .height = PICTURE_H, .edge = DCAE_EDGE_EXTEND};
    DcaeImage image = make_picture(kind, memory);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < PICTURE_BYTES; i++)
        memory[i] = (guint8)g_test_rand_int_range(0, 256);
    for (guint i = 0; i < 2; i++) {
        DcaeLatent to = {.data = i == 0 ? cpu : latent->data};
        run_codec(c->model, DCAE_ENCODE, both[i], &g, &image, &to, &error);
        g_assert_no_error(error);
        latent->c = to.c;
        latent->h = to.h;
        latent->w = to.w;
    }
    g_assert_cmpfloat(golden_error(latent->data, cpu, (gsize)latent->c * latent->h * latent->w), <=,
                      GOLDEN_MAX_ERROR);
}

/* A sample may be rounded to either side of a border; bytes around the samples stay as they are. */
static void test_picture(gconstpointer data)
{
    const PictureKind *kind = data;
    GoldenCase *c = golden_load("first-empty-original");
    guint8 *memory[2] = {g_malloc(PICTURE_BYTES), g_malloc(PICTURE_BYTES)};
    g_autofree float *values = g_new0(float, 1 << 14);
    DcaeLatent latent = {.data = values};
    g_autoptr(GError) error = NULL;
    guint different = 0;

    sim.reset();
    check_picture_encode(c, kind, &latent);
    DcaeGeometry g = {.width = PICTURE_W,
                      .height = PICTURE_H,
                      .latent_width = latent.w,
                      .latent_height = latent.h};
    for (guint i = 0; i < 2; i++) {
        DcaeImage image = make_picture(kind, memory[i]);
        memset(memory[i], 77, PICTURE_BYTES);
        run_codec(c->model, DCAE_DECODE, both[i], &g, &image, &latent, &error);
        g_assert_no_error(error);
    }
    for (guint i = 0; i < PICTURE_BYTES; i++) {
        g_assert_cmpint(ABS(memory[0][i] - memory[1][i]), <=, 1);
        different += memory[0][i] != memory[1][i];
    }
    g_assert_cmpuint(different, <=, 10);
    g_free(memory[0]);
    g_free(memory[1]);
    sim_check();
    golden_free(c);
}

/* ---- tiles of 256 columns, which no golden model is wide enough for */

static const char wide_config[] =
    "{\"latent_channels\": 32, \"encoder_block_types\": \"ResBlock\", "
    "\"decoder_block_types\": \"ResBlock\", \"encoder_block_out_channels\": [64, 256], "
    "\"decoder_block_out_channels\": [64, 256], \"encoder_layers_per_block\": [1, 1], "
    "\"decoder_layers_per_block\": [1, 1], \"encoder_qkv_multiscales\": [[], []], "
    "\"decoder_qkv_multiscales\": [[], []]}";

/* A tensor of random numbers, with the variance of 1 / inputs. */
static void add_tensor(GString *header, GByteArray *data, const char *name, const char *suffix,
                       guint n, guint inputs, guint ksize)
{
    gsize count = (gsize)n * inputs * ksize * ksize, begin = data->len;
    double scale = sqrt(3.0 / (inputs * ksize * ksize));

    for (gsize i = 0; i < count; i++) {
        float value = (float)(scale * g_test_rand_double_range(-1, 1));
        g_byte_array_append(data, (const guint8 *)&value, sizeof value);
    }
    g_string_append_printf(header, "%s\"%s%s\":{\"dtype\":\"F32\",\"shape\":[%u",
                           header->len > 1 ? "," : "", name, suffix, n);
    if (ksize > 1)
        g_string_append_printf(header, ",%u,%u,%u", inputs, ksize, ksize);
    g_string_append_printf(header, "],\"data_offsets\":[%" G_GSIZE_FORMAT ",%u]}", begin,
                           data->len);
}

static void add_tensors(const DcaeProgram *program, GString *header, GByteArray *data)
{
    for (guint i = 0; i < program->n_layers; i++) {
        const DcaeLayer *l = &program->layers[i];
        if (l->n_sources > 0)
            add_tensor(header, data, l->source[0], ".weight", l->conv_c, l->in_c, l->ksize);
        if (l->bias)
            add_tensor(header, data, l->source[0], ".bias", l->conv_c, 1, 1);
        if (l->norm == DCAE_NORM_RMS) {
            add_tensor(header, data, l->norm_name, ".weight", l->out_c, 1, 1);
            add_tensor(header, data, l->norm_name, ".bias", l->out_c, 1, 1);
        }
    }
}

static DcaeModel *make_wide_model(void)
{
    g_autoptr(GString) header = g_string_new("{");
    g_autoptr(GByteArray) data = g_byte_array_new(), file = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    DcaeGeometry g = {.width = 2, .height = 2, .latent_width = 1, .latent_height = 1, .batch = 1};
    g_autofree char *path = NULL;
    DcaeConfig config;

    dcae_config_parse(&config, wide_config, "wide", &error);
    g_assert_no_error(error);
    g.latent_channels = config.latent_channels;
    for (DcaeDirection d = DCAE_ENCODE; d <= DCAE_DECODE; d++) {
        DcaeProgram *program = dcae_graph_build(&config, d, &g);
        add_tensors(program, header, data);
        dcae_program_free(program);
    }
    g_string_append_c(header, '}');
    guint64 length = header->len;
    g_byte_array_append(file, (const guint8 *)&length, sizeof length);
    g_byte_array_append(file, (const guint8 *)header->str, (guint)header->len);
    g_byte_array_append(file, data->data, data->len);
    g_autofree char *dir = g_dir_make_tmp("dcae-wide-XXXXXX", NULL);
    g_autofree char *config_path = g_build_filename(dir, "config.json", NULL);
    path = g_build_filename(dir, "diffusion_pytorch_model.safetensors", NULL);
    g_assert_true(g_file_set_contents(config_path, wide_config, -1, NULL));
    g_assert_true(g_file_set_contents(path, (const char *)file->data, file->len, NULL));
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = dir}, &error);
    g_assert_no_error(error);
    g_remove(path);
    g_remove(config_path);
    g_rmdir(dir);
    return model;
}

static void test_wide(void)
{
    static const CodecWay ways[] = {{DCAE_BACKEND_CPU, DCAE_PRECISION_F32},
                                    {DCAE_BACKEND_CUDA, DCAE_PRECISION_F32},
                                    {DCAE_BACKEND_CUDA, DCAE_PRECISION_BF16},
                                    {DCAE_BACKEND_CUDA, DCAE_PRECISION_F16}};
    static const double most[] = {0, GOLDEN_MAX_ERROR, MAX_ERROR_16, MAX_ERROR_16};
    DcaeModel *model = make_wide_model();
    g_autofree guint8 *pixels = g_malloc(26 * 26 * 3);
    DcaeGeometry g = {.width = 26, .height = 26};
    DcaeImage image = {.width = 26, .height = 26};
    float values[G_N_ELEMENTS(ways)][32 * 13 * 13];
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 26 * 26 * 3; i++)
        pixels[i] = (guint8)g_test_rand_int_range(0, 256);
    for (guint i = 0; i < 3; i++)
        image.component[i] =
            (DcaeComponent){.data = pixels + i, .row_stride = 3 * 26, .pixel_stride = 3};
    sim.reset();
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        DcaeLatent latent = {.data = values[i]};
        run_codec(model, DCAE_ENCODE, ways[i], &g, &image, &latent, &error);
        g_assert_no_error(error);
        g_assert_cmpuint(latent.c * latent.h * latent.w, ==, G_N_ELEMENTS(values[i]));
        g_assert_cmpfloat(golden_error(values[i], values[0], G_N_ELEMENTS(values[i])), <=, most[i]);
    }
    sim_check();
    dcae_model_unref(model);
}

/* ---- frames under way */

typedef struct {
    DcaeProgram *program;
    DcaePlan *plan;
    DcaeWeights *weights;
    void *instance;
} Direct;

/* The backend itself, without the codec, which waits for every frame. */
static void direct_open(Direct *d, DcaeModel *model, guint size)
{
    DcaeGeometry g = {.width = size, .height = size, .batch = 1};
    DcaeBackendParams params = {.precision = DCAE_PRECISION_F32, .threads = 1, .device = -1};
    g_autoptr(GError) error = NULL;
    DcaeTraits traits;

    g.latent_channels = dcae_model_info(model)->latent_channels;
    d->program = dcae_graph_build(dcae_model_config(model), DCAE_ENCODE, &g);
    dcae_cuda_backend.traits(&params, &traits);
    d->plan = dcae_plan_new(d->program, &traits, &(DcaePlanParams){.batch = 1}, &error);
    g_assert_no_error(error);
    d->weights = dcae_cuda_backend.prepare(model, d->program, &params, &error);
    g_assert_no_error(error);
    dcae_cuda_backend.open(&d->instance, d->weights, d->plan, &params, &error);
    g_assert_no_error(error);
}

static void direct_close(Direct *d)
{
    dcae_cuda_backend.close(d->instance);
    dcae_cuda_backend.weights_free(d->weights);
    dcae_plan_free(d->plan);
    dcae_program_free(d->program);
}

#define FLIGHTS 3 /* of cuda_backend.c */
#define FLIGHT_SIZE 16

static DcaeImage flight_image(guint8 *pixels)
{
    DcaeImage image = {.width = FLIGHT_SIZE, .height = FLIGHT_SIZE};

    for (guint i = 0; i < 3; i++)
        image.component[i] =
            (DcaeComponent){.data = pixels + i, .row_stride = 3 * FLIGHT_SIZE, .pixel_stride = 3};
    return image;
}

/* Several frames submitted before the first is waited for come out as one by one. */
static void test_flights(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    guint8 pixels[FLIGHTS + 1][FLIGHT_SIZE * FLIGHT_SIZE * 3];
    float wanted[FLIGHTS][1024], got[FLIGHTS][1024];
    DcaeView in[FLIGHTS + 1], out[FLIGHTS + 1];
    guint64 ticket[FLIGHTS + 1];
    g_autoptr(GError) error = NULL;
    Direct d;

    sim.reset();
    direct_open(&d, c->model, FLIGHT_SIZE);
    for (guint i = 0; i <= FLIGHTS; i++) {
        for (guint k = 0; k < sizeof pixels[i]; k++)
            pixels[i][k] = (guint8)g_test_rand_int_range(0, 256);
        in[i].image = flight_image(pixels[i]);
        out[i].latent = (DcaeLatent){
            .c = d.program->latent_c, .h = d.program->latent_h, .w = d.program->latent_w};
    }
    gsize n = (gsize)d.program->latent_c * d.program->latent_h * d.program->latent_w;
    g_assert_cmpuint(n, <=, 1024);
    for (guint i = 0; i < FLIGHTS; i++) {
        out[i].latent.data = wanted[i];
        g_assert_true(dcae_cuda_backend.submit(d.instance, in + i, out + i, 1, ticket, &error));
        g_assert_true(dcae_cuda_backend.wait(d.instance, ticket[0], NULL, &error));
    }
    for (guint i = 0; i < FLIGHTS; i++) {
        out[i].latent.data = got[i];
        dcae_cuda_backend.submit(d.instance, in + i, out + i, 1, ticket + i, &error);
        g_assert_no_error(error);
    }
    g_assert_false(dcae_cuda_backend.submit(d.instance, in + FLIGHTS, out + FLIGHTS, 1,
                                            ticket + FLIGHTS, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND);
    g_clear_error(&error);
    for (guint i = 0; i < FLIGHTS; i++) {
        g_assert_true(dcae_cuda_backend.wait(d.instance, ticket[i], NULL, &error));
        g_assert_cmpmem(got[i], n * sizeof(float), wanted[i], n * sizeof(float));
    }
    g_assert_false(dcae_cuda_backend.wait(d.instance, ticket[0], NULL, NULL));
    /* What was submitted and never waited for doesn't outlive the instance. */
    g_assert_true(dcae_cuda_backend.submit(d.instance, in, out, 1, ticket, &error));
    direct_close(&d);
    sim_check();
    golden_free(c);
}

/* ---- failing calls */

static gboolean encode_once(GoldenCase *c, DcaePrecision precision, GError **error)
{
    g_autofree float *values = g_new0(float, 1024);
    guint8 pixels[FLIGHT_SIZE * FLIGHT_SIZE * 3] = {0};
    DcaeImage image = flight_image(pixels);
    DcaeLatent latent = {.data = values};
    DcaeGeometry g = {.width = FLIGHT_SIZE, .height = FLIGHT_SIZE};

    return run_codec(c->model, DCAE_ENCODE, (CodecWay){DCAE_BACKEND_CUDA, precision}, &g, &image,
                     &latent, error);
}

/* Each call in turn fails: the error names a call, and nothing is left behind. Where a call that
 * gives something back fails, there is nothing to report, and what it kept is kept. */
static void test_failures(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    GpusimCounters counters;
    unsigned leaks = 0, reported = 0;

    g_assert_true(
        encode_once(c, DCAE_PRECISION_F32, NULL)); /* opens the driver, if it is the first */
    sim.reset();
    g_assert_true(encode_once(c, DCAE_PRECISION_F32, NULL));
    sim.counters(&counters);
    g_test_message("%" G_GUINT64_FORMAT " calls", counters.calls);
    for (unsigned n = 1; n <= counters.calls; n++) {
        g_autoptr(GError) error = NULL;
        sim.reset();
        sim.fail_call("*", n, 0);
        gboolean ok = encode_once(c, DCAE_PRECISION_F32, &error);
        g_assert_cmpuint(sim.fail_left(), ==, 0);
        sim.fail_call("*", 0, 0);
        unsigned now = sim.report_leaks();
        if (ok) {
            leaks = now;
            continue;
        }
        reported++;
        g_assert_true(g_error_matches(error, DCAE_ERROR, DCAE_ERROR_BACKEND) ||
                      g_error_matches(error, DCAE_ERROR, DCAE_ERROR_MEMORY));
        if (strstr(error->message, "cu") == NULL && strstr(error->message, "MiB wanted") == NULL)
            g_test_message("call %u: %s", n, error->message);
        g_assert_true(strstr(error->message, "CUDA call cu") != NULL ||
                      strstr(error->message, "MiB wanted") != NULL);
        if (now != leaks)
            g_test_message("call %u: %s leaves %u", n, error->message, now - leaks);
        g_assert_cmpuint(now, ==, leaks);
    }
    g_assert_cmpuint(reported, >, counters.calls / 2);
    sim.reset();
    golden_free(c);
}

/* cuBLAS multiplies where there is nothing to fuse, in 16 bit; its errors are named too. */
static void test_blas_failures(void)
{
    static const char *const calls[] = {"cublasCreate_v2", "cublasSetStream_v2",
                                        "cublasSetMathMode", "cublasSetWorkspace_v2",
                                        "cublasGemmEx"};
    GoldenCase *c = golden_load("head-8-row");
    GpusimCounters counters;

    sim.reset();
    g_assert_true(encode_once(c, DCAE_PRECISION_F16, NULL));
    sim.counters(&counters);
    g_assert_cmpuint(counters.blas_calls, >, 0);
    for (guint i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autoptr(GError) error = NULL;
        sim.reset();
        sim.fail_call(calls[i], 1, 0);
        g_assert_false(encode_once(c, DCAE_PRECISION_F16, &error));
        sim.fail_call("*", 0, 0);
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error->message, calls[i]));
        sim_check();
    }
    golden_free(c);
}

/* Nobody is told that a handle can't be given back, and the latents are good. */
static void test_failing_destroy(void)
{
    GoldenCase *c = golden_load("head-8-row");

    sim.reset();
    sim.fail_call("cublasDestroy_v2", 1, 0);
    g_assert_true(encode_once(c, DCAE_PRECISION_F16, NULL));
    g_assert_cmpuint(sim.fail_left(), ==, 0);
    sim.reset();
    golden_free(c);
}

/* A frame whose wait fails, also because the context can't be entered, is over: the device is done
 * with its memory, and its place is free. */
static void test_failing_waits(void)
{
    static const char *const calls[] = {"cuCtxPushCurrent_v2", "cuEventSynchronize"};
    GoldenCase *c = golden_load("first-empty-original");
    guint8 pixels[FLIGHT_SIZE * FLIGHT_SIZE * 3] = {0};
    float values[1024];
    DcaeView in = {.image = flight_image(pixels)}, out;
    GpusimCounters failed, closed;
    guint64 ticket;
    Direct d;

    for (guint i = 0; i < G_N_ELEMENTS(calls); i++) {
        sim.reset();
        direct_open(&d, c->model, FLIGHT_SIZE);
        out.latent = (DcaeLatent){.c = d.program->latent_c,
                                  .h = d.program->latent_h,
                                  .w = d.program->latent_w,
                                  .data = values};
        for (guint k = 0; k <= FLIGHTS; k++) {
            g_autoptr(GError) error = NULL;
            dcae_cuda_backend.submit(d.instance, &in, &out, 1, &ticket, &error);
            g_assert_no_error(error);
            sim.fail_call(calls[i], 1, 0);
            g_assert_false(dcae_cuda_backend.wait(d.instance, ticket, NULL, &error));
            g_assert_cmpuint(sim.fail_left(), ==, 0);
            g_assert_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND);
            g_assert_nonnull(strstr(error->message, calls[i]));
        }
        sim.counters(&failed);
        direct_close(&d);
        sim.counters(&closed);
        g_assert_cmpuint(failed.device_to_host, ==, closed.device_to_host);
        g_assert_cmpuint(failed.device_to_host, >, 0);
        sim_check();
    }
    golden_free(c);
}

/* ---- values that are not finite */

/* Every kernel hands a NaN on, in every precision, and the run says so; the next one is good. */
static void test_not_finite(gconstpointer data)
{
    static const char *const names[] = {"first-empty-original", "head-8-row", "activations",
                                        "batchnorm-original", "mixed-original"};
    CodecWay way = {DCAE_BACKEND_CUDA, (DcaePrecision)GPOINTER_TO_INT(data)};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        GoldenCase *c = golden_load(names[i]);
        const DcaeModelInfo *info = dcae_model_info(c->model);
        DcaeGeometry g = {.width = 2 * info->ratio,
                          .height = 2 * info->ratio,
                          .latent_width = 2,
                          .latent_height = 2};
        gsize n = (gsize)info->latent_channels * 4;
        g_autofree float *values = g_new(float, n);
        g_autofree guint8 *pixels = g_malloc(3 * g.width * g.height);
        DcaeLatent latent = {.c = info->latent_channels, .h = 2, .w = 2, .data = values};
        DcaeImage image = {.width = g.width, .height = g.height};
        g_autoptr(GError) error = NULL;

        for (guint k = 0; k < 3; k++)
            image.component[k] = (DcaeComponent){
                .data = pixels + k, .row_stride = 3 * (gssize)g.width, .pixel_stride = 3};
        for (gsize k = 0; k < n; k++)
            values[k] = NAN;
        sim.reset();
        DcaeCodec *codec = open_codec(c->model, DCAE_DECODE, way, &g, &error);
        g_assert_no_error(error);
        g_test_message("%s", names[i]);
        g_assert_false(dcae_codec_run(codec, &image, &latent, 1, &error));
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE);
        g_clear_error(&error);
        memset(values, 0, n * sizeof *values);
        dcae_codec_run(codec, &image, &latent, 1, &error);
        g_assert_no_error(error);
        dcae_codec_free(codec);
        sim_check();
        golden_free(c);
    }
}

/* ---- times */

/* One frame through a codec with or without times; *n_ops receives how many there are. */
static guint64 calls_of_frame(GoldenCase *c, gboolean timed, guint *n_ops)
{
    guint8 pixels[FLIGHT_SIZE * FLIGHT_SIZE * 3] = {0};
    g_autofree float *values = g_new0(float, 1024);
    DcaeCodecParams params = {.model = c->model,
                              .direction = DCAE_ENCODE,
                              .backend = DCAE_BACKEND_CUDA,
                              .precision = DCAE_PRECISION_F32,
                              .timings = timed};
    DcaeImage image = flight_image(pixels);
    g_autoptr(GError) error = NULL;
    GpusimCounters before = {0}, after = {0};
    double sum = 0;

    DcaeCodec *codec = dcae_codec_new(&params, &error);
    g_assert_no_error(error);
    dcae_codec_configure(codec, &(DcaeGeometry){.width = FLIGHT_SIZE, .height = FLIGHT_SIZE},
                         &error);
    g_assert_no_error(error);
    const DcaePlanInfo *info = dcae_codec_plan_info(codec);
    DcaeLatent latent = {.c = info->latent_channels,
                         .h = info->latent_height,
                         .w = info->latent_width,
                         .data = values};
    if (!on_device)
        sim.counters(&before);
    dcae_codec_run(codec, &image, &latent, 1, &error);
    g_assert_no_error(error);
    const DcaeOpTiming *timings = dcae_codec_timings(codec, n_ops);
    if (!on_device)
        sim.counters(&after);
    g_assert_true(timed == (timings != NULL));
    for (guint i = 0; timed && i < *n_ops; i++) {
        g_assert_cmpfloat(timings[i].ms, >=, 0);
        sum += timings[i].ms;
    }
    g_assert_true(timed == (sum > 0));
    dcae_codec_free(codec);
    return after.calls - before.calls;
}

/* Times cost an event before each op and one behind the last, and asking how far they lie apart; a
 * frame without them makes none of these calls. */
static void test_timings(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    guint n = 0, unused = 0;

    sim.reset();
    guint64 timed = calls_of_frame(c, TRUE, &n), plain = calls_of_frame(c, FALSE, &unused);
    g_assert_cmpuint(n, >, 2);
    if (!on_device)
        g_assert_cmpuint(timed - plain, ==, 2 * n + 1);
    sim_check();
    golden_free(c);
}

/* ---- frames in device memory */

/* They are read and written where they lie: nothing but the flag of what is not finite crosses the
 * bus. */
static void test_device_memory(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    const DcaeCudaDriver *cu = dcae_cuda_driver(NULL);
    guint8 pixels[FLIGHT_SIZE * FLIGHT_SIZE * 3] = {0};
    float host[1024] = {0}, wanted[1024] = {0};
    DcaeGeometry g = {.width = FLIGHT_SIZE, .height = FLIGHT_SIZE};
    CodecWay way = {DCAE_BACKEND_CUDA, DCAE_PRECISION_F32};
    DcaeImage image = flight_image(pixels);
    DcaeLatent latent = {.data = wanted};
    CUdeviceptr device_pixels, device_latent;
    g_autoptr(GError) error = NULL;
    GpusimCounters counters;
    CUcontext context;

    for (guint i = 0; i < sizeof pixels; i++)
        pixels[i] = (guint8)(i * 37);
    g_assert_true(run_codec(c->model, DCAE_ENCODE, way, &g, &image, &latent, NULL));
    gsize bytes = (gsize)latent.c * latent.h * latent.w * sizeof(float);
    DcaeCodec *codec = open_codec(c->model, DCAE_ENCODE, way, &g, &error);
    g_assert_no_error(error);
    cu->cuDevicePrimaryCtxRetain(&context, 0);
    cu->cuCtxPushCurrent_v2(context);
    cu->cuMemAlloc_v2(&device_pixels, sizeof pixels);
    cu->cuMemAlloc_v2(&device_latent, bytes);
    cu->cuMemcpyHtoD_v2(device_pixels, pixels, sizeof pixels);
    image.memory = latent.memory = DCAE_MEMORY_CUDA;
    for (guint i = 0; i < 3; i++)
        image.component[i].data = (guint8 *)device_pixels + i;
    latent.data = (void *)device_latent;
    sim.reset();
    dcae_codec_run(codec, &image, &latent, 1, &error);
    g_assert_no_error(error);
    sim.counters(&counters);
    g_assert_cmpuint(counters.host_to_device, ==, 0);
    g_assert_cmpuint(counters.device_to_host, ==, sizeof(gint));
    cu->cuMemcpyDtoHAsync_v2(host, device_latent, bytes, NULL);
    cu->cuStreamSynchronize(NULL);
    g_assert_cmpmem(host, bytes, wanted, bytes);
    cu->cuMemFree_v2(device_pixels);
    cu->cuMemFree_v2(device_latent);
    cu->cuCtxPopCurrent_v2(NULL);
    cu->cuDevicePrimaryCtxRelease_v2(0);
    dcae_codec_free(codec);
    sim_check();
    golden_free(c);
}

/* Any device and its number, a context with and without a number, any instruction set: each pair
 * packs and uploads its weights once. */
static void test_shared_weights(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    const DcaeCudaDriver *cu = dcae_cuda_driver(NULL);
    CUcontext context;

    cu->cuDevicePrimaryCtxRetain(&context, 0);
    for (guint i = 0; i < 2; i++) {
        DcaeCodecParams params = {.model = c->model,
                                  .backend = DCAE_BACKEND_CUDA,
                                  .threads = 1,
                                  .cuda_context = i == 1 ? context : NULL};
        g_autoptr(GError) error = NULL;
        GpusimCounters counters;

        DcaeCodec *any = dcae_codec_new(&params, &error);
        g_assert_no_error(error);
        sim.reset();
        params.device = 1;
        params.max_isa = DCAE_ISA_GENERIC;
        DcaeCodec *first = dcae_codec_new(&params, &error);
        g_assert_no_error(error);
        sim.counters(&counters);
        g_assert_cmpuint(counters.host_to_device, ==, 0);
        dcae_codec_free(first);
        params.precision = DCAE_PRECISION_F16; /* these are others */
        first = dcae_codec_new(&params, &error);
        g_assert_no_error(error);
        sim.counters(&counters);
        g_assert_cmpuint(counters.host_to_device, >, 0);
        dcae_codec_free(first);
        dcae_codec_free(any);
    }
    cu->cuDevicePrimaryCtxRelease_v2(0);
    sim_check();
    golden_free(c);
}

/* A neighbour's frame in device memory: what it holds before the neighbour's copy ran, and after.
 */
typedef struct {
    CUdeviceptr memory;
    guint8 *fresh; /* pinned: copies from it run late */
    gsize bytes;
} Late;

static void late_open(const DcaeCudaDriver *cu, Late *late, const void *fresh, gsize bytes)
{
    g_autofree guint8 *old = g_malloc0(bytes);

    late->bytes = bytes;
    cu->cuMemAlloc_v2(&late->memory, bytes);
    cu->cuMemAllocHost_v2((void **)&late->fresh, bytes);
    memcpy(late->fresh, fresh, bytes);
    cu->cuMemcpyHtoD_v2(late->memory, old, bytes);
}

/* On the default stream, as of a neighbour that doesn't wait for it. */
static void late_copy(const DcaeCudaDriver *cu, const Late *late)
{
    cu->cuMemcpyHtoDAsync_v2(late->memory, late->fresh, late->bytes, NULL);
}

static void late_close(const DcaeCudaDriver *cu, Late *late)
{
    cu->cuMemFree_v2(late->memory);
    cu->cuMemFreeHost(late->fresh);
}

/* What the default stream has still to do with a frame's memory comes before the run: writing the
 * picture that it reads, or using the memory that it writes. */
static void test_waits_for_neighbours(gconstpointer data)
{
    gboolean on_input = GPOINTER_TO_INT(data) == 0;
    GoldenCase *c = golden_load("first-empty-original");
    const DcaeCudaDriver *cu = dcae_cuda_driver(NULL);
    guint8 pixels[FLIGHT_SIZE * FLIGHT_SIZE * 3];
    float wanted[1024] = {0}, got[1024] = {0};
    DcaeImage image = flight_image(pixels);
    DcaeLatent latent = {.data = wanted};
    DcaeGeometry g = {.width = FLIGHT_SIZE, .height = FLIGHT_SIZE};
    CodecWay way = {DCAE_BACKEND_CUDA, DCAE_PRECISION_F32};
    g_autoptr(GError) error = NULL;
    CUcontext context;
    Late late;

    for (guint i = 0; i < sizeof pixels; i++)
        pixels[i] = (guint8)(i * 37);
    sim.reset();
    g_assert_true(run_codec(c->model, DCAE_ENCODE, way, &g, &image, &latent, NULL));
    gsize bytes = (gsize)latent.c * latent.h * latent.w * sizeof(float);
    DcaeCodec *codec = open_codec(c->model, DCAE_ENCODE, way, &g, &error);
    g_assert_no_error(error);
    cu->cuDevicePrimaryCtxRetain(&context, 0);
    cu->cuCtxPushCurrent_v2(context);
    late_open(cu, &late, on_input ? (void *)pixels : (void *)got, on_input ? sizeof pixels : bytes);
    latent.data = got;
    if (on_input) {
        image.memory = DCAE_MEMORY_CUDA;
        for (guint i = 0; i < 3; i++)
            image.component[i].data = (guint8 *)late.memory + i;
    } else {
        latent.memory = DCAE_MEMORY_CUDA;
        latent.data = (void *)late.memory;
    }
    late_copy(cu, &late);
    dcae_codec_run(codec, &image, &latent, 1, &error);
    g_assert_no_error(error);
    if (!on_input) {
        cu->cuMemcpyDtoHAsync_v2(got, late.memory, bytes, NULL);
        cu->cuStreamSynchronize(NULL);
    }
    g_assert_cmpmem(got, bytes, wanted, bytes);
    late_close(cu, &late);
    cu->cuCtxPopCurrent_v2(NULL);
    cu->cuDevicePrimaryCtxRelease_v2(0);
    dcae_codec_free(codec);
    sim_check();
    golden_free(c);
}

/* Memory of the device that lacks part of what the weights take: says how much all of them take,
 * and that a smaller precision helps, where there is one. */
static void test_no_room_for_weights(gconstpointer data)
{
    DcaePrecision precision = (DcaePrecision)GPOINTER_TO_INT(data);
    DcaeModel *model = make_wide_model();
    DcaeGeometry g = {.width = 26, .height = 26};
    CodecWay way = {DCAE_BACKEND_CUDA, precision};
    g_autoptr(GError) error = NULL;

    sim.reset();
    DcaeCodec *codec = open_codec(model, DCAE_ENCODE, way, &g, &error);
    g_assert_no_error(error);
    guint64 all = dcae_codec_plan_info(codec)->weight_bytes;
    dcae_codec_free(codec);

    g_autofree char *memory = g_strdup_printf("%" G_GUINT64_FORMAT, all - 1);
    g_autofree char *wanted =
        g_strdup_printf("all weights take %" G_GUINT64_FORMAT " MiB", (all >> 20) + 1);
    g_setenv("GPUSIM_MEMORY", memory, TRUE);
    codec = open_codec(model, DCAE_ENCODE, way, &g, &error);
    g_unsetenv("GPUSIM_MEMORY");
    g_assert_null(codec);
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY);
    g_test_message("%s", error->message);
    g_assert_nonnull(strstr(error->message, "no device memory for the weights of encoder."));
    g_assert_nonnull(strstr(error->message, "MiB wanted from cuMemAlloc_v2"));
    g_assert_nonnull(strstr(error->message, wanted));
    g_assert_true((strstr(error->message, "precision=bf16") != NULL) ==
                  (precision == DCAE_PRECISION_F32));
    g_assert_nonnull(strstr(error->message, "device to "));
    sim_check();
    dcae_model_unref(model);
}

/* Whatever call finds no memory, the error names the call and what helps; one that asks for bytes
 * says how many. */
static void test_out_of_memory(gconstpointer call)
{
    gboolean is_alloc = strstr(call, "cuMemAlloc") != NULL;
    GoldenCase *c = golden_load("head-8-row"); /* has a layer of cuBLAS */
    gboolean advised = FALSE;
    unsigned reached = 0;

    for (unsigned n = 1; n <= 100; n++) {
        g_autoptr(GError) error = NULL;
        sim.reset();
        sim.fail_call(call, n, strstr(call, "cublas") != NULL ? 3 : 2);
        gboolean ok = encode_once(c, DCAE_PRECISION_F16, &error);
        gboolean failed = sim.fail_left() == 0;
        sim.fail_call("*", 0, 0);
        if (!failed)
            break;
        reached++;
        g_assert_false(ok);
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY);
        g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, call));
        g_assert_true((strstr(error->message, "MiB wanted from") != NULL) == is_alloc);
        g_assert_nonnull(strstr(error->message, "; "));
        advised |= strstr(error->message, "memory-limit below") != NULL;
    }
    g_assert_cmpuint(reached, >, 0);
    g_assert_true(advised == g_str_equal(call, "cuMemAlloc_v2"));
    sim_check();
    golden_free(c);
}

/* Where no limit is set, a frame may take half of what is free on the device. */
static void test_half_of_memory(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    CodecWay way = {DCAE_BACKEND_CUDA, DCAE_PRECISION_F32};
    DcaeGeometry g = {.width = 64, .height = 128};
    g_autoptr(GError) error = NULL;

    sim.reset();
    DcaeCodec *codec = open_codec(c->model, DCAE_ENCODE, way, &g, &error);
    g_assert_no_error(error);
    DcaePlanInfo whole = *dcae_codec_plan_info(codec);
    g_assert_cmpint(whole.tiling, ==, DCAE_TILING_OFF);
    dcae_codec_free(codec);

    guint64 memory = whole.weight_bytes + whole.activation_bytes * 3 / 2;
    g_autofree char *bytes = g_strdup_printf("%" G_GUINT64_FORMAT, memory);
    g_setenv("GPUSIM_MEMORY", bytes, TRUE);
    codec = open_codec(c->model, DCAE_ENCODE, way, &g, &error);
    g_unsetenv("GPUSIM_MEMORY");
    g_assert_no_error(error);
    const DcaePlanInfo *info = dcae_codec_plan_info(codec);
    g_assert_cmpint(info->tiling, ==, DCAE_TILING_EXACT);
    g_assert_cmpuint(info->bands, >, 1);
    g_assert_cmpuint(info->activation_bytes, <=, whole.activation_bytes * 3 / 4);
    dcae_codec_free(codec);
    sim_check();
    golden_free(c);
}

/* Without a driver, cuda is an error that says what is missing, and auto is the CPU. */
static void test_no_driver(void)
{
    GoldenCase *c = golden_load("first-empty-original");
    g_autoptr(GError) error = NULL;
    DcaeCodecParams params = {
        .model = c->model, .direction = DCAE_ENCODE, .backend = DCAE_BACKEND_CUDA};

    g_assert_null(dcae_codec_new(&params, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "libcuda.so.1"));
    params.backend = DCAE_BACKEND_AUTO;
    DcaeCodec *codec = dcae_codec_new(&params, NULL);
    g_assert_nonnull(codec);
    g_assert_cmpstr(dcae_codec_backend(codec), ==, "cpu");
    dcae_codec_free(codec);
    golden_free(c);
}

/* ---- what all tests together have executed */

/* What test_bank_conflicts() looks for, and how many such instructions some test executed. */
static void check_conflicts(const char *line, guint64 hits, guint64 conflicts, void *seen)
{
    const char *text = strrchr(line, '\t') + 1; /* module, kernel, line, text */

    if (!g_str_has_prefix(text, "ldmatrix") && !g_str_has_prefix(text, "cp.async.cg"))
        return;
    if (conflicts > 0)
        g_test_message("%" G_GUINT64_FORMAT " conflicts: %s", conflicts, line);
    g_assert_cmpuint(conflicts, ==, 0);
    *(guint *)seen += hits > 0;
}

/* The main loop of the convolutions moves its tiles into shared memory and out of it without
 * waiting for a bank. */
static void test_bank_conflicts(void)
{
    guint seen = 0;

    sim.coverage_lines(check_conflicts, &seen);
    g_assert_cmpuint(seen, >=,
                     32); /* of one kernel: loads of two halves of a step and of its stages */
}

static void test_not_on_device(void)
{
    g_test_skip("needs the stand-in driver: its counters, or calls that it makes fail");
}

static void add_stand_in_test(const char *path, GTestFunc test)
{
    g_test_add_func(path, on_device ? test_not_on_device : test);
}

static void add_out_of_memory(void)
{
    static const char *const calls[] = {
        "cuMemAlloc_v2",  "cuMemAllocHost_v2", "cuModuleLoadData", "cuDevicePrimaryCtxRetain",
        "cuStreamCreate", "cuEventCreate",     "cublasCreate_v2"};

    for (guint i = 0; i < G_N_ELEMENTS(calls); i++) {
        g_autofree char *path = g_strdup_printf("/out-of-memory/%s", calls[i]);
        g_test_add_data_func(path, calls[i], test_out_of_memory);
    }
    g_test_add_data_func("/out-of-memory/weights/f32", GINT_TO_POINTER(DCAE_PRECISION_F32),
                         test_no_room_for_weights);
    g_test_add_data_func("/out-of-memory/weights/bf16", GINT_TO_POINTER(DCAE_PRECISION_BF16),
                         test_no_room_for_weights);
}

int main(int argc, char **argv)
{
    static const GoldenTest seeds[] = {
        {"head-8-above-threshold", DCAE_PRECISION_F32, DCAE_ENCODE, FALSE, 0},
        {"mixed-original", DCAE_PRECISION_BF16, DCAE_DECODE, FALSE, 0}};

    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    SimKind kind = sim_open();
    if (kind == SIM_NO_DRIVER) {
        g_test_add_func("/no-driver", test_no_driver);
        return g_test_run();
    }
    on_device = kind == SIM_DEVICE;
    if (g_getenv("GPUSIM_COVERAGE") != NULL)
        g_remove(g_getenv("GPUSIM_COVERAGE")); /* of an older run */
    g_test_add_func("/flights", test_flights);
    g_test_add_func("/wide", test_wide);
    add_stand_in_test("/device-memory", test_device_memory);
    add_stand_in_test("/shared-weights", test_shared_weights);
    g_test_add_data_func("/waits-for-neighbours/input", GINT_TO_POINTER(0),
                         test_waits_for_neighbours);
    g_test_add_data_func("/waits-for-neighbours/output", GINT_TO_POINTER(1),
                         test_waits_for_neighbours);
    if (!on_device)
        add_out_of_memory();
    add_stand_in_test("/half-of-memory", test_half_of_memory);
    add_stand_in_test("/blas-failures", test_blas_failures);
    add_stand_in_test("/failing-waits", test_failing_waits);
    g_test_add_func("/timings", test_timings);
    g_test_add_data_func("/not-finite/f32", GINT_TO_POINTER(DCAE_PRECISION_F32), test_not_finite);
    g_test_add_data_func("/not-finite/bf16", GINT_TO_POINTER(DCAE_PRECISION_BF16), test_not_finite);
    g_test_add_data_func("/not-finite/f16", GINT_TO_POINTER(DCAE_PRECISION_F16), test_not_finite);
    for (guint i = 0; i < G_N_ELEMENTS(picture_kinds); i++) {
        g_autofree char *path = g_strdup_printf("/picture/%s", picture_kinds[i].name);
        g_test_add_data_func(path, &picture_kinds[i], test_picture);
    }
    g_test_add_data_func("/seeds/f32", &seeds[0], test_seeds);
    g_test_add_data_func("/seeds/bf16", &seeds[1], test_seeds);
    for (guint i = 0; !g_test_slow() && i < G_N_ELEMENTS(quick); i++)
        add_golden(quick[i].name, quick[i].precision, quick[i].bands, quick[i].seed);
    if (g_test_slow())
        add_all_golden();
    /* Behind the others, since it leaves memory behind; suites run after what stands alone. */
    add_stand_in_test("/failing/calls", test_failures);
    add_stand_in_test("/failing/destroy", test_failing_destroy);
    /* About all that the others ran. */
    add_stand_in_test("/all/bank-conflicts", test_bank_conflicts);
    return g_test_run();
}
