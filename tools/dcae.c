/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae.c - command-line tool: what a model is, what a plan for a frame size needs, how long its ops
 * take. Uses dcae.h alone, as any program may; it is also the example of how to. Pictures and clips
 * are the elements' business.
 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dcae.h"

typedef struct {
    char *variant, *config;
    char *direction, *backend, *precision, *isa, *tiling;
    int threads, batch, runs;
    int tile, stride;
    double memory_limit; /* MiB */
    gboolean by_op, csv;
} Options;

typedef struct {
    const char *name;
    int value;
} Choice;

static const Choice directions[] = {{"encode", DCAE_ENCODE}, {"decode", DCAE_DECODE}, {NULL}};
static const Choice backends[] = {
    {"auto", DCAE_BACKEND_AUTO}, {"cpu", DCAE_BACKEND_CPU}, {"cuda", DCAE_BACKEND_CUDA}, {NULL}};
static const Choice precisions[] = {{"auto", DCAE_PRECISION_AUTO},
                                    {"f32", DCAE_PRECISION_F32},
                                    {"bf16", DCAE_PRECISION_BF16},
                                    {"f16", DCAE_PRECISION_F16},
                                    {NULL}};
static const Choice isas[] = {{"best", DCAE_ISA_BEST},
                              {"generic", DCAE_ISA_GENERIC},
                              {"avx2", DCAE_ISA_AVX2},
                              {"avx512", DCAE_ISA_AVX512},
                              {NULL}};
static const Choice tilings[] = {{"auto", DCAE_TILING_AUTO},
                                 {"off", DCAE_TILING_OFF},
                                 {"exact", DCAE_TILING_EXACT},
                                 {"blend", DCAE_TILING_BLEND},
                                 {NULL}};

/* name NULL: the first choice. */
static gboolean choose(const char *option, const char *name, const Choice *choices, int *value)
{
    GString *known = g_string_new(NULL);

    for (const Choice *c = choices; c->name; c++) {
        if (!name || strcmp(name, c->name) == 0) {
            *value = c->value;
            g_string_free(known, TRUE);
            return TRUE;
        }
        g_string_append_printf(known, " %s", c->name);
    }
    fprintf(stderr, "dcae: --%s is \"%s\"; it can be:%s\n", option, name, known->str);
    g_string_free(known, TRUE);
    return FALSE;
}

static const char *choice_name(const Choice *choices, int value)
{
    while (choices->name && choices->value != value)
        choices++;
    return choices->name ? choices->name : "?";
}

static gboolean report(GError *error)
{
    fprintf(stderr, "dcae: %s\n", error ? error->message : "unknown error");
    g_clear_error(&error);
    return FALSE;
}

static gboolean parse_size(const char *text, const char *what, guint *size)
{
    guint64 value;
    GError *error = NULL;

    if (!g_ascii_string_to_unsigned(text, 10, 1, G_MAXINT, &value, &error)) {
        fprintf(stderr, "dcae: %s: %s\n", what, error->message);
        g_error_free(error);
        return FALSE;
    }
    *size = (guint)value;
    return TRUE;
}

/* The library reads no environment, so the Hugging Face cache is found here. */
static DcaeModel *open_model(const char *path, const Options *options)
{
    const char *cache = g_getenv("HF_HUB_CACHE"), *home = g_getenv("HF_HOME");
    char *hub = NULL;
    GError *error = NULL;
    DcaeModel *model;

    if (cache && cache[0])
        hub = g_strdup(cache);
    else if (home && home[0])
        hub = g_build_filename(home, "hub", NULL);
    model = dcae_model_open(
        &(DcaeModelParams){
            .path = path, .variant = options->variant, .config = options->config, .hub_cache = hub},
        &error);
    g_free(hub);
    if (!model)
        report(error);
    return model;
}

