/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Checks of every memory access that a kernel makes: inside an allocation, aligned, of bytes that
 * were written, not racing with another warp or block, not still under way by cp.async. The
 * functions declared in ptx_exec.h return host memory or end the launch with a finding; the span
 * forms cover a whole warp and answer NULL where anything is amiss.
 *
 * Shared races: barriers cut the life of a block into epochs; two warps that touch a granule in the
 * same epoch, one of them writing, race. A granule is as wide as the kernel's narrowest access.
 * Global races: a granule that one block wrote in this launch is not to be touched by another.
 */
#include "memory.h"
#include "ptx_exec.h"

#define HEX "0x%" G_GINT64_MODIFIER "x"

/* --- shared memory --- */

/* Who touched a granule last: epoch * 256 + who. who: warp, or one of these. */
enum { WHO_SEVERAL = 200, WHO_ATOMIC = 201 };

typedef struct {
    uint64_t write; /* PENDING: cp.async has not delivered it */
    uint64_t read;
} Granule;

#define PENDING UINT64_MAX

struct SharedMemory {
    uint32_t bytes, shift; /* shift: log2 of the granule */
    uint64_t epoch;
    uint8_t *data;
    uint8_t *written; /* a byte for each byte */
    Granule *granules;
};

SharedMemory *shared_new(uint32_t bytes, uint32_t granule)
{
    SharedMemory *s = g_new0(SharedMemory, 1);
    s->bytes = bytes;
    s->shift = (uint32_t)__builtin_ctz(granule);
    s->data = g_malloc((size_t)bytes + 16);
    s->written = g_malloc((size_t)bytes + 16);
    s->granules = g_new0(Granule, (bytes >> s->shift) + 2);
    return s;
}

void shared_free(SharedMemory *s)
{
    g_free(s->data);
    g_free(s->written);
    g_free(s->granules);
    g_free(s);
}

void shared_begin_block(SharedMemory *s)
{
    s->epoch++;
    memset(s->written, 0, s->bytes);
    for (uint32_t i = 0; i <= s->bytes >> s->shift; i++)
        if (s->granules[i].write == PENDING)
            s->granules[i].write = 0;
}

void shared_barrier(SharedMemory *s)
{
    s->epoch++;
}

uint32_t shared_offset(uint64_t address)
{
    return (uint32_t)(address - SHARED_BASE);
}

/* NULL, or what is wrong with the place of an access. */
static const char *shared_misplaced(const SharedMemory *s, uint64_t address, uint32_t bytes,
                                    uint32_t align)
{
    if (address < SHARED_BASE || address - SHARED_BASE + bytes > s->bytes)
        return "out of bounds";
    if (address & (align - 1))
        return "misaligned";
    return NULL;
}

static const char *note_read(const Warp *w, SharedMemory *s, uint32_t offset, uint32_t bytes)
{
    const uint64_t now = s->epoch << 8, me = now | w->index;
    for (uint32_t i = offset >> s->shift; i <= (offset + bytes - 1) >> s->shift; i++) {
        Granule *g = &s->granules[i];
        if (g->write == PENDING)
            return "read of bytes that cp.async has not delivered: a wait is missing";
        if (g->write >= now && g->write != me)
            return "race: read of what another warp has written since the last barrier";
        g->read = g->read >= now && g->read != me ? now | WHO_SEVERAL : me;
    }
    return NULL;
}

static const char *note_write(const Warp *w, SharedMemory *s, uint32_t offset, uint32_t bytes,
                              bool atomic)
{
    const uint64_t now = s->epoch << 8, me = now | w->index,
                   writer = atomic ? now | WHO_ATOMIC : me;
    for (uint32_t i = offset >> s->shift; i <= (offset + bytes - 1) >> s->shift; i++) {
        Granule *g = &s->granules[i];
        if (g->write == PENDING)
            return "write over bytes that cp.async has not delivered: a wait is missing";
        if (g->write >= now && g->write != writer && !(g->write == me && atomic))
            return "race: write over what another warp has written since the last barrier";
        if (g->read >= now && g->read != me)
            return "race: write over what another warp has read since the last barrier";
        g->write = writer;
    }
    return NULL;
}

static G_GNUC_NORETURN void shared_fault(Warp *w, int lane, const char *what, uint64_t address,
                                         uint32_t bytes)
{
    launch_fault(w, lane, "%s (shared address " HEX ", %u bytes, of %u)", what,
                 address - SHARED_BASE, bytes, w->launch->shared->bytes);
}

