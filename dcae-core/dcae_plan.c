/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_plan.c - cuts a program into row bands and lays its values out in one arena.
 *
 * The program falls into segments: one ends with each ATTN_SUM, whose result is only known when
 * every row went in. Inside a segment each op makes every output row exactly once, some rows at a
 * time, and the latest op that finds its input always goes first: rows are used up soon after they
 * are made. A value that only its own segment reads is held as a window of rows; a KEEP step moves
 * the rows that are still needed to the head of the window. Values that cross segments are held
 * whole. How many rows an op makes at a time follows from the memory limit; with all of them at
 * once the plan is that of whole frames. Knows no network and no kernels.
 */
#include "dcae_plan.h"

#include "dcae_tensor.h"

#define CHANNEL_ALIGN 16u
#define BYTE_ALIGN 64u
#define STRETCH 64u /* steps */

typedef struct {
    guint first, end; /* ops */
    guint rows;       /* most output rows that one of its ops has */
    guint band; /* of these rows are made at a time, fewer in proportion where an op has fewer */
    gboolean full_speed; /* but never fewer than full_speed_rows() says */
    gboolean tight;      /* windows are kept small at the cost of more copies */
    guint n_bands;       /* most steps that one op was cut into */
} Segment;

/* Rolling window of a value while bands are laid out. */
typedef struct {
    guint row0;                        /* picture row at slot row 0 */
    guint written;                     /* rows [row0, written) are there */
    guint rows;                        /* most rows held at once */
    guint first_segment, last_segment; /* that touch the value */
    guint first_step, last_step;       /* while it is live; first_step > last_step: never */

    /* A whole value takes over the memory of another that its segment reads for the last time,
     * `lag` rows behind the first row still needed. Values that follow each other so share the
     * allocation of the first, their root. */
    guint partner; /* the value before, or DCAE_NO_VALUE */
    guint lag;
    guint root;       /* itself where it has an allocation of its own */
    guint row_offset; /* of its row 0 in the root's allocation */
    guint total_rows; /* root: rows of the allocation */
    gsize bytes;      /* root: of the allocation, whole batch; else 0 */
} Window;

/* Workspace of steps [first_step, last_step]: ops of which one runs between two steps of another
 * have one in common. */
typedef struct {
    guint first_step, last_step;
    gsize bytes;
    gsize offset; /* in the arena */
} Workspace;

typedef struct {
    const DcaeProgram *program;
    const DcaeTraits *traits;
    const DcaePlanParams *params;
    guint n_segments;
    Segment *segments;
    guint *done;         /* per op: output rows made so far */
    guint *need;         /* per op: output rows to make in all */
    guint *chunk;        /* per op: output rows to make at a time */
    guint *n_steps;      /* per op: so far, in this layout of its segment */
    guint *first_border; /* per op: below its row align; further borders follow at multiples */
    guint *first_writer; /* per value: first op that writes it, or n_ops */
    guint *next_writer;  /* per op: next op that writes the same value, or n_ops */
    Window *windows;     /* per value */
    guint *c_stride;     /* per value: elements of a pixel */
    GArray *steps;       /* DcaeStep; workspace holds bytes until they have their place */
    guint *last_step;    /* per op: its last in steps */
    GArray *workspaces;  /* Workspace */
} Planner;

static guint op_rows(const DcaeProgram *program, const DcaeOp *op)
{
    if (op->kind == DCAE_OP_PIXELS_OUT || op->kind == DCAE_OP_LATENT_OUT)
        return op->out_h;
    return program->values[op->out != DCAE_NO_VALUE ? op->out : op->in].h;
}

static gsize row_bytes(const Planner *p, guint value)
{
    const DcaeValue *v = &p->program->values[value];
    return (gsize)v->w * p->c_stride[value] * p->traits->element_size;
}

static gsize align_bytes(gsize bytes)
{
    return (bytes + BYTE_ALIGN - 1) / BYTE_ALIGN * BYTE_ALIGN;
}

static gsize value_bytes(const Planner *p, guint value, guint rows)
{
    const DcaeValue *v = &p->program->values[value];
    if (v->state)
        return align_bytes((gsize)v->h * v->w * v->c * sizeof(float)) * p->params->batch;
    return align_bytes(rows * row_bytes(p, value)) * p->params->batch;
}

#define OP_VALUES 6

/* Every value that an op touches, DCAE_NO_VALUE among them. */
static void op_values(const DcaeOp *op, guint values[OP_VALUES])
{
    values[0] = op->in;
    values[1] = op->out;
    values[2] = op->residual;
    values[3] = op->state;
    values[4] = op->above;
    values[5] = op->left;
}

