/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_graph.h - the program: configuration and size as a flat array of ops on NHWC tensors.
 *
 * dcae_graph.c is the only place that knows the DC-AE network and its tensor names. Everything
 * after it (weight packing, plan, backends, timings, tests) reads these arrays. An op computes
 * whole tensors here; the plan cuts it into rows.
 */
#ifndef DCAE_GRAPH_H
#define DCAE_GRAPH_H

#include "dcae_config.h"

typedef enum {
    DCAE_OP_PIXELS_IN,  /* picture -> [h][w][3] in [-1, 1] */
    DCAE_OP_PIXELS_OUT, /* [h][w][3] -> picture, clamped and rounded */
    DCAE_OP_LATENT_IN, /* planar latent times scale -> [h][w][c]; channels that the latent lacks are
                          0 */
    DCAE_OP_LATENT_OUT,     /* [h][w][c] times scale -> planar latent, its first channels */
    DCAE_OP_CONV,           /* 3×3 convolution with everything that DcaeLayer says */
    DCAE_OP_LINEAR,         /* 1×1 convolution, the same epilogue */
    DCAE_OP_DWCONV,         /* depthwise k×k, optional bias and gate */
    DCAE_OP_GROUPED_LINEAR, /* 1×1 convolution in groups, no bias */
    DCAE_OP_ATTN_SUM,       /* adds its rows of k and v into the state */
    DCAE_OP_ATTN_APPLY,     /* state times its rows of q, normalised */
    DCAE_OP_RMSNORM,        /* norm with bias, then activation */
    DCAE_OP_BLEND,          /* blends a tile with the tiles above and to the left */
    DCAE_N_OP_KINDS
} DcaeOpKind;

typedef enum {
    DCAE_SHUFFLE_NONE,
    DCAE_SHUFFLE_DOWN, /* pixel-unshuffle 2 of the product: channel n of pixel (2y+dy, 2x+dx) ->
                          channel 4n+2dy+dx of (y, x) */
    DCAE_SHUFFLE_UP,   /* pixel-shuffle 2 of the product: the reverse */
} DcaeShuffle;

/* What a convolution adds to its result (after bias), computed from its own input. r = the ratio of
 * the two channel counts. */
typedef enum {
    DCAE_SHORTCUT_NONE,
    DCAE_SHORTCUT_MEAN,   /* mean over groups of in_c / out_c consecutive input channels, same pixel
                           */
    DCAE_SHORTCUT_REPEAT, /* each input channel out_c / in_c times, same pixel */
    DCAE_SHORTCUT_DOWN_MEAN, /* pixel-unshuffle 2, then mean over groups of 4·in_c / out_c
                                consecutive channels */
    DCAE_SHORTCUT_UP_REPEAT, /* each channel 4·out_c / in_c times, then pixel-shuffle 2 */
} DcaeShortcut;

#define DCAE_MAX_SOURCES 3

/* Weights and arithmetic of one layer. Independent of the frame size: `prepare` packs layers, and
 * every op that runs a layer points to it. Layer n of a configuration and direction is the same for
 * every size and tiling. */
typedef struct {
    DcaeOpKind kind; /* CONV, LINEAR, DWCONV, GROUPED_LINEAR or RMSNORM */
    char *label;     /* names the layer in messages, as "encoder.down_blocks.3.0.attn.to_qkv[q]" */

    /* Tensors "<source>.weight", stacked on output channels in this order (q|k|v); [out, in, k, k]
     * for CONV, [out, in] for LINEAR, [out, 1, k, k] for DWCONV, [out, in/groups, 1, 1] for
     * GROUPED_LINEAR; unused for RMSNORM. */
    char *source[DCAE_MAX_SOURCES];
    guint n_sources;
    guint source_c; /* output channels of each source */

    /* Of the n_sources·source_c stacked output rows, those with row % pick_period in [pick_first,
     * pick_first + pick_count) are used, in order; 0 period: all. Attention takes q, or k and v, of
     * every head this way: a head is 3·head_dim consecutive channels of q|k|v, so its q is NOT a
     * slice of to_q. */
    guint pick_period, pick_first, pick_count;

    guint in_c;        /* input channels of the product (the channel count of the input tensor) */
    guint conv_c;      /* output channels of the product, before shuffle or gate */
    guint out_c;       /* channels of the output tensor: conv_c; 4·conv_c or conv_c/4 with shuffle;
                          conv_c/2 with gate */
    guint ksize;       /* 1, 3 or any odd for DWCONV */
    guint stride;      /* 1 or 2 (CONV) */
    guint groups;      /* GROUPED_LINEAR: in_c / groups channels each */
    gboolean nearest2; /* CONV: input is enlarged ×2 by nearest neighbour first */
    gboolean bias;     /* "<source[0]>.bias" */
    gboolean gate;     /* DWCONV: out[c] = x[c] · silu(x[c + conv_c/2]) after bias */
    DcaeAct act;       /* after bias (RMSNORM: after the norm) */
    DcaeShuffle shuffle;
    DcaeShortcut shortcut;
    DcaeNorm norm; /* after activation: RMS over the out_c channels of a pixel, eps 1e-5, weight and
                      bias; BATCH: running statistics, eps 1e-5, folded when packing */
    char *norm_name;   /* "<norm_name>.weight", ".bias" (".running_mean", ".running_var") */
    gboolean residual; /* the op's residual tensor is added last */
    guint row_ratio_up, row_ratio_down; /* output rows : input rows = up : down */
    guint above, below; /* input rows needed above and below the rows that map straight; see
                           dcae_op_input_rows() */
} DcaeLayer;

