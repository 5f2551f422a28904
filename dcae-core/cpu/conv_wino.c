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
/* Most floats of transformed weights: above, they cost more memory than the small pictures that
 * such layers see are worth. Convolutions of 1024 channels stay as they are, and so does the step
 * from 1024 to 512 behind an enlargement. */
#define WINO_MAX_FLOATS (100 * 512 * 512)

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
    gsize elements = layer->nearest2 ? 4 * 25 : 36;
    return layer->ksize == 3 && layer->stride == 1 && layer->in_c >= WINO_MIN_C &&
           elements * layer->in_c * layer->conv_c <= WINO_MAX_FLOATS;
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
 * Points 0, ±¾, ±1½, ∞ for 3 taps and ±½, ±1½, ∞ for 2: all factors are exact in f32. With M the
 * product of (x - point), row i of the input transform is M / (x - point i), the last one M; the
 * divisors that make it an interpolation are in the weights' transform. Relative L2 error at 512
 * channels of normal numbers, and of normal numbers around 3:
 *
 *     0, ±¾, ±1½      2.1e-6  4.0e-7       ±½, ±1½        1.4e-6  4.1e-7
 *     0, ±1, ½, -2    2.9e-6  2.6e-6       0, -½, 1, -2   1.7e-6  6.6e-7
 *     0, ±1, ±2       4.6e-6  2.1e-6       0, ±1, -2      2.7e-6 */

static const double wino_g3[6][3] = {{64.0 / 81, 0, 0},
                                     {-128.0 / 243, -96.0 / 243, -72.0 / 243},
                                     {-128.0 / 243, 96.0 / 243, -72.0 / 243},
                                     {32.0 / 243, 48.0 / 243, 72.0 / 243},
                                     {32.0 / 243, -48.0 / 243, 72.0 / 243},
                                     {0, 0, 1}};

static const double wino_g2[5][2] = {
    {-0.5, -0.25}, {0.5, -0.25}, {1.0 / 6, 0.25}, {-1.0 / 6, 0.25}, {0, 1}};

/* Vectors by name, not in arrays: gcc leaves those in memory. v5 is unused with 2 taps. */
typedef struct {
    vec v0, v1, v2, v3, v4, v5;
} Six;

typedef struct {
    vec v0, v1, v2, v3;
} Four;

VEC_INLINE Six wino_in6(Six d)
{
    vec a = vec_set1(0.75f), aa = vec_set1(0.5625f), b = vec_set1(1.5f), bb = vec_set1(2.25f);
    vec product = vec_set1(1.265625f), sum = vec_set1(2.8125f); /* of aa and bb */
    vec even = vec_fnma(bb, d.v2, d.v4), odd = vec_fnma(bb, d.v1, d.v3);
    vec even2 = vec_fnma(aa, d.v2, d.v4), odd2 = vec_fnma(aa, d.v1, d.v3);
    return (Six){.v0 = vec_fma(product, d.v0, vec_fnma(sum, d.v2, d.v4)),
                 .v1 = vec_fma(a, odd, even),
                 .v2 = vec_fnma(a, odd, even),
                 .v3 = vec_fma(b, odd2, even2),
                 .v4 = vec_fnma(b, odd2, even2),
                 .v5 = vec_fma(product, d.v1, vec_fnma(sum, d.v3, d.v5))};
}

VEC_INLINE Six wino_in5(Six d)
{
    vec a = vec_set1(0.5f), aa = vec_set1(0.25f), b = vec_set1(1.5f), bb = vec_set1(2.25f);
    vec product = vec_set1(0.5625f), sum = vec_set1(2.5f); /* of aa and bb */
    vec even = vec_fnma(bb, d.v0, d.v2), odd = vec_fnma(bb, d.v1, d.v3);
    vec even2 = vec_fnma(aa, d.v0, d.v2), odd2 = vec_fnma(aa, d.v1, d.v3);
    return (Six){.v0 = vec_fma(a, even, odd),
                 .v1 = vec_fnma(a, even, odd),
                 .v2 = vec_fma(b, even2, odd2),
                 .v3 = vec_fnma(b, even2, odd2),
                 .v4 = vec_fma(product, d.v0, vec_fnma(sum, d.v2, d.v4)),
                 .v5 = d.v5};
}

VEC_INLINE Six wino_in(Six d, const int n)
{
    return n == 6 ? wino_in6(d) : wino_in5(d);
}

/* n transformed elements -> 4 products. */
VEC_INLINE Four wino_out6(Six m)
{
    vec sa = vec_add(m.v1, m.v2), da = vec_sub(m.v1, m.v2);
    vec sb = vec_add(m.v3, m.v4), db = vec_sub(m.v3, m.v4);
    return (Four){.v0 = vec_add(m.v0, vec_add(sa, sb)),
                  .v1 = vec_fma(vec_set1(1.5f), db, vec_mul(vec_set1(0.75f), da)),
                  .v2 = vec_fma(vec_set1(2.25f), sb, vec_mul(vec_set1(0.5625f), sa)),
                  .v3 = vec_fma(vec_set1(3.375f), db, vec_fma(vec_set1(0.421875f), da, m.v5))};
}

VEC_INLINE Four wino_out5(Six m)
{
    vec sa = vec_add(m.v0, m.v1), da = vec_sub(m.v0, m.v1);
    vec sb = vec_add(m.v2, m.v3), db = vec_sub(m.v2, m.v3);
    return (Four){.v0 = vec_add(sa, sb),
                  .v1 = vec_fma(vec_set1(1.5f), db, vec_mul(vec_set1(0.5f), da)),
                  .v2 = vec_fma(vec_set1(2.25f), sb, vec_mul(vec_set1(0.25f), sa)),
                  .v3 = vec_fma(vec_set1(3.375f), db, vec_fma(vec_set1(0.125f), da, m.v4))};
}

