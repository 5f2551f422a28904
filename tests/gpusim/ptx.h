/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Types shared by the parts of the PTX interpreter. Parsing (ptx_parse.c) makes a PtxModule; each
 * statement is decoded once (ptx_decode.c) into an Insn whose operands are slots; ptx_regs.c gives
 * registers that are never alive together the same slot; ptx_exec.c runs warps. Nothing here knows
 * contexts, streams or the driver API.
 *
 * A slot is a row of 32 lanes of 4 bytes. 64-bit registers take two neighbouring slots, a predicate
 * keeps its 32 bits in the first word of its slot, 16-bit registers are zero-extended to 32. Slots
 * >= 0 belong to the warp; negative ones are the kernel's constants, which all warps share.
 */
#pragma once

#include <glib.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LANES 32
#define SLOT_BYTES (LANES * 4)
#define FULL_MASK 0xffffffffu
#define MAX_SRC 10
#define MAX_DST 4

/* Where shared and local memory lie among generic addresses, and where shared memory begins: not at
 * 0, so that a null pointer is never inside. */
#define SHARED_WINDOW 0x0000800000000000u
#define LOCAL_WINDOW 0x0000810000000000u
#define WINDOW_BYTES 0x0000000001000000u
#define SHARED_BASE 1024u

typedef struct Insn Insn;
typedef struct Warp Warp;
typedef struct Launch Launch;
typedef struct PtxKernel PtxKernel;
typedef struct PtxModule PtxModule;
typedef void (*OpFn)(Warp *, const Insn *);

typedef enum {
    SPACE_GENERIC,
    SPACE_GLOBAL,
    SPACE_SHARED,
    SPACE_LOCAL,
    SPACE_PARAM,
    SPACE_CONST
} Space;

typedef enum {
    T_NONE,
    T_PRED,
    T_B8,
    T_U8,
    T_S8,
    T_B16,
    T_U16,
    T_S16,
    T_F16,
    T_BF16,
    T_B32,
    T_U32,
    T_S32,
    T_F32,
    T_F16X2,
    T_BF16X2,
    T_B64,
    T_U64,
    T_S64,
    T_F64,
} Type;

/* How the scheduler treats an instruction. */
typedef enum {
    FLOW_PLAIN,
    FLOW_SYNC,    /* waits until the lanes of its mask (src[sync_src], or all 32) are here */
    FLOW_BARRIER, /* waits for the block */
    FLOW_BRANCH,
    FLOW_BRANCH_TABLE, /* src[0] indexes kernel->tables[imm] */
    FLOW_EXIT,
} Flow;

struct Insn {
    OpFn fn;
    int32_t guard; /* slot of the guarding predicate; NO_SLOT: none */
    int32_t dst[MAX_DST];
    int32_t src[MAX_SRC];
    int64_t imm;     /* address offset, or what the operation says */
    uint32_t target; /* branches */
    uint32_t line;   /* in the PTX text */
    uint32_t index;  /* in the module's coverage table */
    uint8_t ndst, nsrc;
    uint8_t guard_not;
    uint8_t flow;
    int8_t sync_src;     /* FLOW_SYNC: operand with the lane mask, or -1: all lanes */
    uint8_t checked;     /* a source may be uninitialised on some path: look at valid bits */
    uint8_t marks;       /* a destination is such a register: set valid bits */
    uint8_t space;       /* memory operations */
    uint8_t type, type2; /* type of the operation; of the source for conversions */
    uint8_t bytes;       /* memory operations: bytes of one element */
    uint8_t vec;         /* ... and elements */
    uint8_t mode;        /* comparison, rounding, shuffle mode, atomic operation */
    uint8_t flags;       /* OPF_ */
    uint8_t flops;       /* f32 or half operations per lane; a fused multiply-add is two */
};

#define NO_SLOT INT32_MIN

enum {
    OPF_FTZ = 1,        /* flush subnormal inputs and results */
    OPF_SAT = 2,        /* clamp to [0, 1], or to the integer type */
    OPF_ORDERED = 2,    /* ld, st: relaxed, acquire, release; target: fences too */
    OPF_NOT = 4,        /* last predicate source is negated */
    OPF_TRANS = 8,      /* ldmatrix */
    OPF_RETURN = 16,    /* atom: old value wanted */
    OPF_READ_ONLY = 32, /* ld.nc */
    OPF_WIDE_DST = 64,  /* destination register takes two slots */
    OPF_WIDE_SRC = 128,
};

