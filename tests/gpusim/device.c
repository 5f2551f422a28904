/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * device.c - see device.h.
 */
#include "device.h"

#include <glib/gstdio.h>
#include <string.h>

void device_forget_coverage(void)
{
    if (g_getenv("GPUSIM_COVERAGE") != NULL)
        g_remove(g_getenv("GPUSIM_COVERAGE"));
}

void device_open(Device *d, DcaePrecision precision)
{
    const DcaeBackendParams params = {.precision = precision, .threads = 1, .device = -1};
    g_autoptr(GError) error = NULL;

    dcae_cuda_context_open(&d->context, &params, &error);
    g_assert_no_error(error);
    g_assert_true(dcae_cuda_enter(&d->context, &error));
    d->random = g_rand_new_with_seed(7);
    d->memory = g_array_new(FALSE, FALSE, sizeof(CUdeviceptr));
}

void device_close(Device *d)
{
    for (guint i = 0; i < d->memory->len; i++)
        d->context.cu->cuMemFree_v2(g_array_index(d->memory, CUdeviceptr, i));
    g_array_unref(d->memory);
    g_rand_free(d->random);
    dcae_cuda_leave(&d->context);
    dcae_cuda_context_close(&d->context);
}

CUdeviceptr device_upload(Device *d, gconstpointer data, gsize bytes)
{
    CUdeviceptr memory;

    g_assert_cmpint(d->context.cu->cuMemAlloc_v2(&memory, bytes), ==, 0);
    g_assert_cmpint(d->context.cu->cuMemcpyHtoD_v2(memory, data, bytes), ==, 0);
    g_array_append_val(d->memory, memory);
    return memory;
}

void device_download(Device *d, gpointer data, CUdeviceptr memory, gsize bytes)
{
    g_assert_cmpint(d->context.cu->cuMemcpyDtoHAsync_v2(data, memory, bytes, NULL), ==, 0);
    g_assert_cmpint(d->context.cu->cuStreamSynchronize(NULL), ==, 0);
}

void device_run(Device *d, DcaeCudaKernelId kernel, guint x, guint y, guint z, guint threads,
                void *args)
{
    void *arguments[] = {args};

    g_assert_cmpint(
        d->context.cu->cuLaunchKernel(d->context.kernel[kernel], x, y, z, threads, 1, 1,
                                      dcae_cuda_kernel_shared(kernel, d->context.precision), NULL,
                                      arguments, NULL),
        ==, 0);
}

/* What the exponents of f32 and f16 differ by. */
#define F16_EXPONENT (112u << 23)

float device_value_of(const Device *d, guint16 bits)
{
    guint32 sign = (bits & 0x8000u) << 16, digits = bits & 0x7fffu;
    gboolean f16 = d->context.precision == DCAE_PRECISION_F16;
    guint32 wide = f16 ? (digits << 13) + F16_EXPONENT : digits << 16;
    float f;

    if (f16 && digits < 0x400) /* zero and denormal numbers */
        return (float)digits * (sign ? -0x1p-24f : 0x1p-24f);
    wide |= sign;
    memcpy(&f, &wide, sizeof f);
    return f;
}

guint16 device_bits_of(const Device *d, float f)
{
    guint32 wide;

    memcpy(&wide, &f, sizeof wide);
    if (d->context.precision != DCAE_PRECISION_F16 || f == 0)
        return (guint16)(wide >> 16);
    return (guint16)((wide >> 16 & 0x8000) | ((wide & 0x7fffffff) - F16_EXPONENT) >> 13);
}
