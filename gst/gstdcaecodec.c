/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaecodec.c - what dcaeenc and dcaedec share: loading a model on a worker
 * thread, planning, running, statistics, messages. The properties are in
 * gstdcaesettings.c, the search for models in gstdcaelookup.c. Knows nothing of
 * latent caps.
 */
#include "gstdcaecodec.h"

#include <string.h>

#include "gstdcaecuda.h"

GST_DEBUG_CATEGORY (gst_dcae_debug);
#define GST_CAT_DEFAULT gst_dcae_debug

#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define PROGRESS_STEP 20        /* per cent between two CONTINUE messages */

enum
{
  PROP_ACTIVE_BACKEND = GST_DCAE_PROP_STATUS,
  PROP_ACTIVE_TILING,
  PROP_STATS,
};
G_STATIC_ASSERT (PROP_STATS < GST_DCAE_PROP_OWN);

/* ---- properties */

#define RO (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)

static void
install_status_properties (GObjectClass * klass)
{
  g_object_class_install_property (klass, PROP_ACTIVE_BACKEND,
      g_param_spec_string ("active-backend", "Active backend",
          "Backend that is in use: cpu or cuda; unset before a model is "
          "loaded", NULL, RO));
  g_object_class_install_property (klass, PROP_ACTIVE_TILING,
      g_param_spec_string ("active-tiling", "Active tiling",
          "Tiling that was negotiated: off, exact or blend; unset before caps "
          "are set", NULL, RO));
  g_object_class_install_property (klass, PROP_STATS,
      g_param_spec_boxed ("stats", "Statistics",
          "Structure dcae-stats since the start: frames and dropped (uint64), "
          "ms-per-frame (double, mean), peak-bytes (uint64, activations)",
          GST_TYPE_STRUCTURE, RO));
}

void
gst_dcae_codec_class_init (GObjectClass * klass)
{
  GST_DEBUG_CATEGORY_INIT (gst_dcae_debug, "dcae", 0, "DC-AE codec");

  gst_dcae_settings_install (klass);
  install_status_properties (klass);
}

gboolean
gst_dcae_codec_set_property (GstDcaeCodec * self, guint prop_id,
    const GValue * value)
{
  gboolean known;

  GST_OBJECT_LOCK (self->element);
  known = gst_dcae_settings_set (&self->settings, prop_id, value);
  GST_OBJECT_UNLOCK (self->element);
  return known;
}

void
gst_dcae_codec_warn_late_property (GstDcaeCodec * self, GParamSpec * pspec)
{
  gboolean started;

  GST_OBJECT_LOCK (self->element);
  started = self->started;
  GST_OBJECT_UNLOCK (self->element);
  if (started)
    GST_WARNING_OBJECT (self->element, "property %s takes effect at the next "
        "change from READY to PAUSED", pspec->name);
}

/* Called with the object lock. */
static GstStructure *
make_stats (GstDcaeCodec * self)
{
  gdouble mean = self->frames ? self->total_ms / self->frames : 0.0;

  return gst_structure_new ("dcae-stats",
      "frames", G_TYPE_UINT64, self->frames,
      "dropped", G_TYPE_UINT64, self->dropped,
      "ms-per-frame", G_TYPE_DOUBLE, mean,
      "peak-bytes", G_TYPE_UINT64, self->peak_bytes, NULL);
}

/* Called with the object lock. */
static gboolean
get_status_property (GstDcaeCodec * self, guint prop_id, GValue * value)
{
  switch (prop_id) {
    case PROP_ACTIVE_BACKEND:
      g_value_set_static_string (value, self->active_backend);
      break;
    case PROP_ACTIVE_TILING:
      g_value_set_static_string (value, self->active_tiling);
      break;
    case PROP_STATS:
      g_value_take_boxed (value, make_stats (self));
      break;
    default:
      return FALSE;
  }
  return TRUE;
}

gboolean
gst_dcae_codec_get_property (GstDcaeCodec * self, guint prop_id, GValue * value)
{
  gboolean known;

  GST_OBJECT_LOCK (self->element);
  known = gst_dcae_settings_get (&self->settings, prop_id, value) ||
      get_status_property (self, prop_id, value);
  GST_OBJECT_UNLOCK (self->element);
  return known;
}

