/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaedec.c - DC-AE latents to raw video. What encoder and decoder share is
 * in gstdcaecodec.c, what latent caps look like in gstdcaelatent.c.
 */

/**
 * SECTION:element-dcaedec
 * @title: dcaedec
 * @short_description: decodes DC-AE latents to raw video
 * @see_also: dcaeenc, dcaedemux
 *
 * Decodes latents of a deep compression autoencoder (DC-AE), one frame a
 * buffer, planar [channel][row][column] in little endian, to raw video.
 *
 * Without #GstDcaeDec:model the element takes the model that the caps name, if
 * that is installed or in the local Hugging Face cache and its hash agrees;
 * where the caps name none but have the shape of the demonstration model,
 * that one. Loading is told by progress messages with the codes `model-load`
 * and `model-pack`.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=100 ! video/x-raw,width=320,height=240 ! dcaeenc ! dcaedec ! videoconvert ! autovideosink
 * ]| Shows what the demonstration model makes of the test picture.
 * |[
 * gst-launch-1.0 filesrc location=clip.safetensors ! dcaedemux ! dcaedec ! videoconvert ! autovideosink
 * ]| Plays a clip of latents.
 * |[
 * gst-launch-1.0 filesrc location=latents.safetensors ! dcaedemux ! dcaedec model=mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers scale-latents=false tiling=exact ! videoconvert ! jpegenc ! multifilesink location=%05d.jpg
 * ]| Decodes unscaled latents written from Python, in bounded memory, to JPEG
 * files.
 *
 * Since: 0.1
 */
#include "gstdcaedec.h"

#include <math.h>
#include <string.h>

#include "gstdcaecodec.h"
#include "gstdcaeimage.h"
#include "gstdcaelatent.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_dec_debug);
#define GST_CAT_DEFAULT gst_dcae_dec_debug

/* One frame of a batch while it is mapped. copy: the latent, where the
 * buffer's memory is not aligned to its elements. */
typedef struct
{
  GstMapInfo in;
  GstVideoFrame out;
  gpointer copy;
} GstDcaeDecJob;

struct _GstDcaeDec
{
  GstVideoDecoder parent;

  GstDcaeCodec codec;

  /* Streaming thread. */
  GstVideoCodecState *input_state;
  GstDcaeLatentInfo latent;     /* what the caps of input_state say */
  gboolean configured;          /* the codec stands for input_state */
  GstVideoInfo output_info;
  guint channels;               /* first latent channels that are used */
  gsize latent_size;            /* bytes of one input buffer */
  guint batch;
  GQueue pending;               /* GstVideoCodecFrame, fewer than batch */
  GstDcaeDecJob *jobs;          /* [batch] */
  DcaeImage *images;            /* [batch] */
  DcaeLatent *latents;          /* [batch] */
};

static void gst_dcae_dec_set_property (GObject * object, guint prop_id,
    const GValue * value, GParamSpec * pspec);
static void gst_dcae_dec_get_property (GObject * object, guint prop_id,
    GValue * value, GParamSpec * pspec);
static void gst_dcae_dec_finalize (GObject * object);
static GstStateChangeReturn gst_dcae_dec_change_state (GstElement * element,
    GstStateChange transition);
static gboolean gst_dcae_dec_start (GstVideoDecoder * decoder);
static gboolean gst_dcae_dec_stop (GstVideoDecoder * decoder);
static gboolean gst_dcae_dec_set_format (GstVideoDecoder * decoder,
    GstVideoCodecState * state);
static GstFlowReturn gst_dcae_dec_handle_frame (GstVideoDecoder * decoder,
    GstVideoCodecFrame * frame);
static GstFlowReturn gst_dcae_dec_finish (GstVideoDecoder * decoder);
static gboolean gst_dcae_dec_flush (GstVideoDecoder * decoder);
static gboolean gst_dcae_dec_sink_event (GstVideoDecoder * decoder,
    GstEvent * event);
static GstCaps *gst_dcae_dec_getcaps (GstVideoDecoder * decoder,
    GstCaps * filter);
static gboolean gst_dcae_dec_decide_allocation (GstVideoDecoder * decoder,
    GstQuery * query);

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE ("sink",
    GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS (GST_DCAE_LATENT_CAPS));

static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE ("src",
    GST_PAD_SRC, GST_PAD_ALWAYS,
    GST_STATIC_CAPS (GST_VIDEO_CAPS_MAKE (GST_DCAE_RAW_FORMATS)));

