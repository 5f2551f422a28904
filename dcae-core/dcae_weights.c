/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_weights.c - the process-wide table of packed weights. An entry lives as long as its users;
 * one of them packs while the others wait. The table is the library's only mutable global.
 */
#include "dcae_weights.h"

#define WAIT_MICROSECONDS \
    (50 * G_TIME_SPAN_MILLISECOND) /* how soon a waiting user sees that it was cancelled */

struct _DcaeSharedWeights {
    char *key;
    const DcaeBackend *backend;
    DcaeWeights *weights; /* NULL while the first user packs */
    gboolean failed;      /* packing failed; waiting users start over */
    guint users;
};

static GMutex table_lock;
static GCond table_changed;
static GHashTable
    *table; /* key -> DcaeSharedWeights, made with the first entry and freed with the last */

static char *make_key(const DcaeBackend *backend, const DcaeModel *model, DcaeDirection direction,
                      const DcaeBackendParams *params)
{
    return g_strdup_printf("%s|%d|%s|%d|%p|%d|%d", dcae_model_key(model), direction, backend->name,
                           params->device, params->cuda_context, params->precision, params->isa);
}

static void drop_user(DcaeSharedWeights *shared)
{
    if (--shared->users > 0)
        return;
    if (table != NULL && g_hash_table_lookup(table, shared->key) == shared)
        g_hash_table_remove(table, shared->key);
    if (table != NULL && g_hash_table_size(table) == 0)
        g_clear_pointer(&table, g_hash_table_unref);
    if (shared->weights != NULL)
        shared->backend->weights_free(shared->weights);
    g_free(shared->key);
    g_free(shared);
}

/* Joins an entry that is there, waiting until it is packed. NULL: there is none, it failed, or the
 * user was cancelled. Called locked. */
static DcaeSharedWeights *join(const char *key, GCancellable *cancellable)
{
    DcaeSharedWeights *shared = table != NULL ? g_hash_table_lookup(table, key) : NULL;

    if (shared == NULL)
        return NULL;
    shared->users++;
    while (shared->weights == NULL && !shared->failed && !g_cancellable_is_cancelled(cancellable))
        g_cond_wait_until(&table_changed, &table_lock, g_get_monotonic_time() + WAIT_MICROSECONDS);
    if (shared->weights != NULL)
        return shared;
    drop_user(shared);
    return NULL;
}

static DcaeSharedWeights *add(const DcaeBackend *backend, const char *key)
{
    DcaeSharedWeights *shared = g_new0(DcaeSharedWeights, 1);

    shared->backend = backend;
    shared->key = g_strdup(key);
    shared->users = 1;
    if (table == NULL)
        table = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_insert(table, shared->key, shared);
    return shared;
}

DcaeSharedWeights *dcae_shared_weights_acquire(const DcaeBackend *backend, DcaeModel *model,
                                               const DcaeProgram *program,
                                               const DcaeBackendParams *params, GError **error)
{
    g_autofree char *key = make_key(backend, model, program->direction, params);
    DcaeSharedWeights *shared;

    g_mutex_lock(&table_lock);
    while ((shared = join(key, params->cancellable)) == NULL && table != NULL &&
           g_hash_table_contains(table, key) && !g_cancellable_is_cancelled(params->cancellable))
        ;
    if (shared == NULL && g_cancellable_is_cancelled(params->cancellable)) {
        g_mutex_unlock(&table_lock);
        g_set_error_literal(error, DCAE_ERROR, DCAE_ERROR_CANCELLED,
                            "loading the model was cancelled");
        return NULL;
    }
    if (shared != NULL) {
        g_mutex_unlock(&table_lock);
        return shared;
    }
    shared = add(backend, key);
    g_mutex_unlock(&table_lock);

    DcaeWeights *weights = backend->prepare(model, program, params, error);

    g_mutex_lock(&table_lock);
    shared->weights = weights;
    if (weights == NULL) {
        shared->failed = TRUE;
        g_hash_table_remove(table, key); /* the next user tries anew instead of joining a failure */
        drop_user(shared);
        shared = NULL;
    }
    g_cond_broadcast(&table_changed);
    g_mutex_unlock(&table_lock);
    return shared;
}

void dcae_shared_weights_release(DcaeSharedWeights *shared)
{
    if (shared == NULL)
        return;
    g_mutex_lock(&table_lock);
    drop_user(shared);
    g_mutex_unlock(&table_lock);
}

const DcaeWeights *dcae_shared_weights_get(const DcaeSharedWeights *shared)
{
    return shared->weights;
}