/* The widest access that must be aligned to its own size. */
static uint32_t alignment(uint32_t bytes)
{
    return bytes > 16 ? 16 : bytes;
}

static inline bool shared_written(const SharedMemory *s, uint32_t offset, uint32_t bytes)
{
    if (bytes == 4) {
        uint32_t word;
        memcpy(&word, s->written + offset, 4);
        return word == 0x01010101u;
    }
    if (bytes == 16) {
        uint64_t part[2];
        memcpy(part, s->written + offset, 16);
        return (part[0] & part[1]) == 0x0101010101010101u;
    }
    return !memchr(s->written + offset, 0, bytes);
}

const uint8_t *shared_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    SharedMemory *s = w->launch->shared;
    const char *wrong = shared_misplaced(s, address, bytes, alignment(bytes));
    if (wrong)
        shared_fault(w, lane, wrong, address, bytes);
    const uint32_t offset = shared_offset(address);
    wrong = note_read(w, s, offset, bytes);
    if (!wrong && !shared_written(s, offset, bytes))
        wrong = "read of shared memory that was never written";
    if (wrong)
        shared_fault(w, lane, wrong, address, bytes);
    return s->data + offset;
}

static uint8_t *shared_store(Warp *w, int lane, uint64_t address, uint32_t bytes, bool atomic)
{
    SharedMemory *s = w->launch->shared;
    const char *wrong = shared_misplaced(s, address, bytes, alignment(bytes));
    const uint32_t offset = shared_offset(address);
    if (!wrong)
        wrong = note_write(w, s, offset, bytes, atomic);
    if (!wrong && atomic && !shared_written(s, offset, bytes))
        wrong = "atomic operation on shared memory that was never written";
    if (wrong)
        shared_fault(w, lane, wrong, address, bytes);
    memset(s->written + offset, 1, bytes);
    return s->data + offset;
}

uint8_t *shared_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    return shared_store(w, lane, address, bytes, false);
}

uint8_t *shared_atomic(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    return shared_store(w, lane, address, bytes, true);
}

uint8_t *shared_async_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    uint8_t *p = shared_store(w, lane, address, bytes, false);
    SharedMemory *s = w->launch->shared;
    const uint32_t offset = shared_offset(address);
    for (uint32_t i = offset >> s->shift; i <= (offset + bytes - 1) >> s->shift; i++)
        s->granules[i].write = PENDING;
    return p;
}

/* The write counts as made now, by the warp that waited: others need a barrier after this. */
void shared_async_delivered(Warp *w, uint32_t offset, uint32_t bytes)
{
    SharedMemory *s = w->launch->shared;
    for (uint32_t i = offset >> s->shift; i <= (offset + bytes - 1) >> s->shift; i++) {
        s->granules[i].write = s->epoch << 8 | w->index;
    }
}

/* The lane before l that reads the same address, among the two likeliest; -1: neither does. */
static inline int twin(const uint64_t address[LANES], uint32_t mask, int l)
{
    if (l >= 1 && address[l] == address[l - 1] && ((mask >> (l - 1)) & 1))
        return l - 1;
    if (l >= 16 && address[l] == address[l - 16] && ((mask >> (l - 16)) & 1))
        return l - 16;
    return -1;
}

bool shared_read_lanes(Warp *w, uint32_t mask, const uint64_t address[LANES], uint32_t bytes,
                       const uint8_t *from[LANES])
{
    SharedMemory *s = w->launch->shared;
    const uint64_t now = s->epoch << 8, me = now | w->index, align = alignment(bytes) - 1;
    for (int l = 0; l < LANES; l++) {
        if (!((mask >> l) & 1))
            continue;
        const int other = twin(address, mask, l);
        if (other >= 0) {
            from[l] = from[other];
            continue;
        }
        const uint64_t offset = address[l] - SHARED_BASE;
        if (offset + bytes > s->bytes || offset > s->bytes || (offset & align) ||
            !shared_written(s, (uint32_t)offset, bytes))
            return false;
        for (uint64_t i = offset >> s->shift; i <= (offset + bytes - 1) >> s->shift; i++) {
            Granule *g = &s->granules[i];
            if (g->write >= now && g->write != me)
                return false;
            g->read = g->read >= now && g->read != me ? now | WHO_SEVERAL : me;
        }
        from[l] = s->data + offset;
    }
    return true;
}

const uint8_t *shared_read_span(Warp *w, uint64_t address, uint32_t bytes)
{
    SharedMemory *s = w->launch->shared;
    const uint32_t offset = shared_offset(address), total = bytes * LANES;
    if (shared_misplaced(s, address, total, alignment(bytes)) ||
        memchr(s->written + offset, 0, total) || note_read(w, s, offset, total))
        return NULL;
    return s->data + offset;
}