#define gst_dcae_dec_parent_class parent_class
G_DEFINE_TYPE (GstDcaeDec, gst_dcae_dec, GST_TYPE_VIDEO_DECODER);
GST_ELEMENT_REGISTER_DEFINE (dcaedec, "dcaedec", GST_RANK_PRIMARY,
    GST_TYPE_DCAE_DEC);

static void
gst_dcae_dec_class_init (GstDcaeDecClass * klass)
{
  GObjectClass *gobject_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  GstVideoDecoderClass *decoder_class = GST_VIDEO_DECODER_CLASS (klass);

  GST_DEBUG_CATEGORY_INIT (gst_dcae_dec_debug, "dcaedec", 0, "DC-AE decoder");

  gobject_class->set_property = gst_dcae_dec_set_property;
  gobject_class->get_property = gst_dcae_dec_get_property;
  gobject_class->finalize = gst_dcae_dec_finalize;
  gst_dcae_codec_class_init (gobject_class);

  element_class->change_state = gst_dcae_dec_change_state;
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "DC-AE decoder",
      "Codec/Decoder/Video",
      "Decodes latents of a deep compression autoencoder (DC-AE) to video",
      "The gst-dcae developers");

  decoder_class->start = gst_dcae_dec_start;
  decoder_class->stop = gst_dcae_dec_stop;
  decoder_class->set_format = gst_dcae_dec_set_format;
  decoder_class->handle_frame = gst_dcae_dec_handle_frame;
  decoder_class->finish = gst_dcae_dec_finish;
  decoder_class->drain = gst_dcae_dec_finish;
  decoder_class->flush = gst_dcae_dec_flush;
  decoder_class->sink_event = gst_dcae_dec_sink_event;
  decoder_class->getcaps = gst_dcae_dec_getcaps;
  decoder_class->decide_allocation = gst_dcae_dec_decide_allocation;
}

static void
gst_dcae_dec_init (GstDcaeDec * self)
{
  GstVideoDecoder *decoder = GST_VIDEO_DECODER (self);

  gst_dcae_codec_init (&self->codec, GST_ELEMENT_CAST (self), DCAE_DECODE);
  gst_dcae_latent_info_init (&self->latent);
  g_queue_init (&self->pending);

  gst_video_decoder_set_packetized (decoder, TRUE);
  gst_video_decoder_set_needs_format (decoder, TRUE);
  gst_video_decoder_set_max_errors (decoder, 0);
  gst_video_decoder_set_use_default_pad_acceptcaps (decoder, TRUE);
  GST_PAD_SET_ACCEPT_TEMPLATE (GST_VIDEO_DECODER_SINK_PAD (decoder));
}

static void
gst_dcae_dec_finalize (GObject * object)
{
  GstDcaeDec *self = GST_DCAE_DEC (object);

  gst_dcae_latent_info_clear (&self->latent);
  gst_dcae_codec_clear (&self->codec);
  G_OBJECT_CLASS (parent_class)->finalize (object);
}

static void
gst_dcae_dec_set_property (GObject * object, guint prop_id,
    const GValue * value, GParamSpec * pspec)
{
  GstDcaeDec *self = GST_DCAE_DEC (object);

  gst_dcae_codec_warn_late_property (&self->codec, pspec);
  if (!gst_dcae_codec_set_property (&self->codec, prop_id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
}

static void
gst_dcae_dec_get_property (GObject * object, guint prop_id, GValue * value,
    GParamSpec * pspec)
{
  GstDcaeDec *self = GST_DCAE_DEC (object);

  if (!gst_dcae_codec_get_property (&self->codec, prop_id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
}

/* ---- states */

/* stop() comes after the pads wait for the streaming thread: what may keep
 * that thread has to be told before. */
static GstStateChangeReturn
gst_dcae_dec_change_state (GstElement * element, GstStateChange transition)
{
  GstDcaeDec *self = GST_DCAE_DEC (element);

  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    gst_dcae_codec_interrupt (&self->codec);
  return GST_ELEMENT_CLASS (parent_class)->change_state (element, transition);
}

/* Without a model property the caps say what to load. */
static gboolean
gst_dcae_dec_start (GstVideoDecoder * decoder)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);

  if (!gst_dcae_codec_start (&self->codec))
    return FALSE;
  if (self->codec.used.model)
    gst_dcae_codec_load (&self->codec, NULL);
  return TRUE;
}

static void
drop_pending (GstDcaeDec * self)
{
  g_queue_clear_full (&self->pending,
      (GDestroyNotify) gst_video_codec_frame_unref);
}

static void
free_jobs (GstDcaeDec * self)
{
  for (guint i = 0; self->jobs && i < self->batch; i++)
    g_free (self->jobs[i].copy);
  g_clear_pointer (&self->jobs, g_free);
  g_clear_pointer (&self->images, g_free);
  g_clear_pointer (&self->latents, g_free);
}

static gboolean
gst_dcae_dec_stop (GstVideoDecoder * decoder)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);

  drop_pending (self);
  free_jobs (self);
  gst_dcae_codec_stop (&self->codec);
  g_clear_pointer (&self->input_state, gst_video_codec_state_unref);
  self->configured = FALSE;
  return TRUE;
}