/* A tensor of the program: h × w pixels of c channels. Which memory it gets is the plan's business.
 */
typedef struct {
    guint h, w, c;
    gboolean state; /* ATTN state: not rows of a picture; h = heads, w = head_dim + 1, c = head_dim,
                       f32, zeroed before the first ATTN_SUM */
} DcaeValue;

#define DCAE_NO_VALUE G_MAXUINT

typedef enum { DCAE_PAD_ZERO, DCAE_PAD_EXTEND } DcaePad;

typedef struct {
    DcaeOpKind kind;
    const DcaeLayer *layer; /* NULL for kinds without weights; owned by the program */
    guint layer_index;
    const char *label; /* layer label or kind name; owned by the program */

    /* Values, or DCAE_NO_VALUE. in_c0, out_c0: first channel of the value that the op reads or
     * writes (concatenation is a channel offset, not an op); how many is the layer's in_c and
     * out_c. */
    guint in, in_c0;
    guint out, out_c0;
    guint residual;
    guint state; /* ATTN_SUM: written. ATTN_APPLY: read */

    /* ATTN_SUM: in holds, per head, k then v (2·head_dim consecutive channels); ATTN_APPLY: in
     * holds q, head_dim channels a head. */
    guint heads, head_dim;

    /* PIXELS_IN, PIXELS_OUT, LATENT_IN, LATENT_OUT: place in the frame of row 0, column 0 of the
     * value. PIXELS_IN: rows and columns outside frame_w × frame_h are made by pad. PIXELS_OUT,
     * LATENT_OUT: only the first out_w × out_h pixels of the value are written. */
    guint frame_x, frame_y, frame_w, frame_h;
    guint out_w, out_h;
    DcaePad pad;
    float scale; /* LATENT_IN, LATENT_OUT: factor that is applied (1 where unscaled) */

    /* BLEND: in is blended in place (out == in) with above (last blend_h rows of it) and then left
     * (last blend_w columns); either may be absent. */
    guint above, left;
    guint blend_h, blend_w;
} DcaeOp;

typedef struct {
    DcaeDirection direction;
    guint n_layers;
    DcaeLayer *layers;
    guint n_values;
    DcaeValue *values;
    guint n_ops;
    DcaeOp *ops;
    guint latent_c, latent_h, latent_w;
    guint picture_w, picture_h; /* what the latent stands for, after crop */
    guint n_tiles;
} DcaeProgram;

/* Builds the program of one direction for a checked geometry (ratio and tiles legal:
 * dcae_tiling.h). tiling.mode is OFF, EXACT (same program) or BLEND. Only allocates memory
 * proportional to the number of ops. Never fails for a legal configuration. */
DcaeProgram *dcae_graph_build(const DcaeConfig *config, DcaeDirection direction,
                              const DcaeGeometry *geometry);
void dcae_program_free(DcaeProgram *program);

const char *dcae_op_kind_name(DcaeOpKind kind);

/* Rows of the input value needed for output rows [y0, y1) of a layer, before clamping to the
 * picture: [floor(y0·down/up) - above, ceil(y1·down/up) + below). */
void dcae_op_input_rows(const DcaeOp *op, guint y0, guint y1, gint *in_y0, gint *in_y1);

/* 2 × multiply-adds of the whole op, by its definition. */
double dcae_op_flop(const DcaeProgram *program, const DcaeOp *op);

#endif