uint8_t *shared_write_span(Warp *w, uint64_t address, uint32_t bytes)
{
    SharedMemory *s = w->launch->shared;
    const uint32_t offset = shared_offset(address), total = bytes * LANES;
    if (shared_misplaced(s, address, total, alignment(bytes)) ||
        note_write(w, s, offset, total, false))
        return NULL;
    memset(s->written + offset, 1, total);
    return s->data + offset;
}

/* --- global memory --- */

static G_GNUC_NORETURN void global_fault(Warp *w, int lane, const char *what, uint64_t address,
                                         uint32_t bytes)
{
    const Allocation *a = memory_find(address);
    if (!a)
        launch_fault(w, lane, "%s (address " HEX ", %u bytes, no allocation anywhere near)", what,
                     address, bytes);
    launch_fault(w, lane,
                 "%s (address " HEX " is %s%" G_GINT64_FORMAT
                 " of an allocation of %" G_GSIZE_FORMAT " bytes; access of %u)",
                 what, address, address < a->base ? "" : "byte ", (gint64)(address - a->base),
                 a->size, bytes);
}

static const char *global_misplaced(const Warp *w, const Allocation *a, uint64_t address,
                                    uint32_t bytes, uint32_t align)
{
    if (!a || address < a->base || address - a->base + bytes > a->size)
        return "out of bounds";
    if (!a->data)
        return "use of freed memory";
    if (a->context != w->launch->params->context)
        return "memory of another context";
    if (address & (align - 1))
        return "misaligned";
    return NULL;
}

static inline bool all_written(const Allocation *a, size_t offset, uint32_t bytes)
{
    if (bytes == 16) {
        uint16_t bits;
        memcpy(&bits, a->written + offset / 8, 2);
        if (offset % 8 == 0)
            return bits == 0xffff;
    }
    if (bytes < 8) {
        const uint32_t mask = (1u << bytes) - 1;
        return ((uint32_t)(a->written[offset / 8] | a->written[offset / 8 + 1] << 8) >> offset % 8 &
                mask) == mask;
    }
    return memory_first_unwritten(a, offset, bytes) == SIZE_MAX;
}

/* The top bit of a stamp. */
#define STAMP_ATOMIC 0x80000000u  /* of an owner: written atomically */
#define STAMP_SEVERAL 0x80000000u /* of a reader: other blocks too */

/* Blocks that fence and use atomics may hand data to each other: how, is not followed any further.
 */
static bool hands_over(const Launch *launch, uint32_t block)
{
    const uint8_t both = BLOCK_FENCED | BLOCK_ATOMIC;
    return (launch->block_flags[block] & both) == both;
}

/* Is that the stamp of another block of this launch, with nothing that orders the two? */
static bool foreign(const Warp *w, uint32_t stamp)
{
    const Launch *launch = w->launch;
    const uint32_t block = (stamp & 0x7fffffff) - launch->first_stamp;
    if ((stamp & 0x7fffffff) < launch->first_stamp || block == launch->block_number)
        return false;
    return !hands_over(launch, block) || !hands_over(launch, launch->block_number);
}

static bool read_by_others(const Warp *w, uint32_t stamp)
{
    if ((stamp & STAMP_SEVERAL) && (stamp & 0x7fffffff) >= w->launch->first_stamp)
        return !hands_over(w->launch, w->launch->block_number);
    return foreign(w, stamp);
}

static unsigned granule_shift(const Warp *w)
{
    return (unsigned)__builtin_ctz(w->launch->kernel->global_granule);
}

/* Sectors of 32 bytes that a launch reads and writes: what has to cross the memory bus at least
 * once. */
static void touch(const Warp *w, Allocation *a, size_t offset, uint32_t bytes, bool is_write)
{
    LaunchCounters *c = &w->launch->count;
    if (a->touched_in != w->launch->first_stamp) {
        if (!a->touched)
            a->touched = g_malloc(a->size / 32 / 4 + 2);
        memset(a->touched, 0, a->size / 32 / 4 + 2);
        a->touched_in = w->launch->first_stamp;
    }
    const size_t start = offset + a->base % 32;
    for (size_t i = start / 32; i <= (start + bytes - 1) / 32; i++) {
        const uint8_t bit = (uint8_t)((is_write ? 2 : 1) << i % 4 * 2);
        if (a->touched[i / 4] & bit)
            continue;
        a->touched[i / 4] |= bit;
        *(is_write ? &c->sectors_written : &c->sectors_read) += 1;
    }
}

