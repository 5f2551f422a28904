/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_cuda.c - the CUDA backend on the stand-in driver of tests/gpusim, which must be the
 * libcuda.so.1 that LD_LIBRARY_PATH finds first: golden cases in every precision, bands, several
 * frames under way.
 */
#include <dlfcn.h>
#include <string.h>

#include "golden_case.h"

#include "gpusim/gpusim.h"

/* The promise for f32 (see test_golden.c). */
#define MAX_ERROR_F32 2e-5
/* The promise for 16-bit types, whose roundings of 2^-9 and 2^-11 add up over the layers. */
#define MAX_ERROR_16 1e-2

/* ---- the stand-in */

static struct {
    unsigned (*report_count)(void);
    const char *(*report_text)(unsigned index);
    void (*reset)(void);
    void (*fail)(const char *call, unsigned n, int code);
    void (*seed)(unsigned seed);
    void (*counters)(GpusimCounters *out);
    unsigned (*report_leaks)(void);
} sim;

static void *sim_function(void *library, const char *name)
{
    void *function = dlsym(library, name);

    if (function == NULL)
        g_error("libcuda.so.1 has no %s: it isn't the stand-in of tests/gpusim", name);
    return function;
}

static void open_sim(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);

    if (library == NULL)
        g_error("%s", dlerror());
    *(void **)&sim.report_count = sim_function(library, "gpusim_report_count");
    *(void **)&sim.report_text = sim_function(library, "gpusim_report_text");
    *(void **)&sim.reset = sim_function(library, "gpusim_reset");
    *(void **)&sim.fail = sim_function(library, "gpusim_fail");
    *(void **)&sim.seed = sim_function(library, "gpusim_seed");
    *(void **)&sim.counters = sim_function(library, "gpusim_counters");
    *(void **)&sim.report_leaks = sim_function(library, "gpusim_report_leaks");
}

/* No finding of the checkers, and nothing left allocated. */
static void check_sim(void)
{
    unsigned n = sim.report_leaks();

    n += sim.report_count();
    for (unsigned i = 0; i < sim.report_count(); i++)
        g_test_message("%s", sim.report_text(i));
    g_assert_cmpuint(n, ==, 0);
}

/* ---- golden cases */

typedef struct {
    const char *name;
    DcaePrecision precision;
    DcaeDirection direction;
    guint seed;
} GoldenTest;

static GoldenWay cuda_way(DcaePrecision precision, guint band_rows)
{
    return (GoldenWay){.backend = &dcae_cuda_backend,
                       .precision = precision,
                       .threads = 1,
                       .band_rows = band_rows};
}

/* Bands of any height give the bits of whole frames. */
static void check_bands(const GoldenCase *c, const GoldenTest *t, const GoldenResult *whole)
{
    static const guint band_rows[] = {1, 3};

    for (guint i = 0; i < G_N_ELEMENTS(band_rows); i++) {
        GoldenWay way = cuda_way(t->precision, band_rows[i]);
        GoldenResult r = golden_run(c, t->direction, &way);
        g_assert_cmpmem(r.data, r.n * sizeof(float), whole->data, whole->n * sizeof(float));
        g_free(r.data);
    }
}

static void test_golden(gconstpointer data)
{
    const GoldenTest *t = data;
    GoldenCase *c = golden_case_load(t->name);
    GoldenWay way = cuda_way(t->precision, 0);
    const float *wanted = t->direction == DCAE_ENCODE ? c->latents : c->decoded;
    gint64 start = g_get_monotonic_time();

    sim.reset();
    sim.seed(t->seed);
    GoldenResult whole = golden_run(c, t->direction, &way);
    double error = golden_relative_error(whole.data, wanted, whole.n);
    g_test_message("%s: relative L2 error %.2e, %.2f s", t->name, error,
                   (double)(g_get_monotonic_time() - start) / 1e6);
    check_sim();
    g_assert_cmpfloat(error, <=, t->precision == DCAE_PRECISION_F32 ? MAX_ERROR_F32 : MAX_ERROR_16);
    if (g_strrstr(t->name, "tiling") == NULL && !g_getenv("DCAE_TEST_NO_BANDS"))
        check_bands(c, t, &whole);
    check_sim();
    g_free(whole.data);
    golden_case_free(c);
}

static void add_golden(const char *name, DcaePrecision precision, guint seed)
{
    static const char *const precisions[] = {"auto", "f32", "bf16", "f16"};

    for (guint d = 0; d < 2; d++) {
        GoldenTest *t = g_new(GoldenTest, 1);
        g_autofree char *path = g_strdup_printf("/golden/%s/%s/%s", precisions[precision], name,
                                                d == 0 ? "encode" : "decode");
        *t = (GoldenTest){g_strdup(name), precision, d == 0 ? DCAE_ENCODE : DCAE_DECODE, seed};
        g_test_add_data_func(path, t, test_golden);
    }
}

int main(int argc, char **argv)
{
    g_autofree char *list =
        g_build_filename(g_getenv("DCAE_TEST_DATA"), "golden", "cases.txt", NULL);
    g_autofree char *text = NULL;

    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    open_sim();
    if (!g_file_get_contents(list, &text, NULL, NULL))
        g_error("%s can't be read", list);
    g_auto(GStrv) names = g_strsplit(g_strstrip(text), "\n", -1);
    for (guint i = 0; names[i] != NULL; i++) {
        add_golden(names[i], DCAE_PRECISION_F32, 0);
        add_golden(names[i], DCAE_PRECISION_BF16, 0);
        add_golden(names[i], DCAE_PRECISION_F16, 0);
    }
    return g_test_run();
}
