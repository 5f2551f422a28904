/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_case.h - the golden cases of tests/golden: loading one, and running it through program,
 * plan and a backend. golden/README.md says what a case holds.
 */
#ifndef GOLDEN_CASE_H
#define GOLDEN_CASE_H

#include "dcae_backend.h"

typedef struct {
    char *name;
    DcaeModel *model;
    DcaeGeometry encode, decode;
    guint frames;
    guint8 *pixels;              /* [frames][height][width][3] */
    float *latents, *latents_in; /* [frames][c][h][w] */
    float *decoded;              /* [frames][3][decoded_h][decoded_w] */
    guint decoded_h, decoded_w;
    guint latent_c, latent_h, latent_w; /* of latents */
} GoldenCase;

typedef struct {
    const DcaeBackend *backend;
    DcaePrecision precision;
    DcaeIsa isa;
    guint threads;
    guint band_rows; /* 0: whole frames */
} GoldenWay;

typedef struct {
    float *data; /* latents, or unrounded planar pictures; of all frames */
    gsize n;
    guint bands;
} GoldenResult;

/* Names a directory below DCAE_TEST_DATA/golden. */
GoldenCase *golden_case_load(const char *name);
void golden_case_free(GoldenCase *c);

/* Runs all frames, in the batches of the case. */
GoldenResult golden_run(const GoldenCase *c, DcaeDirection direction, const GoldenWay *way);

double golden_relative_error(const float *got, const float *wanted, gsize n);

gsize golden_latent_floats(const GoldenCase *c);
/* Arrays of `frames` views into one block of memory. */
DcaeImage *golden_image_views(guint8 *pixels, guint frames, guint w, guint h);
DcaeLatent *golden_latent_views(float *data, guint frames, guint c, guint h, guint w);

#endif
