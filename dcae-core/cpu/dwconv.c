/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dwconv.c - DWCONV: depthwise convolution of any odd size with zero padding, bias, and the gate
 * a·SiLU(g) of the two channel halves.
 *
 * A task is up to MAX_ROWS output rows of CHUNK output channels; inside, tiles of TILE pixels go
 * down their rows, so that the inputs of a tile stay in L1 and L2. Per pixel the taps are added in
 * the same order everywhere, starting from the bias.
 */
#include "../dcae_tensor.h"
#include "cpu_families.h"
#include "rows.h"
#include "vec_act.h"

#define TILE 4
#define MAX_ROWS 4
#define CHUNK 512
/* Vectors a register tile. Pixels lie a power of two apart and so fall into one set of L1: what is
 * not used of a cache line at once is gone at the next vector. */
#define VECS (VEC_WIDTH * sizeof(elem_t) < 64 ? 2 : 1)

static inline gsize round_up(gsize n)
{
    return (n + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
}

/* Packed: the channels in vectors, and for each vector its bias, then its k·k taps. With a gate
 * the second half of the channels begins a new vector: part 0 is a, part 1 is g. */
static inline gsize part_channels(const DcaeLayer *layer)
{
    return layer->gate ? layer->conv_c / 2 : layer->conv_c;
}

static inline gsize part_floats(const DcaeLayer *layer)
{
    return round_up(part_channels(layer)) * (1 + (gsize)layer->ksize * layer->ksize);
}

static gsize packed_bytes(const DcaeLayer *layer)
{
    return part_floats(layer) * (layer->gate ? 2 : 1) * sizeof(float);
}

static void pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    gsize taps = (gsize)layer->ksize * layer->ksize, part_c = part_channels(layer);
    memset(packed, 0, packed_bytes(layer));
    for (gsize c = 0; c < layer->conv_c; c++) {
        gsize in_part = c % part_c;
        float *to = packed + c / part_c * part_floats(layer) +
                    in_part / VEC_WIDTH * VEC_WIDTH * (1 + taps) + in_part % VEC_WIDTH;
        to[0] = weights->bias ? weights->bias[c] : 0.0f;
        for (gsize t = 0; t < taps; t++)
            to[(1 + t) * VEC_WIDTH] = weights->weight[c * taps + t];
    }
}

static gsize n_chunks(const DcaeCpuCall *call)
{
    return (call->out.c + CHUNK - 1) / CHUNK;
}

/* Output rows a task: fewer where a band has few rows and channels, so that every thread has some.
 */
static guint task_rows(const DcaeCpuCall *call)
{
    guint wanted = (guint)((MAX(call->threads, 1) + n_chunks(call) - 1) / n_chunks(call));
    return CLAMP(dcae_ceil_div(call->y1 - call->y0, wanted), 1, MAX_ROWS);
}

static gsize n_tasks(const DcaeCpuCall *call)
{
    return dcae_ceil_div(call->y1 - call->y0, task_rows(call)) * n_chunks(call);
}

/* A pixel of zeros, which stands for those outside the picture. */
static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return (CHUNK + 16) * sizeof(elem_t);
}

/* Input pixels of a tile: tap (ky, kx) of output t is pixel (ky, t + kx). Either a base and strides
 * or, at the borders, a pointer for each. */
typedef struct {
    const elem_t *base;
    gsize row_stride, pixel_stride;
    const elem_t *const *border; /* NULL: base and strides */
    const elem_t *zeros;         /* stands for pixels outside */
    gsize low;                   /* DcaeRows */
} Taps;

static inline const elem_t *tap(const Taps *taps, int ksize, int tile, int ky, int x)
{
    if (taps->border)
        return taps->border[ky * (tile + ksize - 1) + x];
    return taps->base + ky * taps->row_stride + x * taps->pixel_stride;
}

/* `vecs` vectors of channels of `tile` outputs, sum[t * vecs + v]. c: channel offset into the taps'
 * pixels; n: lanes that may be read where vecs is 1. */
