/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_tiling.c - geometries: defaults, refusals by message, and the reference's grid.
 */
#include "dcae_tiling.h"

static DcaeGeometry picture(guint w, guint h, DcaeTilingMode mode)
{
    return (DcaeGeometry){.width = w, .height = h, .tiling.mode = mode};
}

static void refuse(DcaeDirection direction, guint ratio, DcaeGeometry g, gint code,
                   const char *message)
{
    DcaeGeometry out;
    g_autoptr(GError) error = NULL;

    g_assert_false(dcae_tiling_resolve(direction, ratio, 32, FALSE, &g, &out, &error));
    g_assert_error(error, DCAE_ERROR, code);
    g_assert_cmpstr(error->message, ==, message);
}

static void test_refusals(void)
{
    DcaeGeometry g = picture(1024, 1024, DCAE_TILING_BLEND);

    g.tiling.tile_width = 500;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-width is 500, which is no multiple of the model's ratio 32; the nearest legal "
           "values are 480 and 512");
    g.tiling.tile_width = 7;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-width is 7, which is no multiple of the model's ratio 32; the nearest legal "
           "value is 32");
    g.tiling.tile_width = 512;
    g.tiling.stride_width = 544;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-stride-width is 544, more than tile-width 512; the nearest legal value is 512");
    g.tiling.stride_width = 0;
    g.tiling.stride_height = 100;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-stride-height is 100, which is no multiple of the model's ratio 32; the nearest "
           "legal values are 96 and 128");
    g.tiling.stride_height = 0;
    g.tiling.tile_height = G_MAXUINT;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-height is 4294967295, more than the largest frame side 65536");
    g = picture(65536, 65536, DCAE_TILING_BLEND);
    g.tiling.tile_width = g.tiling.tile_height = 64;
    g.tiling.stride_width = g.tiling.stride_height = 32;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "tile-stride-width 32 and tile-stride-height 32 make 4194304 tiles of this frame, more "
           "than 1024; use larger tiles or tiling exact");

    refuse(DCAE_ENCODE, 32, picture(0, 8, DCAE_TILING_OFF), DCAE_ERROR_SHAPE,
           "a picture of 0×8 can't be encoded: each side must be 1 to 65536 pixels");
    g = picture(31, 64, DCAE_TILING_OFF);
    g.edge = DCAE_EDGE_CROP;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "edge-mode crop leaves nothing of a 31×64 picture: the model needs at least 32×32; use "
           "extend or zero");
    g = picture(64, 64, DCAE_TILING_OFF);
    g.latent_channels = 3;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS,
           "latent-channels is 3, but this model can't use fewer than its 32 latent channels");
    g.latent_channels = 33;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS, "latent-channels is 33, but the model has 32");
    g = picture(64, 64, DCAE_TILING_OFF);
    g.batch = 65;
    refuse(DCAE_ENCODE, 32, g, DCAE_ERROR_SETTINGS, "batch-size is 65, more than 64");
    g = (DcaeGeometry){.latent_width = 2, .latent_height = 2, .width = 65};
    refuse(DCAE_DECODE, 32, g, DCAE_ERROR_SHAPE,
           "a 65×64 picture doesn't fit a latent of 2×2, which stands for 64×64 pixels");
    refuse(DCAE_DECODE, 32, (DcaeGeometry){.latent_width = 2049, .latent_height = 1},
           DCAE_ERROR_SHAPE, "a latent of 2049×1 can't be decoded: each side must be 1 to 2048");
}

static void test_default_stride(void)
{
    static const guint expected[][3] = {
        {8, 512, 448}, {32, 512, 448}, {64, 512, 448}, {128, 512, 384}};

    for (guint i = 0; i < G_N_ELEMENTS(expected); i++) {
        DcaeGeometry g = picture(1024, 1024, DCAE_TILING_BLEND), out;
        g_assert_true(dcae_tiling_resolve(DCAE_ENCODE, expected[i][0], 32, FALSE, &g, &out, NULL));
        g_assert_cmpuint(out.tiling.tile_width, ==, expected[i][1]);
        g_assert_cmpuint(out.tiling.stride_height, ==, expected[i][2]);
    }
}

