/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * conv_wino.c - CONV: 3×3 convolutions by Winograd's minimal filtering; what it doesn't take goes
 * to implicit.h.
 *
 * A task is a block of tiles: input transform, one matrix product per pair of a transformed input
 * and a transformed weight, output transform into a small buffer with all channels of a tile,
 * epilogue. The block's transformed pictures stay in the cache while the weights stream past.
 *
 * Packed: for each transformed weight, for each block of input channels: panels of columns
 * (tile.h), of floats or, in the forms of words, of pairs of bf16; then epilogue.h's arrays.
 */
#include "cpu_families.h"
#include "implicit.h"

#define WINO_IN 9        /* most inputs of a tile in one direction */
#define WINO_PRODUCTS 9  /* most products of a tile in one direction */
#define WINO_C_BLOCK 256 /* most words of input channels of a matrix product */
#define WINO_RING_C 64   /* channels that are transformed together */
#define WINO_MIN_C 16    /* fewer channels gain nothing */
#define WINO_NARROW 64   /* up to so many channels LARGE gains too little for its error */
#define WINO_CACHED_FLOATS (6 << 20) /* most floats of weights that stay in the last cache */

/* ---- forms
 *
 * All of them are made of a form in one direction, applied down and across. A tile's inputs d are
 * transformed to v; each product multiplies one of v by one transformed weight u and adds into one
 * sum m; the sums are transformed to the tile's outputs.
 *
 * A filter of r taps w with 4 outputs y is the transpose of a product of polynomials,
 * D(x) = Y(x)·w(x), which values of D at points a determine: v_a is what the coefficients of
 * M(x) / (x - a) make of d, M the product of (x - point), the weight is w(a) / (M/(x - a))(a), and
 * output j takes a^j. ∞ is the point that takes leading coefficients.
 *
 *   LARGE  3 taps, 6 outputs: points 0, ±½, ±1, ±2, ∞. Eight products for six outputs.
 *
 *   PLAIN  3 taps: points 0, ±¾, ±1½, ∞. Six products for four outputs.
 *
 *   UP     3 taps behind a nearest-neighbour enlargement: even outputs see two taps (w0, w1+w2) of
 *          the small picture, odd ones (w0+w1, w2) a pixel further on. So, for two of each,
 *          D(x) = Ye(x)·(w0 + (w1+w2)x) + Yo(x)·(w0+w1 + w2 x)x, of degree 3: points 0, ±1, ∞.
 *          Two products each, but at 0 and ∞ one of the two is 0, and at 1 both have the weight
 *          w0+w1+w2 and share it: five products for four outputs, and transforms of sums alone.
 *          Four of each take nine products for eight, a tenth of the time less, but 81 weights of
 *          two directions instead of 25.
 *
 *   DOWN   3 taps with stride 2: taps w0, w2 on every other input from the first on, w1 on those
 *          between, summed before the output transform. Points ±½, ±1½, ∞, of which w1 needs the
 *          first four. The divisors are in the output transform, so that w1 is one weight for all
 *          its products: nine products for four outputs, but only six weights.
 *
 *   WORDS  3 taps: points ±⅜, ±1¼, ∞. Five products for three outputs, of bf16 pairs.
 *
 *   WORDS_DOWN  3 taps with stride 2, as DOWN: points 0, ±1, ∞, of which w1 needs the first three.
 *          Seven products for three outputs, of bf16 pairs.
 *
 * Relative L2 error of these and other points for normal numbers, and normal numbers around 3;
 * LARGE at 128 channels, PLAIN at 512, the others at 256:
 *
 *   LARGE  0, ±½, ±1, ±2    4.4e-6  1.2e-6        PLAIN  0, ±¾, ±1½    2.1e-6  4.0e-7
 *          0, ±½, ±1, ±1½   5.8e-6  1.6e-6               0, ±1, ½, -2  2.9e-6  2.6e-6
 *          0, ±⅝, ±1, ±1½   7.3e-6  2.1e-6               0, ±1, ±2     4.6e-6  2.1e-6
 *
 *   UP     0, ±1            3.9e-7  2.9e-7        DOWN   ±½, ±1½       1.7e-6  9.1e-7
 *                                                        ±½, ±1        2.5e-6  1.2e-6
 *                                                        0, ±1, ½      3.8e-6  1.7e-6
 *
 * Those whose transformed inputs and weights are rounded to bf16, at 256 channels; without a
 * transform it would be 1.7e-3, 2.0e-3. PLAIN so rounded takes a tenth less time than WORDS, but
 * with it narrow networks would exceed the 1e-2 that bf16 promises:
 *
 *   WORDS  ±⅜, ±1¼          6.2e-3  2.3e-3        2 outputs of 0, ±1   4.0e-3  2.5e-3
 *          ±½, ±1½          7.2e-3  2.7e-3        PLAIN                1.2e-2  4.4e-3
 *          0, ±1, 2         1.5e-2  4.2e-3        WORDS_DOWN           3.7e-3  1.7e-3
 */
typedef enum { WINO_LARGE, WINO_PLAIN, WINO_WORDS, WINO_UP, WINO_DOWN, WINO_WORDS_DOWN } WinoKind;

typedef struct {
    guint8 v, u, m; /* m += v·u */
    gboolean add;   /* m is there already */
} WinoProduct;

typedef struct {
    size_t out;        /* product pixels of a phase, in one direction */
    size_t in, step;   /* inputs of a tile, from tile to tile; the first is one before its pixel */
    size_t v, u, m;    /* transformed inputs, weights, sums */
    size_t n_products; /* in an order in which M may take the memory of V, see first_v */
    WinoProduct products[WINO_PRODUCTS];
    /* Slot of V's first element where M's is 0: so far behind that no sum is stored over an input
     * that is still needed. */
    size_t first_v;
    size_t max_weights; /* most transformed weights; above, they cost more memory than the
                           small pictures that such layers see are worth */
    double weight[WINO_PRODUCTS][3]; /* taps -> u */
} WinoForm;

