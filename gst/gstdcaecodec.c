/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaecodec.c - what dcaeenc and dcaedec share: properties, loading a model
 * on a worker thread, planning, running, statistics, messages. The only file
 * that reads environment variables (HF_HUB_CACHE, HF_HOME and
 * GST_DCAE_MODELS_PATH); knows nothing of latent caps.
 */
#include "gstdcaecodec.h"

#include <string.h>

#include "gstdcaememory.h"

GST_DEBUG_CATEGORY_STATIC (gst_dcae_debug);
#define GST_CAT_DEFAULT gst_dcae_debug

#define DEMO_MODEL "demo"
#define MIB (G_GUINT64_CONSTANT (1) << 20)
#define PROGRESS_STEP 5         /* per cent between two CONTINUE messages */

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
  PROP_ACTIVE_BACKEND,
  PROP_ACTIVE_TILING,
  PROP_STATS,
};

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
    {DCAE_TILING_AUTO, "Whole frames where they fit memory-limit, else exact",
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

static const gchar *
tiling_nick (DcaeTilingMode mode)
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
#define RO (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)

static void
install_model_properties (GObjectClass * klass)
{
  g_object_class_install_property (klass, PROP_MODEL,
      g_param_spec_string ("model", "Model",
          "Diffusers directory, .safetensors file, or Hugging Face repository "
          "id (looked up in the local cache, never downloaded); empty: the "
          "encoder takes the installed demonstration model, the decoder the "
          "model that the caps name", NULL, RW));
  g_object_class_install_property (klass, PROP_VARIANT,
      g_param_spec_string ("variant", "Variant",
          "Variant of the weight files in a model directory, such as fp16 or "
          "bf16; empty: the plain files", NULL, RW));
  g_object_class_install_property (klass, PROP_CONFIG,
      g_param_spec_string ("config", "Configuration",
          "For a single file: path of a config.json, or name of a released "
          "model; empty: inferred from the tensors", NULL, RW));
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
          "Latents are multiplied by the model's scaling_factor, as diffusion "
          "models take them; the decoder follows the caps where they say so",
          DEFAULT_SCALE_LATENTS, RW));
  g_object_class_install_property (klass, PROP_LATENT_CHANNELS,
      g_param_spec_uint ("latent-channels", "Latent channels",
          "Use only so many of the first latent channels, for models made for "
          "that (DC-AE 1.5); 0 = all", 0, G_MAXINT, 0, RW));
}

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

  install_model_properties (klass);
  install_tiling_properties (klass);
  install_stream_properties (klass);
  install_status_properties (klass);

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
gst_dcae_codec_set_property (GstDcaeCodec * self, guint prop_id,
    const GValue * value)
{
  GstDcaeSettings *s = &self->settings;
  gboolean known = TRUE;

  GST_OBJECT_LOCK (self->element);
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
      known = set_stream_property (s, prop_id, value);
      break;
  }
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

static gboolean
get_stream_property (GstDcaeCodec * self, guint prop_id, GValue * value)
{
  const GstDcaeSettings *s = &self->settings;

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
  const GstDcaeSettings *s = &self->settings;
  gboolean known = TRUE;

  GST_OBJECT_LOCK (self->element);
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
      known = get_stream_property (self, prop_id, value);
      break;
  }
  GST_OBJECT_UNLOCK (self->element);
  return known;
}

static void
settings_clear (GstDcaeSettings * s)
{
  g_free (s->model);
  g_free (s->variant);
  g_free (s->config);
  memset (s, 0, sizeof (*s));
}