static DcaeLayout lay_out(DcaeDirection direction, guint ratio, DcaeGeometry g)
{
    DcaeGeometry resolved;
    DcaeLayout layout = {0};

    g_assert_true(dcae_tiling_resolve(direction, ratio, 32, FALSE, &g, &resolved, NULL));
    dcae_tiling_layout(direction, ratio, &resolved, &layout);
    return layout;
}

/* 1024 at 512 and 448: tiles at 0, 448 and 896; the last one is 128 pixels, 4 latents. */
static void test_reference_grid(void)
{
    DcaeLayout layout = lay_out(DCAE_ENCODE, 32, picture(1024, 480, DCAE_TILING_BLEND));
    static const guint expected[][4] = {{0, 16, 14, 0}, {448, 16, 14, 2}, {896, 4, 4, 2}};

    g_assert_cmpuint(layout.n_tiles, ==,
                     6); /* 480 rows exceed the stride: a second row of tiles of 32 pixels */
    for (guint i = 0; i < 3; i++) {
        g_assert_cmpuint(layout.tiles[i].in_x, ==, expected[i][0]);
        g_assert_cmpuint(layout.tiles[i].latent_w, ==, expected[i][1]);
        g_assert_cmpuint(layout.tiles[i].out_w, ==, expected[i][2]);
        g_assert_cmpuint(layout.tiles[i].blend_w, ==, expected[i][3]);
    }
    g_assert_cmpuint(layout.tiles[3].latent_h, ==, 1);
    g_assert_cmpuint(layout.tiles[3].blend_h, ==, 1); /* two rows overlap, but the tile has one */
    g_free(layout.tiles);
}

/* Whatever the sizes: what tiles keep covers the output exactly once. */
static void check_cover(DcaeDirection direction, guint ratio, DcaeGeometry g)
{
    DcaeLayout layout = lay_out(direction, ratio, g);
    guint w = direction == DCAE_ENCODE ? layout.latent_w : layout.picture_w;
    guint h = direction == DCAE_ENCODE ? layout.latent_h : layout.picture_h;
    g_autofree guint8 *seen = g_new0(guint8, (gsize)w * h);

    for (guint i = 0; i < layout.n_tiles; i++) {
        const DcaeTile *t = &layout.tiles[i];
        g_assert_cmpuint(t->out_x + t->out_w, <=, w);
        g_assert_cmpuint(t->out_y + t->out_h, <=, h);
        g_assert_cmpint(t->above, <, (gint)i);
        g_assert_cmpint(t->left, <, (gint)i);
        for (guint y = t->out_y; y < t->out_y + t->out_h; y++)
            for (guint x = t->out_x; x < t->out_x + t->out_w; x++)
                g_assert_cmpuint(seen[(gsize)y * w + x]++, ==, 0);
    }
    for (gsize i = 0; i < (gsize)w * h; i++)
        g_assert_cmpuint(seen[i], ==, 1);
    g_free(layout.tiles);
}

static void test_cover(void)
{
    for (guint w = 8; w < 90; w += 3)
        for (guint stride = 8; stride <= 32; stride += 8)
            for (guint edge = 0; edge < 3; edge++) {
                DcaeGeometry g = picture(w, 57, DCAE_TILING_BLEND);
                g.edge = (DcaeEdgeMode)edge;
                g.tiling.tile_width = 32;
                g.tiling.tile_height = 24;
                g.tiling.stride_width = stride;
                g.tiling.stride_height = 16;
                check_cover(DCAE_ENCODE, 8, g);
                g.latent_width = (w + 7) / 8;
                g.latent_height = 8;
                check_cover(DCAE_DECODE, 8, g);
            }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tiling/refusals", test_refusals);
    g_test_add_func("/tiling/default-stride", test_default_stride);
    g_test_add_func("/tiling/reference-grid", test_reference_grid);
    g_test_add_func("/tiling/cover", test_cover);
    return g_test_run();
}
