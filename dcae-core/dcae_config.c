/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_config.c - reads config.json, checks the rules of legality, writes the canonical text, and
 * holds the released models. It knows nothing of tensors or files. Numbers are bounded here so that
 * products of a few of them stay far below 2^64 everywhere else.
 */
#include "dcae_config.h"

#include "dcae_json.h"

#include <math.h>
#include <string.h>

#define MAX_CHANNELS 65536
#define MAX_LAYERS 1000
#define MAX_KERNEL 255
#define MIN_SCALING 1e-30 /* f32 holds it and its inverse with room for latents */

typedef enum {
    KEY_ATTENTION_HEAD_DIM,
    KEY_CLASS_NAME,
    KEY_DECODER_ACT_FNS,
    KEY_DECODER_BLOCK_OUT_CHANNELS,
    KEY_DECODER_BLOCK_TYPES,
    KEY_DECODER_CONV_ACT_FN,
    KEY_DECODER_IN_SHORTCUT,
    KEY_DECODER_LAYERS_PER_BLOCK,
    KEY_DECODER_NORM_TYPES,
    KEY_DECODER_QKV_MULTISCALES,
    KEY_DOWNSAMPLE_BLOCK_TYPE,
    KEY_ENCODER_BLOCK_OUT_CHANNELS,
    KEY_ENCODER_BLOCK_TYPES,
    KEY_ENCODER_LAYERS_PER_BLOCK,
    KEY_ENCODER_OUT_SHORTCUT,
    KEY_ENCODER_QKV_MULTISCALES,
    KEY_IN_CHANNELS,
    KEY_LATENT_CHANNELS,
    KEY_SCALING_FACTOR,
    KEY_UPSAMPLE_BLOCK_TYPE,
    N_KEYS
} Key;

static const char *const key_names[N_KEYS] = {
    "attention_head_dim",    "_class_name",
    "decoder_act_fns",       "decoder_block_out_channels",
    "decoder_block_types",   "decoder_conv_act_fn",
    "decoder_in_shortcut",   "decoder_layers_per_block",
    "decoder_norm_types",    "decoder_qkv_multiscales",
    "downsample_block_type", "encoder_block_out_channels",
    "encoder_block_types",   "encoder_layers_per_block",
    "encoder_out_shortcut",  "encoder_qkv_multiscales",
    "in_channels",           "latent_channels",
    "scaling_factor",        "upsample_block_type",
};

/* A value that stands for a word in config.json; the first spelling is the canonical one. */
typedef struct {
    const char *word;
    int value;
} Word;

static const Word block_words[] = {
    {"ResBlock", DCAE_BLOCK_RES}, {"EfficientViTBlock", DCAE_BLOCK_EFFICIENT_VIT}, {NULL, 0}};
static const Word norm_words[] = {
    {"rms_norm", DCAE_NORM_RMS}, {"batch_norm", DCAE_NORM_BATCH}, {NULL, 0}};
static const Word act_words[] = {{"relu", DCAE_ACT_RELU},  {"silu", DCAE_ACT_SILU},
                                 {"swish", DCAE_ACT_SILU}, {"gelu", DCAE_ACT_GELU},
                                 {"mish", DCAE_ACT_MISH},  {NULL, 0}};

/* One call of dcae_config_parse(). */
typedef struct {
    const char *name;
    JsonNode *value[N_KEYS]; /* NULL: the key is missing */
    DcaeConfig *config;
    GError **error;
} Parser;

G_GNUC_PRINTF(3, 4)
static gboolean fail(GError **error, const char *name, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_CONFIG, "%s: %s", name, text);
    g_free(text);
    return FALSE;
}

static gboolean fail_key(Parser *parser, Key key, const char *fault)
{
    return fail(parser->error, parser->name, "'%s': %s", key_names[key], fault);
}

static gboolean read_uint(Parser *parser, Key key, JsonNode *node, guint low, guint high,
                          guint *out)
{
    guint64 value;
    if (!dcae_json_uint(node, &value) || value < low || value > high)
        return fail(parser->error, parser->name, "'%s': a whole number from %u to %u is expected",
                    key_names[key], low, high);
    *out = (guint)value;
    return TRUE;
}

