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

/* Returns the factor. */
static double rms_norm(const Definition *d, double *out, double *scale)
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
    return factor;
}

void def_conv(Definition *d)
{
    const DcaeLayer *l = d->layer;
    gsize n = (gsize)d->out_h * d->out_w * l->out_c, at = 0;
    double squares = 0, factors = 0, pixels = (double)d->out_h * d->out_w;
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
            if (l->norm == DCAE_NORM_RMS) {
                double factor = rms_norm(d, out, scale);
                squares += 1 / (factor * factor);
                factors += factor * factor;
            }
            for (guint i = 0; d->residual && i < l->out_c; i++) {
                out[i] += d->residual[at + i];
                scale[i] += fabs(d->residual[at + i]);
            }
        }
    }
    d->lift = l->norm == DCAE_NORM_RMS ? sqrt(squares / pixels * (factors / pixels)) : 1;
}

/* ---- depthwise and grouped convolution, norm */

static void def_alloc(Definition *d)
{
    gsize n = (gsize)d->out_h * d->out_w * d->layer->out_c;
    d->out = g_new(double, n);
    d->scale = g_new(double, n);
}

static double dwconv_product(const Definition *d, guint y, guint x, guint n, double *scale)
{
    const DcaeLayer *l = d->layer;
    gint k = (gint)l->ksize, half = k / 2;
    double sum = d->weights->bias ? d->weights->bias[n] : 0;
    *scale = fabs(sum);
    for (gint ky = 0; ky < k; ky++) {
        for (gint kx = 0; kx < k; kx++) {
            const double *in = conv_input(d, (gint)y + ky - half, (gint)x + kx - half);
            double term = in ? in[n] * d->weights->weight[((gsize)n * k + ky) * k + kx] : 0;
            sum += term;
            *scale += fabs(term);
        }
    }
    return sum;
}

void def_dwconv(Definition *d)
{
    guint c = d->layer->out_c;
    gsize at = 0;
    def_alloc(d);
    for (guint y = 0; y < d->out_h; y++) {
        for (guint x = 0; x < d->out_w; x++) {
            for (guint n = 0; n < c; n++, at++) {
                double a = dwconv_product(d, y, x, n, &d->scale[at]), gate, gate_scale;
                d->out[at] = a;
                if (!d->layer->gate)
                    continue;
                gate = dwconv_product(d, y, x, n + c, &gate_scale);
                d->out[at] = a * def_act(DCAE_ACT_SILU, gate);
                /* SiLU's slope is at most 1.1. */
                d->scale[at] =
                    d->scale[at] * fabs(def_act(DCAE_ACT_SILU, gate)) + fabs(a) * 1.1 * gate_scale;
            }
        }
    }
}

void def_grouped(Definition *d)
{
    const DcaeLayer *l = d->layer;
    guint inputs = l->in_c / l->groups, outputs = l->conv_c / l->groups;
    gsize pixels = (gsize)d->out_h * d->out_w;
    def_alloc(d);
    for (gsize p = 0; p < pixels; p++) {
        for (guint n = 0; n < l->out_c; n++) {
            const double *in = d->in + p * l->in_c + (gsize)(n / outputs) * inputs;
            double sum = 0, scale = 0;
            for (guint i = 0; i < inputs; i++) {
                double term = in[i] * d->weights->weight[(gsize)n * inputs + i];
                sum += term;
                scale += fabs(term);
            }
            d->out[p * l->out_c + n] = sum;
            d->scale[p * l->out_c + n] = scale;
        }
    }
}

void def_norm(Definition *d)
{
    guint c = d->layer->out_c;
    gsize pixels = (gsize)d->out_h * d->out_w;
    def_alloc(d);
    for (gsize p = 0; p < pixels; p++) {
        double *out = d->out + p * c, *scale = d->scale + p * c;
        for (guint n = 0; n < c; n++) {
            out[n] = d->in[p * c + n];
            scale[n] = fabs(out[n]);
        }
        rms_norm(d, out, scale);
        for (guint n = 0; n < c; n++)
            out[n] = def_act(d->layer->act, out[n]);
    }
}

/* ---- attention */

static double relu(double x)
{
    return x > 0 ? x : 0;
}

void def_attn_sum(const double *kv, gsize n, guint heads, guint d, double *state, double *scale)
{
    for (gsize p = 0; p < n; p++) {
        for (guint h = 0; h < heads; h++) {
            const double *k = kv + (p * heads + h) * 2 * d, *v = k + d;
            for (guint j = 0; j <= d; j++) {
                for (guint i = 0; i < d; i++) {
                    gsize at = ((gsize)h * (d + 1) + j) * d + i;
                    double term = relu(k[i]) * (j < d ? v[j] : 1);
                    state[at] += term;
                    scale[at] += fabs(term);
                }
            }
        }
    }
}

