/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaelatent.h - what a latent stream and a clip file look like: the caps
 * video/x-dcae-latent and the header bytes of a clip. No other file names a
 * caps field or a metadata key.
 */
#ifndef __GST_DCAE_LATENT_H__
#define __GST_DCAE_LATENT_H__

#include <dcae.h>
#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_DCAE_LATENT_MEDIA_TYPE "video/x-dcae-latent"
#define GST_DCAE_CLIP_MEDIA_TYPE "application/x-safetensors"

/* Values of GST_TAG_VIDEO_CODEC and GST_TAG_CONTAINER_FORMAT. */
#define GST_DCAE_LATENT_CODEC_NAME "DC-AE latent"
#define GST_DCAE_CLIP_CONTAINER_NAME "safetensors"

/* Pad template caps: the required fields only, so that autoplugging works. */
#define GST_DCAE_LATENT_CAPS \
  GST_DCAE_LATENT_MEDIA_TYPE ", " \
  "format = (string) { F32LE, F16LE, BF16LE }, " \
  "latent-channels = (int) [ 1, max ], " \
  "latent-width = (int) [ 1, max ], " \
  "latent-height = (int) [ 1, max ]"
#define GST_DCAE_CLIP_CAPS \
  GST_DCAE_CLIP_MEDIA_TYPE ", content = (string) latents"

typedef enum
{
  GST_DCAE_SCALED_UNKNOWN = -1,
  GST_DCAE_SCALED_NO = 0,
  GST_DCAE_SCALED_YES = 1,
} GstDcaeScaled;

/* The caps of a latent stream, field by field. Optional fields say what means
 * "not there". Strings are owned: start with gst_dcae_latent_info_init() and
 * end with gst_dcae_latent_info_clear(). */
typedef struct
{
  DcaeLatentFormat format;
  gint latent_channels, latent_width, latent_height;    /* 1 or more */
  gint width, height;           /* picture before padding; 0, both or none */
  gint spatial_ratio;           /* pixels a latent is wide and high; 0 */
  gint fps_n, fps_d;            /* framerate; fps_d = 0 */
  gint max_fps_n, max_fps_d;    /* max-framerate; max_fps_d = 0 */
  gint par_n, par_d;            /* pixel-aspect-ratio; par_d = 0 */
  gchar *colorimetry;           /* NULL */
  gchar *model;                 /* repository id or name, never a path; NULL */
  gchar *model_hash;            /* 16 lower-case hex digits; NULL */
  GstDcaeScaled scaled;         /* GST_DCAE_SCALED_UNKNOWN */
  gdouble scaling_factor;       /* above 0; 0 */
} GstDcaeLatentInfo;

/* Sets every optional field to "not there". Frees nothing. */
void gst_dcae_latent_info_init (GstDcaeLatentInfo * info);
void gst_dcae_latent_info_clear (GstDcaeLatentInfo * info);
/* Clears dest first, which must be initialised. */
void gst_dcae_latent_info_copy (GstDcaeLatentInfo * dest,
    const GstDcaeLatentInfo * src);

/* Reads fixed caps. info must be initialised; it is cleared first and is left
 * initialised on failure. Error: DCAE_ERROR_FORMAT, its message names the
 * field that is missing, of a wrong type, out of range or contradictory. */
gboolean gst_dcae_latent_info_from_caps (GstDcaeLatentInfo * info,
    const GstCaps * caps, GError ** error);
/* Returns fixed caps with the fields that are there. */
GstCaps *gst_dcae_latent_info_to_caps (const GstDcaeLatentInfo * info);

/* Bytes of one frame, c × h × w × element; FALSE where that overflows. */
gboolean gst_dcae_latent_info_frame_size (const GstDcaeLatentInfo * info,
    gsize * size);
/* The name of the first field that differs, framerate and max-framerate left
 * aside; NULL where none does. */
const gchar *gst_dcae_latent_info_find_change (const GstDcaeLatentInfo * a,
    const GstDcaeLatentInfo * b);

/* "F32LE", "F16LE", "BF16LE", and back; FALSE for another string. */
const gchar *gst_dcae_latent_format_to_string (DcaeLatentFormat format);
gboolean gst_dcae_latent_format_from_string (const gchar * string,
    DcaeLatentFormat * format);
/* Bytes of one element. */
gsize gst_dcae_latent_format_size (DcaeLatentFormat format);

G_END_DECLS
#endif /* __GST_DCAE_LATENT_H__ */
