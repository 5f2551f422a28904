/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_pipeline.c - what users get, against the reference: every golden case as raw frames in a
 * file through dcaeenc and dcaemux into a clip, and its latents as a plain safetensors file through
 * dcaedemux and dcaedec into raw frames.
 */
#include <glib/gstdio.h>
#include <gst/gst.h>
#include <string.h>

#include "golden_case.h"

#define TIMEOUT (60 * GST_SECOND)

static char *folder; /* for the files of a case */

static char *file_at(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

/* Runs a pipeline to its end. */
static void run(const char *description)
{
    g_autoptr(GError) error = NULL;
    GstElement *pipeline = gst_parse_launch(description, &error);

    g_assert_no_error(error);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, TIMEOUT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    g_assert_nonnull(message);
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        gst_message_parse_error(message, &error, NULL);
        g_error("%s: %s", description, error->message);
    }
    gst_message_unref(message);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
}

/* The case's settings as properties. */
static char *settings(const GoldenCase *c, const DcaeGeometry *g)
{
    static const char *const edges[] = {"extend", "zero", "crop"};
    const DcaeTiling *t = &g->tiling;
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "model=%s scale-latents=false latent-channels=%u batch-size=%u",
                           c->path, g->latent_channels, g->batch);
    if (*c->variant != '\0')
        g_string_append_printf(text, " variant=%s", c->variant);
    if (*c->config != '\0')
        g_string_append_printf(text, " config=%s", c->config);
    if (g == &c->encode)
        g_string_append_printf(text, " edge-mode=%s", edges[g->edge]);
    if (g->batch < c->frames)
        g_string_append(text, " slicing=true");
    if (t->mode == DCAE_TILING_BLEND)
        g_string_append_printf(text,
                               " tiling=blend tile-width=%u tile-height=%u tile-stride-width=%u "
                               "tile-stride-height=%u",
                               t->tile_width, t->tile_height, t->stride_width, t->stride_height);
    return g_string_free(text, FALSE);
}

static guint8 *read_file(const char *path, gsize *size)
{
    char *data;
    g_autoptr(GError) error = NULL;

    g_file_get_contents(path, &data, size, &error);
    g_assert_no_error(error);
    return (guint8 *)data;
}

static void check_clip(const GoldenCase *c, const char *path)
{
    gsize size, floats = (gsize)c->frames * c->latent_c * c->latent_h * c->latent_w;
    g_autofree guint8 *file = read_file(path, &size);
    g_autoptr(GError) error = NULL;
    guint64 length;

    memcpy(&length, file, 8);
    DcaeSafetensorsHeader *header = dcae_safetensors_header_parse(file + 8, length, path, &error);
    g_assert_no_error(error);
    const DcaeTensor *latents = dcae_safetensors_header_find(header, "latents");
    g_assert_nonnull(latents);
    g_assert_cmpuint(latents->rank, ==, 4);
    g_assert_cmpuint(latents->shape[0], ==, c->frames);
    g_assert_cmpuint(latents->shape[1], ==, c->latent_c);
    g_assert_cmpuint(latents->shape[2], ==, c->latent_h);
    g_assert_cmpuint(latents->shape[3], ==, c->latent_w);
    g_autofree float *got = g_memdup2(file + 8 + length + latents->begin, floats * sizeof(float));
    g_assert_cmpfloat(golden_error(got, c->latents, floats), <=, GOLDEN_MAX_ERROR);
    dcae_safetensors_header_free(header);
}

static void test_encode(gconstpointer name)
{
    GoldenCase *c = golden_load(name);
    g_autofree char *raw = file_at("frames.rgb"), *clip = file_at("encoded.safetensors");
    g_autofree char *properties = settings(c, &c->encode);
    guint stride = 3 * c->encode.width, frame = stride * c->encode.height;
    g_autofree char *pipeline =
        g_strdup_printf("filesrc location=%s ! rawvideoparse format=rgb width=%u height=%u "
                        "plane-strides=\"<%u>\" frame-size=%u ! "
                        "dcaeenc %s ! dcaemux ! filesink location=%s",
                        raw, c->encode.width, c->encode.height, stride, frame, properties, clip);

    g_assert_true(
        g_file_set_contents(raw, (char *)c->pixels, (gssize)frame * (gssize)c->frames, NULL));
    run(pipeline);
    check_clip(c, clip);
    g_unlink(raw);
    g_unlink(clip);
    golden_free(c);
}

/* A file as safetensors.torch.save_file({"latents": …}) writes it. */
static void write_plain(const GoldenCase *c, const char *path)
{
    guint h = c->decode.latent_height, w = c->decode.latent_width;
    gsize bytes = (gsize)c->frames * c->latent_c * h * w * sizeof(float);
    g_autofree char *json =
        g_strdup_printf("{\"latents\":{\"dtype\":\"F32\",\"shape\":[%u,%u,%u,%u],"
                        "\"data_offsets\":[0,%" G_GSIZE_FORMAT "]}}",
                        c->frames, c->latent_c, h, w, bytes);
    g_autoptr(GByteArray) file = g_byte_array_new();
    guint64 length = GUINT64_TO_LE(strlen(json));

    g_byte_array_append(file, (guint8 *)&length, sizeof length);
    g_byte_array_append(file, (guint8 *)json, (guint)strlen(json));
    g_byte_array_append(file, (guint8 *)c->latents_in, (guint)bytes);
    g_assert_true(g_file_set_contents(path, (char *)file->data, file->len, NULL));
}

static void test_decode(gconstpointer name)
{
    GoldenCase *c = golden_load(name);
    g_autofree char *raw = file_at("decoded.rgb"), *clip = file_at("plain.safetensors");
    g_autofree char *properties = settings(c, &c->decode);
    g_autofree char *pipeline =
        g_strdup_printf("filesrc location=%s ! dcaedemux ! dcaedec %s ! video/x-raw,format=RGB ! "
                        "filesink location=%s",
                        clip, properties, raw);
    gsize size, stride = GST_ROUND_UP_4(3 * (gsize)c->decoded_w);

    write_plain(c, clip);
    run(pipeline);
    g_autofree guint8 *pixels = read_file(raw, &size);
    g_assert_cmpuint(size, ==, c->frames * stride * c->decoded_h);
    golden_check_pixels(c, pixels, stride);
    g_unlink(raw);
    g_unlink(clip);
    golden_free(c);
}

int main(int argc, char **argv)
{
    g_auto(GStrv) names = golden_names();

    gst_init(&argc, &argv);
    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("dcae-pipeline-XXXXXX", NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        g_autofree char *encode = g_strdup_printf("/pipeline/encode/%s", names[i]);
        g_autofree char *decode = g_strdup_printf("/pipeline/decode/%s", names[i]);
        g_test_add_data_func(encode, names[i], test_encode);
        g_test_add_data_func(decode, names[i], test_decode);
    }
    int result = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    gst_deinit();
    return result;
}
