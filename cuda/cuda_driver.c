/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * cuda_driver.c - see cuda_driver.h. The table is filled once and never changes afterwards.
 */
#include "cuda_driver.h"

#include <dlfcn.h>

#include "dcae.h"

#define LIBRARY "libcuda.so.1"

static GMutex lock;
static gboolean is_open;
static DcaeCudaDriver driver;

/* Stores the address of a function; dlsym() gives it as an object pointer. */
static gboolean find(void *library, const char *name, gpointer to, GError **error)
{
    void *symbol = dlsym(library, name);

    if (symbol == NULL) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "the NVIDIA driver's " LIBRARY " has no %s; a newer driver is needed", name);
        return FALSE;
    }
    *(void **)to = symbol;
    return TRUE;
}

static gboolean open_driver(GError **error)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        g_set_error(error, DCAE_ERROR, DCAE_ERROR_UNSUPPORTED,
                    "CUDA needs the NVIDIA driver, and its " LIBRARY " can't be opened (%s)",
                    dlerror());
        return FALSE;
    }
#define FIND(name, arguments)                         \
    if (!find(library, #name, &driver.name, error)) { \
        dlclose(library);                             \
        return FALSE;                                 \
    }
    DCAE_CUDA_DRIVER_CALLS(FIND)
#undef FIND
    if (!CU(&driver, error, cuInit, 0)) {
        dlclose(library);
        return FALSE;
    }
    return TRUE;
}

const DcaeCudaDriver *dcae_cuda_driver(GError **error)
{
    g_mutex_lock(&lock);
    if (!is_open)
        is_open = open_driver(error);
    gboolean ok = is_open;
    g_mutex_unlock(&lock);
    return ok ? &driver : NULL;
}

gboolean dcae_cuda_check(const DcaeCudaDriver *cu, CUresult code, const char *call, GError **error)
{
    const char *name = NULL, *text = NULL;

    if (code == CUDA_SUCCESS)
        return TRUE;
    if (cu->cuGetErrorName(code, &name) != CUDA_SUCCESS || name == NULL)
        name = "unknown error";
    if (cu->cuGetErrorString(code, &text) != CUDA_SUCCESS || text == NULL)
        text = "no description";
    gboolean memory = code == CUDA_ERROR_OUT_OF_MEMORY;
    g_set_error(error, DCAE_ERROR, memory ? DCAE_ERROR_MEMORY : DCAE_ERROR_BACKEND,
                "the CUDA call %s failed with code %d: %s (%s)%s", call, code, name, text,
                memory ? DCAE_CUDA_OTHER_DEVICE : "");
    return FALSE;
}