static const WinoForm wino_forms[] = {
    [WINO_LARGE] = {.out = 6,
                    .in = 8,
                    .step = 6,
                    .v = 8,
                    .u = 8,
                    .m = 8,
                    .n_products = 8,
                    .products = {{0, 0, 0, 0},
                                 {1, 1, 1, 0},
                                 {2, 2, 2, 0},
                                 {3, 3, 3, 0},
                                 {4, 4, 4, 0},
                                 {5, 5, 5, 0},
                                 {6, 6, 6, 0},
                                 {7, 7, 7, 0}},
                    .first_v = 1,
                    .max_weights = 64 * 128 * 128,
                    .weight = {{-1, 0, 0},
                               {-2.0 / 9, -2.0 / 9, -2.0 / 9},
                               {-2.0 / 9, 2.0 / 9, -2.0 / 9},
                               {1.0 / 90, 2.0 / 90, 4.0 / 90},
                               {1.0 / 90, -2.0 / 90, 4.0 / 90},
                               {32.0 / 45, 16.0 / 45, 8.0 / 45},
                               {32.0 / 45, -16.0 / 45, 8.0 / 45},
                               {0, 0, 1}}},
    [WINO_PLAIN] =
        {.out = 4,
         .in = 6,
         .step = 4,
         .v = 6,
         .u = 6,
         .m = 6,
         .n_products = 6,
         .products =
             {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 2, 0}, {3, 3, 3, 0}, {4, 4, 4, 0}, {5, 5, 5, 0}},
         .first_v = 1,
         .max_weights = 100 * 512 * 512,
         .weight = {{64.0 / 81, 0, 0},
                    {-128.0 / 243, -96.0 / 243, -72.0 / 243},
                    {-128.0 / 243, 96.0 / 243, -72.0 / 243},
                    {32.0 / 243, 48.0 / 243, 72.0 / 243},
                    {32.0 / 243, -48.0 / 243, 72.0 / 243},
                    {0, 0, 1}}},
    [WINO_WORDS] =
        {.out = 3,
         .in = 5,
         .step = 3,
         .v = 5,
         .u = 5,
         .m = 5,
         .n_products = 5,
         .products = {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 2, 0}, {3, 3, 3, 0}, {4, 4, 4, 0}},
         .first_v = 1,
         .max_weights = 25 * 512 * 1024,
         .weight = {{-256.0 / 273, -96.0 / 273, -36.0 / 273},
                    {256.0 / 273, -96.0 / 273, 36.0 / 273},
                    {128.0 / 455, 160.0 / 455, 200.0 / 455},
                    {-128.0 / 455, 160.0 / 455, -200.0 / 455},
                    {0, 0, 1}}},
    [WINO_UP] = {.out = 2,
                 .in = 4,
                 .step = 2,
                 .v = 4,
                 .u = 5,
                 .m = 5,
                 .n_products = 5,
                 .products = {{0, 0, 0, 0}, {1, 1, 1, 0}, {2, 2, 2, 0}, {2, 3, 3, 0}, {3, 4, 4, 0}},
                 .first_v = 10,
                 .max_weights = 25 * 512 * 512,
                 .weight = {{-1, 0, 0},        /* 0, even */
                            {0.5, 0.5, 0.5},   /* 1, both */
                            {0.5, -0.5, -0.5}, /* -1, even, odd */
                            {-0.5, -0.5, 0.5},
                            {0, 0, 1}}}, /* ∞, odd */
    [WINO_DOWN] =
        {.out = 4,
         .in = 9,
         .step = 8,
         .v = 9,
         .u = 6,
         .m = 5,
         .n_products =
             9,
         .products = {{0, 0, 0, 0},
                      {1, 1, 1, 0},
                      {2, 2, 2, 0},
                      {3, 3, 3, 0},
                      {4, 4, 4, 0},
                      {5, 5, 0, 1},
                      {6, 5, 1, 1},
                      {7, 5, 2, 1},
                      {8, 5, 3, 1}},
         .first_v = 1,
         .max_weights = 36 * 512 * 512,
         .weight = {{1, 0, 0.5}, {1, 0, -0.5}, {1, 0, 1.5}, {1, 0, -1.5}, {0, 0, 1}, {0, 1, 0}}},
    [WINO_WORDS_DOWN] = {.out = 3,
                         .in = 7,
                         .step = 6,
                         .v = 7,
                         .u = 5,
                         .m = 4,
                         .n_products = 7,
                         .products = {{0, 0, 0, 0},
                                      {1, 1, 1, 0},
                                      {2, 2, 2, 0},
                                      {3, 3, 3, 0},
                                      {4, 4, 0, 1},
                                      {5, 4, 1, 1},
                                      {6, 4, 2, 1}},
                         .first_v = 1,
                         .max_weights = 25 * 512 * 1024,
                         .weight =
                             {{-1, 0, 0}, {0.5, 0, 0.5}, {0.5, 0, -0.5}, {0, 0, 1}, {0, 1, 0}}},
};

static inline gboolean wino_fits(const WinoForm *f, const DcaeLayer *layer)
{
    return f->u * f->u * layer->in_c * layer->conv_c <= f->max_weights;
}

/* Whether V and U are words. */
static inline gboolean wino_of_words(WinoKind kind)
{
    return kind == WINO_WORDS || kind == WINO_WORDS_DOWN;
}

/* Whether a layer's products are of words: pairs of bf16, which a lane multiplies at once. Tiles of
 * three rows don't go with shuffles, and layers of few channels, see implicit.h, show roundings. */
static inline gboolean wino_multiplies_words(const DcaeLayer *layer)
{
    return ELEM_WORD > 1 && !layer->nearest2 && layer->shuffle == DCAE_SHUFFLE_NONE &&
           MIN(layer->in_c, layer->conv_c) > DCAE_CPU_NARROW;
}

static inline WinoKind wino_kind(const DcaeLayer *layer)
{
    if (layer->nearest2)
        return WINO_UP;
    if (wino_multiplies_words(layer))
        return layer->stride == 2 ? WINO_WORDS_DOWN : WINO_WORDS;
    if (layer->stride == 2)
        return WINO_DOWN;
    if (MIN(layer->in_c, layer->conv_c) <= WINO_NARROW)
        return WINO_PLAIN;
    return wino_fits(&wino_forms[WINO_LARGE], layer) ? WINO_LARGE : WINO_PLAIN;
}

