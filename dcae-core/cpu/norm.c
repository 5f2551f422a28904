/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * norm.c - RMSNORM: root mean square norm over the channels of a pixel, weight, bias, activation.
 * Norms that follow a convolution are part of its epilogue, not of this file. A task is one row.
 */
#include "cpu_families.h"
#include "rows.h"
#include "vec_act.h"

#include <math.h>

#define EPS 1e-5f

/* Weight and bias, each padded with zeros to a multiple of 16. */
static gsize packed_bytes(const DcaeLayer *layer)
{
    return 2 * (((gsize)layer->out_c + 15) / 16 * 16) * sizeof(float);
}

static void pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    gsize padded = ((gsize)layer->out_c + 15) / 16 * 16;
    memset(packed, 0, packed_bytes(layer));
    for (gsize c = 0; c < layer->out_c; c++) {
        packed[c] = weights->norm_weight[c];
        packed[padded + c] = weights->norm_bias[c];
    }
}

static gsize n_tasks(const DcaeCpuCall *call)
{
    return call->y1 - call->y0;
}

static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return 0;
}

/* 1 / sqrt(mean of squares + eps); four sums, so that additions do not wait for each other. */
static inline float inverse_rms(const elem_t *x, gsize low, gsize c)
{
    vec sum[4] = {vec_zero(), vec_zero(), vec_zero(), vec_zero()};
    gsize i = 0;
    for (; i + 4 * VEC_WIDTH <= c; i += 4 * VEC_WIDTH) {
        VEC_UNROLL
        for (int j = 0; j < 4; j++) {
            vec v = elem_load_sum(x + i + j * VEC_WIDTH, low);
            sum[j] = vec_fma(v, v, sum[j]);
        }
    }
    for (; i < c; i += VEC_WIDTH) {
        vec v = elem_load_sum_n(x + i, low, MIN(c - i, VEC_WIDTH));
        sum[0] = vec_fma(v, v, sum[0]);
    }
    float total = vec_sum(vec_add(vec_add(sum[0], sum[1]), vec_add(sum[2], sum[3])));
    return 1.0f / sqrtf(total / (float)c + EPS);
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    guint y = call->y0 + (guint)task;
    gsize c = call->out.c, padding = dcae_out_padding(call);
    const float *weight = call->packed, *bias = weight + (c + 15) / 16 * 16;
    gsize in_low = call->in.low, out_low = call->out.low;
    DcaeAct act = call->op->layer->act;
    for (guint x = 0; x < call->out.w; x++) {
        const elem_t *in = dcae_rows_at(&call->in, y, x);
        elem_t *out = dcae_rows_at(&call->out, y, x);
        vec scale = vec_set1(inverse_rms(in, in_low, c));
        gsize i = 0;
        for (; i + VEC_WIDTH <= c; i += VEC_WIDTH) {
            vec v = vec_mul(elem_load_sum(in + i, in_low), scale);
            v = vec_fma(v, vec_load(weight + i), vec_load(bias + i));
            elem_store_sum(out + i, out_low, vec_act(act, v));
        }
        if (i < c) {
            vec v = vec_mul(elem_load_sum_n(in + i, in_low, c - i), scale);
            v = vec_fma(v, vec_load(weight + i), vec_load(bias + i));
            elem_store_sum_n(out + i, out_low, vec_act(act, v), c - i);
        }
        memset(out + c, 0, padding * sizeof *out);
    }
}

void VEC_NAME(dcae_cpu_norm)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_RMSNORM] = (DcaeCpuKernel){
        .packed_bytes = packed_bytes,
        .pack = pack,
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
