/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_graph.c - the DC-AE network. The only file that knows its structure and its tensor names.
 *
 * Walks the configuration once per tile and appends ops. The first walk makes the layers; later
 * tiles run the same ones. Read next: dcae_plan.c, which cuts the ops into rows.
 */
#include "dcae_graph.h"

#include <string.h>

#include "dcae_tiling.h"

typedef struct {
    const DcaeConfig *config;
    DcaeDirection direction;
    const DcaeGeometry *geometry;
    const DcaeLayout *layout;
    GArray *layers, *values, *ops;
    guint next_layer; /* layer that the next op runs; beyond layers->len it is new */
} Builder;

static guint add_value(Builder *b, guint h, guint w, guint c)
{
    DcaeValue value = {.h = h, .w = w, .c = c};
    g_array_append_val(b->values, value);
    return b->values->len - 1;
}

static const DcaeValue *value_at(const Builder *b, guint value)
{
    return &g_array_index(b->values, DcaeValue, value);
}

static DcaeOp new_op(DcaeOpKind kind)
{
    return (DcaeOp){
        .kind = kind,
        .in = DCAE_NO_VALUE,
        .out = DCAE_NO_VALUE,
        .residual = DCAE_NO_VALUE,
        .state = DCAE_NO_VALUE,
        .above = DCAE_NO_VALUE,
        .left = DCAE_NO_VALUE,
        .layer_index = G_MAXUINT,
        .scale = 1.0f,
    };
}

static void layer_clear(gpointer data)
{
    DcaeLayer *layer = data;

    g_free(layer->label);
    g_free(layer->norm_name);
    for (guint i = 0; i < DCAE_MAX_SOURCES; i++)
        g_free(layer->source[i]);
}

/* Output rows to input rows. A row of a 3×3 convolution needs one more on each side; through stride
 * 2 the lower one is already inside the pair, and through nearest ×2 the rows y-1 … y+1 of the
 * enlarged input are (y-1)/2 … (y+1)/2. */
static void set_rows(DcaeLayer *layer)
{
    guint halo =
        layer->kind == DCAE_OP_CONV || layer->kind == DCAE_OP_DWCONV ? layer->ksize / 2 : 0;
    gboolean up = layer->nearest2 || layer->shuffle == DCAE_SHUFFLE_UP;
    gboolean down = layer->stride == 2 || layer->shuffle == DCAE_SHUFFLE_DOWN;

    layer->row_ratio_up = up ? 2 : 1;
    layer->row_ratio_down = down ? 2 : 1;
    layer->above = halo;
    layer->below = layer->stride == 2 ? 0 : halo;
}

/* Takes the strings of `layer`. Fills in what follows from the rest. */
static guint take_layer(Builder *b, DcaeLayer layer)
{
    if (b->next_layer < b->layers->len) {
        layer_clear(&layer);
        return b->next_layer++;
    }
    if (layer.label == NULL)
        layer.label = g_strdup(layer.source[0] != NULL ? layer.source[0] : layer.norm_name);
    layer.stride = MAX(layer.stride, 1);
    layer.groups = MAX(layer.groups, 1);
    layer.ksize = MAX(layer.ksize, 1);
    if (layer.n_sources == 0 && layer.source[0] != NULL)
        layer.n_sources = 1;
    if (layer.source_c == 0)
        layer.source_c = layer.conv_c;
    layer.out_c = layer.shuffle == DCAE_SHUFFLE_DOWN ? layer.conv_c * 4
                  : layer.shuffle == DCAE_SHUFFLE_UP ? layer.conv_c / 4
                  : layer.gate                       ? layer.conv_c / 2
                                                     : layer.conv_c;
    set_rows(&layer);
    g_array_append_val(b->layers, layer);
    return b->next_layer++;
}

/* Appends an op that runs `layer` on `in` into a new value, or into channels [out_c0, …) of `out`.
 * Returns the output value. */
