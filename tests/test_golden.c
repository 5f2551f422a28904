/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_golden.c - the network against the reference: every case of tests/golden/cases.txt holds a
 * small random model with the reference's latents and pictures (golden/generate.py made them). Each
 * is run through the public codec, and through program, plan and backend directly for what the
 * codec can't show: unrounded pictures, forced bands, every instruction set.
 */
#include "golden_run.h"

#include "emulated.h"

/* What is promised of bf16: some thirty ops in a row round weights, inputs and outputs to 8 bits,
 * 1.7e-3 each time. */
#define BF16_MAX_ERROR 1e-2

/* ---- through the public codec ---- */

static void run_codec(const GoldenCase *c, DcaeDirection direction, const DcaeImage *images,
                      const DcaeLatent *latents)
{
    const DcaeGeometry *g = direction == DCAE_ENCODE ? &c->encode : &c->decode;
    g_autoptr(GError) error = NULL;
    DcaeCodec *codec = dcae_codec_new(
        &(DcaeCodecParams){.model = c->model, .direction = direction, .backend = DCAE_BACKEND_CPU},
        &error);

    g_assert_no_error(error);
    dcae_codec_configure(codec, g, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < c->frames; i += g->batch) {
        dcae_codec_run(codec, images + i, latents + i, MIN(g->batch, c->frames - i), &error);
        g_assert_no_error(error);
    }
    dcae_codec_free(codec);
}

static void check_codec_encode(GoldenCase *c)
{
    g_autofree float *out = g_new0(float, c->frames *golden_latent_floats(c));
    g_autofree DcaeImage *images =
        golden_image_views(c->pixels, c->frames, c->encode.width, c->encode.height);
    g_autofree DcaeLatent *latents =
        golden_latent_views(out, c->frames, c->latent_c, c->latent_h, c->latent_w);

    run_codec(c, DCAE_ENCODE, images, latents);
    double error = golden_error(out, c->latents, c->frames * golden_latent_floats(c));
    g_test_message("%s: encode relative L2 error %.2e", c->name, error);
    g_assert_cmpfloat(error, <=, GOLDEN_MAX_ERROR);
}

static void check_codec_decode(GoldenCase *c)
{
    gsize plane = (gsize)c->decoded_w * c->decoded_h;
    g_autofree guint8 *out = g_new0(guint8, c->frames * plane * 3);
    g_autofree DcaeImage *images = golden_image_views(out, c->frames, c->decoded_w, c->decoded_h);
    g_autofree DcaeLatent *latents = golden_latent_views(
        c->latents_in, c->frames, c->latent_c, c->decode.latent_height, c->decode.latent_width);

    run_codec(c, DCAE_DECODE, images, latents);
    golden_check_pixels(c, out, 3 * (gsize)c->decoded_w);
}

/* ---- through program, plan and backend ---- */

/* One build of the kernels: within the bound of the reference. Bands of any height and any number
 * of threads: the same bits as whole frames on one thread. build: name. */
static void check_build(GoldenCase *c, DcaeDirection direction, const GoldenWay *build,
                        const char *name, double max_error)
{
    static const GoldenWay others[] = {{.threads = 3},
                                       {.threads = 2, .band_rows = 1},
                                       {.threads = 1, .band_rows = 3},
                                       {.threads = 5, .band_rows = 6}};
    const float *wanted = direction == DCAE_ENCODE ? c->latents : c->decoded;
    gboolean blend = c->encode.tiling.mode == DCAE_TILING_BLEND;

    GoldenResult whole = golden_run(c, direction, build);
    double error = golden_error(whole.data, wanted, whole.n);
    g_test_message("%s: %s, %s: relative L2 error %.2e", c->name,
                   direction == DCAE_ENCODE ? "encode" : "decode", name, error);
    g_assert_cmpfloat(error, <=, max_error);
    for (guint i = 0; i < (blend ? 1 : G_N_ELEMENTS(others)); i++) {
        GoldenWay way = *build;
        way.threads = others[i].threads;
        way.band_rows = others[i].band_rows;
        GoldenResult other = golden_run(c, direction, &way);
        /* The last segment alone is counted in picture rows on decode, so a one-row limit must
         * cut it. */
        if (way.band_rows == 1 && direction == DCAE_DECODE && c->decoded_h >= 32)
            g_assert_cmpuint(other.bands, >, 1);
        g_assert_cmpmem(other.data, other.n * sizeof(float), whole.data, whole.n * sizeof(float));
        g_free(other.data);
    }
    g_free(whole.data);
}

/* f32 on every instruction set, bf16 emulated and, where the machine has it, real. */
static void check_builds(GoldenCase *c, DcaeDirection direction)
{
    static const char *const names[] = {"", "generic", "avx2", "avx512"};
    GoldenWay f32 = {.backend = &dcae_cpu_backend, .precision = DCAE_PRECISION_F32, .threads = 1};
    GoldenWay bf16 = {.backend = &dcae_cpu_backend,
                      .precision = DCAE_PRECISION_BF16,
                      .isa = DCAE_ISA_AVX512,
                      .threads = 1};
    DcaeCpuKernels emulated;

    for (f32.isa = DCAE_ISA_GENERIC; f32.isa <= dcae_cpu_isa(); f32.isa++)
        check_build(c, direction, &f32, names[f32.isa], GOLDEN_MAX_ERROR);
    if (dcae_cpu_has_bf16())
        check_build(c, direction, &bf16, "bf16", BF16_MAX_ERROR);
    if (emulated_kernels_init(&emulated, DCAE_PRECISION_BF16)) {
        bf16.cpu_kernels = &emulated;
        check_build(c, direction, &bf16, "emulated bf16", BF16_MAX_ERROR);
    }
}

static void test_case(gconstpointer name)
{
    GoldenCase *c = golden_load(name);

    check_codec_encode(c);
    check_codec_decode(c);
    check_builds(c, DCAE_ENCODE);
    check_builds(c, DCAE_DECODE);
    golden_free(c);
}

int main(int argc, char **argv)
{
    g_auto(GStrv) names = golden_names();

    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; names[i] != NULL; i++) {
        g_autofree char *path = g_strdup_printf("/golden/%s", names[i]);
        g_test_add_data_func(path, names[i], test_case);
    }
    return g_test_run();
}
