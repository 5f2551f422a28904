/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_codec.c - opens a backend with weights, program and plan, and runs frames. The only file
 * that names the backends. All checks of arguments are here or in dcae_tiling.c; backends trust
 * what they get.
 */
#include <string.h>

#include "dcae_backend.h"
#include "dcae_tensor.h"
#include "dcae_tiling.h"
#include "dcae_weights.h"

#include "cpu/cpu_kernels.h"

#define MAX_THREADS 256u
#define MAX_BATCH 64
#define MAX_DEPTH 8

struct _DcaeCodec {
    DcaeModel *model;
    DcaeDirection direction;
    const DcaeBackend *backend;
    DcaeBackendParams params;
    DcaeSharedWeights *weights;

    /* What dcae_codec_configure() makes. */
    DcaeGeometry geometry;
    DcaeProgram *program;
    DcaePlan *plan;
    void *instance;
    DcaePlanInfo info;
    DcaeView in[MAX_BATCH], out[MAX_BATCH];
    guint64 tickets[MAX_DEPTH]; /* of the runs under way, oldest first */
    guint under_way;
    double *ms;            /* per op, of the run that ended last; NULL without params.timings */
    DcaeOpTiming *timings; /* the same with names; made on demand */
    gboolean has_run;
};

static DcaeIsa pick_isa(DcaeIsa max_isa)
{
    DcaeIsa best = dcae_cpu_isa();

    return max_isa == DCAE_ISA_BEST ? best : MIN(best, max_isa);
}

/* Settings that a backend doesn't look at, or reads the same way, must not keep two codecs from
 * sharing their weights: a context has its device, and any device is the first one. */
static void settle_params(DcaeBackendParams *params, const DcaeBackend *backend)
{
    if (backend == &dcae_cuda_backend) {
        params->isa = DCAE_ISA_GENERIC;
        params->device = params->cuda_context != NULL ? -1 : MAX(params->device, 0);
    } else {
        params->device = -1;
        params->cuda_context = NULL;
    }
}

static gboolean try_backend(DcaeCodec *codec, const DcaeBackend *backend, DcaePrecision precision,
                            GError **error)
{
    DcaeBackendParams params = codec->params;

    params.precision = precision != DCAE_PRECISION_AUTO ? precision
                       : backend == &dcae_cuda_backend  ? DCAE_PRECISION_BF16
                                                        : DCAE_PRECISION_F32;
    settle_params(&params, backend);
    if (!backend->probe(&params, error))
        return FALSE;
    codec->backend = backend;
    codec->params = params;
    return TRUE;
}

/* A backend that was asked for and fails is an error; auto takes CUDA where it works. */
static gboolean choose_backend(DcaeCodec *codec, const DcaeCodecParams *params, GError **error)
{
    switch (params->backend) {
    case DCAE_BACKEND_CPU:
        return try_backend(codec, &dcae_cpu_backend, params->precision, error);
    case DCAE_BACKEND_CUDA:
        return try_backend(codec, &dcae_cuda_backend, params->precision, error);
    case DCAE_BACKEND_AUTO:
        break;
    }
    return try_backend(codec, &dcae_cuda_backend, params->precision, NULL) ||
           try_backend(codec, &dcae_cpu_backend, params->precision, error);
}

/* Layers are the same for every size, so the smallest frame names all weights. */
static DcaeProgram *smallest_program(const DcaeCodec *codec)
{
    const DcaeConfig *config = dcae_model_config(codec->model);
    guint ratio = dcae_config_ratio(config);
    DcaeGeometry g = {
        .width = ratio,
        .height = ratio,
        .latent_width = 1,
        .latent_height = 1,
        .latent_channels = config->latent_channels,
        .batch = 1,
        .tiling.mode = DCAE_TILING_OFF,
    };
    return dcae_graph_build(config, codec->direction, &g);
}

/* DcaeImage has three colour components and knows no others. */
static gboolean check_picture_channels(const DcaeModel *model, GError **error)
{
    const DcaeModelInfo *info = dcae_model_info(model);

    if (info->in_channels == 3)
        return TRUE;
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                "model %s works on %u channels ('in_channels'), but pictures have 3", info->name,
                info->in_channels);
    return FALSE;
}