static void touch_values(Planner *p, const DcaeOp *op, guint segment)
{
    guint values[OP_VALUES];

    op_values(op, values);
    for (guint i = 0; i < OP_VALUES; i++) {
        if (values[i] == DCAE_NO_VALUE)
            continue;
        Window *w = &p->windows[values[i]];
        w->first_segment = MIN(w->first_segment, segment);
        w->last_segment = MAX(w->last_segment, segment);
    }
}

static gboolean is_whole(const Planner *p, guint value)
{
    return p->windows[value].first_segment != p->windows[value].last_segment;
}

static void find_segments(Planner *p)
{
    const DcaeProgram *program = p->program;
    GArray *segments = g_array_new(FALSE, FALSE, sizeof(Segment));
    guint first = 0;

    for (guint i = 0; i < program->n_values; i++)
        p->windows[i] = (Window){.first_segment = G_MAXUINT};
    for (guint i = 0, rows = 0; i < program->n_ops; i++) {
        const DcaeOp *op = &program->ops[i];
        rows = MAX(rows, op_rows(program, op));
        gboolean ends = op->kind == DCAE_OP_ATTN_SUM || op->kind == DCAE_OP_PIXELS_OUT ||
                        op->kind == DCAE_OP_LATENT_OUT;
        touch_values(p, op, segments->len);
        if (!ends)
            continue;
        Segment s = {.first = first, .end = i + 1, .rows = rows};
        g_array_append_val(segments, s);
        first = i + 1;
        rows = 0;
    }
    p->n_segments = segments->len;
    p->segments = (Segment *)g_array_free(segments, FALSE);
}

/* The whole value that `out` may take over, among those whose last segment is out's first: `next`
 * chains them in ascending order from `v` on. */
static guint find_partner(const Planner *p, guint out, guint v, const guint *next)
{
    const DcaeValue *value = &p->program->values[out];

    for (; v < out; v = next[v])
        if (!p->program->values[v].state && p->program->values[v].h == value->h &&
            row_bytes(p, v) == row_bytes(p, out))
            return v;
    return DCAE_NO_VALUE;
}

static void find_partners(Planner *p)
{
    guint n = p->program->n_values;
    g_autofree guint *first = g_new(guint, p->n_segments), *next = g_new(guint, n);
    g_autofree gboolean *taken = g_new0(gboolean, n); /* one heir each */

    for (guint i = 0; i < p->n_segments; i++)
        first[i] = DCAE_NO_VALUE;
    for (guint v = n; v-- > 0;) {
        guint last = p->windows[v].last_segment;
        if (!is_whole(p, v))
            continue;
        next[v] = first[last];
        first[last] = v;
    }
    for (guint v = 0; v < n; v++) {
        Window *w = &p->windows[v];
        w->partner = DCAE_NO_VALUE;
        if (!p->program->values[v].state && is_whole(p, v) && w->first_segment < p->n_segments)
            w->partner = find_partner(p, v, first[w->first_segment], next);
        if (w->partner == DCAE_NO_VALUE)
            continue;
        if (taken[w->partner])
            w->partner = DCAE_NO_VALUE;
        else
            taken[w->partner] = TRUE;
    }
}

static void find_writers(Planner *p)
{
    guint n_ops = p->program->n_ops;

    for (guint v = 0; v < p->program->n_values; v++)
        p->first_writer[v] = n_ops;
    for (guint i = n_ops; i-- > 0;) {
        guint out = p->program->ops[i].out;
        if (out == DCAE_NO_VALUE)
            continue;
        p->next_writer[i] = p->first_writer[out];
        p->first_writer[out] = i;
    }
}

/* Must an op's rows all come out, even if no later op of the segment asks for them? */
static gboolean is_sink(const Planner *p, guint i)
{
    guint out = p->program->ops[i].out;
    return out == DCAE_NO_VALUE || is_whole(p, out);
}

/* What op `reader` must find written in `value` before it makes its rows up to `rows`. */
static guint rows_read(const Planner *p, guint reader, guint value, guint rows)
{
    const DcaeOp *op = &p->program->ops[reader];
    guint h = p->program->values[value].h, read = 0;

    if (rows == 0)
        return 0;
    if (op->in == value) {
        gint lo, hi;
        dcae_op_input_rows(op, 0, rows, &lo, &hi);
        read = (guint)CLAMP(hi, 0, (gint)h);
    }
    if (op->residual == value)
        read = MAX(read, MIN(rows, h));
    if (op->above == value || op->left == value)
        read = h;
    return read;
}