/* ---- errors */

static void
error_to_gst (DcaeDirection direction, gint code, GQuark * domain, gint * out)
{
  static const gint stream_run[] = { GST_STREAM_ERROR_ENCODE,
    GST_STREAM_ERROR_DECODE
  };

  *domain = GST_LIBRARY_ERROR;
  switch (code) {
    case DCAE_ERROR_NOT_FOUND:
      *domain = GST_RESOURCE_ERROR;
      *out = GST_RESOURCE_ERROR_NOT_FOUND;
      break;
    case DCAE_ERROR_READ:
      *domain = GST_RESOURCE_ERROR;
      *out = GST_RESOURCE_ERROR_OPEN_READ;
      break;
    case DCAE_ERROR_FORMAT:
      *domain = GST_STREAM_ERROR;
      *out = GST_STREAM_ERROR_WRONG_TYPE;
      break;
    case DCAE_ERROR_CONFIG:
    case DCAE_ERROR_WEIGHTS:
    case DCAE_ERROR_SHAPE:
      *domain = GST_STREAM_ERROR;
      *out = GST_STREAM_ERROR_FORMAT;
      break;
    case DCAE_ERROR_MEMORY:
      *domain = GST_RESOURCE_ERROR;
      *out = GST_RESOURCE_ERROR_FAILED;
      break;
    case DCAE_ERROR_NOT_FINITE:
      *domain = GST_STREAM_ERROR;
      *out = stream_run[direction];
      break;
    case DCAE_ERROR_SETTINGS:
    case DCAE_ERROR_UNSUPPORTED:
      *out = GST_LIBRARY_ERROR_SETTINGS;
      break;
    default:
      *out = GST_LIBRARY_ERROR_FAILED;
      break;
  }
}

/* Whether what fails is not the loading of the model. */
static gboolean
is_no_loading (const GError * error)
{
  return g_error_matches (error, DCAE_ERROR, DCAE_ERROR_BACKEND) ||
      g_error_matches (error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED);
}

/* Posts without touching self->failed, so that the loader may call it. */
static void
post_error (GstDcaeCodec * self, const gchar * doing, const GError * error)
{
  const GstDcaeSettings *s = &self->used;
  GQuark domain;
  gint code = GST_LIBRARY_ERROR_FAILED;
  gchar *text, *debug;

  domain = GST_LIBRARY_ERROR;
  if (error->domain == DCAE_ERROR)
    error_to_gst (self->direction, error->code, &domain, &code);

  text = g_strdup_printf ("%s: %s", doing, error->message);
  debug = g_strdup_printf ("model=%s variant=%s config=%s",
      s->model ? s->model : "(unset)", s->variant ? s->variant : "(unset)",
      s->config ? s->config : "(unset)");
  gst_element_message_full (self->element, GST_MESSAGE_ERROR, domain, code,
      text, debug, __FILE__, GST_FUNCTION, __LINE__);
}

void
gst_dcae_codec_post_error (GstDcaeCodec * self, const gchar * doing,
    GError * error)
{
  if (!g_error_matches (error, DCAE_ERROR, DCAE_ERROR_CANCELLED)) {
    self->failed = TRUE;
    post_error (self, doing, error);
  }
  g_error_free (error);
}

/* ---- loading */

/* Progress of the worker: which message is open, what was said last. */
typedef struct
{
  GstDcaeCodec *codec;
  gchar *stage;
  gint percent;
} Progress;

static void
post_progress (GstDcaeCodec * self, GstProgressType type, const gchar * stage,
    const gchar * text)
{
  gst_element_post_message (self->element,
      gst_message_new_progress (GST_OBJECT_CAST (self->element), type, stage,
          text));
}

static const gchar *
stage_text (const gchar * stage)
{
  return strcmp (stage, "model-pack") == 0 ? "Preparing the model's weights" :
      "Loading the model";
}

