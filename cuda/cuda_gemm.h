/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_gemm.h - linear layers without anything to fuse, by cuBLAS. cuBLAS is opened at run time;
 * where there is none, the convolution kernel takes these layers too.
 *
 * cuBLAS picks its algorithm by the shape of a product, and another algorithm gives other bits. So
 * a picture is always multiplied in the same pieces: dcae_cuda_gemm_rows() rows from the top, which
 * is also where borders of bands may stand.
 */
#ifndef DCAE_CUDA_GEMM_H
#define DCAE_CUDA_GEMM_H

#include "cuda_driver.h"
#include "cuda_launch.h"

#define DCAE_CUDA_GEMM_WORKSPACE ((gsize)32 << 20)

/* Whether cuBLAS takes a layer. Opens the library at the first call. Thread-safe. */
gboolean dcae_cuda_gemm_takes(const DcaeLayer *layer, DcaePrecision precision);

/* Rows of a piece of a picture w pixels wide. */
guint dcae_cuda_gemm_rows(guint w);

/* A handle for one stream of the current context, with a workspace of DCAE_CUDA_GEMM_WORKSPACE
 * bytes that is used in stream order. */
typedef struct _DcaeCudaGemm DcaeCudaGemm;
DcaeCudaGemm *dcae_cuda_gemm_new(CUstream stream, CUdeviceptr workspace, GError **error);
void dcae_cuda_gemm_free(DcaeCudaGemm *gemm);

/* The product of a step, without norm and residual. `conv` holds the arguments that the convolution
 * kernel would get. */
gboolean dcae_cuda_gemm_run(DcaeCudaGemm *gemm, const DcaeKernelConv *conv, DcaePrecision precision,
                            guint images, GError **error);

#endif
