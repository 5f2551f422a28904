/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_config.c - config.json: every key and its default, every rule of legality, the canonical
 * text, and the released models.
 */
#include "dcae_config.h"

#include <locale.h>
#include <math.h>
#include <string.h>

static void parse(const char *text, DcaeConfig *config)
{
    GError *error = NULL;
    gboolean ok = dcae_config_parse(config, text, "config.json", &error);
    g_assert_no_error(error);
    g_assert_true(ok);
}

/* Equal in every field; unused stages are zero in both. */
static void assert_same(const DcaeConfig *a, const DcaeConfig *b)
{
    char *x = dcae_config_to_json(a), *y = dcae_config_to_json(b);
    g_assert_cmpstr(x, ==, y);
    g_free(x);
    g_free(y);
    g_assert_cmpuint(a->n_stages, ==, b->n_stages);
    g_assert_cmpmem(a->encoder, sizeof a->encoder, b->encoder, sizeof b->encoder);
    g_assert_cmpmem(a->decoder, sizeof a->decoder, b->decoder, sizeof b->decoder);
}

static void test_defaults(void)
{
    static const guint widths[] = {128, 256, 512, 512, 1024, 1024};
    static const guint layers[] = {2, 2, 2, 3, 3, 3};
    DcaeConfig config;
    parse(
        "{\"_class_name\":\"AutoencoderDC\",\"_diffusers_version\":\"0.1\",\"other\":{\"a\":[1]}}",
        &config);
    g_assert_cmpuint(config.in_channels, ==, 3);
    g_assert_cmpuint(config.latent_channels, ==, 32);
    g_assert_cmpuint(config.head_dim, ==, 32);
    g_assert_cmpuint(config.n_stages, ==, 6);
    g_assert_cmpuint(dcae_config_ratio(&config), ==, 32);
    for (guint i = 0; i < 6; i++) {
        g_assert_cmpuint(config.encoder[i].width, ==, widths[i]);
        g_assert_cmpuint(config.decoder[i].width, ==, widths[i]);
        g_assert_cmpuint(config.encoder[i].layers, ==, layers[i]);
        g_assert_cmpuint(config.decoder[i].layers, ==, 3);
        g_assert_cmpint(config.encoder[i].block, ==, DCAE_BLOCK_RES);
        g_assert_cmpint(config.decoder[i].norm, ==, DCAE_NORM_RMS);
        g_assert_cmpint(config.decoder[i].act, ==, DCAE_ACT_SILU);
        /* The default scales mean nothing where all blocks are residual. */
        g_assert_cmpuint(config.encoder[i].n_scales, ==, 0);
    }
    g_assert_true(config.down_unshuffle);
    g_assert_false(config.up_interpolate);
    g_assert_true(config.encoder_out_shortcut);
    g_assert_true(config.decoder_in_shortcut);
    g_assert_cmpint(config.decoder_conv_act, ==, DCAE_ACT_RELU);
    g_assert_cmpfloat(config.scaling_factor, ==, 1.0);
}

/* The default scales do mean something where the blocks are attention. */
static void test_default_scales(void)
{
    DcaeConfig config;
    parse("{\"encoder_block_types\":\"EfficientViTBlock\"}", &config);
    for (guint i = 0; i < 6; i++) {
        g_assert_cmpint(config.encoder[i].block, ==, DCAE_BLOCK_EFFICIENT_VIT);
        g_assert_cmpuint(config.encoder[i].n_scales, ==, i < 3 ? 0 : 1);
        g_assert_cmpuint(config.encoder[i].scales[0], ==, i < 3 ? 0 : 5);
        g_assert_cmpint(config.decoder[i].block, ==, DCAE_BLOCK_RES);
    }
}

