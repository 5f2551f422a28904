/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * clip_common.c - what the tests of clip files share. Reads files with the
 * core's header parser, not with the elements.
 */
#include "clip_common.h"

#include <glib/gstdio.h>
#include <string.h>

#define TIMEOUT (30 * GST_SECOND)

/* ---- files ---- */

static gchar *dir;

static void remove_dir(void)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    const gchar *name;
    while (d && (name = g_dir_read_name(d))) {
        gchar *path = g_build_filename(dir, name, NULL);
        g_remove(path);
        g_free(path);
    }
    if (d)
        g_dir_close(d);
    g_rmdir(dir);
    g_free(dir);
}

const gchar *test_dir(void)
{
    if (dir == NULL) {
        dir = g_dir_make_tmp("dcae-clip-XXXXXX", NULL);
        fail_unless(dir != NULL);
        atexit(remove_dir);
    }
    return dir;
}

gchar *test_path(const gchar *name)
{
    return g_build_filename(test_dir(), name, NULL);
}

static guint8 frame_byte(guint frame, gsize k)
{
    return (guint8)(frame * 37 + k * 11 + 5);
}

GstBuffer *make_frame(guint i, GstClockTime pts, GstClockTime duration)
{
    GstBuffer *buffer = gst_buffer_new_allocate(NULL, FRAME_SIZE, NULL);
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_WRITE);
    for (gsize k = 0; k < map.size; k++)
        map.data[k] = frame_byte(i, k);
    gst_buffer_unmap(buffer, &map);
    GST_BUFFER_PTS(buffer) = pts;
    GST_BUFFER_DURATION(buffer) = duration;
    return buffer;
}

void assert_frame(GstBuffer *buffer, guint i, gsize size)
{
    GstMapInfo map;
    gst_buffer_map(buffer, &map, GST_MAP_READ);
    fail_unless_equals_uint64(map.size, size);
    for (gsize k = 0; k < map.size; k++)
        fail_unless(map.data[k] == frame_byte(i, k), "frame %u, byte %zu", i, k);
    gst_buffer_unmap(buffer, &map);
}

GBytes *make_file(const gchar *json, gsize pad, gsize data_size)
{
    gsize json_size = MAX(strlen(json), pad);
    gsize size = 8 + json_size + data_size;
    guint8 *bytes = g_malloc(size);
    GST_WRITE_UINT64_LE(bytes, json_size);
    memset(bytes + 8, ' ', json_size);
    memcpy(bytes + 8, json, strlen(json));
    for (gsize k = 0; k < data_size; k++)
        bytes[8 + json_size + k] = frame_byte(k / FRAME_SIZE, k % FRAME_SIZE);
    return g_bytes_new_take(bytes, size);
}

void write_bytes(const gchar *path, GBytes *bytes, gsize size)
{
    fail_unless(size <= g_bytes_get_size(bytes));
    fail_unless(g_file_set_contents(path, g_bytes_get_data(bytes, NULL), size, NULL));
}

/* ---- reading ---- */

static guint64 read_u64(const guint8 *bytes)
{
    guint64 value;
    memcpy(&value, bytes, sizeof value);
    return GUINT64_FROM_LE(value);
}

static const gint64 *read_table(const Clip *clip, const gchar *name)
{
    const DcaeTensor *tensor = dcae_safetensors_header_find(clip->header, name);
    if (tensor == NULL)
        return NULL;
    fail_unless_equals_int(tensor->dtype, DCAE_DTYPE_I64);
    fail_unless_equals_int(tensor->rank, 1);
    fail_unless_equals_uint64(tensor->shape[0], clip->n_frames);
    gint64 *table = g_new(gint64, clip->n_frames + 1);
    for (guint64 i = 0; i < clip->n_frames; i++)
        table[i] = (gint64)read_u64(clip->data + tensor->begin + 8 * i);
    return table;
}

