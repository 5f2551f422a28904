/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * One statement -> one Insn. Plain arithmetic is found in ptx_ops.c by its full name; operations
 * with many forms (memory, conversions, shuffles, tensor operations) have a decoder each, in the
 * table at the end. A decoder marks the modifiers it understands, and any left over refuses the
 * module: nothing is ever ignored silently.
 */
#include "ptx_decode.h"

/* --- types --- */

static const struct {
    const char *name;
    Type type;
    uint8_t bytes;
} types[] = {
    {"pred", T_PRED, 1}, {"b8", T_B8, 1},       {"u8", T_U8, 1},         {"s8", T_S8, 1},
    {"b16", T_B16, 2},   {"u16", T_U16, 2},     {"s16", T_S16, 2},       {"f16", T_F16, 2},
    {"bf16", T_BF16, 2}, {"b32", T_B32, 4},     {"u32", T_U32, 4},       {"s32", T_S32, 4},
    {"f32", T_F32, 4},   {"f16x2", T_F16X2, 4}, {"bf16x2", T_BF16X2, 4}, {"b64", T_B64, 8},
    {"u64", T_U64, 8},   {"s64", T_S64, 8},     {"f64", T_F64, 8},
};

unsigned type_bytes(Type type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (types[i].type == type)
            return types[i].bytes;
    return 0;
}

Type type_from_name(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++)
        if (!strcmp(types[i].name, name))
            return types[i].type;
    return T_NONE;
}

/* --- modifiers --- */

static bool take(Statement *s, const char *modifier)
{
    for (unsigned i = 1; i < s->nparts; i++)
        if (!s->used[i] && !strcmp(s->parts[i], modifier)) {
            s->used[i] = true;
            return true;
        }
    return false;
}

/* Index of the one of a NULL-ended list that is present, or -1. */
static int take_one(Statement *s, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (take(s, list[i]))
            return i;
    return -1;
}

static Type take_type(Statement *s)
{
    for (unsigned i = 1; i < s->nparts; i++) {
        const Type t = s->used[i] ? T_NONE : type_from_name(s->parts[i]);
        if (t != T_NONE) {
            s->used[i] = true;
            return t;
        }
    }
    return T_NONE;
}

static void require_all_used(Builder *b, const Statement *s)
{
    for (unsigned i = 1; i < s->nparts; i++)
        if (!s->used[i])
            builder_fail(b, "'.%s' of '%s' is not implemented", s->parts[i], s->text);
}

static void require_operands(Builder *b, const Statement *s, unsigned least, unsigned most)
{
    if (s->noperands < least || s->noperands > most)
        builder_fail(b, "'%s' with %u operands", s->text, s->noperands);
}

/* --- operands --- */

#define DYNAMIC_MARK ((uint64_t)0xd1a5eed0u << 32)

/* The address of a variable as a number; offset is added. */
static int address_constant(Builder *b, const Operand *o, int slots, uint64_t offset)
{
    const Symbol *s = o->symbol;
    if (!s)
        builder_fail(b, "'%s' is not declared", o->name);
    if (s->kind == S_SHARED && s->address == UINT64_MAX) {
        if (s->count > b->kernel->dynamic_align)
            b->kernel->dynamic_align = s->count;
        return builder_constant(b, slots, DYNAMIC_MARK | (uint32_t)offset);
    }
    if (s->kind != S_SHARED && s->kind != S_VARIABLE && s->kind != S_LOCAL && s->kind != S_PARAM)
        builder_fail(b, "the address of '%s' is not implemented", o->name);
    return builder_constant(b, slots, s->address + offset);
}

static unsigned class_bytes(char class)
{
    switch (class) {
    case 'h':
        return 2;
    case 'w':
    case 'f':
        return 4;
    case 'd':
    case 'g':
        return 8;
    default:
        return 1;
    }
}

static int immediate(Builder *b, const Operand *o, char class)
{
    const bool is_float = o->kind == O_FLOAT, is_double = o->kind == O_DOUBLE;
    if ((is_float && !strchr("fw", class)) || (is_double && !strchr("gd", class)) ||
        (o->kind == O_INT && !strchr("whd", class)))
        builder_fail(b, "immediate of the wrong kind");
    const uint64_t mask = class == 'h'              ? 0xffff
                          : class_bytes(class) == 4 ? 0xffffffffu
                                                    : UINT64_MAX;
    return builder_constant(b, class_bytes(class) == 8 ? 2 : 1, o->value & mask);
}

/* A source of a class of OpEntry.signature. */
static int source(Builder *b, const Operand *o, char class)
{
    const unsigned bytes = class_bytes(class);
    switch (o->kind) {
    case O_REG: {
        const Type type = g_array_index(b->kernel->vregs, Vreg, o->vreg).type;
        const bool want_pred = class == 'p' || class == 'q';
        if (want_pred != (type == T_PRED) || (!want_pred && type_bytes(type) != bytes))
            builder_fail(b, "register '%s' has the wrong width", o->name);
        if (o->negated && class != 'q')
            builder_fail(b, "'!%s' is not implemented here", o->name);
        return o->vreg;
    }
    case O_INT:
        if (class == 'p')
            return builder_constant(b, 1, o->value ? FULL_MASK : 0);
        return immediate(b, o, class);
    case O_FLOAT:
    case O_DOUBLE:
        return immediate(b, o, class);
    case O_SPECIAL:
        if (class != 'w')
            builder_fail(b, "special register where %u bytes are wanted", bytes);
        return builder_special(b, (SpecialRegister)o->value);
    case O_SYMBOL:
        if (bytes < 4)
            builder_fail(b, "'%s' as a source", o->name);
        return address_constant(b, o, bytes == 8 ? 2 : 1, 0);
    default:
        builder_fail(b, "operand form not implemented");
    }
}

