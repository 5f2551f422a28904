/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaelatent.c - the caps of latent streams and the header of clip files,
 * built, parsed and checked. The only place that knows a field or a key by
 * name. Knows no pads and does no input or output.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "gstdcaelatent.h"

#include <gst/video/video.h>
#include <math.h>
#include <string.h>

/* ---- formats ---- */

static const struct
{
  DcaeLatentFormat format;
  DcaeDtype dtype;
  const gchar *name;
  const gchar *dtype_name;
  gsize size;
} formats[] = {
  {DCAE_LATENT_F32, DCAE_DTYPE_F32, "F32LE", "F32", 4},
  {DCAE_LATENT_F16, DCAE_DTYPE_F16, "F16LE", "F16", 2},
  {DCAE_LATENT_BF16, DCAE_DTYPE_BF16, "BF16LE", "BF16", 2},
};

const gchar *
gst_dcae_latent_format_to_string (DcaeLatentFormat format)
{
  return formats[format].name;
}

gboolean
gst_dcae_latent_format_from_string (const gchar * string,
    DcaeLatentFormat * format)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (formats); i++) {
    if (g_strcmp0 (string, formats[i].name) == 0) {
      *format = formats[i].format;
      return TRUE;
    }
  }
  return FALSE;
}

gsize
gst_dcae_latent_format_size (DcaeLatentFormat format)
{
  return formats[format].size;
}

/* ---- fields ---- */

typedef enum
{
  FIELD_FORMAT,
  FIELD_INT,                    /* gint, 0 = not there */
  FIELD_FRACTION,               /* two gints, denominator 0 = not there */
  FIELD_STRING,                 /* gchar *, NULL = not there */
  FIELD_SCALED,                 /* GstDcaeScaled */
  FIELD_DOUBLE,                 /* gdouble, 0 = not there */
} FieldKind;

typedef struct
{
  const gchar *name;
  FieldKind kind;
  gboolean required;
  gboolean may_change;          /* within one clip */
  gsize offset;
} Field;

#define FIELD(name, kind, required, may_change, member) \
  { name, kind, required, may_change, G_STRUCT_OFFSET (GstDcaeLatentInfo, member) }

static const Field fields[] = {
  FIELD ("format", FIELD_FORMAT, TRUE, FALSE, format),
  FIELD ("latent-channels", FIELD_INT, TRUE, FALSE, latent_channels),
  FIELD ("latent-width", FIELD_INT, TRUE, FALSE, latent_width),
  FIELD ("latent-height", FIELD_INT, TRUE, FALSE, latent_height),
  FIELD ("width", FIELD_INT, FALSE, FALSE, width),
  FIELD ("height", FIELD_INT, FALSE, FALSE, height),
  FIELD ("spatial-ratio", FIELD_INT, FALSE, FALSE, spatial_ratio),
  FIELD ("framerate", FIELD_FRACTION, FALSE, TRUE, fps_n),
  FIELD ("max-framerate", FIELD_FRACTION, FALSE, TRUE, max_fps_n),
  FIELD ("pixel-aspect-ratio", FIELD_FRACTION, FALSE, FALSE, par_n),
  FIELD ("colorimetry", FIELD_STRING, FALSE, FALSE, colorimetry),
  FIELD ("model", FIELD_STRING, FALSE, FALSE, model),
  FIELD ("model-hash", FIELD_STRING, FALSE, FALSE, model_hash),
  FIELD ("scaled", FIELD_SCALED, FALSE, FALSE, scaled),
  FIELD ("scaling-factor", FIELD_DOUBLE, FALSE, FALSE, scaling_factor),
};

G_STATIC_ASSERT (G_STRUCT_OFFSET (GstDcaeLatentInfo, fps_d) ==
    G_STRUCT_OFFSET (GstDcaeLatentInfo, fps_n) + sizeof (gint));
G_STATIC_ASSERT (G_STRUCT_OFFSET (GstDcaeLatentInfo, max_fps_d) ==
    G_STRUCT_OFFSET (GstDcaeLatentInfo, max_fps_n) + sizeof (gint));
G_STATIC_ASSERT (G_STRUCT_OFFSET (GstDcaeLatentInfo, par_d) ==
    G_STRUCT_OFFSET (GstDcaeLatentInfo, par_n) + sizeof (gint));

#define MEMBER(info, field, type) \
  ((type *) G_STRUCT_MEMBER_P (info, (field)->offset))
#define MEMBER_CONST(info, field, type) \
  ((const type *) G_STRUCT_MEMBER_P (info, (field)->offset))

static GType
field_type (const Field * field)
{
  switch (field->kind) {
    case FIELD_INT:
      return G_TYPE_INT;
    case FIELD_FRACTION:
      return GST_TYPE_FRACTION;
    case FIELD_SCALED:
      return G_TYPE_BOOLEAN;
    case FIELD_DOUBLE:
      return G_TYPE_DOUBLE;
    case FIELD_FORMAT:
    case FIELD_STRING:
      break;
  }
  return G_TYPE_STRING;
}

