/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * device.h - for tests that launch single kernels of the backend: a context, memory that goes with
 * it, numbers of the module's type. Whatever fails ends the test. Knows nothing of any kernel.
 */
#ifndef GPUSIM_DEVICE_H
#define GPUSIM_DEVICE_H

#include "../../cuda/cuda_context.h"

typedef struct {
    DcaeCudaContext context;
    GRand *random;
    GArray *memory;
} Device;

/* Of an older run, to which the stand-in would add. */
void device_forget_coverage(void);

void device_open(Device *d, DcaePrecision precision);
void device_close(Device *d);

/* Memory that lives as long as the device is open. */
CUdeviceptr device_upload(Device *d, gconstpointer data, gsize bytes);
/* Behind all launches. */
void device_download(Device *d, gpointer data, CUdeviceptr memory, gsize bytes);

void device_run(Device *d, DcaeCudaKernelId kernel, guint x, guint y, guint z, guint threads,
                void *args);

/* A number of the module's 16-bit type; f32 takes those of bf16. bits_of: `f` is such a number, and
 * neither denormal nor infinite. */
float device_value_of(const Device *d, guint16 bits);
guint16 device_bits_of(const Device *d, float f);

#endif
