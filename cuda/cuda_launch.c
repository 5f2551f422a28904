/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_launch.c - see cuda_launch.h.
 */
#include "cuda_launch.h"

#include "dcae_tensor.h"

/* From so many blocks on, tiles of twice the width leave no multiprocessor idle. */
#define WIDE_BLOCKS 264

/* With fewer blocks than this a device of a hundred multiprocessors has idle ones; a part of a
 * product is at least so many steps long, or adding the parts takes longer than it saves. */
#define SPLIT_BLOCKS 128
#define SPLIT_STEPS 8

/* Of a grid in y and z. */
#define MAX_GRID 65535u

/* Pixels of a step, elements of a row and blocks of a launch stay below this: kernels count them in
 * 32 bits, and round them up to tiles. */
#define MAX_COUNT (1u << 30)

/* From so many tiles of pixels in a plane on a block takes all columns of its pixels. */
#define ALL_COLUMNS_TILES 120

/* A chunk of ATTN_SUM has about so many pixels: enough that its partial sums are little beside what
 * it reads, and few enough, in narrow planes, that these fill the device with heads and chunks. */
#define ATTN_CHUNK_PIXELS 840
#define ATTN_SMALL_PIXELS 240
#define ATTN_SMALL_W 100

guint dcae_cuda_element_size(DcaePrecision precision)
{
    return precision == DCAE_PRECISION_F32 ? 4 : 2;
}

/* ---- matrix products */

/* The decoder's last convolution: three columns of a tile would be used. */
static gboolean is_few(const DcaeLayer *layer, DcaePrecision precision, const DcaeCudaProduct *p)
{
    return precision != DCAE_PRECISION_F32 && layer->kind == DCAE_OP_CONV && layer->ksize == 3 &&
           layer->stride == 1 && p->place == DCAE_PLACE_PLAIN && p->parts == 1 &&
           layer->conv_c <= DCAE_FEW_OUT && p->in_padded <= DCAE_FEW_IN &&
           layer->norm == DCAE_NORM_NONE && layer->act == DCAE_ACT_NONE &&
           layer->shortcut == DCAE_SHORTCUT_NONE && !layer->residual;
}

DcaeCudaProduct dcae_cuda_product(const DcaeLayer *layer, DcaePrecision precision)
{
    gboolean f32 = precision == DCAE_PRECISION_F32;
    guint tile_n = f32 ? DCAE_F32_TILE_N : DCAE_MMA_TILE_N;
    guint step = f32 ? DCAE_F32_STEP : DCAE_MMA_STEP;
    DcaeCudaProduct p = {
        .place = layer->nearest2                       ? DCAE_PLACE_NEAREST
                 : layer->shuffle == DCAE_SHUFFLE_DOWN ? DCAE_PLACE_DOWN
                 : layer->shuffle == DCAE_SHUFFLE_UP   ? DCAE_PLACE_UP
                                                       : DCAE_PLACE_PLAIN,
        .taps = layer->nearest2 ? 2 : layer->ksize,
        .phases = layer->nearest2 ? 4 : 1,
        .part_stride = dcae_round_up(layer->in_c, 16),
        .parts = 1,
        .up_c = dcae_round_up(layer->out_c, 16),
    };
    p.in_padded = p.part_stride;
    if (precision == DCAE_PRECISION_BF16 && layer->in_c <= DCAE_NARROW) {
        p.parts = 3;
        p.in_padded = 3 * p.part_stride;
        if (layer->in_c <= DCAE_LOW_PACKED) {
            p.part_stride = DCAE_LOW_PACKED;
            p.in_padded = 16;
        }
    }
    p.k = dcae_round_up(p.taps * p.taps * p.in_padded, step);
    p.columns = dcae_round_up(p.place == DCAE_PLACE_UP ? 4 * p.up_c : layer->conv_c, tile_n);
    p.few = is_few(layer, precision, &p);
    if (p.few) {
        p.k = dcae_round_up(p.in_padded, step);
        p.columns = DCAE_FEW_COLUMNS;
    }
    p.fused_norm = layer->norm == DCAE_NORM_RMS &&
                   p.columns <= (f32 ? DCAE_F32_TILE_N : DCAE_WIDE_TILE_N) &&
                   (p.place == DCAE_PLACE_PLAIN || p.place == DCAE_PLACE_NEAREST);
    return p;
}

gint dcae_cuda_product_channel(const DcaeLayer *layer, const DcaeCudaProduct *product, guint column)
{
    if (product->place != DCAE_PLACE_UP)
        return column < layer->conv_c ? (gint)column : -1;
    guint square = column / product->up_c, c = column % product->up_c;
    return square < 4 && c < layer->out_c ? (gint)(4 * c + square) : -1;
}

