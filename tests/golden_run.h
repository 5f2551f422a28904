/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * golden_run.h - runs a golden case through program, plan and a backend, without the codec:
 * unrounded pictures, forced bands, any precision.
 */
#ifndef GOLDEN_RUN_H
#define GOLDEN_RUN_H

#include "cpu/cpu_kernels.h"
#include "golden_case.h"

typedef struct {
    const DcaeBackend *backend;
    DcaePrecision precision;
    DcaeIsa isa;
    const DcaeCpuKernels *cpu_kernels; /* CPU: in place of isa and precision; or NULL */
    guint threads;
    guint band_rows; /* 0: whole frames */
} GoldenWay;

typedef struct {
    float *data; /* latents, or unrounded planar pictures; of all frames */
    gsize n;
    guint bands;
} GoldenResult;

/* Runs all frames, in the batches of the case. */
GoldenResult golden_run(const GoldenCase *c, DcaeDirection direction, const GoldenWay *way);

gsize golden_latent_floats(const GoldenCase *c);
/* Arrays of `frames` views into one block of memory; free with g_free(). */
DcaeImage *golden_image_views(guint8 *pixels, guint frames, guint w, guint h);
DcaeLatent *golden_latent_views(float *data, guint frames, guint c, guint h, guint w);

#endif
