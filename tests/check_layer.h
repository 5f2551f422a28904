/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_layer.h - checks of kernels whose output pixel (y, x) belongs to input pixel (y, x):
 * DWCONV, GROUPED_LINEAR and RMSNORM. A layer is run as a whole against its definition and cut into
 * bands bit for bit against the whole.
 */
#ifndef CHECK_LAYER_H
#define CHECK_LAYER_H

#include "checkkernels.h"

typedef struct {
    DcaeLayer layer;                  /* kind, channels, ksize, groups, bias, gate, act, norm */
    void (*define)(Definition *def);  /* its definition */
    gsize terms;                      /* products in one sum */
    double (*tolerance)(gsize terms); /* times the definition's scale */
} CheckLayer;

/* Both use check_begin() with a name made of the layer and the size. */
void check_layer(Check *check, const CheckLayer *layer, guint h, guint w, CheckFill fill);
void bench_layer(Check *check, const CheckLayer *layer, guint h, guint w);

#endif