void def_attn_apply(const double *q, gsize n, guint heads, guint d, const double *state,
                    double *out, double *scale)
{
    for (gsize p = 0; p < n; p++) {
        for (guint h = 0; h < heads; h++) {
            gsize at = (p * heads + h) * d;
            const double *s = state + (gsize)h * (d + 1) * d;
            double denominator = 1e-15;
            for (guint i = 0; i < d; i++)
                denominator += s[(gsize)d * d + i] * relu(q[at + i]);
            for (guint j = 0; j < d; j++) {
                double sum = 0, sums = 0;
                for (guint i = 0; i < d; i++) {
                    double term = s[(gsize)j * d + i] * relu(q[at + i]);
                    sum += term;
                    sums += fabs(term);
                }
                out[at + j] = sum / denominator;
                scale[at + j] = (sums + fabs(sum)) / denominator;
            }
        }
    }
}

/* ---- blend */

void def_blend(const DefBlend *b)
{
    if (b->above) {
        guint extent = MIN(b->blend_h, MIN(b->above_h, b->h));
        for (guint y = 0; y < extent; y++) {
            double t = (double)y / extent;
            for (gsize i = 0; i < (gsize)b->w * b->c; i++) {
                double *to = &b->tile[(gsize)y * b->w * b->c + i];
                gsize from = (gsize)(b->above_h - extent + y) * b->w * b->c + i;
                *to = b->above[from] * (1 - t) + *to * t;
            }
        }
    }
    if (b->left) {
        guint extent = MIN(b->blend_w, MIN(b->left_w, b->w));
        for (guint y = 0; y < b->h; y++) {
            for (guint x = 0; x < extent; x++) {
                double t = (double)x / extent;
                for (guint c = 0; c < b->c; c++) {
                    double *to = &b->tile[((gsize)y * b->w + x) * b->c + c];
                    gsize from = ((gsize)y * b->left_w + b->left_w - extent + x) * b->c + c;
                    *to = b->left[from] * (1 - t) + *to * t;
                }
            }
        }
    }
}

/* ---- pictures */

static double sample(const DcaeImage *image, guint i, gint y, gint x, gint h, gint w)
{
    const DcaeComponent *c = &image->component[i];
    y = CLAMP(y, 0, h - 1);
    x = CLAMP(x, 0, w - 1);
    return c->data[y * c->row_stride + x * c->pixel_stride];
}

/* Component i at luma place (y, x), interpolated between the four samples around it. */
static double chroma_sample(const DcaeImage *image, guint i, guint y, guint x)
{
    gint w_shift = (gint)image->chroma_w_shift, h_shift = (gint)image->chroma_h_shift;
    gint w = (gint)(image->width + (1u << w_shift) - 1) >> w_shift;
    gint h = (gint)(image->height + (1u << h_shift) - 1) >> h_shift;
    double cx = w_shift ? (x - image->chroma_x) / 2 : x,
           cy = h_shift ? (y - image->chroma_y) / 2 : y;
    gint x0 = (gint)floor(cx), y0 = (gint)floor(cy);
    double tx = cx - x0, ty = cy - y0;
    double top =
        sample(image, i, y0, x0, h, w) * (1 - tx) + sample(image, i, y0, x0 + 1, h, w) * tx;
    double low =
        sample(image, i, y0 + 1, x0, h, w) * (1 - tx) + sample(image, i, y0 + 1, x0 + 1, h, w) * tx;
    return top * (1 - ty) + low * ty;
}

/* One pixel as R, G, B in 0 … 255. */
static void pixel_rgb(const DcaeImage *image, guint y, guint x, double rgb[3])
{
    gint h = (gint)image->height, w = (gint)image->width;
    double luma = sample(image, 0, (gint)y, (gint)x, h, w);
    if (image->color == DCAE_COLOR_RGB) {
        for (guint i = 0; i < 3; i++)
            rgb[i] = sample(image, i, (gint)y, (gint)x, h, w);
        return;
    }
    double gray = image->full_range ? luma : (luma - 16) * 255 / 219;
    double chroma = image->full_range ? 1 : 255.0 / 224;
    double cb = 0, cr = 0, kr = image->kr, kb = image->kb;
    if (image->color == DCAE_COLOR_YUV) {
        cb = (chroma_sample(image, 1, y, x) - 128) * chroma;
        cr = (chroma_sample(image, 2, y, x) - 128) * chroma;
        rgb[0] = gray + 2 * (1 - kr) * cr;
        rgb[2] = gray + 2 * (1 - kb) * cb;
        /* Y = kr R + kg G + kb B. */
        rgb[1] = (gray - kr * rgb[0] - kb * rgb[2]) / (1 - kr - kb);
    } else {
        rgb[0] = rgb[1] = rgb[2] = gray;
    }
    for (guint i = 0; i < 3; i++)
        rgb[i] = CLAMP(rgb[i], 0, 255);
}

