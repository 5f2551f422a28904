/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * gstdcaememory.h - how much memory this process may still take.
 */
#ifndef __GST_DCAE_MEMORY_H__
#define __GST_DCAE_MEMORY_H__

#include <glib.h>

G_BEGIN_DECLS

/* Bytes that can be allocated without swapping: MemAvailable, or what the
 * control groups of the process leave where that is less. 0 where the system
 * doesn't tell. Reads files below /proc and /sys; thread-safe. */
guint64 gst_dcae_memory_available (void);

G_END_DECLS
#endif /* __GST_DCAE_MEMORY_H__ */
