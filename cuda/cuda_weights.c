/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_weights.c - packs layers as the kernels want them and uploads them, one allocation each.
 * kernels/args.h says what the arrays look like.
 */
#include "cuda_weights.h"

#include <string.h>

#include "dcae_layer_weights.h"
#include "dcae_tensor.h"

#define ALIGN 256u

/* Bytes of a layer's arrays, one behind the other. */
typedef struct {
    gsize weight, bias, norm_weight, norm_bias;
} Sizes;

static gboolean is_product(const DcaeLayer *layer)
{
    return layer->kind == DCAE_OP_CONV || layer->kind == DCAE_OP_LINEAR;
}

static gsize align(gsize bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static Sizes layer_sizes(const DcaeLayer *layer, DcaePrecision precision)
{
    Sizes s = {0};
    gsize norm_c = layer->out_c;

    if (is_product(layer)) {
        DcaeCudaProduct p = dcae_cuda_product(layer, precision);
        s.weight = (gsize)p.phases * p.k * p.columns * dcae_cuda_element_size(precision);
        s.bias = p.columns * sizeof(float);
        norm_c = MAX(p.columns, layer->out_c);
    } else if (layer->kind == DCAE_OP_DWCONV) {
        s.weight = (gsize)layer->ksize * layer->ksize * layer->conv_c * sizeof(float);
        s.bias = layer->bias || layer->norm == DCAE_NORM_BATCH ? layer->conv_c * sizeof(float) : 0;
    } else if (layer->kind == DCAE_OP_GROUPED_LINEAR) {
        s.weight = (gsize)layer->conv_c * (layer->in_c / layer->groups) * sizeof(float);
    }
    if (layer->norm == DCAE_NORM_RMS)
        s.norm_weight = s.norm_bias = norm_c * sizeof(float);
    s.weight = align(s.weight);
    s.bias = align(s.bias);
    s.norm_weight = align(s.norm_weight);
    s.norm_bias = align(s.norm_bias);
    return s;
}

/* ---- 16-bit numbers, rounded to nearest even */

static guint32 float_bits(float x)
{
    guint32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static guint16 to_bfloat(float x)
{
    guint32 bits = float_bits(x);
    return (guint16)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static float from_bfloat(guint16 h)
{
    guint32 bits = (guint32)h << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Weights that are too large for f16 become infinite, and the frame's check finds them. */
static guint16 to_half(float x)
{
    guint32 bits = float_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    float tiny;
    if (magnitude >= 0x477ff000u) /* 65520, half way to the next power of two */
        return (guint16)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* subnormal: adding 0.5 leaves steps of 2^-24 */
        memcpy(&tiny, &magnitude, sizeof tiny);
        return (guint16)(sign | (float_bits(tiny + 0.5f) - 0x3f000000u));
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1);
    return (guint16)(sign | (magnitude - 0x38000000u) >> 13);
}

/* ---- packing */

/* Weight of channel n, tap (ty, tx) of the product's taps, input channel c. Behind a nearest
 * neighbour enlargement several taps of the 3×3 kernel fall on one input pixel, which ones depends
 * on the parity of the output pixel (phase). */
static float product_weight(const DcaeLayer *layer, const float *weight, gsize n, guint phase,
                            guint ty, guint tx, gsize c)
{
    gsize ksize = layer->ksize;
    const float *w = weight + (n * layer->in_c + c) * ksize * ksize;
    double sum = 0;

    if (!layer->nearest2)
        return w[ty * ksize + tx];
    for (guint ky = 0; ky < 3; ky++)
        for (guint kx = 0; kx < 3; kx++)
            if ((ky + 1 - phase / 2) / 2 == ty && (kx + 1 - phase % 2) / 2 == tx)
                sum += w[ky * 3 + kx];
    return (float)sum;
}

/* One weight at the place of its channel, in each part of a row that it belongs to. */
static void pack_weight(const DcaeCudaProduct *p, DcaePrecision precision, float w, guint16 *row)
{
    guint16 value = precision == DCAE_PRECISION_BF16 ? to_bfloat(w) : to_half(w);

    row[0] = value;
    if (p->parts == 1)
        return;
    row[p->part_stride] = value;
    row[2 * p->part_stride] = to_bfloat(w - from_bfloat(value));
}

/* CONV_FEW: columns are taps × output channels. */
static void pack_few(const DcaeLayer *layer, const DcaeCudaProduct *p, DcaePrecision precision,
                     const float *weight, guint16 *packed)
{
    for (guint tap = 0; tap < 9; tap++)
        for (guint n = 0; n < layer->conv_c; n++)
            for (guint c = 0; c < layer->in_c; c++)
                pack_weight(p, precision, product_weight(layer, weight, n, 0, tap / 3, tap % 3, c),
                            packed + (gsize)(tap * DCAE_FEW_OUT + n) * p->k + c);
}

static void pack_product(const DcaeLayer *layer, DcaePrecision precision, const float *weight,
                         void *packed)
{
    DcaeCudaProduct p = dcae_cuda_product(layer, precision);

    if (p.few) {
        pack_few(layer, &p, precision, weight, packed);
        return;
    }
    for (guint column = 0; column < p.columns; column++) {
        gint n = dcae_cuda_product_channel(layer, &p, column);
        for (guint i = 0; n >= 0 && i < p.phases * p.taps * p.taps; i++) {
            guint phase = i / (p.taps * p.taps), tap = i % (p.taps * p.taps);
            gsize k = tap * p.in_padded;
            for (gsize c = 0; c < layer->in_c; c++, k++) {
                float w =
                    product_weight(layer, weight, (gsize)n, phase, tap / p.taps, tap % p.taps, c);
                gsize row = ((gsize)phase * p.columns + column) * p.k;
                if (precision == DCAE_PRECISION_F32)
                    ((float *)packed)[((gsize)phase * p.k + k) * p.columns + column] = w;
                else
                    pack_weight(&p, precision, w, (guint16 *)packed + row + k);
            }
        }
    }
}

static void pack_product_bias(const DcaeLayer *layer, DcaePrecision precision, const float *bias,
                              float *packed)
{
    DcaeCudaProduct p = dcae_cuda_product(layer, precision);

    for (guint column = 0; bias != NULL && column < p.columns; column++) {
        gint n = dcae_cuda_product_channel(layer, &p, column);
        packed[column] = n >= 0 ? bias[n] : 0.0f;
    }
}

/* [c][k][k] to [k][k][c]. */
static void pack_dwconv(const DcaeLayer *layer, const float *weight, float *packed)
{
    gsize taps = (gsize)layer->ksize * layer->ksize;

    for (gsize c = 0; c < layer->conv_c; c++)
        for (gsize t = 0; t < taps; t++)
            packed[t * layer->conv_c + c] = weight[c * taps + t];
}

/* [group][output][input] to [group][input][output]. */
static void pack_grouped(const DcaeLayer *layer, const float *weight, float *packed)
{
    gsize outputs = layer->conv_c / layer->groups, inputs = layer->in_c / layer->groups;

    for (gsize n = 0; n < layer->conv_c; n++)
        for (gsize i = 0; i < inputs; i++)
            packed[(n / outputs * inputs + i) * outputs + n % outputs] = weight[n * inputs + i];
}

static void pack_floats(const float *from, gsize n, guint8 *to)
{
    if (from != NULL)
        memcpy(to, from, n * sizeof *from);
}

static void pack_layer(const DcaeLayer *layer, DcaePrecision precision,
                       const DcaeLayerWeights *from, const Sizes *s, guint8 *to)
{
    guint8 *bias = to + s->weight;

    if (is_product(layer)) {
        pack_product(layer, precision, from->weight, to);
        pack_product_bias(layer, precision, from->bias, (float *)bias);
    } else if (layer->kind == DCAE_OP_DWCONV) {
        pack_dwconv(layer, from->weight, (float *)to);
        pack_floats(from->bias, layer->conv_c, bias);
    } else if (layer->kind == DCAE_OP_GROUPED_LINEAR) {
        pack_grouped(layer, from->weight, (float *)to);
    }
    pack_floats(from->norm_weight, layer->out_c, bias + s->bias);
    pack_floats(from->norm_bias, layer->out_c, bias + s->bias + s->norm_weight);
}

/* ---- */

/* Where a layer's arrays lie in its allocation. */
static DcaeCudaLayer layer_at(CUdeviceptr memory, const Sizes *s)
{
    return (DcaeCudaLayer){
        .weight = s->weight ? memory : 0,
        .bias = s->bias ? memory + s->weight : 0,
        .norm_weight = s->norm_weight ? memory + s->weight + s->bias : 0,
        .norm_bias = s->norm_bias ? memory + s->weight + s->bias + s->norm_weight : 0,
    };
}

static gsize layer_bytes(const DcaeLayer *layer, DcaePrecision precision)
{
    Sizes s = layer_sizes(layer, precision);

    return s.weight + s.bias + s.norm_weight + s.norm_bias;
}

static gsize all_bytes(const DcaeProgram *program, DcaePrecision precision)
{
    gsize bytes = 0;

    for (guint i = 0; i < program->n_layers; i++)
        bytes += layer_bytes(&program->layers[i], precision);
    return bytes;
}

/* What helps where weights find no room. A model has them all or does not run: memory-limit, which
 * cuts frames into bands, is none of it. */
static char *advise(const DcaeProgram *program, DcaePrecision precision)
{
    gsize all = all_bytes(program, precision), smaller = all_bytes(program, DCAE_PRECISION_BF16);
    g_autofree char *other =
        smaller < all
            ? g_strdup_printf("; set precision=bf16, with which they take %" G_GSIZE_FORMAT
                              " MiB, or device to one with more memory",
                              (smaller >> 20) + 1)
            : g_strdup(DCAE_CUDA_OTHER_DEVICE);

    return g_strdup_printf("; all weights take %" G_GSIZE_FORMAT
                           " MiB, whatever memory-limit says%s",
                           (all >> 20) + 1, other);
}

static gboolean alloc_layer(DcaeWeights *w, const DcaeProgram *program, guint index, gsize bytes,
                            GError **error)
{
    g_autofree char *what = g_strdup_printf("the weights of %s", program->layers[index].label);
    g_autofree char *advice = advise(program, w->context.precision);

    return dcae_cuda_alloc(&w->context, bytes, what, advice, &w->memory[index], error);
}

static gboolean prepare_layer(DcaeWeights *w, DcaeModel *model, const DcaeProgram *program,
                              guint index, GError **error)
{
    const DcaeLayer *layer = &program->layers[index];
    Sizes s = layer_sizes(layer, w->context.precision);
    gsize bytes = layer_bytes(layer, w->context.precision);
    DcaeLayerWeights arrays;
    g_autofree guint8 *packed = g_try_malloc0(MAX(bytes, 1));

    if (packed == NULL) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                    "no memory to pack the weights of %s (%" G_GSIZE_FORMAT " MiB)", layer->label,
                    (bytes >> 20) + 1);
        return FALSE;
    }
    gboolean ok = dcae_layer_weights_read(model, layer, &arrays, error);
    if (ok)
        pack_layer(layer, w->context.precision, &arrays, &s, packed);
    dcae_layer_weights_clear(&arrays);
    if (!ok || !alloc_layer(w, program, index, bytes, error))
        return FALSE;
    w->layers[index] = layer_at(w->memory[index], &s);
    w->bytes += bytes;
    return CU(w->context.cu, error, cuMemcpyHtoD_v2, w->memory[index], packed, bytes);
}

static gboolean check_heads(const DcaeProgram *program, GError **error)
{
    for (guint i = 0; i < program->n_ops; i++)
        if (program->ops[i].head_dim > DCAE_MAX_HEAD_DIM) {
            g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                        "attention_head_dim is %u; the CUDA backend takes at most %d",
                        program->ops[i].head_dim, DCAE_MAX_HEAD_DIM);
            return FALSE;
        }
    return TRUE;
}

