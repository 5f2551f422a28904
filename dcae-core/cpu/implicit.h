/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * implicit.h - convolutions and linears as blocked matrix products: rows of A are gathered from the
 * input picture (taps outside it are zeros), B is the packed weights, the epilogue runs while a
 * block's products are in the cache. Takes every field of DcaeLayer. A convolution behind a
 * nearest-neighbour enlargement is four 2×2 convolutions, one per parity of the output pixel.
 *
 * Where activations are bf16 the products are of words, two elements along k each, k counts
 * elements and what lies in memory words. Layers of few channels stay with products of floats:
 * their sums are so short that each rounding shows, and they take no time.
 *
 * Packed: for each phase, for each block of k: panels of columns (tile.h); then epilogue.h's
 * arrays.
 */
#ifndef DCAE_IMPLICIT_H
#define DCAE_IMPLICIT_H

#include "epilogue.h"
#include "tile.h"

#define IMPLICIT_K 512           /* most words of k in a block */
#define IMPLICIT_COLUMNS 512     /* columns of a block where not all are needed at once */
#define IMPLICIT_FEW_COLUMNS 256 /* the same where there would be few blocks */
#define IMPLICIT_ROWS 96         /* rows of a block */

typedef struct {
    size_t word;     /* elements of a word: ELEM_WORD or 1 */
    size_t taps;     /* in one direction: 1, 2 or 3 */
    size_t phases;   /* 4 behind a nearest-neighbour enlargement */
    size_t k;        /* taps² · in_c */
    size_t k_block;  /* at most IMPLICIT_K, whole words; the last block may be shorter */
    size_t k_words;  /* of all blocks */
    size_t padded_c; /* columns of packed B */
    gboolean whole;  /* all columns are needed at once */
    size_t columns;  /* of a block, at most */
    size_t rows;     /* of a block, at most; multiple of TILE_BLOCK_ROWS */
} ImplicitShape;

/* Words of n elements along k. */
static inline size_t implicit_words(const ImplicitShape *s, size_t n)
{
    return (n + s->word - 1) / s->word;
}

static inline ImplicitShape implicit_shape(const DcaeLayer *layer)
{
    ImplicitShape s = {.word = layer->in_c <= DCAE_CPU_NARROW ? 1 : ELEM_WORD,
                       .taps = layer->nearest2 ? 2 : layer->ksize,
                       .phases = layer->nearest2 ? 4 : 1};
    s.k = s.taps * s.taps * layer->in_c;
    size_t k_max = IMPLICIT_K * s.word, blocks = (s.k + k_max - 1) / k_max;
    s.k_block = implicit_words(&s, (s.k + blocks - 1) / blocks) * s.word;
    s.k_words = implicit_words(&s, s.k);
    s.padded_c = tile_padded(layer->conv_c);
    s.whole = layer->norm == DCAE_NORM_RMS || layer->shuffle != DCAE_SHUFFLE_NONE ||
              layer->shortcut != DCAE_SHORTCUT_NONE;
    s.columns = s.whole ? s.padded_c : MIN(s.padded_c, IMPLICIT_COLUMNS);
    s.rows = s.columns <= 512 ? IMPLICIT_ROWS : s.columns <= 1024 ? 48 : 24;
    return s;
}

static inline gsize implicit_packed_bytes(const DcaeLayer *layer)
{
    ImplicitShape s = implicit_shape(layer);
    return (s.phases * s.k_words * s.padded_c + epilogue_floats(layer)) * sizeof(float);
}

/* ---- packing */

/* Which taps of the 3×3 kernel fall on tap t of the 2×2 kernel of parity d. */
static inline gboolean implicit_folds(size_t d, size_t t, size_t tap)
{
    return (tap + 1 - d) / 2 == t;
}

/* Weight of column (channel n), tap (ty, tx) and input channel c in phase p. */
static inline float implicit_weight(const DcaeLayer *layer, const float *weight, size_t n, size_t p,
                                    size_t ty, size_t tx, size_t c)
{
    size_t k = layer->ksize;
    const float *w = weight + (n * layer->in_c + c) * k * k;
    if (!layer->nearest2)
        return w[ty * k + tx];
    double sum = 0;
    for (size_t y = 0; y < k; y++)
        for (size_t x = 0; x < k; x++)
            if (implicit_folds(p / 2, ty, y) && implicit_folds(p % 2, tx, x))
                sum += w[y * k + x];
    return (float)sum;
}

