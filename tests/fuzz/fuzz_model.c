/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz_model.c - any bytes as a single-file model: opened, its configuration inferred, tensors
 * looked for. The file is an anonymous one in memory.
 */
#include "dcae_checkpoint.h"
#include "dcae_infer.h"
#include "dcae_model.h"
#include "fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

static void look(const char *path)
{
    DcaeConfig config;
    DcaeFound found;
    DcaeCheckpoint *checkpoint = dcae_checkpoint_open(&path, 1, NULL);
    if (!checkpoint)
        return;
    dcae_infer_config(checkpoint, &config, NULL);
    const char *const names[] = {"encoder.down_blocks.1.0.attn.to_k.weight",
                                 "decoder.up_blocks.0.0.conv.weight", "encoder.conv_in.weight"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (!dcae_checkpoint_find(checkpoint, names[i], &found) ||
            !dcae_checkpoint_want(checkpoint, names[i], found.shape, found.rank, &found, NULL) ||
            found.count > 65536)
            continue;
        float *values = g_new(float, found.count);
        dcae_checkpoint_read(checkpoint, &found, 0, found.count, values, NULL);
        g_free(values);
    }
    dcae_checkpoint_free(checkpoint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        g_error("no file in memory");
    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    look(path);
    dcae_model_unref(dcae_model_open(&(DcaeModelParams){.path = path}, NULL));
    dcae_model_unref(
        dcae_model_open(&(DcaeModelParams){.path = path, .config = "dc-ae-f32c32-in-1.0"}, NULL));
    close(fd);
    return 0;
}