static gboolean wino_takes(const DcaeLayer *layer)
{
    WinoKind kind = wino_kind(layer);
    if (ELEM_WORD > 1 && kind == WINO_DOWN)
        return FALSE; /* words without a transform are faster than floats with one */
    return layer->ksize == 3 && layer->in_c >= WINO_MIN_C && wino_fits(&wino_forms[kind], layer);
}

/* How a layer's blocks lie in memory. */
typedef struct {
    const WinoForm *form;
    size_t word;    /* elements of a word of V and U: ELEM_WORD, or 1 where they are floats */
    size_t c_block; /* input channels of a matrix product, multiple of 16; the last may have less */
    size_t c_blocks;
    size_t padded_c; /* columns of the products */
    size_t group;    /* tiles of a register tile */
    size_t groups;   /* register tiles of a block, at most */
    size_t slot;     /* floats of one element of V or M of a block */
    size_t slots;
} WinoShape;

/* Tiles of a block: the larger the weights that stream past, the more tiles must share them; the
 * more sums a tile has, the fewer fit the cache. Measured. */
static size_t wino_tiles(WinoKind kind, const DcaeLayer *layer)
{
    const WinoForm *f = &wino_forms[kind];
    if (wino_of_words(kind))
        return 48;
    if (f->u * f->u * layer->in_c * layer->conv_c > WINO_CACHED_FLOATS)
        return 96;
    return f->v > 8 ? 12 : 24;
}

static void wino_set_groups(WinoShape *s, size_t groups)
{
    s->groups = groups;
    s->slot = groups * s->group * (MAX(s->c_blocks * s->c_block / s->word, s->padded_c) + 16) + 16;
}

static WinoShape wino_shape(const DcaeLayer *layer)
{
    WinoKind kind = wino_kind(layer);
    WinoShape s = {.form = &wino_forms[kind], .word = wino_of_words(kind) ? ELEM_WORD : 1};
    size_t c = layer->in_c, most = WINO_C_BLOCK * s.word, blocks = (c + most - 1) / most;
    s.c_block = ((c + blocks - 1) / blocks + 15) / 16 * 16;
    s.c_blocks = (c + s.c_block - 1) / s.c_block;
    s.padded_c = tile_padded(layer->conv_c);
    s.group = s.padded_c % VEC_PANEL ? TILE_BLOCK_ROWS : VEC_TILE_ROWS;
    wino_set_groups(&s, wino_tiles(kind, layer) / s.group);
    s.slots = s.form->first_v + s.form->v * s.form->v;
    return s;
}

/* Words of n input channels. */
static inline size_t wino_words(const WinoShape *s, size_t n)
{
    return (n + s->word - 1) / s->word;
}

/* All of these are counted in floats. */
static size_t wino_weights(const WinoShape *s, const DcaeLayer *layer)
{
    return s->form->u * s->form->u * wino_words(s, layer->in_c) * s->padded_c;
}

/* ---- transforms in one direction */

/* Vectors by name, not in arrays: gcc leaves those in memory. The last are unused in small forms.
 */
typedef struct {
    vec v0, v1, v2, v3, v4, v5, v6, v7;
} Eight;

VEC_INLINE Eight wino_in_large(Eight d)
{
    vec s = vec_set1(5.25f), one = vec_set1(4.25f), two = vec_set1(1.25f), half = vec_set1(5.0f);
    vec quarter = vec_set1(0.25f), four = vec_set1(4.0f);
    vec even1 = vec_fnma(one, d.v4, vec_add(d.v6, d.v2));
    vec odd1 = vec_fnma(one, d.v3, vec_add(d.v5, d.v1));
    vec even2 = vec_fma(quarter, d.v2, vec_fnma(two, d.v4, d.v6));
    vec odd2 = vec_fma(quarter, d.v1, vec_fnma(two, d.v3, d.v5));
    vec even3 = vec_fma(four, d.v2, vec_fnma(half, d.v4, d.v6));
    vec odd3 = vec_fma(four, d.v1, vec_fnma(half, d.v3, d.v5));
    return (Eight){.v0 = vec_fma(s, vec_sub(d.v2, d.v4), vec_sub(d.v6, d.v0)),
                   .v1 = vec_add(even1, odd1),
                   .v2 = vec_sub(even1, odd1),
                   .v3 = vec_fma(vec_set1(2.0f), odd2, even2),
                   .v4 = vec_fnma(vec_set1(2.0f), odd2, even2),
                   .v5 = vec_fma(vec_set1(0.5f), odd3, even3),
                   .v6 = vec_fnma(vec_set1(0.5f), odd3, even3),
                   .v7 = vec_fma(s, vec_sub(d.v3, d.v5), vec_sub(d.v7, d.v1))};
}

VEC_INLINE Eight wino_in_plain(Eight d)
{
    vec a = vec_set1(0.75f), aa = vec_set1(0.5625f), b = vec_set1(1.5f), bb = vec_set1(2.25f);
    vec product = vec_set1(1.265625f), sum = vec_set1(2.8125f); /* of aa and bb */
    vec even = vec_fnma(bb, d.v2, d.v4), odd = vec_fnma(bb, d.v1, d.v3);
    vec even2 = vec_fnma(aa, d.v2, d.v4), odd2 = vec_fnma(aa, d.v1, d.v3);
    return (Eight){.v0 = vec_fma(product, d.v0, vec_fnma(sum, d.v2, d.v4)),
                   .v1 = vec_fma(a, odd, even),
                   .v2 = vec_fnma(a, odd, even),
                   .v3 = vec_fma(b, odd2, even2),
                   .v4 = vec_fnma(b, odd2, even2),
                   .v5 = vec_fma(product, d.v1, vec_fnma(sum, d.v3, d.v5))};
}

VEC_INLINE Eight wino_in_up(Eight d)
{
    return (Eight){.v0 = vec_sub(d.v2, d.v0),
                   .v1 = vec_add(d.v2, d.v1),
                   .v2 = vec_sub(d.v2, d.v1),
                   .v3 = vec_sub(d.v3, d.v1)};
}