static gboolean run_info(const Options *options, char **args)
{
    DcaeModel *model = open_model(args[0], options);
    const DcaeModelInfo *info;

    if (!model)
        return FALSE;
    info = dcae_model_info(model);
    printf("name             %s\n", info->name);
    printf("hash             %s\n", info->hash);
    printf("spatial ratio    %u\n", info->ratio);
    printf("picture channels %u\n", info->in_channels);
    printf("latent channels  %u%s\n", info->latent_channels,
           info->channel_prefix ? " (fewer may be used)" : "");
    printf("scaling factor   %g\n", info->scaling_factor);
    dcae_model_unref(model);
    return TRUE;
}

/* The codec of one direction, configured for a frame of width × height. */
static DcaeCodec *open_codec(DcaeModel *model, int direction, guint width, guint height,
                             const Options *options)
{
    const DcaeModelInfo *info = dcae_model_info(model);
    DcaeCodecParams params = {.model = model, .direction = direction, .timings = TRUE};
    DcaeGeometry geometry = {.width = width, .height = height, .batch = options->batch};
    int backend, precision, isa, tiling;
    DcaeCodec *codec;
    GError *error = NULL;

    if (!choose("backend", options->backend, backends, &backend) ||
        !choose("precision", options->precision, precisions, &precision) ||
        !choose("isa", options->isa, isas, &isa) ||
        !choose("tiling", options->tiling, tilings, &tiling))
        return NULL;
    params.backend = backend;
    params.precision = precision;
    params.max_isa = isa;
    params.threads = options->threads;
    geometry.scale = TRUE;
    geometry.tiling = (DcaeTiling){
        .mode = tiling,
        .tile_width = options->tile,
        .tile_height = options->tile,
        .stride_width = options->stride,
        .stride_height = options->stride,
        .memory_limit = options->memory_limit * 1024 * 1024,
    };
    if (direction == DCAE_DECODE) {
        geometry.latent_width = (width + info->ratio - 1) / info->ratio;
        geometry.latent_height = (height + info->ratio - 1) / info->ratio;
    }

    codec = dcae_codec_new(&params, &error);
    if (codec && dcae_codec_configure(codec, &geometry, &error))
        return codec;
    report(error);
    dcae_codec_free(codec);
    return NULL;
}

static void print_plan(int direction, const DcaeCodec *codec)
{
    const DcaePlanInfo *plan = dcae_codec_plan_info(codec);

    printf("%s: %ux%u pixels, %ux%ux%u latents on %s, tiling %s",
           choice_name(directions, direction), plan->width, plan->height, plan->latent_channels,
           plan->latent_height, plan->latent_width, dcae_codec_backend(codec),
           choice_name(tilings, plan->tiling));
    if (plan->tiling == DCAE_TILING_EXACT)
        printf(" in %u band%s", plan->bands, plan->bands == 1 ? "" : "s");
    if (plan->tiling == DCAE_TILING_BLEND)
        printf(" in %u tile%s", plan->tiles, plan->tiles == 1 ? "" : "s");
    printf(", activations %.1f MiB, weights %.1f MiB\n", plan->activation_bytes / 1048576.0,
           plan->weight_bytes / 1048576.0);
}

/* Pictures or latents of a batch, filled with noise from a fixed seed. */
typedef struct {
    guint n;
    DcaeImage *images;
    DcaeLatent *latents;
} Frames;

static void frames_init(Frames *frames, const DcaePlanInfo *plan, guint width, guint height,
                        guint n)
{
    gsize values = (gsize)plan->latent_channels * plan->latent_height * plan->latent_width;
    gsize bytes = (gsize)width * height * 3;
    GRand *random = g_rand_new_with_seed(1);

    *frames = (Frames){n, g_new0(DcaeImage, n), g_new0(DcaeLatent, n)};
    for (guint i = 0; i < n; i++) {
        guint8 *pixels = g_malloc(bytes);
        float *latent = g_new(float, values);

        for (gsize k = 0; k < bytes; k++)
            pixels[k] = (guint8)(g_rand_int(random) >> 24);
        for (gsize k = 0; k < values; k++)
            latent[k] = (float)g_rand_double_range(random, -1.7, 1.7);
        frames->images[i] = (DcaeImage){.width = width, .height = height, .color = DCAE_COLOR_RGB};
        for (guint c = 0; c < 3; c++)
            frames->images[i].component[c] = (DcaeComponent){pixels + c, (gssize)width * 3, 3};
        frames->latents[i] = (DcaeLatent){.format = DCAE_LATENT_F32,
                                          .c = plan->latent_channels,
                                          .h = plan->latent_height,
                                          .w = plan->latent_width,
                                          .data = latent};
    }
    g_rand_free(random);
}

