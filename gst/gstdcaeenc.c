/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeenc.c - raw video to DC-AE latents. What encoder and decoder share is
 * in gstdcaecodec.c, what latent caps look like in gstdcaelatent.c.
 */

/**
 * SECTION:element-dcaeenc
 * @title: dcaeenc
 * @short_description: encodes raw video to DC-AE latents
 * @see_also: dcaedec, dcaemux
 *
 * Encodes each frame of raw video to one latent of a deep compression
 * autoencoder (DC-AE), as video and image diffusion models take them. Each
 * output buffer holds one frame, planar [channel][row][column] in little
 * endian, of the format that downstream asks for (32-bit floats, 16-bit floats
 * or bfloat16).
 *
 * Without #GstDcaeEnc:model the installed demonstration model is used. The
 * model is loaded while the element goes to PAUSED; progress messages with the
 * codes `model-load` and `model-pack` tell how far that is.
 *
 * ## Example pipelines
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=10 ! video/x-raw,width=320,height=240 ! dcaeenc ! dcaemux ! filesink location=clip.safetensors
 * ]| Encodes ten frames with the demonstration model to a clip file.
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=10 ! dcaeenc ! video/x-dcae-latent,format=F16LE ! dcaedec ! videoconvert ! autovideosink
 * ]| Shows what encoding with 16-bit latents leaves of the test picture.
 * |[
 * gst-launch-1.0 filesrc location=photo.jpg ! jpegdec ! videoconvert ! dcaeenc model=mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers ! filesink location=photo.f32
 * ]| Writes the bare latent of one picture, with a model from the local Hugging
 * Face cache.
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=10 ! cudaupload ! dcaeenc backend=cuda ! dcaedec backend=cuda ! cudadownload ! videoconvert ! autovideosink
 * ]| Keeps pictures and latents in device memory, where the plugin was built with
 * CUDA.
 *
 * Since: 0.1
 */
#include "gstdcaeenc.h"

#include "gstdcaecuda.h"
#include "gstdcaeflights.h"
#include "gstdcaeimage.h"
#include "gstdcaelatent.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_enc_debug);
#define GST_CAT_DEFAULT gst_dcae_enc_debug

enum
{
  PROP_EDGE_MODE = GST_DCAE_PROP_OWN,
};

#define DEFAULT_EDGE_MODE DCAE_EDGE_EXTEND

struct _GstDcaeEnc
{
  GstVideoEncoder parent;

  GstDcaeCodec codec;
  DcaeEdgeMode edge_mode;       /* object lock */

  /* Streaming thread. */
  GstVideoCodecState *input_state;
  gboolean configured;          /* the codec stands for input_state */
  gboolean events_wait;         /* for a frame; a gap must not pass them */
  GstDcaeFlights flights;
  GstBufferPool *device_pool;   /* of latents; NULL: they go to system memory */
};

static void gst_dcae_enc_set_property (GObject * object, guint prop_id,
    const GValue * value, GParamSpec * pspec);
static void gst_dcae_enc_get_property (GObject * object, guint prop_id,
    GValue * value, GParamSpec * pspec);
static void gst_dcae_enc_finalize (GObject * object);
static void gst_dcae_enc_set_context (GstElement * element,
    GstContext * context);
static GstStateChangeReturn gst_dcae_enc_change_state (GstElement * element,
    GstStateChange transition);
static gboolean gst_dcae_enc_start (GstVideoEncoder * encoder);
static gboolean gst_dcae_enc_stop (GstVideoEncoder * encoder);
static gboolean gst_dcae_enc_set_format (GstVideoEncoder * encoder,
    GstVideoCodecState * state);
static GstFlowReturn gst_dcae_enc_handle_frame (GstVideoEncoder * encoder,
    GstVideoCodecFrame * frame);
static GstFlowReturn gst_dcae_enc_finish (GstVideoEncoder * encoder);
static gboolean gst_dcae_enc_flush (GstVideoEncoder * encoder);
static gboolean gst_dcae_enc_src_query (GstVideoEncoder * encoder,
    GstQuery * query);
static gboolean gst_dcae_enc_sink_query (GstVideoEncoder * encoder,
    GstQuery * query);
static gboolean gst_dcae_enc_sink_event (GstVideoEncoder * encoder,
    GstEvent * event);
