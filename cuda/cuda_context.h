/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_context.h - a device context with the kernels of one precision. Knows nothing of weights and
 * plans.
 */
#ifndef DCAE_CUDA_CONTEXT_H
#define DCAE_CUDA_CONTEXT_H

#include "cuda_driver.h"
#include "cuda_launch.h"

/* A context and its kernels. The context is the caller's, or the device's primary one, which is
 * held as long as this. */
typedef struct {
    const DcaeCudaDriver *cu;
    CUdevice device;
    CUcontext context;
    gboolean is_primary;
    DcaePrecision precision;
    CUmodule module;
    CUfunction kernel[DCAE_N_CUDA_KERNELS];
} DcaeCudaContext;

/* DcaeBackend.probe. */
gboolean dcae_cuda_probe(const DcaeBackendParams *params, GError **error);

/* On failure `context` is half built; dcae_cuda_context_close() takes it. */
gboolean dcae_cuda_context_open(DcaeCudaContext *context, const DcaeBackendParams *params,
                                GError **error);
void dcae_cuda_context_close(DcaeCudaContext *context);

/* Makes the context current on this thread, until dcae_cuda_leave(). */
gboolean dcae_cuda_enter(const DcaeCudaContext *context, GError **error);
void dcae_cuda_leave(const DcaeCudaContext *context);

/* Allocates device memory in the current context; an error says what it was for and how much was
 * wanted. advice: end of that message; "": nothing that is smaller helps. */
gboolean dcae_cuda_alloc(const DcaeCudaContext *context, gsize bytes, const char *what,
                         const char *advice, CUdeviceptr *memory, GError **error);

#endif