static int sink(Builder *b, int slots)
{
    if (b->sink[slots] < 0)
        b->sink[slots] = builder_vreg(b, V_SINK, slots == 2 ? T_B64 : T_B32);
    return b->sink[slots];
}

static int destination(Builder *b, const Operand *o, char class)
{
    if (o->kind == O_SINK)
        return sink(b, class_bytes(class) == 8 ? 2 : 1);
    if (o->kind != O_REG)
        builder_fail(b, "a register is expected as destination");
    return source(b, o, class);
}

/* A register of at least `bytes`, for memory operations and conversions, whose registers may be
 * wider. */
static int wide_register(Builder *b, const Operand *o, unsigned bytes, bool is_destination)
{
    if (o->kind == O_SINK && is_destination)
        return sink(b, bytes == 8 ? 2 : 1);
    if (o->kind == O_REG) {
        const Type type = g_array_index(b->kernel->vregs, Vreg, o->vreg).type;
        if (type == T_PRED || type_bytes(type) < bytes)
            builder_fail(b, "register '%s' is too narrow", o->name);
        return o->vreg;
    }
    if (is_destination)
        builder_fail(b, "a register is expected as destination");
    return source(b, o, bytes == 8 ? 'd' : bytes == 4 ? 'w' : 'h');
}

static bool is_wide(const Builder *b, int vreg)
{
    return g_array_index(b->kernel->vregs, Vreg, vreg).slots == 2;
}

static char class_of(Type type)
{
    switch (type_bytes(type)) {
    case 8:
        return type == T_F64 ? 'g' : 'd';
    case 4:
        return type == T_F32 ? 'f' : 'w';
    case 2:
        return 'h';
    default:
        return 'p';
    }
}

/* --- building --- */

static Insn begin(const Statement *s, OpFn fn)
{
    Insn in = {
        .fn = fn, .line = s->line, .guard = s->guard < 0 ? NO_SLOT : s->guard, .sync_src = -1};
    in.guard_not = s->guard_not;
    return in;
}

static void add_dst(Insn *in, int vreg)
{
    in->dst[in->ndst++] = vreg;
}

static void add_src(Insn *in, int vreg)
{
    in->src[in->nsrc++] = vreg;
}

static void finish(Builder *b, const Statement *s, Insn *in)
{
    require_all_used(b, s);
    g_array_append_vals(b->kernel->code, in, 1);
}

/* Arithmetic that counts for a comparison with the machine's peak: additions and multiplications of
 * floats. */
static uint8_t count_flops(const Statement *s)
{
    const char *type = s->parts[s->nparts - 1];
    const bool pair = !strcmp(type, "f16x2") || !strcmp(type, "bf16x2");
    if (!pair && strcmp(type, "f32") && strcmp(type, "f16") && strcmp(type, "bf16"))
        return 0;
    const bool fused = !strcmp(s->parts[0], "fma") || !strcmp(s->parts[0], "mad");
    const bool plain =
        !strcmp(s->parts[0], "add") || !strcmp(s->parts[0], "sub") || !strcmp(s->parts[0], "mul");
    return (uint8_t)((fused ? 2 : plain ? 1 : 0) * (pair ? 2 : 1));
}

static void decode_by_signature(Builder *b, Statement *s, const OpEntry *entry)
{
    const unsigned n = (unsigned)strlen(entry->signature);
    require_operands(b, s, n, n);
    Insn in = begin(s, entry->fn);
    in.flops = count_flops(s);
    add_dst(&in, destination(b, s->operands[0], entry->signature[0]));
    for (unsigned i = 1; i < n; i++)
        add_src(&in, source(b, s->operands[i], entry->signature[i]));
    g_array_append_vals(b->kernel->code, &in, 1);
}

/* --- moves --- */