static GstCaps *gst_dcae_enc_getcaps (GstVideoEncoder * encoder,
    GstCaps * filter);
static gboolean gst_dcae_enc_propose_allocation (GstVideoEncoder * encoder,
    GstQuery * query);

#define GST_TYPE_DCAE_EDGE_MODE (gst_dcae_edge_mode_get_type ())
static GType
gst_dcae_edge_mode_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    {DCAE_EDGE_EXTEND, "Repeat the last column and row; the decoder crops",
        "extend"},
    {DCAE_EDGE_ZERO, "Pad with mid grey; the decoder crops", "zero"},
    {DCAE_EDGE_CROP, "Leave out what does not fill a latent", "crop"},
    {0, NULL, NULL},
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type,
        g_enum_register_static ("GstDcaeEdgeMode", values));
  return type;
}

#define gst_dcae_enc_parent_class parent_class
G_DEFINE_TYPE (GstDcaeEnc, gst_dcae_enc, GST_TYPE_VIDEO_ENCODER);
GST_ELEMENT_REGISTER_DEFINE (dcaeenc, "dcaeenc", GST_RANK_MARGINAL,
    GST_TYPE_DCAE_ENC);

static void
gst_dcae_enc_class_init (GstDcaeEncClass * klass)
{
  GObjectClass *gobject_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  GstVideoEncoderClass *encoder_class = GST_VIDEO_ENCODER_CLASS (klass);

  GST_DEBUG_CATEGORY_INIT (gst_dcae_enc_debug, "dcaeenc", 0, "DC-AE encoder");

  gobject_class->set_property = gst_dcae_enc_set_property;
  gobject_class->get_property = gst_dcae_enc_get_property;
  gobject_class->finalize = gst_dcae_enc_finalize;

  gst_dcae_codec_class_init (gobject_class);
  /**
   * GstDcaeEnc:edge-mode:
   *
   * Since: 0.1
   */
  g_object_class_install_property (gobject_class, PROP_EDGE_MODE,
      g_param_spec_enum ("edge-mode", "Edge mode",
          "What happens on the right and at the bottom where the size is no "
          "multiple of the model's ratio", GST_TYPE_DCAE_EDGE_MODE,
          DEFAULT_EDGE_MODE, G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS |
          GST_PARAM_MUTABLE_READY));
  gst_type_mark_as_plugin_api (GST_TYPE_DCAE_EDGE_MODE, 0);

  element_class->change_state = gst_dcae_enc_change_state;
  element_class->set_context = gst_dcae_enc_set_context;
  gst_dcae_codec_add_pad_template (element_class, "sink", GST_PAD_SINK,
      GST_DCAE_RAW_CAPS, GST_DCAE_RAW_CUDA_CAPS);
  gst_dcae_codec_add_pad_template (element_class, "src", GST_PAD_SRC,
      GST_DCAE_LATENT_CAPS, GST_DCAE_LATENT_CUDA_CAPS);
  gst_element_class_set_static_metadata (element_class, "DC-AE encoder",
      "Codec/Encoder/Video",
      "Encodes video to latents of a deep compression autoencoder (DC-AE)",
      "The gst-dcae developers");

  encoder_class->start = gst_dcae_enc_start;
  encoder_class->stop = gst_dcae_enc_stop;
  encoder_class->set_format = gst_dcae_enc_set_format;
  encoder_class->handle_frame = gst_dcae_enc_handle_frame;
  encoder_class->finish = gst_dcae_enc_finish;
  encoder_class->flush = gst_dcae_enc_flush;
  encoder_class->src_query = gst_dcae_enc_src_query;
  encoder_class->sink_query = gst_dcae_enc_sink_query;
  encoder_class->sink_event = gst_dcae_enc_sink_event;
  encoder_class->getcaps = gst_dcae_enc_getcaps;
  encoder_class->propose_allocation = gst_dcae_enc_propose_allocation;
}

static GstFlowReturn allocate_latent (GstElement * element,
    GstVideoCodecFrame * frame);
static GstFlowReturn finish_frame (GstElement * element,
    GstVideoCodecFrame * frame);
static void release_frame (GstElement * element, GstVideoCodecFrame * frame);
static gboolean set_output (GstElement * element);
static gboolean negotiate (GstElement * element);

