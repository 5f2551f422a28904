/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * epilogue.h - what every convolution does with its product: bias, activation, shuffle, shortcut,
 * RMSNorm, residual, store. Works pixel by pixel on rows of scratch memory that hold all channels
 * of a pixel. Channels of the product come in the packed order of epilogue_channel(). Included by
 * the convolution families; knows nothing of how the product was made.
 */
#ifndef DCAE_EPILOGUE_H
#define DCAE_EPILOGUE_H

#include <math.h>

#include "rows.h"
#include "vec_act.h"

#define EPILOGUE_EPS 1e-5f

/* Arrays behind the packed weights: bias, norm weight and norm bias [out_c], each padded with zeros
 * to a multiple of 16 and one vector more. The bias is in the packed order of the product, for a
 * pixel-unshuffle in that of the output. */
typedef struct {
    const DcaeCpuCall *call;
    const DcaeLayer *layer;
    const float *bias, *norm_weight, *norm_bias; /* norm_*: NULL without RMSNorm */
    size_t store_c; /* elements of an output pixel that are written: out_c, or to the end of the
                       pixel where the op's channels are the last of the value */
} Epilogue;

VEC_INLINE size_t epilogue_pad(size_t n)
{
    return (n + 15) / 16 * 16 + 16;
}

VEC_INLINE size_t epilogue_bias_c(const DcaeLayer *layer)
{
    return layer->shuffle == DCAE_SHUFFLE_DOWN ? layer->out_c : layer->conv_c;
}

static inline size_t epilogue_floats(const DcaeLayer *layer)
{
    return epilogue_pad(epilogue_bias_c(layer)) +
           (layer->norm == DCAE_NORM_RMS ? 2 * epilogue_pad(layer->out_c) : 0);
}

/* Which channel of the layer's weights column `column` of the packed product is. A pixel-shuffle
 * upwards needs the channels of one output pixel side by side. */
VEC_INLINE size_t epilogue_channel(const DcaeLayer *layer, size_t column)
{
    if (layer->shuffle != DCAE_SHUFFLE_UP)
        return column;
    return 4 * (column % layer->out_c) + column / layer->out_c;
}

static inline void epilogue_pack(const DcaeLayer *layer, const DcaeLayerWeights *weights,
                                 float *packed)
{
    size_t bias_c = epilogue_bias_c(layer);
    float *norm_weight = packed + epilogue_pad(bias_c);
    float *norm_bias = norm_weight + epilogue_pad(layer->out_c);
    memset(packed, 0, epilogue_floats(layer) * sizeof *packed);
    if (weights->bias)
        for (size_t i = 0; i < bias_c; i++)
            packed[i] =
                weights->bias[layer->shuffle == DCAE_SHUFFLE_DOWN ? i / 4
                                                                  : epilogue_channel(layer, i)];
    if (layer->norm != DCAE_NORM_RMS)
        return;
    memcpy(norm_weight, weights->norm_weight, layer->out_c * sizeof *packed);
    if (weights->norm_bias)
        memcpy(norm_bias, weights->norm_bias, layer->out_c * sizeof *packed);
}

/* packed: what epilogue_pack() wrote. */
static inline void epilogue_init(Epilogue *e, const DcaeCpuCall *call, const float *packed)
{
    const DcaeOp *op = call->op;
    const DcaeLayer *layer = op->layer;
    gboolean last = op->out_c0 + layer->out_c == call->program->values[op->out].c;
    *e = (Epilogue){.call = call, .layer = layer, .bias = packed};
    if (layer->norm == DCAE_NORM_RMS) {
        e->norm_weight = packed + epilogue_pad(epilogue_bias_c(layer));
        e->norm_bias = e->norm_weight + epilogue_pad(layer->out_c);
    }
    e->store_c = last ? dcae_rows_lanes(&call->out) - op->out_c0 : layer->out_c;
}

