/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_cudaelements.c - dcaeenc and dcaedec with backend=cuda under the stand-in driver: pictures
 * and latents in device memory, frames under way, and every driver call made to fail. Exits with 77
 * (skipped) where the stand-in or GStreamer's own CUDA elements are not there.
 */
#include <gst/check/gstcheck.h>
#include <gst/check/gstharness.h>
#include <gst/video/video.h>

#include <string.h>

#include "gpusim/client.h"

#define WAIT (120 * GST_SECOND)
/* The smallest model. */
#define MODEL                                          \
    "model=$G/first-empty-original/model.safetensors " \
    "config=$G/first-empty-original/config.json"
#define ENC "dcaeenc backend=cuda precision=f32 " MODEL
#define DEC "dcaedec backend=cuda precision=f32 " MODEL
#define DEVICE "video/x-raw(memory:CUDAMemory)"

/* ---- helpers */

static void assert_no_findings(const gchar *what)
{
    fail_unless(sim.report_count() == 0, "%s: %s", what, sim.report_text(0));
}

/* A pipeline of text, in which $G is the folder of the golden data. */
static GstElement *launch(const gchar *text)
{
    GError *error = NULL;
    gchar *folder = g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", NULL);
    gchar **parts = g_strsplit(text, "$G", -1);
    gchar *full = g_strjoinv(folder, parts);
    GstElement *pipeline = gst_parse_launch(full, &error);

    fail_unless(pipeline != NULL && error == NULL, "%s: %s", full, error ? error->message : "");
    g_free(full);
    g_strfreev(parts);
    g_free(folder);
    return pipeline;
}

/* What has come out of a pipeline. */
typedef struct {
    GChecksum *sum;
    guint frames;
} Output;

/* Rows without what lies between them. */
static void add_frame(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
    Output *output = data;
    GstCaps *caps = gst_pad_get_current_caps(pad);
    guint64 pts = GST_BUFFER_PTS(buffer);
    GstVideoFrame frame;
    GstVideoInfo info;

    fail_unless(gst_video_info_from_caps(&info, caps));
    gst_caps_unref(caps);
    g_checksum_update(output->sum, (const guint8 *)&pts, sizeof pts);
    fail_unless(gst_video_frame_map(&frame, &info, buffer, GST_MAP_READ));
    for (guint c = 0; c < GST_VIDEO_FRAME_N_COMPONENTS(&frame); c++)
        for (gint y = 0; y < GST_VIDEO_FRAME_COMP_HEIGHT(&frame, c); y++)
            for (gint x = 0; x < GST_VIDEO_FRAME_COMP_WIDTH(&frame, c); x++)
                g_checksum_update(output->sum,
                                  (const guint8 *)GST_VIDEO_FRAME_COMP_DATA(&frame, c) +
                                      y * GST_VIDEO_FRAME_COMP_STRIDE(&frame, c) +
                                      x * GST_VIDEO_FRAME_COMP_PSTRIDE(&frame, c),
                                  1);
    gst_video_frame_unmap(&frame);
    output->frames++;
}

/* Runs a pipeline that ends in "fakesink name=sink" to its end, which comes after so many frames.
 * Returns a hash of the frames and their times, or NULL with the text of the first error. */
static gchar *run(const gchar *text, guint frames, gchar **error_text)
{
    Output output = {.sum = g_checksum_new(G_CHECKSUM_SHA256)};
    GstElement *pipeline = launch(text);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    GError *error = NULL;
    GstMessage *message;
    gchar *hash = NULL;

    g_object_set(sink, "signal-handoffs", TRUE, NULL);
    g_signal_connect(sink, "handoff", G_CALLBACK(add_frame), &output);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    fail_unless(message != NULL, "%s hangs", text);
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS) {
        fail_unless(output.frames == frames, "%s: %u frames", text, output.frames);
        hash = g_strdup(g_checksum_get_string(output.sum));
    } else {
        gst_message_parse_error(message, &error, NULL);
        *error_text = g_strdup(error->message);
        g_error_free(error);
    }
    gst_message_unref(message);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(bus);
    gst_object_unref(sink);
    gst_object_unref(pipeline);
    g_checksum_free(output.sum);
    return hash;
}

