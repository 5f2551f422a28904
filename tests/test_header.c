/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * test_header.c - dcae.h compiles alone, as C11 and as C++ (the build makes a .cpp of this file),
 * every function it declares can be had from the shared library, and an error comes out of it as
 * the header says. Links libdcae as a program outside this project would.
 */
#include "dcae.h"

#include <stdio.h>
#include <string.h>

typedef void (*Function)(void);

/* Every function of the header: one that is not exported fails at link time. */
static const Function functions[] = {
    (Function)dcae_error_quark,
    (Function)dcae_safetensors_header_parse,
    (Function)dcae_safetensors_header_free,
    (Function)dcae_safetensors_header_data_size,
    (Function)dcae_safetensors_header_find,
    (Function)dcae_safetensors_header_n_tensors,
    (Function)dcae_safetensors_header_nth,
    (Function)dcae_safetensors_header_metadata,
    (Function)dcae_model_open,
    (Function)dcae_model_ref,
    (Function)dcae_model_unref,
    (Function)dcae_model_info,
    (Function)dcae_codec_new,
    (Function)dcae_codec_free,
    (Function)dcae_codec_backend,
    (Function)dcae_codec_configure,
    (Function)dcae_codec_plan_info,
    (Function)dcae_codec_run,
    (Function)dcae_codec_timings,
};

static int fail(const char *what)
{
    fprintf(stderr, "test_header: %s\n", what);
    return 1;
}

int main(void)
{
    DcaeModelParams params;
    GError *error = NULL;
    DcaeModel *model;

    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (!functions[i])
            return fail("a function is missing");

    memset(&params, 0, sizeof params);
    params.path = "no-such-file.safetensors";
    model = dcae_model_open(&params, &error);
    if (model || !error)
        return fail("a model that does not exist was opened");
    if (error->domain != DCAE_ERROR || error->code != DCAE_ERROR_NOT_FOUND)
        return fail(error->message);
    if (!strstr(error->message, params.path))
        return fail("the message does not name the file");
    g_error_free(error);
    dcae_model_unref(NULL);
    dcae_codec_free(NULL);
    return 0;
}
