/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaemux.c - latent buffers to the bytes of a clip file: a header with
 * room, the frames, the tables of time stamps, and at the end the final header
 * in the place of the first. Knows the order of the bytes and when they are
 * written; what the header says is in gstdcaelatent.c.
 */
/**
 * SECTION:element-dcaemux
 * @title: dcaemux
 * @short_description: Writes DC-AE latents to a safetensors file
 *
 * Writes a stream of DC-AE latents to a clip file: a safetensors file with the
 * tensor `latents` of shape [frames, channels, height, width], and the tensors
 * `pts` and `duration` with the times of the frames in nanoseconds of running
 * time (-1: none). Any safetensors library opens it.
 *
 * The header at the start of the file is rewritten at the end, and every
 * #GstDcaeMux:refresh-interval in between, so that a file whose writer was
 * killed still plays up to the last refresh. For that the sink must be able to
 * seek. One that can't, such as a pipe, is served with
 * #GstDcaeMux:buffer-in-memory or, where the number of frames is known,
 * #GstDcaeMux:num-frames; without either it is an error.
 *
 * The frame rate and tags may change within a clip. Any other change of caps
 * finishes the clip and is an error. After a flush a new clip starts. Seeks
 * are refused.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=25 ! video/x-raw,width=256,height=256 ! dcaeenc ! dcaemux ! filesink location=clip.safetensors
 * ]|
 * Encodes a second of the test picture.
 * |[
 * gst-launch-1.0 -q videotestsrc num-buffers=25 ! video/x-raw,width=256,height=256 ! dcaeenc ! dcaemux num-frames=25 ! fdsink | wc -c
 * ]|
 * Writes a clip into a pipe.
 * |[
 * gst-launch-1.0 -e videotestsrc num-buffers=100 ! video/x-raw,width=256,height=256 ! dcaeenc ! splitmuxsink muxer=dcaemux max-size-time=1000000000 location=part%03d.safetensors
 * ]|
 * Starts a new file every second.
 *
 * Since: 0.1
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "gstdcaemux.h"

#include "gstdcaelatent.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_mux_debug);
#define GST_CAT_DEFAULT gst_dcae_mux_debug

enum
{
  PROP_0,
  PROP_HEADER_SIZE,
  PROP_REFRESH_INTERVAL,
  PROP_BUFFER_IN_MEMORY,
  PROP_NUM_FRAMES,
};

#define DEFAULT_HEADER_SIZE 65536
#define MIN_HEADER_SIZE 64
#define DEFAULT_REFRESH_INTERVAL (2 * GST_SECOND)
#define DEFAULT_BUFFER_IN_MEMORY FALSE
#define DEFAULT_NUM_FRAMES 0

typedef enum
{
  CLIP_EMPTY,                   /* nothing written */
  CLIP_WRITING,                 /* header with room written, frames follow */
  CLIP_EXACT,                   /* final header written first, frames follow */
  CLIP_BUFFERING,               /* everything is kept until EOS */
  CLIP_FINISHED,                /* closed */
  CLIP_FAILED,                  /* an error was posted */
} ClipState;

struct _GstDcaeMux
{
  GstElement parent;

  GstPad *sinkpad, *srcpad;

  /* properties */
  guint header_size;
  guint64 refresh_interval;
  gboolean buffer_in_memory;
  guint64 num_frames;

  /* streaming thread */
  ClipState state;
  gboolean have_caps, sent_stream_start;
  GstDcaeClip clip;             /* n_frames counts what was written or kept */
  gsize room;                   /* bytes of the header, in CLIP_WRITING */
  GstSegment segment;
  GstTagList *tags;             /* from events */
  gint64 *pts, *duration;       /* [table_size] */
  guint64 table_size;
  GstClockTime last_pts;        /* running time */
  GstBufferList *kept;          /* CLIP_BUFFERING */
  guint64 offset;               /* bytes written */
  gint64 last_refresh;          /* monotonic, microseconds */
};

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (GST_DCAE_LATENT_CAPS));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE ("src",
    GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS (GST_DCAE_CLIP_CAPS));

#define gst_dcae_mux_parent_class parent_class
G_DEFINE_TYPE_WITH_CODE (GstDcaeMux, gst_dcae_mux, GST_TYPE_ELEMENT,
    G_IMPLEMENT_INTERFACE (GST_TYPE_TAG_SETTER, NULL));
