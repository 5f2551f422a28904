/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_plan.c - plans, checked by walking their steps over a model of the arena: every cell
 * remembers which row of which value was written there last. A step that reads a row finds it where
 * the plan says, in full, written by every op that had to, and not overwritten by another value;
 * every op makes each of its rows once.
 */
#include <string.h>

#include "dcae_plan.h"
#include "dcae_tensor.h"

#define CELL 64 /* bytes; slots and image sizes are multiples of it */

typedef struct {
    guint value; /* plus one; 0: nothing */
    guint row;
} Cell;

typedef struct {
    const DcaeProgram *program;
    const DcaeTraits *traits;
    const DcaePlan *plan;
    Cell *arena;
    guint *done; /* per op: rows made */
    guint *skip; /* per op: that of its first step */
} Walk;

static guint align_of(const DcaeProgram *program, const DcaeOp *op, gconstpointer params)
{
    return op->kind == DCAE_OP_CONV
               ? (op->layer->shuffle == DCAE_SHUFFLE_UP || op->layer->nearest2 ? 8 : 4)
               : 1;
}

static guint one_row(const DcaeProgram *program, const DcaeOp *op, gconstpointer params)
{
    return 1;
}

static gsize no_workspace(const DcaeProgram *program, const DcaeOp *op, guint rows,
                          gconstpointer params)
{
    return 0;
}

/* Rows of 64 bytes, as many as the step has, and never a multiple of them. */
static gsize small_workspace(const DcaeProgram *program, const DcaeOp *op, guint rows,
                             gconstpointer params)
{
    return op->kind == DCAE_OP_CONV ? 8192 + CELL * rows - 1 : CELL * rows - 1;
}

static guint some_rows(const DcaeProgram *program, const DcaeOp *op, gconstpointer params)
{
    return 4 * align_of(program, op, params);
}

static const DcaeTraits traits = {
    .row_align = align_of,
    .min_rows = one_row,
    .workspace = no_workspace,
    .element_size = sizeof(float),
};

/* As the CPU has them, but with all borders at multiples of the alignment. */
static const DcaeTraits free_traits = {
    .row_align = align_of,
    .free_rows = some_rows,
    .workspace = small_workspace,
    .element_size = sizeof(float),
    .workspace_in_arena = TRUE,
};

/* Convolutions begin at any row, those that make pairs of rows at any pair. */
static guint shift_of(const DcaeProgram *program, const DcaeOp *op, gconstpointer params)
{
    return op->kind == DCAE_OP_CONV ? align_of(program, op, params) / 4 : 0;
}

static const DcaeTraits shifted_traits = {
    .row_align = align_of,
    .row_shift = shift_of,
    .free_rows = some_rows,
    .workspace = small_workspace,
    .element_size = sizeof(float),
    .workspace_in_arena = TRUE,
};

/* Cells that belong to row `row` of a value and to no other: rows may share a cell at their
 * borders. */
static void row_cells(const Walk *w, guint value, guint image, guint slot_row, gsize *begin,
                      gsize *end)
{
    const DcaeSlot *slot = &w->plan->slots[value];
    gsize at = slot->offset + image * slot->image_bytes + slot_row * slot->row_bytes;

    g_assert_cmpuint(slot_row, <, slot->rows);
    g_assert_cmpuint(at + slot->row_bytes, <=, w->plan->arena_bytes);
    *begin = (at + CELL - 1) / CELL;
    *end = MAX((at + slot->row_bytes) / CELL, *begin);
}

static void write_row(Walk *w, guint value, guint row0, guint row)
{
    for (guint image = 0; image < w->plan->batch; image++) {
        gsize begin, end;
        row_cells(w, value, image, row - row0, &begin, &end);
        for (gsize i = begin; i < end; i++)
            w->arena[i] = (Cell){value + 1, row};
    }
}

static void check_row(const Walk *w, guint value, guint row0, guint row)
{
    g_assert_cmpuint(row, >=, row0);
    for (guint image = 0; image < w->plan->batch; image++) {
        gsize begin, end;
        row_cells(w, value, image, row - row0, &begin, &end);
        for (gsize i = begin; i < end; i++) {
            g_assert_cmpuint(w->arena[i].value, ==, value + 1);
            g_assert_cmpuint(w->arena[i].row, ==, row);
        }
    }
}

/* Rows [y0, y1) of `value`, read by op `reader`: they are there, and every op before it that writes
 * the value made them. */
