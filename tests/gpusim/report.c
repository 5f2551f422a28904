/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Findings, counters, injected failures: the control side of the stand-in (gpusim.h), and what the
 * environment asks for. Knows no CUDA objects; driver.c calls it at every entry point and hands it
 * what launches have counted.
 */
#include "report.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

typedef struct {
    char *call; /* NULL: none */
    unsigned left;
    int code;
} Failure;

typedef struct {
    uint64_t launches;
    LaunchCounters count;
} KernelCounters;

GpusimCounters sim_counters;
static GPtrArray *findings;
static GHashTable *kernels; /* name -> KernelCounters */
static Failure failure;
static unsigned seed;
static unsigned (*other_leak_check)(void);

SIM_EXPORT void report_finding(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "gpusim: %s\n", text);
    const char *path = getenv("GPUSIM_REPORT");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (f) {
        fprintf(f, "%s\n", text);
        fclose(f);
    }
    if (!findings)
        findings = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(findings, text);
}

void report_count_launch(const char *kernel, const LaunchCounters *c)
{
    sim_counters.launches++;
    sim_counters.warp_instructions += c->warp_instructions;
    sim_counters.mma_multiply_adds += c->mma_multiply_adds;
    sim_counters.flops += c->flops;
    sim_counters.global_bytes_in += 32 * c->sectors_read;
    sim_counters.global_bytes_out += 32 * c->sectors_written;
    sim_counters.global_read += c->global_read;
    sim_counters.global_written += c->global_written;
    sim_counters.shared_wavefronts += c->shared_wavefronts;
    sim_counters.bank_conflicts += c->bank_conflicts;
    if (!kernels)
        kernels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    KernelCounters *k = g_hash_table_lookup(kernels, kernel);
    if (!k) {
        k = g_new0(KernelCounters, 1);
        g_hash_table_insert(kernels, g_strdup(kernel), k);
    }
    k->launches++;
    k->count.warp_instructions += c->warp_instructions;
    k->count.mma_multiply_adds += c->mma_multiply_adds;
    k->count.flops += c->flops;
    k->count.sectors_read += c->sectors_read;
    k->count.sectors_written += c->sectors_written;
    k->count.global_read += c->global_read;
    k->count.global_written += c->global_written;
    k->count.shared_wavefronts += c->shared_wavefronts;
    k->count.bank_conflicts += c->bank_conflicts;
}

SIM_EXPORT void report_count_blas(uint64_t multiply_adds)
{
    sim_counters.blas_calls++;
    sim_counters.blas_multiply_adds += multiply_adds;
}

SIM_EXPORT void report_add_leak_check(unsigned (*check)(void))
{
    other_leak_check = check;
}

unsigned report_other_leaks(void)
{
    return other_leak_check ? other_leak_check() : 0;
}

int report_enter(const char *call, int usual_code)
{
    sim_counters.calls++;
    const char *log = getenv("GPUSIM_LOG");
    if (log)
        fprintf(stderr, "gpusim: call %" G_GUINT64_FORMAT " %s\n", (guint64)sim_counters.calls,
                call);
    if (!failure.left || (strcmp(failure.call, "*") && strcmp(failure.call, call)))
        return 0;
    if (--failure.left)
        return 0;
    return failure.code ? failure.code : usual_code;
}

unsigned sim_seed(void)
{
    return seed;
}

SIM_EXPORT unsigned gpusim_report_count(void)
{
    return findings ? findings->len : 0;
}

SIM_EXPORT const char *gpusim_report_text(unsigned i)
{
    return i < gpusim_report_count() ? findings->pdata[i] : NULL;
}

SIM_EXPORT void gpusim_reset(void)
{
    const uint64_t bytes = sim_counters.device_bytes;
    g_clear_pointer(&findings, g_ptr_array_unref);
    memset(&sim_counters, 0, sizeof sim_counters);
    sim_counters.device_bytes = sim_counters.device_bytes_peak = bytes;
    failure.left = 0;
}

SIM_EXPORT void gpusim_fail(const char *call, unsigned n, int code)
{
    char *copy = g_strdup(call);
    g_free(failure.call);
    failure = (Failure){.call = copy, .left = n, .code = code};
}

SIM_EXPORT unsigned gpusim_fail_left(void)
{
    return failure.left;
}

SIM_EXPORT void gpusim_seed(unsigned value)
{
    seed = value;
}

SIM_EXPORT void gpusim_counters(GpusimCounters *out)
{
    *out = sim_counters;
}

static void write_kernel_stats(FILE *f)
{
    GHashTableIter i;
    gpointer name, value;
    fprintf(f,
            "kernel,launches,warp_instructions,flops,mma_multiply_adds,global_read,global_written,"
            "global_bytes_in,global_bytes_out,shared_wavefronts,bank_conflicts\n");
    if (!kernels)
        return;
    g_hash_table_iter_init(&i, kernels);
    while (g_hash_table_iter_next(&i, &name, &value)) {
        const KernelCounters *k = value;
        const LaunchCounters *c = &k->count;
        const uint64_t fields[] = {
            k->launches,          c->warp_instructions,    c->flops,
            c->mma_multiply_adds, c->global_read,          c->global_written,
            32 * c->sectors_read, 32 * c->sectors_written, c->shared_wavefronts,
            c->bank_conflicts};
        fprintf(f, "%s", (const char *)name);
        for (size_t j = 0; j < G_N_ELEMENTS(fields); j++)
            fprintf(f, ",%" PRIu64, fields[j]);
        fprintf(f, "\n");
    }
}

static void write_stats(const char *path)
{
    FILE *f = fopen(path, "a");
    if (!f)
        return;
    const GpusimCounters *c = &sim_counters;
    fprintf(f, "calls,%" PRIu64 "\nhost_to_device,%" PRIu64 "\ndevice_to_host,%" PRIu64 "\n",
            c->calls, c->host_to_device, c->device_to_host);
    fprintf(f, "device_to_device,%" PRIu64 "\nblas_calls,%" PRIu64 "\n", c->device_to_device,
            c->blas_calls);
    fprintf(f, "blas_multiply_adds,%" PRIu64 "\ndevice_bytes_peak,%" PRIu64 "\n",
            c->blas_multiply_adds, c->device_bytes_peak);
    write_kernel_stats(f);
    coverage_write_conflicts(f);
    fclose(f);
}

/* call:n[:code] */
static void parse_failure(const char *spec)
{
    char **parts = g_strsplit(spec, ":", 3);
    if (parts[0] && parts[1])
        gpusim_fail(parts[0], (unsigned)strtoul(parts[1], NULL, 10), parts[2] ? atoi(parts[2]) : 0);
    g_strfreev(parts);
}

__attribute__((constructor)) static void read_environment(void)
{
    if (getenv("GPUSIM_SEED"))
        seed = (unsigned)strtoul(getenv("GPUSIM_SEED"), NULL, 10);
    if (getenv("GPUSIM_FAIL"))
        parse_failure(getenv("GPUSIM_FAIL"));
}

__attribute__((destructor)) static void report_at_exit(void)
{
    if (!getenv("GPUSIM_NO_LEAK_CHECK"))
        gpusim_report_leaks();
    if (getenv("GPUSIM_COVERAGE"))
        coverage_write(getenv("GPUSIM_COVERAGE"));
    if (getenv("GPUSIM_STATS"))
        write_stats(getenv("GPUSIM_STATS"));
    if (getenv("GPUSIM_STRICT") && gpusim_report_count())
        _exit(70);
}