void
gst_dcae_latent_info_init (GstDcaeLatentInfo * info)
{
  memset (info, 0, sizeof (*info));
  info->scaled = GST_DCAE_SCALED_UNKNOWN;
}

void
gst_dcae_latent_info_clear (GstDcaeLatentInfo * info)
{
  g_free (info->colorimetry);
  g_free (info->model);
  g_free (info->model_hash);
  gst_dcae_latent_info_init (info);
}

void
gst_dcae_latent_info_copy (GstDcaeLatentInfo * dest,
    const GstDcaeLatentInfo * src)
{
  if (dest == src)
    return;
  gst_dcae_latent_info_clear (dest);
  *dest = *src;
  dest->colorimetry = g_strdup (src->colorimetry);
  dest->model = g_strdup (src->model);
  dest->model_hash = g_strdup (src->model_hash);
}

gboolean
gst_dcae_latent_info_frame_size (const GstDcaeLatentInfo * info, gsize * size)
{
  gsize n = gst_dcae_latent_format_size (info->format);

  return g_size_checked_mul (&n, n, info->latent_channels)
      && g_size_checked_mul (&n, n, info->latent_height)
      && g_size_checked_mul (size, n, info->latent_width);
}

/* ---- checks ---- */

/* Sets the error "<prefix><field> <what>". The prefix says where the field
 * comes from: "" for caps, "dcae." for a clip's metadata. */
static gboolean
fail (GError ** error, const gchar * prefix, const gchar * field,
    const gchar * format, ...) G_GNUC_PRINTF (4, 5);

static gboolean
fail (GError ** error, const gchar * prefix, const gchar * field,
    const gchar * format, ...)
{
  va_list args;
  gchar *what;

  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s%s %s", prefix, field,
      what);
  g_free (what);
  return FALSE;
}

/* Whether the name could lead out of the places where models are looked for:
 * caps come from files of strangers. */
static gboolean
is_model_name (const gchar * name)
{
  gchar **parts;
  guint i, n;
  gboolean ok = TRUE;

  parts = g_strsplit (name, "/", -1);
  n = g_strv_length (parts);
  for (i = 0; i < n; i++) {
    if (parts[i][0] == '\0' || g_str_equal (parts[i], ".")
        || g_str_equal (parts[i], "..") || strchr (parts[i], '\\'))
      ok = FALSE;
  }
  g_strfreev (parts);
  return ok && n >= 1 && n <= 2;
}

static gboolean
check_strings (const GstDcaeLatentInfo * info, const gchar * prefix,
    GError ** error)
{
  GstVideoColorimetry colorimetry;

  if (info->colorimetry
      && !gst_video_colorimetry_from_string (&colorimetry, info->colorimetry))
    return fail (error, prefix, "colorimetry", "'%s' is no colorimetry",
        info->colorimetry);
  if (info->model && !is_model_name (info->model))
    return fail (error, prefix, "model", "'%s' is neither a repository id nor "
        "the name of a model; paths are not allowed", info->model);
  if (info->model_hash && (strlen (info->model_hash) != 16
          || strspn (info->model_hash, "0123456789abcdef") != 16))
    return fail (error, prefix, "model-hash", "'%s' is not 16 lower-case hex "
        "digits", info->model_hash);
  return TRUE;
}

/* One direction of the picture against the latent. */
static gboolean
check_picture (const GstDcaeLatentInfo * info, const gchar * prefix,
    const gchar * name, gint picture, gint latent, GError ** error)
{
  gint64 ratio = info->spatial_ratio;

  if (picture == 0 || ratio == 0)
    return TRUE;
  if ((picture + ratio - 1) / ratio != latent)
    return fail (error, prefix, name, "%d does not fit latent-%s %d at "
        "spatial-ratio %d", picture, name, latent, info->spatial_ratio);
  return TRUE;
}

static gboolean
check_info (const GstDcaeLatentInfo * info, const gchar * prefix,
    GError ** error)
{
  gsize size;

  if (!gst_dcae_latent_info_frame_size (info, &size))
    return fail (error, prefix, "latent-channels", "%d, latent-height %d and "
        "latent-width %d make a frame too large for memory",
        info->latent_channels, info->latent_height, info->latent_width);
  if (info->width && !info->height)
    return fail (error, prefix, "height", "is missing beside width %d",
        info->width);
  if (info->height && !info->width)
    return fail (error, prefix, "width", "is missing beside height %d",
        info->height);
  if (info->par_d && info->par_n == 0)
    return fail (error, prefix, "pixel-aspect-ratio", "0/1 is not allowed");
  return check_picture (info, prefix, "width", info->width,
      info->latent_width, error)
      && check_picture (info, prefix, "height", info->height,
      info->latent_height, error)
      && check_strings (info, prefix, error);
}

/* ---- structures ---- */