static void
settings_copy (GstDcaeSettings * dest, const GstDcaeSettings * src)
{
  settings_clear (dest);
  *dest = *src;
  dest->model = g_strdup (src->model);
  dest->variant = g_strdup (src->variant);
  dest->config = g_strdup (src->config);
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

/* ---- where models are */

/* The root of the Hugging Face cache, or NULL for the library's default. */
static gchar *
find_hub_cache (void)
{
  const gchar *cache = g_getenv ("HF_HUB_CACHE");
  const gchar *home = g_getenv ("HF_HOME");
  gchar *path;

  if (cache && cache[0])
    path = g_strdup (cache);
  else if (home && home[0])
    path = g_build_filename (home, "hub", NULL);
  else
    return NULL;

  if (g_str_has_prefix (path, "~/")) {
    gchar *full = g_build_filename (g_get_home_dir (), path + 2, NULL);

    g_free (path);
    path = full;
  }
  return path;
}

/* The directory of an installed model, or NULL. */
static gchar *
find_installed (const gchar * name)
{
  const gchar *env = g_getenv ("GST_DCAE_MODELS_PATH");
  gchar *list = g_strconcat (env ? env : "", G_SEARCHPATH_SEPARATOR_S,
      DCAE_DATADIR "/models", NULL);
  gchar **dirs = g_strsplit (list, G_SEARCHPATH_SEPARATOR_S, -1);
  gchar *found = NULL;

  for (guint i = 0; dirs[i] && !found; i++) {
    if (dirs[i][0] == '\0')
      continue;
    found = g_build_filename (dirs[i], name, NULL);
    if (!g_file_test (found, G_FILE_TEST_IS_DIR))
      g_clear_pointer (&found, g_free);
  }
  g_strfreev (dirs);
  g_free (list);
  return found;
}

/* Names come from strangers' files: only a repository id or a plain name may
 * be looked up, nothing that could lead elsewhere. */
static gboolean
is_model_name (const gchar * name)
{
  guint slashes = 0;

  if (name[0] == '.' || name[0] == '/' || name[0] == '\0')
    return FALSE;
  for (const gchar * p = name; *p; p++) {
    if (*p == '/') {
      if (++slashes > 1 || p[1] == '\0' || p[1] == '.')
        return FALSE;
    } else if (!g_ascii_isalnum (*p) && !strchr ("-_.", *p)) {
      return FALSE;
    }
  }
  return strstr (name, "..") == NULL;
}

static DcaeModel *
open_model (GstDcaeCodec * self, const gchar * path, GError ** error)
{
  gchar *hub_cache = find_hub_cache ();
  DcaeModelParams params = {
    .path = path,
    .variant = self->used.variant,
    .config = self->used.config,
    .hub_cache = hub_cache,
  };
  DcaeModel *model;

  GST_INFO_OBJECT (self->element, "opening model %s, cache %s", path,
      hub_cache ? hub_cache : "(default)");
  model = dcae_model_open (&params, error);
  g_free (hub_cache);
  return model;
}

/* A path, a repository id, or the name of an installed model. */
static DcaeModel *
open_named (GstDcaeCodec * self, const gchar * name, GError ** error)
{
  gchar *installed = NULL;
  DcaeModel *model;

  if (!g_file_test (name, G_FILE_TEST_EXISTS) && is_model_name (name))
    installed = find_installed (name);
  model = open_model (self, installed ? installed : name, error);
  g_free (installed);
  return model;
}

static DcaeModel *
open_demo (GstDcaeCodec * self, GError ** error)
{
  gchar *path = find_installed (DEMO_MODEL);
  DcaeModel *model;

  if (!path) {
    g_set_error (error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
        "no model property was set and the demonstration model is not "
        "installed below %s", DCAE_DATADIR "/models");
    return NULL;
  }
  model = open_model (self, path, error);
  g_free (path);
  return model;
}

/* The error for latents whose model is not known. */
static void
set_no_model_error (GstDcaeCodec * self, const gchar * why, GError ** error)
{
  gchar *ratio = self->request_ratio ?
      g_strdup_printf ("ratio %u", self->request_ratio) :
      g_strdup ("an unknown ratio");

  g_set_error (error, DCAE_ERROR, DCAE_ERROR_NOT_FOUND,
      "%s; the latents have %s and %u channels: set the model property to the "
      "model that made them", why, ratio, self->request_channels);
  g_free (ratio);
}

/* The model that caps name. Its hash must agree where they give one. */
static DcaeModel *
open_requested (GstDcaeCodec * self, GError ** error)
{
  const gchar *name = self->request_name;
  GError *cause = NULL;
  DcaeModel *model = NULL;
  gchar *why = NULL;

  if (!is_model_name (name)) {
    why = g_strdup_printf ("the caps name the model '%s', which is neither a "
        "repository id nor the name of an installed model", name);
  } else if (!(model = open_named (self, name, &cause))) {
    if (!g_error_matches (cause, DCAE_ERROR, DCAE_ERROR_NOT_FOUND)) {
      g_propagate_error (error, cause);
      return NULL;
    }
    why = g_strdup_printf ("the caps name the model '%s': %s", name,
        cause->message);
    g_error_free (cause);
  } else if (self->request_hash &&
      strcmp (dcae_model_info (model)->hash, self->request_hash) != 0) {
    why = g_strdup_printf ("the caps name the model '%s' with hash %s, but the "
        "one found has hash %s", name, self->request_hash,
        dcae_model_info (model)->hash);
    g_clear_pointer (&model, dcae_model_unref);
  }
  if (why)
    set_no_model_error (self, why, error);
  g_free (why);
  return model;
}

/* The demonstration model, where unnamed latents have its shape. */
static DcaeModel *
open_demo_for_shape (GstDcaeCodec * self, GError ** error)
{
  DcaeModel *model = open_demo (self, NULL);
  const DcaeModelInfo *info;

  if (model) {
    info = dcae_model_info (model);
    if (info->latent_channels == self->request_channels &&
        (!self->request_ratio || info->ratio == self->request_ratio) &&
        (!self->request_hash || !strcmp (info->hash, self->request_hash)))
      return model;
    dcae_model_unref (model);
  }
  set_no_model_error (self, "the caps name no model", error);
  return NULL;
}

static DcaeModel *
choose_model (GstDcaeCodec * self, GError ** error)
{
  if (self->used.model)
    return open_named (self, self->used.model, error);
  if (self->direction == DCAE_ENCODE)
    return open_demo (self, error);
  if (self->request_name)
    return open_requested (self, error);
  return open_demo_for_shape (self, error);
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
    .precision = s->precision,
    .threads = s->threads,
    .cancellable = self->cancellable,
    .progress = on_progress,
    .progress_data = progress,
  };

  self->model = choose_model (self, error);
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
    post_error (self, "Could not load the model", error);

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

  g_clear_pointer (&self->request_name, g_free);
  g_clear_pointer (&self->request_hash, g_free);
  self->request_channels = self->request_ratio = 0;
}