/* Scratch floats that a pixel needs beside the product. */
static inline size_t epilogue_scratch(const DcaeLayer *layer)
{
    return 2 * epilogue_pad(layer->out_c);
}

/* ---- shortcuts: s[out_c] for output pixel (y, x) */

static inline void shortcut_mean(const Epilogue *e, size_t y, size_t x, float *s)
{
    const elem_t *in = dcae_rows_at(&e->call->in, y, x);
    size_t group = e->layer->in_c / e->layer->out_c;
    for (size_t n = 0; n < e->layer->out_c; n++) {
        float sum = 0;
        for (size_t i = 0; i < group; i++)
            sum += elem_get_sum(in + n * group + i, e->call->in.low);
        s[n] = sum / (float)group;
    }
}

static inline void shortcut_repeat(const Epilogue *e, size_t y, size_t x, float *s)
{
    const elem_t *in = dcae_rows_at(&e->call->in, y, x);
    size_t repeat = e->layer->out_c / e->layer->in_c;
    for (size_t n = 0; n < e->layer->in_c; n++)
        for (size_t i = 0; i < repeat; i++)
            s[n * repeat + i] = elem_get_sum(in + n, e->call->in.low);
}

/* Unshuffled channel 4c + p is channel c of pixel p of the 2×2 square. */
static inline void shortcut_down_mean(const Epilogue *e, size_t y, size_t x, float *s)
{
    const DcaeRows *rows = &e->call->in;
    const elem_t *top = dcae_rows_at(rows, 2 * y, 2 * x), *bottom = top + rows->row_stride;
    const elem_t *pixel[4] = {top, top + rows->pixel_stride, bottom, bottom + rows->pixel_stride};
    size_t group = 4 * e->layer->in_c / e->layer->out_c, u = 0, n = 0;
    if (group == 4) {
        for (; n + VEC_WIDTH <= e->layer->out_c; n += VEC_WIDTH) {
            vec sum = vec_add(elem_load_sum(pixel[0] + n, rows->low),
                              elem_load_sum(pixel[1] + n, rows->low));
            sum = vec_add(vec_add(sum, elem_load_sum(pixel[2] + n, rows->low)),
                          elem_load_sum(pixel[3] + n, rows->low));
            vec_store(s + n, vec_mul(sum, vec_set1(0.25f)));
        }
        u = 4 * n;
    }
    for (; n < e->layer->out_c; n++) {
        float sum = 0;
        for (size_t i = 0; i < group; i++, u++)
            sum += elem_get_sum(pixel[u & 3] + (u >> 2), rows->low);
        s[n] = sum / (float)group;
    }
}

/* Output channel n of pixel p of the 2×2 square is repeated channel 4n + p. */
static inline void shortcut_up_repeat(const Epilogue *e, size_t y, size_t x, float *s)
{
    const elem_t *in = dcae_rows_at(&e->call->in, y / 2, x / 2);
    size_t out_c = e->layer->out_c;
    size_t repeat = 4 * out_c / e->layer->in_c, p = 2 * (y & 1) + (x & 1);
    if (4 % repeat == 0) {
        size_t step = 4 / repeat;
        in += p / repeat;
        for (size_t n = 0; n < out_c; n++)
            s[n] = elem_get_sum(in + n * step, e->call->in.low);
    } else {
        for (size_t n = 0, left = p; n < out_c; n++, left += 4) {
            while (left >= repeat) {
                left -= repeat;
                in++;
            }
            s[n] = elem_get_sum(in, e->call->in.low);
        }
    }
}

