/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Runs a launch: block after block, warp after warp. A warp runs until a barrier or its end; lanes
 * that part at a branch become splits, of which the one at the lowest instruction runs, so that
 * they meet again; where lanes must be together (shuffles, tensor operations, barriers) a split
 * waits for the others, and a wait that can't end is a finding. What instructions do is in the
 * other ptx_ files, reached through Insn.fn.
 */
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"
#include "ptx_exec.h"
#include "report.h"

/* Instructions of one warp between two barriers; more means that it waits for something that can't
 * come. */
#define ENDLESS (1u << 25)

/* --- findings --- */

static char *source_line(const PtxModule *m, uint32_t line)
{
    const char *at = m->text;
    for (uint32_t i = 1; i < line && at; i++) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    if (!at)
        return g_strdup("");
    char *text = g_strndup(at, strcspn(at, "\n"));
    g_strdelimit(text, "\t", ' ');
    return g_strstrip(text);
}

void launch_fault(Warp *w, int lane, const char *format, ...)
{
    Launch *launch = w->launch;
    const PtxKernel *k = launch->kernel;
    const Insn *in = &g_array_index(k->code, Insn, w->pc);
    char where[64] = "";
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    char *line = source_line(k->module, in->line);
    if (lane >= 0)
        snprintf(where, sizeof where, " lane %d", lane);
    report_finding("kernel %s, block (%u,%u,%u), warp %u%s: %s; PTX line %u: %s", k->name,
                   launch->block[0], launch->block[1], launch->block[2], w->index, where, what,
                   in->line, line);
    g_free(line);
    g_free(what);
    longjmp(launch->abandon, 1);
}

/* --- splits --- */

static void remove_split(Warp *w, uint32_t i)
{
    w->split[i] = w->split[--w->nsplits];
}

static void merge_splits(Warp *w)
{
    for (uint32_t i = 0; i < w->nsplits;) {
        if (!w->split[i].mask) {
            remove_split(w, i);
            continue;
        }
        for (uint32_t j = i + 1; j < w->nsplits;) {
            if (w->split[j].pc == w->split[i].pc) {
                w->split[i].mask |= w->split[j].mask;
                w->split[i].waiting = false;
                remove_split(w, j);
            } else {
                j++;
            }
        }
        i++;
    }
}

static G_GNUC_NORETURN void report_stuck(Warp *w)
{
    GString *s = g_string_new(NULL);
    for (uint32_t i = 0; i < w->nsplits; i++) {
        const Insn *in = &g_array_index(w->launch->kernel->code, Insn, w->split[i].pc);
        g_string_append_printf(s, "%slanes %08x wait at PTX line %u", i ? ", " : "",
                               w->split[i].mask, in->line);
    }
    char what[400];
    g_strlcpy(what, s->str, sizeof what);
    g_string_free(s, TRUE);
    w->pc = w->split[0].pc;
    const Insn *in = &g_array_index(w->launch->kernel->code, Insn, w->pc);
    if (in->flow == FLOW_BARRIER)
        launch_fault(w, -1, "divergent barrier: not all lanes of the warp reach it: %s", what);
    launch_fault(w, -1, "lanes named in the mask never arrive: %s", what);
}

/* Chooses the split to run; false when all lanes have exited. *limit: where it may meet another
 * one. */
static bool pick_split(Warp *w, uint32_t *limit)
{
    merge_splits(w);
    if (!w->nsplits) {
        w->state = WARP_DONE;
        return false;
    }
    int best = -1;
    for (uint32_t i = 0; i < w->nsplits; i++)
        if (!w->split[i].waiting && (best < 0 || w->split[i].pc < w->split[best].pc))
            best = (int)i;
    if (best < 0)
        report_stuck(w);
    w->current = (uint32_t)best;
    *limit = UINT32_MAX;
    for (uint32_t i = 0; i < w->nsplits; i++)
        if (w->split[i].pc > w->split[best].pc && w->split[i].pc < *limit)
            *limit = w->split[i].pc;
    return true;
}

/* --- control instructions --- */

typedef enum { GO_ON, PICK_AGAIN, LEAVE } Next;

