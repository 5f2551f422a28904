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

#include "gstdcaecuda.h"
#include "gstdcaeflights.h"
#include "gstdcaeimage.h"
#include "gstdcaelatent.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_dec_debug);
#define GST_CAT_DEFAULT gst_dcae_dec_debug

struct _GstDcaeDec
{
  GstVideoDecoder parent;

  GstDcaeCodec codec;

  /* Streaming thread. */
  GstVideoCodecState *input_state;
  GstDcaeLatentInfo latent;     /* what the caps of input_state say */
  gboolean configured;          /* the codec stands for input_state */
  guint channels;               /* first latent channels that are used */
  GstDcaeFlights flights;
};

static void gst_dcae_dec_set_property (GObject * object, guint prop_id,
    const GValue * value, GParamSpec * pspec);
static void gst_dcae_dec_get_property (GObject * object, guint prop_id,
    GValue * value, GParamSpec * pspec);
static void gst_dcae_dec_finalize (GObject * object);
static void gst_dcae_dec_set_context (GstElement * element,
    GstContext * context);
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
static gboolean gst_dcae_dec_src_query (GstVideoDecoder * decoder,
    GstQuery * query);
static gboolean gst_dcae_dec_sink_query (GstVideoDecoder * decoder,
    GstQuery * query);
static gboolean gst_dcae_dec_sink_event (GstVideoDecoder * decoder,
    GstEvent * event);
static GstCaps *gst_dcae_dec_getcaps (GstVideoDecoder * decoder,
    GstCaps * filter);
static gboolean gst_dcae_dec_decide_allocation (GstVideoDecoder * decoder,
    GstQuery * query);

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
  element_class->set_context = gst_dcae_dec_set_context;
  gst_dcae_codec_add_pad_template (element_class, "sink", GST_PAD_SINK,
      GST_DCAE_LATENT_CAPS, GST_DCAE_LATENT_CUDA_CAPS);
  gst_dcae_codec_add_pad_template (element_class, "src", GST_PAD_SRC,
      GST_DCAE_RAW_CAPS, GST_DCAE_RAW_CUDA_CAPS);
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
  decoder_class->src_query = gst_dcae_dec_src_query;
  decoder_class->sink_query = gst_dcae_dec_sink_query;
  decoder_class->sink_event = gst_dcae_dec_sink_event;
  decoder_class->getcaps = gst_dcae_dec_getcaps;
  decoder_class->decide_allocation = gst_dcae_dec_decide_allocation;
}

static GstFlowReturn allocate_picture (GstElement * element,
    GstVideoCodecFrame * frame);
static GstFlowReturn finish_frame (GstElement * element,
    GstVideoCodecFrame * frame);
static gboolean is_late (GstElement * element, GstVideoCodecFrame * frame);
static GstFlowReturn drop_late_frame (GstElement * element,
    GstVideoCodecFrame * frame);
static void release_frame (GstElement * element, GstVideoCodecFrame * frame);
static gboolean set_output (GstElement * element);
static gboolean negotiate (GstElement * element);

