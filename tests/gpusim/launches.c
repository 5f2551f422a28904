/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * launches.c - see launches.h.
 */
#include "launches.h"

#include "../../cuda/cuda_gemm.h"
#include "dcae_tensor.h"

#define SECTOR 32u

/* Invented addresses: only differences matter, and that absent arrays are 0. */
#define ARENA ((CUdeviceptr)1 << 40)
#define WORKSPACE ((CUdeviceptr)1 << 41)
#define WEIGHT ((CUdeviceptr)1 << 42)
#define BIAS ((CUdeviceptr)1 << 43)
#define NORM_WEIGHT ((CUdeviceptr)1 << 44)
#define NORM_BIAS ((CUdeviceptr)1 << 45)

static double sectors(double bytes)
{
    return SECTOR * (double)(guint64)((bytes + SECTOR - 1) / SECTOR);
}

/* Channels of some pixels, each pixel's in sectors of their own; of values in two parts both. */
static double pixels_bytes(const DcaeKernelRows *rows, double pixels, guint channels, guint size)
{
    double bytes = sectors((double)channels * size);

    if (rows->data == 0)
        return 0;
    if (rows->low > DCAE_LOW_PACKED)
        bytes *= 2;
    return pixels * MIN(bytes, sectors((double)rows->pixel_stride * size));
}

/* Input rows that the step's output rows are made of. */
static double input_rows(const DcaeOp *op, const DcaeKernelRows *in, gint out_y0, gint out_y1)
{
    gint y0, y1;

    dcae_op_input_rows(op, (guint)out_y0, (guint)out_y1, &y0, &y1);
    return MIN(y1, in->h) - MAX(y0, 0);
}

/* ---- kernels */

/* What the epilogue reads beside the products, and writes. */
static void epilogue_work(Launch *l, const DcaeKernelConv *a, guint size)
{
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    l->bytes_in += 4.0 * a->columns + (a->norm_weight != 0 ? 8.0 * a->columns : 0) +
                   pixels_bytes(&a->residual, pixels, (guint)a->out_c, size);
    l->bytes_out += pixels_bytes(&a->out, pixels, (guint)a->store_c, size);
}

static void norm_flop(Launch *l, const DcaeKernelNorm *a)
{
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    /* squares of four channels a thread or more, its part of the sum and the root; then the norm */
    l->flop += pixels * (2 * MAX(4 * a->lanes, a->c) + 6 * a->lanes + 4 * a->c);
}

/* The norm after all columns: values that the block has just written are read and written again. */
static void after_work(Launch *l, const DcaeKernelNorm *a, guint size)
{
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    norm_flop(l, a);
    l->bytes_in += pixels_bytes(&a->in, pixels, (guint)a->c, size) +
                   pixels_bytes(&a->residual, pixels, (guint)a->c, size) + 8.0 * a->c;
    l->bytes_out += pixels_bytes(&a->out, pixels, (guint)a->store_c, size) -
                    pixels_bytes(&a->in, pixels, (guint)a->store_c, size);
}

static void conv_work(Launch *l, DcaePrecision precision)
{
    const DcaeKernelConv *a = &l->launch.args.conv;
    gboolean f32 = precision == DCAE_PRECISION_F32;
    guint size = dcae_cuda_element_size(precision), phases = a->place == DCAE_PLACE_NEAREST ? 4 : 1;
    double pixels = input_rows(l->op, &a->in, a->y0, a->y1) * a->in.w;
    double products = dcae_round_up((guint)a->products, f32 ? DCAE_F32_TILE_M : DCAE_MMA_TILE_M);
    double sums = products * phases * a->columns;
    gboolean shortcut = a->shortcut != DCAE_SHORTCUT_NONE && a->splits == 1;
    DcaeKernelRows in = a->in;

    if (a->in_wrap >= a->in_padded && !shortcut)
        in.low = 0; /* the product takes the first part alone */
    if (f32)
        l->flop = 2 * sums * a->k;
    else
        l->multiply_adds = sums * a->k;
    l->bytes_in = pixels_bytes(&in, pixels, (guint)MIN(a->in_padded, a->in_wrap / 2), size) +
                  (double)phases * a->columns * a->k * size;
    if (a->splits > 1)
        l->bytes_out = 4 * products * phases * a->filled * a->splits;
    else
        epilogue_work(l, a, size);
    if (a->after.out.data != 0)
        after_work(l, &a->after, size);
}

