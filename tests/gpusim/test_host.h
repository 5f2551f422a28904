/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What the tests of the stand-in share: the driver as a host sees it, opened at run time, one
 * context and one module per test, reports, reproducible random numbers.
 */
#pragma once

#include <glib.h>

#include "cuda_types.h"
#include "gpusim.h"

#define DRIVER_FUNCTIONS(X)                                                                    \
    X(cuInit, (unsigned))                                                                      \
    X(cuCtxCreate_v2, (CUcontext *, unsigned, CUdevice))                                       \
    X(cuCtxDestroy_v2, (CUcontext))                                                            \
    X(cuCtxSetCurrent, (CUcontext))                                                            \
    X(cuCtxSynchronize, (void))                                                                \
    X(cuModuleLoadData, (CUmodule *, const void *))                                            \
    X(cuModuleUnload, (CUmodule))                                                              \
    X(cuModuleGetFunction, (CUfunction *, CUmodule, const char *))                             \
    X(cuFuncSetAttribute, (CUfunction, int, int))                                              \
    X(cuMemAlloc_v2, (CUdeviceptr *, size_t))                                                  \
    X(cuMemFree_v2, (CUdeviceptr))                                                             \
    X(cuMemAllocHost_v2, (void **, size_t))                                                    \
    X(cuMemFreeHost, (void *))                                                                 \
    X(cuMemcpyHtoD_v2, (CUdeviceptr, const void *, size_t))                                    \
    X(cuMemcpyHtoDAsync_v2, (CUdeviceptr, const void *, size_t, CUstream))                     \
    X(cuMemcpyDtoH_v2, (void *, CUdeviceptr, size_t))                                          \
    X(cuMemcpyDtoHAsync_v2, (void *, CUdeviceptr, size_t, CUstream))                           \
    X(cuMemcpyDtoD_v2, (CUdeviceptr, CUdeviceptr, size_t))                                     \
    X(cuMemcpy2D_v2, (const CUDA_MEMCPY2D *))                                                  \
    X(cuMemsetD32_v2, (CUdeviceptr, unsigned, size_t))                                         \
    X(cuStreamCreate, (CUstream *, unsigned))                                                  \
    X(cuStreamDestroy_v2, (CUstream))                                                          \
    X(cuStreamSynchronize, (CUstream))                                                         \
    X(cuStreamWaitEvent, (CUstream, CUevent, unsigned))                                        \
    X(cuEventCreate, (CUevent *, unsigned))                                                    \
    X(cuEventRecord, (CUevent, CUstream))                                                      \
    X(cuEventSynchronize, (CUevent))                                                           \
    X(cuEventDestroy_v2, (CUevent))                                                            \
    X(cuStreamBeginCapture_v2, (CUstream, int))                                                \
    X(cuStreamEndCapture, (CUstream, void **))                                                 \
    X(cuGraphInstantiateWithFlags, (void **, void *, unsigned long long))                      \
    X(cuGraphLaunch, (void *, CUstream))                                                       \
    X(cuGraphExecDestroy, (void *))                                                            \
    X(cuGraphDestroy, (void *))                                                                \
    X(cuLaunchKernel, (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, \
                       unsigned, CUstream, void **, void **))

#define DECLARE(name, arguments) CUresult(*name) arguments;
typedef struct {
    DRIVER_FUNCTIONS(DECLARE)
    unsigned (*report_count)(void);
    const char *(*report_text)(unsigned);
    void (*reset)(void);
    void (*fail)(const char *, unsigned, int);
    void (*seed)(unsigned);
    void (*counters)(GpusimCounters *);
    unsigned (*report_leaks)(void);
    void (*coverage)(unsigned *, unsigned *);
} Driver;

extern Driver cu;

#define OK(call) g_assert_cmpint(call, ==, CUDA_SUCCESS)

typedef struct {
    CUcontext context;
    CUmodule module;
} Fixture;

/* Opens libcuda.so.1, which must be the stand-in (LD_LIBRARY_PATH). */
void open_driver(void);

/* The text of a file in the folder that GPUSIM_TEST_KERNELS names. */
char *read_kernels(const char *file);

/* Forgets reports, makes a context and loads a module into it; the end destroys both. */
void fixture_begin(Fixture *f, const char *file);
void fixture_end(Fixture *f);

void expect_no_reports(void);
/* Some report must contain the text; what names the test case. */
void expect_report(const char *what, const char *part);

/* Device memory, filled unless data is NULL. */
CUdeviceptr upload(const void *data, size_t bytes);

/* On the null stream, one-dimensional. */
void launch(const Fixture *f, const char *kernel, unsigned blocks, unsigned threads,
            void **arguments);

/* Reproducible numbers, the same on every machine; random_seed() starts a sequence. */
void random_seed(guint32 seed);
guint32 random_word(void);
float random_float(void); /* -1 to 1 */

guint16 to_bf16(float f);
float from_bf16(guint16 h);

void add_operation_tests(void); /* test_operations.c */
void add_blas_tests(void);      /* test_blas.c */
