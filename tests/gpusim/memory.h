/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Device memory of the stand-in: invented addresses with wide gaps between them, never reused, and
 * a shadow of each byte that says whether it has been written. Host-side copies and kernels use the
 * same checks (shadow.c).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who used a granule of device memory last. Stamps number the blocks of all launches. */
typedef struct {
    uint32_t owner;  /* stamp of the block that wrote; top bit: atomically */
    uint32_t turn;   /* ... in which barrier epoch of the block, times 64, plus the warp */
    uint32_t reader; /* stamp of the block that read; top bit: others too */
} GranuleUse;

typedef struct Allocation {
    uint64_t base;
    size_t size;
    uint8_t *data;    /* NULL once freed: the record stays, to name what a stray access hits */
    uint8_t *written; /* a bit per byte */
    GranuleUse *uses; /* NULL until a kernel writes; granules are as wide as the launch says */
    uint32_t written_since; /* first stamp of the last launch that wrote here */
    const void *context;
    uint8_t *touched; /* two bits per 32-byte sector: read, written in the launch `touched_in` */
    uint32_t touched_in;
} Allocation;

/* NULL when address space or host memory is exhausted. */
Allocation *memory_new(size_t size, const void *context);
void memory_release(Allocation *a);

/* The allocation whose surroundings hold the address, freed ones too; the caller compares with
 * size. */
Allocation *memory_find(uint64_t address);

void memory_mark_written(Allocation *a, size_t offset, size_t bytes);
/* Offset of the first byte of the range that was never written; SIZE_MAX: none. */
size_t memory_first_unwritten(const Allocation *a, size_t offset, size_t bytes);
/* Copies the written bits along with a device to device copy. */
void memory_copy_written(Allocation *to, size_t to_offset, const Allocation *from,
                         size_t from_offset, size_t bytes);

/* Stamps for the blocks of one launch. */
uint32_t memory_take_stamps(uint32_t blocks);

/* What is alive and belongs to the context (NULL: all): calls f for each. */
void memory_each(const void *context, void (*f)(Allocation *, void *), void *user);