/* TRUE where the model that is there, or on its way, is the one to use. */
static gboolean
satisfies (GstDcaeCodec * self, const GstDcaeModelRequest * request)
{
  const DcaeModelInfo *info;

  if (self->used.model || !request)
    return TRUE;
  if (self->load_state == GST_DCAE_LOAD_RUNNING)
    return g_strcmp0 (request->name, self->request_name) == 0 &&
        g_strcmp0 (request->hash, self->request_hash) == 0 &&
        request->channels == self->request_channels &&
        request->ratio == self->request_ratio;
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
    self->request_name = g_strdup (request->name);
    self->request_hash = g_strdup (request->hash);
    self->request_channels = request->channels;
    self->request_ratio = request->ratio;
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

  self->settings.device = DEFAULT_DEVICE;
  self->settings.tile_width = DEFAULT_TILE;
  self->settings.tile_height = DEFAULT_TILE;
  self->settings.batch_size = DEFAULT_BATCH_SIZE;
  self->settings.scale_latents = DEFAULT_SCALE_LATENTS;
}

void
gst_dcae_codec_clear (GstDcaeCodec * self)
{
  gst_dcae_codec_stop (self);
  settings_clear (&self->settings);
  g_cond_clear (&self->cond);
  g_mutex_clear (&self->lock);
}

static gboolean
has_tile_settings (const GstDcaeSettings * s)
{
  return s->tile_width != DEFAULT_TILE || s->tile_height != DEFAULT_TILE ||
      s->tile_stride_width || s->tile_stride_height;
}

gboolean
gst_dcae_codec_start (GstDcaeCodec * self)
{
  GST_OBJECT_LOCK (self->element);
  settings_copy (&self->used, &self->settings);
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
  if (self->used.tiling != DCAE_TILING_BLEND && has_tile_settings (&self->used))
    GST_ELEMENT_WARNING (self->element, LIBRARY, SETTINGS,
        ("tile sizes and strides have no effect with tiling=%s, only with "
            "tiling=blend", tiling_nick (self->used.tiling)), (NULL));
  return TRUE;
}