/* ---- negotiation */

/* Errors of caps name the field, what it is and what it would have to be. */
static gboolean
refuse_field (GstDcaeDec * self, const gchar * field, const gchar * is,
    const gchar * wanted)
{
  GST_ELEMENT_ERROR (self, STREAM, FORMAT,
      ("The latents do not fit the model: %s is %s, but %s", field, is,
          wanted), ("model %s, hash %s",
          dcae_model_info (self->codec.model)->name,
          dcae_model_info (self->codec.model)->hash));
  self->codec.failed = TRUE;
  return FALSE;
}

static gboolean
check_int (GstDcaeDec * self, const gchar * field, gint is, gboolean ok,
    const gchar * wanted_format, gint wanted)
{
  gchar *is_text, *wanted_text;

  if (ok)
    return TRUE;
  is_text = g_strdup_printf ("%d", is);
  wanted_text = g_strdup_printf ("%s %d", wanted_format, wanted);
  refuse_field (self, field, is_text, wanted_text);
  g_free (wanted_text);
  g_free (is_text);
  return FALSE;
}

static gboolean
check_scaling (GstDcaeDec * self, const DcaeModelInfo * model)
{
  const GstDcaeLatentInfo *latent = &self->latent;
  gchar *is, *wanted;

  if (latent->scaled != GST_DCAE_SCALED_YES || latent->scaling_factor == 0 ||
      fabs (latent->scaling_factor - model->scaling_factor) <=
      1e-6 * fabs (model->scaling_factor))
    return TRUE;

  is = g_strdup_printf ("%g", latent->scaling_factor);
  wanted = g_strdup_printf ("the model has %g", model->scaling_factor);
  refuse_field (self, "scaling-factor", is, wanted);
  g_free (wanted);
  g_free (is);
  return FALSE;
}

/* Compares what the caps say with the model that was loaded. Another hash is
 * only a warning: precision variants of one model differ in it. */
static gboolean
check_latents (GstDcaeDec * self)
{
  const DcaeModelInfo *model = dcae_model_info (self->codec.model);
  const GstDcaeLatentInfo *latent = &self->latent;
  gint channels = model->latent_channels, ratio = model->ratio;
  gint64 width = (gint64) latent->latent_width * ratio;
  gint64 height = (gint64) latent->latent_height * ratio;

  if (!check_int (self, "spatial-ratio", latent->spatial_ratio,
          !latent->spatial_ratio || latent->spatial_ratio == ratio,
          "the model has", ratio) ||
      !check_int (self, "latent-channels", latent->latent_channels,
          latent->latent_channels == channels || (model->channel_prefix &&
              latent->latent_channels < channels), "the model has", channels) ||
      !check_int (self, "latent-width", latent->latent_width,
          width <= G_MAXINT, "at most", G_MAXINT / ratio) ||
      !check_int (self, "latent-height", latent->latent_height,
          height <= G_MAXINT, "at most", G_MAXINT / ratio) ||
      !check_int (self, "width", latent->width, latent->width <= width,
          "the latents have at most", (gint) width) ||
      !check_int (self, "height", latent->height, latent->height <= height,
          "the latents have at most", (gint) height) ||
      !check_scaling (self, model))
    return FALSE;

  if (latent->model_hash && strcmp (latent->model_hash, model->hash) != 0)
    GST_ELEMENT_WARNING (self, STREAM, FORMAT,
        ("The latents were made by another model, or another precision of it: "
            "their caps say %s with hash %s, but %s with hash %s decodes them",
            latent->model ? latent->model : "a model", latent->model_hash,
            model->name, model->hash), (NULL));
  return TRUE;
}

/* How many of the first channels are used: all that come, or fewer where the
 * property says so. */
static gboolean
choose_channels (GstDcaeDec * self)
{
  guint wanted = self->codec.used.latent_channels;
  guint got = self->latent.latent_channels;

  if (wanted > got) {
    GST_ELEMENT_ERROR (self, LIBRARY, SETTINGS,
        ("latent-channels is set to %u, but the latents have %u channels",
            wanted, got), (NULL));
    self->codec.failed = TRUE;
    return FALSE;
  }
  self->channels = wanted ? wanted : got;
  return TRUE;
}