static void
gst_dcae_enc_init (GstDcaeEnc * self)
{
  static const GstDcaeFlightFuncs funcs = {
    .allocate = allocate_latent,
    .finish = finish_frame,
    .release = release_frame,
    .set_output = set_output,
    .negotiate = negotiate,
  };
  GstPad *sinkpad = GST_VIDEO_ENCODER_SINK_PAD (self);

  gst_dcae_codec_init (&self->codec, GST_ELEMENT_CAST (self), DCAE_ENCODE);
  gst_dcae_flights_init (&self->flights, &self->codec,
      GST_VIDEO_ENCODER_SRC_PAD (self), &funcs);
  self->edge_mode = DEFAULT_EDGE_MODE;
  /* Caps of the template are refused by name in set_format. */
  GST_PAD_SET_ACCEPT_TEMPLATE (sinkpad);
}

static void
gst_dcae_enc_finalize (GObject * object)
{
  GstDcaeEnc *self = GST_DCAE_ENC (object);

  gst_dcae_codec_clear (&self->codec);
  G_OBJECT_CLASS (parent_class)->finalize (object);
}

static void
gst_dcae_enc_set_property (GObject * object, guint prop_id,
    const GValue * value, GParamSpec * pspec)
{
  GstDcaeEnc *self = GST_DCAE_ENC (object);

  gst_dcae_codec_warn_late_property (&self->codec, pspec);
  if (gst_dcae_codec_set_property (&self->codec, prop_id, value))
    return;

  switch (prop_id) {
    case PROP_EDGE_MODE:
      GST_OBJECT_LOCK (self);
      self->edge_mode = g_value_get_enum (value);
      GST_OBJECT_UNLOCK (self);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
      break;
  }
}

static void
gst_dcae_enc_get_property (GObject * object, guint prop_id, GValue * value,
    GParamSpec * pspec)
{
  GstDcaeEnc *self = GST_DCAE_ENC (object);

  if (gst_dcae_codec_get_property (&self->codec, prop_id, value))
    return;

  switch (prop_id) {
    case PROP_EDGE_MODE:
      GST_OBJECT_LOCK (self);
      g_value_set_enum (value, self->edge_mode);
      GST_OBJECT_UNLOCK (self);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, prop_id, pspec);
      break;
  }
}

static DcaeEdgeMode
get_edge_mode (GstDcaeEnc * self)
{
  DcaeEdgeMode mode;

  GST_OBJECT_LOCK (self);
  mode = self->edge_mode;
  GST_OBJECT_UNLOCK (self);
  return mode;
}

/* ---- states */

/* stop() comes after the pads wait for the streaming thread: what may keep
 * that thread has to be told before. */
static GstStateChangeReturn
gst_dcae_enc_change_state (GstElement * element, GstStateChange transition)
{
  GstDcaeEnc *self = GST_DCAE_ENC (element);

  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    gst_dcae_codec_interrupt (&self->codec);
  return GST_ELEMENT_CLASS (parent_class)->change_state (element, transition);
}

static gboolean
gst_dcae_enc_start (GstVideoEncoder * encoder)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);

  if (!gst_dcae_codec_start (&self->codec))
    return FALSE;
  gst_dcae_codec_load (&self->codec, NULL);
  return TRUE;
}

static void
gst_dcae_enc_set_context (GstElement * element, GstContext * context)
{
  GstDcaeEnc *self = GST_DCAE_ENC (element);

  gst_dcae_codec_set_context (&self->codec, context);
  GST_ELEMENT_CLASS (parent_class)->set_context (element, context);
}

static void
clear_device_pool (GstDcaeEnc * self)
{
  if (self->device_pool)
    gst_buffer_pool_set_active (self->device_pool, FALSE);
  gst_clear_object (&self->device_pool);
}

static gboolean
gst_dcae_enc_stop (GstVideoEncoder * encoder)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);

  gst_dcae_flights_clear (&self->flights);
  clear_device_pool (self);
  gst_dcae_codec_stop (&self->codec);
  g_clear_pointer (&self->input_state, gst_video_codec_state_unref);
  self->configured = FALSE;
  return TRUE;
}

/* ---- negotiation */