static void decode_mov(Builder *b, Statement *s)
{
    require_operands(b, s, 2, 2);
    const Type type = take_type(s);
    if (type == T_NONE || type_bytes(type) == 0)
        builder_fail(b, "'%s' without a type", s->text);
    const unsigned bytes = type_bytes(type);
    const Operand *d = s->operands[0], *a = s->operands[1];
    Insn in = begin(s, type == T_PRED ? exec_mov_pred : bytes == 8 ? exec_mov64 : exec_mov32);
    if (a->kind == O_VECTOR || d->kind == O_VECTOR) {
        const bool pack = a->kind == O_VECTOR;
        const Operand *vector = pack ? a : d;
        if (vector->nitems == 0 || vector->nitems > MAX_DST || bytes % vector->nitems)
            builder_fail(b, "'%s' with %u elements", s->text, vector->nitems);
        in.bytes = (uint8_t)(bytes / vector->nitems);
        const char element = in.bytes == 4 ? 'w' : in.bytes == 2 ? 'h' : 0;
        if (!element)
            builder_fail(b, "'%s' with elements of %u bytes", s->text, in.bytes);
        in.vec = (uint8_t)vector->nitems;
        in.flags = bytes == 8 ? pack ? OPF_WIDE_DST : OPF_WIDE_SRC : 0;
        in.fn = pack ? exec_mov_pack : exec_mov_unpack;
        if (pack)
            add_dst(&in, destination(b, d, class_of(type)));
        else
            add_src(&in, source(b, a, class_of(type)));
        for (unsigned i = 0; i < vector->nitems; i++)
            if (pack)
                add_src(&in, source(b, &vector->items[i], element));
            else
                add_dst(&in, destination(b, &vector->items[i], element));
    } else {
        add_dst(&in, destination(b, d, class_of(type)));
        add_src(&in, source(b, a, class_of(type)));
    }
    finish(b, s, &in);
}

static void decode_cvta(Builder *b, Statement *s)
{
    static const char *const spaces[] = {"global", "shared", "local", "const", NULL};
    require_operands(b, s, 2, 2);
    const bool to = take(s, "to");
    const int space = take_one(s, spaces);
    if (space < 0 || !take(s, "u64"))
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_cvta);
    const uint64_t window = space == 1 ? SHARED_WINDOW : space == 2 ? LOCAL_WINDOW : 0;
    in.imm = (int64_t)(to ? 0 - window : window);
    in.flags = to && window ? OPF_RETURN : 0;
    add_dst(&in, destination(b, s->operands[0], 'd'));
    add_src(&in, source(b, s->operands[1], 'd'));
    finish(b, s, &in);
}

/* cvt[.rounding][.ftz][.sat].to.from */
static void decode_cvt(Builder *b, Statement *s)
{
    static const char *const roundings[] = {"rn",  "rz",  "rm",  "rp", "rni",
                                            "rzi", "rmi", "rpi", NULL};
    Insn in = begin(s, exec_cvt);
    in.mode = (uint8_t)(take_one(s, roundings) + 1);
    if (take(s, "ftz"))
        in.flags |= OPF_FTZ;
    if (take(s, "sat"))
        in.flags |= OPF_SAT;
    in.type = (uint8_t)take_type(s);
    in.type2 = (uint8_t)take_type(s);
    if (in.type == T_NONE || in.type2 == T_NONE)
        builder_fail(b, "'%s' needs two types", s->text);
    const bool pair = in.type == T_F16X2 || in.type == T_BF16X2;
    if (in.type2 == T_F16X2 || in.type2 == T_BF16X2 ||
        (pair && (in.type2 != T_F32 || in.mode != ROUND_RN)))
        builder_fail(b, "'%s' is not implemented", s->text);
    const bool to_half = in.type == T_F16 || in.type == T_BF16;
    if (to_half && in.type2 != in.type && in.mode != ROUND_RN)
        builder_fail(b, "rounding of '%s' is not implemented", s->text);
    const bool narrowing = (in.type == T_F32 || in.type == T_F64) && in.type2 != in.type;
    if (narrowing && in.mode != ROUND_RN && in.mode != ROUND_NONE)
        builder_fail(b, "rounding of '%s' is not implemented", s->text);
    require_operands(b, s, pair ? 3 : 2, pair ? 3 : 2);
    const unsigned to = type_bytes((Type)in.type), from = type_bytes((Type)in.type2);
    add_dst(&in, wide_register(b, s->operands[0], to, true));
    for (unsigned i = 1; i < s->noperands; i++)
        add_src(&in, wide_register(b, s->operands[i], from, false));
    in.flags |= is_wide(b, in.dst[0]) ? OPF_WIDE_DST : 0;
    in.flags |= is_wide(b, in.src[0]) ? OPF_WIDE_SRC : 0;
    in.bytes = (uint8_t)type_bytes((Type)g_array_index(b->kernel->vregs, Vreg, in.dst[0]).type);
    finish(b, s, &in);
}

/* --- comparison --- */

/* In the order of the CMP_ modes. */
static const char *const comparisons[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "lo",
                                          "ls",  "hi",  "hs",  "equ", "neu", "ltu", "leu",
                                          "gtu", "geu", "num", "nan", NULL};

