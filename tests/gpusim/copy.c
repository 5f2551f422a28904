/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Memory entry points: device and pinned host memory, copies and fills. Copies from pinned memory
 * read it when they run, and notice if it was changed in between; destinations in pinned memory are
 * spoiled until they have run. Every device range passes device_span(), which makes the checks that
 * kernels get.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define HEX "0x%" G_GINT64_MODIFIER "x"

static uint64_t device_total(void)
{
    const char *s = getenv("GPUSIM_MEMORY");
    return s ? g_ascii_strtoull(s, NULL, 0) : (uint64_t)8 << 30;
}

/* --- device memory --- */

Allocation *device_allocate(size_t bytes, Context *ctx)
{
    if (bytes > device_total() || sim_counters.device_bytes > device_total() - bytes)
        return NULL;
    Allocation *a = memory_new(bytes, ctx);
    if (!a)
        return NULL;
    sim_counters.device_bytes += bytes;
    if (sim_counters.device_bytes > sim_counters.device_bytes_peak)
        sim_counters.device_bytes_peak = sim_counters.device_bytes;
    return a;
}

void device_release(Allocation *a)
{
    sim_counters.device_bytes -= a->size;
    memory_release(a);
}

SIM_EXPORT uint8_t *device_span(const Context *ctx, CUdeviceptr address, size_t bytes, Use use,
                                const char *what)
{
    Allocation *a = memory_find(address);
    const char *wrong = NULL;
    if (!a || address < a->base || address - a->base > a->size ||
        bytes > a->size - (address - a->base))
        wrong = "out of bounds of device memory";
    else if (!a->data)
        wrong = "use of freed device memory";
    else if (a->context != ctx)
        wrong = "memory of another context";
    if (wrong) {
        report_finding("%s: %s (address " HEX ", %" G_GSIZE_FORMAT " bytes)", what, wrong, address,
                       bytes);
        return NULL;
    }
    const size_t offset = (size_t)(address - a->base);
    if (use == USE_WRITE) {
        memory_mark_written(a, offset, bytes);
    } else if (use == USE_READ) {
        const size_t bad = memory_first_unwritten(a, offset, bytes);
        if (bad != SIZE_MAX) {
            report_finding("%s: read of device memory that was never written (address " HEX
                           ", byte %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT ")",
                           what, address, bad - offset, bytes);
            return NULL;
        }
    }
    return a->data + offset;
}

