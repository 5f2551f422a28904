/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The stand-in libcublas against a product in double precision, over types, transpositions and odd
 * sizes, and its checks.
 */
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "test_host.h"

typedef void *BlasHandle;
enum { R_32F = 0, R_16F = 2, R_16BF = 14, COMPUTE_32F = 68, COMPUTE_PEDANTIC = 69 };

#define BLAS_FUNCTIONS(X)                                                                       \
    X(cublasCreate_v2, (BlasHandle *))                                                          \
    X(cublasDestroy_v2, (BlasHandle))                                                           \
    X(cublasSetStream_v2, (BlasHandle, CUstream))                                               \
    X(cublasSetWorkspace_v2, (BlasHandle, void *, size_t))                                      \
    X(cublasGemmEx, (BlasHandle, int, int, int, int, int, const void *, const void *, int, int, \
                     const void *, int, int, const void *, void *, int, int, int, int))         \
    X(cublasGemmStridedBatchedEx,                                                               \
      (BlasHandle, int, int, int, int, int, const void *, const void *, int, int, long long,    \
       const void *, int, int, long long, const void *, void *, int, int, long long, int, int,  \
       int))

#define DECLARE_BLAS(name, arguments) int(*name) arguments;
static struct {
    BLAS_FUNCTIONS(DECLARE_BLAS)
} blas;

