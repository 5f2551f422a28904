/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Loads, stores, atomics, fences. Works lane by lane through the checks of shadow.c; when all 32
 * lanes touch one contiguous range, the checks run once for the range. Also counts what a warp's
 * access to shared memory costs on 32 banks.
 */
#include "memory.h"
#include "ptx_exec.h"

typedef const uint8_t *(*ReadFn)(Warp *, int, uint64_t, uint32_t);
typedef uint8_t *(*WriteFn)(Warp *, int, uint64_t, uint32_t);

/* Generic addresses are sorted out by the window that they fall in. */
static const uint8_t *generic_read(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    if (address - SHARED_WINDOW < WINDOW_BYTES)
        return shared_read(w, lane, address - SHARED_WINDOW, bytes);
    if (address - LOCAL_WINDOW < WINDOW_BYTES)
        return local_read(w, lane, address - LOCAL_WINDOW, bytes);
    return global_read(w, lane, address, bytes);
}

static uint8_t *generic_write(Warp *w, int lane, uint64_t address, uint32_t bytes)
{
    if (address - SHARED_WINDOW < WINDOW_BYTES)
        return shared_write(w, lane, address - SHARED_WINDOW, bytes);
    if (address - LOCAL_WINDOW < WINDOW_BYTES)
        return local_write(w, lane, address - LOCAL_WINDOW, bytes);
    return global_write(w, lane, address, bytes);
}

static const ReadFn readers[] = {
    [SPACE_GENERIC] = generic_read, [SPACE_GLOBAL] = global_read, [SPACE_SHARED] = shared_read,
    [SPACE_PARAM] = param_read,     [SPACE_LOCAL] = local_read,   [SPACE_CONST] = global_read,
};

static const WriteFn writers[] = {
    [SPACE_GENERIC] = generic_write,
    [SPACE_GLOBAL] = global_write,
    [SPACE_SHARED] = shared_write,
    [SPACE_LOCAL] = local_write,
};

static ReadFn reader_of(const Insn *in)
{
    const bool ordered = in->flags & OPF_ORDERED;
    return ordered && in->space == SPACE_GLOBAL ? global_ordered_read : readers[in->space];
}

static WriteFn writer_of(const Insn *in)
{
    const bool ordered = in->flags & OPF_ORDERED;
    return ordered && in->space == SPACE_GLOBAL ? global_ordered_write : writers[in->space];
}

void get_addresses(const Warp *w, const Insn *in, uint64_t address[LANES])
{
    if (in->flags & OPF_WIDE_SRC) {
        const uint64_t *a = row(w, in->src[0]);
        for (int l = 0; l < LANES; l++)
            address[l] = a[l] + (uint64_t)in->imm;
    } else {
        const uint32_t *a = row(w, in->src[0]);
        for (int l = 0; l < LANES; l++)
            address[l] = (uint32_t)(a[l] + (uint32_t)in->imm);
    }
}

static bool contiguous(const Warp *w, const uint64_t address[LANES], uint32_t stride)
{
    if (w->exec != FULL_MASK || address[1] - address[0] != stride)
        return false;
    uint64_t differs = 0;
    for (int l = 0; l < LANES; l++)
        differs |= address[l] ^ (address[0] + (uint64_t)l * stride);
    return !differs;
}

/* --- bank conflicts --- */

/* Passes for one group of lanes: the most distinct words that one bank is asked for. */
static uint32_t passes(const uint64_t *address, uint32_t lanes, unsigned first, unsigned count,
                       uint32_t bytes)
{
    /* aligned accesses occupy whole groups of banks */
    const unsigned shift = bytes <= 4 ? 2 : bytes == 8 ? 3 : 4;
    const uint32_t banks = 128u >> shift;
    uint32_t units[LANES][LANES], depth[LANES], used = 0, most = 0;
    for (unsigned l = first; l < first + count; l++) {
        if (!((lanes >> l) & 1) ||
            (l > first && address[l] == address[l - 1] && ((lanes >> (l - 1)) & 1)))
            continue;
        const uint32_t u = (uint32_t)address[l] >> shift, bank = u & (banks - 1);
        uint32_t i = 0;
        if (!((used >> bank) & 1))
            depth[bank] = 0;
        used |= 1u << bank;
        while (i < depth[bank] && units[bank][i] != u)
            i++;
        if (i < depth[bank])
            continue;
        units[bank][depth[bank]++] = u;
        most = depth[bank] > most ? depth[bank] : most;
    }
    return most;
}

/* Accesses of 8 and 16 bytes go out in halves and quarters of a warp. Only the differences between
 * addresses matter, and an instruction mostly repeats them: the last result is kept with them. */