static void
gst_dcae_dec_init (GstDcaeDec * self)
{
  static const GstDcaeFlightFuncs funcs = {
    .allocate = allocate_picture,
    .finish = finish_frame,
    .is_late = is_late,
    .drop = drop_late_frame,
    .release = release_frame,
    .set_output = set_output,
    .negotiate = negotiate,
  };
  GstVideoDecoder *decoder = GST_VIDEO_DECODER (self);

  gst_dcae_codec_init (&self->codec, GST_ELEMENT_CAST (self), DCAE_DECODE);
  gst_dcae_latent_info_init (&self->latent);
  gst_dcae_flights_init (&self->flights, &self->codec,
      GST_VIDEO_DECODER_SRC_PAD (self), &funcs);

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
gst_dcae_dec_set_context (GstElement * element, GstContext * context)
{
  GstDcaeDec *self = GST_DCAE_DEC (element);

  gst_dcae_codec_set_context (&self->codec, context);
  GST_ELEMENT_CLASS (parent_class)->set_context (element, context);
}

static gboolean
gst_dcae_dec_stop (GstVideoDecoder * decoder)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);

  gst_dcae_flights_clear (&self->flights);
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
find_output (GstDcaeDec * self, gint width, gint height, gboolean * device)
{
  GstCaps *allowed = gst_dcae_codec_get_output_caps (&self->codec,
      GST_VIDEO_DECODER_SRC_PAD (self));
  GstCaps *size, *sized;
  GstStructure *s = NULL;

  size = gst_caps_new_simple ("video/x-raw", "width", G_TYPE_INT, width,
      "height", G_TYPE_INT, height, NULL);
  gst_caps_set_features_simple (size, gst_caps_features_new_any ());
  sized = gst_caps_intersect_full (allowed, size, GST_CAPS_INTERSECT_FIRST);
  if (gst_caps_is_empty (sized)) {
    GST_WARNING_OBJECT (self, "downstream takes no pictures of %dx%d pixels: %"
        GST_PTR_FORMAT, width, height, allowed);
  } else {
    s = gst_structure_copy (gst_caps_get_structure (sized, 0));
    gst_structure_fixate_field (s, "format");
  }
  *device = gst_dcae_cuda_has_feature (sized);
  gst_caps_unref (sized);
  gst_caps_unref (size);
  gst_caps_unref (allowed);
  return s;
}

/* The base class makes caps of the info, but always of system memory. */
static void
set_output_state (GstDcaeDec * self, GstVideoInfo * info, gboolean device)
{
  GstVideoCodecState *output = gst_video_decoder_set_output_state
      (GST_VIDEO_DECODER (self), GST_VIDEO_INFO_FORMAT (info),
      GST_VIDEO_INFO_WIDTH (info), GST_VIDEO_INFO_HEIGHT (info),
      self->input_state);

  output->info.colorimetry = info->colorimetry;
  output->info.chroma_site = info->chroma_site;
  output->info.interlace_mode = GST_VIDEO_INTERLACE_MODE_PROGRESSIVE;
  if (device) {
    output->caps = gst_video_info_to_caps (&output->info);
    gst_caps_set_features_simple (output->caps,
        gst_caps_features_new (GST_DCAE_CUDA_MEMORY, NULL));
  }
  *info = output->info;
  gst_video_codec_state_unref (output);
}

static gboolean
set_output (GstElement * element)
{
  GstDcaeDec *self = GST_DCAE_DEC (element);
  const DcaePlanInfo *plan = dcae_codec_plan_info (self->codec.codec);
  GstVideoInfo *info = &self->flights.picture;
  gboolean device, fits;
  GstStructure *s = find_output (self, plan->width, plan->height, &device);
  GstVideoFormat format;

  if (!s)
    return FALSE;

  format = gst_video_format_from_string (gst_structure_get_string (s,
          "format"));
  gst_video_info_set_format (info, format, plan->width, plan->height);
  fits = choose_colorimetry (self, info, s);
  choose_chroma_site (info, s);
  gst_structure_free (s);
  if (fits)
    set_output_state (self, info, device);
  return fits;
}

static gboolean
negotiate (GstElement * element)
{
  return gst_video_decoder_negotiate (GST_VIDEO_DECODER (element));
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
  guint depth;

  if (self->codec.used.latent_channels || self->channels != all)
    geometry.latent_channels = self->channels;
  *latency = gst_dcae_codec_choose_batch (&self->codec,
      GST_VIDEO_DECODER_SINK_PAD (self), &self->input_state->info,
      &geometry.batch, &depth);
  if (!gst_dcae_codec_configure (&self->codec, &geometry))
    return FALSE;

  gst_dcae_flights_configure (&self->flights, geometry.batch, depth);
  self->flights.latent = (DcaeLatent) {
  DCAE_MEMORY_HOST, self->latent.format, self->channels,
        self->latent.latent_height, self->latent.latent_width, NULL};
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

  gst_video_decoder_set_latency (decoder, latency, latency);
  set_tags (self);
  self->configured = TRUE;
  flow = gst_dcae_flights_negotiate (&self->flights);
  if (flow != GST_FLOW_OK && flow != GST_FLOW_FLUSHING)
    self->configured = FALSE;
  return flow;
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
  if (!gst_dcae_latent_info_frame_size (&self->latent,
          &self->flights.latent_size)) {
    GST_ELEMENT_ERROR (self, STREAM, FORMAT,
        ("The caps of the latents are wrong: latent-channels, latent-width "
            "and latent-height are too large together"), (NULL));
    return FALSE;
  }
  return TRUE;
}