static void decode_setp(Builder *b, Statement *s)
{
    static const char *const logic[] = {"and", "or", "xor", NULL};
    Insn in = begin(s, exec_setp);
    const int mode = take_one(s, comparisons);
    const int combine = take_one(s, logic) + 1;
    if (mode < 0)
        builder_fail(b, "'%s' is not implemented", s->text);
    in.mode = (uint8_t)mode;
    in.vec = (uint8_t)combine;
    if (take(s, "ftz"))
        in.flags |= OPF_FTZ;
    in.type = (uint8_t)take_type(s);
    if (in.type == T_NONE || in.type == T_PRED || type_bytes((Type)in.type) < 2 ||
        in.type == T_F16X2 || in.type == T_BF16X2)
        builder_fail(b, "'%s' is not implemented", s->text);
    require_operands(b, s, combine ? 4 : 3, combine ? 4 : 3);
    const Operand *d = s->operands[0];
    const bool pair = d->kind == O_PAIR;
    add_dst(&in, destination(b, pair ? &d->items[0] : d, 'p'));
    if (pair)
        add_dst(&in, destination(b, &d->items[1], 'p'));
    const char class = class_of((Type)in.type);
    add_src(&in, source(b, s->operands[1], class));
    add_src(&in, source(b, s->operands[2], class));
    if (combine) {
        add_src(&in, source(b, s->operands[3], 'q'));
        in.flags |= s->operands[3]->negated ? OPF_NOT : 0;
    }
    finish(b, s, &in);
}

/* set.mode[.ftz].to.from d, a, b: 1.0 or 0.0 for float results, all ones or 0 for integers. */
static void decode_set(Builder *b, Statement *s)
{
    require_operands(b, s, 3, 3);
    Insn in = begin(s, exec_set);
    const int mode = take_one(s, comparisons);
    if (take(s, "ftz"))
        in.flags |= OPF_FTZ;
    in.mode = (uint8_t)(mode < 0 ? 0 : mode);
    in.type2 = (uint8_t)take_type(s);
    in.type = (uint8_t)take_type(s);
    const bool pair = in.type == T_F16X2 || in.type == T_BF16X2;
    const bool word = in.type2 == T_U32 || in.type2 == T_S32 || in.type2 == T_F32;
    if (mode < 0 || (pair ? in.type2 != in.type : !word || type_bytes((Type)in.type) < 2))
        builder_fail(b, "'%s' is not implemented", s->text);
    const char class = pair ? 'w' : class_of((Type)in.type);
    /* inline assembly gives f32 results and operands in untyped registers too */
    add_dst(&in, destination(b, s->operands[0], 'w'));
    add_src(&in, source(b, s->operands[1], class));
    add_src(&in, source(b, s->operands[2], class));
    finish(b, s, &in);
}

/* --- memory --- */

/* Cache hints change nothing that a program can see. */
static void take_cache_hints(Statement *s)
{
    static const char *const hints[] = {"ca",
                                        "cg",
                                        "cs",
                                        "lu",
                                        "cv",
                                        "wb",
                                        "wt",
                                        "volatile",
                                        "weak",
                                        "L1::no_allocate",
                                        "L1::evict_first",
                                        "L1::evict_last",
                                        "L1::evict_normal",
                                        "L1::evict_unchanged",
                                        "L2::64B",
                                        "L2::128B",
                                        "L2::256B",
                                        NULL};
    while (take_one(s, hints) >= 0)
        ;
}

static Space take_space(Statement *s)
{
    static const char *const names[] = {"global", "shared", "shared::cta", "local",
                                        "param",  "const",  NULL};
    static const Space spaces[] = {SPACE_GLOBAL, SPACE_SHARED, SPACE_SHARED,
                                   SPACE_LOCAL,  SPACE_PARAM,  SPACE_CONST};
    const int i = take_one(s, names);
    return i < 0 ? SPACE_GENERIC : spaces[i];
}

/* Adds the address operand; the offset goes to imm. */
static void add_address(Builder *b, Insn *in, const Operand *o)
{
    if (o->kind != O_ADDRESS)
        builder_fail(b, "an address is expected");
    const Operand *base = o->items;
    if (base->kind == O_SYMBOL) {
        if (base->symbol && base->symbol->kind == S_LOCAL)
            in->space = SPACE_LOCAL; /* parameters of calls live there too */
        if (base->symbol && base->symbol->kind == S_PARAM) {
            if (in->space != SPACE_PARAM)
                builder_fail(b, "'%s' outside the parameter space", base->name);
            in->imm = (int64_t)(base->symbol->address + o->value);
            if (o->value + (uint64_t)in->bytes * in->vec > base->symbol->size)
                builder_fail(b, "access beyond parameter '%s'", base->name);
            add_src(in, builder_constant(b, 2, 0));
            return;
        }
        add_src(in, address_constant(b, base, 2, 0));
        in->imm = (int64_t)o->value;
    } else if (base->kind == O_INT) {
        add_src(in, builder_constant(b, 2, base->value + o->value));
    } else if (base->kind == O_REG) {
        const unsigned bytes =
            type_bytes((Type)g_array_index(b->kernel->vregs, Vreg, base->vreg).type);
        if (bytes != 8 && (bytes != 4 || in->space == SPACE_GENERIC || in->space == SPACE_GLOBAL))
            builder_fail(b, "address register '%s' has the wrong width", base->name);
        add_src(in, base->vreg);
        in->imm = (int64_t)o->value;
    } else {
        builder_fail(b, "address form not implemented");
    }
    in->flags |= is_wide(b, in->src[0]) ? OPF_WIDE_SRC : 0;
}