static gchar *run_well(const gchar *text, guint frames)
{
    gchar *error = NULL, *hash = run(text, frames, &error);

    fail_unless(hash != NULL, "%s: %s", text, error);
    assert_no_findings(text);
    return hash;
}

static gchar *source(const gchar *format, gint width, gint height, gint frames)
{
    return g_strdup_printf("videotestsrc num-buffers=%d pattern=smpte ! "
                           "video/x-raw,format=%s,width=%d,height=%d,framerate=10/1 ! ",
                           frames, format, width, height);
}

static GstBuffer *grey_picture(guint n)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, 16 * 8 * 4, NULL);

    gst_buffer_memset(buffer, 0, (guint8)(20 * n), 16 * 8 * 4);
    GST_BUFFER_PTS(buffer) = n * GST_SECOND / 10;
    GST_BUFFER_DURATION(buffer) = GST_SECOND / 10;
    return buffer;
}

/* ---- device memory */

static const struct {
    const gchar *format;
    gint width, height;
} pictures[] = {
    {"RGBA", 16, 8}, {"BGRx", 9, 7},   {"RGB", 13, 8},
    {"GBR", 10, 12}, {"NV12", 18, 14}, {"I420", 20, 10},
};

GST_START_TEST(test_device_memory_gives_the_same_bytes)
{
    gchar *src = source(pictures[__i__].format, pictures[__i__].width, pictures[__i__].height, 4);
    gchar *system = g_strdup_printf("%s" ENC " ! video/x-dcae-latent ! " DEC
                                    " ! video/x-raw,format=%s ! fakesink name=sink",
                                    src, pictures[__i__].format);
    gchar *device = g_strdup_printf("%scudaupload ! " DEVICE " ! " ENC
                                    " ! video/x-dcae-latent(memory:CUDAMemory) ! " DEC " ! " DEVICE
                                    ",format=%s ! cudadownload ! video/x-raw ! fakesink name=sink",
                                    src, pictures[__i__].format);
    gchar *one = run_well(system, 4), *two = run_well(device, 4);

    assert_equals_string(one, two);
    g_free(one);
    g_free(two);
    g_free(system);
    g_free(device);
    g_free(src);
}

GST_END_TEST;

static void count(gint frames, GpusimCounters *n)
{
    gchar *src = source("RGBA", 16, 8, frames);
    gchar *text = g_strdup_printf("%scudaupload ! " DEVICE " ! " ENC " ! " DEC " ! " DEVICE
                                  ",format=RGBA ! cudadownload ! video/x-raw ! fakesink name=sink",
                                  src);

    sim.reset();
    g_free(run_well(text, (guint)frames));
    sim.counters(n);
    g_free(text);
    g_free(src);
}

/* Of two runs of different length the difference is what frames cost. The 4 bytes that each of the
 * two codecs sends say whether a value was not finite. */
GST_START_TEST(test_only_frames_cross_the_bus)
{
    const guint64 frame = 16 * 8 * 4;
    GpusimCounters few, many;

    count(4, &few);
    count(10, &many);
    assert_equals_uint64(many.host_to_device - few.host_to_device, 6 * frame);
    assert_equals_uint64(many.device_to_host - few.device_to_host, 6 * (frame + 2 * 4));
    assert_equals_uint64(many.device_to_device, few.device_to_device);
    assert_equals_uint64(many.device_bytes, 0);
    assert_equals_int(sim.report_leaks(), 0);
}

GST_END_TEST;

/* Other neighbours get system memory, also such as take anything. */
GST_START_TEST(test_system_memory_is_the_default)
{
    GstElement *pipeline =
        launch("videotestsrc num-buffers=1 ! video/x-raw,width=16,height=8 ! " ENC
               " name=enc ! " DEC " name=dec ! fakesink name=sink");
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message;
    GstPad *pad = gst_element_get_static_pad(sink, "sink");
    GstCaps *caps;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    fail_unless(message != NULL && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS);
    gst_message_unref(message);
    caps = gst_pad_get_current_caps(pad);
    fail_if(gst_caps_features_contains(gst_caps_get_features(caps, 0), "memory:CUDAMemory"));
    gst_caps_unref(caps);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pad);
    gst_object_unref(bus);
    gst_object_unref(sink);
    gst_object_unref(pipeline);
}

