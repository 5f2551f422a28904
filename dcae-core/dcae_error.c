/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_error.c - the error domain of the library. The codes are in dcae.h; messages are written
 * where a failure is known.
 */
#include "dcae.h"

G_DEFINE_QUARK(dcae - error - quark, dcae_error)
