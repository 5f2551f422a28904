/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaesettings.c - the properties that dcaeenc and dcaedec share. Knows
 * neither of the two and no model.
 */
#include "gstdcaesettings.h"

#include <string.h>

#define MIB (G_GUINT64_CONSTANT (1) << 20)

enum
{
  PROP_0,
  PROP_MODEL,
  PROP_VARIANT,
  PROP_CONFIG,
  PROP_BACKEND,
  PROP_DEVICE,
  PROP_PRECISION,
  PROP_THREADS,
  PROP_TILING,
  PROP_TILE_WIDTH,
  PROP_TILE_HEIGHT,
  PROP_TILE_STRIDE_WIDTH,
  PROP_TILE_STRIDE_HEIGHT,
  PROP_MEMORY_LIMIT,
  PROP_BATCH_SIZE,
  PROP_SLICING,
  PROP_SCALE_LATENTS,
  PROP_LATENT_CHANNELS,
};

G_STATIC_ASSERT (PROP_LATENT_CHANNELS < GST_DCAE_PROP_STATUS);

#define DEFAULT_DEVICE -1
#define DEFAULT_TILE 512
#define DEFAULT_BATCH_SIZE 1
#define DEFAULT_SCALE_LATENTS TRUE

/* ---- enumerations */

GType
gst_dcae_backend_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    {DCAE_BACKEND_AUTO, "CUDA where a device works, else the CPU", "auto"},
    {DCAE_BACKEND_CPU, "CPU", "cpu"},
    {DCAE_BACKEND_CUDA, "NVIDIA GPU", "cuda"},
    {0, NULL, NULL},
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type,
        g_enum_register_static ("GstDcaeBackend", values));
  return type;
}

GType
gst_dcae_precision_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    {DCAE_PRECISION_AUTO, "f32 on the CPU, bf16 on CUDA", "auto"},
    {DCAE_PRECISION_F32, "32-bit floating point", "f32"},
    {DCAE_PRECISION_BF16, "bfloat16, sums in 32 bits", "bf16"},
    {DCAE_PRECISION_F16, "16-bit floating point, sums in 32 bits", "f16"},
    {0, NULL, NULL},
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type,
        g_enum_register_static ("GstDcaePrecision", values));
  return type;
}

GType
gst_dcae_tiling_get_type (void)
{
  static gsize type = 0;
  static const GEnumValue values[] = {
    {DCAE_TILING_AUTO, "Exact; off for frames that are not worth cutting",
        "auto"},
    {DCAE_TILING_OFF, "Whole frames", "off"},
    {DCAE_TILING_EXACT, "Bands within memory-limit, same result as off",
        "exact"},
    {DCAE_TILING_BLEND, "Overlapping tiles, blended as Diffusers does",
        "blend"},
    {0, NULL, NULL},
  };

  if (g_once_init_enter (&type))
    g_once_init_leave (&type, g_enum_register_static ("GstDcaeTiling", values));
  return type;
}

const gchar *
gst_dcae_tiling_to_string (DcaeTilingMode mode)
{
  switch (mode) {
    case DCAE_TILING_OFF:
      return "off";
    case DCAE_TILING_EXACT:
      return "exact";
    case DCAE_TILING_BLEND:
      return "blend";
    default:
      return "auto";
  }
}

/* ---- properties */

#define RW (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | \
    GST_PARAM_MUTABLE_READY)

static void
install_model_properties (GObjectClass * klass)
{
  g_object_class_install_property (klass, PROP_MODEL,
      g_param_spec_string ("model", "Model",
          "Diffusers directory, .safetensors file, or Hugging Face repository "
          "id (looked up in the local cache, never downloaded); empty: the "
          "encoder takes the installed demonstration model, the decoder the "
          "model that the caps name, or the demonstration model where they "
          "name none and have its shape", NULL, RW));
  g_object_class_install_property (klass, PROP_VARIANT,
      g_param_spec_string ("variant", "Variant",
          "Variant of the weight files in a model directory, such as fp16 or "
          "bf16; empty: the plain files", NULL, RW));
  g_object_class_install_property (klass, PROP_CONFIG,
      g_param_spec_string ("config", "Configuration",
          "Path of a config.json, or name of a released model; empty: the "
          "directory's own, or for a single file inferred from the tensors",
          NULL, RW));
  g_object_class_install_property (klass, PROP_BACKEND,
      g_param_spec_enum ("backend", "Backend",
          "Where the network runs; one that is asked for and does not work "
          "is an error", GST_TYPE_DCAE_BACKEND, DCAE_BACKEND_AUTO, RW));
  g_object_class_install_property (klass, PROP_DEVICE,
      g_param_spec_int ("device", "Device",
          "Number of the CUDA device, -1 = any", -1, G_MAXINT - 1,
          DEFAULT_DEVICE, RW));
  g_object_class_install_property (klass, PROP_PRECISION,
      g_param_spec_enum ("precision", "Precision",
          "Arithmetic of the network; what a machine cannot do is an error",
          GST_TYPE_DCAE_PRECISION, DCAE_PRECISION_AUTO, RW));
  g_object_class_install_property (klass, PROP_THREADS,
      g_param_spec_uint ("threads", "Threads",
          "CPU threads to use, 0 = one for each processor", 0, 256, 0, RW));
}