static gboolean
read_fraction (GstDcaeLatentInfo * info, const Field * field,
    const GValue * value, const gchar * prefix, GError ** error)
{
  gint *member = MEMBER (info, field, gint);

  member[0] = gst_value_get_fraction_numerator (value);
  member[1] = gst_value_get_fraction_denominator (value);
  if (member[0] < 0)
    return fail (error, prefix, field->name, "%d/%d is negative", member[0],
        member[1]);
  return TRUE;
}

static gboolean
read_field (GstDcaeLatentInfo * info, const Field * field,
    const GValue * value, const gchar * prefix, GError ** error)
{
  if (!G_VALUE_HOLDS (value, field_type (field)))
    return fail (error, prefix, field->name, "has type %s, wanted is %s",
        G_VALUE_TYPE_NAME (value), g_type_name (field_type (field)));
  switch (field->kind) {
    case FIELD_FORMAT:
      if (!gst_dcae_latent_format_from_string (g_value_get_string (value),
              &info->format))
        return fail (error, prefix, field->name, "'%s' is none of F32LE, "
            "F16LE, BF16LE", g_value_get_string (value));
      return TRUE;
    case FIELD_INT:
      *MEMBER (info, field, gint) = g_value_get_int (value);
      if (g_value_get_int (value) < 1)
        return fail (error, prefix, field->name, "%d is below 1",
            g_value_get_int (value));
      return TRUE;
    case FIELD_FRACTION:
      return read_fraction (info, field, value, prefix, error);
    case FIELD_STRING:
      if (g_value_get_string (value) == NULL)
        return fail (error, prefix, field->name, "is empty");
      g_free (*MEMBER (info, field, gchar *));
      *MEMBER (info, field, gchar *) = g_value_dup_string (value);
      return TRUE;
    case FIELD_SCALED:
      info->scaled = g_value_get_boolean (value) ?
          GST_DCAE_SCALED_YES : GST_DCAE_SCALED_NO;
      return TRUE;
    case FIELD_DOUBLE:
      *MEMBER (info, field, gdouble) = g_value_get_double (value);
      if (!isfinite (g_value_get_double (value))
          || g_value_get_double (value) <= 0)
        return fail (error, prefix, field->name, "%g is not above 0",
            g_value_get_double (value));
      return TRUE;
  }
  return FALSE;
}

/* info must be initialised. On failure it is left initialised and empty. */
static gboolean
info_from_structure (GstDcaeLatentInfo * info, const GstStructure * structure,
    const gchar * prefix, GError ** error)
{
  const GValue *value;
  guint i;

  gst_dcae_latent_info_clear (info);
  for (i = 0; i < G_N_ELEMENTS (fields); i++) {
    value = gst_structure_get_value (structure, fields[i].name);
    if (value == NULL && fields[i].required) {
      fail (error, prefix, fields[i].name, "is missing");
      goto failed;
    }
    if (value != NULL && !read_field (info, &fields[i], value, prefix, error))
      goto failed;
  }
  if (!check_info (info, prefix, error))
    goto failed;
  return TRUE;

failed:
  gst_dcae_latent_info_clear (info);
  return FALSE;
}

gboolean
gst_dcae_latent_info_from_caps (GstDcaeLatentInfo * info, const GstCaps * caps,
    GError ** error)
{
  const GstStructure *structure;

  if (caps == NULL || !gst_caps_is_fixed (caps)) {
    gst_dcae_latent_info_clear (info);
    g_set_error_literal (error, DCAE_ERROR, DCAE_ERROR_FORMAT,
        "latent caps are missing or not fixed");
    return FALSE;
  }
  structure = gst_caps_get_structure (caps, 0);
  if (!gst_structure_has_name (structure, GST_DCAE_LATENT_MEDIA_TYPE)) {
    gst_dcae_latent_info_clear (info);
    g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT, "caps are %s, not %s",
        gst_structure_get_name (structure), GST_DCAE_LATENT_MEDIA_TYPE);
    return FALSE;
  }
  return info_from_structure (info, structure, "", error);
}

/* FALSE where the field is not there. value is initialised on TRUE. */
static gboolean
field_to_value (const GstDcaeLatentInfo * info, const Field * field,
    GValue * value)
{
  const gint *number = MEMBER_CONST (info, field, gint);

  g_value_init (value, field_type (field));
  switch (field->kind) {
    case FIELD_FORMAT:
      g_value_set_static_string (value,
          gst_dcae_latent_format_to_string (info->format));
      return TRUE;
    case FIELD_INT:
      g_value_set_int (value, number[0]);
      if (number[0] != 0)
        return TRUE;
      break;
    case FIELD_FRACTION:
      if (number[1] != 0) {
        gst_value_set_fraction (value, number[0], number[1]);
        return TRUE;
      }
      break;
    case FIELD_STRING:
      g_value_set_string (value, *MEMBER_CONST (info, field, gchar *));
      if (g_value_get_string (value) != NULL)
        return TRUE;
      break;
    case FIELD_SCALED:
      g_value_set_boolean (value, info->scaled == GST_DCAE_SCALED_YES);
      if (info->scaled != GST_DCAE_SCALED_UNKNOWN)
        return TRUE;
      break;
    case FIELD_DOUBLE:
      g_value_set_double (value, info->scaling_factor);
      if (info->scaling_factor != 0)
        return TRUE;
      break;
  }
  g_value_unset (value);
  return FALSE;
}

