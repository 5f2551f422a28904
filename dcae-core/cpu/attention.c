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
#include "rows.h"

#define PIXELS 64                  /* of a chunk of ATTN_SUM */
#define AHEAD 16                   /* pixels that loads for ATTN_SUM look ahead */
#define LINE (64 / sizeof(elem_t)) /* elements of a cache line */
#define TILE 4                     /* pixels of a register tile */
#define SUM_ROWS 8                 /* rows of the state in a register tile */
#define APPLY_HEADS 4 /* heads a task of ATTN_APPLY, whose channels are neighbours in memory */
#define APPLY_ROWS 4  /* picture rows a task of ATTN_APPLY, which transposes the state once */
#define GROUPS 4      /* groups a task of GROUPED_LINEAR: their weights stay in L1 */
#define EPS 1e-15f    /* of the reference, beside the denominator */

static inline gsize round_up(gsize n)
{
    return (n + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
}

/* Where x and out of a product lie: in rows of a picture, or in scratch memory. */
typedef enum { ELEMENTS, FLOATS } Place;

VEC_INLINE float place_get(const void *p, gsize i, Place place, gsize low)
{
    return place == FLOATS ? ((const float *)p)[i] : elem_get_sum((const elem_t *)p + i, low);
}

VEC_INLINE void place_store(void *p, gsize i, vec v, gsize lanes, Place place, gsize low)
{
    elem_t *elements = (elem_t *)p + i;
    if (place == FLOATS)
        vec_store((float *)p + i, v);
    else if (lanes == VEC_WIDTH)
        elem_store_sum(elements, low, v);
    else
        elem_store_sum_n(elements, low, v, lanes);
}

/* `vecs` vectors of the product below, or `lanes` lanes of one. */
VEC_INLINE void product_tile(const void *x, gsize x_stride, const float *w, gsize w_stride,
                             gsize inputs, int pixels, int vecs, gsize lanes, void *out, gsize at,
                             gsize out_stride, Place place, gsize in_low, gsize out_low)
{
    vec sum[TILE * 2];
    VEC_UNROLL
    for (int t = 0; t < pixels * vecs; t++)
        sum[t] = vec_zero();
    for (gsize i = 0; i < inputs; i++, w += w_stride) {
        VEC_UNROLL
        for (int t = 0; t < pixels * vecs; t++)
            sum[t] = vec_fma(vec_set1(place_get(x, t / vecs * x_stride + i, place, in_low)),
                             vec_load(w + t % vecs * VEC_WIDTH), sum[t]);
    }
    VEC_UNROLL
    for (int t = 0; t < pixels * vecs; t++)
        place_store(out, t / vecs * out_stride + at + t % vecs * VEC_WIDTH, sum[t], lanes, place,
                    out_low);
}

/* out[p][0..n) = sum over i of x[p][i] · w[i][0..n) for `pixels` pixels. w: [inputs][w_stride],
 * padded with zeros to whole vectors. n of FLOATS is whole vectors. */
VEC_INLINE void product(const void *x, gsize x_stride, const float *w, gsize w_stride, gsize inputs,
                        int pixels, void *out, gsize out_stride, gsize n, Place place, gsize in_low,
                        gsize out_low)
{
    gsize j = 0;
    for (; j + 2 * VEC_WIDTH <= n; j += 2 * VEC_WIDTH)
        product_tile(x, x_stride, w + j, w_stride, inputs, pixels, 2, VEC_WIDTH, out, j, out_stride,
                     place, in_low, out_low);
    for (; j + VEC_WIDTH <= n; j += VEC_WIDTH)
        product_tile(x, x_stride, w + j, w_stride, inputs, pixels, 1, VEC_WIDTH, out, j, out_stride,
                     place, in_low, out_low);
    if (j < n)
        product_tile(x, x_stride, w + j, w_stride, inputs, pixels, 1, n - j, out, j, out_stride,
                     place, in_low, out_low);
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
    const elem_t *in = dcae_rows_at(&call->in, y, 0);
    elem_t *out = dcae_rows_at(&call->out, y, 0);
    guint x = 0;
    for (; x + TILE <= w; x += TILE)
        for (gsize g = g0; g < g1; g++)
            product(in + x * in_stride + g * inputs, in_stride, call->packed + g * inputs * stride,
                    stride, inputs, TILE, out + x * out_stride + g * outputs, out_stride, outputs,
                    ELEMENTS, call->in.low, call->out.low);
    for (; x < w; x++)
        for (gsize g = g0; g < g1; g++)
            product(in + x * in_stride + g * inputs, in_stride, call->packed + g * inputs * stride,
                    stride, inputs, 1, out + x * out_stride + g * outputs, out_stride, outputs,
                    ELEMENTS, call->in.low, call->out.low);
    gsize padding = g1 == layer->groups ? dcae_out_padding(call) : 0;
    for (x = 0; padding > 0 && x < w; x++)
        memset(dcae_rows_at(&call->out, y, x) + call->out.c, 0, padding * sizeof(elem_t));
}

/* ---- ATTN_SUM: a task is a head; scratch: k and v of a chunk, [pixel][k | v], each rounded up */

static gsize sum_n_tasks(const DcaeCpuCall *call)
{
    return call->op->heads;
}

static gsize sum_scratch_bytes(const DcaeCpuCall *call)
{
    return PIXELS * 2 * round_up(call->op->head_dim) * sizeof(float);
}

/* Copies relu(k), padded with zeros, and v of n pixels from (y, x) on. */
static void load_chunk(const DcaeCpuCall *call, gsize head, guint y, guint x, gsize n, float *chunk)
{
    gsize d = call->op->head_dim, padded = round_up(d);
    for (gsize p = 0; p < n; p++, chunk += 2 * padded) {
        const elem_t *in = dcae_rows_at(&call->in, y, x + (guint)p) + head * 2 * d;
        /* A head's part of a pixel is too short for the processor to see a pattern. */
        for (gsize i = 0; i < 2 * d; i += LINE)
            __builtin_prefetch(in + AHEAD * call->in.pixel_stride + i);
        for (gsize i = 0; i < d; i += VEC_WIDTH) {
            gsize lanes = MIN(d - i, VEC_WIDTH);
            vec_store(chunk + i, vec_max(vec_zero(), elem_load_sum_n(in + i, call->in.low, lanes)));
            vec_store(chunk + padded + i, elem_load_sum_n(in + d + i, call->in.low, lanes));
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

/* ---- ATTN_APPLY: a task is APPLY_ROWS rows of APPLY_HEADS heads; scratch: relu(q) and the sums of
 * a tile, then the states of the heads transposed, so that outputs are the lanes and the
 * denominator is one more output */

static gsize head_blocks(const DcaeCpuCall *call)
{
    return (call->op->heads + APPLY_HEADS - 1) / APPLY_HEADS;
}

static gsize apply_n_tasks(const DcaeCpuCall *call)
{
    return (call->y1 - call->y0 + APPLY_ROWS - 1) / APPLY_ROWS * head_blocks(call);
}

static gsize apply_scratch_bytes(const DcaeCpuCall *call)
{
    gsize d = call->op->head_dim, stride = round_up(d + 1);
    return (TILE * (round_up(d) + stride) + APPLY_HEADS * d * stride) * sizeof(float);
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
                           float *scratch, const float *state)
{
    gsize d = call->op->head_dim, stride = round_up(d + 1), padded = round_up(d);
    float *q = scratch, *sums = q + TILE * padded;
    for (int p = 0; p < pixels; p++) {
        const elem_t *in = dcae_rows_at(&call->in, y, x + p) + head * d;
        for (gsize i = 0; i < d; i += VEC_WIDTH)
            vec_store(
                q + p * padded + i,
                vec_max(vec_zero(), elem_load_sum_n(in + i, call->in.low, MIN(d - i, VEC_WIDTH))));
    }
    product(q, padded, state, stride, d, pixels, sums, stride, stride, FLOATS, 0, 0);
    for (int p = 0; p < pixels; p++) {
        elem_t *out = dcae_rows_at(&call->out, y, x + p) + head * d;
        vec denominator = vec_set1(sums[p * stride + d] + EPS);
        for (gsize i = 0; i < d; i += VEC_WIDTH)
            elem_store_sum_n(out + i, call->out.low,
                             vec_div(vec_load(sums + p * stride + i), denominator),
                             MIN(d - i, VEC_WIDTH));
    }
}

static void apply_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    gsize d = call->op->head_dim, heads = call->op->heads, blocks = head_blocks(call);
    gsize head0 = task % blocks * APPLY_HEADS, n = MIN(heads - head0, APPLY_HEADS);
    guint y0 = call->y0 + (guint)(task / blocks) * APPLY_ROWS, y1 = MIN(y0 + APPLY_ROWS, call->y1);
    gsize padding = head0 + n == heads ? dcae_out_padding(call) : 0;
    gsize state_floats = d * round_up(d + 1);
    float *states = (float *)scratch + TILE * (round_up(d) + round_up(d + 1));
    guint w = call->out.w;
    for (gsize h = 0; h < n; h++)
        transpose_state(call->state + (head0 + h) * (d + 1) * d, d, states + h * state_floats);
    for (guint y = y0; y < y1; y++) {
        guint x = 0;
        for (; x + TILE <= w; x += TILE)
            for (gsize h = 0; h < n; h++)
                apply_tile(call, head0 + h, y, x, TILE, scratch, states + h * state_floats);
        for (; x < w; x++)
            for (gsize h = 0; h < n; h++)
                apply_tile(call, head0 + h, y, x, 1, scratch, states + h * state_floats);
        for (x = 0; padding > 0 && x < w; x++)
            memset(dcae_rows_at(&call->out, y, x) + call->out.c, 0, padding * sizeof(elem_t));
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
