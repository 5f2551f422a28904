/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Gives virtual registers their slots. PTX is close to single assignment and names thousands of
 * registers; shared slots keep a warp's state in the processor's cache. Lanes of a warp may stand
 * at different instructions, but each lane owns a column of every slot, so per-lane liveness is
 * enough, as long as slots of different shape (32 bits, 64 bits, predicate) are never exchanged.
 *
 * The same analysis proves most registers initialised: only those alive at the entry can be read
 * before they are written. They keep slots of their own, and their valid bits are watched at run
 * time.
 */
#include "ptx.h"

enum { POOL_WORD, POOL_DOUBLE, POOL_PRED, POOLS };

typedef struct {
    uint32_t first, end; /* instructions */
    uint64_t *in, *out, *uses, *kills;
} BasicBlock;

typedef struct {
    PtxKernel *k;
    uint32_t words; /* of a set of registers */
    GArray *blocks;
    int32_t *block_of; /* first instruction -> block */
    uint64_t *storage;
    uint32_t *start, *end; /* interval of each register, in instructions */
} Analysis;

static bool in_set(const uint64_t *set, uint32_t i)
{
    return (set[i / 64] >> (i % 64)) & 1;
}

static void add_to_set(uint64_t *set, uint32_t i)
{
    set[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool is_register(const Analysis *a, int32_t v)
{
    return v != NO_SLOT && g_array_index(a->k->vregs, Vreg, v).kind == V_REGISTER;
}

static bool ends_block(const Insn *in)
{
    return in->flow == FLOW_BRANCH || in->flow == FLOW_BRANCH_TABLE || in->flow == FLOW_EXIT;
}

static void find_blocks(Analysis *a)
{
    const PtxKernel *k = a->k;
    const uint32_t n = k->code->len;
    uint8_t *leader = g_malloc0(n + 1);
    leader[0] = 1;
    for (uint32_t i = 0; i < n; i++) {
        const Insn *in = &g_array_index(k->code, Insn, i);
        if (in->flow == FLOW_BRANCH)
            leader[in->target] = 1;
        if (ends_block(in))
            leader[i + 1] = 1;
    }
    for (guint t = 0; t < k->tables->len; t++) {
        const GArray *table = g_array_index(k->tables, GArray *, t);
        for (guint i = 0; i < table->len; i++)
            leader[g_array_index(table, uint32_t, i)] = 1;
    }
    a->blocks = g_array_new(FALSE, TRUE, sizeof(BasicBlock));
    a->block_of = g_new0(int32_t, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        if (leader[i]) {
            BasicBlock block = {.first = i};
            g_array_append_val(a->blocks, block);
        }
        a->block_of[i] = (int32_t)a->blocks->len - 1;
        g_array_index(a->blocks, BasicBlock, a->blocks->len - 1).end = i + 1;
    }
    g_free(leader);
}

static void note_use(const Analysis *a, BasicBlock *block, int32_t v)
{
    if (is_register(a, v) && !in_set(block->kills, (uint32_t)v))
        add_to_set(block->uses, (uint32_t)v);
}

/* uses: read before written in the block; kills: written in every lane. A guarded write keeps the
 * old value. */
static void summarize_blocks(Analysis *a)
{
    const PtxKernel *k = a->k;
    a->words = k->vregs->len / 64 + 1;
    a->storage = g_new0(uint64_t, (size_t)a->words * 4 * a->blocks->len);
    for (guint i = 0; i < a->blocks->len; i++) {
        BasicBlock *block = &g_array_index(a->blocks, BasicBlock, i);
        uint64_t *base = a->storage + (size_t)i * 4 * a->words;
        block->in = base;
        block->out = base + a->words;
        block->uses = base + 2 * (size_t)a->words;
        block->kills = base + 3 * (size_t)a->words;
        for (uint32_t j = block->first; j < block->end; j++) {
            const Insn *in = &g_array_index(k->code, Insn, j);
            note_use(a, block, in->guard);
            for (unsigned s = 0; s < in->nsrc; s++)
                note_use(a, block, in->src[s]);
            for (unsigned d = 0; d < in->ndst; d++)
                if (is_register(a, in->dst[d]) && in->guard == NO_SLOT)
                    add_to_set(block->kills, (uint32_t)in->dst[d]);
        }
    }
}

static bool merge_from(Analysis *a, BasicBlock *block, uint32_t successor)
{
    if (successor >= a->k->code->len)
        return false;
    const BasicBlock *s = &g_array_index(a->blocks, BasicBlock, a->block_of[successor]);
    bool changed = false;
    for (uint32_t w = 0; w < a->words; w++) {
        const uint64_t more = block->out[w] | s->in[w];
        changed |= more != block->out[w];
        block->out[w] = more;
    }
    return changed;
}

static bool merge_successors(Analysis *a, BasicBlock *block)
{
    const Insn *last = &g_array_index(a->k->code, Insn, block->end - 1);
    bool changed = false;
    if (last->flow == FLOW_BRANCH)
        changed |= merge_from(a, block, last->target);
    if (last->flow == FLOW_BRANCH_TABLE) {
        const GArray *table = g_array_index(a->k->tables, GArray *, last->imm);
        for (guint i = 0; i < table->len; i++)
            changed |= merge_from(a, block, g_array_index(table, uint32_t, i));
    }
    if (!ends_block(last) || last->guard != NO_SLOT)
        changed |= merge_from(a, block, block->end);
    return changed;
}

static void solve_liveness(Analysis *a)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (guint i = a->blocks->len; i-- > 0;) {
            BasicBlock *block = &g_array_index(a->blocks, BasicBlock, i);
            changed |= merge_successors(a, block);
            for (uint32_t w = 0; w < a->words; w++) {
                const uint64_t live = block->uses[w] | (block->out[w] & ~block->kills[w]);
                changed |= live != block->in[w];
                block->in[w] = live;
            }
        }
    }
}