GST_ELEMENT_REGISTER_DEFINE (dcaemux, "dcaemux", GST_RANK_MARGINAL,
    GST_TYPE_DCAE_MUX);

/* ---- state of a clip ---- */

/* Forgets the clip. The caps stay: they are sticky on the pad. */
static void
reset_clip (GstDcaeMux * self)
{
  self->state = CLIP_EMPTY;
  self->clip.n_frames = 0;
  self->clip.first_pts = GST_CLOCK_TIME_NONE;
  self->clip.complete = FALSE;
  self->clip.pts_table = self->clip.duration_table = FALSE;
  g_clear_pointer (&self->clip.tags, gst_tag_list_unref);
  g_clear_pointer (&self->pts, g_free);
  g_clear_pointer (&self->duration, g_free);
  self->table_size = 0;
  self->last_pts = GST_CLOCK_TIME_NONE;
  g_clear_pointer (&self->kept, gst_buffer_list_unref);
  self->offset = 0;
}

static void
reset (GstDcaeMux * self)
{
  reset_clip (self);
  gst_dcae_clip_clear (&self->clip);
  g_clear_pointer (&self->tags, gst_tag_list_unref);
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  self->have_caps = FALSE;
  self->sent_stream_start = FALSE;
}

/* Room for one more entry in both tables; FALSE where memory is out. */
static gboolean
grow_tables (GstDcaeMux * self)
{
  guint64 size = self->table_size ? 2 * self->table_size : 256;
  gint64 *pts, *duration;

  if (self->clip.n_frames < self->table_size)
    return TRUE;
  if (size > G_MAXSIZE / sizeof (gint64))
    return FALSE;
  pts = g_try_realloc_n (self->pts, size, sizeof (gint64));
  if (pts == NULL)
    return FALSE;
  self->pts = pts;
  duration = g_try_realloc_n (self->duration, size, sizeof (gint64));
  if (duration == NULL)
    return FALSE;
  self->duration = duration;
  self->table_size = size;
  return TRUE;
}

/* ---- pushing ---- */

static GstFlowReturn
push (GstDcaeMux * self, GstBuffer * buffer)
{
  gsize size = gst_buffer_get_size (buffer);

  GST_BUFFER_OFFSET (buffer) = self->offset;
  self->offset += size;
  GST_BUFFER_OFFSET_END (buffer) = self->offset;
  return gst_pad_push (self->srcpad, buffer);
}

static gboolean
push_byte_segment (GstDcaeMux * self, guint64 position)
{
  GstSegment segment;

  gst_segment_init (&segment, GST_FORMAT_BYTES);
  segment.start = segment.time = position;
  self->offset = position;
  return gst_pad_push_event (self->srcpad, gst_event_new_segment (&segment));
}

static void
push_stream_start (GstDcaeMux * self)
{
  GstEvent *upstream;
  GstEvent *event;
  gchar *id;
  guint group;
  GstCaps *caps;

  if (!self->sent_stream_start) {
    id = gst_pad_create_stream_id (self->srcpad, GST_ELEMENT (self), NULL);
    event = gst_event_new_stream_start (id);
    upstream = gst_pad_get_sticky_event (self->sinkpad,
        GST_EVENT_STREAM_START, 0);
    if (upstream == NULL || !gst_event_parse_group_id (upstream, &group))
      group = gst_util_group_id_next ();
    gst_event_set_group_id (event, group);
    if (upstream)
      gst_event_unref (upstream);
    gst_pad_push_event (self->srcpad, event);
    g_free (id);

    caps = gst_static_pad_template_get_caps (&src_template);
    gst_pad_push_event (self->srcpad, gst_event_new_caps (caps));
    gst_caps_unref (caps);
    self->sent_stream_start = TRUE;
  }
  push_byte_segment (self, 0);
}

static gboolean
downstream_seeks (GstDcaeMux * self)
{
  GstQuery *query = gst_query_new_seeking (GST_FORMAT_BYTES);
  gboolean seekable = FALSE;

  if (gst_pad_peer_query (self->srcpad, query))
    gst_query_parse_seeking (query, NULL, &seekable, NULL, NULL);
  gst_query_unref (query);
  return seekable;
}

