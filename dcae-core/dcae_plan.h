/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_plan.h - the plan: which rows of which op run when, and where every tensor lies.
 *
 * Program + memory limit + backend traits -> slots and a flat list of steps. Backends execute steps
 * in order and know nothing of bands, liveness or limits. Whole frames are the plan with one band.
 */
#ifndef DCAE_PLAN_H
#define DCAE_PLAN_H

#include "dcae_graph.h"

/* What a backend tells the planner. */
typedef struct {
    /* Output rows of a band border must be a multiple of this from the top of the picture, or the
     * bits could differ from those of the whole frame (row tile of the kernel that runs the op). */
    guint (*row_align)(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params);
    /* Where the borders may lie at these multiples instead, plus any multiple of this that is the
     * same for all of the op's borders: so each op's borders lie where its reader's need them, and
     * windows are smaller. 0: they may not. NULL: none may. */
    guint (*row_shift)(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params);
    /* Fewest output rows that still run at full speed. Not asked for where free_rows is set. */
    guint (*min_rows)(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params);
    /* In place of min_rows where bands of so many rows are as fast as whole frames; else NULL. */
    guint (*free_rows)(const DcaeProgram *program, const DcaeOp *op, gconstpointer backend_params);
    gsize free_bytes; /* with free_rows: so much memory is not worth saving */
    /* Scratch bytes that a step of `rows` output rows needs, all threads together. */
    gsize (*workspace)(const DcaeProgram *program, const DcaeOp *op, guint rows,
                       gconstpointer backend_params);
    /* Elements of a pixel of each value, multiples of 16, where they aren't the channels rounded
     * up; NULL: they are. c_stride holds those, to be changed. */
    void (*pixels)(const DcaeProgram *program, guint *c_stride);
    gsize element_size;           /* bytes of an activation element */
    gconstpointer backend_params; /* handed to all of them */
    gboolean workspace_in_arena;  /* each step says where in the arena its workspace lies; else the
                                     backend has memory of its own for it */
} DcaeTraits;

/* Memory of one value. Row r of the value lies at row (r - step's row0) of the slot. For a batch,
 * image n lies n·image_bytes further. */
typedef struct {
    guint h, w, c;
    guint c_stride; /* elements from pixel to pixel: c rounded up to 16, and lanes from c to
                       c_stride hold 0; or what the backend's traits say */
    guint rows; /* rows that are held at a time: h for a whole plane, fewer for a rolling band */
    gsize row_bytes; /* w · c_stride · element_size */
    gsize
        image_bytes; /* from image to image of a batch: at least rows · row_bytes, multiple of 64 */
    gsize offset;    /* of image 0 in the arena, multiple of 64 */
    gboolean state;  /* f32 state of an attention */
} DcaeSlot;

typedef enum {
    DCAE_STEP_RUN,   /* run op for output rows [y0, y1) */
    DCAE_STEP_KEEP,  /* move rows [y0, y1) of slot `value` to its head: from slot row in_row to slot
                        row 0; the two ranges may overlap where in_row < y1 - y0, so rows are
                        moved from y0 on */
    DCAE_STEP_CLEAR, /* zero the state `value` */
} DcaeStepKind;

typedef struct {
    DcaeStepKind kind;
    guint op;     /* RUN: index into program->ops */
    guint value;  /* KEEP, CLEAR: value index */
    guint y0, y1; /* RUN: output rows of op->out (PIXELS_OUT, LATENT_OUT: rows of op->in; ATTN_SUM:
                     rows of op->in). KEEP: rows of the value */
    guint in_row0, out_row0, residual_row0; /* RUN: picture row that lies at row 0 of the slot of
                                               op->in, out, residual */
    guint in_row;                           /* KEEP: slot row where y0 lies now */
    guint skip; /* RUN: rows of the first row tile that lie above y0, where the op's borders are
                   shifted; only above the picture */
    gsize workspace; /* RUN, where the workspace lies in the arena: its offset, multiple of 64 */
} DcaeStep;

typedef struct {
    const DcaeProgram *program; /* outlives the plan */
    DcaeSlot *slots;            /* one per value of the program */
    guint n_steps;
    DcaeStep *steps;
    guint batch;
    gsize arena_bytes;     /* all slots, whole batch, and the workspaces that lie there */
    gsize workspace_bytes; /* largest workspace of a step; 0 where they lie in the arena */
    gsize peak_bytes;      /* arena + workspace: what memory-limit is compared with */
    guint bands;           /* bands of the segment that is cut most */
} DcaePlan;

typedef struct {
    gboolean exact;     /* cut into bands; else one band */
    gsize memory_limit; /* exact: bytes that peak_bytes should stay under, 0 = none. The plan has
                           the fewest bands that fit; where bands are free (DcaeTraits), the fewest
                           in the memory that full speed needs or that isn't worth saving */
    guint batch;        /* at least 1 */
    guint band_rows;    /* tests: forces bands of so many rows of each segment's tallest op; 0 = by
                           memory_limit */
    gboolean tight;     /* tests: with band_rows, small windows */
} DcaePlanParams;

/* Makes the plan. NULL with DCAE_ERROR_SETTINGS where not even the smallest bands fit the limit
 * (the message names a limit that does), DCAE_ERROR_MEMORY on overflow. Free with
 * dcae_plan_free(). */
DcaePlan *dcae_plan_new(const DcaeProgram *program, const DcaeTraits *traits,
                        const DcaePlanParams *params, GError **error);
void dcae_plan_free(DcaePlan *plan);

#endif
