/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * module.cu - all kernels of one precision as one translation unit: DCAE_F32, DCAE_BF16 or
 * DCAE_F16 is given on the command line. Read next: args.h.
 */
#include "conv.cu"
#include "conv_few.cu"

#include "attention.cu"
#include "dwconv.cu"
#include "norm.cu"
#include "pixel.cu"