/* ---- values */

static void mark(gboolean *marks, guint value)
{
    if (value != DCAE_NO_VALUE)
        marks[value] = TRUE;
}

/* Values that go on from block to block, and what the latent is read from and written to. */
static void find_stream(const DcaeProgram *program, gboolean *marks)
{
    for (guint i = 0; i < program->n_ops; i++) {
        const DcaeOp *op = &program->ops[i];
        gboolean adds = op->residual != DCAE_NO_VALUE ||
                        (op->layer != NULL && op->layer->shortcut != DCAE_SHORTCUT_NONE);
        if (adds || op->kind == DCAE_OP_LATENT_IN)
            mark(marks, op->out);
        if ((adds && op->residual == DCAE_NO_VALUE) || op->kind == DCAE_OP_RMSNORM ||
            op->kind == DCAE_OP_LATENT_OUT)
            mark(marks, op->in);
        mark(marks, op->residual);
    }
}

void dcae_cuda_pixels_bf16(const DcaeProgram *program, guint *c_stride)
{
    g_autofree gboolean *stream = g_new0(gboolean, program->n_values);
    guint64 most = 0;

    find_stream(program, stream);
    for (guint v = 0; v < program->n_values; v++)
        if (!program->values[v].state)
            most = MAX(most, (guint64)program->values[v].h * program->values[v].w);
    for (guint v = 0; v < program->n_values; v++) {
        const DcaeValue *value = &program->values[v];
        gboolean small = 4 * (guint64)value->h * value->w <= most;
        if (value->c > DCAE_LOW_PACKED && (value->c <= DCAE_NARROW || (stream[v] && small)))
            c_stride[v] = 2 * dcae_round_up(value->c, 16);
    }
}

/* Where the second part of a slot's values lies; 0 where there is none. */
static guint low_of(const DcaeCudaCall *call, const DcaeSlot *slot)
{
    if (call->precision != DCAE_PRECISION_BF16)
        return 0;
    if (slot->c <= DCAE_LOW_PACKED)
        return DCAE_LOW_PACKED;
    return slot->c_stride > dcae_round_up(slot->c, 16) ? slot->c_stride / 2 : 0;
}

static DcaeKernelRows rows_of(const DcaeCudaCall *call, guint value, guint c0, guint row0)
{
    if (value == DCAE_NO_VALUE)
        return (DcaeKernelRows){0};
    const DcaeSlot *slot = &call->plan->slots[value];
    guint size = dcae_cuda_element_size(call->precision);
    return (DcaeKernelRows){
        .data = call->arena + slot->offset + call->image * slot->image_bytes + c0 * size,
        .row_stride = (gint64)(slot->row_bytes / size),
        .image_stride = (gint64)(slot->image_bytes / size),
        .pixel_stride = (gint)slot->c_stride,
        .row0 = (gint)row0,
        .h = (gint)slot->h,
        .w = (gint)slot->w,
        .low = (gint)low_of(call, slot),
    };
}

static const DcaeOp *op_of(const DcaeCudaCall *call)
{
    return &call->plan->program->ops[call->step->op];
}

static const DcaeCudaLayer *layer_of(const DcaeCudaCall *call)
{
    return &call->layers[op_of(call)->layer_index];
}

static DcaeKernelRows in_rows(const DcaeCudaCall *call)
{
    return rows_of(call, op_of(call)->in, op_of(call)->in_c0, call->step->in_row0);
}

static DcaeKernelRows out_rows(const DcaeCudaCall *call)
{
    return rows_of(call, op_of(call)->out, op_of(call)->out_c0, call->step->out_row0);
}

static DcaeKernelRows residual_rows(const DcaeCudaCall *call)
{
    return rows_of(call, op_of(call)->residual, 0, call->step->residual_row0);
}

static CUdeviceptr state_of(const DcaeCudaCall *call, const DcaeSlot **slot)
{
    *slot = &call->plan->slots[op_of(call)->state];
    return call->arena + (*slot)->offset + call->image * (*slot)->image_bytes;
}

/* Channels of an output pixel that an op writes: to the end of the pixel where its channels are the
 * value's last. */
static gint store_c(const DcaeCudaCall *call, guint c)
{
    const DcaeOp *op = op_of(call);
    const DcaeSlot *slot = &call->plan->slots[op->out];
    guint low = low_of(call, slot), end = low > 0 ? low : slot->c_stride;
    return (gint)(op->out_c0 + c == slot->c ? end - op->out_c0 : c);
}

