/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * State of a running launch, seen by the files that execute instructions: ptx_exec.c (scheduling),
 * ptx_ops.c (arithmetic), ptx_mem.c (memory), ptx_tensor.c (mma, ldmatrix, cp.async), and by
 * shadow.c, which checks accesses.
 */
#pragma once

#include <string.h>

#include "ptx.h"

/* Lanes of a warp that stand at the same instruction. */
typedef struct {
    uint32_t pc, mask;
    bool waiting; /* at a FLOW_SYNC or FLOW_BARRIER instruction, for other lanes */
} Split;

typedef enum { WARP_READY, WARP_AT_BARRIER, WARP_DONE } WarpState;

/* Bytes that cp.async has under way, as one range of shared memory. */
typedef struct {
    uint32_t offset, bytes;
    uint32_t group;
} AsyncCopy;

struct Warp {
    uint8_t *base[2]; /* row 0 of the warp's own slots; end of the constants */
    uint32_t exec;    /* lanes that execute the instruction at hand */
    uint32_t *valid;  /* per slot: lanes that have a value; all ones where the compiler shows it */
    Launch *launch;
    uint32_t pc;
    uint32_t members, live; /* lanes that exist; that have not exited */
    uint32_t index;         /* in the block */
    WarpState state;
    uint32_t barrier;
    const Insn *barrier_insn;
    uint32_t nsplits, current;
    Split split[LANES];
    uint8_t *local;         /* lane after lane, local_bytes each */
    uint8_t *local_written; /* a byte for each */
    GArray *async;          /* AsyncCopy */
    uint32_t async_group;   /* number of the group being filled */
};

typedef struct {
    uint64_t warp_instructions, flops, mma_multiply_adds, global_read, global_written;
    uint64_t sectors_read, sectors_written;
    uint64_t shared_wavefronts, bank_conflicts;
} LaunchCounters;

struct Launch {
    PtxKernel *kernel;
    const LaunchParams *params;
    uint32_t nthreads, nwarps;
    uint32_t block[3];     /* index of the running block */
    uint32_t block_number; /* in the order of x, then y, then z */
    uint32_t first_stamp;  /* owner stamps of this launch: first_stamp + block_number */
    uint8_t *block_flags;  /* per block: BLOCK_FENCED, BLOCK_ATOMIC */
    Warp *warps;
    struct SharedMemory *shared;
    LaunchCounters count;
    jmp_buf abandon; /* where a finding ends the launch */
};

enum { BLOCK_FENCED = 1, BLOCK_ATOMIC = 2 };

static inline void *row(const Warp *w, int32_t slot)
{
    return w->base[(uint32_t)slot >> 31] + (ptrdiff_t)slot * SLOT_BYTES;
}

/* Stores a result in the lanes that execute. */
static inline void put32(Warp *w, int32_t slot, const void *values)
{
    uint32_t *d = row(w, slot);
    const uint32_t *v = values;
    if (w->exec == FULL_MASK) {
        memcpy(d, v, SLOT_BYTES);
        return;
    }
    for (int l = 0; l < LANES; l++)
        d[l] = (w->exec >> l) & 1 ? v[l] : d[l];
}

static inline void put64(Warp *w, int32_t slot, const void *values)
{
    uint64_t *d = row(w, slot);
    const uint64_t *v = values;
    if (w->exec == FULL_MASK) {
        memcpy(d, v, 2 * SLOT_BYTES);
        return;
    }
    for (int l = 0; l < LANES; l++)
        d[l] = (w->exec >> l) & 1 ? v[l] : d[l];
}

static inline uint32_t get_pred(const Warp *w, int32_t slot)
{
    return *(const uint32_t *)row(w, slot);
}

static inline void put_pred(Warp *w, int32_t slot, uint32_t bits)
{
    uint32_t *d = row(w, slot);
    *d = (*d & ~w->exec) | (bits & w->exec);
}

static inline float bits_to_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t float_to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

/* Half precision formats, in ptx_convert.c; rounding to nearest even. */
__attribute__((visibility("default"))) float half_to_float(uint16_t h);
__attribute__((visibility("default"))) uint16_t float_to_half(float f);
uint16_t double_to_half(double d);
uint16_t double_to_bf16(double d);
static inline float bf16_to_float(uint16_t b)
{
    return bits_to_float((uint32_t)b << 16);
}
static inline uint16_t float_to_bf16(float f)
{
    uint32_t u = float_to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000)
        return 0x7fff;
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

/* Reports a finding at the warp's instruction and ends the launch. lane < 0: the whole warp. */
void launch_fault(Warp *w, int lane, const char *format, ...)
    __attribute__((format(printf, 3, 4), noreturn));

/* --- shadow.c: every access of a kernel passes here --- */

typedef struct SharedMemory SharedMemory;

SharedMemory *shared_new(uint32_t bytes, uint32_t granule);
void shared_free(SharedMemory *s);
void shared_begin_block(SharedMemory *s);
void shared_barrier(
    SharedMemory *s); /* orders what was before it before what comes after, for the whole block */