static Next wait_for_others(Warp *w)
{
    w->split[w->current].waiting = true;
    return PICK_AGAIN;
}

static Next control_sync(Warp *w, const Insn *in, uint32_t *pc)
{
    uint32_t need = FULL_MASK;
    if (in->sync_src >= 0) {
        const uint32_t *m = row(w, in->src[in->sync_src]);
        need = m[__builtin_ctz(w->exec)];
        for (int l = 0; l < LANES; l++)
            if (((w->exec >> l) & 1) && m[l] != need)
                launch_fault(w, l, "lanes name different masks (%08x and %08x): not implemented",
                             need, m[l]);
    }
    if (need & ~w->live)
        launch_fault(w, -1,
                     "the mask %08x names lanes that have exited or do not exist (%08x are alive)",
                     need, w->live);
    if (w->exec & ~need)
        launch_fault(w, __builtin_ctz(w->exec & ~need),
                     "the mask %08x leaves out a lane that executes", need);
    if (w->exec != need)
        return wait_for_others(w);
    in->fn(w, in);
    ++*pc;
    return GO_ON;
}

static Next control_barrier(Warp *w, const Insn *in)
{
    if (w->exec != w->live)
        return wait_for_others(w);
    if (w->live != w->members)
        launch_fault(w, __builtin_ctz(w->members & ~w->live), "barrier after this lane has exited");
    const uint32_t *id = row(w, in->src[0]);
    if (in->vec > 1) { /* barrier and number of threads */
        const uint32_t *threads = row(w, in->src[1]);
        if (threads[0] != w->launch->nthreads)
            launch_fault(w, -1, "barrier of %u among %u threads: not implemented", threads[0],
                         w->launch->nthreads);
    }
    if (id[0] > 15)
        launch_fault(w, -1, "barrier %u: there are 16", id[0]);
    w->barrier = id[0];
    w->barrier_insn = in;
    w->state = WARP_AT_BARRIER;
    w->split[w->current].pc++;
    return LEAVE;
}

static Next control_branch(Warp *w, const Insn *in, uint32_t *pc)
{
    Split *s = &w->split[w->current];
    const uint32_t rest = s->mask & ~w->exec;
    if (rest) {
        w->split[w->nsplits++] = (Split){.pc = *pc + 1, .mask = rest};
        s->mask = w->exec;
    }
    s->pc = *pc = in->target;
    return w->nsplits > 1 ? PICK_AGAIN : GO_ON;
}

static Next control_table(Warp *w, const Insn *in, uint32_t pc)
{
    const GArray *table = g_array_index(w->launch->kernel->tables, GArray *, in->imm);
    const uint32_t *index = row(w, in->src[0]);
    uint32_t left = w->exec;
    w->split[w->current].mask &= ~left;
    w->split[w->current].pc = pc + 1;
    while (left) {
        const uint32_t i = index[__builtin_ctz(left)];
        uint32_t same = 0;
        for (int l = 0; l < LANES; l++)
            same |= (uint32_t)(((left >> l) & 1) && index[l] == i) << l;
        if (i >= table->len)
            launch_fault(w, __builtin_ctz(left), "branch table index %u of %u", i, table->len);
        merge_splits(w);
        w->split[w->nsplits++] = (Split){.pc = g_array_index(table, uint32_t, i), .mask = same};
        left &= ~same;
    }
    return PICK_AGAIN;
}

static Next control_exit(Warp *w, uint32_t pc)
{
    w->live &= ~w->exec;
    w->split[w->current].mask &= ~w->exec;
    w->split[w->current].pc = pc + 1;
    for (uint32_t i = 0; i < w->nsplits; i++)
        w->split[i].waiting = false; /* what they wait for may have changed */
    return PICK_AGAIN;
}

static Next control(Warp *w, const Insn *in, uint32_t *pc)
{
    w->split[w->current].pc = *pc;
    switch (in->flow) {
    case FLOW_SYNC:
        return control_sync(w, in, pc);
    case FLOW_BARRIER:
        return control_barrier(w, in);
    case FLOW_BRANCH:
        return control_branch(w, in, pc);
    case FLOW_BRANCH_TABLE:
        return control_table(w, in, *pc);
    default:
        return control_exit(w, *pc);
    }
}

