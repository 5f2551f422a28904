/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Test of the stand-in driver itself: fragment layouts against a plain matrix product, real kernels
 * against double precision, and planted mistakes in kernels and hosts, each of which must be
 * reported. test_operations.c has the arithmetic. --bench prints the interpreter's speed instead.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "test_host.h"

/* Values with few bits, so that f16 holds them exactly and a test needs no rounding of its own. */
static guint16 small_to_f16(int value)
{
    const int magnitude = abs(value);
    if (!magnitude)
        return 0;
    int exponent = 0;
    while (magnitude >> (exponent + 1))
        exponent++;
    return (guint16)((value < 0 ? 0x8000 : 0) | (exponent + 15) << 10 |
                     ((magnitude << (10 - exponent)) & 0x3ff));
}

/* --- fragment layouts --- */

typedef struct {
    const char *kernel;
    int depth;
    char format; /* b: bf16, h: f16, t: tf32 */
} Layout;

static const Layout layouts[] = {
    {"mma_k16_bf16", 16, 'b'}, {"mma_k16_f16", 16, 'h'}, {"mma_k8_bf16", 8, 'b'},
    {"mma_k8_f16", 8, 'h'},    {"mma_k8_tf32", 8, 't'},  {"ldmatrix_bf16", 16, 'b'},
};

/* Packs small integers in the format of the kernel. */
static void pack(const Layout *layout, const int *values, int n, guint32 *out)
{
    guint16 *half = (guint16 *)out;
    for (int i = 0; i < n; i++) {
        const float f = (float)values[i];
        if (layout->format == 't')
            memcpy(&out[i], &f, 4);
        else
            half[i] = layout->format == 'b' ? to_bf16(f) : small_to_f16(values[i]);
    }
}

static void test_layouts(void)
{
    Fixture f;
    fixture_begin(&f, "layouts.ptx");
    for (gsize i = 0; i < G_N_ELEMENTS(layouts); i++) {
        const Layout *l = &layouts[i];
        int a[16 * 16], b[16 * 8];
        guint32 packed_a[256], packed_b[128];
        float c[128], d[128];
        random_seed((guint32)i);
        for (int j = 0; j < 16 * l->depth; j++)
            a[j] = (int)(random_word() % 255) - 127;
        for (int j = 0; j < 8 * l->depth; j++)
            b[j] = (int)(random_word() % 255) - 127;
        for (int j = 0; j < 128; j++)
            c[j] = (float)(int)(random_word() % 1000);
        pack(l, a, 16 * l->depth, packed_a);
        pack(l, b, 8 * l->depth, packed_b);
        CUdeviceptr pa = upload(packed_a, sizeof packed_a), pb = upload(packed_b, sizeof packed_b);
        CUdeviceptr pc = upload(c, sizeof c), pd = upload(NULL, sizeof d);
        launch(&f, l->kernel, 1, 32, (void *[]){&pa, &pb, &pc, &pd});
        OK(cu.cuMemcpyDtoH_v2(d, pd, sizeof d));
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 8; x++) {
                double sum = c[y * 8 + x];
                for (int k = 0; k < l->depth; k++)
                    sum += (double)a[y * l->depth + k] * b[k * 8 + x];
                if (sum != d[y * 8 + x]) /* integers below 2^24: exact in f32 */
                    g_error("%s: [%d][%d] is %g instead of %g", l->kernel, y, x, d[y * 8 + x], sum);
            }
        cu.cuMemFree_v2(pa);
        cu.cuMemFree_v2(pb);
        cu.cuMemFree_v2(pc);
        cu.cuMemFree_v2(pd);
    }
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

/* --- real kernels --- */

typedef struct {
    int h, w, cin, cout, silu;
} ConvCase;

typedef struct {
    CUdeviceptr in, weight, bias, out;
    int h, w, cin, cout, silu;
} ConvArgs;

static guint16 *random_bf16(gsize n)
{
    guint16 *p = g_new(guint16, n);
    for (gsize i = 0; i < n; i++)
        p[i] = to_bf16(random_float());
    return p;
}

/* One output in double; *scale receives the sum of |products|. */
static double conv_definition(const ConvCase *c, const guint16 *in, const guint16 *weight, int y,
                              int x, int n, double *scale)
{
    double sum = 0.0;
    *scale = 0.0;
    for (int tap = 0; tap < 9; tap++) {
        const int sy = y + tap / 3 - 1, sx = x + tap % 3 - 1;
        if (sy < 0 || sy >= c->h || sx < 0 || sx >= c->w)
            continue;
        for (int k = 0; k < c->cin; k++) {
            const double p = (double)from_bf16(in[(sy * c->w + sx) * c->cin + k]) *
                             from_bf16(weight[(n * 9 + tap) * c->cin + k]);
            sum += p;
            *scale += fabs(p);
        }
    }
    return sum;
}