void clip_read_unfinished(Clip *clip, GBytes *bytes)
{
    GError *error = NULL;
    gsize size;
    const guint8 *start = g_bytes_get_data(bytes, &size);
    *clip = (Clip){.bytes = bytes};
    fail_unless(size > 8);
    clip->header_size = 8 + read_u64(start);
    fail_unless(clip->header_size <= size);
    fail_unless_equals_int(clip->header_size % 8, 0);
    clip->header = dcae_safetensors_header_parse(start + 8, clip->header_size - 8, "clip", &error);
    fail_unless(clip->header != NULL, "%s", error ? error->message : "");
    fail_unless(clip->header_size + dcae_safetensors_header_data_size(clip->header) <= size);
    clip->data = start + clip->header_size;
    const DcaeTensor *latents = dcae_safetensors_header_find(clip->header, "latents");
    fail_unless(latents != NULL);
    fail_unless_equals_int(latents->rank, 4);
    fail_unless_equals_uint64(latents->begin, 0);
    clip->n_frames = latents->shape[0];
    clip->pts = read_table(clip, "pts");
    clip->duration = read_table(clip, "duration");
}

void clip_read(Clip *clip, GBytes *bytes)
{
    clip_read_unfinished(clip, bytes);
    fail_unless_equals_uint64(clip->header_size + dcae_safetensors_header_data_size(clip->header),
                              g_bytes_get_size(bytes));
    fail_unless_equals_string(dcae_safetensors_header_metadata(clip->header, "dcae.complete"),
                              "true");
    fail_unless(clip->pts && clip->duration);
}

void clip_clear(Clip *clip)
{
    dcae_safetensors_header_free(clip->header);
    g_free((gpointer)clip->pts);
    g_free((gpointer)clip->duration);
    g_bytes_unref(clip->bytes);
}

/* ---- the muxer ---- */

static Mux *mux_of_pad(GstPad *pad)
{
    return g_object_get_data(G_OBJECT(pad), "mux");
}

static GstFlowReturn sink_chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    Mux *mux = mux_of_pad(pad);
    GstMapInfo map;
    GstFlowReturn ret = GST_FLOW_OK;
    gst_buffer_map(buffer, &map, GST_MAP_READ);
    if (mux->position + map.size > mux->room) {
        ret = GST_FLOW_ERROR;
    } else {
        if (mux->file->len < mux->position + map.size)
            g_byte_array_set_size(mux->file, mux->position + map.size);
        memcpy(mux->file->data + mux->position, map.data, map.size);
        mux->position += map.size;
    }
    gst_buffer_unmap(buffer, &map);
    gst_buffer_unref(buffer);
    return ret;
}

static gboolean sink_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    Mux *mux = mux_of_pad(pad);
    const GstSegment *segment;
    switch (GST_EVENT_TYPE(event)) {
    case GST_EVENT_SEGMENT:
        gst_event_parse_segment(event, &segment);
        fail_unless_equals_int(segment->format, GST_FORMAT_BYTES);
        fail_unless(mux->seekable || segment->start == mux->position);
        mux->position = segment->start;
        mux->headers += segment->start == 0;
        break;
    case GST_EVENT_FLUSH_STOP:
        g_byte_array_set_size(mux->file, 0);
        mux->position = 0;
        break;
    case GST_EVENT_EOS:
        mux->eos++;
        break;
    default:
        break;
    }
    gst_event_unref(event);
    return TRUE;
}

static gboolean sink_query(GstPad *pad, GstObject *parent, GstQuery *query)
{
    if (GST_QUERY_TYPE(query) != GST_QUERY_SEEKING)
        return gst_pad_query_default(pad, parent, query);
    gst_query_set_seeking(query, GST_FORMAT_BYTES, mux_of_pad(pad)->seekable, 0, -1);
    return TRUE;
}

void mux_init(Mux *mux, const gchar *launch, gboolean seekable, const gchar *caps)
{
    *mux = (Mux){.seekable = seekable, .room = G_MAXSIZE / 2, .file = g_byte_array_new()};
    mux->h = gst_harness_new_parse(launch);
    g_object_set_data(G_OBJECT(mux->h->sinkpad), "mux", mux);
    gst_pad_set_chain_function(mux->h->sinkpad, sink_chain);
    gst_pad_set_event_function(mux->h->sinkpad, sink_event);
    gst_pad_set_query_function(mux->h->sinkpad, sink_query);
    mux->bus = gst_bus_new();
    gst_element_set_bus(mux->h->element, mux->bus);
    gst_harness_play(mux->h);
    if (caps)
        mux_caps(mux, caps);
}