/* --- warps --- */

static void check_sources(Warp *w, const Insn *in)
{
    for (unsigned i = 0; i < in->nsrc; i++) {
        if (in->src[i] < 0)
            continue;
        const uint32_t missing = w->exec & ~w->valid[in->src[i]];
        if (missing)
            launch_fault(w, __builtin_ctz(missing),
                         "source operand %u is a register without a value", i + 1);
    }
}

static uint32_t guarded_lanes(Warp *w, const Insn *in, uint32_t mask)
{
    if (in->checked && (mask & ~w->valid[in->guard]))
        launch_fault(w, __builtin_ctz(mask & ~w->valid[in->guard]),
                     "the guard is a register without a value");
    const uint32_t p = get_pred(w, in->guard);
    return mask & (in->guard_not ? ~p : p);
}

static void mark_destinations(Warp *w, const Insn *in)
{
    for (unsigned i = 0; i < in->ndst; i++)
        w->valid[in->dst[i]] |= w->exec;
}

/* Runs one split until it meets another, must wait, or leaves. Returns false when the warp stops.
 */
static bool run_split(Warp *w, uint32_t limit, uint64_t *executed)
{
    const Insn *code = (const Insn *)w->launch->kernel->code->data;
    uint64_t *hits = w->launch->kernel->module->hits;
    uint32_t pc = w->split[w->current].pc;
    uint64_t n = 0;
    Next next = GO_ON;
    do {
        const Insn *in = &code[pc];
        uint32_t exec = w->split[w->current].mask;
        w->pc = pc;
        if (in->guard != NO_SLOT)
            exec = guarded_lanes(w, in, exec);
        n++;
        if (!exec) {
            pc++;
            continue;
        }
        w->exec = exec;
        hits[in->index]++;
        if (in->flops)
            w->launch->count.flops += in->flops * (uint64_t)__builtin_popcount(exec);
        if (in->checked)
            check_sources(w, in);
        if (in->flow == FLOW_PLAIN) {
            in->fn(w, in);
            pc++;
        } else {
            next = control(w, in, &pc);
        }
        if (in->marks)
            mark_destinations(w, in);
        if (next == GO_ON && n > ENDLESS)
            launch_fault(w, -1, "the warp does not come to an end");
    } while (next == GO_ON && pc != limit);
    if (next == GO_ON)
        w->split[w->current].pc = pc;
    *executed += n;
    return next != LEAVE;
}

static void run_warp(Warp *w)
{
    uint64_t executed = 0;
    uint32_t limit;
    while (pick_split(w, &limit)) {
        if (!run_split(w, limit, &executed))
            break;
        if (executed > ENDLESS)
            launch_fault(w, -1, "the warp does not come to an end");
    }
    w->launch->count.warp_instructions += executed;
}

static void fill(Warp *w, SpecialRegister which, uint32_t value)
{
    const int32_t slot = w->launch->kernel->special_slot[which];
    if (slot == NO_SLOT)
        return;
    uint32_t *d = row(w, slot);
    for (int l = 0; l < LANES; l++)
        d[l] = value;
}

static void set_lane(Warp *w, SpecialRegister which, int lane, uint32_t value)
{
    const int32_t slot = w->launch->kernel->special_slot[which];
    if (slot != NO_SLOT)
        ((uint32_t *)row(w, slot))[lane] = value;
}

/* Special registers that stay the same in all blocks. */
static void set_special_registers(Warp *w)
{
    const LaunchParams *p = w->launch->params;
    for (int i = 0; i < 3; i++) {
        fill(w, (SpecialRegister)(SR_NTID_X + i), p->block[i]);
        fill(w, (SpecialRegister)(SR_NCTAID_X + i), p->grid[i]);
    }
    fill(w, SR_WARPID, w->index);
    fill(w, SR_DYNAMIC_SHARED, p->dynamic_shared);
    for (int l = 0; l < LANES; l++) {
        const uint32_t t = w->index * LANES + (uint32_t)l, bit = 1u << l;
        set_lane(w, SR_TID_X, l, t % p->block[0]);
        set_lane(w, SR_TID_Y, l, t / p->block[0] % p->block[1]);
        set_lane(w, SR_TID_Z, l, t / p->block[0] / p->block[1]);
        set_lane(w, SR_LANEID, l, (uint32_t)l);
        set_lane(w, SR_LANEMASK_EQ, l, bit);
        set_lane(w, SR_LANEMASK_LT, l, bit - 1);
        set_lane(w, SR_LANEMASK_LE, l, bit | (bit - 1));
        set_lane(w, SR_LANEMASK_GT, l, ~(bit | (bit - 1)));
        set_lane(w, SR_LANEMASK_GE, l, ~(bit - 1));
    }
}