static const char every_key[] =
    "{\"in_channels\":4,\"latent_channels\":8,\"attention_head_dim\":12,"
    "\"encoder_block_types\":[\"ResBlock\",\"EfficientViTBlock\",\"ResBlock\"],"
    "\"decoder_block_types\":\"EfficientViTBlock\","
    "\"encoder_block_out_channels\":[16,32,64],\"decoder_block_out_channels\":[24,32,64],"
    "\"encoder_layers_per_block\":[0,4,0],\"decoder_layers_per_block\":[1,2,3],"
    "\"encoder_qkv_multiscales\":[[3],[3,7],[]],\"decoder_qkv_multiscales\":[[],[1],[9,3,5]],"
    "\"downsample_block_type\":\"conv\",\"upsample_block_type\":\"interpolate\","
    "\"decoder_norm_types\":[\"batch_norm\",\"rms_norm\",\"batch_norm\"],"
    "\"decoder_act_fns\":[\"ReLU\",null,\"GELU\"],"
    "\"encoder_out_shortcut\":false,\"decoder_in_shortcut\":false,"
    "\"decoder_conv_act_fn\":\"Mish\",\"scaling_factor\":-2.5e-1}";

static void test_every_key(void)
{
    DcaeConfig config;
    parse(every_key, &config);
    g_assert_cmpuint(config.in_channels, ==, 4);
    g_assert_cmpuint(config.latent_channels, ==, 8);
    g_assert_cmpuint(config.head_dim, ==, 12);
    g_assert_cmpuint(dcae_config_ratio(&config), ==, 4);
    g_assert_cmpint(config.encoder[1].block, ==, DCAE_BLOCK_EFFICIENT_VIT);
    g_assert_cmpint(config.decoder[0].block, ==, DCAE_BLOCK_EFFICIENT_VIT);
    g_assert_cmpuint(config.encoder[2].width, ==, 64);
    g_assert_cmpuint(config.decoder[2].width, ==, 64);
    g_assert_cmpuint(config.encoder[0].n_scales, ==, 0);
    g_assert_cmpuint(config.encoder[1].n_scales, ==, 2);
    g_assert_cmpuint(config.encoder[1].scales[1], ==, 7);
    g_assert_cmpuint(config.decoder[2].scales[0], ==, 9);
    g_assert_false(config.down_unshuffle);
    g_assert_true(config.up_interpolate);
    g_assert_cmpint(config.encoder[1].act, ==, DCAE_ACT_SILU);
    g_assert_cmpint(config.encoder[1].norm, ==, DCAE_NORM_RMS);
    g_assert_cmpint(config.decoder[0].norm, ==, DCAE_NORM_BATCH);
    g_assert_cmpint(config.decoder[1].norm, ==, DCAE_NORM_RMS);
    g_assert_cmpint(config.decoder[0].act, ==, DCAE_ACT_RELU);
    g_assert_cmpint(config.decoder[1].act, ==, DCAE_ACT_NONE);
    g_assert_cmpint(config.decoder[2].act, ==, DCAE_ACT_GELU);
    g_assert_false(config.encoder_out_shortcut);
    g_assert_false(config.decoder_in_shortcut);
    g_assert_cmpint(config.decoder_conv_act, ==, DCAE_ACT_MISH);
    g_assert_cmpfloat(config.scaling_factor, ==, -0.25);
}

/* Any string but the two that mean something is the other form, as in the reference. */
static void test_step_types(void)
{
    DcaeConfig config;
    parse("{\"downsample_block_type\":\"Conv\",\"upsample_block_type\":\"x\"}", &config);
    g_assert_false(config.down_unshuffle);
    g_assert_false(config.up_interpolate);
    parse("{\"decoder_act_fns\":\"swish\"}", &config);
    g_assert_cmpint(config.decoder[3].act, ==, DCAE_ACT_SILU);
    parse("{\"decoder_act_fns\":null}", &config);
    g_assert_cmpint(config.decoder[3].act, ==, DCAE_ACT_NONE);
}