/* ---- tags ---- */

static GstTagList *
all_tags (GstDcaeMux * self)
{
  GstTagSetter *setter = GST_TAG_SETTER (self);

  return gst_tag_list_merge (self->tags, gst_tag_setter_get_tag_list (setter),
      gst_tag_setter_get_tag_merge_mode (setter));
}

/* Takes over what tags there are now; those that no longer fit into the header
 * are left out with a warning, the frames matter more. */
static void
update_tags (GstDcaeMux * self)
{
  GstDcaeClip *clip = &self->clip;
  GstTagList *old = clip->tags;
  gsize needed;

  clip->tags = all_tags (self);
  if (self->state == CLIP_WRITING) {
    needed = gst_dcae_clip_header_room (clip);
    if (needed > self->room) {
      GST_ELEMENT_WARNING (self, STREAM, MUX,
          ("Tags that came late do not fit into the header of the clip and "
              "are not stored."),
          ("set header-size to %" G_GSIZE_FORMAT " or more, it is %"
              G_GSIZE_FORMAT, needed, self->room));
      g_clear_pointer (&clip->tags, gst_tag_list_unref);
      clip->tags = old;
      return;
    }
  }
  if (old)
    gst_tag_list_unref (old);
}

static void
handle_tags (GstDcaeMux * self, GstEvent * event)
{
  GstTagList *tags, *merged;

  gst_event_parse_tag (event, &tags);
  merged = gst_tag_list_merge (self->tags, tags, GST_TAG_MERGE_REPLACE);
  /* That of the file which the latents came from, if any. */
  gst_tag_list_remove_tag (merged, GST_TAG_CONTAINER_FORMAT);
  if (self->tags && gst_tag_list_is_equal (self->tags, merged)) {
    gst_tag_list_unref (merged);
    return;
  }
  g_clear_pointer (&self->tags, gst_tag_list_unref);
  self->tags = merged;
  if (self->state == CLIP_WRITING) {
    update_tags (self);
  } else if (self->state == CLIP_EXACT) {
    GST_ELEMENT_WARNING (self, STREAM, MUX,
        ("Tags that came after the first frame are not stored."),
        ("with num-frames the header is written first"));
  }
}

/* ---- headers ---- */

static GstFlowReturn
push_header (GstDcaeMux * self, gsize room)
{
  GstBuffer *header = gst_dcae_clip_write (&self->clip, room);

  if (header == NULL) {
    GST_ELEMENT_ERROR (self, STREAM, MUX,
        ("The header of the clip does not fit."),
        ("header-size of %" G_GSIZE_FORMAT " bytes is too small", room));
    return GST_FLOW_ERROR;
  }
  return push (self, header);
}

/* Writes the header again, in its place, and goes back to the end. */
static GstFlowReturn
rewrite_header (GstDcaeMux * self)
{
  guint64 end = self->offset;
  GstFlowReturn ret;

  if (!push_byte_segment (self, 0))
    goto seek_failed;
  ret = push_header (self, self->room);
  if (ret != GST_FLOW_OK)
    return ret;
  if (!push_byte_segment (self, end))
    goto seek_failed;
  self->last_refresh = g_get_monotonic_time ();
  GST_DEBUG_OBJECT (self, "header says %" G_GUINT64_FORMAT " frames",
      self->clip.n_frames);
  return GST_FLOW_OK;

seek_failed:
  if (GST_PAD_IS_FLUSHING (self->srcpad))
    return GST_FLOW_FLUSHING;
  GST_ELEMENT_ERROR (self, RESOURCE, SEEK,
      ("The header of the clip could not be written."),
      ("downstream refused to go back to the start of the file"));
  return GST_FLOW_ERROR;
}

/* The header that is already final: complete, with its tables. */
static GstFlowReturn
push_exact_header (GstDcaeMux * self, guint64 n_frames)
{
  guint64 written = self->clip.n_frames;
  GstFlowReturn ret;

  self->clip.n_frames = n_frames;
  self->clip.complete = TRUE;
  self->clip.pts_table = self->clip.duration_table = TRUE;
  ret = push_header (self, 0);
  self->clip.n_frames = written;
  return ret;
}

