/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_tiling.h - how a frame is cut for the network: one piece, or the reference's grid of
 * overlapping tiles (blend). Knows sizes only; the network and memory are elsewhere.
 */
#ifndef DCAE_TILING_H
#define DCAE_TILING_H

#include "dcae.h"

/* A piece of the frame that runs through the network on its own. In: where it reads, in pixels
 * (encode) or latents (decode). Out: where its first out_w × out_h latents (encode) or pixels
 * (decode) go. */
typedef struct {
    guint in_x, in_y;
    guint latent_w, latent_h; /* size of the piece in latents */
    guint out_x, out_y, out_w, out_h;
    gint above, left;       /* index of the neighbour to blend with, or -1 */
    guint blend_h, blend_w; /* rows and columns that are blended, 0 where there is no neighbour */
} DcaeTile;

typedef struct {
    guint n_tiles;
    DcaeTile *tiles;            /* row by row */
    guint picture_w, picture_h; /* pixels that the latent stands for */
    guint latent_w, latent_h;   /* the whole latent */
} DcaeLayout;

/* Fills in the defaults and checks a geometry: *resolved is a copy without zeros (batch, tile and
 * stride, sizes) and with tiling.mode as asked. model_channels: the model's latent channels.
 * Errors: SETTINGS and SHAPE, naming the nearest legal values. */
gboolean dcae_tiling_resolve(DcaeDirection direction, guint ratio, guint model_channels,
                             gboolean channel_prefix, const DcaeGeometry *geometry,
                             DcaeGeometry *resolved, GError **error);

/* Cuts a resolved geometry: one piece unless tiling.mode is BLEND and the frame exceeds the tile in
 * either direction. Free layout->tiles with g_free(). */
void dcae_tiling_layout(DcaeDirection direction, guint ratio, const DcaeGeometry *resolved,
                        DcaeLayout *layout);

#endif
