/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * blend.c - BLEND: mixes the first rows of a tile with the last rows of the tile above, then its
 * first columns with the last columns of the tile to the left, in place and linearly, as the
 * reference does it. A task is one row.
 */
#include "cpu_families.h"
#include "rows.h"

static gsize n_tasks(const DcaeCpuCall *call)
{
    return call->y1 - call->y0;
}

static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return 0;
}

/* to = from · (1 - i/extent) + to · i/extent, for n pixels' c channels. The weights are rounded to
 * f32 from double, as PyTorch does with Python's numbers. */
static inline void mix(elem_t *to, gsize to_low, const elem_t *from, gsize from_low, gsize c,
                       guint i, guint extent)
{
    vec a = vec_set1((float)(1.0 - (double)i / extent));
    vec b = vec_set1((float)((double)i / extent));
    gsize k = 0;
    for (; k + VEC_WIDTH <= c; k += VEC_WIDTH)
        elem_store_sum(to + k, to_low,
                       vec_add(vec_mul(elem_load_sum(from + k, from_low), a),
                               vec_mul(elem_load_sum(to + k, to_low), b)));
    if (k < c)
        elem_store_sum_n(to + k, to_low,
                         vec_add(vec_mul(elem_load_sum_n(from + k, from_low, c - k), a),
                                 vec_mul(elem_load_sum_n(to + k, to_low, c - k), b)),
                         c - k);
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    const DcaeOp *op = call->op;
    const DcaeRows *out = &call->out, *above = &call->above, *left = &call->left;
    guint y = call->y0 + (guint)task;
    if (op->above != DCAE_NO_VALUE) {
        guint extent = MIN(op->blend_h, MIN(above->h, out->h));
        for (guint x = 0; y < extent && x < MIN(above->w, out->w); x++)
            mix(dcae_rows_at(out, y, x), out->low, dcae_rows_at(above, above->h - extent + y, x),
                above->low, out->c, y, extent);
    }
    if (op->left != DCAE_NO_VALUE && y < left->h) {
        guint extent = MIN(op->blend_w, MIN(left->w, out->w));
        for (guint x = 0; x < extent; x++)
            mix(dcae_rows_at(out, y, x), out->low, dcae_rows_at(left, y, left->w - extent + x),
                left->low, out->c, x, extent);
    }
}

void VEC_NAME(dcae_cpu_blend)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_BLEND] = (DcaeCpuKernel){
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
