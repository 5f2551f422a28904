/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_backend.c - the contract of dcae_backend.h on CUDA: allocates the arena, and per submit
 * queues upload, the plan's steps and download on three streams. Several frames are in flight: each
 * has staging memory of its own, while the arena is used by one after the other. Which kernel a
 * step is, cuda_launch.c knows.
 */
#include <string.h>

#include "cuda_gemm.h"
#include "cuda_staging.h"
#include "cuda_weights.h"
#include "dcae_tensor.h"

#define FLIGHTS 3 /* one uploads, one computes, one downloads */
#define FRAME_ALIGN 256u

/* Pinned memory of the host and its twin on the device; grown at the first frame that needs it. */
typedef struct {
    guint8 *host;
    CUdeviceptr device;
    gsize bytes;
} Staging;

/* One submit, until its wait(). */
typedef struct {
    guint64 ticket; /* 0: free */
    guint n;
    DcaeView *in, *out; /* the caller's, copied */
    Staging up, down;
    CUdeviceptr not_finite; /* an int per image */
    gint *not_finite_host;  /* pinned */
    CUevent queued, uploaded, computed, done;
    CUevent *step_start; /* n_steps + 1, with times; NULL where nobody wants them */
} Flight;

typedef struct {
    const DcaeWeights *weights;
    const DcaePlan *plan;
    const DcaeCudaContext *context;
    const DcaeCudaDriver *cu;
    GCancellable *cancellable;
    CUdeviceptr arena, workspace;
    CUstream upload, compute, download;
    DcaeCudaGemm *gemm; /* NULL where no op of the plan is cuBLAS's */
    guint64 next_ticket;
    Flight flights[FLIGHTS];
} Instance;

/* ---- traits */

static guint align_of(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params)
{
    const DcaeBackendParams *params = backend_params;

    if (dcae_cuda_gemm_takes(op->layer, params->precision)) /* cuBLAS has its pieces */
        return dcae_cuda_gemm_rows(program->values[op->out].w);
    if (op->kind == DCAE_OP_ATTN_SUM)
        return dcae_cuda_attn_rows(program->values[op->in].w);
    if (op->kind == DCAE_OP_PIXELS_OUT)
        return 2; /* rows of 4:2:0 come in pairs */
    return op->layer != NULL && op->layer->shuffle == DCAE_SHUFFLE_UP ? 2 : 1;
}

/* Enough rows that the tiles of one launch fill a device of a hundred multiprocessors. */
static guint min_rows(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params)
{
    guint value = op->out != DCAE_NO_VALUE ? op->out : op->in;

    return dcae_round_up(MAX(dcae_ceil_div(100 * DCAE_MMA_TILE_M, program->values[value].w), 4),
                         align_of(program, op, backend_params));
}

static gsize workspace_bytes(const DcaeProgram *program, const DcaeOp *op, guint rows,
                             gconstpointer backend_params)
{
    const DcaeBackendParams *params = backend_params;

    if (dcae_cuda_gemm_takes(op->layer, params->precision))
        return DCAE_CUDA_GEMM_WORKSPACE;
    return op->kind == DCAE_OP_ATTN_SUM
               ? dcae_cuda_attn_workspace(program, op, rows)
               : dcae_cuda_split_workspace(program, op, params->precision, rows);
}

static void traits(const DcaeBackendParams *params, DcaeTraits *traits)
{
    gboolean bf16 = params->precision == DCAE_PRECISION_BF16;

    *traits = (DcaeTraits){
        .row_align = align_of,
        .min_rows = min_rows,
        .pixels = bf16 ? dcae_cuda_pixels_bf16 : NULL,
        .workspace = workspace_bytes,
        .element_size = dcae_cuda_element_size(params->precision),
        .backend_params = params,
    };
}

static gsize weights_bytes(const DcaeWeights *weights)
{
    return weights->bytes;
}

static guint64 free_bytes(const DcaeWeights *weights)
{
    const DcaeCudaContext *context = &weights->context;
    size_t available = 0, total = 0;

    if (!dcae_cuda_enter(context, NULL))
        return 0;
    if (context->cu->cuMemGetInfo_v2(&available, &total) != CUDA_SUCCESS)
        available = 0;
    dcae_cuda_leave(context);
    return available;
}

/* ---- staging */