static void note_granule(Builder *b, const Insn *in, bool is_store)
{
    PtxKernel *k = b->kernel;
    if ((in->space == SPACE_SHARED || in->space == SPACE_GENERIC) && in->bytes < k->granule)
        k->granule = in->bytes;
    if ((in->space == SPACE_GLOBAL || in->space == SPACE_GENERIC) && is_store &&
        in->bytes < k->global_granule)
        k->global_granule = in->bytes;
}

static unsigned take_vector(Statement *s)
{
    return take(s, "v2") ? 2 : take(s, "v4") ? 4 : 1;
}

static void add_elements(Builder *b, Insn *in, const Operand *o, bool is_destination)
{
    if ((in->vec > 1) != (o->kind == O_VECTOR) || (in->vec > 1 && o->nitems != in->vec))
        builder_fail(b, "wrong number of elements");
    for (unsigned i = 0; i < in->vec; i++) {
        const int v = wide_register(b, in->vec > 1 ? &o->items[i] : o, in->bytes, is_destination);
        if (is_destination)
            add_dst(in, v);
        else
            add_src(in, v);
    }
}

/* ld.relaxed, ld.acquire, st.relaxed, st.release with their scope. */
static void take_ordering(Builder *b, Statement *s, Insn *in)
{
    static const char *const order[] = {"relaxed", "acquire", "release", NULL};
    static const char *const scope[] = {"cta", "gpu", "sys", NULL};
    const int ordering = take_one(s, order);
    if (ordering < 0)
        return;
    if (take_one(s, scope) < 0)
        builder_fail(b, "'%s' without a scope", s->text);
    in->flags |= OPF_ORDERED;
    in->target = ordering > 0; /* also a fence */
    b->kernel->uses_fence |= ordering > 0;
}

static void begin_memory(Builder *b, Statement *s, Insn *in)
{
    take_cache_hints(s);
    take_ordering(b, s, in);
    in->space = (uint8_t)take_space(s);
    in->vec = (uint8_t)take_vector(s);
    in->type = (uint8_t)take_type(s);
    if (in->type == T_NONE || in->type == T_PRED)
        builder_fail(b, "'%s' without a type", s->text);
    in->bytes = (uint8_t)type_bytes((Type)in->type);
    if (in->bytes * in->vec > 16)
        builder_fail(b, "'%s' is wider than 16 bytes", s->text);
}

static void decode_ld(Builder *b, Statement *s)
{
    require_operands(b, s, 2, 2);
    Insn in = begin(s, exec_ld);
    begin_memory(b, s, &in);
    if (take(s, "nc"))
        in.flags |= OPF_READ_ONLY;
    add_address(b, &in, s->operands[1]);
    if (in.space == SPACE_PARAM && s->operands[1]->items->kind == O_SYMBOL)
        in.fn = exec_ld_param;
    add_elements(b, &in, s->operands[0], true);
    in.flags |= is_wide(b, in.dst[0]) ? OPF_WIDE_DST : 0;
    in.mode = (uint8_t)type_bytes((Type)g_array_index(b->kernel->vregs, Vreg, in.dst[0]).type);
    for (unsigned i = 1; i < in.vec; i++)
        if (s->operands[0]->items[i].kind == O_REG &&
            is_wide(b, in.dst[i]) != is_wide(b, in.dst[0]))
            builder_fail(b, "elements of different widths");
    note_granule(b, &in, false);
    finish(b, s, &in);
}

static void decode_st(Builder *b, Statement *s)
{
    require_operands(b, s, 2, 2);
    Insn in = begin(s, exec_st);
    begin_memory(b, s, &in);
    add_address(b, &in, s->operands[0]);
    if (in.space == SPACE_PARAM || in.space == SPACE_CONST)
        builder_fail(b, "a store to that space is not possible");
    add_elements(b, &in, s->operands[1], false);
    in.flags |= is_wide(b, in.src[1]) ? OPF_WIDE_DST : 0;
    note_granule(b, &in, true);
    finish(b, s, &in);
}

static bool atomic_has_type(int op, Type type)
{
    const bool bits = type == T_B32 || type == T_B64;
    const bool integer = type == T_U32 || type == T_S32 || type == T_U64 || type == T_S64;
    switch (op) {
    case ATOM_ADD:
        return integer || type == T_F32 || type == T_F64 || type == T_F16X2 || type == T_BF16X2;
    case ATOM_MIN:
    case ATOM_MAX:
        return integer;
    case ATOM_INC:
    case ATOM_DEC:
        return type == T_U32;
    default:
        return bits;
    }
}

