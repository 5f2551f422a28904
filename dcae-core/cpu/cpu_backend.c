/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cpu_backend.c - the contract of dcae_backend.h on the CPU: packs layers through the kernel table
 * and runs the steps of a plan over the thread pool. Knows tensors by the names that layers carry,
 * nothing of the network. Read next: cpu_kernels.h.
 */
#include <string.h>

#include "../dcae_memory.h"
#include "../dcae_tensor.h"
#include "cpu_families.h"
#include "cpu_pool.h"

/* Packing reads a layer's weights beside the packed ones: more threads would need more memory than
 * they save time. */
#define MAX_PACK_THREADS 8
/* What a thread should have to do in one step: use a layer's weights so many times, or they are
 * read at the cost of computing; and in convolutions so many multiplications, or handing out the
 * step and keeping rows for the next costs too much, but for that no more rows of tiles. Measured.
 */
#define MIN_USES 48
#define MIN_PRODUCTS (150u << 20)
#define MIN_TILE_ROWS 2
#define MAX_TILE_ROWS 3
/* Bytes of activations that are not worth saving: small networks run bands of few rows slower than
 * whole frames. */
#define FREE_BYTES ((gsize)64 << 20)
/* Results that wait for their wait(). */
#define N_RESULTS 4

struct _DcaeWeights {
    const DcaeCpuKernels *kernels;
    guint n_layers;
    gsize *offset; /* floats from packed, per layer; n_layers + 1 */
    float *packed;
};

/* ---- probe and traits */

static gboolean probe(const DcaeBackendParams *params, GError **error)
{
    if (params->precision == DCAE_PRECISION_F32)
        return TRUE;
    if (params->precision == DCAE_PRECISION_BF16 && params->isa >= DCAE_ISA_AVX512 &&
        dcae_cpu_has_bf16())
        return TRUE;
    if (params->precision == DCAE_PRECISION_BF16)
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "bf16 on the CPU needs a processor with AVX512-BF16; leave precision at auto "
                    "or f32");
    else
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "the CPU backend does not compute in f16; leave precision at auto or f32");
    return FALSE;
}

static const DcaeCpuKernels *get_kernels(const DcaeBackendParams *params)
{
    return params->cpu_kernels ? params->cpu_kernels
                               : dcae_cpu_kernels_get(params->isa, params->precision);
}

static guint row_align(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params)
{
    const DcaeCpuKernel *kernel = &get_kernels(backend_params)->kernel[op->kind];
    if (op->layer && kernel->row_align)
        return kernel->row_align(op->layer);
    return op->kind == DCAE_OP_PIXELS_OUT ? 2 : 1; /* rows of 4:2:0 come in pairs */
}

static guint row_shift(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params)
{
    const DcaeCpuKernel *kernel = &get_kernels(backend_params)->kernel[op->kind];
    if (op->layer && kernel->row_shift)
        return kernel->row_shift(op->layer);
    return 0;
}

/* A value's slot as far as a kernel can tell without a plan. */
static DcaeRows rows_of_value(const DcaeProgram *program, guint value)
{
    if (value == DCAE_NO_VALUE)
        return (DcaeRows){0};
    const DcaeValue *v = &program->values[value];
    gsize stride = v->state ? v->c : dcae_round_up(v->c, 16);
    return (DcaeRows){
        .h = v->h, .w = v->w, .c = v->c, .pixel_stride = stride, .row_stride = v->w * stride};
}

/* The channels of its values that an op uses. */
static void set_channels(const DcaeOp *op, DcaeRows *in, DcaeRows *out)
{
    if (op->layer) {
        in->c = op->layer->in_c;
        out->c = op->layer->out_c;
    } else if (op->kind == DCAE_OP_ATTN_SUM) {
        in->c = 2 * op->heads * op->head_dim;
    } else if (op->kind == DCAE_OP_ATTN_APPLY) {
        in->c = out->c = op->heads * op->head_dim;
    }
}

