/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * list_launches.c - prints every launch of a frame as CSV, and what it takes of device memory, for
 * a configuration without weights. roofline.py makes tables of it.
 *
 * usage: list_launches MODEL WIDTH HEIGHT encode|decode f32|bf16|f16 [MIB]
 *
 * MODEL  name of a released model, or a config.json
 * MIB    cut into bands that keep below so much; without it the frame is not cut
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dcae_tiling.h"
#include "launches.h"

/* Frames under way, each with memory for what goes up and what comes down (cuda_backend.c). */
#define FLIGHTS 3

static gboolean read_config(const char *name, DcaeConfig *config, GError **error)
{
    const DcaeConfig *released = dcae_config_released(name);
    g_autofree char *text = NULL;

    if (released != NULL) {
        *config = *released;
        return TRUE;
    }
    return g_file_get_contents(name, &text, NULL, error) &&
           dcae_config_parse(config, text, name, error);
}

static void print_launch(const Launch *l)
{
    const DcaeLayer *layer = l->op != NULL ? l->op->layer : NULL;
    guint64 blocks = (guint64)l->launch.grid[0] * l->launch.grid[1] * l->launch.grid[2];

    printf("%s,%s,%s,%u,%u,%u,%" G_GUINT64_FORMAT ",%u,%u,%u,%u,%.0f,%.0f,%.0f,%.0f\n",
           l->op != NULL ? l->op->label : l->name,
           l->op != NULL ? dcae_op_kind_name(l->op->kind) : l->name, l->name,
           layer != NULL ? layer->in_c : 0, layer != NULL ? layer->conv_c : 0,
           layer != NULL ? layer->ksize : 0, l->blas ? 0 : blocks, l->launch.threads,
           l->launch.shared, l->m, l->n, l->multiply_adds, l->flop, l->bytes_in, l->bytes_out);
}

static void print_plan(const DcaePlan *plan, DcaePrecision precision, const DcaeGeometry *g)
{
    g_autoptr(GArray) all = launches_of_plan(plan, precision);
    const DcaeProgram *p = plan->program;
    gsize frame = (gsize)3 * g->width * g->height,
          latent = (gsize)4 * p->latent_c * p->latent_h * p->latent_w;

    printf("# weights %" G_GSIZE_FORMAT "\n# arena %" G_GSIZE_FORMAT
           "\n# workspace %" G_GSIZE_FORMAT "\n# staging %" G_GSIZE_FORMAT "\n# bands %u\n",
           launches_weight_bytes(p, precision), plan->arena_bytes, plan->workspace_bytes,
           FLIGHTS * (frame + latent), plan->bands);
    printf("label,kind,kernel,in_c,out_c,ksize,blocks,threads,shared,m,n,multiply_adds,flop,"
           "bytes_in,bytes_out\n");
    for (guint i = 0; i < all->len; i++)
        print_launch(&g_array_index(all, Launch, i));
}

static gboolean list(char **argv, double mib, GError **error)
{
    gboolean encode = strcmp(argv[4], "encode") == 0;
    DcaeDirection direction = encode ? DCAE_ENCODE : DCAE_DECODE;
    DcaePrecision precision = strcmp(argv[5], "f32") == 0    ? DCAE_PRECISION_F32
                              : strcmp(argv[5], "bf16") == 0 ? DCAE_PRECISION_BF16
                                                             : DCAE_PRECISION_F16;
    DcaeBackendParams params = {.precision = precision, .threads = 1, .device = -1};
    DcaeGeometry wanted = {.width = (guint)atoi(argv[2]), .height = (guint)atoi(argv[3])}, g;
    DcaeConfig config;
    DcaeTraits traits;

    if (!read_config(argv[1], &config, error))
        return FALSE;
    wanted.latent_width = wanted.width / dcae_config_ratio(&config);
    wanted.latent_height = wanted.height / dcae_config_ratio(&config);
    if (!dcae_tiling_resolve(direction, dcae_config_ratio(&config), config.latent_channels, FALSE,
                             &wanted, &g, error))
        return FALSE;
    DcaeProgram *program = dcae_graph_build(&config, direction, &g);
    dcae_cuda_backend.traits(&params, &traits);
    const DcaePlanParams how = {
        .exact = mib > 0, .memory_limit = (gsize)(mib * 1048576), .batch = 1};
    DcaePlan *plan = dcae_plan_new(program, &traits, &how, error);
    if (plan != NULL)
        print_plan(plan, precision, &g);
    gboolean ok = plan != NULL;
    if (ok)
        dcae_plan_free(plan);
    dcae_program_free(program);
    return ok;
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;

    if (argc < 6 || argc > 7) {
        fprintf(stderr,
                "usage: list_launches MODEL WIDTH HEIGHT encode|decode f32|bf16|f16 [MIB]\n");
        return 2;
    }
    if (list(argv, argc == 7 ? atof(argv[6]) : 0, &error))
        return 0;
    fprintf(stderr, "list_launches: %s\n", error->message);
    return 1;
}
