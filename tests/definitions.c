/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * definitions.c - see definitions.h.
 */
#include "definitions.h"

#include <math.h>

double def_act(DcaeAct act, double x)
{
    switch (act) {
    case DCAE_ACT_RELU:
        return x > 0 ? x : 0;
    case DCAE_ACT_SILU:
        return x / (1 + exp(-x));
    case DCAE_ACT_GELU:
        return 0.5 * x * erfc(-x / sqrt(2.0));
    case DCAE_ACT_MISH:
        return x * tanh(log1p(exp(x)));
    default:
        return x;
    }
}

/* ---- convolution */

/* Input pixel of a convolution's own grid, after the nearest-neighbour enlargement. */
static const double *conv_input(const Definition *d, gint y, gint x)
{
    gint enlarge = d->layer->nearest2 ? 2 : 1;
    if (y < 0 || x < 0 || y >= (gint)d->in_h * enlarge || x >= (gint)d->in_w * enlarge)
        return NULL;
    return d->in + ((gsize)(y / enlarge) * d->in_w + x / enlarge) * d->layer->in_c;
}

/* Channel n of product pixel (y, x), activation included. */
static double conv_product(const Definition *d, guint y, guint x, guint n, double *scale)
{
    const DcaeLayer *l = d->layer;
    gint pad = (gint)l->ksize / 2;
    double sum = d->weights->bias ? d->weights->bias[n] : 0;
    *scale = fabs(sum);
    for (guint ky = 0; ky < l->ksize; ky++) {
        for (guint kx = 0; kx < l->ksize; kx++) {
            const double *in =
                conv_input(d, (gint)(y * l->stride + ky) - pad, (gint)(x * l->stride + kx) - pad);
            for (guint c = 0; in && c < l->in_c; c++) {
                gsize at = (((gsize)n * l->in_c + c) * l->ksize + ky) * l->ksize + kx;
                double term = in[c] * d->weights->weight[at];
                sum += term;
                *scale += fabs(term);
            }
        }
    }
    return def_act(l->act, sum);
}

/* Channel n of output pixel (y, x) before the shortcut: where shuffles take it from. */
static double conv_shuffled(const Definition *d, guint y, guint x, guint n, double *scale)
{
    switch (d->layer->shuffle) {
    case DCAE_SHUFFLE_DOWN:
        return conv_product(d, 2 * y + n % 4 / 2, 2 * x + n % 2, n / 4, scale);
    case DCAE_SHUFFLE_UP:
        return conv_product(d, y / 2, x / 2, 4 * n + 2 * (y % 2) + x % 2, scale);
    default:
        return conv_product(d, y, x, n, scale);
    }
}

/* The layer's input as the shortcut sees it, spread to the size of the output: channel n. */
static double conv_shortcut(const Definition *d, guint y, guint x, guint n)
{
    const DcaeLayer *l = d->layer;
    guint group;
    double sum = 0;
    switch (l->shortcut) {
    case DCAE_SHORTCUT_MEAN:
        group = l->in_c / l->out_c;
        for (guint i = 0; i < group; i++)
            sum += conv_input(d, y, x)[n * group + i];
        return sum / group;
    case DCAE_SHORTCUT_REPEAT:
        return conv_input(d, y, x)[n / (l->out_c / l->in_c)];
    case DCAE_SHORTCUT_DOWN_MEAN:
        group = 4 * l->in_c / l->out_c;
        for (guint i = n * group; i < (n + 1) * group; i++)
            sum += conv_input(d, 2 * y + i % 4 / 2, 2 * x + i % 2)[i / 4];
        return sum / group;
    case DCAE_SHORTCUT_UP_REPEAT:
        group = 4 * l->out_c / l->in_c;
        return d->in[((gsize)(y / 2) * d->in_w + x / 2) * l->in_c +
                     (4 * n + 2 * (y % 2) + x % 2) / group];
    default:
        return 0;
    }
}

static void rms_norm(const Definition *d, double *out, double *scale)
{
    guint n = d->layer->out_c;
    double squares = 0, scales = 0;
    for (guint i = 0; i < n; i++) {
        squares += out[i] * out[i];
        scales += scale[i] * scale[i];
    }
    double factor = 1 / sqrt(squares / n + 1e-5);
    double relative = sqrt(scales / n) * factor;
    for (guint i = 0; i < n; i++) {
        double weight = d->weights->norm_weight[i];
        double bias = d->weights->norm_bias ? d->weights->norm_bias[i] : 0;
        scale[i] = (scale[i] + fabs(out[i]) * relative) * factor * fabs(weight) + fabs(bias);
        out[i] = out[i] * factor * weight + bias;
    }
}

void def_conv(Definition *d)
{
    const DcaeLayer *l = d->layer;
    gsize n = (gsize)d->out_h * d->out_w * l->out_c, at = 0;
    d->out = g_new(double, n);
    d->scale = g_new(double, n);
    for (guint y = 0; y < d->out_h; y++) {
        for (guint x = 0; x < d->out_w; x++, at += l->out_c) {
            double *out = d->out + at, *scale = d->scale + at;
            for (guint i = 0; i < l->out_c; i++) {
                double shortcut = conv_shortcut(d, y, x, i);
                out[i] = conv_shuffled(d, y, x, i, &scale[i]) + shortcut;
                scale[i] += fabs(shortcut);
            }
            if (l->norm == DCAE_NORM_RMS)
                rms_norm(d, out, scale);
            for (guint i = 0; d->residual && i < l->out_c; i++) {
                out[i] += d->residual[at + i];
                scale[i] += fabs(d->residual[at + i]);
            }
        }
    }
}
