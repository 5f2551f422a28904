/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The stand-in libcublas: handles, settings and the two matrix products that the CUDA backend
 * calls, on the stand-in's device memory, in stream order, with its checks. Inputs f32, f16 or
 * bf16, sums in f32, column-major as cuBLAS has it. Data types or modes beyond that answer
 * CUBLAS_STATUS_NOT_SUPPORTED.
 */
#include <string.h>

#include "sim.h"

enum {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_ALLOC_FAILED = 3,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_INTERNAL_ERROR = 14,
    CUBLAS_STATUS_NOT_SUPPORTED = 15,
};

enum { CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14 };
enum {
    CUBLAS_COMPUTE_32F = 68,
    CUBLAS_COMPUTE_32F_PEDANTIC = 69,
    CUBLAS_COMPUTE_32F_FAST_TF32 = 77
};
enum { CUBLAS_TF32_TENSOR_OP_MATH = 3 };

typedef struct BlasHandle {
    bool alive;
    Context *context;
    CUstream stream;
    CUdeviceptr workspace;
    size_t workspace_bytes;
    int math_mode;
} BlasHandle;

/* One operand: `batches` matrices of rows x columns (as stored), columns ld apart. */
typedef struct {
    CUdeviceptr data;
    int type;
    size_t rows, columns, ld;
    long long stride;
    bool transposed;
} Matrix;

typedef struct {
    Matrix a, b, c;
    size_t m, n, k, batches;
    float alpha, beta;
    bool tf32;
} Product;

static GPtrArray *handles;

/* --- handles --- */

static unsigned report_handles(void)
{
    unsigned n = 0;
    for (guint i = 0; handles && i < handles->len; i++) {
        const BlasHandle *h = handles->pdata[i];
        if (h->alive)
            report_finding("leak: a cuBLAS handle (%p)", (const void *)h);
        n += h->alive;
    }
    return n;
}

/* Hosts may close this library before the process ends. */
__attribute__((destructor)) static void close_library(void)
{
    report_handles();
    report_add_leak_check(NULL);
}

static BlasHandle *check_handle(BlasHandle *handle, const char *call)
{
    const char *wrong = NULL;
    if (!handles || !g_ptr_array_find(handles, handle, NULL))
        wrong = "not a cuBLAS handle";
    else if (!handle->alive)
        wrong = "a cuBLAS handle that was destroyed";
    else if (handle->context != context_current())
        wrong = "a cuBLAS handle of another context than the current one";
    if (!wrong)
        return handle;
    report_finding("%s: %s (%p)", call, wrong, (void *)handle);
    return NULL;
}