static void extend(Analysis *a, uint32_t v, uint32_t at)
{
    if (at < a->start[v])
        a->start[v] = at;
    if (at + 1 > a->end[v])
        a->end[v] = at + 1;
}

static void find_intervals(Analysis *a)
{
    const PtxKernel *k = a->k;
    a->start = g_new(uint32_t, k->vregs->len + 1);
    a->end = g_new0(uint32_t, k->vregs->len + 1);
    memset(a->start, 0xff, k->vregs->len * sizeof *a->start);
    for (guint i = 0; i < a->blocks->len; i++) {
        const BasicBlock *block = &g_array_index(a->blocks, BasicBlock, i);
        for (uint32_t v = 0; v < k->vregs->len; v++) {
            if (in_set(block->in, v))
                extend(a, v, block->first);
            if (in_set(block->out, v))
                extend(a, v, block->end - 1);
        }
    }
    for (uint32_t i = 0; i < k->code->len; i++) {
        const Insn *in = &g_array_index(k->code, Insn, i);
        if (is_register(a, in->guard))
            extend(a, (uint32_t)in->guard, i);
        for (unsigned s = 0; s < in->nsrc; s++)
            if (is_register(a, in->src[s]))
                extend(a, (uint32_t)in->src[s], i);
        for (unsigned d = 0; d < in->ndst; d++)
            if (is_register(a, in->dst[d]))
                extend(a, (uint32_t)in->dst[d], i);
    }
}

static int pool_of(const Vreg *v)
{
    return v->slots == 2 ? POOL_DOUBLE : v->type == T_PRED ? POOL_PRED : POOL_WORD;
}

static int compare_start(const void *x, const void *y, void *user)
{
    const Analysis *a = user;
    const uint32_t u = *(const uint32_t *)x, v = *(const uint32_t *)y;
    return a->start[u] < a->start[v] ? -1 : a->start[u] > a->start[v];
}

/* Linear scan: registers in the order of their first instruction take a free slot of their pool, or
 * a new one. */