static const struct {
    const char *text, *message;
    DcaeError code;
} faults[] = {
    {"", "object is expected", DCAE_ERROR_FORMAT},
    {"[]", "object is expected", DCAE_ERROR_FORMAT},
    {"<html>", "object is expected", DCAE_ERROR_FORMAT},
    {"{\"a\":1", "cut short", DCAE_ERROR_FORMAT},
    {"{\"a\":1}{", "text follows", DCAE_ERROR_FORMAT},
    {"{\"a\":nan}", "no valid JSON", DCAE_ERROR_FORMAT},
    {"{\"a\":1,\"a\":1}", "twice", DCAE_ERROR_FORMAT},
    {"{\"\xff\":1}", "UTF-8", DCAE_ERROR_FORMAT},
    {"{\"_class_name\":\"AutoencoderKL\"}", "'_class_name' is 'AutoencoderKL'", DCAE_ERROR_CONFIG},
    {"{\"_class_name\":7}", "'_class_name'", DCAE_ERROR_CONFIG},
    {"{\"in_channels\":0}", "'in_channels'", DCAE_ERROR_CONFIG},
    {"{\"in_channels\":3.5}", "'in_channels'", DCAE_ERROR_CONFIG},
    {"{\"in_channels\":\"3\"}", "'in_channels'", DCAE_ERROR_CONFIG},
    {"{\"in_channels\":null}", "'in_channels'", DCAE_ERROR_CONFIG},
    {"{\"in_channels\":99999999999999999999}", "beyond 64 bits", DCAE_ERROR_FORMAT},
    {"{\"in_channels\":9223372036854775807}", "'in_channels'", DCAE_ERROR_CONFIG},
    {"{\"latent_channels\":-32}", "'latent_channels'", DCAE_ERROR_CONFIG},
    {"{\"latent_channels\":1000000}", "'latent_channels'", DCAE_ERROR_CONFIG},
    {"{\"latent_channels\":48}", "'latent_channels' (48) must divide", DCAE_ERROR_CONFIG},
    {"{\"latent_channels\":48,\"encoder_out_shortcut\":false}", "'decoder_in_shortcut'",
     DCAE_ERROR_CONFIG},
    {"{\"attention_head_dim\":[32]}", "'attention_head_dim'", DCAE_ERROR_CONFIG},
    {"{\"encoder_block_types\":\"Block\"}", "'encoder_block_types'", DCAE_ERROR_CONFIG},
    {"{\"encoder_block_types\":\"resblock\"}", "'encoder_block_types'", DCAE_ERROR_CONFIG},
    {"{\"decoder_block_types\":[\"ResBlock\"]}", "'decoder_block_types' has 1 entries",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_block_types\":null}", "'decoder_block_types'", DCAE_ERROR_CONFIG},
    {"{\"encoder_block_out_channels\":[]}", "'encoder_block_out_channels': the list is empty",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_block_out_channels\":128}", "'encoder_block_out_channels': an array",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_block_out_channels\":[128,256]}", "has 6 entries (the default)",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_block_out_channels\":[1,1,1,1,1,1,1,1,1,1,1,1,1]}", "more than 12",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_block_out_channels\":[128,256]}", "'decoder_block_out_channels' has 2 entries",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_block_out_channels\":[128,256,512,512,1024,0]}", "'decoder_block_out_channels'",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_layers_per_block\":[2,2,0,3,3,3]}", "'encoder_layers_per_block' has 0 for stage 2",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_layers_per_block\":[2,2,2,3,3,1001]}", "'decoder_layers_per_block'",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_layers_per_block\":[2,2]}", "'encoder_layers_per_block' has 2 entries",
     DCAE_ERROR_CONFIG},
    {"{\"encoder_qkv_multiscales\":[5]}", "'encoder_qkv_multiscales'", DCAE_ERROR_CONFIG},
    {"{\"encoder_qkv_multiscales\":[[],[],[]]}", "'encoder_qkv_multiscales' has 3 entries",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_block_types\":\"EfficientViTBlock\","
     "\"decoder_qkv_multiscales\":[[],[],[],[],[],[4]]}",
     "'decoder_qkv_multiscales' has 4 for stage 5", DCAE_ERROR_CONFIG},
    {"{\"decoder_qkv_multiscales\":[[],[],[],[],[],[3,3,3,3,3,3,3,3,3]]}", "more than 8 entries",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_qkv_multiscales\":[[],[],[],[],[],[1001]]}", "1 to 255", DCAE_ERROR_CONFIG},
    {"{\"downsample_block_type\":true}", "'downsample_block_type'", DCAE_ERROR_CONFIG},
    {"{\"upsample_block_type\":null}", "'upsample_block_type'", DCAE_ERROR_CONFIG},
    {"{\"decoder_norm_types\":\"layer_norm\"}", "'decoder_norm_types': layer_norm can't run",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_norm_types\":[\"rms_norm\",\"rms_norm\",\"rms_norm\",\"rms_norm\",\"rms_norm\","
     "\"layer_norm\"]}",
     "layer_norm can't run", DCAE_ERROR_CONFIG},
    {"{\"decoder_norm_types\":\"group_norm\"}", "'decoder_norm_types'", DCAE_ERROR_CONFIG},
    {"{\"decoder_norm_types\":[\"rms_norm\"]}", "'decoder_norm_types' has 1 entries",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_act_fns\":\"relu6\"}", "'decoder_act_fns'", DCAE_ERROR_CONFIG},
    {"{\"decoder_act_fns\":[\"silu\",7,\"silu\",\"silu\",\"silu\",\"silu\"]}", "'decoder_act_fns'",
     DCAE_ERROR_CONFIG},
    {"{\"decoder_conv_act_fn\":null}", "'decoder_conv_act_fn'", DCAE_ERROR_CONFIG},
    {"{\"encoder_out_shortcut\":1}", "'encoder_out_shortcut'", DCAE_ERROR_CONFIG},
    {"{\"decoder_in_shortcut\":\"true\"}", "'decoder_in_shortcut'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":0}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":1e-39}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":-1e39}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":1e400}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":null}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    {"{\"scaling_factor\":\"0.4\"}", "'scaling_factor'", DCAE_ERROR_CONFIG},
    /* Steps: 4 × 128 is not divisible by 384; a width of 130 has no quarter. */
    {"{\"encoder_block_out_channels\":[128,384,512,512,1024,1024]}",
     "'encoder_block_out_channels': between stages 0 and 1", DCAE_ERROR_CONFIG},
    {"{\"decoder_block_out_channels\":[128,384,512,512,1024,1024]}",
     "'decoder_block_out_channels': between stages 0 and 1", DCAE_ERROR_CONFIG},
    {"{\"encoder_block_out_channels\":[65,130,260,260,1040,1040],\"latent_channels\":1}",
     "multiple of 4", DCAE_ERROR_CONFIG},
    {"{\"encoder_block_types\":\"EfficientViTBlock\",\"attention_head_dim\":129}",
     "at least 'attention_head_dim' (129)", DCAE_ERROR_CONFIG},
};