/* Refuses by name what raw caps may say but the network does not take. */
static gboolean
check_input (GstDcaeEnc * self, const GstVideoInfo * info,
    const GstCaps * caps)
{
  const GstVideoColorimetry *c = &info->colorimetry;

  if (self->codec.used.backend == DCAE_BACKEND_CPU &&
      gst_dcae_cuda_has_feature (caps)) {
    GST_ELEMENT_ERROR (self, LIBRARY, SETTINGS,
        ("backend=cpu can't encode pictures in CUDA memory: set backend=cuda, "
            "or put cudadownload in front of dcaeenc"), (NULL));
    return FALSE;
  }
  if (GST_VIDEO_INFO_IS_INTERLACED (info)) {
    GST_ELEMENT_ERROR (self, STREAM, NOT_IMPLEMENTED,
        ("Interlaced video can't be encoded: put a deinterlace element in "
            "front of dcaeenc"), (NULL));
    return FALSE;
  }
  if (GST_VIDEO_INFO_IS_RGB (info) &&
      c->range == GST_VIDEO_COLOR_RANGE_16_235) {
    GST_ELEMENT_ERROR (self, STREAM, NOT_IMPLEMENTED,
        ("RGB of limited range can't be encoded: put videoconvert and "
            "video/x-raw,colorimetry=sRGB in front of dcaeenc"), (NULL));
    return FALSE;
  }
  if (c->transfer == GST_VIDEO_TRANSFER_SMPTE2084 ||
      c->transfer == GST_VIDEO_TRANSFER_ARIB_STD_B67)
    GST_ELEMENT_WARNING (self, STREAM, FORMAT,
        ("The input has a %s transfer function, which models of standard "
            "dynamic range do not know: colours may suffer",
            c->transfer == GST_VIDEO_TRANSFER_SMPTE2084 ? "PQ" : "HLG"),
        (NULL));
  return TRUE;
}

/* The format that downstream asks for, of several the first, and the memory. */
static gboolean
choose_format (GstDcaeEnc * self, DcaeLatentFormat * format, gboolean * device)
{
  GstCaps *allowed = gst_dcae_codec_get_output_caps (&self->codec,
      GST_VIDEO_ENCODER_SRC_PAD (self));
  gboolean found = FALSE;

  if (gst_caps_is_empty (allowed)) {
    GST_WARNING_OBJECT (self, "downstream takes no latents");
  } else {
    GstStructure *s = gst_structure_copy (gst_caps_get_structure (allowed, 0));

    gst_structure_fixate_field (s, "format");
    found = gst_dcae_latent_format_from_string (gst_structure_get_string (s,
            "format"), format);
    gst_structure_free (s);
  }
  *device = gst_dcae_cuda_has_feature (allowed);
  gst_caps_unref (allowed);
  return found;
}

/* Full range RGB with the primaries and transfer of the input. */
static GstVideoColorimetry
latent_colorimetry (const GstVideoInfo * info)
{
  GstVideoColorimetry c = info->colorimetry;

  c.range = GST_VIDEO_COLOR_RANGE_0_255;
  c.matrix = GST_VIDEO_COLOR_MATRIX_RGB;
  return c;
}

static void
fill_latent_info (GstDcaeEnc * self, DcaeLatentFormat format,
    GstDcaeLatentInfo * latent)
{
  const DcaeModelInfo *model = dcae_model_info (self->codec.model);
  const DcaePlanInfo *plan = dcae_codec_plan_info (self->codec.codec);
  GstVideoColorimetry c = latent_colorimetry (&self->input_state->info);

  latent->format = format;
  latent->latent_channels = plan->latent_channels;
  latent->latent_width = plan->latent_width;
  latent->latent_height = plan->latent_height;
  latent->width = plan->width;
  latent->height = plan->height;
  latent->spatial_ratio = model->ratio;
  latent->colorimetry = gst_video_colorimetry_to_string (&c);
  latent->model = g_strdup (model->name);
  latent->model_hash = g_strdup (model->hash);
  latent->scaled = self->codec.used.scale_latents ?
      GST_DCAE_SCALED_YES : GST_DCAE_SCALED_NO;
  latent->scaling_factor = model->scaling_factor;
}

static void
set_tags (GstDcaeEnc * self)
{
  GstTagList *tags = gst_tag_list_new (GST_TAG_VIDEO_CODEC,
      GST_DCAE_LATENT_CODEC_NAME, GST_TAG_ENCODER,
      PACKAGE " " PACKAGE_VERSION " dcaeenc", NULL);

  gst_video_encoder_merge_tags (GST_VIDEO_ENCODER (self), tags,
      GST_TAG_MERGE_REPLACE);
  gst_tag_list_unref (tags);
}