static void check_read(const Walk *w, guint reader, guint value, guint row0, gint y0, gint y1)
{
    gint h = (gint)w->program->values[value].h;

    y0 = MAX(y0, 0);
    y1 = MIN(y1, h);
    for (gint y = y0; y < y1; y++)
        check_row(w, value, row0, (guint)y);
    for (guint i = 0; i < reader; i++)
        if (w->program->ops[i].out == value)
            g_assert_cmpint((gint)w->done[i], >=, y1);
}

static guint rows_of(const DcaeProgram *program, const DcaeOp *op)
{
    if (op->kind == DCAE_OP_PIXELS_OUT || op->kind == DCAE_OP_LATENT_OUT)
        return op->out_h;
    return program->values[op->out != DCAE_NO_VALUE ? op->out : op->in].h;
}

/* A step may write its workspace while it still reads its values. */
static void spoil_workspace(Walk *w, const DcaeStep *step)
{
    gsize bytes = w->traits->workspace(w->program, &w->program->ops[step->op],
                                       step->y1 - step->y0 + step->skip, NULL);

    if (!w->traits->workspace_in_arena) {
        g_assert_cmpuint(bytes, <=, w->plan->workspace_bytes);
        return;
    }
    g_assert_cmpuint(w->plan->workspace_bytes, ==, 0);
    g_assert_cmpuint(step->workspace % CELL, ==, 0);
    g_assert_cmpuint(step->workspace + bytes, <=, w->plan->arena_bytes);
    for (gsize i = step->workspace / CELL; i < (step->workspace + bytes + CELL - 1) / CELL; i++)
        w->arena[i] = (Cell){w->program->n_values + 1, 0};
}

static void walk_run(Walk *w, const DcaeStep *step)
{
    const DcaeOp *op = &w->program->ops[step->op];
    gint y0, y1;

    spoil_workspace(w, step);
    g_assert_cmpuint(step->y0, ==, w->done[step->op]);
    g_assert_cmpuint(step->y1, <=, rows_of(w->program, op));
    if (step->y0 == 0)
        w->skip[step->op] = step->skip;
    else
        g_assert_cmpuint(step->skip, ==, 0);
    if (step->y1 < rows_of(w->program, op))
        g_assert_cmpuint((step->y1 + w->skip[step->op]) % align_of(w->program, op, NULL), ==, 0);
    dcae_op_input_rows(op, step->y0, step->y1, &y0, &y1);
    if (op->in != DCAE_NO_VALUE)
        check_read(w, step->op, op->in, step->in_row0, y0, y1);
    if (op->residual != DCAE_NO_VALUE)
        check_read(w, step->op, op->residual, step->residual_row0, (gint)step->y0, (gint)step->y1);
    if (op->above != DCAE_NO_VALUE)
        check_read(w, step->op, op->above, 0, 0, G_MAXINT);
    if (op->left != DCAE_NO_VALUE)
        check_read(w, step->op, op->left, 0, 0, G_MAXINT);
    if (op->state != DCAE_NO_VALUE) {
        const DcaeSlot *state = &w->plan->slots[op->state];
        for (gsize i = 0; i < state->image_bytes * w->plan->batch / CELL; i++)
            g_assert_cmpuint(w->arena[state->offset / CELL + i].value, ==, op->state + 1);
    }
    if (op->kind == DCAE_OP_ATTN_APPLY) /* the sums are complete */
        for (guint i = 0; i < step->op; i++)
            if (w->program->ops[i].kind == DCAE_OP_ATTN_SUM &&
                w->program->ops[i].state == op->state)
                g_assert_cmpuint(w->done[i], ==, rows_of(w->program, &w->program->ops[i]));
    w->done[step->op] = step->y1;
    if (op->out != DCAE_NO_VALUE)
        for (guint y = step->y0; y < step->y1; y++)
            write_row(w, op->out, step->out_row0, y);
}

static void walk_keep(Walk *w, const DcaeStep *step)
{
    for (guint y = step->y0; y < step->y1; y++) {
        check_row(w, step->value, step->y0 - step->in_row, y);
        write_row(w, step->value, step->y0, y);
    }
}

static void walk_clear(Walk *w, const DcaeStep *step)
{
    const DcaeSlot *slot = &w->plan->slots[step->value];

    g_assert_cmpuint(slot->image_bytes * w->plan->batch + slot->offset, <=, w->plan->arena_bytes);
    for (gsize i = 0; i < slot->image_bytes * w->plan->batch / CELL; i++)
        w->arena[slot->offset / CELL + i] = (Cell){step->value + 1, 0};
}