static guint add_layer_op(Builder *b, DcaeLayer layer, guint in, guint residual, guint out,
                          guint out_c0)
{
    DcaeOp op = new_op(layer.kind);
    op.layer_index = take_layer(b, layer);
    const DcaeLayer *l = &g_array_index(b->layers, DcaeLayer, op.layer_index);

    if (out == DCAE_NO_VALUE) {
        guint up = l->row_ratio_up, down = l->row_ratio_down;
        out =
            add_value(b, value_at(b, in)->h * up / down, value_at(b, in)->w * up / down, l->out_c);
    }
    op.in = in;
    op.out = out;
    op.out_c0 = out_c0;
    op.residual = residual;
    g_array_append_val(b->ops, op);
    return out;
}

static guint append(Builder *b, DcaeLayer layer, guint in)
{
    return add_layer_op(b, layer, in, DCAE_NO_VALUE, DCAE_NO_VALUE, 0);
}

static guint append_residual(Builder *b, DcaeLayer layer, guint in, guint residual)
{
    layer.residual = TRUE;
    return add_layer_op(b, layer, in, residual, DCAE_NO_VALUE, 0);
}

static guint channels(const Builder *b, guint value)
{
    return value_at(b, value)->c;
}

/* conv3 with bias, activation; conv3 without bias, norm, + input. */
static guint res_block(Builder *b, const char *name, const DcaeStage *stage, guint x)
{
    guint c = stage->width;
    guint y = append(b,
                     (DcaeLayer){.kind = DCAE_OP_CONV,
                                 .source[0] = g_strdup_printf("%s.conv1", name),
                                 .in_c = c,
                                 .conv_c = c,
                                 .ksize = 3,
                                 .bias = TRUE,
                                 .act = stage->act},
                     x);
    return append_residual(b,
                           (DcaeLayer){.kind = DCAE_OP_CONV,
                                       .source[0] = g_strdup_printf("%s.conv2", name),
                                       .in_c = c,
                                       .conv_c = c,
                                       .ksize = 3,
                                       .norm = stage->norm,
                                       .norm_name = g_strdup_printf("%s.norm", name)},
                           y, x);
}

/* q, or k and v, of every head, for all scales, in one value. `count` = 1 (first = 0: q) or 2
 * (first = 1: k, v) thirds of each head. The concatenated q|k|v is cut into heads of 3·d
 * consecutive channels, so the rows of to_q, to_k and to_v are picked by period. The multi-scale
 * projections work channel by channel and group by group, which is why q can go its own way from
 * the first linear on. */
static guint attention_part(Builder *b, const char *name, const DcaeStage *stage, guint x,
                            guint first, guint count)
{
    guint d = b->config->head_dim, heads = stage->width / d, c = heads * d * count;
    const char *part = first == 0 ? "q" : "kv";
    DcaeLayer pick = {.source_c = 3 * heads * d,
                      .pick_period = 3 * d,
                      .pick_first = first * d,
                      .pick_count = count * d};
    guint h = value_at(b, x)->h, w = value_at(b, x)->w;
    guint out = add_value(b, h, w, c * (1 + stage->n_scales));
    DcaeLayer linear = pick;

    linear.kind = DCAE_OP_LINEAR;
    linear.label = g_strdup_printf("%s.attn.to_qkv[%s]", name, part);
    linear.source[0] = g_strdup_printf("%s.attn.to_q", name);
    linear.source[1] = g_strdup_printf("%s.attn.to_k", name);
    linear.source[2] = g_strdup_printf("%s.attn.to_v", name);
    linear.n_sources = 3;
    linear.source_c = heads * d;
    linear.in_c = stage->width;
    linear.conv_c = c;
    add_layer_op(b, linear, x, DCAE_NO_VALUE, out, 0);

    for (guint s = 0; s < stage->n_scales; s++) {
        DcaeLayer dw = pick, grouped = pick;
        dw.kind = DCAE_OP_DWCONV;
        dw.label = g_strdup_printf("%s.attn.to_qkv_multiscale.%u.proj_in[%s]", name, s, part);
        dw.source[0] = g_strdup_printf("%s.attn.to_qkv_multiscale.%u.proj_in", name, s);
        dw.ksize = stage->scales[s];
        dw.in_c = dw.conv_c = c;
        grouped.kind = DCAE_OP_GROUPED_LINEAR;
        grouped.label = g_strdup_printf("%s.attn.to_qkv_multiscale.%u.proj_out[%s]", name, s, part);
        grouped.source[0] = g_strdup_printf("%s.attn.to_qkv_multiscale.%u.proj_out", name, s);
        grouped.groups = heads * count;
        grouped.in_c = grouped.conv_c = c;
        guint y = append(b, dw, out);
        add_layer_op(b, grouped, y, DCAE_NO_VALUE, out, c * (1 + s));
    }
    return out;
}

