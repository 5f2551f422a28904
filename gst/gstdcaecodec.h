/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaecodec.h - what dcaeenc and dcaedec share: their common properties,
 * the model that a worker thread loads, planning, running, statistics and the
 * way errors of the library become messages. An element embeds one
 * GstDcaeCodec. Knows no caps of latents; gstdcaelatent.h does.
 *
 * Threads. Properties may be read and set by any thread. start() and stop()
 * belong to the state change; interrupt() and set_flushing() may come from any
 * thread and end every wait; everything else is for the streaming thread.
 */
#ifndef __GST_DCAE_CODEC_H__
#define __GST_DCAE_CODEC_H__

#include <dcae.h>
#include <gst/gst.h>
#include <gst/video/video.h>

#include "gstdcaelookup.h"
#include "gstdcaesettings.h"

G_BEGIN_DECLS

/* Properties of an element that are not shared start here. */
#define GST_DCAE_PROP_OWN 100

typedef enum
{
  GST_DCAE_LOAD_NONE,
  GST_DCAE_LOAD_RUNNING,
  GST_DCAE_LOAD_DONE,
  GST_DCAE_LOAD_FAILED,         /* its error was posted */
} GstDcaeLoadState;

typedef struct
{
  GstElement *element;          /* borrowed: the element that embeds this */
  DcaeDirection direction;

  /* Protected by the element's object lock. */
  GstDcaeSettings settings;
  gboolean started;
  const gchar *active_backend, *active_tiling;  /* static; NULL: none yet */
  guint64 frames, dropped, peak_bytes;
  gdouble total_ms;
  /* GstCudaContext, from start() to stop(). NULL: no CUDA, or the CPU was
   * chosen. Written before the streaming thread runs. */
  GstObject *cuda;

  /* Copy of settings made by start(); constant until stop(). */
  GstDcaeSettings used;

  GMutex lock;
  GCond cond;
  /* Protected by lock. */
  GstDcaeLoadState load_state;
  gboolean stopping, flushing;
  GCancellable *cancellable;

  /* Written by the loader before load_state says so, then constant. */
  DcaeModel *model;
  DcaeCodec *codec;

  GThread *loader;
  /* What load() was asked for; its strings are owned. */
  gboolean has_request;
  GstDcaeModelRequest request;

  /* Streaming thread. failed: an error was posted that ends the stream. */
  gboolean failed;
} GstDcaeCodec;

/* ---- life */

void gst_dcae_codec_class_init (GObjectClass * klass);
void gst_dcae_codec_init (GstDcaeCodec * self, GstElement * element,
    DcaeDirection direction);
void gst_dcae_codec_clear (GstDcaeCodec * self);

/* TRUE where the property is a shared one. */
gboolean gst_dcae_codec_set_property (GstDcaeCodec * self, guint prop_id,
    const GValue * value);
gboolean gst_dcae_codec_get_property (GstDcaeCodec * self, guint prop_id,
    GValue * value);
/* Logs that a property set while streaming waits for the next start. */
void gst_dcae_codec_warn_late_property (GstDcaeCodec * self,
    GParamSpec * pspec);

/* Takes the settings over, resets the statistics and looks for a CUDA context
 * to share. Posts an error and returns FALSE where settings exclude each
 * other. */
gboolean gst_dcae_codec_start (GstDcaeCodec * self);
/* For GstElementClass.set_context(), and for queries on both pads. */
void gst_dcae_codec_set_context (GstDcaeCodec * self, GstContext * context);
gboolean gst_dcae_codec_handle_query (GstDcaeCodec * self, GstQuery * query);
/* Ends loading, frees codec and model. Accepts what never started. */
void gst_dcae_codec_stop (GstDcaeCodec * self);
/* Before a change to READY: ends loading, waiting and running. */
void gst_dcae_codec_interrupt (GstDcaeCodec * self);
/* TRUE ends waiting and running, but not loading; FALSE allows them again. */
void gst_dcae_codec_set_flushing (GstDcaeCodec * self, gboolean flushing);

/* ---- model */

/* Begins to load the model property, or where it is unset the model that
 * request describes, or for request NULL the demonstration model. Keeps a
 * model that is loaded, or on its way, where it is the one to use. Progress
 * and errors are posted by the worker. */
void gst_dcae_codec_load (GstDcaeCodec * self,
    const GstDcaeModelRequest * request);