/* Before the first frame: decides how this clip is written. */
static GstFlowReturn
begin_clip (GstDcaeMux * self)
{
  update_tags (self);
  if (self->buffer_in_memory) {
    self->state = CLIP_BUFFERING;
    self->kept = gst_buffer_list_new ();
    GST_INFO_OBJECT (self, "keeping the clip in memory until EOS");
    return GST_FLOW_OK;
  }
  if (self->num_frames > 0) {
    push_stream_start (self);
    self->state = CLIP_EXACT;
    GST_INFO_OBJECT (self, "writing a clip of %" G_GUINT64_FORMAT " frames",
        self->num_frames);
    return push_exact_header (self, self->num_frames);
  }
  push_stream_start (self);
  if (!downstream_seeks (self)) {
    GST_ELEMENT_ERROR (self, RESOURCE, SEEK,
        ("The clip can't be written: what follows the muxer can't seek, and "
            "the header has to be written again at the end."),
        ("set num-frames, or buffer-in-memory=true"));
    return GST_FLOW_ERROR;
  }
  self->room = MAX (GST_ROUND_UP_8 (self->header_size),
      gst_dcae_clip_header_room (&self->clip));
  self->state = CLIP_WRITING;
  self->last_refresh = g_get_monotonic_time ();
  GST_INFO_OBJECT (self, "writing a clip, %" G_GSIZE_FORMAT " bytes of header",
      self->room);
  return push_header (self, self->room);
}

/* ---- the end of a clip ---- */

static GstFlowReturn
push_table (GstDcaeMux * self, gint64 * table)
{
  gsize size = self->clip.n_frames * sizeof (gint64);
  gint64 *bytes;
  guint64 i;

  if (size == 0)
    return GST_FLOW_OK;
  bytes = g_malloc (size);
  for (i = 0; i < self->clip.n_frames; i++)
    bytes[i] = GINT64_TO_LE (table[i]);
  return push (self, gst_buffer_new_wrapped (bytes, size));
}

static GstFlowReturn
push_tables (GstDcaeMux * self)
{
  GstFlowReturn ret = push_table (self, self->pts);

  return ret == GST_FLOW_OK ? push_table (self, self->duration) : ret;
}

static GstFlowReturn
finish_written (GstDcaeMux * self)
{
  GstFlowReturn ret = GST_FLOW_OK;

  update_tags (self);
  /* The count is right before the tables follow the frames, so that a file cut
   * inside the tables plays whole. */
  if (self->refresh_interval != 0)
    ret = rewrite_header (self);
  if (ret == GST_FLOW_OK)
    ret = push_tables (self);
  if (ret != GST_FLOW_OK)
    return ret;
  self->clip.complete = TRUE;
  self->clip.pts_table = self->clip.duration_table = TRUE;
  return rewrite_header (self);
}

static GstFlowReturn
finish_exact (GstDcaeMux * self)
{
  if (self->clip.n_frames != self->num_frames) {
    GST_ELEMENT_ERROR (self, STREAM, MUX,
        ("The clip is not whole: %" G_GUINT64_FORMAT " frames came, num-frames "
            "promised %" G_GUINT64_FORMAT ".", self->clip.n_frames,
            self->num_frames), (NULL));
    return GST_FLOW_ERROR;
  }
  return push_tables (self);
}

static GstFlowReturn
finish_buffered (GstDcaeMux * self)
{
  GstBufferList *kept = g_steal_pointer (&self->kept);
  GstFlowReturn ret;
  guint i, n = gst_buffer_list_length (kept);

  update_tags (self);
  push_stream_start (self);
  ret = push_exact_header (self, self->clip.n_frames);
  for (i = 0; i < n && ret == GST_FLOW_OK; i++)
    ret = push (self,
        gst_buffer_copy (gst_buffer_list_get (kept, i)));
  gst_buffer_list_unref (kept);
  return ret == GST_FLOW_OK ? push_tables (self) : ret;
}

/* Closes the clip: writes what is missing. A clip without frames is whole
 * too. */