/* The library's callback, on the worker thread. */
static void
on_progress (const char *stage, double fraction, void *user_data)
{
  Progress *progress = user_data;
  gint percent = (gint) (CLAMP (fraction, 0.0, 1.0) * 100.0);
  gchar *text;

  if (strcmp (stage, progress->stage) != 0) {
    post_progress (progress->codec, GST_PROGRESS_TYPE_COMPLETE,
        progress->stage, stage_text (progress->stage));
    g_free (progress->stage);
    progress->stage = g_strdup (stage);
    progress->percent = 0;
    post_progress (progress->codec, GST_PROGRESS_TYPE_START, stage,
        stage_text (stage));
  }
  if (percent < progress->percent + PROGRESS_STEP)
    return;
  progress->percent = percent;
  text = g_strdup_printf ("%s (%d %%)", stage_text (stage), percent);
  post_progress (progress->codec, GST_PROGRESS_TYPE_CONTINUE, stage, text);
  g_free (text);
}

static gboolean
load_codec (GstDcaeCodec * self, Progress * progress, GError ** error)
{
  const GstDcaeSettings *s = &self->used;
  DcaeCodecParams params = {
    .direction = self->direction,
    .backend = s->backend,
    .device = s->device + 1,
    .cuda_context = gst_dcae_cuda_get_handle (self->cuda),
    .precision = s->precision,
    .threads = s->threads,
    .cancellable = self->cancellable,
    .progress = on_progress,
    .progress_data = progress,
  };
  const GstDcaeLookup lookup = {
    .element = self->element,
    .settings = s,
    .request = self->has_request ? &self->request : NULL,
  };

  self->model = gst_dcae_lookup_model (&lookup, error);
  if (!self->model)
    return FALSE;

  params.model = self->model;
  self->codec = dcae_codec_new (&params, error);
  if (!self->codec)
    g_clear_pointer (&self->model, dcae_model_unref);
  return self->codec != NULL;
}

static void
report_loaded (GstDcaeCodec * self)
{
  const DcaeModelInfo *info = dcae_model_info (self->model);

  GST_INFO_OBJECT (self->element, "model %s, hash %s, ratio %u, %u latent "
      "channels, scaling factor %g, backend %s", info->name, info->hash,
      info->ratio, info->latent_channels, info->scaling_factor,
      dcae_codec_backend (self->codec));
  GST_OBJECT_LOCK (self->element);
  self->active_backend = g_intern_string (dcae_codec_backend (self->codec));
  GST_OBJECT_UNLOCK (self->element);
  g_object_notify (G_OBJECT (self->element), "active-backend");
}

static gpointer
loader_main (gpointer data)
{
  GstDcaeCodec *self = data;
  Progress progress = { self, g_strdup ("model-load"), 0 };
  GError *error = NULL;
  gboolean loaded = load_codec (self, &progress, &error);
  GstProgressType end = GST_PROGRESS_TYPE_COMPLETE;

  if (loaded)
    report_loaded (self);
  else if (g_error_matches (error, DCAE_ERROR, DCAE_ERROR_CANCELLED))
    end = GST_PROGRESS_TYPE_CANCELED;
  else
    end = GST_PROGRESS_TYPE_ERROR;
  post_progress (self, end, progress.stage,
      error ? error->message : stage_text (progress.stage));
  if (end == GST_PROGRESS_TYPE_ERROR)
    post_error (self, is_no_loading (error) ? "Could not start" :
        "Could not load the model", error);

  g_mutex_lock (&self->lock);
  self->load_state = loaded ? GST_DCAE_LOAD_DONE : GST_DCAE_LOAD_FAILED;
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);

  g_clear_error (&error);
  g_free (progress.stage);
  return NULL;
}

/* Frees codec and model, so that another one can be loaded. */
static void
unload (GstDcaeCodec * self)
{
  if (self->loader)
    g_thread_join (self->loader);
  self->loader = NULL;

  g_mutex_lock (&self->lock);
  self->load_state = GST_DCAE_LOAD_NONE;
  g_clear_object (&self->cancellable);
  g_clear_pointer (&self->codec, dcae_codec_free);
  g_clear_pointer (&self->model, dcae_model_unref);
  g_mutex_unlock (&self->lock);

  g_free ((gchar *) self->request.name);
  g_free ((gchar *) self->request.hash);
  self->request = (GstDcaeModelRequest) {
  NULL};
  self->has_request = FALSE;
}

