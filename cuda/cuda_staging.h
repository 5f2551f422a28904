/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_staging.h - how frames of the host travel to the device and back: each frame is packed into
 * pinned memory, and crosses in one copy. Pure host code.
 */
#ifndef DCAE_CUDA_STAGING_H
#define DCAE_CUDA_STAGING_H

#include "cuda_launch.h"

/* Samples of one or more components that lie interleaved in the host's memory, row by row without
 * gaps in the staging memory. */
typedef struct {
    guint8 *host;
    gssize row_stride, pixel_stride;  /* of the host; the staging memory has the same pixel_stride,
                                         or 1 where `gather` */
    gboolean gather;                  /* sample by sample, rows can't be copied as they are */
    gsize w, rows, row_bytes, offset; /* row_bytes and offset: in the staging memory */
} DcaeCudaPlane;

typedef struct {
    guint n_planes;
    DcaeCudaPlane plane[4];
    guint plane_of[4]; /* component -> plane */
    gsize delta[4];    /* and its place in the plane */
    guint n_components;
    gsize bytes;
} DcaeCudaLayout;

/* Layout of a picture that is read (or else written) by the device. */
void dcae_cuda_layout(const DcaeImage *image, gboolean read, DcaeCudaLayout *layout);
void dcae_cuda_layout_pack(const DcaeCudaLayout *layout, guint8 *staging);
void dcae_cuda_layout_unpack(const DcaeCudaLayout *layout, const guint8 *staging);

/* The picture as kernels see it. data: the staged copy in device memory; 0 where the picture itself
 * lies in device memory. */
void dcae_cuda_picture(const DcaeImage *image, gboolean read, CUdeviceptr data,
                       DcaeKernelImage *picture);

gsize dcae_cuda_latent_bytes(const DcaeLatent *latent);

#endif
