/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaedemux.c - the bytes of a clip file to latent buffers, pulled from a
 * file or pushed by a stream. Knows reading, seeking and what is due next;
 * what a header says is in gstdcaelatent.c, when a frame is shown in
 * gstdcaetimeline.c.
 */
/**
 * SECTION:element-dcaedemux
 * @title: dcaedemux
 * @short_description: Reads DC-AE latents from a safetensors file
 *
 * Plays files of latents: clips that dcaemux wrote, plain safetensors files
 * with one tensor `latents` of shape [frames, channels, height, width] in F32,
 * F16 or BF16, and ComfyUI's `.latent` files (tensor `latent_tensor`).
 *
 * Files without time stamps play at #GstDcaeDemux:framerate. Files that were
 * cut short play up to the last whole frame at a constant rate, with a warning.
 * Time stamps of streams that can't seek come too late to be used: these play
 * at a constant rate too.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 filesrc location=clip.safetensors ! dcaedemux ! dcaedec ! videoconvert ! autovideosink
 * ]|
 * Plays a clip.
 * |[
 * gst-launch-1.0 filesrc location=latents.safetensors ! dcaedemux framerate=16/1 ! dcaedec ! videoconvert ! x264enc ! mp4mux ! filesink location=video.mp4
 * ]|
 * Turns latents that Python wrote into a video.
 *
 * Since: 0.1
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "gstdcaedemux.h"

#include <gst/base/gstadapter.h>

#include "gstdcaelatent.h"
#include "gstdcaetimeline.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_demux_debug);
#define GST_CAT_DEFAULT gst_dcae_demux_debug

enum
{
  PROP_0,
  PROP_FRAMERATE,
};

#define DEFAULT_FRAMERATE_N 25
#define DEFAULT_FRAMERATE_D 1

/* gst_pad_pull_range() counts bytes in a guint; no codec makes such frames. */
#define MAX_FRAME_SIZE G_MAXINT
#define SIZE_UNKNOWN G_MAXUINT64
#define MAX_LOCKED_WAIT (100 * G_TIME_SPAN_MILLISECOND)

/* What the next bytes of a pushed stream are. */
typedef enum
{
  READ_LENGTH,
  READ_JSON,
  READ_PTS,                     /* after a seek to the table */
  READ_DURATION,
  READ_FRAMES,
  READ_NOTHING,                 /* done: bytes are dropped */
} ReadState;

struct _GstDcaeDemux
{
  GstElement parent;

  GstPad *sinkpad, *srcpad;

  /* property, under the object lock */
  gint fps_n, fps_d;

  /* What the header said. Written by the streaming thread; others read it
   * only under the object lock and where open is set, from when on it does not
   * change until the state is READY. */
  gboolean open;
  gboolean seekable;
  GstDcaeClip clip;
  GstDcaeTimeline timeline;
  guint64 file_size;

  /* streaming */
  gboolean pull;
  gchar *name;                  /* of the file, for messages */
  gboolean started;             /* stream-start, caps and tags were sent */
  guint group_id;
  GstSegment segment;           /* position: under the object lock */
  GstClockTime reached;         /* where a segment after this one goes on */
  gboolean need_segment, discont, at_end;
  guint32 seqnum;               /* of the segment */
  guint64 next;                 /* frame; n_frames or more: none is left */
  guint step;                   /* frames to go on by, above 1 to skip */
  GstClockTime interval;        /* least time between two frames sent */

  /* push mode */
  ReadState state;
  GstAdapter *adapter;
  guint64 offset;               /* in the file, of the adapter's first byte */
  gsize json_size;
  guint8 *pts_table;            /* read, waiting for the other table */
  gboolean own_seek;            /* the flush that comes is not for downstream */
  gboolean have_seek;           /* under the object lock: */
  GstSegment seek_segment;
  guint64 seek_frame, seek_offset;
  guint32 seek_seqnum;
  guint seek_step;
  GstClockTime seek_interval;
};

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (GST_DCAE_CLIP_CAPS));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE ("src",
    GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS (GST_DCAE_LATENT_CAPS));

#define gst_dcae_demux_parent_class parent_class
G_DEFINE_TYPE (GstDcaeDemux, gst_dcae_demux, GST_TYPE_ELEMENT);
GST_ELEMENT_REGISTER_DEFINE (dcaedemux, "dcaedemux", GST_RANK_PRIMARY,
    GST_TYPE_DCAE_DEMUX);

static void
reset (GstDcaeDemux * self)
{
  GST_OBJECT_LOCK (self);
  self->open = self->seekable = FALSE;
  gst_dcae_clip_clear (&self->clip);
  gst_dcae_timeline_clear (&self->timeline);
  self->file_size = SIZE_UNKNOWN;
  gst_segment_init (&self->segment, GST_FORMAT_TIME);
  self->have_seek = FALSE;
  GST_OBJECT_UNLOCK (self);
  g_clear_pointer (&self->name, g_free);
  self->started = FALSE;
  self->group_id = GST_GROUP_ID_INVALID;
  self->need_segment = self->discont = TRUE;
  self->at_end = FALSE;
  self->seqnum = gst_util_seqnum_next ();
  self->next = 0;
  self->step = 1;
  self->interval = 0;
  self->state = READ_LENGTH;
  gst_adapter_clear (self->adapter);
  self->offset = 0;
  self->json_size = 0;
  g_clear_pointer (&self->pts_table, g_free);
  self->own_seek = FALSE;
}

/* ---- opening a file ---- */

static void
find_name (GstDcaeDemux * self)
{
  GstQuery *query = gst_query_new_uri ();

  g_clear_pointer (&self->name, g_free);
  if (gst_pad_peer_query (self->sinkpad, query))
    gst_query_parse_uri (query, &self->name);
  gst_query_unref (query);
  if (self->name == NULL)
    self->name = g_strdup ("clip");
}

/* decodebin keeps an element's state locked while it tries it, and for a moment
 * after that throws away errors, which the pull task would be quick enough to
 * post: "all streams without buffers" would be all that people see of a bad
 * file. */
static void
await_state_unlocked (GstDcaeDemux * self)
{
  gint64 end = g_get_monotonic_time () + MAX_LOCKED_WAIT;

  while (gst_element_is_locked_state (GST_ELEMENT (self))
      && g_get_monotonic_time () < end)
    g_usleep (G_TIME_SPAN_MILLISECOND);
}

static void
find_size (GstDcaeDemux * self)
{
  gint64 size;

  if (gst_pad_peer_query_duration (self->sinkpad, GST_FORMAT_BYTES, &size)
      && size >= 0)
    self->file_size = size;
}

static gboolean
upstream_seeks (GstDcaeDemux * self)
{
  GstQuery *query = gst_query_new_seeking (GST_FORMAT_BYTES);
  gboolean seekable = FALSE;

  if (gst_pad_peer_query (self->sinkpad, query))
    gst_query_parse_seeking (query, NULL, &seekable, NULL, NULL);
  gst_query_unref (query);
  return seekable;
}

/* The file is shorter than the 8 bytes, or than the header these announce. */
static void
post_short_header (GstDcaeDemux * self)
{
  if (self->json_size == 0)
    GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE,
        ("%s: the file is empty or ends before the header's length.",
            self->name), (NULL));
  else
    GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE,
        ("%s: the file ends inside its header.", self->name),
        ("the header length is %" G_GSIZE_FORMAT " bytes", self->json_size));
}