static void frames_clear(Frames *frames)
{
    for (guint i = 0; i < frames->n; i++) {
        g_free(frames->images[i].component[0].data);
        g_free(frames->latents[i].data);
    }
    g_free(frames->images);
    g_free(frames->latents);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void print_line(const char *kind, const char *label, guint count, double ms, double flop,
                       double total)
{
    printf("%-15s %8.2f ms %5.1f%% %8.1f GFLOP/s  %s", kind, ms, 100 * ms / total,
           ms > 0 ? flop / ms * 1e-6 : 0, label);
    if (count > 1)
        printf("%u ops", count);
    putchar('\n');
}

/* sums holds the runs' summed times; ops come in execution order, kinds in order of appearance. */
static void print_ops(const DcaeOpTiming *ops, const double *sums, guint n, guint runs, guint batch,
                      gboolean by_op)
{
    gboolean *printed = g_new0(gboolean, n);
    double total = 0;

    for (guint i = 0; i < n; i++)
        total += sums[i] / runs;
    for (guint i = 0; by_op && i < n; i++)
        print_line(ops[i].kind, ops[i].label, 1, sums[i] / runs, batch * ops[i].flop, total);
    if (by_op)
        putchar('\n');
    for (guint i = 0; i < n; i++) {
        double ms = 0, flop = 0;
        guint count = 0;

        for (guint k = i; k < n && !printed[i]; k++) {
            if (strcmp(ops[k].kind, ops[i].kind) != 0)
                continue;
            ms += sums[k] / runs;
            flop += batch * ops[k].flop;
            printed[k] = k > i;
            count++;
        }
        if (count > 0)
            print_line(ops[i].kind, "", count, ms, flop, total);
    }
    g_free(printed);
}

static void print_result(const DcaeCodec *codec, int direction, gboolean csv, guint n,
                         double median, double p95, double flop)
{
    const DcaePlanInfo *plan = dcae_codec_plan_info(codec);
    gboolean cpu = strcmp(dcae_codec_backend(codec), "cpu") == 0;
    const char *name = choice_name(directions, direction), *backend = dcae_codec_backend(codec),
               *precision = choice_name(precisions, plan->precision),
               *isa = cpu ? choice_name(isas, plan->isa) : "",
               *tiling = choice_name(tilings, plan->tiling);
    guint threads = cpu ? plan->threads : 0;
    double fps = 1000.0 * n / median, gflops = flop * n / median * 1e-6;

    if (csv) {
        printf("%s,%s,%s,%s,%u,%u,%s,%u,%u,%.2f,%.2f,%.3f,%.1f\n", name, backend, precision, isa,
               plan->width, plan->height, tiling, n, threads, median, p95, fps, gflops);
        return;
    }
    printf("%s on %s, %s", name, backend, precision);
    if (cpu)
        printf(", %s, %u thread%s", isa, threads, threads == 1 ? "" : "s");
    printf(", %ux%u, tiling %s, batch %u: median %.2f ms, 95th percentile %.2f ms, %.3f frames/s, "
           "%.1f GFLOP/s\n",
           plan->width, plan->height, tiling, n, median, p95, fps, gflops);
}

/* The first run warms up and checks that the output is finite; the others are timed. */
static gboolean measure(DcaeCodec *codec, int direction, const Frames *frames,
                        const Options *options)
{
    guint runs = options->runs, n = 0;
    double *times = g_new(double, runs), *sums = NULL, flop = 0;
    const DcaeOpTiming *ops = NULL;
    GError *error = NULL;

    for (guint i = 0; i <= runs && !error; i++) {
        gint64 start = g_get_monotonic_time();

        if (!dcae_codec_run(codec, frames->images, frames->latents, frames->n, &error) || i == 0)
            continue;
        times[i - 1] = (g_get_monotonic_time() - start) / 1000.0;
        ops = dcae_codec_timings(codec, &n);
        if (!sums)
            sums = g_new0(double, n);
        for (guint k = 0; k < n; k++)
            sums[k] += ops[k].ms;
    }
    if (!error) {
        double median, p95;

        for (guint k = 0; k < n; k++)
            flop += ops[k].flop;
        if (!options->csv && ops)
            print_ops(ops, sums, n, runs, frames->n, options->by_op);
        qsort(times, runs, sizeof *times, compare_doubles);
        median = times[runs / 2];
        p95 = times[MIN(runs - 1, runs * 95 / 100)];
        print_result(codec, direction, options->csv, frames->n, median, p95, flop);
    }
    g_free(sums);
    g_free(times);
    return error ? report(error) : TRUE;
}

static gboolean for_each_direction(const Options *options, char **args, gboolean bench)
{
    DcaeModel *model;
    guint width, height;
    int only = -1;
    gboolean ok = TRUE;

    if (!parse_size(args[1], "WIDTH", &width) || !parse_size(args[2], "HEIGHT", &height) ||
        (options->direction && !choose("direction", options->direction, directions, &only)))
        return FALSE;
    if (!(model = open_model(args[0], options)))
        return FALSE;
    for (int d = DCAE_ENCODE; d <= DCAE_DECODE && ok; d++) {
        DcaeCodec *codec;

        if (only >= 0 && d != only)
            continue;
        ok = (codec = open_codec(model, d, width, height, options)) != NULL;
        if (ok && !(bench && options->csv))
            print_plan(d, codec);
        if (ok && bench) {
            Frames frames;

            frames_init(&frames, dcae_codec_plan_info(codec), width, height,
                        MAX(options->batch, 1));
            ok = measure(codec, d, &frames, options);
            frames_clear(&frames);
        }
        dcae_codec_free(codec);
    }
    dcae_model_unref(model);
    return ok;
}

static gboolean run_plan(const Options *options, char **args)
{
    return for_each_direction(options, args, FALSE);
}

static gboolean run_bench(const Options *options, char **args)
{
    if (options->csv)
        puts("direction,backend,precision,isa,width,height,tiling,batch,threads,median_ms,p95_ms,"
             "fps,gflops");
    return for_each_direction(options, args, TRUE);
}

static const struct {
    const char *name, *args;
    int n_args;
    gboolean (*run)(const Options *options, char **args);
} commands[] = {
    {"info", "MODEL", 1, run_info},
    {"plan", "MODEL WIDTH HEIGHT", 3, run_plan},
    {"bench", "MODEL WIDTH HEIGHT", 3, run_bench},
};

/* args: what stands behind the options, beginning with the command. */
static int run_command(const Options *options, int n_args, char **args)
{
    if (n_args == 0) {
        fprintf(stderr, "dcae: no command; info, plan or bench? See dcae --help\n");
        return 2;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(commands); i++) {
        if (strcmp(args[0], commands[i].name) != 0)
            continue;
        if (n_args == 1 + commands[i].n_args)
            return commands[i].run(options, args + 1) ? 0 : 1;
        fprintf(stderr, "usage: dcae [OPTION…] %s %s; see dcae --help\n", args[0],
                commands[i].args);
        return 2;
    }
    fprintf(stderr, "dcae: unknown command \"%s\"; info, plan or bench? See dcae --help\n",
            args[0]);
    return 2;
}

static gboolean check_numbers(const Options *o)
{
    const struct {
        const char *name;
        double value, least, most;
    } numbers[] = {
        {"threads", o->threads, 0, G_MAXINT},
        {"batch", o->batch, 0, G_MAXINT},
        {"tile", o->tile, 0, G_MAXINT},
        {"stride", o->stride, 0, G_MAXINT},
        {"memory-limit", o->memory_limit, 0, 1e12},
        {"runs", o->runs, 1, 1000000},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(numbers); i++)
        if (!(numbers[i].value >= numbers[i].least && numbers[i].value <= numbers[i].most)) {
            fprintf(stderr, "dcae: --%s is %g; it can be %.0f to %.0f\n", numbers[i].name,
                    numbers[i].value, numbers[i].least, numbers[i].most);
            return FALSE;
        }
    return TRUE;
}

static gboolean parse_options(int *argc, char ***argv, Options *o)
{
    const GOptionEntry entries[] = {
        {"variant", 0, 0, G_OPTION_ARG_STRING, &o->variant, "weight file variant: fp16, bf16", "V"},
        {"config", 0, 0, G_OPTION_ARG_STRING, &o->config,
         "config.json or released model's name, for single files", "C"},
        {"direction", 0, 0, G_OPTION_ARG_STRING, &o->direction, "encode or decode; default both",
         "D"},
        {"backend", 0, 0, G_OPTION_ARG_STRING, &o->backend, "auto, cpu, cuda", "B"},
        {"precision", 0, 0, G_OPTION_ARG_STRING, &o->precision, "auto, f32, bf16, f16", "P"},
        {"isa", 0, 0, G_OPTION_ARG_STRING, &o->isa, "at most: best, generic, avx2, avx512", "I"},
        {"threads", 0, 0, G_OPTION_ARG_INT, &o->threads, "CPU threads; 0, the default: all", "N"},
        {"tiling", 0, 0, G_OPTION_ARG_STRING, &o->tiling, "auto, off, exact, blend", "T"},
        {"tile", 0, 0, G_OPTION_ARG_INT, &o->tile, "tile of blend in pixels; default 512", "N"},
        {"stride", 0, 0, G_OPTION_ARG_INT, &o->stride, "step of tiles in pixels", "N"},
        {"memory-limit", 0, 0, G_OPTION_ARG_DOUBLE, &o->memory_limit,
         "MiB for activations; 0, the default: none", "MIB"},
        {"batch", 0, 0, G_OPTION_ARG_INT, &o->batch, "frames a call; default 1", "N"},
        {"runs", 0, 0, G_OPTION_ARG_INT, &o->runs, "bench: timed runs; default 5", "N"},
        {"by-op", 0, 0, G_OPTION_ARG_NONE, &o->by_op, "bench: print every op too", NULL},
        {"csv", 0, 0, G_OPTION_ARG_NONE, &o->csv, "bench: one CSV line a direction", NULL},
        {NULL}};
    GOptionContext *context = g_option_context_new("COMMAND MODEL [WIDTH HEIGHT]");
    GError *error = NULL;
    gboolean ok;

    g_option_context_set_summary(
        context,
        "dcae info MODEL                what a model is\n"
        "dcae plan MODEL WIDTH HEIGHT   tiles, bands and memory for a frame size\n"
        "dcae bench MODEL WIDTH HEIGHT  milliseconds and GFLOP/s per kind of op\n\n"
        "MODEL is a Diffusers directory, a .safetensors file, or the id of a repository in "
        "the local\nHugging Face cache.");
    g_option_context_add_main_entries(context, entries, NULL);
    ok = g_option_context_parse(context, argc, argv, &error);
    g_option_context_free(context);
    if (!ok)
        return report(error);
    if ((o->tile > 0 || o->stride > 0) && g_strcmp0(o->tiling, "blend") != 0) {
        fprintf(stderr, "dcae: --tile and --stride are of --tiling=blend\n");
        return FALSE;
    }
    return check_numbers(o);
}

int main(int argc, char **argv)
{
    Options options = {.runs = 5};
    int status = 2;

    setlocale(LC_CTYPE, ""); /* not LC_NUMERIC: CSV has decimal points everywhere */
    if (parse_options(&argc, &argv, &options))
        status = run_command(&options, argc - 1, argv + 1);
    g_free(options.variant);
    g_free(options.config);
    g_free(options.direction);
    g_free(options.backend);
    g_free(options.precision);
    g_free(options.isa);
    g_free(options.tiling);
    return status;
}
