/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_context.c - devices, contexts and modules of kernels. See cuda_context.h.
 */
#include "cuda_context.h"

#include "cuda_modules.h"

/* Tensor cores with bf16, cp.async and 99 KiB of shared memory a block begin here. */
#define LEAST_MAJOR 8

static gboolean get_capability(const DcaeCudaDriver *cu, CUdevice device, int *major, int *minor,
                               GError **error)
{
    return CU(cu, error, cuDeviceGetAttribute, major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
              device) &&
           CU(cu, error, cuDeviceGetAttribute, minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
              device);
}

/* The device of the caller's context, or else the one that was asked for. */
static gboolean find_device(const DcaeCudaDriver *cu, const DcaeBackendParams *params,
                            CUdevice *device, GError **error)
{
    int count = 0;

    if (params->cuda_context != NULL) {
        if (!CU(cu, error, cuCtxPushCurrent_v2, params->cuda_context))
            return FALSE;
        gboolean ok = CU(cu, error, cuCtxGetDevice, device);
        cu->cuCtxPopCurrent_v2(NULL);
        return ok;
    }
    if (!CU(cu, error, cuDeviceGetCount, &count))
        return FALSE;
    if (count == 0 || params->device >= count) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "CUDA device %d does not exist: the driver finds %d", MAX(params->device, 0),
                    count);
        return FALSE;
    }
    return CU(cu, error, cuDeviceGet, device, MAX(params->device, 0));
}

static gboolean check_device(const DcaeCudaDriver *cu, CUdevice device, int *major, int *minor,
                             GError **error)
{
    if (!get_capability(cu, device, major, minor, error))
        return FALSE;
    if (*major >= LEAST_MAJOR)
        return TRUE;
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                "the CUDA device has compute capability %d.%d; 8.0 (Ampere) or later is needed",
                *major, *minor);
    return FALSE;
}

gboolean dcae_cuda_probe(const DcaeBackendParams *params, GError **error)
{
    const DcaeCudaDriver *cu = dcae_cuda_driver(error);
    CUdevice device;
    int major, minor;

    return cu != NULL && find_device(cu, params, &device, error) &&
           check_device(cu, device, &major, &minor, error);
}

gboolean dcae_cuda_enter(const DcaeCudaContext *context, GError **error)
{
    return CU(context->cu, error, cuCtxPushCurrent_v2, context->context);
}

void dcae_cuda_leave(const DcaeCudaContext *context)
{
    context->cu->cuCtxPopCurrent_v2(NULL);
}

/* An older driver than the compiler says either, by what it lacks: the architecture, or the format
 * of the machine code. */
static gboolean is_unknown_code(CUresult code)
{
    return code == CUDA_ERROR_NO_BINARY_FOR_GPU || code == CUDA_ERROR_INVALID_IMAGE;
}

/* Loads the first image that the driver accepts: one that refuses the machine code compiles the
 * PTX. */
static gboolean load_module(DcaeCudaContext *c, int major, int minor, GError **error)
{
    DcaeCudaImage images[2];
    guint n = dcae_cuda_images(c->precision, major, minor, images);

    for (guint i = 0; i < n; i++) {
        CUresult code = c->cu->cuModuleLoadData(&c->module, images[i].image);
        if (code == CUDA_SUCCESS)
            return TRUE;
        c->module = NULL;
        if (i == n - 1 || !is_unknown_code(code))
            return dcae_cuda_check(c->cu, code, "cuModuleLoadData", error);
    }
    return FALSE;
}

static gboolean find_kernels(DcaeCudaContext *c, GError **error)
{
    static const char *const names[DCAE_N_CUDA_KERNELS] = {
#define NAME(id, name) "dcae_k_" #name,
        DCAE_CUDA_KERNELS(NAME)
#undef NAME
    };

    for (guint i = 0; i < DCAE_N_CUDA_KERNELS; i++) {
        guint shared = dcae_cuda_kernel_shared(i, c->precision);
        if (!dcae_cuda_has_kernel(i, c->precision))
            continue;
        if (!CU(c->cu, error, cuModuleGetFunction, &c->kernel[i], c->module, names[i]))
            return FALSE;
        if (shared > 0 && !CU(c->cu, error, cuFuncSetAttribute, c->kernel[i],
                              CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared))
            return FALSE;
    }
    return TRUE;
}

gboolean dcae_cuda_context_open(DcaeCudaContext *c, const DcaeBackendParams *params, GError **error)
{
    int major, minor;

    *c = (DcaeCudaContext){.cu = dcae_cuda_driver(error), .precision = params->precision};
    if (c->cu == NULL || !find_device(c->cu, params, &c->device, error) ||
        !check_device(c->cu, c->device, &major, &minor, error))
        return FALSE;
    if (params->cuda_context != NULL) {
        c->context = params->cuda_context;
    } else {
        if (!CU(c->cu, error, cuDevicePrimaryCtxRetain, &c->context, c->device))
            return FALSE;
        c->is_primary = TRUE;
    }
    if (!dcae_cuda_enter(c, error))
        return FALSE;
    gboolean ok = load_module(c, major, minor, error) && find_kernels(c, error);
    dcae_cuda_leave(c);
    return ok;
}

void dcae_cuda_context_close(DcaeCudaContext *c)
{
    if (c->module != NULL && dcae_cuda_enter(c, NULL)) {
        c->cu->cuModuleUnload(c->module);
        dcae_cuda_leave(c);
    }
    if (c->is_primary)
        c->cu->cuDevicePrimaryCtxRelease_v2(c->device);
    *c = (DcaeCudaContext){0};
}

gboolean dcae_cuda_alloc(const DcaeCudaContext *c, gsize bytes, const char *what,
                         const char *advice, CUdeviceptr *memory, GError **error)
{
    CUresult code = c->cu->cuMemAlloc_v2(memory, MAX(bytes, 1));
    size_t available = 0, total = 0;

    if (code == CUDA_SUCCESS)
        return TRUE;
    *memory = 0;
    if (code != CUDA_ERROR_OUT_OF_MEMORY)
        return dcae_cuda_check(c->cu, code, "cuMemAlloc_v2", error);
    c->cu->cuMemGetInfo_v2(&available, &total);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                "no device memory for %s: %" G_GSIZE_FORMAT
                " MiB wanted from cuMemAlloc_v2, %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT
                " MiB free%s",
                what, (bytes >> 20) + 1, available >> 20, total >> 20,
                advice[0] != '\0' ? advice : DCAE_CUDA_OTHER_DEVICE);
    return FALSE;
}
