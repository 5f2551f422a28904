/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * client.h - the stand-in driver as a test program asks it (gpusim.h), found at run time. Knows
 * nothing of the driver API.
 */
#pragma once

#include <glib.h>

#include "gpusim.h"

/* Functions of gpusim.h. On a real device nothing is counted and reported, and
 * those that would have to answer something are NULL. */
typedef struct {
    unsigned (*report_count)(void);
    const char *(*report_text)(unsigned index);
    unsigned (*report_leaks)(void);
    void (*reset)(void);
    void (*seed)(unsigned seed);
    void (*fail_call)(const char *call, unsigned n, int code);
    unsigned (*fail_left)(void);
    void (*counters)(GpusimCounters *out);
    void (*coverage_lines)(GpusimLine line, void *data);
} SimClient;

typedef enum {
    SIM_NO_DRIVER,
    SIM_STAND_IN,
    SIM_DEVICE, /* where DCAE_TEST_DEVICE says that the driver is to be used */
} SimKind;

/* Filled by sim_open(), constant then. */
extern SimClient sim;

/* Opens libcuda.so.1. Ends the program where that is a driver that nobody asked for. */
SimKind sim_open(void);

/* Asserts that there is no finding of the checkers and nothing left allocated. */
void sim_check(void);
