/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_kernels.h - the table of CPU kernels and their contracts.
 *
 * One uniform call: a kernel gets a DcaeCpuCall (rows of NHWC tensors, packed weights) and runs one
 * task of it; tasks of a call are independent and may run in any order on any thread, and every
 * output value comes out with the same bits whichever rows, tasks and threads the work is cut into
 * (given row_align). Each family is one .c file, written once over vec.h and compiled once per
 * instruction set.
 */
#ifndef DCAE_CPU_KERNELS_H
#define DCAE_CPU_KERNELS_H

#include "../dcae_backend.h"
#include "../dcae_layer_weights.h"

/* In bf16, values of so many channels and products of them are kept to more than 8 bits. */
#define DCAE_CPU_NARROW 64

/* Rows of a value as they lie in memory: channel `c0` of pixel (y, x) of the picture is element
 * (y - row0) * row_stride + x * pixel_stride of data, strides in elements, data already moved to
 * c0. What an element is the table says (DcaeCpuKernels). Rows that the caller did not provide are
 * never touched; rows above 0 and from h on count as zeros. */
typedef struct {
    void *data;
    gint row0;
    guint h, w, c; /* whole picture; c: channels that the op uses */
    gsize pixel_stride, row_stride;
    gsize low; /* bf16: so far behind an element lies what rounding took off it; 0: that is lost */
} DcaeRows;

typedef struct {
    const DcaeProgram *program;
    const DcaeOp *op;
    const float
        *packed; /* this layer's packed weights, 64-byte aligned; NULL for ops without layer */
    DcaeRows in, out, residual;
    DcaeRows above, left; /* BLEND */
    float *state;  /* ATTN_*: [heads][head_dim + 1][head_dim]; row head_dim is the sum of relu(k) */
    guint skip;    /* output rows of the first row tile that lie above y0 = 0; see DcaeStep */
    guint threads; /* that tasks are for, the same for all functions of a kernel; 0 counts as 1 */
    guint y0, y1;  /* output rows (ATTN_SUM, *_OUT: rows of in) */
    const DcaeImage *image;   /* PIXELS_* */
    const DcaeLatent *latent; /* LATENT_* */
    gint *not_finite; /* *_OUT: set atomically to 1 where an output value is NaN or infinite */
} DcaeCpuCall;

/* One kernel = one op kind on one instruction set. */
typedef struct {
    /* Bytes of the packed weights; 0 where there are none. */
    gsize (*packed_bytes)(const DcaeLayer *layer);
    /* Packs. weights: see DcaeLayerWeights. */
    void (*pack)(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed);
    guint (*row_align)(const DcaeLayer *layer); /* NULL: 1 */
    guint (*row_shift)(const DcaeLayer *layer); /* see DcaeTraits; NULL: 0 */
    gsize (*n_tasks)(const DcaeCpuCall *call);
    gsize (*scratch_bytes)(
        const DcaeCpuCall *call); /* per thread; the call's addresses don't count */
    void (*run)(const DcaeCpuCall *call, gsize task, void *scratch /* 64-byte aligned */);
} DcaeCpuKernel;

typedef struct _DcaeCpuKernels {
    gsize element_size; /* bytes of an activation's element: 4, a float; 2, a bf16 */
    DcaeCpuKernel kernel[DCAE_N_OP_KINDS];
} DcaeCpuKernels;

/* Fills the table. F32: first everything with the generic build, then what stronger builds bring;
 * isa must not exceed dcae_cpu_isa(). BF16, only where dcae_cpu_has_bf16(): its one build. */
void dcae_cpu_kernels_init(DcaeCpuKernels *kernels, DcaeIsa isa, DcaePrecision precision);

/* The same, filled once and kept. Thread-safe. */
const DcaeCpuKernels *dcae_cpu_kernels_get(DcaeIsa isa, DcaePrecision precision);

/* Strongest instruction set that processor and operating system run. */
DcaeIsa dcae_cpu_isa(void);

/* Whether this machine runs the bf16 build, and there is one. Its isa is then AVX512. */
gboolean dcae_cpu_has_bf16(void);

#endif
