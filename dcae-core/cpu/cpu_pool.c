/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_pool.c - the parallel loop. A loop is open while `ticket` holds its generation and an index
 * below `n`; a thread takes a task by advancing the index in one compare-and-swap, so that a thread
 * which wakes late can only find the loop closed, never take a task of the next one by mistake. See
 * cpu_pool.h.
 */
#include "cpu_pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE ((gsize)2 << 20) /* bytes */

/* Rounds that a thread looks for work before it sleeps: some tens of microseconds, the time between
 * two steps of a frame. */
#define SPIN_ROUNDS 2000
#define GENERATION_SHIFT 40
#define INDEX_MASK ((1ull << GENERATION_SHIFT) - 1)

struct _DcaePool {
    guint threads;
    guint n_started;
    GThread **thread;

    _Alignas(64) atomic_ullong ticket; /* generation << GENERATION_SHIFT | next task */
    _Alignas(64) atomic_ullong done;   /* tasks of this generation that have finished */
    /* The open loop. Written only while the ticket is closed; atomic because a late thread may read
     * them then (and throw the values away). */
    _Alignas(64) atomic_ullong n;
    _Atomic(DcaePoolTask) run;
    _Atomic(gpointer) data;

    atomic_uint sleepers;      /* threads that wait for a loop */
    atomic_bool caller_sleeps; /* the caller waits for the end of its loop */
    atomic_bool quit;
    atomic_uint n_named; /* hands out thread numbers */
    GMutex mutex;
    GCond work, finished;
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes and runs tasks of the loop of this generation until none is left. */
static void work_on(DcaePool *pool, guint64 generation, guint thread)
{
    unsigned long long ticket = atomic_load(&pool->ticket);
    for (;;) {
        guint64 n = atomic_load_explicit(&pool->n, memory_order_relaxed);
        DcaePoolTask run = atomic_load_explicit(&pool->run, memory_order_relaxed);
        gpointer data = atomic_load_explicit(&pool->data, memory_order_relaxed);
        guint64 task = ticket & INDEX_MASK;
        if (ticket >> GENERATION_SHIFT != generation || task >= n)
            return;
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1))
            continue;
        run(data, task, thread);
        ticket++;
        if (atomic_fetch_add(&pool->done, 1) + 1 == n && atomic_load(&pool->caller_sleeps)) {
            g_mutex_lock(&pool->mutex);
            g_cond_signal(&pool->finished);
            g_mutex_unlock(&pool->mutex);
        }
        ticket = atomic_load(&pool->ticket);
    }
}

/* Waits until the generation is another than `seen`; returns it. */
static guint64 wait_for_work(DcaePool *pool, guint64 seen)
{
    for (guint i = 0; i < SPIN_ROUNDS; i++) {
        guint64 generation = atomic_load(&pool->ticket) >> GENERATION_SHIFT;
        if (generation != seen)
            return generation;
        relax();
    }
    guint64 generation;
    g_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while ((generation = atomic_load(&pool->ticket) >> GENERATION_SHIFT) == seen &&
           !atomic_load(&pool->quit))
        g_cond_wait(&pool->work, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    g_mutex_unlock(&pool->mutex);
    return generation;
}

static gpointer thread_main(gpointer data)
{
    DcaePool *pool = data;
    guint thread = atomic_fetch_add(&pool->n_named, 1);
    guint64 generation = 0;
    for (;;) {
        generation = wait_for_work(pool, generation);
        if (atomic_load(&pool->quit))
            return NULL;
        work_on(pool, generation, thread);
    }
}

DcaePool *dcae_pool_new(guint threads, GError **error)
{
    DcaePool *pool = dcae_aligned_alloc(sizeof *pool);
    if (!pool) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY, "no memory for a pool of %u threads",
                    threads);
        return NULL;
    }
    *pool = (DcaePool){.threads = threads};
    atomic_init(&pool->n_named, 1);
    g_mutex_init(&pool->mutex);
    g_cond_init(&pool->work);
    g_cond_init(&pool->finished);
    pool->thread = g_new0(GThread *, threads);
    for (guint i = 1; i < threads; i++) {
        GError *cause = NULL;
        GThread *thread = g_thread_try_new("dcae-cpu", thread_main, pool, &cause);
        if (!thread) {
            g_set_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND,
                        "CPU thread %u of %u can't be started: %s", i + 1, threads, cause->message);
            g_error_free(cause);
            dcae_pool_free(pool);
            return NULL;
        }
        pool->thread[pool->n_started++] = thread;
    }
    return pool;
}