static void set_grid(DcaeCudaLaunch *launch, guint x, guint y, guint z)
{
    launch->grid[0] = x;
    launch->grid[1] = y;
    launch->grid[2] = z;
}

/* ---- convolutions */

/* in_place: after a convolution, whose products are there in one part. */
static DcaeKernelNorm norm_args(const DcaeCudaCall *call, gboolean in_place)
{
    const DcaeLayer *layer = op_of(call)->layer;
    guint lanes = 32;
    DcaeKernelNorm a = {
        .in = in_place ? out_rows(call) : in_rows(call),
        .out = out_rows(call),
        .residual = residual_rows(call),
        .weight = layer_of(call)->norm_weight,
        .bias = layer_of(call)->norm_bias,
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .c = (gint)layer->out_c,
        .store_c = store_c(call, layer->out_c),
        .act = in_place ? DCAE_ACT_NONE : (gint)layer->act,
    };

    g_assert(a.store_c % 4 == 0);
    if (in_place)
        a.in.low = 0;
    while (lanes < DCAE_THREADS && 4 * lanes < layer->out_c)
        lanes *= 2;
    a.lanes = (gint)lanes;
    return a;
}

static DcaeCudaLaunch norm_launch(const DcaeCudaCall *call, gboolean in_place)
{
    DcaeCudaLaunch launch = {
        .kernel = DCAE_KERNEL_NORM, .threads = DCAE_THREADS, .args_size = sizeof launch.args.norm};
    DcaeKernelNorm *a = &launch.args.norm;

    *a = norm_args(call, in_place);
    guint pixels = (guint)(a->y1 - a->y0) * (guint)a->out.w;
    set_grid(&launch, dcae_ceil_div(pixels, DCAE_THREADS / (guint)a->lanes), 1, call->images);
    return launch;
}

/* Product pixels of some output rows, at most. */
static guint64 products_of(guint place, guint64 rows, guint w)
{
    if (place == DCAE_PLACE_DOWN)
        return 4 * rows * w;
    if (place == DCAE_PLACE_UP || place == DCAE_PLACE_NEAREST)
        return (rows + 1) / 2 * (w / 2);
    return rows * w;
}

static gboolean is_product(const DcaeOp *op)
{
    return op->kind == DCAE_OP_CONV || op->kind == DCAE_OP_LINEAR;
}

guint dcae_cuda_splits(const DcaeProgram *program, const DcaeOp *op, DcaePrecision precision)
{
    if (!is_product(op) || precision == DCAE_PRECISION_F32)
        return 1;
    DcaeCudaProduct product = dcae_cuda_product(op->layer, precision);
    const DcaeValue *out = &program->values[op->out];
    if (product.fused_norm || product.few)
        return 1;
    guint64 products = products_of(product.place, out->h, out->w);
    guint64 tiles = (products + DCAE_MMA_TILE_M - 1) / DCAE_MMA_TILE_M;
    guint64 blocks = tiles * (product.columns / DCAE_MMA_TILE_N) * product.phases;
    guint steps = product.k / DCAE_MMA_STEP, splits;
    if (blocks >= SPLIT_BLOCKS)
        return 1;
    splits = MIN(SPLIT_BLOCKS / (guint)blocks, steps / SPLIT_STEPS);
    if (splits < 2)
        return 1;
    return dcae_ceil_div(steps, dcae_ceil_div(steps, splits)); /* none without steps */
}

gsize dcae_cuda_split_workspace(const DcaeProgram *program, const DcaeOp *op,
                                DcaePrecision precision, guint rows)
{
    guint splits = dcae_cuda_splits(program, op, precision);

    if (splits == 1)
        return 0;
    DcaeCudaProduct product = dcae_cuda_product(op->layer, precision);
    guint64 pixels = products_of(product.place, rows, program->values[op->out].w);
    return product.phases * splits *
           ((pixels + DCAE_MMA_TILE_M - 1) / DCAE_MMA_TILE_M * DCAE_MMA_TILE_M) * product.columns *
           sizeof(float);
}

/* Product pixels of the step, and how many lie in a row. */
static void set_products(DcaeKernelConv *a)
{
    gboolean half = a->place == DCAE_PLACE_UP || a->place == DCAE_PLACE_NEAREST;

    a->product_w = half ? a->out.w / 2 : a->out.w;
    a->products = (gint)products_of((guint)a->place, (guint)(a->y1 - a->y0), (guint)a->out.w);
}

