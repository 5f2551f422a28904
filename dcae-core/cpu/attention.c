/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * attention.c - linear attention (ATTN_SUM, ATTN_APPLY) and the grouped 1×1 convolution before it
 * (GROUPED_LINEAR).
 *
 * All three are many small matrix products of head_dim columns. The sum over pixels is taken in
 * chunks of PIXELS pixels of one row, added to the state from left to right and top to bottom: the
 * bits depend neither on bands nor on threads.
 */
#include "cpu_families.h"
#include "vec.h"

#define PIXELS 64    /* of a chunk of ATTN_SUM */
#define TILE 4       /* pixels of a register tile */
#define SUM_ROWS 8   /* rows of the state in a register tile */
#define APPLY_ROWS 4 /* picture rows a task of ATTN_APPLY, which transposes the state once */
#define GROUPS 16    /* groups a task of GROUPED_LINEAR */
#define DENOMINATOR 1e-15f

static inline gsize round_up(gsize n)
{
    return (n + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
}

/* out[p][0..n) = sum over i of x[p][i] · w[i][0..n) for `pixels` pixels. w: [inputs][w_stride],
 * padded with zeros to whole vectors. */
VEC_INLINE void product(const float *x, gsize x_stride, const float *w, gsize w_stride,
                        gsize inputs, int pixels, float *out, gsize out_stride, gsize n)
{
    for (gsize j = 0; j < n; j += VEC_WIDTH) {
        vec sum[TILE];
        VEC_UNROLL
        for (int p = 0; p < pixels; p++)
            sum[p] = vec_zero();
        for (gsize i = 0; i < inputs; i++) {
            vec weight = vec_load(w + i * w_stride + j);
            VEC_UNROLL
            for (int p = 0; p < pixels; p++)
                sum[p] = vec_fma(vec_set1(x[p * x_stride + i]), weight, sum[p]);
        }
        VEC_UNROLL
        for (int p = 0; p < pixels; p++) {
            if (n - j >= VEC_WIDTH)
                vec_store(out + p * out_stride + j, sum[p]);
            else
                vec_store_n(out + p * out_stride + j, sum[p], n - j);
        }
    }
}

/* ---- GROUPED_LINEAR: packed [group][input][outputs rounded up] */

static gsize grouped_packed_bytes(const DcaeLayer *layer)
{
    gsize outputs = layer->conv_c / layer->groups;
    return (gsize)layer->in_c * round_up(outputs) * sizeof(float);
}

static void grouped_pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    gsize outputs = layer->conv_c / layer->groups, inputs = layer->in_c / layer->groups;
    gsize stride = round_up(outputs);
    memset(packed, 0, grouped_packed_bytes(layer));
    for (gsize c = 0; c < layer->conv_c; c++)
        for (gsize i = 0; i < inputs; i++)
            packed[(c / outputs * inputs + i) * stride + c % outputs] =
                weights->weight[c * inputs + i];
}

static gsize grouped_blocks(const DcaeCpuCall *call)
{
    return (call->op->layer->groups + GROUPS - 1) / GROUPS;
}

static gsize grouped_n_tasks(const DcaeCpuCall *call)
{
    return (call->y1 - call->y0) * grouped_blocks(call);
}

static gsize no_scratch(const DcaeCpuCall *call)
{
    return 0;
}