/* Address checks: each returns host memory of `bytes` bytes, or does not return. */
const uint8_t *shared_read(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *shared_write(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *shared_atomic(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *shared_async_write(Warp *w, int lane, uint64_t address,
                            uint32_t bytes); /* pending until delivered */
void shared_async_delivered(Warp *w, uint32_t offset, uint32_t bytes);
uint32_t shared_offset(uint64_t address); /* for AsyncCopy */

const uint8_t *global_read(Warp *w, int lane, uint64_t address, uint32_t bytes);
/* ld.global.nc may see old bytes where the same launch writes. */
void global_check_read_only(Warp *w, const uint64_t address[LANES], uint32_t bytes);
uint8_t *global_write(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *global_atomic(Warp *w, int lane, uint64_t address, uint32_t bytes);
/* ld and st with an ordering: no race with atomics and with each other. */
const uint8_t *global_ordered_read(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *global_ordered_write(Warp *w, int lane, uint64_t address, uint32_t bytes);

/* The same for 32 lanes of `bytes` each in one range; NULL where any check would fail: then go lane
 * by lane. */
const uint8_t *global_read_span(Warp *w, uint64_t address, uint32_t bytes);
uint8_t *global_write_span(Warp *w, uint64_t address, uint32_t bytes);
/* The same for lanes anywhere: false where any check would fail. */
bool shared_read_lanes(Warp *w, uint32_t mask, const uint64_t address[LANES], uint32_t bytes,
                       const uint8_t *from[LANES]);
bool global_read_lanes(Warp *w, uint32_t mask, const uint64_t address[LANES], uint32_t bytes,
                       const uint8_t *from[LANES]);
const uint8_t *shared_read_span(Warp *w, uint64_t address, uint32_t bytes);
uint8_t *shared_write_span(Warp *w, uint64_t address, uint32_t bytes);

const uint8_t *param_read(Warp *w, int lane, uint64_t address, uint32_t bytes);
const uint8_t *local_read(Warp *w, int lane, uint64_t address, uint32_t bytes);
uint8_t *local_write(Warp *w, int lane, uint64_t address, uint32_t bytes);

/* --- operations with entries of their own in ptx_decode.c --- */

/* Counts what an access of these lanes to shared memory costs on 32 banks of 4 bytes. */
void count_banks(Warp *w, const Insn *in, uint32_t lanes, const uint64_t *address, uint32_t bytes);
void get_addresses(const Warp *w, const Insn *in, uint64_t address[LANES]); /* src[0] + imm */
void exec_ld(Warp *w, const Insn *in);
void exec_ld_param(Warp *w, const Insn *in);
void exec_st(Warp *w, const Insn *in);
void exec_atom(Warp *w, const Insn *in);
void exec_fence(Warp *w, const Insn *in);
void exec_nop(Warp *w, const Insn *in);
void exec_trap(Warp *w, const Insn *in);
void exec_cvt(Warp *w, const Insn *in);
void exec_setp(Warp *w, const Insn *in);
void exec_set(Warp *w, const Insn *in);
void exec_shfl(Warp *w, const Insn *in);
void exec_vote(Warp *w, const Insn *in);
void exec_match_any(Warp *w, const Insn *in);
void exec_redux(Warp *w, const Insn *in);
void exec_activemask(Warp *w, const Insn *in);
void exec_mov_pack(Warp *w, const Insn *in);
void exec_mov_unpack(Warp *w, const Insn *in);
void exec_mov32(Warp *w, const Insn *in);
void exec_mov64(Warp *w, const Insn *in);
void exec_mov_pred(Warp *w, const Insn *in);
void exec_cvta(Warp *w, const Insn *in);
void exec_ldmatrix(Warp *w, const Insn *in);
void exec_mma_f32(Warp *w, const Insn *in);
void exec_cp_async(Warp *w, const Insn *in);
void exec_cp_async_commit(Warp *w, const Insn *in);
void exec_cp_async_wait(Warp *w, const Insn *in);

/* Comparison modes of setp, in the order of the names in ptx_decode.c. */
enum {
    CMP_EQ,
    CMP_NE,
    CMP_LT,
    CMP_LE,
    CMP_GT,
    CMP_GE,
    CMP_LO,
    CMP_LS,
    CMP_HI,
    CMP_HS,
    CMP_EQU,
    CMP_NEU,
    CMP_LTU,
    CMP_LEU,
    CMP_GTU,
    CMP_GEU,
    CMP_NUM,
    CMP_NAN,
};
enum { BOOL_NONE, BOOL_AND, BOOL_OR, BOOL_XOR };
enum {
    ROUND_NONE,
    ROUND_RN,
    ROUND_RZ,
    ROUND_RM,
    ROUND_RP,
    ROUND_RNI,
    ROUND_RZI,
    ROUND_RMI,
    ROUND_RPI
};
enum { BARRIER_PLAIN, BARRIER_POPC, BARRIER_AND, BARRIER_OR };
enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };
enum { VOTE_ALL, VOTE_ANY, VOTE_UNI, VOTE_BALLOT };
enum {
    ATOM_ADD,
    ATOM_MIN,
    ATOM_MAX,
    ATOM_INC,
    ATOM_DEC,
    ATOM_AND,
    ATOM_OR,
    ATOM_XOR,
    ATOM_EXCH,
    ATOM_CAS,
};

/* --- ptx_ops.c: operations found by their full name --- */

typedef struct {
    const char *name; /* with every modifier */
    OpFn fn;
    /* Destination, then sources: w 32 bits, d 64, h 16, f float, g double, p predicate, q predicate
     * that may be negated. */
    const char *signature;
} OpEntry;

const OpEntry *op_lookup(const char *name);