/* Picks the tile. It doesn't change the bits, which are sums in one order whatever the tile. */
static void set_tile(const DcaeCudaCall *call, const DcaeCudaProduct *product,
                     DcaeCudaLaunch *launch)
{
    const DcaeKernelConv *a = &launch->args.conv;
    guint blocks_z = call->images * product->phases, tile_m = DCAE_MMA_TILE_M, tile_n;
    guint wide_blocks = dcae_ceil_div((guint)a->products, DCAE_MMA_TILE_M) *
                        (product->columns / DCAE_WIDE_TILE_N) * blocks_z;

    launch->kernel = DCAE_KERNEL_CONV;
    if (call->precision == DCAE_PRECISION_F32) {
        tile_m = DCAE_F32_TILE_M;
        tile_n = DCAE_F32_TILE_N;
        launch->threads = DCAE_F32_THREADS;
    } else if (a->splits == 1 && product->columns % DCAE_WIDE_TILE_N == 0 &&
               (product->fused_norm || a->after.out.data != 0 || wide_blocks >= WIDE_BLOCKS)) {
        launch->kernel = DCAE_KERNEL_CONV_WIDE;
        tile_n = DCAE_WIDE_TILE_N;
        launch->threads = DCAE_WIDE_THREADS;
    } else {
        tile_n = DCAE_MMA_TILE_N;
        launch->threads = DCAE_MMA_THREADS;
    }
    launch->shared = dcae_cuda_kernel_shared(launch->kernel, call->precision);
    guint tiles_n = a->after.out.data != 0 ? 1 : product->columns / tile_n;
    set_grid(launch, dcae_ceil_div((guint)a->products, tile_m) * tiles_n, (guint)a->splits,
             blocks_z);
}

/* What adds the parts that `split` makes. */
static DcaeCudaLaunch add_launch(const DcaeCudaLaunch *split)
{
    DcaeCudaLaunch launch = *split;
    const DcaeKernelConv *a = &launch.args.conv;

    launch.kernel = DCAE_KERNEL_CONV_ADD;
    launch.shared = 0;
    set_grid(&launch,
             dcae_ceil_div((guint)a->products, DCAE_ADD_TILE_M) *
                 ((guint)a->columns / DCAE_MMA_TILE_N),
             1, split->grid[2]);
    return launch;
}

/* Whether blocks make all columns of their pixels, and the norm after them: where the plane has
 * tiles of pixels enough for that. The bits are those of a pass of its own. */
static gboolean has_all_columns(const DcaeCudaCall *call, const DcaeCudaProduct *product)
{
    const DcaeOp *op = op_of(call);
    const DcaeValue *out = &call->plan->program->values[op->out];

    return op->kind == DCAE_OP_CONV && call->precision != DCAE_PRECISION_F32 &&
           product->place == DCAE_PLACE_PLAIN && product->columns <= DCAE_ALL_COLUMNS &&
           product->columns % DCAE_WIDE_TILE_N == 0 &&
           (guint64)out->h * out->w >= (guint64)ALL_COLUMNS_TILES * DCAE_MMA_TILE_M;
}

/* The step of an RMSNORM that the convolution in the step after it makes while it reads: the value
 * before the norm is still there when the convolution has written its own. */
static gboolean is_norm_of_few(const DcaePlan *plan, gsize index, DcaePrecision precision)
{
    const DcaeStep *step = &plan->steps[index];

    if (index + 1 >= plan->n_steps || step[0].kind != DCAE_STEP_RUN ||
        step[1].kind != DCAE_STEP_RUN)
        return FALSE;
    const DcaeOp *norm = &plan->program->ops[step[0].op], *conv = &plan->program->ops[step[1].op];
    if (norm->kind != DCAE_OP_RMSNORM || conv->kind != DCAE_OP_CONV || conv->in != norm->out ||
        (norm->layer->act != DCAE_ACT_NONE && norm->layer->act != DCAE_ACT_RELU) ||
        !dcae_cuda_product(conv->layer, precision).few)
        return FALSE;
    for (guint i = 0; i < plan->program->n_ops; i++)
        if (&plan->program->ops[i] != conv &&
            (plan->program->ops[i].in == norm->out || plan->program->ops[i].residual == norm->out))
            return FALSE;
    const DcaeSlot *in = &plan->slots[norm->in], *out = &plan->slots[conv->out];
    gboolean apart = in->offset + plan->batch * in->image_bytes <= out->offset ||
                     out->offset + plan->batch * out->image_bytes <= in->offset;
    return apart && step[0].y0 == 0 && step[0].y1 == in->h && in->rows == in->h &&
           step[1].y0 == 0 && step[1].y1 == out->h && in->c_stride == dcae_round_up(in->c, 16);
}

