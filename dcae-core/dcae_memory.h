/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_memory.h - how much of the host's memory this process may have: the machine's, bounded by
 * the control groups (versions 1 and 2) that containers and service managers set.
 */
#ifndef DCAE_MEMORY_H
#define DCAE_MEMORY_H

#include "dcae.h"

typedef struct {
    guint64 total;     /* bytes, used and free; G_MAXUINT64: the system doesn't tell */
    guint64 available; /* bytes that can still be taken without swapping; the same */
} DcaeMemory;

/* root: what lies before /proc and /sys, "" but in tests. */
DcaeMemory dcae_memory_read(const char *root);

#endif