/* The frame of inputs around each block's outputs, taps' products added, maybe norm and ReLU. */
static void conv_few_work(Launch *l, guint size)
{
    const DcaeKernelConv *a = &l->launch.args.conv;
    double blocks = (double)l->launch.grid[0] * l->launch.grid[1] * l->launch.grid[2];
    double inputs = blocks * (DCAE_FEW_W + 2) * (DCAE_FEW_H + 2);
    double inside = (input_rows(l->op, &a->in, a->y0, a->y1) + 2.0 * (l->launch.grid[1] - 1)) *
                    (a->in.w + 2.0 * (l->launch.grid[0] - 1));
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    l->multiply_adds = inputs * DCAE_FEW_COLUMNS * a->k;
    l->flop = pixels * 10 * DCAE_FEW_OUT;
    if (a->norm_weight != 0) /* squares of all, four threads' sums, norms of those in the picture */
        l->flop += inputs * (2 * DCAE_FEW_IN + 4 * 16) + inside * 3 * DCAE_FEW_IN;
    l->bytes_in = pixels_bytes(&a->in, input_rows(l->op, &a->in, a->y0, a->y1) * a->in.w,
                               (guint)a->in_padded, size) +
                  (double)DCAE_FEW_COLUMNS * a->k * size +
                  (a->norm_weight != 0 ? 8.0 * a->in_c : 0);
    l->bytes_out = pixels_bytes(&a->out, pixels, (guint)a->store_c, size);
}

static void conv_add_work(Launch *l, guint size)
{
    const DcaeKernelConv *a = &l->launch.args.conv;
    guint phases = a->place == DCAE_PLACE_NEAREST ? 4 : 1;
    double products = dcae_round_up((guint)a->products, DCAE_ADD_TILE_M);

    l->flop = products * phases * a->filled * a->splits;
    l->bytes_in = 4 * products * phases * a->filled * a->splits;
    if (a->shortcut != DCAE_SHORTCUT_NONE)
        l->bytes_in += pixels_bytes(&a->in, input_rows(l->op, &a->in, a->y0, a->y1) * a->in.w,
                                    (guint)a->in_c, size);
    epilogue_work(l, a, size);
}

static void blas_work(Launch *l, guint size)
{
    l->multiply_adds = (double)l->m * l->n * l->k;
    l->bytes_in = ((double)l->m * l->k + (double)l->n * l->k) * size;
    l->bytes_out = (double)l->m * l->n * size;
}

static void dwconv_work(Launch *l, guint size)
{
    const DcaeKernelDwconv *a = &l->launch.args.dwconv;
    guint channels = (guint)(a->gate ? 2 * a->c : a->c), half = (guint)a->ksize / 2;
    double out_pixels = (double)(a->y1 - a->y0) * a->out.w, taps = 0;
    gboolean low = a->in.low > 0; /* one more addition an input */

    for (gint y = a->y0; y < a->y1; y++)
        taps += a->ksize * (MIN(y + (gint)half, a->in.h - 1) - MAX(y - (gint)half, 0) + 1);
    l->flop = (low ? 3 : 2) * taps * dcae_round_up((guint)a->out.w, DCAE_DWCONV_PIXELS) * channels +
              (a->gate ? 8 * out_pixels * a->c : 0);
    l->bytes_in =
        pixels_bytes(&a->in, input_rows(l->op, &a->in, a->y0, a->y1) * a->in.w, channels, size) +
        4.0 * channels * (a->ksize * a->ksize + (a->bias != 0));
    l->bytes_out = pixels_bytes(&a->out, out_pixels, (guint)a->store_c, size);
}

