/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * fuzz.h - the entry point that every fuzz target defines, as libFuzzer calls it. fuzz_main.c calls
 * it too, once for each file of a corpus, so that the targets are ordinary tests as well; run.sh
 * builds and runs a target with libFuzzer.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