static guint few_launch(const DcaeCudaCall *call, const DcaeCudaProduct *product,
                        DcaeCudaLaunch *launch)
{
    DcaeKernelConv *a = &launch->args.conv;

    gsize index = (gsize)(call->step - call->plan->steps);

    if (index > 0 && is_norm_of_few(call->plan, index - 1, call->precision)) {
        const DcaeOp *norm = &call->plan->program->ops[call->step[-1].op];
        const DcaeCudaLayer *layer = &call->layers[norm->layer_index];
        a->in = rows_of(call, norm->in, norm->in_c0, call->step[-1].in_row0);
        a->norm_weight = layer->norm_weight;
        a->norm_bias = layer->norm_bias;
        a->norm_relu = norm->layer->act == DCAE_ACT_RELU;
    }
    g_assert(product->few && a->store_c % 4 == 0);
    a->in.low = 0; /* the product takes the first part alone */
    launch->kernel = DCAE_KERNEL_CONV_FEW;
    set_grid(launch, dcae_ceil_div((guint)a->out.w, DCAE_FEW_W),
             dcae_ceil_div((guint)(a->y1 - a->y0), DCAE_FEW_H), call->images);
    return 1;
}

static guint conv_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeLayer *layer = op_of(call)->layer;
    DcaeCudaProduct product = dcae_cuda_product(layer, call->precision);
    gboolean second = layer->norm == DCAE_NORM_RMS && !product.fused_norm;
    gboolean all = second && has_all_columns(call, &product);
    DcaeKernelConv *a = &launches[0].args.conv;
    guint n = 1;

    g_assert(op_of(call)->in_c0 % 8 == 0 && op_of(call)->out_c0 % 4 == 0);
    launches[0].args_size = sizeof *a;
    *a = (DcaeKernelConv){
        .in = in_rows(call),
        .out = out_rows(call),
        .weight = layer_of(call)->weight,
        .bias = layer_of(call)->bias,
        .k = (gint)product.k,
        .columns = (gint)product.columns,
        .in_padded = (gint)product.in_padded,
        .in_wrap = product.part_stride > DCAE_LOW_PACKED && product.parts > 1
                       ? 2 * (gint)product.part_stride
                       : G_MAXINT,
        .taps = (gint)product.taps,
        .stride = (gint)layer->stride,
        .place = (gint)product.place,
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .in_c = (gint)layer->in_c,
        .out_c = (gint)layer->out_c,
        .up_c = (gint)product.up_c,
        .store_c = store_c(call, layer->out_c),
        .act = (gint)layer->act,
        .shortcut = (gint)layer->shortcut,
        .splits = (gint)dcae_cuda_splits(call->plan->program, op_of(call), call->precision),
        .filled = (gint)(product.place == DCAE_PLACE_UP ? product.columns
                                                        : dcae_round_up(layer->conv_c, 8)),
    };
    if (product.few)
        return few_launch(call, &product, &launches[0]);
    if (a->splits > 1)
        a->partial = call->workspace;
    g_assert(product.parts == 1 || a->in.low == (gint)product.part_stride);
    if (second)
        a->out.low = 0;
    else
        a->residual = residual_rows(call);
    if (product.fused_norm) {
        a->norm_weight = layer_of(call)->norm_weight;
        a->norm_bias = layer_of(call)->norm_bias;
    }
    if (all)
        a->after = norm_args(call, TRUE);
    set_products(a);
    set_tile(call, &product, &launches[0]);
    if (a->splits > 1)
        launches[n++] = add_launch(&launches[0]);
    if (second && !all)
        launches[n++] = norm_launch(call, TRUE);
    return n;
}

/* ---- kernels whose grid.y is rows */

/* A plane may have a row more than a grid: the rest is a second launch, which begins further down.
 * Where it begins, *second_y0, lies in launches[1]. */
static guint row_launches(DcaeCudaLaunch *launches, gint *second_y0)
{
    const guint rows = MAX_GRID - 1; /* even: 4:2:0 has pairs */

    if (launches[0].grid[1] <= MAX_GRID)
        return 1;
    launches[1] = launches[0];
    launches[0].grid[1] = rows;
    launches[1].grid[1] -= rows;
    *second_y0 += (gint)rows;
    return 2;
}

