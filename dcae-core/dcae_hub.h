/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_hub.h - Hugging Face repository ids and the local cache of huggingface_hub. Nothing is ever
 * downloaded, and no environment is read.
 */
#ifndef DCAE_HUB_H
#define DCAE_HUB_H

#include "dcae.h"

/* Is text of the form "organisation/name"? */
gboolean dcae_hub_is_id(const char *text);

/* The directory of the newest downloaded revision ("main") of a repository; free with g_free().
 * cache: root of the cache, NULL or "": ~/.cache/huggingface/hub. Errors: NOT_FOUND, which says
 * what to run. */
char *dcae_hub_find(const char *id, const char *cache, GError **error);

/* The repository id that a directory inside a cache belongs to, or NULL; free with g_free(). path:
 * absolute. */
char *dcae_hub_id_of(const char *path);

#endif
