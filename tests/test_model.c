/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_model.c - opening models: both layouts, shards, variants, the local Hugging Face cache,
 * inference of configurations, reading tensors, and every kind of file that must be refused. The
 * files are written here and are tiny, or holes where real sizes matter.
 */
#include "dcae_checkpoint.h"
#include "dcae_hub.h"
#include "dcae_model.h"
#include "dcae_names.h"
#include "test_files.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

static char *folder;

static char *at(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

/* ---- little models ---- */

/* Two stages; latents of 4 channels, 16 wide at the end. */
static const char small_config[] =
    "{\"_class_name\":\"AutoencoderDC\",\"latent_channels\":4,\"attention_head_dim\":4,"
    "\"encoder_block_out_channels\":[8,16],\"decoder_block_out_channels\":[8,16],"
    "\"encoder_layers_per_block\":[1,1],\"decoder_layers_per_block\":[1,1],"
    "\"encoder_qkv_multiscales\":[[],[]],\"decoder_qkv_multiscales\":[[],[]],"
    "\"scaling_factor\":0.5}";

static const guint64 out_shape[] = {4, 16, 3, 3}, in_shape[] = {16, 4, 3, 3};

/* The two tensors that every model must have, with values that depend on the seed. */
static void add_ends(TestFile *file, const char *out_name, const char *in_name, float seed)
{
    float values[576];
    for (guint i = 0; i < 576; i++)
        values[i] = seed + (float)i / 64;
    test_file_add(file, out_name, "F32", out_shape, 4, values, sizeof values);
    for (guint i = 0; i < 576; i++)
        values[i] = seed - (float)i / 64;
    test_file_add(file, in_name, "F32", in_shape, 4, values, sizeof values);
}

static TestFile small_file(float seed)
{
    TestFile file = test_file_new();
    add_ends(&file, "encoder.conv_out.weight", "decoder.conv_in.weight", seed);
    return file;
}

static void write_text(const char *path, const char *text)
{
    test_write(path, text, strlen(text));
}

/* A directory below the test folder, with a config.json unless config is NULL. */
static char *make_folder(const char *name, const char *config)
{
    char *path = at(name);
    g_assert_cmpint(g_mkdir_with_parents(path, 0700), ==, 0);
    if (config) {
        char *file = g_build_filename(path, "config.json", NULL);
        write_text(file, config);
        g_free(file);
    }
    return path;
}

static void put_weights(const char *path, const char *name, float seed)
{
    TestFile file = small_file(seed);
    char *full = g_build_filename(path, name, NULL);
    test_file_write(&file, full);
    g_free(full);
}

static DcaeModel *open_ok(const char *path, const char *variant, const char *config)
{
    GError *error = NULL;
    DcaeModel *model = dcae_model_open(
        &(DcaeModelParams){.path = path, .variant = variant, .config = config, .hub_cache = folder},
        &error);
    g_assert_no_error(error);
    return model;
}

/* Opening fails with this code and a message that has all the parts (NULL at the end). */
static void open_fails(const char *path, const char *variant, const char *config, DcaeError code,
                       const char *part, ...)
{
    GError *error = NULL;
    DcaeModelParams params = {
        .path = path, .variant = variant, .config = config, .hub_cache = folder};
    g_assert_null(dcae_model_open(&params, &error));
    g_test_message("%s", error->message);
    g_assert_error(error, DCAE_ERROR, (int)code);
    va_list args;
    va_start(args, part);
    for (; part; part = va_arg(args, const char *))
        if (!strstr(error->message, part))
            g_error("'%s' does not say '%s'", error->message, part);
    va_end(args);
    g_clear_error(&error);
    g_assert_null(dcae_model_open(&params, NULL));
}

/* The directory holds one model file made by the caller. */
static DcaeModel *open_file(TestFile *file, const char *name)
{
    char *path = make_folder(name, small_config);
    char *weights = g_build_filename(path, "diffusion_pytorch_model.safetensors", NULL);
    test_file_write(file, weights);
    DcaeModel *model = open_ok(path, NULL, NULL);
    g_free(weights);
    g_free(path);
    return model;
}

static void read_fails(const DcaeModel *model, const char *name, const guint64 *shape, guint rank,
                       const char *message)
{
    float values[64];
    GError *error = NULL;
    g_assert_false(dcae_model_read(model, name, shape, rank, values, &error));
    g_test_message("%s", error->message);
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_WEIGHTS);
    g_assert_nonnull(strstr(error->message, message));
    g_assert_nonnull(strstr(error->message, "diffusion_pytorch_model.safetensors"));
    g_clear_error(&error);
}

/* ---- reading ---- */

static void test_types(void)
{
    static const guint64 shape[] = {2, 4};
    static const float floats[] = {0, -1.5f, 3.25e38f, -1e-45f, 1, 2, 3, 4};
    /* 1, -2, 65504, the smallest subnormal, the largest subnormal, -0, 0.333…, 2^-14 */
    static const guint16 halves[] = {0x3c00, 0xc000, 0x7bff, 1, 0x03ff, 0x8000, 0x3555, 0x0400};
    static const float half_values[] = {1,          -2,    65504,       0x1p-24f,
                                        0x3ffp-24f, -0.0f, 0x1.554p-2f, 0x1p-14f};
    static const guint16 brains[] = {0x3f80, 0xc000, 0x7f7f, 0x0001, 0x8000, 0x4049, 0x3eaa, 0};
    static const float brain_values[] = {1,     -2,       0x1.fep127f, 0x1p-133f,
                                         -0.0f, 3.140625, 0x1.54p-2f,  0};
    static const double doubles[] = {0.1, -1e30, 1e-300, 3, 4, 5, 6, 7};
    float values[8];
    TestFile file = small_file(1);
    test_file_add(&file, "f32", "F32", shape, 2, floats, sizeof floats);
    test_file_add(&file, "f16", "F16", shape, 2, halves, sizeof halves);
    test_file_add(&file, "bf16", "BF16", shape, 2, brains, sizeof brains);
    test_file_add(&file, "f64", "F64", shape, 2, doubles, sizeof doubles);
    DcaeModel *model = open_file(&file, "types");
    g_assert_true(dcae_model_read(model, "f32", shape, 2, values, NULL));
    g_assert_cmpmem(values, sizeof values, floats, sizeof floats);
    g_assert_true(dcae_model_read(model, "f16", shape, 2, values, NULL));
    g_assert_cmpmem(values, sizeof values, half_values, sizeof half_values);
    g_assert_true(dcae_model_read(model, "bf16", shape, 2, values, NULL));
    g_assert_cmpmem(values, sizeof values, brain_values, sizeof brain_values);
    g_assert_true(dcae_model_read(model, "f64", shape, 2, values, NULL));
    for (guint i = 0; i < 8; i++)
        g_assert_true(values[i] == (float)doubles[i]);
    g_assert_true(dcae_model_has(model, "f32"));
    g_assert_false(dcae_model_has(model, "f8"));
    dcae_model_unref(model);
}

