/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * launches.h - everything that a plan asks of the device, launch by launch, with the arithmetic and
 * the bytes that it cannot do without. From cuda_launch.c and the plan alone: no driver, no
 * weights. test_launches.c holds the numbers against what the stand-in counts.
 */
#ifndef LAUNCHES_H
#define LAUNCHES_H

#include "../../cuda/cuda_launch.h"

typedef struct {
    const DcaeOp *op; /* NULL for copies and clears */
    const char *name; /* of the kernel; "cublas", "copy", "clear" */
    gboolean blas;
    guint step, index;     /* step of the plan, and which of the step's launches */
    DcaeCudaLaunch launch; /* kernels; cublas: arguments of the convolution kernel */
    guint m, n, k;         /* cublas: pixels, columns, length */
    double multiply_adds;  /* on tensor cores, with padding of tiles; cublas: without */
    double flop;           /* beside them, on plain arithmetic: f32 additions and multiplications */
    double bytes_in, bytes_out; /* between kernel and memory, each 32-byte sector once */
} Launch;

/* Launches of one frame, in order. Free with g_array_unref(). Products that cuBLAS would take are
 * cuBLAS's where there is one (dcae_cuda_gemm_takes()). */
GArray *launches_of_plan(const DcaePlan *plan, DcaePrecision precision);

/* What dcae_cuda_backend.weights_bytes() says of a program's weights. */
gsize launches_weight_bytes(const DcaeProgram *program, DcaePrecision precision);

#endif
