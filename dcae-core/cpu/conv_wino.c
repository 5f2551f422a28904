/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv_wino.c - CONV: 3×3 convolutions.
 */
#include "cpu_families.h"
#include "implicit.h"

static gsize packed_bytes(const DcaeLayer *layer)
{
    return implicit_packed_bytes(layer);
}

static void pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    implicit_pack(layer, weights, packed);
}

static guint row_align(const DcaeLayer *layer)
{
    return implicit_row_align(layer);
}

static gsize n_tasks(const DcaeCpuCall *call)
{
    return implicit_n_tasks(call);
}

static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return implicit_scratch_bytes(call);
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    implicit_run(call, task, scratch);
}

void VEC_NAME(dcae_cpu_conv)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_CONV] = (DcaeCpuKernel){
        .packed_bytes = packed_bytes,
        .pack = pack,
        .row_align = row_align,
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
