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

/* --- mma --- */

typedef struct {
    float a[16][16]; /* row, k */
    float b[16][8];  /* k, column */
    float c[16][8];
} MmaTile;

#ifdef __AVX2__

/* Eight 16-bit numbers as floats. */
static inline __m256 widen(const uint32_t *v, Type type)
{
    const __m128i h = _mm_loadu_si128((const __m128i *)v);
    if (type == T_F16)
        return _mm256_cvtph_ps(h);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static inline void unpack_a_register(MmaTile *m, const uint32_t *v, unsigned y, unsigned x,
                                     Type type)
{
    for (unsigned g = 0; g < 8; g++)
        _mm256_storeu_ps(&m->a[y + g][x], widen(v + 4 * g, type));
}

static void transpose_8x8(const __m256 r[8], float out[8][8])
{
    __m256 t[8], u[8];
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        u[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        u[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        u[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        u[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(out[i], _mm256_permute2f128_ps(u[i], u[4 + i], 0x20));
        _mm256_storeu_ps(out[4 + i], _mm256_permute2f128_ps(u[i], u[4 + i], 0x31));
    }
}

static inline void unpack_b_register(MmaTile *m, const uint32_t *v, unsigned k, Type type)
{
    __m256 columns[8];
    for (unsigned g = 0; g < 8; g++)
        columns[g] = widen(v + 4 * g, type);
    transpose_8x8(columns, &m->b[k]);
}

/* Rows y to y + 7: even columns are in one register, odd ones in the next. */
static void unpack_c(MmaTile *m, const float *even, const float *odd, unsigned y)
{
    for (unsigned g = 0; g < 8; g++) {
        const __m128 e = _mm_loadu_ps(even + 4 * g), o = _mm_loadu_ps(odd + 4 * g);
        _mm_storeu_ps(m->c[y + g], _mm_unpacklo_ps(e, o));
        _mm_storeu_ps(m->c[y + g] + 4, _mm_unpackhi_ps(e, o));
    }
}

static void pack_c(const MmaTile *m, float *even, float *odd, unsigned y)
{
    for (unsigned g = 0; g < 8; g++) {
        const __m128 low = _mm_loadu_ps(m->c[y + g]), high = _mm_loadu_ps(m->c[y + g] + 4);
        _mm_storeu_ps(even + 4 * g, _mm_shuffle_ps(low, high, 0x88));
        _mm_storeu_ps(odd + 4 * g, _mm_shuffle_ps(low, high, 0xdd));
    }
}

/* Products of the short formats are exact in f32, so that a fused addition rounds the same. */
static void multiply(MmaTile *m, unsigned depth)
{
    for (unsigned y = 0; y < 16; y += 8) {
        __m256 c[8];
        _Pragma("GCC unroll 8") for (unsigned i = 0; i < 8; i++) c[i] =
            _mm256_loadu_ps(m->c[y + i]);
        for (unsigned k = 0; k < depth; k++) {
            const __m256 b = _mm256_loadu_ps(m->b[k]);
            _Pragma("GCC unroll 8") for (unsigned i = 0; i < 8; i++) c[i] =
                _mm256_fmadd_ps(_mm256_broadcast_ss(&m->a[y + i][k]), b, c[i]);
        }
        _Pragma("GCC unroll 8") for (unsigned i = 0; i < 8; i++)
            _mm256_storeu_ps(m->c[y + i], c[i]);
    }
}

#else

static inline float half_value(uint32_t bits, Type type)
{
    return type == T_BF16 ? bits_to_float(bits << 16) : half_to_float((uint16_t)bits);
}

static void unpack_a_register(MmaTile *m, const uint32_t *v, unsigned y, unsigned x, Type type)
{
    for (unsigned l = 0; l < LANES; l++) {
        m->a[y + l / 4][x + l % 4 * 2] = half_value(v[l] & 0xffff, type);
        m->a[y + l / 4][x + l % 4 * 2 + 1] = half_value(v[l] >> 16, type);
    }
}

static void unpack_b_register(MmaTile *m, const uint32_t *v, unsigned k, Type type)
{
    for (unsigned l = 0; l < LANES; l++) {
        m->b[k + l % 4 * 2][l / 4] = half_value(v[l] & 0xffff, type);
        m->b[k + l % 4 * 2 + 1][l / 4] = half_value(v[l] >> 16, type);
    }
}

static void unpack_c(MmaTile *m, const float *even, const float *odd, unsigned y)
{
    for (unsigned l = 0; l < LANES; l++) {
        m->c[y + l / 4][l % 4 * 2] = even[l];
        m->c[y + l / 4][l % 4 * 2 + 1] = odd[l];
    }
}

static void pack_c(const MmaTile *m, float *even, float *odd, unsigned y)
{
    for (unsigned l = 0; l < LANES; l++) {
        even[l] = m->c[y + l / 4][l % 4 * 2];
        odd[l] = m->c[y + l / 4][l % 4 * 2 + 1];
    }
}

static void multiply(MmaTile *m, unsigned depth)
{
    for (unsigned y = 0; y < 16; y++)
        for (unsigned k = 0; k < depth; k++)
            for (unsigned x = 0; x < 8; x++)
                m->c[y][x] += m->a[y][k] * m->b[k][x];
}

#endif

static inline void unpack_halves(MmaTile *m, const Warp *w, const Insn *in, Type type)
{
    for (unsigned r = 0; r < in->vec; r++)
        unpack_a_register(m, row(w, in->src[r]), (r & 1) * 8, (r >> 1) * 8, type);
    for (unsigned r = 0; r < in->vec / 2u; r++)
        unpack_b_register(m, row(w, in->src[in->vec + r]), r * 8, type);
}

static float tf32_value(uint32_t bits)
{
    return bits_to_float(bits & 0xffffe000);
}

/* m16n8k8 of tf32: a0 = A[g][t], a1 the row + 8, a2 the column + 4, a3 both; b0 = B[t][g], b1 =
 * B[t + 4][g]. */
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

void exec_mma_f32(Warp *w, const Insn *in)
{
    MmaTile m;
    const unsigned first_c = in->vec + in->vec / 2u;
    float t[4][LANES];
    if (in->type == T_B32)
        unpack_tf32(&m, w, in);
    else if (in->type == T_BF16)
        unpack_halves(&m, w, in, T_BF16);
    else
        unpack_halves(&m, w, in, T_F16);
    for (unsigned r = 0; r < 4; r += 2)
        unpack_c(&m, row(w, in->src[first_c + r]), row(w, in->src[first_c + r + 1]), r * 4);
    multiply(&m, (unsigned)in->imm);
    for (unsigned r = 0; r < 4; r += 2)
        pack_c(&m, t[r], t[r + 1], r * 4);
    for (unsigned r = 0; r < 4; r++)
        put32(w, in->dst[r], t[r]);
    w->launch->count.mma_multiply_adds += 16 * 8 * (uint64_t)in->imm;
}

/* --- ldmatrix --- */

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
    const uint8_t *rows[LANES];
    const uint32_t lanes = in->vec == 4 ? FULL_MASK : (1u << 8 * in->vec) - 1;
    get_addresses(w, in, address);
    if (!shared_read_lanes(w, lanes, address, 16, rows))
        for (int l = 0; l < 8 * in->vec; l++)
            rows[l] = shared_read(w, l, address[l], 16);
    count_banks(w, in, lanes, address, 16);
    for (unsigned i = 0; i < in->vec; i++)
        deliver_matrix(w, in->dst[i], rows + 8 * i, in->flags & OPF_TRANS);
}

/* --- cp.async --- */

/* Source bytes of each lane; zeros where the source size is 0. */
static void locate_sources(Warp *w, const Insn *in, const uint8_t *from[LANES])
{
    static const uint8_t zeros[16];
    const uint64_t *base = row(w, in->src[1]);
    const uint32_t *size = row(w, in->src[2]);
    uint64_t address[LANES];
    uint32_t whole = 0;
    for (int l = 0; l < LANES; l++) {
        address[l] = base[l] + (uint64_t)(int64_t)(int32_t)in->target;
        from[l] = zeros;
        if (!((w->exec >> l) & 1) || !size[l])
            continue;
        if (size[l] < in->bytes)
            launch_fault(w, l, "cp.async of %u bytes padded to %u: not implemented", size[l],
                         in->bytes);
        whole |= 1u << l;
    }
    w->launch->count.global_read += in->bytes * (uint64_t)__builtin_popcount(whole);
    if (!whole || global_read_lanes(w, whole, address, in->bytes, from))
        return;
    for (int l = 0; l < LANES; l++)
        if ((whole >> l) & 1)
            from[l] = global_read(w, l, address[l], in->bytes);
}

/* The bytes are moved at once and marked as under way: whoever touches them before the wait is
 * found. */
void exec_cp_async(Warp *w, const Insn *in)
{
    uint64_t to[LANES];
    const uint8_t *from[LANES];
    get_addresses(w, in, to);
    locate_sources(w, in, from);
    guint copies = w->async->len;
    g_array_set_size(w->async, copies + LANES);
    AsyncCopy *copy = (AsyncCopy *)w->async->data;
    for (int l = 0; l < LANES; l++) {
        if (!((w->exec >> l) & 1))
            continue;
        memcpy(shared_async_write(w, l, to[l], in->bytes), from[l], in->bytes);
        copy[copies++] = (AsyncCopy){
            .offset = shared_offset(to[l]), .bytes = in->bytes, .group = w->async_group};
    }
    g_array_set_size(w->async, copies);
    count_banks(w, in, w->exec, to, in->bytes);
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
