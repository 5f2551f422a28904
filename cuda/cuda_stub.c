/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_stub.c - stands in for the CUDA backend in builds without it: the same symbol, and every way
 * in answers with one clear error.
 */
#include "dcae_backend.h"

static gboolean probe(const DcaeBackendParams *params, GError **error)
{
    g_set_error_literal(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                        "backend cuda is not built into this version; use backend cpu or auto");
    return FALSE;
}

/* probe() never succeeds, so nothing else is ever called. */
const DcaeBackend dcae_cuda_backend = {.name = "cuda", .probe = probe};