static void
install_tiling_properties (GObjectClass * klass)
{
  g_object_class_install_property (klass, PROP_TILING,
      g_param_spec_enum ("tiling", "Tiling",
          "How large frames are cut to save memory", GST_TYPE_DCAE_TILING,
          DCAE_TILING_AUTO, RW));
  g_object_class_install_property (klass, PROP_TILE_WIDTH,
      g_param_spec_uint ("tile-width", "Tile width",
          "Width of a tile in pixels with tiling=blend; a multiple of the "
          "model's ratio", 1, G_MAXINT, DEFAULT_TILE, RW));
  g_object_class_install_property (klass, PROP_TILE_HEIGHT,
      g_param_spec_uint ("tile-height", "Tile height",
          "Height of a tile in pixels with tiling=blend; a multiple of the "
          "model's ratio", 1, G_MAXINT, DEFAULT_TILE, RW));
  g_object_class_install_property (klass, PROP_TILE_STRIDE_WIDTH,
      g_param_spec_uint ("tile-stride-width", "Tile stride, horizontal",
          "Pixels from one tile to the next with tiling=blend, at most "
          "tile-width; 0 = an overlap of an eighth of the tile, rounded up to "
          "a multiple of the model's ratio", 0, G_MAXINT, 0, RW));
  g_object_class_install_property (klass, PROP_TILE_STRIDE_HEIGHT,
      g_param_spec_uint ("tile-stride-height", "Tile stride, vertical",
          "Pixels from one row of tiles to the next with tiling=blend, at most "
          "tile-height; 0 = an overlap of an eighth of the tile, rounded up to "
          "a multiple of the model's ratio", 0, G_MAXINT, 0, RW));
  g_object_class_install_property (klass, PROP_MEMORY_LIMIT,
      g_param_spec_uint64 ("memory-limit", "Memory limit",
          "Most memory for activations in MiB, weights not counted; 0 = half "
          "of what is free when caps are set", 0, G_MAXUINT64 / MIB, 0, RW));
}

static void
install_stream_properties (GObjectClass * klass)
{
  g_object_class_install_property (klass, PROP_BATCH_SIZE,
      g_param_spec_uint ("batch-size", "Batch size",
          "Frames that run together; adds a latency of one frame less than "
          "this, and memory", 1, GST_DCAE_MAX_BATCH, DEFAULT_BATCH_SIZE, RW));
  g_object_class_install_property (klass, PROP_SLICING,
      g_param_spec_boolean ("slicing", "Slicing",
          "Run frames one at a time to save memory; excludes batch-size above "
          "1", FALSE, RW));
  g_object_class_install_property (klass, PROP_SCALE_LATENTS,
      g_param_spec_boolean ("scale-latents", "Scale latents",
          "Whether latents are or will be multiplied by the model's "
          "scaling_factor, as diffusion models take them; the decoder follows "
          "the caps where they say so",
          DEFAULT_SCALE_LATENTS, RW));
  g_object_class_install_property (klass, PROP_LATENT_CHANNELS,
      g_param_spec_uint ("latent-channels", "Latent channels",
          "Use only so many of the first latent channels, for models made for "
          "that (DC-AE 1.5); 0 = all", 0, G_MAXINT, 0, RW));
}

void
gst_dcae_settings_install (GObjectClass * klass)
{
  install_model_properties (klass);
  install_tiling_properties (klass);
  install_stream_properties (klass);

  gst_type_mark_as_plugin_api (GST_TYPE_DCAE_BACKEND, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_DCAE_PRECISION, 0);
  gst_type_mark_as_plugin_api (GST_TYPE_DCAE_TILING, 0);
}

static void
take_string (gchar ** field, const GValue * value)
{
  const gchar *string = g_value_get_string (value);

  g_free (*field);
  *field = string && string[0] ? g_strdup (string) : NULL;
}

