/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv_wino.c - CONV: 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3), those behind a
 * nearest-neighbour enlargement as four F(4×4, 2×2); the rest goes to implicit.h.
 *
 * A task is a block of tiles of 4×4 product pixels: input transform, one matrix product per
 * transformed element, output transform into a small buffer with all channels of a tile, epilogue.
 * The block's transformed pictures stay in the cache while the weights stream past.
 *
 * Packed: for each phase, for each transformed element, for each block of input channels: panels
 * of columns (tile.h); then epilogue.h's arrays.
 */
#include "cpu_families.h"
#include "implicit.h"

#define WINO_OUT 4       /* a tile is 4×4 product pixels */
#define WINO_MAX 6       /* transformed elements in one direction: 6 for 3 taps, 5 for 2 */
#define WINO_C_BLOCK 256 /* most input channels of a matrix product */
#define WINO_RING_C 64   /* channels that are transformed together */
#define WINO_MIN_C 16    /* fewer channels gain nothing */
#define WINO_MAX_WEIGHTS                                                        \
    (512 * 1024) /* in_c · conv_c: above, transformed weights cost more memory \
                    than the pictures these layers see are worth */

typedef struct {
    size_t n;       /* transformed elements in one direction */
    size_t phases;  /* 4 behind an enlargement */
    size_t c_block; /* input channels of a matrix product, multiple of 16; the last may have less */
    size_t c_blocks;
    size_t padded_c; /* columns of the products */
    size_t group;    /* tiles of a register tile */
    size_t groups;   /* register tiles of a block, at most */
    size_t slot;     /* floats of one transformed element of a block */
} WinoShape;

static gboolean wino_takes(const DcaeLayer *layer)
{
    return layer->ksize == 3 && layer->stride == 1 && layer->in_c >= WINO_MIN_C &&
           (gsize)layer->in_c * layer->conv_c <= WINO_MAX_WEIGHTS;
}

/* Tiles of a block: the more channels, the more of them must share the weights that stream past;
 * the fewer channels, the fewer fit the cache. Measured. */
static size_t wino_tiles(size_t c)
{
    return c <= 128 ? 24 : c <= 256 ? 36 : 96;
}

static WinoShape wino_shape(const DcaeLayer *layer)
{
    WinoShape s = {.n = layer->nearest2 ? 5 : 6, .phases = layer->nearest2 ? 4 : 1};
    size_t c = layer->in_c, blocks = (c + WINO_C_BLOCK - 1) / WINO_C_BLOCK;
    s.c_block = ((c + blocks - 1) / blocks + 15) / 16 * 16;
    s.c_blocks = (c + s.c_block - 1) / s.c_block;
    s.padded_c = tile_padded(layer->conv_c);
    s.group = s.padded_c % VEC_PANEL ? TILE_BLOCK_ROWS : VEC_TILE_ROWS;
    s.groups = wino_tiles(MAX(c, layer->conv_c)) / s.group;
    s.slot = s.groups * s.group * (MAX(s.c_blocks * s.c_block, s.padded_c) + 16) + 16;
    return s;
}

static size_t wino_weights(const WinoShape *s, const DcaeLayer *layer)
{
    return s->phases * s->n * s->n * layer->in_c * s->padded_c;
}

/* ---- transforms in one direction
 *
 * Points 0, 1, -1, ½, -2, ∞ for 3 taps and 0, 1, -1, -2, ∞ for 2: every factor is exact in few
 * bits and none is large, which is where the accuracy comes from. */

static const double wino_g3[6][3] = {{1, 0, 0},
                                     {1.0 / 3, 1.0 / 3, 1.0 / 3},
                                     {-1.0 / 3, 1.0 / 3, -1.0 / 3},
                                     {-16.0 / 15, -8.0 / 15, -4.0 / 15},
                                     {1.0 / 15, -2.0 / 15, 4.0 / 15},
                                     {0, 0, 1}};