static void walk(const DcaeProgram *program, const DcaeTraits *t, const DcaePlan *plan)
{
    Walk w = {.program = program, .traits = t, .plan = plan};

    w.arena = g_new0(Cell, plan->arena_bytes / CELL + 1);
    w.done = g_new0(guint, program->n_ops);
    w.skip = g_new0(guint, program->n_ops);
    for (guint i = 0; i < plan->n_steps; i++) {
        const DcaeStep *step = &plan->steps[i];
        if (step->kind == DCAE_STEP_RUN)
            walk_run(&w, step);
        else if (step->kind == DCAE_STEP_KEEP)
            walk_keep(&w, step);
        else
            walk_clear(&w, step);
    }
    for (guint i = 0; i < program->n_ops; i++)
        if (program->ops[i].kind == DCAE_OP_PIXELS_OUT ||
            program->ops[i].kind == DCAE_OP_LATENT_OUT)
            g_assert_cmpuint(w.done[i], ==, program->ops[i].out_h);
    g_free(w.arena);
    g_free(w.done);
    g_free(w.skip);
}

/* ---- programs ---- */

static DcaeConfig config_of(gboolean conv, gboolean vit)
{
    DcaeConfig c = {
        .in_channels = 3, .latent_channels = 8, .head_dim = 8, .n_stages = 4, .scaling_factor = 1};

    for (guint i = 0; i < 4; i++) {
        DcaeStage stage = {.block = vit && i >= 2 ? DCAE_BLOCK_EFFICIENT_VIT : DCAE_BLOCK_RES,
                           .width = 16u << (i / 2),
                           .layers = 1 + i % 2,
                           .n_scales = i == 3 ? 2 : 0,
                           .scales = {3, 5},
                           .norm = DCAE_NORM_RMS,
                           .act = DCAE_ACT_SILU};
        c.encoder[i] = c.decoder[i] = stage;
    }
    c.encoder[0].layers = c.decoder[0].layers = conv ? 1 : 0;
    c.down_unshuffle = !conv;
    c.up_interpolate = conv;
    c.encoder_out_shortcut = c.decoder_in_shortcut = TRUE;
    return c;
}

/* cut: rows of pixels that the latents have too many. */
static DcaeProgram *build_cut(DcaeDirection direction, guint variant, guint w, guint h, guint cut,
                              DcaeTilingMode mode)
{
    DcaeConfig config = config_of(variant & 1, variant & 2);
    DcaeGeometry g = {
        .width = w * 8,
        .height = h * 8 - cut,
        .latent_width = w,
        .latent_height = h,
        .latent_channels = 8,
        .batch = 1,
        .tiling = {.mode = mode,
                   .tile_width = 32,
                   .tile_height = 32,
                   .stride_width = 24,
                   .stride_height = 24},
    };
    return dcae_graph_build(&config, direction, &g);
}

static DcaeProgram *build(DcaeDirection direction, guint variant, guint w, guint h,
                          DcaeTilingMode mode)
{
    return build_cut(direction, variant, w, h, 3, mode);
}

static void test_bands(void)
{
    for (guint n = 0; n < 8; n++)
        for (guint h = 1; h <= 13; h += 4) {
            DcaeProgram *program =
                build(n & 4 ? DCAE_DECODE : DCAE_ENCODE, n & 3, 5, h, DCAE_TILING_OFF);
            for (guint rows = 0; rows <= 9; rows++) {
                DcaePlanParams params = {.exact = rows > 0,
                                         .band_rows = rows,
                                         .tight = rows % 3 == 0,
                                         .batch = 1 + rows % 2};
                g_autoptr(GError) error = NULL;
                DcaePlan *plan = dcae_plan_new(program, &traits, &params, &error);
                g_assert_no_error(error);
                if (rows == 0)
                    g_assert_cmpuint(plan->bands, ==, 1);
                if (rows == 1 && h > 4)
                    g_assert_cmpuint(plan->bands, >, 1);
                walk(program, &traits, plan);
                dcae_plan_free(plan);
            }
            dcae_program_free(program);
        }
}

static guint skip_of(const DcaePlan *plan, guint op)
{
    for (guint i = 0; i < plan->n_steps; i++)
        if (plan->steps[i].kind == DCAE_STEP_RUN && plan->steps[i].op == op &&
            plan->steps[i].y0 == 0)
            return plan->steps[i].skip;
    return 0;
}

/* What the op's next reader needs for the rows up to its own first border ends at a border. Returns
 * whether the borders are shifted. */