/* Five inputs to five values, at ±p, ±q, ∞; v4 may be left out. */
VEC_INLINE Eight wino_in_five(Eight d, const float p, const float q)
{
    vec a = vec_set1(p), aa = vec_set1(p * p), b = vec_set1(q), bb = vec_set1(q * q);
    vec product = vec_set1(p * p * q * q), sum = vec_set1(p * p + q * q);
    vec even = vec_fnma(bb, d.v0, d.v2), odd = vec_fnma(bb, d.v1, d.v3);
    vec even2 = vec_fnma(aa, d.v0, d.v2), odd2 = vec_fnma(aa, d.v1, d.v3);
    return (Eight){.v0 = vec_fma(a, even, odd),
                   .v1 = vec_fnma(a, even, odd),
                   .v2 = vec_fma(b, even2, odd2),
                   .v3 = vec_fnma(b, even2, odd2),
                   .v4 = vec_fma(product, d.v0, vec_fnma(sum, d.v2, d.v4))};
}

/* Three inputs at 0, ±1: what their sums there are made of. */
VEC_INLINE Eight wino_in_three(Eight d)
{
    vec half = vec_set1(0.5f);
    return (Eight){.v0 = vec_sub(d.v0, d.v2),
                   .v1 = vec_mul(half, vec_add(d.v2, d.v1)),
                   .v2 = vec_mul(half, vec_sub(d.v2, d.v1))};
}

/* Of input i; the ring has none. */
VEC_INLINE size_t wino_low(const size_t *low, size_t i)
{
    return low ? low[i] : 0;
}

/* elements: p is not of the ring, whose vectors are whole, but of a picture. */
VEC_INLINE vec wino_load(const void *p, size_t low, size_t k, size_t lanes, const int elements)
{
    if (!elements)
        return vec_load((const float *)p + k);
    const elem_t *from = (const elem_t *)p + k;
    return lanes < VEC_WIDTH ? elem_load_sum_n(from, low, lanes) : elem_load_sum(from, low);
}

VEC_INLINE void wino_store(float *p, vec v, const int words)
{
    if (words)
        elem_store((elem_t *)p, v);
    else
        vec_store(p, v);
}

/* The first n of 2 to 8, `stride` floats apart. */
VEC_INLINE void eight_store(float *p, size_t stride, Eight t, const int n, const int words)
{
    wino_store(p, t.v0, words);
    wino_store(p + stride, t.v1, words);
    if (n > 2)
        wino_store(p + 2 * stride, t.v2, words);
    if (n > 3)
        wino_store(p + 3 * stride, t.v3, words);
    if (n > 4)
        wino_store(p + 4 * stride, t.v4, words);
    if (n > 5)
        wino_store(p + 5 * stride, t.v5, words);
    if (n > 6)
        wino_store(p + 6 * stride, t.v6, words);
    if (n > 7)
        wino_store(p + 7 * stride, t.v7, words);
}

/* d[i]: where input i is, see wino_load(); v: the transformed ones, `stride` floats apart, those of
 * the ring as words where the form has them. */
VEC_INLINE void wino_in(const void *const *d, const size_t *low, size_t k, size_t lanes,
                        const int elements, float *v, size_t stride, const WinoKind kind)
{
    const int words = !elements && wino_of_words(kind);
    if (kind == WINO_WORDS_DOWN) {
        Eight odd = {wino_load(d[0], wino_low(low, 0), k, lanes, elements),
                     wino_load(d[2], wino_low(low, 2), k, lanes, elements),
                     wino_load(d[4], wino_low(low, 4), k, lanes, elements),
                     wino_load(d[6], wino_low(low, 6), k, lanes, elements)};
        eight_store(v, stride, wino_in_up(odd), 4, words);
        Eight even = {wino_load(d[1], wino_low(low, 1), k, lanes, elements),
                      wino_load(d[3], wino_low(low, 3), k, lanes, elements),
                      wino_load(d[5], wino_low(low, 5), k, lanes, elements)};
        eight_store(v + 4 * stride, stride, wino_in_three(even), 3, words);
        return;
    }
    if (kind == WINO_DOWN) {
        Eight odd = {wino_load(d[0], wino_low(low, 0), k, lanes, elements),
                     wino_load(d[2], wino_low(low, 2), k, lanes, elements),
                     wino_load(d[4], wino_low(low, 4), k, lanes, elements),
                     wino_load(d[6], wino_low(low, 6), k, lanes, elements),
                     wino_load(d[8], wino_low(low, 8), k, lanes, elements)};
        eight_store(v, stride, wino_in_five(odd, 0.5f, 1.5f), 5, words);
        Eight even = {wino_load(d[1], wino_low(low, 1), k, lanes, elements),
                      wino_load(d[3], wino_low(low, 3), k, lanes, elements),
                      wino_load(d[5], wino_low(low, 5), k, lanes, elements),
                      wino_load(d[7], wino_low(low, 7), k, lanes, elements), vec_zero()};
        eight_store(v + 5 * stride, stride, wino_in_five(even, 0.5f, 1.5f), 4, words);
        return;
    }
    Eight all = {wino_load(d[0], wino_low(low, 0), k, lanes, elements),
                 wino_load(d[1], wino_low(low, 1), k, lanes, elements),
                 wino_load(d[2], wino_low(low, 2), k, lanes, elements),
                 wino_load(d[3], wino_low(low, 3), k, lanes, elements)};
    if (kind == WINO_UP) {
        eight_store(v, stride, wino_in_up(all), 4, words);
        return;
    }
    all.v4 = wino_load(d[4], wino_low(low, 4), k, lanes, elements);
    if (kind == WINO_WORDS) {
        eight_store(v, stride, wino_in_five(all, 0.375f, 1.25f), 5, words);
        return;
    }
    all.v5 = wino_load(d[5], wino_low(low, 5), k, lanes, elements);
    if (kind == WINO_PLAIN) {
        eight_store(v, stride, wino_in_plain(all), 6, words);
        return;
    }
    all.v6 = wino_load(d[6], wino_low(low, 6), k, lanes, elements);
    all.v7 = wino_load(d[7], wino_low(low, 7), k, lanes, elements);
    eight_store(v, stride, wino_in_large(all), 8, words);
}