static guint dwconv_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeLayer *layer = op_of(call)->layer;
    DcaeKernelDwconv *a = &launches[0].args.dwconv;
    launches[0].kernel = DCAE_KERNEL_DWCONV;
    launches[0].args_size = sizeof *a;
    *a = (DcaeKernelDwconv){
        .in = in_rows(call),
        .out = out_rows(call),
        .weight = layer_of(call)->weight,
        .bias = layer_of(call)->bias,
        .ksize = (gint)layer->ksize,
        .gate = layer->gate,
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .c = (gint)layer->out_c,
        .store_c = store_c(call, layer->out_c),
    };
    guint items = dcae_ceil_div((guint)a->out.w, DCAE_DWCONV_PIXELS) * (guint)a->store_c;
    set_grid(&launches[0], dcae_ceil_div(items, DCAE_THREADS), (guint)(a->y1 - a->y0),
             call->images);
    return row_launches(launches, &launches[1].args.dwconv.y0);
}

static guint grouped_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeLayer *layer = op_of(call)->layer;
    DcaeKernelGrouped *a = &launches[0].args.grouped;
    launches[0].kernel = DCAE_KERNEL_GROUPED;
    launches[0].args_size = sizeof *a;
    *a = (DcaeKernelGrouped){
        .in = in_rows(call),
        .out = out_rows(call),
        .weight = layer_of(call)->weight,
        .inputs = (gint)(layer->in_c / layer->groups),
        .outputs = (gint)(layer->conv_c / layer->groups),
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .c = (gint)layer->out_c,
        .store_c = store_c(call, layer->out_c),
    };
    guint items = dcae_ceil_div((guint)a->out.w, DCAE_GROUPED_PIXELS) * (guint)a->store_c;
    set_grid(&launches[0], dcae_ceil_div(items, DCAE_THREADS), (guint)(a->y1 - a->y0),
             call->images);
    return row_launches(launches, &launches[1].args.grouped.y0);
}

/* ---- attention */

guint dcae_cuda_attn_rows(guint w)
{
    return dcae_ceil_div(w < ATTN_SMALL_W ? ATTN_SMALL_PIXELS : ATTN_CHUNK_PIXELS, w);
}

gsize dcae_cuda_attn_workspace(const DcaeProgram *program, const DcaeOp *op, guint rows)
{
    gsize d = op->head_dim;
    gsize chunks = dcae_ceil_div(rows, dcae_cuda_attn_rows(program->values[op->in].w));
    return chunks * op->heads * (d + 1) * d * sizeof(float);
}

static guint attn_sum_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeOp *op = op_of(call);
    guint d = op->head_dim, size = (d + 1) * d, tiles = dcae_ceil_div(d, DCAE_ATTN_TILE);
    const DcaeSlot *state;
    DcaeKernelAttnSum *a = &launches[0].args.attn_sum;
    *a = (DcaeKernelAttnSum){
        .in = in_rows(call),
        .partial = call->workspace,
        .state = state_of(call, &state),
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .heads = (gint)op->heads,
        .head_dim = (gint)d,
    };
    a->chunk_rows = (gint)dcae_cuda_attn_rows((guint)a->in.w);
    a->chunks = (gint)dcae_ceil_div((guint)(a->y1 - a->y0), (guint)a->chunk_rows);
    launches[0].kernel = DCAE_KERNEL_ATTN_SUM;
    launches[0].args_size = sizeof *a;
    set_grid(&launches[0], (guint)a->chunks * op->heads, 1, tiles * tiles);
    launches[1] = launches[0];
    launches[1].kernel = DCAE_KERNEL_ATTN_ADD;
    set_grid(&launches[1], dcae_ceil_div(op->heads * size, DCAE_THREADS), 1, 1);
    return 2;
}

static guint attn_apply_launch(const DcaeCudaCall *call, DcaeCudaLaunch *launch)
{
    const DcaeOp *op = op_of(call);
    guint d = op->head_dim;
    const DcaeSlot *state;
    DcaeKernelAttnApply *a = &launch->args.attn_apply;
    *a = (DcaeKernelAttnApply){
        .in = in_rows(call),
        .out = out_rows(call),
        .state = state_of(call, &state),
        .state_stride = (gint64)(state->image_bytes / sizeof(float)),
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .heads = (gint)op->heads,
        .head_dim = (gint)d,
        .store_c = store_c(call, op->heads * d),
    };
    launch->kernel = DCAE_KERNEL_ATTN_APPLY;
    launch->args_size = sizeof *a;
    guint pixels = (guint)(a->y1 - a->y0) * (guint)a->out.w;
    set_grid(launch,
             dcae_ceil_div(pixels, DCAE_ATTN_PIXELS) * op->heads * dcae_ceil_div(d, DCAE_ATTN_TILE),
             1, call->images);
    return 1;
}

/* ---- the ends, blend */

