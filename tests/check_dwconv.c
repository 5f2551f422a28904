/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * check_dwconv.c - DWCONV: kernel sizes with and without a fast path, gates whose halves are no
 * whole vectors, sizes around the tile of four pixels and the block of four rows.
 */
#include "check_layer.h"

#include <math.h>

/* A running sum of n products errs by at most n roundings of its terms, on average by their root;
 * four times that, four for bias and product with the gate, four for SiLU's own error. */
static double tolerance(gsize terms)
{
    return ldexp(1, -24) * (8 + 4 * sqrt((double)terms));
}

static CheckLayer depthwise(guint c, guint ksize, gboolean bias, gboolean gate)
{
    return (CheckLayer){.layer = {.kind = DCAE_OP_DWCONV,
                                  .in_c = c,
                                  .conv_c = c,
                                  .out_c = gate ? c / 2 : c,
                                  .ksize = ksize,
                                  .bias = bias,
                                  .gate = gate},
                        .define = def_dwconv,
                        .terms = (gsize)ksize * ksize,
                        .tolerance = tolerance};
}

static const struct {
    guint c, ksize;
    gboolean bias, gate;
} forms[] = {
    {1, 3, FALSE, FALSE},  {16, 3, TRUE, FALSE}, {37, 3, TRUE, FALSE},  {32, 3, TRUE, TRUE},
    {48, 3, TRUE, TRUE},   {26, 3, FALSE, TRUE}, {24, 5, FALSE, FALSE}, {34, 5, TRUE, TRUE},
    {20, 1, FALSE, FALSE}, {33, 7, TRUE, FALSE}, {22, 9, TRUE, TRUE},   {530, 5, FALSE, FALSE},
    {1100, 3, TRUE, TRUE},
};

static const guint sizes[][2] = {{1, 1}, {2, 3}, {3, 4}, {4, 5}, {5, 6}, {7, 9}, {9, 17}};

void check_dwconv(Check *check)
{
    for (gsize f = 0; f < G_N_ELEMENTS(forms); f++) {
        CheckLayer layer = depthwise(forms[f].c, forms[f].ksize, forms[f].bias, forms[f].gate);
        for (gsize s = 0; s < G_N_ELEMENTS(sizes); s++)
            check_layer(check, &layer, sizes[s][0], sizes[s][1], CHECK_NORMAL);
        for (CheckFill fill = CHECK_ZERO; fill < CHECK_N_FILLS; fill++)
            check_layer(check, &layer, 6, 10, fill);
    }
}

void bench_dwconv(Check *check)
{
    CheckLayer gate512 = depthwise(4096, 3, TRUE, TRUE), gate1024 = depthwise(8192, 3, TRUE, TRUE);
    CheckLayer scale = depthwise(1024, 5, FALSE, FALSE), any = depthwise(1024, 7, FALSE, FALSE);
    bench_layer(check, &gate512, 64, 64);
    bench_layer(check, &gate1024, 16, 16);
    bench_layer(check, &scale, 64, 64);
    bench_layer(check, &scale, 16, 16);
    bench_layer(check, &any, 16, 16);
}