static gboolean read_word(Parser *parser, Key key, JsonNode *node, const Word *words, int *out)
{
    const char *text = dcae_json_string(node);
    for (const Word *w = words; text && w->word; w++) {
        gboolean same = words == act_words ? g_ascii_strcasecmp(w->word, text) == 0
                                           : strcmp(w->word, text) == 0;
        if (same) {
            *out = w->value;
            return TRUE;
        }
    }
    if (words == norm_words && g_strcmp0(text, "layer_norm") == 0)
        return fail_key(parser, key,
                        "layer_norm can't run on pictures (the reference fails on it too); "
                        "rms_norm and batch_norm are possible");
    if (words == norm_words)
        return fail_key(parser, key, "a norm must be rms_norm or batch_norm");
    if (words == block_words)
        return fail_key(parser, key, "a block type must be ResBlock or EfficientViTBlock");
    return fail_key(parser, key, "an activation must be relu, silu, swish, gelu or mish");
}

static gboolean read_scalar(Parser *parser, Key key, guint *out)
{
    JsonNode *node = parser->value[key];
    return !node || read_uint(parser, key, node, 1, MAX_CHANNELS, out);
}

static gboolean read_flag(Parser *parser, Key key, gboolean *out)
{
    JsonNode *node = parser->value[key];
    return !node || dcae_json_boolean(node, out) ||
           fail_key(parser, key, "true or false is expected");
}

/* *out: does the string equal word? */
static gboolean read_choice(Parser *parser, Key key, const char *word, gboolean *out)
{
    if (!parser->value[key])
        return TRUE;
    const char *text = dcae_json_string(parser->value[key]);
    if (!text)
        return fail_key(parser, key, "a string is expected");
    *out = strcmp(text, word) == 0;
    return TRUE;
}

/* A node as a list of at most max entries; *n receives its length. NULL where it is none. */
static JsonArray *read_list(Parser *parser, Key key, JsonNode *node, guint max, guint *n)
{
    JsonArray *list = dcae_json_array(node);
    *n = list ? json_array_get_length(list) : 0;
    if (list && *n <= max)
        return list;
    if (list)
        fail(parser->error, parser->name, "'%s': a list has more than %u entries", key_names[key],
             max);
    else
        fail_key(parser, key, "an array is expected");
    return NULL;
}

/* A list that must have as many entries as the configuration has stages. */
static gboolean check_length(Parser *parser, Key key, guint n)
{
    guint want = parser->config->n_stages;
    if (n == want)
        return TRUE;
    return fail(parser->error, parser->name,
                "'%s' has %u entries%s, but 'encoder_block_out_channels' has %u%s", key_names[key],
                n, parser->value[key] ? "" : " (the default)", want,
                parser->value[KEY_ENCODER_BLOCK_OUT_CHANNELS] ? "" : " (the default)");
}

/* A list of numbers, one a stage; *n receives its length. values keeps its default where the key is
 * missing. */
static gboolean read_uints(Parser *parser, Key key, guint low, guint high, guint *values, guint *n)
{
    *n = 6;
    if (!parser->value[key])
        return TRUE;
    JsonArray *list = read_list(parser, key, parser->value[key], DCAE_MAX_STAGES, n);
    if (!list)
        return FALSE;
    for (guint i = 0; i < *n; i++)
        if (!read_uint(parser, key, json_array_get_element(list, i), low, high, &values[i]))
            return FALSE;
    return *n > 0 || fail_key(parser, key, "the list is empty");
}

/* A word for all stages, or a list of one a stage; null_value >= 0: null stands for it. */
static gboolean read_words(Parser *parser, Key key, const Word *words, int null_value, int *values)
{
    JsonNode *node = parser->value[key];
    JsonArray *list = NULL;
    guint n = parser->config->n_stages;
    if (!node)
        return TRUE;
    if (dcae_json_array(node) && !(list = read_list(parser, key, node, DCAE_MAX_STAGES, &n)))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        JsonNode *entry = list ? json_array_get_element(list, i) : node;
        if (null_value >= 0 && json_node_is_null(entry))
            values[i] = null_value;
        else if (!read_word(parser, key, entry, words, &values[i]))
            return FALSE;
    }
    return check_length(parser, key, n);
}