static void decode_atom(Builder *b, Statement *s)
{
    static const char *const ops[] = {"add", "min", "max",  "inc", "dec", "and",
                                      "or",  "xor", "exch", "cas", NULL};
    static const char *const order[] = {"relaxed", "acquire", "release", "acq_rel", NULL};
    static const char *const scope[] = {"cta", "gpu", "sys", NULL};
    const bool returns = !strcmp(s->parts[0], "atom");
    Insn in = begin(s, exec_atom);
    in.space = (uint8_t)take_space(s);
    const int ordering = take_one(s, order);
    take_one(s, scope);
    take(s, "noftz");
    const int op = take_one(s, ops);
    in.type = (uint8_t)take_type(s);
    if (op < 0 || !atomic_has_type(op, (Type)in.type))
        builder_fail(b, "'%s' is not implemented", s->text);
    in.mode = (uint8_t)op;
    in.bytes = (uint8_t)type_bytes((Type)in.type);
    in.vec = 1;
    in.flags = returns ? OPF_RETURN : 0;
    in.target = ordering > 0; /* also a fence */
    if (ordering > 0)
        b->kernel->uses_fence = true;
    const unsigned first = returns ? 1 : 0, values = op == ATOM_CAS ? 2 : 1;
    require_operands(b, s, first + 1 + values, first + 1 + values);
    if (returns)
        add_dst(&in, destination(b, s->operands[0], class_of((Type)in.type)));
    add_address(b, &in, s->operands[first]);
    for (unsigned i = 0; i < values; i++)
        add_src(&in, source(b, s->operands[first + 1 + i], class_of((Type)in.type)));
    note_granule(b, &in, true);
    finish(b, s, &in);
}

static void decode_fence(Builder *b, Statement *s)
{
    static const char *const words[] = {"acq_rel", "sc", "cta", "gpu", "gl", "sys", NULL};
    while (take_one(s, words) >= 0)
        ;
    require_operands(b, s, 0, 0);
    Insn in = begin(s, exec_fence);
    b->kernel->uses_fence = true;
    finish(b, s, &in);
}

/* cp.async.{ca,cg}.shared.global [dst], [src], size[, source size]; .commit_group; .wait_group n;
 * .wait_all */
static void decode_cp(Builder *b, Statement *s)
{
    if (!take(s, "async"))
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_cp_async);
    if (take(s, "commit_group")) {
        require_operands(b, s, 0, 0);
        in.fn = exec_cp_async_commit;
    } else if (take(s, "wait_all")) {
        require_operands(b, s, 0, 0);
        in.fn = exec_cp_async_wait;
        in.imm = -1;
    } else if (take(s, "wait_group")) {
        require_operands(b, s, 1, 1);
        if (s->operands[0]->kind != O_INT || s->operands[0]->value > 64)
            builder_fail(b, "'%s' needs a number", s->text);
        in.fn = exec_cp_async_wait;
        in.imm = (int64_t)s->operands[0]->value;
    } else {
        const bool cg = take(s, "cg");
        const bool to_shared = take(s, "shared") || take(s, "shared::cta");
        if ((!cg && !take(s, "ca")) || !to_shared || !take(s, "global"))
            builder_fail(b, "'%s' is not implemented", s->text);
        take_cache_hints(s);
        require_operands(b, s, 3, 4);
        const Operand *size = s->operands[2];
        if (size->kind != O_INT ||
            (size->value != 16 && (cg || (size->value != 4 && size->value != 8))))
            builder_fail(b, "'%s' of that size", s->text);
        in.space = SPACE_SHARED;
        in.bytes = (uint8_t)size->value;
        in.vec = 1;
        add_address(b, &in, s->operands[0]);
        const Operand *from = s->operands[1];
        if (from->kind != O_ADDRESS || from->items->kind != O_REG)
            builder_fail(b, "'%s': source address form", s->text);
        in.target = (uint32_t)from->value; /* its offset */
        add_src(&in, source(b, from->items, 'd'));
        add_src(&in, s->noperands == 4 ? source(b, s->operands[3], 'w')
                                       : builder_constant(b, 1, in.bytes));
        note_granule(b, &in, true);
    }
    finish(b, s, &in);
}

/* --- warp --- */

static void decode_shfl(Builder *b, Statement *s)
{
    static const char *const modes[] = {"up", "down", "bfly", "idx", NULL};
    require_operands(b, s, 5, 5);
    const bool sync = take(s, "sync");
    const int mode = take_one(s, modes);
    if (!sync || mode < 0 || !take(s, "b32"))
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_shfl);
    in.mode = (uint8_t)mode;
    in.flow = FLOW_SYNC;
    in.sync_src = 3;
    const Operand *d = s->operands[0];
    const bool pair = d->kind == O_PAIR;
    add_dst(&in, destination(b, pair ? &d->items[0] : d, 'w'));
    add_dst(&in, pair ? destination(b, &d->items[1], 'p') : sink(b, 1));
    for (unsigned i = 1; i < 5; i++)
        add_src(&in, source(b, s->operands[i], 'w'));
    finish(b, s, &in);
}

static void decode_vote(Builder *b, Statement *s)
{
    static const char *const modes[] = {"all", "any", "uni", "ballot", NULL};
    require_operands(b, s, 3, 3);
    const bool sync = take(s, "sync");
    const int mode = take_one(s, modes);
    if (!sync || mode < 0 || !take(s, mode == VOTE_BALLOT ? "b32" : "pred"))
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_vote);
    in.mode = (uint8_t)mode;
    in.flow = FLOW_SYNC;
    in.sync_src = 1;
    add_dst(&in, destination(b, s->operands[0], mode == VOTE_BALLOT ? 'w' : 'p'));
    add_src(&in, source(b, s->operands[1], 'q'));
    in.flags = s->operands[1]->negated ? OPF_NOT : 0;
    add_src(&in, source(b, s->operands[2], 'w'));
    finish(b, s, &in);
}