/* TRUE where colorimetry is one that pixels of this format are written in. */
static gboolean
is_writable (const GstVideoInfo * info, const GstVideoColorimetry * c)
{
  gdouble kr, kb;

  if (GST_VIDEO_INFO_IS_RGB (info))
    return c->matrix == GST_VIDEO_COLOR_MATRIX_RGB &&
        c->range == GST_VIDEO_COLOR_RANGE_0_255;
  if (c->range == GST_VIDEO_COLOR_RANGE_UNKNOWN)
    return FALSE;
  return GST_VIDEO_INFO_IS_GRAY (info) ||
      gst_video_color_matrix_get_Kr_Kb (c->matrix, &kr, &kb);
}

/* GStreamer's default matrix and range for the format and size, with the
 * primaries and transfer that the latents have; where downstream does not take
 * that, what it asks for. */
static gboolean
choose_colorimetry (GstDcaeDec * self, GstVideoInfo * info, GstStructure * s)
{
  GstVideoColorimetry c, own = info->colorimetry;
  GValue value = G_VALUE_INIT;
  const gchar *asked;
  gboolean fits = TRUE;

  if (self->latent.colorimetry &&
      gst_video_colorimetry_from_string (&c, self->latent.colorimetry)) {
    if (c.primaries != GST_VIDEO_COLOR_PRIMARIES_UNKNOWN)
      own.primaries = c.primaries;
    if (c.transfer != GST_VIDEO_TRANSFER_UNKNOWN)
      own.transfer = c.transfer;
  }
  info->colorimetry = own;
  if (!gst_structure_has_field (s, "colorimetry"))
    return TRUE;

  g_value_init (&value, G_TYPE_STRING);
  g_value_take_string (&value, gst_video_colorimetry_to_string (&own));
  if (!gst_value_intersect (NULL, gst_structure_get_value (s, "colorimetry"),
          &value)) {
    gst_structure_fixate_field (s, "colorimetry");
    asked = gst_structure_get_string (s, "colorimetry");
    fits = asked && gst_video_colorimetry_from_string (&c, asked) &&
        is_writable (info, &c);
    if (fits)
      info->colorimetry = c;
    else
      GST_WARNING_OBJECT (self, "can't write %s with colorimetry %s",
          GST_VIDEO_INFO_NAME (info), asked ? asked : "(none)");
  }
  g_value_unset (&value);
  return fits;
}

static void
choose_chroma_site (GstVideoInfo * info, GstStructure * s)
{
  const gchar *site;

  if (!GST_VIDEO_INFO_IS_YUV (info) ||
      !gst_structure_has_field (s, "chroma-site"))
    return;
  gst_structure_fixate_field (s, "chroma-site");
  site = gst_structure_get_string (s, "chroma-site");
  if (site)
    info->chroma_site = gst_video_chroma_site_from_string (site);
}

/* The caps of downstream that a picture of that size can have; NULL: none. */
static GstStructure *
find_output (GstDcaeDec * self, gint width, gint height)
{
  GstPad *pad = GST_VIDEO_DECODER_SRC_PAD (self);
  GstCaps *allowed = gst_pad_get_allowed_caps (pad);
  GstCaps *size, *sized;
  GstStructure *s = NULL;

  if (!allowed || gst_caps_is_any (allowed)) {
    gst_clear_caps (&allowed);
    allowed = gst_pad_get_pad_template_caps (pad);
  }
  size = gst_caps_new_simple ("video/x-raw", "width", G_TYPE_INT, width,
      "height", G_TYPE_INT, height, NULL);
  sized = gst_caps_intersect_full (allowed, size, GST_CAPS_INTERSECT_FIRST);
  if (gst_caps_is_empty (sized)) {
    GST_WARNING_OBJECT (self, "downstream takes no pictures of %dx%d pixels: %"
        GST_PTR_FORMAT, width, height, allowed);
  } else {
    s = gst_structure_copy (gst_caps_get_structure (sized, 0));
    gst_structure_fixate_field (s, "format");
  }
  gst_caps_unref (sized);
  gst_caps_unref (size);
  gst_caps_unref (allowed);
  return s;
}