static void grouped_work(Launch *l, guint size)
{
    const DcaeKernelGrouped *a = &l->launch.args.grouped;
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    l->flop = (a->in.low > 0 ? 3 : 2) * pixels * a->c * a->inputs;
    l->bytes_in = pixels_bytes(&a->in, pixels, l->op->layer->in_c, size) + 4.0 * a->c * a->inputs;
    l->bytes_out = pixels_bytes(&a->out, pixels, (guint)a->store_c, size);
}

static void norm_work(Launch *l, guint size)
{
    const DcaeKernelNorm *a = &l->launch.args.norm;
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    norm_flop(l, a);
    l->bytes_in = pixels_bytes(&a->in, pixels, (guint)a->c, size) +
                  pixels_bytes(&a->residual, pixels, (guint)a->c, size) + 8.0 * a->c;
    l->bytes_out = pixels_bytes(&a->out, pixels, (guint)a->store_c, size);
}

/* Of a head and tile: chunks in pieces of 32 pixels, sums of relu(k), and what the four groups of a
 * block's threads add to each other. */
static double attn_sum_flop(const DcaeKernelAttnSum *a)
{
    double flop = 0;

    for (gint y = a->y0; y < a->y1; y += a->chunk_rows) {
        guint pixels = (guint)(MIN(a->chunk_rows, a->y1 - y) * a->in.w);
        flop += DCAE_ATTN_TILE * (2.0 * DCAE_ATTN_TILE + 1) * dcae_round_up(pixels, 32) +
                3 * 20 * DCAE_THREADS / 4;
    }
    return flop;
}

static void attn_sum_work(Launch *l, guint size)
{
    const DcaeKernelAttnSum *a = &l->launch.args.attn_sum;
    double pixels = (double)(a->y1 - a->y0) * a->in.w;
    double state = (double)a->heads * (a->head_dim + 1) * a->head_dim;

    if (l->launch.kernel == DCAE_KERNEL_ATTN_SUM) {
        l->flop = attn_sum_flop(a) * a->heads * l->launch.grid[2];
        l->bytes_in = pixels_bytes(&a->in, pixels, (guint)(2 * a->heads * a->head_dim), size);
        l->bytes_out = 4 * state * a->chunks;
    } else {
        l->flop = state * a->chunks;
        l->bytes_in = 4 * state * (a->chunks + 1);
        l->bytes_out = 4 * state;
    }
}

static void attn_apply_work(Launch *l, guint size)
{
    const DcaeKernelAttnApply *a = &l->launch.args.attn_apply;
    double pixels = (double)(a->y1 - a->y0) * a->out.w, d = a->head_dim;
    double all = dcae_round_up((guint)pixels, DCAE_ATTN_PIXELS),
           padded = dcae_round_up((guint)d, DCAE_ATTN_TILE);

    l->flop = 2 * all * a->heads * (padded / DCAE_ATTN_TILE) * padded * (DCAE_ATTN_TILE + 1);
    l->bytes_in = pixels_bytes(&a->in, pixels, (guint)(a->heads * a->head_dim), size) +
                  4 * a->heads * (d + 1) * d;
    l->bytes_out = pixels_bytes(&a->out, pixels, (guint)a->store_c, size);
}

/* The ends of the network: little arithmetic, which is not counted. Pictures are packed RGB. */
static void ends_work(Launch *l, guint size)
{
    const DcaeKernelPixels *p = &l->launch.args.pixels;
    const DcaeKernelLatent *t = &l->launch.args.latent;
    double rows, latent_size = t->format == DCAE_LATENT_F32 ? 4 : 2;

    switch (l->launch.kernel) {
    case DCAE_KERNEL_PIXELS_IN:
        rows = MIN(p->y1, p->frame_h - p->frame_y) - p->y0;
        l->bytes_in = 3 * MAX(rows, 0) * MIN(p->rows.w, p->frame_w - p->frame_x);
        l->bytes_out =
            pixels_bytes(&p->rows, (double)(p->y1 - p->y0) * p->rows.w, DCAE_PICTURE_C, size);
        break;
    case DCAE_KERNEL_PIXELS_OUT:
        rows = p->y1 - p->y0;
        l->bytes_in = pixels_bytes(&p->rows, rows * p->out_w, 3, size);
        l->bytes_out = 3 * rows * p->out_w;
        break;
    case DCAE_KERNEL_LATENT_IN:
        rows = t->y1 - t->y0;
        l->bytes_in = latent_size * rows * t->rows.w * MIN(t->c, t->latent_c);
        l->bytes_out = pixels_bytes(&t->rows, rows * t->rows.w, (guint)t->store_c, size);
        break;
    default:
        rows = t->y1 - t->y0;
        l->bytes_in = pixels_bytes(&t->rows, rows * t->out_w, (guint)MIN(t->c, t->latent_c), size);
        l->bytes_out = latent_size * rows * t->out_w * MIN(t->c, t->latent_c);
    }
}

