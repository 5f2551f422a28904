/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_elements.c - what dcaeenc and dcaedec promise, tested through
 * GstHarness and whole pipelines. Uses the demonstration model and the small
 * models of the golden data; what the network computes is test_golden's.
 */
#include <dcae.h>
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/video.h>

#include <dlfcn.h>
#include <glib/gstdio.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#define WAIT (60 * GST_SECOND)
#define W 64
#define H 48
#define RAW_CAPS(format) "video/x-raw,format=" format ",width=64,height=48,framerate=10/1"
#define LATENT_CAPS                                                       \
    "video/x-dcae-latent,format=F32LE,latent-channels=16,latent-width=8," \
    "latent-height=6"
#define LATENT_VALUES (16 * 8 * 6)

/* ---- the backend: the CPU, or what DCAE_TEST_BACKEND names, where a test names none */

static gboolean on_cuda(void)
{
    return g_strcmp0(g_getenv("DCAE_TEST_BACKEND"), "cuda") == 0;
}

static void use_cuda(const GValue *item, gpointer unused)
{
    GstElement *element = g_value_get_object(item);
    GstElementFactory *factory = gst_element_get_factory(element);

    if (factory && g_str_has_prefix(GST_OBJECT_NAME(factory), "dcae") &&
        g_object_class_find_property(G_OBJECT_GET_CLASS(element), "backend"))
        gst_util_set_object_arg(G_OBJECT(element), "backend", "cuda");
    if (factory && g_object_class_find_property(G_OBJECT_GET_CLASS(element), "precision"))
        gst_util_set_object_arg(G_OBJECT(element), "precision", "f32");
}

static void choose_backend(GstElement *element, const gchar *launch)
{
    GValue value = G_VALUE_INIT;

    if (!on_cuda() || strstr(launch, "backend=") || strstr(launch, "precision="))
        return;
    if (GST_IS_BIN(element)) {
        GstIterator *all = gst_bin_iterate_recurse(GST_BIN(element));

        while (gst_iterator_foreach(all, use_cuda, NULL) == GST_ITERATOR_RESYNC)
            gst_iterator_resync(all);
        gst_iterator_free(all);
        return;
    }
    g_value_init(&value, GST_TYPE_ELEMENT);
    g_value_set_object(&value, element);
    use_cuda(&value, NULL);
    g_value_unset(&value);
}

static GstElement *parse_launch(const gchar *launch, GError **error)
{
    GstElement *element = gst_parse_launch(launch, error);

    if (element)
        choose_backend(element, launch);
    return element;
}

/* Two runs stay under way on CUDA until something drains them. */
static GstBuffer *pull(GstHarness *h)
{
    for (guint i = 0; i < 2 && on_cuda() && gst_harness_buffers_in_queue(h) == 0; i++)
        gst_harness_push_event(h, gst_event_new_gap(0, GST_CLOCK_TIME_NONE));
    return gst_harness_pull(h);
}

/* ---- helpers */

static gchar *golden_path(const gchar *name)
{
    return g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", name, NULL);
}

static GstBus *watch(GstElement *element)
{
    GstBus *bus = gst_bus_new();

    gst_element_set_bus(element, bus);
    return bus;
}

/* A harness around one element; *bus gets all its messages. */
static GstHarness *harness_new(const gchar *launch, GstBus **bus)
{
    GError *error = NULL;
    GstElement *element = parse_launch(launch, &error);
    GstHarness *h;

    fail_unless(element != NULL, "%s", error ? error->message : "");
    *bus = watch(element);
    h = gst_harness_new_with_element(element, "sink", "src");
    gst_object_unref(element);
    return h;
}

static void harness_free(GstHarness *h, GstBus *bus)
{
    gst_element_set_bus(h->element, NULL);
    gst_object_unref(bus);
    gst_harness_teardown(h);
}

/* Unlike gst_harness_set_src_caps() allows them to be refused: FALSE. */
static gboolean push_caps(GstHarness *h, const gchar *text)
{
    GstCaps *caps = gst_caps_from_string(text);
    GstPad *peer = gst_pad_get_peer(h->srcpad);
    gboolean taken = gst_pad_send_event(peer, gst_event_new_caps(caps));

    gst_caps_unref(caps);
    gst_object_unref(peer);
    return taken;
}

static GstStructure *output_caps(GstHarness *h)
{
    GstCaps *caps = gst_pad_get_current_caps(h->sinkpad);
    GstStructure *s;

    fail_unless(caps != NULL);
    s = gst_structure_copy(gst_caps_get_structure(caps, 0));
    gst_caps_unref(caps);
    return s;
}

static gint get_int(const GstStructure *s, const gchar *field)
{
    gint value = -1;

    gst_structure_get_int(s, field, &value);
    return value;
}

static void assert_size(GstHarness *h, gint width, gint height)
{
    GstStructure *s = output_caps(h);

    assert_equals_int(get_int(s, "width"), width);
    assert_equals_int(get_int(s, "height"), height);
    gst_structure_free(s);
}

/* The next error on the bus: its code and every needle must be in it. */
static void assert_error(GstBus *bus, GQuark domain, gint code, const gchar *needle)
{
    GstMessage *message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_ERROR);
    GError *error = NULL;
    gchar *debug = NULL;

    fail_unless(message != NULL, "no error about '%s'", needle);
    gst_message_parse_error(message, &error, &debug);
    fail_unless(strstr(error->message, needle) != NULL, "'%s' does not say '%s'", error->message,
                needle);
    fail_unless(g_error_matches(error, domain, code), "'%s': %s %d, not %s %d", error->message,
                g_quark_to_string(error->domain), error->code, g_quark_to_string(domain), code);
    g_error_free(error);
    g_free(debug);
    gst_message_unref(message);
}

static void assert_warning(GstBus *bus, const gchar *needle)
{
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);
    GError *error = NULL;

    fail_unless(message != NULL, "no warning about '%s'", needle);
    assert_equals_int(GST_MESSAGE_TYPE(message), GST_MESSAGE_WARNING);
    gst_message_parse_warning(message, &error, NULL);
    fail_unless(strstr(error->message, needle) != NULL, "'%s' does not say '%s'", error->message,
                needle);
    g_error_free(error);
    gst_message_unref(message);
}

static void assert_no(GstBus *bus, GstMessageType types)
{
    GstMessage *message = gst_bus_pop_filtered(bus, types);
    GError *error = NULL;

    if (!message)
        return;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
        gst_message_parse_error(message, &error, NULL);
    else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING)
        gst_message_parse_warning(message, &error, NULL);
    fail("unexpected %s: %s", GST_MESSAGE_TYPE_NAME(message), error ? error->message : "");
}

/* A soft picture with detail in every channel; n moves it. */
static void picture_rgb(guint x, guint y, guint n, guint8 *rgb)
{
    rgb[0] = (guint8)(127.5 + 100 * sin(x * 0.11 + n));
    rgb[1] = (guint8)(127.5 + 100 * sin(y * 0.13 + x * 0.02));
    rgb[2] = (guint8)(127.5 + 100 * cos((x + y) * 0.07 - n * 0.5));
}

static void set_rgb(GstVideoFrame *f, guint x, guint y, const guint8 *rgb)
{
    for (guint c = 0; c < 3; c++)
        GST_VIDEO_FRAME_COMP_DATA(f, c)
    [y * GST_VIDEO_FRAME_COMP_STRIDE(f, c) + x * GST_VIDEO_FRAME_COMP_PSTRIDE(f, c)] = rgb[c];
}

/* A buffer of an RGB format that holds picture n. */
static GstBuffer *picture_buffer(GstVideoInfo *info, guint n)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, GST_VIDEO_INFO_SIZE(info), NULL);
    GstVideoFrame f;
    guint8 rgb[3];

    gst_buffer_memset(buffer, 0, 77, GST_VIDEO_INFO_SIZE(info));
    fail_unless(gst_video_frame_map(&f, info, buffer, GST_MAP_READWRITE));
    for (gint y = 0; y < GST_VIDEO_INFO_HEIGHT(info); y++)
        for (gint x = 0; x < GST_VIDEO_INFO_WIDTH(info); x++) {
            picture_rgb(x, y, n, rgb);
            set_rgb(&f, x, y, rgb);
        }
    gst_video_frame_unmap(&f);
    GST_BUFFER_PTS(buffer) = n * GST_SECOND / 10;
    GST_BUFFER_DURATION(buffer) = GST_SECOND / 10;
    return buffer;
}

static GstBuffer *picture(const gchar *format, gint width, gint height, guint n)
{
    GstVideoInfo info;

    gst_video_info_set_format(&info, gst_video_format_from_string(format), width, height);
    return picture_buffer(&info, n);
}

/* A latent of small values. */
static GstBuffer *latent_buffer(guint values, guint n)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, values * sizeof(gfloat), NULL);
    GstMapInfo map;

    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    for (guint i = 0; i < values; i++)
        ((gfloat *)map.data)[i] = (gfloat)sin(i * 0.37 + n);
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = n * GST_SECOND / 10;
    GST_BUFFER_DURATION(buffer) = GST_SECOND / 10;
    return buffer;
}

static gboolean same_bytes(GstBuffer *a, GstBuffer *b)
{
    GstMapInfo map;
    gboolean same;

    gst_buffer_map(a, &map, GST_MAP_READ);
    same = gst_buffer_get_size(b) == map.size && gst_buffer_memcmp(b, 0, map.data, map.size) == 0;
    gst_buffer_unmap(a, &map);
    return same;
}

/* Relative L2 distance of two buffers of floats. */
static gdouble distance(GstBuffer *a, GstBuffer *b)
{
    GstMapInfo ma, mb;
    gdouble diff = 0, norm = 0;

    gst_buffer_map(a, &ma, GST_MAP_READ);
    gst_buffer_map(b, &mb, GST_MAP_READ);
    assert_equals_uint64(ma.size, mb.size);
    for (gsize i = 0; i < ma.size / sizeof(gfloat); i++) {
        gdouble x = ((gfloat *)ma.data)[i], y = ((gfloat *)mb.data)[i];

        diff += (x - y) * (x - y);
        norm += y * y;
    }
    gst_buffer_unmap(b, &mb);
    gst_buffer_unmap(a, &ma);
    return sqrt(diff / norm);
}

/* Encodes picture n of some format with an encoder of its own. */
static GstBuffer *encode_one(const gchar *launch, const gchar *format, gint width, gint height,
                             guint n)
{
    GstBus *bus;
    GstHarness *h = harness_new(launch, &bus);
    gchar *caps = g_strdup_printf("video/x-raw,format=%s,width=%d,height=%d,"
                                  "framerate=10/1",
                                  format, width, height);
    GstBuffer *out;

    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, picture(format, width, height, n));
    assert_no(bus, GST_MESSAGE_ERROR);
    out = pull(h);
    fail_unless(out != NULL);
    harness_free(h, bus);
    g_free(caps);
    return out;
}

/* Decodes one latent to what the caps of downstream ask for. */
static GstBuffer *decode_one(const gchar *launch, const gchar *caps, const gchar *raw_caps,
                             GstBuffer *latent)
{
    GstBus *bus;
    GstHarness *h = harness_new(launch, &bus);
    GstBuffer *out;

    gst_harness_set_sink_caps_str(h, raw_caps);
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, gst_buffer_ref(latent));
    assert_no(bus, GST_MESSAGE_ERROR);
    out = pull(h);
    fail_unless(out != NULL);
    harness_free(h, bus);
    return out;
}

/* Runs a pipeline until EOS or an error; gives its first error's message on
 * bus back to be looked at. */
static GstElement *pipeline_new(const gchar *launch, GstBus **bus)
{
    GError *error = NULL;
    GstElement *pipeline = parse_launch(launch, &error);

    fail_unless(error == NULL, "%s", error ? error->message : "");
    *bus = gst_element_get_bus(pipeline);
    return pipeline;
}

static void pipeline_free(GstElement *pipeline, GstBus *bus)
{
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(pipeline);
}

static void assert_pipeline_fails(const gchar *launch, GQuark domain, gint code,
                                  const gchar *needle)
{
    GstBus *bus;
    GstElement *pipeline = pipeline_new(launch, &bus);

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    assert_error(bus, domain, code, needle);
    pipeline_free(pipeline, bus);
}

#define ENC_PIPELINE(props) \
    "videotestsrc num-buffers=2 ! " RAW_CAPS("RGB") " ! dcaeenc " props " ! fakesink"

static void assert_pipeline_plays(const gchar *launch)
{
    GstBus *bus;
    GstElement *pipeline = pipeline_new(launch, &bus);
    GstMessage *message;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    fail_unless(message != NULL);
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        GError *error = NULL;

        gst_message_parse_error(message, &error, NULL);
        fail("%s: %s", launch, error->message);
    }
    gst_message_unref(message);
    pipeline_free(pipeline, bus);
}

/* ---- encoder: what comes out */