GST_END_TEST;

static gboolean takes_device_memory(const gchar *text)
{
    GstElement *pipeline = launch(text);
    GstElement *enc = gst_bin_get_by_name(GST_BIN(pipeline), "enc");
    GstBus *bus = gst_element_get_bus(pipeline);
    GstPad *pad = gst_element_get_static_pad(enc, "sink");
    GstMessage *message;
    GstCaps *caps;
    gboolean device;

    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    fail_unless(message != NULL && GST_MESSAGE_TYPE(message) == GST_MESSAGE_EOS, "%s", text);
    gst_message_unref(message);
    caps = gst_pad_get_current_caps(pad);
    device = gst_caps_features_contains(gst_caps_get_features(caps, 0), "memory:CUDAMemory");
    gst_caps_unref(caps);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pad);
    gst_object_unref(bus);
    gst_object_unref(enc);
    gst_object_unref(pipeline);
    return device;
}

/* cudaupload passes on what it gets, unless the encoder prefers device memory; the CPU has no use
 * for that. */
GST_START_TEST(test_device_memory_is_preferred)
{
    const gchar *upload = "videotestsrc num-buffers=1 ! video/x-raw,width=16,height=8 ! "
                          "cudaupload ! dcaeenc name=enc " MODEL " precision=f32 backend=";
    static const struct {
        const gchar *backend;
        gboolean device;
    } cases[] = {{"cuda", TRUE}, {"auto", TRUE}, {"cpu", FALSE}};

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        gchar *text = g_strdup_printf("%s%s ! fakesink", upload, cases[i].backend);
        fail_unless(takes_device_memory(text) == cases[i].device, "%s", text);
        g_free(text);
    }
}

GST_END_TEST;

/* Every pair of neighbours may have other memory between them. */
GST_START_TEST(test_memory_may_change_along_the_pipeline)
{
    gchar *src = source("NV12", 16, 16, 4), *expected = NULL;
    static const gchar *const middles[] = {
        ENC " ! video/x-dcae-latent ! " DEC " ! video/x-raw,format=NV12",
        ENC " ! video/x-dcae-latent(memory:CUDAMemory) ! queue ! " DEC " ! video/x-raw,format=NV12",
        "cudaupload ! " DEVICE " ! " ENC " ! video/x-dcae-latent ! " DEC
        " ! video/x-raw,format=NV12",
        ENC " ! " DEC " ! " DEVICE ",format=NV12 ! cudadownload ! video/x-raw",
    };

    for (guint i = 0; i < G_N_ELEMENTS(middles); i++) {
        gchar *text = g_strdup_printf("%s%s ! fakesink name=sink", src, middles[i]);
        gchar *hash = run_well(text, 4);
        if (expected == NULL)
            expected = g_strdup(hash);
        assert_equals_string(hash, expected);
        g_free(hash);
        g_free(text);
    }
    g_free(expected);
    g_free(src);
}

GST_END_TEST;

/* Memory of a neighbour's context is copied through the host. cudadownload of 1.22 doesn't do that:
 * it works on the device that it takes from. */
static const gchar *const foreign[] = {
    "cudaupload cuda-device-id=1 ! " DEVICE " ! " ENC " device=0 ! video/x-dcae-latent ! " DEC
    " device=0 ! video/x-raw,format=NV12",
    ENC " device=0 ! video/x-dcae-latent(memory:CUDAMemory) ! " DEC
        " device=1 ! video/x-raw,format=NV12",
    "cudaupload cuda-device-id=0 ! " DEVICE " ! " ENC
    " device=1 ! video/x-dcae-latent(memory:CUDAMemory) ! " DEC " device=0 ! " DEVICE
    ",format=NV12 ! cudadownload cuda-device-id=0 ! video/x-raw",
};

GST_START_TEST(test_memory_of_another_context)
{
    gchar *src = source("NV12", 18, 14, 4);
    gchar *own = g_strdup_printf("%s" ENC " ! " DEC " ! video/x-raw,format=NV12 ! "
                                 "fakesink name=sink",
                                 src);
    gchar *other = g_strdup_printf("%s%s ! fakesink name=sink", src, foreign[__i__]);
    gchar *expected, *hash;

    g_setenv("GPUSIM_DEVICES", "2", TRUE);
    expected = run_well(own, 4);
    hash = run_well(other, 4);
    assert_equals_string(hash, expected);
    assert_equals_int(sim.report_leaks(), 0);
    g_free(hash);
    g_free(expected);
    g_free(other);
    g_free(own);
    g_free(src);
}