static uint32_t own_stamp(const Warp *w)
{
    return w->launch->first_stamp + w->launch->block_number;
}

static uint32_t own_turn(const Warp *w)
{
    return (uint32_t)(w->launch->shared->epoch << 6) | w->index;
}

/* Written by another warp of this block, and no barrier since. */
static bool same_turn(const Warp *w, const GranuleUse *u)
{
    const uint32_t turn = own_turn(w);
    return u->owner == own_stamp(w) && u->turn != turn && u->turn >> 6 == turn >> 6;
}

/* Readers are noted only from a launch's first write to the allocation on: inputs cost nothing, and
 * a kernel that works in place over several blocks is found all the same. */
static const char *check_owner(const Warp *w, Allocation *a, size_t offset, uint32_t bytes)
{
    if (a->written_since != w->launch->first_stamp)
        return NULL;
    const unsigned shift = granule_shift(w);
    const uint32_t mine = own_stamp(w);
    for (size_t i = offset >> shift; i <= (offset + bytes - 1) >> shift; i++) {
        GranuleUse *u = &a->uses[i];
        if (foreign(w, u->owner))
            return "race: read of what another block of this launch has written";
        if (same_turn(w, u))
            return "race: read of what another warp has written since the last barrier";
        const bool noted = (u->reader & 0x7fffffff) >= w->launch->first_stamp;
        u->reader = noted && u->reader != mine ? mine | STAMP_SEVERAL : mine;
    }
    return NULL;
}

static const char *take_ownership(const Warp *w, Allocation *a, size_t offset, uint32_t bytes,
                                  bool atomic)
{
    const unsigned shift = granule_shift(w);
    const uint32_t mine = own_stamp(w), turn = own_turn(w);
    if (!a->uses)
        a->uses = g_new0(GranuleUse, a->size + 1);
    a->written_since = w->launch->first_stamp;
    for (size_t i = offset >> shift; i <= (offset + bytes - 1) >> shift; i++) {
        GranuleUse *u = &a->uses[i];
        if (foreign(w, u->owner) && !(atomic && (u->owner & STAMP_ATOMIC)))
            return "race: write over what another block of this launch has written";
        if (read_by_others(w, u->reader))
            return "race: write over what another block of this launch has read";
        if (same_turn(w, u))
            return "race: write over what another warp has written since the last barrier";
        u->owner = mine | (atomic ? STAMP_ATOMIC : 0);
        u->turn = turn;
    }
    return NULL;
}

const uint8_t *global_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    Allocation *a = memory_find(address);
    const char *wrong = global_misplaced(w, a, address, bytes, alignment(bytes));
    if (wrong)
        global_fault(w, lane, wrong, address, bytes);
    const size_t offset = (size_t)(address - a->base);
    if (!all_written(a, offset, bytes))
        wrong = "read of memory that was never written";
    else
        wrong = check_owner(w, a, offset, bytes);
    if (wrong)
        global_fault(w, lane, wrong, address, bytes);
    touch(w, a, offset, bytes, false);
    return a->data + offset;
}

bool global_read_lanes(Warp *w, uint32_t mask, const uint64_t address[LANES], uint32_t bytes,
                       const uint8_t *from[LANES])
{
    Allocation *a = memory_find(address[__builtin_ctz(mask)]);
    const uint64_t align = alignment(bytes) - 1;
    if (!a || !a->data || a->context != w->launch->params->context || a->size < bytes)
        return false;
    for (int l = 0; l < LANES; l++) {
        if (!((mask >> l) & 1))
            continue;
        const int other = twin(address, mask, l);
        if (other >= 0) {
            from[l] = from[other];
            continue;
        }
        const uint64_t offset = address[l] - a->base;
        if (offset > a->size - bytes || (address[l] & align) || !all_written(a, offset, bytes) ||
            check_owner(w, a, offset, bytes))
            return false;
        touch(w, a, offset, bytes, false);
        from[l] = a->data + offset;
    }
    return true;
}

void global_check_read_only(Warp *w, const uint64_t address[LANES], uint32_t bytes)
{
    const uint32_t first = w->launch->first_stamp;
    const unsigned shift = granule_shift(w);
    for (int l = 0; l < LANES; l++) {
        const Allocation *a = (w->exec >> l) & 1 ? memory_find(address[l]) : NULL;
        if (!a || a->written_since != first)
            continue;
        const size_t offset = (size_t)(address[l] - a->base);
        for (size_t i = offset >> shift; i <= (offset + bytes - 1) >> shift; i++)
            if ((a->uses[i].owner & 0x7fffffff) >= first)
                global_fault(w, l,
                             "read through the read-only path of what this launch has written",
                             address[l], bytes);
    }
}