/* A step of `rows` output rows, as far as a kernel can tell without a plan. */
static DcaeCpuCall call_of_rows(const DcaeProgram *program, const DcaeOp *op, guint rows,
                                guint threads)
{
    DcaeCpuCall call = {
        .program = program,
        .op = op,
        .in = rows_of_value(program, op->in),
        .out = rows_of_value(program, op->out),
        .residual = rows_of_value(program, op->residual),
        .above = rows_of_value(program, op->above),
        .left = rows_of_value(program, op->left),
        .threads = threads,
        .y1 = rows,
    };
    set_channels(op, &call.in, &call.out);
    return call;
}

/* Scratch bytes of one thread. */
static gsize scratch_stride(const DcaeCpuKernel *kernel, const DcaeCpuCall *call)
{
    return (kernel->scratch_bytes(call) + 63) / 64 * 64;
}

static gsize workspace(const DcaeProgram *program, const DcaeOp *op, guint rows,
                       gconstpointer backend_params)
{
    const DcaeBackendParams *params = backend_params;
    DcaeCpuCall call = call_of_rows(program, op, rows, params->threads);
    return scratch_stride(&get_kernels(params)->kernel[op->kind], &call) * params->threads;
}

/* Rows from `least` on with a task for each thread, or with as many as whole frames have. */
static guint rows_for_threads(const DcaeProgram *program, const DcaeOp *op, guint least,
                              const DcaeBackendParams *params)
{
    const DcaeCpuKernel *kernel = &get_kernels(params)->kernel[op->kind];
    guint h = op->out != DCAE_NO_VALUE ? program->values[op->out].h : program->values[op->in].h;
    DcaeCpuCall call = call_of_rows(program, op, h, params->threads);
    gsize wanted = MIN(kernel->n_tasks(&call), params->threads);
    guint align = row_align(program, op, params);

    for (guint rows = least; rows < h; rows = dcae_round_up(rows, align)) {
        call.y1 = rows;
        gsize tasks = kernel->n_tasks(&call);
        if (tasks >= wanted)
            return rows;
        rows = (guint)((rows * wanted + tasks - 1) / tasks);
    }
    return h;
}

/* Every thread should have a task, and a layer's weights should be used often; they are used once
 * for each align × align output pixels: tiles are square. */
static guint free_rows(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params)
{
    const DcaeBackendParams *params = backend_params;
    guint align = row_align(program, op, params);
    if (op->out == DCAE_NO_VALUE)
        return rows_for_threads(program, op, MIN_TILE_ROWS * align, params);
    guint across = dcae_ceil_div(program->values[op->out].w, align);
    guint rows = dcae_ceil_div(MIN_USES * params->threads, across);
    if (op->kind == DCAE_OP_CONV) {
        const DcaeCpuKernels *kernels = get_kernels(params);
        /* Twice as many rows of bf16 lie in the same memory. */
        gsize many = sizeof(float) / kernels->element_size;
        gsize products = kernels->kernel[op->kind].packed_bytes(op->layer) / sizeof(float);
        gsize wanted = many * MIN_PRODUCTS * params->threads / (products * across) + 1;
        rows = MAX(rows, (guint)MIN(wanted, many * MAX_TILE_ROWS));
    }
    return rows_for_threads(program, op, align * rows, params);
}

/* bf16: which values keep what rounding takes off them, in a second part of their pixels. Sums over
 * few channels show every rounding, and narrow values are small beside others. The stream that
 * residuals are added to is rounded again in each block, which sums up; on the largest planes,
 * which the peak of memory is made of, it stays in one part. */
static void two_parts(const DcaeProgram *program, guint *c_stride)
{
    gsize largest = 0;
    for (guint v = 0; v < program->n_values; v++)
        if (!program->values[v].state)
            largest = MAX(largest, (gsize)program->values[v].h * program->values[v].w);
    for (guint i = 0; i < program->n_ops; i++) {
        const DcaeOp *op = &program->ops[i];
        if (op->out != DCAE_NO_VALUE && program->values[op->out].c <= DCAE_CPU_NARROW)
            c_stride[op->out] = 2 * dcae_round_up(program->values[op->out].c, 16);
        if (op->residual == DCAE_NO_VALUE)
            continue;
        const DcaeValue *residual = &program->values[op->residual];
        if ((gsize)residual->h * residual->w <= largest / 4)
            c_stride[op->residual] = 2 * dcae_round_up(residual->c, 16);
    }
}

