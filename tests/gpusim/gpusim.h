/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * What tests may ask of the stand-in driver, beside the driver API itself: reports of its checkers,
 * injected failures, counters, scheduling seeds. A test finds these symbols with dlsym() in
 * libcuda.so.1; a pipeline in another process is steered by environment variables instead
 * (README.md in this folder lists both).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t calls;          /* driver and BLAS calls that can be made to fail */
    uint64_t host_to_device; /* bytes */
    uint64_t device_to_host;
    uint64_t device_to_device;
    uint64_t launches;
    uint64_t warp_instructions;
    uint64_t flops;             /* f32 and half additions and multiplications outside of mma */
    uint64_t mma_multiply_adds; /* by mma.sync */
    uint64_t global_read;       /* bytes that kernels read from global memory, every lane counted */
    uint64_t global_written;
    uint64_t global_bytes_in; /* 32-byte sectors touched by a launch, each once: the bus's share */
    uint64_t global_bytes_out;
    uint64_t shared_wavefronts; /* passes that shared memory accesses take on 32 banks of 4 bytes */
    uint64_t bank_conflicts;    /* passes beyond the least possible */
    uint64_t blas_calls;
    uint64_t blas_multiply_adds;
    uint64_t device_bytes; /* allocated now */
    uint64_t device_bytes_peak;
} GpusimCounters;

/* Number of findings since the last reset, and the text of one (NULL if there is none). */
unsigned gpusim_report_count(void);
const char *gpusim_report_text(unsigned index);

/* Forgets findings, counters and injected failures. Memory and contexts stay. */
void gpusim_reset(void);

/* The n-th call (1 = next) of `call` ("*" = of any kind) answers `code` (0 = a code that fits the
 * call). n = 0: off. */
void gpusim_fail(const char *call, unsigned n, int code);

/* How many such calls are still to be made until the one that fails: 0 once it has failed. */
unsigned gpusim_fail_left(void);

/* 0: warps and blocks in order, streams as late as possible. Bit 0 reverses warps and streams, bit
 * 1 blocks; bits 2 and 3: streams late (0), at once (1), by chance (2, 3); higher bits rotate. */
void gpusim_seed(unsigned seed);

void gpusim_counters(GpusimCounters *out);

/* Writes findings for all memory, events, streams and modules still alive; returns how many. */
unsigned gpusim_report_leaks(void);

/* PTX instructions of all modules loaded so far, and how many of them no lane has executed. */
void gpusim_coverage(unsigned *instructions, unsigned *never_executed);

/* Calls line() for each of them: "module\tkernel\tline\ttext", where module is g_str_hash() of the
 * module's text in eight hexadecimal digits; how often it was executed, and its passes on shared
 * memory beyond the least possible. */
typedef void (*GpusimLine)(const char *text, uint64_t hits, uint64_t conflicts, void *data);
void gpusim_coverage_lines(GpusimLine line, void *data);