GstCaps *
gst_dcae_latent_info_to_caps (const GstDcaeLatentInfo * info)
{
  GstStructure *structure;
  GstCaps *caps;
  guint i;

  structure = gst_structure_new_empty (GST_DCAE_LATENT_MEDIA_TYPE);
  for (i = 0; i < G_N_ELEMENTS (fields); i++) {
    GValue value = G_VALUE_INIT;

    if (field_to_value (info, &fields[i], &value))
      gst_structure_take_value (structure, fields[i].name, &value);
  }
  caps = gst_caps_new_empty ();
  gst_caps_append_structure (caps, structure);
  return caps;
}

const gchar *
gst_dcae_latent_info_find_change (const GstDcaeLatentInfo * a,
    const GstDcaeLatentInfo * b)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (fields); i++) {
    GValue va = G_VALUE_INIT, vb = G_VALUE_INIT;
    gboolean in_a, in_b, same;

    if (fields[i].may_change)
      continue;
    in_a = field_to_value (a, &fields[i], &va);
    in_b = field_to_value (b, &fields[i], &vb);
    same = in_a == in_b
        && (!in_a || gst_value_compare (&va, &vb) == GST_VALUE_EQUAL);
    if (in_a)
      g_value_unset (&va);
    if (in_b)
      g_value_unset (&vb);
    if (!same)
      return fields[i].name;
  }
  return NULL;
}

/* ---- clip files ---- */

#define KEY_PREFIX "dcae."
#define KEY_VERSION "dcae.version"
#define KEY_COMPLETE "dcae.complete"
#define KEY_FIRST_PTS "dcae.first-pts"
#define KEY_TAGS "dcae.tags"
#define CLIP_VERSION "1"

#define TENSOR_LATENTS "latents"
#define TENSOR_COMFY "latent_tensor"
#define TENSOR_PTS "pts"
#define TENSOR_DURATION "duration"

void
gst_dcae_clip_init (GstDcaeClip * clip)
{
  memset (clip, 0, sizeof (*clip));
  gst_dcae_latent_info_init (&clip->info);
  clip->first_pts = GST_CLOCK_TIME_NONE;
}

void
gst_dcae_clip_clear (GstDcaeClip * clip)
{
  gst_dcae_latent_info_clear (&clip->info);
  g_clear_pointer (&clip->tags, gst_tag_list_unref);
  gst_dcae_clip_init (clip);
}

/* ---- writing ---- */

static void
append_json_string (GString * json, const gchar * string)
{
  const guchar *p;

  g_string_append_c (json, '"');
  for (p = (const guchar *) string; *p; p++) {
    if (*p == '"' || *p == '\\')
      g_string_append_printf (json, "\\%c", *p);
    else if (*p < 0x20)
      g_string_append_printf (json, "\\u%04x", *p);
    else
      g_string_append_c (json, *p);
  }
  g_string_append_c (json, '"');
}

static void
append_metadata (GString * json, const gchar * key, const gchar * value)
{
  g_string_append_c (json, ',');
  append_json_string (json, key);
  g_string_append_c (json, ':');
  append_json_string (json, value);
}

static void
append_fields (GString * json, const GstDcaeLatentInfo * info)
{
  guint i;

  for (i = 0; i < G_N_ELEMENTS (fields); i++) {
    GValue value = G_VALUE_INIT;
    gchar *key, *text;

    if (!field_to_value (info, &fields[i], &value))
      continue;
    key = g_strconcat (KEY_PREFIX, fields[i].name, NULL);
    text = gst_value_serialize (&value);
    append_metadata (json, key, text);
    g_free (text);
    g_free (key);
    g_value_unset (&value);
  }
}

static void
append_table (GString * json, const gchar * name, guint64 n, guint64 begin)
{
  g_string_append_printf (json, ",\"%s\":{\"dtype\":\"I64\",\"shape\":[%"
      G_GUINT64_FORMAT "],\"data_offsets\":[%" G_GUINT64_FORMAT ",%"
      G_GUINT64_FORMAT "]}", name, n, begin, begin + 8 * n);
}

/* The tensors come first: the type finder reads only the start of a file, and
 * tags may be long. */