static guint attention(Builder *b, const char *name, const DcaeStage *stage, guint x)
{
    guint d = b->config->head_dim, heads = stage->width / d * (1 + stage->n_scales);
    DcaeOp sum = new_op(DCAE_OP_ATTN_SUM), apply = new_op(DCAE_OP_ATTN_APPLY);
    DcaeValue state = {.h = heads, .w = d + 1, .c = d, .state = TRUE};

    sum.heads = apply.heads = heads;
    sum.head_dim = apply.head_dim = d;
    sum.in = attention_part(b, name, stage, x, 1, 2);
    g_array_append_val(b->values, state);
    sum.state = apply.state = b->values->len - 1;
    g_array_append_val(b->ops, sum);

    apply.in = attention_part(b, name, stage, x, 0, 1);
    apply.out = add_value(b, value_at(b, x)->h, value_at(b, x)->w, heads * d);
    g_array_append_val(b->ops, apply);

    return append_residual(b,
                           (DcaeLayer){.kind = DCAE_OP_LINEAR,
                                       .source[0] = g_strdup_printf("%s.attn.to_out", name),
                                       .in_c = heads * d,
                                       .conv_c = stage->width,
                                       .norm = stage->norm,
                                       .norm_name = g_strdup_printf("%s.attn.norm_out", name)},
                           apply.out, x);
}

/* GLUMBConv. Its norm is RMSNorm whatever the stage's norm. */
static guint glumb_conv(Builder *b, const char *name, guint c, guint x)
{
    guint y = append(b,
                     (DcaeLayer){.kind = DCAE_OP_LINEAR,
                                 .source[0] = g_strdup_printf("%s.conv_out.conv_inverted", name),
                                 .in_c = c,
                                 .conv_c = 8 * c,
                                 .bias = TRUE,
                                 .act = DCAE_ACT_SILU},
                     x);
    y = append(b,
               (DcaeLayer){.kind = DCAE_OP_DWCONV,
                           .source[0] = g_strdup_printf("%s.conv_out.conv_depth", name),
                           .in_c = 8 * c,
                           .conv_c = 8 * c,
                           .ksize = 3,
                           .bias = TRUE,
                           .gate = TRUE},
               y);
    return append_residual(b,
                           (DcaeLayer){.kind = DCAE_OP_LINEAR,
                                       .source[0] = g_strdup_printf("%s.conv_out.conv_point", name),
                                       .in_c = 4 * c,
                                       .conv_c = c,
                                       .norm = DCAE_NORM_RMS,
                                       .norm_name = g_strdup_printf("%s.conv_out.norm", name)},
                           y, x);
}

static guint block(Builder *b, const char *name, const DcaeStage *stage, guint x)
{
    if (stage->block == DCAE_BLOCK_RES)
        return res_block(b, name, stage, x);
    return glumb_conv(b, name, stage->width, attention(b, name, stage, x));
}

