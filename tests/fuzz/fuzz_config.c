/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz_config.c - any text as config.json: what is accepted is legal, and its canonical text means
 * the same.
 */
#include "dcae_config.h"
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    DcaeConfig config, again;
    char *text = g_strndup((const char *)data, size);
    if (dcae_config_parse(&config, text, "input", NULL)) {
        char *first = dcae_config_to_json(&config);
        g_assert_true(dcae_config_validate(&config, "input", NULL));
        g_assert_true(dcae_config_parse(&again, first, "input", NULL));
        char *second = dcae_config_to_json(&again);
        g_assert_cmpstr(first, ==, second);
        g_free(first);
        g_free(second);
    }
    g_free(text);
    return 0;
}
