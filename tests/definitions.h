/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * definitions.h - what each kernel computes: plain loops, double sums, never optimised. The oracle
 * of the kernel tests. Pictures are dense [h][w][c] arrays of double.
 */
#ifndef DEFINITIONS_H
#define DEFINITIONS_H

#include "cpu/cpu_kernels.h"

/* One layer on one picture. out_h × out_w pixels of layer->out_c channels. */
typedef struct {
    const DcaeLayer *layer;
    const DcaeLayerWeights *weights;
    guint in_h, in_w, out_h, out_w;
    const double *in;       /* [in_h][in_w][in_c] */
    const double *residual; /* [out_h][out_w][out_c] or NULL */
    double *out;
    double *scale; /* as out: how large the terms were whose sum each output is, carried through the
                      steps after the sum. A kernel's error is judged relative to it. */
} Definition;

double def_act(DcaeAct act, double x);

/* CONV and LINEAR. Allocates out and scale with g_new(). */
void def_conv(Definition *def);

#endif