/* TRUE where the model that is there, or on its way, is the one to use. */
static gboolean
satisfies (GstDcaeCodec * self, const GstDcaeModelRequest * request)
{
  const DcaeModelInfo *info;

  if (self->used.model || !request)
    return TRUE;
  if (self->load_state == GST_DCAE_LOAD_RUNNING)
    return g_strcmp0 (request->name, self->request.name) == 0 &&
        g_strcmp0 (request->hash, self->request.hash) == 0 &&
        request->channels == self->request.channels &&
        request->ratio == self->request.ratio;
  if (self->load_state != GST_DCAE_LOAD_DONE)
    return FALSE;

  info = dcae_model_info (self->model);
  return (!request->name || !strcmp (request->name, info->name)) &&
      (!request->hash || !strcmp (request->hash, info->hash)) &&
      (!request->ratio || request->ratio == info->ratio) &&
      (request->channels == info->latent_channels ||
      (info->channel_prefix && request->channels < info->latent_channels));
}

/* TRUE where there is nothing to load; else the way is free. */
static gboolean
keep_model (GstDcaeCodec * self, const GstDcaeModelRequest * request)
{
  gboolean keep;

  if (!self->loader)
    return FALSE;

  g_mutex_lock (&self->lock);
  keep = satisfies (self, request);
  if (!keep)
    g_cancellable_cancel (self->cancellable);
  g_mutex_unlock (&self->lock);
  if (!keep)
    unload (self);
  return keep;
}

void
gst_dcae_codec_load (GstDcaeCodec * self, const GstDcaeModelRequest * request)
{
  if (keep_model (self, request))
    return;

  if (request) {
    self->has_request = TRUE;
    self->request = *request;
    self->request.name = g_strdup (request->name);
    self->request.hash = g_strdup (request->hash);
  }
  g_mutex_lock (&self->lock);
  self->load_state = GST_DCAE_LOAD_RUNNING;
  self->cancellable = g_cancellable_new ();
  if (self->stopping)
    g_cancellable_cancel (self->cancellable);
  g_mutex_unlock (&self->lock);

  post_progress (self, GST_PROGRESS_TYPE_START, "model-load",
      stage_text ("model-load"));
  self->loader = g_thread_new ("dcae-load", loader_main, self);
}

GstFlowReturn
gst_dcae_codec_wait (GstDcaeCodec * self)
{
  GstFlowReturn ret = GST_FLOW_ERROR;

  g_mutex_lock (&self->lock);
  while (self->load_state == GST_DCAE_LOAD_RUNNING && !self->stopping &&
      !self->flushing)
    g_cond_wait (&self->cond, &self->lock);

  if (self->stopping || self->flushing)
    ret = GST_FLOW_FLUSHING;
  else if (self->load_state == GST_DCAE_LOAD_DONE)
    ret = GST_FLOW_OK;
  g_mutex_unlock (&self->lock);

  if (ret == GST_FLOW_ERROR)
    self->failed = TRUE;
  return ret;
}

gboolean
gst_dcae_codec_peek_info (GstDcaeCodec * self, DcaeModelInfo * info)
{
  gboolean loaded;

  g_mutex_lock (&self->lock);
  loaded = self->load_state == GST_DCAE_LOAD_DONE;
  if (loaded)
    *info = *dcae_model_info (self->model);
  g_mutex_unlock (&self->lock);
  return loaded;
}

/* ---- life */

void
gst_dcae_codec_init (GstDcaeCodec * self, GstElement * element,
    DcaeDirection direction)
{
  self->element = element;
  self->direction = direction;
  g_mutex_init (&self->lock);
  g_cond_init (&self->cond);
  gst_dcae_settings_init (&self->settings);
}

void
gst_dcae_codec_clear (GstDcaeCodec * self)
{
  gst_dcae_codec_stop (self);
  gst_dcae_settings_clear (&self->settings);
  g_cond_clear (&self->cond);
  g_mutex_clear (&self->lock);
}