GST_END_TEST;

/* Caps are a promise that a neighbour may break. */
GST_START_TEST(test_host_memory_under_caps_of_the_device)
{
    GstBuffer *out[2];
    GstMapInfo map;

    for (guint i = 0; i < 2; i++) {
        GstElement *element = launch(ENC);
        GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
        gchar *caps = g_strdup_printf("%s,format=RGBA,width=16,height=8,framerate=10/1",
                                      i == 0 ? "video/x-raw" : DEVICE);

        gst_harness_set_src_caps_str(h, caps);
        fail_unless_equals_int(gst_harness_push(h, grey_picture(3)), GST_FLOW_OK);
        gst_harness_push_event(h, gst_event_new_eos());
        out[i] = gst_harness_pull(h);
        gst_harness_teardown(h);
        gst_object_unref(element);
        g_free(caps);
    }
    fail_unless(gst_buffer_map(out[0], &map, GST_MAP_READ));
    gst_check_buffer_data(out[1], map.data, map.size);
    gst_buffer_unmap(out[0], &map);
    gst_buffer_unref(out[0]);
    gst_buffer_unref(out[1]);
    assert_no_findings("host memory");
}

GST_END_TEST;

static void assert_says(const gchar *text, const gchar *needle)
{
    gchar *error = NULL, *hash = run(text, 1, &error);

    fail_unless(hash == NULL, "%s: no error", text);
    fail_unless(strstr(error, needle) != NULL, "'%s' does not say '%s'", error, needle);
    g_free(error);
}

GST_START_TEST(test_the_cpu_refuses_device_memory_by_name)
{
    GstHarness *h = gst_harness_new_parse("dcaeenc backend=cpu");
    GstBus *bus = gst_bus_new();
    GstMessage *message;
    GError *error;

    gst_element_set_bus(h->element, bus);
    gst_harness_set_src_caps_str(h, DEVICE ",format=RGBA,width=16,height=8,framerate=10/1");
    fail_if(gst_harness_push(h, grey_picture(0)) == GST_FLOW_OK);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_ERROR);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(strstr(error->message, "CUDA memory") != NULL, "%s", error->message);
    g_error_free(error);
    gst_message_unref(message);
    gst_element_set_bus(h->element, NULL);
    gst_object_unref(bus);
    gst_harness_teardown(h);

    assert_says(
        "videotestsrc num-buffers=1 ! video/x-raw,width=16,height=8 ! dcaeenc backend=cpu ! "
        "dcaedec backend=cpu ! " DEVICE " ! fakesink name=sink",
        "Downstream takes CUDA memory only");
}

GST_END_TEST;

/* ---- frames under way */

static GstHarness *encoder_harness(GstElement **element)
{
    GstHarness *h;

    *element = launch(ENC);
    h = gst_harness_new_with_element(*element, "sink", "src");
    gst_harness_set_src_caps_str(h, "video/x-raw,format=RGBA,width=16,height=8,framerate=10/1");
    return h;
}

GST_START_TEST(test_three_frames_are_under_way)
{
    GstElement *element;
    GstHarness *h = encoder_harness(&element);

    for (guint n = 0; n < 7; n++) {
        fail_unless_equals_int(gst_harness_push(h, grey_picture(n)), GST_FLOW_OK);
        fail_unless_equals_int(gst_harness_buffers_received(h), n < 2 ? 0 : n - 1);
    }
    fail_unless_equals_uint64(gst_harness_query_latency(h), 2 * GST_SECOND / 10);
    gst_harness_push_event(h, gst_event_new_eos());
    fail_unless_equals_int(gst_harness_buffers_received(h), 7);
    for (guint n = 0; n < 7; n++) {
        GstBuffer *out = gst_harness_pull(h);
        fail_unless_equals_uint64(GST_BUFFER_PTS(out), n * GST_SECOND / 10);
        gst_buffer_unref(out);
    }
    gst_harness_teardown(h);
    gst_object_unref(element);
    assert_no_findings("seven frames");
}