static void grouped_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    const DcaeLayer *layer = call->op->layer;
    gsize outputs = layer->conv_c / layer->groups, inputs = layer->in_c / layer->groups;
    gsize stride = round_up(outputs), blocks = grouped_blocks(call);
    gsize g0 = task % blocks * GROUPS, g1 = MIN(g0 + GROUPS, layer->groups);
    gsize in_stride = call->in.pixel_stride, out_stride = call->out.pixel_stride;
    guint y = call->y0 + (guint)(task / blocks), w = call->out.w;
    for (gsize g = g0; g < g1; g++) {
        const float *weight = call->packed + g * inputs * stride;
        const float *in = dcae_rows_at(&call->in, y, 0) + g * inputs;
        float *out = dcae_rows_at(&call->out, y, 0) + g * outputs;
        guint x = 0;
        for (; x + TILE <= w; x += TILE)
            product(in + x * in_stride, in_stride, weight, stride, inputs, TILE,
                    out + x * out_stride, out_stride, outputs);
        for (; x < w; x++)
            product(in + x * in_stride, in_stride, weight, stride, inputs, 1, out + x * out_stride,
                    out_stride, outputs);
    }
    gsize padding = g1 == layer->groups ? dcae_out_padding(call) : 0;
    for (guint x = 0; padding > 0 && x < w; x++)
        memset(dcae_rows_at(&call->out, y, x) + call->out.c, 0, padding * sizeof(float));
}

/* ---- ATTN_SUM: a task is a head; scratch: k and v of a chunk, [pixel][k | v], each rounded up */

static gsize sum_n_tasks(const DcaeCpuCall *call)
{
    return call->op->heads;
}

static gsize sum_scratch_bytes(const DcaeCpuCall *call)
{
    return PIXELS * (2 * round_up(call->op->head_dim) + SUM_ROWS) * sizeof(float);
}

/* Copies relu(k), padded with zeros, and v of n pixels from (y, x) on. */
static void load_chunk(const DcaeCpuCall *call, gsize head, guint y, guint x, gsize n, float *chunk)
{
    gsize d = call->op->head_dim, padded = round_up(d);
    for (gsize p = 0; p < n; p++, chunk += 2 * padded) {
        const float *in = dcae_rows_at(&call->in, y, x + (guint)p) + head * 2 * d;
        for (gsize i = 0; i < d; i += VEC_WIDTH) {
            gsize lanes = MIN(d - i, VEC_WIDTH);
            vec_store(chunk + i, vec_max(vec_zero(), vec_load_n(in + i, lanes)));
            vec_store(chunk + padded + i, vec_load_n(in + d + i, lanes));
        }
    }
}

/* state[j..j+rows)[i..i+lanes) += v[j]·k[i] over n pixels. ones: the row of ones instead of v. */
VEC_INLINE void sum_tile(const float *chunk, gsize n, gsize d, gsize i, gsize j, int rows,
                         gboolean ones, float *state)
{
    gsize padded = round_up(d), lanes = MIN(d - i, VEC_WIDTH);
    vec sum[SUM_ROWS];
    VEC_UNROLL
    for (int r = 0; r < rows; r++)
        sum[r] = vec_zero();
    for (gsize p = 0; p < n; p++, chunk += 2 * padded) {
        vec k = vec_load(chunk + i);
        VEC_UNROLL
        for (int r = 0; r < rows; r++)
            sum[r] =
                ones ? vec_add(sum[r], k) : vec_fma(vec_set1(chunk[padded + j + r]), k, sum[r]);
    }
    VEC_UNROLL
    for (int r = 0; r < rows; r++) {
        float *to = state + (j + r) * d + i;
        vec_store_n(to, vec_add(vec_load_n(to, lanes), sum[r]), lanes);
    }
}

static void sum_run(const DcaeCpuCall *call, gsize head, void *scratch)
{
    gsize d = call->op->head_dim;
    float *state = call->state + head * (d + 1) * d;
    for (guint y = call->y0; y < call->y1; y++)
        for (guint x = 0; x < call->in.w; x += PIXELS) {
            gsize n = MIN(call->in.w - x, PIXELS);
            load_chunk(call, head, y, x, n, scratch);
            for (gsize i = 0; i < d; i += VEC_WIDTH) {
                gsize j = 0;
                for (; j + SUM_ROWS <= d; j += SUM_ROWS)
                    sum_tile(scratch, n, d, i, j, SUM_ROWS, FALSE, state);
                for (; j < d; j++)
                    sum_tile(scratch, n, d, i, j, 1, FALSE, state);
                sum_tile(scratch, n, d, i, d, 1, TRUE, state);
            }
        }
}