VEC_INLINE Eight wino_out_large(Eight m)
{
    vec s1 = vec_add(m.v1, m.v2), d1 = vec_sub(m.v1, m.v2);
    vec s2 = vec_add(m.v3, m.v4), d2 = vec_sub(m.v3, m.v4);
    vec s3 = vec_add(m.v5, m.v6), d3 = vec_sub(m.v5, m.v6);
    return (Eight){
        .v0 = vec_add(vec_add(m.v0, s1), vec_add(s2, s3)),
        .v1 = vec_fma(vec_set1(2.0f), d2, vec_fma(vec_set1(0.5f), d3, d1)),
        .v2 = vec_fma(vec_set1(4.0f), s2, vec_fma(vec_set1(0.25f), s3, s1)),
        .v3 = vec_fma(vec_set1(8.0f), d2, vec_fma(vec_set1(0.125f), d3, d1)),
        .v4 = vec_fma(vec_set1(16.0f), s2, vec_fma(vec_set1(0.0625f), s3, s1)),
        .v5 = vec_fma(vec_set1(32.0f), d2, vec_fma(vec_set1(0.03125f), d3, vec_add(d1, m.v7))),
    };
}

VEC_INLINE Eight wino_out_plain(Eight m)
{
    vec sa = vec_add(m.v1, m.v2), da = vec_sub(m.v1, m.v2);
    vec sb = vec_add(m.v3, m.v4), db = vec_sub(m.v3, m.v4);
    return (Eight){.v0 = vec_add(m.v0, vec_add(sa, sb)),
                   .v1 = vec_fma(vec_set1(1.5f), db, vec_mul(vec_set1(0.75f), da)),
                   .v2 = vec_fma(vec_set1(2.25f), sb, vec_mul(vec_set1(0.5625f), sa)),
                   .v3 = vec_fma(vec_set1(3.375f), db, vec_fma(vec_set1(0.421875f), da, m.v5))};
}

/* Sums at 0, ±1. */
VEC_INLINE Eight wino_out_even(Eight m)
{
    return (Eight){.v0 = vec_add(m.v0, vec_add(m.v1, m.v2)), .v1 = vec_sub(m.v1, m.v2)};
}

/* Sums at ±1, ∞. */
VEC_INLINE Eight wino_out_odd(Eight m)
{
    return (Eight){.v0 = vec_add(m.v0, m.v1), .v1 = vec_add(m.v2, vec_sub(m.v0, m.v1))};
}

VEC_INLINE Eight wino_out_down(Eight m)
{
    vec sa = vec_add(m.v0, m.v1), da = vec_sub(m.v0, m.v1);
    vec sb = vec_add(m.v2, m.v3), db = vec_sub(m.v2, m.v3);
    return (Eight){
        .v0 = vec_fnma(vec_set1(0.5f), da, vec_mul(vec_set1(1.0f / 6), db)),
        .v1 = vec_mul(vec_set1(0.25f), vec_sub(sb, sa)),
        .v2 = vec_fnma(vec_set1(0.125f), da, vec_mul(vec_set1(0.375f), db)),
        .v3 = vec_fma(vec_set1(0.5625f), sb, vec_fnma(vec_set1(0.0625f), sa, m.v4)),
    };
}

/* Sums at 0, ±1, ∞. */
VEC_INLINE Eight wino_out_words_down(Eight m)
{
    vec s = vec_add(m.v1, m.v2);
    return (Eight){.v0 = vec_add(m.v0, s), .v1 = vec_sub(m.v1, m.v2), .v2 = vec_add(m.v3, s)};
}

VEC_INLINE Eight wino_out_words(Eight m)
{
    vec sa = vec_add(m.v0, m.v1), da = vec_sub(m.v0, m.v1);
    vec sb = vec_add(m.v2, m.v3), db = vec_sub(m.v2, m.v3);
    return (Eight){
        .v0 = vec_add(sa, sb),
        .v1 = vec_fma(vec_set1(1.25f), db, vec_mul(vec_set1(0.375f), da)),
        .v2 = vec_fma(vec_set1(1.5625f), sb, vec_fma(vec_set1(0.140625f), sa, m.v4)),
    };
}

/* odd: of an UP's outputs. */
VEC_INLINE Eight wino_out(Eight m, const WinoKind kind, const int odd)
{
    switch (kind) {
    case WINO_LARGE:
        return wino_out_large(m);
    case WINO_PLAIN:
        return wino_out_plain(m);
    case WINO_WORDS:
        return wino_out_words(m);
    case WINO_DOWN:
        return wino_out_down(m);
    case WINO_WORDS_DOWN:
        return wino_out_words_down(m);
    default:
        return odd ? wino_out_odd(m) : wino_out_even(m);
    }
}

/* Operands of wino_out() in one direction: of UP, those of a phase. */
VEC_INLINE int wino_n_sums(const WinoKind kind)
{
    return kind == WINO_UP ? 3 : (int)wino_forms[kind].m;
}

/* Which sum is operand i of wino_out(). */
VEC_INLINE size_t wino_sum(size_t i, const WinoKind kind, const int odd)
{
    static const guint8 up[2][3] = {{0, 1, 2}, {1, 3, 4}};
    return kind == WINO_UP ? up[odd][i] : i;
}

/* ---- packing */

/* g[9]: 3×3 kernel; u[form.u²]: its transform. */
static void wino_weight(const float *g, const WinoForm *f, double *u)
{
    double rows[WINO_PRODUCTS][3] = {{0}};
    for (size_t i = 0; i < f->u; i++)
        for (size_t x = 0; x < 3; x++)
            for (size_t y = 0; y < 3; y++)
                rows[i][x] += f->weight[i][y] * g[y * 3 + x];
    for (size_t i = 0; i < f->u; i++) {
        for (size_t j = 0; j < f->u; j++) {
            u[i * f->u + j] = 0;
            for (size_t x = 0; x < 3; x++)
                u[i * f->u + j] += rows[i][x] * f->weight[j][x];
        }
    }
}

/* Where channel c, column j of a transformed weight lies among its words(in_c) · padded_c floats.
 */
static size_t wino_place(const WinoShape *s, size_t in_c, size_t c, size_t j)
{
    size_t k0 = c / s->c_block * s->c_block, k = MIN(s->c_block, in_c - k0);
    size_t j0 = j / VEC_PANEL * VEC_PANEL, width = MIN(VEC_PANEL, s->padded_c - j0);
    return k0 / s->word * s->padded_c + j0 * wino_words(s, k) + (c - k0) / s->word * width +
           (j - j0);
}