GST_START_TEST(test_encoder_caps_say_what_a_buffer_holds)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstStructure *s;
    GstBuffer *out;
    gboolean scaled = FALSE;
    gdouble factor = 0;
    gint n = 0, d = 0;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB") ",pixel-aspect-ratio=4/3");
    s = output_caps(h);
    fail_unless(gst_structure_has_name(s, "video/x-dcae-latent"));
    assert_equals_string(gst_structure_get_string(s, "format"), "F32LE");
    assert_equals_int(get_int(s, "latent-channels"), 16);
    assert_equals_int(get_int(s, "latent-width"), 8);
    assert_equals_int(get_int(s, "latent-height"), 6);
    assert_equals_int(get_int(s, "width"), W);
    assert_equals_int(get_int(s, "height"), H);
    assert_equals_int(get_int(s, "spatial-ratio"), 8);
    assert_equals_string(gst_structure_get_string(s, "model"), "demo");
    assert_equals_int(strlen(gst_structure_get_string(s, "model-hash")), 16);
    assert_equals_string(gst_structure_get_string(s, "colorimetry"), "sRGB");
    fail_unless(gst_structure_get_boolean(s, "scaled", &scaled) && scaled);
    fail_unless(gst_structure_get_double(s, "scaling-factor", &factor));
    fail_unless(fabs(factor - 0.03866) < 1e-9);
    fail_unless(gst_structure_get_fraction(s, "framerate", &n, &d));
    fail_unless(n == 10 && d == 1);
    fail_unless(gst_structure_get_fraction(s, "pixel-aspect-ratio", &n, &d));
    fail_unless(n == 4 && d == 3);
    fail_if(gst_structure_has_field(s, "chroma-site"));
    gst_structure_free(s);

    gst_harness_push(h, picture("RGB", W, H, 0));
    out = pull(h);
    assert_equals_int(gst_buffer_get_size(out), LATENT_VALUES * 4);
    gst_buffer_unref(out);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_frames_are_sync_points_with_timestamps)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    for (guint n = 0; n < 3; n++) {
        GstBuffer *out;

        gst_harness_push(h, picture("RGB", W, H, n));
        out = pull(h);
        assert_equals_uint64(GST_BUFFER_PTS(out), n * GST_SECOND / 10);
        assert_equals_uint64(GST_BUFFER_DTS(out), n * GST_SECOND / 10);
        assert_equals_uint64(GST_BUFFER_DURATION(out), GST_SECOND / 10);
        fail_if(GST_BUFFER_FLAG_IS_SET(out, GST_BUFFER_FLAG_DELTA_UNIT));
        gst_buffer_unref(out);
    }
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_takes_the_format_that_downstream_asks_for)
{
    static const struct {
        const gchar *asked, *chosen;
        gsize element;
    } cases[] = {
        {"video/x-dcae-latent", "F32LE", 4},
        {"video/x-dcae-latent,format=F16LE", "F16LE", 2},
        {"video/x-dcae-latent,format=BF16LE", "BF16LE", 2},
        {"video/x-dcae-latent,format={F16LE,BF16LE}", "F16LE", 2},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstBus *bus;
        GstHarness *h = harness_new("dcaeenc", &bus);
        GstStructure *s;
        GstBuffer *out;

        gst_harness_set_sink_caps_str(h, cases[i].asked);
        gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
        gst_harness_push(h, picture("RGB", W, H, 0));
        out = pull(h);
        assert_equals_int(gst_buffer_get_size(out), LATENT_VALUES * cases[i].element);
        s = output_caps(h);
        assert_equals_string(gst_structure_get_string(s, "format"), cases[i].chosen);
        gst_structure_free(s);
        gst_buffer_unref(out);
        harness_free(h, bus);
    }
}

GST_END_TEST;

GST_START_TEST(test_encoder_gives_the_same_latent_for_every_rgb_format)
{
    static const gchar *formats[] = {"BGR",  "RGBx", "BGRx", "xRGB", "xBGR",
                                     "RGBA", "BGRA", "ARGB", "ABGR", "GBR"};
    GstBuffer *expected = encode_one("dcaeenc", "RGB", W, H, 3);

    for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
        GstBuffer *out = encode_one("dcaeenc", formats[i], W, H, 3);

        fail_unless(same_bytes(expected, out), "%s differs", formats[i]);
        gst_buffer_unref(out);
    }
    gst_buffer_unref(expected);
}

GST_END_TEST;

/* Grey in every format must be grey: video range 128 is (128 - 16) / 219 of
 * full range, whatever the matrix. */
GST_START_TEST(test_encoder_reads_range_and_luma_of_yuv_and_gray)
{
    static const struct {
        const gchar *caps;
        gsize luma, chroma;
        guint8 y, grey;
    } cases[] = {
        {"format=GRAY8", W * H, 0, 140, 140},
        {"format=NV12,colorimetry=bt709", W * H, W * H / 2, 126, 128},
        {"format=I420,colorimetry=bt601", W * H, W * H / 2, 126, 128},
        {"format=I420,colorimetry=(string)1:3:5:1", W * H, W * H / 2, 128, 128},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstBus *bus, *rgb_bus;
        GstHarness *h = harness_new("dcaeenc", &bus);
        GstHarness *rgb = harness_new("dcaeenc", &rgb_bus);
        gchar *caps = g_strconcat("video/x-raw,width=64,height=48,"
                                  "framerate=10/1,",
                                  cases[i].caps, NULL);
        GstBuffer *in = gst_buffer_new_allocate(NULL, cases[i].luma + cases[i].chroma, NULL);
        GstBuffer *in_rgb = gst_buffer_new_allocate(NULL, W * H * 3, NULL);
        GstBuffer *out, *expected;
        gdouble error;

        gst_buffer_memset(in, 0, cases[i].y, cases[i].luma);
        gst_buffer_memset(in, cases[i].luma, 128, cases[i].chroma);
        gst_buffer_memset(in_rgb, 0, cases[i].grey, -1);
        gst_harness_set_src_caps_str(h, caps);
        gst_harness_set_src_caps_str(rgb, RAW_CAPS("RGB"));
        gst_harness_push(h, in);
        gst_harness_push(rgb, in_rgb);
        out = pull(h);
        expected = pull(rgb);
        error = distance(out, expected);
        /* 126 stands for 128.08; one step of luma is far more than 1 % here */
        fail_unless(error < 0.01, "%s: %g", cases[i].caps, error);
        gst_buffer_unref(out);
        gst_buffer_unref(expected);
        harness_free(rgb, rgb_bus);
        harness_free(h, bus);
        g_free(caps);
    }
}

GST_END_TEST;

GST_START_TEST(test_encoder_reads_any_stride_and_offset)
{
    gsize offsets[GST_VIDEO_MAX_PLANES] = {96};
    gint strides[GST_VIDEO_MAX_PLANES] = {W * 3 + 40};
    GstBuffer *expected = encode_one("dcaeenc", "RGB", W, H, 0);
    GstBuffer *in = gst_buffer_new_allocate(NULL, 96 + H * (W * 3 + 40), NULL);
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstVideoInfo info;
    GstVideoFrame f;
    GstBuffer *out;
    guint8 rgb[3];

    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, W, H);
    gst_buffer_add_video_meta_full(in, 0, GST_VIDEO_FORMAT_RGB, W, H, 1, offsets, strides);
    fail_unless(gst_video_frame_map(&f, &info, in, GST_MAP_WRITE));
    for (guint y = 0; y < H; y++)
        for (guint x = 0; x < W; x++) {
            picture_rgb(x, y, 0, rgb);
            set_rgb(&f, x, y, rgb);
        }
    gst_video_frame_unmap(&f);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, in);
    out = pull(h);
    fail_unless(same_bytes(expected, out));
    gst_buffer_unref(out);
    gst_buffer_unref(expected);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_edge_modes_pad_or_crop)
{
    static const struct {
        const gchar *launch;
        gint width, height, latent_width, latent_height;
    } cases[] = {
        {"dcaeenc", 30, 20, 4, 3},
        {"dcaeenc edge-mode=extend", 30, 20, 4, 3},
        {"dcaeenc edge-mode=zero", 30, 20, 4, 3},
        {"dcaeenc edge-mode=crop", 24, 16, 3, 2},
    };
    GstBuffer *extend, *zero;

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstBus *bus;
        GstHarness *h = harness_new(cases[i].launch, &bus);
        GstStructure *s;

        gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=30,height=20,framerate=10/1");
        s = output_caps(h);
        assert_equals_int(get_int(s, "latent-width"), cases[i].latent_width);
        assert_equals_int(get_int(s, "latent-height"), cases[i].latent_height);
        gst_structure_free(s);
        assert_size(h, cases[i].width, cases[i].height);
        harness_free(h, bus);
    }

    extend = encode_one("dcaeenc", "RGB", 30, 20, 0);
    zero = encode_one("dcaeenc edge-mode=zero", "RGB", 30, 20, 0);
    fail_if(same_bytes(extend, zero));
    gst_buffer_unref(zero);
    gst_buffer_unref(extend);
}

GST_END_TEST;

GST_START_TEST(test_encoder_crop_equals_the_cropped_picture)
{
    GstBuffer *crop = encode_one("dcaeenc edge-mode=crop", "RGB", 30, 20, 0);
    GstBuffer *whole = encode_one("dcaeenc", "RGB", 24, 16, 0);

    fail_unless(same_bytes(crop, whole));
    gst_buffer_unref(whole);
    gst_buffer_unref(crop);
}

GST_END_TEST;

/* The tensor of a golden file as a buffer. */
static GstBuffer *golden_tensor(const gchar *file, const gchar *name, guint64 *shape)
{
    gchar *path = golden_path(file);
    gchar *text = NULL;
    gsize length = 0;
    DcaeSafetensorsHeader *header;
    const DcaeTensor *tensor;
    GError *error = NULL;
    guint64 size;
    GstBuffer *buffer;

    fail_unless(g_file_get_contents(path, &text, &length, NULL));
    size = GST_READ_UINT64_LE(text);
    header = dcae_safetensors_header_parse((guint8 *)text + 8, size, path, &error);
    fail_unless(header != NULL, "%s", error ? error->message : "");
    tensor = dcae_safetensors_header_find(header, name);
    fail_unless(tensor != NULL && tensor->rank == 4);
    memcpy(shape, tensor->shape, 4 * sizeof(guint64));
    buffer = gst_buffer_new_memdup(text + 8 + size + tensor->begin, tensor->end - tensor->begin);
    dcae_safetensors_header_free(header);
    g_free(text);
    g_free(path);
    return buffer;
}

/* First frames only. 2e-5 is the product's bound for f32 against the
 * reference, half a step of 8 bits plus rounding the one for pixels. */
GST_START_TEST(test_elements_match_the_reference)
{
    gchar *model = golden_path("f32-sana/model");
    gchar *enc = g_strdup_printf("dcaeenc scale-latents=false model=%s", model);
    gchar *dec = g_strdup_printf("dcaedec scale-latents=false model=%s", model);
    guint64 p[4], l[4], in[4], d[4];
    GstBuffer *pixels = golden_tensor("f32-sana/io.safetensors", "pixels", p);
    GstBuffer *latents = golden_tensor("f32-sana/io.safetensors", "latents", l);
    GstBuffer *latents_in = golden_tensor("f32-sana/io.safetensors", "latents_in", in);
    GstBuffer *decoded = golden_tensor("f32-sana/io.safetensors", "decoded", d);
    gsize latent_size = l[1] * l[2] * l[3] * 4;
    guint width = p[2], height = p[1];
    GstBus *bus;
    GstHarness *h = harness_new(enc, &bus);
    GstBuffer *frame =
        gst_buffer_copy_region(pixels, GST_BUFFER_COPY_MEMORY, 0, width * height * 3);
    GstBuffer *out, *want;
    GstMapInfo mo, mw;
    gchar *caps;

    GstVideoInfo info;

    /* RGB rows are padded to four bytes in GStreamer's default layout */
    gst_video_info_set_format(&info, GST_VIDEO_FORMAT_RGB, width, height);
    assert_equals_int(GST_VIDEO_INFO_PLANE_STRIDE(&info, 0), (gint)width * 3);

    caps = g_strdup_printf("video/x-raw,format=RGB,width=%u,height=%u,"
                           "framerate=10/1",
                           width, height);
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, frame);
    assert_no(bus, GST_MESSAGE_ERROR);
    out = pull(h);
    want = gst_buffer_copy_region(latents, GST_BUFFER_COPY_MEMORY, 0, latent_size);
    fail_unless(distance(out, want) < 2e-5, "%g", distance(out, want));
    gst_buffer_unref(want);
    gst_buffer_unref(out);
    harness_free(h, bus);
    g_free(caps);

    caps = g_strdup_printf("video/x-dcae-latent,format=F32LE,latent-channels=%u,"
                           "latent-height=%u,latent-width=%u",
                           (guint)in[1], (guint)in[2], (guint)in[3]);
    want = gst_buffer_copy_region(latents_in, GST_BUFFER_COPY_MEMORY, 0, in[1] * in[2] * in[3] * 4);
    out = decode_one(dec, caps, "video/x-raw,format=GBR", want);
    gst_buffer_map(out, &mo, GST_MAP_READ);
    gst_buffer_map(decoded, &mw, GST_MAP_READ);
    for (guint c = 0; c < 3; c++)
        for (gsize i = 0; i < d[2] * d[3]; i++) {
            static const guint plane[] = {2, 0, 1};
            gdouble value = ((gfloat *)mw.data)[c * d[2] * d[3] + i];
            guint8 got = mo.data[plane[c] * d[2] * d[3] + i];

            value = CLAMP((value + 1) * 127.5, 0, 255);
            fail_unless(fabs(got - value) <= 0.51, "%u, not %g", got, value);
        }
    gst_buffer_unmap(decoded, &mw);
    gst_buffer_unmap(out, &mo);
    gst_buffer_unref(out);
    gst_buffer_unref(want);
    gst_buffer_unref(pixels);
    gst_buffer_unref(latents);
    gst_buffer_unref(latents_in);
    gst_buffer_unref(decoded);
    g_free(caps);
    g_free(dec);
    g_free(enc);
    g_free(model);
}

GST_END_TEST;

/* ---- encoder: streams */

GST_START_TEST(test_encoder_batch_gives_the_same_latents)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=3", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    for (guint n = 0; n < 3; n++) {
        assert_equals_int(gst_harness_buffers_received(h), 0);
        fail_unless_equals_int(gst_harness_push(h, picture("RGB", W, H, n)), GST_FLOW_OK);
    }
    for (guint n = 0; n < 3; n++) {
        GstBuffer *out = pull(h);
        GstBuffer *single = encode_one("dcaeenc", "RGB", W, H, n);

        assert_equals_uint64(GST_BUFFER_PTS(out), n * GST_SECOND / 10);
        fail_unless(same_bytes(single, out));
        gst_buffer_unref(single);
        gst_buffer_unref(out);
    }
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_drains_a_partial_batch_at_eos)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=4", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    for (guint n = 0; n < 6; n++)
        gst_harness_push(h, picture("RGB", W, H, n));
    assert_equals_int(gst_harness_buffers_received(h), 4);
    fail_unless(gst_harness_push_event(h, gst_event_new_eos()));
    assert_equals_int(gst_harness_buffers_received(h), 6);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_drains_a_partial_batch_at_a_gap)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=4", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 0);
    gst_harness_push_event(h, gst_event_new_gap(GST_SECOND / 10, GST_SECOND));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    harness_free(h, bus);
}