static void traits(const DcaeBackendParams *params, DcaeTraits *traits)
{
    gsize element_size = get_kernels(params)->element_size;
    *traits = (DcaeTraits){
        .row_align = row_align,
        .row_shift = row_shift,
        .free_rows = free_rows,
        .free_bytes = FREE_BYTES,
        .workspace = workspace,
        .pixels = element_size == 2 ? two_parts : NULL,
        .element_size = element_size,
        .backend_params = params,
        .workspace_in_arena = TRUE,
    };
}

/* ---- packing */

typedef struct {
    DcaeModel *model;
    const DcaeProgram *program;
    const DcaeBackendParams *params;
    DcaeWeights *weights;
    gint n_done;
    GMutex mutex;
    GError *error; /* the first one */
} Packing;

static gboolean pack_layer(Packing *p, guint index, GError **error)
{
    const DcaeLayer *layer = &p->program->layers[index];
    const DcaeCpuKernel *kernel = &p->weights->kernels->kernel[layer->kind];
    DcaeLayerWeights weights;
    gboolean ok = dcae_layer_weights_read(p->model, layer, &weights, error);
    if (ok)
        kernel->pack(layer, &weights, p->weights->packed + p->weights->offset[index]);
    dcae_layer_weights_clear(&weights);
    return ok;
}

static void pack_task(gpointer data, gsize task, guint thread)
{
    Packing *p = data;
    GError *error = NULL;
    gboolean failed;
    g_mutex_lock(&p->mutex);
    failed = p->error != NULL;
    g_mutex_unlock(&p->mutex);
    if (failed || g_cancellable_is_cancelled(p->params->cancellable))
        return;
    if (!pack_layer(p, (guint)task, &error)) {
        g_mutex_lock(&p->mutex);
        if (!p->error)
            p->error = error;
        else
            g_error_free(error);
        g_mutex_unlock(&p->mutex);
    }
    gint done = g_atomic_int_add(&p->n_done, 1) + 1;
    /* Thread 0 is the caller's own, and progress is promised to come on it. */
    if (thread == 0 && p->params->progress)
        p->params->progress("model-pack", (double)done / p->program->n_layers,
                            p->params->progress_data);
}

static void weights_free(DcaeWeights *weights)
{
    if (!weights)
        return;
    dcae_aligned_free(weights->packed);
    g_free(weights->offset);
    g_free(weights);
}

/* Sizes of all layers; NULL where there is no memory for them. */
static DcaeWeights *weights_new(const DcaeProgram *program, const DcaeBackendParams *params,
                                GError **error)
{
    DcaeWeights *weights = g_new0(DcaeWeights, 1);
    gsize total = 0;
    gboolean fits = TRUE;
    weights->kernels = get_kernels(params);
    weights->n_layers = program->n_layers;
    weights->offset = g_new0(gsize, (gsize)program->n_layers + 1);
    for (guint i = 0; i < program->n_layers && fits; i++) {
        const DcaeLayer *layer = &program->layers[i];
        gsize bytes = weights->kernels->kernel[layer->kind].packed_bytes(layer);
        fits = bytes <= G_MAXSIZE - 63 && dcae_add_size(total, (bytes + 63) / 64 * 64, &total);
        weights->offset[i + 1] = total / sizeof(float);
    }
    weights->packed = fits ? dcae_aligned_alloc(total) : NULL;
    if (!weights->packed) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                    "no memory for the packed weights (%" G_GSIZE_FORMAT " MiB)", total >> 20);
        weights_free(weights);
        return NULL;
    }
    return weights;
}