static void check_conv(const ConvCase *c, const guint16 *in, const guint16 *weight,
                       const float *bias, const guint16 *out)
{
    for (int y = 0; y < c->h; y++)
        for (int x = 0; x < c->w; x++)
            for (int n = 0; n < c->cout; n++) {
                double scale, want = conv_definition(c, in, weight, y, x, n, &scale) + bias[n];
                if (c->silu)
                    want = want / (1.0 + exp(-want));
                const double got = from_bf16(out[(y * c->w + x) * c->cout + n]);
                /* bf16 rounds to 2^-9; f32 sums of 9 cin products lose less than 2^-24 of the scale
                 * each */
                if (!(fabs(got - want) <= fabs(want) * 0x1p-8 + scale * c->cin * 9 * 0x1p-24))
                    g_error("conv %dx%d %d->%d: [%d][%d][%d] is %g instead of %g", c->h, c->w,
                            c->cin, c->cout, y, x, n, got, want);
            }
}

static CUresult launch_conv(const Fixture *f, const ConvCase *c, ConvArgs *args)
{
    CUfunction function;
    OK(cu.cuModuleGetFunction(&function, f->module, "sample_conv3x3"));
    *args = (ConvArgs){.in = args->in,
                       .weight = args->weight,
                       .bias = args->bias,
                       .out = args->out,
                       .h = c->h,
                       .w = c->w,
                       .cin = c->cin,
                       .cout = c->cout,
                       .silu = c->silu};
    OK(cu.cuLaunchKernel(function, (unsigned)(c->h * c->w + 63) / 64, (unsigned)(c->cout + 63) / 64,
                         1, 128, 1, 1, 3 * 128 * 32 * 2, NULL, (void *[]){args}, NULL));
    return cu.cuCtxSynchronize();
}

static void run_conv(const Fixture *f, const ConvCase *c, unsigned seeds)
{
    const gsize pixels = (gsize)c->h * (gsize)c->w, outputs = pixels * (gsize)c->cout;
    random_seed(7);
    guint16 *in = random_bf16(pixels * (gsize)c->cin),
            *weight = random_bf16((gsize)c->cout * 9 * (gsize)c->cin);
    guint16 *out = g_new(guint16, outputs), *first = NULL;
    float *bias = g_new(float, c->cout);
    for (int i = 0; i < c->cout; i++)
        bias[i] = random_float();
    ConvArgs args = {.in = upload(in, pixels * (gsize)c->cin * 2),
                     .weight = upload(weight, (gsize)c->cout * 9 * (gsize)c->cin * 2),
                     .bias = upload(bias, (gsize)c->cout * 4)};
    for (unsigned seed = 0; seed < seeds; seed++) {
        cu.seed(seed);
        args.out = upload(NULL, outputs * 2);
        OK(launch_conv(f, c, &args));
        OK(cu.cuMemcpyDtoH_v2(out, args.out, outputs * 2));
        OK(cu.cuMemFree_v2(args.out));
        if (!seed)
            check_conv(c, in, weight, bias, out);
        if (!first)
            first = g_memdup2(out, outputs * 2);
        g_assert_cmpmem(out, outputs * 2, first, outputs * 2); /* order changes nothing */
    }
    cu.cuMemFree_v2(args.in);
    cu.cuMemFree_v2(args.weight);
    cu.cuMemFree_v2(args.bias);
    g_free(in);
    g_free(weight);
    g_free(out);
    g_free(first);
    g_free(bias);
}

