/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_modules.c - see cuda_modules.h. The arrays are made by build_kernels.py; their architectures
 * are those of meson.build.
 */
#include "cuda_modules.h"

/* Ascending within a major version. */
#define ARCHITECTURES(X, precision) \
    X(precision, 80)                \
    X(precision, 86)                \
    X(precision, 89)                \
    X(precision, 90)                \
    X(precision, 100)               \
    X(precision, 120)

#define DECLARE(precision, arch) extern const char dcae_cuda_##precision##_sm_##arch[];
#define DECLARE_ALL(precision)        \
    ARCHITECTURES(DECLARE, precision) \
    extern const char dcae_cuda_##precision##_ptx[];
DECLARE_ALL(f32)
DECLARE_ALL(bf16)
DECLARE_ALL(f16)

#define ENTRY(precision, arch) {arch, dcae_cuda_##precision##_sm_##arch},
#define ENTRIES(precision)                 \
    {                                      \
        ARCHITECTURES(ENTRY, precision)    \
        {                                  \
            0, dcae_cuda_##precision##_ptx \
        }                                  \
    }
#define N_IMAGES 7
static const DcaeCudaImage f32_images[N_IMAGES] = ENTRIES(f32);
static const DcaeCudaImage bf16_images[N_IMAGES] = ENTRIES(bf16);
static const DcaeCudaImage f16_images[N_IMAGES] = ENTRIES(f16);

guint dcae_cuda_images(DcaePrecision precision, int major, int minor, DcaeCudaImage images[2])
{
    const DcaeCudaImage *all = precision == DCAE_PRECISION_F32    ? f32_images
                               : precision == DCAE_PRECISION_BF16 ? bf16_images
                                                                  : f16_images;
    guint n = 0;

    /* Machine code runs on later minor versions of its own major version. */
    for (guint i = N_IMAGES - 1; i-- > 0 && n == 0;)
        if (all[i].arch / 10 == major && all[i].arch % 10 <= minor)
            images[n++] = all[i];
    images[n++] = all[N_IMAGES - 1];
    return n;
}