#define ENTER_HANDLE(call)                       \
    ENTER(call, CUBLAS_STATUS_INTERNAL_ERROR);   \
    BlasHandle *h = check_handle(handle, #call); \
    if (!h)                                      \
    return CUBLAS_STATUS_NOT_INITIALIZED

SIM_EXPORT int cublasCreate_v2(BlasHandle **out)
{
    ENTER(cublasCreate_v2, CUBLAS_STATUS_ALLOC_FAILED);
    Context *ctx = context_current();
    if (!out || !ctx || ctx->error)
        return out ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_INVALID_VALUE;
    BlasHandle *h = g_new0(BlasHandle, 1);
    h->alive = true;
    h->context = ctx;
    if (!handles) {
        handles = g_ptr_array_new();
        report_add_leak_check(report_handles);
    }
    g_ptr_array_add(handles, h);
    *out = h;
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT int cublasDestroy_v2(BlasHandle *handle)
{
    ENTER_HANDLE(cublasDestroy_v2);
    h->alive = false;
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT int cublasSetStream_v2(BlasHandle *handle, CUstream stream)
{
    ENTER_HANDLE(cublasSetStream_v2);
    if (!stream_resolve(stream, "cublasSetStream"))
        return CUBLAS_STATUS_INVALID_VALUE;
    h->stream = stream;
    h->workspace = 0; /* as cuBLAS does: back to the default workspace */
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT int cublasSetWorkspace_v2(BlasHandle *handle, void *workspace, size_t bytes)
{
    ENTER_HANDLE(cublasSetWorkspace_v2);
    const CUdeviceptr p = (CUdeviceptr)(uintptr_t)workspace;
    if (p % 256)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes && !device_span(h->context, p, bytes, USE_RAW, "cublasSetWorkspace"))
        return CUBLAS_STATUS_INVALID_VALUE;
    h->workspace = p;
    h->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT int cublasSetMathMode(BlasHandle *handle, int mode)
{
    ENTER_HANDLE(cublasSetMathMode);
    h->math_mode = mode;
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT int cublasSetPointerMode_v2(BlasHandle *handle, int mode)
{
    ENTER_HANDLE(cublasSetPointerMode_v2);
    (void)h;
    return mode == 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

SIM_EXPORT int cublasGetVersion_v2(BlasHandle *handle, int *version)
{
    ENTER(cublasGetVersion_v2, CUBLAS_STATUS_INTERNAL_ERROR);
    (void)handle;
    *version = 130000;
    return CUBLAS_STATUS_SUCCESS;
}

SIM_EXPORT const char *cublasGetStatusName(int status)
{
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
        return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

SIM_EXPORT const char *cublasGetStatusString(int status)
{
    return cublasGetStatusName(status);
}

/* --- the product --- */

#define TILE_M 16 /* of the packed operands: two vectors of rows */
#define TILE_N 4

typedef float Vector __attribute__((vector_size(32)));

static size_t element_bytes(int type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

static float load_value(const uint8_t *p, int type, bool tf32)
{
    uint32_t word;
    uint16_t half;
    if (type == CUDA_R_32F) {
        memcpy(&word, p, 4);
        return bits_to_float(tf32 ? (word + 0x1000) & 0xffffe000 : word);
    }
    memcpy(&half, p, 2);
    return type == CUDA_R_16F ? half_to_float(half) : bf16_to_float(half);
}

static void store_value(uint8_t *p, int type, float v)
{
    const uint16_t half = type == CUDA_R_16F ? float_to_half(v) : float_to_bf16(v);
    if (type == CUDA_R_32F)
        memcpy(p, &v, 4);
    else
        memcpy(p, &half, 2);
}

/* Every column passes the checks; padding between columns is not touched. */
static uint8_t *check_matrix(const Context *ctx, const Matrix *x, size_t batch, Use use)
{
    const size_t bytes = element_bytes(x->type);
    const CUdeviceptr base = x->data + (CUdeviceptr)(x->stride * (long long)(batch * bytes));
    for (size_t j = 0; j < x->columns; j++)
        if (!device_span(ctx, base + j * x->ld * bytes, x->rows * bytes, use, "cublasGemm"))
            return NULL;
    return device_span(ctx, base, x->rows * bytes, USE_RAW, "cublasGemm");
}

/* Strips of `tile` rows of op(x): [strip][k][tile], zeros beyond the edge. outer: rows of op(x). */
static float *pack(const Matrix *x, const uint8_t *data, size_t outer, size_t k, size_t tile,
                   bool outer_is_row, bool tf32)
{
    const size_t strips = (outer + tile - 1) / tile, bytes = element_bytes(x->type);
    float *out = g_new0(float, strips *k *tile);
    for (size_t i = 0; i < outer; i++)
        for (size_t p = 0; p < k; p++) {
            const size_t at = outer_is_row ? i + p * x->ld : p + i * x->ld;
            out[(i / tile * k + p) * tile + i % tile] =
                load_value(data + at * bytes, x->type, tf32);
        }
    return out;
}

static void multiply_tile(const float *a, const float *b, size_t k, float out[TILE_N][TILE_M])
{
    Vector sum[TILE_N][2] = {0};
    for (size_t p = 0; p < k; p++) {
        Vector low, high;
        memcpy(&low, a + p * TILE_M, sizeof low);
        memcpy(&high, a + p * TILE_M + 8, sizeof high);
        _Pragma("GCC unroll 4") for (int j = 0; j < TILE_N; j++)
        {
            sum[j][0] += low * b[p * TILE_N + j];
            sum[j][1] += high * b[p * TILE_N + j];
        }
    }
    memcpy(out, sum, sizeof sum);
}

static void store_tile(const Product *p, uint8_t *c, size_t i0, size_t j0,
                       float tile[TILE_N][TILE_M])
{
    const size_t bytes = element_bytes(p->c.type);
    for (size_t j = j0; j < p->n && j < j0 + TILE_N; j++)
        for (size_t i = i0; i < p->m && i < i0 + TILE_M; i++) {
            uint8_t *at = c + (i + j * p->c.ld) * bytes;
            float v = p->alpha * tile[j - j0][i - i0];
            if (p->beta != 0.0f)
                v += p->beta * load_value(at, p->c.type, false);
            store_value(at, p->c.type, v);
        }
}

static CUresult run_product(Stream *stream, void *data)
{
    const Product *p = data;
    const Context *ctx = stream->object.context;
    for (size_t batch = 0; batch < p->batches; batch++) {
        const uint8_t *a = check_matrix(ctx, &p->a, batch, USE_READ);
        const uint8_t *b = a ? check_matrix(ctx, &p->b, batch, USE_READ) : NULL;
        if (!b || (p->beta != 0.0f && !check_matrix(ctx, &p->c, batch, USE_READ)))
            return CUDA_ERROR_LAUNCH_FAILED;
        uint8_t *c = check_matrix(ctx, &p->c, batch, USE_WRITE);
        if (!c)
            return CUDA_ERROR_LAUNCH_FAILED;
        float *pa = pack(&p->a, a, p->m, p->k, TILE_M, !p->a.transposed, p->tf32);
        float *pb = pack(&p->b, b, p->n, p->k, TILE_N, p->b.transposed, p->tf32);
        float tile[TILE_N][TILE_M];
        for (size_t i = 0; i < p->m; i += TILE_M)
            for (size_t j = 0; j < p->n; j += TILE_N) {
                multiply_tile(pa + i * p->k, pb + j * p->k, p->k, tile);
                store_tile(p, c, i, j, tile);
            }
        g_free(pa);
        g_free(pb);
    }
    report_count_blas((uint64_t)p->m * p->n * p->k * p->batches);
    return CUDA_SUCCESS;
}

static bool matrix_ok(const Matrix *x)
{
    return (x->type == CUDA_R_32F || x->type == CUDA_R_16F || x->type == CUDA_R_16BF) && x->data &&
           x->data % element_bytes(x->type) == 0;
}

static int submit_product(BlasHandle *h, const Product *request, int compute)
{
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
        compute != CUBLAS_COMPUTE_32F_FAST_TF32)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!matrix_ok(&request->a) || !matrix_ok(&request->b) || !matrix_ok(&request->c) ||
        request->a.type != request->b.type)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (request->a.ld < request->a.rows || request->b.ld < request->b.rows ||
        request->c.ld < request->c.rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    Stream *s = stream_resolve(h->stream, "cublasGemm");
    if (!s)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (s->object.context->error)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    Product *p = g_new(Product, 1);
    *p = *request;
    p->tf32 =
        p->a.type == CUDA_R_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
        (compute == CUBLAS_COMPUTE_32F_FAST_TF32 || h->math_mode == CUBLAS_TF32_TENSOR_OP_MATH);
    stream_submit(s, "cublasGemm", run_product, g_free, p);
    return CUBLAS_STATUS_SUCCESS;
}

/* The arguments of cublasGemmStridedBatchedEx, whose order the ABI gives. */
static int gemm(BlasHandle *h, int trans_a, int trans_b, int m, int n, int k, const void *alpha,
                const void *a, int a_type, int lda, long long a_stride, const void *b, int b_type,
                int ldb, long long b_stride, const void *beta, void *c, int c_type, int ldc,
                long long c_stride, int batches, int compute)
{
    if (m < 0 || n < 0 || k < 0 || batches < 0 || lda < 1 || ldb < 1 || ldc < 1 || !alpha ||
        !beta || trans_a < 0 || trans_a > 1 || trans_b < 0 || trans_b > 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!m || !n || !batches)
        return CUBLAS_STATUS_SUCCESS;
    Product p = {.m = (size_t)m, .n = (size_t)n, .k = (size_t)k, .batches = (size_t)batches};
    memcpy(&p.alpha, alpha, 4);
    memcpy(&p.beta, beta, 4);
    p.a = (Matrix){.data = (CUdeviceptr)(uintptr_t)a,
                   .type = a_type,
                   .ld = (size_t)lda,
                   .rows = trans_a ? p.k : p.m,
                   .columns = trans_a ? p.m : p.k,
                   .stride = a_stride,
                   .transposed = trans_a == 1};
    p.b = (Matrix){.data = (CUdeviceptr)(uintptr_t)b,
                   .type = b_type,
                   .ld = (size_t)ldb,
                   .rows = trans_b ? p.n : p.k,
                   .columns = trans_b ? p.k : p.n,
                   .stride = b_stride,
                   .transposed = trans_b == 1};
    p.c = (Matrix){.data = (CUdeviceptr)(uintptr_t)c,
                   .type = c_type,
                   .ld = (size_t)ldc,
                   .rows = p.m,
                   .columns = p.n,
                   .stride = c_stride};
    return submit_product(h, &p, compute);
}

SIM_EXPORT int cublasGemmStridedBatchedEx(BlasHandle *handle, int trans_a, int trans_b, int m,
                                          int n, int k, const void *alpha, const void *a,
                                          int a_type, int lda, long long a_stride, const void *b,
                                          int b_type, int ldb, long long b_stride, const void *beta,
                                          void *c, int c_type, int ldc, long long c_stride,
                                          int batches, int compute, int algorithm)
{
    ENTER_HANDLE(cublasGemmStridedBatchedEx);
    (void)algorithm;
    return gemm(h, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, a_stride, b, b_type, ldb,
                b_stride, beta, c, c_type, ldc, c_stride, batches, compute);
}

SIM_EXPORT int cublasGemmEx(BlasHandle *handle, int trans_a, int trans_b, int m, int n, int k,
                            const void *alpha, const void *a, int a_type, int lda, const void *b,
                            int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                            int compute, int algorithm)
{
    ENTER_HANDLE(cublasGemmEx);
    (void)algorithm;
    return gemm(h, trans_a, trans_b, m, n, k, alpha, a, a_type, lda, 0, b, b_type, ldb, 0, beta, c,
                c_type, ldc, 0, 1, compute);
}