/* How a store comes about: plain, by ld or st with an ordering, or by an atomic operation, which
 * also reads. */
typedef enum { STORE_PLAIN, STORE_ORDERED, STORE_ATOMIC } StoreKind;

static uint8_t *global_store(Warp *w, int lane, uint64_t address, uint32_t bytes, StoreKind kind)
{
    Allocation *a = memory_find(address);
    const char *wrong = global_misplaced(w, a, address, bytes, alignment(bytes));
    if (wrong)
        global_fault(w, lane, wrong, address, bytes);
    if (kind != STORE_PLAIN)
        w->launch->block_flags[w->launch->block_number] |= BLOCK_ATOMIC;
    const size_t offset = (size_t)(address - a->base);
    if (kind == STORE_ATOMIC && !all_written(a, offset, bytes))
        wrong = "atomic operation on memory that was never written";
    else
        wrong = take_ownership(w, a, offset, bytes, kind != STORE_PLAIN);
    if (wrong)
        global_fault(w, lane, wrong, address, bytes);
    memory_mark_written(a, offset, bytes);
    touch(w, a, offset, bytes, true);
    return a->data + offset;
}

uint8_t *global_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    return global_store(w, lane, address, bytes, STORE_PLAIN);
}

uint8_t *global_atomic(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    return global_store(w, lane, address, bytes, STORE_ATOMIC);
}

uint8_t *global_ordered_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    return global_store(w, lane, address, bytes, STORE_ORDERED);
}

const uint8_t *global_ordered_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    const Allocation *a = memory_find(address);
    const char *wrong = global_misplaced(w, a, address, bytes, alignment(bytes));
    if (wrong)
        global_fault(w, lane, wrong, address, bytes);
    w->launch->block_flags[w->launch->block_number] |= BLOCK_ATOMIC;
    const size_t offset = (size_t)(address - a->base), granule = offset >> granule_shift(w);
    if (a->uses && !(a->uses[granule].owner & STAMP_ATOMIC))
        return global_read(w, lane, address, bytes);
    if (!all_written(a, offset, bytes))
        global_fault(w, lane, "read of memory that was never written", address, bytes);
    return a->data + offset;
}

const uint8_t *global_read_span(Warp *w, uint64_t address, uint32_t bytes)
{
    Allocation *a = memory_find(address);
    if (global_misplaced(w, a, address, bytes * LANES, alignment(bytes)))
        return NULL;
    const size_t offset = (size_t)(address - a->base);
    if (!all_written(a, offset, bytes * LANES) || check_owner(w, a, offset, bytes * LANES))
        return NULL;
    touch(w, a, offset, bytes * LANES, false);
    return a->data + offset;
}

uint8_t *global_write_span(Warp *w, uint64_t address, uint32_t bytes)
{
    Allocation *a = memory_find(address);
    if (global_misplaced(w, a, address, bytes * LANES, alignment(bytes)))
        return NULL;
    const size_t offset = (size_t)(address - a->base);
    if (take_ownership(w, a, offset, bytes * LANES, false))
        return NULL;
    memory_mark_written(a, offset, bytes * LANES);
    touch(w, a, offset, bytes * LANES, true);
    return a->data + offset;
}

/* --- local memory and parameters --- */

const uint8_t *param_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    const uint32_t size = w->launch->kernel->param_bytes;
    if (address > size || address + bytes > size)
        launch_fault(w, lane, "out of bounds of the parameters (byte " HEX " of %u)", address,
                     size);
    return w->launch->params->params + address;
}

static size_t local_place(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    const uint32_t size = w->launch->kernel->local_bytes;
    if (address + bytes > size)
        launch_fault(w, lane, "out of bounds (local address " HEX ", %u bytes, of %u)", address,
                     bytes, size);
    if (address & (alignment(bytes) - 1))
        launch_fault(w, lane, "misaligned (local address " HEX ", %u bytes)", address, bytes);
    return (size_t)lane * size + (size_t)address;
}

const uint8_t *local_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    const size_t at = local_place(w, lane, address, bytes);
    if (memchr(w->local_written + at, 0, bytes))
        launch_fault(w, lane, "read of local memory that was never written (local address " HEX ")",
                     address);
    return w->local + at;
}

uint8_t *local_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    const size_t at = local_place(w, lane, address, bytes);
    memset(w->local_written + at, 1, bytes);
    return w->local + at;
}
