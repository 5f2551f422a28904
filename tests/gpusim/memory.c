/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Device memory: addresses are invented, each allocation alone in regions of 256 MiB, so that an
 * index that runs away lands in a gap and not in a neighbour. Addresses are never used twice. Knows
 * nothing of kernels; shadow.c checks their accesses.
 */
#include "memory.h"

#include <glib.h>
#include <string.h>

#define REGION_BITS 28
#define REGIONS ((size_t)1 << (47 - REGION_BITS))
#define FIRST_REGION 4096
#define LEAD ((uint64_t)1 << (REGION_BITS - 1)) /* gap before the first byte */

static Allocation *regions[REGIONS];
static size_t next_region = FIRST_REGION;
static uint32_t next_stamp = 1;
static GPtrArray *all; /* Allocation, freed ones too */

Allocation *memory_new(size_t size, const void *context)
{
    const size_t count = (size_t)((size + LEAD + LEAD - 1) >> REGION_BITS) + 1;
    if (size == 0 || size > (size_t)1 << 46 || count > REGIONS - next_region)
        return NULL;
    Allocation *a = g_new0(Allocation, 1);
    a->data = g_try_malloc(size);
    a->written = g_try_malloc0(size / 8 + 3);
    if (!a->data || !a->written) {
        g_free(a->data);
        g_free(a->written);
        g_free(a);
        return NULL;
    }
    /* Aligned to 512 bytes as real addresses are, and not by chance to more. */
    a->base = ((uint64_t)next_region << REGION_BITS) + LEAD + 512 * (1 + 2 * (next_region % 5));
    a->size = size;
    a->context = context;
    for (size_t i = 0; i < count; i++)
        regions[next_region + i] = a;
    next_region += count;
    if (!all)
        all = g_ptr_array_new();
    g_ptr_array_add(all, a);
    return a;
}

void memory_release(Allocation *a)
{
    g_clear_pointer(&a->data, g_free);
    g_clear_pointer(&a->written, g_free);
    g_clear_pointer(&a->uses, g_free);
    g_clear_pointer(&a->touched, g_free);
}

Allocation *memory_find(uint64_t address)
{
    const uint64_t region = address >> REGION_BITS;
    return region < REGIONS ? regions[region] : NULL;
}

void memory_mark_written(Allocation *a, size_t offset, size_t bytes)
{
    const size_t end = offset + bytes;
    while (offset < end && offset % 8)
        a->written[offset / 8] |= (uint8_t)(1u << offset % 8), offset++;
    if (end - offset >= 8) {
        memset(a->written + offset / 8, 0xff, (end - offset) / 8);
        offset += (end - offset) / 8 * 8;
    }
    for (; offset < end; offset++)
        a->written[offset / 8] |= (uint8_t)(1u << offset % 8);
}

size_t memory_first_unwritten(const Allocation *a, size_t offset, size_t bytes)
{
    const size_t end = offset + bytes;
    while (offset < end) {
        if (offset % 8 == 0 && end - offset >= 8 && a->written[offset / 8] == 0xff)
            offset += 8;
        else if ((a->written[offset / 8] >> offset % 8) & 1)
            offset++;
        else
            return offset;
    }
    return SIZE_MAX;
}

void memory_copy_written(Allocation *to, size_t to_offset, const Allocation *from,
                         size_t from_offset, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        const size_t s = from_offset + i, d = to_offset + i;
        const unsigned bit = (from->written[s / 8] >> s % 8) & 1;
        to->written[d / 8] = (uint8_t)((to->written[d / 8] & ~(1u << d % 8)) | bit << d % 8);
    }
}

uint32_t memory_take_stamps(uint32_t blocks)
{
    if (blocks >= 0x7fffffffu - next_stamp) {
        for (guint i = 0; all && i < all->len; i++) {
            Allocation *a = all->pdata[i];
            g_clear_pointer(&a->uses, g_free);
            a->written_since = 0;
        }
        next_stamp = 1;
    }
    const uint32_t first = next_stamp;
    next_stamp += blocks;
    return first;
}

void memory_each(const void *context, void (*f)(Allocation *, void *), void *user)
{
    for (guint i = 0; all && i < all->len; i++) {
        Allocation *a = all->pdata[i];
        if (a->data && (!context || a->context == context))
            f(a, user);
    }
}