static DcaeWeights *prepare(DcaeModel *model, const DcaeProgram *program,
                            const DcaeBackendParams *params, GError **error)
{
    Packing p = {.model = model, .program = program, .params = params};
    if (!dcae_layer_weights_check(model, program, error))
        return NULL;
    DcaePool *pool = dcae_pool_new(MIN(params->threads, MAX_PACK_THREADS), error);
    if (!pool)
        return NULL;
    p.weights = weights_new(program, params, error);
    if (p.weights) {
        g_mutex_init(&p.mutex);
        dcae_pool_run(pool, program->n_layers, pack_task, &p);
        g_mutex_clear(&p.mutex);
    }
    dcae_pool_free(pool);
    if (!p.weights)
        return NULL;
    if (!p.error && g_cancellable_is_cancelled(params->cancellable))
        g_set_error(&p.error, DCAE_ERROR, DCAE_ERROR_CANCELLED,
                    "packing the weights was cancelled");
    if (p.error) {
        g_propagate_error(error, p.error);
        weights_free(p.weights);
        return NULL;
    }
    if (params->progress)
        params->progress("model-pack", 1.0, params->progress_data);
    return p.weights;
}

static gsize weights_bytes(const DcaeWeights *weights)
{
    return weights->offset[weights->n_layers] * sizeof(float);
}

/* ---- running */

typedef struct {
    guint64 ticket;
    GError *error;
    double *ms; /* per op */
} Result;

typedef struct {
    const DcaeWeights *weights;
    const DcaePlan *plan;
    GCancellable *cancellable;
    DcaePool *pool;
    guint8 *arena;
    DcaeCpuCall *calls; /* one per image of the batch */
    gint *not_finite;   /* one per image */
    guint64 next_ticket;
    Result results[N_RESULTS];
} Instance;

/* One step of all images: task t is task t % per_image of image t / per_image. */
typedef struct {
    Instance *self;
    const DcaeCpuKernel *kernel;
    gsize per_image;
    guint8 *scratch;
    gsize scratch_stride; /* bytes from thread to thread */
} StepRun;

static void step_task(gpointer data, gsize task, guint thread)
{
    const StepRun *run = data;
    const Instance *self = run->self;
    if (g_cancellable_is_cancelled(self->cancellable))
        return; /* a step of a large frame takes seconds */
    run->kernel->run(&self->calls[task / run->per_image], task % run->per_image,
                     run->scratch + thread * run->scratch_stride);
}

static guint8 *image_memory(const Instance *self, const DcaeSlot *slot, guint image)
{
    return self->arena + slot->offset + image * slot->image_bytes;
}

/* The rows of a value as the plan's slot holds them. */
static DcaeRows slot_rows(const Instance *self, guint value, guint c0, guint row0, guint image)
{
    if (value == DCAE_NO_VALUE)
        return (DcaeRows){0};
    const DcaeSlot *slot = &self->plan->slots[value];
    gsize element_size = self->weights->kernels->element_size;
    return (DcaeRows){
        .data = image_memory(self, slot, image) + c0 * element_size,
        .row0 = (gint)row0,
        .h = slot->h,
        .w = slot->w,
        .c = slot->c,
        .pixel_stride = slot->c_stride,
        .row_stride = slot->row_bytes / element_size,
        .low = slot->c_stride > dcae_round_up(slot->c, 16) ? slot->c_stride / 2 : 0,
    };
}

/* All of the call but the caller's picture and latent. */
static void make_call(Instance *self, const DcaeStep *step, guint image)
{
    const DcaeProgram *program = self->plan->program;
    const DcaeOp *op = &program->ops[step->op];
    DcaeCpuCall *call = &self->calls[image];
    *call = (DcaeCpuCall){
        .program = program,
        .op = op,
        .packed = op->layer ? self->weights->packed + self->weights->offset[op->layer_index] : NULL,
        .in = slot_rows(self, op->in, op->in_c0, step->in_row0, image),
        .out = slot_rows(self, op->out, op->out_c0, step->out_row0, image),
        .residual = slot_rows(self, op->residual, 0, step->residual_row0, image),
        .above = slot_rows(self, op->above, 0, 0, image),
        .left = slot_rows(self, op->left, 0, 0, image),
        .threads = dcae_pool_threads(self->pool),
        .skip = step->skip,
        .y0 = step->y0,
        .y1 = step->y1,
        .not_finite = &self->not_finite[image],
    };
    set_channels(op, &call->in, &call->out);
    if (op->state != DCAE_NO_VALUE)
        call->state = (float *)image_memory(self, &self->plan->slots[op->state], image);
}