static gboolean check_shift(const DcaeProgram *program, const DcaePlan *plan, guint i)
{
    const DcaeOp *op = &program->ops[i];
    guint align = align_of(program, op, NULL), shift = shift_of(program, op, NULL),
          skip = skip_of(plan, i);

    g_assert_cmpuint(skip, <, align);
    if (shift == 0) {
        g_assert_cmpuint(skip, ==, 0);
        return FALSE;
    }
    g_assert_cmpuint(skip % shift, ==, 0);
    for (guint r = i + 1; r < program->n_ops; r++) {
        const DcaeOp *reader = &program->ops[r];
        gint y0, y1;
        if (reader->in != op->out || align_of(program, reader, NULL) == 1)
            continue;
        dcae_op_input_rows(reader, 0, align_of(program, reader, NULL) - skip_of(plan, r), &y0, &y1);
        g_assert_cmpuint((dcae_round_up((guint)y1, shift) + skip) % align, ==, 0);
        return skip > 0;
    }
    g_assert_cmpuint(skip, ==, 0);
    return FALSE;
}

/* Borders that lie where readers need them are the same ones with any number of bands, and take
 * less memory. */
static void test_shift(void)
{
    for (guint n = 0; n < 16; n++) {
        DcaeProgram *program = build_cut(n & 4 ? DCAE_DECODE : DCAE_ENCODE, n & 3, 5, 13,
                                         n & 8 ? 45 : 3, DCAE_TILING_OFF);
        DcaePlanParams params = {.batch = 1};
        DcaePlan *whole = dcae_plan_new(program, &shifted_traits, &params, NULL);
        guint shifted = 0;

        for (guint i = 0; i < program->n_ops; i++)
            shifted += check_shift(program, whole, i);
        g_assert_cmpuint(shifted, >, 3);
        walk(program, &shifted_traits, whole);
        for (params.band_rows = 1; params.band_rows <= 9; params.band_rows++) {
            params.exact = TRUE;
            params.tight = params.band_rows % 2;
            DcaePlan *plan = dcae_plan_new(program, &shifted_traits, &params, NULL);
            DcaePlan *aligned = dcae_plan_new(program, &free_traits, &params, NULL);
            for (guint i = 0; i < program->n_ops; i++)
                g_assert_cmpuint(skip_of(plan, i), ==, skip_of(whole, i));
            if (params.band_rows == 1)
                g_assert_cmpuint(plan->peak_bytes, <, aligned->peak_bytes);
            walk(program, &shifted_traits, plan);
            dcae_plan_free(aligned);
            dcae_plan_free(plan);
        }
        dcae_plan_free(whole);
        dcae_program_free(program);
    }
}

static void test_tiles(void)
{
    for (guint n = 0; n < 8; n++) {
        DcaeProgram *program =
            build(n & 4 ? DCAE_DECODE : DCAE_ENCODE, n & 3, 11, 7, DCAE_TILING_BLEND);
        DcaePlan *plan = dcae_plan_new(program, &traits, &(DcaePlanParams){.batch = 2}, NULL);
        g_assert_cmpuint(program->n_tiles, >, 1);
        walk(program, &traits, plan);
        dcae_plan_free(plan);
        dcae_program_free(program);
    }
}

/* Less memory, more bands; the plan stays under every limit that it accepts, and an error names a
 * limit that works. */
static void test_limit(void)
{
    for (guint n = 0; n < 8; n++) {
        DcaeProgram *program =
            build(n & 4 ? DCAE_DECODE : DCAE_ENCODE, n & 3, 40, 90, DCAE_TILING_OFF);
        DcaePlan *whole =
            dcae_plan_new(program, &traits, &(DcaePlanParams){.exact = TRUE, .batch = 1}, NULL);
        guint bands = whole->bands;
        g_autoptr(GError) error = NULL;
        gsize limit = whole->peak_bytes;

        g_assert_cmpuint(bands, ==, 1);
        for (;; limit = limit * 3 / 4) {
            DcaePlanParams params = {.exact = TRUE, .memory_limit = limit, .batch = 1};
            DcaePlan *plan = dcae_plan_new(program, &traits, &params, &error);
            if (plan == NULL)
                break;
            g_assert_cmpuint(plan->peak_bytes, <=, limit);
            bands = MAX(bands, plan->bands);
            walk(program, &traits, plan);
            dcae_plan_free(plan);
        }
        g_assert_cmpuint(bands, >, 4);
        g_assert_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS);
        const char *least = strstr(error->message, "at least ");
        g_assert_nonnull(least);
        DcaePlanParams params = {.exact = TRUE, .batch = 1};
        params.memory_limit = g_ascii_strtoull(least + strlen("at least "), NULL, 10) << 20;
        DcaePlan *plan = dcae_plan_new(program, &traits, &params, NULL);
        g_assert_nonnull(plan);
        g_assert_cmpuint(plan->peak_bytes, <=, params.memory_limit);
        dcae_plan_free(plan);
        dcae_plan_free(whole);
        dcae_program_free(program);
    }
}

