/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_codec.c - what the public codec refuses, and what it shares and cancels. Whether its results
 * are right is test_golden.c's business.
 */
#include <math.h>
#include <string.h>

#include "dcae.h"
#include "test_files.h"

static DcaeModel *open_golden(const char *name)
{
    g_autofree char *path =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", name, "model", NULL);
    g_autoptr(GError) error = NULL;
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = path}, &error);

    g_assert_no_error(error);
    return model;
}

static DcaeCodec *open_codec(DcaeModel *model, DcaeDirection direction)
{
    g_autoptr(GError) error = NULL;
    DcaeCodec *codec = dcae_codec_new(&(DcaeCodecParams){.model = model,
                                                         .direction = direction,
                                                         .backend = DCAE_BACKEND_CPU,
                                                         .threads = 2,
                                                         .timings = TRUE},
                                      &error);

    g_assert_no_error(error);
    return codec;
}

static void expect(GError **error, DcaeError code, const char *part)
{
    g_assert_error(*error, DCAE_ERROR, (gint)code);
    if (strstr((*error)->message, part) == NULL)
        g_error("'%s' does not say '%s'", (*error)->message, part);
    g_clear_error(error);
}

/* A codec for one 64×64 picture, with memory for picture and latent. */
typedef struct {
    DcaeModel *model;
    DcaeCodec *codec;
    guint8 *pixels;
    float *values;
    DcaeImage image;
    DcaeLatent latent;
} Fixture;

static Fixture set_up(const char *name, DcaeDirection direction)
{
    Fixture f = {.model = open_golden(name)};
    const DcaeModelInfo *info = dcae_model_info(f.model);
    guint side = 64 / info->ratio;
    DcaeGeometry g = {.width = 64, .height = 64, .latent_width = side, .latent_height = side};
    g_autoptr(GError) error = NULL;

    f.codec = open_codec(f.model, direction);
    dcae_codec_configure(f.codec, &g, &error);
    g_assert_no_error(error);
    f.pixels = g_malloc0(3 * 64 * 64);
    f.values = g_new0(float, (gsize)info->latent_channels *side *side);
    f.image = (DcaeImage){.width = 64, .height = 64, .kr = 0.2126, .kb = 0.0722};
    for (guint i = 0; i < 3; i++)
        f.image.component[i] = (DcaeComponent){f.pixels + i, 3 * 64, 3};
    f.latent = (DcaeLatent){.c = info->latent_channels, .h = side, .w = side, .data = f.values};
    return f;
}

static void tear_down(Fixture *f)
{
    dcae_codec_free(f->codec);
    dcae_model_unref(f->model);
    g_free(f->pixels);
    g_free(f->values);
}

typedef struct {
    const char *part; /* of the error */
    DcaeImage image;
    DcaeLatent latent;
} Refused;

static void refuse(Fixture *f, const Refused *cases, guint n)
{
    for (guint i = 0; i < n; i++) {
        GError *error = NULL;
        g_assert_false(dcae_codec_run(f->codec, &cases[i].image, &cases[i].latent, 1, &error));
        expect(&error, DCAE_ERROR_SHAPE, cases[i].part);
    }
}

static void test_images(void)
{
    Fixture f = set_up("batchnorm", DCAE_ENCODE);
    DcaeImage yuv = f.image;
    yuv.color = DCAE_COLOR_YUV;

    /* Each differs from the fixture's in one field. */
    DcaeImage far = f.image, narrow = f.image, hollow = f.image, other = f.image;
    DcaeImage thin = yuv, blue = yuv, astray = yuv;
    far.memory = DCAE_MEMORY_CUDA;
    narrow.width = 63;
    hollow.component[2].data = NULL;
    other.color = (DcaeColorModel)7;
    thin.chroma_w_shift = 31;
    blue.kb = 1;
    astray.chroma_x = -1e300;
    const Refused cases[] = {
        {"the cpu backend can't reach", far, f.latent},
        {"63×64", narrow, f.latent},
        {"component 2", hollow, f.latent},
        {"colour model 7", other, f.latent},
        {"chroma shifts", thin, f.latent},
        {"luma weights", blue, f.latent},
        {"chroma place", astray, f.latent},
    };
    refuse(&f, cases, G_N_ELEMENTS(cases));
    tear_down(&f);
}