/* Longer than one piece of the reader, with a different value in each place. */
static void test_long(void)
{
    static const guint64 shape[] = {200003};
    guint16 *bits = g_new(guint16, shape[0]);
    float *values = g_new(float, shape[0]);
    for (guint i = 0; i < shape[0]; i++)
        bits[i] = (guint16)(0x3c00 + i % 1021);
    TestFile file = small_file(1);
    test_file_add(&file, "long", "F16", shape, 1, bits, 2 * shape[0]);
    DcaeModel *model = open_file(&file, "long");
    g_assert_true(dcae_model_read(model, "long", shape, 1, values, NULL));
    for (guint i = 0; i < shape[0]; i++)
        g_assert_true(values[i] == 1 + (float)(i % 1021) / 1024);
    dcae_model_unref(model);
    g_free(bits);
    g_free(values);
}

static void test_shapes(void)
{
    static const guint64 flat[] = {3, 2}, deep[] = {3, 2, 1, 1}, turned[] = {2, 3};
    static const guint64 kernel[] = {3, 2, 3, 1}, kernel2[] = {3, 2, 1, 3}, line[] = {6};
    static const float numbers[] = {1, 2, 3, 4, 5, 6};
    float values[6];
    TestFile file = small_file(1);
    test_file_add(&file, "flat", "F32", flat, 2, numbers, sizeof numbers);
    test_file_add(&file, "deep", "F32", deep, 4, numbers, sizeof numbers);
    DcaeModel *model = open_file(&file, "shapes");
    g_assert_true(dcae_model_read(model, "flat", deep, 4, values, NULL));
    g_assert_true(dcae_model_read(model, "deep", flat, 2, values, NULL));
    g_assert_true(dcae_model_read(model, "deep", deep, 4, values, NULL));
    g_assert_cmpmem(values, sizeof values, numbers, sizeof numbers);
    read_fails(model, "flat", turned, 2, "tensor 'flat' is [3,2], the configuration wants [2,3]");
    read_fails(model, "flat", kernel, 4, "is [3,2], the configuration wants [3,2,3,1]");
    read_fails(model, "flat", kernel2, 4, "is [3,2], the configuration wants [3,2,1,3]");
    read_fails(model, "flat", line, 1, "is [3,2], the configuration wants [6]");
    read_fails(model, "deep", line, 1, "is [3,2,1,1], the configuration wants [6]");
    read_fails(model, "none", line, 1, "tensor 'none' is missing");
    dcae_model_unref(model);
}

static void test_bad_values(void)
{
    static const guint64 shape[] = {4};
    static const float nans[] = {1, 2, NAN, 3}, infinities[] = {1, 2, 3, -INFINITY};
    static const guint16 halves[] = {0, 0x7c00, 0, 0}, brains[] = {0, 0, 0, 0xff81};
    static const double huge[] = {1, 1e39, 0, 0};
    static const gint64 whole[] = {1, 2, 3, 4};
    TestFile file = small_file(1);
    test_file_add(&file, "nan", "F32", shape, 1, nans, sizeof nans);
    test_file_add(&file, "infinity", "F32", shape, 1, infinities, sizeof infinities);
    test_file_add(&file, "half", "F16", shape, 1, halves, sizeof halves);
    test_file_add(&file, "brain", "BF16", shape, 1, brains, sizeof brains);
    test_file_add(&file, "huge", "F64", shape, 1, huge, sizeof huge);
    test_file_add(&file, "whole", "I64", shape, 1, whole, sizeof whole);
    test_file_add(&file, "f8", "F8_E4M3", shape, 1, whole, 4);
    DcaeModel *model = open_file(&file, "bad-values");
    read_fails(model, "nan", shape, 1, "tensor 'nan' holds NaN");
    read_fails(model, "infinity", shape, 1, "tensor 'infinity' holds");
    read_fails(model, "half", shape, 1, "tensor 'half' holds");
    read_fails(model, "brain", shape, 1, "tensor 'brain' holds");
    read_fails(model, "huge", shape, 1, "tensor 'huge' holds");
    read_fails(model, "whole", shape, 1, "tensor 'whole' has type I64");
    read_fails(model, "f8", shape, 1, "tensor 'f8' has type F8_E4M3");
    dcae_model_unref(model);
}