static void wino_pack(const DcaeLayer *layer, const DcaeLayerWeights *weights, float *packed)
{
    WinoShape s = wino_shape(layer);
    size_t elements = s.form->u * s.form->u, size = wino_words(&s, layer->in_c) * s.padded_c;
    double u[WINO_PRODUCTS * WINO_PRODUCTS];
    memset(packed, 0, wino_weights(&s, layer) * sizeof *packed);
    for (size_t c = 0; c < layer->in_c; c++) {
        for (size_t j = 0; j < layer->conv_c; j++) {
            size_t n = epilogue_channel(layer, j), at = wino_place(&s, layer->in_c, c, j);
            wino_weight(weights->weight + (n * layer->in_c + c) * 9, s.form, u);
            for (size_t i = 0; i < elements; i++) {
                if (s.word == 1)
                    packed[i * size + at] = (float)u[i];
                else
                    elem_set((elem_t *)(packed + i * size + at) + c % s.word, (float)u[i]);
            }
        }
    }
    epilogue_pack(layer, weights, packed + wino_weights(&s, layer));
}

/* ---- how a call is cut into tasks: blocks of tiles */

typedef struct {
    gssize y0;     /* product row of the first tile row; of each phase where there are four */
    size_t skip;   /* product rows from there on that don't belong to the call */
    size_t h, w;   /* product rows from y0 on, product pixels in a row */
    size_t across; /* tiles in a row */
    size_t tiles;
} WinoGrid;

static WinoGrid wino_grid(const DcaeCpuCall *call)
{
    const DcaeLayer *layer = call->op->layer;
    WinoGrid g = {.y0 = (gssize)call->y0 - (gssize)call->skip,
                  .skip = call->skip,
                  .h = call->y1 - call->y0 + call->skip,
                  .w = call->in.w};
    if (layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP) {
        g.y0 /= 2;
        g.skip /= 2;
        g.h /= 2;
    } else if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
        g.y0 *= 2;
        g.skip *= 2;
        g.h *= 2;
    } else if (layer->stride == 2) {
        g.w = call->out.w;
    }
    size_t out = wino_forms[wino_kind(layer)].out;
    g.across = (g.w + out - 1) / out;
    g.tiles = (g.h + out - 1) / out * g.across;
    return g;
}

/* As few blocks as can be, so that each reads the weights for many tiles, but the same number for
 * each thread. */
static size_t wino_blocks(const WinoShape *s, const DcaeCpuCall *call, const WinoGrid *g)
{
    size_t groups = (g->tiles + s->group - 1) / s->group, threads = MAX(call->threads, 1);
    size_t blocks = (groups + s->groups - 1) / s->groups;
    return MIN((blocks + threads - 1) / threads * threads, groups);
}

/* The shape for the blocks of a call, which take less scratch memory where they are smaller than
 * blocks can be. It cuts the call into the same blocks. */
static WinoShape wino_call_shape(const DcaeCpuCall *call)
{
    WinoShape s = wino_shape(call->op->layer);
    WinoGrid g = wino_grid(call);
    size_t groups = (g.tiles + s.group - 1) / s.group;
    size_t blocks = wino_blocks(&s, call, &g);
    wino_set_groups(&s, (groups + blocks - 1) / blocks);
    return s;
}

static size_t wino_n_tasks(const DcaeCpuCall *call)
{
    WinoShape s = wino_shape(call->op->layer);
    WinoGrid g = wino_grid(call);
    return wino_blocks(&s, call, &g);
}

typedef struct {
    WinoGrid grid;
    size_t first, tiles; /* tiles [first, first + tiles) */
} WinoBlock;

static WinoBlock wino_block(const DcaeCpuCall *call, const WinoShape *s, size_t task)
{
    WinoBlock b = {.grid = wino_grid(call)};
    size_t blocks = wino_blocks(s, call, &b.grid);
    size_t groups = (b.grid.tiles + s->group - 1) / s->group;
    b.first = groups * task / blocks * s->group;
    b.tiles = MIN(groups * (task + 1) / blocks * s->group, b.grid.tiles) - b.first;
    return b;
}

/* ---- input transform */

typedef struct {
    const DcaeCpuCall *call;
    const WinoShape *shape;
    const WinoBlock *block;
    float *v;    /* transformed inputs, element after element */
    float *ring; /* WINO_IN pixel columns, transformed downwards: [WINO_IN][form.v][WINO_RING_C] */
    elem_t *zeros; /* WINO_RING_C */
} WinoInput;

static float *wino_ring(const WinoInput *w, size_t column)
{
    return w->ring + column % WINO_IN * w->shape->form->v * WINO_RING_C;
}

/* Transforms pixel column x of a tile row whose first input row is y downwards: channels
 * [c, c + channels). */
VEC_INLINE void wino_column(const WinoInput *w, gssize y, gssize x, size_t c, size_t channels,
                            float *to, const WinoKind kind)
{
    const DcaeRows *in = &w->call->in;
    const WinoForm *f = &wino_forms[kind];
    const void *row[WINO_IN];
    size_t low[WINO_IN];
    if (x < 0 || x >= (gssize)in->w) {
        memset(to, 0, f->v * WINO_RING_C * sizeof *to);
        return;
    }
    for (size_t i = 0; i < f->in; i++) {
        gssize at = y + (gssize)i;
        gboolean inside = at >= 0 && at < (gssize)in->h;
        row[i] = inside ? dcae_rows_at(in, (size_t)at, (size_t)x) + c : w->zeros;
        low[i] = inside ? in->low : 0;
    }
    size_t k = 0;
    for (; k + VEC_WIDTH <= channels; k += VEC_WIDTH)
        wino_in(row, low, k, VEC_WIDTH, 1, to + k, WINO_RING_C, kind);
    if (k < channels)
        wino_in(row, low, k, channels - k, 1, to + k, WINO_RING_C, kind);
}

/* Transforms the ring's columns from `first` on across, into a tile's place. */
VEC_INLINE void wino_across(const WinoInput *w, size_t first, size_t channels, float *v,
                            const WinoKind kind)
{
    const WinoForm *f = &wino_forms[kind];
    size_t slot = w->shape->slot;
    const void *column[WINO_IN];
    for (size_t i = 0; i < f->in; i++)
        column[i] = wino_ring(w, first + i);
    for (size_t r = 0; r < f->v; r++)
        for (size_t k = 0; k < channels; k += VEC_WIDTH) {
            float *to = v + r * f->v * slot + k / w->shape->word;
            wino_in(column, NULL, r * WINO_RING_C + k, VEC_WIDTH, 0, to, slot, kind);
        }
}