GST_END_TEST;

/* A decoder behind the encoder holds frames too, and gets no other frame that brings the event, nor
 * the tags that wait for one. */
GST_START_TEST(test_a_gap_drains_encoder_and_decoder)
{
    GstHarness *h = gst_harness_new_parse("dcaeenc batch-size=2 ! dcaedec batch-size=2");
    GstTagList *tags = gst_tag_list_new(GST_TAG_TITLE, "late", NULL);
    GstEvent *event;
    guint gaps = 0;

    choose_backend(h->element, "");
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 0);
    if (__i__ == 1)
        gst_harness_push_event(h, gst_event_new_tag(gst_tag_list_ref(tags)));
    gst_tag_list_unref(tags);
    gst_harness_push_event(h, gst_event_new_gap(GST_SECOND / 10, GST_SECOND));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    while ((event = gst_harness_try_pull_event(h)) != NULL) {
        gaps += GST_EVENT_TYPE(event) == GST_EVENT_GAP;
        gst_event_unref(event);
    }
    assert_equals_int(gaps, 1);
    gst_harness_teardown(h);
}

GST_END_TEST;

GST_START_TEST(test_encoder_flush_drops_what_waits)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=2", &bus);
    GstSegment segment;
    GstBuffer *out;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    gst_harness_push(h, picture("RGB", W, H, 5));
    assert_equals_int(gst_harness_buffers_received(h), 0);
    gst_harness_push(h, picture("RGB", W, H, 6));
    assert_equals_int(gst_harness_buffers_received(h), 2);
    out = pull(h);
    assert_equals_uint64(GST_BUFFER_PTS(out), 5 * GST_SECOND / 10);
    gst_buffer_unref(out);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

/* Takes the progress messages off the bus; errors and warnings are put back. */
static guint count_progress(GstBus *bus, GstProgressType type, const gchar *code)
{
    GList *others = NULL;
    GstMessage *message;
    guint found = 0;

    while ((message = gst_bus_pop(bus))) {
        GstProgressType got;
        gchar *got_code;

        if (GST_MESSAGE_TYPE(message) & (GST_MESSAGE_ERROR | GST_MESSAGE_WARNING)) {
            others = g_list_prepend(others, message);
            continue;
        }
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_PROGRESS) {
            gst_message_parse_progress(message, &got, &got_code, NULL);
            if (got == type && strcmp(got_code, code) == 0)
                found++;
            g_free(got_code);
        }
        gst_message_unref(message);
    }
    others = g_list_reverse(others);
    for (GList *l = others; l; l = l->next)
        gst_bus_post(bus, l->data);
    g_list_free(others);
    return found;
}

GST_START_TEST(test_encoder_size_change_drains_and_keeps_the_model)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=2", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=32,height=16,framerate=10/1");
    assert_equals_int(gst_harness_buffers_received(h), 1);
    gst_harness_push(h, picture("RGB", 32, 16, 1));
    gst_harness_push(h, picture("RGB", 32, 16, 2));
    assert_equals_int(gst_harness_buffers_received(h), 3);
    assert_size(h, 32, 16);
    for (guint n = 0; n < 3; n++) {
        GstBuffer *out = pull(h);

        assert_equals_int(gst_buffer_get_size(out), n == 0 ? LATENT_VALUES * 4 : 16 * 4 * 2 * 4);
        gst_buffer_unref(out);
    }
    assert_equals_int(count_progress(bus, GST_PROGRESS_TYPE_START, "model-load"), 1);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_reports_the_latency_of_a_batch)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=4", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    assert_equals_uint64(gst_harness_query_latency(h), 3 * GST_SECOND / 10);
    harness_free(h, bus);

    /* more than the base class can add up */
    h = harness_new("dcaeenc batch-size=64", &bus);
    gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=64,height=48,"
                                    "framerate=1/2147483647");
    fail_unless(gst_harness_query_latency(h) >= G_MAXINT64);
    harness_free(h, bus);

    h = harness_new("dcaeenc", &bus);
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    assert_equals_uint64(gst_harness_query_latency(h), 0);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_does_not_batch_live_input_of_unknown_rate)
{
    static const gchar *caps = "video/x-raw,format=RGB,width=64,height=48,framerate=0/1";
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=4", &bus);

    gst_harness_set_live(h, TRUE);
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    harness_free(h, bus);

    h = harness_new("dcaeenc batch-size=4", &bus);
    gst_harness_set_live(h, FALSE);
    gst_harness_set_src_caps_str(h, caps);
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 0);
    harness_free(h, bus);

    /* a variable rate is an unknown one, whatever its maximum */
    h = harness_new("dcaeenc batch-size=4", &bus);
    gst_harness_set_live(h, TRUE);
    gst_harness_set_src_caps_str(h, "video/x-raw,format=RGB,width=64,height=48,framerate=0/1,"
                                    "max-framerate=30/1");
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    harness_free(h, bus);
}

GST_END_TEST;

static GstStructure *query_sink_caps(GstHarness *h)
{
    GstCaps *caps = gst_pad_peer_query_caps(h->srcpad, NULL);
    GstStructure *s;

    fail_if(gst_caps_is_empty(caps));
    s = gst_structure_copy(gst_caps_get_structure(caps, 0));
    gst_caps_unref(caps);
    return s;
}

GST_START_TEST(test_encoder_getcaps_asks_upstream_for_size_and_rate)
{
    static const gchar *asked = "video/x-dcae-latent,width=64,height=48,"
                                "framerate=10/1,colorimetry=sRGB";
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstStructure *s;
    gint n, d;

    gst_harness_set_sink_caps_str(h, asked);
    s = query_sink_caps(h);
    assert_equals_int(get_int(s, "width"), 64);
    assert_equals_int(get_int(s, "height"), 48);
    fail_unless(gst_structure_get_fraction(s, "framerate", &n, &d) && n == 10);
    fail_if(gst_structure_has_field(s, "colorimetry"));
    gst_structure_free(s);
    harness_free(h, bus);

    h = harness_new("dcaeenc edge-mode=crop", &bus);
    gst_harness_set_sink_caps_str(h, asked);
    s = query_sink_caps(h);
    assert_equals_int(get_int(s, "width"), -1);
    fail_unless(gst_structure_get_fraction(s, "framerate", &n, &d) && n == 10);
    gst_structure_free(s);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_tells_codec_and_encoder_tags)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstEvent *event;
    gboolean found = FALSE;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    while ((event = gst_harness_try_pull_event(h))) {
        GstTagList *tags;
        gchar *codec = NULL, *encoder = NULL;

        if (GST_EVENT_TYPE(event) == GST_EVENT_TAG) {
            gst_event_parse_tag(event, &tags);
            gst_tag_list_get_string(tags, GST_TAG_VIDEO_CODEC, &codec);
            gst_tag_list_get_string(tags, GST_TAG_ENCODER, &encoder);
            found |=
                codec && encoder && !strcmp(codec, "DC-AE latent") && strstr(encoder, "dcaeenc");
            g_free(encoder);
            g_free(codec);
        }
        gst_event_unref(event);
    }
    fail_unless(found);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_proposes_strides_and_buffers_for_a_batch)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=5", &bus);
    GstCaps *caps = gst_caps_from_string(RAW_CAPS("RGB"));
    GstQuery *query = gst_query_new_allocation(caps, TRUE);
    guint min = 0;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    fail_unless(gst_pad_peer_query(h->srcpad, query));
    fail_unless(gst_query_find_allocation_meta(query, GST_VIDEO_META_API_TYPE, NULL));
    gst_query_parse_nth_allocation_pool(query, 0, NULL, NULL, &min, NULL);
    fail_unless(min >= 5);
    gst_query_unref(query);
    gst_caps_unref(caps);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_counts_frames_and_tells_what_is_active)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstStructure *stats = NULL;
    gchar *backend = NULL, *tiling = NULL;
    guint64 frames = 0, dropped = 1, peak = 0;
    gdouble ms = 0;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    for (guint n = 0; n < 3; n++)
        gst_harness_push(h, picture("RGB", W, H, n));
    g_object_get(h->element, "stats", &stats, "active-backend", &backend, "active-tiling", &tiling,
                 NULL);
    fail_unless(gst_structure_has_name(stats, "dcae-stats"));
    fail_unless(gst_structure_get_uint64(stats, "frames", &frames));
    fail_unless(gst_structure_get_uint64(stats, "dropped", &dropped));
    fail_unless(gst_structure_get_uint64(stats, "peak-bytes", &peak));
    fail_unless(gst_structure_get_double(stats, "ms-per-frame", &ms));
    assert_equals_uint64(frames, 3);
    assert_equals_uint64(dropped, 0);
    fail_unless(peak > W * H * 4);
    fail_unless(ms > 0);
    assert_equals_string(backend, "cpu");
    assert_equals_string(tiling, "off");
    gst_structure_free(stats);
    g_free(backend);
    g_free(tiling);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_auto_tiling_keeps_below_the_memory_limit)
{
    /* Without a limit such a small frame is not worth cutting. */
    static const struct {
        const gchar *launch, *tiling;
        guint64 most;
    } runs[] = {
        {"dcaeenc threads=2 tiling=off", "off", 9 << 20},
        {"dcaeenc threads=2", "off", 9 << 20},
        {"dcaeenc threads=2 memory-limit=5", "exact", 5 << 20},
        {"dcaeenc threads=2 tiling=exact memory-limit=5", "exact", 5 << 20},
    };
    GstBuffer *expected = NULL;

    for (guint i = 0; i < G_N_ELEMENTS(runs); i++) {
        GstBus *bus;
        GstHarness *h = harness_new(runs[i].launch, &bus);
        GstStructure *stats = NULL;
        GstBuffer *out;
        gchar *active = NULL;
        guint64 peak = 0;

        gst_harness_set_src_caps_str(h,
                                     "video/x-raw,format=RGB,width=320,height=240,framerate=10/1");
        gst_harness_push(h, picture("RGB", 320, 240, 0));
        out = pull(h);
        g_object_get(h->element, "active-tiling", &active, "stats", &stats, NULL);
        gst_structure_get_uint64(stats, "peak-bytes", &peak);
        assert_equals_string(active, runs[i].tiling);
        if (i == 0)
            expected = gst_buffer_ref(out);
        fail_unless(peak <= runs[i].most);
        fail_unless(same_bytes(expected, out));
        gst_buffer_unref(out);
        gst_structure_free(stats);
        g_free(active);
        harness_free(h, bus);
    }
    gst_buffer_unref(expected);
}

GST_END_TEST;

/* ---- encoder: refusals */

static void assert_input_refused(const gchar *caps, GQuark domain, gint code, const gchar *needle)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);

    fail_if(push_caps(h, caps));
    assert_error(bus, domain, code, needle);
    fail_if(push_caps(h, caps));
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_START_TEST(test_encoder_refuses_interlaced_and_limited_rgb)
{
    assert_input_refused(RAW_CAPS("I420") ",interlace-mode=interleaved", GST_STREAM_ERROR,
                         GST_STREAM_ERROR_NOT_IMPLEMENTED, "deinterlace");
    assert_input_refused(RAW_CAPS("I420") ",interlace-mode=mixed", GST_STREAM_ERROR,
                         GST_STREAM_ERROR_NOT_IMPLEMENTED, "deinterlace");
    assert_input_refused(RAW_CAPS("RGB") ",colorimetry=(string)2:1:5:1", GST_STREAM_ERROR,
                         GST_STREAM_ERROR_NOT_IMPLEMENTED, "limited range");
}

GST_END_TEST;

GST_START_TEST(test_encoder_warns_of_pq_and_hlg)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB") ",colorimetry=(string)1:1:14:7");
    assert_warning(bus, "PQ");
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB") ",colorimetry=(string)1:1:15:7");
    assert_warning(bus, "HLG");
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB") ",colorimetry=sRGB");
    assert_no(bus, GST_MESSAGE_WARNING | GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_refuses_a_short_buffer_and_swallows_eos)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=2", &bus);
    GstBuffer *in = gst_buffer_new_allocate(NULL, 100, NULL);
    GstEvent *event;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    GST_BUFFER_PTS(in) = GST_SECOND / 10;
    fail_unless_equals_int(gst_harness_push(h, in), GST_FLOW_ERROR);
    assert_error(bus, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, "64x48 pixels");
    fail_if(gst_harness_push_event(h, gst_event_new_eos()));
    while ((event = gst_harness_try_pull_event(h))) {
        fail_if(GST_EVENT_TYPE(event) == GST_EVENT_EOS);
        gst_event_unref(event);
    }
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_encoder_crop_refuses_a_picture_below_the_ratio)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc edge-mode=crop", &bus);

    fail_if(push_caps(h, "video/x-raw,format=RGB,width=7,height=48,framerate=10/1"));
    assert_error(bus, GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS, "crop");
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_settings_that_cannot_work_are_errors)
{
    const GQuark lib = GST_LIBRARY_ERROR;
    const gint settings = GST_LIBRARY_ERROR_SETTINGS;

    assert_pipeline_fails(ENC_PIPELINE("batch-size=2 slicing=true"), lib, settings, "slicing");
    assert_pipeline_fails(ENC_PIPELINE("tiling=blend tile-width=100"), lib, settings, "96 and 104");
    assert_pipeline_fails(ENC_PIPELINE("tiling=blend tile-height=1"), lib, settings, "tile-height");
    assert_pipeline_fails(ENC_PIPELINE("tiling=blend tile-width=2147483647"), lib, settings,
                          "tile-width");
    assert_pipeline_fails(ENC_PIPELINE("tiling=blend tile-width=64 "
                                       "tile-stride-width=128"),
                          lib, settings, "tile-stride-width");
    assert_pipeline_fails(ENC_PIPELINE("latent-channels=4"), lib, settings, "latent-channels");
    assert_pipeline_fails(ENC_PIPELINE("latent-channels=17"), lib, settings, "latent-channels");
    assert_pipeline_fails(ENC_PIPELINE("precision=f16 backend=cpu"), lib, settings, "f16");
}