/* A file that is cut after it was opened is an error, not a crash. */
static void test_shrinks(void)
{
    float values[576];
    GError *error = NULL;
    TestFile file = small_file(1);
    DcaeModel *model = open_file(&file, "shrinks");
    char *path = at("shrinks/diffusion_pytorch_model.safetensors");
    g_assert_cmpint(truncate(path, 3000), ==, 0);
    g_assert_false(dcae_model_read(model, "decoder.conv_in.weight", in_shape, 4, values, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_READ);
    g_assert_nonnull(strstr(error->message, path));
    g_clear_error(&error);
    dcae_model_unref(model);
    g_free(path);
}

/* A file that is overwritten in place after it was opened gives no mixture of two models. */
static void test_changes(void)
{
    float values[576];
    struct stat status;
    GError *error = NULL;
    TestFile file = small_file(1);
    DcaeModel *model = open_file(&file, "changes");
    char *path = at("changes/diffusion_pytorch_model.safetensors");
    g_assert_true(dcae_model_read(model, "decoder.conv_in.weight", in_shape, 4, values, NULL));
    g_assert_cmpint(g_stat(path, &status), ==, 0);
    int fd = open(path, O_WRONLY);
    g_assert_cmpint(pwrite(fd, values, 8, status.st_size - 8), ==, 8);
    const struct timespec times[] = {status.st_atim, {status.st_mtim.tv_sec + 1, 0}};
    g_assert_cmpint(futimens(fd, times), ==, 0); /* also where the clock is coarse */
    close(fd);
    g_assert_false(dcae_model_read(model, "decoder.conv_in.weight", in_shape, 4, values, &error));
    g_assert_error(error, DCAE_ERROR, DCAE_ERROR_READ);
    g_assert_nonnull(strstr(error->message, path));
    g_assert_nonnull(strstr(error->message, "was changed"));
    g_clear_error(&error);
    dcae_model_unref(model);
    g_free(path);
}

/* ---- the original layout ---- */

static void test_original(void)
{
    static const guint64 qkv_shape[] = {12, 4, 1, 1}, odd_shape[] = {13, 4, 1, 1};
    static const guint64 third[] = {4, 4}, bias[] = {2};
    static const char *const wrappers[] = {"", "state_dict.", "model.", "module."};
    float qkv[52], values[16];
    for (guint i = 0; i < 52; i++)
        qkv[i] = (float)i;
    char *config = at("original.json");
    write_text(config, small_config);
    for (guint w = 0; w < G_N_ELEMENTS(wrappers); w++) {
        TestFile file = test_file_new();
        char *path = at("original.safetensors"), *names[5];
        static const char *const stored[] = {
            "encoder.project_out.main.op_list.0.conv.weight", "decoder.project_in.main.conv.weight",
            "encoder.stages.1.op_list.0.context_module.main.qkv.conv.weight",
            "encoder.stages.1.op_list.1.context_module.main.qkv.conv.weight",
            "encoder.stages.0.op_list.1.main.conv.bias"};
        for (guint i = 0; i < 5; i++)
            names[i] = g_strconcat(wrappers[w], stored[i], NULL);
        add_ends(&file, names[0], names[1], 1);
        test_file_add(&file, names[2], "F32", qkv_shape, 4, qkv, 192);
        test_file_add(&file, names[3], "F32", odd_shape, 4, qkv, 208);
        test_file_add(&file, names[4], "F32", bias, 1, qkv, 8);
        test_file_write(&file, path);
        DcaeModel *model = open_ok(path, NULL, config);
        for (guint part = 0; part < 3; part++) {
            char *name = g_strdup_printf("encoder.down_blocks.1.0.attn.to_%c.weight", "qkv"[part]);
            g_assert_true(dcae_model_read(model, name, third, 2, values, NULL));
            g_assert_cmpmem(values, sizeof values, qkv + 16 * part, sizeof values);
            g_free(name);
        }
        g_assert_true(
            dcae_model_read(model, "encoder.down_blocks.0.1.conv.bias", bias, 1, values, NULL));
        GError *error = NULL;
        g_assert_false(dcae_model_read(model, "encoder.down_blocks.1.1.attn.to_k.weight", third, 2,
                                       values, &error));
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_WEIGHTS);
        g_assert_nonnull(strstr(error->message, "[13,4,1,1], the configuration wants three times "
                                                "[4,4]"));
        g_clear_error(&error);
        g_assert_false(dcae_model_read(model, "decoder.norm_out.bias", bias, 1, values, &error));
        g_assert_nonnull(strstr(error->message,
                                "'decoder.norm_out.bias' (in the original layout "
                                "'decoder.project_out.op_list.0.bias') is missing"));
        g_clear_error(&error);
        dcae_model_unref(model);
        for (guint i = 0; i < 5; i++)
            g_free(names[i]);
        g_free(path);
    }
    g_free(config);
}

/* The reference's own conversion made this list; each name must go there and back. */
static void test_names(void)
{
    char *path = g_build_filename(g_getenv("DCAE_TEST_DATA"), "original_names.tsv", NULL);
    char *text = NULL;
    GHashTable *back = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    GString *original = g_string_new(NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    char **lines = g_strsplit(text, "\n", -1);
    guint n = 0;
    for (guint i = 0; lines[i]; i++) {
        guint part, found = 0;
        char **pair = g_strsplit(lines[i], "\t", 2);
        if (*lines[i] != '#' && pair[0] && pair[1]) {
            n++;
            for (guint k = 0; dcae_names_to_original(pair[1], k, original, &part); k++) {
                found += strcmp(original->str, pair[0]) == 0;
                char *key = g_strdup_printf("%u %s", part, original->str);
                char *known = g_hash_table_lookup(back, key);
                /* No two names may be read from one tensor. The exception is the spelling of a
                 * first layer without and with a step, of which a file has one. */
                if (known && strcmp(known, pair[1]) != 0)
                    g_assert_true(g_str_has_prefix(known, "encoder.conv_in."));
                g_hash_table_insert(back, key, g_strdup(pair[1]));
            }
            if (found != 1)
                g_error("%s is not made from %s", pair[0], pair[1]);
        }
        g_strfreev(pair);
    }
    g_assert_cmpuint(n, >, 200);
    static const char *const foreign[] = {
        "",
        "encoder",
        "encoder.down_blocks.0.conv1.weight",
        "encoder.down_blocks.x.0.conv1.weight",
        "encoder.down_blocks.0.0.other.weight",
        "decoder.down_blocks.0.0.conv1.weight",
        "decoder.up_blocks.0.0.attn.to_qkv_multiscale.weight",
        "decoder.up_blocks.0.0.attn.to_qkv_multiscale.0.x.weight"};
    guint part;
    for (guint i = 0; i < G_N_ELEMENTS(foreign); i++)
        g_assert_false(dcae_names_to_original(foreign[i], 0, original, &part));
    g_assert_false(dcae_names_to_original("encoder.conv_in.weight", DCAE_NAMES_MAX_SPELLINGS,
                                          original, &part));
    g_strfreev(lines);
    g_free(text);
    g_string_free(original, TRUE);
    g_hash_table_unref(back);
    g_free(path);
}

/* ---- files that are no models ---- */

static void test_bad_files(void)
{
    char *path = at("bad.safetensors");
    static const char good[] = "{\"encoder.conv_out.weight\":{\"dtype\":\"U8\",\"shape\":[4],"
                               "\"data_offsets\":[0,4]}}";
    gsize size = strlen(good);
    open_fails("", NULL, NULL, DCAE_ERROR_NOT_FOUND, "no model", NULL);
    open_fails(NULL, NULL, NULL, DCAE_ERROR_NOT_FOUND, "no model", NULL);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, "neither a file, nor a directory",
               NULL);
    test_write(path, "", 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "only 0 bytes", NULL);
    test_write(path, "\2\0\0\0\0\0\0", 7);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "only 7 bytes", NULL);
    test_write(path, "PK\3\4 a zip archive", 16);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "zip archive", NULL);
    test_write_raw(path, good, size + 5, "abcd", 4);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "header's length", NULL);
    test_write_raw(path, good, G_MAXUINT64, "abcd", 4);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "18446744073709551615", NULL);
    test_write_raw(path, good, size - 1, "abcd", 4);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "cut short", NULL);
    test_write_raw(path, good, size, "abc", 3);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "3 bytes of data", "cut short", NULL);
    test_write_raw(path, good, size, "abcde", 5);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "5 bytes of data", "too long", NULL);
    test_write_raw(path, "{}", 2, "", 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, path, "no AutoencoderDC", NULL);
    /* A header of 101 MB, most of which is a hole. */
    test_write_raw(path, "{}", 101000000, "", 0);
    g_assert_cmpint(truncate(path, 101000008), ==, 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, path, "100 MB", NULL);
    g_assert_cmpint(g_remove(path), ==, 0);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_READ, path, "no regular file", NULL);
    g_remove(path);
    g_assert_cmpint(symlink("bad.safetensors", path), ==, 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, NULL);
    g_remove(path);
    g_free(path);
}

