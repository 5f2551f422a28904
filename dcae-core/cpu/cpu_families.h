/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_families.h - what kernel files share beside the vector vocabulary: the name of each family's
 * entry into the table, and where a pixel of a DcaeRows lies. Everything with a body is static
 * inline, since each including file is compiled once per instruction set.
 */
#ifndef DCAE_CPU_FAMILIES_H
#define DCAE_CPU_FAMILIES_H

#include "cpu_kernels.h"

/* Each puts the kernels of one file into the table; `suffix` is VEC_SUFFIX of that build. */
#define DCAE_CPU_FAMILIES(suffix)                              \
    void dcae_cpu_conv_##suffix(DcaeCpuKernels *kernels);      \
    void dcae_cpu_gemm_##suffix(DcaeCpuKernels *kernels);      \
    void dcae_cpu_dwconv_##suffix(DcaeCpuKernels *kernels);    \
    void dcae_cpu_attention_##suffix(DcaeCpuKernels *kernels); \
    void dcae_cpu_norm_##suffix(DcaeCpuKernels *kernels);      \
    void dcae_cpu_pixel_##suffix(DcaeCpuKernels *kernels);     \
    void dcae_cpu_blend_##suffix(DcaeCpuKernels *kernels);

DCAE_CPU_FAMILIES(generic)
DCAE_CPU_FAMILIES(avx2)
DCAE_CPU_FAMILIES(avx512)
DCAE_CPU_FAMILIES(emu512)

/* Channel 0 of the op at pixel (y, x) of the picture; the row must be one that was provided. */
static inline float *dcae_rows_at(const DcaeRows *rows, guint y, guint x)
{
    gssize row = (gssize)y - rows->row0;
    return rows->data + row * (gssize)rows->row_stride + (gssize)(x * rows->pixel_stride);
}

/* Lanes after the op's last output channel that it must zero: those up to the pixel stride where
 * the op writes the value's last channel, else none. */
static inline gsize dcae_out_padding(const DcaeCpuCall *call)
{
    gsize c = call->program->values[call->op->out].c;
    gsize end = (gsize)call->op->out_c0 + call->out.c;
    return end == c ? call->out.pixel_stride - c : 0;
}

#endif
