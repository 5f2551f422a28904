/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Host side of the stand-in's tests: see test_host.h.
 */
#include "test_host.h"

#include <dlfcn.h>
#include <string.h>

Driver cu;

static void *symbol(void *library, const char *name)
{
    void *p = dlsym(library, name);
    if (!p)
        g_error("%s is missing: %s", name, dlerror());
    return p;
}

void open_driver(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library)
        g_error("%s", dlerror());
#define LOOK_UP(name, arguments) *(void **)&cu.name = symbol(library, #name);
    DRIVER_FUNCTIONS(LOOK_UP)
    *(void **)&cu.report_count = symbol(library, "gpusim_report_count");
    *(void **)&cu.report_text = symbol(library, "gpusim_report_text");
    *(void **)&cu.reset = symbol(library, "gpusim_reset");
    *(void **)&cu.fail = symbol(library, "gpusim_fail");
    *(void **)&cu.seed = symbol(library, "gpusim_seed");
    *(void **)&cu.counters = symbol(library, "gpusim_counters");
    *(void **)&cu.report_leaks = symbol(library, "gpusim_report_leaks");
    *(void **)&cu.coverage = symbol(library, "gpusim_coverage");
}

/* --- one context and one module per test --- */

char *read_kernels(const char *file)
{
    char *path = g_build_filename(g_getenv("GPUSIM_TEST_KERNELS"), file, NULL), *text = NULL;
    GError *error = NULL;
    if (!g_file_get_contents(path, &text, NULL, &error))
        g_error("%s", error->message);
    g_free(path);
    return text;
}

void fixture_begin(Fixture *f, const char *file)
{
    cu.reset();
    cu.seed(0);
    OK(cu.cuInit(0));
    OK(cu.cuCtxCreate_v2(&f->context, 0, 0));
    char *text = read_kernels(file);
    OK(cu.cuModuleLoadData(&f->module, text));
    g_free(text);
}

void fixture_end(Fixture *f)
{
    cu.cuModuleUnload(f->module);
    cu.cuCtxDestroy_v2(f->context);
}

void expect_no_reports(void)
{
    if (cu.report_count())
        g_error("unexpected report: %s", cu.report_text(0));
}

void expect_report(const char *what, const char *part)
{
    for (unsigned i = 0; i < cu.report_count(); i++)
        if (strstr(cu.report_text(i), part))
            return;
    g_error("%s: no report says '%s' (%u reports, first: %s)", what, part, cu.report_count(),
            cu.report_count() ? cu.report_text(0) : "none");
}

CUdeviceptr upload(const void *data, size_t bytes)
{
    CUdeviceptr p;
    OK(cu.cuMemAlloc_v2(&p, bytes));
    if (data)
        OK(cu.cuMemcpyHtoD_v2(p, data, bytes));
    return p;
}

void launch(const Fixture *f, const char *kernel, unsigned blocks, unsigned threads,
            void **arguments)
{
    CUfunction function;
    OK(cu.cuModuleGetFunction(&function, f->module, kernel));
    OK(cu.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, NULL, arguments, NULL));
}

/* Reproducible numbers, the same on every machine. */
static guint32 random_state;

void random_seed(guint32 seed)
{
    random_state = seed;
}

guint32 random_word(void)
{
    random_state = random_state * 1664525u + 1013904223u;
    return random_state >> 8 ^ random_state << 13;
}

float random_float(void)
{
    return (float)(int)(random_word() & 0xffff) / 32768.0f - 1.0f;
}

guint16 to_bf16(float f)
{
    guint32 u;
    memcpy(&u, &f, 4);
    return (guint16)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

float from_bf16(guint16 h)
{
    const guint32 u = (guint32)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
