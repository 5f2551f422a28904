/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_staging.c - see cuda_staging.h.
 */
#include "cuda_staging.h"

#include <string.h>

/* Components that the device touches: alpha is ignored when reading. */
static guint component_count(const DcaeImage *image, gboolean read)
{
    guint colors = image->color == DCAE_COLOR_GRAY ? 1 : 3;

    return !read && image->component[3].data != NULL ? 4 : colors;
}

/* Components of the picture by order: 0 … n - 1, where the last may be alpha. */
static guint nth_component(const DcaeImage *image, guint n)
{
    return image->color == DCAE_COLOR_GRAY && n == 1 ? 3 : n;
}

static void component_size(const DcaeImage *image, guint component, gsize *w, gsize *h)
{
    gboolean chroma = image->color == DCAE_COLOR_YUV && (component == 1 || component == 2);
    guint w_shift = chroma ? image->chroma_w_shift : 0,
          h_shift = chroma ? image->chroma_h_shift : 0;

    *w = ((gsize)image->width + (1u << w_shift) - 1) >> w_shift;
    *h = ((gsize)image->height + (1u << h_shift) - 1) >> h_shift;
}

/* Do the samples of two components alternate, so that copying rows takes both? */
static gboolean interleave(const DcaeImage *image, guint a, guint b)
{
    const DcaeComponent *x = &image->component[a], *y = &image->component[b];
    gssize apart = y->data - x->data;
    gsize w[2], h[2];

    component_size(image, a, &w[0], &h[0]);
    component_size(image, b, &w[1], &h[1]);
    return w[0] == w[1] && h[0] == h[1] && x->row_stride == y->row_stride &&
           x->pixel_stride == y->pixel_stride && apart > -x->pixel_stride &&
           apart < x->pixel_stride;
}

/* Appends a plane of the components in `members`, a mask of component numbers. */
static void add_plane(const DcaeImage *image, guint members, gboolean gather,
                      DcaeCudaLayout *layout)
{
    DcaeCudaPlane *plane = &layout->plane[layout->n_planes];
    gsize last = 0;

    *plane = (DcaeCudaPlane){.gather = gather, .offset = layout->bytes};
    for (guint i = 0; i < 4; i++) {
        if (!(members >> i & 1))
            continue;
        const DcaeComponent *c = &image->component[i];
        if (plane->host == NULL || c->data < plane->host)
            plane->host = c->data;
        plane->row_stride = c->row_stride;
        plane->pixel_stride = c->pixel_stride;
        component_size(image, i, &plane->w, &plane->rows);
    }
    for (guint i = 0; i < 4; i++) {
        if (!(members >> i & 1))
            continue;
        layout->plane_of[i] = layout->n_planes;
        layout->delta[i] = (gsize)(image->component[i].data - plane->host);
        last = MAX(last, layout->delta[i]);
    }
    plane->row_bytes = gather ? plane->w : (plane->w - 1) * (gsize)plane->pixel_stride + last + 1;
    layout->bytes += plane->row_bytes * plane->rows;
    layout->n_planes++;
}

void dcae_cuda_layout(const DcaeImage *image, gboolean read, DcaeCudaLayout *layout)
{
    guint placed = 0;

    *layout = (DcaeCudaLayout){.n_components = component_count(image, read)};
    if (image->color == DCAE_COLOR_GRAY && layout->n_components == 4)
        layout->n_components = 2;
    for (guint i = 0; i < layout->n_components; i++) {
        guint a = nth_component(image, i), members = 1u << a;
        gssize together = 1;
        if (placed >> a & 1)
            continue;
        for (guint j = i + 1; j < layout->n_components; j++) {
            guint b = nth_component(image, j);
            if (!interleave(image, a, b))
                continue;
            members |= 1u << b;
            together++;
        }
        /* Rows that hold bytes of others are read whole, but not written. */
        gssize step = image->component[a].pixel_stride;
        if (step < 1 || (!read && step != together)) {
            members = 1u << a;
            add_plane(image, members, TRUE, layout);
        } else {
            add_plane(image, members, FALSE, layout);
        }
        placed |= members;
    }
}

void dcae_cuda_layout_pack(const DcaeCudaLayout *layout, guint8 *staging)
{
    for (guint i = 0; i < layout->n_planes; i++) {
        const DcaeCudaPlane *p = &layout->plane[i];
        guint8 *to = staging + p->offset;
        for (gsize y = 0; y < p->rows; y++, to += p->row_bytes) {
            const guint8 *from = p->host + (gssize)y * p->row_stride;
            if (!p->gather)
                memcpy(to, from, p->row_bytes);
            for (gsize x = 0; p->gather && x < p->w; x++)
                to[x] = from[(gssize)x * p->pixel_stride];
        }
    }
}

void dcae_cuda_layout_unpack(const DcaeCudaLayout *layout, const guint8 *staging)
{
    for (guint i = 0; i < layout->n_planes; i++) {
        const DcaeCudaPlane *p = &layout->plane[i];
        const guint8 *from = staging + p->offset;
        for (gsize y = 0; y < p->rows; y++, from += p->row_bytes) {
            guint8 *to = p->host + (gssize)y * p->row_stride;
            if (!p->gather)
                memcpy(to, from, p->row_bytes);
            for (gsize x = 0; p->gather && x < p->w; x++)
                to[(gssize)x * p->pixel_stride] = from[x];
        }
    }
}

void dcae_cuda_picture(const DcaeImage *image, gboolean read, CUdeviceptr data,
                       DcaeKernelImage *picture)
{
    DcaeCudaLayout layout;

    dcae_cuda_layout(image, read, &layout);
    *picture = (DcaeKernelImage){
        .w = (gint)image->width,
        .h = (gint)image->height,
        .color = (gint)image->color,
        .w_shift = (gint)image->chroma_w_shift,
        .h_shift = (gint)image->chroma_h_shift,
        .full_range = image->full_range,
        .kr = (float)image->kr,
        .kb = (float)image->kb,
        .chroma_x = (float)image->chroma_x,
        .chroma_y = (float)image->chroma_y,
    };
    for (guint i = 0; i < layout.n_components; i++) {
        guint c = nth_component(image, i);
        const DcaeCudaPlane *plane = &layout.plane[layout.plane_of[c]];
        picture->component[c] =
            data != 0
                ? (DcaeKernelComponent){.data = data + plane->offset + layout.delta[c],
                                        .row_stride = (gint64)plane->row_bytes,
                                        .pixel_stride = plane->gather ? 1 : plane->pixel_stride}
                : (DcaeKernelComponent){.data = (CUdeviceptr)image->component[c].data,
                                        .row_stride = image->component[c].row_stride,
                                        .pixel_stride = image->component[c].pixel_stride};
    }
}

gsize dcae_cuda_latent_bytes(const DcaeLatent *latent)
{
    return (gsize)latent->c * latent->h * latent->w * (latent->format == DCAE_LATENT_F32 ? 4 : 2);
}
