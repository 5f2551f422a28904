/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_tiling.c - checks a geometry and cuts the frame into the reference's tiles. The grid is a
 * product of two axes, so everything is done for one axis at a time. Sizes only; dcae_graph.c turns
 * tiles into ops.
 */
#include "dcae_tiling.h"

#include "dcae_tensor.h"

/* Larger frames are refused before any size is computed: 2^16 pixels a side keeps every count of
 * rows and columns in 32 bits. */
#define MAX_SIDE 65536u
#define DEFAULT_TILE 512u
/* A program holds the ops of every tile: a thousand tiles are some hundred thousand of them. */
#define MAX_TILES 1024u

/* One axis of the grid: tile i begins at i·stride. */
typedef struct {
    guint in;     /* begin: pixels (encode) or latents (decode) */
    guint latent; /* length in latents */
    guint out;    /* begin of what is kept: latents (encode) or pixels (decode) */
    guint keep;   /* length of what is kept */
    guint blend;  /* shared with the tile before */
} Span;

static gboolean settings_error(GError **error, const char *what, guint value, guint ratio)
{
    guint down = value / ratio * ratio;
    g_autofree char *legal = down > 0 ? g_strdup_printf("values are %u and %u", down, down + ratio)
                                      : g_strdup_printf("value is %u", ratio);

    g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                "%s is %u, which is no multiple of the model's ratio %u; the nearest legal %s",
                what, value, ratio, legal);
    return FALSE;
}

static gboolean resolve_tile(const char *side, guint ratio, guint *tile, guint *stride,
                             GError **error)
{
    g_autofree char *tile_name = g_strdup_printf("tile-%s", side);
    g_autofree char *stride_name = g_strdup_printf("tile-stride-%s", side);

    if (*tile == 0)
        *tile = dcae_round_up(DEFAULT_TILE, ratio);
    if (*tile > MAX_SIDE) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                    "%s is %u, more than the largest frame side %u", tile_name, *tile, MAX_SIDE);
        return FALSE;
    }
    if (*tile % ratio != 0)
        return settings_error(error, tile_name, *tile, ratio);
    if (*stride == 0) {
        guint overlap = dcae_round_up(dcae_ceil_div(*tile, 8), ratio);
        *stride = *tile > overlap ? *tile - overlap : *tile;
    }
    if (*stride > *tile) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                    "%s is %u, more than %s %u; the nearest legal value is %u", stride_name,
                    *stride, tile_name, *tile, *tile);
        return FALSE;
    }
    if (*stride % ratio != 0)
        return settings_error(error, stride_name, *stride, ratio);
    return TRUE;
}

static gboolean resolve_encode(guint ratio, DcaeGeometry *g, GError **error)
{
    if (g->width < 1 || g->height < 1 || g->width > MAX_SIDE || g->height > MAX_SIDE) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SHAPE,
                    "a picture of %u×%u can't be encoded: each side must be 1 to %u pixels",
                    g->width, g->height, MAX_SIDE);
        return FALSE;
    }
    if (g->edge == DCAE_EDGE_CROP && (g->width < ratio || g->height < ratio)) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                    "edge-mode crop leaves nothing of a %u×%u picture: the model needs at least "
                    "%u×%u; use extend or zero",
                    g->width, g->height, ratio, ratio);
        return FALSE;
    }
    return TRUE;
}

static gboolean resolve_decode(guint ratio, DcaeGeometry *g, GError **error)
{
    if (g->latent_width < 1 || g->latent_height < 1 || g->latent_width > MAX_SIDE / ratio ||
        g->latent_height > MAX_SIDE / ratio) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SHAPE,
                    "a latent of %u×%u can't be decoded: each side must be 1 to %u",
                    g->latent_width, g->latent_height, MAX_SIDE / ratio);
        return FALSE;
    }
    if (g->width == 0)
        g->width = g->latent_width * ratio;
    if (g->height == 0)
        g->height = g->latent_height * ratio;
    if (g->width > g->latent_width * ratio || g->height > g->latent_height * ratio) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SHAPE,
                    "a %u×%u picture doesn't fit a latent of %u×%u, which stands for %u×%u pixels",
                    g->width, g->height, g->latent_width, g->latent_height, g->latent_width * ratio,
                    g->latent_height * ratio);
        return FALSE;
    }
    return TRUE;
}

