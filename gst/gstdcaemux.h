/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaemux.h - the element dcaemux: latent buffers to the bytes of a clip.
 */
#ifndef __GST_DCAE_MUX_H__
#define __GST_DCAE_MUX_H__

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_DCAE_MUX (gst_dcae_mux_get_type ())
G_DECLARE_FINAL_TYPE (GstDcaeMux, gst_dcae_mux, GST, DCAE_MUX, GstElement)
GST_ELEMENT_REGISTER_DECLARE (dcaemux);

G_END_DECLS
#endif /* __GST_DCAE_MUX_H__ */
