/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_infer.c - reads stages, widths, depths, block types, scales, norms and the forms of the
 * steps off a checkpoint, and compares them with the released models. It asks for Diffusers' names
 * in either layout; the original layout tells the outer shortcuts too.
 */
#include "dcae_infer.h"

typedef enum { NOT_KNOWN, NO, YES } Answer;

/* What could be read. config.scaling_factor and the activations stay unset. */
typedef struct {
    DcaeConfig config;
    gboolean head_dim_known;
    Answer down_unshuffle, up_interpolate, out_shortcut, in_shortcut;
} Structure;

typedef struct {
    const DcaeCheckpoint *checkpoint;
    GString *name;
    gboolean encoder;
    Structure structure;
} Reader;

/* Finds "SIDE.BLOCKS.stage.block.rest". */
static gboolean find(Reader *reader, guint stage, guint block, const char *rest, DcaeFound *found)
{
    DcaeFound unused;
    g_string_printf(reader->name, "%s.%u.%u.%s",
                    reader->encoder ? "encoder.down_blocks" : "decoder.up_blocks", stage, block,
                    rest);
    return dcae_checkpoint_find(reader->checkpoint, reader->name->str, found ? found : &unused);
}

/* A dimension as a plausible number, 0 where there is none. */
static guint dimension(const DcaeFound *found, guint i)
{
    return i < found->rank && found->shape[i] <= 1u << 20 ? (guint)found->shape[i] : 0;
}

static guint outer_dimension(const Reader *reader, const char *name, guint i)
{
    DcaeFound found;
    return dcae_checkpoint_find(reader->checkpoint, name, &found) ? dimension(&found, i) : 0;
}

/* The kernel sizes of an attention block, and with them the head dimension. */
static void read_scales(Reader *reader, DcaeStage *stage, guint i, guint block)
{
    DcaeFound found;
    char rest[64];
    for (guint k = 0; k < DCAE_MAX_SCALES; k++) {
        g_snprintf(rest, sizeof rest, "attn.to_qkv_multiscale.%u.proj_in.weight", k);
        if (!find(reader, i, block, rest, &found))
            return;
        stage->scales[stage->n_scales++] = dimension(&found, 2);
        g_snprintf(rest, sizeof rest, "attn.to_qkv_multiscale.%u.proj_out.weight", k);
        if (find(reader, i, block, rest, &found)) {
            reader->structure.config.head_dim = dimension(&found, 1);
            reader->structure.head_dim_known = TRUE;
        }
    }
}

/* Reads the blocks of a stage. step receives the convolution that leads to the next stage (encoder)
 * or from it (decoder); FALSE where there is none. */
static gboolean read_stage(Reader *reader, guint i, DcaeStage *stage, DcaeFound *step)
{
    DcaeFound found;
    gboolean has_step = FALSE;
    for (guint block = 0; block <= 1000; block++) {
        if (find(reader, i, block, "conv1.weight", &found)) {
            stage->block = DCAE_BLOCK_RES;
            stage->width = dimension(&found, 1);
            stage->norm =
                find(reader, i, block, "norm.running_mean", NULL) ? DCAE_NORM_BATCH : DCAE_NORM_RMS;
        } else if (find(reader, i, block, "attn.to_q.weight", &found)) {
            stage->block = DCAE_BLOCK_EFFICIENT_VIT;
            stage->width = dimension(&found, 1);
            stage->norm = find(reader, i, block, "attn.norm_out.running_mean", NULL)
                              ? DCAE_NORM_BATCH
                              : DCAE_NORM_RMS;
            if (stage->n_scales == 0)
                read_scales(reader, stage, i, block);
        } else if (!has_step && find(reader, i, block, "conv.weight", step)) {
            has_step = TRUE;
            continue;
        } else {
            break;
        }
        stage->layers++;
    }
    return has_step;
}

static void note_form(Answer *answer, gboolean yes, gboolean no)
{
    if (yes || no)
        *answer = yes ? YES : NO;
}

static guint read_side(Reader *reader, DcaeStage *stages)
{
    DcaeFound steps[DCAE_MAX_STAGES];
    gboolean has_step[DCAE_MAX_STAGES];
    guint n = 0;
    for (guint i = 0; i < DCAE_MAX_STAGES; i++) {
        has_step[i] = read_stage(reader, i, &stages[i], &steps[i]);
        /* A step belongs between two stages, even where the last one has no blocks. */
        if (stages[i].layers > 0 || has_step[i])
            n = MIN(i + 1 + (guint)has_step[i], DCAE_MAX_STAGES);
    }
    for (guint i = 0; i + 1 < n; i++) {
        if (!has_step[i])
            continue;
        guint out = dimension(&steps[i], 0), next = stages[i + 1].width;
        if (reader->encoder)
            note_form(&reader->structure.down_unshuffle, out * 4 == next, out == next);
        else
            note_form(&reader->structure.up_interpolate, out == stages[i].width,
                      out == 4 * stages[i].width);
    }
    return n;
}