static void
post_bad_file (GstDcaeDemux * self, GError * error)
{
  if (g_str_has_prefix (error->message, self->name))
    GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE, ("%s.", error->message),
        (NULL));
  else
    GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE, ("%s: %s.", self->name,
            error->message), (NULL));
  g_error_free (error);
}

static gboolean
parse_length (GstDcaeDemux * self, const guint8 * bytes)
{
  GError *error = NULL;

  if (!gst_dcae_clip_parse_length (bytes, self->name, &self->json_size,
          &error)) {
    post_bad_file (self, error);
    return FALSE;
  }
  if (self->file_size != SIZE_UNKNOWN && GST_DCAE_CLIP_LENGTH_BYTES
      + self->json_size > self->file_size) {
    post_short_header (self);
    return FALSE;
  }
  return TRUE;
}

/* How many frames of the header are in the file. */
static guint64
count_frames (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;
  guint64 bytes;

  if (self->file_size == SIZE_UNKNOWN)
    return clip->n_frames;
  bytes = self->file_size > clip->data_offset ?
      self->file_size - clip->data_offset : 0;
  return MIN (clip->n_frames, bytes / clip->frame_size);
}

static gboolean
check_size (GstDcaeDemux * self, guint64 n_frames)
{
  const GstDcaeClip *clip = &self->clip;

  if (clip->frame_size > MAX_FRAME_SIZE) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("%s: a frame of tensor 'latents' has %" G_GSIZE_FORMAT " bytes, more "
            "than the %d that can be played.", self->name, clip->frame_size,
            MAX_FRAME_SIZE), (NULL));
    return FALSE;
  }
  if (n_frames == 0 && (clip->n_frames > 0 || !clip->complete)) {
    GST_ELEMENT_ERROR (self, STREAM, DEMUX,
        ("%s: the clip was cut off before its first whole frame.", self->name),
        ("the header counts %" G_GUINT64_FORMAT " frames", clip->n_frames));
    return FALSE;
  }
  return TRUE;
}

static gboolean
is_too_long (GstDcaeDemux * self)
{
  return self->clip.complete && self->file_size != SIZE_UNKNOWN
      && self->file_size > self->clip.file_size;
}

static void
post_too_long (GstDcaeDemux * self)
{
  GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE,
      ("%s: the file is %" G_GUINT64_FORMAT " bytes longer than its header "
          "says.", self->name, self->file_size - self->clip.file_size), (NULL));
}

/* About files that play, but less than one would expect. */
static void
warn_short (GstDcaeDemux * self, guint64 n_frames)
{
  const GstDcaeClip *clip = &self->clip;

  if (n_frames < clip->n_frames)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s was cut short: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
            " frames play, at a constant rate.", self->name, n_frames,
            clip->n_frames), (NULL));
  else if (!clip->complete)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s was never finished: the %" G_GUINT64_FORMAT " frames up to the "
            "last update of its header play, at a constant rate.", self->name,
            n_frames), ("dcae-repair makes a whole file of it"));
  else if (self->file_size < clip->file_size)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s was cut short: its time stamps are missing, it plays at a "
            "constant rate.", self->name), (NULL));
  else if (n_frames == 0)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s has no frames.", self->name), (NULL));
}

/* Sets the caps' and the timeline's rate. */
static void
set_rate (GstDcaeDemux * self, guint64 n_frames)
{
  GstDcaeClip *clip = &self->clip;
  gint fps_n = clip->info.fps_n, fps_d = clip->info.fps_d;

  if (fps_n <= 0 || fps_d <= 0) {
    GST_OBJECT_LOCK (self);
    fps_n = self->fps_n;
    fps_d = self->fps_d;
    GST_OBJECT_UNLOCK (self);
  }
  if (clip->info.fps_d <= 0) {
    clip->info.fps_n = fps_n;
    clip->info.fps_d = fps_d;
  }
  gst_dcae_timeline_set_rate (&self->timeline, n_frames,
      GST_CLOCK_TIME_IS_VALID (clip->first_pts) ? clip->first_pts : 0, fps_n,
      fps_d);
}

/* Takes over a header. On TRUE all is known but the tables. */
static gboolean
parse_json (GstDcaeDemux * self, const guint8 * json, gsize size)
{
  GError *error = NULL;
  guint64 n_frames;

  if (!gst_dcae_clip_parse (&self->clip, json, size, self->name, &error)) {
    post_bad_file (self, error);
    return FALSE;
  }
  n_frames = count_frames (self);
  if (!check_size (self, n_frames))
    return FALSE;
  warn_short (self, n_frames);
  if (self->clip.tags_unreadable)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s: metadata dcae.tags can't be read, the clip plays without tags.",
            self->name), (NULL));
  set_rate (self, n_frames);
  return TRUE;
}

/* Whether there are tables and all of them, and all of the frames, are
 * there. */
static gboolean
has_tables (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;

  return (clip->pts_table || clip->duration_table) && clip->n_frames > 0
      && self->file_size != SIZE_UNKNOWN
      && self->file_size >= clip->file_size
      && clip->n_frames <= G_MAXINT / 8;
}

static gboolean
set_tables (GstDcaeDemux * self, const guint8 * pts, const guint8 * duration)
{
  GError *error = NULL;

  if (gst_dcae_timeline_set_tables (&self->timeline, pts, duration, &error))
    return TRUE;
  GST_ELEMENT_ERROR (self, STREAM, FORMAT, ("%s: %s.", self->name,
          error->message), (NULL));
  g_error_free (error);
  return FALSE;
}

/* All is known: the clip begins with its first frame, wherever that is. */
static void
finish_open (GstDcaeDemux * self)
{
  GstSegment *segment = &self->segment;

  GST_OBJECT_LOCK (self);
  gst_segment_init (segment, GST_FORMAT_TIME);
  if (self->timeline.n_frames > 0)
    segment->start = segment->time = segment->position =
        gst_dcae_timeline_pts (&self->timeline, 0);
  segment->duration = self->timeline.end;
  self->reached = segment->position;
  self->next = 0;
  self->need_segment = TRUE;
  self->open = TRUE;
  GST_OBJECT_UNLOCK (self);
  GST_INFO_OBJECT (self, "%s: %" G_GUINT64_FORMAT " frames of %dx%dx%d, %s",
      self->name, self->timeline.n_frames, self->clip.info.latent_channels,
      self->clip.info.latent_height, self->clip.info.latent_width,
      self->timeline.pts ? "with time stamps" : "at a constant rate");
}

/* ---- sending ---- */

static gboolean
is_stream_tag (const gchar * tag)
{
  static const gchar *const names[] = {
    GST_TAG_VIDEO_CODEC, GST_TAG_CODEC, GST_TAG_ENCODER,
    GST_TAG_ENCODER_VERSION, GST_TAG_BITRATE, GST_TAG_NOMINAL_BITRATE,
    GST_TAG_MAXIMUM_BITRATE, GST_TAG_MINIMUM_BITRATE, GST_TAG_LANGUAGE_CODE,
    GST_TAG_IMAGE_ORIENTATION, NULL
  };

  return g_strv_contains (names, tag);
}