GST_END_TEST;

GST_START_TEST(test_too_little_memory_names_the_least_that_would_do)
{
    assert_pipeline_fails("videotestsrc num-buffers=2 ! video/x-raw,"
                          "format=RGB,width=640,height=480 ! dcaeenc tiling=off memory-limit=1 ! "
                          "fakesink",
                          GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS, "MiB");
    assert_pipeline_fails("videotestsrc num-buffers=2 ! video/x-raw,"
                          "format=RGB,width=640,height=480 ! dcaeenc tiling=exact memory-limit=1 ! "
                          "fakesink",
                          GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS, "at least");
}

GST_END_TEST;

GST_START_TEST(test_tile_settings_without_blend_warn)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc tiling=exact tile-width=256", &bus);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    assert_warning(bus, "tiling=blend");
    harness_free(h, bus);
}

GST_END_TEST;

/* ---- models */

GST_START_TEST(test_missing_model_is_named_and_the_element_recovers)
{
    GstBus *bus;
    GstElement *pipeline =
        pipeline_new("videotestsrc num-buffers=2 ! " RAW_CAPS(
                         "RGB") " ! dcaeenc name=e model=/nowhere/at/all ! fakesink",
                     &bus);
    GstElement *enc = gst_bin_get_by_name(GST_BIN(pipeline), "e");
    GstMessage *message;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    assert_error(bus, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere/at/all");
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_bus_set_flushing(bus, TRUE);
    gst_bus_set_flushing(bus, FALSE);

    g_object_set(enc, "model", "", NULL);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    assert_equals_int(GST_MESSAGE_TYPE(message), GST_MESSAGE_EOS);
    gst_message_unref(message);
    gst_object_unref(enc);
    pipeline_free(pipeline, bus);
}

GST_END_TEST;

GST_START_TEST(test_repository_that_is_not_cached_says_what_to_run)
{
    g_setenv("HF_HUB_CACHE", "/nowhere/hub", TRUE);
    assert_pipeline_fails(ENC_PIPELINE("model=mit-han-lab/"
                                       "dc-ae-f32c32-sana-1.0-diffusers"),
                          GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "download");
    assert_pipeline_fails(ENC_PIPELINE("model=mit-han-lab/"
                                       "dc-ae-f32c32-sana-1.0-diffusers"),
                          GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere/hub");
    g_unsetenv("HF_HUB_CACHE");
    g_setenv("HF_HOME", "/nowhere/home", TRUE);
    assert_pipeline_fails(ENC_PIPELINE("model=mit-han-lab/"
                                       "dc-ae-f32c32-sana-1.0-diffusers"),
                          GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere/home/hub");
}

GST_END_TEST;

/* A repository in a Hugging Face cache of our own: its id goes into the caps, and the decoder finds
 * the model again by it. */
GST_START_TEST(test_cached_repository_is_named_in_caps_and_found_by_them)
{
    gchar *hub = g_dir_make_tmp("dcae-hub-XXXXXX", NULL);
    gchar *repo = g_build_filename(hub, "models--owner--tiny", NULL);
    gchar *refs = g_build_filename(repo, "refs", NULL);
    gchar *main_ref = g_build_filename(refs, "main", NULL);
    gchar *snapshots = g_build_filename(repo, "snapshots", NULL);
    gchar *snapshot = g_build_filename(snapshots, "0123abcd", NULL);
    gchar *model = golden_path("f32-sana/model");
    GstBus *bus;
    GstHarness *h;
    GstStructure *s;

    fail_unless_equals_int(g_mkdir_with_parents(refs, 0755), 0);
    fail_unless_equals_int(g_mkdir_with_parents(snapshots, 0755), 0);
    fail_unless(g_file_set_contents(main_ref, "0123abcd", -1, NULL));
    fail_unless_equals_int(symlink(model, snapshot), 0);
    g_setenv("HF_HUB_CACHE", hub, TRUE);

    h = harness_new("dcaeenc model=owner/tiny", &bus);
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    s = output_caps(h);
    assert_equals_string(gst_structure_get_string(s, "model"), "owner/tiny");
    gst_structure_free(s);
    harness_free(h, bus);

    h = gst_harness_new_parse("dcaeenc model=owner/tiny ! dcaedec");
    bus = watch(h->element);
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    assert_no(bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    harness_free(h, bus);

    g_unlink(snapshot);
    g_unlink(main_ref);
    g_rmdir(snapshots);
    g_rmdir(refs);
    g_rmdir(repo);
    g_rmdir(hub);
    g_free(model);
    g_free(snapshot);
    g_free(snapshots);
    g_free(main_ref);
    g_free(refs);
    g_free(repo);
    g_free(hub);
}

GST_END_TEST;

/* What is logged under "memory-limit: half of N MiB available". */
static void read_memory_log(GstDebugCategory *category, GstDebugLevel level, const gchar *file,
                            const gchar *function, gint line, GObject *object,
                            GstDebugMessage *message, gpointer user_data)
{
    guint64 mib;

    if (sscanf(gst_debug_message_get(message),
               "memory-limit: half of %" G_GUINT64_FORMAT " MiB available", &mib) == 1)
        *(guint64 *)user_data = mib;
}

GST_START_TEST(test_memory_limit_of_zero_is_told_in_the_log)
{
    static guint64 mib = 0;
    GstBus *bus;
    GstHarness *h;

    gst_debug_remove_log_function(gst_debug_log_default);
    gst_debug_add_log_function(read_memory_log, &mib, NULL);
    gst_debug_set_active(TRUE);
    gst_debug_set_threshold_for_name("dcae", GST_LEVEL_INFO);
    h = harness_new("dcaeenc", &bus);
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    fail_unless(mib > 16, "%" G_GUINT64_FORMAT, mib);
    fail_unless(mib <= (guint64)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 1048576);
    harness_free(h, bus);
    gst_debug_remove_log_function(read_memory_log);
}

GST_END_TEST;

/* A copy of a golden model in a fresh directory whose weights were changed. */
static gchar *spoiled_model(void (*spoil)(gchar **data, gsize *length))
{
    static const gchar *weights = "diffusion_pytorch_model.safetensors";
    gchar *source = golden_path("f32-sana/model");
    gchar *dir = g_dir_make_tmp("dcae-XXXXXX", NULL);
    gchar *from = g_build_filename(source, "config.json", NULL);
    gchar *to = g_build_filename(dir, "config.json", NULL);
    gchar *data = NULL;
    gsize length = 0;

    fail_unless(g_file_get_contents(from, &data, &length, NULL));
    fail_unless(g_file_set_contents(to, data, length, NULL));
    g_free(data);
    g_free(from);
    g_free(to);

    from = g_build_filename(source, weights, NULL);
    to = g_build_filename(dir, weights, NULL);
    fail_unless(g_file_get_contents(from, &data, &length, NULL));
    spoil(&data, &length);
    fail_unless(g_file_set_contents(to, data, length, NULL));
    g_free(data);
    g_free(from);
    g_free(to);
    g_free(source);
    return dir;
}

static void remove_model(gchar *dir)
{
    static const gchar *files[] = {"config.json", "diffusion_pytorch_model.safetensors"};

    for (guint i = 0; i < G_N_ELEMENTS(files); i++) {
        gchar *path = g_build_filename(dir, files[i], NULL);

        g_unlink(path);
        g_free(path);
    }
    g_rmdir(dir);
    g_free(dir);
}

static void cut_file(gchar **data, gsize *length)
{
    *length /= 2;
}

/* 0xffff is NaN in f16, bf16 and, twice, in f32. */
static void put_nan(gchar **data, gsize *length)
{
    guint64 header = GST_READ_UINT64_LE(*data);

    memset(*data + 8 + header, 0xff, *length - 8 - header);
}

static void put_garbage(gchar **data, gsize *length)
{
    memset(*data, 0x7f, MIN(*length, 64));
}

static void assert_spoiled(void (*spoil)(gchar **, gsize *), GQuark domain, gint code,
                           const gchar *needle)
{
    gchar *dir = spoiled_model(spoil);
    gchar *launch = g_strdup_printf(
        "videotestsrc num-buffers=2 ! " RAW_CAPS("RGB") " ! dcaeenc model=%s ! fakesink", dir);

    assert_pipeline_fails(launch, domain, code, needle);
    g_free(launch);
    remove_model(dir);
}

GST_START_TEST(test_spoiled_weights_are_errors_that_name_the_file)
{
    static const gchar *file = "diffusion_pytorch_model.safetensors";

    assert_spoiled(cut_file, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE, file);
    assert_spoiled(put_garbage, GST_STREAM_ERROR, GST_STREAM_ERROR_WRONG_TYPE, file);
    assert_spoiled(put_nan, GST_STREAM_ERROR, GST_STREAM_ERROR_FORMAT, file);
}

GST_END_TEST;

/* Every START ends, in the order in which the stages come. */
GST_START_TEST(test_loading_is_told_by_progress_messages)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstMessage *message;
    GString *story = g_string_new(NULL);
    gint last = -1;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    while ((message = gst_bus_pop_filtered(bus, GST_MESSAGE_PROGRESS))) {
        GstProgressType type;
        gchar *code, *text;

        gst_message_parse_progress(message, &type, &code, &text);
        fail_unless(strlen(text) > 5);
        if (type != GST_PROGRESS_TYPE_CONTINUE || last != (gint)type)
            g_string_append_printf(story, "%s%d ", code + 6, type);
        last = type;
        g_free(code);
        g_free(text);
        gst_message_unref(message);
    }
    fail_unless(g_str_has_prefix(story->str, "load0 "), "%s", story->str);
    fail_unless(g_str_has_suffix(story->str, "pack2 "), "%s", story->str);
    fail_unless(strstr(story->str, "load2 pack0 ") != NULL, "%s", story->str);
    g_string_free(story, TRUE);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_failed_loading_ends_its_progress)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc model=/nowhere", &bus);

    fail_if(push_caps(h, RAW_CAPS("RGB")));
    assert_equals_int(count_progress(bus, GST_PROGRESS_TYPE_ERROR, "model-load"), 1);
    assert_error(bus, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "/nowhere");
    assert_no(bus, GST_MESSAGE_ERROR);
    fail_if(gst_harness_push_event(h, gst_event_new_eos()));
    harness_free(h, bus);
}

GST_END_TEST;

/* Holds the loader where it tells that packing has begun, until let go. */
typedef struct {
    GMutex lock;
    GCond cond;
    gboolean reached, let_go;
    GstPad *until_flushing; /* or until this pad flushes */
    gint64 deadline;        /* or until this monotonic time, or tests would hang */
} Hold;

static GstBusSyncReply hold_loader(GstBus *bus, GstMessage *message, gpointer user_data)
{
    Hold *hold = user_data;
    GstProgressType type;
    gchar *code;

    if (GST_MESSAGE_TYPE(message) != GST_MESSAGE_PROGRESS)
        return GST_BUS_PASS;
    gst_message_parse_progress(message, &type, &code, NULL);
    if (type == GST_PROGRESS_TYPE_START && strcmp(code, "model-pack") == 0) {
        g_mutex_lock(&hold->lock);
        hold->reached = TRUE;
        g_cond_broadcast(&hold->cond);
        while (!hold->let_go && g_get_monotonic_time() < hold->deadline &&
               !(hold->until_flushing && GST_PAD_IS_FLUSHING(hold->until_flushing)))
            g_cond_wait_until(&hold->cond, &hold->lock,
                              g_get_monotonic_time() + G_TIME_SPAN_MILLISECOND);
        g_mutex_unlock(&hold->lock);
    }
    g_free(code);
    return GST_BUS_PASS;
}

static void hold_init(Hold *hold, GstBus *bus)
{
    memset(hold, 0, sizeof(*hold));
    g_mutex_init(&hold->lock);
    g_cond_init(&hold->cond);
    hold->deadline = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
    gst_bus_set_sync_handler(bus, hold_loader, hold, NULL);
}

static void hold_wait(Hold *hold)
{
    g_mutex_lock(&hold->lock);
    while (!hold->reached)
        g_cond_wait(&hold->cond, &hold->lock);
    g_mutex_unlock(&hold->lock);
}

static void hold_let_go(Hold *hold)
{
    g_mutex_lock(&hold->lock);
    hold->let_go = TRUE;
    g_cond_broadcast(&hold->cond);
    g_mutex_unlock(&hold->lock);
}

static void hold_clear(Hold *hold)
{
    g_mutex_clear(&hold->lock);
    g_cond_clear(&hold->cond);
}

GST_START_TEST(test_stop_while_loading_cancels_without_an_error)
{
    GstBus *bus;
    GstElement *pipeline =
        pipeline_new("videotestsrc ! " RAW_CAPS("RGB") " ! dcaeenc name=e ! fakesink", &bus);
    GstElement *enc = gst_bin_get_by_name(GST_BIN(pipeline), "e");
    GstPad *pad = gst_element_get_static_pad(enc, "sink");
    Hold hold;

    hold_init(&hold, bus);
    hold.until_flushing = pad;
    gst_element_set_state(pipeline, GST_STATE_PAUSED);
    hold_wait(&hold);
    gst_element_set_state(pipeline, GST_STATE_READY);
    assert_equals_int(count_progress(bus, GST_PROGRESS_TYPE_CANCELED, "model-pack"), 1);
    assert_no(bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);

    gst_object_unref(pad);
    gst_object_unref(enc);
    pipeline_free(pipeline, bus);
    hold_clear(&hold);
}

GST_END_TEST;

/* Pushes caps to an element that is still loading, and lets the loader go on when they came back.
 */
typedef struct {
    GstHarness *h;
    Hold *hold;
} WaitingCaps;

static gpointer send_caps_thread(gpointer data)
{
    WaitingCaps *waiting = data;
    GstCaps *caps = gst_caps_from_string(RAW_CAPS("RGB"));

    gst_pad_push_event(waiting->h->srcpad, gst_event_new_caps(caps));
    gst_caps_unref(caps);
    hold_let_go(waiting->hold);
    return NULL;
}

GST_START_TEST(test_stop_ends_the_wait_for_a_model_at_once)
{
    GstBus *bus;
    GstElement *enc = gst_element_factory_make("dcaeenc", NULL);
    WaitingCaps waiting = {NULL};
    GThread *thread;
    Hold hold;

    bus = watch(enc);
    hold_init(&hold, bus);
    waiting.h = gst_harness_new_with_element(enc, "sink", "src");
    waiting.hold = &hold;
    gst_object_unref(enc);
    hold_wait(&hold);
    thread = g_thread_new("caps", send_caps_thread, &waiting);
    while (!gst_pad_has_current_caps(waiting.h->srcpad))
        g_thread_yield();
    gst_element_set_state(waiting.h->element, GST_STATE_READY);
    g_thread_join(thread);
    fail_unless(g_get_monotonic_time() < hold.deadline, "stop waited for the loader");
    assert_no(bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    harness_free(waiting.h, bus);
    hold_clear(&hold);
}

GST_END_TEST;

static gpointer push_caps_thread(gpointer data)
{
    GstHarness *h = data;
    GstCaps *caps = gst_caps_from_string(RAW_CAPS("RGB"));

    gst_pad_push_event(h->srcpad, gst_event_new_caps(caps));
    gst_caps_unref(caps);
    return NULL;
}

GST_START_TEST(test_flush_while_loading_keeps_the_model_and_the_caps)
{
    GstBus *bus;
    GstElement *enc = gst_element_factory_make("dcaeenc", NULL);
    GstSegment segment;
    GstHarness *h;
    GThread *thread;
    gchar *active = NULL;
    Hold hold;

    bus = watch(enc);
    hold_init(&hold, bus);
    h = gst_harness_new_with_element(enc, "sink", "src");
    gst_object_unref(enc);
    hold_wait(&hold);
    thread = g_thread_new("caps", push_caps_thread, h);
    while (!gst_pad_has_current_caps(h->srcpad))
        g_thread_yield();
    gst_harness_push_event(h, gst_event_new_flush_start());
    g_thread_join(thread);
    hold_let_go(&hold);
    while (active == NULL) {
        g_thread_yield();
        g_object_get(h->element, "active-backend", &active, NULL);
    }
    g_free(active);
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));

    fail_unless(push_caps(h, RAW_CAPS("RGB")));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    fail_unless_equals_int(gst_harness_push(h, picture("RGB", W, H, 0)), GST_FLOW_OK);
    assert_equals_int(gst_harness_buffers_received(h), 1);
    assert_equals_int(count_progress(bus, GST_PROGRESS_TYPE_START, "model-load"), 1);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
    hold_clear(&hold);
}

GST_END_TEST;

/* Packing is told in many steps, by one thread since the caller's alone tells of it and others
 * might take most layers; the second element finds it done. */
GST_START_TEST(test_two_elements_share_the_packed_weights)
{
    GstBus *bus[2];
    GstHarness *h[2];
    guint steps[2];
    GstBuffer *out[2];

    for (guint i = 0; i < 2; i++) {
        h[i] = harness_new("dcaeenc threads=1", &bus[i]);
        gst_harness_set_src_caps_str(h[i], RAW_CAPS("RGB"));
        gst_harness_push(h[i], picture("RGB", W, H, 0));
        out[i] = pull(h[i]);
        steps[i] = count_progress(bus[i], GST_PROGRESS_TYPE_CONTINUE, "model-pack");
    }
    fail_unless(steps[0] > 2, "%u", steps[0]);
    fail_unless(steps[1] < 2, "%u", steps[1]);
    fail_unless(same_bytes(out[0], out[1]));
    for (guint i = 0; i < 2; i++) {
        gst_buffer_unref(out[i]);
        harness_free(h[i], bus[i]);
    }
}

GST_END_TEST;

/* ---- decoder: what comes out */

GST_START_TEST(test_decoder_caps_carry_size_rate_and_aspect)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstStructure *s;
    GstBuffer *out;
    gint n = 0, d = 0;

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",width=60,height=41,"
                                                "framerate=10/1,pixel-aspect-ratio=4/3");
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    assert_no(bus, GST_MESSAGE_ERROR);
    out = pull(h);
    assert_equals_uint64(GST_BUFFER_PTS(out), 0);
    assert_equals_uint64(GST_BUFFER_DURATION(out), GST_SECOND / 10);
    gst_buffer_unref(out);
    assert_size(h, 60, 41);
    s = output_caps(h);
    assert_equals_string(gst_structure_get_string(s, "format"), "RGB");
    assert_equals_string(gst_structure_get_string(s, "colorimetry"), "sRGB");
    fail_unless(gst_structure_get_fraction(s, "framerate", &n, &d));
    fail_unless(n == 10 && d == 1);
    fail_unless(gst_structure_get_fraction(s, "pixel-aspect-ratio", &n, &d));
    fail_unless(n == 4 && d == 3);
    gst_structure_free(s);
    harness_free(h, bus);

    h = harness_new("dcaedec", &bus);
    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    assert_size(h, W, H);
    harness_free(h, bus);
}