/* The neighbours' context, or else one for them to take over. What keeps the
 * backend from working, the library says better while loading. */
static void
find_cuda (GstDcaeCodec * self)
{
  if (self->used.backend == DCAE_BACKEND_CPU)
    return;
  if (gst_dcae_cuda_ensure_context (self->element, self->used.device,
          &self->cuda))
    GST_INFO_OBJECT (self->element, "CUDA context %" GST_PTR_FORMAT,
        self->cuda);
  else
    GST_INFO_OBJECT (self->element, "no CUDA context to share");
}

gboolean
gst_dcae_codec_start (GstDcaeCodec * self)
{
  GST_OBJECT_LOCK (self->element);
  gst_dcae_settings_copy (&self->used, &self->settings);
  self->started = TRUE;
  self->active_backend = self->active_tiling = NULL;
  self->frames = self->dropped = self->peak_bytes = 0;
  self->total_ms = 0.0;
  GST_OBJECT_UNLOCK (self->element);

  g_mutex_lock (&self->lock);
  self->stopping = self->flushing = FALSE;
  g_mutex_unlock (&self->lock);
  self->failed = FALSE;

  if (self->used.slicing && self->used.batch_size > 1) {
    GST_ELEMENT_ERROR (self->element, LIBRARY, SETTINGS,
        ("slicing runs frames one at a time and can't be combined with "
            "batch-size=%u: set batch-size=1 or slicing=false",
            self->used.batch_size), (NULL));
    gst_dcae_codec_stop (self);
    return FALSE;
  }
  if (self->used.tiling != DCAE_TILING_BLEND &&
      gst_dcae_settings_has_tiles (&self->used))
    GST_ELEMENT_WARNING (self->element, LIBRARY, SETTINGS,
        ("tile sizes and strides have no effect with tiling=%s, only with "
            "tiling=blend", gst_dcae_tiling_to_string (self->used.tiling)),
        (NULL));
  find_cuda (self);
  return TRUE;
}

void
gst_dcae_codec_set_context (GstDcaeCodec * self, GstContext * context)
{
  GST_OBJECT_LOCK (self->element);
  if (self->settings.backend != DCAE_BACKEND_CPU)
    gst_dcae_cuda_set_context (self->element, context, self->settings.device,
        &self->cuda);
  GST_OBJECT_UNLOCK (self->element);
}

gboolean
gst_dcae_codec_handle_query (GstDcaeCodec * self, GstQuery * query)
{
  GstObject *cuda;
  gboolean handled;

  if (GST_QUERY_TYPE (query) != GST_QUERY_CONTEXT)
    return FALSE;
  GST_OBJECT_LOCK (self->element);
  cuda = self->cuda ? gst_object_ref (self->cuda) : NULL;
  GST_OBJECT_UNLOCK (self->element);
  handled = gst_dcae_cuda_handle_query (self->element, query, cuda);
  gst_clear_object (&cuda);
  return handled;
}

void
gst_dcae_codec_stop (GstDcaeCodec * self)
{
  GstObject *cuda;

  gst_dcae_codec_interrupt (self);
  unload (self);

  GST_OBJECT_LOCK (self->element);
  cuda = g_steal_pointer (&self->cuda);
  gst_dcae_settings_clear (&self->used);
  self->started = FALSE;
  GST_OBJECT_UNLOCK (self->element);
  gst_clear_object (&cuda);
}

void
gst_dcae_codec_interrupt (GstDcaeCodec * self)
{
  g_mutex_lock (&self->lock);
  self->stopping = TRUE;
  if (self->cancellable)
    g_cancellable_cancel (self->cancellable);
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);
}

/* A flush stops the frame that runs but lets the model finish loading, since
 * the frames behind the flush need it. */
void
gst_dcae_codec_set_flushing (GstDcaeCodec * self, gboolean flushing)
{
  g_mutex_lock (&self->lock);
  self->flushing = flushing;
  if (self->load_state == GST_DCAE_LOAD_DONE && !self->stopping) {
    if (flushing)
      g_cancellable_cancel (self->cancellable);
    else
      g_cancellable_reset (self->cancellable);
  }
  g_cond_broadcast (&self->cond);
  g_mutex_unlock (&self->lock);

  if (!flushing)
    self->failed = FALSE;
}

