/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaedemux.h - the element dcaedemux: the bytes of a clip to latent
 * buffers.
 */
#ifndef __GST_DCAE_DEMUX_H__
#define __GST_DCAE_DEMUX_H__

#include <gst/gst.h>

G_BEGIN_DECLS

#define GST_TYPE_DCAE_DEMUX (gst_dcae_demux_get_type ())
G_DECLARE_FINAL_TYPE (GstDcaeDemux, gst_dcae_demux, GST, DCAE_DEMUX, GstElement)
GST_ELEMENT_REGISTER_DECLARE (dcaedemux);

G_END_DECLS
#endif /* __GST_DCAE_DEMUX_H__ */
