/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_directory.h - which files of a directory make up a model: configuration, weights in one file
 * or in shards, variants. Knows file names; opens only the list of shards.
 */
#ifndef DCAE_DIRECTORY_H
#define DCAE_DIRECTORY_H

#include "dcae.h"

typedef struct {
    char *config;       /* path of config.json, NULL where there is none */
    GPtrArray *weights; /* char *: paths, at least one */
} DcaeDirectory;

/* Chooses diffusion_pytorch_model.safetensors, or its variant, or its shards; without those, the
 * same of model.safetensors; without those, the only .safetensors file there is.
 *
 * variant: NULL or "" for the plain files. Clear with dcae_directory_clear() after success. Errors:
 * NOT_FOUND (says which variants there are), READ, FORMAT. */
gboolean dcae_directory_open(DcaeDirectory *directory, const char *path, const char *variant,
                             GError **error);
void dcae_directory_clear(DcaeDirectory *directory);

#endif