static void read_structure(Reader *reader)
{
    static const char out_main[] = "encoder.project_out.main.op_list.0.conv.weight";
    static const char in_main[] = "decoder.project_in.main.conv.weight";
    Structure *s = &reader->structure;
    DcaeConfig *config = &s->config;
    reader->encoder = TRUE;
    guint n_encoder = read_side(reader, config->encoder);
    reader->encoder = FALSE;
    guint n_decoder = read_side(reader, config->decoder);
    config->n_stages = MAX(n_encoder, n_decoder);
    config->in_channels = outer_dimension(
        reader,
        config->encoder[0].layers ? "encoder.conv_in.weight" : "encoder.conv_in.conv.weight", 1);
    config->latent_channels = outer_dimension(reader, "decoder.conv_in.weight", 1);
    if (dcae_checkpoint_is_original(reader->checkpoint)) {
        s->out_shortcut = dcae_checkpoint_has_stored(reader->checkpoint, out_main) ? YES : NO;
        s->in_shortcut = dcae_checkpoint_has_stored(reader->checkpoint, in_main) ? YES : NO;
    }
}

/* ---- comparing ---- */

static gboolean agrees(Answer answer, gboolean value)
{
    return answer == NOT_KNOWN || (answer == YES) == (value != FALSE);
}

static gboolean same_stage(const DcaeStage *a, const DcaeStage *b)
{
    if (a->layers != b->layers)
        return FALSE;
    if (a->layers == 0)
        return TRUE;
    if (a->block != b->block || a->width != b->width || a->norm != b->norm ||
        a->n_scales != b->n_scales)
        return FALSE;
    for (guint k = 0; k < a->n_scales; k++)
        if (a->scales[k] != b->scales[k])
            return FALSE;
    return TRUE;
}

static gboolean fits(const Structure *s, const DcaeConfig *model)
{
    const DcaeConfig *config = &s->config;
    if (config->n_stages != model->n_stages || config->in_channels != model->in_channels ||
        config->latent_channels != model->latent_channels)
        return FALSE;
    if (s->head_dim_known && config->head_dim != model->head_dim)
        return FALSE;
    for (guint i = 0; i < model->n_stages; i++)
        if (!same_stage(&config->encoder[i], &model->encoder[i]) ||
            !same_stage(&config->decoder[i], &model->decoder[i]))
            return FALSE;
    return agrees(s->down_unshuffle, model->down_unshuffle) &&
           agrees(s->up_interpolate, model->up_interpolate) &&
           agrees(s->out_shortcut, model->encoder_out_shortcut) &&
           agrees(s->in_shortcut, model->decoder_in_shortcut);
}

static void put_side(GString *text, const char *side, const DcaeStage *stages, guint n)
{
    g_string_append_printf(text, ", %s", side);
    for (guint i = 0; i < n; i++)
        g_string_append_printf(text, " %u×%u%s", stages[i].layers, stages[i].width,
                               stages[i].block == DCAE_BLOCK_RES ? "" : "A");
}

static gboolean fail_unknown(const Reader *reader, GError **error)
{
    const DcaeConfig *config = &reader->structure.config;
    GString *text = g_string_new(NULL);
    g_string_printf(text, "%u latent channels", config->latent_channels);
    put_side(text, "encoder", config->encoder, config->n_stages);
    put_side(text, "decoder", config->decoder, config->n_stages);
    g_set_error(
        error, DCAE_ERROR, DCAE_ERROR_CONFIG,
        "%s: its structure (%s; blocks × width, A: attention) is that of no released model, "
        "so config must name its config.json",
        dcae_checkpoint_name(reader->checkpoint), text->str);
    g_string_free(text, TRUE);
    return FALSE;
}

gboolean dcae_infer_config(const DcaeCheckpoint *checkpoint, DcaeConfig *config, GError **error)
{
    Reader reader = {.checkpoint = checkpoint, .name = g_string_new(NULL)};
    const DcaeConfig *model = NULL;
    read_structure(&reader);
    for (guint i = 0; i < dcae_config_n_released() && !model; i++) {
        model = dcae_config_released(dcae_config_released_name(i));
        if (!fits(&reader.structure, model))
            model = NULL;
    }
    if (model)
        *config = *model;
    else
        fail_unknown(&reader, error);
    g_string_free(reader.name, TRUE);
    return model != NULL;
}
