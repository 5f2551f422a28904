/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * checkkernels.h - what the kernel checks share: tables to test, random tensors between guard
 * bytes, running a call task by task, comparison. One check_*.c per family.
 */
#ifndef CHECKKERNELS_H
#define CHECKKERNELS_H

#include "cpu/cpu_families.h"
#include "cpu/cpu_pool.h"
#include "definitions.h"

/* One build of the kernels. */
typedef struct {
    const char *isa;
    DcaeCpuKernels kernels;
    const DcaeCpuKernels *twin; /* emulates this build, or NULL */
} CheckBuild;

typedef struct {
    const CheckBuild *build; /* the one under test */
    guint64 seed;            /* of the run, printed; every case derives its own */
    const char *filter;      /* substring of a case's name, or NULL */
    GRand *rand;             /* of the case */
    guint failures;          /* of the case so far */
    DcaePool *pool;          /* benchmarks only */
} Check;

/* A value in memory as the plan would lay it out: rows [row0, row0 + rows) of it, whole pixels of
 * value_c channels rounded up to 16, between guard bytes. The op uses channels [c0, c0 + c).
 * Elements are floats or bf16, as the build wants them; bf16 in one or two parts, by chance. */
typedef struct {
    DcaeRows rows;
    guint value_c, c0, n_rows;
    gsize element_size, n_elements;
    void *elements; /* of row row0, channel 0 of the value */
    void *memory;
} CheckTensor;

/* Whether the case is wanted (filter); seeds check->rand from the run's seed and the name. */
gboolean check_begin(Check *check, const char *name);
/* Prints the TAP line of the case. */
void check_end(Check *check, const char *name);
/* Counts a failure and prints the message, for the first few of a case. */
void check_fail(Check *check, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Everything behind and between channels is 0, as for a value that ops have written. */
CheckTensor *check_tensor_new(const Check *check, guint h, guint w, guint value_c, guint c0,
                              guint c, guint row0, guint n_rows);
void check_tensor_free(CheckTensor *tensor);
/* Marks all elements as unwritten, for outputs. */
void check_tensor_poison(CheckTensor *tensor);
/* Fails where guard bytes changed, or where an element outside the op's channels did; with `last`
 * (the op's channels are the last of the value) padding lanes must be 0. */
void check_tensor_guards(Check *check, const CheckTensor *tensor);
/* A copy of rows [row0, row0 + n_rows). */
CheckTensor *check_tensor_rows(const CheckTensor *tensor, guint row0, guint n_rows);
/* Element i of the memory; and set, rounded. */
double check_element(const CheckTensor *tensor, gsize i);
void check_set_element(CheckTensor *tensor, gsize i, float x);
/* The op's channels as [h][w][c], of a tensor that holds all rows. */
double *check_dense(const CheckTensor *tensor);
/* Fails where the band's elements differ from those of its rows in the whole. */
void check_same(Check *check, const char *name, const CheckTensor *whole, const CheckTensor *band);

/* The same in one part. */
CheckTensor *check_tensor_new_plain(const Check *check, guint h, guint w, guint value_c, guint c0,
                                    guint c, guint row0, guint n_rows);
/* x as an element of the tensor holds it. */
double check_round(const CheckTensor *tensor, float x);
/* How far off x may be for being stored; f32's share is in the kernels' own tolerances. */
double check_store_error(const CheckTensor *tensor, double x);
gboolean check_is_bf16(const Check *check);
/* x, rounded to bf16 where the build's products take such weights. */
float check_round_weight(const Check *check, float x);

typedef enum { CHECK_NORMAL, CHECK_ZERO, CHECK_CONSTANT, CHECK_MIXED, CHECK_N_FILLS } CheckFill;

/* Random numbers: normal; 0; one constant; normal times powers of 2 from 2^-12 to 2^4. */
void check_fill(Check *check, float *to, gsize n, CheckFill fill);
void check_tensor_fill(Check *check, CheckTensor *tensor, CheckFill fill);
/* Uniform in [low, high]. */
guint check_range(Check *check, guint low, guint high);

/* 64-byte aligned, filled with NaN, freed by dcae_aligned_free(). */
float *check_alloc(gsize n);

/* Runs every task of the call in a random order with poisoned scratch memory of exactly the size
 * asked for, between guard bytes. */
void check_run(Check *check, const DcaeCpuKernel *kernel, const DcaeCpuCall *call);

/* Seconds of a call. cpu: processor time of the process divided by the threads, which is what the
 * call would take if nothing else used the processor. */
typedef struct {
    double median, best, cpu;
} CheckTime;

/* Times a call on the pool, over at least `seconds` of runs. */
CheckTime check_time(Check *check, const DcaeCpuKernel *kernel, const DcaeCpuCall *call,
                     double seconds);
/* Prints one line of a benchmark; flop of one call. */
void check_bench_line(Check *check, const char *name, CheckTime time, double flop);

/* The families. */
void check_conv(Check *check);
void bench_conv(Check *check);
void check_dwconv(Check *check);
void bench_dwconv(Check *check);
void check_norm(Check *check);
void bench_norm(Check *check);
void check_attention(Check *check);
void bench_attention(Check *check);
void check_pixel(Check *check);
void bench_pixel(Check *check);

#endif