void count_banks(Warp *w, const Insn *in, uint32_t lanes, const uint64_t *address, uint32_t bytes)
{
    BankPattern *pattern = &w->launch->kernel->module->patterns[in->index];
    const uint64_t base = address[__builtin_ctz(lanes)] & ~(uint64_t)3;
    uint32_t differences[LANES];
    for (int l = 0; l < LANES; l++)
        differences[l] = (lanes >> l) & 1 ? (uint32_t)(address[l] - base) : 0;
    if (pattern->lanes != lanes || memcmp(pattern->differences, differences, sizeof differences)) {
        const unsigned count = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
        memcpy(pattern->differences, differences, sizeof differences);
        pattern->lanes = lanes;
        pattern->passes = pattern->least = 0;
        for (unsigned first = 0; first < LANES; first += count) {
            const uint32_t n = passes(address, lanes, first, count, bytes);
            pattern->passes += n;
            pattern->least += n > 0;
        }
    }
    const uint32_t conflicts = pattern->passes - pattern->least;
    w->launch->count.shared_wavefronts += pattern->passes;
    w->launch->count.bank_conflicts += conflicts;
    w->launch->kernel->module->conflicts[in->index] += conflicts;
}

static void count_access(Warp *w, const Insn *in, const uint64_t *address, bool is_contiguous,
                         bool is_store)
{
    LaunchCounters *c = &w->launch->count;
    const uint32_t bytes = (uint32_t)in->bytes * in->vec;
    if (in->space == SPACE_SHARED) {
        if (is_contiguous)
            c->shared_wavefronts += bytes <= 4 ? 1 : bytes / 4;
        else
            count_banks(w, in, w->exec, address, bytes);
    } else if (in->space == SPACE_GLOBAL || in->space == SPACE_GENERIC) {
        *(is_store ? &c->global_written : &c->global_read) +=
            bytes * (uint64_t)__builtin_popcount(w->exec);
    }
}

/* --- ld, st --- */

static uint64_t load_element(const uint8_t *p, Type type)
{
    uint16_t h;
    uint32_t word;
    uint64_t d;
    switch (type) {
    case T_S8:
        return (uint64_t)(int8_t)*p;
    case T_B8:
    case T_U8:
        return *p;
    case T_S16:
        memcpy(&h, p, 2);
        return (uint64_t)(int16_t)h;
    case T_B16:
    case T_U16:
    case T_F16:
    case T_BF16:
        memcpy(&h, p, 2);
        return h;
    case T_S32:
        memcpy(&word, p, 4);
        return (uint64_t)(int32_t)word;
    case T_B64:
    case T_U64:
    case T_S64:
    case T_F64:
        memcpy(&d, p, 8);
        return d;
    default:
        memcpy(&word, p, 4);
        return word;
    }
}

/* Words in 32-bit registers: nearly all loads. */
static void put_words(Warp *w, const Insn *in, const uint8_t *const from[LANES])
{
    for (unsigned e = 0; e < in->vec; e++) {
        uint32_t t[LANES] = {0};
        for (int l = 0; l < LANES; l++)
            if ((w->exec >> l) & 1)
                memcpy(&t[l], from[l] + 4 * e, 4);
        put32(w, in->dst[e], t);
    }
}

static void put_loaded(Warp *w, const Insn *in, const uint8_t *const from[LANES])
{
    if (in->bytes == 4 && !(in->flags & OPF_WIDE_DST)) {
        put_words(w, in, from);
        return;
    }
    for (unsigned e = 0; e < in->vec; e++) {
        uint64_t t64[LANES] = {0};
        uint32_t t32[LANES] = {0};
        for (int l = 0; l < LANES; l++) {
            if (!((w->exec >> l) & 1))
                continue;
            t64[l] = load_element(from[l] + e * in->bytes, (Type)in->type);
            t32[l] = in->mode == 2 ? (uint16_t)t64[l] : (uint32_t)t64[l];
        }
        if (in->flags & OPF_WIDE_DST)
            put64(w, in->dst[e], t64);
        else
            put32(w, in->dst[e], t32);
    }
}

/* Host memory of each executing lane's operand: together where nothing is amiss, else one by one.
 */
static void locate(Warp *w, const Insn *in, const uint64_t address[LANES], uint32_t bytes,
                   const uint8_t *from[LANES])
{
    if (in->space == SPACE_SHARED && shared_read_lanes(w, w->exec, address, bytes, from))
        return;
    const bool plain = !(in->flags & OPF_ORDERED);
    if (plain && in->space == SPACE_GLOBAL && global_read_lanes(w, w->exec, address, bytes, from))
        return;
    for (int l = 0; l < LANES; l++)
        if ((w->exec >> l) & 1)
            from[l] = reader_of(in)(w, l, address[l], bytes);
}