SIM_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t bytes)
{
    ENTER_CONTEXT(cuMemAlloc_v2, CUDA_ERROR_OUT_OF_MEMORY);
    if (!out || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    Allocation *a = device_allocate(bytes, ctx);
    if (!a)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *out = a->base;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemAllocPitch_v2(CUdeviceptr *out, size_t *pitch, size_t width, size_t height,
                                       unsigned element)
{
    ENTER_CONTEXT(cuMemAllocPitch_v2, CUDA_ERROR_OUT_OF_MEMORY);
    if (!out || !pitch || !width || !height || (element != 4 && element != 8 && element != 16))
        return CUDA_ERROR_INVALID_VALUE;
    if (width > SIZE_MAX / 2 || height > SIZE_MAX / (width + 511))
        return CUDA_ERROR_OUT_OF_MEMORY;
    *pitch = (width + 511) / 512 * 512;
    Allocation *a = device_allocate(*pitch * height, ctx);
    if (!a)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *out = a->base;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemFree_v2(CUdeviceptr address)
{
    ENTER(cuMemFree_v2, CUDA_ERROR_UNKNOWN);
    Context *ctx = context_current();
    if (!ctx)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (!address)
        return CUDA_SUCCESS;
    Allocation *a = memory_find(address);
    const char *wrong = !a || a->base != address ? "no start of an allocation"
                        : !a->data               ? "memory freed twice"
                        : a->context != ctx      ? "memory of another context"
                                                 : NULL;
    if (wrong) {
        report_finding("cuMemFree: %s (address " HEX ")", wrong, address);
        return CUDA_ERROR_INVALID_VALUE;
    }
    context_drain(ctx); /* as the driver does */
    device_release(a);
    return ctx->error;
}

SIM_EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total)
{
    ENTER_CONTEXT(cuMemGetInfo_v2, CUDA_ERROR_UNKNOWN);
    *total = device_total();
    *available = *total - sim_counters.device_bytes;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address)
{
    ENTER_CONTEXT(cuMemGetAddressRange_v2, CUDA_ERROR_UNKNOWN);
    (void)ctx;
    const Allocation *a = memory_find(address);
    if (!a || !a->data || address < a->base || address - a->base >= a->size)
        return CUDA_ERROR_NOT_FOUND;
    if (base)
        *base = a->base;
    if (bytes)
        *bytes = a->size;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuPointerGetAttribute(void *out, int attribute, CUdeviceptr address)
{
    ENTER_CONTEXT(cuPointerGetAttribute, CUDA_ERROR_UNKNOWN);
    Allocation *a = memory_find(address);
    if (!a || !a->data || address < a->base || address - a->base >= a->size)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == 1)
        *(const void **)out = a->context;
    else if (attribute == 2)
        *(unsigned *)out = CU_MEMORYTYPE_DEVICE;
    else
        return CUDA_ERROR_NOT_SUPPORTED;
    return CUDA_SUCCESS;
}

/* --- pinned host memory --- */

typedef struct {
    uint8_t *data;
    size_t bytes;
    bool registered; /* the caller's memory */
    Context *context;
} Pinned;

static GPtrArray *pinned;

static Pinned *pinned_find(const void *p)
{
    for (guint i = 0; pinned && i < pinned->len; i++) {
        Pinned *m = pinned->pdata[i];
        if ((const uint8_t *)p >= m->data && (const uint8_t *)p < m->data + m->bytes)
            return m;
    }
    return NULL;
}

static Pinned *pinned_add(void *data, size_t bytes, bool registered, Context *ctx)
{
    Pinned *m = g_new0(Pinned, 1);
    *m = (Pinned){.data = data, .bytes = bytes, .registered = registered, .context = ctx};
    if (!pinned)
        pinned = g_ptr_array_new();
    g_ptr_array_add(pinned, m);
    return m;
}

static CUresult allocate_host(void **out, size_t bytes, Context *ctx)
{
    if (!out || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    void *p = NULL;
    if (posix_memalign(&p, 4096, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(p, 0xa5, bytes);
    pinned_add(p, bytes, false, ctx);
    *out = p;
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemAllocHost_v2(void **out, size_t bytes)
{
    ENTER_CONTEXT(cuMemAllocHost_v2, CUDA_ERROR_OUT_OF_MEMORY);
    return allocate_host(out, bytes, ctx);
}

SIM_EXPORT CUresult cuMemHostAlloc(void **out, size_t bytes, unsigned flags)
{
    ENTER_CONTEXT(cuMemHostAlloc, CUDA_ERROR_OUT_OF_MEMORY);
    (void)flags;
    return allocate_host(out, bytes, ctx);
}

SIM_EXPORT CUresult cuMemFreeHost(void *p)
{
    ENTER(cuMemFreeHost, CUDA_ERROR_UNKNOWN);
    Context *ctx = context_current();
    if (!ctx)
        return CUDA_ERROR_INVALID_CONTEXT;
    Pinned *m = pinned_find(p);
    if (!m || m->data != p || m->registered) {
        report_finding("cuMemFreeHost: %p is no pinned allocation, or was freed before", p);
        return CUDA_ERROR_INVALID_VALUE;
    }
    context_drain(m->context);
    g_ptr_array_remove_fast(pinned, m);
    free(m->data);
    g_free(m);
    return ctx->error;
}

SIM_EXPORT CUresult cuMemHostRegister_v2(void *p, size_t bytes, unsigned flags)
{
    ENTER_CONTEXT(cuMemHostRegister_v2, CUDA_ERROR_OUT_OF_MEMORY);
    (void)flags;
    if (!p || !bytes)
        return CUDA_ERROR_INVALID_VALUE;
    if (pinned_find(p))
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    pinned_add(p, bytes, true, ctx);
    return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemHostUnregister(void *p)
{
    ENTER_CONTEXT(cuMemHostUnregister, CUDA_ERROR_UNKNOWN);
    Pinned *m = pinned_find(p);
    if (!m || m->data != p || !m->registered) {
        report_finding("cuMemHostUnregister: %p is not registered", p);
        return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    }
    context_drain(m->context);
    g_ptr_array_remove_fast(pinned, m);
    g_free(m);
    return ctx->error;
}

/* --- copies --- */

/* Any copy is one of rectangles. Exactly one of host and device is set on each side. */
typedef struct {
    const uint8_t *from_host;
    CUdeviceptr from;
    uint8_t *to_host;
    CUdeviceptr to;
    size_t from_pitch, to_pitch, width, height;
    uint8_t *staged;   /* pageable source: its bytes at the time of the call */
    uint32_t checksum; /* of a pinned source at the time of the call */
    bool pinned;       /* asynchronous, and the host side is pinned */
    bool checked;      /* checksum holds */
} Copy;

static uint32_t checksum(const uint8_t *p, size_t pitch, size_t width, size_t height)
{
    uint32_t h = 2166136261u;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            h = (h ^ p[y * pitch + x]) * 16777619u;
    return h;
}

static bool mark_rectangle(const Context *ctx, const Copy *c)
{
    for (size_t y = 0; y < c->height; y++)
        if (!device_span(ctx, c->to + y * c->to_pitch, c->width, USE_WRITE, "copy to the device"))
            return false;
    return true;
}

/* One row to the host. What was never written arrives as 0xff, NaN in any float format; returns how
 * many such bytes there are, or SIZE_MAX where the row is no device memory. */
static size_t download_row(const Context *ctx, CUdeviceptr from, uint8_t *to, size_t width)
{
    const uint8_t *p = device_span(ctx, from, width, USE_RAW, "copy from the device");
    if (!p)
        return SIZE_MAX;
    const Allocation *a = memory_find(from);
    const size_t offset = (size_t)(from - a->base);
    size_t missing = 0;
    memcpy(to, p, width);
    for (size_t i = memory_first_unwritten(a, offset, width); i < offset + width;
         i = memory_first_unwritten(a, i + 1, offset + width - i - 1)) {
        to[i - offset] = 0xff;
        missing++;
    }
    return missing;
}

static void copy_shadow(const Copy *c)
{
    Allocation *from = memory_find(c->from), *to = memory_find(c->to);
    for (size_t y = 0; y < c->height; y++)
        memory_copy_written(to, (size_t)(c->to - to->base) + y * c->to_pitch, from,
                            (size_t)(c->from - from->base) + y * c->from_pitch, c->width);
}

/* Padding may never have been written, and GStreamer downloads it: the end of each row of a
 * rectangle, and spare rows, which are half of an NV12 picture. Less is left to the 0xff bytes. */
static CUresult download(const Context *ctx, const Copy *c)
{
    size_t missing = 0;
    for (size_t y = 0; y < c->height; y++) {
        const CUdeviceptr from = c->from + y * c->from_pitch;
        const size_t n = download_row(ctx, from, c->to_host + y * c->to_pitch, c->width);
        if (n == SIZE_MAX)
            return CUDA_ERROR_LAUNCH_FAILED;
        const Allocation *a = memory_find(from);
        const size_t offset = (size_t)(from - a->base);
        const size_t first = n ? memory_first_unwritten(a, offset, c->width) - offset : c->width;
        if (c->height == 1 || first == 0 || first + n != c->width)
            missing += n;
    }
    const size_t total = c->width * c->height;
    if (missing > 3 && missing > (c->height == 1 ? total / 8 : total / 2)) {
        report_finding("copy from the device: %" G_GSIZE_FORMAT " of %" G_GSIZE_FORMAT
                       " bytes were never written (address " HEX ")",
                       missing, total, c->from);
        return CUDA_ERROR_LAUNCH_FAILED;
    }
    sim_counters.device_to_host += total;
    return CUDA_SUCCESS;
}

static CUresult upload(const Context *ctx, const Copy *c)
{
    const uint8_t *from = c->staged ? c->staged : c->from_host;
    if (c->checked && checksum(from, c->from_pitch, c->width, c->height) != c->checksum)
        report_finding("copy to the device: pinned memory was changed before the copy ran");
    if (!mark_rectangle(ctx, c))
        return CUDA_ERROR_LAUNCH_FAILED;
    uint8_t *to = device_span(ctx, c->to, c->width, USE_RAW, "copy to the device");
    for (size_t y = 0; y < c->height; y++)
        memcpy(to + y * c->to_pitch, from + y * c->from_pitch, c->width);
    sim_counters.host_to_device += (uint64_t)c->width * c->height;
    return CUDA_SUCCESS;
}

/* What was never written stays so in the copy. */
static CUresult copy_on_device(const Context *ctx, const Copy *c)
{
    static const char *const what = "copy inside the device";
    if (!mark_rectangle(ctx, c))
        return CUDA_ERROR_LAUNCH_FAILED;
    for (size_t y = 0; y < c->height; y++) {
        const uint8_t *from =
            device_span(ctx, c->from + y * c->from_pitch, c->width, USE_RAW, what);
        if (!from)
            return CUDA_ERROR_LAUNCH_FAILED;
        memmove(device_span(ctx, c->to + y * c->to_pitch, c->width, USE_RAW, what), from, c->width);
    }
    copy_shadow(c);
    sim_counters.device_to_device += (uint64_t)c->width * c->height;
    return CUDA_SUCCESS;
}

static CUresult run_copy(Stream *stream, void *data)
{
    const Copy *c = data;
    const Context *ctx = stream->object.context;
    if (c->from && c->to)
        return copy_on_device(ctx, c);
    return c->from ? download(ctx, c) : upload(ctx, c);
}

static GPtrArray *waiting; /* Copy, from or to pinned memory, that has not run */

static void drop_copy(void *data)
{
    Copy *c = data;
    if (c->pinned)
        g_ptr_array_remove(waiting, c);
    g_free(c->staged);
    g_free(c);
}

/* Does a copy that was submitted before use this host memory? Then stream order may give it a
 * meaning that looking at the bytes now would miss. */
static bool in_use(const uint8_t *p, size_t bytes)
{
    for (guint i = 0; waiting && i < waiting->len; i++) {
        const Copy *c = waiting->pdata[i];
        const uint8_t *start = c->from_host ? c->from_host : c->to_host;
        const size_t pitch = c->from_host ? c->from_pitch : c->to_pitch;
        if (p < start + c->height * pitch && start < p + bytes)
            return true;
    }
    return false;
}

/* Results that are read before the copy has run shall be seen to be wrong. */
static void spoil(const Copy *c)
{
    for (size_t y = 0; y < c->height; y++)
        memset(c->to_host + y * c->to_pitch, 0xa5, c->width);
}

static void stage(Copy *c)
{
    c->staged = g_malloc(c->width * c->height);
    for (size_t y = 0; y < c->height; y++)
        memcpy(c->staged + y * c->width, c->from_host + y * c->from_pitch, c->width);
    c->from_pitch = c->width;
}

static void prepare_pinned(Copy *c)
{
    if (c->from_host && !in_use(c->from_host, c->height * c->from_pitch)) {
        c->checked = true;
        c->checksum = checksum(c->from_host, c->from_pitch, c->width, c->height);
    }
    if (c->to_host && !in_use(c->to_host, c->height * c->to_pitch))
        spoil(c);
    if (!waiting)
        waiting = g_ptr_array_new();
    g_ptr_array_add(waiting, c);
}

/* Asynchronous copies wait in the stream, except into pageable memory, which the driver makes
 * synchronous. */
static CUresult submit_copy(CUstream handle, const Copy *request, bool asynchronous,
                            const char *call)
{
    Stream *s = stream_resolve(handle, call);
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!request->width || !request->height)
        return CUDA_SUCCESS;
    if ((!request->from && !request->from_host) || (!request->to && !request->to_host))
        return CUDA_ERROR_INVALID_VALUE;
    Copy *c = g_new(Copy, 1);
    *c = *request;
    if (s->capture) { /* runs later and more than once: nothing can be said about host memory now */
        stream_submit(s, call, run_copy, drop_copy, c);
        return CUDA_SUCCESS;
    }
    c->pinned = asynchronous && pinned_find(c->from_host ? c->from_host : c->to_host);
    if (c->pinned)
        prepare_pinned(c);
    else if (c->from_host && asynchronous)
        stage(c);
    else if (c->to_host)
        asynchronous = false;
    stream_submit(s, call, run_copy, drop_copy, c);
    return asynchronous ? CUDA_SUCCESS : stream_drain(s);
}

static Copy linear(size_t bytes)
{
    return (Copy){.width = bytes, .height = 1, .from_pitch = bytes, .to_pitch = bytes};
}

SIM_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes)
{
    ENTER_CONTEXT(cuMemcpyHtoD_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to = to;
    c.from_host = from;
    return submit_copy(NULL, &c, false, "cuMemcpyHtoD");
}

SIM_EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                                         CUstream stream)
{
    ENTER_CONTEXT(cuMemcpyHtoDAsync_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to = to;
    c.from_host = from;
    return submit_copy(stream, &c, true, "cuMemcpyHtoDAsync");
}

SIM_EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes)
{
    ENTER_CONTEXT(cuMemcpyDtoH_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to_host = to;
    c.from = from;
    return submit_copy(NULL, &c, false, "cuMemcpyDtoH");
}

SIM_EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    ENTER_CONTEXT(cuMemcpyDtoHAsync_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to_host = to;
    c.from = from;
    return submit_copy(stream, &c, true, "cuMemcpyDtoHAsync");
}

SIM_EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    ENTER_CONTEXT(cuMemcpyDtoD_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to = to;
    c.from = from;
    return submit_copy(NULL, &c, true, "cuMemcpyDtoD");
}

SIM_EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                         CUstream stream)
{
    ENTER_CONTEXT(cuMemcpyDtoDAsync_v2, CUDA_ERROR_UNKNOWN);
    Copy c = linear(bytes);
    c.to = to;
    c.from = from;
    return submit_copy(stream, &c, true, "cuMemcpyDtoDAsync");
}

/* Which side a unified address names. */
static void set_unified(CUdeviceptr p, CUdeviceptr *device, const uint8_t **host)
{
    if (memory_find(p))
        *device = p;
    else
        *host = (const uint8_t *)(uintptr_t)p;
}

static CUresult copy_unified(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream,
                             bool asynchronous)
{
    Copy c = linear(bytes);
    const uint8_t *to_host = NULL;
    set_unified(from, &c.from, &c.from_host);
    set_unified(to, &c.to, &to_host);
    c.to_host = (uint8_t *)to_host;
    return submit_copy(stream, &c, asynchronous, "cuMemcpy");
}

SIM_EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes)
{
    ENTER_CONTEXT(cuMemcpy, CUDA_ERROR_UNKNOWN);
    return copy_unified(to, from, bytes, NULL, false);
}

SIM_EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream)
{
    ENTER_CONTEXT(cuMemcpyAsync, CUDA_ERROR_UNKNOWN);
    return copy_unified(to, from, bytes, stream, true);
}

static CUresult copy_2d(const CUDA_MEMCPY2D *p, CUstream stream, bool asynchronous,
                        const char *call)
{
    if (!p ||
        (p->srcMemoryType != CU_MEMORYTYPE_HOST && p->srcMemoryType != CU_MEMORYTYPE_DEVICE) ||
        (p->dstMemoryType != CU_MEMORYTYPE_HOST && p->dstMemoryType != CU_MEMORYTYPE_DEVICE))
        return CUDA_ERROR_INVALID_VALUE;
    Copy c = {.width = p->WidthInBytes, .height = p->Height};
    c.from_pitch = p->srcPitch ? p->srcPitch : c.width;
    c.to_pitch = p->dstPitch ? p->dstPitch : c.width;
    if (c.from_pitch < c.width + p->srcXInBytes || c.to_pitch < c.width + p->dstXInBytes)
        return CUDA_ERROR_INVALID_VALUE;
    const size_t source = p->srcY * c.from_pitch + p->srcXInBytes,
                 target = p->dstY * c.to_pitch + p->dstXInBytes;
    if (p->srcMemoryType == CU_MEMORYTYPE_HOST)
        c.from_host = p->srcHost ? (const uint8_t *)p->srcHost + source : NULL;
    else
        c.from = p->srcDevice + source;
    if (p->dstMemoryType == CU_MEMORYTYPE_HOST)
        c.to_host = p->dstHost ? (uint8_t *)p->dstHost + target : NULL;
    else
        c.to = p->dstDevice + target;
    if (c.from_host && c.to_host)
        return CUDA_ERROR_NOT_SUPPORTED;
    return submit_copy(stream, &c, asynchronous, call);
}

SIM_EXPORT CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *p)
{
    ENTER_CONTEXT(cuMemcpy2D_v2, CUDA_ERROR_UNKNOWN);
    return copy_2d(p, NULL, false, "cuMemcpy2D");
}

SIM_EXPORT CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *p)
{
    ENTER_CONTEXT(cuMemcpy2DUnaligned_v2, CUDA_ERROR_UNKNOWN);
    return copy_2d(p, NULL, false, "cuMemcpy2DUnaligned");
}

SIM_EXPORT CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *p, CUstream stream)
{
    ENTER_CONTEXT(cuMemcpy2DAsync_v2, CUDA_ERROR_UNKNOWN);
    return copy_2d(p, stream, true, "cuMemcpy2DAsync");
}