static void
push_tags (GstDcaeDemux * self)
{
  const GstTagList *stored = self->clip.tags;
  GstTagList *global = gst_tag_list_new_empty ();
  GstTagList *stream = gst_tag_list_new_empty ();
  gint i, n = stored ? gst_tag_list_n_tags (stored) : 0;
  guint k;

  gst_tag_list_set_scope (global, GST_TAG_SCOPE_GLOBAL);
  gst_tag_list_add (stream, GST_TAG_MERGE_APPEND, GST_TAG_VIDEO_CODEC,
      GST_DCAE_LATENT_CODEC_NAME, NULL);
  for (i = 0; i < n; i++) {
    const gchar *tag = gst_tag_list_nth_tag_name (stored, i);
    GstTagList *list = is_stream_tag (tag) ? stream : global;

    if (g_str_equal (tag, GST_TAG_CONTAINER_FORMAT)
        || g_str_equal (tag, GST_TAG_VIDEO_CODEC))
      continue;
    for (k = 0; k < gst_tag_list_get_tag_size (stored, tag); k++)
      gst_tag_list_add_value (list, GST_TAG_MERGE_APPEND, tag,
          gst_tag_list_get_value_index (stored, tag, k));
  }
  gst_tag_list_add (global, GST_TAG_MERGE_REPLACE, GST_TAG_CONTAINER_FORMAT,
      GST_DCAE_CLIP_CONTAINER_NAME, NULL);
  gst_pad_push_event (self->srcpad, gst_event_new_tag (global));
  gst_pad_push_event (self->srcpad, gst_event_new_tag (stream));
}

static void
push_start (GstDcaeDemux * self)
{
  GstEvent *event;
  GstCaps *caps;
  gchar *id;

  id = gst_pad_create_stream_id (self->srcpad, GST_ELEMENT (self), NULL);
  event = gst_event_new_stream_start (id);
  g_free (id);
  if (self->group_id == GST_GROUP_ID_INVALID)
    self->group_id = gst_util_group_id_next ();
  gst_event_set_group_id (event, self->group_id);
  gst_pad_push_event (self->srcpad, event);

  caps = gst_dcae_latent_info_to_caps (&self->clip.info);
  GST_DEBUG_OBJECT (self, "caps %" GST_PTR_FORMAT, caps);
  gst_pad_push_event (self->srcpad, gst_event_new_caps (caps));
  gst_caps_unref (caps);
}

/* What has to come before the next frame. */
static void
push_pending_events (GstDcaeDemux * self)
{
  GstEvent *event;
  gboolean first = !self->started;

  if (first) {
    push_start (self);
    self->started = TRUE;
  }
  if (self->need_segment) {
    event = gst_event_new_segment (&self->segment);
    gst_event_set_seqnum (event, self->seqnum);
    gst_pad_push_event (self->srcpad, event);
    self->need_segment = FALSE;
  }
  if (first)
    push_tags (self);
}

/* Whether the segment has no further frame. */
static gboolean
is_done (GstDcaeDemux * self)
{
  const GstSegment *segment = &self->segment;
  const GstDcaeTimeline *timeline = &self->timeline;
  GstClockTime pts;

  if (self->next >= timeline->n_frames)
    return TRUE;
  pts = gst_dcae_timeline_pts (timeline, self->next);
  if (segment->rate < 0)
    return pts <= segment->start
        && gst_dcae_timeline_frame_end (timeline, self->next) <= segment->start;
  return GST_CLOCK_TIME_IS_VALID (segment->stop) && pts >= segment->stop
      && pts > segment->start;
}

/* The frame step frames on; n_frames or more where there is none. Backwards
 * from frame 0 that is a number that no clip has. */
static guint64
step_from (GstDcaeDemux * self, guint64 frame)
{
  if (self->segment.rate > 0)
    return frame + self->step;
  return frame >= self->step ? frame - self->step : G_MAXUINT64;
}

/* Goes on to the next frame that is to be sent. */
static void
advance (GstDcaeDemux * self)
{
  const GstDcaeTimeline *timeline = &self->timeline;
  GstClockTime from = gst_dcae_timeline_pts (timeline, self->next);
  GstClockTime to;

  for (self->next = step_from (self, self->next);
      self->next < timeline->n_frames;
      self->next = step_from (self, self->next)) {
    to = gst_dcae_timeline_pts (timeline, self->next);
    if ((to > from ? to - from : from - to) >= self->interval)
      return;
  }
}

static GstFlowReturn
push_frame (GstDcaeDemux * self, GstBuffer * buffer)
{
  const GstDcaeTimeline *timeline = &self->timeline;
  guint64 frame = self->next;

  push_pending_events (self);
  buffer = gst_buffer_make_writable (buffer);
  GST_BUFFER_PTS (buffer) = gst_dcae_timeline_pts (timeline, frame);
  GST_BUFFER_DTS (buffer) = GST_CLOCK_TIME_NONE;
  GST_BUFFER_DURATION (buffer) =
      gst_dcae_timeline_frame_end (timeline, frame) - GST_BUFFER_PTS (buffer);
  GST_BUFFER_OFFSET (buffer) = frame;
  GST_BUFFER_OFFSET_END (buffer) = frame + 1;
  GST_BUFFER_FLAG_UNSET (buffer, GST_BUFFER_FLAG_DELTA_UNIT);
  if (self->discont || self->step > 1 || self->segment.rate < 0)
    GST_BUFFER_FLAG_SET (buffer, GST_BUFFER_FLAG_DISCONT);
  else
    GST_BUFFER_FLAG_UNSET (buffer, GST_BUFFER_FLAG_DISCONT);
  self->discont = FALSE;
  GST_OBJECT_LOCK (self);
  self->segment.position = self->reached = GST_BUFFER_PTS (buffer);
  if (self->segment.rate > 0)
    self->reached += GST_BUFFER_DURATION (buffer);
  GST_OBJECT_UNLOCK (self);
  GST_LOG_OBJECT (self, "frame %" G_GUINT64_FORMAT " at %" GST_TIME_FORMAT,
      frame, GST_TIME_ARGS (GST_BUFFER_PTS (buffer)));
  advance (self);
  return gst_pad_push (self->srcpad, buffer);
}

/* After the last frame: EOS, or the end of a segment seek. */
static void
push_end (GstDcaeDemux * self)
{
  GstSegment *segment = &self->segment;
  GstClockTime end;
  GstMessage *message;
  GstEvent *event;

  if (self->at_end)
    return;
  self->at_end = TRUE;
  if (self->open)
    push_pending_events (self);
  if (!(segment->flags & GST_SEGMENT_FLAG_SEGMENT)) {
    event = gst_event_new_eos ();
    gst_event_set_seqnum (event, self->seqnum);
    gst_pad_push_event (self->srcpad, event);
    return;
  }
  end = segment->rate < 0 ? segment->start :
      GST_CLOCK_TIME_IS_VALID (segment->stop) ? segment->stop :
      self->timeline.end;
  GST_OBJECT_LOCK (self);
  segment->position = self->reached = end;
  GST_OBJECT_UNLOCK (self);
  message = gst_message_new_segment_done (GST_OBJECT (self), GST_FORMAT_TIME,
      end);
  gst_message_set_seqnum (message, self->seqnum);
  gst_element_post_message (GST_ELEMENT (self), message);
  event = gst_event_new_segment_done (GST_FORMAT_TIME, end);
  gst_event_set_seqnum (event, self->seqnum);
  gst_pad_push_event (self->srcpad, event);
}

/* ---- pull mode ---- */