static void decode_match(Builder *b, Statement *s)
{
    require_operands(b, s, 3, 3);
    if (!take(s, "any") || !take(s, "sync") || !take(s, "b32"))
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_match_any);
    in.flow = FLOW_SYNC;
    in.sync_src = 1;
    add_dst(&in, destination(b, s->operands[0], 'w'));
    add_src(&in, source(b, s->operands[1], 'w'));
    add_src(&in, source(b, s->operands[2], 'w'));
    finish(b, s, &in);
}

static void decode_redux(Builder *b, Statement *s)
{
    static const char *const ops[] = {"add", "min", "max", "inc", "dec", "and", "or", "xor", NULL};
    require_operands(b, s, 3, 3);
    const bool sync = take(s, "sync");
    const int op = take_one(s, ops);
    Insn in = begin(s, exec_redux);
    in.type = (uint8_t)take_type(s);
    if (!sync || op < 0 || op == ATOM_INC || op == ATOM_DEC || type_bytes((Type)in.type) != 4 ||
        in.type == T_F32)
        builder_fail(b, "'%s' is not implemented", s->text);
    in.mode = (uint8_t)op;
    in.flow = FLOW_SYNC;
    in.sync_src = 1;
    add_dst(&in, destination(b, s->operands[0], 'w'));
    add_src(&in, source(b, s->operands[1], 'w'));
    add_src(&in, source(b, s->operands[2], 'w'));
    finish(b, s, &in);
}

static void decode_activemask(Builder *b, Statement *s)
{
    require_operands(b, s, 1, 1);
    Insn in = begin(s, exec_activemask);
    take(s, "b32");
    add_dst(&in, destination(b, s->operands[0], 'w'));
    finish(b, s, &in);
}

/* bar.red.popc.u32 d, a[, threads], [!]p; bar.red.and.pred and .or.pred alike */
static void decode_bar_red(Builder *b, Statement *s)
{
    static const char *const kinds[] = {"popc", "and", "or", NULL};
    require_operands(b, s, 3, 4);
    Insn in = begin(s, exec_nop);
    in.flow = FLOW_BARRIER;
    in.mode = (uint8_t)(take_one(s, kinds) + 1);
    if (!in.mode || !take(s, in.mode == BARRIER_POPC ? "u32" : "pred"))
        builder_fail(b, "'%s' is not implemented", s->text);
    add_dst(&in, destination(b, s->operands[0], in.mode == BARRIER_POPC ? 'w' : 'p'));
    in.vec = (uint8_t)(s->noperands - 2);
    for (unsigned i = 0; i < in.vec; i++)
        add_src(&in, source(b, s->operands[1 + i], 'w'));
    const Operand *p = s->operands[s->noperands - 1];
    add_src(&in, source(b, p, 'q'));
    in.flags = p->negated ? OPF_NOT : 0;
    finish(b, s, &in);
}

/* bar.sync a[, threads]; barrier.sync[.aligned]; bar.warp.sync mask */
static void decode_bar(Builder *b, Statement *s)
{
    if (take(s, "red")) {
        decode_bar_red(b, s);
        return;
    }
    Insn in = begin(s, exec_nop);
    if (take(s, "warp")) {
        require_operands(b, s, 1, 1);
        in.flow = FLOW_SYNC;
        in.sync_src = 0;
        add_src(&in, source(b, s->operands[0], 'w'));
    } else {
        require_operands(b, s, 1, 2);
        in.flow = FLOW_BARRIER;
        take(s, "aligned");
        take(s, "cta");
        in.vec = (uint8_t)s->noperands;
        for (unsigned i = 0; i < s->noperands; i++)
            add_src(&in, source(b, s->operands[i], 'w'));
    }
    if (!take(s, "sync"))
        builder_fail(b, "'%s' is not implemented", s->text);
    finish(b, s, &in);
}

/* --- flow --- */

static void decode_bra(Builder *b, Statement *s)
{
    require_operands(b, s, 1, 1);
    take(s, "uni");
    Insn in = begin(s, exec_nop);
    in.flow = FLOW_BRANCH;
    if (s->operands[0]->kind != O_SYMBOL)
        builder_fail(b, "a label is expected");
    builder_branch_to(b, b->kernel->code->len, s->operands[0]->name);
    finish(b, s, &in);
}

static void decode_brx(Builder *b, Statement *s)
{
    require_operands(b, s, 2, 2);
    const Symbol *table = s->operands[1]->symbol;
    take(s, "uni");
    if (!take(s, "idx") || !table || table->kind != S_TABLE)
        builder_fail(b, "'%s' is not implemented", s->text);
    Insn in = begin(s, exec_nop);
    in.flow = FLOW_BRANCH_TABLE;
    in.imm = (int64_t)table->address;
    add_src(&in, source(b, s->operands[0], 'w'));
    finish(b, s, &in);
}

static void decode_ret(Builder *b, Statement *s)
{
    require_operands(b, s, 0, 0);
    take(s, "uni");
    Insn in = begin(s, exec_nop);
    in.flow = FLOW_EXIT;
    if (b->return_label && !strcmp(s->parts[0], "ret")) {
        in.flow = FLOW_BRANCH;
        builder_branch_to(b, b->kernel->code->len, b->return_label);
    }
    finish(b, s, &in);
}

