/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_layer_weights.c - see dcae_layer_weights.h.
 */
#include "dcae_layer_weights.h"

#include <math.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "dcae_tensor.h"

#define BATCH_NORM_EPS 1e-5
/* Arrays from so many bytes on go back to the system when they are freed. The heap, above all that
 * of a second thread, keeps tens of MiB for a next time that doesn't come. */
#define MAP_BYTES ((gsize)1 << 20)

/* Before each array. */
typedef union {
    gsize mapped; /* bytes of the mapping, or 0: it is on the heap */
    max_align_t align;
} Header;

/* DcaeLayerWeights while it is written. */
typedef struct {
    float *weight, *bias, *norm_weight, *norm_bias;
} Arrays;

static float *alloc_array(gsize floats)
{
    Header *header;
    gsize bytes;

    if (!dcae_mul_size(floats, sizeof(float), &bytes) ||
        !dcae_add_size(bytes, sizeof *header, &bytes))
        return NULL;
    if (bytes < MAP_BYTES) {
        header = g_try_malloc(bytes);
        if (header)
            header->mapped = 0;
    } else {
        header = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (header == MAP_FAILED)
            return NULL;
        header->mapped = bytes;
    }
    return header ? (float *)(header + 1) : NULL;
}

static void free_array(const float *array)
{
    if (!array)
        return;
    Header *header = (Header *)array - 1;
    if (header->mapped)
        munmap(header, header->mapped);
    else
        g_free(header);
}

typedef float Floats;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Floats, free_array)

static float *alloc_floats(gsize a, gsize b, const DcaeLayer *layer, GError **error)
{
    gsize n;
    float *memory = dcae_mul_size(a, b, &n) ? alloc_array(n) : NULL;
    if (!memory)
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                    "no memory to read the weights of %s (%" G_GSIZE_FORMAT " × %" G_GSIZE_FORMAT
                    " values)",
                    layer->label, a, b);
    return memory;
}

/* Keeps the rows that the layer picks, in place; returns how many. */
static gsize pick_rows(const DcaeLayer *layer, float *rows, gsize n_rows, gsize row_floats)
{
    gsize kept = 0;
    if (layer->pick_period == 0)
        return n_rows;
    for (gsize i = 0; i < n_rows; i++) {
        gsize phase = i % layer->pick_period;
        if (phase < layer->pick_first || phase >= (gsize)layer->pick_first + layer->pick_count)
            continue;
        if (kept != i)
            memmove(rows + kept * row_floats, rows + i * row_floats, row_floats * sizeof(float));
        kept++;
    }
    return kept;
}

/* Inputs that one output channel of the stored tensors has. */
static gsize stored_inputs(const DcaeLayer *layer)
{
    if (layer->kind == DCAE_OP_DWCONV)
        return 1;
    if (layer->kind == DCAE_OP_GROUPED_LINEAR)
        return layer->in_c / layer->groups;
    return layer->in_c;
}

static gboolean read_named(DcaeModel *model, const char *prefix, const char *suffix,
                           const guint64 *shape, guint rank, float *to, GError **error)
{
    g_autofree char *name = g_strconcat(prefix, suffix, NULL);
    return dcae_model_read(model, name, shape, rank, to, error);
}

/* Shape of each source's weight; returns its rank. */
static guint weight_shape(const DcaeLayer *layer, guint64 shape[4])
{
    shape[0] = layer->source_c;
    shape[1] = stored_inputs(layer);
    shape[2] = shape[3] = layer->ksize;
    return layer->kind == DCAE_OP_LINEAR ? 2 : 4;
}

/* The stacked and picked rows of all sources. */
static gboolean read_weight(DcaeModel *model, const DcaeLayer *layer, Arrays *arrays,
                            GError **error)
{
    gsize inputs = stored_inputs(layer), taps = (gsize)layer->ksize * layer->ksize;
    gsize n_rows = (gsize)layer->n_sources * layer->source_c;
    guint64 shape[4];
    guint rank = weight_shape(layer, shape);
    arrays->weight = alloc_floats(n_rows, inputs * taps, layer, error);
    if (!arrays->weight)
        return FALSE;
    for (gsize i = 0; i < layer->n_sources; i++)
        if (!read_named(model, layer->source[i], ".weight", shape, rank,
                        arrays->weight + i * layer->source_c * inputs * taps, error))
            return FALSE;
    n_rows = pick_rows(layer, arrays->weight, n_rows, inputs * taps);
    g_assert(n_rows == layer->conv_c);
    return TRUE;
}

static gboolean read_bias(DcaeModel *model, const DcaeLayer *layer, Arrays *arrays, GError **error)
{
    guint64 shape = layer->source_c;
    if (!layer->bias)
        return TRUE;
    arrays->bias = alloc_floats(layer->source_c, 1, layer, error);
    if (!arrays->bias ||
        !read_named(model, layer->source[0], ".bias", &shape, 1, arrays->bias, error))
        return FALSE;
    pick_rows(layer, arrays->bias, layer->source_c, 1);
    return TRUE;
}

