/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * pixel.cu - the ends of the network: PIXELS_IN and PIXELS_OUT between 8-bit pictures and [-1, 1],
 * LATENT_IN and LATENT_OUT between planar latents and NHWC; and BLEND, which mixes tiles.
 *
 * Threads are pixels: grid = (blocks of columns, rows). Chroma of 4:2:0 is interpolated linearly at
 * the place that the picture states, both ways. The same formulas as on the CPU.
 */
#include "common.cuh"

#define GRAY_R 0.2126f
#define GRAY_B 0.0722f

INLINE float sample(const DcaeKernelComponent &c, int y, int x)
{
    return (float)((const unsigned char *)c.data)[y * c.row_stride + x * c.pixel_stride];
}

INLINE float clamp(float v, float low, float high)
{
    return fminf(high, fmaxf(low, v));
}

/* Rows of a picture's value, which has three channels: in bf16 that is always two parts. */
INLINE DcaeKernelRows picture_rows(const DcaeKernelRows &rows)
{
    DcaeKernelRows r = rows;
    r.low = DCAE_LOW_PACKED;
    return r;
}

/* ---- picture to network */

/* Where luma sample i lies between chroma samples. */
typedef struct {
    int first, second;
    float weight;
} Between;

INLINE Between between(int i, int shift, float position, int n)
{
    const float at = shift ? ((float)i - position) * 0.5f : (float)i, low = floorf(at);
    Between b;
    b.weight = at - low;
    b.first = min(max((int)low, 0), n - 1);
    b.second = min(max((int)low + 1, 0), n - 1);
    return b;
}

INLINE float chroma_at(const DcaeKernelImage &image, int i, int y, int x)
{
    const DcaeKernelComponent &c = image.component[i];
    const int w = (image.w + (1 << image.w_shift) - 1) >> image.w_shift;
    const int h = (image.h + (1 << image.h_shift) - 1) >> image.h_shift;
    const Between row = between(y, image.h_shift, image.chroma_y, h);
    const Between column = between(x, image.w_shift, image.chroma_x, w);
    float left = sample(c, row.first, column.first), right = sample(c, row.first, column.second);
    left += (sample(c, row.second, column.first) - left) * row.weight;
    right += (sample(c, row.second, column.second) - right) * row.weight;
    return left + (right - left) * column.weight;
}

INLINE void yuv_at(const DcaeKernelImage &image, int y, int x, float rgb[3])
{
    const float kr = image.kr, kb = image.kb, kg = 1.0f - kr - kb;
    const float black = image.full_range ? 0.0f : 16.0f;
    const float luma = image.full_range ? 2.0f / 255.0f : 2.0f / 219.0f;
    const float chroma = image.full_range ? 2.0f / 255.0f : 2.0f / 224.0f;
    const float v0 = fmaf(sample(image.component[0], y, x) - black, luma, -1.0f);
    const float u = (chroma_at(image, 1, y, x) - 128.0f) * chroma;
    const float v = (chroma_at(image, 2, y, x) - 128.0f) * chroma;
    rgb[0] = clamp(fmaf(v, 2.0f * (1.0f - kr), v0), -1.0f, 1.0f);
    rgb[1] = clamp(v0 - u * (2.0f * (1.0f - kb) * kb / kg) - v * (2.0f * (1.0f - kr) * kr / kg),
                   -1.0f, 1.0f);
    rgb[2] = clamp(fmaf(u, 2.0f * (1.0f - kb), v0), -1.0f, 1.0f);
}

/* Pixel (y, x) of the picture in [-1, 1]. */
INLINE void rgb_at(const DcaeKernelImage &image, int y, int x, float rgb[3])
{
    if (image.color == COLOR_YUV) {
        yuv_at(image, y, x, rgb);
    } else if (image.color == COLOR_GRAY) {
        const float v = sample(image.component[0], y, x);
        rgb[0] = rgb[1] = rgb[2] = image.full_range
                                       ? v / 127.5f - 1.0f
                                       : clamp(v * (2.0f / 219.0f) - 251.0f / 219.0f, -1.0f, 1.0f);
    } else {
#pragma unroll
        for (int i = 0; i < 3; i++)
            rgb[i] = sample(image.component[i], y, x) / 127.5f - 1.0f;
    }
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_pixels_in(const DcaeKernelPixels p)
{
    const int x = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x), y = p.y0 + (int)blockIdx.y;
    const int px = p.frame_x + x, py = p.frame_y + y;
    float rgb[4] = {};
    if (x >= p.rows.w)
        return;
    if (p.pad == PAD_EXTEND || (px < p.frame_w && py < p.frame_h))
        rgb_at(p.image, min(py, p.frame_h - 1), min(px, p.frame_w - 1), rgb);
    element *out = pixel_at(p.rows, 0, y, x);
    store_four(picture_rows(p.rows), out, rgb);
#ifndef DCAE_BF16 /* in which that was the whole pixel */
    const float zeros[4] = {};
#pragma unroll
    for (int c = 4; c < DCAE_PICTURE_C; c += 4)
        store_four(p.rows, out + c, zeros);
#endif
}