static void staging_clear(const Instance *self, Staging *s)
{
    if (s->device != 0)
        self->cu->cuMemFree_v2(s->device);
    if (s->host != NULL)
        self->cu->cuMemFreeHost(s->host);
    *s = (Staging){0};
}

static gboolean alloc_pinned(const Instance *self, gsize bytes, void **host, GError **error)
{
    CUresult code = self->cu->cuMemAllocHost_v2(host, bytes);

    if (code == CUDA_SUCCESS)
        return TRUE;
    *host = NULL;
    if (code != CUDA_ERROR_OUT_OF_MEMORY)
        return dcae_cuda_check(self->cu, code, "cuMemAllocHost_v2", error);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                "no pinned memory of the host for the frames under way: %" G_GSIZE_FORMAT
                " MiB wanted from cuMemAllocHost_v2; lower batch-size",
                (bytes >> 20) + 1);
    return FALSE;
}

static gboolean staging_grow(const Instance *self, Staging *s, gsize bytes, GError **error)
{
    if (bytes <= s->bytes)
        return TRUE;
    staging_clear(self, s);
    if (!alloc_pinned(self, bytes, (void **)&s->host, error) ||
        !dcae_cuda_alloc(self->context, bytes, "the frames under way",
                         "; lower batch-size, or memory-limit, which leaves more to them",
                         &s->device, error))
        return FALSE;
    s->bytes = bytes;
    return TRUE;
}

static gboolean is_picture(const Instance *self, gboolean up)
{
    for (guint i = 0; i < self->plan->program->n_ops; i++) {
        DcaeOpKind kind = self->plan->program->ops[i].kind;
        if (kind == (up ? DCAE_OP_PIXELS_IN : DCAE_OP_PIXELS_OUT))
            return TRUE;
    }
    return FALSE;
}

static gboolean is_on_device(const DcaeView *view, gboolean picture)
{
    return (picture ? view->image.memory : view->latent.memory) == DCAE_MEMORY_CUDA;
}

/* Bytes that a frame takes in staging memory; 0 where it lies in device memory. */
static gsize staged_bytes(const DcaeView *view, gboolean picture, gboolean up)
{
    DcaeCudaLayout layout;

    if (is_on_device(view, picture))
        return 0;
    if (!picture)
        return dcae_cuda_latent_bytes(&view->latent);
    dcae_cuda_layout(&view->image, up, &layout);
    return layout.bytes;
}

static gsize align_frame(gsize bytes)
{
    return (bytes + FRAME_ALIGN - 1) / FRAME_ALIGN * FRAME_ALIGN;
}

/* Where frame i of a flight begins in its staging memory. */
static gsize frame_offset(const DcaeView *views, gboolean picture, gboolean up, guint i)
{
    gsize offset = 0;

    for (guint k = 0; k < i; k++)
        offset += align_frame(staged_bytes(&views[k], picture, up));
    return offset;
}

static gboolean upload(Instance *self, Flight *f, GError **error)
{
    gboolean picture = is_picture(self, TRUE);

    if (!staging_grow(self, &f->up, frame_offset(f->in, picture, TRUE, f->n), error))
        return FALSE;
    for (guint i = 0; i < f->n; i++) {
        gsize offset = frame_offset(f->in, picture, TRUE, i);
        gsize bytes = staged_bytes(&f->in[i], picture, TRUE);
        DcaeCudaLayout layout;
        if (bytes == 0)
            continue;
        if (picture) {
            dcae_cuda_layout(&f->in[i].image, TRUE, &layout);
            dcae_cuda_layout_pack(&layout, f->up.host + offset);
        } else {
            memcpy(f->up.host + offset, f->in[i].latent.data, bytes);
        }
        if (!CU(self->cu, error, cuMemcpyHtoDAsync_v2, f->up.device + offset, f->up.host + offset,
                bytes, self->upload))
            return FALSE;
    }
    return CU(self->cu, error, cuEventRecord, f->uploaded, self->upload) &&
           CU(self->cu, error, cuStreamWaitEvent, self->compute, f->uploaded, 0);
}

/* Streams of ours don't wait for the legacy default stream by themselves, on which others may just
 * be copying frames in device memory. */
