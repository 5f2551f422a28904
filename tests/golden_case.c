/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_case.c - reads the cases that tests/golden/generate.py wrote.
 */
#include "golden_case.h"

#include <math.h>
#include <string.h>

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

static void read_model(GoldenCase *c, const DcaeSafetensorsHeader *header)
{
    const char *config = dcae_safetensors_header_metadata(header, "config");
    g_autoptr(GError) error = NULL;

    c->path = data_path(c->name, dcae_safetensors_header_metadata(header, "model"));
    c->variant = g_strdup(dcae_safetensors_header_metadata(header, "variant"));
    c->config = *config != '\0' ? data_path(c->name, config) : g_strdup("");
    DcaeModelParams params = {.path = c->path, .variant = c->variant, .config = c->config};
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

GoldenCase *golden_load(const char *name)
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
    read_model(c, header);
    read_settings(c, header);
    dcae_safetensors_header_free(header);
    return c;
}

void golden_free(GoldenCase *c)
{
    g_free(c->name);
    dcae_model_unref(c->model);
    g_free(c->path);
    g_free(c->variant);
    g_free(c->config);
    g_free(c->pixels);
    g_free(c->latents);
    g_free(c->latents_in);
    g_free(c->decoded);
    g_free(c);
}

char **golden_names(void)
{
    g_autofree char *list =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", "cases.txt", NULL);
    g_autofree char *text = NULL;

    if (!g_file_get_contents(list, &text, NULL, NULL))
        g_error("%s can't be read", list);
    return g_strsplit(g_strstrip(text), "\n", -1);
}

double golden_error(const float *got, const float *wanted, gsize n)
{
    double error = 0, norm = 0;

    for (gsize i = 0; i < n; i++) {
        double d = (double)got[i] - wanted[i];
        error += d * d;
        norm += (double)wanted[i] * wanted[i];
    }
    return sqrt(error / MAX(norm, 1e-30));
}

/* The reference's picture in 8 bit, and ours, differ by at most one step: the two may lie on either
 * side of a rounding border. */
void golden_check_pixels(const GoldenCase *c, const guint8 *pixels, gsize stride)
{
    gsize plane = (gsize)c->decoded_w * c->decoded_h, different = 0;

    for (gsize i = 0; i < c->frames * plane * 3; i++) {
        gsize frame = i / (plane * 3), pixel = i / 3 % plane, channel = i % 3;
        gsize y = pixel / c->decoded_w, x = pixel % c->decoded_w;
        double wanted = c->decoded[(frame * 3 + channel) * plane + pixel] * 127.5 + 127.5;
        int got = pixels[(frame * c->decoded_h + y) * stride + x * 3 + channel];
        int step = got - (int)lrint(CLAMP(wanted, 0, 255));
        g_assert_cmpint(ABS(step), <=, 1);
        different += step != 0;
    }
    /* A value lies within 2e-5 of a border once in some ten thousand; many more mean wrong
     * rounding. */
    g_assert_cmpuint(different, <=, c->frames * plane * 3 / 1000 + 2);
}