GST_END_TEST;

static void flush(GstHarness *h)
{
    GstSegment segment;

    gst_harness_push_event(h, gst_event_new_flush_start());
    gst_harness_push_event(h, gst_event_new_flush_stop(TRUE));
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h, gst_event_new_segment(&segment));
}

static void change_caps(GstHarness *h)
{
    gst_harness_set_src_caps_str(h, "video/x-raw,format=BGRA,width=8,height=16,framerate=10/1");
}

/* What becomes of two frames under way. NULL: the element stops. */
static const struct {
    const gchar *name;
    void (*event)(GstHarness *h);
    guint received;
} events[] = {{"a flush", flush, 0}, {"new caps", change_caps, 2}, {"a stop", NULL, 0}};

GST_START_TEST(test_an_event_ends_frames_under_way)
{
    guint received = events[__i__].received;
    GstElement *element;
    GstHarness *h = encoder_harness(&element);

    for (guint n = 0; n < 2; n++)
        gst_harness_push(h, grey_picture(n));
    if (events[__i__].event != NULL) {
        events[__i__].event(h);
        fail_unless_equals_int(gst_harness_buffers_received(h), received);
        fail_unless_equals_int(gst_harness_push(h, grey_picture(5)), GST_FLOW_OK);
        gst_harness_push_event(h, gst_event_new_eos());
        fail_unless_equals_int(gst_harness_buffers_received(h), received + 1);
    }
    gst_harness_teardown(h);
    gst_object_unref(element);
    assert_no_findings(events[__i__].name);
    assert_equals_int(sim.report_leaks(), 0);
}

GST_END_TEST;

/* The frame before a bad one comes out, the bad one is an error that names it. */
GST_START_TEST(test_a_frame_under_way_that_fails_is_named)
{
    GstElement *element = launch(DEC);
    GstHarness *h = gst_harness_new_with_element(element, "sink", "src");
    GstBus *bus = gst_bus_new();
    GstMessage *message;
    GError *error;

    gst_element_set_bus(element, bus);
    gst_harness_set_src_caps_str(h, "video/x-dcae-latent,format=F32LE,latent-channels=8,"
                                    "latent-width=4,latent-height=2,framerate=10/1");
    for (guint n = 0; n < 3; n++) {
        GstBuffer *buffer = gst_buffer_new_allocate(NULL, 8 * 4 * 2 * 4, NULL);
        gst_buffer_memset(buffer, 0, n == 1 ? 0xff : 0, 8 * 4 * 2 * 4); /* 0xffffffff is a NaN */
        gst_harness_push(h, buffer);
    }
    gst_harness_push_event(h, gst_event_new_eos());
    fail_unless_equals_int(gst_harness_buffers_received(h), 1);
    message = gst_bus_timed_pop_filtered(bus, WAIT, GST_MESSAGE_ERROR);
    fail_unless(message != NULL);
    gst_message_parse_error(message, &error, NULL);
    fail_unless(strstr(error->message, "decode frame 1:") != NULL, "%s", error->message);
    g_error_free(error);
    gst_message_unref(message);
    fail_unless(gst_bus_pop_filtered(bus, GST_MESSAGE_ERROR) == NULL);
    gst_element_set_bus(element, NULL);
    gst_object_unref(bus);
    gst_harness_teardown(h);
    gst_object_unref(element);
}

GST_END_TEST;

/* ---- failing calls */

#define FAULTY_FRAMES 3
#define FAULTY(settings)                                                                           \
    "videotestsrc num-buffers=3 ! video/x-raw,format=RGBA,width=8,height=8,framerate=10/1 ! "      \
    "cudaupload ! " DEVICE " ! dcaeenc backend=cuda " settings " ! dcaedec backend=cuda " settings \
    " ! " DEVICE ",format=RGBA ! cudadownload ! video/x-raw ! fakesink name=sink"
#define F32 "precision=f32 " MODEL
/* cuBLAS multiplies in 16 bits, where a model has something to multiply and nothing to fuse. */
#define F16 "precision=f16 model=$G/head-8/model"