static void test_conv(void)
{
    static const ConvCase cases[] = {
        {1, 1, 8, 1, 0},    {3, 5, 16, 20, 1},    {9, 7, 40, 65, 0},
        {8, 16, 64, 64, 1}, {13, 11, 72, 130, 1},
    };
    Fixture f;
    fixture_begin(&f, "conv3x3.ptx");
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        run_conv(&f, &cases[i], i == 2 ? 8 : 2);
    GpusimCounters n;
    cu.counters(&n);
    g_assert_cmpuint(n.bank_conflicts, ==, 0);
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

static void test_reduction(void)
{
    static const int sizes[] = {1, 7, 255, 256, 257, 1000};
    Fixture f;
    fixture_begin(&f, "reduce.ptx");
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        int cols = sizes[i];
        enum { ROWS = 3 };
        float *in = g_new(float, ROWS *cols), out[ROWS][2];
        random_seed((guint32)cols);
        for (int j = 0; j < ROWS * cols; j++)
            in[j] = random_float();
        CUdeviceptr pin = upload(in, (gsize)(ROWS * cols) * 4), pout = upload(NULL, sizeof out);
        launch(&f, "sample_row_stats", ROWS, 256, (void *[]){&pin, &pout, &cols});
        OK(cu.cuMemcpyDtoH_v2(out, pout, sizeof out));
        for (int r = 0; r < ROWS; r++) {
            double sum = 0.0, squares = 0.0;
            for (int j = 0; j < cols; j++) {
                sum += in[r * cols + j];
                squares += (double)in[r * cols + j] * in[r * cols + j];
            }
            /* sums of at most 4 + 5 + 8 terms in a row: 2^-24 each, of numbers up to 1 */
            g_assert_cmpfloat_with_epsilon(out[r][0], sum / cols, 20 * 0x1p-24);
            g_assert_cmpfloat_with_epsilon(out[r][1], sqrt(squares / cols), 20 * 0x1p-24);
        }
        cu.cuMemFree_v2(pin);
        cu.cuMemFree_v2(pout);
        g_free(in);
    }
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

/* --- kernels with one thing wrong --- */

typedef struct {
    const char *kernel, *report;
    unsigned blocks, threads;
} Mistake;

static const Mistake mistakes[] = {
    {"beyond_the_end", "out of bounds", 1, 32},
    {"before_the_start", "out of bounds", 1, 32},
    {"null_pointer", "out of bounds", 1, 1},
    {"uninitialised_register", "register without a value", 1, 32},
    {"uninitialised_memory", "memory that was never written", 1, 1},
    {"uninitialised_shared", "shared memory that was never written", 1, 1},
    {"uninitialised_local", "local memory that was never written", 1, 1},
    {"misaligned", "misaligned", 1, 1},
    {"misaligned_shared", "misaligned", 1, 1},
    {"beyond_shared", "out of bounds", 1, 32},
    {"shared_race", "race", 1, 64},
    {"shared_race_second_round", "race", 1, 64},
    {"global_race", "race", 2, 1},
    {"global_race_read", "race", 2, 1},
    {"global_race_in_place", "race", 4, 1},
    {"global_race_warps", "race: write over what another warp", 1, 64},
    {"lane_race", "race", 1, 32},
    {"read_only_path", "read-only path", 1, 32},
    {"missing_wait", "a wait is missing", 1, 1},
    {"missing_barrier_after_wait", "", 1, 64},
    {"divergent_barrier", "divergent barrier", 1, 32},
    {"early_exit_barrier", "barrier after this lane has exited", 1, 64},
    {"warp_exits_before_barrier", "has exited", 1, 64},
    {"partial_shuffle", "never arrive", 1, 32},
    {"shuffle_from_outside", "which does not take part", 1, 32},
    {"trapped", "trap", 1, 1},
};

static void run_mistake(const Mistake *m, unsigned seed)
{
    Fixture f;
    guint32 words[32] = {0};
    fixture_begin(&f, "mistakes.ptx");
    cu.seed(seed);
    CUdeviceptr p = upload(words, sizeof words), q = upload(NULL, 64);
    launch(&f, m->kernel, m->blocks, m->threads, (void *[]){&p, &q});
    const CUresult r = cu.cuCtxSynchronize();
    expect_report(m->kernel, m->report);
    g_assert_cmpint(r, ==, CUDA_ERROR_LAUNCH_FAILED);
    g_assert_cmpint(cu.cuMemcpyDtoH_v2(words, p, 4), ==,
                    CUDA_ERROR_LAUNCH_FAILED); /* and stays so */
    cu.cuMemFree_v2(p);
    cu.cuMemFree_v2(q);
    fixture_end(&f);
}

static void test_mistakes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(mistakes); i++)
        for (unsigned seed = 0; seed < 4; seed++)
            run_mistake(&mistakes[i], seed);
}

/* The kernel that passes a turn from block to block, with the blocks in the wrong order. */
static void test_endless(void)
{
    Fixture f;
    fixture_begin(&f, "mistakes.ptx");
    cu.seed(2);
    CUdeviceptr p = upload(NULL, 64);
    OK(cu.cuMemsetD32_v2(p, 0, 2));
    launch(&f, "turns", 4, 1, (void *[]){&p});
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("turns", "does not come to an end");
    cu.cuMemFree_v2(p);
    fixture_end(&f);
}