void exec_ld(Warp *w, const Insn *in)
{
    const uint32_t bytes = (uint32_t)in->bytes * in->vec;
    uint64_t address[LANES];
    const uint8_t *from[LANES], *span = NULL;
    get_addresses(w, in, address);
    const bool whole = !(in->flags & OPF_ORDERED) && contiguous(w, address, bytes);
    if (whole && in->space == SPACE_GLOBAL)
        span = global_read_span(w, address[0], bytes);
    else if (whole && in->space == SPACE_SHARED)
        span = shared_read_span(w, address[0], bytes);
    if (span && in->bytes == 4 && in->vec == 1 && !(in->flags & OPF_WIDE_DST)) {
        put32(w, in->dst[0], span);
    } else {
        if (!span)
            locate(w, in, address, bytes, from);
        for (int l = 0; span && l < LANES; l++)
            from[l] = span + (size_t)l * bytes;
        put_loaded(w, in, from);
    }
    if (in->flags & OPF_READ_ONLY)
        global_check_read_only(w, address, bytes);
    if ((in->flags & OPF_ORDERED) && in->target)
        exec_fence(w, in);
    count_access(w, in, address, whole, false);
}

/* Kernel parameters, at an offset from the first one: by name, or by an address that mov gave. */
void exec_ld_param(Warp *w, const Insn *in)
{
    const uint32_t bytes = (uint32_t)in->bytes * in->vec;
    uint64_t address[LANES];
    const uint8_t *from[LANES];
    get_addresses(w, in, address);
    for (int l = 0; l < LANES; l++) {
        if (!((w->exec >> l) & 1))
            continue;
        if (address[l] > w->launch->kernel->param_bytes ||
            bytes > w->launch->kernel->param_bytes - address[l])
            launch_fault(w, l, "read of parameters out of bounds");
        from[l] = w->launch->params->params + address[l];
    }
    put_loaded(w, in, from);
}

static void store_elements(Warp *w, const Insn *in, uint8_t *const to[LANES])
{
    for (unsigned e = 0; e < in->vec; e++) {
        const uint32_t *v32 = row(w, in->src[1 + e]);
        const uint64_t *v64 = row(w, in->src[1 + e]);
        for (int l = 0; l < LANES; l++) {
            if (!((w->exec >> l) & 1))
                continue;
            const uint64_t v = in->flags & OPF_WIDE_DST ? v64[l] : v32[l];
            memcpy(to[l] + e * in->bytes, &v, in->bytes);
        }
    }
}

/* Two lanes that store different values to one place: whichever the machine writes last. */
static void check_lane_conflicts(Warp *w, const uint64_t address[LANES], uint32_t bytes,
                                 uint8_t *const to[LANES], const Insn *in)
{
    uint64_t seen = 0;
    for (int l = 0; l < LANES; l++) {
        const uint64_t bit = (uint64_t)1 << ((address[l] / bytes) & 63);
        if (!((w->exec >> l) & 1))
            continue;
        for (int m = 0; (seen & bit) && m < l; m++) {
            if (!((w->exec >> m) & 1) || to[m] != to[l])
                continue;
            for (unsigned e = 0; e < in->vec; e++) {
                const uint8_t *v = row(w, in->src[1 + e]);
                const size_t size = in->flags & OPF_WIDE_DST ? 8 : 4;
                if (memcmp(v + l * size, v + m * size, in->bytes))
                    launch_fault(
                        w, l, "race: lane %d of the same warp stores another value to this address",
                        m);
            }
        }
        seen |= bit;
    }
}

void exec_st(Warp *w, const Insn *in)
{
    const uint32_t bytes = (uint32_t)in->bytes * in->vec;
    uint64_t address[LANES];
    uint8_t *to[LANES];
    get_addresses(w, in, address);
    if ((in->flags & OPF_ORDERED) && in->target)
        exec_fence(w, in);
    const bool whole = !(in->flags & OPF_ORDERED) && contiguous(w, address, bytes);
    uint8_t *span = NULL;
    if (whole && (in->space == SPACE_GLOBAL || in->space == SPACE_SHARED))
        span = in->space == SPACE_GLOBAL ? global_write_span(w, address[0], bytes)
                                         : shared_write_span(w, address[0], bytes);
    for (int l = 0; l < LANES; l++)
        if ((w->exec >> l) & 1)
            to[l] = span ? span + (size_t)l * bytes : writer_of(in)(w, l, address[l], bytes);
    if (!whole && in->space != SPACE_LOCAL)
        check_lane_conflicts(w, address, bytes, to, in);
    store_elements(w, in, to);
    count_access(w, in, address, whole, true);
}