GST_END_TEST;

static guint8 sample(GstVideoFrame *f, guint c, guint x, guint y)
{
    return GST_VIDEO_FRAME_COMP_DATA(
        f, c)[y * GST_VIDEO_FRAME_COMP_STRIDE(f, c) + x * GST_VIDEO_FRAME_COMP_PSTRIDE(f, c)];
}

/* The byte of a pixel that R, G and B leave. */
static guint8 padding(GstVideoFrame *f, guint x, guint y)
{
    const guint8 *pixel =
        (guint8 *)GST_VIDEO_FRAME_PLANE_DATA(f, 0) + y * GST_VIDEO_FRAME_PLANE_STRIDE(f, 0) + 4 * x;

    return pixel[GST_VIDEO_FRAME_COMP_POFFSET(f, 0) == 0   ? 3
                 : GST_VIDEO_FRAME_COMP_POFFSET(f, 2) == 0 ? 3
                                                           : 0];
}

static void map_raw(GstVideoFrame *f, const gchar *format, GstBuffer *buffer)
{
    GstVideoInfo info;

    gst_video_info_set_format(&info, gst_video_format_from_string(format), W, H);
    fail_unless(gst_video_frame_map(f, &info, buffer, GST_MAP_READ));
}

GST_START_TEST(test_decoder_writes_every_rgb_format_alike)
{
    static const gchar *formats[] = {"BGR",  "RGBx", "BGRx", "xRGB", "xBGR",
                                     "RGBA", "BGRA", "ARGB", "ABGR", "GBR"};
    GstBuffer *latent = latent_buffer(LATENT_VALUES, 1);
    GstBuffer *rgb = decode_one("dcaedec", LATENT_CAPS, "video/x-raw,format=RGB", latent);
    GstVideoFrame want, got;

    map_raw(&want, "RGB", rgb);
    for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
        gchar *caps = g_strconcat("video/x-raw,format=", formats[i], NULL);
        GstBuffer *out = decode_one("dcaedec", LATENT_CAPS, caps, latent);

        map_raw(&got, formats[i], out);
        for (guint y = 0; y < H; y++)
            for (guint x = 0; x < W; x++) {
                for (guint c = 0; c < 3; c++)
                    fail_unless_equals_int(sample(&got, c, x, y), sample(&want, c, x, y));
                if (GST_VIDEO_FRAME_N_COMPONENTS(&got) == 4) {
                    fail_unless_equals_int(sample(&got, 3, x, y), 255);
                } else if (GST_VIDEO_FRAME_COMP_PSTRIDE(&got, 0) == 4) {
                    fail_unless_equals_int(padding(&got, x, y), 255);
                }
            }
        gst_video_frame_unmap(&got);
        gst_buffer_unref(out);
        g_free(caps);
    }
    gst_video_frame_unmap(&want);
    gst_buffer_unref(rgb);
    gst_buffer_unref(latent);
}

GST_END_TEST;

/* Luma by the definition from the RGB picture; RGB was rounded and clamped
 * before, so that one step each may be lost. */
GST_START_TEST(test_decoder_writes_luma_by_matrix_and_range)
{
    static const struct {
        const gchar *format, *caps;
        gdouble kr, kb, scale, offset;
    } cases[] = {
        {"GRAY8", "format=GRAY8", 0.2126, 0.0722, 1, 0},
        {"NV12", "format=NV12", 0.299, 0.114, 219 / 255., 16},
        {"I420", "format=I420,colorimetry=bt709", 0.2126, 0.0722, 219 / 255., 16},
        {"I420", "format=I420,colorimetry=(string)1:3:5:1", 0.2126, 0.0722, 1, 0},
    };
    GstBuffer *latent = latent_buffer(LATENT_VALUES, 1);
    GstBuffer *rgb = decode_one("dcaedec", LATENT_CAPS, "video/x-raw,format=RGB", latent);
    GstVideoFrame want, got;

    map_raw(&want, "RGB", rgb);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *caps = g_strconcat("video/x-raw,", cases[i].caps, NULL);
        GstBuffer *out = decode_one("dcaedec", LATENT_CAPS, caps, latent);

        map_raw(&got, cases[i].format, out);
        for (guint y = 0; y < H; y++)
            for (guint x = 0; x < W; x++) {
                gdouble r = sample(&want, 0, x, y), g = sample(&want, 1, x, y);
                gdouble b = sample(&want, 2, x, y);
                gdouble luma =
                    cases[i].kr * r + cases[i].kb * b + (1 - cases[i].kr - cases[i].kb) * g;

                luma = luma * cases[i].scale + cases[i].offset;
                fail_unless(fabs(luma - sample(&got, 0, x, y)) <= 1.5, "%s: %g, %u", cases[i].caps,
                            luma, sample(&got, 0, x, y));
            }
        gst_video_frame_unmap(&got);
        gst_buffer_unref(out);
        g_free(caps);
    }
    gst_video_frame_unmap(&want);
    gst_buffer_unref(rgb);
    gst_buffer_unref(latent);
}

GST_END_TEST;

GST_START_TEST(test_decoder_colorimetry_says_what_was_written)
{
    static const struct {
        const gchar *latent, *asked, *colorimetry;
    } cases[] = {
        /* matrix and range by size, primaries and transfer of the latents */
        {"1:1:7:1", "format=NV12", "2:4:7:1"},
        {"1:1:16:4", "format=NV12", "bt601"},
        {"1:1:5:1", "format=RGB", "1:1:5:1"},
        {"1:1:7:1", "format=NV12,colorimetry=bt709", "bt709"},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstBus *bus;
        GstHarness *h = harness_new("dcaedec", &bus);
        gchar *caps = g_strdup_printf(LATENT_CAPS ",colorimetry=(string)%s", cases[i].latent);
        gchar *asked = g_strconcat("video/x-raw,", cases[i].asked, NULL);
        GstVideoColorimetry c, want;
        GstStructure *s;

        gst_harness_set_sink_caps_str(h, asked);
        gst_harness_set_src_caps_str(h, caps);
        s = output_caps(h);
        gst_video_colorimetry_from_string(&c, gst_structure_get_string(s, "colorimetry"));
        gst_video_colorimetry_from_string(&want, cases[i].colorimetry);
        fail_unless(gst_video_colorimetry_is_equal(&c, &want), "%s: %s", cases[i].colorimetry,
                    gst_structure_get_string(s, "colorimetry"));
        gst_structure_free(s);
        g_free(asked);
        g_free(caps);
        harness_free(h, bus);
    }
}

GST_END_TEST;

GST_START_TEST(test_decoder_gives_video_meta_where_it_is_wanted)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec batch-size=3", &bus);

    gst_harness_add_propose_allocation_meta(h, GST_VIDEO_META_API_TYPE, NULL);
    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    for (guint n = 0; n < 3; n++)
        gst_harness_push(h, latent_buffer(LATENT_VALUES, n));
    for (guint n = 0; n < 3; n++) {
        GstBuffer *out = pull(h);

        fail_unless(gst_buffer_get_video_meta(out) != NULL);
        gst_buffer_unref(out);
    }
    harness_free(h, bus);
}

GST_END_TEST;

static gdouble psnr(GstBuffer *a, GstBuffer *b)
{
    GstMapInfo ma, mb;
    gdouble sum = 0;
    gsize size;

    gst_buffer_map(a, &ma, GST_MAP_READ);
    gst_buffer_map(b, &mb, GST_MAP_READ);
    assert_equals_uint64(ma.size, mb.size);
    size = ma.size;
    for (gsize i = 0; i < size; i++)
        sum += ((gdouble)ma.data[i] - mb.data[i]) * ((gdouble)ma.data[i] - mb.data[i]);
    gst_buffer_unmap(b, &mb);
    gst_buffer_unmap(a, &ma);
    return 10 * log10(255. * 255. * size / sum);
}

/* The demonstration model reaches 27 dB and more on photographs; 25 leaves
 * room for this synthetic picture and fails on any mix-up of channels. */
