/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_kernels.c - fills the kernel table: every slot from the generic build, then those that
 * stronger builds bring. See cpu_kernels.h.
 */
#include "cpu_families.h"

#define FILL(suffix)                          \
    do {                                      \
        dcae_cpu_conv_##suffix(kernels);      \
        dcae_cpu_gemm_##suffix(kernels);      \
        dcae_cpu_dwconv_##suffix(kernels);    \
        dcae_cpu_attention_##suffix(kernels); \
        dcae_cpu_norm_##suffix(kernels);      \
        dcae_cpu_pixel_##suffix(kernels);     \
        dcae_cpu_blend_##suffix(kernels);     \
    } while (0)

void dcae_cpu_kernels_init(DcaeCpuKernels *kernels, DcaeIsa isa)
{
    *kernels = (DcaeCpuKernels){0};
    FILL(generic);
#ifdef DCAE_HAVE_AVX2
    if (isa < DCAE_ISA_AVX2)
        return;
    FILL(avx2);
#endif
#ifdef DCAE_HAVE_AVX512
    if (isa < DCAE_ISA_AVX512)
        return;
    FILL(avx512);
#endif
}