/* ---- ATTN_APPLY: a task is APPLY_ROWS rows of one head; scratch: the state transposed, so that
 * outputs are the lanes and the denominator one more output, relu(q) and the sums of a tile */

static gsize apply_n_tasks(const DcaeCpuCall *call)
{
    return (call->y1 - call->y0 + APPLY_ROWS - 1) / APPLY_ROWS * call->op->heads;
}

static gsize apply_scratch_bytes(const DcaeCpuCall *call)
{
    gsize d = call->op->head_dim, stride = round_up(d + 1);
    return (d * stride + TILE * (round_up(d) + stride)) * sizeof(float);
}

static void transpose_state(const float *state, gsize d, float *to)
{
    gsize stride = round_up(d + 1);
    memset(to, 0, d * stride * sizeof(float));
    for (gsize j = 0; j <= d; j++)
        for (gsize i = 0; i < d; i++)
            to[i * stride + j] = state[j * d + i];
}

VEC_INLINE void apply_tile(const DcaeCpuCall *call, gsize head, guint y, guint x, int pixels,
                           float *scratch)
{
    gsize d = call->op->head_dim, stride = round_up(d + 1), padded = round_up(d);
    float *q = scratch + d * stride, *sums = q + TILE * padded;
    for (int p = 0; p < pixels; p++) {
        const float *in = dcae_rows_at(&call->in, y, x + p) + head * d;
        for (gsize i = 0; i < d; i += VEC_WIDTH)
            vec_store(q + p * padded + i,
                      vec_max(vec_zero(), vec_load_n(in + i, MIN(d - i, VEC_WIDTH))));
    }
    product(q, padded, scratch, stride, d, pixels, sums, stride, stride);
    for (int p = 0; p < pixels; p++) {
        float *out = dcae_rows_at(&call->out, y, x + p) + head * d;
        vec denominator = vec_set1(sums[p * stride + d] + DENOMINATOR);
        for (gsize i = 0; i < d; i += VEC_WIDTH)
            vec_store_n(out + i, vec_div(vec_load(sums + p * stride + i), denominator),
                        MIN(d - i, VEC_WIDTH));
    }
}

static void apply_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    gsize d = call->op->head_dim, heads = call->op->heads, head = task % heads;
    guint y0 = call->y0 + (guint)(task / heads) * APPLY_ROWS, y1 = MIN(y0 + APPLY_ROWS, call->y1);
    gsize padding = head == heads - 1 ? dcae_out_padding(call) : 0;
    guint w = call->out.w;
    transpose_state(call->state + head * (d + 1) * d, d, scratch);
    for (guint y = y0; y < y1; y++) {
        guint x = 0;
        for (; x + TILE <= w; x += TILE)
            apply_tile(call, head, y, x, TILE, scratch);
        for (; x < w; x++)
            apply_tile(call, head, y, x, 1, scratch);
        for (x = 0; padding > 0 && x < w; x++)
            memset(dcae_rows_at(&call->out, y, x) + call->out.c, 0, padding * sizeof(float));
    }
}

void VEC_NAME(dcae_cpu_attention)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_GROUPED_LINEAR] = (DcaeCpuKernel){
        .packed_bytes = grouped_packed_bytes,
        .pack = grouped_pack,
        .n_tasks = grouped_n_tasks,
        .scratch_bytes = no_scratch,
        .run = grouped_run,
    };
    kernels->kernel[DCAE_OP_ATTN_SUM] = (DcaeCpuKernel){
        .n_tasks = sum_n_tasks,
        .scratch_bytes = sum_scratch_bytes,
        .run = sum_run,
    };
    kernels->kernel[DCAE_OP_ATTN_APPLY] = (DcaeCpuKernel){
        .n_tasks = apply_n_tasks,
        .scratch_bytes = apply_scratch_bytes,
        .run = apply_run,
    };
}