GST_START_TEST(test_round_trip_gives_the_picture_back)
{
    static const gchar *formats[] = {"F32LE", "F16LE", "BF16LE"};

    for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
        GstBus *bus;
        GstHarness *h;
        gchar *launch = g_strdup_printf("dcaeenc ! video/x-dcae-latent,format=%s"
                                        " ! dcaedec",
                                        formats[i]);
        GstBuffer *in = picture("RGB", W, H, 2), *out;
        gdouble quality;

        h = gst_harness_new_parse(launch);
        choose_backend(h->element, launch);
        bus = watch(h->element);
        gst_harness_set_sink_caps_str(h, "video/x-raw,format=RGB");
        gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
        gst_harness_push(h, gst_buffer_ref(in));
        assert_no(bus, GST_MESSAGE_ERROR);
        out = pull(h);
        quality = psnr(in, out);
        fail_unless(quality > 25, "%s: %g dB", formats[i], quality);
        gst_buffer_unref(out);
        gst_buffer_unref(in);
        harness_free(h, bus);
        g_free(launch);
    }
}

GST_END_TEST;

/* ---- decoder: caps against the model */

GST_START_TEST(test_caps_scaled_wins_over_the_property)
{
    GstBuffer *plain = encode_one("dcaeenc scale-latents=false", "RGB", W, H, 0);
    GstBuffer *scaled = encode_one("dcaeenc", "RGB", W, H, 0);
    GstBuffer *want = decode_one("dcaedec", LATENT_CAPS, "video/x-raw", scaled);
    static const struct {
        const gchar *launch, *caps;
    } cases[] = {
        {"dcaedec scale-latents=true", LATENT_CAPS ",scaled=false"},
        {"dcaedec scale-latents=false", LATENT_CAPS},
    };

    fail_if(same_bytes(plain, scaled));
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        GstBuffer *out = decode_one(cases[i].launch, cases[i].caps, "video/x-raw", plain);

        /* the factor rounds once on the way: a step of 8 bits here and there */
        fail_unless(psnr(want, out) > 50, "%g", psnr(want, out));
        gst_buffer_unref(out);
    }
    gst_buffer_unref(want);
    want = decode_one("dcaedec scale-latents=false", LATENT_CAPS ",scaled=true", "video/x-raw",
                      scaled);
    gst_buffer_unref(want);
    gst_buffer_unref(scaled);
    gst_buffer_unref(plain);
}

GST_END_TEST;

static void assert_latents_refused(const gchar *launch, const gchar *caps, GQuark domain, gint code,
                                   const gchar *needle)
{
    GstBus *bus;
    GstHarness *h = harness_new(launch, &bus);

    fail_if(push_caps(h, caps), "%s", caps);
    assert_error(bus, domain, code, needle);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_START_TEST(test_decoder_refuses_by_name_what_does_not_fit_the_model)
{
    const GQuark stream = GST_STREAM_ERROR;
    const gint format = GST_STREAM_ERROR_FORMAT;

    assert_latents_refused("dcaedec model=demo", LATENT_CAPS ",spatial-ratio=32", stream, format,
                           "spatial-ratio");
    assert_latents_refused("dcaedec model=demo", LATENT_CAPS ",width=65,height=48", stream, format,
                           "width");
    assert_latents_refused("dcaedec model=demo", LATENT_CAPS ",width=64,height=49", stream, format,
                           "height");
    assert_latents_refused("dcaedec model=demo", LATENT_CAPS ",scaled=true,scaling-factor=0.5",
                           stream, format, "scaling-factor");
    assert_latents_refused("dcaedec model=demo",
                           "video/x-dcae-latent,format=F32LE,latent-channels=32,latent-width=8,"
                           "latent-height=6",
                           stream, format, "latent-channels");
    assert_latents_refused("dcaedec model=demo", LATENT_CAPS ",spatial-ratio=(string)8", stream,
                           format, "spatial-ratio");
    assert_latents_refused("dcaedec model=demo",
                           "video/x-dcae-latent,format=F32LE,latent-channels=16,"
                           "latent-width=2147483647,latent-height=2147483647",
                           stream, format, "latent-width");
    assert_latents_refused("dcaedec latent-channels=17 model=demo", LATENT_CAPS, GST_LIBRARY_ERROR,
                           GST_LIBRARY_ERROR_SETTINGS, "latent-channels");
}

GST_END_TEST;

GST_START_TEST(test_decoder_without_a_model_says_what_to_set)
{
    const GQuark resource = GST_RESOURCE_ERROR;
    const gint code = GST_RESOURCE_ERROR_NOT_FOUND;
    const gchar *other = "video/x-dcae-latent,format=F32LE,latent-channels=32,"
                         "latent-width=8,latent-height=6,spatial-ratio=32";

    assert_latents_refused("dcaedec", other, resource, code,
                           "ratio 32 and 32 channels: set the model property");
    assert_latents_refused("dcaedec", LATENT_CAPS ",model=no-such-model", resource, code,
                           "no-such-model");
    assert_latents_refused("dcaedec", LATENT_CAPS ",model=demo,model-hash=0123456789abcdef",
                           resource, code, "0123456789abcdef");
}

GST_END_TEST;

/* A stranger's file must not make the decoder open paths. */
GST_START_TEST(test_decoder_never_takes_a_path_from_caps)
{
    static const gchar *names[] = {"../golden", "/etc", "a/b/c", ".", "a/..", "a/"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        gchar *caps = g_strdup_printf(LATENT_CAPS ",model=(string)\"%s\"", names[i]);
        GstBus *bus;
        GstHarness *h = harness_new("dcaedec", &bus);
        GstMessage *message;

        fail_if(push_caps(h, caps), "%s", caps);
        message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_ERROR);
        fail_unless(message != NULL);
        gst_message_unref(message);
        harness_free(h, bus);
        g_free(caps);
    }
}

GST_END_TEST;

/* A relative path is one too: what lies in the current directory under the name of a model must
 * neither be opened nor hide the model. */
GST_START_TEST(test_decoder_ignores_the_current_directory)
{
    gchar *before = g_get_current_dir();
    gchar *dir = g_dir_make_tmp("dcae-cwd-XXXXXX", NULL);
    GstBus *bus;
    GstHarness *h;

    fail_unless_equals_int(g_chdir(dir), 0);
    fail_unless_equals_int(g_mkdir("demo", 0755), 0);
    fail_unless_equals_int(g_mkdir_with_parents("owner/tiny", 0755), 0);

    h = harness_new("dcaedec", &bus);
    fail_unless(push_caps(h, LATENT_CAPS ",model=demo"));
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);

    h = harness_new("dcaedec", &bus);
    fail_if(push_caps(h, LATENT_CAPS ",model=owner/tiny"));
    assert_error(bus, GST_RESOURCE_ERROR, GST_RESOURCE_ERROR_NOT_FOUND, "hf download owner/tiny");
    harness_free(h, bus);

    g_rmdir("owner/tiny");
    g_rmdir("owner");
    g_rmdir("demo");
    fail_unless_equals_int(g_chdir(before), 0);
    g_rmdir(dir);
    g_free(dir);
    g_free(before);
}

GST_END_TEST;

GST_START_TEST(test_decoder_finds_the_model_that_the_caps_name)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstHarness *dec;
    GstBus *dec_bus;
    GstCaps *caps;

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    caps = gst_pad_get_current_caps(h->sinkpad);
    dec = harness_new("dcaedec", &dec_bus);
    gst_harness_set_src_caps(dec, caps);
    assert_no(dec_bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    assert_size(dec, W, H);
    harness_free(dec, dec_bus);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_warns_where_its_model_has_another_hash)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec model=demo", &bus);

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",model=demo,model-hash=0123456789abcdef");
    assert_warning(bus, "0123456789abcdef");
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    assert_equals_int(gst_harness_buffers_received(h), 1);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_first_channels_alone_where_the_model_allows_it)
{
    gchar *model = golden_path("f32-no-shortcut/model");
    gchar *launch = g_strdup_printf("dcaeenc latent-channels=4 model=%s ! "
                                    "dcaedec model=%s",
                                    model, model);
    GstHarness *h = gst_harness_new_parse(launch);
    GstBus *bus = watch(h->element);
    GstBuffer *latent, *few, *out, *want;
    gchar *enc = g_strdup_printf("dcaeenc model=%s", model);
    gchar *dec = g_strdup_printf("dcaedec model=%s", model);
    gchar *dec4 = g_strdup_printf("dcaedec latent-channels=4 model=%s", model);

    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    assert_no(bus, GST_MESSAGE_ERROR);
    assert_equals_int(gst_harness_buffers_received(h), 1);
    assert_size(h, W, H);
    harness_free(h, bus);

    latent = encode_one(enc, "RGB", W, H, 0);
    few = gst_buffer_copy_region(latent, GST_BUFFER_COPY_MEMORY, 0, 4 * 2 * 2 * 4);
    out = decode_one(dec4,
                     "video/x-dcae-latent,format=F32LE,"
                     "latent-channels=10,latent-width=2,latent-height=2",
                     "video/x-raw", latent);
    want = decode_one(dec,
                      "video/x-dcae-latent,format=F32LE,"
                      "latent-channels=4,latent-width=2,latent-height=2",
                      "video/x-raw", few);
    fail_unless(same_bytes(want, out));
    gst_buffer_unref(want);
    gst_buffer_unref(out);
    gst_buffer_unref(few);
    gst_buffer_unref(latent);
    g_free(dec4);
    g_free(dec);
    g_free(enc);
    g_free(launch);
    g_free(model);
}

GST_END_TEST;

GST_START_TEST(test_decoder_getcaps_tells_what_the_model_takes)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec model=demo", &bus);
    GstStructure *s;

    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    s = query_sink_caps(h);
    assert_equals_int(get_int(s, "latent-channels"), 16);
    assert_equals_int(get_int(s, "spatial-ratio"), 8);
    gst_structure_free(s);
    harness_free(h, bus);
}

GST_END_TEST;

/* Only the required fields, which is what somebody types for a file of bare
 * latents: a filter in between must not be left with ranges for the others. */
GST_START_TEST(test_decoder_takes_bare_latents_behind_a_filter)
{
    assert_pipeline_plays("fakesrc num-buffers=2 sizetype=fixed filltype=zero format=time "
                          "sizemax=3072 ! " LATENT_CAPS " ! dcaedec ! fakesink");
}

GST_END_TEST;

GST_START_TEST(test_decoder_getcaps_passes_on_single_values)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstStructure *s;
    gint n, d;

    gst_harness_set_sink_caps_str(h, "video/x-raw,width=64,height=[1,100],framerate=10/1");
    s = query_sink_caps(h);
    assert_equals_int(get_int(s, "width"), 64);
    fail_if(gst_structure_has_field(s, "height"));
    fail_unless(gst_structure_get_fraction(s, "framerate", &n, &d) && n == 10);
    gst_structure_free(s);
    harness_free(h, bus);
}

GST_END_TEST;

/* ---- decoder: streams */

GST_START_TEST(test_decoder_refuses_a_buffer_of_another_size)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstEvent *event;

    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    fail_unless_equals_int(gst_harness_push(h, latent_buffer(LATENT_VALUES - 1, 0)),
                           GST_FLOW_ERROR);
    assert_error(bus, GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE, "3072");
    fail_if(gst_harness_push_event(h, gst_event_new_eos()));
    while ((event = gst_harness_try_pull_event(h))) {
        fail_if(GST_EVENT_TYPE(event) == GST_EVENT_EOS);
        gst_event_unref(event);
    }
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_names_the_frame_that_is_not_finite)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstBuffer *bad = latent_buffer(LATENT_VALUES, 1);
    guint8 nan[4] = {0, 0, 0xc0, 0x7f};

    gst_buffer_fill(bad, 400, nan, 4);
    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    fail_unless_equals_int(gst_harness_push(h, latent_buffer(LATENT_VALUES, 0)), GST_FLOW_OK);
    fail_unless_equals_int(gst_harness_push(h, bad), GST_FLOW_ERROR);
    assert_error(bus, GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE, "frame 1");
    assert_equals_int(gst_harness_buffers_received(h), 1);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_max_errors_decides_about_corrupt_frames)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstBuffer *bad = latent_buffer(LATENT_VALUES, 0);

    GST_BUFFER_FLAG_SET(bad, GST_BUFFER_FLAG_CORRUPTED);
    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    fail_unless_equals_int(gst_harness_push(h, gst_buffer_ref(bad)), GST_FLOW_ERROR);
    assert_error(bus, GST_STREAM_ERROR, GST_STREAM_ERROR_DECODE, "corrupted");
    harness_free(h, bus);

    h = harness_new("dcaedec max-errors=-1", &bus);
    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    fail_unless_equals_int(gst_harness_push(h, bad), GST_FLOW_OK);
    fail_unless_equals_int(gst_harness_push(h, latent_buffer(LATENT_VALUES, 1)), GST_FLOW_OK);
    assert_equals_int(gst_harness_buffers_received(h), 1);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_reads_unaligned_latents)
{
    GstBuffer *latent = latent_buffer(LATENT_VALUES, 0);
    GstBuffer *want = decode_one("dcaedec", LATENT_CAPS, "video/x-raw", latent);
    GstBuffer *big = gst_buffer_new_allocate(NULL, LATENT_VALUES * 4 + 1, NULL);
    GstBuffer *odd, *out;
    GstMapInfo map;

    gst_buffer_map(latent, &map, GST_MAP_READ);
    gst_buffer_fill(big, 1, map.data, map.size);
    gst_buffer_unmap(latent, &map);
    odd = gst_buffer_copy_region(big, GST_BUFFER_COPY_MEMORY, 1, -1);
    out = decode_one("dcaedec", LATENT_CAPS, "video/x-raw", odd);
    fail_unless(same_bytes(want, out));
    gst_buffer_unref(out);
    gst_buffer_unref(odd);
    gst_buffer_unref(big);
    gst_buffer_unref(want);
    gst_buffer_unref(latent);
}

GST_END_TEST;

