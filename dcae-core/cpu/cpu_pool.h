/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_pool.h - a thread pool that does one thing: a parallel loop whose tasks are handed out by an
 * atomic counter. Knows nothing of kernels.
 */
#ifndef DCAE_CPU_POOL_H
#define DCAE_CPU_POOL_H

#include "../dcae.h"

typedef struct _DcaePool DcaePool;

/* Runs task `task` of a loop; thread is 0 (the caller of dcae_pool_run()) to threads - 1. */
typedef void (*DcaePoolTask)(gpointer data, gsize task, guint thread);

/* Starts threads - 1 threads; the caller of dcae_pool_run() is the last one. Errors: BACKEND where
 * a thread can't be started. Free with dcae_pool_free(), which accepts NULL. */
DcaePool *dcae_pool_new(guint threads, GError **error);
void dcae_pool_free(DcaePool *pool);
guint dcae_pool_threads(const DcaePool *pool);

/* Runs tasks 0 to n - 1 and returns when all are done. One caller at a time; a task must not call
 * it. What the caller wrote before is seen by the tasks, what they wrote is seen afterwards. */
void dcae_pool_run(DcaePool *pool, gsize n, DcaePoolTask run, gpointer data);

/* 64-byte aligned memory, not zeroed; large blocks come straight from the system, in huge pages
 * where it has them, and cost nothing until they are touched. NULL where there is none. Free with
 * dcae_aligned_free(). */
gpointer dcae_aligned_alloc(gsize bytes);
void dcae_aligned_free(gpointer memory);

#endif