VEC_INLINE void tile_sum(const Taps *taps, int ksize, int tile, int vecs, const float *packed,
                         gsize c, gsize n, vec *sum)
{
    const gsize next = (1 + (gsize)ksize * ksize) * VEC_WIDTH;
    VEC_UNROLL
    for (int t = 0; t < tile * vecs; t++)
        sum[t] = vec_load(packed + t % vecs * next);
    VEC_UNROLL
    for (int ky = 0; ky < ksize; ky++) {
        const float *weight = packed + (1 + ky * ksize) * VEC_WIDTH;
        VEC_UNROLL
        for (int x = 0; x < tile + ksize - 1; x++) {
            const elem_t *pixel = tap(taps, ksize, tile, ky, x), *p = pixel + c;
            gsize low = pixel == taps->zeros ? 0 : taps->low;
            VEC_UNROLL
            for (int v = 0; v < vecs; v++) {
                vec in = n == VEC_WIDTH ? elem_load_sum(p + v * VEC_WIDTH, low)
                                        : elem_load_sum_n(p, low, n);
                VEC_UNROLL
                for (int kx = 0; kx < ksize; kx++)
                    if (x - kx >= 0 && x - kx < tile)
                        sum[(x - kx) * vecs + v] =
                            vec_fma(in, vec_load(weight + v * next + kx * VEC_WIDTH),
                                    sum[(x - kx) * vecs + v]);
            }
        }
    }
}

/* Channel c (of the chunk) of a tile: `vecs` vectors, or n lanes. gate: the second part's taps, or
 * NULL. */
VEC_INLINE void tile_finish(const DcaeCpuCall *call, const Taps *a, const Taps *gate, int ksize,
                            int tile, int vecs, const float *packed, gsize c, gsize n, elem_t *out)
{
    vec sum[TILE * VECS], gates[TILE * VECS];
    tile_sum(a, ksize, tile, vecs, packed, c, n, sum);
    if (gate) {
        tile_sum(gate, ksize, tile, vecs, packed + part_floats(call->op->layer), c, n, gates);
        VEC_UNROLL
        for (int t = 0; t < tile * vecs; t++)
            sum[t] = vec_mul(sum[t], vec_silu(gates[t]));
    }
    VEC_UNROLL
    for (int t = 0; t < tile * vecs; t++) {
        elem_t *to = out + t / vecs * call->out.pixel_stride + c + t % vecs * VEC_WIDTH;
        if (n == VEC_WIDTH)
            elem_store_sum(to, call->out.low, sum[t]);
        else
            elem_store_sum_n(to, call->out.low, sum[t], n);
    }
}

/* All channels of the chunk [c0, c1) of a tile at (y, x). */
VEC_INLINE void tile_chunk(const DcaeCpuCall *call, const Taps *a, const Taps *gate, int ksize,
                           int tile, gsize c0, gsize c1, guint y, guint x)
{
    const gsize next = (1 + (gsize)ksize * ksize) * VEC_WIDTH;
    const float *packed = call->packed + c0 / VEC_WIDTH * next;
    elem_t *out = dcae_rows_at(&call->out, y, x) + c0;
    gsize c = 0, n = c1 - c0;
    for (; c + VECS * VEC_WIDTH <= n; c += VECS * VEC_WIDTH, packed += VECS * next)
        tile_finish(call, a, gate, ksize, tile, VECS, packed, c, VEC_WIDTH, out);
    for (; c + VEC_WIDTH <= n; c += VEC_WIDTH, packed += next)
        tile_finish(call, a, gate, ksize, tile, 1, packed, c, VEC_WIDTH, out);
    if (c < n)
        tile_finish(call, a, gate, ksize, tile, 1, packed, c, n - c, out);
}

/* A tile whose taps all lie inside the picture. */
VEC_INLINE void inner_tile(const DcaeCpuCall *call, int ksize, gsize c0, gsize c1, guint y, guint x)
{
    int half = ksize / 2;
    Taps a = {.base = dcae_rows_at(&call->in, y - half, x - half) + c0,
              .row_stride = call->in.row_stride,
              .pixel_stride = call->in.pixel_stride,
              .low = call->in.low};
    Taps gate = a;
    gate.base += call->out.c;
    tile_chunk(call, &a, call->op->layer->gate ? &gate : NULL, ksize, TILE, c0, c1, y, x);
}