static gboolean wait_for_caller(Instance *self, Flight *f, GError **error)
{
    gboolean picture_in = is_picture(self, TRUE), picture_out = is_picture(self, FALSE);
    gboolean on_device = FALSE;

    for (guint i = 0; i < f->n; i++)
        on_device |= is_on_device(&f->in[i], picture_in) || is_on_device(&f->out[i], picture_out);
    return !on_device || (CU(self->cu, error, cuEventRecord, f->queued, NULL) &&
                          CU(self->cu, error, cuStreamWaitEvent, self->compute, f->queued, 0));
}

static gboolean download(Instance *self, Flight *f, GError **error)
{
    gboolean picture = is_picture(self, FALSE);

    if (!CU(self->cu, error, cuEventRecord, f->computed, self->compute) ||
        !CU(self->cu, error, cuStreamWaitEvent, self->download, f->computed, 0))
        return FALSE;
    for (guint i = 0; i < f->n; i++) {
        gsize offset = frame_offset(f->out, picture, FALSE, i);
        gsize bytes = staged_bytes(&f->out[i], picture, FALSE);
        if (bytes > 0 && !CU(self->cu, error, cuMemcpyDtoHAsync_v2, f->down.host + offset,
                             f->down.device + offset, bytes, self->download))
            return FALSE;
    }
    return CU(self->cu, error, cuMemcpyDtoHAsync_v2, f->not_finite_host, f->not_finite,
              f->n * sizeof(gint), self->download) &&
           CU(self->cu, error, cuEventRecord, f->done, self->download);
}

/* Copies what came down into the caller's memory. */
static void unpack(const Instance *self, const Flight *f)
{
    gboolean picture = is_picture(self, FALSE);

    for (guint i = 0; i < f->n; i++) {
        gsize bytes = staged_bytes(&f->out[i], picture, FALSE);
        const guint8 *from = f->down.host + frame_offset(f->out, picture, FALSE, i);
        DcaeCudaLayout layout;
        if (bytes == 0)
            continue;
        if (picture) {
            dcae_cuda_layout(&f->out[i].image, FALSE, &layout);
            dcae_cuda_layout_unpack(&layout, from);
        } else {
            memcpy(f->out[i].latent.data, from, bytes);
        }
    }
}

/* ---- steps */

/* The caller's frame as the kernels of an op at one end of the network see it. */
static void set_view(const Instance *self, const Flight *f, guint image, DcaeKernelImage *picture,
                     DcaeCudaCall *call)
{
    DcaeOpKind kind = self->plan->program->ops[call->step->op].kind;
    gboolean up = kind == DCAE_OP_PIXELS_IN || kind == DCAE_OP_LATENT_IN;
    gboolean pixels = kind == DCAE_OP_PIXELS_IN || kind == DCAE_OP_PIXELS_OUT;
    const DcaeView *views = up ? f->in : f->out;
    CUdeviceptr data = 0;

    if (!pixels && kind != DCAE_OP_LATENT_IN && kind != DCAE_OP_LATENT_OUT)
        return;
    if (!is_on_device(&views[image], pixels))
        data = (up ? f->up : f->down).device + frame_offset(views, pixels, up, image);
    if (pixels) {
        dcae_cuda_picture(&views[image].image, up, data, picture);
        call->picture = picture;
    } else {
        call->latent = &views[image].latent;
        call->latent_data = data != 0 ? data : (CUdeviceptr)call->latent->data;
    }
    call->not_finite = f->not_finite + image * sizeof(gint);
}

static gboolean launch(const Instance *self, DcaeCudaLaunch *l, GError **error)
{
    void *arguments[] = {&l->args};

    return CU(self->cu, error, cuLaunchKernel, self->context->kernel[l->kernel], l->grid[0],
              l->grid[1], l->grid[2], l->threads, 1, 1, l->shared, self->compute, arguments, NULL);
}

static gboolean run_op(const Instance *self, const DcaeStep *step, const Flight *f, GError **error)
{
    const DcaeOp *op = &self->plan->program->ops[step->op];
    gboolean batched = dcae_cuda_is_batched(self->plan->program, op, self->context->precision);
    DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES];
    DcaeKernelImage picture;
    DcaeCudaCall call = {
        .plan = self->plan,
        .step = step,
        .precision = self->context->precision,
        .arena = self->arena,
        .workspace = self->workspace,
        .layers = self->weights->layers,
        .images = batched ? f->n : 1,
    };

    for (; call.image < f->n; call.image += call.images) {
        set_view(self, f, call.image, &picture, &call);
        guint n = dcae_cuda_launches(&call, launches), first = 0;
        if (dcae_cuda_gemm_takes(op->layer, call.precision)) {
            if (!dcae_cuda_gemm_run(self->gemm, &launches[0].args.conv, call.precision, call.images,
                                    error))
                return FALSE;
            first = launches[n - 1].kernel == DCAE_KERNEL_NORM ? n - 1 : n;
        }
        for (guint i = first; i < n; i++)
            if (!launch(self, &launches[i], error))
                return FALSE;
    }
    return TRUE;
}