static guint pixels_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeOp *op = op_of(call);
    gboolean in = op->kind == DCAE_OP_PIXELS_IN;
    DcaeKernelPixels *a = &launches[0].args.pixels;
    *a = (DcaeKernelPixels){
        .image = *call->picture,
        .rows = in ? out_rows(call) : in_rows(call),
        .not_finite = call->not_finite,
        .frame_x = (gint)op->frame_x,
        .frame_y = (gint)op->frame_y,
        .frame_w = (gint)op->frame_w,
        .frame_h = (gint)op->frame_h,
        .out_w = (gint)op->out_w,
        .out_h = (gint)op->out_h,
        .pad = (gint)op->pad,
        .y0 = (gint)call->step->y0,
        .y1 = (gint)(in ? call->step->y1 : MIN(call->step->y1, op->out_h)),
    };
    g_assert(call->plan->slots[in ? op->out : op->in].c == 3 &&
             a->rows.pixel_stride == DCAE_PICTURE_C);
    launches[0].kernel = in ? DCAE_KERNEL_PIXELS_IN : DCAE_KERNEL_PIXELS_OUT;
    launches[0].args_size = sizeof *a;
    set_grid(&launches[0], dcae_ceil_div((guint)(in ? a->rows.w : a->out_w), DCAE_THREADS),
             (guint)(a->y1 - a->y0), 1);
    return a->y1 > a->y0 ? row_launches(launches, &launches[1].args.pixels.y0) : 0;
}

static guint latent_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeOp *op = op_of(call);
    gboolean in = op->kind == DCAE_OP_LATENT_IN;
    DcaeKernelLatent *a = &launches[0].args.latent;
    *a = (DcaeKernelLatent){
        .rows = in ? out_rows(call) : in_rows(call),
        .latent = call->latent_data,
        .not_finite = call->not_finite,
        .scale = op->scale,
        .format = (gint)call->latent->format,
        .latent_c = (gint)call->latent->c,
        .latent_h = (gint)call->latent->h,
        .latent_w = (gint)call->latent->w,
        .frame_x = (gint)op->frame_x,
        .frame_y = (gint)op->frame_y,
        .out_w = (gint)op->out_w,
        .out_h = (gint)op->out_h,
        .y0 = (gint)call->step->y0,
        .y1 = (gint)(in ? call->step->y1 : MIN(call->step->y1, op->out_h)),
        .c = (gint)call->plan->slots[in ? op->out : op->in].c,
    };
    a->store_c = in ? store_c(call, (guint)a->c) : 0;
    launches[0].kernel = in ? DCAE_KERNEL_LATENT_IN : DCAE_KERNEL_LATENT_OUT;
    launches[0].args_size = sizeof *a;
    gint items = in ? a->rows.w * a->store_c : a->out_w * MIN(a->c, a->latent_c);
    set_grid(&launches[0], dcae_ceil_div((guint)items, DCAE_THREADS), (guint)(a->y1 - a->y0), 1);
    return a->y1 > a->y0 ? row_launches(launches, &launches[1].args.latent.y0) : 0;
}

static guint blend_launches(const DcaeCudaCall *call, DcaeCudaLaunch *launches)
{
    const DcaeOp *op = op_of(call);
    DcaeKernelBlend *a = &launches[0].args.blend;
    *a = (DcaeKernelBlend){
        .out = out_rows(call),
        .above = rows_of(call, op->above, 0, 0),
        .left = rows_of(call, op->left, 0, 0),
        .y0 = (gint)call->step->y0,
        .y1 = (gint)call->step->y1,
        .c = (gint)call->plan->slots[op->out].c,
        .blend_h = op->above != DCAE_NO_VALUE ? (gint)op->blend_h : 0,
        .blend_w = op->left != DCAE_NO_VALUE ? (gint)op->blend_w : 0,
    };
    launches[0].kernel = DCAE_KERNEL_BLEND;
    launches[0].args_size = sizeof *a;
    set_grid(&launches[0], dcae_ceil_div((guint)(a->out.w * a->c), DCAE_THREADS),
             (guint)(a->y1 - a->y0), call->images);
    return row_launches(launches, &launches[1].args.blend.y0);
}

/* ---- */

