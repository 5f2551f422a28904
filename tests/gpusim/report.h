/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Findings, counters, injected failures and settings of the stand-in: report.c. Exported to the
 * stand-in BLAS too.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "cuda_types.h"
#include "gpusim.h"
#include "ptx_exec.h"

/* Keeps a finding, prints it to stderr and appends it to the file that GPUSIM_REPORT names. */
SIM_EXPORT void report_finding(const char *format, ...) __attribute__((format(printf, 1, 2)));

void report_count_launch(const char *kernel, const LaunchCounters *count);

SIM_EXPORT void report_count_blas(uint64_t multiply_adds);

/* Another library's look for leaks: reports them and returns how many. */
SIM_EXPORT void report_add_leak_check(unsigned (*check)(void));
unsigned report_other_leaks(void);

/* Called first by every entry point: counts the call; a code other than 0 is to be returned at
 * once. */
int report_enter(const char *call, int usual_code);

extern GpusimCounters sim_counters;
unsigned sim_seed(void);
