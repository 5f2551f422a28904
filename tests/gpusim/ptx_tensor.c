/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * Tensor-core operations and their supply: mma.sync, ldmatrix, cp.async. The fragment layouts are
 * those of the PTX manual, "Matrix Fragments for mma.m16n8k16" and its neighbours; test_gpusim
 * compares them with a plain matrix product.
 *
 * With g = lane / 4 and t = lane % 4 the manual gives, for 16-bit A: register 0 holds A[g][2t,
 * 2t+1], 1 the row g + 8, 2 the columns + 8, 3 both. So 32 lanes of one register, read in order,
 * are an 8x8 tile row by row. For B, register 0 holds B[2t, 2t+1][g]: the same tile of B
 * transposed. C[g][2t], C[g][2t+1], then row g + 8.
 */
#ifdef __AVX2__
#include <immintrin.h>
#endif

#include "ptx_exec.h"

/* ---- mma
 * ----------------------------------------------------------------------------------------------------------
 */

typedef struct {
    float a[16][16]; /* row, k */
    float b[16][8];  /* k, column */
    float c[16][8];
} MmaTile;

static inline float half_value(uint32_t bits, Type type)
{
    return type == T_BF16 ? bits_to_float(bits << 16) : half_to_float((uint16_t)bits);
}

static void unpack_a(MmaTile *m, const Warp *w, const Insn *in, Type type)
{
    for (unsigned r = 0; r < in->vec; r++) {
        const uint32_t *v = row(w, in->src[r]);
        const unsigned y = r & 1 ? 8 : 0, x = r & 2 ? 8 : 0;
        for (unsigned l = 0; l < LANES; l++) {
            m->a[y + l / 4][x + l % 4 * 2] = half_value(v[l] & 0xffff, type);
            m->a[y + l / 4][x + l % 4 * 2 + 1] = half_value(v[l] >> 16, type);
        }
    }
}

static void unpack_b(MmaTile *m, const Warp *w, const Insn *in, Type type)
{
    for (unsigned r = 0; r < in->vec / 2; r++) {
        const uint32_t *v = row(w, in->src[in->vec + r]);
        for (unsigned l = 0; l < LANES; l++) {
            m->b[r * 8 + l % 4 * 2][l / 4] = half_value(v[l] & 0xffff, type);
            m->b[r * 8 + l % 4 * 2 + 1][l / 4] = half_value(v[l] >> 16, type);
        }
    }
}

static float tf32_value(uint32_t bits)
{
    return bits_to_float(bits & 0xffffe000);
}

/* m16n8k8 of tf32: a0 = A[g][t], a1 the row + 8, a2 the column + 4, a3 both; b0 = B[t][g], b1 = B[t
 * + 4][g]. */
static void unpack_tf32(MmaTile *m, const Warp *w, const Insn *in)
{
    for (unsigned r = 0; r < 4; r++) {
        const uint32_t *v = row(w, in->src[r]);
        for (unsigned l = 0; l < LANES; l++)
            m->a[(r & 1) * 8 + l / 4][(r >> 1) * 4 + l % 4] = tf32_value(v[l]);
    }
    for (unsigned r = 0; r < 2; r++) {
        const uint32_t *v = row(w, in->src[4 + r]);
        for (unsigned l = 0; l < LANES; l++)
            m->b[r * 4 + l % 4][l / 4] = tf32_value(v[l]);
    }
}

static void multiply(MmaTile *m, unsigned depth)
{
#ifdef __AVX2__
    for (unsigned y = 0; y < 16; y += 4) {
        __m256 c[4];
        for (unsigned i = 0; i < 4; i++)
            c[i] = _mm256_loadu_ps(m->c[y + i]);
        for (unsigned k = 0; k < depth; k++) {
            const __m256 b = _mm256_loadu_ps(m->b[k]);
            for (unsigned i = 0; i < 4; i++)
                c[i] = _mm256_add_ps(c[i], _mm256_mul_ps(_mm256_broadcast_ss(&m->a[y + i][k]), b));
        }
        for (unsigned i = 0; i < 4; i++)
            _mm256_storeu_ps(m->c[y + i], c[i]);
    }
#else
    for (unsigned y = 0; y < 16; y++)
        for (unsigned k = 0; k < depth; k++)
            for (unsigned x = 0; x < 8; x++)
                m->c[y][x] += m->a[y][k] * m->b[k][x];
#endif
}