static GString *
build_json (const GstDcaeClip * clip)
{
  const GstDcaeLatentInfo *info = &clip->info;
  GString *json = g_string_new (NULL);
  guint64 n = clip->n_frames;
  guint64 end = n * clip->frame_size;
  gchar *text;

  g_string_append_printf (json, "{\"%s\":{\"dtype\":\"%s\",\"shape\":[%"
      G_GUINT64_FORMAT ",%d,%d,%d],\"data_offsets\":[0,%" G_GUINT64_FORMAT
      "]}", TENSOR_LATENTS, formats[info->format].dtype_name, n,
      info->latent_channels, info->latent_height, info->latent_width, end);
  if (clip->pts_table) {
    append_table (json, TENSOR_PTS, n, end);
    end += 8 * n;
  }
  if (clip->duration_table)
    append_table (json, TENSOR_DURATION, n, end);
  g_string_append (json, ",\"__metadata__\":{\"format\":\"pt\"");
  append_metadata (json, KEY_VERSION, CLIP_VERSION);
  append_metadata (json, KEY_COMPLETE, clip->complete ? "true" : "false");
  if (GST_CLOCK_TIME_IS_VALID (clip->first_pts)) {
    text = g_strdup_printf ("%" G_GUINT64_FORMAT, clip->first_pts);
    append_metadata (json, KEY_FIRST_PTS, text);
    g_free (text);
  }
  append_fields (json, info);
  if (clip->tags && !gst_tag_list_is_empty (clip->tags)) {
    text = gst_tag_list_to_string (clip->tags);
    append_metadata (json, KEY_TAGS, text);
    g_free (text);
  }
  g_string_append (json, "}}");
  return json;
}

gsize
gst_dcae_clip_header_room (const GstDcaeClip * clip)
{
  GstDcaeClip longest = *clip;
  GString *json;
  gsize room;

  if (!gst_dcae_latent_info_frame_size (&clip->info, &longest.frame_size))
    return 0;
  longest.n_frames = (G_MAXUINT64 / 32) / MAX (longest.frame_size, 1);
  longest.first_pts = G_MAXUINT64 - 1;
  longest.complete = FALSE;
  longest.pts_table = longest.duration_table = TRUE;
  longest.info.fps_n = longest.info.fps_d = G_MAXINT - 1;
  longest.info.max_fps_n = longest.info.max_fps_d = G_MAXINT - 1;
  json = build_json (&longest);
  /* The numbers above are a few digits short of the longest ones. */
  room = GST_ROUND_UP_8 (GST_DCAE_CLIP_LENGTH_BYTES + json->len + 64);
  g_string_free (json, TRUE);
  return room;
}

GstBuffer *
gst_dcae_clip_write (GstDcaeClip * clip, gsize room)
{
  GString *json;
  guint64 tables;
  gsize size;
  guint8 *bytes;

  if (!gst_dcae_latent_info_frame_size (&clip->info, &clip->frame_size))
    return NULL;
  json = build_json (clip);
  size = GST_DCAE_CLIP_LENGTH_BYTES + json->len;
  if (room == 0)
    room = GST_ROUND_UP_8 (size);
  if (size > room || room - GST_DCAE_CLIP_LENGTH_BYTES > GST_DCAE_CLIP_MAX_JSON) {
    g_string_free (json, TRUE);
    return NULL;
  }
  bytes = g_malloc (room);
  GST_WRITE_UINT64_LE (bytes, room - GST_DCAE_CLIP_LENGTH_BYTES);
  memcpy (bytes + GST_DCAE_CLIP_LENGTH_BYTES, json->str, json->len);
  memset (bytes + size, ' ', room - size);
  g_string_free (json, TRUE);

  clip->data_offset = room;
  tables = room + clip->n_frames * clip->frame_size;
  clip->pts_offset = tables;
  clip->duration_offset = tables + (clip->pts_table ? 8 * clip->n_frames : 0);
  clip->file_size = clip->duration_offset
      + (clip->duration_table ? 8 * clip->n_frames : 0);
  return gst_buffer_new_wrapped (bytes, room);
}

/* ---- reading ---- */

gboolean
gst_dcae_clip_parse_length (const guint8 * bytes, const gchar * name,
    gsize * json_size, GError ** error)
{
  guint64 length;

  /* The bytes may be anywhere. */
  memcpy (&length, bytes, sizeof (length));
  length = GUINT64_FROM_LE (length);
  if (length < 2 || length > GST_DCAE_CLIP_MAX_JSON) {
    g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT,
        "%s: header length %" G_GUINT64_FORMAT " is not between 2 and %d: this "
        "is no safetensors file", name, length, GST_DCAE_CLIP_MAX_JSON);
    return FALSE;
  }
  *json_size = length;
  return TRUE;
}

static gboolean
clip_error (GError ** error, const gchar * name, const gchar * format, ...)
    G_GNUC_PRINTF (3, 4);

static gboolean
clip_error (GError ** error, const gchar * name, const gchar * format, ...)
{
  va_list args;
  gchar *what;

  va_start (args, format);
  what = g_strdup_vprintf (format, args);
  va_end (args);
  g_set_error (error, DCAE_ERROR, DCAE_ERROR_FORMAT, "%s: %s", name, what);
  g_free (what);
  return FALSE;
}