/* The kernel sizes of one stage. */
static gboolean read_scales(Parser *parser, Key key, JsonNode *node, DcaeStage *stage)
{
    JsonArray *list = read_list(parser, key, node, DCAE_MAX_SCALES, &stage->n_scales);
    for (guint i = 0; list && i < stage->n_scales; i++)
        if (!read_uint(parser, key, json_array_get_element(list, i), 1, MAX_KERNEL,
                       &stage->scales[i]))
            return FALSE;
    return list != NULL;
}

static gboolean read_multiscales(Parser *parser, Key key, DcaeStage *stages)
{
    guint n;
    if (!parser->value[key]) {
        for (guint i = 3; i < 6; i++) {
            stages[i].n_scales = 1;
            stages[i].scales[0] = 5;
        }
        return check_length(parser, key, 6);
    }
    JsonArray *list = read_list(parser, key, parser->value[key], DCAE_MAX_STAGES, &n);
    for (guint i = 0; list && i < n; i++)
        if (!read_scales(parser, key, json_array_get_element(list, i), &stages[i]))
            return FALSE;
    return list && check_length(parser, key, n);
}

/* The four lists that encoder and decoder both have. */
static gboolean read_side(Parser *parser, const Key *keys, const guint *default_layers,
                          DcaeStage *stages)
{
    guint widths[DCAE_MAX_STAGES] = {128, 256, 512, 512, 1024, 1024};
    guint layers[DCAE_MAX_STAGES], n;
    int blocks[DCAE_MAX_STAGES] = {0};
    memcpy(layers, default_layers, sizeof layers);
    if (!read_uints(parser, keys[0], 1, MAX_CHANNELS, widths, &n))
        return FALSE;
    if (keys[0] == KEY_ENCODER_BLOCK_OUT_CHANNELS)
        parser->config->n_stages = n;
    if (!check_length(parser, keys[0], n) ||
        !read_uints(parser, keys[1], 0, MAX_LAYERS, layers, &n) ||
        !check_length(parser, keys[1], n) ||
        !read_words(parser, keys[2], block_words, -1, blocks) ||
        !read_multiscales(parser, keys[3], stages))
        return FALSE;
    for (guint i = 0; i < n; i++) {
        DcaeStage *s = &stages[i];
        s->width = widths[i];
        s->layers = layers[i];
        s->block = (DcaeBlockType)blocks[i];
        s->norm = DCAE_NORM_RMS;
        s->act = DCAE_ACT_SILU;
        /* The scales of a stage without attention mean nothing; the reference's default has some
         * even where all blocks are residual, and they must not tell two equal models apart. */
        if (s->block == DCAE_BLOCK_RES)
            s->n_scales = 0;
        memset(s->scales + s->n_scales, 0, sizeof s->scales - s->n_scales * sizeof *s->scales);
    }
    return TRUE;
}