/* GST_FLOW_EOS where the file ends before. */
static GstFlowReturn
pull (GstDcaeDemux * self, guint64 offset, gsize size, GstBuffer ** buffer)
{
  GstFlowReturn ret;

  *buffer = NULL;
  ret = gst_pad_pull_range (self->sinkpad, offset, size, buffer);
  if (ret == GST_FLOW_OK && gst_buffer_get_size (*buffer) < size) {
    gst_clear_buffer (buffer);
    ret = GST_FLOW_EOS;
  }
  return ret;
}

static GstFlowReturn
pull_header (GstDcaeDemux * self)
{
  GstBuffer *buffer;
  GstMapInfo map;
  GstFlowReturn ret;
  gboolean ok;

  await_state_unlocked (self);
  find_name (self);
  find_size (self);
  ret = pull (self, 0, GST_DCAE_CLIP_LENGTH_BYTES, &buffer);
  if (ret == GST_FLOW_OK) {
    gst_buffer_map (buffer, &map, GST_MAP_READ);
    ok = parse_length (self, map.data);
    gst_buffer_unmap (buffer, &map);
    gst_buffer_unref (buffer);
    if (!ok)
      return GST_FLOW_ERROR;
    ret = pull (self, GST_DCAE_CLIP_LENGTH_BYTES, self->json_size, &buffer);
  }
  if (ret == GST_FLOW_EOS) {
    post_short_header (self);
    return GST_FLOW_ERROR;
  }
  if (ret != GST_FLOW_OK)
    return ret;
  gst_buffer_map (buffer, &map, GST_MAP_READ);
  ok = parse_json (self, map.data, map.size);
  gst_buffer_unmap (buffer, &map);
  gst_buffer_unref (buffer);
  if (ok && is_too_long (self)) {
    post_too_long (self);
    ok = FALSE;
  }
  return ok ? GST_FLOW_OK : GST_FLOW_ERROR;
}

static GstFlowReturn
pull_tables (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;
  gsize size = 8 * clip->n_frames;
  GstBuffer *pts = NULL, *duration = NULL;
  GstMapInfo pts_map, duration_map;
  GstFlowReturn ret = GST_FLOW_OK;

  if (clip->pts_table)
    ret = pull (self, clip->pts_offset, size, &pts);
  if (ret == GST_FLOW_OK && clip->duration_table)
    ret = pull (self, clip->duration_offset, size, &duration);
  if (ret == GST_FLOW_OK) {
    if (pts)
      gst_buffer_map (pts, &pts_map, GST_MAP_READ);
    if (duration)
      gst_buffer_map (duration, &duration_map, GST_MAP_READ);
    if (!set_tables (self, pts ? pts_map.data : NULL,
            duration ? duration_map.data : NULL))
      ret = GST_FLOW_ERROR;
    if (pts)
      gst_buffer_unmap (pts, &pts_map);
    if (duration)
      gst_buffer_unmap (duration, &duration_map);
  } else if (ret == GST_FLOW_EOS) {
    GST_ELEMENT_ERROR (self, RESOURCE, READ,
        ("%s: the file became shorter while it was read.", self->name), (NULL));
    ret = GST_FLOW_ERROR;
  }
  gst_clear_buffer (&pts);
  gst_clear_buffer (&duration);
  return ret;
}

static GstFlowReturn
pull_open (GstDcaeDemux * self)
{
  GstFlowReturn ret = pull_header (self);

  if (ret == GST_FLOW_OK && has_tables (self))
    ret = pull_tables (self);
  if (ret == GST_FLOW_OK) {
    self->seekable = TRUE;
    finish_open (self);
  }
  return ret;
}

static GstFlowReturn
pull_frame (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;
  GstBuffer *buffer;
  GstFlowReturn ret;

  ret = pull (self, clip->data_offset + self->next * clip->frame_size,
      clip->frame_size, &buffer);
  if (ret == GST_FLOW_OK)
    return push_frame (self, buffer);
  if (ret == GST_FLOW_EOS)
    GST_ELEMENT_WARNING (self, STREAM, DEMUX,
        ("%s ends inside frame %" G_GUINT64_FORMAT ".", self->name,
            self->next), (NULL));
  return ret;
}

static void
gst_dcae_demux_loop (GstPad * pad)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (GST_PAD_PARENT (pad));
  GstFlowReturn ret = GST_FLOW_OK;

  if (!self->open)
    ret = pull_open (self);
  if (ret == GST_FLOW_OK)
    ret = is_done (self) ? GST_FLOW_EOS : pull_frame (self);
  if (ret == GST_FLOW_OK)
    return;

  GST_DEBUG_OBJECT (self, "pausing: %s", gst_flow_get_name (ret));
  gst_pad_pause_task (pad);
  if (ret == GST_FLOW_FLUSHING)
    return;
  if (ret == GST_FLOW_NOT_LINKED || ret == GST_FLOW_NOT_NEGOTIATED)
    GST_ELEMENT_FLOW_ERROR (self, ret);
  push_end (self);
}

/* ---- push mode ---- */

/* A buffer of its own memory, aligned for its elements. */
static GstBuffer *
take_frame (GstDcaeDemux * self)
{
  gsize size = self->clip.frame_size;
  gsize element = gst_dcae_latent_format_size (self->clip.info.format);
  GstBuffer *buffer = gst_adapter_take_buffer_fast (self->adapter, size);
  GstBuffer *copy;
  GstMapInfo map;

  if (buffer == NULL || !gst_buffer_map (buffer, &map, GST_MAP_READ))
    return buffer;
  if (GPOINTER_TO_SIZE (map.data) % element == 0) {
    gst_buffer_unmap (buffer, &map);
    return buffer;
  }
  copy = gst_buffer_new_memdup (map.data, map.size);
  gst_buffer_unmap (buffer, &map);
  gst_buffer_unref (buffer);
  return copy;
}

/* Makes upstream go on from another place of the file. The flush reaches this
 * element from within. */
static gboolean
seek_upstream (GstDcaeDemux * self, guint64 offset)
{
  gboolean ok;

  GST_DEBUG_OBJECT (self, "reading on from byte %" G_GUINT64_FORMAT, offset);
  self->own_seek = TRUE;
  ok = gst_pad_push_event (self->sinkpad, gst_event_new_seek (1.0,
          GST_FORMAT_BYTES, GST_SEEK_FLAG_FLUSH | GST_SEEK_FLAG_ACCURATE,
          GST_SEEK_TYPE_SET, offset, GST_SEEK_TYPE_NONE, -1));
  self->own_seek = FALSE;
  if (ok) {
    gst_adapter_clear (self->adapter);
    self->offset = offset;
  }
  return ok;
}

static void
begin_frames (GstDcaeDemux * self)
{
  finish_open (self);
  self->state = READ_FRAMES;
}

/* After the header: the tables, which are at the end, or the frames. */
static GstFlowReturn
begin_tables (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;
  gboolean pts = clip->pts_table;

  self->seekable = upstream_seeks (self);
  if (is_too_long (self)) {
    if (self->seekable && seek_upstream (self, self->offset)) {
      post_too_long (self);
      return GST_FLOW_ERROR;
    }
    GST_INFO_OBJECT (self, "the size is that of something around the clip");
    self->file_size = SIZE_UNKNOWN;
  }
  if (!self->seekable || !has_tables (self)
      || !seek_upstream (self, pts ? clip->pts_offset : clip->duration_offset))
    begin_frames (self);
  else
    self->state = pts ? READ_PTS : READ_DURATION;
  return GST_FLOW_OK;
}