void mux_clear(Mux *mux)
{
    gst_element_set_bus(mux->h->element, NULL);
    gst_bus_set_flushing(mux->bus, TRUE);
    gst_object_unref(mux->bus);
    gst_harness_teardown(mux->h);
    g_byte_array_unref(mux->file);
}

void mux_caps(Mux *mux, const gchar *caps)
{
    gst_harness_set_src_caps_str(mux->h, caps);
}

GstFlowReturn mux_push(Mux *mux, guint frame)
{
    return gst_harness_push(mux->h, make_frame(frame, frame * FRAME_TIME, FRAME_TIME));
}

void mux_push_many(Mux *mux, guint n)
{
    for (guint i = 0; i < n; i++)
        fail_unless_equals_int(mux_push(mux, i), GST_FLOW_OK);
}

GBytes *mux_bytes(Mux *mux)
{
    return g_bytes_new(mux->file->data, mux->file->len);
}

GBytes *make_clip(const gchar *launch, const gchar *caps, guint n)
{
    Mux mux;
    mux_init(&mux, launch, TRUE, caps);
    mux_push_many(&mux, n);
    fail_unless(gst_harness_push_event(mux.h, gst_event_new_eos()));
    assert_no_message(mux.bus, GST_MESSAGE_ERROR | GST_MESSAGE_WARNING);
    GBytes *bytes = mux_bytes(&mux);
    mux_clear(&mux);
    return bytes;
}

/* ---- messages ---- */

gchar *message_text(GstMessage *message)
{
    GError *error = NULL;
    gchar *details = NULL, *text;
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
        gst_message_parse_error(message, &error, &details);
    else if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_WARNING)
        gst_message_parse_warning(message, &error, &details);
    text = g_strdup_printf("%s | %s", error ? error->message : "", details ? details : "");
    g_clear_error(&error);
    g_free(details);
    return text;
}

void assert_message(GstBus *bus, GstMessageType type, const gchar *text)
{
    GstMessage *message = gst_bus_timed_pop_filtered(bus, TIMEOUT, type);
    fail_unless(message != NULL, "no message with '%s'", text);
    gchar *is = message_text(message);
    fail_unless(strstr(is, text) != NULL, "'%s' is not in '%s'", text, is);
    g_free(is);
    gst_message_unref(message);
}

void assert_no_message(GstBus *bus, GstMessageType type)
{
    GstMessage *message = gst_bus_pop_filtered(bus, type);
    if (message == NULL)
        return;
    gchar *is = message_text(message);
    fail_unless(FALSE, "unexpected: %s", is);
}

/* ---- playing ---- */

/* Feeds an appsrc, which neither knows a size nor seeks. */
static void feed(GstElement *source, const gchar *path)
{
    gchar *data;
    gsize size, n;
    GstFlowReturn ret;
    fail_unless(g_file_get_contents(path, &data, &size, NULL));
    /* Pieces of an odd size, so that every border is crossed. */
    for (gsize i = 0; i < size; i += n) {
        n = MIN(size - i, 37);
        GstBuffer *buffer = gst_buffer_new_memdup(data + i, n);
        g_signal_emit_by_name(source, "push-buffer", buffer, &ret);
        gst_buffer_unref(buffer);
    }
    g_signal_emit_by_name(source, "end-of-stream", &ret);
    g_free(data);
}