/* The words that begin at k of phase p, for n columns; zeros behind the last channel and k. */
static inline void implicit_pack_words(const DcaeLayer *layer, const float *weight,
                                       const ImplicitShape *s, size_t p, size_t k, size_t column,
                                       size_t n, float *to)
{
    for (size_t i = 0; i < n; i++, column++) {
        float x[ELEM_WORD] = {0};
        size_t tap = k / layer->in_c, c = k % layer->in_c;
        for (size_t e = 0; e < s->word && k + e < s->k && column < layer->conv_c; e++) {
            x[e] = implicit_weight(layer, weight, epilogue_channel(layer, column), p, tap / s->taps,
                                   tap % s->taps, c);
            if (++c == layer->in_c) {
                c = 0;
                tap++;
            }
        }
        if (s->word == 1)
            to[i] = x[0];
        else
            elem_pack(to + i, x);
    }
}

static inline void implicit_pack(const DcaeLayer *layer, const DcaeLayerWeights *weights,
                                 float *packed)
{
    ImplicitShape s = implicit_shape(layer);
    for (size_t p = 0; p < s.phases; p++) {
        for (size_t k0 = 0; k0 < s.k; k0 += s.k_block) {
            size_t k1 = MIN(k0 + s.k_block, s.k);
            for (size_t j = 0; j < s.padded_c; j += VEC_PANEL) {
                size_t width = MIN(s.padded_c - j, VEC_PANEL);
                for (size_t k = k0; k < k1; k += s.word, packed += width)
                    implicit_pack_words(layer, weights->weight, &s, p, k, j, width, packed);
            }
        }
    }
    epilogue_pack(layer, weights, packed);
}

/* ---- how a call is cut into tasks: phase × block of pixels × block of columns */

typedef struct {
    ImplicitShape shape;
    size_t row_w;           /* product pixels in a row of one phase */
    size_t phase_pixels[2]; /* product pixels of a phase of row parity 0, 1 */
    size_t rows;            /* of a block */
    size_t phase_blocks[2]; /* blocks of rows of a phase */
    size_t columns;         /* of a block, at most shape.columns */
    size_t column_blocks;
} ImplicitCut;

/* Rows of [y0, y1) with parity d. */
static inline size_t implicit_parity_rows(size_t y0, size_t y1, size_t d)
{
    return (y1 + 1 - d) / 2 - (y0 + 1 - d) / 2;
}

static inline ImplicitCut implicit_cut(const DcaeCpuCall *call)
{
    const DcaeLayer *layer = call->op->layer;
    ImplicitCut cut = {.shape = implicit_shape(layer)};
    size_t h = call->y1 - call->y0, total;
    cut.row_w = layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP ? call->in.w : call->out.w;
    if (layer->nearest2) {
        for (size_t d = 0; d < 2; d++)
            cut.phase_pixels[d] = implicit_parity_rows(call->y0, call->y1, d) * cut.row_w;
    } else if (layer->shuffle == DCAE_SHUFFLE_UP) {
        cut.phase_pixels[0] = h / 2 * cut.row_w;
    } else if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
        cut.phase_pixels[0] = 4 * h * cut.row_w;
    } else {
        cut.phase_pixels[0] = h * cut.row_w;
    }
    total = MAX(cut.phase_pixels[0], cut.phase_pixels[1]);
    /* A small picture in at least 8 blocks, as long as they are not tiny. */
    size_t blocks = MAX((total + cut.shape.rows - 1) / cut.shape.rows, MIN(8, (total + 23) / 24));
    blocks = MAX(blocks, 1);
    cut.rows = (total + blocks - 1) / blocks;
    cut.rows = (cut.rows + TILE_BLOCK_ROWS - 1) / TILE_BLOCK_ROWS * TILE_BLOCK_ROWS;
    for (size_t d = 0; d < 2; d++)
        cut.phase_blocks[d] = (cut.phase_pixels[d] + cut.rows - 1) / cut.rows;
    cut.columns = cut.shape.columns;
    if (!cut.shape.whole && blocks * cut.shape.padded_c < 32 * IMPLICIT_COLUMNS)
        cut.columns = MIN(cut.columns, IMPLICIT_FEW_COLUMNS);
    cut.column_blocks = (cut.shape.padded_c + cut.columns - 1) / cut.columns;
    return cut;
}

static inline gsize implicit_n_tasks(const DcaeCpuCall *call)
{
    ImplicitCut cut = implicit_cut(call);
    size_t columns = call->op->layer->nearest2 ? 2 : 1;
    return (cut.phase_blocks[0] + cut.phase_blocks[1]) * columns * cut.column_blocks;
}

typedef struct {
    size_t phase, first, n; /* pixels [first, first + n) of the phase */
    size_t column, columns; /* packed columns [column, column + columns) */
} ImplicitBlock;

static inline ImplicitBlock implicit_block(const ImplicitCut *cut, size_t task)
{
    ImplicitBlock b = {.column = task % cut->column_blocks * cut->columns};
    b.columns = MIN(cut->columns, cut->shape.padded_c - b.column);
    task /= cut->column_blocks;
    if (cut->shape.phases == 4) {
        b.phase = task & 1;
        task >>= 1;
        if (task >= cut->phase_blocks[0]) {
            task -= cut->phase_blocks[0];
            b.phase += 2;
        }
    }
    b.first = task * cut->rows;
    b.n = MIN(cut->rows, cut->phase_pixels[b.phase / 2] - b.first);
    return b;
}