static GstFlowReturn
finish_clip (GstDcaeMux * self)
{
  GstFlowReturn ret = GST_FLOW_OK;

  if (self->state == CLIP_EMPTY)
    ret = begin_clip (self);
  if (ret == GST_FLOW_OK) {
    switch (self->state) {
      case CLIP_WRITING:
        ret = finish_written (self);
        break;
      case CLIP_EXACT:
        ret = finish_exact (self);
        break;
      case CLIP_BUFFERING:
        ret = finish_buffered (self);
        break;
      case CLIP_EMPTY:
      case CLIP_FINISHED:
      case CLIP_FAILED:
        break;
    }
  }
  self->state = ret == GST_FLOW_OK ? CLIP_FINISHED : CLIP_FAILED;
  GST_INFO_OBJECT (self, "clip of %" G_GUINT64_FORMAT " frames: %s",
      self->clip.n_frames, gst_flow_get_name (ret));
  return ret;
}

/* ---- events ---- */

/* Other caps than before, in the middle of a clip. */
static gboolean
change_caps (GstDcaeMux * self, GstDcaeLatentInfo * info)
{
  const gchar *field = gst_dcae_latent_info_find_change (&self->clip.info,
      info);

  if (field == NULL) {
    GST_INFO_OBJECT (self, "frame rate is now %d/%d", info->fps_n, info->fps_d);
    if (info->fps_d) {
      self->clip.info.fps_n = info->fps_n;
      self->clip.info.fps_d = info->fps_d;
    }
    return TRUE;
  }
  if (finish_clip (self) == GST_FLOW_OK)
    gst_pad_push_event (self->srcpad, gst_event_new_eos ());
  self->state = CLIP_FAILED;
  GST_ELEMENT_ERROR (self, STREAM, FORMAT,
      ("The stream changed its %s, which a clip can't hold. The clip so far "
          "was finished.", field), ("caps field %s", field));
  return FALSE;
}

static gboolean
handle_caps (GstDcaeMux * self, GstEvent * event)
{
  GstDcaeLatentInfo info;
  GError *error = NULL;
  GstCaps *caps;
  gboolean ok;

  gst_event_parse_caps (event, &caps);
  gst_dcae_latent_info_init (&info);
  if (!gst_dcae_latent_info_from_caps (&info, caps, &error)) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("The stream's caps can't be written to a clip: %s.", error->message),
        ("%" GST_PTR_FORMAT, caps));
    g_error_free (error);
    return FALSE;
  }
  if (self->state == CLIP_WRITING || self->state == CLIP_EXACT
      || self->state == CLIP_BUFFERING) {
    ok = change_caps (self, &info);
  } else {
    gst_dcae_latent_info_copy (&self->clip.info, &info);
    ok = gst_dcae_latent_info_frame_size (&info, &self->clip.frame_size);
    self->have_caps = TRUE;
  }
  gst_dcae_latent_info_clear (&info);
  return ok;
}

static gboolean
handle_eos (GstDcaeMux * self, GstEvent * event)
{
  if (!self->have_caps) {
    GST_ELEMENT_WARNING (self, STREAM, MUX,
        ("No clip was written: the stream ended before it began."), (NULL));
    push_stream_start (self);
    return gst_pad_push_event (self->srcpad, event);
  }
  if (self->state == CLIP_FAILED || (self->state != CLIP_FINISHED
          && finish_clip (self) != GST_FLOW_OK)) {
    /* The error was posted; an EOS would make a broken file look whole. */
    gst_event_unref (event);
    return FALSE;
  }
  return gst_pad_push_event (self->srcpad, event);
}

static gboolean
handle_segment (GstDcaeMux * self, GstEvent * event)
{
  const GstSegment *segment;

  gst_event_parse_segment (event, &segment);
  if (segment->format != GST_FORMAT_TIME) {
    self->state = CLIP_FAILED;
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("The stream's segment is in %s, not in time.",
            gst_format_get_name (segment->format)), (NULL));
    return FALSE;
  }
  gst_segment_copy_into (segment, &self->segment);
  return TRUE;
}

static gboolean
gst_dcae_mux_sink_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  GstDcaeMux *self = GST_DCAE_MUX (parent);
  gboolean ret = TRUE;

  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_CAPS:
      ret = handle_caps (self, event);
      break;
    case GST_EVENT_SEGMENT:
      ret = handle_segment (self, event);
      break;
    case GST_EVENT_TAG:
      handle_tags (self, event);
      break;
    case GST_EVENT_EOS:
      return handle_eos (self, event);
    case GST_EVENT_STREAM_START:
    case GST_EVENT_GAP:
      break;
    case GST_EVENT_FLUSH_STOP:
      reset_clip (self);
      gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
      return gst_pad_event_default (pad, parent, event);
    default:
      return gst_pad_event_default (pad, parent, event);
  }
  gst_event_unref (event);
  return ret;
}