static gboolean read_stages(Parser *parser)
{
    static const Key encoder[] = {KEY_ENCODER_BLOCK_OUT_CHANNELS, KEY_ENCODER_LAYERS_PER_BLOCK,
                                  KEY_ENCODER_BLOCK_TYPES, KEY_ENCODER_QKV_MULTISCALES};
    static const Key decoder[] = {KEY_DECODER_BLOCK_OUT_CHANNELS, KEY_DECODER_LAYERS_PER_BLOCK,
                                  KEY_DECODER_BLOCK_TYPES, KEY_DECODER_QKV_MULTISCALES};
    static const guint encoder_layers[DCAE_MAX_STAGES] = {2, 2, 2, 3, 3, 3};
    static const guint decoder_layers[DCAE_MAX_STAGES] = {3, 3, 3, 3, 3, 3};
    DcaeConfig *config = parser->config;
    int norms[DCAE_MAX_STAGES], acts[DCAE_MAX_STAGES];
    for (guint i = 0; i < DCAE_MAX_STAGES; i++) {
        norms[i] = DCAE_NORM_RMS;
        acts[i] = DCAE_ACT_SILU;
    }
    if (!read_side(parser, encoder, encoder_layers, config->encoder) ||
        !read_side(parser, decoder, decoder_layers, config->decoder) ||
        !read_words(parser, KEY_DECODER_NORM_TYPES, norm_words, -1, norms) ||
        !read_words(parser, KEY_DECODER_ACT_FNS, act_words, DCAE_ACT_NONE, acts))
        return FALSE;
    for (guint i = 0; i < config->n_stages; i++) {
        config->decoder[i].norm = (DcaeNorm)norms[i];
        config->decoder[i].act = (DcaeAct)acts[i];
    }
    return TRUE;
}

static gboolean read_scalars(Parser *parser)
{
    DcaeConfig *config = parser->config;
    if (!read_scalar(parser, KEY_IN_CHANNELS, &config->in_channels) ||
        !read_scalar(parser, KEY_LATENT_CHANNELS, &config->latent_channels) ||
        !read_scalar(parser, KEY_ATTENTION_HEAD_DIM, &config->head_dim) ||
        !read_flag(parser, KEY_ENCODER_OUT_SHORTCUT, &config->encoder_out_shortcut) ||
        !read_flag(parser, KEY_DECODER_IN_SHORTCUT, &config->decoder_in_shortcut) ||
        !read_choice(parser, KEY_DOWNSAMPLE_BLOCK_TYPE, "pixel_unshuffle",
                     &config->down_unshuffle) ||
        !read_choice(parser, KEY_UPSAMPLE_BLOCK_TYPE, "interpolate", &config->up_interpolate))
        return FALSE;
    JsonNode *act = parser->value[KEY_DECODER_CONV_ACT_FN];
    JsonNode *scaling = parser->value[KEY_SCALING_FACTOR];
    int value;
    if (act) {
        if (!read_word(parser, KEY_DECODER_CONV_ACT_FN, act, act_words, &value))
            return FALSE;
        config->decoder_conv_act = (DcaeAct)value;
    }
    return !scaling || dcae_json_number(scaling, &config->scaling_factor) ||
           fail_key(parser, KEY_SCALING_FACTOR, "a finite number is expected");
}

static gboolean check_class(Parser *parser)
{
    gboolean same = TRUE;
    if (!read_choice(parser, KEY_CLASS_NAME, "AutoencoderDC", &same))
        return FALSE;
    if (same)
        return TRUE;
    const char *text = dcae_json_string(parser->value[KEY_CLASS_NAME]);
    char *shown = g_utf8_substring(text, 0, MIN(g_utf8_strlen(text, -1), 100));
    fail(parser->error, parser->name,
         "'_class_name' is '%s', but only AutoencoderDC is a model that can be run", shown);
    g_free(shown);
    return FALSE;
}

gboolean dcae_config_parse(DcaeConfig *config, const char *text, const char *name, GError **error)
{
    Parser parser = {.name = name, .config = config, .error = error};
    *config = (DcaeConfig){
        .in_channels = 3,
        .latent_channels = 32,
        .head_dim = 32,
        .down_unshuffle = TRUE,
        .encoder_out_shortcut = TRUE,
        .decoder_in_shortcut = TRUE,
        .decoder_conv_act = DCAE_ACT_RELU,
        .scaling_factor = 1.0,
    };
    JsonNode *root = dcae_json_parse(text, strlen(text), name, error);
    if (!root)
        return FALSE;
    for (Key key = 0; key < N_KEYS; key++)
        parser.value[key] = json_object_get_member(json_node_get_object(root), key_names[key]);
    gboolean ok = check_class(&parser) && read_stages(&parser) && read_scalars(&parser);
    json_node_unref(root);
    return ok && dcae_config_validate(config, name, error);
}

