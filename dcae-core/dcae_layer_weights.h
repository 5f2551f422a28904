/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_layer_weights.h - the weights of one layer as plain f32 arrays, ready to be packed by a
 * backend: sources stacked, rows picked, batch norm folded. Knows tensors by the names that layers
 * carry, nothing of the network and of how backends pack.
 */
#ifndef DCAE_LAYER_WEIGHTS_H
#define DCAE_LAYER_WEIGHTS_H

#include "dcae_graph.h"
#include "dcae_model.h"

/* Weights of one layer as read from the model, all f32, C order, rows picked. Arrays are NULL where
 * the layer has none. */
typedef struct {
    const float
        *weight; /* [conv_c][in_c][k][k] | [conv_c][in_c] | [c][k][k] | [conv_c][in_c / groups] */
    const float *bias; /* [conv_c]; where norm is BATCH the batch norm is already folded into weight
                          and bias */
    const float *norm_weight, *norm_bias; /* RMS: [out_c] */
} DcaeLayerWeights;

/* Are all tensors of a program there, in the shapes that its layers have? Asked before memory is
 * taken, since a configuration can describe far more weights than the file holds. Errors: WEIGHTS.
 * Thread-safe. */
gboolean dcae_layer_weights_check(const DcaeModel *model, const DcaeProgram *program,
                                  GError **error);

/* Reads a layer. The arrays are owned by `weights`, which dcae_layer_weights_clear() empties, also
 * after a failure. Errors: WEIGHTS, MEMORY. Thread-safe. */
gboolean dcae_layer_weights_read(DcaeModel *model, const DcaeLayer *layer,
                                 DcaeLayerWeights *weights, GError **error);
void dcae_layer_weights_clear(DcaeLayerWeights *weights);

#endif
