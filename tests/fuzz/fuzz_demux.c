/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz_demux.c - any bytes as a clip file, through dcaedemux: pulled, or pushed in pieces, with a
 * seek on the way. It always comes to an end, and whatever frames come out have the size that their
 * caps say, and a time. The first four bytes of the input say how it is played.
 */
#include "fuzz.h"
#include "gstdcaedemux.h"
#include "gstdcaelatent.h"

#include <string.h>

#define WAIT (5 * G_TIME_SPAN_SECOND)
#define HEAD 4

/* Bits of the first byte. */
enum { PULL = 1, SEEKABLE = 2, SEEK = 4, BACKWARDS = 8, FLUSH = 16, SEGMENT = 32, TRICK = 64 };

typedef struct {
    const uint8_t *data;
    size_t size;
    guint flags, piece, start, stop; /* piece: bytes a push; the others: tenths of a second */

    GstElement *demux;
    GstPad *src, *sink; /* ours, on either side of it */
    gsize place;        /* of the next push */
    gboolean need_segment;

    GMutex lock;
    GCond cond;
    guint frames; /* these under lock */
    gboolean ended, failed;
} Play;

/* ---- upstream */

static GstFlowReturn get_range(GstPad *pad, GstObject *parent, guint64 offset, guint length,
                               GstBuffer **buffer)
{
    const Play *play = gst_pad_get_element_private(pad);
    (void)parent;
    if (offset >= play->size)
        return GST_FLOW_EOS;
    *buffer = gst_buffer_new_memdup(play->data + offset, MIN(length, play->size - offset));
    return GST_FLOW_OK;
}

static gboolean src_query(GstPad *pad, GstObject *parent, GstQuery *query)
{
    const Play *play = gst_pad_get_element_private(pad);
    switch (GST_QUERY_TYPE(query)) {
    case GST_QUERY_SCHEDULING:
        gst_query_set_scheduling(query, GST_SCHEDULING_FLAG_SEEKABLE, 1, -1, 0);
        gst_query_add_scheduling_mode(query, GST_PAD_MODE_PUSH);
        if (play->flags & PULL)
            gst_query_add_scheduling_mode(query, GST_PAD_MODE_PULL);
        return TRUE;
    case GST_QUERY_DURATION:
        gst_query_set_duration(query, GST_FORMAT_BYTES, (gint64)play->size);
        return (play->flags & (PULL | SEEKABLE)) != 0;
    case GST_QUERY_SEEKING:
        gst_query_set_seeking(query, GST_FORMAT_BYTES, (play->flags & SEEKABLE) != 0, 0,
                              (gint64)play->size);
        return TRUE;
    default:
        return gst_pad_query_default(pad, parent, query);
    }
}

/* A seek in bytes is done when it returns, but for the segment. */
static gboolean src_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    Play *play = gst_pad_get_element_private(pad);
    gint64 start = 0;
    (void)parent;
    gboolean seek = GST_EVENT_TYPE(event) == GST_EVENT_SEEK && (play->flags & SEEKABLE);
    if (seek) {
        gst_event_parse_seek(event, NULL, NULL, NULL, NULL, &start, NULL, NULL);
        gst_pad_push_event(pad, gst_event_new_flush_start());
        gst_pad_push_event(pad, gst_event_new_flush_stop(TRUE));
        play->place = MIN((gsize)start, play->size);
        play->need_segment = TRUE;
    }
    gst_event_unref(event);
    return seek;
}

static void push_segment(Play *play)
{
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_BYTES);
    segment.start = segment.time = segment.position = play->place;
    play->need_segment = FALSE;
    gst_pad_push_event(play->src, gst_event_new_segment(&segment));
}

static GstFlowReturn push_piece(Play *play)
{
    const uint8_t *from = play->data + play->place;
    gsize n = MIN(play->piece, play->size - play->place);
    if (play->need_segment)
        push_segment(play);
    play->place += n;
    return gst_pad_push(play->src, gst_buffer_new_memdup(from, n));
}

/* ---- downstream */

static GstFlowReturn chain(GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
    Play *play = gst_pad_get_element_private(pad);
    GstCaps *caps = gst_pad_get_current_caps(pad);
    GstDcaeLatentInfo info;
    gsize size;
    (void)parent;
    gst_dcae_latent_info_init(&info);
    g_assert_true(gst_dcae_latent_info_from_caps(&info, caps, NULL));
    g_assert_true(gst_dcae_latent_info_frame_size(&info, &size));
    g_assert_cmpuint(gst_buffer_get_size(buffer), ==, size);
    g_assert_true(GST_BUFFER_PTS_IS_VALID(buffer));
    gst_dcae_latent_info_clear(&info);
    gst_caps_unref(caps);
    gst_buffer_unref(buffer);
    g_mutex_lock(&play->lock);
    play->frames++;
    g_cond_broadcast(&play->cond);
    g_mutex_unlock(&play->lock);
    return GST_FLOW_OK;
}

static gboolean sink_event(GstPad *pad, GstObject *parent, GstEvent *event)
{
    Play *play = gst_pad_get_element_private(pad);
    GstEventType type = GST_EVENT_TYPE(event);
    (void)parent;
    g_mutex_lock(&play->lock);
    if (type == GST_EVENT_EOS || type == GST_EVENT_SEGMENT_DONE)
        play->ended = TRUE;
    else if (type == GST_EVENT_FLUSH_STOP)
        play->ended = FALSE;
    g_cond_broadcast(&play->cond);
    g_mutex_unlock(&play->lock);
    gst_event_unref(event);
    return TRUE;
}

