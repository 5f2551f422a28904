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
    double
        lift; /* CONV: what an RMSNorm makes of the relative error of the whole picture, 1 without
                 one. Sums err by as much at a pixel where all are small, and it divides by that */
} Definition;

double def_act(DcaeAct act, double x);

/* CONV and LINEAR. Allocates out and scale with g_new(). */
void def_conv(Definition *def);
/* DWCONV, GROUPED_LINEAR, RMSNORM: the same. */
void def_dwconv(Definition *def);
void def_grouped(Definition *def);
void def_norm(Definition *def);

/* Adds n pixels of k and v (per head 2·d channels) to the state [heads][d + 1][d]; scale: sums of
 * the terms' magnitudes. */
void def_attn_sum(const double *kv, gsize n, guint heads, guint d, double *state, double *scale);
/* q of n pixels (per head d channels) -> out, the same shape. scale: numerator's terms over the
 * denominator. */
void def_attn_apply(const double *q, gsize n, guint heads, guint d, const double *state,
                    double *out, double *scale);

/* BLEND of a tile [h][w][c] in place. above: [above_h][w][c], left: [h][left_w][c]; either may be
 * NULL. */
typedef struct {
    guint h, w, c, above_h, left_w, blend_h, blend_w;
    double *tile;
    const double *above, *left;
} DefBlend;
void def_blend(const DefBlend *blend);

/* PIXELS_IN: what the value [h][w][c] holds. */
void def_pixels_in(const DcaeOp *op, const DcaeImage *image, guint h, guint w, guint c,
                   double *out);
/* PIXELS_OUT: what sample (y, x) of component i is before rounding, from a value [h][w][c]. */
double def_pixels_out(const DcaeOp *op, const DcaeImage *image, guint w, guint c, const double *in,
                      guint i, guint y, guint x);

/* A stored latent number as double, and back: the nearest number of the format, ties to even. */
double def_latent_value(const DcaeLatent *latent, gsize i);
double def_latent_round(DcaeLatentFormat format, double x);

#endif
