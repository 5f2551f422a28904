/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * The stand-in libnvidia-encode.so.1. GStreamer's nvcodec plugin registers cudaupload and
 * cudadownload only when an encoder or decoder library opens; this one opens, and has no encoder:
 * every function answers "no encode device".
 */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))

enum { NV_ENC_SUCCESS = 0, NV_ENC_ERR_NO_ENCODE_DEVICE = 1, NV_ENC_ERR_INVALID_PTR = 6 };

/* The head of NV_ENCODE_API_FUNCTION_LIST: all its functions of interface version 12.0. */
typedef struct {
    uint32_t version, reserved;
    int (*functions[40])(void);
} FunctionList;

static int no_device(void)
{
    return NV_ENC_ERR_NO_ENCODE_DEVICE;
}

EXPORT int NvEncodeAPIGetMaxSupportedVersion(uint32_t *version)
{
    if (!version)
        return NV_ENC_ERR_INVALID_PTR;
    *version = 12u << 4;
    return NV_ENC_SUCCESS;
}

EXPORT int NvEncodeAPICreateInstance(FunctionList *list)
{
    if (!list)
        return NV_ENC_ERR_INVALID_PTR;
    for (unsigned i = 0; i < 40; i++)
        list->functions[i] = no_device;
    return NV_ENC_SUCCESS;
}
