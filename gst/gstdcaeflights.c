/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeflights.c - see gstdcaeflights.h. A frame's buffers stay mapped from
 * the start of its run to its end. Each buffer by itself decides whether the
 * device takes its memory as it is or the library copies it.
 */
#include "gstdcaeflights.h"

#include <string.h>

#include "gstdcaecuda.h"
#include "gstdcaeimage.h"

GST_DEBUG_CATEGORY_EXTERN (gst_dcae_debug);
#define GST_CAT_DEFAULT gst_dcae_debug

/* One frame. copy: the latent, where the buffer's memory is not aligned to its
 * elements. */
typedef struct
{
  GstVideoCodecFrame *frame;
  gboolean is_late, is_mapped;
  GstVideoFrame picture;
  GstMapInfo latent;
  gpointer copy;
} Job;

/* Frames that run together, and late ones that keep their place in order. */
typedef struct
{
  guint64 ticket;
  guint n;                      /* frames that run */
  guint first;                  /* number of the first of them */
  GQueue jobs;
} Flight;

/* ---- life */

void
gst_dcae_flights_init (GstDcaeFlights * self, GstDcaeCodec * codec,
    GstPad * srcpad, const GstDcaeFlightFuncs * funcs)
{
  self->codec = codec;
  self->srcpad = srcpad;
  self->funcs = funcs;
  self->batch = self->depth = 1;
  g_queue_init (&self->pending);
  g_queue_init (&self->under_way);
  g_queue_init (&self->done);
}

void
gst_dcae_flights_configure (GstDcaeFlights * self, guint batch, guint depth)
{
  gst_dcae_flights_clear (self);
  self->batch = batch;
  self->depth = depth;
  self->images = g_new0 (DcaeImage, batch);
  self->latents = g_new0 (DcaeLatent, batch);
}

void
gst_dcae_flights_clear (GstDcaeFlights * self)
{
  gst_dcae_flights_drop (self);
  g_clear_pointer (&self->images, g_free);
  g_clear_pointer (&self->latents, g_free);
}

GstFlowReturn
gst_dcae_flights_negotiate (GstDcaeFlights * self)
{
  GstElement *element = self->codec->element;

  if (!self->funcs->set_output (element))
    return self->codec->failed ? GST_FLOW_ERROR : GST_FLOW_NOT_NEGOTIATED;
  gst_pad_check_reconfigure (self->srcpad);
  if (self->funcs->negotiate (element))
    return GST_FLOW_OK;
  gst_pad_mark_reconfigure (self->srcpad);
  return GST_PAD_IS_FLUSHING (self->srcpad) ? GST_FLOW_FLUSHING :
      GST_FLOW_NOT_NEGOTIATED;
}

/* ---- one frame */

static gboolean
is_encoder (const GstDcaeFlights * self)
{
  return self->codec->direction == DCAE_ENCODE;
}

static GstBuffer *
get_picture (const GstDcaeFlights * self, const Job * job)
{
  return is_encoder (self) ? job->frame->input_buffer :
      job->frame->output_buffer;
}

static GstBuffer *
get_latent (const GstDcaeFlights * self, const Job * job)
{
  return is_encoder (self) ? job->frame->output_buffer :
      job->frame->input_buffer;
}

static void
post_unmapped_picture (const GstDcaeFlights * self, const Job * job)
{
  GstElement *element = self->codec->element;
  GstBuffer *buffer = get_picture (self, job);
  guint number = job->frame->system_frame_number;

  if (!is_encoder (self))
    GST_ELEMENT_ERROR (element, RESOURCE, WRITE,
        ("The picture of frame %u can't be written", number), (NULL));
  else if (gst_buffer_get_size (buffer) >= GST_VIDEO_INFO_SIZE (&self->picture))
    GST_ELEMENT_ERROR (element, RESOURCE, READ,
        ("The picture of frame %u can't be read", number), (NULL));
  else
    GST_ELEMENT_ERROR (element, STREAM, FORMAT,
        ("Frame %u does not hold a picture of %dx%d pixels", number,
            GST_VIDEO_INFO_WIDTH (&self->picture),
            GST_VIDEO_INFO_HEIGHT (&self->picture)),
        ("buffer of %" G_GSIZE_FORMAT " bytes, %" G_GSIZE_FORMAT " expected",
            gst_buffer_get_size (buffer),
            GST_VIDEO_INFO_SIZE (&self->picture)));
}

/* Memory that the device reaches is used where it is. */
static GstMapFlags
get_map_flags (GstDcaeFlights * self, GstBuffer * buffer)
{
  return gst_dcae_cuda_map_flags (gst_dcae_codec_get_cuda (self->codec),
      buffer);
}