static void open_blas(void)
{
    if (blas.cublasCreate_v2)
        return;
    void *library = dlopen("libcublas.so.13", RTLD_NOW);
    if (!library)
        g_error("%s", dlerror());
#define LOOK_UP_BLAS(name, arguments)             \
    *(void **)&blas.name = dlsym(library, #name); \
    g_assert_nonnull(blas.name);
    BLAS_FUNCTIONS(LOOK_UP_BLAS)
    g_assert_nonnull(dlopen("libcublas.so.12", RTLD_NOW));
}

typedef struct {
    int m, n, k, trans_a, trans_b, type, batches;
    float alpha, beta;
} Case;

/* Values with few bits: exact in every format. */
static void *random_matrix(gsize n, int type, double *values)
{
    void *out = g_malloc(n * 4);
    for (gsize i = 0; i < n; i++) {
        const float f = (float)((int)(random_word() >> 4 & 15) - 8) / 4.0f;
        guint32 word;
        values[i] = f;
        memcpy(&word, &f, 4);
        const guint32 magnitude = word & 0x7fffffff;
        if (type == R_32F)
            ((float *)out)[i] = f;
        else if (type == R_16BF)
            ((guint16 *)out)[i] = (guint16)(word >> 16);
        else
            ((guint16 *)out)[i] =
                (guint16)((word >> 16 & 0x8000) |
                          (magnitude ? (magnitude >> 13) - ((127 - 15) << 10) : 0));
    }
    return out;
}

static double element(const double *x, int i, int j, int ld, int transposed)
{
    return transposed ? x[j + i * ld] : x[i + j * ld];
}

static void check_product(const Case *c, const double *a, int lda, const double *b, int ldb,
                          const double *old, const float *out, int ldc)
{
    for (int j = 0; j < c->n; j++)
        for (int i = 0; i < c->m; i++) {
            double want = c->beta * old[i + j * ldc];
            for (int p = 0; p < c->k; p++)
                want += c->alpha * element(a, i, p, lda, c->trans_a) *
                        element(b, p, j, ldb, c->trans_b);
            /* all terms are multiples of 1/64 and small: exact in f32 */
            g_assert_cmpfloat(out[i + j * ldc], ==, (float)want);
        }
}

static void run_case(BlasHandle handle, const Case *c)
{
    const int lda = (c->trans_a ? c->k : c->m) + 3, ldb = (c->trans_b ? c->n : c->k) + 1;
    const int ldc = c->m + 2, size = c->type == R_32F ? 4 : 2;
    const gsize na = (gsize)(lda * (c->trans_a ? c->m : c->k)), nc = (gsize)(ldc * c->n);
    const gsize nb = (gsize)(ldb * (c->trans_b ? c->k : c->n)), batches = (gsize)c->batches;
    double *va = g_new(double, na *batches), *vb = g_new(double, nb *batches);
    double *vc = g_new(double, nc *batches);
    void *a = random_matrix(na * batches, c->type, va),
         *b = random_matrix(nb * batches, c->type, vb);
    float *out = random_matrix(nc * batches, R_32F, vc);
    CUdeviceptr pa = upload(a, na * batches * (gsize)size),
                pb = upload(b, nb * batches * (gsize)size);
    CUdeviceptr pc = upload(out, nc * batches * 4);
    g_assert_cmpint(blas.cublasGemmStridedBatchedEx(handle, c->trans_a, c->trans_b, c->m, c->n,
                                                    c->k, &c->alpha, (void *)pa, c->type, lda,
                                                    (long long)na, (void *)pb, c->type, ldb,
                                                    (long long)nb, &c->beta, (void *)pc, R_32F, ldc,
                                                    (long long)nc, c->batches, COMPUTE_32F, -1),
                    ==, 0);
    OK(cu.cuMemcpyDtoH_v2(out, pc, nc * batches * 4));
    for (gsize i = 0; i < batches; i++)
        check_product(c, va + i * na, lda, vb + i * nb, ldb, vc + i * nc, out + i * nc, ldc);
    OK(cu.cuMemFree_v2(pa));
    OK(cu.cuMemFree_v2(pb));
    OK(cu.cuMemFree_v2(pc));
    g_free(va);
    g_free(vb);
    g_free(vc);
    g_free(a);
    g_free(b);
    g_free(out);
}

static void test_products(void)
{
    static const int types[] = {R_32F, R_16F, R_16BF};
    Fixture f;
    BlasHandle handle;
    fixture_begin(&f, "mistakes.ptx");
    open_blas();
    g_assert_cmpint(blas.cublasCreate_v2(&handle), ==, 0);
    random_seed(11);
    for (int i = 0; i < 24; i++) {
        const Case c = {.m = 1 + i * 5 % 37,
                        .n = 1 + i * 7 % 19,
                        .k = 1 + i * 11 % 41,
                        .trans_a = i & 1,
                        .trans_b = i >> 1 & 1,
                        .type = types[i % 3],
                        .batches = 1 + i % 3,
                        .alpha = i % 5 ? 1.0f : -0.5f,
                        .beta = i % 4 ? 0.0f : 2.0f};
        run_case(handle, &c);
    }
    g_assert_cmpint(blas.cublasDestroy_v2(handle), ==, 0);
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

static int multiply(BlasHandle handle, int m, int n, int k, CUdeviceptr a, CUdeviceptr b,
                    CUdeviceptr c)
{
    const float one = 1.0f, zero = 0.0f;
    return blas.cublasGemmEx(handle, 0, 0, m, n, k, &one, (void *)a, R_32F, m, (void *)b, R_32F, k,
                             &zero, (void *)c, R_32F, m, COMPUTE_PEDANTIC, -1);
}

/* A product with one thing wrong is found when it runs, and the context stays broken: one fixture
 * each. */
static void run_mistake(int n, bool written, const char *report)
{
    Fixture f;
    BlasHandle handle;
    float x[64] = {0};
    fixture_begin(&f, "mistakes.ptx");
    g_assert_cmpint(blas.cublasCreate_v2(&handle), ==, 0);
    CUdeviceptr a = upload(x, 256), b = upload(written ? x : NULL, 256), c = upload(NULL, 256);
    g_assert_cmpint(multiply(handle, 8, n, 8, a, b, c), ==, 0);
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("gemm", report);
    cu.cuMemFree_v2(a);
    cu.cuMemFree_v2(b);
    cu.cuMemFree_v2(c);
    blas.cublasDestroy_v2(handle);
    g_assert_cmpint(blas.cublasSetStream_v2(handle, NULL), !=, 0);
    expect_report("handle", "cuBLAS handle that was destroyed");
    fixture_end(&f);
}

static void test_blas_mistakes(void)
{
    Fixture f;
    BlasHandle handle;
    open_blas();
    run_mistake(9, true, "cublasGemm: out of bounds");
    run_mistake(8, false, "cublasGemm: read of device memory that was never written");

    fixture_begin(&f, "mistakes.ptx");
    g_assert_cmpint(blas.cublasCreate_v2(&handle), ==, 0);
    cu.report_leaks();
    expect_report("leak", "leak: a cuBLAS handle");
    g_assert_cmpint(multiply(handle, 1, 0, 1, 0, 0, 0), ==, 0);
    g_assert_cmpint(multiply(handle, 1, 1, 1, 0, 0, 0), !=, 0);
    cu.fail("cublasGemmEx", 1, 0);
    g_assert_cmpint(multiply(handle, 1, 0, 1, 0, 0, 0), !=, 0);
    CUdeviceptr workspace = upload(NULL, 4096);
    g_assert_cmpint(blas.cublasSetWorkspace_v2(handle, (void *)workspace, 4096), ==, 0);
    g_assert_cmpint(blas.cublasSetWorkspace_v2(handle, (void *)workspace, 4097), !=, 0);
    expect_report("workspace", "cublasSetWorkspace: out of bounds");
    cu.cuMemFree_v2(workspace);
    blas.cublasDestroy_v2(handle);
    fixture_end(&f);
}

void add_blas_tests(void)
{
    g_test_add_func("/gpusim/blas/products", test_products);
    g_test_add_func("/gpusim/blas/mistakes", test_blas_mistakes);
}