static gboolean
set_output (GstDcaeDec * self)
{
  const DcaePlanInfo *plan = dcae_codec_plan_info (self->codec.codec);
  GstStructure *s = find_output (self, plan->width, plan->height);
  GstVideoInfo *info = &self->output_info;
  GstVideoCodecState *output;
  GstVideoFormat format;
  gboolean fits;

  if (!s)
    return FALSE;

  format = gst_video_format_from_string (gst_structure_get_string (s,
          "format"));
  gst_video_info_set_format (info, format, plan->width, plan->height);
  fits = choose_colorimetry (self, info, s);
  choose_chroma_site (info, s);
  gst_structure_free (s);
  if (!fits)
    return FALSE;

  output = gst_video_decoder_set_output_state (GST_VIDEO_DECODER (self),
      format, plan->width, plan->height, self->input_state);
  output->info.colorimetry = info->colorimetry;
  output->info.chroma_site = info->chroma_site;
  output->info.interlace_mode = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  *info = output->info;
  gst_video_codec_state_unref (output);
  return TRUE;
}

static void
set_tags (GstDcaeDec * self)
{
  GstTagList *tags = gst_tag_list_new (GST_TAG_VIDEO_CODEC,
      GST_DCAE_LATENT_CODEC_NAME, NULL);

  gst_video_decoder_merge_tags (GST_VIDEO_DECODER (self), tags,
      GST_TAG_MERGE_REPLACE);
  gst_tag_list_unref (tags);
}

static gboolean
is_scaled (GstDcaeDec * self)
{
  if (self->latent.scaled == GST_DCAE_SCALED_UNKNOWN)
    return self->codec.used.scale_latents;
  return self->latent.scaled == GST_DCAE_SCALED_YES;
}

static gboolean
configure_codec (GstDcaeDec * self, GstClockTime * latency)
{
  DcaeGeometry geometry = {
    .width = self->latent.width,
    .height = self->latent.height,
    .latent_width = self->latent.latent_width,
    .latent_height = self->latent.latent_height,
    .scale = is_scaled (self),
  };
  guint all = dcae_model_info (self->codec.model)->latent_channels;

  if (self->codec.used.latent_channels || self->channels != all)
    geometry.latent_channels = self->channels;
  free_jobs (self);
  self->batch = geometry.batch = gst_dcae_codec_choose_batch (&self->codec,
      GST_VIDEO_DECODER_SINK_PAD (self), &self->input_state->info, latency);
  if (!gst_dcae_codec_configure (&self->codec, &geometry))
    return FALSE;

  self->jobs = g_new0 (GstDcaeDecJob, self->batch);
  self->images = g_new0 (DcaeImage, self->batch);
  self->latents = g_new0 (DcaeLatent, self->batch);
  GST_INFO_OBJECT (self, "latents are %s", geometry.scale ? "scaled" :
      "not scaled");
  return TRUE;
}

/* Waits for the model, plans for input_state and negotiates the output. An
 * interrupted wait leaves the rest to the next frame. */
static GstFlowReturn
configure (GstDcaeDec * self)
{
  GstVideoDecoder *decoder = GST_VIDEO_DECODER (self);
  GstFlowReturn flow = gst_dcae_codec_wait (&self->codec);
  GstClockTime latency;

  if (flow != GST_FLOW_OK)
    return flow;
  if (!check_latents (self) || !choose_channels (self) ||
      !configure_codec (self, &latency))
    return GST_FLOW_ERROR;
  if (!set_output (self))
    return GST_FLOW_NOT_NEGOTIATED;

  gst_video_decoder_set_latency (decoder, latency, latency);
  set_tags (self);
  self->configured = TRUE;

  if (!gst_video_decoder_negotiate (decoder))
    return GST_PAD_IS_FLUSHING (GST_VIDEO_DECODER_SRC_PAD (self)) ?
        GST_FLOW_FLUSHING : GST_FLOW_NOT_NEGOTIATED;
  return GST_FLOW_OK;
}

static gboolean
read_caps (GstDcaeDec * self, GstCaps * caps)
{
  GError *error = NULL;

  if (!gst_dcae_latent_info_from_caps (&self->latent, caps, &error)) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("The caps of the latents are wrong: %s", error->message), (NULL));
    g_error_free (error);
    return FALSE;
  }
  if (!gst_dcae_latent_info_frame_size (&self->latent, &self->latent_size)) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("The caps of the latents are wrong: latent-channels, latent-width "
            "and latent-height are too large together"), (NULL));
    return FALSE;
  }
  return TRUE;
}

static GstFlowReturn run_pending (GstDcaeDec * self);