/* ---- legality ---- */

static gboolean check_scales(const DcaeStage *stage, const char *name, const char *side, guint i,
                             guint head_dim, GError **error)
{
    if (stage->block != DCAE_BLOCK_EFFICIENT_VIT || stage->layers == 0)
        return TRUE;
    if (stage->width < head_dim)
        return fail(
            error, name,
            "'%s_block_out_channels' has %u for stage %u, an EfficientViTBlock stage, which "
            "must be at least 'attention_head_dim' (%u) wide",
            side, stage->width, i, head_dim);
    for (guint k = 0; k < stage->n_scales; k++)
        if (stage->scales[k] % 2 == 0)
            return fail(error, name,
                        "'%s_qkv_multiscales' has %u for stage %u, but kernel sizes must be odd",
                        side, stage->scales[k], i);
    return TRUE;
}

static gboolean check_side(const DcaeStage *stages, const DcaeConfig *config, const char *name,
                           const char *side, GError **error)
{
    guint n = config->n_stages;
    for (guint i = 0; i < n; i++) {
        if (stages[i].width == 0 || stages[i].width > MAX_CHANNELS)
            return fail(error, name, "'%s_block_out_channels': %u is not from 1 to 65536", side,
                        stages[i].width);
        if (stages[i].layers > MAX_LAYERS)
            return fail(error, name, "'%s_layers_per_block': %u is more than 1000", side,
                        stages[i].layers);
        if (stages[i].layers == 0 && i != 0 && i != n - 1)
            return fail(error, name,
                        "'%s_layers_per_block' has 0 for stage %u, but only the first and the last "
                        "stage may be empty",
                        side, i);
        if (!check_scales(&stages[i], name, side, i, config->head_dim, error))
            return FALSE;
    }
    if (n < 2 && stages[0].layers == 0)
        return fail(error, name, "'%s_layers_per_block' leaves the only stage empty", side);
    return TRUE;
}

/* Every step from stage i to i + 1 that exists, in both directions. */
static gboolean check_steps(const DcaeConfig *config, const char *name, GError **error)
{
    static const char message[] =
        "'%s_block_out_channels': between stages %u and %u, 4 times %u is not divisible by %u";
    for (guint i = 0; i + 1 < config->n_stages; i++) {
        const DcaeStage *enc = &config->encoder[i], *dec = &config->decoder[i];
        if (enc->layers > 0 && 4 * enc->width % enc[1].width != 0)
            return fail(error, name, message, "encoder", i, i + 1, enc->width, enc[1].width);
        if (dec->layers > 0 && 4 * dec->width % dec[1].width != 0)
            return fail(error, name, message, "decoder", i, i + 1, dec->width, dec[1].width);
        if (config->down_unshuffle && enc[1].width % 4 != 0)
            return fail(
                error, name,
                "'encoder_block_out_channels' has %u for stage %u, but 'downsample_block_type' "
                "pixel_unshuffle needs a multiple of 4",
                enc[1].width, i + 1);
    }
    return TRUE;
}

static gboolean check_shortcut(gboolean on, guint width, const DcaeConfig *config, const char *name,
                               const char *key, GError **error)
{
    if (!on || width % config->latent_channels == 0)
        return TRUE;
    return fail(error, name,
                "'latent_channels' (%u) must divide the width of the last stage (%u) where '%s' is "
                "true",
                config->latent_channels, width, key);
}

gboolean dcae_config_validate(const DcaeConfig *config, const char *name, GError **error)
{
    guint n = config->n_stages;
    if (n == 0 || n > DCAE_MAX_STAGES)
        return fail(error, name, "'encoder_block_out_channels' must have 1 to 12 entries");
    if (!(fabs(config->scaling_factor) >= MIN_SCALING &&
          fabs(config->scaling_factor) <= 1 / MIN_SCALING))
        return fail(error, name, "'scaling_factor' must be from 1e-30 to 1e30 without its sign");
    if (config->in_channels == 0 || config->latent_channels == 0 || config->head_dim == 0)
        return fail(error, name,
                    "'in_channels', 'latent_channels' and 'attention_head_dim' must not be 0");
    return check_side(config->encoder, config, name, "encoder", error) &&
           check_side(config->decoder, config, name, "decoder", error) &&
           check_steps(config, name, error) &&
           check_shortcut(config->encoder_out_shortcut, config->encoder[n - 1].width, config, name,
                          "encoder_out_shortcut", error) &&
           check_shortcut(config->decoder_in_shortcut, config->decoder[n - 1].width, config, name,
                          "decoder_in_shortcut", error);
}