static void test_bad_models(void)
{
    static const guint64 wrong[] = {4, 15, 3, 3};
    float values[576] = {0};
    char *path = make_folder("bad-models", NULL);
    char *config = g_build_filename(path, "config.json", NULL);
    char *weights = g_build_filename(path, "diffusion_pytorch_model.safetensors", NULL);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, "has no weights", NULL);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, "has no config.json", NULL);
    write_text(config, "no JSON");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, config, "no valid JSON", NULL);
    write_text(config, "");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, config, NULL);
    test_write(config, "{\0}", 3);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, config, "no text file", NULL);
    write_text(config, "{\"latent_channels\":\"four\"}");
    open_fails(path, NULL, NULL, DCAE_ERROR_CONFIG, config, "'latent_channels'", NULL);
    write_text(config, "{\"_class_name\":\"AutoencoderKL\"}");
    open_fails(path, NULL, NULL, DCAE_ERROR_CONFIG, config, "AutoencoderKL", NULL);
    write_text(config, "{}");
    g_assert_cmpint(truncate(config, 2 << 20), ==, 0);
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, config, "bytes", NULL);
    write_text(config, "{}"); /* the defaults, which these weights don't fit */
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, weights, "'encoder.conv_out.weight'",
               "[4,16,3,3]", "[32,1024,3,3]", NULL);
    write_text(config, small_config);
    TestFile file = test_file_new();
    test_file_add(&file, "encoder.conv_out.weight", "F32", wrong, 4, values, 2160);
    test_file_write(&file, weights);
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, weights, "[4,15,3,3]", "[4,16,3,3]", NULL);
    file = test_file_new();
    test_file_add(&file, "encoder.conv_out.weight", "F32", out_shape, 4, values, 2304);
    test_file_write(&file, weights);
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, weights, "'decoder.conv_in.weight' is missing",
               NULL);
    values[575] = NAN;
    file = test_file_new();
    test_file_add(&file, "encoder.conv_out.weight", "F32", out_shape, 4, values, 2304);
    test_file_write(&file, weights);
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, weights, "'encoder.conv_out.weight' holds NaN",
               NULL);
    g_free(path);
    g_free(config);
    g_free(weights);
}

/* ---- directories ---- */

/* Opens and returns the hash, which tells which file was taken. */
static char *hash_of(const char *path, const char *variant, const char *config)
{
    DcaeModel *model = open_ok(path, variant, config);
    char *hash = g_strdup(dcae_model_info(model)->hash);
    dcae_model_unref(model);
    return hash;
}

static void assert_takes(const char *path, const char *variant, float seed)
{
    char *other = make_folder("takes", small_config);
    put_weights(other, "diffusion_pytorch_model.safetensors", seed);
    char *want = hash_of(other, NULL, NULL), *have = hash_of(path, variant, NULL);
    g_assert_cmpstr(have, ==, want);
    g_free(want);
    g_free(have);
    g_free(other);
}

static void test_variants(void)
{
    char *path = make_folder("variants", small_config);
    put_weights(path, "diffusion_pytorch_model.fp16.safetensors", 2);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, "only variants", "(fp16)", NULL);
    open_fails(path, "", NULL, DCAE_ERROR_NOT_FOUND, "only variants", NULL);
    open_fails(path, "bf16", NULL, DCAE_ERROR_NOT_FOUND, "no variant 'bf16'", "fp16", NULL);
    assert_takes(path, "fp16", 2);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    put_weights(path, "diffusion_pytorch_model.non_ema.safetensors", 3);
    assert_takes(path, NULL, 1);
    assert_takes(path, "", 1);
    assert_takes(path, "fp16", 2);
    assert_takes(path, "non_ema", 3);
    open_fails(path, "bf16", NULL, DCAE_ERROR_NOT_FOUND, "no variant 'bf16'", "fp16, non_ema",
               "the plain one", NULL);
    open_fails(path, "../fp16", NULL, DCAE_ERROR_NOT_FOUND, "no variant", NULL);
    char *file = g_build_filename(path, "diffusion_pytorch_model.safetensors", NULL);
    open_fails(file, "fp16", NULL, DCAE_ERROR_NOT_FOUND, "single file", "'fp16'", NULL);
    g_free(file);
    g_free(path);
}

/* One of the two tensors in each shard. */
static void put_shards(const char *path, const char *a, const char *b, float seed)
{
    float values[576];
    char *full = g_build_filename(path, a, NULL);
    TestFile file = test_file_new();
    for (guint i = 0; i < 576; i++)
        values[i] = seed + (float)i / 64;
    test_file_add(&file, "encoder.conv_out.weight", "F32", out_shape, 4, values, sizeof values);
    test_file_write(&file, full);
    g_free(full);
    full = g_build_filename(path, b, NULL);
    file = test_file_new();
    for (guint i = 0; i < 576; i++)
        values[i] = seed - (float)i / 64;
    test_file_add(&file, "decoder.conv_in.weight", "F32", in_shape, 4, values, sizeof values);
    test_file_write(&file, full);
    g_free(full);
}

static void put_index(const char *path, const char *name, const char *a, const char *b)
{
    char *full = g_build_filename(path, name, NULL);
    char *text = g_strdup_printf("{\"metadata\":{\"total_size\":1},\"weight_map\":{"
                                 "\"encoder.conv_out.weight\":\"%s\",\"x\":\"%s\","
                                 "\"decoder.conv_in.weight\":\"%s\"}}",
                                 a, a, b);
    write_text(full, text);
    g_free(text);
    g_free(full);
}

