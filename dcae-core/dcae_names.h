/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_names.h - the names of tensors in the original single files. The rest of the library speaks
 * Diffusers' names only.
 */
#ifndef DCAE_NAMES_H
#define DCAE_NAMES_H

#include <glib.h>

/* An original file may spell one Diffusers name in this many ways. */
#define DCAE_NAMES_MAX_SPELLINGS 2

/* Writes the original name of a tensor.
 *
 * name      Diffusers name, as "encoder.down_blocks.3.0.attn.to_q.weight".
 * spelling  0, 1 …: which of the possible spellings; a file holds one of them.
 * out       receives the name.
 * part      receives 0, or 1, 2, 3 where the tensor is the first, second or third third of the
 *           original's dimension 0 (q, k and v).
 *
 * Returns FALSE where the name has no such spelling. Thread-safe. */
gboolean dcae_names_to_original(const char *name, guint spelling, GString *out, guint *part);

#endif
