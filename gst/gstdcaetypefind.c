/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaetypefind.c - recognises files of latents by their first bytes. Model
 * files, which are safetensors too, have no such tensor and are left alone.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <gst/gst.h>

#include "gstdcaelatent.h"

static void
type_find (GstTypeFind * find, gpointer user_data)
{
  const guint8 *bytes;
  guint64 length = gst_type_find_get_length (find);
  gsize json_size, size;
  GstCaps *caps;

  bytes = gst_type_find_peek (find, 0, GST_DCAE_CLIP_LENGTH_BYTES + 1);
  if (bytes == NULL
      || !gst_dcae_clip_parse_length (bytes, "", &json_size, NULL)
      || bytes[GST_DCAE_CLIP_LENGTH_BYTES] != '{')
    return;
  size = MIN (GST_DCAE_CLIP_LENGTH_BYTES + json_size, GST_DCAE_CLIP_SCAN_BYTES);
  /* A file that was cut inside its header is one too: the demuxer can say what
   * is wrong with it. Length 0: not known. */
  if (length > 0)
    size = MIN (size, length);
  /* Muxers put the tensor first, so a short look often does, also where only
   * a little of a stream is there yet. */
  bytes = gst_type_find_peek (find, 0, MIN (size, 512));
  if (bytes == NULL)
    return;
  if (!gst_dcae_clip_scan (bytes, MIN (size, 512))) {
    bytes = gst_type_find_peek (find, 0, size);
    if (bytes == NULL || !gst_dcae_clip_scan (bytes, size))
      return;
  }
  caps = gst_caps_from_string (GST_DCAE_CLIP_CAPS);
  gst_type_find_suggest (find, GST_TYPE_FIND_MAXIMUM, caps);
  gst_caps_unref (caps);
}

GST_TYPE_FIND_REGISTER_DECLARE (dcaeclip);
GST_TYPE_FIND_REGISTER_DEFINE (dcaeclip, GST_DCAE_CLIP_MEDIA_TYPE,
    GST_RANK_PRIMARY, type_find, "safetensors,latent", NULL, NULL, NULL);