/* The adapter holds the table that state names. */
static GstFlowReturn
take_table (GstDcaeDemux * self)
{
  const GstDcaeClip *clip = &self->clip;
  gsize size = 8 * clip->n_frames;
  guint8 *table = gst_adapter_take (self->adapter, size);
  gboolean ok = TRUE;

  self->offset += size;
  if (self->state == READ_PTS && clip->duration_table) {
    self->pts_table = table;
    self->state = READ_DURATION;
    if (self->offset == clip->duration_offset)
      return GST_FLOW_OK;
    ok = seek_upstream (self, clip->duration_offset);
  } else {
    if (self->state == READ_PTS)
      ok = set_tables (self, table, NULL);
    else
      ok = set_tables (self, self->pts_table, table);
    g_free (table);
    g_clear_pointer (&self->pts_table, g_free);
    if (!ok)
      return GST_FLOW_ERROR;
    ok = seek_upstream (self, clip->data_offset);
    begin_frames (self);
  }
  if (!ok) {
    GST_ELEMENT_ERROR (self, RESOURCE, SEEK,
        ("%s: could not seek in the file.", self->name), (NULL));
    return GST_FLOW_ERROR;
  }
  return GST_FLOW_OK;
}

static GstFlowReturn
take_length (GstDcaeDemux * self)
{
  guint8 bytes[GST_DCAE_CLIP_LENGTH_BYTES];

  await_state_unlocked (self);
  find_name (self);
  find_size (self);
  gst_adapter_copy (self->adapter, bytes, 0, sizeof (bytes));
  gst_adapter_flush (self->adapter, sizeof (bytes));
  self->offset += sizeof (bytes);
  self->state = READ_JSON;
  return parse_length (self, bytes) ? GST_FLOW_OK : GST_FLOW_ERROR;
}

static GstFlowReturn
take_json (GstDcaeDemux * self)
{
  gboolean ok;

  ok = parse_json (self, gst_adapter_map (self->adapter, self->json_size),
      self->json_size);
  gst_adapter_unmap (self->adapter);
  gst_adapter_flush (self->adapter, self->json_size);
  self->offset += self->json_size;
  return ok ? begin_tables (self) : GST_FLOW_ERROR;
}

/* Drops what comes before the next frame, where that is. FALSE: more is
 * needed. */
static gboolean
skip_to_frame (GstDcaeDemux * self)
{
  guint64 wanted = self->clip.data_offset + self->next * self->clip.frame_size;
  gsize n;

  if (wanted <= self->offset)
    return TRUE;
  n = MIN (wanted - self->offset, gst_adapter_available (self->adapter));
  gst_adapter_flush (self->adapter, n);
  self->offset += n;
  return self->offset == wanted;
}

static GstFlowReturn
take_frames (GstDcaeDemux * self)
{
  GstFlowReturn ret = GST_FLOW_OK;
  GstBuffer *buffer;

  while (ret == GST_FLOW_OK && self->state == READ_FRAMES) {
    if (is_done (self)) {
      self->state = READ_NOTHING;
      push_end (self);
      return GST_FLOW_EOS;
    }
    if (!skip_to_frame (self) || gst_adapter_available (self->adapter)
        < self->clip.frame_size)
      return GST_FLOW_OK;
    buffer = take_frame (self);
    self->offset += self->clip.frame_size;
    ret = push_frame (self, buffer);
  }
  return ret;
}

static GstFlowReturn
gst_dcae_demux_chain (GstPad * pad, GstObject * parent, GstBuffer * buffer)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (parent);
  GstFlowReturn ret = GST_FLOW_OK;
  ReadState before;
  gsize needed;

  gst_adapter_push (self->adapter, buffer);
  do {
    before = self->state;
    needed = before == READ_LENGTH ? GST_DCAE_CLIP_LENGTH_BYTES :
        before == READ_JSON ? self->json_size :
        before == READ_FRAMES || before == READ_NOTHING ? 0 :
        8 * self->clip.n_frames;
    if (gst_adapter_available (self->adapter) < needed)
      break;
    switch (before) {
      case READ_LENGTH:
        ret = take_length (self);
        break;
      case READ_JSON:
        ret = take_json (self);
        break;
      case READ_PTS:
      case READ_DURATION:
        ret = take_table (self);
        break;
      case READ_FRAMES:
        ret = take_frames (self);
        break;
      case READ_NOTHING:
        gst_adapter_clear (self->adapter);
        return self->at_end ? GST_FLOW_EOS : GST_FLOW_ERROR;
    }
  } while (ret == GST_FLOW_OK && self->state != before);
  if (ret == GST_FLOW_ERROR || ret == GST_FLOW_NOT_NEGOTIATED)
    self->state = READ_NOTHING;
  return ret;
}

/* The stream ended; FALSE where that was an error. */
static gboolean
check_end (GstDcaeDemux * self)
{
  if (self->name == NULL)
    find_name (self);
  switch (self->state) {
    case READ_LENGTH:
    case READ_JSON:
      post_short_header (self);
      return FALSE;
    case READ_PTS:
    case READ_DURATION:
      GST_ELEMENT_ERROR (self, RESOURCE, READ,
          ("%s: the file became shorter while it was read.", self->name),
          (NULL));
      return FALSE;
    case READ_FRAMES:
      if (is_done (self))
        return TRUE;
      if (!self->started && self->next == 0) {
        GST_ELEMENT_ERROR (self, STREAM, DEMUX,
            ("%s: the clip was cut off before its first whole frame.",
                self->name), (NULL));
        return FALSE;
      }
      warn_short (self, self->next);
      return TRUE;
    case READ_NOTHING:
      break;
  }
  return TRUE;
}

/* Upstream goes on from another byte: after a seek of ours, or of others. */
static void
begin_segment (GstDcaeDemux * self, const GstSegment * bytes)
{
  const GstDcaeClip *clip = &self->clip;
  guint64 frame;

  gst_adapter_clear (self->adapter);
  self->offset = bytes->start;
  GST_OBJECT_LOCK (self);
  if (self->have_seek && self->seek_offset == bytes->start) {
    gst_segment_copy_into (&self->seek_segment, &self->segment);
    self->reached = self->segment.position;
    self->next = self->seek_frame;
    self->seqnum = self->seek_seqnum;
    self->step = self->seek_step;
    self->interval = self->seek_interval;
    self->have_seek = FALSE;
  } else {
    frame = bytes->start > clip->data_offset ?
        (bytes->start - clip->data_offset + clip->frame_size - 1)
        / clip->frame_size : 0;
    self->next = MIN (frame, self->timeline.n_frames);
    if (self->next < self->timeline.n_frames)
      self->segment.start = self->segment.time = self->segment.position =
          gst_dcae_timeline_pts (&self->timeline, self->next);
  }
  GST_OBJECT_UNLOCK (self);
  self->state = READ_FRAMES;
  self->need_segment = self->discont = TRUE;
  self->at_end = FALSE;
}

static void
handle_segment (GstDcaeDemux * self, GstEvent * event)
{
  const GstSegment *segment;

  gst_event_parse_segment (event, &segment);
  if (segment->format == GST_FORMAT_BYTES && self->open
      && (self->state == READ_FRAMES || self->state == READ_NOTHING)
      && (self->have_seek || segment->start != self->offset))
    begin_segment (self, segment);
}

