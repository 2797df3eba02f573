#include "kernels/rope/rope.h"

#include <cmath>
#include <numbers>

#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {
namespace {

double scale_llama3(double frequency, const RopeScaling& scaling) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const auto original = static_cast<double>(scaling.original_max_position_embeddings);
  if (wavelength > original / scaling.low_freq_factor) return frequency / scaling.factor;
  if (wavelength < original / scaling.high_freq_factor) return frequency;
  const double kept = (original / wavelength - scaling.low_freq_factor) /
                      (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1 - kept) * frequency / scaling.factor + kept * frequency;
}

void check_scaling(const RopeScaling& scaling) {
  if (scaling.type == RopeScaling::Type::kNone) return;
  TERROIR_CHECK(scaling.factor > 0 && scaling.low_freq_factor > 0 &&
                    scaling.low_freq_factor < scaling.high_freq_factor &&
                    scaling.original_max_position_embeddings > 0,
                "rope scaling llama3: factor {}, low_freq_factor {}, high_freq_factor {}, "
                "original_max_position_embeddings {}",
                scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor,
                scaling.original_max_position_embeddings);
}

}  // namespace

std::vector<double> rope_inverse_frequencies(double theta, std::int64_t head_dim,
                                             const RopeScaling& scaling) {
  TERROIR_CHECK(head_dim > 0 && head_dim % 2 == 0, "rope: head_dim {} must be even and positive", head_dim);
  TERROIR_CHECK(theta > 0, "rope: theta {} must be positive", theta);
  check_scaling(scaling);
  std::vector<double> frequencies;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    frequencies.push_back(scaling.type == RopeScaling::Type::kLlama3 ? scale_llama3(frequency, scaling)
                                                                     : frequency);
  }
  return frequencies;
}

void rope_table(const std::vector<double>& inverse_frequencies, const View& table) {
  const auto half = static_cast<std::int64_t>(inverse_frequencies.size());
  TERROIR_CHECK(table.rank() == 2 && table.size(1) == 2 * half, "rope_table: table is {}, must be f32[*, {}]",
                table.describe(), 2 * half);
  for (std::int64_t position = 0; position < table.size(0); ++position) {
    float* row = table.data<float>() + position * table.stride(0);
    for (std::int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * inverse_frequencies[static_cast<std::size_t>(i)];
      row[i] = static_cast<float>(std::cos(angle));
      row[half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

void rope_apply(OpContext& ctx, const RopeArgs& args) {
  const ArgumentCheck check("rope_apply", ctx);
  check.compute_dtype("x", args.x);
  check.tensor("x", args.x, args.x.dtype(), {kAnySize, kAnySize, kAnySize});
  check.require(args.x.size(2) % 2 == 0, "x is {}, its last dimension must be even", args.x);
  check.tensor("positions", args.positions, DType::kI32, {args.x.size(0)});
  check.tensor("table", args.table, DType::kF32, {kAnySize, args.x.size(2)});
  op_table(ctx.stream.device()).rope_apply(ctx, args);
}

}  // namespace terroir