static CUdeviceptr image_memory(const Instance *self, const DcaeSlot *slot, guint image)
{
    return self->arena + slot->offset + image * slot->image_bytes;
}

/* Where both places overlap, pieces that don't, from the top down. */
static gboolean keep_rows(const Instance *self, const DcaeStep *step, guint n, GError **error)
{
    const DcaeSlot *slot = &self->plan->slots[step->value];
    guint rows = step->y1 - step->y0;

    for (guint i = 0; i < n && step->in_row > 0; i++) {
        CUdeviceptr to = image_memory(self, slot, i);
        for (guint y = 0; y < rows; y += step->in_row)
            if (!CU(self->cu, error, cuMemcpyDtoDAsync_v2, to + y * slot->row_bytes,
                    to + ((gsize)y + step->in_row) * slot->row_bytes,
                    MIN(step->in_row, rows - y) * slot->row_bytes, self->compute))
                return FALSE;
    }
    return TRUE;
}

static gboolean clear_state(const Instance *self, const DcaeStep *step, guint n, GError **error)
{
    const DcaeSlot *slot = &self->plan->slots[step->value];

    return CU(self->cu, error, cuMemsetD8Async, image_memory(self, slot, 0), 0,
              n * slot->image_bytes, self->compute);
}

static gboolean record_time(const Instance *self, const Flight *f, guint step, GError **error)
{
    return f->step_start == NULL ||
           CU(self->cu, error, cuEventRecord, f->step_start[step], self->compute);
}

static gboolean run_steps(const Instance *self, const Flight *f, GError **error)
{
    for (guint i = 0; i < self->plan->n_steps; i++) {
        const DcaeStep *step = &self->plan->steps[i];
        gboolean ok;
        if (g_cancellable_is_cancelled(self->cancellable)) {
            g_set_error_literal(error, DCAE_ERROR, DCAE_ERROR_CANCELLED, "the frame was cancelled");
            return FALSE;
        }
        if (!record_time(self, f, i, error))
            return FALSE;
        if (step->kind == DCAE_STEP_RUN)
            ok = run_op(self, step, f, error);
        else if (step->kind == DCAE_STEP_KEEP)
            ok = keep_rows(self, step, f->n, error);
        else
            ok = clear_state(self, step, f->n, error);
        if (!ok)
            return FALSE;
    }
    return record_time(self, f, self->plan->n_steps, error);
}

/* ---- submit and wait */

static gboolean start(Instance *self, Flight *f, GError **error)
{
    gboolean picture = is_picture(self, FALSE);

    return staging_grow(self, &f->down, frame_offset(f->out, picture, FALSE, f->n), error) &&
           wait_for_caller(self, f, error) && upload(self, f, error) &&
           CU(self->cu, error, cuMemsetD8Async, f->not_finite, 0, f->n * sizeof(gint),
              self->compute) &&
           run_steps(self, f, error) && download(self, f, error);
}

/* Lets everything that was queued come to an end, so that memory may be used again. */
static void drain(const Instance *self)
{
    const CUstream streams[] = {self->upload, self->compute, self->download};

    for (guint i = 0; i < G_N_ELEMENTS(streams); i++)
        if (streams[i] != NULL)
            self->cu->cuStreamSynchronize(streams[i]);
}

static gboolean submit(void *instance, const DcaeView *in, const DcaeView *out, guint n,
                       guint64 *ticket, GError **error)
{
    Instance *self = instance;
    Flight *f = &self->flights[self->next_ticket % FLIGHTS];

    if (f->ticket != 0) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND,
                    "%d frames are under way already; wait for one of them first", FLIGHTS);
        return FALSE;
    }
    if (!dcae_cuda_enter(self->context, error))
        return FALSE;
    f->n = n;
    memcpy(f->in, in, n * sizeof *in);
    memcpy(f->out, out, n * sizeof *out);
    gboolean ok = start(self, f, error);
    if (ok)
        f->ticket = *ticket = self->next_ticket++;
    else
        drain(self);
    dcae_cuda_leave(self->context);
    return ok;
}