/* Product pixel i of a phase. For a pixel-unshuffle four in a row make one output pixel. */
typedef struct {
    size_t y, x;
} Place;

static inline Place implicit_place(const DcaeCpuCall *call, const ImplicitCut *cut, size_t phase,
                                   size_t i)
{
    const DcaeLayer *layer = call->op->layer;
    if (layer->nearest2) {
        size_t d = phase / 2, first = call->y0 + ((call->y0 ^ d) & 1);
        return (Place){first + 2 * (i / cut->row_w), 2 * (i % cut->row_w) + phase % 2};
    }
    if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
        size_t u = i / 4, p = i % 4;
        return (Place){2 * (call->y0 + u / cut->row_w) + p / 2, 2 * (u % cut->row_w) + p % 2};
    }
    size_t y0 = layer->shuffle == DCAE_SHUFFLE_UP ? call->y0 / 2 : call->y0;
    return (Place){y0 + i / cut->row_w, i % cut->row_w};
}

/* From product pixel i of a phase to the next one. */
VEC_INLINE void implicit_next(const DcaeCpuCall *call, const ImplicitCut *cut, size_t i, Place *at)
{
    const DcaeLayer *layer = call->op->layer;
    size_t step = layer->nearest2 ? 2 : 1, w = cut->row_w * step;
    if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
        at->x ^= 1;
        at->y ^= i & 1;
        if (i % 4 != 3)
            return;
        step = 2;
        w *= 2;
    }
    at->x += step;
    if (at->x >= w) {
        at->x -= w;
        at->y += step;
    }
}

/* ---- rows of A */

/* What is the same for every row of a block of k. */
typedef struct {
    const DcaeCpuCall *call;
    size_t taps, in_c;
    size_t k0, k1;
    size_t tap_y, tap_x, c; /* of k0 */
    gboolean whole_vecs;    /* a pixel can be read in whole vectors */
} Gather;

static inline Gather implicit_gather_start(const DcaeCpuCall *call, const ImplicitShape *s,
                                           size_t k0, size_t k1)
{
    size_t in_c = call->op->layer->in_c, tap = k0 / in_c;
    return (Gather){.call = call,
                    .taps = s->taps,
                    .in_c = in_c,
                    .k0 = k0,
                    .k1 = k1,
                    .tap_y = tap / s->taps,
                    .tap_x = tap % s->taps,
                    .c = k0 % in_c,
                    .whole_vecs =
                        dcae_rows_lanes(&call->in) - call->op->in_c0 >= tile_padded(in_c) &&
                        k0 % in_c % VEC_WIDTH == 0};
}

/* Copies n elements; behind both to and from there is room for a vector where whole is set. */
VEC_INLINE void copy_elements(elem_t *to, const elem_t *from, size_t n, gboolean whole)
{
    size_t i = 0;
    if (whole) {
        for (; i < n; i += VEC_WIDTH)
            elem_copy(to + i, from + i);
        return;
    }
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        elem_copy(to + i, from + i);
    for (; i < n; i++)
        to[i] = from[i];
}

/* The same as floats. */
VEC_INLINE void copy_floats(float *to, const elem_t *from, size_t low, size_t n, gboolean whole)
{
    size_t i = 0;
    if (whole) {
        for (; i < n; i += VEC_WIDTH)
            vec_store(to + i, elem_load_sum(from + i, low));
        return;
    }
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vec_store(to + i, elem_load_sum(from + i, low));
    for (; i < n; i++)
        to[i] = elem_get_sum(from + i, low);
}

/* a[k1 - k0]: the inputs of one product pixel, taps in order, channels within; as elements in
 * words, of which the last is filled up with zeros, or as floats. */