static gboolean
gst_dcae_mux_src_event (GstPad * pad, GstObject * parent, GstEvent * event)
{
  if (GST_EVENT_TYPE (event) == GST_EVENT_SEEK) {
    GST_INFO_OBJECT (parent, "refusing to seek while muxing");
    gst_event_unref (event);
    return FALSE;
  }
  return gst_pad_event_default (pad, parent, event);
}

/* ---- frames ---- */

/* Times of a frame in running time, -1 where it has none. FALSE for a frame
 * outside the segment. */
static gboolean
frame_times (GstDcaeMux * self, GstBuffer * buffer, gint64 * pts,
    gint64 * duration)
{
  GstClockTime start = GST_BUFFER_PTS (buffer);
  GstClockTime length = GST_BUFFER_DURATION (buffer);
  guint64 from, to, stop = GST_CLOCK_TIME_NONE;

  *pts = -1;
  *duration = GST_CLOCK_TIME_IS_VALID (length)
      && length <= G_MAXINT64 ? (gint64) length : -1;
  if (!GST_CLOCK_TIME_IS_VALID (start))
    return TRUE;
  if (*duration >= 0)
    stop = start + length;
  if (!gst_segment_clip (&self->segment, GST_FORMAT_TIME, start, stop, &from,
          &to))
    return FALSE;
  *pts = gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME, from);
  if (*duration >= 0) {
    *duration = gst_segment_to_running_time (&self->segment, GST_FORMAT_TIME,
        to) - *pts;
    if (self->segment.rate < 0) {
      *pts += *duration;
      *duration = -*duration;
    }
  }
  return TRUE;
}

static gboolean
check_frame (GstDcaeMux * self, GstBuffer * buffer, gint64 pts)
{
  GstDcaeClip *clip = &self->clip;
  gsize size = gst_buffer_get_size (buffer);

  if (size != clip->frame_size) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("Frame %" G_GUINT64_FORMAT " has %" G_GSIZE_FORMAT " bytes, its caps "
            "say %" G_GSIZE_FORMAT ".", clip->n_frames, size,
            clip->frame_size), (NULL));
    return FALSE;
  }
  if (pts >= 0 && GST_CLOCK_TIME_IS_VALID (self->last_pts)
      && (GstClockTime) pts < self->last_pts) {
    GST_ELEMENT_ERROR (self, STREAM, MUX,
        ("The time stamps of the stream decrease at frame %" G_GUINT64_FORMAT
            ".", clip->n_frames),
        ("pts %" GST_TIME_FORMAT " after %" GST_TIME_FORMAT,
            GST_TIME_ARGS ((GstClockTime) pts),
            GST_TIME_ARGS (self->last_pts)));
    return FALSE;
  }
  if (self->state == CLIP_EXACT && clip->n_frames == self->num_frames) {
    GST_ELEMENT_ERROR (self, STREAM, MUX,
        ("More frames came than the %" G_GUINT64_FORMAT " that num-frames "
            "promised.", self->num_frames), (NULL));
    return FALSE;
  }
  if (!grow_tables (self)) {
    GST_ELEMENT_ERROR (self, RESOURCE, FAILED,
        ("Out of memory for the times of %" G_GUINT64_FORMAT " frames.",
            clip->n_frames), (NULL));
    return FALSE;
  }
  return TRUE;
}

static GstFlowReturn
write_frame (GstDcaeMux * self, GstBuffer * buffer)
{
  gint64 now;
  GstFlowReturn ret;

  if (self->state == CLIP_BUFFERING) {
    gst_buffer_list_add (self->kept, buffer);
    self->clip.n_frames++;
    return GST_FLOW_OK;
  }
  buffer = gst_buffer_make_writable (buffer);
  ret = push (self, buffer);
  if (ret != GST_FLOW_OK)
    return ret;
  self->clip.n_frames++;
  if (self->state != CLIP_WRITING || self->refresh_interval == 0)
    return GST_FLOW_OK;
  now = g_get_monotonic_time ();
  if ((guint64) (now - self->last_refresh) < self->refresh_interval / 1000)
    return GST_FLOW_OK;
  return rewrite_header (self);
}

