/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * checkkernels.c - every kernel of every instruction set against its definition; with --bench the
 * same kernels' speed.
 *
 *     checkkernels [--bench] [--filter=part of a name] [--seed=number] [--threads=number]
 *                  [--isa=generic|avx2|avx512|bf16|emu512|emubf16]
 */
#include "checkkernels.h"
#include "emulated.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GUARD_BYTES 256
#define GUARD 0xa5
/* A NaN that no arithmetic makes; each half is one as a bf16. */
#define POISON 0x7fa57fa5u

typedef struct {
    const char *name;
    void (*check)(Check *check);
    void (*bench)(Check *check);
} Family;

static const Family families[] = {
    {"conv", check_conv, bench_conv},    {"dwconv", check_dwconv, bench_dwconv},
    {"norm", check_norm, bench_norm},    {"attention", check_attention, bench_attention},
    {"pixel", check_pixel, bench_pixel},
};

static guint n_cases, n_failed;

/* ---- cases */

gboolean check_begin(Check *check, const char *name)
{
    if (check->filter && !strstr(name, check->filter))
        return FALSE;
    guint32 seed[3] = {(guint32)check->seed, (guint32)(check->seed >> 32), g_str_hash(name)};
    g_rand_set_seed_array(check->rand, seed, 3);
    check->failures = 0;
    return TRUE;
}

void check_end(Check *check, const char *name)
{
    printf("%s %u - %s %s\n", check->failures ? "not ok" : "ok", ++n_cases, check->build->isa,
           name);
    n_failed += check->failures > 0;
    fflush(stdout);
}

void check_fail(Check *check, const char *format, ...)
{
    va_list args;
    if (check->failures++ >= 5)
        return;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    printf("# %s: %s (--seed=%" G_GUINT64_FORMAT ")\n", check->build->isa, text, check->seed);
}

/* ---- random numbers */

guint check_range(Check *check, guint low, guint high)
{
    return low + g_rand_int(check->rand) % (high - low + 1);
}

static float random_normal(Check *check)
{
    double u = 1 - g_rand_double(check->rand), v = g_rand_double(check->rand);
    return (float)(sqrt(-2 * log(u)) * cos(2 * G_PI * v));
}

void check_fill(Check *check, float *to, gsize n, CheckFill fill)
{
    float constant = random_normal(check);
    /* A pixel that is tiny beside its neighbours shows their errors, not its own. */
    constant += copysignf(0.5f, constant);
    for (gsize i = 0; i < n; i++) {
        switch (fill) {
        case CHECK_ZERO:
            to[i] = 0;
            break;
        case CHECK_CONSTANT:
            to[i] = constant;
            break;
        case CHECK_MIXED:
            to[i] = ldexpf(random_normal(check), (int)check_range(check, 0, 16) - 12);
            break;
        default:
            to[i] = random_normal(check);
            break;
        }
    }
}

/* ---- tensors */

static void poison(void *to, gsize bytes)
{
    const guint32 bits = POISON;
    for (gsize i = 0; i + sizeof bits <= bytes; i += sizeof bits)
        memcpy((char *)to + i, &bits, sizeof bits);
}

static gboolean is_poison(const CheckTensor *t, gsize i)
{
    guint32 bits = 0;
    memcpy(&bits, (char *)t->elements + i * t->element_size, t->element_size);
    return bits == (t->element_size == 2 ? POISON & 0xffff : POISON);
}

static gboolean is_zero(const CheckTensor *t, gsize i)
{
    guint32 bits = 0;
    memcpy(&bits, (char *)t->elements + i * t->element_size, t->element_size);
    return bits == 0;
}

float *check_alloc(gsize n)
{
    float *memory = dcae_aligned_alloc(MAX(n, 1) * sizeof *memory);
    g_assert(memory);
    poison(memory, n * sizeof *memory);
    return memory;
}

