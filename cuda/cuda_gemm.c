/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_gemm.c - see cuda_gemm.h.
 */
#include "cuda_gemm.h"

#include <dlfcn.h>

#include "dcae_tensor.h"

/* Pixels of a piece: enough to fill a large device at a few hundred output channels. */
#define PIECE_PIXELS 16384

/* Name in the library, arguments. */
#define CUBLAS_CALLS(X)                                                                          \
    X(cublasCreate_v2, (cublasHandle_t * handle))                                                \
    X(cublasDestroy_v2, (cublasHandle_t handle))                                                 \
    X(cublasSetStream_v2, (cublasHandle_t handle, CUstream stream))                              \
    X(cublasSetMathMode, (cublasHandle_t handle, int mode))                                      \
    X(cublasSetWorkspace_v2, (cublasHandle_t handle, void *workspace, size_t bytes))             \
    X(cublasGemmEx,                                                                              \
      (cublasHandle_t handle, int trans_a, int trans_b, int m, int n, int k, const void *alpha,  \
       const void *a, int a_type, int lda, const void *b, int b_type, int ldb, const void *beta, \
       void *c, int c_type, int ldc, int compute, int algorithm))

typedef struct {
#define MEMBER(name, arguments) cublasStatus_t(*name) arguments;
    CUBLAS_CALLS(MEMBER)
#undef MEMBER
} Cublas;

struct _DcaeCudaGemm {
    const Cublas *blas;
    cublasHandle_t handle;
};

static gboolean check(cublasStatus_t status, const char *call, GError **error)
{
    if (status == CUBLAS_STATUS_SUCCESS)
        return TRUE;
    gboolean memory = status == CUBLAS_STATUS_ALLOC_FAILED;
    const char *hint = memory ? " (out of memory)" DCAE_CUDA_OTHER_DEVICE
                       : status == CUBLAS_STATUS_NOT_INITIALIZED
                           ? " (not initialized; is cuBLAS newer than the driver?)"
                           : "";
    g_set_error(error, DCAE_ERROR, memory ? DCAE_ERROR_MEMORY : DCAE_ERROR_BACKEND,
                "the cuBLAS call %s failed with status %d%s", call, status, hint);
    return FALSE;
}

#define BLAS(blas, error, call, ...) check((blas)->call(__VA_ARGS__), #call, error)

/* Fills the table; FALSE where the library lacks a function. */
static gboolean find_calls(void *library, Cublas *blas)
{
#define FIND(name, arguments)                                \
    *(void **)(gpointer)&blas->name = dlsym(library, #name); \
    if (blas->name == NULL)                                  \
        return FALSE;
    CUBLAS_CALLS(FIND)
#undef FIND
    return TRUE;
}

/* The newest cuBLAS there is, or NULL. The answer is the same ever after. */
static const Cublas *get_blas(void)
{
    static const char *const names[] = {"libcublas.so.13", "libcublas.so.12"};
    static Cublas blas;
    static gsize state; /* 1: there is one, 2: there is none */

    if (g_once_init_enter(&state)) {
        gboolean found = FALSE;
        for (guint i = 0; i < G_N_ELEMENTS(names) && !found; i++) {
            void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
            found = library != NULL && find_calls(library, &blas);
            if (library != NULL && !found)
                dlclose(library);
        }
        g_once_init_leave(&state, found ? 1 : 2);
    }
    return state == 1 ? &blas : NULL;
}

gboolean dcae_cuda_gemm_takes(const DcaeLayer *layer, DcaePrecision precision)
{
    if (layer == NULL || layer->kind != DCAE_OP_LINEAR || precision == DCAE_PRECISION_F32)
        return FALSE;
    if (precision == DCAE_PRECISION_BF16 && MIN(layer->in_c, layer->conv_c) <= DCAE_NARROW)
        return FALSE; /* values of two parts */
    gboolean norm = layer->norm == DCAE_NORM_RMS;
    if (layer->bias || layer->act != DCAE_ACT_NONE || layer->shuffle != DCAE_SHUFFLE_NONE ||
        layer->shortcut != DCAE_SHORTCUT_NONE || layer->norm == DCAE_NORM_BATCH ||
        (layer->residual && !norm))
        return FALSE;
    return !dcae_cuda_product(layer, precision).fused_norm && get_blas() != NULL;
}

guint dcae_cuda_gemm_rows(guint w)
{
    return dcae_ceil_div(PIECE_PIXELS, w);
}

DcaeCudaGemm *dcae_cuda_gemm_new(CUstream stream, CUdeviceptr workspace, GError **error)
{
    DcaeCudaGemm *gemm = g_new0(DcaeCudaGemm, 1);

    gemm->blas = get_blas();
    if (!BLAS(gemm->blas, error, cublasCreate_v2, &gemm->handle)) {
        gemm->handle = NULL;
        goto fail;
    }
    /* Sums of a product that is split stay f32 until they are added. */
    if (BLAS(gemm->blas, error, cublasSetStream_v2, gemm->handle, stream) &&
        BLAS(gemm->blas, error, cublasSetMathMode, gemm->handle,
             CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION) &&
        BLAS(gemm->blas, error, cublasSetWorkspace_v2, gemm->handle, (void *)workspace,
             DCAE_CUDA_GEMM_WORKSPACE))
        return gemm;

fail:
    dcae_cuda_gemm_free(gemm);
    return NULL;
}

void dcae_cuda_gemm_free(DcaeCudaGemm *gemm)
{
    if (gemm == NULL)
        return;
    if (gemm->handle != NULL)
        gemm->blas->cublasDestroy_v2(gemm->handle);
    g_free(gemm);
}

/* Address of the first pixel of picture row y of image n. */
static CUdeviceptr row_at(const DcaeKernelRows *rows, gint y, guint n)
{
    gint64 elements = n * rows->image_stride + (y - rows->row0) * rows->row_stride;

    return rows->data + (guint64)elements * 2;
}

/* Rows [y0, y1) of one image. cuBLAS counts by columns: pixels are columns of channels, and the
 * weights [column][k] are k rows, to be transposed. Padding of an output pixel comes from weights
 * that are 0. */
static gboolean multiply(DcaeCudaGemm *gemm, const DcaeKernelConv *a, DcaePrecision precision,
                         guint image, gint y0, gint y1, GError **error)
{
    const float one = 1.0f, zero = 0.0f;
    int type = precision == DCAE_PRECISION_BF16 ? CUDA_R_16BF : CUDA_R_16F;

    return BLAS(gemm->blas, error, cublasGemmEx, gemm->handle, CUBLAS_OP_T, CUBLAS_OP_N, a->store_c,
                (y1 - y0) * a->out.w, a->in_padded, &one, (const void *)a->weight, type, a->k,
                (const void *)row_at(&a->in, y0, image), type, a->in.pixel_stride, &zero,
                (void *)row_at(&a->out, y0, image), type, a->out.pixel_stride, CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DEFAULT);
}

gboolean dcae_cuda_gemm_run(DcaeCudaGemm *gemm, const DcaeKernelConv *a, DcaePrecision precision,
                            guint images, GError **error)
{
    gint rows = (gint)dcae_cuda_gemm_rows((guint)a->out.w);

    g_assert(a->out.low == 0);
    for (guint n = 0; n < images; n++)
        for (gint y = a->y0; y < a->y1; y += rows)
            if (!multiply(gemm, a, precision, n, y, MIN(y + rows, a->y1), error))
                return FALSE;
    return TRUE;
}
