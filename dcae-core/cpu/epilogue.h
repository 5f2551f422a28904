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

#include "cpu_kernels.h"
#include "vec_act.h"

#define EPILOGUE_EPS 1e-5f

/* Arrays behind the packed weights: bias, norm weight and norm bias [out_c], each padded with zeros
 * to a multiple of 16 and one vector more. The bias is in the packed order of the product, for a
 * pixel-unshuffle in that of the output. */
typedef struct {
    const DcaeCpuCall *call;
    const DcaeLayer *layer;
    const float *bias, *norm_weight, *norm_bias; /* norm_*: NULL without RMSNorm */
    size_t store_c; /* floats of an output pixel that are written: out_c, or to the end of the pixel
                       where the op's channels are the last of the value */
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
    e->store_c = last ? call->out.pixel_stride - op->out_c0 : layer->out_c;
}

VEC_INLINE float *rows_pixel(const DcaeRows *rows, size_t y, size_t x)
{
    return rows->data + (ptrdiff_t)((gssize)y - rows->row0) * (ptrdiff_t)rows->row_stride +
           x * rows->pixel_stride;
}

/* Scratch floats that epilogue_finish() needs beside the product. */
static inline size_t epilogue_scratch(const DcaeLayer *layer)
{
    return 2 * epilogue_pad(layer->out_c);
}

/* ---- shortcuts: s[out_c] for output pixel (y, x) */

static inline void shortcut_mean(const Epilogue *e, size_t y, size_t x, float *s)
{
    const float *in = rows_pixel(&e->call->in, y, x);
    size_t group = e->layer->in_c / e->layer->out_c;
    for (size_t n = 0; n < e->layer->out_c; n++) {
        float sum = 0;
        for (size_t i = 0; i < group; i++)
            sum += in[n * group + i];
        s[n] = sum / (float)group;
    }
}

static inline void shortcut_repeat(const Epilogue *e, size_t y, size_t x, float *s)
{
    const float *in = rows_pixel(&e->call->in, y, x);
    size_t repeat = e->layer->out_c / e->layer->in_c;
    for (size_t n = 0; n < e->layer->in_c; n++)
        for (size_t i = 0; i < repeat; i++)
            s[n * repeat + i] = in[n];
}

/* Unshuffled channel 4c + p is channel c of pixel p of the 2×2 square. */
static inline void shortcut_down_mean(const Epilogue *e, size_t y, size_t x, float *s)
{
    const DcaeRows *rows = &e->call->in;
    const float *top = rows_pixel(rows, 2 * y, 2 * x), *bottom = top + rows->row_stride;
    const float *pixel[4] = {top, top + rows->pixel_stride, bottom, bottom + rows->pixel_stride};
    size_t group = 4 * e->layer->in_c / e->layer->out_c, u = 0, n = 0;
    if (group == 4) {
        for (; n + VEC_WIDTH <= e->layer->out_c; n += VEC_WIDTH) {
            vec sum = vec_add(vec_load(pixel[0] + n), vec_load(pixel[1] + n));
            sum = vec_add(vec_add(sum, vec_load(pixel[2] + n)), vec_load(pixel[3] + n));
            vec_store(s + n, vec_mul(sum, vec_set1(0.25f)));
        }
        u = 4 * n;
    }
    for (; n < e->layer->out_c; n++) {
        float sum = 0;
        for (size_t i = 0; i < group; i++, u++)
            sum += pixel[u & 3][u >> 2];
        s[n] = sum / (float)group;
    }
}

