/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_families.h - the names of the kernel families' entries into the table, one set per build.
 * Needs no vocabulary, so that what fills tables can include it too.
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
DCAE_CPU_FAMILIES(avx512bf16)
DCAE_CPU_FAMILIES(emu512bf16)

/* All of a build. */
#define DCAE_CPU_FILL(kernels, suffix)       \
    do {                                     \
        DcaeCpuKernels *table_ = (kernels);  \
        dcae_cpu_conv_##suffix(table_);      \
        dcae_cpu_gemm_##suffix(table_);      \
        dcae_cpu_dwconv_##suffix(table_);    \
        dcae_cpu_attention_##suffix(table_); \
        dcae_cpu_norm_##suffix(table_);      \
        dcae_cpu_pixel_##suffix(table_);     \
        dcae_cpu_blend_##suffix(table_);     \
    } while (0)

#endif
