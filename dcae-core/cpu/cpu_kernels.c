/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_kernels.c - fills the kernel table: for f32 every slot from the generic build, then those
 * that stronger builds bring; for bf16 from its one build. See cpu_kernels.h.
 */
#include "cpu_families.h"

#ifdef DCAE_HAVE_AVX512BF16
static void init_bf16(DcaeCpuKernels *kernels)
{
    *kernels = (DcaeCpuKernels){.element_size = 2};
    DCAE_CPU_FILL(kernels, avx512bf16);
}
#endif

static void init_f32(DcaeCpuKernels *kernels, DcaeIsa isa)
{
    *kernels = (DcaeCpuKernels){.element_size = sizeof(float)};
    DCAE_CPU_FILL(kernels, generic);
#ifdef DCAE_HAVE_AVX2
    if (isa < DCAE_ISA_AVX2)
        return;
    DCAE_CPU_FILL(kernels, avx2);
#endif
#ifdef DCAE_HAVE_AVX512
    if (isa < DCAE_ISA_AVX512)
        return;
    DCAE_CPU_FILL(kernels, avx512);
#endif
}

void dcae_cpu_kernels_init(DcaeCpuKernels *kernels, DcaeIsa isa, DcaePrecision precision)
{
#ifdef DCAE_HAVE_AVX512BF16
    if (precision == DCAE_PRECISION_BF16) {
        init_bf16(kernels);
        return;
    }
#endif
    init_f32(kernels, isa);
}

const DcaeCpuKernels *dcae_cpu_kernels_get(DcaeIsa isa, DcaePrecision precision)
{
    static DcaeCpuKernels tables[2][DCAE_ISA_AVX512 + 1];
    static gsize filled[2][DCAE_ISA_AVX512 + 1];
    guint row = precision == DCAE_PRECISION_BF16;
    if (g_once_init_enter(&filled[row][isa])) {
        dcae_cpu_kernels_init(&tables[row][isa], isa, precision);
        g_once_init_leave(&filled[row][isa], 1);
    }
    return &tables[row][isa];
}