VEC_INLINE Four wino_out(Six m, const int n)
{
    return n == 6 ? wino_out6(m) : wino_out5(m);
}

/* n vectors, `stride` floats apart. */
VEC_INLINE Six six_load(const float *p, size_t stride, const int n)
{
    return (Six){.v0 = vec_load(p),
                 .v1 = vec_load(p + stride),
                 .v2 = vec_load(p + 2 * stride),
                 .v3 = vec_load(p + 3 * stride),
                 .v4 = vec_load(p + 4 * stride),
                 .v5 = n == 6 ? vec_load(p + 5 * stride) : vec_zero()};
}

VEC_INLINE void six_store(float *p, size_t stride, Six t, const int n)
{
    vec_store(p, t.v0);
    vec_store(p + stride, t.v1);
    vec_store(p + 2 * stride, t.v2);
    vec_store(p + 3 * stride, t.v3);
    vec_store(p + 4 * stride, t.v4);
    if (n == 6)
        vec_store(p + 5 * stride, t.v5);
}

VEC_INLINE void four_store(float *p, size_t stride, Four t)
{
    vec_store(p, t.v0);
    vec_store(p + stride, t.v1);
    vec_store(p + 2 * stride, t.v2);
    vec_store(p + 3 * stride, t.v3);
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

/* Blocks that share a phase's register tiles evenly, a multiple of 4 for the sake of few threads.
 * Small pictures are cut finer for the sake of many, unless each block would stream large weights
 * for few tiles. */
static size_t wino_blocks(const WinoShape *s, const DcaeLayer *layer, const WinoGrid *g)
{
    size_t groups = (g->tiles + s->group - 1) / s->group;
    size_t blocks = (groups + s->groups - 1) / s->groups;
    size_t wanted = (gsize)layer->in_c * layer->conv_c > 256 * 256 ? 4 : 16;
    return MIN((MAX(blocks, wanted) + 3) / 4 * 4, groups);
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
    size_t k = 0;
    for (; k + VEC_WIDTH <= channels; k += VEC_WIDTH) {
        Six d = {.v0 = vec_load(row[0] + k),
                 .v1 = vec_load(row[1] + k),
                 .v2 = vec_load(row[2] + k),
                 .v3 = vec_load(row[3] + k),
                 .v4 = vec_load(row[4] + k),
                 .v5 = n == 6 ? vec_load(row[5] + k) : vec_zero()};
        six_store(to + k, WINO_RING_C, wino_in(d, n), n);
    }
    if (k < channels) {
        size_t lanes = channels - k;
        Six d = {.v0 = vec_load_n(row[0] + k, lanes),
                 .v1 = vec_load_n(row[1] + k, lanes),
                 .v2 = vec_load_n(row[2] + k, lanes),
                 .v3 = vec_load_n(row[3] + k, lanes),
                 .v4 = vec_load_n(row[4] + k, lanes),
                 .v5 = n == 6 ? vec_load_n(row[5] + k, lanes) : vec_zero()};
        six_store(to + k, WINO_RING_C, wino_in(d, n), n);
    }
}

/* Transforms the ring's n columns from column `first` on across, into tile t's place. */
VEC_INLINE void wino_across(const WinoInput *w, size_t first, size_t channels, float *v,
                            const int n)
{
    size_t slot = w->shape->slot;
    const float *column[WINO_MAX];
    for (int i = 0; i < n; i++)
        column[i] = w->ring + (first + (size_t)i) % 8 * (size_t)n * WINO_RING_C;
    for (int r = 0; r < n; r++) {
        size_t at = (size_t)r * WINO_RING_C;
        float *to = v + (size_t)(r * n) * slot;
        for (size_t k = 0; k < channels; k += VEC_WIDTH) {
            Six d = {.v0 = vec_load(column[0] + at + k),
                     .v1 = vec_load(column[1] + at + k),
                     .v2 = vec_load(column[2] + at + k),
                     .v3 = vec_load(column[3] + at + k),
                     .v4 = vec_load(column[4] + at + k),
                     .v5 = n == 6 ? vec_load(column[5] + at + k) : vec_zero()};
            six_store(to + k, slot, wino_in(d, n), n);
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
    size_t down = (size_t)n * slot;
    for (size_t k = 0; k < padded_c; k += VEC_WIDTH, m += VEC_WIDTH) {
        Four t0 = wino_out(six_load(m, down, n), n);
        Four t1 = wino_out(six_load(m + slot, down, n), n);
        Four t2 = wino_out(six_load(m + 2 * slot, down, n), n);
        Four t3 = wino_out(six_load(m + 3 * slot, down, n), n);
        Four t4 = wino_out(six_load(m + 4 * slot, down, n), n);
        Four t5 = n == 6 ? wino_out(six_load(m + 5 * slot, down, n), n) : t4;
        four_store(y + k, stride, wino_out((Six){t0.v0, t1.v0, t2.v0, t3.v0, t4.v0, t5.v0}, n));
        four_store(y + 4 * stride + k, stride,
                   wino_out((Six){t0.v1, t1.v1, t2.v1, t3.v1, t4.v1, t5.v1}, n));
        four_store(y + 8 * stride + k, stride,
                   wino_out((Six){t0.v2, t1.v2, t2.v2, t3.v2, t4.v2, t5.v2}, n));
        four_store(y + 12 * stride + k, stride,
                   wino_out((Six){t0.v3, t1.v3, t2.v3, t3.v3, t4.v3, t5.v3}, n));
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
