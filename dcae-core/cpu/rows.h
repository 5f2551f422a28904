/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * rows.h - where the pixels of a DcaeRows lie, in elements of the build (elem.h). Everything is
 * static inline, since each including file is compiled once per build.
 */
#ifndef DCAE_ROWS_H
#define DCAE_ROWS_H

#include "cpu_kernels.h"
#include "elem.h"

/* Channel 0 of the op at pixel (y, x) of the picture; the row must be one that was provided. */
VEC_INLINE elem_t *dcae_rows_at(const DcaeRows *rows, size_t y, size_t x)
{
    return (elem_t *)rows->data + ((gssize)y - rows->row0) * (gssize)rows->row_stride +
           x * rows->pixel_stride;
}

/* Lanes of a pixel: its channels, padded. */
static inline gsize dcae_rows_lanes(const DcaeRows *rows)
{
    return rows->low > 0 ? rows->low : rows->pixel_stride;
}

/* Lanes after the op's last output channel that it must zero: those up to the pixel stride where
 * the op writes the value's last channel, else none. */
static inline gsize dcae_out_padding(const DcaeCpuCall *call)
{
    gsize c = call->program->values[call->op->out].c;
    gsize end = (gsize)call->op->out_c0 + call->out.c;
    return end == c ? dcae_rows_lanes(&call->out) - c : 0;
}

#endif
