/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Streams and events. Submitted work waits in a queue until something waits for it, as late as the
 * API allows: code that reads a result before its stream is done, or frees what a stream still
 * needs, sees old bytes. Serial numbers carry the order that the null stream and events impose
 * between streams; streams that nothing orders run in an order that the seed chooses.
 */
#include "sim.h"

/* --- queues --- */

static uint64_t next_serial = 1;

typedef struct {
    const Stream *self;
    uint64_t before;
} OrderedWith;

static CUresult run_before(Stream *stream, uint64_t serial);

static void run_blocking_stream(void *object, void *user)
{
    Stream *stream = object;
    const OrderedWith *o = user;
    if (stream != o->self && stream->blocking)
        run_before(stream, o->before);
}

/* What the null stream orders before this operation. */
static void run_implicit_predecessors(Stream *stream, uint64_t serial)
{
    Context *ctx = stream->object.context;
    OrderedWith o = {.self = stream, .before = serial};
    if (stream == &ctx->null_stream)
        object_each(OBJECT_STREAM, ctx, run_blocking_stream, &o);
    else if (stream->blocking)
        run_before(&ctx->null_stream, serial);
}

static void finish_op(StreamOp *op)
{
    if (op->drop)
        op->drop(op->data);
    g_free(op);
}

/* Runs the operations of one stream that were submitted before `serial`. */
static CUresult run_before(Stream *stream, uint64_t serial)
{
    Context *ctx = stream->object.context;
    while (!g_queue_is_empty(&stream->ops)) {
        StreamOp *op = g_queue_peek_head(&stream->ops);
        if (op->serial >= serial)
            break;
        g_queue_pop_head(&stream->ops);
        run_implicit_predecessors(stream, op->serial);
        if (!ctx->error)
            ctx->error = op->run(stream, op->data);
        finish_op(op);
    }
    return ctx->error;
}

CUresult stream_drain(Stream *stream)
{
    return run_before(stream, UINT64_MAX);
}

static void collect_stream(void *object, void *user)
{
    g_ptr_array_add(user, object);
}

CUresult context_drain(Context *ctx)
{
    GPtrArray *streams = g_ptr_array_new();
    g_ptr_array_add(streams, &ctx->null_stream);
    object_each(OBJECT_STREAM, ctx, collect_stream, streams);
    for (guint i = 0; i < streams->len; i++)
        stream_drain(streams->pdata[sim_seed() & 1 ? streams->len - 1 - i : i]);
    g_ptr_array_free(streams, TRUE);
    return ctx->error;
}

static void advance_by_chance(void *object, void *user)
{
    static uint32_t state = 1;
    Stream *stream = object;
    (void)user;
    state = state * 1664525u + 1013904223u;
    const StreamOp *op = g_queue_peek_head(&stream->ops);
    if (op && state >> 31)
        run_before(stream, op->serial + 1);
}

/* Bits 2 and 3 of the seed: work runs as late as possible, at once, or some of it by and by. */
static void make_progress(Stream *stream)
{
    Context *ctx = stream->object.context;
    const unsigned mode = sim_seed() >> 2 & 3;
    if (mode == 1) {
        run_implicit_predecessors(stream, UINT64_MAX);
        stream_drain(stream);
    } else if (mode > 1) {
        advance_by_chance(&ctx->null_stream, NULL);
        object_each(OBJECT_STREAM, ctx, advance_by_chance, NULL);
    }
}

SIM_EXPORT void stream_submit(Stream *stream, const char *what, CUresult (*run)(Stream *, void *),
                              void (*drop)(void *), void *data)
{
    StreamOp *op = g_new0(StreamOp, 1);
    *op = (StreamOp){.serial = next_serial++, .what = what, .run = run, .drop = drop, .data = data};
    if (stream->capture) {
        graph_append(stream->capture, op);
        return;
    }
    g_queue_push_tail(&stream->ops, op);
    make_progress(stream);
}

SIM_EXPORT Stream *stream_resolve(CUstream handle, const char *call)
{
    Context *ctx = context_current();
    if (!ctx)
        return NULL;
    if (!handle || handle == (CUstream)1)
        return &ctx->null_stream;
    return object_check(handle, OBJECT_STREAM, call);
}

/* --- stream entry points --- */