static void
handle_stream_start (GstDcaeDemux * self, GstEvent * event)
{
  guint group;

  if (gst_event_parse_group_id (event, &group))
    self->group_id = group;
}

static gboolean
gst_dcae_demux_sink_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (parent);

  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_STREAM_START:
      handle_stream_start (self, event);
      break;
    case GST_EVENT_CAPS:
    case GST_EVENT_TAG:
      break;
    case GST_EVENT_SEGMENT:
      handle_segment (self, event);
      break;
    case GST_EVENT_FLUSH_START:
      if (!self->own_seek)
        return gst_pad_event_default (pad, parent, event);
      break;
    case GST_EVENT_FLUSH_STOP:
      gst_adapter_clear (self->adapter);
      if (self->own_seek)
        break;
      self->discont = self->need_segment = TRUE;
      self->at_end = FALSE;
      return gst_pad_event_default (pad, parent, event);
    case GST_EVENT_EOS:
      check_end (self);
      push_end (self);
      break;
    default:
      return gst_pad_event_default (pad, parent, event);
  }
  gst_event_unref (event);
  return TRUE;
}

/* ---- seeking ---- */

/* A seek, worked out. */
typedef struct
{
  GstSegment segment;
  guint64 frame;
  guint step;
  GstClockTime interval;
  guint32 seqnum;
  gboolean flush;
} Seek;

/* Moves a time to the border of a frame. after: to a later one, before: to an
 * earlier one, both: to the nearer one. */
static GstClockTime
snap (const GstDcaeTimeline * timeline, GstClockTime time, gboolean before,
    gboolean after)
{
  guint64 next = gst_dcae_timeline_frame_from (timeline, time);
  GstClockTime later = next < timeline->n_frames ?
      gst_dcae_timeline_pts (timeline, next) : timeline->end;
  GstClockTime earlier = next > 0 ?
      gst_dcae_timeline_pts (timeline, next - 1) : later;

  if (later == time)
    return time;
  if (before && after)
    return time - earlier <= later - time ? earlier : later;
  return after ? later : earlier;
}

static void
snap_segment (const GstDcaeTimeline * timeline, GstSegment * segment,
    GstSeekFlags flags)
{
  gboolean before = (flags & GST_SEEK_FLAG_SNAP_BEFORE) != 0;
  gboolean after = (flags & GST_SEEK_FLAG_SNAP_AFTER) != 0;
  GstClockTime stop;

  if (segment->rate < 0) {
    /* Before and after are meant in the direction of playback. */
    stop = snap (timeline, segment->stop, after, before || !after);
    segment->stop = segment->position = MAX (stop, segment->start);
    return;
  }
  segment->start = snap (timeline, segment->start, before || !after, after);
  /* A start at the very end has no frame to show. */
  if (segment->start >= timeline->end)
    segment->start = gst_dcae_timeline_pts (timeline, timeline->n_frames - 1);
  segment->time = segment->position = segment->start;
}

/* Which frame a segment begins with. */
static guint64
first_frame (const GstDcaeTimeline * timeline, const GstSegment * segment)
{
  guint64 frame;

  if (segment->rate > 0)
    return gst_dcae_timeline_frame_at (timeline, segment->start);
  frame = gst_dcae_timeline_frame_from (timeline, segment->stop);
  return frame > 0 ? frame - 1 : G_MAXUINT64;
}

/* Where one end of a seek will be; "none" keeps that of the segment. */
static GstClockTime
seek_position (GstSeekType type, gint64 value, GstClockTime kept,
    GstClockTime duration)
{
  if (type == GST_SEEK_TYPE_NONE)
    return kept;
  if (type == GST_SEEK_TYPE_END)
    value += duration;
  else if (value == -1)
    return GST_CLOCK_TIME_NONE;
  return CLAMP (value, 0, (gint64) duration);
}

/* gst_segment_do_seek() asserts this. */
static gboolean
is_possible (const GstSegment * segment, GstSeekType start_type, gint64 start,
    GstSeekType stop_type, gint64 stop)
{
  GstClockTime from, to;

  from = seek_position (start_type, start, segment->start, segment->duration);
  to = seek_position (stop_type, stop, segment->stop, segment->duration);
  return !GST_CLOCK_TIME_IS_VALID (to) || (GST_CLOCK_TIME_IS_VALID (from)
      && from <= to);
}

static gboolean
work_out_seek (GstDcaeDemux * self, GstEvent * event, Seek * seek)
{
  const GstDcaeTimeline *timeline = &self->timeline;
  GstSegment *segment = &seek->segment;
  GstSeekFlags flags;
  GstFormat format;
  GstSeekType start_type, stop_type;
  gint64 start, stop;
  gdouble rate;

  gst_event_parse_seek (event, &rate, &format, &flags, &start_type, &start,
      &stop_type, &stop);
  gst_event_parse_seek_trickmode_interval (event, &seek->interval);
  seek->seqnum = gst_event_get_seqnum (event);
  seek->flush = (flags & GST_SEEK_FLAG_FLUSH) != 0;
  if (format != GST_FORMAT_TIME || (flags & GST_SEEK_FLAG_INSTANT_RATE_CHANGE)
      || !self->open || !self->seekable || timeline->n_frames == 0)
    return FALSE;

  gst_segment_copy_into (&self->segment, segment);
  segment->position = self->reached;
  if (!is_possible (segment, start_type, start, stop_type, stop)
      || !gst_segment_do_seek (segment, rate, format, flags, start_type, start,
          stop_type, stop, NULL))
    return FALSE;
  if (rate < 0 && !GST_CLOCK_TIME_IS_VALID (segment->stop))
    segment->stop = segment->position = timeline->end;
  if (flags & GST_SEEK_FLAG_KEY_UNIT)
    snap_segment (timeline, segment, flags);
  /* Nothing is shown before the first frame: do not wait for it. */
  start = gst_dcae_timeline_pts (timeline, 0);
  if (rate > 0 && segment->start < (guint64) start
      && (!GST_CLOCK_TIME_IS_VALID (segment->stop)
          || segment->stop > (guint64) start))
    segment->start = segment->time = segment->position = start;
  seek->frame = first_frame (timeline, segment);
  seek->step = 1;
  if ((flags & (GST_SEEK_FLAG_TRICKMODE | GST_SEEK_FLAG_TRICKMODE_KEY_UNITS))
      && ABS (rate) > 1)
    seek->step = MIN (ABS (rate), G_MAXINT);
  if (!(flags & (GST_SEEK_FLAG_TRICKMODE | GST_SEEK_FLAG_TRICKMODE_KEY_UNITS)))
    seek->interval = 0;
  return TRUE;
}

static void
push_flush (GstDcaeDemux * self, GstEvent * event, guint32 seqnum)
{
  gst_event_set_seqnum (event, seqnum);
  gst_pad_push_event (self->sinkpad, gst_event_ref (event));
  gst_pad_push_event (self->srcpad, event);
}