/* Channels [c, c + channels) of all tiles of the block; they lie within one block of channels. */
VEC_INLINE void wino_input(const WinoInput *w, size_t c, size_t channels, const WinoKind kind)
{
    const WinoShape *s = w->shape;
    const WinoForm *f = &wino_forms[kind];
    const WinoBlock *b = w->block;
    size_t tiles = (b->tiles + s->group - 1) / s->group * s->group, overlap = 0;
    float *v = w->v + (c / s->c_block * s->c_block * tiles + c % s->c_block) / s->word;
    for (size_t t = 0; t < tiles; t++, v += s->c_block / s->word) {
        size_t ty = (b->first + t) / b->grid.across, tx = (b->first + t) % b->grid.across;
        gssize y = (b->grid.y0 + (gssize)(ty * f->out)) * (gssize)(f->step / f->out);
        size_t x = tx * f->step;
        /* Rows of the last register tile behind the last tile. */
        if (t >= b->tiles) {
            for (size_t i = 0; i < f->v * f->v; i++)
                memset(v + i * s->slot, 0, wino_words(s, channels) * sizeof *v);
            continue;
        }
        if (t == 0 || tx == 0)
            overlap = 0;
        for (size_t i = overlap; i < f->in; i++)
            wino_column(w, y - 1, (gssize)(x + i) - 1, c, channels, wino_ring(w, x + i), kind);
        wino_across(w, x, channels, v, kind);
        overlap = f->in - f->step;
    }
}

/* ---- products */

/* sum = (add ? sum : 0) + V · U over all input channels. */
static void wino_product(const WinoShape *s, size_t in_c, const float *v, size_t rows,
                         const float *u, float *sum, gboolean add)
{
    for (size_t c = 0; c < in_c; c += s->c_block) {
        size_t k = wino_words(s, MIN(s->c_block, in_c - c)), c_words = c / s->word;
        const float *a = v + c_words * rows, *b = u + c_words * s->padded_c;
        if (s->word > 1)
            tile_words(a, s->c_block / s->word, rows, b, k, s->padded_c, sum, s->padded_c + 16,
                       add || c > 0);
        else
            tile_block(a, s->c_block, rows, b, k, s->padded_c, sum, s->padded_c + 16, add || c > 0);
    }
}

static void wino_products(const WinoShape *s, size_t in_c, const float *packed, size_t tiles,
                          float *slots)
{
    const WinoForm *f = s->form;
    size_t rows = (tiles + s->group - 1) / s->group * s->group;
    for (size_t i = 0; i < f->n_products; i++) {
        for (size_t j = 0; j < f->n_products; j++) {
            WinoProduct down = f->products[i], across = f->products[j];
            const float *v = slots + (f->first_v + down.v * f->v + across.v) * s->slot;
            const float *u =
                packed + (down.u * f->u + across.u) * wino_words(s, in_c) * s->padded_c;
            float *sum = slots + (down.m * f->m + across.m) * s->slot;
            wino_product(s, in_c, v, rows, u, sum, down.add || across.add);
        }
    }
}

/* ---- output transform */

/* The output transform down of column i of a tile's sums. */
VEC_INLINE Eight wino_output_column(const float *m, size_t slot, size_t i, const WinoKind kind,
                                    const int py, const int px)
{
    const int n = wino_n_sums(kind);
    size_t down = wino_forms[kind].m * slot;
    m += wino_sum(i, kind, px) * slot;
    Eight sums = {vec_load(m + wino_sum(0, kind, py) * down),
                  vec_load(m + wino_sum(1, kind, py) * down),
                  vec_load(m + wino_sum(2, kind, py) * down)};
    if (n > 3)
        sums.v3 = vec_load(m + 3 * down);
    if (n > 4)
        sums.v4 = vec_load(m + 4 * down);
    if (n > 5)
        sums.v5 = vec_load(m + 5 * down);
    if (n > 6) {
        sums.v6 = vec_load(m + 6 * down);
        sums.v7 = vec_load(m + 7 * down);
    }
    return wino_out(sums, kind, py);
}

