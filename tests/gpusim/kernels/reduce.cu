// SPDX-License-Identifier: LGPL-2.1-or-later
//
// Sample kernel for the stand-in driver's own test: per row, mean and root mean square of f32
// [rows][cols], reduced by shuffles inside a warp and through shared memory between warps. One
// block of 256 threads per row; any cols.

extern "C" __global__ void sample_row_stats(const float *__restrict__ in, float2 *__restrict__ out,
                                            int cols)
{
    __shared__ float2 partial[8];
    const float *row = in + (size_t)blockIdx.x * cols;
    float sum = 0.0f, squares = 0.0f;

    for (int i = threadIdx.x; i < cols; i += blockDim.x) {
        const float v = row[i];
        sum += v;
        squares = fmaf(v, v, squares);
    }
    for (int delta = 16; delta > 0; delta >>= 1) {
        sum += __shfl_xor_sync(0xffffffffu, sum, delta);
        squares += __shfl_down_sync(0xffffffffu, squares, delta);
    }
    if ((threadIdx.x & 31) == 0)
        partial[threadIdx.x >> 5] = make_float2(sum, squares);
    __syncthreads();
    if (threadIdx.x == 0) {
        float2 total = partial[0];
        for (int i = 1; i < blockDim.x >> 5; i++) {
            total.x += partial[i].x;
            total.y += partial[i].y;
        }
        out[blockIdx.x] = make_float2(total.x / cols, sqrtf(total.y / cols));
    }
}