static gboolean
gst_dcae_dec_set_format (GstVideoDecoder * decoder, GstVideoCodecState * state)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  GstFlowReturn flow = run_pending (self);
  GstDcaeModelRequest request;

  if (flow != GST_FLOW_OK && flow != GST_FLOW_FLUSHING)
    return FALSE;
  if (self->codec.failed)       /* the same caps again: errors come once */
    return FALSE;

  self->configured = FALSE;
  self->codec.failed = TRUE;
  if (!read_caps (self, state->caps))
    return FALSE;

  self->codec.failed = FALSE;
  g_clear_pointer (&self->input_state, gst_video_codec_state_unref);
  self->input_state = gst_video_codec_state_ref (state);

  request = (GstDcaeModelRequest) {
  self->latent.model, self->latent.model_hash,
        self->latent.latent_channels, self->latent.spatial_ratio};
  gst_dcae_codec_load (&self->codec, &request);
  flow = configure (self);
  return flow == GST_FLOW_OK || flow == GST_FLOW_FLUSHING;
}

/* Once a model is loaded only its latents are taken. */
static GstCaps *
gst_dcae_dec_getcaps (GstVideoDecoder * decoder, GstCaps * filter)
{
  static const gchar *const fields[] = { "framerate", "pixel-aspect-ratio",
    "width", "height", NULL
  };
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  GstCaps *own =
      gst_pad_get_pad_template_caps (GST_VIDEO_DECODER_SINK_PAD (decoder));
  DcaeModelInfo model;

  if (gst_dcae_codec_peek_info (&self->codec, &model) &&
      self->codec.used.model) {
    own = gst_caps_make_writable (own);
    gst_caps_set_simple (own, "spatial-ratio", G_TYPE_INT, model.ratio, NULL);
    if (!model.channel_prefix || model.latent_channels == 1)
      gst_caps_set_simple (own, "latent-channels", G_TYPE_INT,
          model.latent_channels, NULL);
    else
      gst_caps_set_simple (own, "latent-channels", GST_TYPE_INT_RANGE, 1,
          model.latent_channels, NULL);
  }
  return gst_dcae_codec_proxy_caps (GST_VIDEO_DECODER_SRC_PAD (decoder), own,
      fields, TRUE, filter);
}

/* A pool of our own, for a peer whose pool can't give a batch of buffers. */
static GstBufferPool *
make_pool (GstCaps * caps, guint size, guint min, gboolean meta)
{
  GstBufferPool *pool = gst_video_buffer_pool_new ();
  GstStructure *config = gst_buffer_pool_get_config (pool);

  gst_buffer_pool_config_set_params (config, caps, size, min, 0);
  if (meta)
    gst_buffer_pool_config_add_option (config,
        GST_BUFFER_POOL_OPTION_VIDEO_META);
  gst_buffer_pool_set_config (pool, config);
  return pool;
}

static gboolean
gst_dcae_dec_decide_allocation (GstVideoDecoder * decoder, GstQuery * query)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  GstBufferPool *pool = NULL;
  GstStructure *config;
  GstCaps *caps;
  guint size, min, max;
  gboolean meta;

  if (!GST_VIDEO_DECODER_CLASS (parent_class)->decide_allocation (decoder,
          query))
    return FALSE;

  meta = gst_query_find_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL);
  gst_query_parse_allocation (query, &caps, NULL);
  gst_query_parse_nth_allocation_pool (query, 0, &pool, &size, &min, &max);
  config = gst_buffer_pool_get_config (pool);
  if (meta)
    gst_buffer_pool_config_add_option (config,
        GST_BUFFER_POOL_OPTION_VIDEO_META);
  if (self->batch > 1) {
    min += self->batch;
    max = max ? MAX (max, min) : 0;
    gst_buffer_pool_config_set_params (config, caps, size, min, max);
  }
  if (!gst_buffer_pool_set_config (pool, config) && self->batch > 1) {
    GST_DEBUG_OBJECT (self, "the peer's pool can't give %u buffers", min);
    gst_object_unref (pool);
    pool = make_pool (caps, size, min, meta);
    max = 0;
  }
  gst_query_set_nth_allocation_pool (query, 0, pool, size, min, max);
  gst_object_unref (pool);
  return TRUE;
}

/* ---- frames */