static gboolean
map_picture (GstDcaeFlights * self, Job * job, DcaeImage * image)
{
  GstBuffer *buffer = get_picture (self, job);
  GstMapFlags device = get_map_flags (self, buffer);

  if (!gst_video_frame_map (&job->picture, &self->picture, buffer,
          (is_encoder (self) ? GST_MAP_READ : GST_MAP_WRITE) | device)) {
    post_unmapped_picture (self, job);
    return FALSE;
  }
  if (device)
    gst_dcae_cuda_sync (buffer);
  gst_dcae_image_from_frame (image, &job->picture);
  image->memory = device ? DCAE_MEMORY_CUDA : DCAE_MEMORY_HOST;
  return TRUE;
}

static gboolean
map_latent (GstDcaeFlights * self, Job * job, DcaeLatent * latent)
{
  gsize element = self->latent.format == DCAE_LATENT_F32 ? 4 : 2;
  GstBuffer *buffer = get_latent (self, job);
  GstMapFlags device = get_map_flags (self, buffer);

  if (!gst_buffer_map (buffer, &job->latent,
          (is_encoder (self) ? GST_MAP_WRITE : GST_MAP_READ) | device)) {
    GST_ELEMENT_ERROR (self->codec->element, RESOURCE, READ,
        ("The latent of frame %u can't be %s",
            job->frame->system_frame_number,
            is_encoder (self) ? "written" : "read"), (NULL));
    return FALSE;
  }
  if (device)
    gst_dcae_cuda_sync (buffer);

  *latent = self->latent;
  latent->memory = device ? DCAE_MEMORY_CUDA : DCAE_MEMORY_HOST;
  latent->data = job->latent.data;
  if ((guintptr) latent->data % element != 0 && !device && !is_encoder (self)) {
    job->copy = g_memdup2 (latent->data, self->latent_size);
    latent->data = job->copy;
  }
  return TRUE;
}

static void
unmap (GstDcaeFlights * self, Job * job)
{
  if (!job->is_mapped)
    return;
  gst_video_frame_unmap (&job->picture);
  gst_buffer_unmap (get_latent (self, job), &job->latent);
  g_clear_pointer (&job->copy, g_free);
  job->is_mapped = FALSE;
}

/* Gives the frame its output buffer and maps both, as image i of a run. */
static GstFlowReturn
map (GstDcaeFlights * self, Job * job, guint i)
{
  GstFlowReturn flow;

  gst_clear_buffer (&job->frame->output_buffer);
  flow = self->funcs->allocate (self->codec->element, job->frame);
  if (flow != GST_FLOW_OK)
    return flow;

  if (!map_latent (self, job, &self->latents[i])) {
    self->codec->failed = TRUE;
    return GST_FLOW_ERROR;
  }
  if (!map_picture (self, job, &self->images[i])) {
    gst_buffer_unmap (get_latent (self, job), &job->latent);
    g_clear_pointer (&job->copy, g_free);
    self->codec->failed = TRUE;
    return GST_FLOW_ERROR;
  }
  job->is_mapped = TRUE;
  return GST_FLOW_OK;
}

/* ---- runs */

static void
append_jobs (GQueue * to, GQueue * from)
{
  Job *job;

  while ((job = g_queue_pop_head (from)))
    g_queue_push_tail (to, job);
}

static void
end_flight (GstDcaeFlights * self, Flight * flight, GQueue * to)
{
  for (GList * l = flight->jobs.head; l; l = l->next)
    unmap (self, l->data);
  append_jobs (to, &flight->jobs);
  g_free (flight);
}

/* Takes up to a batch of frames that are worth running, and maps them. */
static GstFlowReturn
board (GstDcaeFlights * self, Flight * flight)
{
  const GstDcaeFlightFuncs *funcs = self->funcs;
  GstFlowReturn flow = GST_FLOW_OK;
  Job *job;

  while (flow == GST_FLOW_OK && flight->n < self->batch &&
      (job = g_queue_pop_head (&self->pending))) {
    g_queue_push_tail (&flight->jobs, job);
    self->due -= MIN (self->due, 1);
    job->is_late = funcs->is_late && funcs->is_late (self->codec->element,
        job->frame);
    if (job->is_late)
      continue;
    if (flight->n == 0)
      flight->first = job->frame->system_frame_number;
    flow = map (self, job, flight->n);
    if (flow == GST_FLOW_OK)
      flight->n++;
  }
  return flow;
}