DcaeCodec *dcae_codec_new(const DcaeCodecParams *params, GError **error)
{
    if (!check_picture_channels(params->model, error))
        return NULL;

    DcaeCodec *codec = g_new0(DcaeCodec, 1);
    DcaeProgram *program = NULL;

    codec->model = dcae_model_ref(params->model);
    codec->direction = params->direction;
    codec->params = (DcaeBackendParams){
        .threads =
            CLAMP(params->threads > 0 ? params->threads : g_get_num_processors(), 1, MAX_THREADS),
        .isa = pick_isa(params->max_isa),
        .device = params->device - 1,
        .cuda_context = params->cuda_context,
        .cancellable = params->cancellable != NULL ? g_object_ref(params->cancellable) : NULL,
        .progress = params->progress,
        .progress_data = params->progress_data,
        .timings = params->timings,
    };
    if (!choose_backend(codec, params, error))
        goto fail;
    program = smallest_program(codec);
    codec->weights =
        dcae_shared_weights_acquire(codec->backend, codec->model, program, &codec->params, error);
    if (codec->weights == NULL)
        goto fail;
    dcae_program_free(program);
    return codec;

fail:
    dcae_program_free(program);
    dcae_codec_free(codec);
    return NULL;
}

static void clear_configuration(DcaeCodec *codec)
{
    if (codec->instance != NULL)
        codec->backend->close(g_steal_pointer(&codec->instance));
    g_clear_pointer(&codec->plan, dcae_plan_free);
    g_clear_pointer(&codec->program, dcae_program_free);
    g_clear_pointer(&codec->ms, g_free);
    g_clear_pointer(&codec->timings, g_free);
    codec->has_run = FALSE;
    codec->under_way = 0;
}

void dcae_codec_free(DcaeCodec *codec)
{
    if (codec == NULL)
        return;
    clear_configuration(codec);
    dcae_shared_weights_release(codec->weights);
    g_clear_object(&codec->params.cancellable);
    dcae_model_unref(codec->model);
    g_free(codec);
}

const char *dcae_codec_backend(const DcaeCodec *codec)
{
    return codec->backend->name;
}

/* Plans one mode. off and blend run whole pieces, so they either fit the limit or they don't. */
static DcaePlan *plan_mode(const DcaeCodec *codec, const DcaeProgram *program,
                           const DcaeGeometry *g, DcaeTilingMode mode, GError **error)
{
    DcaeTraits traits = {0};
    DcaePlanParams params = {
        .exact = mode == DCAE_TILING_EXACT,
        .memory_limit = g->tiling.memory_limit,
        .batch = g->batch,
    };

    codec->backend->traits(&codec->params, &traits);
    DcaePlan *plan = dcae_plan_new(program, &traits, &params, error);
    if (plan == NULL || g->tiling.memory_limit == 0 || plan->peak_bytes <= g->tiling.memory_limit)
        return plan;
    g_set_error(error, DCAE_ERROR, DCAE_ERROR_SETTINGS,
                "tiling %s needs %" G_GUINT64_FORMAT
                " MiB for this frame size, more than the memory limit of %" G_GUINT64_FORMAT
                " MiB; raise memory-limit or use tiling exact",
                mode == DCAE_TILING_BLEND ? "blend" : "off", ((guint64)plan->peak_bytes >> 20) + 1,
                g->tiling.memory_limit >> 20);
    dcae_plan_free(plan);
    return NULL;
}

/* Bytes that are free on a device, where modes that can follow a limit have none: they get half of
 * it. 0 elsewhere. */
static guint64 limit_memory(const DcaeCodec *codec, DcaeTiling *tiling)
{
    gboolean follows = tiling->mode == DCAE_TILING_AUTO || tiling->mode == DCAE_TILING_EXACT;

    if (!follows || tiling->memory_limit != 0 || codec->backend->free_bytes == NULL)
        return 0;
    guint64 bytes = codec->backend->free_bytes(dcae_shared_weights_get(codec->weights));
    tiling->memory_limit = bytes / 2;
    return bytes;
}

/* auto is exact, and off where one band comes out: the planner knows what bands cost. */
static DcaePlan *plan_geometry(const DcaeCodec *codec, const DcaeProgram *program, DcaeGeometry *g,
                               GError **error)
{
    gboolean any = g->tiling.mode == DCAE_TILING_AUTO;

    guint64 free_bytes = limit_memory(codec, &g->tiling);
    DcaePlan *plan = plan_mode(codec, program, g, any ? DCAE_TILING_EXACT : g->tiling.mode, error);

    if (plan == NULL && free_bytes > 0)
        g_prefix_error(error,
                       "%" G_GUINT64_FORMAT " MiB are free on the device, of which half is taken "
                       "unless memory-limit says more: ",
                       free_bytes >> 20);
    if (any && plan != NULL)
        g->tiling.mode = plan->bands > 1 ? DCAE_TILING_EXACT : DCAE_TILING_OFF;
    return plan;
}