VEC_INLINE void implicit_gather(const Gather *g, Place at, float *a, const int words)
{
    const DcaeRows *in = &g->call->in;
    const DcaeLayer *layer = g->call->op->layer;
    gssize y = (gssize)(at.y * layer->stride) - (gssize)(g->taps / 2);
    gssize x0 = (gssize)(at.x * layer->stride) - (gssize)(g->taps / 2), x;
    if (layer->nearest2) {
        y = (gssize)((at.y + 1) / 2) - 1;
        x0 = (gssize)((at.x + 1) / 2) - 1;
    }
    elem_t *elements = (elem_t *)a;
    size_t left = g->k1 - g->k0, tap_x = g->tap_x, c = g->c;
    y += (gssize)g->tap_y;
    while (left > 0) {
        gboolean inside = y >= 0 && y < (gssize)in->h;
        const elem_t *row = inside ? dcae_rows_at(in, (size_t)y, 0) : NULL;
        for (; tap_x < g->taps && left > 0; tap_x++) {
            size_t n = MIN(g->in_c - c, left);
            x = x0 + (gssize)tap_x;
            gboolean there = inside && x >= 0 && x < (gssize)in->w;
            const elem_t *from = there ? row + (size_t)x * in->pixel_stride + c : NULL;
            if (there && words)
                copy_elements(elements, from, n, g->whole_vecs);
            else if (there)
                copy_floats(a, from, in->low, n, g->whole_vecs);
            else
                for (size_t i = 0; i < n; i++) {
                    if (words)
                        elements[i] = 0;
                    else
                        a[i] = 0;
                }
            if (words)
                elements += n;
            else
                a += n;
            left -= n;
            c = 0;
        }
        tap_x = 0;
        y++;
    }
    if (words && (g->k1 - g->k0) % ELEM_WORD)
        *elements = 0;
}

/* ---- run */

/* In words. */
static inline size_t implicit_a_stride(const ImplicitShape *s)
{
    return (implicit_words(s, s->k_block) + 15) / 16 * 16 + 16; /* no power of two */
}

static inline size_t implicit_c_stride(const ImplicitShape *s)
{
    return s->columns + 16;
}

static inline gsize implicit_scratch_bytes(const DcaeCpuCall *call)
{
    const DcaeLayer *layer = call->op->layer;
    ImplicitShape s = implicit_shape(layer);
    return (s.rows * (implicit_a_stride(&s) + implicit_c_stride(&s)) + epilogue_scratch(layer)) *
           sizeof(float);
}

static inline void implicit_finish(const Epilogue *e, const ImplicitCut *cut,
                                   const ImplicitBlock *b, float *c, float *s)
{
    const DcaeLayer *layer = e->layer;
    size_t c_stride = implicit_c_stride(&cut->shape);
    size_t n = MIN(b->columns, layer->conv_c - b->column);
    Place at = implicit_place(e->call, cut, b->phase, b->first);
    for (size_t i = 0; i < b->n; i++) {
        float *v = c + i * c_stride;
        if (layer->shuffle == DCAE_SHUFFLE_UP)
            epilogue_up(e, at.y, at.x, v, s);
        else if (layer->shuffle == DCAE_SHUFFLE_NONE)
            epilogue_pixel(e, at.y, at.x, v, b->column, b->column, n, s);
        else if (i % 4 == 0)
            epilogue_down(e, at.y / 2, at.x / 2, v, c_stride, 2 * c_stride, s);
        implicit_next(e->call, cut, b->first + i, &at);
    }
}

static inline void implicit_run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    const ImplicitCut cut = implicit_cut(call);
    const ImplicitShape *s = &cut.shape;
    const ImplicitBlock b = implicit_block(&cut, task);
    size_t a_stride = implicit_a_stride(s), c_stride = implicit_c_stride(s);
    float *a = scratch, *c = a + s->rows * a_stride, *spare = c + s->rows * c_stride;
    const float *packed = call->packed + b.phase * s->k_words * s->padded_c;
    size_t rows = (b.n + TILE_BLOCK_ROWS - 1) / TILE_BLOCK_ROWS * TILE_BLOCK_ROWS;
    Epilogue e;

    epilogue_init(&e, call, call->packed + s->phases * s->k_words * s->padded_c);
    for (size_t k0 = 0; k0 < s->k; k0 += s->k_block) {
        size_t k1 = MIN(k0 + s->k_block, s->k), words = implicit_words(s, k1 - k0);
        Gather gather = implicit_gather_start(call, s, k0, k1);
        Place at = implicit_place(call, &cut, b.phase, b.first);
        for (size_t i = 0; i < b.n; i++) {
            if (s->word > 1)
                implicit_gather(&gather, at, a + i * a_stride, 1);
            else
                implicit_gather(&gather, at, a + i * a_stride, 0);
            implicit_next(call, &cut, b.first + i, &at);
        }
        /* Rows behind the last pixel: any numbers do, but not uninitialised ones. */
        for (size_t i = b.n; i < rows; i++)
            memset(a + i * a_stride, 0, words * sizeof *a);
        const float *panel = packed + implicit_words(s, k0) * s->padded_c + b.column * words;
        if (s->word > 1)
            tile_words(a, a_stride, rows, panel, words, b.columns, c, c_stride, k0 > 0);
        else
            tile_block(a, a_stride, rows, panel, words, b.columns, c, c_stride, k0 > 0);
    }
    implicit_finish(&e, &cut, &b, c, spare);
}

/* A pixel-shuffle makes two rows at a time. */
static inline guint implicit_row_align(const DcaeLayer *layer)
{
    return layer->shuffle == DCAE_SHUFFLE_UP ? 2 : 1;
}

#endif
