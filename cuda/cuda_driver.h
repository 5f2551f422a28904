/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_driver.h - the CUDA driver, opened at run time at first use: nothing is linked, so that the
 * library loads on machines without it. Every call goes through CU(), which names the call that
 * failed. Knows nothing of kernels or plans.
 */
#ifndef DCAE_CUDA_DRIVER_H
#define DCAE_CUDA_DRIVER_H

#include <glib.h>

#include "cuda_types.h"

/* Name in the library, arguments. The _v2 names are what cuda.h's macros stand for. */
#define DCAE_CUDA_DRIVER_CALLS(X)                                                              \
    X(cuInit, (unsigned flags))                                                                \
    X(cuDeviceGetCount, (int *count))                                                          \
    X(cuDeviceGet, (CUdevice * device, int ordinal))                                           \
    X(cuDeviceGetAttribute, (int *value, int attribute, CUdevice device))                      \
    X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                        \
    X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                         \
    X(cuCtxPushCurrent_v2, (CUcontext context))                                                \
    X(cuCtxPopCurrent_v2, (CUcontext * context))                                               \
    X(cuCtxGetDevice, (CUdevice * device))                                                     \
    X(cuMemGetInfo_v2, (size_t * available, size_t * total))                                   \
    X(cuMemAlloc_v2, (CUdeviceptr * memory, size_t bytes))                                     \
    X(cuMemFree_v2, (CUdeviceptr memory))                                                      \
    X(cuMemAllocHost_v2, (void **memory, size_t bytes))                                        \
    X(cuMemFreeHost, (void *memory))                                                           \
    X(cuMemcpyHtoD_v2, (CUdeviceptr to, const void *from, size_t bytes))                       \
    X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream)) \
    X(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))       \
    X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)) \
    X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t bytes, CUstream stream))   \
    X(cuModuleLoadData, (CUmodule * module, const void *image))                                \
    X(cuModuleUnload, (CUmodule module))                                                       \
    X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))         \
    X(cuFuncSetAttribute, (CUfunction function, int attribute, int value))                     \
    X(cuStreamCreate, (CUstream * stream, unsigned flags))                                     \
    X(cuStreamSynchronize, (CUstream stream))                                                  \
    X(cuStreamDestroy_v2, (CUstream stream))                                                   \
    X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                     \
    X(cuEventCreate, (CUevent * event, unsigned flags))                                        \
    X(cuEventRecord, (CUevent event, CUstream stream))                                         \
    X(cuEventSynchronize, (CUevent event))                                                     \
    X(cuEventElapsedTime, (float *ms, CUevent first, CUevent second))                          \
    X(cuEventDestroy_v2, (CUevent event))                                                      \
    X(cuLaunchKernel, (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, \
                       unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,  \
                       CUstream stream, void **arguments, void **extra))                       \
    X(cuGetErrorName, (CUresult code, const char **name))                                      \
    X(cuGetErrorString, (CUresult code, const char **text))

typedef struct {
#define DCAE_CUDA_MEMBER(name, arguments) CUresult(*name) arguments;
    DCAE_CUDA_DRIVER_CALLS(DCAE_CUDA_MEMBER)
#undef DCAE_CUDA_MEMBER
} DcaeCudaDriver;

/* End of a sentence about device memory that nothing smaller helps. */
#define DCAE_CUDA_OTHER_DEVICE "; end what else uses this device, or set device to another one"

/* The driver, opened and initialised at the first call that succeeds. NULL with UNSUPPORTED where
 * there is none or it lacks a function, BACKEND where it can't be initialised. Thread-safe. */
const DcaeCudaDriver *dcae_cuda_driver(GError **error);

/* TRUE for CUDA_SUCCESS; else FALSE with BACKEND, naming the call and the code, or with MEMORY,
 * which also says what helps. */
gboolean dcae_cuda_check(const DcaeCudaDriver *driver, CUresult code, const char *call,
                         GError **error);

#define CU(driver, error, call, ...) \
    dcae_cuda_check(driver, (driver)->call(__VA_ARGS__), #call, error)

#endif