static gboolean read_rms_norm(DcaeModel *model, const DcaeLayer *layer, Arrays *arrays,
                              GError **error)
{
    guint64 shape = layer->out_c;
    arrays->norm_weight = alloc_floats(layer->out_c, 1, layer, error);
    if (!arrays->norm_weight)
        return FALSE;
    arrays->norm_bias = alloc_floats(layer->out_c, 1, layer, error);
    return arrays->norm_bias &&
           read_named(model, layer->norm_name, ".weight", &shape, 1, arrays->norm_weight, error) &&
           read_named(model, layer->norm_name, ".bias", &shape, 1, arrays->norm_bias, error);
}

/* Batch norm at inference is y = (x - mean) / sqrt(var + eps) · weight + bias: a factor for each
 * row of the product and a new bias. */
static gboolean fold_batch_norm(DcaeModel *model, const DcaeLayer *layer, Arrays *arrays,
                                GError **error)
{
    static const char *const suffix[4] = {".weight", ".bias", ".running_mean", ".running_var"};
    gsize n = layer->conv_c, inputs = stored_inputs(layer) * layer->ksize * layer->ksize;
    guint64 shape = n;
    g_autoptr(Floats) norm = alloc_floats(n, 4, layer, error);
    g_assert(layer->act == DCAE_ACT_NONE && layer->out_c == layer->conv_c);
    if (!norm)
        return FALSE;
    for (gsize i = 0; i < 4; i++)
        if (!read_named(model, layer->norm_name, suffix[i], &shape, 1, norm + i * n, error))
            return FALSE;
    for (gsize c = 0; c < n; c++)
        if (norm[3 * n + c] < 0) {
            g_set_error(error, DCAE_ERROR, DCAE_ERROR_WEIGHTS,
                        "tensor '%s.running_var' has the negative variance %g", layer->norm_name,
                        norm[3 * n + c]);
            return FALSE;
        }
    if (!arrays->bias) {
        arrays->bias = alloc_floats(n, 1, layer, error);
        if (!arrays->bias)
            return FALSE;
        memset(arrays->bias, 0, n * sizeof(float));
    }
    for (gsize c = 0; c < n; c++) {
        double scale = norm[c] / sqrt(norm[3 * n + c] + BATCH_NORM_EPS);
        for (gsize i = 0; i < inputs; i++)
            arrays->weight[c * inputs + i] = (float)(arrays->weight[c * inputs + i] * scale);
        arrays->bias[c] = (float)((arrays->bias[c] - norm[2 * n + c]) * scale + norm[n + c]);
    }
    return TRUE;
}

gboolean dcae_layer_weights_read(DcaeModel *model, const DcaeLayer *layer,
                                 DcaeLayerWeights *weights, GError **error)
{
    Arrays a = {0};
    gboolean ok = layer->n_sources == 0 ||
                  (read_weight(model, layer, &a, error) && read_bias(model, layer, &a, error));
    if (ok && layer->norm == DCAE_NORM_RMS)
        ok = read_rms_norm(model, layer, &a, error);
    if (ok && layer->norm == DCAE_NORM_BATCH)
        ok = fold_batch_norm(model, layer, &a, error);
    *weights = (DcaeLayerWeights){a.weight, a.bias, a.norm_weight, a.norm_bias};
    return ok;
}

void dcae_layer_weights_clear(DcaeLayerWeights *weights)
{
    free_array(weights->weight);
    free_array(weights->bias);
    free_array(weights->norm_weight);
    free_array(weights->norm_bias);
    *weights = (DcaeLayerWeights){0};
}

static gboolean check_named(const DcaeModel *model, const char *prefix, const char *suffix,
                            const guint64 *shape, guint rank, GError **error)
{
    g_autofree char *name = g_strconcat(prefix, suffix, NULL);
    return dcae_model_check(model, name, shape, rank, error);
}

gboolean dcae_layer_weights_check(const DcaeModel *model, const DcaeProgram *program,
                                  GError **error)
{
    static const char *const norm_suffix[] = {".weight", ".bias", ".running_mean", ".running_var"};

    for (guint n = 0; n < program->n_layers; n++) {
        const DcaeLayer *layer = &program->layers[n];
        guint64 shape[4], norm_shape = layer->out_c;
        guint rank = weight_shape(layer, shape);
        guint n_norm = layer->norm == DCAE_NORM_BATCH ? 4 : layer->norm == DCAE_NORM_RMS ? 2 : 0;
        for (guint i = 0; i < layer->n_sources; i++)
            if (!check_named(model, layer->source[i], ".weight", shape, rank, error))
                return FALSE;
        if (layer->bias && !check_named(model, layer->source[0], ".bias", shape, 1, error))
            return FALSE;
        for (guint i = 0; i < n_norm; i++)
            if (!check_named(model, layer->norm_name, norm_suffix[i], &norm_shape, 1, error))
                return FALSE;
    }
    return TRUE;
}