void player_init(Player *player, PlayMode mode, const gchar *path, const gchar *properties)
{
    static const gchar *const sources[] = {
        [PLAY_PULL] = "filesrc name=source",
        [PLAY_PUSH] = "filesrc name=source ! queue",
        [PLAY_PUSH_ONLY] = "appsrc name=source max-bytes=0",
    };
    GError *error = NULL;
    gchar *launch = g_strdup_printf("%s ! dcaedemux name=demux %s ! appsink name=sink sync=false",
                                    sources[mode], properties ? properties : "");
    *player = (Player){.pipeline = gst_parse_launch(launch, &error)};
    fail_unless(error == NULL, "%s", error ? error->message : "");
    g_free(launch);
    player->sink = gst_bin_get_by_name(GST_BIN(player->pipeline), "sink");
    player->demux = gst_bin_get_by_name(GST_BIN(player->pipeline), "demux");
    player->bus = gst_element_get_bus(player->pipeline);
    GstElement *source = gst_bin_get_by_name(GST_BIN(player->pipeline), "source");
    if (mode == PLAY_PUSH_ONLY)
        feed(source, path);
    else
        g_object_set(source, "location", path, NULL);
    gst_object_unref(source);
}

void player_clear(Player *player)
{
    gst_element_set_state(player->pipeline, GST_STATE_NULL);
    gst_clear_message(&player->last);
    gst_clear_message(&player->warning);
    gst_object_unref(player->bus);
    gst_object_unref(player->sink);
    gst_object_unref(player->demux);
    gst_object_unref(player->pipeline);
}

/* Takes the next message of these types; keeps the first warning. */
static GstMessage *player_message(Player *player, GstMessageType types, GstClockTime timeout)
{
    for (;;) {
        GstMessage *message =
            gst_bus_timed_pop_filtered(player->bus, timeout, types | GST_MESSAGE_WARNING);
        if (message == NULL || GST_MESSAGE_TYPE(message) != GST_MESSAGE_WARNING)
            return message;
        if (player->warning)
            gst_message_unref(message);
        else
            player->warning = message;
    }
}

gboolean player_preroll(Player *player)
{
    gst_element_set_state(player->pipeline, GST_STATE_PAUSED);
    GstMessage *message =
        player_message(player, GST_MESSAGE_ASYNC_DONE | GST_MESSAGE_ERROR, TIMEOUT);
    fail_unless(message != NULL, "no preroll");
    if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR) {
        player->last = message;
        return FALSE;
    }
    gst_message_unref(message);
    return TRUE;
}

void player_assert_warning(Player *player, const gchar *text)
{
    player_message(player, GST_MESSAGE_WARNING, 0);
    gchar *is = player->warning ? message_text(player->warning) : NULL;
    fail_unless(text ? is && strstr(is, text) : is == NULL, "wanted '%s', not '%s'", text, is);
    g_free(is);
}

void player_assert_error(Player *player, const gchar *text)
{
    fail_unless(player->last && GST_MESSAGE_TYPE(player->last) == GST_MESSAGE_ERROR);
    gchar *is = message_text(player->last);
    fail_unless(strstr(is, text) != NULL, "'%s' is not in '%s'", text, is);
    g_free(is);
}

GstSample *player_pull(Player *player)
{
    GstSample *sample = NULL;
    gst_element_set_state(player->pipeline, GST_STATE_PLAYING);
    g_signal_emit_by_name(player->sink, "try-pull-sample", (guint64)TIMEOUT, &sample);
    return sample;
}

guint player_run(Player *player)
{
    guint n = 0;
    gst_element_set_state(player->pipeline, GST_STATE_PLAYING);
    for (;;) {
        GstSample *sample = NULL;
        g_signal_emit_by_name(player->sink, "try-pull-sample", (guint64)(2 * GST_MSECOND), &sample);
        if (sample) {
            gst_sample_unref(sample);
            n++;
            continue;
        }
        GstMessage *message = player_message(
            player, GST_MESSAGE_ERROR | GST_MESSAGE_EOS | GST_MESSAGE_SEGMENT_DONE, 0);
        if (message == NULL)
            continue;
        gst_clear_message(&player->last);
        player->last = message;
        if (GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR)
            return n;
        gboolean eos;
        g_object_get(player->sink, "eos", &eos, NULL);
        if (eos || GST_MESSAGE_TYPE(message) == GST_MESSAGE_SEGMENT_DONE)
            break;
    }
    for (;;) {
        GstSample *sample = NULL;
        g_signal_emit_by_name(player->sink, "try-pull-sample", (guint64)0, &sample);
        if (sample == NULL)
            return n;
        gst_sample_unref(sample);
        n++;
    }
}