static GstFlowReturn
gst_dcae_mux_chain (GstPad * pad, GstObject * parent, GstBuffer * buffer)
{
  GstDcaeMux *self = GST_DCAE_MUX (parent);
  GstDcaeClip *clip = &self->clip;
  GstFlowReturn ret = GST_FLOW_ERROR;
  gint64 pts, duration;

  if (!self->have_caps || self->segment.format != GST_FORMAT_TIME) {
    ret = GST_FLOW_NOT_NEGOTIATED;
    goto drop;
  }
  if (self->state == CLIP_FINISHED || self->state == CLIP_FAILED) {
    ret = self->state == CLIP_FINISHED ? GST_FLOW_EOS : GST_FLOW_ERROR;
    goto drop;
  }
  if (!frame_times (self, buffer, &pts, &duration)) {
    GST_DEBUG_OBJECT (self, "frame at %" GST_TIME_FORMAT " is outside the "
        "segment", GST_TIME_ARGS (GST_BUFFER_PTS (buffer)));
    ret = GST_FLOW_OK;
    goto drop;
  }
  if (!check_frame (self, buffer, pts)) {
    /* What came before is kept: the clip so far is closed. */
    if (self->state != CLIP_EMPTY)
      finish_clip (self);
    self->state = CLIP_FAILED;
    goto drop;
  }
  if (!GST_CLOCK_TIME_IS_VALID (clip->first_pts) && pts >= 0)
    clip->first_pts = pts;
  if (self->state == CLIP_EMPTY) {
    ret = begin_clip (self);
    if (ret != GST_FLOW_OK) {
      self->state = CLIP_FAILED;
      goto drop;
    }
  }
  self->pts[clip->n_frames] = pts;
  self->duration[clip->n_frames] = duration;
  if (pts >= 0)
    self->last_pts = pts;
  GST_LOG_OBJECT (self, "frame %" G_GUINT64_FORMAT ", pts %" G_GINT64_FORMAT,
      clip->n_frames, pts);
  return write_frame (self, buffer);

drop:
  gst_buffer_unref (buffer);
  return ret;
}

/* ---- element ---- */

static GstStateChangeReturn
gst_dcae_mux_change_state (GstElement * element, GstStateChange transition)
{
  GstDcaeMux *self = GST_DCAE_MUX (element);
  GstStateChangeReturn ret;

  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED)
    reset (self);
  ret = GST_ELEMENT_CLASS (parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    reset (self);
    gst_tag_setter_reset_tags (GST_TAG_SETTER (self));
  }
  return ret;
}

static void
gst_dcae_mux_set_property (GObject * object, guint id, const GValue * value,
    GParamSpec * pspec)
{
  GstDcaeMux *self = GST_DCAE_MUX (object);

  GST_OBJECT_LOCK (self);
  switch (id) {
    case PROP_HEADER_SIZE:
      self->header_size = g_value_get_uint (value);
      break;
    case PROP_REFRESH_INTERVAL:
      self->refresh_interval = g_value_get_uint64 (value);
      break;
    case PROP_BUFFER_IN_MEMORY:
      self->buffer_in_memory = g_value_get_boolean (value);
      break;
    case PROP_NUM_FRAMES:
      self->num_frames = g_value_get_uint64 (value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
      break;
  }
  GST_OBJECT_UNLOCK (self);
}

static void
gst_dcae_mux_get_property (GObject * object, guint id, GValue * value,
    GParamSpec * pspec)
{
  GstDcaeMux *self = GST_DCAE_MUX (object);

  GST_OBJECT_LOCK (self);
  switch (id) {
    case PROP_HEADER_SIZE:
      g_value_set_uint (value, self->header_size);
      break;
    case PROP_REFRESH_INTERVAL:
      g_value_set_uint64 (value, self->refresh_interval);
      break;
    case PROP_BUFFER_IN_MEMORY:
      g_value_set_boolean (value, self->buffer_in_memory);
      break;
    case PROP_NUM_FRAMES:
      g_value_set_uint64 (value, self->num_frames);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, pspec);
      break;
  }
  GST_OBJECT_UNLOCK (self);
}

