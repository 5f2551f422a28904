/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * plugin.c - registers the elements and the type finder. Does nothing heavy:
 * it runs in every scan of the registry.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <gst/gst.h>

#include "gstdcaedec.h"
#include "gstdcaedemux.h"
#include "gstdcaeenc.h"
#include "gstdcaemux.h"

GST_TYPE_FIND_REGISTER_DECLARE (dcaeclip);

static gboolean
plugin_init (GstPlugin * plugin)
{
  gboolean ok = TRUE;

  ok &= GST_ELEMENT_REGISTER (dcaeenc, plugin);
  ok &= GST_ELEMENT_REGISTER (dcaedec, plugin);
  ok &= GST_ELEMENT_REGISTER (dcaemux, plugin);
  ok &= GST_ELEMENT_REGISTER (dcaedemux, plugin);
  ok &= GST_TYPE_FIND_REGISTER (dcaeclip, plugin);
  return ok;
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, dcae,
    "Video to DC-AE latents and back, and clip files of latents", plugin_init,
    PACKAGE_VERSION, "LGPL", PACKAGE, "Unknown package origin")