/* First row of `value` that op `reader` will still read when its rows up to `done` are made; the
 * value's height when it is through. */
static guint rows_still_read(const Planner *p, guint reader, guint value, guint done)
{
    const DcaeOp *op = &p->program->ops[reader];
    guint h = p->program->values[value].h, first = h;

    if (done >= op_rows(p->program, op))
        return h;
    if (op->in == value) {
        gint lo, hi;
        dcae_op_input_rows(op, done, done + 1, &lo, &hi);
        first = (guint)MAX(lo, 0);
    }
    if (op->residual == value)
        first = MIN(first, done);
    if (op->above == value || op->left == value)
        first = 0;
    return first;
}

static guint row_align(const Planner *p, guint i)
{
    return MAX(p->traits->row_align(p->program, &p->program->ops[i], p->traits->backend_params), 1);
}

/* The first border of an op at or below a row. */
static guint border_below(const Planner *p, guint i, guint row)
{
    guint first = p->first_border[i], align = row_align(p, i);
    if (row == 0)
        return 0;
    return row <= first ? first : first + dcae_round_up(row - first, align);
}

/* Rows of the first row tile of an op's next step that lie above the picture. */
static guint rows_above(const Planner *p, guint i)
{
    return p->done[i] == 0 && p->first_border[i] > 0 ? row_align(p, i) - p->first_border[i] : 0;
}

/* Shifts the borders of op i so that they lie where its reader's rows up to a border end. */
static void shift_borders(Planner *p, guint i)
{
    const DcaeProgram *program = p->program;
    const DcaeOp *op = &program->ops[i];
    guint align = row_align(p, i);
    guint shift = p->traits->row_shift(program, op, p->traits->backend_params);
    for (guint r = i + 1; shift > 0 && r < program->n_ops; r++) {
        const DcaeOp *reader = &program->ops[r];
        guint border = p->first_border[r] > 0 ? p->first_border[r] : row_align(p, r);
        gint lo, hi;
        if (reader->in != op->out || row_align(p, r) == 1)
            continue;
        dcae_op_input_rows(reader, 0, border, &lo, &hi);
        p->first_border[i] = dcae_round_up((guint)MAX(hi, 0), shift) % align;
        return;
    }
}

/* They depend on the program alone, not on bands: so do the bits. */
static void find_borders(Planner *p)
{
    p->first_border = g_new0(guint, p->program->n_ops);
    for (guint i = p->program->n_ops; p->traits->row_shift != NULL && i-- > 0;)
        if (p->program->ops[i].out != DCAE_NO_VALUE)
            shift_borders(p, i);
}

/* Rows that each op of the segment has to make: all where they leave the segment, else what later
 * ops read. */
static void find_needs(Planner *p, const Segment *s)
{
    for (guint i = s->end; i-- > s->first;) {
        const DcaeOp *op = &p->program->ops[i];
        guint h = op_rows(p->program, op), need = is_sink(p, i) ? h : 0;
        for (guint c = i + 1; op->out != DCAE_NO_VALUE && c < s->end; c++)
            need = MAX(need, rows_read(p, c, op->out, p->need[c]));
        p->need[i] = MIN(border_below(p, i, need), h);
        p->done[i] = p->n_steps[i] = 0;
    }
}

static guint full_speed_rows(const Planner *p, const DcaeOp *op)
{
    const DcaeTraits *t = p->traits;
    return t->free_rows != NULL ? t->free_rows(p->program, op, t->backend_params)
                                : t->min_rows(p->program, op, t->backend_params);
}

/* Rows at a time: in proportion to the op's share of the segment's rows, aligned, and enough for
 * full speed if that is wanted. */
static void find_chunks(Planner *p, const Segment *s)
{
    for (guint i = s->first; i < s->end; i++) {
        const DcaeOp *op = &p->program->ops[i];
        guint h = op_rows(p->program, op);
        guint rows = (guint)MAX(((guint64)MIN(s->band, s->rows) * h + s->rows - 1) / s->rows, 1);
        if (s->full_speed)
            rows = MAX(rows, full_speed_rows(p, op));
        p->chunk[i] = MIN(dcae_round_up(MIN(rows, h), row_align(p, i)), h);
    }
}

static void add_step(Planner *p, DcaeStep step)
{
    g_array_append_val(p->steps, step);
}