/* --- atomics --- */

static uint64_t atomic_integer(uint64_t old, uint64_t v, uint64_t v2, const Insn *in)
{
    const bool is_signed = in->type == T_S32 || in->type == T_S64;
    const int64_t so = in->bytes == 4 ? (int32_t)old : (int64_t)old,
                  sv = in->bytes == 4 ? (int32_t)v : (int64_t)v;
    switch (in->mode) {
    case ATOM_ADD:
        return old + v;
    case ATOM_MIN:
        return (is_signed ? so < sv : old < v) ? old : v;
    case ATOM_MAX:
        return (is_signed ? so > sv : old > v) ? old : v;
    case ATOM_INC:
        return old >= v ? 0 : old + 1;
    case ATOM_DEC:
        return old == 0 || old > v ? v : old - 1;
    case ATOM_AND:
        return old & v;
    case ATOM_OR:
        return old | v;
    case ATOM_XOR:
        return old ^ v;
    case ATOM_EXCH:
        return v;
    default: /* compare and swap */
        return old == v ? v2 : old;
    }
}

static uint64_t atomic_float(uint64_t old, uint64_t v, Type type)
{
    double a, b;
    switch (type) {
    case T_F32:
        return float_to_bits(bits_to_float((uint32_t)old) + bits_to_float((uint32_t)v));
    case T_F16X2:
        return (uint64_t)double_to_half((double)half_to_float((uint16_t)(old >> 16)) +
                                        half_to_float((uint16_t)(v >> 16)))
                   << 16 |
               double_to_half((double)half_to_float((uint16_t)old) + half_to_float((uint16_t)v));
    case T_BF16X2:
        return (uint64_t)double_to_bf16((double)bf16_to_float((uint16_t)(old >> 16)) +
                                        bf16_to_float((uint16_t)(v >> 16)))
                   << 16 |
               double_to_bf16((double)bf16_to_float((uint16_t)old) + bf16_to_float((uint16_t)v));
    default:
        memcpy(&a, &old, 8);
        memcpy(&b, &v, 8);
        a += b;
        memcpy(&old, &a, 8);
        return old;
    }
}

static uint64_t atomic_value(uint64_t old, uint64_t v, uint64_t v2, const Insn *in)
{
    const bool is_float =
        in->type == T_F32 || in->type == T_F64 || in->type == T_F16X2 || in->type == T_BF16X2;
    return is_float ? atomic_float(old, v, (Type)in->type) : atomic_integer(old, v, v2, in);
}

static uint8_t *atomic_target(Warp *w, const Insn *in, int lane, uint64_t address)
{
    if (in->space == SPACE_SHARED)
        return shared_atomic(w, lane, address, in->bytes);
    if (in->space == SPACE_GENERIC && address - SHARED_WINDOW < WINDOW_BYTES)
        return shared_atomic(w, lane, address - SHARED_WINDOW, in->bytes);
    if (in->space == SPACE_LOCAL)
        launch_fault(w, lane, "atomic operation on local memory");
    return global_atomic(w, lane, address, in->bytes);
}

void exec_atom(Warp *w, const Insn *in)
{
    uint64_t address[LANES], t64[LANES] = {0};
    uint32_t t32[LANES] = {0};
    get_addresses(w, in, address);
    for (int l = 0; l < LANES; l++) {
        if (!((w->exec >> l) & 1))
            continue;
        uint8_t *p = atomic_target(w, in, l, address[l]);
        uint64_t value[2] = {0, 0}, old = 0;
        for (unsigned i = 1; i < in->nsrc; i++)
            value[i - 1] = in->bytes == 8 ? ((const uint64_t *)row(w, in->src[i]))[l]
                                          : ((const uint32_t *)row(w, in->src[i]))[l];
        memcpy(&old, p, in->bytes);
        t64[l] = old;
        t32[l] = (uint32_t)old;
        const uint64_t result = atomic_value(old, value[0], value[1], in);
        memcpy(p, &result, in->bytes);
    }
    if (in->target)
        exec_fence(w, in);
    if (!(in->flags & OPF_RETURN))
        return;
    if (in->bytes == 8)
        put64(w, in->dst[0], t64);
    else
        put32(w, in->dst[0], t32);
}

/* A block that has fenced and used atomics may hand data to another that has done both
 * (global_read). */
void exec_fence(Warp *w, const Insn *in)
{
    (void)in;
    w->launch->block_flags[w->launch->block_number] |= BLOCK_FENCED;
}
