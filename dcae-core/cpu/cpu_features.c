/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_features.c - which of the kernel builds this processor and operating system can run. Knows
 * cpuid and xgetbv, nothing of kernels. The masks are those of the compiler flags in meson.build.
 */
#include "cpu_kernels.h"

#ifdef __x86_64__ /* as meson.build has it */
#include <cpuid.h>

/* Leaf 1, ecx */
#define BIT_FMA (1u << 12)
#define BIT_OSXSAVE (1u << 27)
#define BIT_AVX (1u << 28)
#define BIT_F16C (1u << 29)
/* Leaf 7, ebx */
#define BIT_AVX2 (1u << 5)
#define BIT_BMI2 (1u << 8)
#define BIT_AVX512F (1u << 16)
#define BIT_AVX512DQ (1u << 17)
#define BIT_AVX512BW (1u << 30)
#define BIT_AVX512VL (1u << 31)
/* Leaf 7, subleaf 1, eax */
#define BIT_AVX512_BF16 (1u << 5)
/* XCR0: the operating system saves xmm and ymm; and mask registers, upper halves, upper zmm */
#define XCR0_YMM 0x06u
#define XCR0_ZMM 0xe6u

/* An instruction by name would need -mxsave for the whole file. */
static guint32 read_xcr0(void)
{
    guint32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

DcaeIsa dcae_cpu_isa(void)
{
    const guint32 want1 = BIT_FMA | BIT_OSXSAVE | BIT_AVX | BIT_F16C;
    const guint32 want2 = BIT_AVX2 | BIT_BMI2;
    const guint32 want512 = BIT_AVX512F | BIT_AVX512DQ | BIT_AVX512BW | BIT_AVX512VL;
    guint32 a, b, c, d, leaf7, xcr0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & want1) != want1)
        return DCAE_ISA_GENERIC;
    xcr0 = read_xcr0();
    if ((xcr0 & XCR0_YMM) != XCR0_YMM || !__get_cpuid_count(7, 0, &a, &leaf7, &c, &d) ||
        (leaf7 & want2) != want2)
        return DCAE_ISA_GENERIC;
    if ((xcr0 & XCR0_ZMM) != XCR0_ZMM || (leaf7 & want512) != want512)
        return DCAE_ISA_AVX2;
    return DCAE_ISA_AVX512;
}

gboolean dcae_cpu_has_bf16(void)
{
#ifdef DCAE_HAVE_AVX512BF16
    guint32 a, b, c, d;
    return dcae_cpu_isa() >= DCAE_ISA_AVX512 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & BIT_AVX512_BF16);
#else
    return FALSE;
#endif
}

#else

DcaeIsa dcae_cpu_isa(void)
{
    return DCAE_ISA_GENERIC;
}

gboolean dcae_cpu_has_bf16(void)
{
    return FALSE;
}

#endif