static void test_faults(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(faults); i++) {
        DcaeConfig config;
        GError *error = NULL;
        g_assert_false(dcae_config_parse(&config, faults[i].text, "config.json", &error));
        g_test_message("%s", error->message);
        g_assert_error(error, DCAE_ERROR, (int)faults[i].code);
        g_assert_true(g_str_has_prefix(error->message, "config.json: "));
        g_assert_nonnull(strstr(error->message, faults[i].message));
        g_clear_error(&error);
        g_assert_false(dcae_config_parse(&config, faults[i].text, "config.json", NULL));
    }
}

static const char *const legal[] = {
    /* One stage alone: no compression in space. */
    "{\"encoder_block_out_channels\":[64],\"decoder_block_out_channels\":[64],"
    "\"encoder_layers_per_block\":[1],\"decoder_layers_per_block\":[2],"
    "\"encoder_qkv_multiscales\":[[]],\"decoder_qkv_multiscales\":[[]]}",
    /* First and last stage empty. */
    "{\"encoder_layers_per_block\":[0,2,2,3,3,0],\"decoder_layers_per_block\":[0,3,3,3,3,0]}",
    /* An empty attention stage may be narrower than a head. */
    "{\"encoder_block_types\":\"EfficientViTBlock\",\"attention_head_dim\":200,"
    "\"encoder_layers_per_block\":[0,2,2,3,3,3]}",
    /* The steps of an empty first stage need no divisibility: 4 × 100 and 256. */
    "{\"encoder_block_out_channels\":[100,256,512,512,1024,1024],"
    "\"decoder_block_out_channels\":[100,256,512,512,1024,1024],"
    "\"encoder_layers_per_block\":[0,2,2,3,3,3],\"decoder_layers_per_block\":[0,3,3,3,3,3]}",
    /* A width that is no multiple of the head dimension. */
    "{\"encoder_block_types\":\"EfficientViTBlock\",\"attention_head_dim\":48}",
    /* Even kernel sizes where no block uses them. */
    "{\"encoder_qkv_multiscales\":[[4],[],[],[],[],[]]}",
    /* A stride-2 convolution needs no multiple of 4. */
    "{\"encoder_block_out_channels\":[65,130],\"decoder_block_out_channels\":[65,130],"
    "\"encoder_layers_per_block\":[1,1],\"decoder_layers_per_block\":[2,2],"
    "\"encoder_qkv_multiscales\":[[],[]],\"decoder_qkv_multiscales\":[[],[]],"
    "\"downsample_block_type\":\"conv\",\"latent_channels\":13}",
    /* Without shortcuts the latent width is free. */
    "{\"latent_channels\":48,\"encoder_out_shortcut\":false,\"decoder_in_shortcut\":false}",
};