/* Returns s, filled, or NULL where the layer has no shortcut. */
static inline const float *epilogue_shortcut(const Epilogue *e, size_t y, size_t x, float *s)
{
    switch (e->layer->shortcut) {
    case DCAE_SHORTCUT_MEAN:
        shortcut_mean(e, y, x, s);
        return s;
    case DCAE_SHORTCUT_REPEAT:
        shortcut_repeat(e, y, x, s);
        return s;
    case DCAE_SHORTCUT_DOWN_MEAN:
        shortcut_down_mean(e, y, x, s);
        return s;
    case DCAE_SHORTCUT_UP_REPEAT:
        shortcut_up_repeat(e, y, x, s);
        return s;
    default:
        return NULL;
    }
}

/* ---- one pixel */

/* What a pixel is made of. Lanes behind the last channel read as 0 and come out as 0. */
typedef struct {
    const float *v, *bias, *shortcut; /* the last or NULL */
    const elem_t *residual;           /* or NULL */
    size_t residual_low, out_low;     /* DcaeRows */
    size_t n;                         /* channels */
    size_t store_n;                   /* elements that are written: those from n on become 0 */
} Pixel;

VEC_INLINE vec lanes_load(const float *p, size_t lanes)
{
    return lanes < VEC_WIDTH ? vec_load_n(p, lanes) : vec_load(p);
}

VEC_INLINE vec pixel_load(const Pixel *p, size_t i, size_t lanes, DcaeAct act)
{
    vec x = vec_add(lanes_load(p->v + i, lanes), lanes_load(p->bias + i, lanes));
    x = vec_act(act, x);
    return p->shortcut ? vec_add(x, lanes_load(p->shortcut + i, lanes)) : x;
}

/* Adds the residual and stores. A masked store is slow on some processors: only where it must be.
 */
VEC_INLINE void pixel_store(const Pixel *p, size_t i, size_t lanes, elem_t *out, vec x)
{
    if (p->residual)
        x = vec_add(x, lanes < VEC_WIDTH ? elem_load_sum_n(p->residual + i, p->residual_low, lanes)
                                         : elem_load_sum(p->residual + i, p->residual_low));
    if (lanes >= VEC_WIDTH || i + VEC_WIDTH <= p->store_n)
        elem_store_sum(out + i, p->out_low, x);
    else
        elem_store_sum_n(out + i, p->out_low, x, lanes);
}

/* out = act(v + bias) + shortcut + residual. */
VEC_INLINE void pixel_plain(const Pixel *p, elem_t *out, DcaeAct act)
{
    size_t i = 0;
    for (; i + VEC_WIDTH <= p->n; i += VEC_WIDTH)
        pixel_store(p, i, VEC_WIDTH, out, pixel_load(p, i, VEC_WIDTH, act));
    if (i < p->n)
        pixel_store(p, i, p->n - i, out, pixel_load(p, i, p->n - i, act));
}

/* out = norm(act(v + bias) + shortcut)·weight + norm_bias + residual. v is overwritten. The sum of
 * squares runs in two chains, whose order is fixed by n alone. */
