/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * small_program.c - see small_program.h.
 */
#include "small_program.h"

void small_begin(Small *s, guint h, guint w, guint c)
{
    *s = (Small){.in_c = c, .in_h = h, .in_w = w};
    s->program = (DcaeProgram){.values = s->values, .ops = s->ops};
}

guint small_value(Small *s, guint h, guint w, guint c)
{
    s->values[s->program.n_values] = (DcaeValue){.h = h, .w = w, .c = c};
    return s->program.n_values++;
}

DcaeOp *small_op(Small *s, DcaeOpKind kind)
{
    DcaeOp *op = &s->ops[s->program.n_ops++];
    *op = (DcaeOp){.kind = kind,
                   .layer_index = G_MAXUINT,
                   .label = dcae_op_kind_name(kind),
                   .in = DCAE_NO_VALUE,
                   .out = DCAE_NO_VALUE,
                   .residual = DCAE_NO_VALUE,
                   .state = DCAE_NO_VALUE,
                   .above = DCAE_NO_VALUE,
                   .left = DCAE_NO_VALUE,
                   .scale = 1};
    return op;
}

void small_output(Small *s, guint value)
{
    DcaeOp *op = small_op(s, DCAE_OP_LATENT_OUT);
    const DcaeValue *v = &s->values[value];
    op->in = value;
    s->out_c = v->c;
    s->out_h = op->frame_h = op->out_h = v->h;
    s->out_w = op->frame_w = op->out_w = v->w;
}

void small_attention(Small *s, guint in, guint heads, guint d)
{
    guint h = s->values[in].h, w = s->values[in].w;
    guint state = small_value(s, heads, d + 1, d), out = small_value(s, h, w, heads * d);

    s->values[state].state = TRUE;
    for (guint apply = 0; apply < 2; apply++) {
        DcaeOp *op = small_op(s, apply ? DCAE_OP_ATTN_APPLY : DCAE_OP_ATTN_SUM);
        op->in = in;
        op->in_c0 = apply ? 2 * heads * d : 0;
        op->heads = heads;
        op->head_dim = d;
        op->state = state;
        op->out = apply ? out : DCAE_NO_VALUE;
    }
    small_output(s, out);
}