static gchar *
shape_to_string (const DcaeTensor * tensor)
{
  GString *string = g_string_new ("[");
  guint i;

  for (i = 0; i < tensor->rank; i++)
    g_string_append_printf (string, "%s%" G_GUINT64_FORMAT, i ? "," : "",
        tensor->shape[i]);
  g_string_append_c (string, ']');
  return g_string_free (string, FALSE);
}

/* Shape and format of the frames, and where they are. */
static gboolean
parse_latents (GstDcaeClip * clip, const DcaeTensor * tensor, gsize header,
    const gchar * name, GError ** error)
{
  GstDcaeLatentInfo *info = &clip->info;
  gchar *shape;
  guint i;

  for (i = 0; i < G_N_ELEMENTS (formats); i++) {
    if (formats[i].dtype == tensor->dtype)
      break;
  }
  if (i == G_N_ELEMENTS (formats))
    return clip_error (error, name, "tensor '%s' has type %s, not F32, F16 or "
        "BF16", tensor->name, tensor->dtype_name);
  info->format = formats[i].format;
  if (tensor->rank != 4 || tensor->shape[1] < 1 || tensor->shape[2] < 1
      || tensor->shape[3] < 1 || tensor->shape[1] > G_MAXINT
      || tensor->shape[2] > G_MAXINT || tensor->shape[3] > G_MAXINT) {
    shape = shape_to_string (tensor);
    clip_error (error, name, "tensor '%s' is %s, not [frames, channels, "
        "height, width]", tensor->name, shape);
    g_free (shape);
    return FALSE;
  }
  clip->n_frames = tensor->shape[0];
  info->latent_channels = tensor->shape[1];
  info->latent_height = tensor->shape[2];
  info->latent_width = tensor->shape[3];
  if (!gst_dcae_latent_info_frame_size (info, &clip->frame_size))
    return clip_error (error, name, "a frame of tensor '%s' is too large for "
        "memory", tensor->name);
  clip->data_offset = header + tensor->begin;
  return TRUE;
}

static gboolean
parse_table (const GstDcaeClip * clip, const DcaeSafetensorsHeader * header,
    const gchar * tensor_name, gsize header_size, gboolean * present,
    guint64 * offset, const gchar * name, GError ** error)
{
  const DcaeTensor *tensor = dcae_safetensors_header_find (header, tensor_name);
  gchar *shape;

  *present = tensor != NULL;
  if (tensor == NULL)
    return TRUE;
  if (tensor->dtype != DCAE_DTYPE_I64)
    return clip_error (error, name, "tensor '%s' has type %s, not I64",
        tensor_name, tensor->dtype_name);
  if (tensor->rank != 1 || tensor->shape[0] != clip->n_frames) {
    shape = shape_to_string (tensor);
    clip_error (error, name, "tensor '%s' is %s, but there are %"
        G_GUINT64_FORMAT " frames: it must be [%" G_GUINT64_FORMAT "]",
        tensor_name, shape, clip->n_frames, clip->n_frames);
    g_free (shape);
    return FALSE;
  }
  *offset = header_size + tensor->begin;
  return TRUE;
}

/* gst_value_deserialize() asserts on some fractions, so these are read here. */
static gboolean
parse_fraction (const gchar * text, GValue * value)
{
  gchar **parts = g_strsplit (text, "/", 3);
  gint64 n, d;
  gboolean ok;

  ok = g_strv_length (parts) == 2
      && g_ascii_string_to_signed (parts[0], 10, 0, G_MAXINT, &n, NULL)
      && g_ascii_string_to_signed (parts[1], 10, 1, G_MAXINT, &d, NULL);
  g_strfreev (parts);
  if (ok)
    gst_value_set_fraction (value, n, d);
  return ok;
}

static gboolean
parse_field (const Field * field, const gchar * text, GValue * value)
{
  gchar *end;

  g_value_init (value, field_type (field));
  if (field->kind == FIELD_FRACTION)
    return parse_fraction (text, value);
  if (field->kind == FIELD_DOUBLE) {
    g_value_set_double (value, g_ascii_strtod (text, &end));
    return end != text && *end == '\0';
  }
  return gst_value_deserialize (value, text);
}

/* What the metadata say against what the tensor is. */
static gboolean
check_against_tensor (const Field * field, const GValue * said,
    const GstDcaeLatentInfo * tensor, const gchar * name, GError ** error)
{
  GValue is = G_VALUE_INIT;
  gchar *said_text, *is_text;
  gboolean same;

  if (!field->required)
    return TRUE;
  field_to_value (tensor, field, &is);
  same = gst_value_compare (said, &is) == GST_VALUE_EQUAL;
  if (!same) {
    said_text = gst_value_serialize (said);
    is_text = gst_value_serialize (&is);
    clip_error (error, name, "metadata " KEY_PREFIX "%s says %s, but the "
        "tensor has %s", field->name, said_text, is_text);
    g_free (said_text);
    g_free (is_text);
  }
  g_value_unset (&is);
  return same;
}

