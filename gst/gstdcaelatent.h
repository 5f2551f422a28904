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
#define GST_DCAE_LATENT_FIELDS \
  "format = (string) { F32LE, F16LE, BF16LE }, " \
  "latent-channels = (int) [ 1, max ], " \
  "latent-width = (int) [ 1, max ], " \
  "latent-height = (int) [ 1, max ]"
#define GST_DCAE_LATENT_CAPS \
  GST_DCAE_LATENT_MEDIA_TYPE ", " GST_DCAE_LATENT_FIELDS
#define GST_DCAE_LATENT_CUDA_CAPS \
  GST_DCAE_LATENT_MEDIA_TYPE "(memory:CUDAMemory), " GST_DCAE_LATENT_FIELDS
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

/* ---- clip files ----
 *
 * A clip is a safetensors file: 8 bytes of length, little endian, that many
 * bytes of JSON, and the data that the JSON describes. */

#define GST_DCAE_CLIP_LENGTH_BYTES 8
/* Longest JSON that readers of safetensors accept. */
#define GST_DCAE_CLIP_MAX_JSON 100000000
/* Where the type finder looks for the tensor. */
#define GST_DCAE_CLIP_SCAN_BYTES 65536

/* What the header of a clip says. Start with gst_dcae_clip_init() and end with
 * gst_dcae_clip_clear(). */
typedef struct
{
  GstDcaeLatentInfo info;
  guint64 n_frames;
  gboolean complete;            /* FALSE: written header says unfinished */
  GstClockTime first_pts;       /* running time; NONE where not known */
  GstTagList *tags;             /* NULL where there are none */
  gboolean tags_unreadable;     /* set by the parser; tags is NULL */
  /* Tables of n_frames I64 each: whether to write them, whether they exist. */
  gboolean pts_table, duration_table;

  /* Set by the parser and by the writer. Offsets are from the start of the
   * file. */
  gsize frame_size;             /* bytes */
  guint64 data_offset;          /* first frame */
  guint64 pts_offset, duration_offset;
  guint64 file_size;            /* end of the last tensor */
} GstDcaeClip;

void gst_dcae_clip_init (GstDcaeClip * clip);
void gst_dcae_clip_clear (GstDcaeClip * clip);

/* Length of the JSON, from the first 8 bytes of a file. Error:
 * DCAE_ERROR_FORMAT where no safetensors file starts like this. name is what
 * messages call the file. */
gboolean gst_dcae_clip_parse_length (const guint8 * bytes, const gchar * name,
    gsize * json_size, GError ** error);
/* Reads the JSON. clip must be initialised; it is cleared first and is left
 * initialised on failure. Error: DCAE_ERROR_FORMAT, its message names the
 * tensor or key. */
gboolean gst_dcae_clip_parse (GstDcaeClip * clip, const guint8 * json,
    gsize size, const gchar * name, GError ** error);
/* Whether these first bytes of a file, all of it or a part, are the start of a
 * file with a 4-D tensor of latents. Quick, and bounded in memory. */
gboolean gst_dcae_clip_scan (const guint8 * bytes, gsize size);

/* Bytes of a header (length, JSON and padding) that hold this clip whatever
 * its number of frames, first time stamp and frame rate will be; a multiple
 * of 8. */
gsize gst_dcae_clip_header_room (const GstDcaeClip * clip);
/* Writes a header of exactly room bytes, padded with spaces; room 0: as short
 * as a multiple of 8 allows. Fills in the offsets. Returns NULL where room is
 * too small. */
GstBuffer *gst_dcae_clip_write (GstDcaeClip * clip, gsize room);

G_END_DECLS
#endif /* __GST_DCAE_LATENT_H__ */