void def_pixels_in(const DcaeOp *op, const DcaeImage *image, guint h, guint w, guint c, double *out)
{
    for (guint y = 0; y < h; y++) {
        for (guint x = 0; x < w; x++, out += c) {
            guint py = op->frame_y + y, px = op->frame_x + x;
            gboolean inside = py < op->frame_h && px < op->frame_w;
            double rgb[3];
            pixel_rgb(image, MIN(py, op->frame_h - 1), MIN(px, op->frame_w - 1), rgb);
            for (guint i = 0; i < c; i++)
                out[i] = i < 3 && (inside || op->pad == DCAE_PAD_EXTEND) ? rgb[i] / 127.5 - 1 : 0;
        }
    }
}

/* Channel i of the value at picture place (y, x) as 0 … 255. */
static double out_rgb(const DcaeOp *op, guint w, guint c, const double *in, guint i, guint y,
                      guint x)
{
    gsize at = ((gsize)(y - op->frame_y) * w + (x - op->frame_x)) * c + MIN(i, c - 1);
    return CLAMP((in[at] + 1) * 127.5, 0, 255);
}

/* Luma (i = 0) or chroma before range, of picture place (y, x). */
static double out_yuv(const DcaeOp *op, double kr, double kb, guint w, guint c, const double *in,
                      guint i, guint y, guint x)
{
    double r = out_rgb(op, w, c, in, 0, y, x), g = out_rgb(op, w, c, in, 1, y, x);
    double b = out_rgb(op, w, c, in, 2, y, x), luma = kr * r + (1 - kr - kb) * g + kb * b;
    return i == 0 ? luma : i == 1 ? (b - luma) / (2 * (1 - kb)) : (r - luma) / (2 * (1 - kr));
}

/* Chroma sample (y, x) of 4:2:0 and its kin: columns by how much of each lies in the two-pixel
 * window around the sample, rows of the pair by distance. */
static double out_chroma(const DcaeOp *op, const DcaeImage *image, guint w, guint c,
                         const double *in, guint i, guint y, guint x)
{
    gint right = (gint)(op->frame_x + op->out_w), bottom = (gint)(op->frame_y + op->out_h);
    gint x0 = (gint)(x << image->chroma_w_shift), y0 = (gint)(y << image->chroma_h_shift);
    double sum = 0, weights = 0;
    for (gint py = y0; py <= y0 + 1 && py < bottom; py++) {
        double ty = py == y0 ? 1 - image->chroma_y : image->chroma_y;
        if (image->chroma_h_shift == 0)
            ty = py == y0;
        else if (y0 + 1 >= bottom)
            ty = 1;
        for (gint px = MAX(x0 - 1, (gint)op->frame_x); px <= x0 + 2 && px < right; px++) {
            double tx = CLAMP(1.5 - fabs(px - (x0 + image->chroma_x)), 0, 1);
            if (image->chroma_w_shift == 0)
                tx = px == x0;
            sum += tx * ty * out_yuv(op, image->kr, image->kb, w, c, in, i, (guint)py, (guint)px);
            weights += tx * ty;
        }
    }
    return sum / weights;
}

double def_pixels_out(const DcaeOp *op, const DcaeImage *image, guint w, guint c, const double *in,
                      guint i, guint y, guint x)
{
    gboolean full = image->full_range;
    if (i == 3)
        return 255;
    if (image->color == DCAE_COLOR_RGB)
        return out_rgb(op, w, c, in, i, y, x);
    if (i > 0)
        return 128 + out_chroma(op, image, w, c, in, i, y, x) * (full ? 1 : 224.0 / 255);
    gboolean gray = image->color == DCAE_COLOR_GRAY;
    double luma =
        out_yuv(op, gray ? 0.2126 : image->kr, gray ? 0.0722 : image->kb, w, c, in, 0, y, x);
    return full ? luma : 16 + luma * 219 / 255;
}

/* ---- latents */

double def_latent_value(const DcaeLatent *latent, gsize i)
{
    if (latent->format == DCAE_LATENT_F32)
        return ((const float *)latent->data)[i];
    guint bits = ((const guint16 *)latent->data)[i];
    gboolean half = latent->format == DCAE_LATENT_F16;
    gint digits = half ? 10 : 7, bias = half ? 15 : 127;
    gint exponent = (gint)(bits & 0x7fff) >> digits, fraction = (gint)bits & ((1 << digits) - 1);
    double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 2 * bias + 1)
        return fraction ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - digits);
    return sign * ldexp(fraction + (1 << digits), exponent - bias - digits);
}

double def_latent_round(DcaeLatentFormat format, double x)
{
    gboolean half = format == DCAE_LATENT_F16;
    gint digits = half ? 10 : format == DCAE_LATENT_BF16 ? 7 : 23;
    gint least = half ? -14 : -126, exponent;
    double largest = ldexp(2 - ldexp(1, -digits), half ? 15 : 127);
    if (x == 0 || !isfinite(x))
        return x;
    frexp(x, &exponent);
    gint step = MAX(exponent - 1, least) - digits;
    double rounded = ldexp(nearbyint(ldexp(x, -step)), step); /* default mode: ties to even */
    return fabs(rounded) > largest ? copysign((double)INFINITY, x) : rounded;
}