/* ---- network to picture */

INLINE bool is_finite(float v)
{
    return (__float_as_uint(v) & 0x7f800000u) != 0x7f800000u;
}

/* Pixel (y, x) of the value in 0 … 255. */
INLINE bool bytes_at(const DcaeKernelPixels &p, int y, int x, float rgb[3])
{
    const element *in = pixel_at(p.rows, 0, y, x);
    bool finite = true;
#pragma unroll
    for (int i = 0; i < 3; i++) {
        const float v = load_one(picture_rows(p.rows), in + i);
        finite = finite && is_finite(v);
        rgb[i] = clamp((v + 1.0f) * 127.5f, 0.0f, 255.0f);
    }
    return finite;
}

INLINE void store_byte(const DcaeKernelComponent &c, int y, int x, float v)
{
    ((unsigned char *)c.data)[y * c.row_stride + x * c.pixel_stride] =
        (unsigned char)__float2int_rn(clamp(v, 0.0f, 255.0f));
}

INLINE float luma_of(const DcaeKernelImage &image, const float rgb[3], float kr, float kb)
{
    const float v = kr * rgb[0] + (1.0f - kr - kb) * rgb[1] + kb * rgb[2];
    return image.full_range ? v : v * (219.0f / 255.0f) + 16.0f;
}

/* How much of luma column `at` lies in the two-pixel wide window around place p. */
INLINE float window(int at, float p)
{
    return clamp(1.5f - fabsf((float)at - p), 0.0f, 1.0f);
}

/* Chroma of the square of luma pixels that begins at (y, x) of the value. */
INLINE void store_chroma(const DcaeKernelPixels &p, int y, int x)
{
    const DcaeKernelImage &image = p.image;
    const float kr = image.kr, kb = image.kb, scale = image.full_range ? 1.0f : 224.0f / 255.0f;
    const int row = p.frame_y + y, column = p.frame_x + x, before = image.w_shift ? 1 : 0;
    const bool pair = image.h_shift && y + 1 < p.y1;
    const float share = pair ? clamp(image.chroma_y, 0.0f, 1.0f) : 0.0f;
    float mean[3] = {0.0f, 0.0f, 0.0f}, weights = 0.0f;
    int i = -before;
    do {
        if (x + i < 0 || x + i >= p.out_w)
            continue;
        const float w = before ? window(column + i, (float)column + image.chroma_x) : 1.0f;
        float rgb[3], low[3];
        bytes_at(p, y, x + i, rgb);
        if (pair) {
            bytes_at(p, y + 1, x + i, low);
#pragma unroll
            for (int k = 0; k < 3; k++)
                rgb[k] = fmaf(low[k] - rgb[k], share, rgb[k]);
        }
#pragma unroll
        for (int k = 0; k < 3; k++)
            mean[k] = fmaf(w, rgb[k], mean[k]);
        weights += w;
    } while (++i <= 2 * before);
#pragma unroll
    for (int k = 0; k < 3; k++)
        mean[k] /= weights;
    const float luma = kr * mean[0] + (1.0f - kr - kb) * mean[1] + kb * mean[2];
    const int cy = row >> image.h_shift, cx = column >> image.w_shift;
    store_byte(image.component[1], cy, cx,
               128.0f + (mean[2] - luma) * (scale / (2.0f * (1.0f - kb))));
    store_byte(image.component[2], cy, cx,
               128.0f + (mean[0] - luma) * (scale / (2.0f * (1.0f - kr))));
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_pixels_out(const DcaeKernelPixels p)
{
    const int x = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x), y = p.y0 + (int)blockIdx.y;
    const int px = p.frame_x + x, py = p.frame_y + y;
    const DcaeKernelImage &image = p.image;
    float rgb[3];
    if (x >= p.out_w || y >= p.out_h)
        return;
    if (!bytes_at(p, y, x, rgb))
        atomicExch((int *)p.not_finite, 1);
    if (image.component[3].data)
        store_byte(image.component[3], py, px, 255.0f);
    if (image.color == COLOR_RGB) {
#pragma unroll
        for (int i = 0; i < 3; i++)
            store_byte(image.component[i], py, px, rgb[i]);
        return;
    }
    const bool gray = image.color == COLOR_GRAY;
    store_byte(image.component[0], py, px,
               luma_of(image, rgb, gray ? GRAY_R : image.kr, gray ? GRAY_B : image.kb));
    if (!gray && py % (1 << image.h_shift) == 0 && px % (1 << image.w_shift) == 0)
        store_chroma(p, y, x);
}

