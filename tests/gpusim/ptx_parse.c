/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Reads PTX text: directives, scopes, declarations, statements with their operands. Calls of device
 * functions are inlined here, by reading the function's body again in a scope of its own. What an
 * instruction means is ptx_decode.c's business. Strict: an unknown directive, name or operand form
 * fails the module with its line.
 */
#include <ctype.h>
#include <stdlib.h>

#include "ptx_decode.h"

/* A .func: its body is read at each call. */
typedef struct Function {
    char *name;
    const char *body; /* behind the opening brace */
    uint32_t line;
    GPtrArray *returns, *arguments; /* names of formal parameters */
} Function;

typedef struct {
    Builder b;
    const char *at;
    Scope *module_scope;
    GPtrArray *scopes, *functions, *operands;
    uint64_t (*place)(void *, PtxVariable *);
    void *user;
    uint64_t const_bytes;
} Parser;

/* --- names --- */

void builder_fail(Builder *b, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *what = g_strdup_vprintf(format, args);
    va_end(args);
    b->error = g_strdup_printf("PTX line %u: %s", b->line, what);
    g_free(what);
    longjmp(b->failed, 1);
}

static Scope *push_scope(Parser *p, Scope *parent)
{
    Scope *s = g_new0(Scope, 1);
    s->parent = parent;
    s->symbols = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_ptr_array_add(p->scopes, s);
    p->b.scope = s;
    return s;
}

static Symbol *define(Builder *b, const char *name, SymbolKind kind)
{
    if (g_hash_table_contains(b->scope->symbols, name))
        builder_fail(b, "'%s' is declared twice", name);
    Symbol *s = g_new0(Symbol, 1);
    s->kind = kind;
    g_hash_table_insert(b->scope->symbols, g_strdup(name), s);
    return s;
}

Symbol *builder_find(Builder *b, const char *name)
{
    for (Scope *s = b->scope; s; s = s->parent) {
        Symbol *found = g_hash_table_lookup(s->symbols, name);
        if (found)
            return found;
    }
    return NULL;
}

/* A register by name; %r12 of a family declared as %r<100> too. -1: no register. */
static int find_register(Builder *b, const char *name)
{
    Symbol *s = builder_find(b, name);
    if (s)
        return s->kind == S_REG ? s->vreg : -1;
    size_t n = strlen(name);
    while (n > 1 && isdigit((unsigned char)name[n - 1]))
        n--;
    char stem[128];
    if (!name[n] || n >= sizeof stem)
        return -1;
    memcpy(stem, name, n);
    stem[n] = 0;
    s = builder_find(b, stem);
    const unsigned long number = strtoul(name + n, NULL, 10);
    return s && s->kind == S_FAMILY && number < s->count ? s->vreg + (int)number : -1;
}

int builder_vreg(Builder *b, VregKind kind, Type type)
{
    Vreg v = {.kind = (uint8_t)kind, .slots = type_bytes(type) == 8 ? 2 : 1, .type = (uint8_t)type};
    g_array_append_val(b->kernel->vregs, v);
    return (int)b->kernel->vregs->len - 1;
}

int builder_constant(Builder *b, int slots, uint64_t value)
{
    char *key = g_strdup_printf("%d:%" G_GINT64_MODIFIER "x", slots, value);
    int id = GPOINTER_TO_INT(g_hash_table_lookup(b->constants, key));
    if (id) {
        g_free(key);
        return id - 1;
    }
    id = builder_vreg(b, V_CONSTANT, slots == 2 ? T_B64 : T_B32);
    g_array_index(b->kernel->vregs, Vreg, id).value = value;
    g_hash_table_insert(b->constants, key, GINT_TO_POINTER(id + 1));
    return id;
}

int builder_special(Builder *b, SpecialRegister which)
{
    if (b->special[which] < 0) {
        b->special[which] = builder_vreg(b, V_SPECIAL, T_B32);
        g_array_index(b->kernel->vregs, Vreg, b->special[which]).special = (uint8_t)which;
    }
    return b->special[which];
}

void builder_branch_to(Builder *b, uint32_t insn, const char *label)
{
    Fixup f = {
        .insn = insn, .table = -1, .label = g_strdup(label), .scope = b->scope, .line = b->line};
    g_array_append_val(b->fixups, f);
}

/* --- characters and words --- */