/* Refuses more tiles than a program can hold. */
static gboolean check_tiles(DcaeDirection direction, guint ratio, const DcaeGeometry *g,
                            GError **error)
{
    gboolean encode = direction == DCAE_ENCODE;
    guint64 w = encode ? dcae_round_up(g->width, ratio) : g->latent_width * ratio;
    guint64 h = encode ? dcae_round_up(g->height, ratio) : g->latent_height * ratio;
    guint64 columns = (w + g->tiling.stride_width - 1) / g->tiling.stride_width;
    guint64 rows = (h + g->tiling.stride_height - 1) / g->tiling.stride_height;

    if (columns * rows <= MAX_TILES)
        return TRUE;
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                "tile-stride-width %u and tile-stride-height %u make %" G_GUINT64_FORMAT
                " tiles of this frame, more than %u; use larger tiles or tiling exact",
                g->tiling.stride_width, g->tiling.stride_height, columns * rows, MAX_TILES);
    return FALSE;
}

gboolean dcae_tiling_resolve(DcaeDirection direction, guint ratio, guint model_channels,
                             gboolean channel_prefix, const DcaeGeometry *geometry,
                             DcaeGeometry *resolved, GError **error)
{
    DcaeGeometry g = *geometry;

    if (g.batch == 0)
        g.batch = 1;
    if (g.batch > 64) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS, "batch-size is %u, more than 64",
                    g.batch);
        return FALSE;
    }
    if (g.latent_channels == 0)
        g.latent_channels = model_channels;
    if (g.latent_channels > model_channels ||
        (g.latent_channels < model_channels && !channel_prefix)) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                    g.latent_channels > model_channels
                        ? "latent-channels is %u, but the model has %u"
                        : "latent-channels is %u, but this model can't use fewer than its %u "
                          "latent channels",
                    g.latent_channels, model_channels);
        return FALSE;
    }
    if (!(direction == DCAE_ENCODE ? resolve_encode(ratio, &g, error)
                                   : resolve_decode(ratio, &g, error)))
        return FALSE;
    if (g.tiling.mode == DCAE_TILING_BLEND &&
        (!resolve_tile("width", ratio, &g.tiling.tile_width, &g.tiling.stride_width, error) ||
         !resolve_tile("height", ratio, &g.tiling.tile_height, &g.tiling.stride_height, error) ||
         !check_tiles(direction, ratio, &g, error)))
        return FALSE;
    *resolved = g;
    return TRUE;
}

/* The reference's loop over one axis. extent: pixels (encode) or latents (decode) of the frame;
 * wanted: latents or pixels that the whole output has. Tiles that keep nothing are left out: only
 * tiles after them could need them, and there are none. */
static GArray *cut_axis(DcaeDirection direction, guint ratio, guint extent, guint tile,
                        guint stride, guint wanted)
{
    GArray *spans = g_array_new(FALSE, FALSE, sizeof(Span));
    guint unit = direction == DCAE_ENCODE ? 1 : ratio;     /* pixels in one unit of extent */
    guint out_unit = direction == DCAE_ENCODE ? ratio : 1; /* pixels in one unit of output */
    guint overlap = (tile - stride) / out_unit;

    for (guint i = 0; i * (stride / unit) < extent; i++) {
        Span s = {.in = i * (stride / unit), .out = i * (stride / out_unit)};
        guint pixels = MIN(tile, (extent - s.in) * unit);
        s.latent = dcae_ceil_div(pixels, ratio);
        if (s.out >= wanted)
            break;
        s.keep = MIN(MIN(s.latent * ratio / out_unit, stride / out_unit), wanted - s.out);
        if (i > 0) {
            const Span *before = &g_array_index(spans, Span, i - 1);
            s.blend = MIN(overlap, MIN(before->latent, s.latent) * ratio / out_unit);
        }
        g_array_append_val(spans, s);
    }
    return spans;
}