static gboolean
gst_dcae_dec_set_format (GstVideoDecoder * decoder, GstVideoCodecState * state)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  GstFlowReturn flow = gst_dcae_flights_drain (&self->flights);
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
  GstCaps *own = gst_dcae_codec_restrict_memory (&self->codec,
      gst_pad_get_pad_template_caps (GST_VIDEO_DECODER_SINK_PAD (decoder)));
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

/* Device memory of our context, whatever the peer proposes. */
static gboolean
decide_device_pool (GstDcaeDec * self, GstQuery * query)
{
  GstObject *cuda = gst_dcae_codec_get_cuda (&self->codec);
  GstBufferPool *pool;
  GstCaps *caps;
  guint size;

  gst_query_parse_allocation (query, &caps, NULL);
  pool = gst_dcae_cuda_pool_new (cuda, caps, &size);
  if (!pool) {
    GST_ELEMENT_ERROR (self, RESOURCE, FAILED,
        ("No CUDA memory for pictures of %dx%d pixels",
            GST_VIDEO_INFO_WIDTH (&self->flights.picture),
            GST_VIDEO_INFO_HEIGHT (&self->flights.picture)), (NULL));
    self->codec.failed = TRUE;
    return FALSE;
  }
  if (gst_query_get_n_allocation_pools (query) == 0)
    gst_query_add_allocation_pool (query, pool, size, 0, 0);
  else
    gst_query_set_nth_allocation_pool (query, 0, pool, size, 0, 0);
  gst_object_unref (pool);
  return TRUE;
}