static GstCaps *
latent_caps (const GstDcaeLatentInfo * latent, gboolean device)
{
  GstCaps *caps = gst_dcae_latent_info_to_caps (latent);

  if (device)
    gst_caps_set_features_simple (caps,
        gst_caps_features_new (GST_DCAE_CUDA_MEMORY, NULL));
  return caps;
}

/* The base class writes width, height, aspect ratio, rate, colorimetry and
 * chroma site of the output state over those of the caps. */
static void
set_output_state (GstDcaeEnc * self, const GstDcaeLatentInfo * latent,
    gboolean device)
{
  GstVideoCodecState *output = gst_video_encoder_set_output_state
      (GST_VIDEO_ENCODER (self), latent_caps (latent, device),
      self->input_state);

  output->info.width = latent->width;
  output->info.height = latent->height;
  output->info.colorimetry = latent_colorimetry (&self->input_state->info);
  output->info.chroma_site = GST_VIDEO_CHROMA_SITE_UNKNOWN;
  gst_video_codec_state_unref (output);
}

static gboolean
make_device_pool (GstDcaeEnc * self, gsize size)
{
  self->device_pool = gst_dcae_cuda_latent_pool_new
      (gst_dcae_codec_get_cuda (&self->codec), size);
  if (self->device_pool)
    return TRUE;
  GST_ELEMENT_ERROR (self, RESOURCE, FAILED,
      ("No CUDA memory for latents of %" G_GSIZE_FORMAT " bytes", size),
      (NULL));
  self->codec.failed = TRUE;
  return FALSE;
}

static gboolean
set_output (GstElement * element)
{
  GstDcaeEnc *self = GST_DCAE_ENC (element);
  GstDcaeFlights *flights = &self->flights;
  DcaeLatentFormat format = DCAE_LATENT_F32;
  GstDcaeLatentInfo latent;
  gboolean fits, device;

  if (!choose_format (self, &format, &device))
    return FALSE;

  gst_dcae_latent_info_init (&latent);
  fill_latent_info (self, format, &latent);
  fits = gst_dcae_latent_info_frame_size (&latent, &flights->latent_size);
  set_output_state (self, &latent, device);
  flights->latent = (DcaeLatent) {
  DCAE_MEMORY_HOST, format, latent.latent_channels, latent.latent_height,
        latent.latent_width, NULL};
  gst_dcae_latent_info_clear (&latent);

  clear_device_pool (self);
  if (device && fits)
    fits = make_device_pool (self, flights->latent_size);
  return fits;
}

static gboolean
negotiate (GstElement * element)
{
  return gst_video_encoder_negotiate (GST_VIDEO_ENCODER (element));
}

/* Waits for the model, plans for input_state and negotiates the output. An
 * interrupted wait leaves the rest to the next frame. */
static GstFlowReturn
configure (GstDcaeEnc * self)
{
  GstVideoEncoder *encoder = GST_VIDEO_ENCODER (self);
  const GstVideoInfo *info = &self->input_state->info;
  GstFlowReturn flow = gst_dcae_codec_wait (&self->codec);
  GstClockTime latency;
  guint depth;
  DcaeGeometry geometry = {
    .width = GST_VIDEO_INFO_WIDTH (info),
    .height = GST_VIDEO_INFO_HEIGHT (info),
    .latent_channels = self->codec.used.latent_channels,
    .edge = get_edge_mode (self),
    .scale = self->codec.used.scale_latents,
  };

  if (flow != GST_FLOW_OK)
    return flow;

  latency = gst_dcae_codec_choose_batch (&self->codec,
      GST_VIDEO_ENCODER_SINK_PAD (self), info, &geometry.batch, &depth);
  if (!gst_dcae_codec_configure (&self->codec, &geometry))
    return GST_FLOW_ERROR;

  gst_dcae_flights_configure (&self->flights, geometry.batch, depth);
  self->flights.picture = *info;
  gst_video_encoder_set_latency (encoder, latency, latency);
  set_tags (self);
  self->configured = TRUE;
  flow = gst_dcae_flights_negotiate (&self->flights);
  if (flow != GST_FLOW_OK && flow != GST_FLOW_FLUSHING)
    self->configured = FALSE;
  return flow;
}