static void skip(Parser *p)
{
    for (;;) {
        if (*p->at == '\n')
            p->b.line++;
        if (isspace((unsigned char)*p->at)) {
            p->at++;
        } else if (p->at[0] == '/' && p->at[1] == '/') {
            while (*p->at && *p->at != '\n')
                p->at++;
        } else if (p->at[0] == '/' && p->at[1] == '*') {
            const char *end = strstr(p->at, "*/");
            if (!end)
                builder_fail(&p->b, "comment without end");
            for (; p->at < end + 2; p->at++)
                p->b.line += *p->at == '\n';
        } else {
            return;
        }
    }
}

static bool accept(Parser *p, char c)
{
    skip(p);
    if (*p->at != c)
        return false;
    p->at++;
    return true;
}

static void expect(Parser *p, char c)
{
    if (!accept(p, c))
        builder_fail(&p->b, "'%c' expected before '%.20s'", c, p->at);
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

/* A name, or a directive or mnemonic with its dots. */
static void read_word(Parser *p, char *out, size_t size, bool dots)
{
    skip(p);
    size_t n = 0;
    while (is_name_char(*p->at) || (dots && (*p->at == '.' || *p->at == ':'))) {
        if (n + 1 >= size)
            builder_fail(&p->b, "name too long");
        out[n++] = *p->at++;
    }
    out[n] = 0;
    if (!n)
        builder_fail(&p->b, "name expected before '%.20s'", p->at);
}

static uint64_t read_integer(Parser *p)
{
    skip(p);
    const bool minus = *p->at == '-';
    if (minus)
        p->at++;
    if (!isdigit((unsigned char)*p->at))
        builder_fail(&p->b, "number expected before '%.20s'", p->at);
    char *end;
    const bool binary = p->at[0] == '0' && (p->at[1] == 'b' || p->at[1] == 'B');
    const uint64_t v = strtoull(p->at + (binary ? 2 : 0), &end, binary ? 2 : 0);
    p->at = end;
    if (*p->at == 'U')
        p->at++;
    return minus ? 0 - v : v;
}

static void skip_line(Parser *p)
{
    while (*p->at && *p->at != '\n')
        p->at++;
}

static void skip_to_semicolon(Parser *p)
{
    while (*p->at && *p->at != ';') {
        p->b.line += *p->at == '\n';
        p->at++;
    }
    expect(p, ';');
}

/* --- operands --- */

static const struct {
    const char *name;
    SpecialRegister which;
} special_names[] = {
    {"%tid.x", SR_TID_X},
    {"%tid.y", SR_TID_Y},
    {"%tid.z", SR_TID_Z},
    {"%ntid.x", SR_NTID_X},
    {"%ntid.y", SR_NTID_Y},
    {"%ntid.z", SR_NTID_Z},
    {"%ctaid.x", SR_CTAID_X},
    {"%ctaid.y", SR_CTAID_Y},
    {"%ctaid.z", SR_CTAID_Z},
    {"%nctaid.x", SR_NCTAID_X},
    {"%nctaid.y", SR_NCTAID_Y},
    {"%nctaid.z", SR_NCTAID_Z},
    {"%laneid", SR_LANEID},
    {"%warpid", SR_WARPID},
    {"%lanemask_eq", SR_LANEMASK_EQ},
    {"%lanemask_lt", SR_LANEMASK_LT},
    {"%lanemask_le", SR_LANEMASK_LE},
    {"%lanemask_gt", SR_LANEMASK_GT},
    {"%lanemask_ge", SR_LANEMASK_GE},
    {"%dynamic_smem_size", SR_DYNAMIC_SHARED},
};

static bool read_special(Parser *p, Operand *o)
{
    for (size_t i = 0; i < G_N_ELEMENTS(special_names); i++) {
        const size_t n = strlen(special_names[i].name);
        if (!strncmp(p->at, special_names[i].name, n) && !is_name_char(p->at[n])) {
            p->at += n;
            o->kind = O_SPECIAL;
            o->value = special_names[i].which;
            return true;
        }
    }
    return false;
}

static Operand *new_operands(Parser *p, unsigned n)
{
    Operand *o = g_new0(Operand, n);
    g_ptr_array_add(p->operands, o);
    return o;
}

static void read_operand(Parser *p, Operand *o);

static void read_list(Parser *p, Operand *o, char close)
{
    o->items = new_operands(p, MAX_OPERANDS);
    while (!accept(p, close)) {
        if (o->nitems == MAX_OPERANDS)
            builder_fail(&p->b, "too many elements in a list");
        read_operand(p, &o->items[o->nitems++]);
        skip(p);
        if (*p->at != close)
            expect(p, ',');
    }
}

static void read_address(Parser *p, Operand *o)
{
    o->kind = O_ADDRESS;
    o->items = new_operands(p, 1);
    o->nitems = 1;
    read_operand(p, o->items);
    if (accept(p, '+'))
        o->value = read_integer(p);
    expect(p, ']');
}

static void read_number(Parser *p, Operand *o)
{
    if (p->at[0] == '0' && strchr("fFdD", p->at[1]) && p->at[1]) {
        o->kind = tolower((unsigned char)p->at[1]) == 'f' ? O_FLOAT : O_DOUBLE;
        char *end;
        o->value = strtoull(p->at + 2, &end, 16);
        if (end - p->at != (o->kind == O_FLOAT ? 10 : 18))
            builder_fail(&p->b, "bad floating point literal '%.20s'", p->at);
        p->at = end;
        return;
    }
    o->kind = O_INT;
    o->value = read_integer(p);
}

static void read_named(Parser *p, Operand *o)
{
    if (read_special(p, o))
        return;
    read_word(p, o->name, sizeof o->name, false);
    if (!strcmp(o->name, "_")) {
        o->kind = O_SINK;
        return;
    }
    o->vreg = find_register(&p->b, o->name);
    if (o->vreg >= 0) {
        o->kind = O_REG;
        return;
    }
    if (o->name[0] == '%')
        builder_fail(&p->b, "register '%s' is not declared or not implemented", o->name);
    o->kind = O_SYMBOL;
    o->symbol = builder_find(&p->b, o->name);
}

static void read_operand(Parser *p, Operand *o)
{
    skip(p);
    if (accept(p, '[')) {
        read_address(p, o);
    } else if (accept(p, '{')) {
        o->kind = O_VECTOR;
        read_list(p, o, '}');
    } else if (accept(p, '(')) {
        o->kind = O_LIST;
        read_list(p, o, ')');
    } else if (accept(p, '!')) {
        read_operand(p, o);
        o->negated = true;
    } else if (isdigit((unsigned char)*p->at) || *p->at == '-') {
        read_number(p, o);
    } else {
        read_named(p, o);
        if (accept(p, '|')) {
            Operand *pair = new_operands(p, 2);
            pair[0] = *o;
            read_operand(p, &pair[1]);
            *o = (Operand){.kind = O_PAIR, .items = pair, .nitems = 2};
        }
    }
}

/* --- declarations --- */

typedef struct {
    uint64_t align, elements;
    bool is_array, is_extern;
    Type type;
    uint32_t vec;
    char name[128];
} Declaration;

static uint64_t declared_bytes(const Declaration *d)
{
    return (uint64_t)type_bytes(d->type) * d->vec * d->elements;
}

/* [.align n] [.ptr ...] [.vK] .type name [[n]]... ; what stands before the space has been read. */
static void read_declaration(Parser *p, Declaration *d)
{
    char word[128];
    d->vec = 1;
    d->elements = 1;
    for (;;) {
        skip(p);
        if (*p->at != '.')
            break;
        read_word(p, word, sizeof word, true);
        if (!strcmp(word, ".align"))
            d->align = read_integer(p);
        else if (!strcmp(word, ".v2") || !strcmp(word, ".v4"))
            d->vec = (uint32_t)(word[2] - '0');
        else if (!strcmp(word, ".ptr") || !strcmp(word, ".global") || !strcmp(word, ".shared"))
            ; /* attributes of a pointer parameter */
        else if ((d->type = type_from_name(word + 1)) == T_NONE)
            builder_fail(&p->b, "'%s' is not implemented in a declaration", word);
    }
    if (d->type == T_NONE)
        builder_fail(&p->b, "declaration without a type");
    read_word(p, d->name, sizeof d->name, false);
    while (accept(p, '[')) {
        d->is_array = true;
        skip(p);
        const uint64_t n = *p->at == ']' ? 0 : read_integer(p);
        if (n && d->elements > UINT32_MAX / n)
            builder_fail(&p->b, "'%s' is too large", d->name);
        d->elements *= n;
        expect(p, ']');
    }
    if (!d->align)
        d->align = (uint64_t)type_bytes(d->type) * d->vec;
    if (d->align & (d->align - 1))
        builder_fail(&p->b, "alignment of '%s' is no power of two", d->name);
}

/* type: its name if it has been read */
static void declare_registers(Parser *p, const char *type_name)
{
    char word[128] = "";
    if (!type_name)
        read_word(p, word, sizeof word, true);
    const Type type = type_from_name(type_name ? type_name : word + 1);
    if (type == T_NONE)
        builder_fail(&p->b, "registers of that type are not implemented: %s", word);
    do {
        read_word(p, word, sizeof word, false);
        uint64_t count = 1;
        const bool family = accept(p, '<');
        if (family) {
            count = read_integer(p);
            expect(p, '>');
        }
        if (count == 0 || count > 1000000)
            builder_fail(&p->b, "bad register count");
        Symbol *s = define(&p->b, word, family ? S_FAMILY : S_REG);
        s->count = (uint32_t)count;
        s->vreg = builder_vreg(&p->b, V_REGISTER, type);
        for (uint64_t i = 1; i < count; i++)
            builder_vreg(&p->b, V_REGISTER, type);
    } while (accept(p, ','));
    expect(p, ';');
}

static uint64_t round_up(uint64_t v, uint64_t align)
{
    return (v + align - 1) / align * align;
}

static void declare_shared(Parser *p, bool is_extern)
{
    Declaration d = {0};
    read_declaration(p, &d);
    expect(p, ';');
    Symbol *s = define(&p->b, d.name, S_SHARED);
    s->size = declared_bytes(&d);
    if (d.is_array && s->size == 0) {
        s->address = UINT64_MAX; /* dynamic: behind the static variables, known when the kernel has
                                    been read */
        if (!is_extern)
            builder_fail(&p->b, "'%s' has no size", d.name);
        s->count = (uint32_t)d.align;
        return;
    }
    if (!p->b.kernel)
        builder_fail(&p->b, "shared variables with a size must be declared inside a kernel: '%s'",
                     d.name);
    s->address = round_up(p->b.kernel->static_shared, d.align);
    p->b.kernel->static_shared = (uint32_t)(s->address + s->size);
    s->address += SHARED_BASE;
}

/* Local variables, and parameters of calls, which are kept in local memory too. */
static void declare_local(Parser *p)
{
    Declaration d = {0};
    read_declaration(p, &d);
    expect(p, ';');
    Symbol *s = define(&p->b, d.name, S_LOCAL);
    s->size = declared_bytes(&d);
    s->address = round_up(p->b.kernel->local_bytes, d.align);
    p->b.kernel->local_bytes = (uint32_t)(s->address + s->size);
}

static void read_initializer(Parser *p, PtxVariable *v, const Declaration *d)
{
    const unsigned bytes = type_bytes(d->type);
    const bool braces = accept(p, '{');
    v->init = g_malloc0(v->size ? v->size : 1);
    uint64_t i = 0;
    do {
        Operand o = {0};
        skip(p);
        if (!isdigit((unsigned char)*p->at) && *p->at != '-')
            builder_fail(&p->b, "initializer of '%s' is not a number", d->name);
        read_number(p, &o);
        if (i >= d->elements)
            builder_fail(&p->b, "too many initializers for '%s'", d->name);
        memcpy(v->init + i++ * bytes, &o.value, bytes);
    } while (braces && accept(p, ','));
    if (braces)
        expect(p, '}');
}

static void declare_variable(Parser *p, Space space)
{
    Declaration d = {0};
    read_declaration(p, &d);
    PtxVariable *v = g_new0(PtxVariable, 1);
    g_ptr_array_add(p->b.module->variables, v);
    v->name = g_strdup(d.name);
    v->space = space;
    v->size = declared_bytes(&d);
    v->align = d.align;
    if (accept(p, '='))
        read_initializer(p, v, &d);
    expect(p, ';');
    v->address = p->place(p->user, v);
    Symbol *s = define(&p->b, d.name, S_VARIABLE);
    s->address = v->address;
    s->size = v->size;
}

/* --- statements --- */

static void read_guard(Parser *p, Statement *s)
{
    s->guard = -1;
    if (!accept(p, '@'))
        return;
    s->guard_not = accept(p, '!');
    char name[128];
    read_word(p, name, sizeof name, false);
    s->guard = find_register(&p->b, name);
    if (s->guard < 0)
        builder_fail(&p->b, "'%s' does not guard: no such register", name);
}

static void split_mnemonic(Parser *p, Statement *s)
{
    strcpy(s->storage, s->text);
    char *rest = s->storage;
    for (char *part; (part = strsep(&rest, "."));) {
        if (s->nparts == G_N_ELEMENTS(s->parts))
            builder_fail(&p->b, "too many modifiers: %s", s->text);
        s->parts[s->nparts++] = part;
    }
}

static void read_block(Parser *p);

/* Binds one list of a call to the function's formal parameters: both are variables in local memory.
 */
static void bind(Parser *p, Scope *scope, GPtrArray *formals, const Operand *list,
                 const char *function)
{
    const unsigned n = list ? list->nitems : 0;
    if (n != formals->len)
        builder_fail(&p->b, "call of %s with %u instead of %u parameters", function, n,
                     formals->len);
    for (unsigned i = 0; i < n; i++) {
        const Symbol *actual = list->items[i].symbol;
        if (!actual || actual->kind != S_LOCAL)
            builder_fail(&p->b, "call of %s: parameters must be .param variables", function);
        Symbol *copy = g_new(Symbol, 1);
        *copy = *actual;
        g_hash_table_insert(scope->symbols, g_strdup(formals->pdata[i]), copy);
    }
}

/* call[.uni] [(returns),] name[, (arguments)]; */
static void inline_call(Parser *p, const Statement *s)
{
    const Operand *returns = NULL, *arguments = NULL;
    unsigned i = 0;
    if (s->noperands && s->operands[0]->kind == O_LIST)
        returns = s->operands[i++];
    const Operand *callee = i < s->noperands ? s->operands[i++] : NULL;
    if (i < s->noperands && s->operands[i]->kind == O_LIST)
        arguments = s->operands[i++];
    if (!callee || i != s->noperands || !callee->symbol || callee->symbol->kind != S_FUNCTION)
        builder_fail(&p->b, "only direct calls of functions in this module are implemented");
    if (s->guard >= 0)
        builder_fail(&p->b, "a guarded call is not implemented");
    if (p->b.inline_depth >= 16)
        builder_fail(&p->b, "calls nested too deeply, or recursion");

    const Function *f = callee->symbol->function;
    Scope *outer = p->b.scope;
    Scope *scope = push_scope(p, p->module_scope);
    bind(p, scope, f->returns, returns, f->name);
    bind(p, scope, f->arguments, arguments, f->name);
    const char *return_label = p->b.return_label, *at = p->at;
    const uint32_t line = p->b.line;
    p->b.return_label = "<end of call>";
    p->at = f->body;
    p->b.line = f->line;
    p->b.inline_depth++;
    read_block(p);
    p->b.inline_depth--;
    define(&p->b, "<end of call>", S_LABEL)->address = p->b.kernel->code->len;
    p->at = at;
    p->b.line = line;
    p->b.return_label = return_label;
    p->b.scope = outer;
}

static void read_statement(Parser *p)
{
    Statement s = {0};
    read_guard(p, &s);
    s.line = p->b.line;
    read_word(p, s.text, sizeof s.text, true);
    split_mnemonic(p, &s);
    skip(p);
    while (!accept(p, ';')) {
        if (s.noperands == MAX_OPERANDS)
            builder_fail(&p->b, "too many operands: %s", s.text);
        s.operands[s.noperands] = new_operands(p, 1);
        read_operand(p, s.operands[s.noperands++]);
        skip(p);
        if (*p->at != ';')
            expect(p, ',');
    }
    const uint32_t line = p->b.line; /* errors name the statement's first line */
    if (!strcmp(s.parts[0], "call"))
        inline_call(p, &s);
    else
        decode_statement(&p->b, &s);
    p->b.line = line;
}

/* name: .branchtargets a, b; */
static void read_branch_targets(Parser *p, const char *name)
{
    GArray *table = g_array_new(FALSE, TRUE, sizeof(uint32_t));
    Symbol *s = define(&p->b, name, S_TABLE);
    s->address = p->b.kernel->tables->len;
    g_array_append_val(p->b.kernel->tables, table);
    do {
        char label[128];
        read_word(p, label, sizeof label, false);
        Fixup f = {.table = (int)s->address,
                   .entry = table->len,
                   .label = g_strdup(label),
                   .scope = p->b.scope,
                   .line = p->b.line};
        g_array_append_val(p->b.fixups, f);
        g_array_set_size(table, table->len + 1);
    } while (accept(p, ','));
    expect(p, ';');
}

static void read_body_directive(Parser *p)
{
    char word[128];
    read_word(p, word, sizeof word, true);
    if (!strcmp(word, ".reg"))
        declare_registers(p, NULL);
    else if (!strncmp(word, ".reg.", 5)) /* ".reg.b16 x" */
        declare_registers(p, word + 5);
    else if (!strcmp(word, ".shared"))
        declare_shared(p, false);
    else if (!strcmp(word, ".local") || !strcmp(word, ".param"))
        declare_local(p);
    else if (!strcmp(word, ".loc"))
        skip_line(p);
    else if (!strcmp(word, ".pragma"))
        skip_to_semicolon(p);
    else
        builder_fail(&p->b, "directive '%s' is not implemented", word);
}

/* If the next word is a label, its name and true. */
static bool read_label(Parser *p, char *name, size_t size)
{
    const char *c = p->at;
    while (is_name_char(*c))
        c++;
    const char *end = c;
    while (*c == ' ' || *c == '\t')
        c++;
    if (end == p->at || *c != ':' || c[1] == ':')
        return false;
    if ((size_t)(end - p->at) >= size)
        builder_fail(&p->b, "label too long");
    memcpy(name, p->at, (size_t)(end - p->at));
    name[end - p->at] = 0;
    p->at = c + 1;
    return true;
}

/* Statements up to the closing brace of the scope on top. */
static void read_block(Parser *p)
{
    char name[128];
    for (;;) {
        skip(p);
        if (!*p->at)
            builder_fail(&p->b, "'}' is missing");
        if (accept(p, '}'))
            return;
        if (accept(p, '{')) {
            Scope *outer = p->b.scope;
            push_scope(p, outer);
            read_block(p);
            p->b.scope = outer;
        } else if (*p->at == '.') {
            read_body_directive(p);
        } else if (read_label(p, name, sizeof name)) {
            skip(p);
            if (!strncmp(p->at, ".branchtargets", 14)) {
                p->at += 14;
                read_branch_targets(p, name);
            } else {
                define(&p->b, name, S_LABEL)->address = p->b.kernel->code->len;
            }
        } else {
            read_statement(p);
        }
    }
}

/* --- kernels and functions --- */

static void read_kernel_params(Parser *p)
{
    PtxKernel *k = p->b.kernel;
    if (!accept(p, '('))
        return;
    while (!accept(p, ')')) {
        char word[128];
        read_word(p, word, sizeof word, true);
        if (strcmp(word, ".param"))
            builder_fail(&p->b, "'.param' expected instead of '%s'", word);
        Declaration d = {0};
        read_declaration(p, &d);
        PtxParam param = {.name = g_strdup(d.name), .size = (uint32_t)declared_bytes(&d)};
        param.offset = (uint32_t)round_up(k->param_bytes, d.align);
        k->param_bytes = param.offset + param.size;
        g_array_append_val(k->params, param);
        Symbol *s = define(&p->b, d.name, S_PARAM);
        s->address = param.offset;
        s->size = param.size;
        accept(p, ',');
    }
    if (k->param_bytes > 4096)
        builder_fail(&p->b, "kernel %s: %u bytes of parameters; 4096 is the limit", k->name,
                     k->param_bytes);
}

static void read_kernel_limits(Parser *p)
{
    PtxKernel *k = p->b.kernel;
    while (skip(p), *p->at == '.') {
        char word[128];
        read_word(p, word, sizeof word, true);
        uint32_t n[3] = {1, 1, 1};
        unsigned i = 0;
        do {
            n[i++] = (uint32_t)read_integer(p);
        } while (i < 3 && accept(p, ','));
        if (!strcmp(word, ".maxntid") || !strcmp(word, ".reqntid"))
            k->max_threads = n[0] * n[1] * n[2];
        else if (strcmp(word, ".minnctapersm") && strcmp(word, ".maxnreg"))
            builder_fail(&p->b, "directive '%s' is not implemented", word);
        if (!strcmp(word, ".reqntid"))
            memcpy(k->required, n, sizeof n);
    }
}

static PtxKernel *new_kernel(PtxModule *module, const char *name)
{
    PtxKernel *k = g_new0(PtxKernel, 1);
    k->name = g_strdup(name);
    k->module = module;
    k->params = g_array_new(FALSE, FALSE, sizeof(PtxParam));
    k->code = g_array_new(FALSE, FALSE, sizeof(Insn));
    k->vregs = g_array_new(FALSE, FALSE, sizeof(Vreg));
    k->tables = g_array_new(FALSE, FALSE, sizeof(GArray *));
    k->granule = 16;
    k->global_granule = 16;
    k->dynamic_align = 16;
    g_ptr_array_add(module->kernels, k);
    return k;
}

/* Branch targets, now that all labels are known. */
static void resolve_fixups(Parser *p)
{
    Builder *b = &p->b;
    PtxKernel *k = b->kernel;
    Scope *outer = b->scope;
    const uint32_t line = b->line;
    for (guint i = 0; i < b->fixups->len; i++) {
        const Fixup *f = &g_array_index(b->fixups, Fixup, i);
        b->scope = f->scope;
        b->line = f->line;
        const Symbol *s = builder_find(b, f->label);
        if (!s || s->kind != S_LABEL)
            builder_fail(b, "label '%s' is not defined", f->label);
        if (s->address >= k->code->len)
            builder_fail(b, "label '%s' is behind the last instruction", f->label);
        if (f->table >= 0)
            g_array_index(g_array_index(k->tables, GArray *, f->table), uint32_t, f->entry) =
                (uint32_t)s->address;
        else
            g_array_index(k->code, Insn, f->insn).target = (uint32_t)s->address;
    }
    b->scope = outer;
    b->line = line;
}

/* Instructions that name dynamic shared memory carry its symbol's marker until the static size is
 * final. */
static void place_dynamic_shared(PtxKernel *k)
{
    const uint32_t start = SHARED_BASE + (uint32_t)round_up(k->static_shared, k->dynamic_align);
    for (guint i = 0; i < k->vregs->len; i++) {
        Vreg *v = &g_array_index(k->vregs, Vreg, i);
        if (v->kind == V_CONSTANT && (v->value >> 32) == 0xd1a5eed0u)
            v->value = start + (uint32_t)v->value;
    }
    k->static_shared = start - SHARED_BASE;
}

static void clear_fixups(Builder *b)
{
    for (guint i = 0; i < b->fixups->len; i++)
        g_free(g_array_index(b->fixups, Fixup, i).label);
    g_array_set_size(b->fixups, 0);
}

static void append_return(Parser *p)
{
    Statement s = {.line = p->b.line, .guard = -1, .text = "ret", .nparts = 1};
    strcpy(s.storage, "ret");
    s.parts[0] = s.storage;
    decode_statement(&p->b, &s);
}

static void read_kernel(Parser *p)
{
    Builder *b = &p->b;
    char name[128];
    read_word(p, name, sizeof name, false);
    PtxKernel *k = b->kernel = new_kernel(b->module, name);
    g_hash_table_remove_all(b->constants);
    for (int i = 0; i < SR_COUNT; i++)
        b->special[i] = -1;
    memset(b->sink, -1, sizeof b->sink);
    push_scope(p, p->module_scope);
    read_kernel_params(p);
    read_kernel_limits(p);
    expect(p, '{');
    read_block(p);
    append_return(p);
    resolve_fixups(p);
    clear_fixups(b);
    place_dynamic_shared(k);
    for (guint i = 0; i < k->code->len; i++) {
        Insn *in = &g_array_index(k->code, Insn, i);
        in->index = b->module->lines->len;
        g_array_append_val(b->module->lines, in->line);
        g_array_append_val(b->module->owners, k);
    }
    ptx_assign_slots(k);
    b->kernel = NULL;
    b->scope = p->module_scope;
}

static void read_formals(Parser *p, GPtrArray *names)
{
    while (!accept(p, ')')) {
        char word[128];
        Declaration d = {0};
        read_word(p, word, sizeof word, true);
        if (strcmp(word, ".param"))
            builder_fail(&p->b, "functions with '%s' parameters are not implemented", word);
        read_declaration(p, &d);
        g_ptr_array_add(names, g_strdup(d.name));
        accept(p, ',');
    }
}

static void skip_block(Parser *p)
{
    int depth = 1;
    while (depth) {
        skip(p);
        if (!*p->at)
            builder_fail(&p->b, "'}' is missing");
        depth += *p->at == '{';
        depth -= *p->at == '}';
        p->at++;
    }
}

static void read_function(Parser *p)
{
    Function *f = g_new0(Function, 1);
    f->returns = g_ptr_array_new_with_free_func(g_free);
    f->arguments = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(p->functions, f);
    if (accept(p, '('))
        read_formals(p, f->returns);
    char name[128];
    read_word(p, name, sizeof name, false);
    f->name = g_strdup(name);
    if (accept(p, '('))
        read_formals(p, f->arguments);
    while (skip(p), *p->at == '.') /* .noreturn and the like */
        read_word(p, name, sizeof name, true);
    if (accept(p, ';')) /* a declaration; the definition follows, or a call of it fails */
        return;
    expect(p, '{');
    f->body = p->at;
    f->line = p->b.line;
    skip_block(p);
    define(&p->b, f->name, S_FUNCTION)->function = f;
}

/* --- module --- */

static void read_module_directive(Parser *p)
{
    char word[128];
    bool is_extern = false;
    read_word(p, word, sizeof word, true);
    while (!strcmp(word, ".visible") || !strcmp(word, ".extern") || !strcmp(word, ".weak") ||
           !strcmp(word, ".common")) {
        is_extern |= !strcmp(word, ".extern");
        read_word(p, word, sizeof word, true);
    }
    if (!strcmp(word, ".version") || !strcmp(word, ".target") || !strcmp(word, ".address_size") ||
        !strcmp(word, ".file"))
        skip_line(p);
    else if (!strcmp(word, ".entry"))
        read_kernel(p);
    else if (!strcmp(word, ".func"))
        read_function(p);
    else if (!strcmp(word, ".shared"))
        declare_shared(p, is_extern);
    else if (!strcmp(word, ".global"))
        declare_variable(p, SPACE_GLOBAL);
    else if (!strcmp(word, ".const"))
        declare_variable(p, SPACE_CONST);
    else if (!strcmp(word, ".section")) {
        while (*p->at && *p->at != '{')
            p->at++;
        expect(p, '{');
        skip_block(p);
    } else
        builder_fail(&p->b, "directive '%s' is not implemented", word);
}

static void free_scope(gpointer data)
{
    Scope *s = data;
    g_hash_table_destroy(s->symbols);
    g_free(s);
}

static void free_function(gpointer data)
{
    Function *f = data;
    g_ptr_array_free(f->returns, TRUE);
    g_ptr_array_free(f->arguments, TRUE);
    g_free(f->name);
    g_free(f);
}

static void parser_clear(Parser *p)
{
    clear_fixups(&p->b);
    g_array_free(p->b.fixups, TRUE);
    g_hash_table_destroy(p->b.constants);
    g_ptr_array_free(p->scopes, TRUE);
    g_ptr_array_free(p->functions, TRUE);
    g_ptr_array_free(p->operands, TRUE);
}

PtxModule *ptx_module_parse(const char *text, uint64_t (*place_variable)(void *, PtxVariable *),
                            void *user, char **error)
{
    Parser *p = g_new0(Parser, 1);
    PtxModule *m = g_new0(PtxModule, 1);
    m->text = g_strdup(text);
    m->kernels = g_ptr_array_new();
    m->variables = g_ptr_array_new();
    m->lines = g_array_new(FALSE, FALSE, sizeof(uint32_t));
    m->owners = g_array_new(FALSE, FALSE, sizeof(PtxKernel *));
    p->at = m->text;
    p->place = place_variable;
    p->user = user;
    p->scopes = g_ptr_array_new_with_free_func(free_scope);
    p->functions = g_ptr_array_new_with_free_func(free_function);
    p->operands = g_ptr_array_new_with_free_func(g_free);
    p->b.module = m;
    p->b.line = 1;
    p->b.constants = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    p->b.fixups = g_array_new(FALSE, FALSE, sizeof(Fixup));
    p->module_scope = push_scope(p, NULL);
    const bool ok = setjmp(p->b.failed) == 0;
    if (ok)
        for (skip(p); *p->at; skip(p))
            read_module_directive(p);
    *error = p->b.error;
    parser_clear(p);
    g_free(p);
    m->hits = g_new0(uint64_t, m->lines->len + 1);
    m->patterns = g_new0(BankPattern, m->lines->len + 1);
    m->conflicts = g_new0(uint64_t, m->lines->len + 1);
    if (*error) {
        ptx_module_free(m);
        return NULL;
    }
    return m;
}

static void free_kernel(PtxKernel *k)
{
    for (guint i = 0; i < k->params->len; i++)
        g_free(g_array_index(k->params, PtxParam, i).name);
    for (guint i = 0; i < k->tables->len; i++)
        g_array_free(g_array_index(k->tables, GArray *, i), TRUE);
    g_array_free(k->params, TRUE);
    g_array_free(k->tables, TRUE);
    g_array_free(k->code, TRUE);
    g_array_free(k->vregs, TRUE);
    g_free(k->constants);
    g_free(k->undef_slot);
    g_free(k->name);
    g_free(k);
}

void ptx_module_free(PtxModule *m)
{
    for (guint i = 0; i < m->kernels->len; i++)
        free_kernel(m->kernels->pdata[i]);
    for (guint i = 0; i < m->variables->len; i++) {
        PtxVariable *v = m->variables->pdata[i];
        g_free(v->name);
        g_free(v->init);
        g_free(v);
    }
    g_ptr_array_free(m->kernels, TRUE);
    g_ptr_array_free(m->variables, TRUE);
    g_array_free(m->lines, TRUE);
    g_array_free(m->owners, TRUE);
    g_free(m->hits);
    g_free(m->conflicts);
    g_free(m->patterns);
    g_free(m->text);
    g_free(m);
}

PtxKernel *ptx_module_find(PtxModule *m, const char *name)
{
    for (guint i = 0; i < m->kernels->len; i++) {
        PtxKernel *k = m->kernels->pdata[i];
        if (!strcmp(k->name, name))
            return k;
    }
    return NULL;
}
