/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeimage.c - where the components of a mapped frame are, and what its
 * caps say about their colour. Knows no elements.
 */
#include "gstdcaeimage.h"

#include <string.h>

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
