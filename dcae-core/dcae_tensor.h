/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * dcae_tensor.h - checked sizes. Every product that comes from a file or a property goes through
 * here.
 */
#ifndef DCAE_TENSOR_H
#define DCAE_TENSOR_H

#include <glib.h>

/* *out = a * b; FALSE on overflow, *out untouched. */
static inline gboolean dcae_mul_size(gsize a, gsize b, gsize *out)
{
    return g_size_checked_mul(out, a, b);
}

/* *out = a + b; FALSE on overflow. */
static inline gboolean dcae_add_size(gsize a, gsize b, gsize *out)
{
    return g_size_checked_add(out, a, b);
}

static inline guint dcae_round_up(guint value, guint multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

static inline guint dcae_ceil_div(guint a, guint b)
{
    return (a + b - 1) / b;
}

#endif