static void cut_grid(const GArray *rows, const GArray *columns, DcaeLayout *layout)
{
    layout->n_tiles = rows->len * columns->len;
    layout->tiles = g_new0(DcaeTile, layout->n_tiles);
    for (guint n = 0; n < layout->n_tiles; n++) {
        guint i = n / columns->len, j = n % columns->len;
        const Span *y = &g_array_index(rows, Span, i), *x = &g_array_index(columns, Span, j);
        layout->tiles[n] = (DcaeTile){
            .in_x = x->in,
            .in_y = y->in,
            .latent_w = x->latent,
            .latent_h = y->latent,
            .out_x = x->out,
            .out_y = y->out,
            .out_w = x->keep,
            .out_h = y->keep,
            .above = i > 0 ? (gint)(n - columns->len) : -1,
            .left = j > 0 ? (gint)n - 1 : -1,
            .blend_h = y->blend,
            .blend_w = x->blend,
        };
    }
}

/* Size of the latent and of the picture that it stands for. */
static void measure(DcaeDirection direction, guint ratio, const DcaeGeometry *g, DcaeLayout *layout)
{
    layout->picture_w = g->width;
    layout->picture_h = g->height;
    if (direction == DCAE_DECODE) {
        layout->latent_w = g->latent_width;
        layout->latent_h = g->latent_height;
    } else if (g->edge == DCAE_EDGE_CROP) {
        layout->latent_w = g->width / ratio;
        layout->latent_h = g->height / ratio;
        layout->picture_w = layout->latent_w * ratio;
        layout->picture_h = layout->latent_h * ratio;
    } else {
        layout->latent_w = dcae_ceil_div(g->width, ratio);
        layout->latent_h = dcae_ceil_div(g->height, ratio);
    }
}

void dcae_tiling_layout(DcaeDirection direction, guint ratio, const DcaeGeometry *g,
                        DcaeLayout *layout)
{
    const DcaeTiling *t = &g->tiling;
    gboolean encode = direction == DCAE_ENCODE;

    measure(direction, ratio, g, layout);
    /* With crop the reference's border tiles see the pixels that have no latent of their own; the
     * other modes cut the padded picture. */
    gboolean crop = encode && g->edge == DCAE_EDGE_CROP;
    guint full_w = crop ? g->width : layout->latent_w * ratio,
          full_h = crop ? g->height : layout->latent_h * ratio;
    gboolean tiled =
        t->mode == DCAE_TILING_BLEND && (full_w > t->tile_width || full_h > t->tile_height);

    if (!tiled) {
        layout->n_tiles = 1;
        layout->tiles = g_new0(DcaeTile, 1);
        *layout->tiles = (DcaeTile){
            .latent_w = layout->latent_w,
            .latent_h = layout->latent_h,
            .out_w = encode ? layout->latent_w : layout->picture_w,
            .out_h = encode ? layout->latent_h : layout->picture_h,
            .above = -1,
            .left = -1,
        };
        return;
    }
    g_autoptr(GArray) rows =
        cut_axis(direction, ratio, encode ? full_h : layout->latent_h, t->tile_height,
                 t->stride_height, encode ? layout->latent_h : layout->picture_h);
    g_autoptr(GArray) columns =
        cut_axis(direction, ratio, encode ? full_w : layout->latent_w, t->tile_width,
                 t->stride_width, encode ? layout->latent_w : layout->picture_w);
    cut_grid(rows, columns, layout);
}