/* First row of a value that some op of the segment still reads. */
static guint first_needed(const Planner *p, const Segment *s, guint value)
{
    guint first = p->program->values[value].h;

    for (guint i = s->first; i < s->end; i++)
        first = MIN(first, rows_still_read(p, i, value, p->done[i]));
    return first;
}

/* Moves the rows of a window that are still needed to its head once enough are dead. The fewer it
 * waits for, the smaller the window and the more is copied: as many as are kept, a quarter of them
 * where memory is short. */
static void keep_rows(Planner *p, const Segment *s, guint value)
{
    Window *w = &p->windows[value];
    guint first = first_needed(p, s, value);

    for (guint i = s->first; i < s->end; i++)
        if (p->program->ops[i].out == value)
            first = MIN(first, p->done[i]);
    guint dead = first - w->row0, kept = w->written > first ? w->written - first : 0;
    if (dead == 0 || (s->tight ? 4 * dead : dead) < kept)
        return;
    if (kept > 0)
        add_step(p, (DcaeStep){.kind = DCAE_STEP_KEEP,
                               .value = value,
                               .y0 = first,
                               .y1 = w->written,
                               .in_row = first - w->row0});
    w->row0 = first;
}

/* Did every op before `reader` that writes `value` make the rows that the reader needs to make its
 * own up to `rows`? */
static gboolean is_written(const Planner *p, const Segment *s, guint reader, guint value,
                           guint rows)
{
    if (value == DCAE_NO_VALUE)
        return TRUE;
    guint wanted = rows_read(p, reader, value, rows);
    for (guint w = p->first_writer[value]; w < reader; w = p->next_writer[w])
        if (w >= s->first && p->done[w] < wanted)
            return FALSE;
    return TRUE;
}

/* Output rows that an op can make now: a chunk, or what is left; 0 where it has all or its input
 * isn't there. */
static guint rows_ready(const Planner *p, const Segment *s, guint i)
{
    const DcaeOp *op = &p->program->ops[i];
    guint y1 = p->done[i] + p->chunk[i];

    if (p->chunk[i] < op_rows(p->program, op))
        y1 -= rows_above(p, i);
    y1 = MIN(y1, p->need[i]);
    if (p->done[i] >= p->need[i])
        return 0;
    if (!is_written(p, s, i, op->in, y1) || !is_written(p, s, i, op->residual, y1) ||
        !is_written(p, s, i, op->above, y1) || !is_written(p, s, i, op->left, y1))
        return 0;
    return y1;
}

static guint window_row0(const Planner *p, guint value)
{
    return value == DCAE_NO_VALUE ? 0 : p->windows[value].row0;
}

static void run_op(Planner *p, const Segment *s, guint i, guint y1)
{
    const DcaeOp *op = &p->program->ops[i];
    guint y0 = p->done[i];

    if (op->out != DCAE_NO_VALUE && !is_whole(p, op->out))
        keep_rows(p, s, op->out);
    if (op->kind == DCAE_OP_ATTN_SUM && y0 == 0)
        add_step(p, (DcaeStep){.kind = DCAE_STEP_CLEAR, .value = op->state});
    guint skip = rows_above(p, i);
    gsize workspace =
        p->traits->workspace(p->program, op, y1 - y0 + skip, p->traits->backend_params);
    add_step(p, (DcaeStep){.kind = DCAE_STEP_RUN,
                           .op = i,
                           .workspace = align_bytes(workspace),
                           .skip = skip,
                           .y0 = y0,
                           .y1 = y1,
                           .in_row0 = window_row0(p, op->in),
                           .out_row0 = window_row0(p, op->out),
                           .residual_row0 = window_row0(p, op->residual)});
    if (op->out != DCAE_NO_VALUE) {
        Window *w = &p->windows[op->out];
        w->written = MAX(w->written, y1);
        w->rows = MAX(w->rows, w->written - w->row0);
        if (w->partner != DCAE_NO_VALUE)
            w->lag = MAX(w->lag, y1 - MIN(first_needed(p, s, w->partner), y1));
    }
    p->done[i] = y1;
}

/* Lays out one segment in bands of s->band rows: always the latest op that can make a chunk. */
static void run_segment(Planner *p, guint segment)
{
    Segment *s = &p->segments[segment];

    for (guint i = s->first; i < s->end; i++) {
        guint out = p->program->ops[i].out;
        if (out != DCAE_NO_VALUE)
            p->windows[out].row0 = p->windows[out].written = p->windows[out].rows =
                p->windows[out].lag = 0;
    }
    find_needs(p, s);
    find_chunks(p, s);
    s->n_bands = 0;
    for (guint i = s->end; i-- > s->first;) {
        guint y1 = rows_ready(p, s, i);
        if (y1 == 0)
            continue;
        run_op(p, s, i, y1);
        p->n_steps[i]++;
        s->n_bands = MAX(s->n_bands, p->n_steps[i]);
        i = s->end;
    }
}