static void begin_block(Warp *w)
{
    const Launch *launch = w->launch;
    const PtxKernel *k = launch->kernel;
    for (uint32_t i = 0; i < k->slots; i++)
        w->valid[i] = k->undef_slot[i] ? 0 : FULL_MASK;
    if (k->local_bytes)
        memset(w->local_written, 0, (size_t)k->local_bytes * LANES);
    for (int i = 0; i < 3; i++)
        fill(w, (SpecialRegister)(SR_CTAID_X + i), launch->block[i]);
    const uint32_t left = launch->nthreads - w->index * LANES;
    w->members = w->live = left >= LANES ? FULL_MASK : (1u << left) - 1;
    w->state = WARP_READY;
    w->nsplits = 1;
    w->split[0] = (Split){.pc = 0, .mask = w->members};
    g_array_set_size(w->async, 0);
    w->async_group = 0;
}

/* --- blocks --- */

/* Position i of n in the order that the seed asks for. */
static uint32_t ordered(uint32_t i, uint32_t n, bool reversed, unsigned rotate)
{
    i = (i + rotate) % n;
    return reversed ? n - 1 - i : i;
}

static uint32_t reduction_bits(const Warp *w)
{
    const Insn *in = w->barrier_insn;
    const uint32_t p = get_pred(w, in->src[in->vec]);
    return (in->flags & OPF_NOT ? ~p : p) & w->members;
}

/* bar.red: all threads receive the count, conjunction or disjunction of their predicates. */
static void deliver_reduction(Launch *launch)
{
    uint32_t count = 0, t[LANES];
    for (uint32_t i = 0; i < launch->nwarps; i++)
        count += (uint32_t)__builtin_popcount(reduction_bits(&launch->warps[i]));
    for (uint32_t i = 0; i < launch->nwarps; i++) {
        Warp *w = &launch->warps[i];
        const Insn *in = w->barrier_insn;
        w->exec = w->members;
        for (int l = 0; l < LANES; l++)
            t[l] = count;
        if (in->mode == BARRIER_POPC)
            put32(w, in->dst[0], t);
        else if (in->mode == BARRIER_AND)
            put_pred(w, in->dst[0], count == launch->nthreads ? FULL_MASK : 0);
        else
            put_pred(w, in->dst[0], count ? FULL_MASK : 0);
    }
}

static void release_barrier(Launch *launch)
{
    Warp *at_barrier = NULL, *done = NULL;
    for (uint32_t i = 0; i < launch->nwarps; i++) {
        Warp *w = &launch->warps[i];
        if (w->state == WARP_DONE)
            done = w;
        else if (at_barrier && at_barrier->barrier != w->barrier)
            launch_fault(w, -1, "barrier %u while warp %u waits at barrier %u", w->barrier,
                         at_barrier->index, at_barrier->barrier);
        else if (at_barrier && at_barrier->barrier_insn->mode != w->barrier_insn->mode)
            launch_fault(w, -1, "a barrier of another kind than the one that warp %u waits at",
                         at_barrier->index);
        else
            at_barrier = w;
    }
    if (at_barrier && done)
        launch_fault(at_barrier, -1, "barrier that warp %u never reaches: it has exited",
                     done->index);
    shared_barrier(launch->shared);
    if (at_barrier && at_barrier->barrier_insn->mode != BARRIER_PLAIN)
        deliver_reduction(launch);
    for (uint32_t i = 0; i < launch->nwarps; i++)
        if (launch->warps[i].state == WARP_AT_BARRIER)
            launch->warps[i].state = WARP_READY;
}

