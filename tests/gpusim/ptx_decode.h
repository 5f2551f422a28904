/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Between ptx_parse.c, which reads statements and keeps names, and ptx_decode.c, which turns one
 * statement into one Insn. Failures leave by builder_fail(), which does not return.
 */
#pragma once

#include "ptx_exec.h"

typedef enum {
    O_REG,
    O_INT,     /* value */
    O_FLOAT,   /* value: bits of an f32 */
    O_DOUBLE,  /* value: bits of an f64 */
    O_SPECIAL, /* value: SpecialRegister */
    O_SYMBOL,  /* a variable or label */
    O_ADDRESS, /* [base + offset]: items[0] is the base, value the offset */
    O_VECTOR,  /* {a, b, ...} */
    O_PAIR,    /* d|p */
    O_SINK,    /* _ */
    O_LIST,    /* (a, b): arguments of a call */
} OperandKind;

typedef struct Operand Operand;
struct Operand {
    OperandKind kind;
    bool negated; /* !p */
    int vreg;
    uint64_t value;
    struct Symbol *symbol;
    char name[128]; /* of a symbol or label */
    Operand *items;
    unsigned nitems;
};

typedef enum {
    S_REG,
    S_FAMILY,
    S_LABEL,
    S_SHARED,
    S_LOCAL,
    S_PARAM,
    S_VARIABLE,
    S_FUNCTION,
    S_TABLE
} SymbolKind;

typedef struct Symbol {
    SymbolKind kind;
    int vreg;       /* S_REG; of the first register of a S_FAMILY */
    uint32_t count; /* S_FAMILY */
    uint64_t
        address; /* offset of a variable in its space; instruction of a label; number of a table */
    uint64_t size;
    struct Function *function;
} Symbol;

typedef struct Scope {
    struct Scope *parent;
    GHashTable *symbols; /* name -> Symbol */
} Scope;

#define MAX_OPERANDS 12

typedef struct {
    uint32_t line;
    int guard; /* vreg or -1 */
    bool guard_not;
    char text[160];  /* the mnemonic as written */
    char *parts[16]; /* split at the dots; parts[0] is the opcode */
    bool used[16];   /* modifiers that the decoder has understood */
    unsigned nparts;
    Operand *operands[MAX_OPERANDS];
    unsigned noperands;
    char storage[160];
} Statement;

typedef struct {
    PtxModule *module;
    PtxKernel *kernel;
    Scope *scope;
    GHashTable *constants;    /* "slots:value" -> vreg + 1 */
    int special[SR_COUNT];    /* vreg, or -1 */
    int sink[3];              /* vregs for results nobody wants: by slots */
    GArray *fixups;           /* Fixup: branches whose labels come later */
    const char *return_label; /* inside an inlined function */
    unsigned inline_depth;
    uint32_t line;
    jmp_buf failed;
    char *error;
} Builder;

typedef struct {
    uint32_t insn; /* or table entry when table >= 0 */
    int table;
    uint32_t entry;
    char *label;
    Scope *scope;
    uint32_t line;
} Fixup;

void builder_fail(Builder *b, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));
int builder_vreg(Builder *b, VregKind kind, Type type);
int builder_constant(Builder *b, int slots, uint64_t value);
int builder_special(Builder *b, SpecialRegister which);
Symbol *builder_find(Builder *b, const char *name);
void builder_branch_to(Builder *b, uint32_t insn, const char *label);

unsigned type_bytes(Type type);
Type type_from_name(const char *name);

/* Decodes a statement and appends it to the kernel's code. */
void decode_statement(Builder *b, Statement *s);
