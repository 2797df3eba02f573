// Rotary position embedding (Su et al., "RoFormer", 2021) in the rotate-half layout of Hugging Face's Llama:
// element i of the first half of a head and element i of the second are the two coordinates of one rotated
// plane.
//
//   out[i]       = x[i] cos(a_i) - x[i + D/2] sin(a_i)
//   out[i + D/2] = x[i + D/2] cos(a_i) + x[i] sin(a_i)          a_i = position * inverse_frequency[i], i <
//   D/2
//
// D: head_dim, even. Angles, sines and cosines are computed on the host in double, once, into a table.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/tensor/op_context.h"
#include "kernels/tensor/view.h"

namespace terroir {

// How frequencies are changed so that a model reads further than it was first trained. Field names are
// Hugging Face's (config.json, "rope_scaling").
struct RopeScaling {
  enum class Type { kNone, kLlama3 };
  Type type = Type::kNone;
  // Llama 3: wavelengths above original / low_freq_factor are stretched `factor` times, those below
  // original / high_freq_factor are kept, and between the two the frequency is interpolated.
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  std::int64_t original_max_position_embeddings = 8192;
};

// D/2 angles per position: theta^(-2i/D), scaled. Throws ContractError if head_dim is odd or not positive,
// theta is not positive, or llama3's factors are not positive with low_freq_factor < high_freq_factor.
std::vector<double> rope_inverse_frequencies(double theta, std::int64_t head_dim, const RopeScaling& scaling);

// Fills table f32 [P, D], host memory: row p holds cos(p f_i) in its first half and sin(p f_i) in its second,
// i < D/2.
void rope_table(const std::vector<double>& inverse_frequencies, const View& table);

struct RopeArgs {
  View x;                // f32 or bf16 [T, heads, D], rotated in place, in f32; strides free
  ConstView positions;   // i32 [T], 0 <= position < P
  ConstView table;       // f32 [P, D], contiguous rows
  bool inverse = false;  // rotate back: the backward of a rotation is its inverse
};
// Throws ContractError, before anything is written, for wrong shapes, dtypes or devices, an odd D, and (on
// the CPU) a position outside the table. Results do not depend on the number of threads.
void rope_apply(OpContext& ctx, const RopeArgs& args);

namespace cpu {
void rope_apply(OpContext& ctx, const RopeArgs& args);
}  // namespace cpu

namespace cuda {
void rope_apply(OpContext& ctx, const RopeArgs& args);
}

}  // namespace terroir
