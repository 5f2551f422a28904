/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_launch.h - which kernels a step of the plan launches, with which arguments and which grid.
 * Pure computation: nothing here calls the driver, so that tests can look at every launch. Read
 * next: kernels/args.h.
 */
#ifndef DCAE_CUDA_LAUNCH_H
#define DCAE_CUDA_LAUNCH_H

#include "cuda_types.h"
#include "dcae_backend.h"
#include "kernels/args.h"

#define DCAE_CUDA_KERNELS(X)  \
    X(CONV, conv)             \
    X(CONV_WIDE, conv_wide)   \
    X(CONV_FEW, conv_few)     \
    X(CONV_ADD, conv_add)     \
    X(DWCONV, dwconv)         \
    X(GROUPED, grouped)       \
    X(NORM, norm)             \
    X(ATTN_SUM, attn_sum)     \
    X(ATTN_ADD, attn_add)     \
    X(ATTN_APPLY, attn_apply) \
    X(BLEND, blend)           \
    X(PIXELS_IN, pixels_in)   \
    X(PIXELS_OUT, pixels_out) \
    X(LATENT_IN, latent_in)   \
    X(LATENT_OUT, latent_out)

/* DCAE_KERNEL_CONV is the function dcae_k_conv of a module, and so on. */
typedef enum {
#define DCAE_KERNEL_ID(id, name) DCAE_KERNEL_##id,
    DCAE_CUDA_KERNELS(DCAE_KERNEL_ID)
#undef DCAE_KERNEL_ID
        DCAE_N_CUDA_KERNELS
} DcaeCudaKernelId;

/* How a CONV or LINEAR is a matrix product. */
typedef struct {
    guint place, taps, phases; /* DCAE_PLACE_…; taps in one direction */
    guint in_padded, k, columns, up_c;
    guint parts, part_stride; /* of an input pixel's channels and their weights: 1, or 3 (args.h) */
    gboolean fused_norm;      /* else the norm and the residual are a pass of their own */
    gboolean few;             /* CONV_FEW: columns are taps × channels, k one pixel's channels */
} DcaeCudaProduct;

DcaeCudaProduct dcae_cuda_product(const DcaeLayer *layer, DcaePrecision precision);
/* Channel of the layer's weights that column `column` is, or -1 where it is padding. */
gint dcae_cuda_product_channel(const DcaeLayer *layer, const DcaeCudaProduct *product,
                               guint column);

/* A layer's packed weights in device memory; 0 where there is none. */
typedef struct {
    CUdeviceptr weight, bias, norm_weight, norm_bias;
} DcaeCudaLayer;

/* One step on some images of a batch. */
typedef struct {
    const DcaePlan *plan;
    const DcaeStep *step; /* a RUN step */
    DcaePrecision precision;
    CUdeviceptr arena, workspace;
    const DcaeCudaLayer *layers; /* of the program; NULL where no op of the step has weights */
    guint image, images; /* images [image, image + images); ops that are not batched get one */
    const DcaeKernelImage *picture; /* PIXELS_*: in device memory */
    const DcaeLatent *latent;       /* LATENT_*: shape and format; data is not looked at */
    CUdeviceptr latent_data, not_finite;
} DcaeCudaCall;

typedef struct {
    DcaeCudaKernelId kernel;
    guint grid[3], threads, shared; /* shared: bytes of dynamic shared memory */
    gsize args_size;
    union {
        DcaeKernelConv conv;
        DcaeKernelDwconv dwconv;
        DcaeKernelGrouped grouped;
        DcaeKernelNorm norm;
        DcaeKernelAttnSum attn_sum;
        DcaeKernelAttnApply attn_apply;
        DcaeKernelBlend blend;
        DcaeKernelPixels pixels;
        DcaeKernelLatent latent;
    } args;
} DcaeCudaLaunch;

#define DCAE_CUDA_MAX_LAUNCHES 3

/* Fills in the launches of a step, in order; returns how many. */
guint dcae_cuda_launches(const DcaeCudaCall *call, DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES]);

/* Whether the launches of a plan's steps are within what kernels count and grids take. Errors:
 * UNSUPPORTED. */
gboolean dcae_cuda_check_plan(const DcaePlan *plan, DcaePrecision precision, GError **error);

/* Whether one launch takes all images of a batch. */
gboolean dcae_cuda_is_batched(const DcaeProgram *program, const DcaeOp *op,
                              DcaePrecision precision);

/* In how many parts a product is made whose tiles would leave multiprocessors idle. Follows from
 * the whole plane of one image: bands and batches have the same bits. */
guint dcae_cuda_splits(const DcaeProgram *program, const DcaeOp *op, DcaePrecision precision);
/* Bytes of the parts of `rows` output rows of one image. */
gsize dcae_cuda_split_workspace(const DcaeProgram *program, const DcaeOp *op,
                                DcaePrecision precision, guint rows);

/* Whether modules of a precision have a kernel. */
gboolean dcae_cuda_has_kernel(DcaeCudaKernelId kernel, DcaePrecision precision);

/* Most dynamic shared memory that launches of a kernel ask for, where that is more than a kernel
 * gets unasked; else 0. */
guint dcae_cuda_kernel_shared(DcaeCudaKernelId kernel, DcaePrecision precision);

/* Rows of a chunk of ATTN_SUM for a picture w pixels wide, and the partial sums of `rows` rows. */
guint dcae_cuda_attn_rows(guint w);
gsize dcae_cuda_attn_workspace(const DcaeProgram *program, const DcaeOp *op, guint rows);

guint dcae_cuda_element_size(DcaePrecision precision);

/* In bf16 values of up to so many channels are kept in two parts, and products of them take both
 * parts of value and weight: there a tile of the tensor cores is half empty, and a sum of few terms
 * shows every rounding. */
#define DCAE_NARROW 64

/* DcaeTraits.pixels in bf16: beside the narrow values those that carry the residual stream have two
 * parts, where a plane has at most a quarter of the picture's pixels and arithmetic takes longer
 * than memory. */
void dcae_cuda_pixels_bf16(const DcaeProgram *program, guint *c_stride);

#endif