/* ---- latents */

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_latent_in(const DcaeKernelLatent p)
{
    const int i = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x), y = p.y0 + (int)blockIdx.y;
    const int c = i / p.rows.w, x = i - c * p.rows.w;
    float v = 0.0f;
    if (c >= p.store_c)
        return;
    if (c < min(p.c, p.latent_c)) {
        const long long at =
            ((long long)c * p.latent_h + p.frame_y + y) * p.latent_w + p.frame_x + x;
        v = p.format == LATENT_F32   ? ((const float *)p.latent)[at]
            : p.format == LATENT_F16 ? half_to_float(((const unsigned short *)p.latent)[at])
                                     : bfloat_to_float(((const unsigned short *)p.latent)[at]);
        v *= p.scale;
    }
    store_one(p.rows, pixel_at(p.rows, 0, y, x) + c, v);
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_latent_out(const DcaeKernelLatent p)
{
    const int i = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x), y = p.y0 + (int)blockIdx.y;
    const int c = i / p.out_w, x = i - c * p.out_w;
    bool finite;
    if (c >= min(p.c, p.latent_c) || y >= p.out_h)
        return;
    const float v = load_one(p.rows, pixel_at(p.rows, 0, y, x) + c) * p.scale;
    const long long at = ((long long)c * p.latent_h + p.frame_y + y) * p.latent_w + p.frame_x + x;
    if (p.format == LATENT_F32) {
        ((float *)p.latent)[at] = v;
        finite = is_finite(v);
    } else {
        const bool half = p.format == LATENT_F16;
        const unsigned short bits = half ? float_to_half(v) : float_to_bfloat(v);
        const unsigned exponent = half ? 0x7c00u : 0x7f80u;
        ((unsigned short *)p.latent)[at] = bits;
        finite = (bits & exponent) != exponent;
    }
    if (!finite)
        atomicExch((int *)p.not_finite, 1);
}

/* ---- blend: threads are channels of pixels; images in z */

/* from · (1 - i/extent) + to · i/extent, the weights rounded to f32 from double. */
INLINE float mix(float to, float from, int i, int extent)
{
    const double t = (double)i / extent;
    return __fadd_rn(__fmul_rn(from, (float)(1.0 - t)), __fmul_rn(to, (float)t));
}

KERNEL __launch_bounds__(DCAE_THREADS) dcae_k_blend(const DcaeKernelBlend p)
{
    const int i = (int)(blockIdx.x * DCAE_THREADS + threadIdx.x), y = p.y0 + (int)blockIdx.y;
    const int x = i / p.c, c = i - x * p.c, n = (int)blockIdx.z;
    if (x >= p.out.w)
        return;
    element *out = pixel_at(p.out, n, y, x) + c;
    float v = load_one(p.out, out);
    if (p.blend_h) {
        const int extent = min(p.blend_h, min(p.above.h, p.out.h));
        if (y < extent && x < p.above.w)
            v = mix(v, load_one(p.above, pixel_at(p.above, n, p.above.h - extent + y, x) + c), y,
                    extent);
    }
    if (p.blend_w && y < p.left.h) {
        const int extent = min(p.blend_w, min(p.left.w, p.out.w));
        if (x < extent)
            v = mix(v, load_one(p.left, pixel_at(p.left, n, y, p.left.w - extent + x) + c), x, extent);
    }
    store_one(p.out, out, v);
}
