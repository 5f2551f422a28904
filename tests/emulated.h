/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * emulated.h - tables of the 16-wide kernel builds on 8-wide registers, which run wherever AVX2 is.
 * Link with cpu_emulated.
 */
#ifndef EMULATED_H
#define EMULATED_H

#include "cpu/cpu_families.h"

/* precision: F32 or BF16. FALSE: not on this machine. */
static inline gboolean emulated_kernels_init(DcaeCpuKernels *kernels, DcaePrecision precision)
{
#ifdef DCAE_HAVE_AVX2
    if (dcae_cpu_isa() < DCAE_ISA_AVX2)
        return FALSE;
    if (precision == DCAE_PRECISION_BF16) {
        *kernels = (DcaeCpuKernels){.element_size = 2};
        DCAE_CPU_FILL(kernels, emu512bf16);
    } else {
        *kernels = (DcaeCpuKernels){.element_size = sizeof(float)};
        DCAE_CPU_FILL(kernels, emu512);
    }
    return TRUE;
#else
    return FALSE;
#endif
}

#endif