/* Canonical text, read again, gives the same configuration and the same text. */
static void round_trip(const DcaeConfig *config)
{
    DcaeConfig again;
    char *text = dcae_config_to_json(config);
    parse(text, &again);
    assert_same(config, &again);
    g_free(text);
}

static void test_legal(void)
{
    DcaeConfig config;
    for (guint i = 0; i < G_N_ELEMENTS(legal); i++) {
        parse(legal[i], &config);
        round_trip(&config);
    }
    parse(every_key, &config);
    round_trip(&config);
}

/* Other programs compute the hash too, so the text is fixed to the letter. */
static void test_canonical(void)
{
    DcaeConfig config;
    parse("{\"encoder_block_out_channels\":[64],\"decoder_block_out_channels\":[64],"
          "\"encoder_layers_per_block\":[1],\"decoder_layers_per_block\":[2],"
          "\"encoder_block_types\":\"EfficientViTBlock\",\"scaling_factor\":0.12345678912,"
          "\"encoder_qkv_multiscales\":[[3,5]],\"decoder_qkv_multiscales\":[[7]],"
          "\"decoder_act_fns\":[null]}",
          &config);
    char *text = dcae_config_to_json(&config);
    g_assert_cmpstr(
        text, ==,
        "{\"attention_head_dim\":32,\"_class_name\":\"AutoencoderDC\",\"decoder_act_fns\":[null],"
        "\"decoder_block_out_channels\":[64],\"decoder_block_types\":[\"ResBlock\"],"
        "\"decoder_conv_act_fn\":\"relu\",\"decoder_in_shortcut\":true,"
        "\"decoder_layers_per_block\":[2],\"decoder_norm_types\":[\"rms_norm\"],"
        "\"decoder_qkv_multiscales\":[[]],\"downsample_block_type\":\"pixel_unshuffle\","
        "\"encoder_block_out_channels\":[64],\"encoder_block_types\":[\"EfficientViTBlock\"],"
        "\"encoder_layers_per_block\":[1],\"encoder_out_shortcut\":true,"
        "\"encoder_qkv_multiscales\":[[3,5]],\"in_channels\":3,\"latent_channels\":32,"
        "\"scaling_factor\":0.123456789,\"upsample_block_type\":\"pixel_shuffle\"}");
    g_free(text);
}