static guint down_block(Builder *b, const char *name, guint out_c, gboolean shortcut, guint x)
{
    gboolean unshuffle = b->config->down_unshuffle;

    return append(b,
                  (DcaeLayer){.kind = DCAE_OP_CONV,
                              .source[0] = g_strdup_printf("%s.conv", name),
                              .in_c = channels(b, x),
                              .conv_c = unshuffle ? out_c / 4 : out_c,
                              .ksize = 3,
                              .stride = unshuffle ? 1 : 2,
                              .bias = TRUE,
                              .shuffle = unshuffle ? DCAE_SHUFFLE_DOWN : DCAE_SHUFFLE_NONE,
                              .shortcut = shortcut ? DCAE_SHORTCUT_DOWN_MEAN : DCAE_SHORTCUT_NONE},
                  x);
}

static guint up_block(Builder *b, const char *name, guint out_c, gboolean shortcut, guint x)
{
    gboolean interpolate = b->config->up_interpolate;

    return append(b,
                  (DcaeLayer){.kind = DCAE_OP_CONV,
                              .source[0] = g_strdup_printf("%s.conv", name),
                              .in_c = channels(b, x),
                              .conv_c = interpolate ? out_c : 4 * out_c,
                              .ksize = 3,
                              .nearest2 = interpolate,
                              .bias = TRUE,
                              .shuffle = interpolate ? DCAE_SHUFFLE_NONE : DCAE_SHUFFLE_UP,
                              .shortcut = shortcut ? DCAE_SHORTCUT_UP_REPEAT : DCAE_SHORTCUT_NONE},
                  x);
}

/* The plain 3×3 convolutions at both ends of each half. */
static DcaeLayer end_conv(const char *name, guint in_c, guint out_c, DcaeShortcut shortcut)
{
    return (DcaeLayer){.kind = DCAE_OP_CONV,
                       .source[0] = g_strdup(name),
                       .in_c = in_c,
                       .conv_c = out_c,
                       .ksize = 3,
                       .bias = TRUE,
                       .shortcut = shortcut};
}

/* Picture value -> latent value. */
static guint encoder(Builder *b, guint x)
{
    const DcaeConfig *config = b->config;
    const DcaeStage *stages = config->encoder;
    guint n = config->n_stages;

    if (stages[0].layers > 0)
        x = append(
            b,
            end_conv("encoder.conv_in", config->in_channels, stages[0].width, DCAE_SHORTCUT_NONE),
            x);
    else
        x = down_block(b, "encoder.conv_in", stages[1].width, FALSE, x);
    for (guint s = 0; s < n; s++) {
        for (guint i = 0; i <= stages[s].layers; i++) {
            g_autofree char *name = g_strdup_printf("encoder.down_blocks.%u.%u", s, i);
            if (i < stages[s].layers)
                x = block(b, name, &stages[s], x);
            else if (s < n - 1 && stages[s].layers > 0)
                x = down_block(b, name, stages[s + 1].width, TRUE, x);
        }
    }
    return append(b,
                  end_conv("encoder.conv_out", channels(b, x), config->latent_channels,
                           config->encoder_out_shortcut ? DCAE_SHORTCUT_MEAN : DCAE_SHORTCUT_NONE),
                  x);
}

/* Latent value -> picture value. */
static guint decoder(Builder *b, guint x)
{
    const DcaeConfig *config = b->config;
    const DcaeStage *stages = config->decoder;
    guint n = config->n_stages;

    x = append(b,
               end_conv("decoder.conv_in", config->latent_channels, stages[n - 1].width,
                        config->decoder_in_shortcut ? DCAE_SHORTCUT_REPEAT : DCAE_SHORTCUT_NONE),
               x);
    for (guint s = n; s-- > 0;) {
        gboolean up = s < n - 1 && stages[s].layers > 0;
        for (guint i = 0; i < stages[s].layers + up; i++) {
            g_autofree char *name = g_strdup_printf("decoder.up_blocks.%u.%u", s, i);
            x = up && i == 0 ? up_block(b, name, stages[s].width, TRUE, x)
                             : block(b, name, &stages[s], x);
        }
    }
    x = append(b,
               (DcaeLayer){.kind = DCAE_OP_RMSNORM,
                           .norm = DCAE_NORM_RMS,
                           .norm_name = g_strdup("decoder.norm_out"),
                           .in_c = channels(b, x),
                           .conv_c = channels(b, x),
                           .act = config->decoder_conv_act},
               x);
    if (stages[0].layers > 0)
        return append(
            b,
            end_conv("decoder.conv_out", stages[0].width, config->in_channels, DCAE_SHORTCUT_NONE),
            x);
    return up_block(b, "decoder.conv_out", config->in_channels, FALSE, x);
}