static GstFlowReturn
launch (GstDcaeFlights * self)
{
  Flight *flight = g_new0 (Flight, 1);
  Flight *before = g_queue_peek_tail (&self->under_way);
  GstFlowReturn flow;

  g_queue_init (&flight->jobs);
  flow = board (self, flight);
  if (flow == GST_FLOW_OK && flight->n > 0)
    flow = gst_dcae_codec_begin (self->codec, self->images, self->latents,
        flight->n, flight->first, &flight->ticket);

  if (flow != GST_FLOW_OK)
    end_flight (self, flight, &self->pending);
  else if (flight->n > 0)
    g_queue_push_tail (&self->under_way, flight);
  else                          /* late frames only: in turn behind the others */
    end_flight (self, flight, before ? &before->jobs : &self->done);
  return flow;
}

static GstFlowReturn
land (GstDcaeFlights * self)
{
  Flight *flight = g_queue_pop_head (&self->under_way);
  GstFlowReturn flow = gst_dcae_codec_end (self->codec, flight->ticket,
      flight->n, flight->first);

  end_flight (self, flight, &self->done);
  return flow;
}

static GstFlowReturn
finish_one (GstDcaeFlights * self)
{
  const GstDcaeFlightFuncs *funcs = self->funcs;
  Job *job = g_queue_pop_head (&self->done);
  GstVideoCodecFrame *frame = job->frame;
  gboolean is_late = job->is_late;

  g_free (job);
  return is_late ? funcs->drop (self->codec->element, frame) :
      funcs->finish (self->codec->element, frame);
}

/* A frame failed before its run: those before it are still good. */
static void
finish_under_way (GstDcaeFlights * self)
{
  GstFlowReturn flow = GST_FLOW_OK;

  while (flow == GST_FLOW_OK && !g_queue_is_empty (&self->under_way)) {
    flow = land (self);
    while (flow == GST_FLOW_OK && !g_queue_is_empty (&self->done))
      flow = finish_one (self);
  }
}

/* Waits for what is under way, whatever comes of it. Its frames wait again, but
 * not for others to run with. */
static void
recall (GstDcaeFlights * self)
{
  GQueue all = G_QUEUE_INIT;
  Flight *flight;

  append_jobs (&all, &self->done);
  while ((flight = g_queue_pop_head (&self->under_way))) {
    gst_dcae_codec_abandon (self->codec, flight->ticket);
    end_flight (self, flight, &all);
  }
  self->due += g_queue_get_length (&all);
  append_jobs (&all, &self->pending);
  self->pending = all;
}

static void
forget (GstDcaeFlights * self, gboolean failed)
{
  Job *job;

  recall (self);
  while ((job = g_queue_pop_head (&self->pending))) {
    if (failed)
      self->funcs->release (self->codec->element, job->frame);
    else
      gst_video_codec_frame_unref (job->frame);
    g_free (job);
  }
  self->due = 0;
}

void
gst_dcae_flights_drop (GstDcaeFlights * self)
{
  forget (self, FALSE);
}

static gboolean
is_empty (GstDcaeFlights * self)
{
  return g_queue_is_empty (&self->pending) &&
      g_queue_is_empty (&self->under_way) && g_queue_is_empty (&self->done);
}

/* Whether a run can start. all: nothing waits for further frames. */
static gboolean
is_ready (GstDcaeFlights * self, gboolean all)
{
  guint waiting = g_queue_get_length (&self->pending);

  return g_queue_get_length (&self->under_way) < self->depth &&
      (waiting >= self->batch || (waiting > 0 && (all || self->due > 0)));
}

/* Whether the oldest run has to end. */
static gboolean
must_land (GstDcaeFlights * self, gboolean all)
{
  guint under_way = g_queue_get_length (&self->under_way);

  return under_way > 0 && (all || under_way == self->depth);
}

static GstFlowReturn
run (GstDcaeFlights * self, gboolean all)
{
  GstFlowReturn flow = GST_FLOW_OK;
  gboolean busy = TRUE;

  while (flow == GST_FLOW_OK && busy) {
    if (!is_empty (self) && gst_dcae_codec_needs_new_output (self->srcpad)) {
      recall (self);
      flow = gst_dcae_flights_negotiate (self);
    } else if (!g_queue_is_empty (&self->done)) {
      flow = finish_one (self);
    } else if (is_ready (self, all)) {
      flow = launch (self);
      if (flow == GST_FLOW_ERROR)
        finish_under_way (self);
    } else if (must_land (self, all)) {
      flow = land (self);
    } else {
      busy = FALSE;
    }
  }
  if (flow != GST_FLOW_OK)
    forget (self, TRUE);
  return flow;
}

GstFlowReturn
gst_dcae_flights_push (GstDcaeFlights * self, GstVideoCodecFrame * frame)
{
  Job *job = g_new0 (Job, 1);

  job->frame = frame;
  g_queue_push_tail (&self->pending, job);
  return run (self, FALSE);
}

GstFlowReturn
gst_dcae_flights_drain (GstDcaeFlights * self)
{
  return run (self, TRUE);
}