/* Special registers; each that a kernel reads gets a slot. */
typedef enum {
    SR_TID_X,
    SR_TID_Y,
    SR_TID_Z,
    SR_NTID_X,
    SR_NTID_Y,
    SR_NTID_Z,
    SR_CTAID_X,
    SR_CTAID_Y,
    SR_CTAID_Z,
    SR_NCTAID_X,
    SR_NCTAID_Y,
    SR_NCTAID_Z,
    SR_LANEID,
    SR_WARPID,
    SR_LANEMASK_EQ,
    SR_LANEMASK_LT,
    SR_LANEMASK_LE,
    SR_LANEMASK_GT,
    SR_LANEMASK_GE,
    SR_DYNAMIC_SHARED,
    SR_COUNT,
} SpecialRegister;

/* A virtual register of the PTX text, before slots are given out. */
typedef enum { V_REGISTER, V_CONSTANT, V_SPECIAL, V_SINK } VregKind;

typedef struct {
    uint8_t kind;
    uint8_t slots; /* 1 or 2 */
    uint8_t special;
    uint8_t maybe_undef; /* alive at the kernel's entry: some path reads it before writing it */
    uint8_t type;
    int32_t slot;
    uint64_t value; /* constants */
} Vreg;

typedef struct {
    char *name;
    uint32_t offset, size;
} PtxParam;

struct PtxKernel {
    char *name;
    PtxModule *module;
    GArray *params; /* PtxParam */
    uint32_t param_bytes;
    uint32_t max_threads; /* .maxntid / .reqntid product, 0: none */
    uint32_t required[3]; /* .reqntid */
    uint32_t static_shared;
    uint32_t dynamic_align;
    uint32_t local_bytes; /* per lane */
    uint32_t granule;     /* bytes; the narrowest shared memory access */
    uint32_t global_granule;
    GArray *code;                   /* Insn; slots are Vreg numbers until ptx_assign_slots() */
    GArray *vregs;                  /* Vreg */
    GArray *tables;                 /* GArray* of uint32_t: targets of brx.idx */
    uint32_t slots;                 /* of one warp */
    int32_t special_slot[SR_COUNT]; /* NO_SLOT: not read */
    uint8_t *constants;             /* filled rows; slot -1 is the last */
    uint8_t *constants_end;
    uint8_t *undef_slot; /* per slot: starts without a value in every block */
    bool uses_fence;
};

typedef struct {
    char *name;
    Space space; /* SPACE_GLOBAL or SPACE_CONST */
    uint64_t size, align;
    uint8_t *init;    /* NULL: zero */
    uint64_t address; /* given by the loader */
} PtxVariable;

/* The lanes' addresses of the last shared memory access of an instruction, less the first one, and
 * its cost. */
typedef struct {
    uint32_t differences[LANES];
    uint32_t lanes, passes, least;
} BankPattern;

struct PtxModule {
    char *text;
    GPtrArray *kernels;   /* PtxKernel */
    GPtrArray *variables; /* PtxVariable */
    GArray *lines;        /* uint32_t: PTX line of each instruction of each kernel, for coverage */
    GArray *owners;       /* PtxKernel* of each */
    uint64_t *hits;       /* how often it was executed by some lane of a warp */
    BankPattern *patterns;
    uint64_t *conflicts; /* passes on shared memory beyond the least possible */
};

/* ptx_parse.c. place_variable gives a module variable its device address. On failure NULL, and
 * *error says line and reason; whatever is not implemented is a failure here, never a guess at run
 * time. */
PtxModule *ptx_module_parse(const char *text, uint64_t (*place_variable)(void *, PtxVariable *),
                            void *user, char **error);
void ptx_module_free(PtxModule *module);
PtxKernel *ptx_module_find(PtxModule *module, const char *name);

/* ptx_regs.c */
void ptx_assign_slots(PtxKernel *kernel);

/* ptx_exec.c */
typedef struct {
    uint32_t grid[3], block[3];
    uint32_t dynamic_shared;
    const uint8_t *params; /* kernel->param_bytes */
    const void *context;   /* whose memory the kernel may touch */
    unsigned seed;
} LaunchParams;

/* Returns false where a checker found something; the finding has been reported. */
bool ptx_launch(PtxKernel *kernel, const LaunchParams *params);

/* coverage.c */
void coverage_add_module(PtxModule *module);
void coverage_drop_module(PtxModule *module);
void coverage_write(const char *path);
/* Instructions with bank conflicts: conflict,count,module,kernel,line,text. */
void coverage_write_conflicts(FILE *f);