/* What reads the piece from the frame. */
static guint tile_input(Builder *b, const DcaeTile *tile)
{
    const DcaeGeometry *g = b->geometry;
    gboolean encode = b->direction == DCAE_ENCODE;
    guint ratio = dcae_config_ratio(b->config);
    DcaeOp op = new_op(encode ? DCAE_OP_PIXELS_IN : DCAE_OP_LATENT_IN);

    op.out = encode ? add_value(b, tile->latent_h * ratio, tile->latent_w * ratio,
                                b->config->in_channels)
                    : add_value(b, tile->latent_h, tile->latent_w, b->config->latent_channels);
    op.frame_x = tile->in_x;
    op.frame_y = tile->in_y;
    op.frame_w = encode ? g->width : b->layout->latent_w;
    op.frame_h = encode ? g->height : b->layout->latent_h;
    op.pad = g->edge == DCAE_EDGE_EXTEND ? DCAE_PAD_EXTEND : DCAE_PAD_ZERO;
    if (!encode && g->scale)
        op.scale = (float)(1.0 / b->config->scaling_factor);
    g_array_append_val(b->ops, op);
    return op.out;
}

/* What writes the kept part of the piece into the frame. */
static void tile_output(Builder *b, const DcaeTile *tile, guint x)
{
    gboolean encode = b->direction == DCAE_ENCODE;
    DcaeOp op = new_op(encode ? DCAE_OP_LATENT_OUT : DCAE_OP_PIXELS_OUT);

    op.in = x;
    op.frame_x = tile->out_x;
    op.frame_y = tile->out_y;
    op.frame_w = encode ? b->layout->latent_w : b->layout->picture_w;
    op.frame_h = encode ? b->layout->latent_h : b->layout->picture_h;
    op.out_w = tile->out_w;
    op.out_h = tile->out_h;
    if (encode && b->geometry->scale)
        op.scale = (float)b->config->scaling_factor;
    g_array_append_val(b->ops, op);
}

static void add_tile(Builder *b, const DcaeTile *tile, guint *outputs)
{
    guint x = tile_input(b, tile);

    b->next_layer = 0;
    x = b->direction == DCAE_ENCODE ? encoder(b, x) : decoder(b, x);
    if (tile->above >= 0 || tile->left >= 0) {
        DcaeOp op = new_op(DCAE_OP_BLEND);
        op.in = op.out = x;
        op.blend_h = tile->blend_h;
        op.blend_w = tile->blend_w;
        if (tile->above >= 0)
            op.above = outputs[tile->above];
        if (tile->left >= 0)
            op.left = outputs[tile->left];
        g_array_append_val(b->ops, op);
    }
    *(outputs + (tile - b->layout->tiles)) = x;
    tile_output(b, tile, x);
}

