/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaetimeline.c - when the frames of a clip are shown, and which frame is
 * shown when. Knows no file and no pads.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "gstdcaetimeline.h"

#include <dcae.h>
#include <string.h>

/* Times stay below this, so that sums of two do not overflow. */
#define MAX_TIME ((GstClockTime) G_MAXINT64 / 2)

void
gst_dcae_timeline_clear (GstDcaeTimeline * timeline)
{
  g_free (timeline->pts);
  g_free (timeline->duration);
  *timeline = (GstDcaeTimeline) {
  0};
}

/* Time that n frames take at the constant rate. */
static GstClockTime
rate_time (const GstDcaeTimeline * timeline, guint64 n)
{
  return MIN (gst_util_uint64_scale (n, GST_SECOND * timeline->fps_d,
          timeline->fps_n), MAX_TIME);
}

GstClockTime
gst_dcae_timeline_pts (const GstDcaeTimeline * timeline, guint64 frame)
{
  if (timeline->pts)
    return timeline->pts[frame];
  return MIN (timeline->first + rate_time (timeline, frame), MAX_TIME);
}

GstClockTime
gst_dcae_timeline_frame_end (const GstDcaeTimeline * timeline, guint64 frame)
{
  if (timeline->pts)
    return timeline->pts[frame] + timeline->duration[frame];
  return gst_dcae_timeline_pts (timeline, frame + 1);
}

void
gst_dcae_timeline_set_rate (GstDcaeTimeline * timeline, guint64 n_frames,
    GstClockTime first, gint fps_n, gint fps_d)
{
  timeline->n_frames = n_frames;
  timeline->first = MIN (first, MAX_TIME);
  timeline->fps_n = fps_n;
  timeline->fps_d = fps_d;
  timeline->end = n_frames ?
      gst_dcae_timeline_frame_end (timeline, n_frames - 1) : 0;
}

/* Entry i of a table, which may be anywhere. */
static guint64
read_entry (const guint8 * table, guint64 i)
{
  guint64 value;

  memcpy (&value, table + 8 * i, sizeof (value));
  return GUINT64_FROM_LE (value);
}

/* Whether a table holds nothing but times and -1. */
static gboolean
check_table (const guint8 * table, guint64 n, const gchar * name,
    gboolean increasing, GError ** error)
{
  gint64 value, last = 0;
  guint64 i;

  for (i = 0; i < n; i++) {
    value = (gint64) read_entry (table, i);
    if (value == -1)
      continue;
    if (value < -1 || (GstClockTime) value >= MAX_TIME) {
      g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT, "tensor '%s' has %"
          G_GINT64_FORMAT " at frame %" G_GUINT64_FORMAT ", which is no time",
          name, value, i);
      return FALSE;
    }
    if (increasing && value < last) {
      g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT, "tensor '%s' "
          "decreases from %" G_GINT64_FORMAT " to %" G_GINT64_FORMAT
          " at frame %" G_GUINT64_FORMAT, name, last, value, i);
      return FALSE;
    }
    last = value;
  }
  return TRUE;
}

/* Fills frames from to to - 1, which have no time, from the rate: counting on
 * from the frame before, or back from the frame behind. */
static void
interpolate (GstDcaeTimeline * timeline, guint64 from, guint64 to)
{
  GstClockTime *pts = timeline->pts;
  GstClockTime t;
  guint64 i;

  for (i = from; i < to; i++) {
    if (from > 0) {
      t = MIN (pts[from - 1] + rate_time (timeline, i - from + 1), MAX_TIME);
      pts[i] = to < timeline->n_frames ? MIN (t, pts[to]) : t;
    } else if (to < timeline->n_frames) {
      t = rate_time (timeline, to - i);
      pts[i] = pts[to] > t ? pts[to] - t : 0;
    } else {
      pts[i] = MIN (timeline->first + rate_time (timeline, i), MAX_TIME);
    }
  }
}

static void
read_pts (GstDcaeTimeline * timeline, const guint8 * table)
{
  guint64 i, n = timeline->n_frames, unknown = 0;

  for (i = 0; i < n; i++)
    timeline->pts[i] = table ? read_entry (table, i)
        : GST_CLOCK_TIME_NONE;
  for (i = 0; i < n; i++) {
    if (!GST_CLOCK_TIME_IS_VALID (timeline->pts[i]))
      continue;
    interpolate (timeline, unknown, i);
    unknown = i + 1;
  }
  interpolate (timeline, unknown, n);
}

static void
read_duration (GstDcaeTimeline * timeline, const guint8 * table)
{
  guint64 i, n = timeline->n_frames;
  GstClockTime duration;

  timeline->end = 0;
  for (i = 0; i < n; i++) {
    duration = table ? read_entry (table, i)
        : GST_CLOCK_TIME_NONE;
    if (!GST_CLOCK_TIME_IS_VALID (duration))
      duration = i + 1 < n ? timeline->pts[i + 1] - timeline->pts[i]
          : rate_time (timeline, 1);
    timeline->duration[i] = duration;
    timeline->end = MAX (timeline->end, timeline->pts[i] + duration);
  }
}

gboolean
gst_dcae_timeline_set_tables (GstDcaeTimeline * timeline, const guint8 * pts,
    const guint8 * duration, GError ** error)
{
  guint64 n = timeline->n_frames;

  if ((pts && !check_table (pts, n, "pts", TRUE, error))
      || (duration && !check_table (duration, n, "duration", FALSE, error)))
    return FALSE;
  timeline->pts = g_try_new (GstClockTime, n);
  timeline->duration = g_try_new (GstClockTime, n);
  if (n > 0 && (timeline->pts == NULL || timeline->duration == NULL)) {
    g_clear_pointer (&timeline->pts, g_free);
    g_clear_pointer (&timeline->duration, g_free);
    g_set_error (error, DCAE_ERROR, DCAE_ERROR_MEMORY, "out of memory for the "
        "times of %" G_GUINT64_FORMAT " frames", n);
    return FALSE;
  }
  read_pts (timeline, pts);
  read_duration (timeline, duration);
  return TRUE;
}

guint64
gst_dcae_timeline_frame_from (const GstDcaeTimeline * timeline,
    GstClockTime time)
{
  guint64 low = 0, high = timeline->n_frames, middle;

  while (low < high) {
    middle = low + (high - low) / 2;
    if (gst_dcae_timeline_pts (timeline, middle) < time)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

guint64
gst_dcae_timeline_frame_at (const GstDcaeTimeline * timeline,
    GstClockTime time)
{
  guint64 frame = gst_dcae_timeline_frame_from (timeline, time);

  /* The frame before begins earlier, but may last until after this time; so
   * may those that begin together with it. */
  while (frame > 0
      && gst_dcae_timeline_frame_end (timeline, frame - 1) > time)
    frame--;
  while (frame < timeline->n_frames
      && gst_dcae_timeline_pts (timeline, frame) < time
      && gst_dcae_timeline_frame_end (timeline, frame) <= time)
    frame++;
  return frame;
}