static GstBusSyncReply on_message(GstBus *bus, GstMessage *message, gpointer data)
{
    Play *play = data;
    (void)bus;
    g_mutex_lock(&play->lock);
    play->failed |= GST_MESSAGE_TYPE(message) == GST_MESSAGE_ERROR;
    g_cond_broadcast(&play->cond);
    g_mutex_unlock(&play->lock);
    gst_message_unref(message);
    return GST_BUS_DROP;
}

/* ---- playing */

/* Until frames have come, or all is over. */
static void await(Play *play, guint frames)
{
    gint64 end = g_get_monotonic_time() + WAIT;
    g_mutex_lock(&play->lock);
    while (!play->ended && !play->failed && play->frames < frames)
        if (!g_cond_wait_until(&play->cond, &play->lock, end))
            g_error("the demuxer hangs");
    g_mutex_unlock(&play->lock);
}

static void seek(Play *play)
{
    guint flags = play->flags;
    gdouble rate = flags & TRICK ? 2.5 : 1.0;
    GstSeekFlags how = (flags & FLUSH ? GST_SEEK_FLAG_FLUSH : 0) |
                       (flags & SEGMENT ? GST_SEEK_FLAG_SEGMENT : 0) |
                       (flags & TRICK ? GST_SEEK_FLAG_TRICKMODE | GST_SEEK_FLAG_KEY_UNIT : 0);
    if (!(flags & SEEK))
        return;
    GstEvent *event = gst_event_new_seek(flags & BACKWARDS ? -rate : rate, GST_FORMAT_TIME, how,
                                         GST_SEEK_TYPE_SET, play->start * GST_SECOND / 10,
                                         play->stop ? GST_SEEK_TYPE_SET : GST_SEEK_TYPE_NONE,
                                         play->stop ? (gint64)(play->stop * GST_SECOND / 10) : -1);
    gst_pad_push_event(play->sink, event);
}

static void play_pull(Play *play)
{
    await(play, 2);
    seek(play);
    await(play, G_MAXUINT);
}

static void play_push(Play *play)
{
    GstFlowReturn flow = GST_FLOW_OK;
    gboolean sought = FALSE;

    gst_pad_push_event(play->src, gst_event_new_stream_start("clip"));
    push_segment(play);
    while (flow == GST_FLOW_OK && play->place < play->size) {
        flow = push_piece(play);
        if (!sought && play->frames >= 2) {
            sought = TRUE;
            seek(play);
        }
    }
    if (flow == GST_FLOW_OK) {
        if (play->need_segment)
            push_segment(play);
        gst_pad_push_event(play->src, gst_event_new_eos());
    }
    play->ended |= flow == GST_FLOW_EOS;
    await(play, G_MAXUINT);
}

static GstPad *add_pad(Play *play, const char *peer_name, GstPadDirection direction)
{
    GstPad *pad = gst_pad_new(NULL, direction);
    GstPad *peer = gst_element_get_static_pad(play->demux, peer_name);
    gst_pad_set_element_private(pad, play);
    if (direction == GST_PAD_SRC) {
        gst_pad_set_getrange_function(pad, get_range);
        gst_pad_set_query_function(pad, src_query);
        gst_pad_set_event_function(pad, src_event);
        g_assert_cmpint(gst_pad_link(pad, peer), ==, GST_PAD_LINK_OK);
    } else {
        gst_pad_set_chain_function(pad, chain);
        gst_pad_set_event_function(pad, sink_event);
        g_assert_cmpint(gst_pad_link(peer, pad), ==, GST_PAD_LINK_OK);
    }
    gst_object_unref(peer);
    return pad;
}

static void play_file(Play *play)
{
    GstBus *bus = gst_bus_new();

    g_mutex_init(&play->lock);
    g_cond_init(&play->cond);
    play->demux = gst_object_ref_sink(gst_element_factory_make("dcaedemux", NULL));
    gst_bus_set_sync_handler(bus, on_message, play, NULL);
    gst_element_set_bus(play->demux, bus);
    play->src = add_pad(play, "sink", GST_PAD_SRC);
    play->sink = add_pad(play, "src", GST_PAD_SINK);
    gst_pad_set_active(play->sink, TRUE);
    if (!(play->flags & PULL))
        gst_pad_set_active(play->src, TRUE);
    gst_element_set_state(play->demux, GST_STATE_PLAYING);
    if (play->flags & PULL)
        play_pull(play);
    else
        play_push(play);

    gst_pad_set_active(play->sink, FALSE);
    gst_element_set_state(play->demux, GST_STATE_NULL);
    gst_pad_set_active(play->src, FALSE);
    gst_element_set_bus(play->demux, NULL);
    gst_object_unref(play->demux);
    gst_object_unref(play->src);
    gst_object_unref(play->sink);
    gst_object_unref(bus);
    g_cond_clear(&play->cond);
    g_mutex_clear(&play->lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!gst_is_initialized()) {
        gst_init(NULL, NULL);
        gst_debug_set_default_threshold(GST_LEVEL_NONE);
        GST_ELEMENT_REGISTER(dcaedemux, NULL);
    }
    if (size < HEAD)
        return 0;
    Play play = {
        .data = data + HEAD,
        .size = size - HEAD,
        .flags = data[0],
        .piece = 1 + data[1] * 8u,
        .start = data[2],
        .stop = data[3],
    };
    play_file(&play);
    return 0;
}