static void extend_life(Window *w, guint step)
{
    w->first_step = MIN(w->first_step, step);
    w->last_step = MAX(w->last_step, step);
}

/* Life of every value over p->steps, which hold segments [first, end): values of earlier and later
 * segments live up to the border. */
static void find_lives(Planner *p, guint first, guint end)
{
    for (guint v = 0; v < p->program->n_values; v++) {
        p->windows[v].first_step = G_MAXUINT;
        p->windows[v].last_step = 0;
    }
    for (guint i = 0; i < p->steps->len; i++) {
        const DcaeStep *step = &g_array_index(p->steps, DcaeStep, i);
        if (step->kind != DCAE_STEP_RUN) {
            extend_life(&p->windows[step->value], i);
            continue;
        }
        guint values[OP_VALUES];
        op_values(&p->program->ops[step->op], values);
        for (guint k = 0; k < OP_VALUES; k++)
            if (values[k] != DCAE_NO_VALUE)
                extend_life(&p->windows[values[k]], i);
    }
    for (guint v = 0; v < p->program->n_values; v++) {
        Window *w = &p->windows[v];
        if (w->first_segment < first && w->last_segment >= first)
            extend_life(w, 0);
        if (w->last_segment >= end && w->first_segment < end)
            extend_life(w, p->steps->len - 1);
    }
}

/* Lets whole values take over the memory of their partners where that saves half of it or more, and
 * sets every allocation's size. Values are numbered in program order, so a partner's own place is
 * settled before its heir's. */
static void share_memory(Planner *p)
{
    for (guint v = 0; v < p->program->n_values; v++) {
        Window *w = &p->windows[v];
        w->root = v;
        w->row_offset = 0;
        w->total_rows = is_whole(p, v) ? p->program->values[v].h : w->rows;
    }
    for (guint v = 0; v < p->program->n_values; v++) {
        Window *w = &p->windows[v];
        if (w->partner == DCAE_NO_VALUE || w->first_step > w->last_step ||
            w->lag > w->total_rows / 2 ||
            p->windows[w->partner].first_step > p->windows[w->partner].last_step)
            continue;
        Window *root = &p->windows[p->windows[w->partner].root];
        for (guint u = 0; u < v; u++)
            if (p->windows[u].root == p->windows[w->partner].root)
                p->windows[u].row_offset += w->lag;
        root->total_rows += w->lag;
        root->first_step = MIN(root->first_step, w->first_step);
        root->last_step = MAX(root->last_step, w->last_step);
        w->root = p->windows[w->partner].root;
    }
    for (guint v = 0; v < p->program->n_values; v++)
        p->windows[v].bytes =
            p->windows[v].root == v ? value_bytes(p, v, p->windows[v].total_rows) : 0;
}

/* Workspaces of p->steps. Where the backend has memory of its own for them, one for all steps. */
static void find_workspaces(Planner *p)
{
    Workspace w = {0};

    g_array_set_size(p->workspaces, 0);
    for (guint i = 0; i < p->steps->len; i++) {
        const DcaeStep *step = &g_array_index(p->steps, DcaeStep, i);
        if (step->kind == DCAE_STEP_RUN)
            p->last_step[step->op] = i;
    }
    for (guint i = 0; i < p->steps->len; i++) {
        const DcaeStep *step = &g_array_index(p->steps, DcaeStep, i);
        if (step->kind == DCAE_STEP_RUN)
            w.last_step = MAX(w.last_step, p->last_step[step->op]);
        if (!p->traits->workspace_in_arena)
            w.last_step = p->steps->len - 1;
        w.bytes = MAX(w.bytes, step->workspace);
        if (i < w.last_step)
            continue;
        g_array_append_val(p->workspaces, w);
        w = (Workspace){.first_step = i + 1};
    }
}