/* ---- frames */

static gboolean
is_live (GstPad * pad)
{
  GstQuery *query = gst_query_new_latency ();
  gboolean live = FALSE;

  if (gst_pad_peer_query (pad, query))
    gst_query_parse_latency (query, &live, NULL, NULL);
  gst_query_unref (query);
  return live;
}

GstClockTime
gst_dcae_codec_choose_batch (GstDcaeCodec * self, GstPad * pad,
    const GstVideoInfo * info, guint * batch, guint * depth)
{
  guint held;

  *batch = self->used.batch_size;
  *depth = dcae_codec_depth (self->codec);
  held = *batch * *depth - 1;
  if (held == 0)
    return 0;

  /* Of a variable rate the info has the highest, which tells nothing. */
  if (GST_VIDEO_INFO_FPS_N (info) > 0 &&
      !GST_VIDEO_INFO_FLAG_IS_SET (info, GST_VIDEO_FLAG_VARIABLE_FPS))
    return MIN (gst_util_uint64_scale (held,
            GST_SECOND * GST_VIDEO_INFO_FPS_D (info),
            GST_VIDEO_INFO_FPS_N (info)), G_MAXINT64);

  if (is_live (pad)) {
    GST_WARNING_OBJECT (self->element, "live input without a frame rate: "
        "frames run one at a time instead of %u together in %u runs", *batch,
        *depth);
    *batch = *depth = 1;
  } else {
    GST_INFO_OBJECT (self->element, "the frame rate is unknown: the latency of "
        "the %u frames that wait can't be told", held);
  }
  return 0;
}

static guint64
resolve_memory_limit (GstDcaeCodec * self)
{
  guint64 limit = self->used.memory_limit * MIB;
  guint64 available;

  if (limit)
    return limit;
  if (strcmp (dcae_codec_backend (self->codec), "cpu") != 0) {
    GST_INFO_OBJECT (self->element, "memory-limit: half of what is free on the "
        "device; none with tiling=off and blend");
    return 0;
  }
  available = dcae_memory_available ();
  GST_INFO_OBJECT (self->element, "memory-limit: half of %" G_GUINT64_FORMAT
      " MiB available", available / MIB);
  return available / 2;
}

static void
report_plan (GstDcaeCodec * self, const DcaeGeometry * geometry)
{
  const DcaePlanInfo *plan = dcae_codec_plan_info (self->codec);

  GST_INFO_OBJECT (self->element, "%ux%u pixels, latents %ux%ux%u, batch %u, "
      "tiling %s (%u bands, %u tiles), activations %" G_GUINT64_FORMAT
      " KiB of %" G_GUINT64_FORMAT " KiB allowed, weights %" G_GUINT64_FORMAT
      " KiB", plan->width, plan->height, plan->latent_channels,
      plan->latent_height, plan->latent_width, geometry->batch,
      gst_dcae_tiling_to_string (plan->tiling), plan->bands, plan->tiles,
      plan->activation_bytes / 1024, geometry->tiling.memory_limit / 1024,
      plan->weight_bytes / 1024);

  GST_OBJECT_LOCK (self->element);
  self->active_tiling = gst_dcae_tiling_to_string (plan->tiling);
  self->peak_bytes = MAX (self->peak_bytes, plan->activation_bytes);
  GST_OBJECT_UNLOCK (self->element);
  g_object_notify (G_OBJECT (self->element), "active-tiling");
}

gboolean
gst_dcae_codec_configure (GstDcaeCodec * self, DcaeGeometry * geometry)
{
  const GstDcaeSettings *s = &self->used;
  GError *error = NULL;

  geometry->tiling.mode = s->tiling;
  geometry->tiling.tile_width = gst_dcae_settings_tile (s->tile_width);
  geometry->tiling.tile_height = gst_dcae_settings_tile (s->tile_height);
  geometry->tiling.stride_width = s->tile_stride_width;
  geometry->tiling.stride_height = s->tile_stride_height;
  geometry->tiling.memory_limit = resolve_memory_limit (self);

  if (!dcae_codec_configure (self->codec, geometry, &error)) {
    gst_dcae_codec_post_error (self, "Could not set up the codec", error);
    return FALSE;
  }
  report_plan (self, geometry);
  return TRUE;
}

