/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The stand-in libcuda.so.1: devices, contexts, modules, launches. Modules are accepted as PTX text
 * only; a cubin is answered with "no binary for this GPU", as a driver does for an architecture
 * that it does not know, so that hosts fall back to PTX. Streams are in stream.c, memory in copy.c;
 * README.md lists what the environment can set.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define DRIVER_VERSION 12040
#define PTX_MAJOR 8 /* the newest PTX that a driver of that version compiles */
#define PTX_MINOR 4
#define MAX_DEVICES 8
#define SHARED_DEFAULT 49152u

/* --- entry --- */

static pthread_mutex_t lock;
static pthread_once_t lock_once = PTHREAD_ONCE_INIT;
static bool initialized;
static Context *primary_contexts[MAX_DEVICES];
static GPtrArray *objects[OBJECT_KINDS]; /* by ObjectKind */
static _Thread_local GPtrArray *context_stack;

static void make_lock(void)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &attr);
    pthread_mutexattr_destroy(&attr);
}

SIM_EXPORT Entry entry_begin(const char *call, CUresult usual_code)
{
    pthread_once(&lock_once, make_lock);
    pthread_mutex_lock(&lock);
    Entry e = {.error = report_enter(call, usual_code)};
    if (!e.error && !initialized && strcmp(call, "cuInit") && strncmp(call, "cublas", 6) &&
        strcmp(call, "cuDriverGetVersion"))
        e.error = CUDA_ERROR_NOT_INITIALIZED;
    if (e.error)
        pthread_mutex_unlock(&lock);
    return e;
}

SIM_EXPORT void entry_leave(Entry *entry)
{
    if (!entry->error)
        pthread_mutex_unlock(&lock);
}

SIM_EXPORT Context *context_current(void)
{
    return context_stack && context_stack->len ? context_stack->pdata[context_stack->len - 1]
                                               : NULL;
}

/* --- objects --- */

void object_register(void *object, ObjectKind kind, Context *context)
{
    Object *o = object;
    *o = (Object){.kind = kind, .alive = true, .context = context};
    GPtrArray **list = &objects[kind - OBJECT_CONTEXT];
    if (!*list)
        *list = g_ptr_array_new();
    g_ptr_array_add(*list, o);
}

void object_retire(void *object)
{
    ((Object *)object)->alive = false;
}

void *object_check(const void *handle, ObjectKind kind, const char *call)
{
    GPtrArray *list = objects[kind - OBJECT_CONTEXT];
    const Object *found = NULL;
    for (guint i = 0; list && i < list->len && !found; i++)
        if (list->pdata[i] == handle)
            found = handle;
    const char *wrong = !found          ? "a handle of the wrong kind, or garbage"
                        : !found->alive ? "a handle that was destroyed"
                        : kind != OBJECT_CONTEXT && found->context != context_current()
                            ? "a handle of another context than the current one"
                            : NULL;
    if (wrong) {
        report_finding("%s: %s (%p)", call, wrong, handle);
        return NULL;
    }
    return (void *)found;
}

void object_each(ObjectKind kind, const Context *context, void (*f)(void *, void *), void *user)
{
    GPtrArray *list = objects[kind - OBJECT_CONTEXT];
    for (guint i = 0; list && i < list->len; i++) {
        Object *o = list->pdata[i];
        if (o->alive && (!context || o->context == context))
            f(o, user);
    }
}

/* --- devices --- */

static int device_count(void)
{
    const char *s = getenv("GPUSIM_DEVICES");
    const int n = s ? atoi(s) : 1;
    return n < 0 ? 0 : n > MAX_DEVICES ? MAX_DEVICES : n;
}

/* Compute capability, 80 for 8.0. */
static int device_arch(void)
{
    const char *s = getenv("GPUSIM_ARCH");
    return s ? atoi(s) : 80;
}

/* CUdevice_attribute -> value; the rest is 0. */
static const struct {
    int attribute, value;
} attributes[] = {
    {1, 1024},     {2, 1024},     {3, 1024},    {4, 64},        {5, 2147483647},  {6, 65535},
    {7, 65535},    {8, 49152},    {9, 65536},   {10, 32},       {11, 2147483647}, {12, 65536},
    {13, 1410000}, {14, 512},     {15, 1},      {16, 108},      {19, 1},          {31, 1},
    {33, 1},       {36, 1215000}, {37, 5120},   {38, 41943040}, {39, 2048},       {40, 2},
    {41, 1},       {51, 32},      {81, 167936}, {82, 65536},    {97, 166912},     {106, 32},
    {111, 1024},
};

