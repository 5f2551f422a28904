/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_backend.h - the contract that cpu/ and cuda/ implement, and nothing else. Callers have
 * checked every argument; a backend only executes.
 */
#ifndef DCAE_BACKEND_H
#define DCAE_BACKEND_H

#include "dcae_model.h"
#include "dcae_plan.h"

/* Packed weights of one direction; the backend's own type. */
typedef struct _DcaeWeights DcaeWeights;

typedef struct {
    DcaePrecision precision; /* never AUTO */
    guint threads;           /* 1 to 256 */
    DcaeIsa isa;             /* CPU: instruction set to use; never above the machine's */
    const struct _DcaeCpuKernels *cpu_kernels; /* CPU, tests: what runs in place of isa and
                                                  precision, which then say nothing; or NULL */
    int device;                                /* CUDA: device number, -1 any */
    void *cuda_context;                        /* CUcontext, or NULL */
    GCancellable *cancellable; /* or NULL; checked between layers while packing and between steps
                                  while running */
    DcaeProgress progress;     /* or NULL */
    void *progress_data;
    gboolean timings; /* wait() is asked for times */
} DcaeBackendParams;

/* One frame on one side of the network: what the op that touches it reads or writes (PIXELS_*:
 * image, LATENT_*: latent). */
typedef union {
    DcaeImage image;
    DcaeLatent latent;
} DcaeView;

typedef struct {
    const char *name; /* "cpu", "cuda" */
    guint queue;      /* submits that may be queued behind the one that runs; 0: submit() runs it */
    /* Whether the backend works here at all and does the precision. Errors: UNSUPPORTED, BACKEND:
     * what is missing. */
    gboolean (*probe)(const DcaeBackendParams *params, GError **error);
    void (*traits)(const DcaeBackendParams *params, DcaeTraits *traits);
    /* Packs the layers of a program (any size) from the model. The result is immutable and used by
     * many instances at once. Errors: WEIGHTS, MEMORY, CANCELLED. */
    DcaeWeights *(*prepare)(DcaeModel *model, const DcaeProgram *program,
                            const DcaeBackendParams *params, GError **error);
    gsize (*weights_bytes)(const DcaeWeights *weights);
    /* Bytes that are free where an instance would allocate, 0 where they aren't known. NULL: the
     * host's memory, which callers can ask for themselves. */
    guint64 (*free_bytes)(const DcaeWeights *weights);
    void (*weights_free)(DcaeWeights *weights);
    /* Allocates the plan's arena. program, plan and weights outlive the instance. */
    gboolean (*open)(void **self, const DcaeWeights *weights, const DcaePlan *plan,
                     const DcaeBackendParams *params, GError **error);
    /* Starts n frames, 1 to plan->batch: in[i] is read by the program's *_IN ops, out[i] written by
     * its *_OUT ops. The views are borrowed for the call, what they point to until wait() returned
     * for the ticket. Frames that the caller has in device memory are used after what its legacy
     * default stream was given before the call. */
    gboolean (*submit)(void *self, const DcaeView *in, const DcaeView *out, guint n,
                       guint64 *ticket, GError **error);
    /* Waits for a ticket. ms, NULL without params->timings, receives program->n_ops times. Errors:
     * NOT_FINITE (an output value is NaN or infinite), CANCELLED, BACKEND. */
    gboolean (*wait)(void *self, guint64 ticket, double *ms, GError **error);
    void (*close)(void *self); /* accepts a half-built instance; never called with NULL */
} DcaeBackend;

extern const DcaeBackend dcae_cpu_backend;
extern const DcaeBackend dcae_cuda_backend;

#endif