static gboolean
gst_dcae_enc_set_format (GstVideoEncoder * encoder, GstVideoCodecState * state)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);
  GstFlowReturn flow = gst_dcae_flights_drain (&self->flights);

  if (flow != GST_FLOW_OK && flow != GST_FLOW_FLUSHING)
    return FALSE;
  if (self->codec.failed)       /* the same caps again: errors come once */
    return FALSE;

  self->configured = FALSE;
  self->codec.failed = TRUE;
  if (!check_input (self, &state->info, state->caps))
    return FALSE;

  self->codec.failed = FALSE;
  g_clear_pointer (&self->input_state, gst_video_codec_state_unref);
  self->input_state = gst_video_codec_state_ref (state);
  flow = configure (self);
  return flow == GST_FLOW_OK || flow == GST_FLOW_FLUSHING;
}

/* Sizes are proxied, so that a size asked for downstream reaches a scaler
 * upstream, except with crop, where they differ on both sides. */
static GstCaps *
gst_dcae_enc_getcaps (GstVideoEncoder * encoder, GstCaps * filter)
{
  static const gchar *const all[] = { "framerate", "pixel-aspect-ratio",
    "width", "height", NULL
  };
  static const gchar *const no_size[] = { "framerate", "pixel-aspect-ratio",
    NULL
  };
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);
  GstCaps *own = gst_dcae_codec_restrict_memory (&self->codec,
      gst_pad_get_pad_template_caps (GST_VIDEO_ENCODER_SINK_PAD (encoder)));

  return gst_dcae_codec_proxy_caps (GST_VIDEO_ENCODER_SRC_PAD (encoder), own,
      get_edge_mode (self) == DCAE_EDGE_CROP ? no_size : all, FALSE,
      filter);
}

/* Device memory for upstream, where the caps say so: as much as it wants. */
static gboolean
propose_device_pool (GstDcaeEnc * self, GstQuery * query)
{
  GstObject *cuda = gst_dcae_codec_get_cuda (&self->codec);
  GstBufferPool *pool;
  GstCaps *caps;
  guint size;

  gst_query_parse_allocation (query, &caps, NULL);
  if (!cuda || !gst_dcae_cuda_has_feature (caps))
    return FALSE;
  while (gst_query_get_n_allocation_pools (query) > 0)
    gst_query_remove_nth_allocation_pool (query, 0);
  pool = gst_dcae_cuda_pool_new (cuda, caps, &size);
  if (!pool)
    return TRUE;
  gst_query_add_allocation_pool (query, pool, size, 0, 0);
  gst_object_unref (pool);
  return TRUE;
}

/* Frames that wait or are under way keep their input: a pool upstream must
 * have as many more. */
static gboolean
gst_dcae_enc_propose_allocation (GstVideoEncoder * encoder, GstQuery * query)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);
  guint held = self->flights.batch * self->flights.depth;
  GstBufferPool *pool = NULL;
  guint size, min, max;

  if (!GST_VIDEO_ENCODER_CLASS (parent_class)->propose_allocation (encoder,
          query))
    return FALSE;

  if (!propose_device_pool (self, query) && held > 1 &&
      gst_query_get_n_allocation_pools (query) > 0) {
    gst_query_parse_nth_allocation_pool (query, 0, &pool, &size, &min, &max);
    min = MAX (min, held);
    gst_query_set_nth_allocation_pool (query, 0, pool, size, min,
        max ? MAX (max, min) : 0);
    gst_clear_object (&pool);
  }
  if (!gst_query_find_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL))
    gst_query_add_allocation_meta (query, GST_VIDEO_META_API_TYPE, NULL);
  return TRUE;
}

/* ---- frames */

static GstFlowReturn
allocate_latent (GstElement * element, GstVideoCodecFrame * frame)
{
  GstDcaeEnc *self = GST_DCAE_ENC (element);
  gsize size = self->flights.latent_size;

  if (self->device_pool)
    gst_buffer_pool_acquire_buffer (self->device_pool, &frame->output_buffer,
        NULL);
  else
    frame->output_buffer = gst_video_encoder_allocate_output_buffer
        (GST_VIDEO_ENCODER (self), size);
  if (frame->output_buffer)
    return GST_FLOW_OK;

  GST_ELEMENT_ERROR (self, RESOURCE, FAILED,
      ("No %smemory for a latent of %" G_GSIZE_FORMAT " bytes%s",
          self->device_pool ? "CUDA " : "", size, self->device_pool ?
          GST_DCAE_CUDA_ADVICE : ""), (NULL));
  self->codec.failed = TRUE;
  return GST_FLOW_ERROR;
}

