// Chooses the next token from logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace terroir {

struct SamplingOptions {
  double temperature = 1;  // 0: the most likely token (the lowest id among equals)
  double top_p = 1;        // sample from the most likely tokens that together have this probability
  std::uint64_t seed = 0;
};

// Draw number i is a pure function of (seed, i) and the logits.
class Sampler {
 public:
  explicit Sampler(SamplingOptions options) : options_(options) {}
  std::int32_t next(std::span<const float> logits);

 private:
  SamplingOptions options_;
  std::uint64_t draws_ = 0;
  std::vector<std::pair<double, std::int32_t>> weights_;
};

}  // namespace terroir