#define INDEX "diffusion_pytorch_model.safetensors.index.json"

static void test_shards(void)
{
    static const char *const variant_indices[] = {
        "diffusion_pytorch_model.safetensors.index.fp16.json",
        "diffusion_pytorch_model.safetensors.fp16.index.json",
        "diffusion_pytorch_model.fp16.safetensors.index.json"};
    char *path = make_folder("shards", small_config);
    put_shards(path, "diffusion_pytorch_model-00001-of-00002.safetensors",
               "diffusion_pytorch_model-00002-of-00002.safetensors", 4);
    put_index(path, INDEX, "diffusion_pytorch_model-00001-of-00002.safetensors",
              "diffusion_pytorch_model-00002-of-00002.safetensors");
    assert_takes(path, NULL, 4);
    put_weights(path, "diffusion_pytorch_model.safetensors", 6);
    assert_takes(path, NULL, 4); /* the list of shards wins, as in from_pretrained */
    put_shards(path, "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
               "diffusion_pytorch_model.fp16-00002-of-00002.safetensors", 5);
    open_fails(path, "fp16", NULL, DCAE_ERROR_NOT_FOUND, "no variant 'fp16'", "only the plain one",
               NULL);
    for (guint i = 0; i < G_N_ELEMENTS(variant_indices); i++) {
        put_index(path, variant_indices[i],
                  "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
                  "diffusion_pytorch_model.fp16-00002-of-00002.safetensors");
        assert_takes(path, "fp16", 5);
        assert_takes(path, NULL, 4);
        char *full = g_build_filename(path, variant_indices[i], NULL);
        g_remove(full);
        g_free(full);
    }
    /* Shards are often links into a store of blobs elsewhere. */
    char *blob = at("blob"), *link = g_build_filename(path, "link.safetensors", NULL);
    char *shard =
        g_build_filename(path, "diffusion_pytorch_model-00001-of-00002.safetensors", NULL);
    g_assert_cmpint(rename(shard, blob), ==, 0);
    g_assert_cmpint(symlink("../blob", link), ==, 0);
    put_index(path, INDEX, "link.safetensors",
              "diffusion_pytorch_model-00002-of-00002.safetensors");
    assert_takes(path, NULL, 4);
    g_free(blob);
    g_free(link);
    g_free(shard);
    g_free(path);
}

static void test_bad_shards(void)
{
    static const char *const names[] = {"a/b.safetensors",
                                        "../a.safetensors",
                                        "/a.safetensors",
                                        "a\\\\b.safetensors",
                                        "..",
                                        "",
                                        "a.bin"};
    char *path = make_folder("bad-shards", small_config);
    char *index = g_build_filename(path, INDEX, NULL);
    put_shards(path, "a.safetensors", "b.safetensors", 1);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        put_index(path, INDEX, names[i], "b.safetensors");
        open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, "plain name", NULL);
    }
    put_index(path, INDEX, "a.safetensors", "c.safetensors");
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, "c.safetensors", NULL);
    put_index(path, INDEX, "a.safetensors", "a.safetensors");
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, "'decoder.conv_in.weight' is missing", NULL);
    write_text(index, "{\"metadata\":{}}");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, "weight_map is missing", NULL);
    write_text(index, "{\"weight_map\":{}}");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, "empty", NULL);
    write_text(index, "{\"weight_map\":[]}");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, "no object", NULL);
    write_text(index, "{\"weight_map\":{\"a\":1}}");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, "plain name", NULL);
    write_text(index, "weights");
    open_fails(path, NULL, NULL, DCAE_ERROR_FORMAT, index, NULL);
    put_weights(path, "c.safetensors", 1);
    put_index(path, INDEX, "a.safetensors", "c.safetensors");
    open_fails(path, NULL, NULL, DCAE_ERROR_WEIGHTS, "'encoder.conv_out.weight'",
               "more than one shard", NULL);
    g_free(index);
    g_free(path);
}

static void test_other_names(void)
{
    char *path = make_folder("other-names", small_config);
    put_weights(path, "vae.safetensors", 6);
    assert_takes(path, NULL, 6);
    put_weights(path, "vae2.safetensors", 7);
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, "has no weights", NULL);
    put_weights(path, "model.safetensors", 8);
    assert_takes(path, NULL, 8);
    put_weights(path, "diffusion_pytorch_model.safetensors", 9);
    assert_takes(path, NULL, 9);
    g_free(path);
    path = make_folder("pipeline/vae", small_config);
    g_free(path);
    path = at("pipeline");
    open_fails(path, NULL, NULL, DCAE_ERROR_NOT_FOUND, path, "folder vae", NULL);
    g_free(path);
}

/* ---- inference ---- */

typedef struct {
    TestFile file;
    gboolean original;
    const DcaeConfig *config;
} Writer;

G_GNUC_PRINTF(4, 5)
static void put(Writer *writer, const guint64 *shape, guint rank, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *name = g_strdup_vprintf(format, args);
    va_end(args);
    test_file_add_hole(&writer->file, name, shape, rank);
    g_free(name);
}

static void put_conv(Writer *writer, guint out, guint in, guint size, const char *name)
{
    put(writer, (guint64[]){out, in, size, size}, 4, "%s.weight", name);
}

/* The tensors of a block that its structure can be read from, in either layout. */
static void put_block(Writer *writer, const char *base, const DcaeStage *stage)
{
    gboolean original = writer->original;
    guint inner = stage->width / writer->config->head_dim * writer->config->head_dim;
    guint64 line[] = {stage->width};
    if (stage->block == DCAE_BLOCK_RES) {
        put(writer, (guint64[]){stage->width, stage->width, 3, 3}, 4,
            original ? "%s.main.conv1.conv.weight" : "%s.conv1.weight", base);
        if (stage->norm == DCAE_NORM_BATCH)
            put(writer, line, 1,
                original ? "%s.main.conv2.norm.running_mean" : "%s.norm.running_mean", base);
        return;
    }
    if (original)
        put(writer, (guint64[]){3 * inner, stage->width, 1, 1}, 4,
            "%s.context_module.main.qkv.conv.weight", base);
    else
        put(writer, (guint64[]){inner, stage->width}, 2, "%s.attn.to_q.weight", base);
    for (guint k = 0; k < stage->n_scales; k++) {
        put(writer, (guint64[]){3 * inner, 1, stage->scales[k], stage->scales[k]}, 4,
            original ? "%s.context_module.main.aggreg.%u.0.weight"
                     : "%s.attn.to_qkv_multiscale.%u.proj_in.weight",
            base, k);
        put(writer, (guint64[]){3 * inner, writer->config->head_dim, 1, 1}, 4,
            original ? "%s.context_module.main.aggreg.%u.1.weight"
                     : "%s.attn.to_qkv_multiscale.%u.proj_out.weight",
            base, k);
    }
}

