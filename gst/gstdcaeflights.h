/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeflights.h - the frames that dcaeenc and dcaedec hold: waiting for
 * their batch, under way on the device, done. Frames leave in the order in
 * which they came. Knows neither base class: what it needs of one, the element
 * hands over as functions. For the streaming thread.
 */
#ifndef __GST_DCAE_FLIGHTS_H__
#define __GST_DCAE_FLIGHTS_H__

#include <gst/video/video.h>

#include "gstdcaecodec.h"

G_BEGIN_DECLS

/* Each gets the element that embeds the codec. Functions that fail have posted
 * why, where that is not plain from what they return. */
typedef struct
{
  /* Gives frame an output buffer. */
  GstFlowReturn (*allocate) (GstElement * element, GstVideoCodecFrame * frame);
  /* Takes frame and pushes its output buffer. */
  GstFlowReturn (*finish) (GstElement * element, GstVideoCodecFrame * frame);
  /* TRUE where frame is not worth running; drop takes it in its turn. NULL:
   * every frame is. */
  gboolean (*is_late) (GstElement * element, GstVideoCodecFrame * frame);
  GstFlowReturn (*drop) (GstElement * element, GstVideoCodecFrame * frame);
  /* Takes a frame that an error leaves behind. */
  void (*release) (GstElement * element, GstVideoCodecFrame * frame);
  /* Chooses an output that downstream takes, sets picture and latent, and hands
   * the output to the base class, whose negotiation follows. */
  gboolean (*set_output) (GstElement * element);
  gboolean (*negotiate) (GstElement * element);
} GstDcaeFlightFuncs;

typedef struct
{
  GstDcaeCodec *codec;
  GstPad *srcpad;
  const GstDcaeFlightFuncs *funcs;

  guint batch, depth;           /* frames a run, runs under way */
  GQueue pending;               /* frames that wait, oldest first */
  guint due;                    /* first ones that wait for no batch */
  GQueue under_way;             /* runs, oldest first */
  GQueue done;                  /* frames whose run has ended */
  DcaeImage *images;            /* [batch] */
  DcaeLatent *latents;          /* [batch] */

  /* What the element's buffers hold; set before the first frame. */
  GstVideoInfo picture;
  DcaeLatent latent;            /* without data */
  gsize latent_size;            /* bytes of one buffer */
} GstDcaeFlights;

/* All are borrowed. */
void gst_dcae_flights_init (GstDcaeFlights * self, GstDcaeCodec * codec,
    GstPad * srcpad, const GstDcaeFlightFuncs * funcs);
/* Sets batch and depth. There must be no frames. */
void gst_dcae_flights_configure (GstDcaeFlights * self, guint batch,
    guint depth);
/* Drops all frames and frees what configure() made. */
void gst_dcae_flights_clear (GstDcaeFlights * self);

/* Chooses the output and negotiates it. There must be no frames under way. */
GstFlowReturn gst_dcae_flights_negotiate (GstDcaeFlights * self);

/* Takes a frame, starts a run where that completes a batch, and finishes the
 * oldest run where there are as many as may be. After another result than
 * GST_FLOW_OK no frames are left. */
GstFlowReturn gst_dcae_flights_push (GstDcaeFlights * self,
    GstVideoCodecFrame * frame);
/* Runs and finishes all frames, an incomplete batch too. */
GstFlowReturn gst_dcae_flights_drain (GstDcaeFlights * self);
/* Waits for what is under way and forgets all frames. */
void gst_dcae_flights_drop (GstDcaeFlights * self);

G_END_DECLS
#endif /* __GST_DCAE_FLIGHTS_H__ */