static const gchar *faulty(const gchar *call)
{
    return g_str_has_prefix(call, "cublas") ? FAULTY(F16) : FAULTY(F32);
}

/* Calls whose failure leaves memory behind, since they are what frees it. */
static const gchar *const frees[] = {
    "cuMemFree_v2",       "cuMemFreeHost",       "cuStreamDestroy_v2",
    "cuEventDestroy_v2",  "cuModuleUnload",      "cuCtxDestroy_v2",
    "cuCtxPopCurrent_v2", "cuCtxPushCurrent_v2", "cuStreamSynchronize",
};

/* Those that this pipeline makes; test_cuda has the others of the backend. */
static const gchar *const works[] = {
    "cuCtxCreate_v2",     "cuCtxGetDevice",        "cuDeviceGetAttribute", "cuMemAlloc_v2",
    "cuMemAllocPitch_v2", "cuMemAllocHost_v2",     "cuMemcpyHtoD_v2",      "cuMemcpyDtoHAsync_v2",
    "cuMemcpy2DAsync_v2", "cuMemsetD8Async",       "cuModuleLoadData",     "cuModuleGetFunction",
    "cuStreamCreate",     "cuStreamWaitEvent",     "cuEventCreate",        "cuEventRecord",
    "cuEventSynchronize", "cuLaunchKernel",        "cublasCreate_v2",      "cublasSetStream_v2",
    "cublasSetMathMode",  "cublasSetWorkspace_v2", "cublasGemmEx",
};

/* What GStreamer's plugin calls once in a process doesn't count. */
static void load_nvcodec(void)
{
    GstElementFactory *factory = gst_element_factory_find("cudaupload");
    GstPluginFeature *loaded = gst_plugin_feature_load(GST_PLUGIN_FEATURE(factory));

    fail_unless(loaded != NULL);
    gst_object_unref(loaded);
    gst_object_unref(factory);
}

/* What a run without faults gives, and how often it makes the call. */
typedef struct {
    gchar *hash;
    guint calls;
} Good;

static Good run_good(const gchar *call)
{
    Good good = {0};

    load_nvcodec();
    sim.reset();
    sim.fail_call(call, G_MAXUINT, 0);
    good.hash = run_well(faulty(call), FAULTY_FRAMES);
    good.calls = G_MAXUINT - sim.fail_left();
    fail_unless(good.calls > 0, "%s is never called", call);
    return good;
}

/* The n-th call fails: the pipeline ends, with a sentence or with the right pictures. Returns
 * whether there was a sentence. */
static gboolean fails_well(const Good *good, const gchar *call, guint n)
{
    gchar *error = NULL, *hash;
    gboolean failed;

    sim.reset();
    sim.fail_call(call, n, 0);
    hash = run(faulty(call), FAULTY_FRAMES, &error);
    fail_unless(sim.fail_left() == 0, "%s %u: not reached", call, n);
    sim.fail_call(call, 0, 0);
    fail_unless(hash != NULL || strlen(error) > 20, "%s %u: '%s'", call, n, error);
    fail_unless(hash == NULL || g_str_equal(hash, good->hash), "%s %u: other pictures", call, n);
    failed = hash == NULL;
    g_free(hash);
    g_free(error);
    return failed;
}

GST_START_TEST(test_failing_calls_end_the_pipeline)
{
    const gchar *call = works[__i__];
    Good good = run_good(call);
    guint faults = 0, errors = 0;

    for (guint n = 1; n <= good.calls; n++, faults++) {
        errors += fails_well(&good, call, n);
        assert_no_findings(call);
        fail_unless(sim.report_leaks() == 0, "%s %u: %s", call, n, sim.report_text(0));
    }
    g_print("%s: %u calls, %u of them failed, %u errors\n", call, good.calls, faults, errors);
    g_free(good.hash);
}

GST_END_TEST;

