/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_model.h - what the core's own files see of a DcaeModel: its configuration and its tensors by
 * Diffusers name, whichever layout the files have.
 */
#ifndef DCAE_MODEL_H
#define DCAE_MODEL_H

#include "dcae_config.h"

const DcaeConfig *dcae_model_config(const DcaeModel *model);

/* What shared weights are keyed by: the files' real paths, sizes and modification times. Owned by
 * the model. */
const char *dcae_model_key(const DcaeModel *model);

gboolean dcae_model_has(const DcaeModel *model, const char *name);

/* Reads one tensor as f32.
 *
 * name   Diffusers name, as "encoder.conv_in.weight".
 * shape  the wanted shape, rank entries; a linear layer's [out, in] also accepts a stored
 *        [out, in, 1, 1] and the reverse.
 * dst    receives the product of shape floats, C order.
 *
 * Nothing of the file stays in the process's memory. Errors: READ; WEIGHTS where the tensor is
 * missing, has another shape (both are named), an integer type, or a value that is not finite.
 * Thread-safe. */
gboolean dcae_model_read(const DcaeModel *model, const char *name, const guint64 *shape, guint rank,
                         float *dst, GError **error);

#endif