static gboolean
parse_fields (GstDcaeClip * clip, const DcaeSafetensorsHeader * header,
    gboolean unscaled, const gchar * name, GError ** error)
{
  GstCaps *caps = gst_dcae_latent_info_to_caps (&clip->info);
  GstStructure *structure = gst_caps_get_structure (caps, 0);
  gboolean ok = FALSE;
  guint i;

  if (unscaled)
    gst_structure_set (structure, "scaled", G_TYPE_BOOLEAN, FALSE, NULL);
  for (i = 0; i < G_N_ELEMENTS (fields); i++) {
    gchar *key = g_strconcat (KEY_PREFIX, fields[i].name, NULL);
    const gchar *text = dcae_safetensors_header_metadata (header, key);
    GValue value = G_VALUE_INIT;

    g_free (key);
    if (text == NULL)
      continue;
    if (!parse_field (&fields[i], text, &value)) {
      clip_error (error, name, "metadata " KEY_PREFIX "%s can't be read: '%s'",
          fields[i].name, text);
      g_value_unset (&value);
      goto done;
    }
    if (!check_against_tensor (&fields[i], &value, &clip->info, name, error)) {
      g_value_unset (&value);
      goto done;
    }
    gst_structure_take_value (structure, fields[i].name, &value);
  }
  ok = info_from_structure (&clip->info, structure, KEY_PREFIX, error);
  if (!ok)
    g_prefix_error (error, "%s: metadata ", name);

done:
  gst_caps_unref (caps);
  return ok;
}

/* Tags that this GStreamer knows, with values of the registered type: what
 * others hold would end in assertions further on. */
static GstTagList *
parse_tags (const gchar * text)
{
  GstTagList *read, *tags;
  gint i;
  guint k;

  if (!g_str_has_prefix (text, "taglist"))
    return NULL;
  read = gst_tag_list_new_from_string (text);
  if (read == NULL)
    return NULL;
  tags = gst_tag_list_new_empty ();
  for (i = 0; i < gst_tag_list_n_tags (read); i++) {
    const gchar *tag = gst_tag_list_nth_tag_name (read, i);

    if (!gst_tag_exists (tag))
      continue;
    for (k = 0; k < gst_tag_list_get_tag_size (read, tag); k++) {
      const GValue *value = gst_tag_list_get_value_index (read, tag, k);

      if (value && G_VALUE_HOLDS (value, gst_tag_get_type (tag)))
        gst_tag_list_add_value (tags, GST_TAG_MERGE_APPEND, tag, value);
    }
  }
  gst_tag_list_unref (read);
  return tags;
}

static gboolean
parse_state (GstDcaeClip * clip, const DcaeSafetensorsHeader * header,
    const gchar * name, GError ** error)
{
  const gchar *text;

  text = dcae_safetensors_header_metadata (header, KEY_VERSION);
  if (text && !g_str_equal (text, CLIP_VERSION))
    return clip_error (error, name, "metadata " KEY_VERSION " is '%s', this "
        "version reads only '" CLIP_VERSION "'", text);
  text = dcae_safetensors_header_metadata (header, KEY_COMPLETE);
  if (text && !g_str_equal (text, "true") && !g_str_equal (text, "false"))
    return clip_error (error, name, "metadata " KEY_COMPLETE " is '%s', "
        "neither true nor false", text);
  clip->complete = text == NULL || g_str_equal (text, "true");
  text = dcae_safetensors_header_metadata (header, KEY_FIRST_PTS);
  if (text && !g_ascii_string_to_unsigned (text, 10, 0, G_MAXINT64,
          &clip->first_pts, NULL))
    return clip_error (error, name, "metadata " KEY_FIRST_PTS " is '%s', no "
        "time in nanoseconds", text);
  text = dcae_safetensors_header_metadata (header, KEY_TAGS);
  if (text) {
    clip->tags = parse_tags (text);
    clip->tags_unreadable = clip->tags == NULL;
  }
  return TRUE;
}