/* Damaged texts are refused or read as something legal. */
static void test_damage(void)
{
    static const char pieces[] = "{}[]\",:0123456789eE-.trufalsn";
    GRand *random = g_rand_new_with_seed(7);
    guint accepted = 0;
    for (guint round = 0; round < 20000; round++) {
        DcaeConfig config;
        GString *text = g_string_new(every_key);
        for (gint i = g_rand_int_range(random, 1, 4); i > 0; i--) {
            gssize place = g_rand_int_range(random, 0, (gint32)text->len);
            if (g_rand_boolean(random))
                text->str[place] = pieces[g_rand_int_range(random, 0, sizeof pieces - 1)];
            else
                g_string_erase(text, place, 1);
        }
        if (dcae_config_parse(&config, text->str, "x", NULL)) {
            g_assert_true(dcae_config_validate(&config, "x", NULL));
            round_trip(&config);
            accepted++;
        }
        g_string_free(text, TRUE);
    }
    g_rand_free(random);
    g_assert_cmpuint(accepted, >, 100);
}

/* The table of released models, as their config.json files write them. */
static const struct {
    const char *name, *text;
} models[] = {
    {"dc-ae-f32c32-sana-1.0",
     "{\"encoder_block_types\":[\"ResBlock\",\"ResBlock\",\"ResBlock\",\"EfficientViTBlock\","
     "\"EfficientViTBlock\",\"EfficientViTBlock\"],\"decoder_block_types\":[\"ResBlock\","
     "\"ResBlock\",\"ResBlock\",\"EfficientViTBlock\",\"EfficientViTBlock\","
     "\"EfficientViTBlock\"],\"downsample_block_type\":\"conv\","
     "\"upsample_block_type\":\"interpolate\",\"scaling_factor\":0.41407}"},
    {"dc-ae-f64c128-in-1.0",
     "{\"latent_channels\":128,\"encoder_block_types\":[\"ResBlock\",\"ResBlock\",\"ResBlock\","
     "\"EfficientViTBlock\",\"EfficientViTBlock\",\"EfficientViTBlock\",\"EfficientViTBlock\"],"
     "\"decoder_block_types\":[\"ResBlock\",\"ResBlock\",\"ResBlock\",\"EfficientViTBlock\","
     "\"EfficientViTBlock\",\"EfficientViTBlock\",\"EfficientViTBlock\"],"
     "\"encoder_block_out_channels\":[128,256,512,512,1024,1024,2048],"
     "\"decoder_block_out_channels\":[128,256,512,512,1024,1024,2048],"
     "\"encoder_layers_per_block\":[0,4,8,2,2,2,2],\"decoder_layers_per_block\":[0,5,10,2,2,2,2],"
     "\"encoder_qkv_multiscales\":[[],[],[],[],[],[],[]],"
     "\"decoder_qkv_multiscales\":[[],[],[],[],[],[],[]],"
     "\"decoder_norm_types\":[\"batch_norm\",\"batch_norm\",\"batch_norm\",\"rms_norm\","
     "\"rms_norm\",\"rms_norm\",\"rms_norm\"],"
     "\"decoder_act_fns\":[\"relu\",\"relu\",\"relu\",\"silu\",\"silu\",\"silu\",\"silu\"],"
     "\"scaling_factor\":0.2889}"},
    {"dc-ae-lite-f32c32-sana-1.1",
     "{\"encoder_block_types\":[\"ResBlock\",\"ResBlock\",\"ResBlock\",\"EfficientViTBlock\","
     "\"EfficientViTBlock\",\"EfficientViTBlock\"],\"decoder_layers_per_block\":[0,3,5,4,4,4],"
     "\"downsample_block_type\":\"conv\",\"decoder_conv_act_fn\":\"silu\","
     "\"scaling_factor\":0.41407}"},
    {"dc-ae-f32c128-1.5",
     "{\"latent_channels\":128,\"encoder_layers_per_block\":[0,5,10,4,4,4],"
     "\"decoder_layers_per_block\":[0,5,10,4,4,4],\"encoder_out_shortcut\":false,"
     "\"decoder_in_shortcut\":false,\"decoder_conv_act_fn\":\"silu\"}"},
};

