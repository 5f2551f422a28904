/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaetimeline.h - when the frames of a clip are shown: from tables of time
 * stamps, or at a constant rate. Knows no file and no pads.
 */
#ifndef __GST_DCAE_TIMELINE_H__
#define __GST_DCAE_TIMELINE_H__

#include <gst/gst.h>

G_BEGIN_DECLS

/* All zero is an empty timeline. Times are nanoseconds. */
typedef struct
{
  guint64 n_frames;
  GstClockTime first;           /* of frame 0, at a constant rate */
  gint fps_n, fps_d;            /* both above 0 */
  GstClockTime *pts, *duration; /* [n_frames], or both NULL: constant rate */
  GstClockTime end;             /* largest pts + duration */
} GstDcaeTimeline;

void gst_dcae_timeline_clear (GstDcaeTimeline * timeline);
/* Constant rate. timeline must be empty. */
void gst_dcae_timeline_set_rate (GstDcaeTimeline * timeline, guint64 n_frames,
    GstClockTime first, gint fps_n, gint fps_d);
/* Replaces the constant rate by tables of n_frames little-endian I64 each, -1
 * standing for a time that follows from the rate. Each may be NULL. Error:
 * DCAE_ERROR_FORMAT, where they decrease or are no times; its message names
 * the table; the timeline stays as it was. */
gboolean gst_dcae_timeline_set_tables (GstDcaeTimeline * timeline,
    const guint8 * pts, const guint8 * duration, GError ** error);

GstClockTime gst_dcae_timeline_pts (const GstDcaeTimeline * timeline,
    guint64 frame);
/* The end of a frame, pts + duration. */
GstClockTime gst_dcae_timeline_frame_end (const GstDcaeTimeline * timeline,
    guint64 frame);
/* The first frame that is still shown at this time, or else the next one;
 * n_frames where there is neither. */
guint64 gst_dcae_timeline_frame_at (const GstDcaeTimeline * timeline,
    GstClockTime time);
/* The first frame that does not begin before this time; n_frames where all
 * do. */
guint64 gst_dcae_timeline_frame_from (const GstDcaeTimeline * timeline,
    GstClockTime time);

G_END_DECLS
#endif /* __GST_DCAE_TIMELINE_H__ */