/* Most bytes of values and workspaces live at one step, before packing. */
static gsize live_bytes(const Planner *p)
{
    g_autofree gssize *change = g_new0(gssize, p->steps->len + 1);
    gsize live = 0, most = 0;

    for (guint v = 0; v < p->program->n_values; v++) {
        const Window *w = &p->windows[v];
        if (w->first_step > w->last_step)
            continue;
        change[w->first_step] += (gssize)w->bytes;
        change[w->last_step + 1] -= (gssize)w->bytes;
    }
    for (guint i = 0; i < p->workspaces->len; i++) {
        const Workspace *w = &g_array_index(p->workspaces, Workspace, i);
        change[w->first_step] += (gssize)w->bytes;
        change[w->last_step + 1] -= (gssize)w->bytes;
    }
    for (guint i = 0; i < p->steps->len; i++) {
        live = (gsize)((gssize)live + change[i]);
        most = MAX(most, live);
    }
    return most;
}

/* Bytes that a segment needs with bands of `band` rows. */
static gsize segment_bytes(Planner *p, guint segment, guint band)
{
    g_array_set_size(p->steps, 0);
    p->segments[segment].band = band;
    run_segment(p, segment);
    find_lives(p, segment, segment + 1);
    share_memory(p);
    find_workspaces(p);
    return live_bytes(p);
}

/* Sets the highest band of a segment that stays under the limit: at full speed if that is possible,
 * in tight windows only if nothing else fits. */
static void choose_band(Planner *p, guint segment, gsize limit)
{
    Segment *s = &p->segments[segment];
    guint low = 1, high = s->rows;

    s->full_speed = s->tight = FALSE;
    if (segment_bytes(p, segment, s->rows) <= limit)
        return;
    s->full_speed = TRUE;
    s->full_speed = segment_bytes(p, segment, 1) <= limit;
    s->tight = !s->full_speed && segment_bytes(p, segment, 1) > limit;
    while (low < high) { /* the lowest that doesn't fit is in [low, high] */
        guint middle = (low + high) / 2;
        if (segment_bytes(p, segment, middle) <= limit)
            low = middle + 1;
        else
            high = middle;
    }
    s->band = MAX(low - 1, 1);
}

/* Bytes with which every segment runs at full speed: a few rows of each op at a time, or all of
 * them where that takes less. */
static gsize full_speed_bytes(Planner *p)
{
    gsize most = 0;

    for (guint i = 0; i < p->n_segments; i++) {
        Segment *s = &p->segments[i];
        s->tight = FALSE;
        s->full_speed = TRUE;
        gsize banded = segment_bytes(p, i, 1);
        most = MAX(most, MIN(banded, segment_bytes(p, i, s->rows)));
    }
    return most;
}

static void lay_out(Planner *p)
{
    g_array_set_size(p->steps, 0);
    for (guint i = 0; i < p->n_segments; i++)
        run_segment(p, i);
    find_lives(p, 0, p->n_segments);
    share_memory(p);
    find_workspaces(p);
}

/* Something that needs a place in the arena while steps [first_step, last_step] run. */
typedef struct {
    gsize bytes;
    guint first_step, last_step;
    gsize *offset; /* where its place goes */
    guint order;   /* among those of the same size */
} Item;

static gint by_size(gconstpointer a, gconstpointer b)
{
    const Item *x = a, *y = b;

    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

typedef struct {
    gsize begin, end;
} Extent;

static gint by_begin(gconstpointer a, gconstpointer b)
{
    const Extent *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

/* Lowest gap of `bytes` between the sorted extents, which may overlap each other. */
static gsize find_gap(const GArray *taken, gsize bytes)
{
    gsize at = 0;

    for (guint i = 0; i < taken->len; i++) {
        const Extent *e = &g_array_index(taken, Extent, i);
        if (e->begin >= at + bytes)
            break;
        at = MAX(at, e->end);
    }
    return at;
}

/* Values that have an allocation of their own, and workspaces. */
static GArray *find_items(Planner *p, DcaeSlot *slots)
{
    GArray *items = g_array_new(FALSE, FALSE, sizeof(Item));

    for (guint v = 0; v < p->program->n_values; v++) {
        const Window *w = &p->windows[v];
        Item item = {w->bytes, w->first_step, w->last_step, &slots[v].offset, items->len};
        if (w->first_step <= w->last_step && w->root == v)
            g_array_append_val(items, item);
    }
    for (guint i = 0; p->traits->workspace_in_arena && i < p->workspaces->len; i++) {
        Workspace *w = &g_array_index(p->workspaces, Workspace, i);
        Item item = {w->bytes, w->first_step, w->last_step, &w->offset, items->len};
        if (w->bytes > 0)
            g_array_append_val(items, item);
    }
    g_array_sort(items, by_size);
    return items;
}

/* Gives every item its place: the largest first, each as low as the items that live at the same
 * time allow. Returns the size of the arena. */
static gsize pack_items(const GArray *items, guint n_steps)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(Extent));
    /* Placed items by the stretches of steps that they live in, so that a value of one of many
     * tiles is compared with its neighbours in time alone. */
    g_autoptr(GPtrArray) stretches = g_ptr_array_new_with_free_func((GDestroyNotify)g_array_unref);
    gsize arena = 0;

    for (guint i = 0; i <= n_steps / STRETCH; i++)
        g_ptr_array_add(stretches, g_array_new(FALSE, FALSE, sizeof(guint)));
    for (guint i = 0; i < items->len; i++) {
        const Item *item = &g_array_index(items, Item, i);
        g_array_set_size(taken, 0);
        for (guint k = item->first_step / STRETCH; k <= item->last_step / STRETCH; k++) {
            GArray *stretch = stretches->pdata[k];
            for (guint j = 0; j < stretch->len; j++) {
                const Item *other = &g_array_index(items, Item, g_array_index(stretch, guint, j));
                Extent e = {*other->offset, *other->offset + other->bytes};
                if (other->first_step <= item->last_step && other->last_step >= item->first_step)
                    g_array_append_val(taken, e);
            }
            g_array_append_val(stretch, i);
        }
        g_array_sort(taken, by_begin);
        *item->offset = find_gap(taken, item->bytes);
        arena = MAX(arena, *item->offset + item->bytes);
    }
    return arena;
}