void
gst_dcae_codec_stop (GstDcaeCodec * self)
{
  gst_dcae_codec_interrupt (self);
  unload (self);

  GST_OBJECT_LOCK (self->element);
  settings_clear (&self->used);
  self->started = FALSE;
  GST_OBJECT_UNLOCK (self->element);
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

guint
gst_dcae_codec_choose_batch (GstDcaeCodec * self, GstPad * pad,
    const GstVideoInfo * info, GstClockTime * latency)
{
  guint batch = self->used.batch_size;

  *latency = 0;
  if (batch == 1)
    return 1;

  /* Of a variable rate the info has the highest, which tells nothing. */
  if (GST_VIDEO_INFO_FPS_N (info) > 0 &&
      !GST_VIDEO_INFO_FLAG_IS_SET (info, GST_VIDEO_FLAG_VARIABLE_FPS)) {
    *latency = MIN (gst_util_uint64_scale (batch - 1,
            GST_SECOND * GST_VIDEO_INFO_FPS_D (info),
            GST_VIDEO_INFO_FPS_N (info)), G_MAXINT64);
  } else if (is_live (pad)) {
    GST_WARNING_OBJECT (self->element, "live input without a frame rate: "
        "frames run one at a time instead of %u together", batch);
    batch = 1;
  } else {
    GST_INFO_OBJECT (self->element, "the frame rate is unknown: the latency of "
        "batch-size=%u can't be told", batch);
  }
  return batch;
}

static guint64
resolve_memory_limit (GstDcaeCodec * self)
{
  guint64 limit = self->used.memory_limit * MIB;
  guint64 available;

  if (limit)
    return limit;
  if (strcmp (dcae_codec_backend (self->codec), "cpu") != 0)
    return 0;
  available = gst_dcae_memory_available ();
  GST_INFO_OBJECT (self->element, "memory-limit: half of %" G_GUINT64_FORMAT
      " MiB available", available / MIB);
  return available / 2;
}

/* The default tile is the library's: 512 rounded to what the model allows. */
static guint
tile_or_default (guint tile)
{
  return tile == DEFAULT_TILE ? 0 : tile;
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
      tiling_nick (plan->tiling), plan->bands, plan->tiles,
      plan->activation_bytes / 1024, geometry->tiling.memory_limit / 1024,
      plan->weight_bytes / 1024);

  GST_OBJECT_LOCK (self->element);
  self->active_tiling = tiling_nick (plan->tiling);
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
  geometry->tiling.tile_width = tile_or_default (s->tile_width);
  geometry->tiling.tile_height = tile_or_default (s->tile_height);
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

GstFlowReturn
gst_dcae_codec_run (GstDcaeCodec * self, const DcaeImage * images,
    const DcaeLatent * latents, guint n, guint first)
{
  GError *error = NULL;
  gint64 begin = g_get_monotonic_time ();
  gboolean interrupted;
  gchar *doing;

  g_mutex_lock (&self->lock);
  interrupted = self->stopping || self->flushing;
  g_mutex_unlock (&self->lock);
  if (interrupted)
    return GST_FLOW_FLUSHING;

  if (dcae_codec_run (self->codec, images, latents, n, &error)) {
    gdouble ms = (g_get_monotonic_time () - begin) / 1000.0;

    GST_LOG_OBJECT (self->element, "frames %u to %u took %.1f ms", first,
        first + n - 1, ms);
    GST_OBJECT_LOCK (self->element);
    self->frames += n;
    self->total_ms += ms;
    GST_OBJECT_UNLOCK (self->element);
    return GST_FLOW_OK;
  }

  if (g_error_matches (error, DCAE_ERROR, DCAE_ERROR_CANCELLED)) {
    g_error_free (error);
    return GST_FLOW_FLUSHING;
  }
  doing = n == 1 ? g_strdup_printf ("Could not %s frame %u",
      self->direction == DCAE_ENCODE ? "encode" : "decode", first) :
      g_strdup_printf ("Could not %s frames %u to %u",
      self->direction == DCAE_ENCODE ? "encode" : "decode", first,
      first + n - 1);
  gst_dcae_codec_post_error (self, doing, error);
  g_free (doing);
  return GST_FLOW_ERROR;
}

void
gst_dcae_codec_count_dropped (GstDcaeCodec * self)
{
  GST_OBJECT_LOCK (self->element);
  self->dropped++;
  GST_OBJECT_UNLOCK (self->element);
}

/* Luma weights; where the caps name no matrix, those that GStreamer takes for
 * a picture of that height. */
static void
get_luma_weights (const GstVideoInfo * info, gdouble * kr, gdouble * kb)
{
  GstVideoColorMatrix matrix = info->colorimetry.matrix;

  if (!gst_video_color_matrix_get_Kr_Kb (matrix, kr, kb)) {
    matrix = GST_VIDEO_INFO_HEIGHT (info) > 576 ? GST_VIDEO_COLOR_MATRIX_BT709 :
        GST_VIDEO_COLOR_MATRIX_BT601;
    gst_video_color_matrix_get_Kr_Kb (matrix, kr, kb);
  }
}

/* RGBx and its kin have no component for the padding byte: it is the one that
 * R, G and B leave. */
static void
set_padding_component (DcaeImage * image, GstVideoFrame * frame)
{
  const GstVideoFormatInfo *finfo = frame->info.finfo;
  guint offset = 0 + 1 + 2 + 3;

  for (guint i = 0; i < 3; i++)
    offset -= GST_VIDEO_FORMAT_INFO_POFFSET (finfo, i);
  image->component[3] = (DcaeComponent) {
  (guint8 *) GST_VIDEO_FRAME_PLANE_DATA (frame, 0) + offset,
        GST_VIDEO_FRAME_PLANE_STRIDE (frame, 0), 4};
}

void
gst_dcae_image_from_frame (DcaeImage * image, GstVideoFrame * frame)
{
  const GstVideoInfo *info = &frame->info;
  const GstVideoFormatInfo *finfo = info->finfo;

  memset (image, 0, sizeof (*image));
  image->memory = DCAE_MEMORY_HOST;
  image->width = GST_VIDEO_FRAME_WIDTH (frame);
  image->height = GST_VIDEO_FRAME_HEIGHT (frame);
  image->full_range =
      info->colorimetry.range == GST_VIDEO_COLOR_RANGE_0_255;

  for (guint i = 0; i < GST_VIDEO_FRAME_N_COMPONENTS (frame); i++)
    image->component[i] = (DcaeComponent) {
    GST_VIDEO_FRAME_COMP_DATA (frame, i),
          GST_VIDEO_FRAME_COMP_STRIDE (frame, i),
          GST_VIDEO_FRAME_COMP_PSTRIDE (frame, i)};

  if (GST_VIDEO_FORMAT_INFO_IS_YUV (finfo)) {
    GstVideoChromaSite site = info->chroma_site;

    image->color = DCAE_COLOR_YUV;
    image->chroma_w_shift = GST_VIDEO_FORMAT_INFO_W_SUB (finfo, 1);
    image->chroma_h_shift = GST_VIDEO_FORMAT_INFO_H_SUB (finfo, 1);
    get_luma_weights (info, &image->kr, &image->kb);
    if (site == GST_VIDEO_CHROMA_SITE_UNKNOWN)
      site = GST_VIDEO_CHROMA_SITE_MPEG2;
    image->chroma_x = site & GST_VIDEO_CHROMA_SITE_H_COSITED ? 0.0 : 0.5;
    image->chroma_y = site & GST_VIDEO_CHROMA_SITE_V_COSITED ? 0.0 : 0.5;
  } else if (GST_VIDEO_FORMAT_INFO_IS_GRAY (finfo)) {
    image->color = DCAE_COLOR_GRAY;
  } else {
    image->color = DCAE_COLOR_RGB;
    if (GST_VIDEO_FORMAT_INFO_N_COMPONENTS (finfo) == 3 &&
        GST_VIDEO_FORMAT_INFO_PSTRIDE (finfo, 0) == 4)
      set_padding_component (image, frame);
  }
}

/* ---- pads */

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
  return result;
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
