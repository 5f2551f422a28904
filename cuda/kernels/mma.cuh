/* SPDX-License-Identifier: LGPL-2.1-or-later
 *
 * mma.cuh - tensor core and asynchronous copy instructions (sm_80 and later) in small wrappers. The
 * only place of inline PTX beside the conversions of common.cuh.
 */
#ifndef DCAE_MMA_CUH
#define DCAE_MMA_CUH

#include "common.cuh"

/* Byte offset of 16-byte chunk `chunk` of row `row` in a tile of 64-byte rows. The eight rows that
 * one phase of ldmatrix reads lie on different banks. */
INLINE unsigned swizzle(unsigned row, unsigned chunk)
{
    return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
}

/* Copies `bytes` (0 or 16) bytes into 16 of shared memory; the rest become 0. */
INLINE void copy_async16(unsigned to, const void *from, unsigned bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

INLINE void copy_async_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits until at most `pending` of the groups that were committed last are still under way. */
#define copy_async_wait(pending) asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory")

/* Four 8 × 8 matrices; lane 8·i + j gives the address of row j of matrix i. */
INLINE void load_matrix4(unsigned r[4], unsigned at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* c[16][8] += a[16][16] · b[16][8] in f32. */
INLINE void multiply_add(float c[4], const unsigned a[4], unsigned b0, unsigned b1)
{
#ifdef DCAE_BF16
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, "
                 "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

#endif