/* ---- canonical text ---- */

static void put_key(GString *out, Key key)
{
    g_string_append_printf(out, "%c\"%s\":", out->len ? ',' : '{', key_names[key]);
}

static const char *word_of(const Word *words, int value)
{
    while (words->word && words->value != value)
        words++;
    return words->word;
}

static void put_word(GString *out, const Word *words, int value)
{
    const char *word = word_of(words, value);
    if (word)
        g_string_append_printf(out, "\"%s\"", word);
    else
        g_string_append(out, "null");
}

static void put_stage(GString *out, Key key, const DcaeStage *stage)
{
    switch (key) {
    case KEY_DECODER_ACT_FNS:
        put_word(out, act_words, (int)stage->act);
        break;
    case KEY_DECODER_NORM_TYPES:
        put_word(out, norm_words, (int)stage->norm);
        break;
    case KEY_DECODER_BLOCK_TYPES:
    case KEY_ENCODER_BLOCK_TYPES:
        put_word(out, block_words, (int)stage->block);
        break;
    case KEY_DECODER_BLOCK_OUT_CHANNELS:
    case KEY_ENCODER_BLOCK_OUT_CHANNELS:
        g_string_append_printf(out, "%u", stage->width);
        break;
    case KEY_DECODER_LAYERS_PER_BLOCK:
    case KEY_ENCODER_LAYERS_PER_BLOCK:
        g_string_append_printf(out, "%u", stage->layers);
        break;
    default:
        g_string_append_c(out, '[');
        for (guint k = 0; k < stage->n_scales; k++)
            g_string_append_printf(out, "%s%u", k ? "," : "", stage->scales[k]);
        g_string_append_c(out, ']');
    }
}

static void put_list(GString *out, Key key, const DcaeStage *stages, guint n)
{
    put_key(out, key);
    for (guint i = 0; i < n; i++) {
        g_string_append_c(out, i ? ',' : '[');
        put_stage(out, key, &stages[i]);
    }
    g_string_append_c(out, ']');
}

static void put_scalar(GString *out, Key key, const DcaeConfig *config)
{
    char number[G_ASCII_DTOSTR_BUF_SIZE];
    put_key(out, key);
    switch (key) {
    case KEY_ATTENTION_HEAD_DIM:
        g_string_append_printf(out, "%u", config->head_dim);
        break;
    case KEY_IN_CHANNELS:
        g_string_append_printf(out, "%u", config->in_channels);
        break;
    case KEY_LATENT_CHANNELS:
        g_string_append_printf(out, "%u", config->latent_channels);
        break;
    case KEY_SCALING_FACTOR:
        g_string_append(out,
                        g_ascii_formatd(number, sizeof number, "%.9g", config->scaling_factor));
        break;
    case KEY_DECODER_CONV_ACT_FN:
        put_word(out, act_words, (int)config->decoder_conv_act);
        break;
    case KEY_DECODER_IN_SHORTCUT:
        g_string_append(out, config->decoder_in_shortcut ? "true" : "false");
        break;
    case KEY_ENCODER_OUT_SHORTCUT:
        g_string_append(out, config->encoder_out_shortcut ? "true" : "false");
        break;
    case KEY_DOWNSAMPLE_BLOCK_TYPE:
        g_string_append(out, config->down_unshuffle ? "\"pixel_unshuffle\"" : "\"conv\"");
        break;
    default:
        g_string_append(out, config->up_interpolate ? "\"interpolate\"" : "\"pixel_shuffle\"");
    }
}