/* Adds up what the steps of each op took. */
static gboolean read_times(const Instance *self, const Flight *f, double *ms, GError **error)
{
    memset(ms, 0, self->plan->program->n_ops * sizeof *ms);
    for (guint i = 0; i < self->plan->n_steps; i++) {
        float step_ms = 0;
        if (self->plan->steps[i].kind != DCAE_STEP_RUN)
            continue;
        if (!CU(self->cu, error, cuEventElapsedTime, &step_ms, f->step_start[i],
                f->step_start[i + 1]))
            return FALSE;
        ms[self->plan->steps[i].op] += step_ms;
    }
    return TRUE;
}

static void set_not_finite(GError **error, guint frame, guint n)
{
    g_autofree char *which = n > 1 ? g_strdup_printf("frame %u of the batch of %u", frame + 1, n)
                                   : g_strdup("the frame");

    g_set_error(error, DCAE_ERROR, DCAE_ERROR_NOT_FINITE,
                "%s has values that are not finite (NaN or infinity)", which);
}

static gboolean finish(const Instance *self, const Flight *f, double *ms, GError **error)
{
    if (!CU(self->cu, error, cuEventSynchronize, f->done))
        return FALSE;
    if (ms != NULL && !read_times(self, f, ms, error))
        return FALSE;
    for (guint i = 0; i < f->n; i++) {
        if (!f->not_finite_host[i])
            continue;
        set_not_finite(error, i, f->n);
        return FALSE;
    }
    unpack(self, f);
    return TRUE;
}

static gboolean wait(void *instance, guint64 ticket, double *ms, GError **error)
{
    Instance *self = instance;
    Flight *f = &self->flights[ticket % FLIGHTS];

    if (ticket == 0 || f->ticket != ticket) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_BACKEND,
                    "run %" G_GUINT64_FORMAT " is not under way", ticket);
        return FALSE;
    }
    gboolean entered = dcae_cuda_enter(self->context, error);
    gboolean ok = entered && finish(self, f, ms, error);
    /* A context that can't be entered twice is gone, and its work with it. */
    if (!entered)
        entered = dcae_cuda_enter(self->context, NULL);
    if (!ok && entered)
        drain(self);
    if (entered)
        dcae_cuda_leave(self->context);
    f->ticket = 0;
    return ok;
}

/* ---- open and close */

static void flight_clear(const Instance *self, Flight *f)
{
    CUevent *events[] = {&f->queued, &f->uploaded, &f->computed, &f->done};

    staging_clear(self, &f->up);
    staging_clear(self, &f->down);
    if (f->not_finite != 0)
        self->cu->cuMemFree_v2(f->not_finite);
    if (f->not_finite_host != NULL)
        self->cu->cuMemFreeHost(f->not_finite_host);
    for (guint i = 0; i < G_N_ELEMENTS(events); i++)
        if (*events[i] != NULL)
            self->cu->cuEventDestroy_v2(*events[i]);
    for (guint i = 0; f->step_start != NULL && i <= self->plan->n_steps; i++)
        if (f->step_start[i] != NULL)
            self->cu->cuEventDestroy_v2(f->step_start[i]);
    g_free(f->step_start);
    g_free(f->in);
    g_free(f->out);
}

static void close_instance(void *instance)
{
    Instance *self = instance;
    CUstream *streams[] = {&self->upload, &self->compute, &self->download};

    if (dcae_cuda_enter(self->context, NULL)) {
        drain(self);
        for (guint i = 0; i < FLIGHTS; i++)
            flight_clear(self, &self->flights[i]);
        dcae_cuda_gemm_free(self->gemm);
        for (guint i = 0; i < G_N_ELEMENTS(streams); i++)
            if (*streams[i] != NULL)
                self->cu->cuStreamDestroy_v2(*streams[i]);
        if (self->arena != 0)
            self->cu->cuMemFree_v2(self->arena);
        if (self->workspace != 0)
            self->cu->cuMemFree_v2(self->workspace);
        dcae_cuda_leave(self->context);
    }
    g_clear_object(&self->cancellable);
    g_free(self);
}

