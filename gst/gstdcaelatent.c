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