VEC_INLINE void pixel_norm(const Epilogue *e, const Pixel *p, float *v, elem_t *out, DcaeAct act)
{
    vec sum0 = vec_zero(), sum1 = vec_zero(), scale;
    size_t i = 0, n = p->n;
    for (; i + 2 * VEC_WIDTH <= n; i += 2 * VEC_WIDTH) {
        vec x0 = pixel_load(p, i, VEC_WIDTH, act);
        vec x1 = pixel_load(p, i + VEC_WIDTH, VEC_WIDTH, act);
        sum0 = vec_fma(x0, x0, sum0);
        sum1 = vec_fma(x1, x1, sum1);
        vec_store(v + i, x0);
        vec_store(v + i + VEC_WIDTH, x1);
    }
    for (; i < n; i += VEC_WIDTH) {
        vec x = pixel_load(p, i, n - i, act);
        sum0 = vec_fma(x, x, sum0);
        vec_store_n(v + i, x, MIN(n - i, VEC_WIDTH));
    }
    scale = vec_set1(1.0f / sqrtf(vec_sum(vec_add(sum0, sum1)) / (float)n + EPILOGUE_EPS));
    for (i = 0; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        pixel_store(p, i, VEC_WIDTH, out,
                    vec_fma(vec_mul(vec_load(v + i), scale), vec_load(e->norm_weight + i),
                            vec_load(e->norm_bias + i)));
    if (i < n)
        pixel_store(p, i, n - i, out,
                    vec_fma(vec_mul(vec_load_n(v + i, n - i), scale), vec_load(e->norm_weight + i),
                            vec_load(e->norm_bias + i)));
}

VEC_INLINE void pixel_finish(const Epilogue *e, const Pixel *p, float *v, elem_t *out, DcaeAct act)
{
    if (e->norm_weight)
        pixel_norm(e, p, v, out, act);
    else
        pixel_plain(p, out, act);
}

/* Finishes channels [c0, c0 + n) of output pixel (y, x). v: their products, overwritten; column:
 * where their bias is. Without norm and shortcut any part of the channels will do, else all of
 * them. s: out_c scratch floats. */
static inline void epilogue_pixel(const Epilogue *e, size_t y, size_t x, float *v, size_t column,
                                  size_t c0, size_t n, float *s)
{
    const DcaeCpuCall *call = e->call;
    elem_t *out = dcae_rows_at(&call->out, y, x) + c0;
    Pixel p = {.v = v,
               .bias = e->bias + column,
               .shortcut = epilogue_shortcut(e, y, x, s),
               .n = n,
               .residual_low = call->residual.low,
               .out_low = call->out.low,
               .store_n = c0 + n == e->layer->out_c ? e->store_c - c0 : n};
    if (e->layer->residual)
        p.residual = dcae_rows_at(&call->residual, y, x) + c0;
    switch (e->layer->act) {
    case DCAE_ACT_RELU:
        pixel_finish(e, &p, v, out, DCAE_ACT_RELU);
        break;
    case DCAE_ACT_SILU:
        pixel_finish(e, &p, v, out, DCAE_ACT_SILU);
        break;
    case DCAE_ACT_GELU:
        pixel_finish(e, &p, v, out, DCAE_ACT_GELU);
        break;
    case DCAE_ACT_MISH:
        pixel_finish(e, &p, v, out, DCAE_ACT_MISH);
        break;
    default:
        pixel_finish(e, &p, v, out, DCAE_ACT_NONE);
        break;
    }
    size_t i = (n + VEC_WIDTH - 1) / VEC_WIDTH * VEC_WIDTH;
    if (i > p.store_n)
        i = n;
    for (; i + VEC_WIDTH <= p.store_n; i += VEC_WIDTH)
        elem_store(out + i, vec_zero());
    for (; i < p.store_n; i++)
        elem_set(out + i, 0);
}

/* Product pixel (y, x) of a pixel-shuffle upwards: four output pixels. */
static inline void epilogue_up(const Epilogue *e, size_t y, size_t x, float *v, float *s)
{
    size_t n = e->layer->out_c;
    for (size_t p = 0; p < 4; p++)
        epilogue_pixel(e, 2 * y + p / 2, 2 * x + p % 2, v + p * n, p * n, 0, n, s);
}

/* Output pixel (y, x) of a pixel-unshuffle: v holds its four product pixels, those of a row `right`
 * floats apart, the rows `down`. */
static inline void epilogue_down(const Epilogue *e, size_t y, size_t x, const float *v,
                                 size_t right, size_t down, float *s)
{
    size_t conv_c = e->layer->conv_c;
    float *t = s + epilogue_pad(e->layer->out_c);
    for (size_t n = 0; n < conv_c; n++) {
        t[4 * n] = v[n];
        t[4 * n + 1] = v[right + n];
        t[4 * n + 2] = v[down + n];
        t[4 * n + 3] = v[down + right + n];
    }
    epilogue_pixel(e, y, x, t, 0, 0, e->layer->out_c, s);
}

#endif