char *dcae_config_to_json(const DcaeConfig *config)
{
    GString *out = g_string_new(NULL);
    for (Key key = 0; key < N_KEYS; key++) {
        switch (key) {
        case KEY_CLASS_NAME:
            put_key(out, key);
            g_string_append(out, "\"AutoencoderDC\"");
            break;
        case KEY_ENCODER_BLOCK_OUT_CHANNELS:
        case KEY_ENCODER_BLOCK_TYPES:
        case KEY_ENCODER_LAYERS_PER_BLOCK:
        case KEY_ENCODER_QKV_MULTISCALES:
            put_list(out, key, config->encoder, config->n_stages);
            break;
        case KEY_DECODER_ACT_FNS:
        case KEY_DECODER_BLOCK_OUT_CHANNELS:
        case KEY_DECODER_BLOCK_TYPES:
        case KEY_DECODER_LAYERS_PER_BLOCK:
        case KEY_DECODER_NORM_TYPES:
        case KEY_DECODER_QKV_MULTISCALES:
            put_list(out, key, config->decoder, config->n_stages);
            break;
        default:
            put_scalar(out, key, config);
        }
    }
    g_string_append_c(out, '}');
    return g_string_free(out, FALSE);
}

/* ---- released models ---- */

/* Stages of the tables below: block type, width, layers. Encoders are all rms_norm and silu. */
#define RES(w, l)                                                  \
    {                                                              \
        DCAE_BLOCK_RES, w, l, 0, {0}, DCAE_NORM_RMS, DCAE_ACT_SILU \
    }
#define RES_BN(w, l)                                                 \
    {                                                                \
        DCAE_BLOCK_RES, w, l, 0, {0}, DCAE_NORM_BATCH, DCAE_ACT_RELU \
    }
#define VIT(w, l)                                                            \
    {                                                                        \
        DCAE_BLOCK_EFFICIENT_VIT, w, l, 0, {0}, DCAE_NORM_RMS, DCAE_ACT_SILU \
    }
#define VIT5(w, l)                                                           \
    {                                                                        \
        DCAE_BLOCK_EFFICIENT_VIT, w, l, 1, {5}, DCAE_NORM_RMS, DCAE_ACT_SILU \
    }

#define SANA_ENCODER                                                                      \
    {                                                                                     \
        RES(128, 2), RES(256, 2), RES(512, 2), VIT5(512, 3), VIT5(1024, 3), VIT5(1024, 3) \
    }
#define SANA_CONFIG                                                                               \
    {                                                                                             \
        .in_channels = 3, .latent_channels = 32, .head_dim = 32, .n_stages = 6,                   \
        .encoder = SANA_ENCODER, .decoder = {RES(128, 3),  RES(256, 3),   RES(512, 3),            \
                                             VIT5(512, 3), VIT5(1024, 3), VIT5(1024, 3)},         \
        .down_unshuffle = FALSE, .up_interpolate = TRUE, .encoder_out_shortcut = TRUE,            \
        .decoder_in_shortcut = TRUE, .decoder_conv_act = DCAE_ACT_RELU, .scaling_factor = 0.41407 \
    }

/* The in and mix models of one compression ratio; the dots are stages beyond the sixth. */
#define V1_CONFIG(stages, latent, scaling, ...)                                                   \
    {                                                                                             \
        .in_channels = 3, .latent_channels = latent, .head_dim = 32, .n_stages = stages,          \
        .encoder = {RES(128, 0), RES(256, 4),  RES(512, 8),                                       \
                    VIT(512, 2), VIT(1024, 2), VIT(1024, 2) __VA_ARGS__},                         \
        .decoder = {RES_BN(128, 0), RES_BN(256, 5), RES_BN(512, 10),                              \
                    VIT(512, 2),    VIT(1024, 2),   VIT(1024, 2) __VA_ARGS__},                    \
        .down_unshuffle = TRUE, .up_interpolate = FALSE, .encoder_out_shortcut = TRUE,            \
        .decoder_in_shortcut = TRUE, .decoder_conv_act = DCAE_ACT_RELU, .scaling_factor = scaling \
    }
