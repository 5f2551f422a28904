/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_case.h - one case of tests/golden: a small random model, its settings, and what the
 * reference made of them. The file format is described in tests/golden/README.md.
 */
#ifndef GOLDEN_CASE_H
#define GOLDEN_CASE_H

#include "dcae.h"

/* Relative L2 error against the reference in f32: both sides round, each about sqrt(depth) · 1e-7 ·
 * a few; the promise to users is 2e-5, Winograd included. */
#define GOLDEN_MAX_ERROR 2e-5

typedef struct {
    char *name;
    char *path, *variant,
        *config; /* of the model, as the elements' properties take them; "" where there is none */
    DcaeModel *model;
    DcaeGeometry encode, decode;
    guint frames;
    guint8 *pixels; /* [frames][height][width][3] */
    float *latents,
        *latents_in; /* [frames][c][h][w]; latents_in has the decode geometry's h and w */
    float *decoded;  /* [frames][3][decoded_h][decoded_w] */
    guint decoded_h, decoded_w;
    guint latent_c, latent_h, latent_w; /* of latents */
} GoldenCase;

/* Names of all cases; free with g_strfreev(). */
char **golden_names(void);
/* Stops the test program where the case can't be read. */
GoldenCase *golden_load(const char *name);
void golden_free(GoldenCase *c);

double golden_error(const float *got, const float *wanted, gsize n);
/* Checks frames of RGB pixels, rows stride bytes apart, against the case's decoded pictures. */
void golden_check_pixels(const GoldenCase *c, const guint8 *pixels, gsize stride);

#endif
