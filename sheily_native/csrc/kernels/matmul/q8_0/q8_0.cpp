// Repacks Q8_0 weights from the file's layout to that of q8_0.h.
#include "kernels/matmul/q8_0/q8_0.h"

#include <cstring>

namespace sheily::q8_0 {
namespace {

constexpr int64_t FILE_BLOCK_BYTES = 2 + BLOCK; // a half-precision scale and the quants

void repack(const uint8_t *rows, uint8_t *out, int64_t n_blocks, matmul::Groups groups,
            const matmul::Kernel &kernel) {
    const int64_t row_bytes = n_blocks * FILE_BLOCK_BYTES;
    // Adding 128 modulo 256 is flipping the highest bit.
    const uint32_t flip = kernel.bias * 0x01010101u;
    for (int64_t g = groups.first; g < groups.last; g++) {
        const uint8_t *group = rows + g * GROUP * row_bytes;
        uint8_t *scales = out + g * group_bytes(n_blocks);
        uint8_t *quants = scales + n_blocks * SCALE_BYTES;
        for (int64_t b = 0; b < n_blocks; b++) {
            for (int64_t r = 0; r < GROUP; r++) {
                const uint8_t *block = group + r * row_bytes + b * FILE_BLOCK_BYTES;
                std::memcpy(scales + 2 * r, block, 2);
                for (int64_t step = 0; step < BLOCK / 4; step++) {
                    uint32_t four;
                    std::memcpy(&four, block + 2 + 4 * step, 4);
                    four ^= flip;
                    std::memcpy(quants + step * 4 * GROUP + 4 * r, &four, 4);
                }
            }
            scales += SCALE_BYTES;
            quants += QUANT_BYTES;
        }
    }
}

} // namespace

const matmul::Format FORMAT = {BLOCK, GROUP, sizeof(Activation), repack};

} // namespace sheily::q8_0