#define STAGE_7 , VIT(2048, 2)
#define STAGE_8 , VIT(2048, 2), VIT(2048, 2)

#define V15_CONFIG(stages, ...)                                                                \
    {                                                                                          \
        .in_channels = 3, .latent_channels = 128, .head_dim = 32, .n_stages = stages,          \
        .encoder = {RES(128, 0), RES(256, 5),  RES(512, 10),                                   \
                    RES(512, 4), RES(1024, 4), RES(1024, 4) __VA_ARGS__},                      \
        .decoder = {RES(128, 0), RES(256, 5),  RES(512, 10),                                   \
                    RES(512, 4), RES(1024, 4), RES(1024, 4) __VA_ARGS__},                      \
        .down_unshuffle = TRUE, .up_interpolate = FALSE, .encoder_out_shortcut = FALSE,        \
        .decoder_in_shortcut = FALSE, .decoder_conv_act = DCAE_ACT_SILU, .scaling_factor = 1.0 \
    }
#define STAGE_7_RES , RES(1024, 4)

/* Where two have one structure, the one that inference must choose stands first. */
static const struct {
    const char *name;
    DcaeConfig config;
} released[] = {
    {"dc-ae-f32c32-sana-1.0", SANA_CONFIG},
    {"dc-ae-f32c32-sana-1.1", SANA_CONFIG},
    {"dc-ae-f32c32-mix-1.0", V1_CONFIG(6, 32, 0.4552, )},
    {"dc-ae-f32c32-in-1.0", V1_CONFIG(6, 32, 0.3189, )},
    {"dc-ae-f64c128-mix-1.0", V1_CONFIG(7, 128, 0.4538, STAGE_7)},
    {"dc-ae-f64c128-in-1.0", V1_CONFIG(7, 128, 0.2889, STAGE_7)},
    {"dc-ae-f128c512-mix-1.0", V1_CONFIG(8, 512, 0.3620, STAGE_8)},
    {"dc-ae-f128c512-in-1.0", V1_CONFIG(8, 512, 0.4883, STAGE_8)},
    {"dc-ae-lite-f32c32-sana-1.1",
     {
         .in_channels = 3,
         .latent_channels = 32,
         .head_dim = 32,
         .n_stages = 6,
         .encoder = SANA_ENCODER,
         .decoder = {RES(128, 0), RES(256, 3), RES(512, 5), RES(512, 4), RES(1024, 4),
                     RES(1024, 4)},
         .down_unshuffle = FALSE,
         .up_interpolate = FALSE,
         .encoder_out_shortcut = TRUE,
         .decoder_in_shortcut = TRUE,
         .decoder_conv_act = DCAE_ACT_SILU,
         .scaling_factor = 0.41407,
     }},
    {"dc-ae-f32c128-1.5", V15_CONFIG(6, )},
    {"dc-ae-f64c128-1.5", V15_CONFIG(7, STAGE_7_RES)},
};

/* Equal but for an organisation before it and "-diffusers" behind it? */
static gboolean is_name(const char *name, const char *wanted)
{
    static const char *const organisations[] = {"mit-han-lab/", "dc-ai/"};
    for (guint i = 0; i < G_N_ELEMENTS(organisations); i++)
        if (g_str_has_prefix(name, organisations[i])) {
            name += strlen(organisations[i]);
            break;
        }
    gsize size = strlen(wanted);
    return strncmp(name, wanted, size) == 0 &&
           (name[size] == 0 || strcmp(name + size, "-diffusers") == 0);
}

const DcaeConfig *dcae_config_released(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(released); i++)
        if (is_name(name, released[i].name))
            return &released[i].config;
    return NULL;
}

guint dcae_config_n_released(void)
{
    return G_N_ELEMENTS(released);
}

const char *dcae_config_released_name(guint n)
{
    return n < G_N_ELEMENTS(released) ? released[n].name : NULL;
}