/* Rows of the products with (x-1)(x+1)(x+2) etc. as below, divided by the differences. */
static const double wino_g2[5][2] = {
    {-0.5, 0}, {1.0 / 6, 1.0 / 6}, {0.5, -0.5}, {-1.0 / 6, 1.0 / 3}, {0, 1}};

VEC_INLINE void wino_in6(const vec d[6], vec t[6])
{
    vec p = vec_sub(d[4], d[2]), q = vec_sub(d[3], d[1]);
    vec h = vec_set1(1.5f), two = vec_set1(2.0f), half = vec_set1(0.5f);
    vec e = vec_fma(h, d[3], p), o = vec_fma(h, d[2], q);
    t[0] = vec_fma(h, q, vec_add(vec_sub(d[0], d[2]), p));
    t[1] = vec_add(e, o);
    t[2] = vec_sub(e, o);
    t[3] = vec_fma(two, q, p);
    t[4] = vec_fnma(half, q, p);
    t[5] = vec_fma(h, p, vec_sub(vec_sub(d[5], d[3]), q));
}

/* M(x) = x(x-1)(x+1)(x+2) = x⁴ + 2x³ - x² - 2x. Row 0: M/x, 1: M/(x-1), 2: M/(x+1), 3: M/(x+2), 4:
 * M itself. */
VEC_INLINE void wino_in5(const vec d[5], vec t[5])
{
    vec two = vec_set1(2.0f);
    vec p = vec_sub(d[3], d[1]), q = vec_sub(d[2], d[0]);
    t[0] = vec_fma(two, q, p);
    t[1] = vec_fma(vec_set1(3.0f), d[2], vec_fma(two, d[1], d[3]));
    t[2] = vec_fnma(two, d[1], vec_add(d[3], d[2]));
    t[3] = p;
    t[4] = vec_fma(two, p, vec_sub(d[4], d[2]));
}

VEC_INLINE void wino_in(const vec *d, vec *t, const int n)
{
    if (n == 6)
        wino_in6(d, t);
    else
        wino_in5(d, t);
}

/* n transformed elements -> 4 products. */
VEC_INLINE void wino_out(const vec *m, vec y[4], const int n)
{
    vec s = vec_add(m[1], m[2]), d = vec_sub(m[1], m[2]);
    if (n == 6) {
        y[0] = vec_add(vec_add(m[0], s), vec_add(m[3], m[4]));
        y[1] = vec_fnma(vec_set1(2.0f), m[4], vec_fma(vec_set1(0.5f), m[3], d));
        y[2] = vec_fma(vec_set1(4.0f), m[4], vec_fma(vec_set1(0.25f), m[3], s));
        y[3] = vec_fnma(vec_set1(8.0f), m[4], vec_fma(vec_set1(0.125f), m[3], vec_add(d, m[5])));
    } else {
        y[0] = vec_add(vec_add(m[0], s), m[3]);
        y[1] = vec_fnma(vec_set1(2.0f), m[3], d);
        y[2] = vec_fma(vec_set1(4.0f), m[3], s);
        y[3] = vec_fnma(vec_set1(8.0f), m[3], vec_add(d, m[4]));
    }
}

/* ---- packing */

/* g[9]: 3×3 kernel. u[n²] = G g Gᵀ, for 2×2 kernels of the taps that fold in phase p. */
static void wino_weight(const float *g, size_t n, size_t p, double *u)
{
    double rows[WINO_MAX][3] = {{0}};
    for (size_t i = 0; i < n; i++)
        for (size_t x = 0; x < 3; x++)
            for (size_t y = 0; y < 3; y++)
                rows[i][x] +=
                    (n == 6 ? wino_g3[i][y] : wino_g2[i][(y + 1 - p / 2) / 2]) * g[y * 3 + x];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            u[i * n + j] = 0;
            for (size_t x = 0; x < 3; x++)
                u[i * n + j] +=
                    rows[i][x] * (n == 6 ? wino_g3[j][x] : wino_g2[j][(x + 1 - p % 2) / 2]);
        }
}