static void
gst_dcae_mux_finalize (GObject * object)
{
  reset (GST_DCAE_MUX (object));
  G_OBJECT_CLASS (parent_class)->finalize (object);
}

static void
gst_dcae_mux_class_init (GstDcaeMuxClass * klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS
      | GST_PARAM_MUTABLE_READY;

  GST_DEBUG_CATEGORY_INIT (gst_dcae_mux_debug, "dcaemux", 0,
      "DC-AE clip muxer");
  object_class->set_property = gst_dcae_mux_set_property;
  object_class->get_property = gst_dcae_mux_get_property;
  object_class->finalize = gst_dcae_mux_finalize;
  element_class->change_state = gst_dcae_mux_change_state;

  /**
   * GstDcaeMux:header-size:
   *
   * Since: 0.1
   */
  g_object_class_install_property (object_class, PROP_HEADER_SIZE,
      g_param_spec_uint ("header-size", "Header size",
          "Bytes reserved at the start of the file for the header, which is "
          "written again at the end with all that is known by then. More is "
          "taken where the caps and tags known at the first frame need more; "
          "raise it for long tags that come later.",
          MIN_HEADER_SIZE, GST_DCAE_CLIP_MAX_JSON, DEFAULT_HEADER_SIZE, flags));
  /**
   * GstDcaeMux:refresh-interval:
   *
   * Since: 0.1
   */
  g_object_class_install_property (object_class, PROP_REFRESH_INTERVAL,
      g_param_spec_uint64 ("refresh-interval", "Refresh interval",
          "Nanoseconds of real time between two updates of the header in the "
          "file. A file whose writing was cut off plays up to the last update. "
          "0: only at the end, a file that was cut off does not play.",
          0, G_MAXUINT64, DEFAULT_REFRESH_INTERVAL, flags));
  /**
   * GstDcaeMux:buffer-in-memory:
   *
   * Since: 0.1
   */
  g_object_class_install_property (object_class, PROP_BUFFER_IN_MEMORY,
      g_param_spec_boolean ("buffer-in-memory", "Buffer in memory",
          "Keep the whole clip in memory and write it when the stream ends: "
          "for pipes and other sinks that can't seek.",
          DEFAULT_BUFFER_IN_MEMORY, flags));
  /**
   * GstDcaeMux:num-frames:
   *
   * Since: 0.1
   */
  g_object_class_install_property (object_class, PROP_NUM_FRAMES,
      g_param_spec_uint64 ("num-frames", "Number of frames",
          "How many frames will come. The final header is then written first, "
          "so that a pipe or another sink that can't seek will do; if another "
          "number of frames comes, that is an error. 0: not known.",
          0, G_MAXINT64, DEFAULT_NUM_FRAMES, flags));

  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "DC-AE clip muxer",
      "Codec/Muxer", "Writes DC-AE latents to a safetensors file",
      "The gst-dcae developers");
}

static void
gst_dcae_mux_init (GstDcaeMux * self)
{
  self->header_size = DEFAULT_HEADER_SIZE;
  self->refresh_interval = DEFAULT_REFRESH_INTERVAL;
  self->buffer_in_memory = DEFAULT_BUFFER_IN_MEMORY;
  self->num_frames = DEFAULT_NUM_FRAMES;
  gst_dcae_clip_init (&self->clip);
  gst_segment_init (&self->segment, GST_FORMAT_UNDEFINED);
  self->last_pts = GST_CLOCK_TIME_NONE;

  self->sinkpad = gst_pad_new_from_static_template (&sink_template, "sink");
  gst_pad_set_chain_function (self->sinkpad, gst_dcae_mux_chain);
  gst_pad_set_event_function (self->sinkpad, gst_dcae_mux_sink_event);
  GST_PAD_SET_ACCEPT_TEMPLATE (self->sinkpad);
  gst_element_add_pad (GST_ELEMENT (self), self->sinkpad);

  self->srcpad = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_event_function (self->srcpad, gst_dcae_mux_src_event);
  gst_pad_use_fixed_caps (self->srcpad);
  gst_element_add_pad (GST_ELEMENT (self), self->srcpad);
}