gboolean
gst_dcae_clip_parse (GstDcaeClip * clip, const guint8 * json, gsize size,
    const gchar * name, GError ** error)
{
  DcaeSafetensorsHeader *header;
  const DcaeTensor *tensor;
  gsize header_size = GST_DCAE_CLIP_LENGTH_BYTES + size;
  gboolean comfy = FALSE;

  gst_dcae_clip_clear (clip);
  header = dcae_safetensors_header_parse (json, size, name, error);
  if (header == NULL)
    return FALSE;
  if (dcae_safetensors_header_data_size (header) > G_MAXINT64 - header_size) {
    clip_error (error, name, "the tensors are larger than any file");
    goto failed;
  }
  tensor = dcae_safetensors_header_find (header, TENSOR_LATENTS);
  if (tensor == NULL) {
    tensor = dcae_safetensors_header_find (header, TENSOR_COMFY);
    comfy = tensor != NULL;
  }
  if (tensor == NULL) {
    clip_error (error, name, "there is no tensor '" TENSOR_LATENTS "'");
    goto failed;
  }
  if (!parse_latents (clip, tensor, header_size, name, error)
      || !parse_table (clip, header, TENSOR_PTS, header_size,
          &clip->pts_table, &clip->pts_offset, name, error)
      || !parse_table (clip, header, TENSOR_DURATION, header_size,
          &clip->duration_table, &clip->duration_offset, name, error)
      || !parse_state (clip, header, name, error)
      || !parse_fields (clip, header, comfy, name, error))
    goto failed;
  clip->file_size = header_size + dcae_safetensors_header_data_size (header);
  dcae_safetensors_header_free (header);
  return TRUE;

failed:
  dcae_safetensors_header_free (header);
  gst_dcae_clip_clear (clip);
  return FALSE;
}

/* ---- recognising ---- */

/* A cursor over JSON text that may end anywhere. */
typedef struct
{
  const gchar *p, *end;
} Cursor;

static void
skip_space (Cursor * c)
{
  while (c->p < c->end && strchr (" \t\r\n", *c->p) && *c->p)
    c->p++;
}

static gboolean
take (Cursor * c, gchar what)
{
  skip_space (c);
  if (c->p == c->end || *c->p != what)
    return FALSE;
  c->p++;
  return TRUE;
}

/* A string without its quotes; escapes are left in, which only means that an
 * escaped name is not recognised. */
static gboolean
take_string (Cursor * c, const gchar ** start, gsize * length)
{
  if (!take (c, '"'))
    return FALSE;
  for (*start = c->p; c->p < c->end && *c->p != '"'; c->p++) {
    if (*c->p == '\\' && ++c->p == c->end)
      return FALSE;
  }
  if (c->p == c->end)
    return FALSE;
  *length = c->p++ - *start;
  return TRUE;
}

/* Skips any value. Nesting is only counted, not checked. */
static gboolean
skip_value (Cursor * c)
{
  const gchar *start;
  gsize length;
  guint depth = 0;

  do {
    skip_space (c);
    if (c->p == c->end)
      return FALSE;
    if (*c->p == '"') {
      if (!take_string (c, &start, &length))
        return FALSE;
      continue;
    }
    if (*c->p == '{' || *c->p == '[')
      depth++;
    else if (*c->p == '}' || *c->p == ']')
      depth -= depth > 0;
    else if (depth == 0) {
      while (c->p < c->end && !strchr (",}]", *c->p))
        c->p++;
      return c->p < c->end;
    }
    c->p++;
  } while (depth > 0);
  return TRUE;
}

/* At the value of "shape": an array of four numbers. */
static gboolean
is_4d (Cursor * c)
{
  guint n = 0;
  const gchar *digits;

  if (!take (c, '['))
    return FALSE;
  do {
    skip_space (c);
    for (digits = c->p; c->p < c->end && g_ascii_isdigit (*c->p); c->p++);
    if (c->p == digits)
      return FALSE;
    n++;
  } while (take (c, ','));
  return take (c, ']') && n == 4;
}

static gboolean
has_4d_shape (Cursor * c)
{
  const gchar *key;
  gsize length;

  if (!take (c, '{'))
    return FALSE;
  do {
    if (!take_string (c, &key, &length) || !take (c, ':'))
      return FALSE;
    if (length == 5 && memcmp (key, "shape", 5) == 0)
      return is_4d (c);
    if (!skip_value (c))
      return FALSE;
  } while (take (c, ','));
  return FALSE;
}

static gboolean
is_name (const gchar * key, gsize length, const gchar * name)
{
  return length == strlen (name) && memcmp (key, name, length) == 0;
}

gboolean
gst_dcae_clip_scan (const guint8 * bytes, gsize size)
{
  Cursor c;
  const gchar *key;
  gsize length, json_size;

  if (size < GST_DCAE_CLIP_LENGTH_BYTES + 1
      || !gst_dcae_clip_parse_length (bytes, "", &json_size, NULL)
      || bytes[GST_DCAE_CLIP_LENGTH_BYTES] != '{')
    return FALSE;
  c.p = (const gchar *) bytes + GST_DCAE_CLIP_LENGTH_BYTES + 1;
  c.end = (const gchar *) bytes
      + MIN (size, GST_DCAE_CLIP_LENGTH_BYTES + json_size);
  do {
    if (!take_string (&c, &key, &length) || !take (&c, ':'))
      return FALSE;
    if ((is_name (key, length, TENSOR_LATENTS)
            || is_name (key, length, TENSOR_COMFY)))
      return has_4d_shape (&c);
    if (!skip_value (&c))
      return FALSE;
  } while (take (&c, ','));
  return FALSE;
}