static int attribute_value(int attribute)
{
    if (attribute == 75)
        return device_arch() / 10;
    if (attribute == 76)
        return device_arch() % 10;
    for (size_t i = 0; i < G_N_ELEMENTS(attributes); i++)
        if (attributes[i].attribute == attribute)
            return attributes[i].value;
    return 0;
}

SIM_EXPORT CUresult cuInit(unsigned flags)
{
    ENTER(cuInit, CUDA_ERROR_UNKNOWN);
    if (flags)
        return CUDA_ERROR_INVALID_VALUE;
    if (!device_count())
        return CUDA_ERROR_NO_DEVICE;
    initialized = true;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDriverGetVersion(int *version)
{
    ENTER(cuDriverGetVersion, CUDA_ERROR_UNKNOWN);
    *version = DRIVER_VERSION;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetCount(int *count)
{
    ENTER(cuDeviceGetCount, CUDA_ERROR_UNKNOWN);
    *count = device_count();
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    ENTER(cuDeviceGet, CUDA_ERROR_UNKNOWN);
    if (ordinal < 0 || ordinal >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    ENTER(cuDeviceGetName, CUDA_ERROR_UNKNOWN);
    if (device < 0 || device >= device_count() || size <= 0)
        return CUDA_ERROR_INVALID_DEVICE;
    g_snprintf(name, (gulong)size, "gpusim stand-in %d", device);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    ENTER(cuDeviceGetAttribute, CUDA_ERROR_UNKNOWN);
    if (device < 0 || device >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    *value = attribute_value(attribute);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    ENTER(cuDeviceTotalMem_v2, CUDA_ERROR_UNKNOWN);
    if (device < 0 || device >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    const char *s = getenv("GPUSIM_MEMORY");
    *bytes = s ? g_ascii_strtoull(s, NULL, 0) : (size_t)8 << 30;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    ENTER(cuDeviceGetUuid_v2, CUDA_ERROR_UNKNOWN);
    memset(uuid, 0, sizeof *uuid);
    uuid->bytes[0] = (char)(device + 1);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetPCIBusId(char *id, int size, CUdevice device)
{
    ENTER(cuDeviceGetPCIBusId, CUDA_ERROR_UNKNOWN);
    g_snprintf(id, (gulong)size, "0000:%02x:00.0", device + 1);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    ENTER(cuDeviceCanAccessPeer, CUDA_ERROR_UNKNOWN);
    (void)device;
    (void)peer;
    *can = 0;
    return CUDA_SUCCESS;
}

/* --- contexts --- */

static Context *new_context(CUdevice device, bool primary)
{
    Context *ctx = g_new0(Context, 1);
    object_register(ctx, OBJECT_CONTEXT, NULL);
    ctx->object.context = ctx;
    ctx->device = device;
    ctx->primary = primary;
    ctx->null_stream.object = (Object){.kind = OBJECT_STREAM, .alive = true, .context = ctx};
    ctx->null_stream.blocking = true;
    g_queue_init(&ctx->null_stream.ops);
    return ctx;
}

static void push_context(Context *ctx)
{
    if (!context_stack)
        context_stack = g_ptr_array_new();
    g_ptr_array_add(context_stack, ctx);
}

static void report_outliving(void *object, void *user)
{
    report_finding("leak: a %s outlives its context", (const char *)user);
    object_retire(object);
}

static CUresult destroy_context(Context *ctx)
{
    const CUresult r = context_drain(ctx);
    object_each(OBJECT_STREAM, ctx, report_outliving, "stream");
    object_each(OBJECT_EVENT, ctx, report_outliving, "event");
    object_each(OBJECT_GRAPH, ctx, report_outliving, "graph");
    object_each(OBJECT_GRAPH_EXEC, ctx, report_outliving, "graph executable");
    GPtrArray *modules = objects[OBJECT_MODULE - OBJECT_CONTEXT];
    for (guint i = 0; modules && i < modules->len; i++) {
        Module *m = modules->pdata[i];
        if (!m->object.alive || m->object.context != ctx)
            continue;
        for (guint v = 0; v < m->variables->len; v++)
            device_release(m->variables->pdata[v]);
        coverage_drop_module(m->ptx);
        report_outliving(m, "module");
    }
    context_release_memory(ctx);
    object_retire(ctx);
    if (context_stack)
        while (g_ptr_array_remove(context_stack, ctx))
            ;
    return r;
}

SIM_EXPORT CUresult cuCtxCreate_v2(CUcontext *out, unsigned flags, CUdevice device)
{
    ENTER(cuCtxCreate_v2, CUDA_ERROR_OUT_OF_MEMORY);
    (void)flags;
    if (!out || device < 0 || device >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    *out = new_context(device, false);
    push_context(*out);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxDestroy_v2(CUcontext handle)
{
    ENTER(cuCtxDestroy_v2, CUDA_ERROR_UNKNOWN);
    Context *ctx = object_check(handle, OBJECT_CONTEXT, "cuCtxDestroy");
    if (!ctx || ctx->primary)
        return CUDA_ERROR_INVALID_CONTEXT;
    return destroy_context(ctx);
}

SIM_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext handle)
{
    ENTER(cuCtxPushCurrent_v2, CUDA_ERROR_INVALID_CONTEXT);
    Context *ctx = object_check(handle, OBJECT_CONTEXT, "cuCtxPushCurrent");
    if (!ctx)
        return CUDA_ERROR_INVALID_CONTEXT;
    push_context(ctx);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *out)
{
    ENTER(cuCtxPopCurrent_v2, CUDA_ERROR_INVALID_CONTEXT);
    Context *ctx = context_current();
    if (!ctx)
        return CUDA_ERROR_INVALID_CONTEXT;
    g_ptr_array_set_size(context_stack, (gint)context_stack->len - 1);
    if (out)
        *out = ctx;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxSetCurrent(CUcontext handle)
{
    ENTER(cuCtxSetCurrent, CUDA_ERROR_INVALID_CONTEXT);
    Context *ctx = handle ? object_check(handle, OBJECT_CONTEXT, "cuCtxSetCurrent") : NULL;
    if (handle && !ctx)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (context_stack && context_stack->len)
        g_ptr_array_set_size(context_stack, (gint)context_stack->len - 1);
    if (ctx)
        push_context(ctx);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxGetCurrent(CUcontext *out)
{
    ENTER(cuCtxGetCurrent, CUDA_ERROR_UNKNOWN);
    *out = context_current();
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxGetDevice(CUdevice *device)
{
    ENTER_CONTEXT(cuCtxGetDevice, CUDA_ERROR_UNKNOWN);
    *device = ctx->device;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxGetApiVersion(CUcontext handle, unsigned *version)
{
    ENTER(cuCtxGetApiVersion, CUDA_ERROR_UNKNOWN);
    (void)handle;
    *version = 3020;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxSynchronize(void)
{
    ENTER_CONTEXT(cuCtxSynchronize, CUDA_ERROR_UNKNOWN);
    return context_drain(ctx);
}

SIM_EXPORT CUresult cuCtxEnablePeerAccess(CUcontext handle, unsigned flags)
{
    ENTER(cuCtxEnablePeerAccess, CUDA_ERROR_UNKNOWN);
    (void)handle;
    (void)flags;
    return CUDA_ERROR_NOT_SUPPORTED;
}

SIM_EXPORT CUresult cuCtxDisablePeerAccess(CUcontext handle)
{
    ENTER(cuCtxDisablePeerAccess, CUDA_ERROR_UNKNOWN);
    (void)handle;
    return CUDA_ERROR_NOT_SUPPORTED;
}

SIM_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
    ENTER(cuDevicePrimaryCtxRetain, CUDA_ERROR_OUT_OF_MEMORY);
    if (!out || device < 0 || device >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    Context **p = &primary_contexts[device];
    if (!*p)
        *p = new_context(device, true);
    (*p)->retained++;
    *out = *p;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    ENTER(cuDevicePrimaryCtxRelease_v2, CUDA_ERROR_UNKNOWN);
    if (device < 0 || device >= device_count() || !primary_contexts[device]) {
        report_finding("cuDevicePrimaryCtxRelease: the primary context is not retained");
        return CUDA_ERROR_INVALID_CONTEXT;
    }
    Context *ctx = primary_contexts[device];
    if (--ctx->retained)
        return CUDA_SUCCESS;
    primary_contexts[device] = NULL;
    return destroy_context(ctx);
}

SIM_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    ENTER(cuDevicePrimaryCtxGetState, CUDA_ERROR_UNKNOWN);
    if (device < 0 || device >= device_count())
        return CUDA_ERROR_INVALID_DEVICE;
    *flags = 0;
    *active = primary_contexts[device] != NULL;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned flags)
{
    ENTER(cuDevicePrimaryCtxSetFlags_v2, CUDA_ERROR_UNKNOWN);
    (void)flags;
    return device < 0 || device >= device_count() ? CUDA_ERROR_INVALID_DEVICE : CUDA_SUCCESS;
}

/* --- modules --- */

typedef struct {
    Context *ctx;
    GPtrArray *variables;
} Placement;

static uint64_t place_variable(void *user, PtxVariable *v)
{
    Placement *p = user;
    Allocation *a = device_allocate(v->size ? v->size : 1, p->ctx);
    if (!a)
        g_error("gpusim: no memory for the variable '%s'", v->name);
    if (v->init)
        memcpy(a->data, v->init, v->size);
    else
        memset(a->data, 0, a->size);
    memory_mark_written(a, 0, a->size);
    g_ptr_array_add(p->variables, a);
    return a->base;
}

static void release_variables(GPtrArray *variables)
{
    for (guint i = 0; i < variables->len; i++)
        device_release(variables->pdata[i]);
    g_ptr_array_set_size(variables, 0);
}

/* What a driver of this version and device would refuse before it compiles. */
static CUresult check_ptx_header(const char *text)
{
    unsigned major = 0, minor = 0, arch = 0;
    char suffix = 0;
    const char *version = strstr(text, ".version"), *target = strstr(text, ".target");
    if (!version || !target || sscanf(version, ".version %u.%u", &major, &minor) != 2 ||
        sscanf(target, ".target sm_%u%c", &arch, &suffix) < 1)
        return CUDA_ERROR_INVALID_PTX;
    if (major > PTX_MAJOR || (major == PTX_MAJOR && minor > PTX_MINOR))
        return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    if ((int)arch > device_arch() || (suffix == 'a' && (int)arch != device_arch()))
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    return CUDA_SUCCESS;
}

static void write_log(unsigned n, const int *options, void **values, const char *text)
{
    char *log = NULL;
    size_t size = 0;
    for (unsigned i = 0; i < n; i++) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
            log = values[i];
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            size = (size_t)(uintptr_t)values[i];
    }
    if (log && size)
        g_strlcpy(log, text, size);
}

/* Programs load the same kernels again and again: what was unloaded is kept as it was parsed, where
 * it has no variables that lie in a context. */
static GPtrArray *idle_modules; /* PtxModule */

static PtxModule *take_idle_module(const char *text)
{
    for (guint i = 0; idle_modules && i < idle_modules->len; i++) {
        PtxModule *ptx = idle_modules->pdata[i];
        if (!strcmp(ptx->text, text))
            return g_ptr_array_remove_index_fast(idle_modules, i);
    }
    return NULL;
}

static void drop_module(PtxModule *ptx)
{
    if (ptx->variables->len == 0) {
        if (!idle_modules)
            idle_modules = g_ptr_array_new();
        g_ptr_array_add(idle_modules, ptx);
        return;
    }
    coverage_drop_module(ptx);
    ptx_module_free(ptx);
}

static CUresult load_module(CUmodule *out, const void *image, unsigned n, const int *options,
                            void **values, Context *ctx)
{
    if (!out || !image)
        return CUDA_ERROR_INVALID_VALUE;
    const uint8_t *bytes = image;
    static const uint8_t elf[4] = {0x7f, 'E', 'L', 'F'}, fat[4] = {0x50, 0xed, 0x55, 0xba};
    if (!memcmp(bytes, elf, 4) || !memcmp(bytes, fat, 4))
        return CUDA_ERROR_NO_BINARY_FOR_GPU;
    const CUresult refused = check_ptx_header(image);
    if (refused)
        return refused;
    Placement placement = {.ctx = ctx, .variables = g_ptr_array_new()};
    char *error = NULL;
    PtxModule *ptx = take_idle_module(image);
    const bool is_new = !ptx;
    if (is_new)
        ptx = ptx_module_parse(image, place_variable, &placement, &error);
    if (!ptx) {
        fprintf(stderr, "gpusim: %s\n", error);
        write_log(n, options, values, error);
        g_free(error);
        release_variables(placement.variables);
        g_ptr_array_free(placement.variables, TRUE);
        return CUDA_ERROR_INVALID_PTX;
    }
    Module *m = g_new0(Module, 1);
    m->ptx = ptx;
    m->functions = g_ptr_array_new();
    m->variables = placement.variables;
    object_register(m, OBJECT_MODULE, ctx);
    if (is_new)
        coverage_add_module(ptx);
    *out = m;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuModuleLoadData(CUmodule *out, const void *image)
{
    ENTER_CONTEXT(cuModuleLoadData, CUDA_ERROR_OUT_OF_MEMORY);
    return load_module(out, image, 0, NULL, NULL, ctx);
}

SIM_EXPORT CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned n, int *options,
                                       void **values)
{
    ENTER_CONTEXT(cuModuleLoadDataEx, CUDA_ERROR_OUT_OF_MEMORY);
    return load_module(out, image, n, options, values, ctx);
}

SIM_EXPORT CUresult cuModuleUnload(CUmodule handle)
{
    ENTER(cuModuleUnload, CUDA_ERROR_UNKNOWN);
    Module *m = object_check(handle, OBJECT_MODULE, "cuModuleUnload");
    if (!m)
        return CUDA_ERROR_INVALID_HANDLE;
    const CUresult r = context_drain(m->object.context);
    drop_module(m->ptx);
    m->ptx = NULL;
    release_variables(m->variables);
    object_retire(m);
    return r;
}

SIM_EXPORT CUresult cuModuleGetFunction(CUfunction *out, CUmodule handle, const char *name)
{
    ENTER_CONTEXT(cuModuleGetFunction, CUDA_ERROR_NOT_FOUND);
    (void)ctx;
    Module *m = object_check(handle, OBJECT_MODULE, "cuModuleGetFunction");
    if (!m || !out || !name)
        return CUDA_ERROR_INVALID_HANDLE;
    PtxKernel *k = ptx_module_find(m->ptx, name);
    if (!k)
        return CUDA_ERROR_NOT_FOUND;
    for (guint i = 0; i < m->functions->len; i++) {
        *out = m->functions->pdata[i];
        if ((*out)->kernel == k)
            return CUDA_SUCCESS;
    }
    Function *f = g_new0(Function, 1);
    *f = (Function){.module = m, .kernel = k};
    g_ptr_array_add(m->functions, f);
    *out = f;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule handle,
                                         const char *name)
{
    ENTER_CONTEXT(cuModuleGetGlobal_v2, CUDA_ERROR_NOT_FOUND);
    (void)ctx;
    Module *m = object_check(handle, OBJECT_MODULE, "cuModuleGetGlobal");
    if (!m)
        return CUDA_ERROR_INVALID_HANDLE;
    for (guint i = 0; i < m->ptx->variables->len; i++) {
        const PtxVariable *v = m->ptx->variables->pdata[i];
        if (strcmp(v->name, name))
            continue;
        if (address)
            *address = v->address;
        if (bytes)
            *bytes = v->size;
        return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
}

/* --- functions and launches --- */

/* The function if its module is alive and of the current context. */
static Function *check_function(CUfunction f, const char *call)
{
    GPtrArray *modules = objects[OBJECT_MODULE - OBJECT_CONTEXT];
    for (guint i = 0; f && modules && i < modules->len; i++) {
        Module *m = modules->pdata[i];
        if (g_ptr_array_find(m->functions, f, NULL))
            return object_check(m, OBJECT_MODULE, call) ? f : NULL;
    }
    report_finding("%s: a function handle that no module has given (%p)", call, (void *)f);
    return NULL;
}

SIM_EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction handle)
{
    ENTER_CONTEXT(cuFuncGetAttribute, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    const Function *f = check_function(handle, "cuFuncGetAttribute");
    if (!f)
        return CUDA_ERROR_INVALID_HANDLE;
    switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = f->kernel->max_threads ? (int)f->kernel->max_threads : 1024;
        break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
        *value = (int)f->kernel->static_shared;
        break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
        *value = (int)f->kernel->local_bytes;
        break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
        *value = 64; /* only ptxas knows */
        break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
        *value = device_arch();
        break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
        *value = (int)(f->max_dynamic_shared ? f->max_dynamic_shared
                                             : SHARED_DEFAULT - f->kernel->static_shared);
        break;
    default:
        *value = 0;
    }
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value)
{
    ENTER_CONTEXT(cuFuncSetAttribute, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    Function *f = check_function(handle, "cuFuncSetAttribute");
    if (!f)
        return CUDA_ERROR_INVALID_HANDLE;
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)
        return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 ||
        (uint32_t)value + f->kernel->static_shared > (uint32_t)attribute_value(97))
        return CUDA_ERROR_INVALID_VALUE;
    f->max_dynamic_shared = (uint32_t)value;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuFuncSetCacheConfig(CUfunction handle, int config)
{
    ENTER_CONTEXT(cuFuncSetCacheConfig, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    (void)config;
    return check_function(handle, "cuFuncSetCacheConfig") ? CUDA_SUCCESS
                                                          : CUDA_ERROR_INVALID_HANDLE;
}

SIM_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction handle,
                                                                int threads, size_t dynamic_shared)
{
    ENTER_CONTEXT(cuOccupancyMaxActiveBlocksPerMultiprocessor, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    const Function *f = check_function(handle, "cuOccupancyMaxActiveBlocksPerMultiprocessor");
    if (!f || threads <= 0)
        return f ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
    const size_t shared = dynamic_shared + f->kernel->static_shared + 1024;
    const int by_threads = 2048 / threads, by_shared = (int)((size_t)attribute_value(81) / shared);
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return CUDA_SUCCESS;
}

typedef struct {
    Function *function;
    LaunchParams params;
    uint8_t *arguments;
} LaunchOp;

static CUresult run_launch(Stream *stream, void *data)
{
    LaunchOp *op = data;
    op->params.context = stream->object.context;
    op->params.params = op->arguments;
    op->params.seed = sim_seed();
    if (!op->function->module->object.alive) {
        report_finding("launch: the module was unloaded before the kernel ran");
        return CUDA_ERROR_LAUNCH_FAILED;
    }
    return ptx_launch(op->function->kernel, &op->params) ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED;
}

static void drop_launch(void *data)
{
    LaunchOp *op = data;
    g_free(op->arguments);
    g_free(op);
}

/* NULL, or which limit the launch breaks. */
static const char *broken_limit(const Function *f, const LaunchParams *p)
{
    static const uint32_t most_grid[3] = {2147483647, 65535, 65535},
                          most_block[3] = {1024, 1024, 64};
    const PtxKernel *k = f->kernel;
    for (int i = 0; i < 3; i++) {
        if (!p->grid[i] || p->grid[i] > most_grid[i])
            return "grid size out of range";
        if (!p->block[i] || p->block[i] > most_block[i])
            return "block size out of range";
        if (k->required[i] && k->required[i] != p->block[i])
            return "block size is not the one that the kernel requires";
    }
    const uint32_t threads = p->block[0] * p->block[1] * p->block[2];
    const uint64_t blocks = (uint64_t)p->grid[0] * p->grid[1] * p->grid[2];
    if (threads > 1024)
        return "more than 1024 threads in a block";
    if (k->max_threads && threads > k->max_threads)
        return "more threads than the kernel's launch bounds";
    if (blocks > 1u << 30)
        return "too many blocks to interpret";
    const uint32_t allowed =
        f->max_dynamic_shared ? f->max_dynamic_shared + k->static_shared : SHARED_DEFAULT;
    if ((uint64_t)p->dynamic_shared + k->static_shared > allowed)
        return "more shared memory than allowed";
    return NULL;
}

/* Arguments come as pointers to each, or packed in one buffer (extra), whose size is checked. */
static const char *gather_arguments(const PtxKernel *k, void **pointers, void **extra, uint8_t *out)
{
    if (pointers && extra)
        return "arguments given in two ways";
    if (!k->params->len)
        return NULL;
    if (pointers) {
        for (guint i = 0; i < k->params->len; i++) {
            const PtxParam *p = &g_array_index(k->params, PtxParam, i);
            if (!pointers[i])
                return "an argument pointer is NULL";
            memcpy(out + p->offset, pointers[i], p->size);
        }
        return NULL;
    }
    const void *buffer = NULL;
    size_t size = 0;
    for (void **e = extra; e && *e; e += 2) {
        if (*e == (void *)1)
            buffer = e[1];
        else if (*e == (void *)2)
            size = *(size_t *)e[1];
    }
    if (!buffer)
        return "arguments are missing";
    if (size != k->param_bytes)
        return "the argument buffer has not the size of the kernel's parameters";
    memcpy(out, buffer, size);
    return NULL;
}

SIM_EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz,
                                   unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                   CUstream stream, void **arguments, void **extra)
{
    ENTER_CONTEXT(cuLaunchKernel, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    (void)ctx;
    Function *f = check_function(handle, "cuLaunchKernel");
    Stream *s = stream_resolve(stream, "cuLaunchKernel");
    if (!f || !s)
        return CUDA_ERROR_INVALID_HANDLE;
    LaunchOp *op = g_new0(LaunchOp, 1);
    op->function = f;
    op->params =
        (LaunchParams){.grid = {gx, gy, gz}, .block = {bx, by, bz}, .dynamic_shared = shared};
    op->arguments = g_malloc0(f->kernel->param_bytes + 1);
    const char *wrong = broken_limit(f, &op->params);
    if (!wrong)
        wrong = gather_arguments(f->kernel, arguments, extra, op->arguments);
    if (wrong) {
        report_finding(
            "cuLaunchKernel(%s): %s (grid %u,%u,%u, block %u,%u,%u, dynamic shared %u, static %u)",
            f->kernel->name, wrong, gx, gy, gz, bx, by, bz, shared, f->kernel->static_shared);
        drop_launch(op);
        return CUDA_ERROR_INVALID_VALUE;
    }
    stream_submit(s, f->kernel->name, run_launch, drop_launch, op);
    return CUDA_SUCCESS;
}

/* --- errors --- */

static const struct {
    CUresult code;
    const char *name, *text;
} error_names[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

SIM_EXPORT CUresult cuGetErrorName(CUresult code, const char **name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(error_names); i++)
        if (error_names[i].code == code) {
            *name = error_names[i].name;
            return CUDA_SUCCESS;
        }
    *name = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

SIM_EXPORT CUresult cuGetErrorString(CUresult code, const char **text)
{
    for (size_t i = 0; i < G_N_ELEMENTS(error_names); i++)
        if (error_names[i].code == code) {
            *text = error_names[i].text;
            return CUDA_SUCCESS;
        }
    *text = NULL;
    return CUDA_ERROR_INVALID_VALUE;
}

/* --- what must exist for libgstcuda, and is not supported --- */

#define UNSUPPORTED(name)                \
    SIM_EXPORT CUresult name(void)       \
    {                                    \
        return CUDA_ERROR_NOT_SUPPORTED; \
    }

UNSUPPORTED(cuTexObjectCreate)
UNSUPPORTED(cuTexObjectDestroy)
UNSUPPORTED(cuGraphicsGLRegisterBuffer)
UNSUPPORTED(cuGraphicsGLRegisterImage)
UNSUPPORTED(cuGraphicsMapResources)
UNSUPPORTED(cuGraphicsUnmapResources)
UNSUPPORTED(cuGraphicsResourceSetMapFlags_v2)
UNSUPPORTED(cuGraphicsResourceGetMappedPointer_v2)
UNSUPPORTED(cuGraphicsSubResourceGetMappedArray)
UNSUPPORTED(cuGraphicsUnregisterResource)
UNSUPPORTED(cuGLGetDevices_v2)

/* --- leaks --- */

static void report_object(void *object, void *user)
{
    static const char *const names[OBJECT_KINDS] = {"context", "module", "stream",
                                                    "event",   "graph",  "graph executable"};
    const Object *o = object;
    report_finding("leak: a %s (%p)", names[o->kind - OBJECT_CONTEXT], object);
    ++*(unsigned *)user;
}

SIM_EXPORT unsigned gpusim_report_leaks(void)
{
    unsigned n = copy_report_leaks() + report_other_leaks();
    for (ObjectKind kind = OBJECT_CONTEXT; kind <= OBJECT_GRAPH_EXEC; kind++)
        object_each(kind, NULL, report_object, &n);
    return n;
}