static void set_view(DcaeCpuCall *call, const DcaeView *in, const DcaeView *out)
{
    DcaeOpKind kind = call->op->kind;
    if (kind == DCAE_OP_PIXELS_IN || kind == DCAE_OP_PIXELS_OUT)
        call->image = kind == DCAE_OP_PIXELS_IN ? &in->image : &out->image;
    if (kind == DCAE_OP_LATENT_IN || kind == DCAE_OP_LATENT_OUT)
        call->latent = kind == DCAE_OP_LATENT_IN ? &in->latent : &out->latent;
}

static void run_step(Instance *self, const DcaeStep *step, const DcaeView *in, const DcaeView *out,
                     guint n)
{
    const DcaeOp *op = &self->plan->program->ops[step->op];
    StepRun run = {.self = self,
                   .kernel = &self->weights->kernels->kernel[op->kind],
                   .scratch = self->arena + step->workspace};
    for (guint i = 0; i < n; i++) {
        make_call(self, step, i);
        set_view(&self->calls[i], in + i, out + i);
    }
    run.scratch_stride = scratch_stride(run.kernel, &self->calls[0]);
    run.per_image = run.kernel->n_tasks(&self->calls[0]);
    dcae_pool_run(self->pool, run.per_image * n, step_task, &run);
}

#define KEEP_BYTES 32

/* KEEP as tasks: each moves one slice of all rows, top down, so that source and target may overlap.
 */
typedef struct {
    Instance *self;
    const DcaeStep *step;
    gsize slices; /* of an image's rows */
} KeepRun;

static void keep_task(gpointer data, gsize task, guint thread)
{
    const KeepRun *run = data;
    const DcaeSlot *slot = &run->self->plan->slots[run->step->value];
    /* Pixels have multiples of 16 channels, so rows are whole pieces. */
    gsize pieces = slot->row_bytes / KEEP_BYTES, slice = task % run->slices;
    gsize begin = pieces * slice / run->slices * KEEP_BYTES;
    gsize end = pieces * (slice + 1) / run->slices * KEEP_BYTES;
    guint8 *to = image_memory(run->self, slot, (guint)(task / run->slices)) + begin;
    for (guint y = run->step->y0; y < run->step->y1; y++, to += slot->row_bytes)
        memcpy(to, to + run->step->in_row * slot->row_bytes, end - begin);
}

static void keep_rows(Instance *self, const DcaeStep *step, guint n)
{
    KeepRun run = {.self = self, .step = step, .slices = dcae_pool_threads(self->pool)};
    if (step->in_row > 0)
        dcae_pool_run(self->pool, run.slices * n, keep_task, &run);
}

static void clear_state(Instance *self, const DcaeStep *step, guint n)
{
    const DcaeSlot *slot = &self->plan->slots[step->value];
    for (guint i = 0; i < n; i++)
        memset(image_memory(self, slot, i), 0, (gsize)slot->h * slot->w * slot->c * sizeof(float));
}

static void set_not_finite(GError **error, guint frame, guint n)
{
    g_autofree char *which = n > 1 ? g_strdup_printf("frame %u of the batch of %u", frame + 1, n)
                                   : g_strdup("the frame");

    g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE,
                "%s has values that are not finite (NaN or infinity)", which);
}

static void run_steps(Instance *self, const DcaeView *in, const DcaeView *out, guint n,
                      Result *result)
{
    for (guint i = 0; i < self->plan->n_steps && !g_cancellable_is_cancelled(self->cancellable);
         i++) {
        const DcaeStep *step = &self->plan->steps[i];
        gint64 start = g_get_monotonic_time();
        if (step->kind == DCAE_STEP_RUN) {
            run_step(self, step, in, out, n);
            result->ms[step->op] += (double)(g_get_monotonic_time() - start) / 1000.0;
        } else if (step->kind == DCAE_STEP_KEEP) {
            keep_rows(self, step, n);
        } else {
            clear_state(self, step, n);
        }
    }
    if (g_cancellable_is_cancelled(self->cancellable))
        g_set_error(&result->error, DCAE_ERROR, DCAE_ERROR_CANCELLED, "the frame was cancelled");
    for (guint i = 0; i < n; i++)
        if (self->not_finite[i] && !result->error)
            set_not_finite(&result->error, i, n);
}