/* --- fills --- */

typedef struct {
    CUdeviceptr to;
    size_t count, pitch, height;
    uint32_t value;
    unsigned bytes; /* of one element */
} Fill;

static CUresult run_fill(Stream *stream, void *data)
{
    const Fill *f = data;
    for (size_t y = 0; y < f->height; y++) {
        uint8_t *p = device_span(stream->object.context, f->to + y * f->pitch, f->count * f->bytes,
                                 USE_WRITE, "fill");
        if (!p)
            return CUDA_ERROR_LAUNCH_FAILED;
        for (size_t i = 0; i < f->count; i++)
            memcpy(p + i * f->bytes, &f->value, f->bytes);
    }
    return CUDA_SUCCESS;
}

static CUresult submit_fill(CUstream handle, Fill fill)
{
    Stream *s = stream_resolve(handle, "fill");
    if (!s)
        return CUDA_ERROR_INVALID_HANDLE;
    if (fill.to % fill.bytes)
        return CUDA_ERROR_INVALID_VALUE;
    Fill *f = g_new(Fill, 1);
    *f = fill;
    stream_submit(s, "fill", run_fill, g_free, f);
    return CUDA_SUCCESS;
}

#define FILL(bits, type)                                                                           \
    SIM_EXPORT CUresult cuMemsetD##bits##_v2(CUdeviceptr to, type value, size_t n)                 \
    {                                                                                              \
        ENTER_CONTEXT(cuMemsetD##bits##_v2, CUDA_ERROR_UNKNOWN);                                   \
        return submit_fill(                                                                        \
            NULL, (Fill){.to = to, .count = n, .height = 1, .value = value, .bytes = bits / 8});   \
    }                                                                                              \
    SIM_EXPORT CUresult cuMemsetD##bits##Async(CUdeviceptr to, type value, size_t n,               \
                                               CUstream stream)                                    \
    {                                                                                              \
        ENTER_CONTEXT(cuMemsetD##bits##Async, CUDA_ERROR_UNKNOWN);                                 \
        return submit_fill(                                                                        \
            stream, (Fill){.to = to, .count = n, .height = 1, .value = value, .bytes = bits / 8}); \
    }

FILL(8, unsigned char)
FILL(16, unsigned short)
FILL(32, unsigned)

SIM_EXPORT CUresult cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value,
                                      size_t width, size_t height, CUstream stream)
{
    ENTER_CONTEXT(cuMemsetD2D8Async, CUDA_ERROR_UNKNOWN);
    return submit_fill(stream, (Fill){.to = to,
                                      .count = width,
                                      .pitch = pitch,
                                      .height = height,
                                      .value = value,
                                      .bytes = 1});
}

/* --- leaks --- */

static void report_allocation(Allocation *a, void *user)
{
    report_finding("leak: %" G_GSIZE_FORMAT " bytes of device memory at " HEX, a->size, a->base);
    ++*(unsigned *)user;
}

unsigned copy_report_leaks(void)
{
    unsigned n = 0;
    memory_each(NULL, report_allocation, &n);
    for (guint i = 0; pinned && i < pinned->len; i++, n++) {
        const Pinned *m = pinned->pdata[i];
        report_finding("leak: %" G_GSIZE_FORMAT " bytes of pinned memory at %p", m->bytes,
                       (void *)m->data);
    }
    return n;
}

static void release_allocation(Allocation *a, void *user)
{
    (void)user;
    report_finding("leak: %" G_GSIZE_FORMAT " bytes of device memory outlive their context",
                   a->size);
    device_release(a);
}

void context_release_memory(Context *ctx)
{
    memory_each(ctx, release_allocation, NULL);
}