void exec_mma_f32(Warp *w, const Insn *in)
{
    MmaTile m;
    const unsigned first_c = in->vec + in->vec / 2u;
    if (in->type == T_B32) {
        unpack_tf32(&m, w, in);
    } else if (in->type == T_BF16) {
        unpack_a(&m, w, in, T_BF16);
        unpack_b(&m, w, in, T_BF16);
    } else {
        unpack_a(&m, w, in, T_F16);
        unpack_b(&m, w, in, T_F16);
    }
    for (unsigned r = 0; r < 4; r++) {
        const float *v = row(w, in->src[first_c + r]);
        for (unsigned l = 0; l < LANES; l++)
            m.c[(r >> 1) * 8 + l / 4][l % 4 * 2 + (r & 1)] = v[l];
    }
    multiply(&m, (unsigned)in->imm);
    for (unsigned r = 0; r < 4; r++) {
        float t[LANES];
        for (unsigned l = 0; l < LANES; l++)
            t[l] = m.c[(r >> 1) * 8 + l / 4][l % 4 * 2 + (r & 1)];
        put32(w, in->dst[r], t);
    }
    w->launch->count.mma_multiply_adds += 16 * 8 * (uint64_t)in->imm;
}

/* ---- ldmatrix
 * ------------------------------------------------------------------------------------------------------
 */

/* Lanes 8i to 8i+7 give the addresses of the rows of matrix i, 16 bytes each. Lane l receives
 * elements 2(l % 4) and + 1 of row l / 4; transposed, row and column change places. */
static void deliver_matrix(Warp *w, int32_t dst, const uint8_t *const rows[8], bool transposed)
{
    uint32_t t[LANES];
    if (!transposed) {
        for (int r = 0; r < 8; r++)
            memcpy(&t[4 * r], rows[r], 16);
    } else {
        for (int l = 0; l < LANES; l++) {
            uint16_t low, high;
            memcpy(&low, rows[l % 4 * 2] + l / 4 * 2, 2);
            memcpy(&high, rows[l % 4 * 2 + 1] + l / 4 * 2, 2);
            t[l] = (uint32_t)high << 16 | low;
        }
    }
    put32(w, dst, t);
}

void exec_ldmatrix(Warp *w, const Insn *in)
{
    uint64_t address[LANES];
    get_addresses(w, in, address);
    for (unsigned i = 0; i < in->vec; i++) {
        const uint8_t *rows[8];
        uint32_t used[8] = {0}, most = 0;
        for (unsigned r = 0; r < 8; r++) {
            const uint64_t a = address[8 * i + r];
            rows[r] = shared_read(w, (int)(8 * i + r), a, 16);
            const uint32_t n = ++used[(a >> 4) & 7];
            most = n > most ? n : most;
        }
        w->launch->count.shared_wavefronts += most;
        w->launch->count.bank_conflicts += most - 1;
        deliver_matrix(w, in->dst[i], rows, in->flags & OPF_TRANS);
    }
}

/* ---- cp.async
 * ------------------------------------------------------------------------------------------------------
 */

/* The bytes are moved at once and marked as under way: whoever touches them before the wait is
 * found. */
void exec_cp_async(Warp *w, const Insn *in)
{
    static const uint8_t zeros[16];
    uint64_t to[LANES];
    const uint64_t *from = row(w, in->src[1]);
    const uint32_t *size = row(w, in->src[2]);
    get_addresses(w, in, to);
    for (int l = 0; l < LANES; l++) {
        if (!((w->exec >> l) & 1))
            continue;
        const uint32_t n = size[l] < in->bytes ? size[l] : in->bytes;
        const uint64_t source = from[l] + (uint64_t)(int64_t)(int32_t)in->target;
        const uint8_t *s = zeros;
        if (n == in->bytes)
            s = global_read(w, l, source, n);
        else if (n)
            launch_fault(w, l, "cp.async of %u bytes padded to %u: not implemented", n, in->bytes);
        uint8_t *d = shared_async_write(w, l, to[l], in->bytes);
        memcpy(d, s, in->bytes);
        w->launch->count.global_read += n;
        const AsyncCopy copy = {
            .offset = shared_offset(to[l]), .bytes = in->bytes, .group = w->async_group};
        g_array_append_val(w->async, copy);
    }
}

void exec_cp_async_commit(Warp *w, const Insn *in)
{
    (void)in;
    if (w->exec != w->live)
        launch_fault(w, -1, "cp.async commit by part of the warp (%08x of %08x): not implemented",
                     w->exec, w->live);
    w->async_group++;
}

/* Delivers all but the last imm groups; wait_all (imm < 0) also what no group holds yet. Groups are
 * counted per warp: kernels whose lanes commit different numbers of groups are not implemented, and
 * found by the mask. */
void exec_cp_async_wait(Warp *w, const Insn *in)
{
    if (w->exec != w->live)
        launch_fault(w, -1, "cp.async wait by part of the warp (%08x of %08x): not implemented",
                     w->exec, w->live);
    guint kept = 0;
    AsyncCopy *copies = (AsyncCopy *)w->async->data;
    for (guint i = 0; i < w->async->len; i++) {
        if (in->imm >= 0 && copies[i].group + (uint64_t)in->imm >= w->async_group) {
            copies[kept++] = copies[i];
            continue;
        }
        shared_async_delivered(w, copies[i].offset, copies[i].bytes);
    }
    g_array_set_size(w->async, kept);
}