static void test_latents(void)
{
    Fixture f = set_up("batchnorm", DCAE_DECODE);
    DcaeLatent far = f.latent, deep = f.latent, hollow = f.latent, other = f.latent;
    DcaeLatent odd = f.latent;

    odd.data = (char *)f.values + 2;
    far.memory = DCAE_MEMORY_CUDA;
    deep.c++;
    hollow.data = NULL;
    other.format = (DcaeLatentFormat)9;
    const Refused cases[] = {
        {"the cpu backend can't reach", f.image, far},
        {"configured for", f.image, deep},
        {"no data", f.image, hollow},
        {"format 9", f.image, other},
        {"not aligned", f.image, odd},
    };
    refuse(&f, cases, G_N_ELEMENTS(cases));
    tear_down(&f);
}

/* A latent that isn't finite is no picture, whatever activations it goes through. */
static void test_not_finite(const char *name, float value)
{
    Fixture f = set_up(name, DCAE_DECODE);
    GError *error = NULL;

    f.values[1] = value;
    g_assert_false(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    expect(&error, DCAE_ERROR_NOT_FINITE, "the frame has values");
    f.values[1] = 0;
    g_assert_true(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    g_assert_no_error(error);
    tear_down(&f);
}

static void test_not_finite_latents(void)
{
    static const char *const names[] = {"batchnorm", "activations", "head-8", "res-shuffle"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        test_not_finite(names[i], NAN);
        test_not_finite(names[i], INFINITY);
    }
}

/* A failed configuration leaves none; what ran before no longer does, and says why. */
static void test_configure_fails(void)
{
    Fixture f = set_up("batchnorm", DCAE_ENCODE);
    GError *error = NULL;
    guint n = 0;

    g_assert_null(dcae_codec_timings(f.codec, &n));
    g_assert_true(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    g_assert_nonnull(dcae_codec_timings(f.codec, &n));
    g_assert_cmpuint(n, >, 2);
    g_assert_false(dcae_codec_run(f.codec, &f.image, &f.latent, 2, &error));
    expect(&error, DCAE_ERROR_SHAPE, "1 to 1");
    g_assert_false(dcae_codec_configure(f.codec, &(DcaeGeometry){.width = 64}, &error));
    expect(&error, DCAE_ERROR_SHAPE, "64×0");
    g_assert_null(dcae_codec_plan_info(f.codec));
    g_assert_null(dcae_codec_timings(f.codec, &n));
    g_assert_false(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    expect(&error, DCAE_ERROR_SHAPE, "dcae_codec_configure()");
    tear_down(&f);
}

/* Only who asks for times gets them. */
static void test_no_timings(void)
{
    Fixture f = set_up("batchnorm", DCAE_ENCODE);
    DcaeCodecParams params = {
        .model = f.model, .direction = DCAE_ENCODE, .backend = DCAE_BACKEND_CPU, .threads = 1};
    GError *error = NULL;
    DcaeCodec *codec = dcae_codec_new(&params, &error);
    guint n = 0;

    g_assert_no_error(error);
    dcae_codec_configure(codec, &(DcaeGeometry){.width = 64, .height = 64}, &error);
    g_assert_no_error(error);
    g_assert_true(dcae_codec_run(codec, &f.image, &f.latent, 1, &error));
    g_assert_null(dcae_codec_timings(codec, &n));
    g_assert_cmpuint(n, ==, 0);
    dcae_codec_free(codec);
    tear_down(&f);
}

/* More than the machine has is refused also without a limit, and the message says how much. */
static void test_machine_memory(void)
{
    Fixture f = set_up("batchnorm", DCAE_ENCODE);
    DcaeGeometry g = {.width = 65536, .height = 65536, .batch = 64};
    GError *error = NULL;

    g_assert_false(dcae_codec_configure(f.codec, &g, &error));
    expect(&error, DCAE_ERROR_MEMORY, "but this process may use");
    g.tiling.memory_limit = 1;
    g_assert_false(dcae_codec_configure(f.codec, &g, &error));
    expect(&error, DCAE_ERROR_SETTINGS, "needs at least");
    tear_down(&f);
}

/* ---- models */

/* A model that has the two tensors without which none opens, and no others.
 * keys: what the configuration says besides, channels among it. */
static void refuse_model(const char *keys, DcaeError code, const char *part)
{
    static const guint64 out_shape[] = {4, 16, 3, 3}, in_shape[] = {16, 4, 3, 3};
    g_autofree char *folder = test_folder_new();
    g_autofree char *text = g_build_filename(folder, "config.json", NULL);
    g_autofree char *path = g_build_filename(folder, "diffusion_pytorch_model.safetensors", NULL);
    g_autofree char *config =
        g_strdup_printf("{%s,\"latent_channels\":4,\"attention_head_dim\":4,"
                        "\"encoder_layers_per_block\":[1,1],\"decoder_layers_per_block\":[1,1],"
                        "\"encoder_qkv_multiscales\":[[],[]],\"decoder_qkv_multiscales\":[[],[]]}",
                        keys);
    float values[576] = {0};
    GError *error = NULL;
    TestFile file = test_file_new();

    test_write(text, config, strlen(config));
    test_file_add(&file, "encoder.conv_out.weight", "F32", out_shape, 4, values, sizeof values);
    test_file_add(&file, "decoder.conv_in.weight", "F32", in_shape, 4, values, sizeof values);
    test_file_write(&file, path);
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = folder}, &error);
    g_assert_no_error(error);
    g_assert_null(
        dcae_codec_new(&(DcaeCodecParams){.model = model, .backend = DCAE_BACKEND_CPU}, &error));
    expect(&error, code, part);
    dcae_model_unref(model);
    test_folder_remove(folder);
}

static void test_picture_channels(void)
{
    refuse_model("\"in_channels\":4,\"encoder_block_out_channels\":[8,16],"
                 "\"decoder_block_out_channels\":[8,16]",
                 DCAE_ERROR_UNSUPPORTED, "4 channels ('in_channels')");
}

/* A terabyte of weights that aren't there: the first tensor that is missing, not the memory. */
static void test_huge_configuration(void)
{
    refuse_model("\"encoder_block_out_channels\":[65536,16],"
                 "\"decoder_block_out_channels\":[65536,16]",
                 DCAE_ERROR_WEIGHTS, "tensor 'encoder.conv_in.weight' is missing");
}

/* Copies a golden model with the first value of one F16 tensor replaced. */
static char *copy_with(const char *name, const char *suffix, guint16 value)
{
    static const char weights[] = "diffusion_pytorch_model.safetensors";
    g_autofree char *from =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", name, "model", NULL);
    char *folder = test_folder_new();
    gsize size = 0;

    for (guint i = 0; i < 2; i++) {
        const char *base = i == 0 ? "config.json" : weights;
        g_autofree char *source = g_build_filename(from, base, NULL);
        g_autofree char *target = g_build_filename(folder, base, NULL);
        g_autofree char *bytes = NULL;
        g_assert_true(g_file_get_contents(source, &bytes, &size, NULL));
        if (i == 1) {
            guint64 length;
            gboolean found = FALSE;
            memcpy(&length, bytes, 8);
            length = GUINT64_FROM_LE(length);
            DcaeSafetensorsHeader *header =
                dcae_safetensors_header_parse((guint8 *)bytes + 8, length, base, NULL);
            for (guint n = 0; n < dcae_safetensors_header_n_tensors(header) && !found; n++) {
                const DcaeTensor *t = dcae_safetensors_header_nth(header, n);
                found = t->dtype == DCAE_DTYPE_F16 && g_str_has_suffix(t->name, suffix);
                if (found)
                    memcpy(bytes + 8 + length + t->begin, &value, sizeof value);
            }
            g_assert_true(found);
            dcae_safetensors_header_free(header);
        }
        test_write(target, bytes, size);
    }
    return folder;
}

static void refuse_weights(const char *suffix, guint16 half, const char *part)
{
    g_autofree char *folder = copy_with("batchnorm", suffix, GUINT16_TO_LE(half));
    GError *error = NULL;
    DcaeModel *model = dcae_model_open(&(DcaeModelParams){.path = folder}, &error);

    g_assert_no_error(error);
    g_assert_null(dcae_codec_new(
        &(DcaeCodecParams){.model = model, .direction = DCAE_DECODE, .backend = DCAE_BACKEND_CPU},
        &error));
    expect(&error, DCAE_ERROR_WEIGHTS, part);
    dcae_model_unref(model);
    test_folder_remove(folder);
}

static void test_bad_weights(void)
{
    refuse_weights(".running_var", 0xbc00, "negative variance");
    refuse_weights(".running_mean", 0x7e00, "holds NaN");
    refuse_weights("conv2.weight", 0x7c00, "holds NaN");
}

/* ---- sharing and cancelling */

typedef struct {
    DcaeModel *model;
    GCancellable *cancellable;
    gint *inside; /* the loader is packing */
    gint *go_on;
    DcaeCodec *codec;
    GError *error;
} Load;

static void on_progress(const char *stage, double fraction, gpointer data)
{
    Load *load = data;

    g_atomic_int_set(load->inside, 1);
    while (!g_atomic_int_get(load->go_on))
        g_usleep(1000);
}

static gpointer load_thread(gpointer data)
{
    Load *load = data;

    load->codec =
        dcae_codec_new(&(DcaeCodecParams){.model = load->model,
                                          .backend = DCAE_BACKEND_CPU,
                                          .threads = 1,
                                          .cancellable = load->cancellable,
                                          .progress = load->inside != NULL ? on_progress : NULL,
                                          .progress_data = load},
                       &load->error);
    return NULL;
}

/* Of two codecs one packs and the other waits; the one that packs is cancelled, or the other. */
static void test_cancel(gconstpointer data)
{
    gboolean loader = GPOINTER_TO_INT(data);
    gint inside = 0, go_on = 0;
    Load loads[2] = {{.inside = &inside, .go_on = &go_on}, {0}};
    GThread *threads[2];

    for (guint i = 0; i < 2; i++) {
        loads[i].model = open_golden("batchnorm");
        loads[i].cancellable = g_cancellable_new();
        threads[i] = g_thread_new("load", load_thread, &loads[i]);
        while (i == 0 && !g_atomic_int_get(&inside))
            g_usleep(1000);
    }
    g_usleep(20000); /* most likely the second waits by now; it is right either way */
    g_cancellable_cancel(loads[loader ? 0 : 1].cancellable);
    if (!loader) { /* a waiting codec gives up while the other still packs */
        g_thread_join(threads[1]);
        threads[1] = NULL;
    }
    g_atomic_int_set(&go_on, 1);
    for (guint i = 0; i < 2; i++) {
        if (threads[i] != NULL)
            g_thread_join(threads[i]);
        if (i == (loader ? 0 : 1)) {
            g_assert_null(loads[i].codec);
            expect(&loads[i].error, DCAE_ERROR_CANCELLED, "cancelled");
        } else {
            g_assert_no_error(loads[i].error);
            g_assert_nonnull(loads[i].codec);
        }
        dcae_codec_free(loads[i].codec);
        dcae_model_unref(loads[i].model);
        g_object_unref(loads[i].cancellable);
    }
}

/* As many runs as the depth says, which end in order. */
static void test_runs(void)
{
    Fixture f = set_up("batchnorm", DCAE_ENCODE);
    g_autoptr(GError) error = NULL;
    guint64 ticket, second;

    g_assert_cmpuint(dcae_codec_depth(f.codec), ==, 1);
    dcae_codec_submit(f.codec, &f.image, &f.latent, 1, &ticket, &error);
    g_assert_no_error(error);
    g_assert_false(dcae_codec_submit(f.codec, &f.image, &f.latent, 1, &second, &error));
    expect(&error, DCAE_ERROR_SHAPE, "under way");
    g_assert_false(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    expect(&error, DCAE_ERROR_SHAPE, "under way");
    g_assert_false(dcae_codec_wait(f.codec, ticket + 1, &error));
    expect(&error, DCAE_ERROR_SHAPE, "oldest");
    g_assert_true(dcae_codec_wait(f.codec, ticket, &error));
    g_assert_no_error(error);
    g_assert_false(dcae_codec_wait(f.codec, ticket, &error));
    expect(&error, DCAE_ERROR_SHAPE, "oldest");
    g_assert_true(dcae_codec_run(f.codec, &f.image, &f.latent, 1, &error));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/codec/images", test_images);
    g_test_add_func("/codec/latents", test_latents);
    g_test_add_func("/codec/runs", test_runs);
    g_test_add_func("/codec/not-finite", test_not_finite_latents);
    g_test_add_func("/codec/configure-fails", test_configure_fails);
    g_test_add_func("/codec/no-timings", test_no_timings);
    g_test_add_func("/codec/machine-memory", test_machine_memory);
    g_test_add_func("/codec/picture-channels", test_picture_channels);
    g_test_add_func("/codec/huge-configuration", test_huge_configuration);
    g_test_add_func("/codec/bad-weights", test_bad_weights);
    g_test_add_data_func("/codec/cancel-loader", GINT_TO_POINTER(TRUE), test_cancel);
    g_test_add_data_func("/codec/cancel-waiter", GINT_TO_POINTER(FALSE), test_cancel);
    return g_test_run();
}
