/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_infer.h - the configuration of weight files that came without one.
 */
#ifndef DCAE_INFER_H
#define DCAE_INFER_H

#include "dcae_checkpoint.h"
#include "dcae_config.h"

/* Reads the structure off the tensors' names and shapes and finds the released model that has it;
 * what names cannot tell (activations, scaling_factor, in Diffusers' layout the outer shortcuts)
 * comes from that model. Where several fit, the one that stands first among the released models is
 * taken: mix before in, sana-1.0 before its equal sana-1.1.
 *
 * Errors: CONFIG, which says what the structure is, where no released model has it. Thread-safe. */
gboolean dcae_infer_config(const DcaeCheckpoint *checkpoint, DcaeConfig *config, GError **error);

#endif