/* Waits for the end of loading. GST_FLOW_OK: model and codec are there;
 * GST_FLOW_FLUSHING: interrupted; GST_FLOW_ERROR: the error was posted. */
GstFlowReturn gst_dcae_codec_wait (GstDcaeCodec * self);
/* TRUE where a model is loaded; fills info, whose strings must not be used.
 * For any thread. */
gboolean gst_dcae_codec_peek_info (GstDcaeCodec * self, DcaeModelInfo * info);

/* ---- frames */

/* Frames that run together and runs under way: 1 and 1 where live input has no
 * known rate. pad is the sink pad, info what its caps say. Returns the latency
 * to set: of the frames that wait while the first one does. */
GstClockTime gst_dcae_codec_choose_batch (GstDcaeCodec * self, GstPad * pad,
    const GstVideoInfo * info, guint * batch, guint * depth);
/* Plans for a geometry whose size, batch, edge, scale and latent_channels are
 * filled in; tiling comes from the settings. Posts an error where it fails. */
gboolean gst_dcae_codec_configure (GstDcaeCodec * self,
    DcaeGeometry * geometry);
/* Starts a run of n frames, the first of which is number first of the stream;
 * end() waits for the oldest run, with the same numbers. Both post an error
 * where they fail. GST_FLOW_FLUSHING: interrupted. */
GstFlowReturn gst_dcae_codec_begin (GstDcaeCodec * self,
    const DcaeImage * images, const DcaeLatent * latents, guint n,
    guint first, guint64 * ticket);
GstFlowReturn gst_dcae_codec_end (GstDcaeCodec * self, guint64 ticket,
    guint n, guint first);
/* Waits for the oldest run, of which nobody wants the result. */
void gst_dcae_codec_abandon (GstDcaeCodec * self, guint64 ticket);
/* What became of draining at an event, which can't tell upstream the flow as a
 * frame can: posts it, unless it was posted. FALSE where the stream failed. last:
 * no frame can come that tells upstream that nothing is linked. */
gboolean gst_dcae_codec_check_drain (GstDcaeCodec * self, GstFlowReturn flow,
    gboolean last);
void gst_dcae_codec_count_dropped (GstDcaeCodec * self);

/* ---- pads */

/* An ALWAYS pad with caps, and cuda, its caps in device memory, in builds that
 * know it. */
void gst_dcae_codec_add_pad_template (GstElementClass * klass,
    const gchar * name, GstPadDirection direction, const gchar * caps,
    const gchar * cuda);

/* Caps for a getcaps function: own (taken) restricted by the named fields of
 * what the peer of srcpad allows, then by filter (NULL: none), in the filter's
 * order but device memory first: elements that offer either, as cudaupload,
 * name it last and take what comes first. fields ends with NULL. optional: input may lack these fields; then only single values
 * are passed on, since a range would leave such input with caps that a filter
 * in between can't settle. */
GstCaps *gst_dcae_codec_proxy_caps (GstPad * srcpad, GstCaps * own,
    const gchar * const *fields, gboolean optional, GstCaps * filter);

/* What downstream of srcpad takes, all in one kind of memory: the device's
 * where the backend is there too and downstream names it, else system memory.
 * Posts an error where downstream takes none but device memory. */
GstCaps *gst_dcae_codec_get_output_caps (GstDcaeCodec * self, GstPad * srcpad);
/* The CUDA context where frames in its memory make sense: the codec works in
 * it, or may once it is loaded. NULL: system memory. Borrowed until stop(). */
GstObject *gst_dcae_codec_get_cuda (GstDcaeCodec * self);
/* own (taken) without device memory where this element has no use for it. For
 * any thread. */
GstCaps *gst_dcae_codec_restrict_memory (GstDcaeCodec * self, GstCaps * own);

/* TRUE where downstream asked for a renegotiation and no longer takes the caps
 * that srcpad has: the output has to be chosen anew. */
gboolean gst_dcae_codec_needs_new_output (GstPad * srcpad);

/* ---- errors */

/* Posts error (taken) as an element error whose text is "doing: message" and
 * marks the stream as failed. A cancelled operation posts nothing. */
void gst_dcae_codec_post_error (GstDcaeCodec * self, const gchar * doing,
    GError * error);

G_END_DECLS
#endif /* __GST_DCAE_CODEC_H__ */
