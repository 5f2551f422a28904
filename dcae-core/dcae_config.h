/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_config.h - the configuration of an AutoencoderDC, as in Diffusers' config.json, and the
 * released models. Knows JSON keys, defaults and the rules of legality; knows nothing of weights or
 * files of weights.
 */
#ifndef DCAE_CONFIG_H
#define DCAE_CONFIG_H

#include "dcae.h"

#define DCAE_MAX_STAGES 12
#define DCAE_MAX_SCALES 8

typedef enum { DCAE_BLOCK_RES, DCAE_BLOCK_EFFICIENT_VIT } DcaeBlockType;
typedef enum { DCAE_NORM_NONE, DCAE_NORM_RMS, DCAE_NORM_BATCH } DcaeNorm;
typedef enum { DCAE_ACT_NONE, DCAE_ACT_RELU, DCAE_ACT_SILU, DCAE_ACT_GELU, DCAE_ACT_MISH } DcaeAct;

typedef struct {
    DcaeBlockType block;
    guint width;  /* channels */
    guint layers; /* blocks; 0 only in the first and the last stage */
    guint n_scales;
    guint scales[DCAE_MAX_SCALES]; /* odd kernel sizes of the multi-scale projections, in order */
    DcaeNorm norm;                 /* encoder: always RMS */
    DcaeAct act;                   /* encoder: always SILU */
} DcaeStage;

/* A legal configuration. Plain data: copy it by assignment. */
typedef struct {
    guint in_channels, latent_channels, head_dim;
    guint n_stages;
    DcaeStage encoder[DCAE_MAX_STAGES], decoder[DCAE_MAX_STAGES];
    gboolean
        down_unshuffle; /* downsample_block_type is pixel_unshuffle; else stride-2 convolution */
    gboolean up_interpolate; /* upsample_block_type is interpolate; else pixel_shuffle */
    gboolean encoder_out_shortcut, decoder_in_shortcut;
    DcaeAct decoder_conv_act;
    double scaling_factor;
} DcaeConfig;

/* Parses config.json. text is NUL-terminated; name is what messages call it. Missing keys take the
 * reference's defaults, unknown keys are ignored. Errors: FORMAT (no JSON), CONFIG (type, value,
 * contradiction: names the key). Thread-safe. */
gboolean dcae_config_parse(DcaeConfig *config, const char *text, const char *name, GError **error);

/* Checks every rule of legality; called by dcae_config_parse() and by inference. Errors: CONFIG. */
gboolean dcae_config_validate(const DcaeConfig *config, const char *name, GError **error);

/* The configuration of a released model by repository id or short name ("dc-ae-f32c32-sana-1.0",
 * with or without "mit-han-lab/" and "-diffusers"). NULL where none has that name. Static storage.
 */
const DcaeConfig *dcae_config_released(const char *name);
guint dcae_config_n_released(void);
const char *dcae_config_released_name(guint n);

/* 2^(stages - 1). */
static inline guint dcae_config_ratio(const DcaeConfig *config)
{
    return 1u << (config->n_stages - 1);
}

/* Canonical JSON text of the configuration: fixed key order, fully expanded lists, numbers by
 * "%.9g". The model hash is taken over it, and scaling_factor is part of it. Free with g_free(). */
char *dcae_config_to_json(const DcaeConfig *config);

#endif