void dcae_pool_free(DcaePool *pool)
{
    if (!pool)
        return;
    g_mutex_lock(&pool->mutex);
    atomic_store(&pool->quit, true);
    /* Wakes threads that spin, too. */
    atomic_fetch_add(&pool->ticket, 1ull << GENERATION_SHIFT);
    g_cond_broadcast(&pool->work);
    g_mutex_unlock(&pool->mutex);
    for (guint i = 0; i < pool->n_started; i++)
        g_thread_join(pool->thread[i]);
    g_free(pool->thread);
    g_mutex_clear(&pool->mutex);
    g_cond_clear(&pool->work);
    g_cond_clear(&pool->finished);
    dcae_aligned_free(pool);
}

guint dcae_pool_threads(const DcaePool *pool)
{
    return pool->threads;
}

/* Waits until all n tasks have finished. */
static void wait_for_end(DcaePool *pool, guint64 n)
{
    for (guint i = 0; i < SPIN_ROUNDS; i++) {
        if (atomic_load(&pool->done) == n)
            return;
        relax();
    }
    g_mutex_lock(&pool->mutex);
    atomic_store(&pool->caller_sleeps, true);
    while (atomic_load(&pool->done) != n)
        g_cond_wait(&pool->finished, &pool->mutex);
    atomic_store(&pool->caller_sleeps, false);
    g_mutex_unlock(&pool->mutex);
}

void dcae_pool_run(DcaePool *pool, gsize n, DcaePoolTask run, gpointer data)
{
    if (pool->threads == 1 || n <= 1) {
        for (gsize i = 0; i < n; i++)
            run(data, i, 0);
        return;
    }
    guint64 generation = (atomic_load(&pool->ticket) >> GENERATION_SHIFT) + 1;
    /* Closes the last loop for good before n changes: no loop reaches this index. */
    atomic_store(&pool->ticket, (generation - 1) << GENERATION_SHIFT | INDEX_MASK);
    atomic_store(&pool->n, n);
    atomic_store(&pool->run, run);
    atomic_store(&pool->data, data);
    atomic_store(&pool->done, 0);
    generation &= (1ull << (64 - GENERATION_SHIFT)) - 1;
    atomic_store(&pool->ticket, generation << GENERATION_SHIFT);
    guint sleepers = atomic_load(&pool->sleepers);
    if (sleepers > 0) {
        g_mutex_lock(&pool->mutex);
        /* No more threads than tasks: with many threads waking is what a short loop costs. */
        if (n - 1 >= sleepers)
            g_cond_broadcast(&pool->work);
        else
            for (gsize i = 0; i < n - 1; i++)
                g_cond_signal(&pool->work);
        g_mutex_unlock(&pool->mutex);
    }
    work_on(pool, generation, 0);
    wait_for_end(pool, n);
}

gpointer dcae_aligned_alloc(gsize bytes)
{
    gpointer memory = NULL;
    gsize align = bytes >= 8 * HUGE_PAGE ? HUGE_PAGE : 64;
    if (posix_memalign(&memory, align, MAX(bytes, 64)) != 0)
        return NULL;
    /* A wish: weights of hundreds of MB stream past, each once, and pages of 4 KB cost 3 % of a
     * frame's time in misses of the TLB. */
    if (align == HUGE_PAGE)
        madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

void dcae_aligned_free(gpointer memory)
{
    free(memory);
}
