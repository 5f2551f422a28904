/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * CUDA graphs, as far as stream capture needs them: while a stream is captured, work submitted to
 * it, and to streams that join it through events, goes to a list instead of a queue; launching the
 * graph puts the list, as one operation, into a stream. The order of submission is one of the
 * orders that the events allow.
 */
#include "sim.h"

typedef struct Graph {
    Object object;
    unsigned references; /* the handle, executables, launches under way */
    GPtrArray *ops;      /* StreamOp */
} Graph;

typedef struct GraphExec {
    Object object;
    Graph *graph;
} GraphExec;

static void graph_unref(void *data)
{
    Graph *g = data;
    if (--g->references)
        return;
    for (guint i = 0; i < g->ops->len; i++) {
        StreamOp *op = g->ops->pdata[i];
        if (op->drop)
            op->drop(op->data);
        g_free(op);
    }
    g_ptr_array_free(g->ops, TRUE);
}

void graph_append(Graph *g, StreamOp *op)
{
    g_ptr_array_add(g->ops, op);
}

/* --- capture --- */

SIM_EXPORT CUresult cuStreamBeginCapture_v2(CUstream handle, int mode)
{
    ENTER_CONTEXT(cuStreamBeginCapture_v2, CUDA_ERROR_UNKNOWN);
    (void)mode;
    Stream *s = stream_resolve(handle, "cuStreamBeginCapture");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (s->capture || s == &ctx->null_stream)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    Graph *g = g_new0(Graph, 1);
    g->references = 1;
    g->ops = g_ptr_array_new();
    object_register(g, OBJECT_GRAPH, ctx);
    s->capture = g;
    s->captures_here = true;
    return CUDA_SUCCESS;
}

static void leave_capture(void *object, void *user)
{
    Stream *s = object;
    if (s->capture == user)
        s->capture = NULL;
}

SIM_EXPORT CUresult cuStreamEndCapture(CUstream handle, Graph **out)
{
    ENTER_CONTEXT(cuStreamEndCapture, CUDA_ERROR_UNKNOWN);
    Stream *s = stream_resolve(handle, "cuStreamEndCapture");
    if (!s || !out)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!s->capture || !s->captures_here) {
        report_finding("cuStreamEndCapture: no capture began on this stream");
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    *out = s->capture;
    s->captures_here = false;
    object_each(OBJECT_STREAM, ctx, leave_capture, *out);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamIsCapturing(CUstream handle, int *status)
{
    ENTER_CONTEXT(cuStreamIsCapturing, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    Stream *s = stream_resolve(handle, "cuStreamIsCapturing");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    *status = s->capture != NULL;
    return CUDA_SUCCESS;
}

/* --- executables --- */

static CUresult instantiate(GraphExec **out, Graph *handle, Context *ctx)
{
    Graph *g = object_check(handle, OBJECT_GRAPH, "cuGraphInstantiate");
    if (!g || !out)
        return CUDA_ERROR_INVALID_HANDLE;
    GraphExec *e = g_new0(GraphExec, 1);
    e->graph = g;
    g->references++;
    object_register(e, OBJECT_GRAPH_EXEC, ctx);
    *out = e;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphInstantiateWithFlags(GraphExec **out, Graph *g, unsigned long long flags)
{
    ENTER_CONTEXT(cuGraphInstantiateWithFlags, CUDA_ERROR_OUT_OF_MEMORY);
    (void)flags;
    return instantiate(out, g, ctx);
}

SIM_EXPORT CUresult cuGraphInstantiate_v2(GraphExec **out, Graph *g, void **node, char *log,
                                          size_t size)
{
    ENTER_CONTEXT(cuGraphInstantiate_v2, CUDA_ERROR_OUT_OF_MEMORY);
    (void)node;
    (void)log;
    (void)size;
    return instantiate(out, g, ctx);
}

static CUresult run_graph(Stream *stream, void *data)
{
    const Graph *g = data;
    for (guint i = 0; i < g->ops->len; i++) {
        const StreamOp *op = g->ops->pdata[i];
        const CUresult r = op->run(stream, op->data);
        if (r)
            return r;
    }
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphLaunch(GraphExec *handle, CUstream stream)
{
    ENTER_CONTEXT(cuGraphLaunch, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    (void)ctx;
    GraphExec *e = object_check(handle, OBJECT_GRAPH_EXEC, "cuGraphLaunch");
    Stream *s = stream_resolve(stream, "cuGraphLaunch");
    if (!e || !s)
        return CUDA_ERROR_INVALID_HANDLE;
    e->graph->references++;
    stream_submit(s, "graph", run_graph, graph_unref, e->graph);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphUpload(GraphExec *handle, CUstream stream)
{
    ENTER_CONTEXT(cuGraphUpload, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    const bool ok = object_check(handle, OBJECT_GRAPH_EXEC, "cuGraphUpload") &&
                    stream_resolve(stream, "cuGraphUpload");
    return ok ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

SIM_EXPORT CUresult cuGraphExecDestroy(GraphExec *handle)
{
    ENTER(cuGraphExecDestroy, CUDA_ERROR_UNKNOWN);
    GraphExec *e = object_check(handle, OBJECT_GRAPH_EXEC, "cuGraphExecDestroy");
    if (!e)
        return CUDA_ERROR_INVALID_HANDLE;
    graph_unref(e->graph);
    object_retire(e);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuGraphDestroy(Graph *handle)
{
    ENTER(cuGraphDestroy, CUDA_ERROR_UNKNOWN);
    Graph *g = object_check(handle, OBJECT_GRAPH, "cuGraphDestroy");
    if (!g)
        return CUDA_ERROR_INVALID_HANDLE;
    graph_unref(g);
    object_retire(g);
    return CUDA_SUCCESS;
}
