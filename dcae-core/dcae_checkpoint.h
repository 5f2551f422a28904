/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_checkpoint.h - the weight files of a model, one or several shards, in Diffusers' or the
 * original layout, seen as one set of tensors with Diffusers' names. Knows files and names; nothing
 * of configurations. Read dcae_names.h for the original names.
 */
#ifndef DCAE_CHECKPOINT_H
#define DCAE_CHECKPOINT_H

#include "dcae.h"

typedef struct _DcaeCheckpoint DcaeCheckpoint;

/* A tensor as the network sees it: one third of the stored one for q, k and v in the original
 * layout. */
typedef struct {
    guint file;
    guint part; /* 0, or which third (1 to 3) */
    const DcaeTensor *stored;
    guint rank;
    guint64 shape[DCAE_MAX_RANK];
    guint64 first; /* index of its first element in the stored tensor */
    guint64 count; /* elements */
} DcaeFound;

/* Opens the files and checks their headers against their sizes. paths: n_paths >= 1 file names.
 * Free with dcae_checkpoint_free(). Errors: NOT_FOUND, READ, FORMAT, WEIGHTS. The result is
 * immutable and thread-safe. */
DcaeCheckpoint *dcae_checkpoint_open(const char *const *paths, guint n_paths, GError **error);
void dcae_checkpoint_free(DcaeCheckpoint *checkpoint);

/* The first file's name, for messages. */
const char *dcae_checkpoint_name(const DcaeCheckpoint *checkpoint);
/* Real paths, sizes, and times of the files. */
const char *dcae_checkpoint_key(const DcaeCheckpoint *checkpoint);
gboolean dcae_checkpoint_is_original(const DcaeCheckpoint *checkpoint);

/* name: Diffusers name. FALSE where there is no such tensor. */
gboolean dcae_checkpoint_find(const DcaeCheckpoint *checkpoint, const char *name, DcaeFound *found);
/* Is there a tensor of exactly this stored name (behind the wrapper key)? */
gboolean dcae_checkpoint_has_stored(const DcaeCheckpoint *checkpoint, const char *name);

/* Finds a tensor and checks type and shape, as dcae_model_read() says. Errors: WEIGHTS. */
gboolean dcae_checkpoint_want(const DcaeCheckpoint *checkpoint, const char *name,
                              const guint64 *shape, guint rank, DcaeFound *found, GError **error);

/* Reads count elements from index first of a found tensor, as f32. Errors: READ, WEIGHTS (not
 * finite, named). Thread-safe. */
gboolean dcae_checkpoint_read(const DcaeCheckpoint *checkpoint, const DcaeFound *found,
                              guint64 first, guint64 count, float *dst, GError **error);

#endif