SIM_EXPORT CUresult cuStreamCreate(CUstream *out, unsigned flags)
{
    ENTER_CONTEXT(cuStreamCreate, CUDA_ERROR_OUT_OF_MEMORY);
    if (!out || flags > CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    Stream *s = g_new0(Stream, 1);
    s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
    g_queue_init(&s->ops);
    object_register(s, OBJECT_STREAM, ctx);
    *out = s;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority)
{
    (void)priority;
    return cuStreamCreate(out, flags);
}

static CUresult destroy_stream(CUstream handle)
{
    Stream *s = object_check(handle, OBJECT_STREAM, "cuStreamDestroy");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    const CUresult r = stream_drain(s);
    object_retire(s);
    return r;
}

SIM_EXPORT CUresult cuStreamDestroy_v2(CUstream handle)
{
    ENTER(cuStreamDestroy_v2, CUDA_ERROR_UNKNOWN);
    return destroy_stream(handle);
}

SIM_EXPORT CUresult cuStreamDestroy(CUstream handle)
{
    ENTER(cuStreamDestroy, CUDA_ERROR_UNKNOWN);
    return destroy_stream(handle);
}

SIM_EXPORT CUresult cuStreamSynchronize(CUstream handle)
{
    ENTER_CONTEXT(cuStreamSynchronize, CUDA_ERROR_UNKNOWN);
    Stream *s = stream_resolve(handle, "cuStreamSynchronize");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (s->capture) {
        report_finding("cuStreamSynchronize: the stream is being captured");
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    run_implicit_predecessors(s, UINT64_MAX);
    return stream_drain(s);
}

/* Answers "not ready" once, then lets the work run, so that polling comes to an end. */
SIM_EXPORT CUresult cuStreamQuery(CUstream handle)
{
    ENTER_CONTEXT(cuStreamQuery, CUDA_ERROR_UNKNOWN);
    Stream *s = stream_resolve(handle, "cuStreamQuery");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (g_queue_is_empty(&s->ops))
        return CUDA_SUCCESS;
    const CUresult r = stream_drain(s);
    return r ? r : CUDA_ERROR_NOT_READY;
}

typedef struct {
    void (*fn)(void *);
    void *user;
} HostCall;

static CUresult run_host_call(Stream *stream, void *data)
{
    (void)stream;
    const HostCall *call = data;
    call->fn(call->user);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuLaunchHostFunc(CUstream handle, void (*fn)(void *), void *user)
{
    ENTER_CONTEXT(cuLaunchHostFunc, CUDA_ERROR_UNKNOWN);
    Stream *s = stream_resolve(handle, "cuLaunchHostFunc");
    if (!s || !fn)
        return s ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
    HostCall *call = g_new(HostCall, 1);
    *call = (HostCall){.fn = fn, .user = user};
    stream_submit(s, "host function", run_host_call, g_free, call);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext *out)
{
    ENTER_CONTEXT(cuStreamGetCtx, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    Stream *s = stream_resolve(handle, "cuStreamGetCtx");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    *out = s->object.context;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    ENTER_CONTEXT(cuCtxGetStreamPriorityRange, CUDA_ERROR_UNKNOWN);
    if (least)
        *least = 0;
    if (greatest)
        *greatest = 0;
    return CUDA_SUCCESS;
}

/* --- events --- */

/* The record that was the latest at the time of the call: the event may be recorded elsewhere
 * since. */
typedef struct {
    Event *event;
    Stream *source;
    uint64_t serial;
} EventOp;

static CUresult run_record(Stream *stream, void *data)
{
    (void)stream;
    const EventOp *op = data;
    if (op->serial > op->event->done) {
        op->event->done = op->serial;
        op->event->time = g_get_monotonic_time();
    }
    return CUDA_SUCCESS;
}

/* The event's stream runs up to the record that was the latest when the wait was submitted. */
static CUresult run_wait(Stream *stream, void *data)
{
    (void)stream;
    const EventOp *op = data;
    if (op->event->done >= op->serial || !op->source || !op->source->object.alive)
        return CUDA_SUCCESS;
    return run_before(op->source, op->serial + 1);
}

SIM_EXPORT CUresult cuEventCreate(CUevent *out, unsigned flags)
{
    ENTER_CONTEXT(cuEventCreate, CUDA_ERROR_OUT_OF_MEMORY);
    if (!out)
        return CUDA_ERROR_INVALID_VALUE;
    Event *e = g_new0(Event, 1);
    e->flags = flags;
    object_register(e, OBJECT_EVENT, ctx);
    *out = e;
    return CUDA_SUCCESS;
}

static CUresult destroy_event(CUevent handle)
{
    Event *e = object_check(handle, OBJECT_EVENT, "cuEventDestroy");
    if (!e)
        return CUDA_ERROR_INVALID_HANDLE;
    object_retire(e);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuEventDestroy_v2(CUevent handle)
{
    ENTER(cuEventDestroy_v2, CUDA_ERROR_UNKNOWN);
    return destroy_event(handle);
}

SIM_EXPORT CUresult cuEventDestroy(CUevent handle)
{
    ENTER(cuEventDestroy, CUDA_ERROR_UNKNOWN);
    return destroy_event(handle);
}

SIM_EXPORT CUresult cuEventRecord(CUevent handle, CUstream stream)
{
    ENTER_CONTEXT(cuEventRecord, CUDA_ERROR_UNKNOWN);
    Event *e = object_check(handle, OBJECT_EVENT, "cuEventRecord");
    Stream *s = stream_resolve(stream, "cuEventRecord");
    if (!e || !s)
        return CUDA_ERROR_INVALID_HANDLE;
    e->capture = s->capture;
    if (s->capture) /* the order of submission holds in a graph anyway */
        return CUDA_SUCCESS;
    EventOp *op = g_new(EventOp, 1);
    *op = (EventOp){.event = e, .serial = next_serial};
    e->stream = s;
    e->serial = next_serial;
    stream_submit(s, "event record", run_record, g_free, op);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent handle, unsigned flags)
{
    ENTER_CONTEXT(cuStreamWaitEvent, CUDA_ERROR_UNKNOWN);
    (void)flags;
    Event *e = object_check(handle, OBJECT_EVENT, "cuStreamWaitEvent");
    Stream *s = stream_resolve(stream, "cuStreamWaitEvent");
    if (!e || !s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (e->capture)
        s->capture = e->capture; /* joins */
    if (s->capture)
        return CUDA_SUCCESS;
    EventOp *op = g_new(EventOp, 1);
    *op = (EventOp){.event = e, .source = e->stream, .serial = e->serial};
    stream_submit(s, "event wait", run_wait, g_free, op);
    return CUDA_SUCCESS;
}

static CUresult reach_event(Event *e)
{
    if (e->done < e->serial && e->stream && e->stream->object.alive)
        return run_before(e->stream, e->serial + 1);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuEventSynchronize(CUevent handle)
{
    ENTER_CONTEXT(cuEventSynchronize, CUDA_ERROR_UNKNOWN);
    Event *e = object_check(handle, OBJECT_EVENT, "cuEventSynchronize");
    return e ? reach_event(e) : CUDA_ERROR_INVALID_HANDLE;
}

SIM_EXPORT CUresult cuEventQuery(CUevent handle)
{
    ENTER_CONTEXT(cuEventQuery, CUDA_ERROR_UNKNOWN);
    Event *e = object_check(handle, OBJECT_EVENT, "cuEventQuery");
    if (!e)
        return CUDA_ERROR_INVALID_HANDLE;
    if (e->done >= e->serial)
        return CUDA_SUCCESS;
    const CUresult r = reach_event(e);
    return r ? r : CUDA_ERROR_NOT_READY;
}

static CUresult elapsed_time(float *ms, CUevent first, CUevent second)
{
    const Event *a = object_check(first, OBJECT_EVENT, "cuEventElapsedTime");
    const Event *b = object_check(second, OBJECT_EVENT, "cuEventElapsedTime");
    if (!a || !b || !a->serial || !b->serial || ((a->flags | b->flags) & CU_EVENT_DISABLE_TIMING))
        return CUDA_ERROR_INVALID_HANDLE;
    if (a->done < a->serial || b->done < b->serial)
        return CUDA_ERROR_NOT_READY;
    *ms = (float)(b->time - a->time) / 1000.0f;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuEventElapsedTime(float *ms, CUevent first, CUevent second)
{
    ENTER_CONTEXT(cuEventElapsedTime, CUDA_ERROR_UNKNOWN);
    return elapsed_time(ms, first, second);
}
