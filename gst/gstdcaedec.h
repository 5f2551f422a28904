/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaedec.h - the element dcaedec: DC-AE latents in, raw video out.
 */
#ifndef __GST_DCAE_DEC_H__
#define __GST_DCAE_DEC_H__

#include <gst/gst.h>
#include <gst/video/video.h>

G_BEGIN_DECLS

#define GST_TYPE_DCAE_DEC (gst_dcae_dec_get_type ())
G_DECLARE_FINAL_TYPE (GstDcaeDec, gst_dcae_dec, GST, DCAE_DEC, GstVideoDecoder)

GST_ELEMENT_REGISTER_DECLARE (dcaedec);

G_END_DECLS
#endif /* __GST_DCAE_DEC_H__ */