DcaeProgram *dcae_graph_build(const DcaeConfig *config, DcaeDirection direction,
                              const DcaeGeometry *geometry)
{
    DcaeLayout layout = {0};
    dcae_tiling_layout(direction, dcae_config_ratio(config), geometry, &layout);
    Builder b = {
        .config = config,
        .direction = direction,
        .geometry = geometry,
        .layout = &layout,
        .layers = g_array_new(FALSE, FALSE, sizeof(DcaeLayer)),
        .values = g_array_new(FALSE, FALSE, sizeof(DcaeValue)),
        .ops = g_array_new(FALSE, FALSE, sizeof(DcaeOp)),
    };
    g_autofree guint *outputs = g_new(guint, layout.n_tiles);

    for (guint i = 0; i < layout.n_tiles; i++)
        add_tile(&b, &layout.tiles[i], outputs);

    DcaeProgram *program = g_new0(DcaeProgram, 1);
    program->direction = direction;
    program->n_layers = b.layers->len;
    program->n_values = b.values->len;
    program->n_ops = b.ops->len;
    program->layers = (DcaeLayer *)g_array_free(b.layers, FALSE);
    program->values = (DcaeValue *)g_array_free(b.values, FALSE);
    program->ops = (DcaeOp *)g_array_free(b.ops, FALSE);
    for (guint i = 0; i < program->n_ops; i++) {
        DcaeOp *op = &program->ops[i];
        if (op->layer_index != G_MAXUINT)
            op->layer = &program->layers[op->layer_index];
        op->label = op->layer != NULL ? op->layer->label : dcae_op_kind_name(op->kind);
    }
    program->latent_c = geometry->latent_channels;
    program->latent_h = layout.latent_h;
    program->latent_w = layout.latent_w;
    program->picture_w = layout.picture_w;
    program->picture_h = layout.picture_h;
    program->n_tiles = layout.n_tiles;
    g_free(layout.tiles);
    return program;
}

void dcae_program_free(DcaeProgram *program)
{
    if (program == NULL)
        return;
    for (guint i = 0; i < program->n_layers; i++)
        layer_clear(&program->layers[i]);
    g_free(program->layers);
    g_free(program->values);
    g_free(program->ops);
    g_free(program);
}

const char *dcae_op_kind_name(DcaeOpKind kind)
{
    static const char *const names[DCAE_N_OP_KINDS] = {
        [DCAE_OP_PIXELS_IN] = "pixels-in", [DCAE_OP_PIXELS_OUT] = "pixels-out",
        [DCAE_OP_LATENT_IN] = "latent-in", [DCAE_OP_LATENT_OUT] = "latent-out",
        [DCAE_OP_CONV] = "conv",           [DCAE_OP_LINEAR] = "linear",
        [DCAE_OP_DWCONV] = "dwconv",       [DCAE_OP_GROUPED_LINEAR] = "grouped-linear",
        [DCAE_OP_ATTN_SUM] = "attn-sum",   [DCAE_OP_ATTN_APPLY] = "attn-apply",
        [DCAE_OP_RMSNORM] = "rmsnorm",     [DCAE_OP_BLEND] = "blend",
    };
    return names[kind];
}

void dcae_op_input_rows(const DcaeOp *op, guint y0, guint y1, gint *in_y0, gint *in_y1)
{
    if (op->layer == NULL) {
        *in_y0 = (gint)y0;
        *in_y1 = (gint)y1;
        return;
    }
    const DcaeLayer *l = op->layer;
    guint up = l->row_ratio_up, down = l->row_ratio_down;
    *in_y0 = (gint)(y0 * down / up) - (gint)l->above;
    *in_y1 = (gint)((y1 * down + up - 1) / up) + (gint)l->below;
}

double dcae_op_flop(const DcaeProgram *program, const DcaeOp *op)
{
    if (op->kind == DCAE_OP_ATTN_SUM || op->kind == DCAE_OP_ATTN_APPLY) {
        const DcaeValue *in = &program->values[op->in];
        return 2.0 * in->h * in->w * op->heads * (op->head_dim + 1) * op->head_dim;
    }
    if (op->layer == NULL || op->kind == DCAE_OP_RMSNORM)
        return 0;
    const DcaeLayer *l = op->layer;
    const DcaeValue *in = &program->values[op->in];
    double pixels = (double)in->h * in->w * (l->nearest2 ? 4 : 1) / (l->stride * l->stride);
    double taps = (double)l->ksize * l->ksize;
    double inputs = l->kind == DCAE_OP_DWCONV ? 1 : (double)l->in_c / l->groups;
    return 2.0 * pixels * l->conv_c * inputs * taps;
}