static gboolean
gst_dcae_dec_decide_allocation (GstVideoDecoder * decoder, GstQuery * query)
{
  GstDcaeDec *self = GST_DCAE_DEC (decoder);
  guint held = self->flights.batch * self->flights.depth;
  GstBufferPool *pool = NULL;
  GstStructure *config;
  GstCaps *caps;
  guint size, min, max;
  gboolean meta;

  gst_query_parse_allocation (query, &caps, NULL);
  if (gst_dcae_cuda_has_feature (caps))
    return decide_device_pool (self, query);
  if (!GST_VIDEO_DECODER_CLASS (parent_class)->decide_allocation (decoder,
          query))
    return FALSE;

  meta = gst_query_find_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL);
  gst_query_parse_nth_allocation_pool (query, 0, &pool, &size, &min, &max);
  config = gst_buffer_pool_get_config (pool);
  if (meta)
    gst_buffer_pool_config_add_option (config,
        GST_BUFFER_POOL_OPTION_VIDEO_META);
  if (held > 1) {
    min += held;
    max = max ? MAX (max, min) : 0;
    gst_buffer_pool_config_set_params (config, caps, size, min, max);
  }
  if (!gst_buffer_pool_set_config (pool, config) && held > 1) {
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

static GstFlowReturn
allocate_picture (GstElement * element, GstVideoCodecFrame * frame)
{
  GstDcaeDec *self = GST_DCAE_DEC (element);
  GstFlowReturn flow = gst_video_decoder_allocate_output_frame
      (GST_VIDEO_DECODER (element), frame);
  gboolean device;

  /* A pool that could not start says that it is flushing. */
  if (flow != GST_FLOW_ERROR && (flow != GST_FLOW_FLUSHING ||
          GST_PAD_IS_FLUSHING (GST_VIDEO_DECODER_SRC_PAD (self))))
    return flow;

  device = gst_dcae_cuda_pad_has_feature (GST_VIDEO_DECODER_SRC_PAD (self));
  GST_ELEMENT_ERROR (self, RESOURCE, FAILED,
      ("No %smemory for a picture of %" G_GSIZE_FORMAT " bytes%s",
          device ? "CUDA " : "",
          GST_VIDEO_INFO_SIZE (&self->flights.picture),
          device ? GST_DCAE_CUDA_ADVICE : ""), (NULL));
  self->codec.failed = TRUE;
  return GST_FLOW_ERROR;
}

static GstFlowReturn
finish_frame (GstElement * element, GstVideoCodecFrame * frame)
{
  return gst_video_decoder_finish_frame (GST_VIDEO_DECODER (element), frame);
}

/* Frames that downstream could no longer show are not worth the time. */
static gboolean
is_late (GstElement * element, GstVideoCodecFrame * frame)
{
  return gst_video_decoder_get_max_decode_time (GST_VIDEO_DECODER (element),
      frame) < 0;
}

static GstFlowReturn
drop_late_frame (GstElement * element, GstVideoCodecFrame * frame)
{
  GST_DEBUG_OBJECT (element, "frame %u is too late",
      frame->system_frame_number);
  gst_dcae_codec_count_dropped (&GST_DCAE_DEC (element)->codec);
  return gst_video_decoder_drop_frame (GST_VIDEO_DECODER (element), frame);
}

static void
release_frame (GstElement * element, GstVideoCodecFrame * frame)
{
  gst_video_decoder_release_frame (GST_VIDEO_DECODER (element), frame);
}

/* What is wrong with one buffer. GST_FLOW_OK and skip: the user allows so many
 * corrupt frames. */
static GstFlowReturn
check_frame (GstDcaeDec * self, GstVideoCodecFrame * frame, gboolean * skip)
{
  gsize size = gst_buffer_get_size (frame->input_buffer);
  GstFlowReturn flow = GST_FLOW_OK;

  *skip = FALSE;
  if (size != self->flights.latent_size) {
    GST_ELEMENT_ERROR (self, STREAM, DECODE,
        ("Frame %u has %" G_GSIZE_FORMAT " bytes, but a latent of %dx%dx%d %s "
            "has %" G_GSIZE_FORMAT, frame->system_frame_number, size,
            self->latent.latent_channels, self->latent.latent_height,
            self->latent.latent_width,
            gst_dcae_latent_format_to_string (self->latent.format),
            self->flights.latent_size), (NULL));
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

  return gst_dcae_flights_push (&self->flights, frame);
}

static GstFlowReturn
gst_dcae_dec_finish (GstVideoDecoder * decoder)
{
  return gst_dcae_flights_drain (&GST_DCAE_DEC (decoder)->flights);
}

static gboolean
gst_dcae_dec_flush (GstVideoDecoder * decoder)
{
  gst_dcae_flights_drop (&GST_DCAE_DEC (decoder)->flights);
  return TRUE;
}

/* last: the event is EOS. FALSE where the stream failed: whoever writes what
 * comes downstream must not take it for whole. */
static gboolean
drain_at_event (GstDcaeDec * self, gboolean last)
{
  GstFlowReturn flow;
  gboolean ok;

  GST_VIDEO_DECODER_STREAM_LOCK (self);
  flow = gst_dcae_flights_drain (&self->flights);
  ok = gst_dcae_codec_check_drain (&self->codec, flow, last);
  GST_VIDEO_DECODER_STREAM_UNLOCK (self);
  return ok;
}

static gboolean
gst_dcae_dec_src_query (GstVideoDecoder * decoder, GstQuery * query)
{
  return gst_dcae_codec_handle_query (&GST_DCAE_DEC (decoder)->codec, query) ||
      GST_VIDEO_DECODER_CLASS (parent_class)->src_query (decoder, query);
}

static gboolean
gst_dcae_dec_sink_query (GstVideoDecoder * decoder, GstQuery * query)
{
  return gst_dcae_codec_handle_query (&GST_DCAE_DEC (decoder)->codec, query) ||
      GST_VIDEO_DECODER_CLASS (parent_class)->sink_query (decoder, query);
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
      drain_at_event (self, FALSE);
      break;
    case GST_EVENT_EOS:
      if (!drain_at_event (self, TRUE)) {
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