/* Where channel c, column j of a transformed element lies among its in_c · padded_c floats. */
static size_t wino_place(const WinoShape *s, size_t in_c, size_t c, size_t j)
{
    size_t k0 = c / s->c_block * s->c_block, k = MIN(s->c_block, in_c - k0);
    size_t j0 = j / VEC_PANEL * VEC_PANEL, width = MIN(VEC_PANEL, s->padded_c - j0);
    return k0 * s->padded_c + j0 * k + (c - k0) * width + (j - j0);
}

static void wino_pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    WinoShape s = wino_shape(layer);
    size_t elements = s.n * s.n, size = layer->in_c * s.padded_c;
    double u[WINO_MAX * WINO_MAX];
    memset(packed, 0, wino_weights(&s, layer) * sizeof *packed);
    for (size_t p = 0; p < s.phases; p++) {
        for (size_t c = 0; c < layer->in_c; c++) {
            for (size_t j = 0; j < layer->conv_c; j++) {
                size_t n = epilogue_channel(layer, j), at = wino_place(&s, layer->in_c, c, j);
                wino_weight(weights->weight + (n * layer->in_c + c) * 9, s.n, p, u);
                for (size_t i = 0; i < elements; i++)
                    packed[(p * elements + i) * size + at] = (float)u[i];
            }
        }
    }
    epilogue_pack(layer, weights, packed + wino_weights(&s, layer));
}

/* ---- how a call is cut into tasks: phase × block of tiles */

typedef struct {
    size_t y0;     /* first product row of the phase */
    size_t h, w;   /* product rows of the call, product pixels in a row */
    size_t across; /* tiles in a row */
    size_t tiles;
} WinoGrid;

static WinoGrid wino_grid(const DcaeCpuCall *call, size_t phase)
{
    const DcaeLayer *layer = call->op->layer;
    WinoGrid g = {.y0 = call->y0, .h = call->y1 - call->y0, .w = call->in.w};
    if (layer->nearest2) {
        g.y0 = call->y0 / 2;
        g.h = implicit_parity_rows(call->y0, call->y1, phase / 2);
    } else if (layer->shuffle == DCAE_SHUFFLE_UP) {
        g.y0 /= 2;
        g.h /= 2;
    } else if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
        g.y0 *= 2;
        g.h *= 2;
    }
    g.across = (g.w + WINO_OUT - 1) / WINO_OUT;
    g.tiles = (g.h + WINO_OUT - 1) / WINO_OUT * g.across;
    return g;
}

/* Blocks that share a phase's register tiles evenly. Small pictures are cut finer for the sake of
 * many threads, unless each block would stream large weights for few tiles. */
static size_t wino_blocks(const WinoShape *s, const DcaeLayer *layer, const WinoGrid *g)
{
    size_t groups = (g->tiles + s->group - 1) / s->group;
    size_t blocks = (groups + s->groups - 1) / s->groups;
    size_t wanted = (gsize)layer->in_c * layer->conv_c > 256 * 256 ? 2 : 16;
    return MAX(blocks, MIN(wanted, groups));
}

static size_t wino_n_tasks(const DcaeCpuCall *call)
{
    const DcaeLayer *layer = call->op->layer;
    WinoShape s = wino_shape(layer);
    size_t n = 0;
    for (size_t p = 0; p < s.phases; p++) {
        WinoGrid g = wino_grid(call, p);
        n += wino_blocks(&s, layer, &g);
    }
    return n;
}

typedef struct {
    WinoGrid grid;
    size_t phase, first, tiles; /* tiles [first, first + tiles) of the phase */
} WinoBlock;