static GstFlowReturn
finish_frame (GstElement * element, GstVideoCodecFrame * frame)
{
  GST_VIDEO_CODEC_FRAME_SET_SYNC_POINT (frame);
  return gst_video_encoder_finish_frame (GST_VIDEO_ENCODER (element), frame);
}

/* The base class keeps it until it flushes or stops. */
static void
release_frame (GstElement * element, GstVideoCodecFrame * frame)
{
  gst_video_codec_frame_unref (frame);
}

static GstFlowReturn
gst_dcae_enc_handle_frame (GstVideoEncoder * encoder,
    GstVideoCodecFrame * frame)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);
  GstFlowReturn flow = GST_FLOW_OK;

  self->events_wait = FALSE;    /* they leave with frame */
  if (self->codec.failed)
    flow = GST_FLOW_ERROR;
  else if (!self->configured)
    flow = configure (self);
  if (flow != GST_FLOW_OK) {
    gst_video_codec_frame_unref (frame);
    return flow;
  }

  return gst_dcae_flights_push (&self->flights, frame);
}

static GstFlowReturn
gst_dcae_enc_finish (GstVideoEncoder * encoder)
{
  return gst_dcae_flights_drain (&GST_DCAE_ENC (encoder)->flights);
}

static gboolean
gst_dcae_enc_flush (GstVideoEncoder * encoder)
{
  gst_dcae_flights_drop (&GST_DCAE_ENC (encoder)->flights);
  return TRUE;
}

/* last: the event is EOS. FALSE where the stream failed: its EOS must not reach
 * a muxer, which would close a clip that lacks frames as if it were whole. */
static gboolean
drain_at_event (GstDcaeEnc * self, gboolean last)
{
  GstFlowReturn flow;
  gboolean ok;

  GST_VIDEO_ENCODER_STREAM_LOCK (self);
  flow = gst_dcae_flights_drain (&self->flights);
  ok = gst_dcae_codec_check_drain (&self->codec, flow, last);
  GST_VIDEO_ENCODER_STREAM_UNLOCK (self);
  return ok;
}

static gboolean
gst_dcae_enc_src_query (GstVideoEncoder * encoder, GstQuery * query)
{
  return gst_dcae_codec_handle_query (&GST_DCAE_ENC (encoder)->codec, query) ||
      GST_VIDEO_ENCODER_CLASS (parent_class)->src_query (encoder, query);
}

static gboolean
gst_dcae_enc_sink_query (GstVideoEncoder * encoder, GstQuery * query)
{
  return gst_dcae_codec_handle_query (&GST_DCAE_ENC (encoder)->codec, query) ||
      GST_VIDEO_ENCODER_CLASS (parent_class)->sink_query (encoder, query);
}

static gboolean
gst_dcae_enc_sink_event (GstVideoEncoder * encoder, GstEvent * event)
{
  GstDcaeEnc *self = GST_DCAE_ENC (encoder);

  switch (GST_EVENT_TYPE (event)) {
    case GST_EVENT_FLUSH_START:
      gst_dcae_codec_set_flushing (&self->codec, TRUE);
      break;
    case GST_EVENT_FLUSH_STOP:
      gst_dcae_codec_set_flushing (&self->codec, FALSE);
      break;
    case GST_EVENT_GAP:
      /* The base class would keep it for the next frame, while a decoder
       * downstream holds frames until it comes. It passes tags that wait,
       * which have no place in time, but no segment or marker. */
      if (drain_at_event (self, FALSE) && !self->events_wait)
        return gst_pad_push_event (GST_VIDEO_ENCODER_SRC_PAD (encoder), event);
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
  if (GST_EVENT_IS_SERIALIZED (event) && GST_EVENT_TYPE (event) != GST_EVENT_TAG)
    self->events_wait = TRUE;
  return GST_VIDEO_ENCODER_CLASS (parent_class)->sink_event (encoder, event);
}
