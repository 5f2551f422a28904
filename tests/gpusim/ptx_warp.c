/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Operations between the lanes of a warp: shuffles, votes, matches, reductions. ptx_exec.c has seen
 * to it that all lanes of the membership mask are here when one of these runs.
 */
#include "ptx_exec.h"

void exec_shfl(Warp *w, const Insn *in)
{
    const uint32_t *a = row(w, in->src[0]), *b = row(w, in->src[1]), *c = row(w, in->src[2]);
    uint32_t t[LANES], p = 0;
    for (int l = 0; l < LANES; l++) {
        t[l] = a[l];
        if (!((w->exec >> l) & 1))
            continue;
        const int offset = (int)(b[l] & 31), clamp = (int)(c[l] & 31),
                  segment = (int)((c[l] >> 8) & 31);
        const int highest = (l & segment) | (clamp & ~segment), lowest = l & segment;
        int from;
        bool inside;
        switch (in->mode) {
        case SHFL_UP:
            from = l - offset;
            inside = from >= highest; /* c holds the lowest lane here */
            break;
        case SHFL_DOWN:
            from = l + offset;
            inside = from <= highest;
            break;
        case SHFL_BFLY:
            from = l ^ offset;
            inside = from <= highest;
            break;
        default:
            from = lowest | (offset & ~segment);
            inside = from <= highest;
            break;
        }
        if (!inside)
            from = l;
        if (!((w->exec >> from) & 1))
            launch_fault(w, l, "shuffle reads lane %d, which does not take part", from);
        t[l] = a[from];
        p |= (uint32_t)inside << l;
    }
    put_pred(w, in->dst[1], p);
    put32(w, in->dst[0], t);
}

void exec_vote(Warp *w, const Insn *in)
{
    uint32_t p = get_pred(w, in->src[0]);
    if (in->flags & OPF_NOT)
        p = ~p;
    p &= w->exec;
    switch (in->mode) {
    case VOTE_BALLOT: {
        uint32_t t[LANES];
        for (int l = 0; l < LANES; l++)
            t[l] = p;
        put32(w, in->dst[0], t);
        break;
    }
    case VOTE_ALL:
        put_pred(w, in->dst[0], p == w->exec ? FULL_MASK : 0);
        break;
    case VOTE_ANY:
        put_pred(w, in->dst[0], p ? FULL_MASK : 0);
        break;
    default:
        put_pred(w, in->dst[0], p == w->exec || !p ? FULL_MASK : 0);
        break;
    }
}

void exec_match_any(Warp *w, const Insn *in)
{
    const uint32_t *a = row(w, in->src[0]);
    uint32_t t[LANES] = {0};
    for (int l = 0; l < LANES; l++)
        for (int m = 0; m < LANES; m++)
            t[l] |= (uint32_t)(a[l] == a[m] && ((w->exec >> m) & 1)) << m;
    put32(w, in->dst[0], t);
}

static uint32_t reduce_two(uint32_t x, uint32_t y, const Insn *in)
{
    const bool is_signed = in->type == T_S32;
    switch (in->mode) {
    case ATOM_ADD:
        return x + y;
    case ATOM_MIN:
        return (is_signed ? (int32_t)x < (int32_t)y : x < y) ? x : y;
    case ATOM_MAX:
        return (is_signed ? (int32_t)x > (int32_t)y : x > y) ? x : y;
    case ATOM_AND:
        return x & y;
    case ATOM_OR:
        return x | y;
    default:
        return x ^ y;
    }
}

void exec_redux(Warp *w, const Insn *in)
{
    const uint32_t *a = row(w, in->src[0]);
    const int first = __builtin_ctz(w->exec);
    uint32_t r = a[first], t[LANES];
    for (int l = first + 1; l < LANES; l++)
        if ((w->exec >> l) & 1)
            r = reduce_two(r, a[l], in);
    for (int l = 0; l < LANES; l++)
        t[l] = r;
    put32(w, in->dst[0], t);
}

void exec_activemask(Warp *w, const Insn *in)
{
    uint32_t t[LANES];
    for (int l = 0; l < LANES; l++)
        t[l] = w->exec;
    put32(w, in->dst[0], t);
}