static WinoBlock wino_block(const DcaeCpuCall *call, const WinoShape *s, size_t task)
{
    const DcaeLayer *layer = call->op->layer;
    WinoBlock b = {0};
    size_t blocks, groups, end;
    for (b.phase = 0;; b.phase++) {
        b.grid = wino_grid(call, b.phase);
        blocks = wino_blocks(s, layer, &b.grid);
        if (task < blocks)
            break;
        task -= blocks;
    }
    groups = (b.grid.tiles + s->group - 1) / s->group;
    b.first = groups * task / blocks * s->group;
    end = groups * (task + 1) / blocks * s->group;
    b.tiles = MIN(end, b.grid.tiles) - b.first;
    return b;
}

/* ---- input transform */

typedef struct {
    const DcaeCpuCall *call;
    const WinoShape *shape;
    const WinoBlock *block;
    float *v;     /* slot 1: transformed inputs, element after element */
    float *ring;  /* 8 pixel columns, transformed downwards: [8][n][WINO_RING_C] */
    float *zeros; /* WINO_RING_C */
} WinoInput;

/* Transforms pixel column x of a tile row whose first input row is y downwards into the ring:
 * channels [c, c + channels). */
VEC_INLINE void wino_column(const WinoInput *w, gssize y, gssize x, size_t c, size_t channels,
                            float *to, const int n)
{
    const DcaeRows *in = &w->call->in;
    const float *row[WINO_MAX];
    if (x < 0 || x >= (gssize)in->w) {
        memset(to, 0, (size_t)n * WINO_RING_C * sizeof *to);
        return;
    }
    for (int i = 0; i < n; i++)
        row[i] = y + i < 0 || y + i >= (gssize)in->h
                     ? w->zeros
                     : rows_pixel(in, (size_t)(y + i), (size_t)x) + c;
    for (size_t k = 0; k < channels; k += VEC_WIDTH) {
        vec d[WINO_MAX], t[WINO_MAX];
        size_t lanes = channels - k;
        VEC_UNROLL
        for (int i = 0; i < n; i++)
            d[i] = lanes < VEC_WIDTH ? vec_load_n(row[i] + k, lanes) : vec_load(row[i] + k);
        wino_in(d, t, n);
        VEC_UNROLL
        for (int i = 0; i < n; i++)
            vec_store(to + (size_t)i * WINO_RING_C + k, t[i]);
    }
}

/* Transforms the ring's n columns from column `first` on across, into tile t's place. */
VEC_INLINE void wino_across(const WinoInput *w, size_t first, size_t channels, float *v,
                            const int n)
{
    size_t slot = w->shape->slot;
    for (int r = 0; r < n; r++) {
        const float *column[WINO_MAX];
        float *to = v + (size_t)(r * n) * slot;
        for (int i = 0; i < n; i++)
            column[i] = w->ring + ((first + (size_t)i) % 8 * (size_t)n + (size_t)r) * WINO_RING_C;
        for (size_t k = 0; k < channels; k += VEC_WIDTH) {
            vec d[WINO_MAX], t[WINO_MAX];
            VEC_UNROLL
            for (int i = 0; i < n; i++)
                d[i] = vec_load(column[i] + k);
            wino_in(d, t, n);
            VEC_UNROLL
            for (int i = 0; i < n; i++)
                vec_store(to + (size_t)i * slot + k, t[i]);
        }
    }
}