static void put_encoder(Writer *writer)
{
    const DcaeConfig *config = writer->config;
    const DcaeStage *stages = config->encoder;
    guint n = config->n_stages, quarter = config->down_unshuffle ? 4 : 1;
    gboolean original = writer->original, empty = stages[0].layers == 0;
    const char *inner = original && !config->down_unshuffle ? "" : ".conv";
    char *name = g_strconcat(original ? "encoder.project_in.conv" : "encoder.conv_in",
                             empty ? inner : "", NULL);
    put_conv(writer, empty ? stages[1].width / quarter : stages[0].width, 3, 3, name);
    g_free(name);
    for (guint i = 0; i < n; i++) {
        const char *blocks =
            original ? "encoder.stages.%u.op_list.%u" : "encoder.down_blocks.%u.%u";
        for (guint b = 0; b < stages[i].layers; b++) {
            name = g_strdup_printf(blocks, i, b);
            put_block(writer, name, &stages[i]);
            g_free(name);
        }
        if (i + 1 == n || stages[i].layers == 0)
            continue;
        char *base = g_strdup_printf(blocks, i, stages[i].layers);
        name = g_strconcat(base, original ? ".main.conv" : "", inner, NULL);
        put_conv(writer, stages[i + 1].width / quarter, stages[i].width, 3, name);
        g_free(name);
        g_free(base);
    }
    put_conv(writer, config->latent_channels, stages[n - 1].width, 3,
             !original                      ? "encoder.conv_out"
             : config->encoder_out_shortcut ? "encoder.project_out.main.op_list.0.conv"
                                            : "encoder.project_out.op_list.0.conv");
}

static void put_decoder(Writer *writer)
{
    const DcaeConfig *config = writer->config;
    const DcaeStage *stages = config->decoder;
    guint n = config->n_stages, times = config->up_interpolate ? 1 : 4;
    gboolean original = writer->original;
    put_conv(writer, stages[n - 1].width, config->latent_channels, 3,
             !original                     ? "decoder.conv_in"
             : config->decoder_in_shortcut ? "decoder.project_in.main.conv"
                                           : "decoder.project_in.conv");
    for (guint i = 0; i < n; i++) {
        guint step = i + 1 < n && stages[i].layers > 0;
        const char *blocks = original ? "decoder.stages.%u.op_list.%u" : "decoder.up_blocks.%u.%u";
        for (guint b = 0; b < step + stages[i].layers; b++) {
            char *base = g_strdup_printf(blocks, i, b);
            char *name = g_strconcat(base, original ? ".main.conv.conv" : ".conv", NULL);
            if (b < step)
                put_conv(writer, stages[i].width * times, stages[i + 1].width, 3, name);
            else
                put_block(writer, base, &stages[i]);
            g_free(name);
            g_free(base);
        }
    }
}

static void write_structure(const DcaeConfig *config, gboolean original, const char *path)
{
    Writer writer = {test_file_new(), original, config};
    put_encoder(&writer);
    put_decoder(&writer);
    test_file_write(&writer.file, path);
}

/* What a model of this structure is taken for. */
static const char *inferred_name(const char *name)
{
    if (strcmp(name, "dc-ae-f32c32-sana-1.1") == 0)
        return "dc-ae-f32c32-sana-1.0";
    if (strcmp(name, "dc-ae-f32c32-in-1.0") == 0)
        return "dc-ae-f32c32-mix-1.0";
    if (strcmp(name, "dc-ae-f64c128-in-1.0") == 0)
        return "dc-ae-f64c128-mix-1.0";
    if (strcmp(name, "dc-ae-f128c512-in-1.0") == 0)
        return "dc-ae-f128c512-mix-1.0";
    return name;
}

static void test_inference(void)
{
    for (guint i = 0; i < dcae_config_n_released(); i++)
        for (guint original = 0; original < 2; original++) {
            const char *name = dcae_config_released_name(i);
            const DcaeConfig *want = dcae_config_released(inferred_name(name));
            g_test_message("%s, %s layout", name, original ? "original" : "Diffusers'");
            char *path = at("inference.safetensors");
            write_structure(dcae_config_released(name), original, path);
            DcaeModel *model = open_ok(path, NULL, NULL);
            char *x = dcae_config_to_json(dcae_model_config(model)), *y = dcae_config_to_json(want);
            g_assert_cmpstr(x, ==, y);
            g_assert_cmpuint(dcae_model_info(model)->ratio, ==, dcae_config_ratio(want));
            g_assert_cmpint(dcae_model_info(model)->channel_prefix, ==,
                            !want->encoder_out_shortcut);
            dcae_model_unref(model);
            /* A configuration that is named wins over inference. */
            model = open_ok(path, NULL, name);
            g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==,
                              dcae_config_released(name)->scaling_factor);
            dcae_model_unref(model);
            g_free(x);
            g_free(y);
            g_free(path);
        }
}

/* One change that makes a released structure another one. */
typedef void (*Change)(DcaeConfig *);

static void more_layers(DcaeConfig *c)
{
    c->encoder[2].layers++;
}
static void fewer_layers(DcaeConfig *c)
{
    c->decoder[4].layers--;
}
static void other_block(DcaeConfig *c)
{
    c->decoder[3] = c->decoder[2];
}
static void other_scale(DcaeConfig *c)
{
    c->encoder[5].scales[0] = 3;
}
static void more_scales(DcaeConfig *c)
{
    c->encoder[5].n_scales = 2;
    c->encoder[5].scales[1] = 5;
}
static void other_head(DcaeConfig *c)
{
    c->head_dim = 64;
}
static void other_norm(DcaeConfig *c)
{
    c->decoder[0].norm = DCAE_NORM_BATCH;
}
static void other_down(DcaeConfig *c)
{
    c->down_unshuffle = !c->down_unshuffle;
}
static void other_up(DcaeConfig *c)
{
    c->up_interpolate = !c->up_interpolate;
}
static void other_latent(DcaeConfig *c)
{
    c->latent_channels = 64;
}
static void other_width(DcaeConfig *c)
{
    c->decoder[1].width = 128;
}
static void no_shortcut(DcaeConfig *c)
{
    c->encoder_out_shortcut = FALSE;
}

