/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeimage.h - raw video as the library takes and makes it.
 */
#ifndef __GST_DCAE_IMAGE_H__
#define __GST_DCAE_IMAGE_H__

#include <dcae.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

/* Raw video of both elements. GRAY8 is replicated on encode and BT.709 luma on
 * decode; alpha is ignored on encode and opaque on decode. */
#define GST_DCAE_RAW_FORMATS \
  "{ RGB, BGR, RGBx, BGRx, xRGB, xBGR, RGBA, BGRA, ARGB, ABGR, GBR, GRAY8, " \
  "NV12, I420 }"

/* Those of them that GStreamer allocates in CUDA memory. */
#define GST_DCAE_RAW_CUDA_FORMATS \
  "{ RGB, BGR, RGBx, BGRx, RGBA, BGRA, ARGB, ABGR, GBR, NV12, I420 }"

#define GST_DCAE_RAW_CAPS GST_VIDEO_CAPS_MAKE (GST_DCAE_RAW_FORMATS)
#define GST_DCAE_RAW_CUDA_CAPS \
  GST_VIDEO_CAPS_MAKE_WITH_FEATURES ("memory:CUDAMemory", \
      GST_DCAE_RAW_CUDA_FORMATS)

/* Describes a mapped frame of one of these formats to the library; image
 * borrows the frame. */
void gst_dcae_image_from_frame (DcaeImage * image, GstVideoFrame * frame);

G_END_DECLS
#endif /* __GST_DCAE_IMAGE_H__ */