/* Channels [c, c + channels) of all tiles of the block; they lie within one block of channels. */
VEC_INLINE void wino_input(const WinoInput *w, size_t c, size_t channels, const int n)
{
    const WinoShape *s = w->shape;
    const WinoBlock *b = w->block;
    size_t tiles = (b->tiles + s->group - 1) / s->group * s->group;
    float *v = w->v + c / s->c_block * s->c_block * tiles + c % s->c_block;
    gssize above = 1 - (gssize)(s->phases == 4 ? b->phase / 2 : 0);
    gssize before = 1 - (gssize)(s->phases == 4 ? b->phase % 2 : 0);
    size_t overlap = 0;
    for (size_t t = 0; t < tiles; t++, v += s->c_block) {
        size_t ty = (b->first + t) / b->grid.across, tx = (b->first + t) % b->grid.across;
        gssize y = (gssize)(b->grid.y0 + ty * WINO_OUT) - above;
        gssize x = (gssize)(tx * WINO_OUT) - before;
        /* Rows of the last register tile behind the last tile. */
        if (t >= b->tiles) {
            for (size_t i = 0; i < (size_t)(n * n); i++)
                memset(v + i * s->slot, 0, channels * sizeof *v);
            continue;
        }
        if (t == 0 || tx == 0)
            overlap = 0;
        for (size_t i = overlap; i < (size_t)n; i++)
            wino_column(w, y, x + (gssize)i, c, channels,
                        w->ring + (tx * WINO_OUT + i) % 8 * (size_t)n * WINO_RING_C, n);
        wino_across(w, tx * WINO_OUT, channels, v, n);
        overlap = (size_t)n - WINO_OUT;
    }
}

/* ---- products */

static void wino_products(const WinoShape *s, const DcaeLayer *layer, const float *packed,
                          size_t tiles, float *slots)
{
    size_t rows = (tiles + s->group - 1) / s->group * s->group;
    for (size_t i = 0; i < s->n * s->n; i++) {
        const float *u = packed + i * layer->in_c * s->padded_c;
        const float *v = slots + (i + 1) * s->slot;
        for (size_t c = 0; c < layer->in_c; c += s->c_block)
            tile_block(v + c * rows, s->c_block, rows, u + c * s->padded_c,
                       MIN(s->c_block, layer->in_c - c), s->padded_c, slots + i * s->slot,
                       s->padded_c + 16, c > 0);
    }
}

/* ---- output transform */

/* m: element 0 of a tile; y[16][stride]: its product pixels, row by row. */
VEC_INLINE void wino_output(const float *m, size_t slot, size_t padded_c, float *y, size_t stride,
                            const int n)
{
    for (size_t k = 0; k < padded_c; k += VEC_WIDTH) {
        vec t[WINO_OUT][WINO_MAX], e[WINO_MAX], o[WINO_OUT];
        VEC_UNROLL
        for (int j = 0; j < n; j++) {
            VEC_UNROLL
            for (int i = 0; i < n; i++)
                e[i] = vec_load(m + (size_t)(i * n + j) * slot + k);
            wino_out(e, o, n);
            VEC_UNROLL
            for (int i = 0; i < WINO_OUT; i++)
                t[i][j] = o[i];
        }
        VEC_UNROLL
        for (int i = 0; i < WINO_OUT; i++) {
            wino_out(t[i], o, n);
            VEC_UNROLL
            for (int j = 0; j < WINO_OUT; j++)
                vec_store(y + (size_t)(i * WINO_OUT + j) * stride + k, o[j]);
        }
    }
}

/* y[16][stride]: the product pixels of tile (ty, tx). */
static void wino_finish(const Epilogue *e, const WinoBlock *b, size_t ty, size_t tx, float *y,
                        size_t stride, float *spare)
{
    const DcaeLayer *layer = e->layer;
    size_t rows = MIN(WINO_OUT, b->grid.h - ty * WINO_OUT);
    size_t columns = MIN(WINO_OUT, b->grid.w - tx * WINO_OUT);
    size_t y0 = b->grid.y0 + ty * WINO_OUT, x0 = tx * WINO_OUT;
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            float *v = y + (i * WINO_OUT + j) * stride;
            if (layer->shuffle == DCAE_SHUFFLE_UP) {
                epilogue_up(e, y0 + i, x0 + j, v, spare);
            } else if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
                if (i % 2 == 0 && j % 2 == 0)
                    epilogue_down(e, (y0 + i) / 2, (x0 + j) / 2, v, stride, WINO_OUT * stride,
                                  spare);
            } else if (layer->nearest2) {
                epilogue_pixel(e, 2 * (y0 + i) + b->phase / 2, 2 * (x0 + j) + b->phase % 2, v, 0, 0,
                               layer->out_c, spare);
            } else {
                epilogue_pixel(e, y0 + i, x0 + j, v, 0, 0, layer->out_c, spare);
            }
        }
    }
}