GST_START_TEST(test_decoder_batches_and_drains_like_the_encoder)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec batch-size=4", &bus);

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    assert_equals_uint64(gst_harness_query_latency(h), 3 * GST_SECOND / 10);
    for (guint n = 0; n < 5; n++)
        gst_harness_push(h, latent_buffer(LATENT_VALUES, n));
    assert_equals_int(gst_harness_buffers_received(h), 4);
    gst_harness_push_event(h, gst_event_new_gap(GST_SECOND / 2, GST_SECOND));
    assert_equals_int(gst_harness_buffers_received(h), 5);
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 20));
    gst_harness_push_event(h, gst_event_new_eos());
    assert_equals_int(gst_harness_buffers_received(h), 6);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_flush_drops_what_waits)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec batch-size=2", &bus);
    GstSegment segment;
    GstBuffer *out;

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 5));
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 6));
    assert_equals_int(gst_harness_buffers_received(h), 2);
    out = pull(h);
    assert_equals_uint64(GST_BUFFER_PTS(out), 5 * GST_SECOND / 10);
    gst_buffer_unref(out);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_size_change_drains_and_keeps_the_model)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec batch-size=2", &bus);

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    gst_harness_set_src_caps_str(
        h, "video/x-dcae-latent,format=F32LE,"
           "latent-channels=16,latent-width=4,latent-height=2,framerate=10/1");
    assert_equals_int(gst_harness_buffers_received(h), 1);
    gst_harness_push(h, latent_buffer(16 * 4 * 2, 1));
    gst_harness_push(h, latent_buffer(16 * 4 * 2, 2));
    assert_equals_int(gst_harness_buffers_received(h), 3);
    assert_size(h, 32, 16);
    assert_equals_int(count_progress(bus, GST_PROGRESS_TYPE_START, "model-load"), 1);
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

GST_START_TEST(test_decoder_drops_late_frames_before_decoding)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaedec", &bus);
    GstStructure *stats = NULL;
    guint64 frames = 0, dropped = 0;

    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    gst_harness_push_upstream_event(h,
                                    gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 2.0, GST_SECOND, 0));
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 1));
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 50));
    assert_equals_int(gst_harness_buffers_received(h), 2);
    g_object_get(h->element, "stats", &stats, NULL);
    gst_structure_get_uint64(stats, "frames", &frames);
    gst_structure_get_uint64(stats, "dropped", &dropped);
    assert_equals_uint64(frames, 2);
    assert_equals_uint64(dropped, 1);
    gst_structure_free(stats);
    harness_free(h, bus);
}

GST_END_TEST;

/* ---- whole pipelines */

GST_START_TEST(test_pipelines_play_to_the_end)
{
    /* a still picture, a frame rate of 0/1, odd sizes, YUV on both sides */
    assert_pipeline_plays("videotestsrc num-buffers=1 ! video/x-raw,"
                          "format=NV12,width=50,height=38,framerate=0/1 ! dcaeenc ! dcaedec ! "
                          "video/x-raw,format=I420 ! fakesink");
    assert_pipeline_plays("videotestsrc num-buffers=5 ! video/x-raw,"
                          "format=I420,width=50,height=38 ! dcaeenc batch-size=3 ! dcaedec "
                          "batch-size=2 ! videoconvert ! fakesink");
    assert_pipeline_plays("videotestsrc num-buffers=2 ! video/x-raw,width=96,"
                          "height=80 ! dcaeenc tiling=blend tile-width=64 tile-height=64 ! "
                          "dcaedec tiling=blend tile-width=64 tile-height=64 ! fakesink");
}

GST_END_TEST;

GST_START_TEST(test_seek_flushes_and_shows_the_right_frame)
{
    GstBus *bus;
    GstElement *pipeline =
        pipeline_new("videotestsrc ! " RAW_CAPS(
                         "RGB") " ! dcaeenc batch-size=2 ! dcaedec batch-size=2 ! fakesink name=s",
                     &bus);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "s");
    GstSample *shown = NULL;

    gst_element_set_state(pipeline, GST_STATE_PAUSED);
    fail_unless_equals_int(gst_element_get_state(pipeline, NULL, NULL, WAIT),
                           GST_STATE_CHANGE_SUCCESS);
    for (guint n = 0; n < 3; n++) {
        GstClockTime at = (n * 7 + 3) * GST_SECOND / 10;

        fail_unless(gst_element_seek_simple(pipeline, GST_FORMAT_TIME,
                                            GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE, at));
        fail_unless_equals_int(gst_element_get_state(pipeline, NULL, NULL, WAIT),
                               GST_STATE_CHANGE_SUCCESS);
        g_object_get(sink, "last-sample", &shown, NULL);
        assert_equals_uint64(GST_BUFFER_PTS(gst_sample_get_buffer(shown)), at);
        gst_sample_unref(shown);
    }
    assert_no(bus, GST_MESSAGE_ERROR);
    gst_object_unref(sink);
    pipeline_free(pipeline, bus);
}

GST_END_TEST;

/* Each frame is the one before the last. */
static void assert_backwards(GstElement *sink, GstBuffer *buffer, GstPad *pad,
                             GstClockTime *previous)
{
    GstClockTime expected =
        *previous == GST_CLOCK_TIME_NONE ? 6 * GST_SECOND / 10 : *previous - GST_SECOND / 10;

    assert_equals_uint64(GST_BUFFER_PTS(buffer), expected);
    *previous = GST_BUFFER_PTS(buffer);
}

/* Backwards every frame of the segment comes once, last first, batches or not. */
GST_START_TEST(test_reverse_playback_decodes_every_frame)
{
    gchar *path = g_strdup_printf("%s/dcae-reverse-%d.safetensors", g_get_tmp_dir(), getpid());
    gchar *record = g_strdup_printf("videotestsrc num-buffers=7 ! " RAW_CAPS(
                                        "RGB") " ! dcaeenc ! dcaemux ! filesink location=%s",
                                    path);
    gchar *play = g_strdup_printf(
        "filesrc location=%s ! dcaedemux ! dcaedec batch-size=3 ! fakesink name=s", path);
    GstElement *pipeline, *sink;
    GstMessage *message;
    GstClockTime previous = GST_CLOCK_TIME_NONE;
    GstBus *bus;

    assert_pipeline_plays(record);
    pipeline = pipeline_new(play, &bus);
    sink = gst_bin_get_by_name(GST_BIN(pipeline), "s");
    g_object_set(sink, "signal-handoffs", TRUE, NULL);
    gst_element_set_state(pipeline, GST_STATE_PAUSED);
    gst_element_get_state(pipeline, NULL, NULL, WAIT);
    fail_unless(gst_element_seek(pipeline, -1.0, GST_FORMAT_TIME, GST_SEEK_FLAG_FLUSH,
                                 GST_SEEK_TYPE_SET, 0, GST_SEEK_TYPE_SET, 7 * GST_SECOND / 10));
    gst_element_get_state(pipeline, NULL, NULL, WAIT);
    g_signal_connect(sink, "handoff", G_CALLBACK(assert_backwards), &previous);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    assert_equals_int(GST_MESSAGE_TYPE(message), GST_MESSAGE_EOS);
    gst_message_unref(message);
    assert_equals_uint64(previous, 0);

    gst_object_unref(sink);
    pipeline_free(pipeline, bus);
    g_unlink(path);
    g_free(play);
    g_free(record);
    g_free(path);
}

GST_END_TEST;

static gpointer push_picture_thread(gpointer data)
{
    return GINT_TO_POINTER(gst_harness_push(data, picture("RGB", 2048, 2048, 0)));
}

/* A frame that takes seconds: neither a flush nor a stop waits for its end. When the frame begins
 * cannot be seen from outside; the pause only makes it likely that it has. */
GST_START_TEST(test_flush_and_stop_interrupt_a_running_frame)
{
    for (guint stop = 0; stop < 2; stop++) {
        GstBus *bus;
        GstHarness *h = harness_new("dcaeenc name=e threads=1", &bus);
        GstStructure *stats = NULL;
        guint64 frames = 1;
        GThread *thread;
        gint flow;

        gst_harness_set_src_caps_str(
            h, "video/x-raw,format=RGB,width=2048,height=2048,framerate=10/1");
        thread = g_thread_new("push", push_picture_thread, h);
        g_usleep(300 * G_TIME_SPAN_MILLISECOND);
        if (stop)
            gst_element_set_state(h->element, GST_STATE_READY);
        else
            gst_harness_push_event(h, gst_event_new_flush_start());
        flow = GPOINTER_TO_INT(g_thread_join(thread));
        assert_equals_int(flow, GST_FLOW_FLUSHING);
        g_object_get(h->element, "stats", &stats, NULL);
        gst_structure_get_uint64(stats, "frames", &frames);
        assert_equals_uint64(frames, 0);
        gst_structure_free(stats);
        assert_no(bus, GST_MESSAGE_ERROR);
        harness_free(h, bus);
    }
}

GST_END_TEST;

/* Downstream that changes its mind is followed; nothing else changes the format. */
GST_START_TEST(test_elements_follow_a_renegotiation)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc", &bus);
    GstStructure *s;

    gst_harness_set_sink_caps_str(h, "video/x-dcae-latent,format=F16LE");
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    gst_harness_push(h, picture("RGB", W, H, 0));
    gst_harness_set_sink_caps_str(h, "video/x-dcae-latent");
    gst_harness_push(h, picture("RGB", W, H, 1));
    gst_harness_set_sink_caps_str(h, "video/x-dcae-latent,format=F32LE");
    gst_harness_push(h, picture("RGB", W, H, 2));
    for (guint n = 0; n < 3; n++) {
        GstBuffer *out = pull(h);

        assert_equals_int(gst_buffer_get_size(out), LATENT_VALUES * (n < 2 ? 2 : 4));
        gst_buffer_unref(out);
    }
    harness_free(h, bus);

    h = harness_new("dcaedec", &bus);
    gst_harness_set_sink_caps_str(h, "video/x-raw,format=BGRA");
    gst_harness_set_src_caps_str(h, LATENT_CAPS);
    gst_harness_push(h, latent_buffer(LATENT_VALUES, 0));
    gst_harness_set_sink_caps_str(h, "video/x-raw,format=NV12");
    fail_unless_equals_int(gst_harness_push(h, latent_buffer(LATENT_VALUES, 1)), GST_FLOW_OK);
    s = output_caps(h);
    assert_equals_string(gst_structure_get_string(s, "format"), "NV12");
    gst_structure_free(s);
    assert_equals_int(gst_harness_buffers_received(h), 2);
    harness_free(h, bus);
}

GST_END_TEST;

typedef struct {
    GstHarness *h;
    const gchar *caps;
} Change;

static GstPadProbeReturn change_caps_once(GstPad *pad, GstPadProbeInfo *info, gpointer data)
{
    Change *change = data;

    gst_harness_set_sink_caps_str(change->h, change->caps);
    return GST_PAD_PROBE_REMOVE;
}

/* The first frame of a batch comes as it was asked for, those behind it as downstream wants them
 * from then on. */
GST_START_TEST(test_elements_follow_a_renegotiation_within_a_batch)
{
    GstBus *bus;
    GstHarness *h = harness_new("dcaeenc batch-size=3", &bus);
    Change change = {h, "video/x-dcae-latent,format=F32LE"};
    GstBuffer *out;

    gst_pad_add_probe(h->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, change_caps_once, &change, NULL);
    gst_harness_set_sink_caps_str(h, "video/x-dcae-latent,format=F16LE");
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    for (guint n = 0; n < 3; n++)
        fail_unless_equals_int(gst_harness_push(h, picture("RGB", W, H, n)), GST_FLOW_OK);
    for (guint n = 0; n < 3; n++) {
        out = pull(h);
        assert_equals_int(gst_buffer_get_size(out), LATENT_VALUES * (n == 0 ? 2 : 4));
        gst_buffer_unref(out);
    }
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);

    h = harness_new("dcaedec batch-size=3", &bus);
    change = (Change){h, "video/x-raw,format=NV12"};
    gst_pad_add_probe(h->sinkpad, GST_PAD_PROBE_TYPE_BUFFER, change_caps_once, &change, NULL);
    gst_harness_set_sink_caps_str(h, "video/x-raw,format=BGRA");
    gst_harness_set_src_caps_str(h, LATENT_CAPS ",framerate=10/1");
    for (guint n = 0; n < 3; n++)
        fail_unless_equals_int(gst_harness_push(h, latent_buffer(LATENT_VALUES, n)), GST_FLOW_OK);
    for (guint n = 0; n < 3; n++) {
        out = pull(h);
        assert_equals_int(gst_buffer_get_size(out), n == 0 ? W * H * 4 : W * H * 3 / 2);
        gst_buffer_unref(out);
    }
    assert_no(bus, GST_MESSAGE_ERROR);
    harness_free(h, bus);
}

GST_END_TEST;

/* Without a driver, or in a build without CUDA: a sentence that says what is missing, and the CPU
 * where nothing was asked for. */
GST_START_TEST(test_cuda_that_is_not_there_is_an_error)
{
    GstBus *bus;
    GstHarness *h;
    GstMessage *message;
    GError *error;
    gchar *active;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);

    if (driver != NULL) {
        dlclose(driver);
        return;
    }
    h = harness_new("dcaeenc backend=cuda", &bus);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_ERROR);
    fail_unless(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(strstr(error->message, "libcuda.so.1") != NULL ||
                    strstr(error->message, "not built into this version") != NULL,
                "%s", error->message);
    fail_unless(g_error_matches(error, GST_LIBRARY_ERROR, GST_LIBRARY_ERROR_SETTINGS));
    g_error_free(error);
    gst_message_unref(message);
    harness_free(h, bus);

    h = harness_new("dcaeenc", &bus);
    gst_harness_set_src_caps_str(h, RAW_CAPS("RGB"));
    fail_unless_equals_int(gst_harness_push(h, picture("RGB", W, H, 0)), GST_FLOW_OK);
    g_object_get(h->element, "active-backend", &active, NULL);
    assert_equals_string(active, "cpu");
    g_free(active);
    harness_free(h, bus);
}

GST_END_TEST;

static GstFlowReturn refuse(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    gst_buffer_unref(buffer);
    return GST_FLOW_ERROR;
}

/* What fails downstream without a word while an event drains is an error of the pipeline, which
 * gets no EOS. */