/* Posts what became of a run; takes error. Errors come once. */
static GstFlowReturn
fail_run (GstDcaeCodec * self, GError * error, guint n, guint first)
{
  const gchar *verb = self->direction == DCAE_ENCODE ? "encode" : "decode";
  gchar *doing;

  if (g_error_matches (error, DCAE_ERROR, DCAE_ERROR_CANCELLED)) {
    g_error_free (error);
    return GST_FLOW_FLUSHING;
  }
  if (self->failed) {
    GST_WARNING_OBJECT (self->element, "frame %u failed too: %s", first,
        error->message);
    g_error_free (error);
    return GST_FLOW_ERROR;
  }
  doing = n == 1 ? g_strdup_printf ("Could not %s frame %u", verb, first) :
      g_strdup_printf ("Could not %s frames %u to %u", verb, first,
      first + n - 1);
  gst_dcae_codec_post_error (self, doing, error);
  g_free (doing);
  return GST_FLOW_ERROR;
}

static void
count_time (GstDcaeCodec * self, gint64 begin, guint frames)
{
  GST_OBJECT_LOCK (self->element);
  self->frames += frames;
  self->total_ms += (g_get_monotonic_time () - begin) / 1000.0;
  GST_OBJECT_UNLOCK (self->element);
}

GstFlowReturn
gst_dcae_codec_begin (GstDcaeCodec * self, const DcaeImage * images,
    const DcaeLatent * latents, guint n, guint first, guint64 * ticket)
{
  GError *error = NULL;
  gint64 begin = g_get_monotonic_time ();
  gboolean interrupted;

  g_mutex_lock (&self->lock);
  interrupted = self->stopping || self->flushing;
  g_mutex_unlock (&self->lock);
  if (interrupted)
    return GST_FLOW_FLUSHING;

  if (!dcae_codec_submit (self->codec, images, latents, n, ticket, &error))
    return fail_run (self, error, n, first);
  count_time (self, begin, 0);
  return GST_FLOW_OK;
}

GstFlowReturn
gst_dcae_codec_end (GstDcaeCodec * self, guint64 ticket, guint n, guint first)
{
  GError *error = NULL;
  gint64 begin = g_get_monotonic_time ();

  if (!dcae_codec_wait (self->codec, ticket, &error))
    return fail_run (self, error, n, first);
  count_time (self, begin, n);
  GST_LOG_OBJECT (self->element, "%u frames from %u are done", n, first);
  return GST_FLOW_OK;
}

void
gst_dcae_codec_abandon (GstDcaeCodec * self, guint64 ticket)
{
  dcae_codec_wait (self->codec, ticket, NULL);
}

/* Elements downstream may return GST_FLOW_ERROR without a message, as those of
 * nvcodec do: then this is the only one. */
gboolean
gst_dcae_codec_check_drain (GstDcaeCodec * self, GstFlowReturn flow,
    gboolean last)
{
  if (!self->failed && (flow < GST_FLOW_EOS || (last &&
              flow == GST_FLOW_NOT_LINKED))) {
    GST_ELEMENT_FLOW_ERROR (self->element, flow);
    self->failed = TRUE;
  }
  return !self->failed;
}

void
gst_dcae_codec_count_dropped (GstDcaeCodec * self)
{
  GST_OBJECT_LOCK (self->element);
  self->dropped++;
  GST_OBJECT_UNLOCK (self->element);
}

/* ---- pads */

void
gst_dcae_codec_add_pad_template (GstElementClass * klass, const gchar * name,
    GstPadDirection direction, const gchar * caps, const gchar * cuda)
{
  GstCaps *all = gst_dcae_cuda_append_caps (gst_caps_from_string (caps), cuda);

  gst_element_class_add_pad_template (klass, gst_pad_template_new (name,
          direction, GST_PAD_ALWAYS, all));
  gst_caps_unref (all);
}