/* ---- run */

static size_t wino_y_stride(const WinoShape *s)
{
    return s->padded_c + 16;
}

static gsize wino_scratch_bytes(const DcaeLayer *layer)
{
    WinoShape s = wino_shape(layer);
    return ((s.n * s.n + 1) * s.slot + (8 * s.n + 1) * WINO_RING_C +
            WINO_OUT * WINO_OUT * wino_y_stride(&s) + epilogue_scratch(layer)) *
           sizeof(float);
}

VEC_INLINE void wino_run_n(const DcaeCpuCall *call, const WinoShape *s, size_t task, float *slots,
                           const int n)
{
    const DcaeLayer *layer = call->op->layer;
    WinoBlock b = wino_block(call, s, task);
    size_t elements = s->n * s->n, stride = wino_y_stride(s);
    float *ring = slots + (elements + 1) * s->slot, *zeros = ring + 8 * s->n * WINO_RING_C;
    float *y = zeros + WINO_RING_C, *spare = y + WINO_OUT * WINO_OUT * stride;
    WinoInput input = {
        .call = call, .shape = s, .block = &b, .v = slots + s->slot, .ring = ring, .zeros = zeros};
    Epilogue e;

    memset(zeros, 0, WINO_RING_C * sizeof *zeros);
    for (size_t c = 0; c < layer->in_c;) {
        size_t end = MIN(layer->in_c, c / s->c_block * s->c_block + s->c_block);
        size_t channels = MIN(WINO_RING_C, end - c);
        wino_input(&input, c, channels, n);
        c += channels;
    }
    wino_products(s, layer, call->packed + b.phase * elements * layer->in_c * s->padded_c, b.tiles,
                  slots);
    epilogue_init(&e, call, call->packed + wino_weights(s, layer));
    for (size_t t = 0; t < b.tiles; t++) {
        wino_output(slots + t * (s->padded_c + 16), s->slot, s->padded_c, y, stride, n);
        wino_finish(&e, &b, (b.first + t) / b.grid.across, (b.first + t) % b.grid.across, y, stride,
                    spare);
    }
}

/* ---- the kernel */

static gsize packed_bytes(const DcaeLayer *layer)
{
    if (!wino_takes(layer))
        return implicit_packed_bytes(layer);
    WinoShape s = wino_shape(layer);
    return (wino_weights(&s, layer) + epilogue_floats(layer)) * sizeof(float);
}

static void pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    if (wino_takes(layer))
        wino_pack(layer, weights, packed);
    else
        implicit_pack(layer, weights, packed);
}

/* Output rows of a row of tiles. */
static guint row_align(const DcaeLayer *layer)
{
    if (!wino_takes(layer))
        return implicit_row_align(layer);
    if (layer->shuffle == DCAE_SHUFFLE_DOWN)
        return WINO_OUT / 2;
    return layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP ? 2 * WINO_OUT : WINO_OUT;
}

static gsize n_tasks(const DcaeCpuCall *call)
{
    return wino_takes(call->op->layer) ? wino_n_tasks(call) : implicit_n_tasks(call);
}

static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return wino_takes(call->op->layer) ? wino_scratch_bytes(call->op->layer)
                                       : implicit_scratch_bytes(call);
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    if (!wino_takes(call->op->layer)) {
        implicit_run(call, task, scratch);
        return;
    }
    WinoShape s = wino_shape(call->op->layer);
    if (s.n == 6)
        wino_run_n(call, &s, task, scratch, 6);
    else
        wino_run_n(call, &s, task, scratch, 5);
}

void VEC_NAME(dcae_cpu_conv)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_CONV] = (DcaeCpuKernel){
        .packed_bytes = packed_bytes,
        .pack = pack,
        .row_align = row_align,
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