GST_START_TEST(test_a_silent_failure_downstream_ends_the_pipeline)
{
    for (guint i = 0; i < 4; i++) {
        gboolean encode = i < 2, gap = i % 2;
        GstBus *bus;
        GstHarness *h = harness_new(encode ? "dcaeenc batch-size=3" : "dcaedec batch-size=3", &bus);
        GstEvent *event;

        gst_pad_set_chain_function(h->sinkpad, refuse);
        gst_harness_set_src_caps_str(h, encode ? RAW_CAPS("RGB") : LATENT_CAPS ",framerate=10/1");
        fail_unless_equals_int(
            gst_harness_push(h, encode ? picture("RGB", W, H, 0) : latent_buffer(LATENT_VALUES, 0)),
            GST_FLOW_OK);
        if (gap)
            gst_harness_push_event(h, gst_event_new_gap(GST_SECOND / 10, GST_SECOND));
        fail_if(gst_harness_push_event(h, gst_event_new_eos()));
        assert_error(bus, GST_STREAM_ERROR, GST_STREAM_ERROR_FAILED, "data stream error");
        assert_no(bus, GST_MESSAGE_ERROR);
        while ((event = gst_harness_try_pull_event(h)) != NULL) {
            fail_if(GST_EVENT_TYPE(event) == GST_EVENT_EOS);
            gst_event_unref(event);
        }
        harness_free(h, bus);
    }
}

GST_END_TEST;

/* gst-plugins-base/tests/check/generic/states.c in short: every order of
 * states that applications use, without data. */
GST_START_TEST(test_elements_survive_every_state_change)
{
    static const gchar *names[] = {"dcaeenc", "dcaedec"};
    static const GstState states[] = {GST_STATE_READY,   GST_STATE_PAUSED, GST_STATE_PLAYING,
                                      GST_STATE_PAUSED,  GST_STATE_READY,  GST_STATE_NULL,
                                      GST_STATE_PLAYING, GST_STATE_NULL,   GST_STATE_PAUSED,
                                      GST_STATE_READY,   GST_STATE_PAUSED, GST_STATE_NULL};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        GstElement *element = gst_element_factory_make(names[i], NULL);

        fail_unless(element != NULL);
        for (guint s = 0; s < G_N_ELEMENTS(states); s++) {
            fail_if(gst_element_set_state(element, states[s]) == GST_STATE_CHANGE_FAILURE);
            fail_if(gst_element_get_state(element, NULL, NULL, WAIT) == GST_STATE_CHANGE_FAILURE);
        }
        gst_object_unref(element);
    }
}

GST_END_TEST;

GST_START_TEST(test_stop_in_the_middle_leaves_nothing_behind)
{
    for (guint i = 0; i < 5; i++) {
        GstBus *bus;
        GstElement *pipeline =
            pipeline_new("videotestsrc ! " RAW_CAPS(
                             "RGB") " ! dcaeenc batch-size=3 ! dcaedec batch-size=2 ! fakesink",
                         &bus);

        gst_element_set_state(pipeline, GST_STATE_PLAYING);
        if (i > 2)
            gst_element_get_state(pipeline, NULL, NULL, WAIT);
        pipeline_free(pipeline, bus);
    }
}

GST_END_TEST;

GST_START_TEST(test_properties_say_when_they_may_change)
{
    static const gchar *names[] = {"dcaeenc", "dcaedec"};
    static const gchar *own[] = {"model",
                                 "variant",
                                 "config",
                                 "backend",
                                 "device",
                                 "precision",
                                 "threads",
                                 "tiling",
                                 "tile-width",
                                 "tile-height",
                                 "tile-stride-width",
                                 "tile-stride-height",
                                 "memory-limit",
                                 "batch-size",
                                 "slicing",
                                 "scale-latents",
                                 "latent-channels"};

    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        GstElement *element = gst_element_factory_make(names[i], NULL);
        GObjectClass *klass = G_OBJECT_GET_CLASS(element);

        for (guint p = 0; p < G_N_ELEMENTS(own); p++) {
            GParamSpec *spec = g_object_class_find_property(klass, own[p]);

            fail_unless(spec != NULL, "%s", own[p]);
            fail_unless(spec->flags & GST_PARAM_MUTABLE_READY);
            fail_unless(spec->flags & G_PARAM_READWRITE);
            fail_unless(strlen(g_param_spec_get_blurb(spec)) > 20);
        }
        gst_object_unref(element);
    }
}

GST_END_TEST;

/* ---- leaks: after each test no element, pad, buffer or event is alive */

static void assert_nothing_alive(void)
{
    GList *tracers = gst_tracing_get_active_tracers();

    for (GList *l = tracers; l; l = l->next) {
        GstStructure *live = NULL;
        const GValue *list;

        if (strcmp(G_OBJECT_TYPE_NAME(l->data), "GstLeaksTracer") != 0)
            continue;
        g_signal_emit_by_name(l->data, "get-live-objects", &live);
        list = gst_structure_get_value(live, "live-objects-list");
        for (guint i = 0; list && i < gst_value_list_get_size(list); i++) {
            const GstStructure *s = gst_value_get_structure(gst_value_list_get_value(list, i));
            gchar *text = gst_structure_to_string(s);

            fail("still alive: %s", text);
        }
        gst_structure_free(live);
    }
    g_list_free_full(tracers, gst_object_unref);
}

/* What a run on CUDA leaves out. */
static const struct {
    const gchar *why, *tests[16];
} not_on_cuda[] = {
    {"expects a frame right behind its push, where two runs stay under way",
     {"test_encoder_drains_a_partial_batch_at_eos", "test_encoder_flush_drops_what_waits",
      "test_encoder_size_change_drains_and_keeps_the_model",
      "test_encoder_tells_codec_and_encoder_tags",
      "test_encoder_counts_frames_and_tells_what_is_active",
      "test_cached_repository_is_named_in_caps_and_found_by_them",
      "test_flush_while_loading_keeps_the_model_and_the_caps",
      "test_first_channels_alone_where_the_model_allows_it", "test_decoder_flush_drops_what_waits",
      "test_decoder_size_change_drains_and_keeps_the_model",
      "test_decoder_drops_late_frames_before_decoding", "test_elements_follow_a_renegotiation",
      NULL}},
    {"expects the latency of the CPU, which has no runs under way",
     {"test_encoder_reports_the_latency_of_a_batch",
      "test_decoder_batches_and_drains_like_the_encoder", NULL}},
    {"has too many pixels or frames for the stand-in driver",
     {"test_auto_tiling_keeps_below_the_memory_limit",
      "test_seek_flushes_and_shows_the_right_frame", "test_pipelines_play_to_the_end",
      "test_reverse_playback_decodes_every_frame", "test_decoder_writes_every_rgb_format_alike",
      "test_flush_and_stop_interrupt_a_running_frame", NULL}},
    {"is about the host's memory, or weights of one context, where each harness makes its own",
     {"test_memory_limit_of_zero_is_told_in_the_log", "test_two_elements_share_the_packed_weights",
      NULL}},
};

static gboolean is_selected(const gchar *test)
{
    for (guint i = 0; on_cuda() && i < G_N_ELEMENTS(not_on_cuda); i++)
        if (g_strv_contains((const gchar *const *)not_on_cuda[i].tests, test))
            return FALSE;
    return TRUE;
}

#define ADD_TIMES(tcase, test, n)                   \
    do {                                            \
        if (is_selected(#test))                     \
            tcase_add_loop_test(tcase, test, 0, n); \
    } while (0)
#define ADD(tcase, test) ADD_TIMES(tcase, test, 1)

static Suite *elements_suite(void)
{
    Suite *s = suite_create("elements");
    TCase *enc = tcase_create("encoder");
    TCase *model = tcase_create("model");
    TCase *dec = tcase_create("decoder");
    TCase *all = tcase_create("pipelines");
    TCase *cases[] = {enc, model, dec, all};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        tcase_set_timeout(cases[i], 120);
        tcase_add_checked_fixture(cases[i], NULL, assert_nothing_alive);
        suite_add_tcase(s, cases[i]);
    }

    ADD(enc, test_encoder_caps_say_what_a_buffer_holds);
    ADD(enc, test_encoder_frames_are_sync_points_with_timestamps);
    ADD(enc, test_encoder_takes_the_format_that_downstream_asks_for);
    ADD(enc, test_encoder_gives_the_same_latent_for_every_rgb_format);
    ADD(enc, test_encoder_reads_range_and_luma_of_yuv_and_gray);
    ADD(enc, test_encoder_reads_any_stride_and_offset);
    ADD(enc, test_encoder_edge_modes_pad_or_crop);
    ADD(enc, test_encoder_crop_equals_the_cropped_picture);
    ADD(enc, test_elements_match_the_reference);
    ADD(enc, test_encoder_batch_gives_the_same_latents);
    ADD(enc, test_encoder_drains_a_partial_batch_at_eos);
    ADD(enc, test_encoder_drains_a_partial_batch_at_a_gap);
    ADD_TIMES(enc, test_a_gap_drains_encoder_and_decoder, 2);
    ADD(enc, test_encoder_flush_drops_what_waits);
    ADD(enc, test_encoder_size_change_drains_and_keeps_the_model);
    ADD(enc, test_encoder_reports_the_latency_of_a_batch);
    ADD(enc, test_encoder_does_not_batch_live_input_of_unknown_rate);
    ADD(enc, test_encoder_getcaps_asks_upstream_for_size_and_rate);
    ADD(enc, test_encoder_tells_codec_and_encoder_tags);
    ADD(enc, test_encoder_proposes_strides_and_buffers_for_a_batch);
    ADD(enc, test_encoder_counts_frames_and_tells_what_is_active);
    ADD(enc, test_auto_tiling_keeps_below_the_memory_limit);
    ADD(enc, test_encoder_refuses_interlaced_and_limited_rgb);
    ADD(enc, test_encoder_warns_of_pq_and_hlg);
    ADD(enc, test_encoder_refuses_a_short_buffer_and_swallows_eos);
    ADD(enc, test_encoder_crop_refuses_a_picture_below_the_ratio);
    ADD(enc, test_settings_that_cannot_work_are_errors);
    ADD(enc, test_too_little_memory_names_the_least_that_would_do);
    ADD(enc, test_tile_settings_without_blend_warn);

    ADD(model, test_missing_model_is_named_and_the_element_recovers);
    ADD(model, test_repository_that_is_not_cached_says_what_to_run);
    ADD(model, test_cached_repository_is_named_in_caps_and_found_by_them);
    ADD(model, test_memory_limit_of_zero_is_told_in_the_log);
    ADD(model, test_spoiled_weights_are_errors_that_name_the_file);
    ADD(model, test_loading_is_told_by_progress_messages);
    ADD(model, test_failed_loading_ends_its_progress);
    ADD(model, test_stop_while_loading_cancels_without_an_error);
    ADD(model, test_stop_ends_the_wait_for_a_model_at_once);
    ADD(model, test_flush_while_loading_keeps_the_model_and_the_caps);
    ADD(model, test_two_elements_share_the_packed_weights);

    ADD(dec, test_decoder_caps_carry_size_rate_and_aspect);
    ADD(dec, test_decoder_writes_every_rgb_format_alike);
    ADD(dec, test_decoder_writes_luma_by_matrix_and_range);
    ADD(dec, test_decoder_colorimetry_says_what_was_written);
    ADD(dec, test_decoder_gives_video_meta_where_it_is_wanted);
    ADD(dec, test_round_trip_gives_the_picture_back);
    ADD(dec, test_caps_scaled_wins_over_the_property);
    ADD(dec, test_decoder_refuses_by_name_what_does_not_fit_the_model);
    ADD(dec, test_decoder_without_a_model_says_what_to_set);
    ADD(dec, test_decoder_never_takes_a_path_from_caps);
    ADD(dec, test_decoder_ignores_the_current_directory);
    ADD(dec, test_decoder_finds_the_model_that_the_caps_name);
    ADD(dec, test_decoder_warns_where_its_model_has_another_hash);
    ADD(dec, test_first_channels_alone_where_the_model_allows_it);
    ADD(dec, test_decoder_getcaps_tells_what_the_model_takes);
    ADD(dec, test_decoder_takes_bare_latents_behind_a_filter);
    ADD(dec, test_decoder_getcaps_passes_on_single_values);
    ADD(dec, test_decoder_refuses_a_buffer_of_another_size);
    ADD(dec, test_decoder_names_the_frame_that_is_not_finite);
    ADD(dec, test_decoder_max_errors_decides_about_corrupt_frames);
    ADD(dec, test_decoder_reads_unaligned_latents);
    ADD(dec, test_decoder_batches_and_drains_like_the_encoder);
    ADD(dec, test_decoder_flush_drops_what_waits);
    ADD(dec, test_decoder_size_change_drains_and_keeps_the_model);
    ADD(dec, test_decoder_drops_late_frames_before_decoding);

    ADD(all, test_pipelines_play_to_the_end);
    ADD(all, test_seek_flushes_and_shows_the_right_frame);
    ADD(all, test_elements_follow_a_renegotiation);
    ADD(all, test_elements_follow_a_renegotiation_within_a_batch);
    ADD(all, test_reverse_playback_decodes_every_frame);
    ADD(all, test_flush_and_stop_interrupt_a_running_frame);
    ADD(all, test_cuda_that_is_not_there_is_an_error);
    ADD(all, test_a_silent_failure_downstream_ends_the_pipeline);
    ADD(all, test_elements_survive_every_state_change);
    ADD(all, test_stop_in_the_middle_leaves_nothing_behind);
    ADD(all, test_properties_say_when_they_may_change);
    return s;
}

int main(int argc, char **argv)
{
    g_setenv("GST_TRACERS", "leaks(filters=\"GstElement,GstPad,GstBuffer,GstEvent,GstSample\")",
             FALSE);
    gst_check_init(&argc, &argv);
    return gst_check_run_suite(elements_suite(), "elements", __FILE__);
}