static gboolean submit(void *instance, const DcaeView *in, const DcaeView *out, guint n,
                       guint64 *ticket, GError **error)
{
    Instance *self = instance;
    Result *result = &self->results[self->next_ticket % N_RESULTS];
    g_clear_error(&result->error);
    memset(result->ms, 0, self->plan->program->n_ops * sizeof *result->ms);
    memset(self->not_finite, 0, self->plan->batch * sizeof *self->not_finite);
    result->ticket = *ticket = self->next_ticket++;
    run_steps(self, in, out, n, result);
    return TRUE;
}

static gboolean wait(void *instance, guint64 ticket, double *ms, GError **error)
{
    Instance *self = instance;
    Result *result = &self->results[ticket % N_RESULTS];
    if (result->ticket != ticket) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND,
                    "the result of run %" G_GUINT64_FORMAT " is gone: %d later runs were started",
                    ticket, N_RESULTS);
        return FALSE;
    }
    if (ms)
        memcpy(ms, result->ms, self->plan->program->n_ops * sizeof *ms);
    if (!result->error)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&result->error));
    return FALSE;
}

static void close_instance(void *instance)
{
    Instance *self = instance;
    dcae_pool_free(self->pool);
    dcae_aligned_free(self->arena);
    g_clear_object(&self->cancellable);
    for (guint i = 0; i < N_RESULTS; i++) {
        g_clear_error(&self->results[i].error);
        g_free(self->results[i].ms);
    }
    g_free(self->calls);
    g_free(self->not_finite);
    g_free(self);
}

/* Linux promises more memory than there is, or than a control group may have, and kills whoever
 * uses it. */
static gboolean check_machine(const DcaePlan *plan, GError **error)
{
    guint64 total = dcae_memory_read("").total;

    if (plan->peak_bytes < total)
        return TRUE;
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                "frames of this size need %" G_GSIZE_FORMAT
                " MiB for activations, but this process may use %" G_GUINT64_FORMAT
                " MiB; set a memory limit, or use smaller frames or batches",
                (plan->peak_bytes >> 20) + 1, total >> 20);
    return FALSE;
}

static gboolean open_instance(void **instance, const DcaeWeights *weights, const DcaePlan *plan,
                              const DcaeBackendParams *params, GError **error)
{
    if (!check_machine(plan, error))
        return FALSE;

    Instance *self = g_new0(Instance, 1);
    self->weights = weights;
    self->plan = plan;
    self->cancellable = params->cancellable ? g_object_ref(params->cancellable) : NULL;
    self->calls = g_new0(DcaeCpuCall, plan->batch);
    self->not_finite = g_new0(gint, plan->batch);
    for (guint i = 0; i < N_RESULTS; i++)
        self->results[i].ms = g_new0(double, plan->program->n_ops);
    self->next_ticket = 1;
    self->arena = dcae_aligned_alloc(plan->arena_bytes);
    if (!self->arena) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                    "no memory for the activations of a frame (%" G_GSIZE_FORMAT " MiB)",
                    plan->peak_bytes >> 20);
        close_instance(self);
        return FALSE;
    }
    self->pool = dcae_pool_new(params->threads, error);
    if (!self->pool) {
        close_instance(self);
        return FALSE;
    }
    *instance = self;
    return TRUE;
}

const DcaeBackend dcae_cpu_backend = {
    .name = "cpu",
    .probe = probe,
    .traits = traits,
    .prepare = prepare,
    .weights_bytes = weights_bytes,
    .weights_free = weights_free,
    .open = open_instance,
    .submit = submit,
    .wait = wait,
    .close = close_instance,
};