static gboolean
map_latent (GstDcaeDec * self, GstVideoCodecFrame * frame, guint i)
{
  gsize element = gst_dcae_latent_format_size (self->latent.format);
  GstDcaeDecJob *job = &self->jobs[i];
  gpointer data;

  if (!gst_buffer_map (frame->input_buffer, &job->in, GST_MAP_READ)) {
    GST_ELEMENT_ERROR (self, RESOURCE, READ,
        ("The latent of frame %u can't be read", frame->system_frame_number),
        (NULL));
    return FALSE;
  }

  data = job->in.data;
  if ((guintptr) data % element != 0) {
    if (!job->copy)
      job->copy = g_malloc (self->latent_size);
    memcpy (job->copy, data, self->latent_size);
    data = job->copy;
  }
  self->latents[i] = (DcaeLatent) {
  DCAE_MEMORY_HOST, self->latent.format, self->channels,
        self->latent.latent_height, self->latent.latent_width, data};
  return TRUE;
}

static GstFlowReturn
map_job (GstDcaeDec * self, GstVideoCodecFrame * frame, guint i)
{
  GstDcaeDecJob *job = &self->jobs[i];
  GstFlowReturn flow;

  gst_clear_buffer (&frame->output_buffer);
  flow = gst_video_decoder_allocate_output_frame (GST_VIDEO_DECODER (self),
      frame);
  if (flow != GST_FLOW_OK)
    return flow;
  if (!map_latent (self, frame, i)) {
    self->codec.failed = TRUE;
    return GST_FLOW_ERROR;
  }
  if (!gst_video_frame_map (&job->out, &self->output_info,
          frame->output_buffer, GST_MAP_WRITE)) {
    GST_ELEMENT_ERROR (self, RESOURCE, WRITE,
        ("The picture of frame %u can't be written",
            frame->system_frame_number), (NULL));
    gst_buffer_unmap (frame->input_buffer, &job->in);
    self->codec.failed = TRUE;
    return GST_FLOW_ERROR;
  }
  gst_dcae_image_from_frame (&self->images[i], &job->out);
  return GST_FLOW_OK;
}

static void
unmap_job (GstDcaeDec * self, GstVideoCodecFrame * frame, guint i)
{
  gst_video_frame_unmap (&self->jobs[i].out);
  gst_buffer_unmap (frame->input_buffer, &self->jobs[i].in);
}

/* Decodes the frames that wait, maps and all, to what downstream takes now. */
static GstFlowReturn
decode_pending (GstDcaeDec * self)
{
  GstVideoCodecFrame *first = g_queue_peek_head (&self->pending);
  GstFlowReturn flow = GST_FLOW_OK;
  guint mapped = 0;
  GList *l;

  if (gst_dcae_codec_needs_new_output (GST_VIDEO_DECODER_SRC_PAD (self)) &&
      !set_output (self))
    return GST_FLOW_NOT_NEGOTIATED;

  for (l = self->pending.head; l; l = l->next) {
    flow = map_job (self, l->data, mapped);
    if (flow != GST_FLOW_OK)
      break;
    mapped++;
  }
  if (flow == GST_FLOW_OK)
    flow = gst_dcae_codec_run (&self->codec, self->images, self->latents,
        mapped, first->system_frame_number);

  l = self->pending.head;
  for (guint i = 0; i < mapped; i++, l = l->next)
    unmap_job (self, l->data, i);
  return flow;
}

/* Frames that downstream could no longer show are not worth the time. */
static GstFlowReturn
drop_late_frames (GstDcaeDec * self)
{
  GstVideoDecoder *decoder = GST_VIDEO_DECODER (self);
  GstFlowReturn flow = GST_FLOW_OK;
  GList *l = self->pending.head;

  while (l) {
    GstVideoCodecFrame *frame = l->data;
    GList *next = l->next;

    if (gst_video_decoder_get_max_decode_time (decoder, frame) < 0) {
      GST_DEBUG_OBJECT (self, "frame %u is too late", frame->
          system_frame_number);
      g_queue_delete_link (&self->pending, l);
      gst_dcae_codec_count_dropped (&self->codec);
      flow = gst_video_decoder_drop_frame (decoder, frame);
      if (flow != GST_FLOW_OK)
        return flow;
    }
    l = next;
  }
  return flow;
}

/* Decodes and finishes the frames that wait. */
static GstFlowReturn
run_pending (GstDcaeDec * self)
{
  GstVideoDecoder *decoder = GST_VIDEO_DECODER (self);
  GstVideoCodecFrame *frame;
  GstFlowReturn flow = drop_late_frames (self);

  if (flow == GST_FLOW_OK && !g_queue_is_empty (&self->pending))
    flow = decode_pending (self);
  while ((frame = g_queue_pop_head (&self->pending))) {
    if (flow == GST_FLOW_OK)
      flow = gst_video_decoder_finish_frame (decoder, frame);
    else
      gst_video_decoder_release_frame (decoder, frame);
    if (flow == GST_FLOW_OK && !g_queue_is_empty (&self->pending) &&
        gst_dcae_codec_needs_new_output (GST_VIDEO_DECODER_SRC_PAD (self)))
      flow = decode_pending (self);
  }
  return flow;
}

