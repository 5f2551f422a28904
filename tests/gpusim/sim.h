/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Inside the stand-in driver: contexts, modules, streams and the rules that their entry points
 * share. driver.c has devices, contexts, modules and launches, stream.c queues and events, copy.c
 * memory and copies; blas.c uses the exported functions from a library of its own.
 *
 * Objects are never returned to the heap: a handle that outlives its object is recognised instead
 * of crashing.
 */
#pragma once

#include "cuda_types.h"
#include "memory.h"
#include "report.h"

typedef enum {
    OBJECT_CONTEXT = 0x5afe0001,
    OBJECT_MODULE,
    OBJECT_STREAM,
    OBJECT_EVENT,
    OBJECT_GRAPH,
    OBJECT_GRAPH_EXEC,
} ObjectKind;

#define OBJECT_KINDS 6

/* First member of everything that a handle points to. */
typedef struct {
    uint32_t kind;
    bool alive;
    struct Context *context;
} Object;

typedef struct StreamOp StreamOp;
struct StreamOp {
    uint64_t serial; /* order of submission in the process */
    const char *what;
    CUresult (*run)(struct Stream *stream, void *data);
    void (*drop)(void *data);
    void *data;
};

typedef struct Stream {
    Object object;
    bool blocking;         /* takes part in the implicit order with the null stream */
    GQueue ops;            /* StreamOp, oldest first */
    struct Graph *capture; /* takes the work instead, while the stream is captured */
    bool captures_here;    /* the capture began on this stream, and ends here */
} Stream;

typedef struct Context {
    Object object;
    CUdevice device;
    bool primary;
    unsigned retained; /* primary contexts */
    CUresult error;    /* after a failed launch every call answers this */
    Stream null_stream;
} Context;

typedef struct Event {
    Object object;
    unsigned flags;
    Stream *stream;        /* where it was recorded last; NULL: never */
    uint64_t serial;       /* of that record */
    uint64_t done;         /* serial of the last record that has run */
    struct Graph *capture; /* recorded in a stream that was being captured */
    gint64 time;           /* microseconds, when it ran */
} Event;

typedef struct Module {
    Object object;
    PtxModule *ptx;
    GPtrArray *functions; /* Function */
    GPtrArray *variables; /* Allocation */
} Module;

typedef struct Function {
    Module *module;
    PtxKernel *kernel;
    uint32_t max_dynamic_shared; /* 0: what fits without asking */
} Function;

/* --- entry points --- */

typedef struct {
    CUresult error;
} Entry;

/* Takes the lock, counts the call, injects a failure. entry_leave() runs when the variable goes out
 * of scope. */
SIM_EXPORT Entry entry_begin(const char *call, CUresult usual_code);
SIM_EXPORT void entry_leave(Entry *entry);

#define ENTER(call, usual_code)                                                         \
    __attribute__((cleanup(entry_leave))) Entry entry = entry_begin(#call, usual_code); \
    if (entry.error)                                                                    \
    return entry.error

/* Begins an entry point that needs a healthy current context, named ctx. */
#define ENTER_CONTEXT(call, usual_code)    \
    ENTER(call, usual_code);               \
    Context *ctx = context_current();      \
    if (!ctx)                              \
        return CUDA_ERROR_INVALID_CONTEXT; \
    if (ctx->error)                        \
    return ctx->error

SIM_EXPORT Context *context_current(void);
void context_each(void (*f)(Context *, void *), void *user);

/* The object if the handle is one of that kind, alive, and of the current context; else NULL, with
 * a finding. */
void *object_check(const void *handle, ObjectKind kind, const char *call);
void object_register(void *object, ObjectKind kind, Context *context);
void object_retire(void *object);
/* Alive objects of a kind (in a context, or NULL: anywhere). */
void object_each(ObjectKind kind, const Context *context, void (*f)(void *, void *), void *user);

/* --- streams --- */

/* NULL and CU_STREAM_LEGACY are the context's null stream. NULL with a finding where the handle is
 * bad. */
SIM_EXPORT Stream *stream_resolve(CUstream handle, const char *call);
/* Work runs when something waits for it. drop may be NULL. */
SIM_EXPORT void stream_submit(Stream *stream, const char *what, CUresult (*run)(Stream *, void *),
                              void (*drop)(void *), void *data);
CUresult stream_drain(Stream *stream);
/* graph.c: takes the operation over. */
void graph_append(struct Graph *graph, StreamOp *op);
CUresult context_drain(Context *ctx);

/* --- memory --- */

typedef enum { USE_READ, USE_WRITE, USE_RAW /* read, whether written or not */ } Use;

/* Host address of device memory that a call uses, with the checks that kernels get; NULL with a
 * finding. */
SIM_EXPORT uint8_t *device_span(const Context *ctx, CUdeviceptr address, size_t bytes, Use use,
                                const char *what);
Allocation *device_allocate(size_t bytes, Context *ctx);
void device_release(Allocation *a);
unsigned copy_report_leaks(void);
void context_release_memory(Context *ctx);

unsigned driver_report_leaks(void);