static void run_block(Launch *launch)
{
    const unsigned seed = launch->params->seed;
    shared_begin_block(launch->shared);
    for (uint32_t i = 0; i < launch->nwarps; i++)
        begin_block(&launch->warps[i]);
    for (;;) {
        uint32_t done = 0;
        for (uint32_t i = 0; i < launch->nwarps; i++) {
            Warp *w = &launch->warps[ordered(i, launch->nwarps, seed & 1, seed >> 4)];
            if (w->state == WARP_READY)
                run_warp(w);
            done += w->state == WARP_DONE;
        }
        if (done == launch->nwarps)
            return;
        release_barrier(launch);
    }
}

/* --- launches --- */

static uint8_t *allocate_rows(size_t bytes)
{
    void *p = NULL;
    if (posix_memalign(&p, 64, bytes + 64))
        g_error("out of memory");
    memset(p, 0xff, bytes + 64);
    return p;
}

static void make_warps(Launch *launch, uint8_t *rows, uint32_t *valid)
{
    const PtxKernel *k = launch->kernel;
    launch->warps = g_new0(Warp, launch->nwarps);
    for (uint32_t i = 0; i < launch->nwarps; i++) {
        Warp *w = &launch->warps[i];
        w->base[0] = rows + (size_t)i * k->slots * SLOT_BYTES;
        w->base[1] = k->constants_end;
        w->valid = valid + (size_t)i * k->slots;
        w->launch = launch;
        w->index = i;
        w->async = g_array_new(FALSE, FALSE, sizeof(AsyncCopy));
        if (k->local_bytes) {
            w->local = g_malloc((size_t)k->local_bytes * LANES);
            w->local_written = g_malloc((size_t)k->local_bytes * LANES);
        }
        set_special_registers(w);
    }
}

static void free_warps(Launch *launch)
{
    for (uint32_t i = 0; i < launch->nwarps; i++) {
        g_array_free(launch->warps[i].async, TRUE);
        g_free(launch->warps[i].local);
        g_free(launch->warps[i].local_written);
    }
    g_free(launch->warps);
}

static bool run_blocks(Launch *launch)
{
    const LaunchParams *p = launch->params;
    const uint32_t blocks = p->grid[0] * p->grid[1] * p->grid[2];
    if (setjmp(launch->abandon))
        return false;
    for (uint32_t i = 0; i < blocks; i++) {
        const uint32_t b = ordered(i, blocks, p->seed & 2, p->seed >> 4);
        launch->block_number = b;
        launch->block[0] = b % p->grid[0];
        launch->block[1] = b / p->grid[0] % p->grid[1];
        launch->block[2] = b / p->grid[0] / p->grid[1];
        run_block(launch);
    }
    return true;
}

bool ptx_launch(PtxKernel *k, const LaunchParams *p)
{
    Launch *launch = g_new0(Launch, 1);
    const uint32_t blocks = p->grid[0] * p->grid[1] * p->grid[2];
    launch->kernel = k;
    launch->params = p;
    launch->nthreads = p->block[0] * p->block[1] * p->block[2];
    launch->nwarps = (launch->nthreads + LANES - 1) / LANES;
    launch->first_stamp = memory_take_stamps(blocks);
    launch->block_flags = g_malloc0(blocks);
    launch->shared = shared_new(k->static_shared + p->dynamic_shared, k->granule);
    uint8_t *rows = allocate_rows((size_t)launch->nwarps * k->slots * SLOT_BYTES);
    uint32_t *valid = g_new0(uint32_t, (size_t)launch->nwarps * k->slots + 1);
    make_warps(launch, rows, valid);
    const bool ok = run_blocks(launch);
    report_count_launch(k->name, &launch->count);
    free_warps(launch);
    free(rows);
    g_free(valid);
    g_free(launch->block_flags);
    shared_free(launch->shared);
    g_free(launch);
    return ok;
}

void exec_nop(Warp *w, const Insn *in)
{
    (void)w;
    (void)in;
}

void exec_trap(Warp *w, const Insn *in)
{
    (void)in;
    launch_fault(w, __builtin_ctz(w->exec), "trap");
}
