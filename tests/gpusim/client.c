/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * client.c - see client.h.
 */
#include "client.h"

#include <dlfcn.h>

SimClient sim;

static unsigned nothing_reported(void)
{
    return 0;
}

static void ignore_reset(void)
{
}

static void ignore_seed(unsigned seed)
{
    (void)seed;
}

SimKind sim_open(void)
{
    const struct {
        const char *name;
        void *to;
    } functions[] = {
        {"gpusim_report_count", &sim.report_count},
        {"gpusim_report_text", &sim.report_text},
        {"gpusim_report_leaks", &sim.report_leaks},
        {"gpusim_reset", &sim.reset},
        {"gpusim_seed", &sim.seed},
        {"gpusim_fail", &sim.fail_call},
        {"gpusim_fail_left", &sim.fail_left},
        {"gpusim_counters", &sim.counters},
        {"gpusim_coverage_lines", &sim.coverage_lines},
    };
    void *library = dlopen("libcuda.so.1", RTLD_NOW);

    if (library == NULL)
        return SIM_NO_DRIVER;
    if (g_getenv("DCAE_TEST_DEVICE") != NULL && dlsym(library, "gpusim_reset") == NULL) {
        sim.report_count = sim.report_leaks = nothing_reported;
        sim.reset = ignore_reset;
        sim.seed = ignore_seed;
        return SIM_DEVICE;
    }
    for (guint i = 0; i < G_N_ELEMENTS(functions); i++) {
        void *function = dlsym(library, functions[i].name);
        if (function == NULL)
            g_error("libcuda.so.1 has no %s: it isn't the stand-in of tests/gpusim",
                    functions[i].name);
        *(void **)functions[i].to = function;
    }
    return SIM_STAND_IN;
}

void sim_check(void)
{
    unsigned n = sim.report_leaks();

    n += sim.report_count();
    for (unsigned i = 0; i < sim.report_count(); i++)
        g_test_message("%s", sim.report_text(i));
    g_assert_cmpuint(n, ==, 0);
}