/* Output channel n of pixel p of the 2×2 square is repeated channel 4n + p. */
static inline void shortcut_up_repeat(const Epilogue *e, size_t y, size_t x, float *s)
{
    const float *in = rows_pixel(&e->call->in, y / 2, x / 2);
    size_t repeat = 4 * e->layer->out_c / e->layer->in_c, p = 2 * (y & 1) + (x & 1);
    if (repeat == 4) {
        memcpy(s, in, e->layer->out_c * sizeof *s);
        return;
    }
    for (size_t n = 0; n < e->layer->out_c; n++)
        s[n] = in[(4 * n + p) / repeat];
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

/* One vector of a pixel; lanes from n on are zero in every operand but v. */
typedef struct {
    const float *v, *bias, *shortcut, *residual; /* the last two or NULL */
} PixelIn;

VEC_INLINE vec pixel_load(const PixelIn *p, size_t i, size_t lanes, DcaeAct act)
{
    vec x = lanes < VEC_WIDTH ? vec_load_n(p->v + i, lanes) : vec_load(p->v + i);
    x = vec_act(act, vec_add(x, lanes < VEC_WIDTH ? vec_load_n(p->bias + i, lanes)
                                                  : vec_load(p->bias + i)));
    if (p->shortcut)
        x = vec_add(x, lanes < VEC_WIDTH ? vec_load_n(p->shortcut + i, lanes)
                                         : vec_load(p->shortcut + i));
    return x;
}

VEC_INLINE vec pixel_residual(const PixelIn *p, size_t i, size_t lanes, vec x)
{
    if (!p->residual)
        return x;
    return vec_add(x, lanes < VEC_WIDTH ? vec_load_n(p->residual + i, lanes)
                                        : vec_load(p->residual + i));
}

/* out[n] = act(v + bias) + shortcut + residual. */
VEC_INLINE void pixel_plain(const PixelIn *p, size_t n, float *out, DcaeAct act)
{
    size_t i = 0;
    for (; i + VEC_WIDTH <= n; i += VEC_WIDTH)
        vec_store(out + i, pixel_residual(p, i, VEC_WIDTH, pixel_load(p, i, VEC_WIDTH, act)));
    if (i < n)
        vec_store_n(out + i, pixel_residual(p, i, n - i, pixel_load(p, i, n - i, act)), n - i);
}

/* out[n] = norm(act(v + bias) + shortcut)·weight + norm_bias + residual. v is overwritten. The sum
 * of squares runs in two chains, whose order is fixed by n alone. */
VEC_INLINE void pixel_norm(const Epilogue *e, const PixelIn *p, float *v, size_t n, float *out,
                           DcaeAct act)
{
    vec sum0 = vec_zero(), sum1 = vec_zero();
    size_t i = 0;
    for (; i + 2 * VEC_WIDTH <= n; i += 2 * VEC_WIDTH) {
        vec x0 = pixel_load(p, i, VEC_WIDTH, act);
        vec x1 = pixel_load(p, i + VEC_WIDTH, VEC_WIDTH, act);
        sum0 = vec_fma(x0, x0, sum0);
        sum1 = vec_fma(x1, x1, sum1);
        vec_store(v + i, x0);
        vec_store(v + i + VEC_WIDTH, x1);
    }
    for (; i < n; i += VEC_WIDTH) {
        size_t lanes = MIN(n - i, VEC_WIDTH);
        vec x = pixel_load(p, i, lanes, act);
        sum0 = vec_fma(x, x, sum0);
        vec_store_n(v + i, x, lanes);
    }
    vec scale = vec_set1(1.0f / sqrtf(vec_sum(vec_add(sum0, sum1)) / (float)n + EPILOGUE_EPS));
    for (i = 0; i < n; i += VEC_WIDTH) {
        size_t lanes = n - i;
        vec w = vec_load(e->norm_weight + i), b = vec_load(e->norm_bias + i);
        if (lanes >= VEC_WIDTH) {
            vec x = vec_fma(vec_mul(vec_load(v + i), scale), w, b);
            vec_store(out + i, pixel_residual(p, i, VEC_WIDTH, x));
        } else {
            vec x = vec_fma(vec_mul(vec_load_n(v + i, lanes), scale), w, b);
            vec_store_n(out + i, pixel_residual(p, i, lanes, x), lanes);
        }
    }
}

VEC_INLINE void pixel_finish(const Epilogue *e, const PixelIn *p, float *v, size_t n, float *out,
                             DcaeAct act)
{
    if (e->norm_weight)
        pixel_norm(e, p, v, n, out, act);
    else
        pixel_plain(p, n, out, act);
}

/* Finishes channels [c0, c0 + n) of output pixel (y, x). v: their products, overwritten; column:
 * where their bias is. Without norm and shortcut any part of the channels will do, else all of
 * them. s: out_c scratch floats. */
static inline void epilogue_pixel(const Epilogue *e, size_t y, size_t x, float *v, size_t column,
                                  size_t c0, size_t n, float *s)
{
    const DcaeCpuCall *call = e->call;
    float *out = rows_pixel(&call->out, y, x) + c0;
    PixelIn p = {.v = v, .bias = e->bias + column, .shortcut = epilogue_shortcut(e, y, x, s)};
    if (e->layer->residual)
        p.residual = rows_pixel(&call->residual, y, x) + c0;
    switch (e->layer->act) {
    case DCAE_ACT_RELU:
        pixel_finish(e, &p, v, n, out, DCAE_ACT_RELU);
        break;
    case DCAE_ACT_SILU:
        pixel_finish(e, &p, v, n, out, DCAE_ACT_SILU);
        break;
    case DCAE_ACT_GELU:
        pixel_finish(e, &p, v, n, out, DCAE_ACT_GELU);
        break;
    case DCAE_ACT_MISH:
        pixel_finish(e, &p, v, n, out, DCAE_ACT_MISH);
        break;
    default:
        pixel_finish(e, &p, v, n, out, DCAE_ACT_NONE);
        break;
    }
    if (c0 + n == e->layer->out_c)
        for (size_t i = n; i < e->store_c - c0; i++)
            out[i] = 0;
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
