/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * small_program.h - programs of a few ops that tests make by hand: a latent in, the ops, a latent
 * out. Knows no backend.
 */
#ifndef SMALL_PROGRAM_H
#define SMALL_PROGRAM_H

#include "dcae.h"
#include "dcae_graph.h"

typedef struct {
    DcaeProgram program; /* of the arrays below: stays where it is */
    DcaeValue values[8];
    DcaeOp ops[10];
    guint in_c, in_h, in_w, out_c, out_h, out_w; /* latents read and written */
    DcaeLatentFormat format[2];                  /* of those two */
} Small;

/* Empty, reading a latent of so many pixels and channels. */
void small_begin(Small *s, guint h, guint w, guint c);
guint small_value(Small *s, guint h, guint w, guint c);
/* An op without values, layer or state. */
DcaeOp *small_op(Small *s, DcaeOpKind kind);
/* The two passes of a linear attention over a value of 3·heads·d channels, keys and values before
 * queries, and an output of what comes out. */
void small_attention(Small *s, guint in, guint heads, guint d);
/* Writes a whole value into the latent. */
void small_output(Small *s, guint value);

#endif
