/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_weights.h - the packed weights of one direction in device memory, with the context that they
 * lie in.
 */
#ifndef DCAE_CUDA_WEIGHTS_H
#define DCAE_CUDA_WEIGHTS_H

#include "cuda_context.h"

struct _DcaeWeights {
    DcaeCudaContext context;
    guint n_layers;
    DcaeCudaLayer *layers;
    CUdeviceptr *memory; /* one allocation per layer */
    gsize bytes;
};

/* DcaeBackend.prepare and DcaeBackend.weights_free. */
DcaeWeights *dcae_cuda_weights_prepare(DcaeModel *model, const DcaeProgram *program,
                                       const DcaeBackendParams *params, GError **error);
void dcae_cuda_weights_free(DcaeWeights *weights);

#endif