static CheckTensor *tensor_new(gsize element_size, guint parts, guint h, guint w, guint value_c,
                               guint c0, guint c, guint row0, guint n_rows)
{
    CheckTensor *t = g_new0(CheckTensor, 1);
    gsize lanes = (value_c + 15) / 16 * 16, stride = parts * lanes, bytes;
    t->value_c = value_c;
    t->c0 = c0;
    t->n_rows = n_rows;
    t->element_size = element_size;
    t->n_elements = (gsize)n_rows * w * stride;
    bytes = t->n_elements * element_size;
    t->memory = dcae_aligned_alloc(bytes + 2 * GUARD_BYTES);
    g_assert(t->memory);
    memset(t->memory, GUARD, bytes + 2 * GUARD_BYTES);
    t->elements = (char *)t->memory + GUARD_BYTES;
    memset(t->elements, 0, bytes);
    t->rows = (DcaeRows){.data = (char *)t->elements + c0 * element_size,
                         .row0 = (gint)row0,
                         .h = h,
                         .w = w,
                         .c = c,
                         .pixel_stride = stride,
                         .row_stride = stride * w,
                         .low = parts > 1 ? lanes : 0};
    return t;
}

CheckTensor *check_tensor_new(const Check *check, guint h, guint w, guint value_c, guint c0,
                              guint c, guint row0, guint n_rows)
{
    guint parts = check_is_bf16(check) && g_rand_boolean(check->rand) ? 2 : 1;
    return tensor_new(check->build->kernels.element_size, parts, h, w, value_c, c0, c, row0,
                      n_rows);
}

CheckTensor *check_tensor_new_plain(const Check *check, guint h, guint w, guint value_c, guint c0,
                                    guint c, guint row0, guint n_rows)
{
    return tensor_new(check->build->kernels.element_size, 1, h, w, value_c, c0, c, row0, n_rows);
}

void check_tensor_free(CheckTensor *tensor)
{
    if (!tensor)
        return;
    dcae_aligned_free(tensor->memory);
    g_free(tensor);
}

void check_tensor_poison(CheckTensor *tensor)
{
    poison(tensor->elements, tensor->n_elements * tensor->element_size);
}

/* The bits of x as bf16; subnormal numbers become 0, as in the processor's instruction. */
static guint16 to_bf16(float x)
{
    float rounded = (float)def_latent_round(DCAE_LATENT_BF16, x);
    guint32 bits;
    if (isnan(x))
        rounded = x;
    if (fabsf(x) < 0x1p-126f)
        rounded = copysignf(0, x);
    memcpy(&bits, &rounded, sizeof bits);
    return (guint16)(bits >> 16 | (isnan(x) ? 0x40 : 0));
}