static gsize pack_arena(Planner *p, DcaeSlot *slots)
{
    g_autoptr(GArray) items = find_items(p, slots);
    gsize arena = pack_items(items, p->steps->len);

    for (guint v = 0; v < p->program->n_values; v++) {
        const Window *w = &p->windows[v];
        slots[v].offset = slots[w->root].offset + w->row_offset * slots[v].row_bytes;
    }
    return arena;
}

/* Tells the steps where their workspace lies. Returns the bytes of those outside the arena. */
static gsize place_workspaces(Planner *p)
{
    gsize outside = 0;

    for (guint i = 0; i < p->workspaces->len; i++) {
        const Workspace *w = &g_array_index(p->workspaces, Workspace, i);
        for (guint k = w->first_step; k <= w->last_step; k++)
            g_array_index(p->steps, DcaeStep, k).workspace = w->offset;
        if (!p->traits->workspace_in_arena)
            outside = w->bytes;
    }
    return outside;
}

static void fill_slots(const Planner *p, DcaeSlot *slots)
{
    for (guint v = 0; v < p->program->n_values; v++) {
        const DcaeValue *value = &p->program->values[v];
        DcaeSlot *slot = &slots[v];
        slot->h = value->h;
        slot->w = value->w;
        slot->c = value->c;
        slot->state = value->state;
        slot->c_stride = p->c_stride[v];
        slot->rows = is_whole(p, v) ? value->h : p->windows[v].rows;
        slot->row_bytes = row_bytes(p, v);
        slot->image_bytes = p->windows[p->windows[v].root].bytes / p->params->batch;
    }
}

static DcaePlan *make_plan(Planner *p)
{
    DcaePlan *plan = g_new0(DcaePlan, 1);

    lay_out(p);
    plan->program = p->program;
    plan->batch = p->params->batch;
    plan->slots = g_new0(DcaeSlot, p->program->n_values);
    fill_slots(p, plan->slots);
    plan->arena_bytes = pack_arena(p, plan->slots);
    plan->workspace_bytes = place_workspaces(p);
    plan->peak_bytes = plan->arena_bytes + plan->workspace_bytes;
    plan->n_steps = p->steps->len;
    plan->steps = g_memdup2(p->steps->data, p->steps->len * sizeof(DcaeStep));
    for (guint i = 0; i < p->n_segments; i++)
        plan->bands = MAX(plan->bands, p->segments[i].n_bands);
    return plan;
}

static void set_bands(Planner *p, guint band_rows, gboolean tight)
{
    for (guint i = 0; i < p->n_segments; i++) {
        p->segments[i].band = MIN(band_rows, p->segments[i].rows);
        p->segments[i].full_speed = FALSE;
        p->segments[i].tight = tight;
    }
}

/* Fewest bands that stay under the limit, and where bands are free, need no more memory than full
 * speed does or than isn't worth saving. Packing can cost a little more than the live bytes that
 * bands are chosen by, so the aim is lowered until the packed plan fits. */