static void decode_trap(Builder *b, Statement *s)
{
    require_operands(b, s, 0, 0);
    Insn in = begin(s, exec_trap);
    finish(b, s, &in);
}

/* prefetch and nanosleep change nothing that a program can see. */
static void decode_hint(Builder *b, Statement *s)
{
    for (unsigned i = 1; i < s->nparts; i++)
        s->used[i] = true;
    Insn in = begin(s, exec_nop);
    finish(b, s, &in);
}

/* --- tensor cores --- */

static void decode_ldmatrix(Builder *b, Statement *s)
{
    static const char *const counts[] = {"x1", "x2", "x4", NULL};
    require_operands(b, s, 2, 2);
    Insn in = begin(s, exec_ldmatrix);
    const int count = take_one(s, counts);
    if (!take(s, "sync") || !take(s, "aligned") || !take(s, "m8n8") || count < 0 ||
        take_space(s) != SPACE_SHARED || !take(s, "b16"))
        builder_fail(b, "'%s' is not implemented", s->text);
    in.flags = take(s, "trans") ? OPF_TRANS : 0;
    in.vec = (uint8_t)(1u << count);
    in.space = SPACE_SHARED;
    in.bytes = 4;
    in.flow = FLOW_SYNC;
    add_address(b, &in, s->operands[1]);
    add_elements(b, &in, s->operands[0], true);
    finish(b, s, &in);
}

/* mma.sync.aligned.m16n8kK.row.col.f32.T.T.f32 d, a, b, c: registers of a and b by K and T */
static void decode_mma(Builder *b, Statement *s)
{
    static const char *const shapes[] = {"m16n8k16", "m16n8k8", NULL};
    require_operands(b, s, 4, 4);
    Insn in = begin(s, exec_mma_f32);
    const bool start = take(s, "sync") && take(s, "aligned");
    const int shape = take_one(s, shapes);
    const bool layout = take(s, "row") && take(s, "col");
    const bool f32 = take(s, "f32") && take(s, "f32");
    const bool tf32 = take(s, "tf32");
    if (tf32)
        in.type = take(s, "tf32") ? T_B32 : T_NONE;
    else {
        in.type = (uint8_t)take_type(s);
        if (take_type(s) != (Type)in.type)
            in.type = T_NONE;
    }
    if (!start || shape < 0 || !layout || !f32 ||
        (in.type != T_F16 && in.type != T_BF16 && in.type != T_B32) || (tf32 && shape == 0))
        builder_fail(b, "'%s' is not implemented", s->text);
    in.imm = shape == 0 ? 16 : 8;
    in.flow = FLOW_SYNC;
    const unsigned counts[4] = {4, in.imm == 16 || tf32 ? 4 : 2, in.imm == 16 || tf32 ? 2 : 1, 4};
    for (unsigned i = 0; i < 4; i++) {
        const Operand *o = s->operands[i];
        const bool single = counts[i] == 1 && o->kind == O_REG;
        if (!single && (o->kind != O_VECTOR || o->nitems != counts[i]))
            builder_fail(b, "'%s': operand %u needs %u registers", s->text, i, counts[i]);
        for (unsigned j = 0; j < counts[i]; j++) {
            const Operand *e = single ? o : &o->items[j];
            if (i == 0)
                add_dst(&in, destination(b, e, 'f'));
            else
                add_src(&in, source(b, e, i == 3 ? 'f' : 'w'));
        }
    }
    in.vec = (uint8_t)counts[1];
    finish(b, s, &in);
}

static const struct {
    const char *opcode;
    void (*decode)(Builder *, Statement *);
} decoders[] = {
    {"mov", decode_mov},
    {"cvta", decode_cvta},
    {"cvt", decode_cvt},
    {"set", decode_set},
    {"setp", decode_setp},
    {"ld", decode_ld},
    {"st", decode_st},
    {"atom", decode_atom},
    {"red", decode_atom},
    {"membar", decode_fence},
    {"fence", decode_fence},
    {"cp", decode_cp},
    {"shfl", decode_shfl},
    {"vote", decode_vote},
    {"match", decode_match},
    {"redux", decode_redux},
    {"activemask", decode_activemask},
    {"bar", decode_bar},
    {"barrier", decode_bar},
    {"bra", decode_bra},
    {"brx", decode_brx},
    {"ret", decode_ret},
    {"exit", decode_ret},
    {"trap", decode_trap},
    {"prefetch", decode_hint},
    {"nanosleep", decode_hint},
    {"ldmatrix", decode_ldmatrix},
    {"mma", decode_mma},
};

void decode_statement(Builder *b, Statement *s)
{
    b->line = s->line;
    const OpEntry *entry = op_lookup(s->text);
    if (entry) {
        decode_by_signature(b, s, entry);
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(decoders); i++)
        if (!strcmp(decoders[i].opcode, s->parts[0])) {
            decoders[i].decode(b, s);
            return;
        }
    builder_fail(b, "'%s' is not implemented", s->text);
}
