/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_norm.c - RMSNORM with every activation, channel counts around the vectors.
 */
#include "check_layer.h"

#include <math.h>

/* The sum of squares errs by a few roundings (four partial sums), the root and the division halve
 * and add to that; the activation has its own error of about five and a slope of at most 1.1. */
static double tolerance(gsize terms)
{
    return ldexp(1, -24) * (16 + 2 * sqrt((double)terms));
}

static CheckLayer norm(guint c, DcaeAct act)
{
    return (CheckLayer){.layer = {.kind = DCAE_OP_RMSNORM,
                                  .in_c = c,
                                  .conv_c = c,
                                  .out_c = c,
                                  .ksize = 1,
                                  .act = act,
                                  .norm = DCAE_NORM_RMS},
                        .define = def_norm,
                        .terms = c,
                        .tolerance = tolerance};
}

void check_norm(Check *check)
{
    static const guint channels[] = {1, 3, 8, 16, 31, 64, 100, 128};
    for (gsize i = 0; i < G_N_ELEMENTS(channels); i++) {
        for (DcaeAct act = DCAE_ACT_NONE; act <= DCAE_ACT_MISH; act++) {
            CheckLayer layer = norm(channels[i], act);
            check_layer(check, &layer, 5, 7, CHECK_NORMAL);
            for (CheckFill fill = CHECK_ZERO; fill < CHECK_N_FILLS; fill++)
                check_layer(check, &layer, 2, 3, fill);
        }
    }
}

void bench_norm(Check *check)
{
    CheckLayer layer = norm(128, DCAE_ACT_RELU), demo = norm(32, DCAE_ACT_SILU);
    bench_layer(check, &layer, 512, 512);
    bench_layer(check, &demo, 120, 160);
}
