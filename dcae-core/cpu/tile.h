/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * tile.h - the register tile of every matrix product: rows of A times a packed panel of B.
 *
 * B is packed in panels of VEC_PANEL columns, [k][VEC_PANEL]; a last panel of at most VEC_WIDTH
 * columns is [k][VEC_WIDTH]. A's rows are contiguous in k. Each result is one chain of vec_fma in
 * the order of k, whatever tile or block it lies in: results do not depend on the blocking of rows.
 * Where activations are bf16 there is a second product, of words of elements (elem.h) instead of
 * floats: strides and k count words then.
 */
#ifndef DCAE_TILE_H
#define DCAE_TILE_H

#include "elem.h"

/* A and C blocks have a multiple of so many rows, the rest is scratch: no tiles of fewer rows. */
#define TILE_BLOCK_ROWS 12

/* Columns of packed B for n columns: the last panel may be one vector wide. */
VEC_INLINE size_t tile_padded(size_t n)
{
    return (n + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
}

/* One step of a sum: of floats, or of words of elements. */
VEC_INLINE vec tile_step(vec a, vec b, vec sum, const int words)
{
    return words ? elem_dot(a, b, sum) : vec_fma(a, b, sum);
}

/* c[rows][vecs·VEC_WIDTH] = (add ? c : 0) + a[rows][k] · b[k][vecs·VEC_WIDTH]. rows, vecs and words
 * are constants where this is inlined; k · pace floats from next on are prefetched. Three rows
 * share a pointer: more pointers, or derived ones, are spilled. */
VEC_INLINE void tile_product(const float *a, size_t a_stride, const float *b, size_t k, float *c,
                             size_t c_stride, int add, const float *next, size_t pace,
                             const int rows, const int vecs, const int words)
{
    vec acc[VEC_TILE_ROWS_1][VEC_TILE_VECS];
    const float *row[VEC_TILE_ROWS_1 / 3];

    VEC_UNROLL
    for (int r = 0; r < rows; r++) {
        VEC_UNROLL
        for (int v = 0; v < vecs; v++)
            acc[r][v] = add ? vec_load(c + r * c_stride + v * VEC_WIDTH) : vec_zero();
    }
    VEC_UNROLL
    for (int r = 0; r < rows / 3; r++) {
        row[r] = a + 3 * r * a_stride;
        VEC_PIN_PTR(row[r]);
    }
    for (size_t i = 0; i < k; i++) {
        vec bv[VEC_TILE_VECS];
        VEC_UNROLL
        for (int v = 0; v < vecs; v++) {
            bv[v] = vec_load(b + v * VEC_WIDTH);
            VEC_PIN(bv[v]);
        }
        __builtin_prefetch(next);
        VEC_UNROLL
        for (int r = 0; r < rows; r++) {
            vec av = vec_set1(row[r / 3][(size_t)(r % 3) * a_stride + i]);
            VEC_UNROLL
            for (int v = 0; v < vecs; v++)
                acc[r][v] = tile_step(av, bv[v], acc[r][v], words);
        }
        b += vecs * VEC_WIDTH;
        next += pace;
    }
    VEC_UNROLL
    for (int r = 0; r < rows; r++) {
        VEC_UNROLL
        for (int v = 0; v < vecs; v++)
            vec_store(c + r * c_stride + v * VEC_WIDTH, acc[r][v]);
    }
}

/* c[rows][columns] = (add ? c : 0) + a · b for a whole block: rows a multiple of TILE_BLOCK_ROWS, b
 * panels of a packed matrix from a panel border on, columns = what tile_padded() says of them. */
VEC_INLINE void tile_all(const float *a, size_t a_stride, size_t rows, const float *b, size_t k,
                         size_t columns, float *c, size_t c_stride, int add, const int words)
{
    /* The next panel comes while all tiles of this one are made: a first tile that asks for all of
     * it waits for memory. At most a line a step. */
    size_t tiles = rows / VEC_TILE_ROWS, pace = MIN((VEC_PANEL + tiles - 1) / tiles, 16), j = 0;
    for (; j + VEC_PANEL <= columns; j += VEC_PANEL) {
        const float *panel = b + j * k, *next = panel + k * VEC_PANEL;
        for (size_t r = 0; r < rows; r += VEC_TILE_ROWS, next += k * pace)
            tile_product(a + r * a_stride, a_stride, panel, k, c + r * c_stride + j, c_stride, add,
                         next, pace, VEC_TILE_ROWS, VEC_TILE_VECS, words);
    }
    if (j < columns) {
        for (size_t r = 0; r < rows; r += VEC_TILE_ROWS_1)
            tile_product(a + r * a_stride, a_stride, b + j * k, k, c + r * c_stride + j, c_stride,
                         add, b + j * k, 0, VEC_TILE_ROWS_1, 1, words);
    }
}

/* tile_all() of floats and of words. Functions of their own: tests look at their inner loops. */
static __attribute__((noinline, unused)) void tile_block(const float *a, size_t a_stride,
                                                         size_t rows, const float *b, size_t k,
                                                         size_t columns, float *c, size_t c_stride,
                                                         int add)
{
    tile_all(a, a_stride, rows, b, k, columns, c, c_stride, add, 0);
}

#if ELEM_WORD > 1
static __attribute__((noinline, unused)) void tile_words(const float *a, size_t a_stride,
                                                         size_t rows, const float *b, size_t k,
                                                         size_t columns, float *c, size_t c_stride,
                                                         int add)
{
    tile_all(a, a_stride, rows, b, k, columns, c, c_stride, add, 1);
}
#else
#define tile_words tile_block
#endif

#endif