static DcaePlan *plan_under_limit(Planner *p, GError **error)
{
    gsize limit = p->params->memory_limit > 0 ? p->params->memory_limit : G_MAXSIZE;
    gsize start = limit;

    if (p->traits->free_rows != NULL)
        start = MIN(limit, MAX(full_speed_bytes(p), p->traits->free_bytes));
    for (gsize aim = start; aim > start / 2; aim -= start / 16 + 1) {
        for (guint i = 0; i < p->n_segments; i++)
            choose_band(p, i, aim);
        DcaePlan *plan = make_plan(p);
        if (plan->peak_bytes <= limit)
            return plan;
        dcae_plan_free(plan);
    }
    set_bands(p, 1, TRUE);
    DcaePlan *least = make_plan(p);
    if (least->peak_bytes <= limit)
        return least;
    g_set_error(
        error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
        "the memory limit of %" G_GSIZE_FORMAT
        " MiB is too low for %ux%u pixels: exact tiling needs at least %" G_GSIZE_FORMAT " MiB",
        limit >> 20, p->program->picture_w, p->program->picture_h, (least->peak_bytes >> 20) + 1);
    dcae_plan_free(least);
    return NULL;
}

/* Refuses frames whose byte counts don't fit a gsize with room to add thousands of them. */
static gboolean check_sizes(const Planner *p, GError **error)
{
    for (guint v = 0; v < p->program->n_values; v++) {
        const DcaeValue *value = &p->program->values[v];
        gsize bytes = p->traits->element_size;
        if (dcae_mul_size(bytes, value->w, &bytes) && dcae_mul_size(bytes, value->h, &bytes) &&
            dcae_mul_size(bytes, p->c_stride[v], &bytes) &&
            dcae_mul_size(bytes, p->params->batch, &bytes) && bytes < G_MAXSSIZE / 65536)
            continue;
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_MEMORY,
                    "a tensor of %u×%u pixels with %u channels doesn't fit into memory", value->w,
                    value->h, value->c);
        return FALSE;
    }
    return TRUE;
}

static void find_strides(Planner *p)
{
    p->c_stride = g_new(guint, p->program->n_values);
    for (guint v = 0; v < p->program->n_values; v++)
        p->c_stride[v] = dcae_round_up(p->program->values[v].c, CHANNEL_ALIGN);
    if (p->traits->pixels != NULL)
        p->traits->pixels(p->program, p->c_stride);
}

/* What a planner finds in the program before it cuts anything; c_stride is there. */
static void planner_start(Planner *p)
{
    guint n_ops = p->program->n_ops, n_values = p->program->n_values;

    p->done = g_new0(guint, n_ops);
    p->need = g_new0(guint, n_ops);
    p->chunk = g_new0(guint, n_ops);
    p->n_steps = g_new0(guint, n_ops);
    p->next_writer = g_new0(guint, n_ops);
    p->first_writer = g_new0(guint, n_values);
    p->windows = g_new0(Window, n_values);
    p->steps = g_array_new(FALSE, FALSE, sizeof(DcaeStep));
    p->last_step = g_new0(guint, n_ops);
    p->workspaces = g_array_new(FALSE, FALSE, sizeof(Workspace));
    find_segments(p);
    find_writers(p);
    find_partners(p);
    find_borders(p);
}

static void planner_clear(Planner *p)
{
    g_clear_pointer(&p->steps, g_array_unref);
    g_clear_pointer(&p->workspaces, g_array_unref);
    g_free(p->last_step);
    g_free(p->segments);
    g_free(p->done);
    g_free(p->need);
    g_free(p->chunk);
    g_free(p->n_steps);
    g_free(p->first_border);
    g_free(p->next_writer);
    g_free(p->first_writer);
    g_free(p->c_stride);
    g_free(p->windows);
}

DcaePlan *dcae_plan_new(const DcaeProgram *program, const DcaeTraits *traits,
                        const DcaePlanParams *params, GError **error)
{
    Planner p = {.program = program, .traits = traits, .params = params};
    DcaePlan *plan = NULL;

    find_strides(&p);
    if (!check_sizes(&p, error)) {
        planner_clear(&p);
        return NULL;
    }
    planner_start(&p);
    if (params->exact && params->band_rows == 0) {
        plan = plan_under_limit(&p, error);
    } else {
        set_bands(&p, params->exact && params->band_rows > 0 ? params->band_rows : G_MAXUINT,
                  params->tight);
        plan = make_plan(&p);
    }
    planner_clear(&p);
    return plan;
}

void dcae_plan_free(DcaePlan *plan)
{
    if (plan == NULL)
        return;
    g_free(plan->slots);
    g_free(plan->steps);
    g_free(plan);
}