static gboolean
seek_pull (GstDcaeDemux * self, GstEvent * event)
{
  guint32 seqnum = gst_event_get_seqnum (event);
  GstSeekFlags flags;
  GstMessage *message;
  Seek seek;
  gboolean ok;

  gst_event_parse_seek (event, NULL, NULL, &flags, NULL, NULL, NULL, NULL);
  GST_OBJECT_LOCK (self);
  ok = work_out_seek (self, event, &seek);
  GST_OBJECT_UNLOCK (self);
  if (!ok)
    return FALSE;
  if (seek.flush)
    push_flush (self, gst_event_new_flush_start (), seqnum);
  else
    gst_pad_pause_task (self->sinkpad);

  GST_PAD_STREAM_LOCK (self->sinkpad);
  if (seek.flush)
    push_flush (self, gst_event_new_flush_stop (TRUE), seqnum);
  GST_OBJECT_LOCK (self);
  /* Again, now that nothing plays on: a seek without flush goes on from the
   * position. */
  ok = work_out_seek (self, event, &seek);
  if (ok) {
    gst_segment_copy_into (&seek.segment, &self->segment);
    self->reached = seek.segment.position;
    self->next = seek.frame;
    self->step = seek.step;
    self->interval = seek.interval;
    self->seqnum = seqnum;
    self->need_segment = self->discont = TRUE;
    self->at_end = FALSE;
  }
  GST_OBJECT_UNLOCK (self);
  if (flags & GST_SEEK_FLAG_SEGMENT) {
    message = gst_message_new_segment_start (GST_OBJECT (self),
        GST_FORMAT_TIME, self->segment.position);
    gst_message_set_seqnum (message, seqnum);
    gst_element_post_message (GST_ELEMENT (self), message);
  }
  gst_pad_start_task (self->sinkpad, (GstTaskFunction) gst_dcae_demux_loop,
      self->sinkpad, NULL);
  GST_PAD_STREAM_UNLOCK (self->sinkpad);
  return ok;
}

/* Only forwards, and only with a flush: upstream reads in its own order. */
static gboolean
seek_push (GstDcaeDemux * self, GstEvent * event)
{
  GstEvent *bytes;
  guint64 offset;
  Seek seek;
  gboolean ok;

  GST_OBJECT_LOCK (self);
  ok = work_out_seek (self, event, &seek) && seek.flush
      && seek.segment.rate > 0;
  if (ok) {
    offset = self->clip.data_offset + MIN (seek.frame,
        self->timeline.n_frames) * self->clip.frame_size;
    self->have_seek = TRUE;
    gst_segment_copy_into (&seek.segment, &self->seek_segment);
    self->seek_frame = seek.frame;
    self->seek_offset = offset;
    self->seek_seqnum = seek.seqnum;
    self->seek_step = seek.step;
    self->seek_interval = seek.interval;
  }
  GST_OBJECT_UNLOCK (self);
  if (!ok)
    return FALSE;
  bytes = gst_event_new_seek (1.0, GST_FORMAT_BYTES, GST_SEEK_FLAG_FLUSH
      | GST_SEEK_FLAG_ACCURATE, GST_SEEK_TYPE_SET, offset, GST_SEEK_TYPE_NONE,
      -1);
  gst_event_set_seqnum (bytes, seek.seqnum);
  ok = gst_pad_push_event (self->sinkpad, bytes);
  if (!ok) {
    GST_OBJECT_LOCK (self);
    self->have_seek = FALSE;
    GST_OBJECT_UNLOCK (self);
  }
  return ok;
}

static gboolean
gst_dcae_demux_src_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (parent);
  gboolean ok;

  if (GST_EVENT_TYPE (event) != GST_EVENT_SEEK)
    return gst_pad_event_default (pad, parent, event);
  ok = self->pull ? seek_pull (self, event) : seek_push (self, event);
  GST_DEBUG_OBJECT (self, "%" GST_PTR_FORMAT ": %s", event,
      ok ? "done" : "refused");
  gst_event_unref (event);
  return ok;
}

/* ---- queries ---- */

/* Which frame is shown at a time, counted from 0; n_frames after the end. */
static guint64
frame_of_time (GstDcaeDemux * self, GstClockTime time)
{
  if (time >= self->timeline.end)
    return self->timeline.n_frames;
  return gst_dcae_timeline_frame_at (&self->timeline, time);
}

static gboolean
convert (GstDcaeDemux * self, GstFormat from, gint64 value, GstFormat to,
    gint64 * result)
{
  const GstDcaeClip *clip = &self->clip;
  guint64 frame;

  if (from == to || value == -1) {
    *result = value;
    return TRUE;
  }
  if (value < 0 || self->timeline.n_frames == 0)
    return FALSE;
  switch (from) {
    case GST_FORMAT_TIME:
      frame = frame_of_time (self, value);
      break;
    case GST_FORMAT_DEFAULT:
      frame = MIN ((guint64) value, self->timeline.n_frames);
      break;
    case GST_FORMAT_BYTES:
      frame = (guint64) value > clip->data_offset ?
          (value - clip->data_offset) / clip->frame_size : 0;
      frame = MIN (frame, self->timeline.n_frames);
      break;
    default:
      return FALSE;
  }
  switch (to) {
    case GST_FORMAT_TIME:
      *result = frame < self->timeline.n_frames ?
          gst_dcae_timeline_pts (&self->timeline, frame) : self->timeline.end;
      return TRUE;
    case GST_FORMAT_DEFAULT:
      *result = frame;
      return TRUE;
    case GST_FORMAT_BYTES:
      *result = clip->data_offset + frame * clip->frame_size;
      return TRUE;
    default:
      return FALSE;
  }
}

static gboolean
answer_position (GstDcaeDemux * self, GstQuery * query)
{
  GstFormat format;
  gint64 value;

  gst_query_parse_position (query, &format, NULL);
  if (!convert (self, GST_FORMAT_TIME, self->segment.position, format, &value))
    return FALSE;
  gst_query_set_position (query, format, value);
  return TRUE;
}

static gboolean
answer_duration (GstDcaeDemux * self, GstQuery * query)
{
  GstFormat format;
  gint64 value;

  gst_query_parse_duration (query, &format, NULL);
  if (format == GST_FORMAT_TIME)
    value = self->timeline.end;
  else if (format == GST_FORMAT_DEFAULT)
    value = self->timeline.n_frames;
  else if (format == GST_FORMAT_BYTES && self->file_size != SIZE_UNKNOWN)
    value = self->file_size;
  else
    return FALSE;
  gst_query_set_duration (query, format, value);
  return TRUE;
}

static gboolean
answer_seeking (GstDcaeDemux * self, GstQuery * query)
{
  gboolean seekable = self->seekable && self->timeline.n_frames > 0;
  GstFormat format;

  gst_query_parse_seeking (query, &format, NULL, NULL, NULL);
  if (format == GST_FORMAT_TIME)
    gst_query_set_seeking (query, format, seekable, 0,
        seekable ? (gint64) self->timeline.end : -1);
  else
    gst_query_set_seeking (query, format, FALSE, 0, -1);
  return TRUE;
}

static gboolean
answer_convert (GstDcaeDemux * self, GstQuery * query)
{
  GstFormat from, to;
  gint64 value, result;

  gst_query_parse_convert (query, &from, &value, &to, NULL);
  if (!convert (self, from, value, to, &result))
    return FALSE;
  gst_query_set_convert (query, from, value, to, result);
  return TRUE;
}

static void
answer_segment (GstDcaeDemux * self, GstQuery * query)
{
  const GstSegment *segment = &self->segment;
  gint64 start, stop;

  start = gst_segment_to_stream_time (segment, GST_FORMAT_TIME,
      segment->start);
  if (GST_CLOCK_TIME_IS_VALID (segment->stop))
    stop = gst_segment_to_stream_time (segment, GST_FORMAT_TIME,
        segment->stop);
  else
    stop = segment->duration;
  gst_query_set_segment (query, segment->rate, GST_FORMAT_TIME, start, stop);
}