static void blend_work(Launch *l, guint size)
{
    const DcaeKernelBlend *a = &l->launch.args.blend;
    double pixels = (double)(a->y1 - a->y0) * a->out.w;

    l->bytes_out = pixels_bytes(&a->out, pixels, (guint)a->c, size);
    l->bytes_in = l->bytes_out +
                  pixels_bytes(&a->above, (double)a->blend_h * a->out.w, (guint)a->c, size) +
                  pixels_bytes(&a->left, (double)a->blend_w * (a->y1 - a->y0), (guint)a->c, size);
}

static void set_work(Launch *l, DcaePrecision precision)
{
    guint size = dcae_cuda_element_size(precision);

    switch (l->launch.kernel) {
    case DCAE_KERNEL_CONV:
    case DCAE_KERNEL_CONV_WIDE:
        conv_work(l, precision);
        break;
    case DCAE_KERNEL_CONV_FEW:
        conv_few_work(l, size);
        break;
    case DCAE_KERNEL_CONV_ADD:
        conv_add_work(l, size);
        break;
    case DCAE_KERNEL_DWCONV:
        dwconv_work(l, size);
        break;
    case DCAE_KERNEL_GROUPED:
        grouped_work(l, size);
        break;
    case DCAE_KERNEL_NORM:
        norm_work(l, size);
        break;
    case DCAE_KERNEL_ATTN_SUM:
    case DCAE_KERNEL_ATTN_ADD:
        attn_sum_work(l, size);
        break;
    case DCAE_KERNEL_ATTN_APPLY:
        attn_apply_work(l, size);
        break;
    case DCAE_KERNEL_BLEND:
        blend_work(l, size);
        break;
    default:
        ends_work(l, size);
    }
}

/* ---- steps */

static const char *const kernel_names[] = {
#define NAME(id, name) #name,
    DCAE_CUDA_KERNELS(NAME)
#undef NAME
};

static void add_blas(GArray *all, const Launch *l, DcaePrecision precision)
{
    const DcaeKernelConv *a = &l->launch.args.conv;
    gint rows = (gint)dcae_cuda_gemm_rows((guint)a->out.w);

    for (gint y = a->y0; y < a->y1; y += rows) {
        Launch piece = *l;
        piece.blas = TRUE;
        piece.name = "cublas";
        piece.m = (guint)((MIN(y + rows, a->y1) - y) * a->out.w);
        piece.n = (guint)a->store_c;
        piece.k = (guint)a->in_padded;
        blas_work(&piece, dcae_cuda_element_size(precision));
        g_array_append_val(all, piece);
    }
}

static DcaeCudaLayer some_layer(const DcaeLayer *layer)
{
    gboolean bias = layer->kind != DCAE_OP_DWCONV || layer->bias || layer->norm == DCAE_NORM_BATCH;
    gboolean norm = layer->norm == DCAE_NORM_RMS;

    return (DcaeCudaLayer){.weight = WEIGHT,
                           .bias = bias ? BIAS : 0,
                           .norm_weight = norm ? NORM_WEIGHT : 0,
                           .norm_bias = norm ? NORM_BIAS : 0};
}