static gboolean
set_stream_property (GstDcaeSettings * s, guint prop_id, const GValue * value)
{
  switch (prop_id) {
    case PROP_TILING:
      s->tiling = g_value_get_enum (value);
      break;
    case PROP_TILE_WIDTH:
      s->tile_width = g_value_get_uint (value);
      break;
    case PROP_TILE_HEIGHT:
      s->tile_height = g_value_get_uint (value);
      break;
    case PROP_TILE_STRIDE_WIDTH:
      s->tile_stride_width = g_value_get_uint (value);
      break;
    case PROP_TILE_STRIDE_HEIGHT:
      s->tile_stride_height = g_value_get_uint (value);
      break;
    case PROP_MEMORY_LIMIT:
      s->memory_limit = g_value_get_uint64 (value);
      break;
    case PROP_BATCH_SIZE:
      s->batch_size = g_value_get_uint (value);
      break;
    case PROP_SLICING:
      s->slicing = g_value_get_boolean (value);
      break;
    case PROP_SCALE_LATENTS:
      s->scale_latents = g_value_get_boolean (value);
      break;
    case PROP_LATENT_CHANNELS:
      s->latent_channels = g_value_get_uint (value);
      break;
    default:
      return FALSE;
  }
  return TRUE;
}

gboolean
gst_dcae_settings_set (GstDcaeSettings * s, guint prop_id, const GValue * value)
{
  switch (prop_id) {
    case PROP_MODEL:
      take_string (&s->model, value);
      break;
    case PROP_VARIANT:
      take_string (&s->variant, value);
      break;
    case PROP_CONFIG:
      take_string (&s->config, value);
      break;
    case PROP_BACKEND:
      s->backend = g_value_get_enum (value);
      break;
    case PROP_DEVICE:
      s->device = g_value_get_int (value);
      break;
    case PROP_PRECISION:
      s->precision = g_value_get_enum (value);
      break;
    case PROP_THREADS:
      s->threads = g_value_get_uint (value);
      break;
    default:
      return set_stream_property (s, prop_id, value);
  }
  return TRUE;
}

static gboolean
get_stream_property (const GstDcaeSettings * s, guint prop_id, GValue * value)
{
  switch (prop_id) {
    case PROP_TILING:
      g_value_set_enum (value, s->tiling);
      break;
    case PROP_TILE_WIDTH:
      g_value_set_uint (value, s->tile_width);
      break;
    case PROP_TILE_HEIGHT:
      g_value_set_uint (value, s->tile_height);
      break;
    case PROP_TILE_STRIDE_WIDTH:
      g_value_set_uint (value, s->tile_stride_width);
      break;
    case PROP_TILE_STRIDE_HEIGHT:
      g_value_set_uint (value, s->tile_stride_height);
      break;
    case PROP_MEMORY_LIMIT:
      g_value_set_uint64 (value, s->memory_limit);
      break;
    case PROP_BATCH_SIZE:
      g_value_set_uint (value, s->batch_size);
      break;
    case PROP_SLICING:
      g_value_set_boolean (value, s->slicing);
      break;
    case PROP_SCALE_LATENTS:
      g_value_set_boolean (value, s->scale_latents);
      break;
    case PROP_LATENT_CHANNELS:
      g_value_set_uint (value, s->latent_channels);
      break;
    default:
      return FALSE;
  }
  return TRUE;
}

gboolean
gst_dcae_settings_get (const GstDcaeSettings * s, guint prop_id, GValue * value)
{
  switch (prop_id) {
    case PROP_MODEL:
      g_value_set_string (value, s->model);
      break;
    case PROP_VARIANT:
      g_value_set_string (value, s->variant);
      break;
    case PROP_CONFIG:
      g_value_set_string (value, s->config);
      break;
    case PROP_BACKEND:
      g_value_set_enum (value, s->backend);
      break;
    case PROP_DEVICE:
      g_value_set_int (value, s->device);
      break;
    case PROP_PRECISION:
      g_value_set_enum (value, s->precision);
      break;
    case PROP_THREADS:
      g_value_set_uint (value, s->threads);
      break;
    default:
      return get_stream_property (s, prop_id, value);
  }
  return TRUE;
}

/* ---- values */

void
gst_dcae_settings_init (GstDcaeSettings * s)
{
  memset (s, 0, sizeof (*s));
  s->device = DEFAULT_DEVICE;
  s->tile_width = s->tile_height = DEFAULT_TILE;
  s->batch_size = DEFAULT_BATCH_SIZE;
  s->scale_latents = DEFAULT_SCALE_LATENTS;
}

void
gst_dcae_settings_clear (GstDcaeSettings * s)
{
  g_free (s->model);
  g_free (s->variant);
  g_free (s->config);
  memset (s, 0, sizeof (*s));
}

void
gst_dcae_settings_copy (GstDcaeSettings * dest, const GstDcaeSettings * src)
{
  gst_dcae_settings_clear (dest);
  *dest = *src;
  dest->model = g_strdup (src->model);
  dest->variant = g_strdup (src->variant);
  dest->config = g_strdup (src->config);
}

guint
gst_dcae_settings_tile (guint tile)
{
  return tile == DEFAULT_TILE ? 0 : tile;
}

gboolean
gst_dcae_settings_has_tiles (const GstDcaeSettings * s)
{
  return s->tile_width != DEFAULT_TILE || s->tile_height != DEFAULT_TILE ||
      s->tile_stride_width || s->tile_stride_height;
}