/* Before the file is read, any memory feature is announced. decodebin, asked to
 * expose latents, would take the caps of the template for final and expose the
 * pad too late for the first frame; caps that leave something open make it
 * wait for those of the stream. */
static gboolean
answer_caps (GstDcaeDemux * self, GstPad * pad, GstQuery * query)
{
  GstCaps *caps, *filter, *result;

  if (gst_pad_has_current_caps (pad))
    return gst_pad_query_default (pad, GST_OBJECT (self), query);
  caps = gst_caps_make_writable (gst_pad_get_pad_template_caps (pad));
  gst_caps_set_features_simple (caps, gst_caps_features_new_any ());
  gst_query_parse_caps (query, &filter);
  if (filter) {
    result = gst_caps_intersect_full (filter, caps, GST_CAPS_INTERSECT_FIRST);
    gst_caps_unref (caps);
    caps = result;
  }
  gst_query_set_caps_result (query, caps);
  gst_caps_unref (caps);
  return TRUE;
}

static gboolean
gst_dcae_demux_src_query (GstPad * pad, GstObject * parent, GstQuery * query)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (parent);
  gboolean answered = FALSE, mine = TRUE;

  if (GST_QUERY_TYPE (query) == GST_QUERY_CAPS)
    return answer_caps (self, pad, query);
  GST_OBJECT_LOCK (self);
  switch (GST_QUERY_TYPE (query)) {
    case GST_QUERY_POSITION:
      answered = self->open && answer_position (self, query);
      break;
    case GST_QUERY_DURATION:
      answered = self->open && answer_duration (self, query);
      break;
    case GST_QUERY_SEEKING:
      answered = self->open && answer_seeking (self, query);
      break;
    case GST_QUERY_CONVERT:
      answered = self->open && answer_convert (self, query);
      break;
    case GST_QUERY_SEGMENT:
      answered = self->open;
      if (answered)
        answer_segment (self, query);
      break;
    case GST_QUERY_FORMATS:
      gst_query_set_formats (query, 3, GST_FORMAT_TIME, GST_FORMAT_DEFAULT,
          GST_FORMAT_BYTES);
      answered = TRUE;
      break;
    default:
      mine = FALSE;
      break;
  }
  GST_OBJECT_UNLOCK (self);
  return mine ? answered : gst_pad_query_default (pad, parent, query);
}

/* ---- element ---- */

static gboolean
gst_dcae_demux_sink_activate (GstPad * pad, GstObject * parent)
{
  GstQuery *query = gst_query_new_scheduling ();
  gboolean pull_mode;

  pull_mode = gst_pad_peer_query (pad, query)
      && gst_query_has_scheduling_mode_with_flags (query, GST_PAD_MODE_PULL,
      GST_SCHEDULING_FLAG_SEEKABLE);
  gst_query_unref (query);
  return gst_pad_activate_mode (pad, pull_mode ? GST_PAD_MODE_PULL
      : GST_PAD_MODE_PUSH, TRUE);
}

static gboolean
gst_dcae_demux_sink_activate_mode (GstPad * pad, GstObject * parent,
    GstPadMode mode, gboolean active)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (parent);

  if (mode == GST_PAD_MODE_PUSH) {
    self->pull = FALSE;
    return TRUE;
  }
  if (mode != GST_PAD_MODE_PULL)
    return FALSE;
  self->pull = active;
  if (active)
    return gst_pad_start_task (pad, (GstTaskFunction) gst_dcae_demux_loop, pad,
        NULL);
  return gst_pad_stop_task (pad);
}

static GstStateChangeReturn
gst_dcae_demux_change_state (GstElement * element, GstStateChange transition)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (element);
  GstStateChangeReturn ret;

  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED)
    reset (self);
  ret = GST_ELEMENT_CLASS (parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    reset (self);
  return ret;
}

static void
gst_dcae_demux_set_property (GObject * object, guint id, const GValue * value,
    GParamSpec * pspec)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (object);

  switch (id) {
    case PROP_FRAMERATE:
      GST_OBJECT_LOCK (self);
      self->fps_n = gst_value_get_fraction_numerator (value);
      self->fps_d = gst_value_get_fraction_denominator (value);
      GST_OBJECT_UNLOCK (self);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
      break;
  }
}

static void
gst_dcae_demux_get_property (GObject * object, guint id, GValue * value,
    GParamSpec * pspec)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (object);

  switch (id) {
    case PROP_FRAMERATE:
      GST_OBJECT_LOCK (self);
      gst_value_set_fraction (value, self->fps_n, self->fps_d);
      GST_OBJECT_UNLOCK (self);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
      break;
  }
}

static void
gst_dcae_demux_finalize (GObject * object)
{
  GstDcaeDemux *self = GST_DCAE_DEMUX (object);

  reset (self);
  g_object_unref (self->adapter);
  G_OBJECT_CLASS (parent_class)->finalize (object);
}

static void
gst_dcae_demux_class_init (GstDcaeDemuxClass * klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);

  GST_DEBUG_CATEGORY_INIT (gst_dcae_demux_debug, "dcaedemux", 0,
      "DC-AE clip demuxer");
  object_class->set_property = gst_dcae_demux_set_property;
  object_class->get_property = gst_dcae_demux_get_property;
  object_class->finalize = gst_dcae_demux_finalize;
  element_class->change_state = gst_dcae_demux_change_state;

  /**
   * GstDcaeDemux:framerate:
   *
   * Since: 0.1
   */
  g_object_class_install_property (object_class, PROP_FRAMERATE,
      gst_param_spec_fraction ("framerate", "Frame rate",
          "Frames a second of files that do not say theirs, as files written "
          "from Python. Files with a frame rate or time stamps of their own "
          "keep those.", 1, G_MAXINT, G_MAXINT, 1,
          DEFAULT_FRAMERATE_N, DEFAULT_FRAMERATE_D, G_PARAM_READWRITE
          | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY));

  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "DC-AE clip demuxer",
      "Codec/Demuxer", "Reads DC-AE latents from a safetensors file",
      "The gst-dcae developers");
}

static void
gst_dcae_demux_init (GstDcaeDemux * self)
{
  self->fps_n = DEFAULT_FRAMERATE_N;
  self->fps_d = DEFAULT_FRAMERATE_D;
  self->adapter = gst_adapter_new ();
  gst_dcae_clip_init (&self->clip);
  reset (self);

  self->sinkpad = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_activate_function (self->sinkpad, gst_dcae_demux_sink_activate);
  gst_pad_set_activatemode_function (self->sinkpad,
      gst_dcae_demux_sink_activate_mode);
  gst_pad_set_chain_function (self->sinkpad, gst_dcae_demux_chain);
  gst_pad_set_event_function (self->sinkpad, gst_dcae_demux_sink_event);
  gst_element_add_pad (GST_ELEMENT (self), self->sinkpad);

  self->srcpad = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_event_function (self->srcpad, gst_dcae_demux_src_event);
  gst_pad_set_query_function (self->srcpad, gst_dcae_demux_src_query);
  gst_pad_use_fixed_caps (self->srcpad);
  gst_element_add_pad (GST_ELEMENT (self), self->srcpad);
}