guint dcae_cuda_launches(const DcaeCudaCall *call, DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES])
{
    for (guint i = 0; i < DCAE_CUDA_MAX_LAUNCHES; i++)
        launches[i] = (DcaeCudaLaunch){.threads = DCAE_THREADS};
    switch (op_of(call)->kind) {
    case DCAE_OP_CONV:
    case DCAE_OP_LINEAR:
        return conv_launches(call, launches);
    case DCAE_OP_DWCONV:
        return dwconv_launches(call, launches);
    case DCAE_OP_GROUPED_LINEAR:
        return grouped_launches(call, launches);
    case DCAE_OP_ATTN_SUM:
        return attn_sum_launches(call, launches);
    case DCAE_OP_ATTN_APPLY:
        return attn_apply_launch(call, launches);
    case DCAE_OP_RMSNORM:
        if (is_norm_of_few(call->plan, (gsize)(call->step - call->plan->steps), call->precision))
            return 0;
        launches[0] = norm_launch(call, FALSE);
        return 1;
    case DCAE_OP_BLEND:
        return blend_launches(call, launches);
    case DCAE_OP_PIXELS_IN:
    case DCAE_OP_PIXELS_OUT:
        return pixels_launches(call, launches);
    case DCAE_OP_LATENT_IN:
    case DCAE_OP_LATENT_OUT:
        return latent_launches(call, launches);
    default:
        g_assert_not_reached();
    }
}

/* Whether rows of a value can be counted. */
static gboolean is_countable(const DcaeSlot *slot)
{
    return (guint64)slot->w * slot->c_stride < MAX_COUNT;
}

gboolean dcae_cuda_check_plan(const DcaePlan *plan, DcaePrecision precision, GError **error)
{
    for (guint i = 0; i < plan->n_steps; i++) {
        const DcaeStep *step = &plan->steps[i];
        if (step->kind != DCAE_STEP_RUN)
            continue;
        const DcaeOp *op = &plan->program->ops[step->op];
        const DcaeSlot *in = op->in != DCAE_NO_VALUE ? &plan->slots[op->in] : NULL;
        const DcaeSlot *out = op->out != DCAE_NO_VALUE ? &plan->slots[op->out] : in;
        guint64 rows = step->y1 - step->y0, pixels = rows * out->w, columns = out->c_stride;
        if (in != NULL)
            columns = MAX(columns, in->c_stride);
        if (is_product(op)) {
            DcaeCudaProduct product = dcae_cuda_product(op->layer, precision);
            columns = MAX(columns, product.columns);
            pixels = MAX(pixels, products_of(product.place, rows, out->w));
        }
        if ((in == NULL || is_countable(in)) && is_countable(out) && pixels < MAX_COUNT &&
            (pixels / DCAE_F32_TILE_M + 1) * columns < MAX_COUNT)
            continue;
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "%s: %" G_GUINT64_FORMAT " rows of %u pixels of %" G_GUINT64_FORMAT
                    " channels are more than a CUDA kernel counts; set memory-limit with "
                    "tiling=auto or exact, which cut the frame into bands, or take smaller frames",
                    op->label, rows, out->w, columns);
        return FALSE;
    }
    return TRUE;
}

gboolean dcae_cuda_is_batched(const DcaeProgram *program, const DcaeOp *op, DcaePrecision precision)
{
    DcaeOpKind kind = op->kind;

    return dcae_cuda_splits(program, op, precision) == 1 && kind != DCAE_OP_ATTN_SUM &&
           kind != DCAE_OP_PIXELS_IN && kind != DCAE_OP_PIXELS_OUT && kind != DCAE_OP_LATENT_IN &&
           kind != DCAE_OP_LATENT_OUT;
}

gboolean dcae_cuda_has_kernel(DcaeCudaKernelId kernel, DcaePrecision precision)
{
    return (kernel != DCAE_KERNEL_CONV_WIDE && kernel != DCAE_KERNEL_CONV_FEW &&
            kernel != DCAE_KERNEL_CONV_ADD) ||
           precision != DCAE_PRECISION_F32;
}

/* Stages of the main loop, and after it half a tile of products. */
static guint product_shared(guint tile_n, guint stages)
{
    guint stage = (DCAE_MMA_TILE_M + tile_n) * DCAE_MMA_STEP * 2;
    guint tile = DCAE_MMA_TILE_M / 2 * (tile_n + DCAE_TILE_PAD) * (guint)sizeof(float);

    return MAX(stages * stage, tile);
}

guint dcae_cuda_kernel_shared(DcaeCudaKernelId kernel, DcaePrecision precision)
{
    if (kernel == DCAE_KERNEL_CONV && precision != DCAE_PRECISION_F32)
        return product_shared(DCAE_MMA_TILE_N, DCAE_MMA_STAGES);
    if (kernel == DCAE_KERNEL_CONV_WIDE)
        return product_shared(DCAE_WIDE_TILE_N, DCAE_WIDE_STAGES);
    return 0;
}