/* One pixel anywhere; with ksize a constant the taps are pointers, some of them to zeros. */
VEC_INLINE void border_tile(const DcaeCpuCall *call, int ksize, int tile, gsize c0, gsize c1,
                            guint y, guint x, const elem_t *zeros)
{
    const elem_t *pixels[5 * (TILE + 4)], *gates[5 * (TILE + 4)];
    int half = ksize / 2, columns = tile + ksize - 1;
    for (int i = 0; i < ksize * columns; i++) {
        gint64 py = (gint64)y + i / columns - half, px = (gint64)x + i % columns - half;
        gboolean inside = py >= 0 && py < call->in.h && px >= 0 && px < call->in.w;
        pixels[i] = inside ? dcae_rows_at(&call->in, (guint)py, (guint)px) + c0 : zeros;
        gates[i] = inside ? pixels[i] + call->out.c : zeros;
    }
    Taps a = {.border = pixels, .zeros = zeros, .low = call->in.low}, gate = a;
    gate.border = gates;
    tile_chunk(call, &a, call->op->layer->gate ? &gate : NULL, ksize, tile, c0, c1, y, x);
}

/* Rows [y0, y1) of a chunk for a constant ksize of at most 5. */
VEC_INLINE void block(const DcaeCpuCall *call, int ksize, gsize c0, gsize c1, guint y0, guint y1,
                      const elem_t *zeros)
{
    guint w = call->out.w, h = call->out.h, half = ksize / 2, x = 0;
    for (; x + TILE <= w; x += TILE)
        for (guint y = y0; y < y1; y++) {
            if (y >= half && y + half < h && x >= half && x + TILE + half <= w)
                inner_tile(call, ksize, c0, c1, y, x);
            else
                border_tile(call, ksize, TILE, c0, c1, y, x, zeros);
        }
    for (; x < w; x++)
        for (guint y = y0; y < y1; y++)
            border_tile(call, ksize, 1, c0, c1, y, x, zeros);
}

/* The sum of part `part` for n lanes from channel c on, any ksize, taps outside left out. */
static inline vec any_vector(const DcaeCpuCall *call, gsize part, gsize c, gsize n, guint y,
                             guint x)
{
    const DcaeLayer *layer = call->op->layer;
    gint64 ksize = layer->ksize, half = ksize / 2;
    const float *packed =
        call->packed + part * part_floats(layer) + c * (1 + (gsize)(ksize * ksize));
    vec sum = vec_load(packed);
    for (gint64 ky = 0; ky < ksize; ky++) {
        gint64 py = (gint64)y + ky - half;
        if (py < 0 || py >= call->in.h)
            continue;
        for (gint64 kx = 0; kx < ksize; kx++) {
            gint64 px = (gint64)x + kx - half;
            if (px < 0 || px >= call->in.w)
                continue;
            const elem_t *p =
                dcae_rows_at(&call->in, (guint)py, (guint)px) + part * call->out.c + c;
            sum = vec_fma(elem_load_sum_n(p, call->in.low, n),
                          vec_load(packed + (1 + ky * ksize + kx) * VEC_WIDTH), sum);
        }
    }
    return sum;
}

static void any_block(const DcaeCpuCall *call, gsize c0, gsize c1, guint y0, guint y1)
{
    for (guint y = y0; y < y1; y++)
        for (guint x = 0; x < call->out.w; x++)
            for (gsize c = c0; c < c1; c += VEC_WIDTH) {
                gsize n = MIN(c1 - c, VEC_WIDTH);
                vec sum = any_vector(call, 0, c, n, y, x);
                if (call->op->layer->gate)
                    sum = vec_mul(sum, vec_silu(any_vector(call, 1, c, n, y, x)));
                elem_store_sum_n(dcae_rows_at(&call->out, y, x) + c, call->out.low, sum, n);
            }
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    gsize chunks = n_chunks(call), c0 = task % chunks * CHUNK, c1 = MIN(c0 + CHUNK, call->out.c);
    guint rows = task_rows(call), y0 = call->y0 + (guint)(task / chunks) * rows;
    guint y1 = MIN(y0 + rows, call->y1);
    gsize padding = c1 == call->out.c ? dcae_out_padding(call) : 0;
    guint ksize = call->op->layer->ksize;
    memset(scratch, 0, scratch_bytes(call));
    if (ksize == 3)
        block(call, 3, c0, c1, y0, y1, scratch);
    else if (ksize == 5)
        block(call, 5, c0, c1, y0, y1, scratch);
    else
        any_block(call, c0, c1, y0, y1);
    for (guint y = y0; padding > 0 && y < y1; y++)
        for (guint x = 0; x < call->out.w; x++)
            memset(dcae_rows_at(&call->out, y, x) + c1, 0, padding * sizeof(elem_t));
}

void VEC_NAME(dcae_cpu_dwconv)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_DWCONV] = (DcaeCpuKernel){
        .packed_bytes = packed_bytes,
        .pack = pack,
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