gboolean dcae_codec_configure(DcaeCodec *codec, const DcaeGeometry *geometry, GError **error)
{
    const DcaeModelInfo *model = dcae_model_info(codec->model);

    clear_configuration(codec);
    if (!dcae_tiling_resolve(codec->direction, model->ratio, model->latent_channels,
                             model->channel_prefix, geometry, &codec->geometry, error))
        return FALSE;
    codec->program =
        dcae_graph_build(dcae_model_config(codec->model), codec->direction, &codec->geometry);
    codec->plan = plan_geometry(codec, codec->program, &codec->geometry, error);
    if (codec->plan == NULL)
        goto fail;
    if (!codec->backend->open(&codec->instance, dcae_shared_weights_get(codec->weights),
                              codec->plan, &codec->params, error))
        goto fail;
    if (codec->params.timings)
        codec->ms = g_new0(double, codec->program->n_ops);
    codec->info = (DcaePlanInfo){
        .tiling = codec->geometry.tiling.mode,
        .width = codec->program->picture_w,
        .height = codec->program->picture_h,
        .latent_channels = codec->program->latent_c,
        .latent_width = codec->program->latent_w,
        .latent_height = codec->program->latent_h,
        .activation_bytes = codec->plan->peak_bytes,
        .weight_bytes = codec->backend->weights_bytes(dcae_shared_weights_get(codec->weights)),
        .bands = codec->plan->bands,
        .tiles = codec->program->n_tiles,
        .precision = codec->params.precision,
        .isa = codec->params.isa,
        .threads = codec->params.threads,
    };
    return TRUE;

fail:
    clear_configuration(codec);
    return FALSE;
}

const DcaePlanInfo *dcae_codec_plan_info(const DcaeCodec *codec)
{
    return codec->instance != NULL ? &codec->info : NULL;
}

G_GNUC_PRINTF(2, 3)
static gboolean shape_error(GError **error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, DCAE_ERROR, DCAE_ERROR_SHAPE, message);
    return FALSE;
}

/* A device's address is no address here. */
static gboolean check_memory(const DcaeCodec *codec, const char *what, DcaeMemoryKind memory,
                             GError **error)
{
    if (memory == DCAE_MEMORY_HOST ||
        (memory == DCAE_MEMORY_CUDA && codec->backend == &dcae_cuda_backend))
        return TRUE;
    return shape_error(error, "the %s lies in memory that the %s backend can't reach", what,
                       codec->backend->name);
}

/* The inverse of the matrix divides by kg, 1 - kb and 1 - kr. Written so that NaN fails. */
static gboolean check_yuv(const DcaeImage *image, GError **error)
{
    if (image->chroma_w_shift > 1 || image->chroma_h_shift > 1)
        return shape_error(error, "the picture's chroma shifts are %u and %u, but 0 and 1 exist",
                           image->chroma_w_shift, image->chroma_h_shift);
    if (!(image->kr >= 0 && image->kb >= 0 && image->kr + image->kb < 1))
        return shape_error(error,
                           "the picture's luma weights kr %g and kb %g must not be negative and "
                           "their sum must be below 1",
                           image->kr, image->kb);
    if (!(image->chroma_x >= 0 && image->chroma_x <= 1 && image->chroma_y >= 0 &&
          image->chroma_y <= 1))
        return shape_error(error, "the picture's chroma place %g, %g is not from 0 to 1",
                           image->chroma_x, image->chroma_y);
    return TRUE;
}

static gboolean check_image(const DcaeCodec *codec, const DcaeImage *image, GError **error)
{
    static const guint components[] = {
        [DCAE_COLOR_RGB] = 3, [DCAE_COLOR_GRAY] = 1, [DCAE_COLOR_YUV] = 3};

    if (image->width != codec->geometry.width || image->height != codec->geometry.height)
        return shape_error(error, "the picture is %u×%u, the codec was configured for %u×%u",
                           image->width, image->height, codec->geometry.width,
                           codec->geometry.height);
    if ((guint)image->color >= G_N_ELEMENTS(components))
        return shape_error(error, "the picture's colour model %d does not exist", image->color);
    for (guint i = 0; i < components[image->color]; i++)
        if (image->component[i].data == NULL)
            return shape_error(error, "component %u of the picture has no data", i);
    return check_memory(codec, "picture", image->memory, error) &&
           (image->color != DCAE_COLOR_YUV || check_yuv(image, error));
}