/* What is wrong with one buffer. GST_FLOW_OK and skip: the user allows so many
 * corrupt frames. */
static GstFlowReturn
check_frame (GstDcaeDec * self, GstVideoCodecFrame * frame, gboolean * skip)
{
  gsize size = gst_buffer_get_size (frame->input_buffer);
  GstFlowReturn flow = GST_FLOW_OK;

  *skip = FALSE;
  if (size != self->latent_size) {
    GST_ELEMENT_ERROR (self, STREAM, DECODE,
        ("Frame %u has %" G_GSIZE_FORMAT " bytes, but a latent of %dx%dx%d %s "
            "has %" G_GSIZE_FORMAT, frame->system_frame_number, size,
            self->latent.latent_channels, self->latent.latent_height,
            self->latent.latent_width,
            gst_dcae_latent_format_to_string (self->latent.format),
            self->latent_size), (NULL));
    self->codec.failed = TRUE;
    return GST_FLOW_ERROR;
  }
  if (GST_BUFFER_FLAG_IS_SET (frame->input_buffer, GST_BUFFER_FLAG_CORRUPTED)) {
    GST_VIDEO_DECODER_ERROR (self, 1, STREAM, DECODE,
        ("The latent of frame %u is marked as corrupted",
            frame->system_frame_number), (NULL), flow);
    self->codec.failed = flow != GST_FLOW_OK;
    *skip = TRUE;
  }
  return flow;
}

static GstFlowReturn
gst_dcae_dec_handle_frame (GstVideoDecoder * decoder,
    GstVideoCodecFrame * frame)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  GstFlowReturn flow = GST_FLOW_OK;
  gboolean skip = FALSE;

  if (self->codec.failed)
    flow = GST_FLOW_ERROR;
  else if (!self->configured)
    flow = configure (self);
  if (flow == GST_FLOW_OK)
    flow = check_frame (self, frame, &skip);
  if (flow != GST_FLOW_OK) {
    gst_video_decoder_release_frame (decoder, frame);
    return flow;
  }
  if (skip)
    return gst_video_decoder_drop_frame (decoder, frame);

  g_queue_push_tail (&self->pending, frame);
  if (g_queue_get_length (&self->pending) < self->batch)
    return GST_FLOW_OK;
  return run_pending (self);
}

static GstFlowReturn
gst_dcae_dec_finish (GstVideoDecoder * decoder)
{
  return run_pending (GST_DCAE_DEC (decoder));
}

static gboolean
gst_dcae_dec_flush (GstVideoDecoder * decoder)
{
  drop_pending (GST_DCAE_DEC (decoder));
  return TRUE;
}

/* FALSE where the stream failed: whoever writes what comes downstream must not
 * take it for whole. */
static gboolean
drain_at_eos (GstDcaeDec * self)
{
  GstFlowReturn flow;
  gboolean failed;

  GST_VIDEO_DECODER_STREAM_LOCK (self);
  flow = run_pending (self);
  if (flow == GST_FLOW_NOT_NEGOTIATED || flow == GST_FLOW_NOT_LINKED) {
    GST_ELEMENT_FLOW_ERROR (self, flow);
    self->codec.failed = TRUE;
  }
  failed = self->codec.failed || flow == GST_FLOW_ERROR;
  GST_VIDEO_DECODER_STREAM_UNLOCK (self);
  return !failed;
}

static gboolean
gst_dcae_dec_sink_event (GstVideoDecoder * decoder, GstEvent * event)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);

  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_FLUSH_START:
      gst_dcae_codec_set_flushing (&self->codec, TRUE);
      break;
    case GST_EVENT_FLUSH_STOP:
      gst_dcae_codec_set_flushing (&self->codec, FALSE);
      break;
    case GST_EVENT_GAP:
    case GST_EVENT_SEGMENT:
      GST_VIDEO_DECODER_STREAM_LOCK (self);
      run_pending (self);
      GST_VIDEO_DECODER_STREAM_UNLOCK (self);
      break;
    case GST_EVENT_EOS:
      if (!drain_at_eos (self)) {
        GST_WARNING_OBJECT (self, "the stream failed: EOS is not passed on");
        gst_event_unref (event);
        return FALSE;
      }
      break;
    default:
      break;
  }
  return GST_VIDEO_DECODER_CLASS (parent_class)->sink_event (decoder, event);
}
