#include "trainer/eval/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/philox.h"

namespace terroir {

std::int32_t Sampler::next(std::span<const float> logits) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options_.temperature == 0) return static_cast<std::int32_t>(best - logits.begin());

  weights_.clear();
  double sum = 0;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    const double weight = std::exp((static_cast<double>(logits[id]) - *best) / options_.temperature);
    weights_.emplace_back(weight, static_cast<std::int32_t>(id));
    sum += weight;
  }
  if (options_.top_p < 1) {
    std::stable_sort(weights_.begin(), weights_.end(), [](auto& a, auto& b) { return a.first > b.first; });
    double kept = 0;
    std::size_t count = 0;
    while (count < weights_.size() && kept < options_.top_p * sum) kept += weights_[count++].first;
    weights_.resize(std::max<std::size_t>(count, 1));
    sum = kept;
  }
  double left = philox_uniform(philox_key(options_.seed, "generate"), draws_++) * sum;
  for (const auto& [weight, id] : weights_) {
    left -= weight;
    if (left < 0) return id;
  }
  return weights_.back().second;
}

}  // namespace terroir