static gboolean check_latent(const DcaeCodec *codec, const DcaeLatent *latent, GError **error)
{
    const DcaePlanInfo *info = &codec->info;

    if (latent->c != info->latent_channels || latent->h != info->latent_height ||
        latent->w != info->latent_width)
        return shape_error(error, "the latent is %u×%u×%u, the codec was configured for %u×%u×%u",
                           latent->c, latent->h, latent->w, info->latent_channels,
                           info->latent_height, info->latent_width);
    if (latent->data == NULL)
        return shape_error(error, "the latent has no data");
    if ((guint)latent->format > DCAE_LATENT_BF16)
        return shape_error(error, "the latent's format %d does not exist", latent->format);
    if ((guintptr)latent->data % (latent->format == DCAE_LATENT_F32 ? 4 : 2) != 0)
        return shape_error(error, "the latent's data is not aligned to its values");
    return check_memory(codec, "latent", latent->memory, error);
}

guint dcae_codec_depth(const DcaeCodec *codec)
{
    return MIN(codec->backend->queue + 1, MAX_DEPTH);
}

gboolean dcae_codec_submit(DcaeCodec *codec, const DcaeImage *images, const DcaeLatent *latents,
                           guint n, guint64 *ticket, GError **error)
{
    if (codec->instance == NULL)
        return shape_error(error, "a run needs a successful dcae_codec_configure()");
    if (codec->under_way >= dcae_codec_depth(codec))
        return shape_error(error, "%u runs are under way; wait for one of them first",
                           codec->under_way);
    if (n < 1 || n > codec->geometry.batch)
        return shape_error(error, "%u frames can't run: the codec was configured for 1 to %u", n,
                           codec->geometry.batch);
    gboolean encode = codec->direction == DCAE_ENCODE;
    for (guint i = 0; i < n; i++) {
        if (!check_image(codec, &images[i], error) || !check_latent(codec, &latents[i], error))
            return FALSE;
        (encode ? codec->in : codec->out)[i].image = images[i];
        (encode ? codec->out : codec->in)[i].latent = latents[i];
    }
    if (!codec->backend->submit(codec->instance, codec->in, codec->out, n, ticket, error)) {
        codec->has_run = FALSE;
        return FALSE;
    }
    codec->tickets[codec->under_way++] = *ticket;
    return TRUE;
}

gboolean dcae_codec_wait(DcaeCodec *codec, guint64 ticket, GError **error)
{
    if (codec->under_way == 0 || codec->tickets[0] != ticket)
        return shape_error(error, "run %" G_GUINT64_FORMAT " is not the oldest that is under way",
                           ticket);
    codec->under_way--;
    memmove(&codec->tickets[0], &codec->tickets[1], codec->under_way * sizeof *codec->tickets);
    codec->has_run = codec->backend->wait(codec->instance, ticket, codec->ms, error);
    return codec->has_run;
}

gboolean dcae_codec_run(DcaeCodec *codec, const DcaeImage *images, const DcaeLatent *latents,
                        guint n, GError **error)
{
    guint64 ticket;

    if (codec->under_way > 0)
        return shape_error(error, "%u runs are under way; wait for them first", codec->under_way);
    return dcae_codec_submit(codec, images, latents, n, &ticket, error) &&
           dcae_codec_wait(codec, ticket, error);
}

const DcaeOpTiming *dcae_codec_timings(DcaeCodec *codec, guint *n)
{
    if (!codec->has_run || codec->ms == NULL)
        return NULL;
    *n = codec->program->n_ops;
    if (codec->timings == NULL)
        codec->timings = g_new0(DcaeOpTiming, *n);
    for (guint i = 0; i < *n; i++) {
        const DcaeOp *op = &codec->program->ops[i];
        codec->timings[i] = (DcaeOpTiming){op->label, dcae_op_kind_name(op->kind), codec->ms[i],
                                           dcae_op_flop(codec->program, op)};
    }
    return codec->timings;
}