static gboolean prepare_layers(DcaeWeights *w, DcaeModel *model, const DcaeProgram *program,
                               const DcaeBackendParams *params, GError **error)
{
    for (guint i = 0; i < program->n_layers; i++) {
        if (g_cancellable_is_cancelled(params->cancellable)) {
            g_set_error_literal(error, DCAE_ERROR, DCAE_ERROR_CANCELLED,
                                "packing the weights was cancelled");
            return FALSE;
        }
        if (!prepare_layer(w, model, program, i, error))
            return FALSE;
        if (params->progress != NULL)
            params->progress("model-pack", (i + 1.0) / program->n_layers, params->progress_data);
    }
    /* Copies from pageable memory return before they have arrived, and no stream of ours waits for
     * them. */
    return CU(w->context.cu, error, cuStreamSynchronize, NULL);
}

DcaeWeights *dcae_cuda_weights_prepare(DcaeModel *model, const DcaeProgram *program,
                                       const DcaeBackendParams *params, GError **error)
{
    DcaeWeights *w = g_new0(DcaeWeights, 1);

    w->n_layers = program->n_layers;
    w->layers = g_new0(DcaeCudaLayer, program->n_layers);
    w->memory = g_new0(CUdeviceptr, program->n_layers);
    if (!check_heads(program, error) || !dcae_cuda_context_open(&w->context, params, error) ||
        !dcae_cuda_enter(&w->context, error))
        goto fail;
    gboolean ok = dcae_layer_weights_check(model, program, error) &&
                  prepare_layers(w, model, program, params, error);
    dcae_cuda_leave(&w->context);
    if (ok)
        return w;

fail:
    dcae_cuda_weights_free(w);
    return NULL;
}

void dcae_cuda_weights_free(DcaeWeights *w)
{
    if (w == NULL)
        return;
    if (w->context.context != NULL && dcae_cuda_enter(&w->context, NULL)) {
        for (guint i = 0; i < w->n_layers; i++)
            if (w->memory[i] != 0)
                w->context.cu->cuMemFree_v2(w->memory[i]);
        dcae_cuda_leave(&w->context);
    }
    dcae_cuda_context_close(&w->context);
    g_free(w->layers);
    g_free(w->memory);
    g_free(w);
}