static void test_right_kernels(void)
{
    Fixture f;
    guint32 words[32];
    fixture_begin(&f, "mistakes.ptx");
    for (unsigned seed = 0; seed < 6; seed++) {
        cu.seed(seed);
        CUdeviceptr p = upload(NULL, sizeof words);
        launch(&f, "fine", 1, 32, (void *[]){&p});
        launch(&f, "guarded", 1, 32, (void *[]){&p});
        OK(cu.cuMemcpyDtoH_v2(words, p, sizeof words));
        g_assert_cmpuint(words[15], ==, 1);
        g_assert_cmpuint(words[16], ==, 2);
        launch(&f, "jump_table", 1, 32, (void *[]){&p});
        OK(cu.cuMemcpyDtoH_v2(words, p, sizeof words));
        for (guint32 i = 0; i < 32; i++)
            g_assert_cmpuint(words[i], ==, 10 * (1 + i % 4));
        if (!(seed & 2)) { /* the waiting needs blocks in order */
            OK(cu.cuMemsetD32_v2(p, 0, 2));
            launch(&f, "turns", 4, 1, (void *[]){&p});
            OK(cu.cuMemcpyDtoH_v2(words, p, 8));
            g_assert_cmpuint(words[0], ==, 4);
            g_assert_cmpuint(words[1], ==, 6);
        }
        cu.cuMemFree_v2(p);
    }
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

/* The convolution with one line changed. */
static void run_mutant(const char *name, const char *line, int occurrence, const char *instead,
                       const char *report)
{
    const ConvCase c = {9, 7, 40, 65, 0};
    Fixture f;
    fixture_begin(&f, "conv3x3.ptx");
    cu.cuModuleUnload(f.module);
    char *text = read_kernels("conv3x3.ptx"), *at = text;
    for (int i = 0; i <= occurrence; i++) {
        at = strstr(i ? at + 1 : at, line);
        if (!at)
            g_error("mutant %s: '%s' not found", name, line);
    }
    GString *changed = g_string_new_len(text, at - text);
    g_string_append(changed, instead);
    g_string_append(changed, at + strlen(line));
    OK(cu.cuModuleLoadData(&f.module, changed->str));
    guint16 *in = random_bf16(9 * 7 * 40), *weight = random_bf16(65 * 9 * 40);
    float bias[65] = {0};
    ConvArgs args = {.in = upload(in, 9 * 7 * 40 * 2),
                     .weight = upload(weight, 65 * 9 * 40 * 2),
                     .bias = upload(bias, sizeof bias),
                     .out = upload(NULL, 9 * 7 * 65 * 2)};
    const CUresult r = launch_conv(&f, &c, &args);
    expect_report(name, report);
    g_assert_cmpint(r, ==, CUDA_ERROR_LAUNCH_FAILED);
    cu.cuMemFree_v2(args.in);
    cu.cuMemFree_v2(args.weight);
    cu.cuMemFree_v2(args.bias);
    cu.cuMemFree_v2(args.out);
    fixture_end(&f);
    g_string_free(changed, TRUE);
    g_free(text);
    g_free(in);
    g_free(weight);
}

static void test_mutants(void)
{
    run_mutant("no barrier", "bar.sync \t0;", 0, "", "shared memory that was never written");
    run_mutant("wait for one group less", "cp.async.wait_group 1;", 0, "cp.async.wait_group 2;",
               "a wait is missing");
    run_mutant("no commit", "cp.async.commit_group;", 2, "", "a wait is missing");
    run_mutant("row beyond the picture", "setp.ge.s32", 0, "setp.lt.s32", "");
}

/* --- hosts with one thing wrong --- */

static void test_refused_modules(void)
{
    static const char head[] = ".version 7.0\n.target sm_80\n.address_size 64\n";
    static const char *const bodies[] = {
        ".entry k() { .reg .f64 %d<3>; add.rz.f64 %d0, %d1, %d2; ret; }", /* rounding that is not
                                                                             implemented */
        ".entry k() { .reg .b32 %r<3>; add.s32.sat %r0, %r1, %r2; ret; }",
        ".entry k() { .reg .b32 %r<3>; frobnicate.b32 %r0, %r1; ret; }",
        ".entry k() { .reg .b64 %r<3>; add.s32 %r0, %r1, %r2; ret; }", /* register of the wrong
                                                                          width */
        ".entry k() { bra nowhere; }",
        ".entry k() { .reg .b32 %r<3>; mov.u32 %r0, %r7; ret; }",
        ".entry k() { .reg .b32 %r<3>; ld.global.L3::magic.u32 %r0, [%r1]; ret; }",
        ".entry k() { .shared .b8 s[16];",
    };
    Fixture f;
    fixture_begin(&f, "mistakes.ptx");
    CUmodule m;
    for (gsize i = 0; i < G_N_ELEMENTS(bodies); i++) {
        char *text = g_strconcat(head, bodies[i], NULL);
        g_assert_cmpint(cu.cuModuleLoadData(&m, text), ==, CUDA_ERROR_INVALID_PTX);
        g_free(text);
    }
    g_assert_cmpint(cu.cuModuleLoadData(&m, "\177ELF\2\1\1"), ==, CUDA_ERROR_NO_BINARY_FOR_GPU);
    g_assert_cmpint(cu.cuModuleLoadData(&m, ".version 9.0\n.target sm_80\n.address_size 64\n"), ==,
                    CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
    g_assert_cmpint(cu.cuModuleLoadData(&m, ".version 8.0\n.target sm_90a\n.address_size 64\n"), ==,
                    CUDA_ERROR_NO_BINARY_FOR_GPU);
    expect_no_reports();
    fixture_end(&f);
}

static CUresult try_launch(const Fixture *f, const char *kernel, unsigned threads, unsigned shared,
                           void **arguments, void **extra)
{
    CUfunction function;
    OK(cu.cuModuleGetFunction(&function, f->module, kernel));
    return cu.cuLaunchKernel(function, 1, 1, 1, threads, 1, 1, shared, NULL, arguments, extra);
}

static void test_launch_limits(void)
{
    Fixture f;
    fixture_begin(&f, "mistakes.ptx");
    CUdeviceptr p = upload("0123", 4);
    void *arguments[] = {&p}, *null_argument[] = {NULL};
    size_t size = 4;
    void *extra[] = {(void *)1, &p, (void *)2, &size, NULL};
    CUfunction dynamic;
    g_assert_cmpint(try_launch(&f, "only_32_threads", 33, 0, arguments, NULL), ==,
                    CUDA_ERROR_INVALID_VALUE);
    expect_report("bounds", "launch bounds");
    g_assert_cmpint(try_launch(&f, "fine", 1025, 0, arguments, NULL), ==, CUDA_ERROR_INVALID_VALUE);
    g_assert_cmpint(try_launch(&f, "fine", 0, 0, arguments, NULL), ==, CUDA_ERROR_INVALID_VALUE);
    expect_report("threads", "block size out of range");
    g_assert_cmpint(try_launch(&f, "dynamic", 1, 50000, arguments, NULL), ==,
                    CUDA_ERROR_INVALID_VALUE);
    expect_report("shared", "more shared memory than allowed");
    g_assert_cmpint(try_launch(&f, "fine", 1, 0, NULL, extra), ==, CUDA_ERROR_INVALID_VALUE);
    expect_report("size", "argument buffer has not the size");
    g_assert_cmpint(try_launch(&f, "fine", 1, 0, null_argument, NULL), ==,
                    CUDA_ERROR_INVALID_VALUE);
    expect_report("NULL", "argument pointer is NULL");
    cu.reset();
    size = 8;
    OK(try_launch(&f, "fine", 1, 0, NULL, extra));
    OK(cu.cuModuleGetFunction(&dynamic, f.module, "dynamic"));
    OK(cu.cuFuncSetAttribute(dynamic, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 100000));
    OK(try_launch(&f, "dynamic", 1, 100000, arguments, NULL));
    OK(cu.cuCtxSynchronize());
    expect_no_reports();
    OK(try_launch(&f, "dynamic", 1, 1020, arguments, NULL)); /* writes bytes 1020 to 1023 */
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("dynamic", "out of bounds");
    cu.cuMemFree_v2(p);
    fixture_end(&f);
}

static void increment_on(const Fixture *f, CUstream stream, CUdeviceptr in, CUdeviceptr out)
{
    CUfunction function;
    OK(cu.cuModuleGetFunction(&function, f->module, "increment"));
    OK(cu.cuLaunchKernel(function, 1, 1, 1, 64, 1, 1, 0, stream, (void *[]){&in, &out}, NULL));
}

static void test_memory_mistakes(void)
{
    Fixture f;
    guint32 words[64] = {0};
    fixture_begin(&f, "mistakes.ptx");
    CUdeviceptr p = upload(words, sizeof words), q = upload(NULL, 64);
    g_assert_cmpint(cu.cuMemcpyDtoH_v2(words, q, 64), !=, CUDA_SUCCESS);
    expect_report("read", "64 of 64 bytes were never written");
    fixture_end(&f); /* the error is sticky; p and q leak with the context */
    expect_report("leak", "leak: 256 bytes");

    fixture_begin(&f, "mistakes.ptx"); /* a copy of what was never written is no better */
    p = upload(words, sizeof words);
    q = upload(NULL, 256);
    CUdeviceptr r = upload(words, sizeof words);
    OK(cu.cuMemcpyDtoD_v2(r + 4, q + 4, 128));
    increment_on(&f, NULL, r, p);
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("copy", "is byte 4 of an allocation of 256 bytes");
    cu.cuMemFree_v2(p);
    cu.cuMemFree_v2(q);
    cu.cuMemFree_v2(r);
    fixture_end(&f);

    fixture_begin(&f, "mistakes.ptx");
    p = upload(words, 64);
    OK(cu.cuMemFree_v2(p));
    g_assert_cmpint(cu.cuMemFree_v2(p), !=, CUDA_SUCCESS);
    expect_report("free", "freed twice");
    g_assert_cmpint(cu.cuMemFree_v2(p + 4), !=, CUDA_SUCCESS);
    expect_report("free", "no start of an allocation");
    launch(&f, "fine", 1, 1, (void *[]){&p});
    g_assert_cmpint(cu.cuCtxSynchronize(), !=, CUDA_SUCCESS);
    expect_report("use", "freed memory");
    fixture_end(&f);

    fixture_begin(&f, "mistakes.ptx");
    p = upload(words, 64);
    g_assert_cmpint(cu.cuMemcpyHtoD_v2(p, words, 65), !=, CUDA_SUCCESS);
    expect_report("copy", "out of bounds");
    g_assert_cmpuint(cu.report_leaks(), >=, 3); /* memory, module, context */
    cu.cuMemFree_v2(p);
    fixture_end(&f);
    cu.reset();
    g_assert_cmpuint(cu.report_leaks(), ==, 0);
}

static void test_contexts(void)
{
    Fixture f;
    CUcontext other;
    CUstream stream;
    fixture_begin(&f, "mistakes.ptx");
    CUdeviceptr p = upload("0123", 4);
    OK(cu.cuCtxCreate_v2(&other, 0, 0));
    OK(cu.cuStreamCreate(&stream, 0));
    g_assert_cmpint(cu.cuMemFree_v2(p), !=, CUDA_SUCCESS);
    expect_report("free", "another context");
    OK(cu.cuStreamDestroy_v2(stream));
    g_assert_cmpint(cu.cuStreamSynchronize(stream), ==, CUDA_ERROR_INVALID_HANDLE);
    expect_report("stream", "was destroyed");
    g_assert_cmpint(cu.cuStreamSynchronize((CUstream)f.context), ==, CUDA_ERROR_INVALID_HANDLE);
    expect_report("stream", "wrong kind");
    CUdeviceptr mine = upload("0123", 4);
    OK(cu.cuStreamCreate(&stream, 0));
    OK(cu.cuCtxSetCurrent(f.context));
    g_assert_cmpint(cu.cuStreamSynchronize(stream), ==, CUDA_ERROR_INVALID_HANDLE);
    expect_report("stream", "another context than the current one");
    launch(&f, "fine", 1, 1, (void *[]){&mine});
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("launch", "memory of another context");
    cu.cuMemFree_v2(p);
    OK(cu.cuCtxSetCurrent(other));
    cu.cuMemFree_v2(mine);
    OK(cu.cuStreamDestroy_v2(stream));
    OK(cu.cuCtxDestroy_v2(other));
    OK(cu.cuCtxSetCurrent(NULL));
    g_assert_cmpint(cu.cuMemAlloc_v2(&p, 4), ==, CUDA_ERROR_INVALID_CONTEXT);
    OK(cu.cuCtxSetCurrent(f.context));
    fixture_end(&f);
}

/* --- streams --- */

static void test_streams(void)
{
    Fixture f;
    CUstream a, b;
    CUevent event;
    guint32 *host;
    fixture_begin(&f, "mistakes.ptx");
    OK(cu.cuMemAllocHost_v2((void **)&host, 256));
    OK(cu.cuStreamCreate(&a, 1));
    OK(cu.cuStreamCreate(&b, 1));
    OK(cu.cuEventCreate(&event, 2));
    CUdeviceptr x = upload(NULL, 256), y = upload(NULL, 256), z = upload(NULL, 256);
    for (guint32 i = 0; i < 64; i++)
        host[i] = i;
    OK(cu.cuMemcpyHtoDAsync_v2(x, host, 256, a));
    increment_on(&f, a, x, y);
    OK(cu.cuEventRecord(event, a));
    OK(cu.cuStreamWaitEvent(b, event, 0));
    increment_on(&f, b, y, z);
    OK(cu.cuStreamSynchronize(b));
    OK(cu.cuMemcpyDtoHAsync_v2(host, z, 256, b));
    g_assert_cmphex(host[5], ==, 0xa5a5a5a5); /* not before the stream is done */
    OK(cu.cuStreamSynchronize(b));
    g_assert_cmpuint(host[5], ==, 7);
    expect_no_reports();

    /* The host changes pinned memory that a copy has still to read. */
    OK(cu.cuMemcpyHtoDAsync_v2(x, host, 256, a));
    host[0] = 99;
    OK(cu.cuStreamSynchronize(a));
    expect_report("pinned", "changed before the copy ran");
    cu.reset();

    /* Stream b reads what stream a has still to write, with no event between them. */
    CUdeviceptr fresh = upload(NULL, 256);
    increment_on(&f, a, x, fresh);
    increment_on(&f, b, fresh, z);
    g_assert_cmpint(cu.cuStreamSynchronize(b), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("no event", "never written");

    cu.cuMemFree_v2(x);
    cu.cuMemFree_v2(y);
    cu.cuMemFree_v2(z);
    cu.cuMemFree_v2(fresh);
    cu.cuMemFreeHost(host);
    cu.cuEventDestroy_v2(event);
    cu.cuStreamDestroy_v2(a);
    cu.cuStreamDestroy_v2(b);
    cu.reset();
    fixture_end(&f);
    expect_no_reports();
}

/* Two streams with events between them come to the same result however their work is delayed. */
static void test_stream_delays(void)
{
    Fixture f;
    CUstream a, b;
    CUevent event;
    guint32 *host;
    fixture_begin(&f, "mistakes.ptx");
    OK(cu.cuMemAllocHost_v2((void **)&host, 256));
    OK(cu.cuStreamCreate(&a, 0));
    OK(cu.cuStreamCreate(&b, 1));
    OK(cu.cuEventCreate(&event, 2));
    for (unsigned seed = 0; seed < 16; seed++) {
        cu.seed(seed);
        CUdeviceptr x = upload(NULL, 256), y = upload(NULL, 256);
        memset(host, 0, 256);
        OK(cu.cuMemcpyHtoDAsync_v2(x, host, 256, a));
        for (int i = 0; i < 5; i++) {
            increment_on(&f, a, x, y);
            OK(cu.cuEventRecord(event, a));
            OK(cu.cuStreamWaitEvent(b, event, 0));
            increment_on(&f, b, y, x);
            OK(cu.cuEventRecord(event, b));
            OK(cu.cuStreamWaitEvent(a, event, 0));
        }
        OK(cu.cuMemcpyDtoHAsync_v2(host, x, 256, a));
        OK(cu.cuStreamSynchronize(a));
        g_assert_cmpuint(host[63], ==, 10);
        /* down and up again through the same pinned bytes, in stream order */
        OK(cu.cuMemcpyDtoHAsync_v2(host, y, 256, a));
        OK(cu.cuMemcpyHtoDAsync_v2(x, host, 256, a));
        OK(cu.cuMemcpyDtoH_v2(host, x, 256));
        g_assert_cmpuint(host[63], ==, 9);
        OK(cu.cuMemFree_v2(x));
        OK(cu.cuMemFree_v2(y));
    }
    OK(cu.cuMemFreeHost(host));
    OK(cu.cuEventDestroy_v2(event));
    OK(cu.cuStreamDestroy_v2(a));
    OK(cu.cuStreamDestroy_v2(b));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

/* The null stream waits for the others and they for it, but for those that were made not to. */
static void test_null_stream(void)
{
    Fixture f;
    CUstream blocking, free_running;
    guint32 words[64] = {0};
    fixture_begin(&f, "mistakes.ptx");
    OK(cu.cuStreamCreate(&blocking, 0));
    OK(cu.cuStreamCreate(&free_running, 1));
    CUdeviceptr x = upload(words, 256), y = upload(NULL, 256), z = upload(NULL, 256);
    increment_on(&f, NULL, x, y);
    increment_on(&f, blocking, y, z);
    OK(cu.cuStreamSynchronize(blocking));
    increment_on(&f, NULL, z, x);
    increment_on(&f, blocking, x, y);
    OK(cu.cuMemcpyDtoH_v2(words, y, 256));
    g_assert_cmpuint(words[1], ==, 4);
    expect_no_reports();
    CUdeviceptr fresh = upload(NULL, 256);
    increment_on(&f, free_running, x, fresh);
    g_assert_cmpint(cu.cuMemcpyDtoH_v2(words, fresh, 256), ==, CUDA_ERROR_LAUNCH_FAILED);
    expect_report("null stream", "never written");
    cu.cuMemFree_v2(x);
    cu.cuMemFree_v2(y);
    cu.cuMemFree_v2(z);
    cu.cuMemFree_v2(fresh);
    cu.cuStreamDestroy_v2(blocking);
    cu.cuStreamDestroy_v2(free_running);
    fixture_end(&f);
}

/* Two streams captured together, run three times. */
static void test_graph(void)
{
    Fixture f;
    CUstream a, b;
    CUevent event;
    guint32 *host;
    void *graph, *executable;
    fixture_begin(&f, "mistakes.ptx");
    OK(cu.cuMemAllocHost_v2((void **)&host, 256));
    OK(cu.cuStreamCreate(&a, 1));
    OK(cu.cuStreamCreate(&b, 1));
    OK(cu.cuEventCreate(&event, 2));
    CUdeviceptr x = upload(NULL, 256), y = upload(NULL, 256);
    OK(cu.cuStreamBeginCapture_v2(a, 0));
    OK(cu.cuMemcpyHtoDAsync_v2(x, host, 256, a));
    OK(cu.cuEventRecord(event, a));
    OK(cu.cuStreamWaitEvent(b, event, 0));
    increment_on(&f, b, x, y);
    OK(cu.cuEventRecord(event, b));
    OK(cu.cuStreamWaitEvent(a, event, 0));
    OK(cu.cuMemcpyDtoHAsync_v2(host, y, 256, a));
    g_assert_cmpint(cu.cuStreamSynchronize(a), !=, CUDA_SUCCESS);
    expect_report("capture", "is being captured");
    cu.reset();
    OK(cu.cuStreamEndCapture(a, &graph));
    OK(cu.cuGraphInstantiateWithFlags(&executable, graph, 0));
    OK(cu.cuGraphDestroy(graph));
    memset(host, 0, 256);
    for (int i = 0; i < 3; i++)
        OK(cu.cuGraphLaunch(executable, b));
    OK(cu.cuGraphExecDestroy(executable));
    g_assert_cmpuint(host[63], ==, 0);
    OK(cu.cuStreamSynchronize(b));
    g_assert_cmpuint(host[63], ==, 3);
    OK(cu.cuMemFree_v2(x));
    OK(cu.cuMemFree_v2(y));
    OK(cu.cuMemFreeHost(host));
    OK(cu.cuEventDestroy_v2(event));
    OK(cu.cuStreamDestroy_v2(a));
    OK(cu.cuStreamDestroy_v2(b));
    expect_no_reports();
    fixture_end(&f);
    expect_no_reports();
}

static void test_coverage(void)
{
    static const char text[] = ".version 7.0\n.target sm_80\n.address_size 64\n"
                               ".entry branches(.param .u32 n) {\n"
                               ".reg .pred %q;\n.reg .b32 %r<3>;\n"
                               "ld.param.u32 %r0, [n];\n"
                               "setp.eq.s32 %q, %r0, 0;\n"
                               "@%q bra end;\n"
                               "mov.u32 %r1, 1;\n"
                               "add.s32 %r2, %r1, %r0;\n"
                               "end: ret;\n}\n";
    Fixture f;
    unsigned total[3], never[3];
    fixture_begin(&f, "mistakes.ptx");
    cu.cuModuleUnload(f.module);
    cu.coverage(&total[0], &never[0]);
    OK(cu.cuModuleLoadData(&f.module, text));
    for (int n = 0; n < 2; n++) {
        launch(&f, "branches", 1, 32, (void *[]){&n});
        OK(cu.cuCtxSynchronize());
        cu.coverage(&total[1 + n], &never[1 + n]);
    }
    g_assert_cmpuint(total[1], ==, total[0] + 6);
    g_assert_cmpuint(never[1], ==, never[0] + 2);
    g_assert_cmpuint(never[2], ==, never[0]);
    fixture_end(&f);
}

static void test_injected_failures(void)
{
    Fixture f;
    fixture_begin(&f, "mistakes.ptx");
    CUdeviceptr p, q;
    cu.fail("cuMemAlloc_v2", 2, 0);
    OK(cu.cuMemAlloc_v2(&p, 64));
    g_assert_cmpint(cu.cuMemAlloc_v2(&q, 64), ==, CUDA_ERROR_OUT_OF_MEMORY);
    OK(cu.cuMemAlloc_v2(&q, 64));
    cu.fail("*", 1, CUDA_ERROR_UNKNOWN);
    g_assert_cmpint(cu.cuCtxSynchronize(), ==, CUDA_ERROR_UNKNOWN);
    OK(cu.cuCtxSynchronize());
    OK(cu.cuMemFree_v2(p));
    OK(cu.cuMemFree_v2(q));
    fixture_end(&f);
    expect_no_reports();
}

static void test_counters(void)
{
    Fixture f;
    guint32 words[64] = {0};
    GpusimCounters n;
    fixture_begin(&f, "mistakes.ptx");
    CUdeviceptr p = upload(words, 256), q = upload(NULL, 256);
    increment_on(&f, NULL, p, q);
    OK(cu.cuMemcpyDtoD_v2(p, q, 256));
    const CUDA_MEMCPY2D copy = {.srcMemoryType = CU_MEMORYTYPE_DEVICE,
                                .srcDevice = p,
                                .srcPitch = 64,
                                .dstMemoryType = CU_MEMORYTYPE_HOST,
                                .dstHost = words,
                                .dstPitch = 20,
                                .WidthInBytes = 20,
                                .Height = 4};
    OK(cu.cuMemcpy2D_v2(&copy));
    g_assert_cmpuint(words[19], ==, 1);
    cu.counters(&n);
    g_assert_cmpuint(n.host_to_device, ==, 256);
    g_assert_cmpuint(n.device_to_host, ==, 80);
    g_assert_cmpuint(n.device_to_device, ==, 256);
    g_assert_cmpuint(n.launches, ==, 1);
    g_assert_cmpuint(n.global_read, ==, 256);
    g_assert_cmpuint(n.global_written, ==, 256);
    g_assert_cmpuint(n.global_bytes_in, ==, 256);
    g_assert_cmpuint(n.global_bytes_out, ==, 256);
    g_assert_cmpuint(n.device_bytes, ==, 512);
    cu.cuMemFree_v2(p);
    cu.cuMemFree_v2(q);
    fixture_end(&f);
    expect_no_reports();
}

/* --- speed, on request --- */

/* Processor time: other work on the machine does not count. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void print_speed(const char *what, double start)
{
    GpusimCounters n;
    const double seconds = now() - start;
    cu.counters(&n);
    g_print("%s: %.3f s, %.2f G multiply-adds/s, %.1f M warp instructions/s\n", what, seconds,
            (double)n.mma_multiply_adds / seconds / 1e9,
            (double)n.warp_instructions / seconds / 1e6);
}

static void bench_conv(void)
{
    Fixture f;
    fixture_begin(&f, "conv3x3.ptx");
    const ConvCase c = {64, 64, 128, 128, 1};
    const gsize pixels = (gsize)c.h * (gsize)c.w, weights = (gsize)c.cout * 9 * (gsize)c.cin;
    guint16 *in = random_bf16(pixels * (gsize)c.cin), *weight = random_bf16(weights);
    float *bias = g_new0(float, c.cout);
    ConvArgs args = {.in = upload(in, pixels * (gsize)c.cin * 2),
                     .weight = upload(weight, weights * 2),
                     .bias = upload(bias, (gsize)c.cout * 4),
                     .out = upload(NULL, pixels * (gsize)c.cout * 2)};
    cu.reset();
    const double start = now();
    OK(launch_conv(&f, &c, &args));
    print_speed("convolution", start);
    cu.cuMemFree_v2(args.in);
    cu.cuMemFree_v2(args.weight);
    cu.cuMemFree_v2(args.bias);
    cu.cuMemFree_v2(args.out);
    fixture_end(&f);
    g_free(in);
    g_free(weight);
    g_free(bias);
}

static void bench_reduction(void)
{
    Fixture f;
    fixture_begin(&f, "reduce.ptx");
    int cols = 4096;
    const int rows = 512;
    float *x = g_new0(float, cols *rows);
    CUdeviceptr px = upload(x, (gsize)cols * (gsize)rows * 4), py = upload(NULL, (gsize)rows * 8);
    cu.reset();
    const double start = now();
    launch(&f, "sample_row_stats", (unsigned)rows, 256, (void *[]){&px, &py, &cols});
    OK(cu.cuCtxSynchronize());
    print_speed("reduction", start);
    cu.cuMemFree_v2(px);
    cu.cuMemFree_v2(py);
    fixture_end(&f);
    g_free(x);
}

int main(int argc, char **argv)
{
    open_driver();
    if (argc > 1 && !strcmp(argv[1], "--bench")) {
        bench_conv();
        bench_reduction();
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gpusim/layouts", test_layouts);
    g_test_add_func("/gpusim/conv", test_conv);
    g_test_add_func("/gpusim/reduction", test_reduction);
    g_test_add_func("/gpusim/right-kernels", test_right_kernels);
    g_test_add_func("/gpusim/mistakes", test_mistakes);
    g_test_add_func("/gpusim/endless", test_endless);
    g_test_add_func("/gpusim/mutants", test_mutants);
    g_test_add_func("/gpusim/refused-modules", test_refused_modules);
    g_test_add_func("/gpusim/launch-limits", test_launch_limits);
    g_test_add_func("/gpusim/memory-mistakes", test_memory_mistakes);
    g_test_add_func("/gpusim/contexts", test_contexts);
    g_test_add_func("/gpusim/streams", test_streams);
    g_test_add_func("/gpusim/stream-delays", test_stream_delays);
    g_test_add_func("/gpusim/null-stream", test_null_stream);
    g_test_add_func("/gpusim/graph", test_graph);
    g_test_add_func("/gpusim/coverage", test_coverage);
    g_test_add_func("/gpusim/injected-failures", test_injected_failures);
    g_test_add_func("/gpusim/counters", test_counters);
    add_operation_tests();
    add_blas_tests();
    return g_test_run();
}