static void add_run(GArray *all, const DcaePlan *plan, guint step, const DcaeCudaLayer *layers,
                    DcaePrecision precision)
{
    const DcaeOp *op = &plan->program->ops[plan->steps[step].op];
    DcaeCudaLaunch launches[DCAE_CUDA_MAX_LAUNCHES];
    const DcaeKernelImage picture = {.w = (gint)plan->program->picture_w,
                                     .h = (gint)plan->program->picture_h};
    const DcaeLatent latent = {.format = DCAE_LATENT_F32,
                               .c = plan->program->latent_c,
                               .h = plan->program->latent_h,
                               .w = plan->program->latent_w};
    DcaeCudaCall call = {
        .plan = plan,
        .step = &plan->steps[step],
        .precision = precision,
        .arena = ARENA,
        .workspace = WORKSPACE,
        .layers = layers,
        .images = 1,
        .picture = &picture,
        .latent = &latent,
    };
    guint n = dcae_cuda_launches(&call, launches);
    gboolean blas = dcae_cuda_gemm_takes(op->layer, precision);
    for (guint i = 0; i < n; i++) {
        Launch l = {.op = op,
                    .name = kernel_names[launches[i].kernel],
                    .step = step,
                    .index = i,
                    .launch = launches[i]};
        if (blas && i == 0)
            add_blas(all, &l, precision);
        if (blas && launches[i].kernel != DCAE_KERNEL_NORM)
            continue;
        set_work(&l, precision);
        g_array_append_val(all, l);
    }
}

GArray *launches_of_plan(const DcaePlan *plan, DcaePrecision precision)
{
    GArray *all = g_array_new(FALSE, TRUE, sizeof(Launch));
    g_autofree DcaeCudaLayer *layers = g_new0(DcaeCudaLayer, plan->program->n_layers);

    for (guint i = 0; i < plan->program->n_layers; i++)
        layers[i] = some_layer(&plan->program->layers[i]);
    for (guint i = 0; i < plan->n_steps; i++) {
        const DcaeStep *step = &plan->steps[i];
        const DcaeSlot *slot = &plan->slots[step->value];
        Launch l = {.step = i};
        if (step->kind == DCAE_STEP_RUN) {
            add_run(all, plan, i, layers, precision);
        } else if (step->kind == DCAE_STEP_CLEAR) {
            l.name = "clear";
            l.bytes_out = (double)slot->image_bytes;
            g_array_append_val(all, l);
        } else if (step->in_row > 0) {
            l.name = "copy";
            l.bytes_in = l.bytes_out = (double)(step->y1 - step->y0) * (double)slot->row_bytes;
            g_array_append_val(all, l);
        }
    }
    return all;
}

/* ---- weights */

#define ALIGN 256u

static gsize align(gsize bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

gsize launches_weight_bytes(const DcaeProgram *program, DcaePrecision precision)
{
    gsize bytes = 0;

    for (guint i = 0; i < program->n_layers; i++) {
        const DcaeLayer *layer = &program->layers[i];
        gsize norm_c = layer->out_c;
        if (layer->kind == DCAE_OP_CONV || layer->kind == DCAE_OP_LINEAR) {
            DcaeCudaProduct p = dcae_cuda_product(layer, precision);
            bytes += align((gsize)p.phases * p.k * p.columns * dcae_cuda_element_size(precision)) +
                     align(p.columns * sizeof(float));
            norm_c = MAX(p.columns, layer->out_c);
        } else if (layer->kind == DCAE_OP_DWCONV) {
            gboolean bias = layer->bias || layer->norm == DCAE_NORM_BATCH;
            bytes += align((gsize)layer->ksize * layer->ksize * layer->conv_c * sizeof(float)) +
                     (bias ? align(layer->conv_c * sizeof(float)) : 0);
        } else if (layer->kind == DCAE_OP_GROUPED_LINEAR) {
            bytes += align((gsize)layer->conv_c * (layer->in_c / layer->groups) * sizeof(float));
        }
        if (layer->norm == DCAE_NORM_RMS)
            bytes += 2 * align(norm_c * sizeof(float));
    }
    return bytes;
}
