/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * GStreamer's own CUDA elements on the stand-in: frames go up and come back the same, and the
 * counters show those bytes and no others. Skipped where the nvcodec plugin is not installed.
 */
#include <dlfcn.h>
#include <gst/gst.h>

#include "gpusim.h"

enum { WIDTH = 512, HEIGHT = 64, FRAMES = 5, FRAME_BYTES = WIDTH * HEIGHT * 4 };

static void add_frame(GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer sum)
{
    GstMapInfo map;
    g_assert_true(gst_buffer_map(buffer, &map, GST_MAP_READ));
    g_assert_cmpuint(map.size, ==, FRAME_BYTES);
    g_checksum_update(sum, map.data, (gssize)map.size);
    gst_buffer_unmap(buffer, &map);
}

/* SHA-256 over the frames that leave a pipeline with these elements in the middle. */
static char *run(const char *middle)
{
    GError *error = NULL;
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    char *text = g_strdup_printf("videotestsrc num-buffers=%d pattern=ball ! "
                                 "video/x-raw,format=RGBA,width=%d,height=%d ! %s ! "
                                 "fakesink name=sink signal-handoffs=true sync=false",
                                 FRAMES, WIDTH, HEIGHT, middle);
    GstElement *pipeline = gst_parse_launch(text, &error);
    g_free(text);
    g_assert_no_error(error);
    GstElement *sink = gst_bin_get_by_name(GST_BIN(pipeline), "sink");
    g_signal_connect(sink, "handoff", G_CALLBACK(add_frame), sum);
    gst_element_set_state(pipeline, GST_STATE_PLAYING);
    GstBus *bus = gst_element_get_bus(pipeline);
    GstMessage *message =
        gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
    g_assert_nonnull(message);
    g_assert_cmpint(GST_MESSAGE_TYPE(message), ==, GST_MESSAGE_EOS);
    gst_message_unref(message);
    gst_object_unref(bus);
    gst_object_unref(sink);
    gst_element_set_state(pipeline, GST_STATE_NULL);
    gst_object_unref(pipeline);
    char *digest = g_strdup(g_checksum_get_string(sum));
    g_checksum_free(sum);
    return digest;
}

int main(int argc, char **argv)
{
    gst_init(&argc, &argv);
    GstElementFactory *factory = gst_element_factory_find("cudaupload");
    if (!factory) {
        g_print("no nvcodec plugin here\n");
        return 77;
    }
    gst_object_unref(factory);
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    void (*counters)(GpusimCounters *), (*reset)(void);
    unsigned (*count)(void), (*leaks)(void);
    *(void **)&counters = dlsym(library, "gpusim_counters");
    *(void **)&reset = dlsym(library, "gpusim_reset");
    *(void **)&count = dlsym(library, "gpusim_report_count");
    *(void **)&leaks = dlsym(library, "gpusim_report_leaks");

    char *plain = run("identity");
    reset();
    char *device = run("cudaupload ! video/x-raw(memory:CUDAMemory) ! cudadownload");
    g_assert_cmpstr(plain, ==, device);
    GpusimCounters n;
    counters(&n);
    g_assert_cmpuint(n.host_to_device, ==, FRAMES * FRAME_BYTES);
    g_assert_cmpuint(n.device_to_host, ==, FRAMES * FRAME_BYTES);
    g_assert_cmpuint(n.device_to_device, ==, 0);
    g_assert_cmpuint(n.device_bytes, ==, 0);
    g_assert_cmpuint(count(), ==, 0);
    g_assert_cmpuint(leaks(), ==, 0);
    g_free(plain);
    g_free(device);
    return 0;
}