/* own restricted by the named fields of one structure of the peer's caps. */
static GstCaps *
restrict_caps (GstCaps * own, const GstStructure * peer,
    const gchar * const *fields, gboolean optional)
{
  GstCaps *caps = gst_caps_copy (own);

  for (guint i = 0; fields[i]; i++) {
    const GValue *value = gst_structure_get_value (peer, fields[i]);

    if (value && (!optional || gst_value_is_fixed (value)))
      gst_caps_set_value (caps, fields[i], value);
  }
  return caps;
}

GstCaps *
gst_dcae_codec_proxy_caps (GstPad * srcpad, GstCaps * own,
    const gchar * const *fields, gboolean optional, GstCaps * filter)
{
  GstCaps *allowed = gst_pad_get_allowed_caps (srcpad);
  GstCaps *result;

  if (allowed && gst_caps_is_empty (allowed)) {
    gst_caps_unref (own);
    return allowed;
  }
  if (allowed && !gst_caps_is_any (allowed)) {
    GstCaps *proxied = gst_caps_new_empty ();

    for (guint i = 0; i < gst_caps_get_size (allowed); i++)
      proxied = gst_caps_merge (proxied, restrict_caps (own,
              gst_caps_get_structure (allowed, i), fields, optional));
    result = gst_caps_intersect (proxied, own);
    gst_caps_unref (proxied);
    gst_caps_unref (own);
  } else {
    result = own;
  }
  gst_clear_caps (&allowed);

  if (filter) {
    GstCaps *filtered =
        gst_caps_intersect_full (filter, result, GST_CAPS_INTERSECT_FIRST);

    gst_caps_unref (result);
    result = filtered;
  }
  return gst_dcae_cuda_prefer (result);
}

GstObject *
gst_dcae_codec_get_cuda (GstDcaeCodec * self)
{
  GstObject *cuda = NULL;

  GST_OBJECT_LOCK (self->element);
  if (!self->active_backend || strcmp (self->active_backend, "cuda") == 0)
    cuda = self->cuda;
  GST_OBJECT_UNLOCK (self->element);
  return cuda;
}

/* Elements are linked before they start. */
static gboolean
may_use_device (GstDcaeCodec * self)
{
  gboolean is_idle;

  GST_OBJECT_LOCK (self->element);
  is_idle = !self->started && self->settings.backend != DCAE_BACKEND_CPU;
  GST_OBJECT_UNLOCK (self->element);
  return is_idle || gst_dcae_codec_get_cuda (self);
}

GstCaps *
gst_dcae_codec_restrict_memory (GstDcaeCodec * self, GstCaps * own)
{
  return may_use_device (self) ? own : gst_dcae_cuda_filter_caps (own, FALSE);
}

GstCaps *
gst_dcae_codec_get_output_caps (GstDcaeCodec * self, GstPad * srcpad)
{
  gboolean named = gst_dcae_cuda_peer_has_feature (srcpad);
  gboolean device = named && gst_dcae_codec_get_cuda (self);
  GstCaps *caps = gst_pad_get_allowed_caps (srcpad);
  gboolean empty;

  if (!caps)
    caps = gst_pad_get_pad_template_caps (srcpad);
  empty = gst_caps_is_empty (caps);
  caps = gst_dcae_cuda_filter_caps (caps, device);
  if (named && !device && !empty && gst_caps_is_empty (caps)) {
    GST_ELEMENT_ERROR (self->element, LIBRARY, SETTINGS,
        ("Downstream takes CUDA memory only, but backend=%s works in system "
            "memory: set backend=cuda, or put cudaupload behind this element",
            self->active_backend), (NULL));
    self->failed = TRUE;
  }
  return caps;
}

gboolean
gst_dcae_codec_needs_new_output (GstPad * srcpad)
{
  GstCaps *caps;
  gboolean taken = TRUE;

  if (!GST_PAD_NEEDS_RECONFIGURE (srcpad))
    return FALSE;
  caps = gst_pad_get_current_caps (srcpad);
  if (caps) {
    taken = gst_pad_peer_query_accept_caps (srcpad, caps);
    gst_caps_unref (caps);
  }
  return !taken;
}