static double from_bf16(guint16 half)
{
    guint32 bits = (guint32)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

gboolean check_is_bf16(const Check *check)
{
    return check->build->kernels.element_size == 2;
}

float check_round_weight(const Check *check, float x)
{
    return check_is_bf16(check) ? (float)from_bf16(to_bf16(x)) : x;
}

double check_round(const CheckTensor *t, float x)
{
    float high = (float)from_bf16(to_bf16(x));
    if (t->element_size != 2)
        return x;
    return t->rows.low ? high + from_bf16(to_bf16(x - high)) : high;
}

double check_store_error(const CheckTensor *t, double x)
{
    return t->element_size == 2 ? ldexp(fabs(x), t->rows.low ? -16 : -8) : 0;
}

double check_element(const CheckTensor *t, gsize i)
{
    const guint16 *half = (const guint16 *)t->elements + i;
    if (t->element_size == 2)
        return from_bf16(*half) + (t->rows.low ? from_bf16(half[t->rows.low]) : 0);
    return ((const float *)t->elements)[i];
}

void check_set_element(CheckTensor *t, gsize i, float x)
{
    guint16 *half = (guint16 *)t->elements + i;
    if (t->element_size != 2) {
        ((float *)t->elements)[i] = x;
        return;
    }
    *half = to_bf16(x);
    if (t->rows.low)
        half[t->rows.low] = to_bf16(x - (float)from_bf16(*half));
}

void check_tensor_fill(Check *check, CheckTensor *tensor, CheckFill fill)
{
    gsize pixels = (gsize)tensor->n_rows * tensor->rows.w;
    g_autofree float *pixel = g_new(float, tensor->value_c);
    for (gsize i = 0; i < pixels; i++) {
        check_fill(check, pixel, tensor->value_c, fill);
        for (gsize c = 0; c < tensor->value_c; c++)
            check_set_element(tensor, i * tensor->rows.pixel_stride + c, pixel[c]);
    }
}

CheckTensor *check_tensor_rows(const CheckTensor *t, guint row0, guint n_rows)
{
    CheckTensor *copy = tensor_new(t->element_size, t->rows.low ? 2 : 1, t->rows.h, t->rows.w,
                                   t->value_c, t->c0, t->rows.c, row0, n_rows);
    gsize from = (row0 - (gsize)t->rows.row0) * t->rows.row_stride;
    memcpy(copy->elements, (char *)t->elements + from * t->element_size,
           copy->n_elements * t->element_size);
    return copy;
}

double *check_dense(const CheckTensor *t)
{
    const DcaeRows *r = &t->rows;
    double *d = g_new(double, (gsize)r->h * r->w * r->c), *to = d;
    for (guint y = 0; y < r->h; y++)
        for (guint x = 0; x < r->w; x++)
            for (guint c = 0; c < r->c; c++)
                *to++ = check_element(t, y * r->row_stride + x * r->pixel_stride + t->c0 + c);
    return d;
}

void check_same(Check *check, const char *name, const CheckTensor *whole, const CheckTensor *band)
{
    gsize first = (gsize)(band->rows.row0 - whole->rows.row0) * whole->rows.row_stride;
    const char *wanted = (char *)whole->elements + first * whole->element_size;
    for (gsize i = 0; i < band->n_elements; i++) {
        gsize at = i * band->element_size;
        if (memcmp(wanted + at, (char *)band->elements + at, band->element_size) != 0) {
            check_fail(check, "%s: rows %d to %d differ from the whole: %.9g, not %.9g", name,
                       band->rows.row0, band->rows.row0 + (gint)band->n_rows,
                       check_element(band, i), check_element(whole, first + i));
            return;
        }
    }
}

void check_tensor_guards(Check *check, const CheckTensor *t)
{
    const guchar *bytes = t->memory;
    gsize n = t->n_elements * t->element_size;
    for (gsize i = 0; i < GUARD_BYTES; i++)
        if (bytes[i] != GUARD || bytes[GUARD_BYTES + n + i] != GUARD) {
            check_fail(check, "guard byte %" G_GSIZE_FORMAT " was overwritten", i);
            return;
        }
    gboolean last = t->c0 + t->rows.c == t->value_c;
    for (gsize i = 0; i < t->n_elements; i++) {
        gsize lane = i % t->rows.pixel_stride, c = t->rows.low ? lane % t->rows.low : lane;
        if (c >= t->c0 && c < t->c0 + t->rows.c)
            continue;
        gboolean padding = c >= t->value_c && last, zero = is_zero(t, i);
        /* Nobody reads the padding of a second part. */
        if (padding ? !zero && (lane == c || !is_poison(t, i)) : !is_poison(t, i)) {
            check_fail(check, "channel %" G_GSIZE_FORMAT " outside the op's was written", c);
            return;
        }
    }
}

/* ---- running */

void check_run(Check *check, const DcaeCpuKernel *kernel, const DcaeCpuCall *call)
{
    gsize n = kernel->n_tasks(call),
          bytes = kernel->scratch_bytes ? kernel->scratch_bytes(call) : 0;
    guchar *scratch = dcae_aligned_alloc(bytes + GUARD_BYTES);
    gsize *order = g_new(gsize, n);
    g_assert(scratch);
    for (gsize i = 0; i < n; i++)
        order[i] = i;
    for (gsize i = n; i > 1; i--) {
        gsize j = g_rand_int(check->rand) % i, t = order[j];
        order[j] = order[i - 1];
        order[i - 1] = t;
    }
    memset(scratch + bytes, GUARD, GUARD_BYTES);
    for (gsize i = 0; i < n; i++) {
        poison(scratch, bytes);
        kernel->run(call, order[i], scratch);
    }
    for (gsize i = 0; i < GUARD_BYTES; i++)
        if (scratch[bytes + i] != GUARD) {
            check_fail(check, "scratch memory: byte %" G_GSIZE_FORMAT " behind the end", i);
            break;
        }
    dcae_aligned_free(scratch);
    g_free(order);
}

typedef struct {
    const DcaeCpuKernel *kernel;
    const DcaeCpuCall *call;
    guchar *scratch;
    gsize scratch_stride;
} Timed;

static void timed_task(gpointer data, gsize task, guint thread)
{
    const Timed *t = data;
    t->kernel->run(t->call, task, t->scratch + thread * t->scratch_stride);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

CheckTime check_time(Check *check, const DcaeCpuKernel *kernel, const DcaeCpuCall *call,
                     double seconds)
{
    enum { MAX_RUNS = 1000 };
    double times[MAX_RUNS], total = 0;
    clock_t cpu;
    guint n = 0, threads = dcae_pool_threads(check->pool);
    DcaeCpuCall threaded = *call;
    threaded.threads = threads;
    gsize bytes = kernel->scratch_bytes ? kernel->scratch_bytes(&threaded) : 0;
    Timed timed = {.kernel = kernel, .call = &threaded, .scratch_stride = (bytes + 4159) / 64 * 64};
    timed.scratch = dcae_aligned_alloc(threads * timed.scratch_stride);
    g_assert(timed.scratch);
    dcae_pool_run(check->pool, kernel->n_tasks(&threaded), timed_task, &timed);
    cpu = clock();
    while (n < 5 || (total < seconds && n < MAX_RUNS)) {
        gint64 start = g_get_monotonic_time();
        dcae_pool_run(check->pool, kernel->n_tasks(&threaded), timed_task, &timed);
        times[n] = (double)(g_get_monotonic_time() - start) * 1e-6;
        total += times[n++];
    }
    cpu = clock() - cpu;
    dcae_aligned_free(timed.scratch);
    qsort(times, n, sizeof times[0], compare_double);
    return (CheckTime){.median = times[n / 2],
                       .best = times[0],
                       .cpu = (double)cpu / CLOCKS_PER_SEC / n / threads};
}

void check_bench_line(Check *check, const char *name, CheckTime time, double flop)
{
    printf("%-8s %-44s %2u threads %9.3f ms, %7.1f GFLOP/s; best %7.1f, by processor time %7.1f\n",
           check->build->isa, name, dcae_pool_threads(check->pool), time.median * 1e3,
           flop / time.median * 1e-9, flop / time.best * 1e-9, flop / time.cpu * 1e-9);
    fflush(stdout);
}

/* ---- main */

/* The last one keeps the twin. */
#define MAX_BUILDS 7

static gsize make_builds(CheckBuild builds[MAX_BUILDS])
{
    static const char *const names[] = {"", "generic", "avx2", "avx512"};
    gsize n = 0;
    for (DcaeIsa isa = DCAE_ISA_GENERIC; isa <= dcae_cpu_isa(); isa++) {
        builds[n].isa = names[isa];
        dcae_cpu_kernels_init(&builds[n++].kernels, isa, DCAE_PRECISION_F32);
    }
    if (dcae_cpu_has_bf16()) {
        builds[n].isa = "bf16";
        dcae_cpu_kernels_init(&builds[n].kernels, DCAE_ISA_AVX512, DCAE_PRECISION_BF16);
        builds[n++].twin = &builds[MAX_BUILDS - 1].kernels;
    }
    builds[n].isa = "emu512";
    n += emulated_kernels_init(&builds[n].kernels, DCAE_PRECISION_F32);
    CheckBuild *emulated = &builds[MAX_BUILDS - 1];
    if (emulated_kernels_init(&emulated->kernels, DCAE_PRECISION_BF16)) {
        builds[n] = *emulated;
        builds[n++].isa = "emubf16";
    }
    return n;
}

int main(int argc, char **argv)
{
    static CheckBuild builds[MAX_BUILDS];
    gboolean bench = FALSE;
    gint threads = 2;
    gint64 seed = g_get_real_time() & 0xffffff;
    g_autofree char *filter = NULL, *isa = NULL;
    const GOptionEntry entries[] = {
        {"bench", 0, 0, G_OPTION_ARG_NONE, &bench, "measure instead of checking", NULL},
        {"filter", 0, 0, G_OPTION_ARG_STRING, &filter, "only names that contain this", "TEXT"},
        {"isa", 0, 0, G_OPTION_ARG_STRING, &isa, "only this instruction set", "NAME"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "of the random numbers", "N"},
        {"threads", 0, 0, G_OPTION_ARG_INT, &threads, "for --bench", "N"},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    Check check = {.seed = (guint64)seed, .filter = filter, .rand = g_rand_new()};
    if (bench && !(check.pool = dcae_pool_new((guint)threads, &error))) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    printf("# --seed=%" G_GINT64_FORMAT "\n", seed);
    gsize n_builds = make_builds(builds);
    for (gsize b = 0; b < n_builds; b++) {
        check.build = &builds[b];
        if (isa && strcmp(isa, builds[b].isa) != 0)
            continue;
        for (gsize f = 0; f < G_N_ELEMENTS(families); f++)
            (bench ? families[f].bench : families[f].check)(&check);
    }
    if (!bench)
        printf("1..%u\n", n_cases);
    g_rand_free(check.rand);
    dcae_pool_free(check.pool);
    return n_failed > 0;
}
