/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz_header.c - any bytes as the JSON text of a safetensors header.
 */
#include "dcae.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DcaeSafetensorsHeader *header = dcae_safetensors_header_parse(data, size, "input", NULL);
    guint64 place = 0;
    if (!header)
        return 0;
    for (guint i = 0; i < dcae_safetensors_header_n_tensors(header); i++) {
        const DcaeTensor *tensor = dcae_safetensors_header_nth(header, i);
        g_assert_true(tensor->begin == place && tensor->end >= place);
        g_assert_true(dcae_safetensors_header_find(header, tensor->name) == tensor);
        place = tensor->end;
    }
    g_assert_true(dcae_safetensors_header_data_size(header) == place);
    dcae_safetensors_header_free(header);
    return 0;
}