static gboolean create_event(const Instance *self, CUevent *event, guint flags, GError **error)
{
    if (CU(self->cu, error, cuEventCreate, event, flags))
        return TRUE;
    *event = NULL;
    return FALSE;
}

static gboolean create_stream(const Instance *self, CUstream *stream, GError **error)
{
    if (CU(self->cu, error, cuStreamCreate, stream, CU_STREAM_NON_BLOCKING))
        return TRUE;
    *stream = NULL;
    return FALSE;
}

static gboolean open_flight(const Instance *self, Flight *f, gboolean timings, GError **error)
{
    gsize bytes = self->plan->batch * sizeof(gint);

    f->in = g_new0(DcaeView, self->plan->batch);
    f->out = g_new0(DcaeView, self->plan->batch);
    if (timings)
        f->step_start = g_new0(CUevent, self->plan->n_steps + 1);
    for (guint i = 0; timings && i <= self->plan->n_steps; i++)
        if (!create_event(self, &f->step_start[i], CU_EVENT_DEFAULT, error))
            return FALSE;
    if (!create_event(self, &f->queued, CU_EVENT_DISABLE_TIMING, error) ||
        !create_event(self, &f->uploaded, CU_EVENT_DISABLE_TIMING, error) ||
        !create_event(self, &f->computed, CU_EVENT_DISABLE_TIMING, error) ||
        !create_event(self, &f->done, CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC, error) ||
        !dcae_cuda_alloc(self->context, bytes, "the state of a frame", "", &f->not_finite, error))
        return FALSE;
    return alloc_pinned(self, bytes, (void **)&f->not_finite_host, error);
}

static gboolean needs_gemm(const Instance *self)
{
    for (guint i = 0; i < self->plan->program->n_ops; i++)
        if (dcae_cuda_gemm_takes(self->plan->program->ops[i].layer, self->context->precision))
            return TRUE;
    return FALSE;
}

static gboolean open_memory(Instance *self, GError **error)
{
    static const char advice[] =
        "; set memory-limit below what is free with tiling=auto or exact, which cut the frame into "
        "bands, or lower batch-size";

    if (!dcae_cuda_alloc(self->context, self->plan->arena_bytes, "the activations of a frame",
                         advice, &self->arena, error))
        return FALSE;
    if (self->plan->workspace_bytes > 0 &&
        !dcae_cuda_alloc(self->context, self->plan->workspace_bytes, "sums of attention and cuBLAS",
                         advice, &self->workspace, error))
        return FALSE;
    if (!create_stream(self, &self->upload, error) || !create_stream(self, &self->compute, error) ||
        !create_stream(self, &self->download, error))
        return FALSE;
    if (needs_gemm(self))
        self->gemm = dcae_cuda_gemm_new(self->compute, self->workspace, error);
    return self->gemm != NULL || !needs_gemm(self);
}

static gboolean open_instance(void **instance, const DcaeWeights *weights, const DcaePlan *plan,
                              const DcaeBackendParams *params, GError **error)
{
    gboolean ok;

    if (!dcae_cuda_check_plan(plan, weights->context.precision, error))
        return FALSE;
    Instance *self = g_new0(Instance, 1);
    self->weights = weights;
    self->plan = plan;
    self->context = &weights->context;
    self->cu = weights->context.cu;
    self->cancellable = params->cancellable != NULL ? g_object_ref(params->cancellable) : NULL;
    self->next_ticket = 1;
    ok = dcae_cuda_enter(self->context, error);
    if (ok) {
        ok = open_memory(self, error);
        for (guint i = 0; i < FLIGHTS && ok; i++)
            ok = open_flight(self, &self->flights[i], params->timings, error);
        dcae_cuda_leave(self->context);
    }
    if (!ok) {
        close_instance(self);
        return FALSE;
    }
    *instance = self;
    return TRUE;
}

const DcaeBackend dcae_cuda_backend = {
    .name = "cuda",
    .queue = FLIGHTS - 1,
    .probe = dcae_cuda_probe,
    .traits = traits,
    .prepare = dcae_cuda_weights_prepare,
    .weights_bytes = weights_bytes,
    .free_bytes = free_bytes,
    .weights_free = dcae_cuda_weights_free,
    .open = open_instance,
    .submit = submit,
    .wait = wait,
    .close = close_instance,
};