static void check_unknown(const char *name, Change change)
{
    char *path = at("unknown.safetensors"), *config = at("unknown.json");
    DcaeConfig changed = *dcae_config_released(name);
    change(&changed);
    write_structure(&changed, TRUE, path);
    open_fails(path, NULL, NULL, DCAE_ERROR_CONFIG, path, "no released model", "config", NULL);
    char *text = dcae_config_to_json(&changed);
    write_text(config, text);
    dcae_model_unref(open_ok(path, NULL, config));
    g_free(text);
    g_free(path);
    g_free(config);
}

static void test_no_inference(void)
{
    static const Change changes[] = {more_layers, fewer_layers, other_block, other_scale,
                                     more_scales, other_head,   other_norm,  other_down,
                                     other_up,    other_latent, other_width, no_shortcut};
    for (guint i = 0; i < G_N_ELEMENTS(changes); i++)
        check_unknown("dc-ae-f32c32-sana-1.0", changes[i]);
    check_unknown("dc-ae-f32c32-mix-1.0", other_down);
    check_unknown("dc-ae-f32c32-mix-1.0", other_up);
}

/* A checkpoint of the original project is a directory with its own kind of config.json. */
static void test_original_directory(void)
{
    char *path = make_folder("original", "{\"model_name\":\"dc-ae-f32c32-in-1.0\"}");
    char *weights = g_build_filename(path, "model.safetensors", NULL);
    char *config = g_build_filename(path, "config.json", NULL);
    write_structure(dcae_config_released("dc-ae-f32c32-in-1.0"), TRUE, weights);
    DcaeModel *model = open_ok(path, NULL, NULL);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 0.3189);
    dcae_model_unref(model);
    write_text(config, "{\"model_name\":\"something else\"}");
    model = open_ok(path, NULL, NULL);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 0.4552);
    dcae_model_unref(model);
    write_text(config, "{\"_class_name\":\"AutoencoderDC\"}"); /* wins, fit or not */
    model = open_ok(path, NULL, NULL);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 1.0);
    dcae_model_unref(model);
    g_remove(config);
    model = open_ok(path, NULL, NULL);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 0.4552);
    dcae_model_unref(model);
    g_free(path);
    g_free(weights);
    g_free(config);
}

static void test_config_parameter(void)
{
    char *path = make_folder("parameter", small_config);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    char *file = g_build_filename(path, "diffusion_pytorch_model.safetensors", NULL);
    char *config = g_build_filename(path, "config.json", NULL);
    open_fails(file, NULL, NULL, DCAE_ERROR_CONFIG, "no released model", config, NULL);
    dcae_model_unref(open_ok(file, NULL, config));
    open_fails(file, NULL, "dc-ae-f32c32-sana-1.0", DCAE_ERROR_WEIGHTS, "[32,1024,3,3]", NULL);
    open_fails(file, NULL, "dc-ae-f33", DCAE_ERROR_NOT_FOUND, "'dc-ae-f33'",
               "dc-ae-lite-f32c32-sana-1.1", NULL);
    open_fails(file, NULL, file, DCAE_ERROR_FORMAT, file, NULL);
    g_free(path);
    g_free(file);
    g_free(config);
}

/* ---- the cache, names, hashes ---- */

static void test_hub(void)
{
    static const char id[] = "some-org/dc-ae.test";
    char *snapshot = make_folder("models--some-org--dc-ae.test/snapshots/0123abcd", small_config);
    char *refs = make_folder("models--some-org--dc-ae.test/refs", NULL);
    char *main_ref = g_build_filename(refs, "main", NULL);
    put_weights(snapshot, "diffusion_pytorch_model.safetensors", 3);
    open_fails(id, NULL, NULL, DCAE_ERROR_NOT_FOUND, id, "hf download some-org/dc-ae.test",
               "huggingface-cli download some-org/dc-ae.test", NULL);
    write_text(main_ref, "0123abcd");
    DcaeModel *model = open_ok(id, NULL, NULL);
    g_assert_cmpstr(dcae_model_info(model)->name, ==, id);
    dcae_model_unref(model);
    /* The same directory by its path is the same model, and the path stays out of the name. */
    model = open_ok(snapshot, NULL, NULL);
    g_assert_cmpstr(dcae_model_info(model)->name, ==, id);
    dcae_model_unref(model);
    write_text(main_ref, "0123abcd\n");
    dcae_model_unref(open_ok(id, NULL, NULL));
    write_text(main_ref, "../../../elsewhere");
    open_fails(id, NULL, NULL, DCAE_ERROR_NOT_FOUND, "hf download", NULL);
    write_text(main_ref, "4567");
    open_fails(id, NULL, NULL, DCAE_ERROR_NOT_FOUND, "hf download", NULL);
    open_fails("some-org/none", NULL, NULL, DCAE_ERROR_NOT_FOUND, "hf download some-org/none",
               folder, NULL);
    open_fails("a/b/c", NULL, NULL, DCAE_ERROR_NOT_FOUND, "'a/b/c' is neither", NULL);
    static const char *const no_ids[] = {"",     "a",     "/a",   "a/",     "a/b/c", "../a",
                                         "a/..", "a b/c", "a/.b", "a--b/c", "./a"};
    for (guint i = 0; i < G_N_ELEMENTS(no_ids); i++)
        g_assert_false(dcae_hub_is_id(no_ids[i]));
    g_assert_null(dcae_hub_id_of("/home/models/dc-ae"));
    g_free(main_ref);
    g_free(refs);
    g_free(snapshot);
}

/* A repository of the original project: its id says which of two equal structures it is. */
static void test_hub_original(void)
{
    static const char id[] = "mit-han-lab/dc-ae-f32c32-in-1.0";
    char *snapshot =
        make_folder("models--mit-han-lab--dc-ae-f32c32-in-1.0/snapshots/89abcdef", NULL);
    char *refs = make_folder("models--mit-han-lab--dc-ae-f32c32-in-1.0/refs", NULL);
    char *main_ref = g_build_filename(refs, "main", NULL);
    char *weights = g_build_filename(snapshot, "model.safetensors", NULL);
    write_text(main_ref, "89abcdef");
    write_structure(dcae_config_released("dc-ae-f32c32-in-1.0"), TRUE, weights);
    DcaeModel *model = open_ok(id, NULL, NULL);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 0.3189);
    dcae_model_unref(model);
    g_free(weights);
    g_free(main_ref);
    g_free(refs);
    g_free(snapshot);
}

