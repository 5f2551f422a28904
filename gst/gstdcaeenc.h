/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaeenc.h - the element dcaeenc: raw video in, DC-AE latents out.
 */
#ifndef __GST_DCAE_ENC_H__
#define __GST_DCAE_ENC_H__

#include <gst/gst.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

#define GST_TYPE_DCAE_ENC (gst_dcae_enc_get_type ())
G_DECLARE_FINAL_TYPE (GstDcaeEnc, gst_dcae_enc, GST, DCAE_ENC, GstVideoEncoder)

GST_ELEMENT_REGISTER_DECLARE (dcaeenc);

G_END_DECLS
#endif /* __GST_DCAE_ENC_H__ */
