/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_modules.h - the compiled kernels that are part of the library: for each precision machine
 * code for some architectures and PTX, which a driver compiles for any later one.
 */
#ifndef DCAE_CUDA_MODULES_H
#define DCAE_CUDA_MODULES_H

#include "dcae.h"

typedef struct {
    int arch;          /* 86: machine code for compute capability 8.6; 0: PTX text */
    const void *image; /* for cuModuleLoadData() */
} DcaeCudaImage;

/* The images for a device of compute capability major.minor, the best first. The last is PTX. */
guint dcae_cuda_images(DcaePrecision precision, int major, int minor, DcaeCudaImage images[2]);

#endif