static void test_released(void)
{
    static const struct {
        const char *name;
        guint ratio, latent;
        double scaling;
    } table[] = {
        {"dc-ae-f32c32-sana-1.0", 32, 32, 0.41407},
        {"dc-ae-f32c32-sana-1.1", 32, 32, 0.41407},
        {"dc-ae-f32c32-in-1.0", 32, 32, 0.3189},
        {"dc-ae-f32c32-mix-1.0", 32, 32, 0.4552},
        {"dc-ae-f64c128-in-1.0", 64, 128, 0.2889},
        {"dc-ae-f64c128-mix-1.0", 64, 128, 0.4538},
        {"dc-ae-f128c512-in-1.0", 128, 512, 0.4883},
        {"dc-ae-f128c512-mix-1.0", 128, 512, 0.3620},
        {"dc-ae-lite-f32c32-sana-1.1", 32, 32, 0.41407},
        {"dc-ae-f32c128-1.5", 32, 128, 1.0},
        {"dc-ae-f64c128-1.5", 64, 128, 1.0},
    };
    g_assert_cmpuint(dcae_config_n_released(), ==, G_N_ELEMENTS(table));
    for (guint i = 0; i < G_N_ELEMENTS(table); i++) {
        const DcaeConfig *config = dcae_config_released(table[i].name);
        g_assert_nonnull(config);
        g_assert_cmpuint(dcae_config_ratio(config), ==, table[i].ratio);
        g_assert_cmpuint(config->latent_channels, ==, table[i].latent);
        g_assert_cmpfloat(config->scaling_factor, ==, table[i].scaling);
    }
    for (guint i = 0; i < dcae_config_n_released(); i++) {
        const DcaeConfig *config = dcae_config_released(dcae_config_released_name(i));
        GError *error = NULL;
        dcae_config_validate(config, "released", &error);
        g_assert_no_error(error);
        round_trip(config);
    }
    for (guint i = 0; i < G_N_ELEMENTS(models); i++) {
        DcaeConfig config;
        parse(models[i].text, &config);
        assert_same(&config, dcae_config_released(models[i].name));
    }
    g_assert_null(dcae_config_released_name(dcae_config_n_released()));
}

static void test_released_names(void)
{
    const DcaeConfig *sana = dcae_config_released("dc-ae-f32c32-sana-1.0");
    g_assert_true(sana == dcae_config_released("mit-han-lab/dc-ae-f32c32-sana-1.0"));
    g_assert_true(sana == dcae_config_released("mit-han-lab/dc-ae-f32c32-sana-1.0-diffusers"));
    g_assert_true(sana == dcae_config_released("dc-ae-f32c32-sana-1.0-diffusers"));
    g_assert_nonnull(dcae_config_released("dc-ai/dc-ae-f64c128-1.5"));
    g_assert_null(dcae_config_released("dc-ae-f32c32-sana-1.0-x"));
    g_assert_null(dcae_config_released("dc-ae-f32c32-sana-1"));
    g_assert_null(dcae_config_released("other/dc-ae-f32c32-sana-1.0"));
    g_assert_null(dcae_config_released(""));
}

/* Locales with a decimal comma must not change what is read or written. */
static void test_locale(void)
{
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8")) {
        g_test_skip("no locale with a decimal comma is installed");
        return;
    }
    round_trip(dcae_config_released("dc-ae-f32c32-sana-1.0"));
    setlocale(LC_ALL, "C");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/config/defaults", test_defaults);
    g_test_add_func("/config/default-scales", test_default_scales);
    g_test_add_func("/config/every-key", test_every_key);
    g_test_add_func("/config/step-types", test_step_types);
    g_test_add_func("/config/faults", test_faults);
    g_test_add_func("/config/legal", test_legal);
    g_test_add_func("/config/canonical", test_canonical);
    g_test_add_func("/config/damage", test_damage);
    g_test_add_func("/config/released", test_released);
    g_test_add_func("/config/released-names", test_released_names);
    g_test_add_func("/config/locale", test_locale);
    return g_test_run();
}