static void test_model_names(void)
{
    char *path = make_folder("my-model", small_config);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    char *config = g_build_filename(path, "config.json", NULL);
    char *file = at("single.v2.safetensors"), *slash = g_strconcat(path, "/./", NULL);
    put_weights(folder, "single.v2.safetensors", 1);
    DcaeModel *model = open_ok(slash, NULL, NULL);
    g_assert_cmpstr(dcae_model_info(model)->name, ==, "my-model");
    dcae_model_unref(model);
    model = open_ok(file, NULL, config);
    g_assert_cmpstr(dcae_model_info(model)->name, ==, "single.v2");
    g_assert_cmpuint(dcae_model_info(model)->ratio, ==, 2);
    g_assert_cmpuint(dcae_model_info(model)->latent_channels, ==, 4);
    g_assert_cmpuint(dcae_model_info(model)->in_channels, ==, 3);
    g_assert_cmpfloat(dcae_model_info(model)->scaling_factor, ==, 0.5);
    g_assert_false(dcae_model_info(model)->channel_prefix);
    dcae_model_unref(model);
    g_free(path);
    g_free(config);
    g_free(file);
    g_free(slash);
}

/* The hash as the design defines it, computed from what the test wrote. */
static void test_hash(void)
{
    float values[576];
    char *path = make_folder("hash", small_config);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    DcaeModel *model = open_ok(path, NULL, NULL);
    GChecksum *checksum = g_checksum_new(G_CHECKSUM_SHA256);
    char *canonical = dcae_config_to_json(dcae_model_config(model));
    g_checksum_update(checksum, (const guchar *)canonical, -1);
    for (guint i = 0; i < 576; i++)
        values[i] = 1 + (float)i / 64;
    g_checksum_update(checksum, (const guchar *)values, sizeof values);
    for (guint i = 0; i < 576; i++)
        values[i] = 1 - (float)i / 64;
    g_checksum_update(checksum, (const guchar *)values, sizeof values);
    char *want = g_strndup(g_checksum_get_string(checksum), 16);
    g_assert_cmpstr(dcae_model_info(model)->hash, ==, want);
    g_checksum_free(checksum);
    dcae_model_unref(model);

    /* The original layout of the same model has the same hash. */
    TestFile file = test_file_new();
    char *single = at("hash.safetensors"), *config = g_build_filename(path, "config.json", NULL);
    add_ends(&file, "encoder.project_out.main.op_list.0.conv.weight",
             "decoder.project_in.main.conv.weight", 1);
    test_file_write(&file, single);
    char *have = hash_of(single, NULL, config);
    g_assert_cmpstr(have, ==, want);
    g_free(have);
    /* Other weights and other configurations have other hashes. */
    put_weights(path, "diffusion_pytorch_model.safetensors", 1.5f);
    have = hash_of(path, NULL, NULL);
    g_assert_cmpstr(have, !=, want);
    g_free(have);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    char *other = g_strdup(small_config);
    *strstr(other, "0.5") = '1';
    write_text(config, other);
    have = hash_of(path, NULL, NULL);
    g_assert_cmpstr(have, !=, want);
    g_free(have);
    g_free(other);
    g_free(canonical);
    g_free(want);
    g_free(single);
    g_free(config);
    g_free(path);
}

/* Weights are shared by key: the same files are one key, and any change of file or configuration
 * another. */
static void test_key(void)
{
    char *path = make_folder("key", small_config);
    put_weights(path, "diffusion_pytorch_model.safetensors", 1);
    char *link = at("key-link");
    g_assert_cmpint(symlink("key", link), ==, 0);
    DcaeModel *a = open_ok(path, NULL, NULL), *b = open_ok(link, NULL, NULL);
    g_assert_cmpstr(dcae_model_key(a), ==, dcae_model_key(b));
    dcae_model_unref(b);
    put_weights(path, "diffusion_pytorch_model.safetensors", 2);
    b = open_ok(path, NULL, NULL);
    g_assert_cmpstr(dcae_model_key(a), !=, dcae_model_key(b));
    g_assert_true(dcae_model_ref(b) == b);
    dcae_model_unref(b);
    g_assert_cmpstr(dcae_model_info(b)->name, ==, "key");
    char *config = at("key.json"), *other = g_strdup(small_config);
    *strstr(other, "0.5") = '1';
    write_text(config, other);
    DcaeModel *c = open_ok(path, NULL, config);
    g_assert_cmpstr(dcae_model_key(b), !=, dcae_model_key(c));
    g_free(config);
    g_free(other);
    dcae_model_unref(c);
    dcae_model_unref(b);
    dcae_model_unref(a);
    dcae_model_unref(NULL);
    g_free(link);
    g_free(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    folder = test_folder_new();
    g_test_add_func("/model/types", test_types);
    g_test_add_func("/model/long", test_long);
    g_test_add_func("/model/shapes", test_shapes);
    g_test_add_func("/model/bad-values", test_bad_values);
    g_test_add_func("/model/shrinks", test_shrinks);
    g_test_add_func("/model/changes", test_changes);
    g_test_add_func("/model/original", test_original);
    g_test_add_func("/model/names", test_names);
    g_test_add_func("/model/bad-files", test_bad_files);
    g_test_add_func("/model/bad-models", test_bad_models);
    g_test_add_func("/model/variants", test_variants);
    g_test_add_func("/model/shards", test_shards);
    g_test_add_func("/model/bad-shards", test_bad_shards);
    g_test_add_func("/model/other-names", test_other_names);
    g_test_add_func("/model/inference", test_inference);
    g_test_add_func("/model/no-inference", test_no_inference);
    g_test_add_func("/model/original-directory", test_original_directory);
    g_test_add_func("/model/config-parameter", test_config_parameter);
    g_test_add_func("/model/hub", test_hub);
    g_test_add_func("/model/hub-original", test_hub_original);
    g_test_add_func("/model/model-names", test_model_names);
    g_test_add_func("/model/hash", test_hash);
    g_test_add_func("/model/key", test_key);
    int status = g_test_run();
    test_folder_remove(folder);
    g_free(folder);
    return status;
}