static void scan(Analysis *a)
{
    PtxKernel *k = a->k;
    GArray *order = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    for (uint32_t v = 0; v < k->vregs->len; v++)
        if (a->end[v] && !g_array_index(k->vregs, Vreg, v).maybe_undef)
            g_array_append_val(order, v);
    g_array_sort_with_data(order, compare_start, a);
    GArray *active[POOLS], *unused[POOLS];
    for (int p = 0; p < POOLS; p++) {
        active[p] = g_array_new(FALSE, FALSE, sizeof(uint32_t));
        unused[p] = g_array_new(FALSE, FALSE, sizeof(int32_t));
    }
    for (guint i = 0; i < order->len; i++) {
        const uint32_t id = g_array_index(order, uint32_t, i);
        Vreg *v = &g_array_index(k->vregs, Vreg, id);
        const int p = pool_of(v);
        for (guint j = 0; j < active[p]->len;) {
            const uint32_t other = g_array_index(active[p], uint32_t, j);
            if (a->end[other] <= a->start[id]) {
                g_array_append_val(unused[p], g_array_index(k->vregs, Vreg, other).slot);
                g_array_remove_index_fast(active[p], j);
            } else {
                j++;
            }
        }
        if (unused[p]->len) {
            v->slot = g_array_index(unused[p], int32_t, unused[p]->len - 1);
            g_array_set_size(unused[p], unused[p]->len - 1);
        } else {
            v->slot = (int32_t)k->slots;
            k->slots += v->slots;
        }
        g_array_append_val(active[p], id);
    }
    for (int p = 0; p < POOLS; p++) {
        g_array_free(active[p], TRUE);
        g_array_free(unused[p], TRUE);
    }
    g_array_free(order, TRUE);
}

/* Constants are broadcast once, below slot 0; sinks, special and suspicious registers get slots of
 * their own. */
static void place_fixed(PtxKernel *k)
{
    int32_t constants = 0;
    for (guint i = 0; i < k->vregs->len; i++)
        if (g_array_index(k->vregs, Vreg, i).kind == V_CONSTANT)
            constants += g_array_index(k->vregs, Vreg, i).slots;
    k->constants = g_malloc((size_t)constants * SLOT_BYTES + 1);
    k->constants_end = k->constants + (size_t)constants * SLOT_BYTES;
    int32_t next = -constants;
    for (guint i = 0; i < k->vregs->len; i++) {
        Vreg *v = &g_array_index(k->vregs, Vreg, i);
        if (v->kind == V_CONSTANT) {
            v->slot = next;
            uint8_t *at = k->constants_end + (ptrdiff_t)next * SLOT_BYTES;
            for (int l = 0; l < LANES; l++)
                if (v->slots == 2)
                    ((uint64_t *)at)[l] = v->value;
                else
                    ((uint32_t *)at)[l] = (uint32_t)v->value;
            next += v->slots;
        } else if (v->kind != V_REGISTER || v->maybe_undef) {
            v->slot = (int32_t)k->slots;
            k->slots += v->slots;
            if (v->kind == V_SPECIAL)
                k->special_slot[v->special] = v->slot;
        }
    }
}

static void rewrite_operands(PtxKernel *k)
{
    const Vreg *v = (const Vreg *)k->vregs->data;
    k->undef_slot = g_malloc0(k->slots + 1);
    for (guint i = 0; i < k->vregs->len; i++)
        if (v[i].maybe_undef)
            k->undef_slot[v[i].slot] = 1;
    for (guint i = 0; i < k->code->len; i++) {
        Insn *in = &g_array_index(k->code, Insn, i);
        if (in->guard != NO_SLOT) {
            in->checked |= v[in->guard].maybe_undef;
            in->guard = v[in->guard].slot;
        }
        for (unsigned s = 0; s < in->nsrc; s++) {
            in->checked |= v[in->src[s]].maybe_undef;
            in->src[s] = v[in->src[s]].slot;
        }
        for (unsigned d = 0; d < in->ndst; d++) {
            in->marks |= v[in->dst[d]].maybe_undef;
            in->dst[d] = v[in->dst[d]].slot;
        }
    }
}

void ptx_assign_slots(PtxKernel *k)
{
    Analysis a = {.k = k};
    for (int i = 0; i < SR_COUNT; i++)
        k->special_slot[i] = NO_SLOT;
    find_blocks(&a);
    summarize_blocks(&a);
    solve_liveness(&a);
    const BasicBlock *entry = &g_array_index(a.blocks, BasicBlock, 0);
    for (uint32_t v = 0; v < k->vregs->len; v++)
        if (in_set(entry->in, v))
            g_array_index(k->vregs, Vreg, v).maybe_undef = 1;
    place_fixed(k);
    find_intervals(&a);
    scan(&a);
    rewrite_operands(k);
    g_array_free(a.blocks, TRUE);
    g_free(a.block_of);
    g_free(a.storage);
    g_free(a.start);
    g_free(a.end);
}