/* Frames that find no device memory: how much each wanted, and what helps. */
GST_START_TEST(test_no_device_memory_for_frames)
{
    static const gchar *const says[] = {
        "No CUDA memory for a latent of 128 bytes: lower batch-size",
        "No CUDA memory for a picture of 256 bytes: lower batch-size"};
    Good good = run_good("cuMemAllocPitch_v2");
    guint said[2] = {0};

    for (guint n = 1; n <= good.calls; n++) {
        gchar *error = NULL, *hash;
        sim.reset();
        sim.fail_call("cuMemAllocPitch_v2", n, 2);
        hash = run(FAULTY(F32), FAULTY_FRAMES, &error);
        for (guint i = 0; i < G_N_ELEMENTS(says); i++)
            said[i] += error != NULL && strstr(error, says[i]) != NULL;
        g_free(hash);
        g_free(error);
    }
    fail_unless(said[0] > 0 && said[1] > 0, "%u calls, %u, %u", good.calls, said[0], said[1]);
    g_free(good.hash);
}

GST_END_TEST;

GST_START_TEST(test_failing_frees_hang_nothing)
{
    const gchar *call = frees[__i__];
    Good good = run_good(call);
    guint faults = 0;

    for (guint n = 1; n <= good.calls; n++, faults++)
        fails_well(&good, call, n);
    g_print("%s: %u calls, %u of them failed\n", call, good.calls, faults);
    g_free(good.hash);
}

GST_END_TEST;

/* A driver without a device, as in a container that was given none: two elements look for one. */
GST_START_TEST(test_a_driver_without_a_device)
{
    gchar *src = source("RGB", 18, 14, 2);
    gchar *any = g_strdup_printf("%sdcaeenc ! dcaedec ! video/x-raw,format=RGB ! "
                                 "fakesink name=sink",
                                 src);
    gchar *cuda = g_strdup_printf("%s" ENC " ! " DEC " ! fakesink name=sink", src);
    gchar *hash, *error = NULL;

    g_setenv("GPUSIM_DEVICES", "0", TRUE);
    hash = run_well(any, 2);
    fail_unless(run(cuda, 2, &error) == NULL);
    fail_unless(strstr(error, "cuInit") != NULL || strstr(error, "device") != NULL, "%s", error);
    g_free(error);
    g_free(hash);
    g_free(cuda);
    g_free(any);
    g_free(src);
}

GST_END_TEST;

static Suite *cudaelements_suite(void)
{
    Suite *s = suite_create("cudaelements");
    TCase *memory = tcase_create("memory"), *flights = tcase_create("flights"),
          *faults = tcase_create("faults");

    suite_add_tcase(s, memory);
    tcase_set_timeout(memory, 300);
    tcase_add_loop_test(memory, test_device_memory_gives_the_same_bytes, 0,
                        (int)G_N_ELEMENTS(pictures));
    tcase_add_test(memory, test_only_frames_cross_the_bus);
    tcase_add_test(memory, test_system_memory_is_the_default);
    tcase_add_test(memory, test_device_memory_is_preferred);
    tcase_add_test(memory, test_memory_may_change_along_the_pipeline);
    tcase_add_loop_test(memory, test_memory_of_another_context, 0, (int)G_N_ELEMENTS(foreign));
    tcase_add_test(memory, test_host_memory_under_caps_of_the_device);
    tcase_add_test(memory, test_the_cpu_refuses_device_memory_by_name);

    suite_add_tcase(s, flights);
    tcase_set_timeout(flights, 300);
    tcase_add_test(flights, test_three_frames_are_under_way);
    tcase_add_loop_test(flights, test_an_event_ends_frames_under_way, 0, (int)G_N_ELEMENTS(events));
    tcase_add_test(flights, test_a_frame_under_way_that_fails_is_named);

    suite_add_tcase(s, faults);
    tcase_set_timeout(faults, 300);
    tcase_add_loop_test(faults, test_failing_calls_end_the_pipeline, 0, (int)G_N_ELEMENTS(works));
    tcase_add_test(faults, test_no_device_memory_for_frames);
    tcase_add_test(faults, test_a_driver_without_a_device);
    tcase_add_loop_test(faults, test_failing_frees_hang_nothing, 0, (int)G_N_ELEMENTS(frees));
    return s;
}

int main(int argc, char **argv)
{
    gst_check_init(&argc, &argv);
    GstElementFactory *upload = gst_element_factory_find("cudaupload");
    if (sim_open() != SIM_STAND_IN || upload == NULL)
        return 77;
    gst_object_unref(upload);
    return gst_check_run_suite(cudaelements_suite(), "cudaelements", __FILE__);
}