#define WINO_ROW(i) \
    ((Eight){t0.v##i, t1.v##i, t2.v##i, t3.v##i, t4.v##i, t5.v##i, t6.v##i, t7.v##i})

/* m: element 0 of a tile; y[out²][stride]: its product pixels, row by row; py, px: which phase. */
VEC_INLINE void wino_output(const WinoShape *s, const float *m, float *y, size_t stride,
                            const WinoKind kind, const int py, const int px)
{
    const int out = (int)wino_forms[kind].out, n = wino_n_sums(kind);
    size_t row = wino_forms[kind].out * stride;
    for (size_t k = 0; k < s->padded_c; k += VEC_WIDTH, m += VEC_WIDTH, y += VEC_WIDTH) {
        Eight t0 = wino_output_column(m, s->slot, 0, kind, py, px);
        Eight t1 = wino_output_column(m, s->slot, 1, kind, py, px);
        Eight t2 = wino_output_column(m, s->slot, 2, kind, py, px);
        Eight t3 = t2, t4 = t2, t5 = t2, t6 = t2, t7 = t2;
        if (n > 3)
            t3 = wino_output_column(m, s->slot, 3, kind, py, px);
        if (n > 4)
            t4 = wino_output_column(m, s->slot, 4, kind, py, px);
        if (n > 5)
            t5 = wino_output_column(m, s->slot, 5, kind, py, px);
        if (n > 6) {
            t6 = wino_output_column(m, s->slot, 6, kind, py, px);
            t7 = wino_output_column(m, s->slot, 7, kind, py, px);
        }
        eight_store(y, stride, wino_out(WINO_ROW(0), kind, px), out, 0);
        eight_store(y + row, stride, wino_out(WINO_ROW(1), kind, px), out, 0);
        if (out > 2)
            eight_store(y + 2 * row, stride, wino_out(WINO_ROW(2), kind, px), out, 0);
        if (out > 3)
            eight_store(y + 3 * row, stride, wino_out(WINO_ROW(3), kind, px), out, 0);
        if (out > 4) {
            eight_store(y + 4 * row, stride, wino_out(WINO_ROW(4), kind, px), out, 0);
            eight_store(y + 5 * row, stride, wino_out(WINO_ROW(5), kind, px), out, 0);
        }
    }
}

/* y[out²][stride]: the product pixels of tile (ty, tx) of a phase. */
static void wino_finish(const Epilogue *e, const WinoBlock *b, size_t ty, size_t tx, size_t phase,
                        float *y, size_t stride, float *spare)
{
    const DcaeLayer *layer = e->layer;
    size_t out = wino_forms[wino_kind(layer)].out;
    size_t rows = MIN(out, b->grid.h - ty * out);
    size_t columns = MIN(out, b->grid.w - tx * out);
    size_t y0 = (size_t)(b->grid.y0 + (gssize)(ty * out)), x0 = tx * out;
    for (size_t i = ty == 0 ? b->grid.skip : 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) {
            float *v = y + (i * out + j) * stride;
            if (layer->shuffle == DCAE_SHUFFLE_UP) {
                epilogue_up(e, y0 + i, x0 + j, v, spare);
            } else if (layer->shuffle == DCAE_SHUFFLE_DOWN) {
                if (i % 2 == 0 && j % 2 == 0)
                    epilogue_down(e, (y0 + i) / 2, (x0 + j) / 2, v, stride, out * stride, spare);
            } else if (layer->nearest2) {
                epilogue_pixel(e, 2 * (y0 + i) + phase / 2, 2 * (x0 + j) + phase % 2, v, 0, 0,
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

static gsize wino_scratch_bytes(const DcaeCpuCall *call)
{
    const DcaeLayer *layer = call->op->layer;
    WinoShape s = wino_call_shape(call);
    return (s.slots * s.slot + (WINO_IN * s.form->v + 1) * WINO_RING_C +
            s.form->out * s.form->out * wino_y_stride(&s) + epilogue_scratch(layer)) *
           sizeof(float);
}

VEC_INLINE void wino_run_kind(const DcaeCpuCall *call, const WinoShape *s, size_t task,
                              float *slots, const WinoKind kind)
{
    const DcaeLayer *layer = call->op->layer;
    const WinoForm *f = &wino_forms[kind];
    WinoBlock b = wino_block(call, s, task);
    size_t stride = wino_y_stride(s);
    float *ring = slots + s->slots * s->slot, *zeros = ring + WINO_IN * f->v * WINO_RING_C;
    float *y = zeros + WINO_RING_C, *spare = y + f->out * f->out * stride;
    WinoInput input = {.call = call,
                       .shape = s,
                       .block = &b,
                       .v = slots + f->first_v * s->slot,
                       .ring = ring,
                       .zeros = (elem_t *)zeros};
    Epilogue e;

    memset(zeros, 0, WINO_RING_C * sizeof *zeros);
    for (size_t c = 0; c < layer->in_c;) {
        size_t end = MIN(layer->in_c, c / s->c_block * s->c_block + s->c_block);
        size_t channels = MIN(WINO_RING_C, end - c);
        wino_input(&input, c, channels, kind);
        c += channels;
    }
    wino_products(s, layer->in_c, call->packed, b.tiles, slots);
    epilogue_init(&e, call, call->packed + wino_weights(s, layer));
    for (size_t t = 0; t < b.tiles; t++) {
        const float *m = slots + t * (s->padded_c + 16);
        size_t ty = (b.first + t) / b.grid.across, tx = (b.first + t) % b.grid.across;
        wino_output(s, m, y, stride, kind, 0, 0);
        wino_finish(&e, &b, ty, tx, 0, y, stride, spare);
        if (kind != WINO_UP)
            continue;
        wino_output(s, m, y, stride, kind, 0, 1);
        wino_finish(&e, &b, ty, tx, 1, y, stride, spare);
        wino_output(s, m, y, stride, kind, 1, 0);
        wino_finish(&e, &b, ty, tx, 2, y, stride, spare);
        wino_output(s, m, y, stride, kind, 1, 1);
        wino_finish(&e, &b, ty, tx, 3, y, stride, spare);
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
    guint out = (guint)wino_forms[wino_kind(layer)].out;
    if (layer->shuffle == DCAE_SHUFFLE_DOWN)
        return out / 2;
    return layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP ? 2 * out : out;
}

/* Borders of pairs of rows stay borders of pairs. */
static guint row_shift(const DcaeLayer *layer)
{
    if (!wino_takes(layer))
        return 0;
    return layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP ? 2 : 1;
}

static gsize n_tasks(const DcaeCpuCall *call)
{
    return wino_takes(call->op->layer) ? wino_n_tasks(call) : implicit_n_tasks(call);
}

static gsize scratch_bytes(const DcaeCpuCall *call)
{
    return wino_takes(call->op->layer) ? wino_scratch_bytes(call) : implicit_scratch_bytes(call);
}

static void run(const DcaeCpuCall *call, gsize task, void *scratch)
{
    if (!wino_takes(call->op->layer)) {
        implicit_run(call, task, scratch);
        return;
    }
    WinoShape s = wino_call_shape(call);
    switch (wino_kind(call->op->layer)) {
    case WINO_LARGE:
        wino_run_kind(call, &s, task, scratch, WINO_LARGE);
        break;
    case WINO_PLAIN:
        wino_run_kind(call, &s, task, scratch, WINO_PLAIN);
        break;
    case WINO_WORDS:
        wino_run_kind(call, &s, task, scratch, WINO_WORDS);
        break;
    case WINO_UP:
        wino_run_kind(call, &s, task, scratch, WINO_UP);
        break;
    case WINO_DOWN:
        wino_run_kind(call, &s, task, scratch, WINO_DOWN);
        break;
    case WINO_WORDS_DOWN:
        wino_run_kind(call, &s, task, scratch, WINO_WORDS_DOWN);
        break;
    }
}

void VEC_NAME(dcae_cpu_conv)(DcaeCpuKernels *kernels)
{
    kernels->kernel[DCAE_OP_CONV] = (DcaeCpuKernel){
        .packed_bytes = packed_bytes,
        .pack = pack,
        .row_align = row_align,
        .row_shift = row_shift,
        .n_tasks = n_tasks,
        .scratch_bytes = scratch_bytes,
        .run = run,
    };
}