static void check_full_speed(const DcaeProgram *program, const DcaePlan *plan)
{
    for (guint i = 0; i < plan->n_steps; i++) {
        const DcaeStep *step = &plan->steps[i];
        const DcaeOp *op = &program->ops[step->op];
        if (step->kind == DCAE_STEP_RUN && step->y0 == 0)
            g_assert_cmpuint(step->y1, >=, MIN(some_rows(program, op, NULL), rows_of(program, op)));
    }
}

/* Without a limit and with one that is far off, the plan takes what full speed needs and no more;
 * a frame of few rows is not cut. */
static void test_full_speed(void)
{
    for (guint n = 0; n < 8; n++) {
        DcaeDirection direction = n & 4 ? DCAE_DECODE : DCAE_ENCODE;
        DcaeProgram *program = build(direction, n & 3, 40, 90, DCAE_TILING_OFF);
        DcaePlanParams params = {.exact = TRUE, .batch = 1};
        DcaePlan *plan = dcae_plan_new(program, &free_traits, &params, NULL);
        DcaePlan *whole = dcae_plan_new(program, &free_traits, &(DcaePlanParams){.batch = 1}, NULL);

        params.memory_limit = whole->peak_bytes;
        DcaePlan *limited = dcae_plan_new(program, &free_traits, &params, NULL);
        g_assert_cmpuint(limited->peak_bytes, ==, plan->peak_bytes);
        g_assert_cmpuint(plan->peak_bytes, <, whole->peak_bytes * 3 / 4);
        check_full_speed(program, plan);
        walk(program, &free_traits, plan);
        walk(program, &free_traits, whole);
        dcae_plan_free(limited);
        params.memory_limit = plan->peak_bytes * 3 / 4;
        limited = dcae_plan_new(program, &free_traits, &params, NULL);
        g_assert_nonnull(limited);
        g_assert_cmpuint(limited->peak_bytes, <=, params.memory_limit);
        walk(program, &free_traits, limited);
        dcae_plan_free(limited);

        /* Memory that is not worth saving is used, but never more than the limit. */
        DcaeTraits generous = free_traits;
        generous.free_bytes = whole->peak_bytes;
        limited = dcae_plan_new(program, &generous, &params, NULL);
        g_assert_nonnull(limited);
        g_assert_cmpuint(limited->peak_bytes, <=, params.memory_limit);
        dcae_plan_free(limited);
        params.memory_limit = 0;
        limited = dcae_plan_new(program, &generous, &params, NULL);
        g_assert_cmpuint(limited->bands, ==, 1);
        dcae_plan_free(limited);
        dcae_plan_free(whole);
        dcae_plan_free(plan);
        dcae_program_free(program);

        program = build(direction, n & 3, 5, 1, DCAE_TILING_OFF);
        params.memory_limit = 0;
        plan = dcae_plan_new(program, &free_traits, &params, NULL);
        g_assert_cmpuint(plan->bands, ==, 1);
        dcae_plan_free(plan);
        dcae_program_free(program);
    }
}

/* Layers don't depend on the size or the tiles: weights are packed once for all of them. */
static void test_layers(void)
{
    for (guint n = 0; n < 8; n++) {
        DcaeDirection direction = n & 4 ? DCAE_DECODE : DCAE_ENCODE;
        DcaeProgram *small = build(direction, n & 3, 1, 1, DCAE_TILING_OFF);
        DcaeProgram *tiled = build(direction, n & 3, 11, 7, DCAE_TILING_BLEND);
        g_assert_cmpuint(small->n_layers, ==, tiled->n_layers);
        for (guint i = 0; i < small->n_layers; i++) {
            g_assert_cmpstr(small->layers[i].label, ==, tiled->layers[i].label);
            g_assert_cmpuint(small->layers[i].conv_c, ==, tiled->layers[i].conv_c);
        }
        dcae_program_free(small);
        dcae_program_free(tiled);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/plan/bands", test_bands);
    g_test_add_func("/plan/shift", test_shift);
    g_test_add_func("/plan/tiles", test_tiles);
    g_test_add_func("/plan/limit", test_limit);
    g_test_add_func("/plan/full-speed", test_full_speed);
    g_test_add_func("/plan/layers", test_layers);
    return g_test_run();
}
