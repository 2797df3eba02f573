#include "data/mixture/mixture.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace terroir {
namespace {

constexpr std::int64_t kMinBlock = 128;

std::int64_t block_size_for(const std::vector<std::int64_t>& weights) {
  std::int64_t sum = 0, smallest = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t weight : weights) {
    TERROIR_CHECK(weight >= 0, "weight {}", weight);
    sum += weight;
    if (weight > 0) smallest = std::min(smallest, weight);
  }
  TERROIR_CHECK(sum > 0, "no source has a weight");
  const std::int64_t share = (sum + smallest - 1) / smallest;
  TERROIR_CHECK(share <= Mixture::kMaxBlock, "a weight of {} in {} needs blocks of {}", smallest, sum, share);
  return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(std::max(share, kMinBlock))));
}

}  // namespace

std::vector<std::int64_t> integer_weights(std::span<const double> weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  TERROIR_CHECK(std::isfinite(sum) && sum > 0, "weights sum to {}", sum);
  std::vector<std::int64_t> parts;
  for (const double weight : weights) {
    TERROIR_CHECK(weight >= 0, "weight {}", weight);
    const std::int64_t rounded = std::llround(weight / sum * 1e6);
    parts.push_back(weight > 0 ? std::max<std::int64_t>(rounded, 1) : 0);
  }
  return parts;
}

Mixture::Mixture(std::vector<MixtureStage> stages, std::uint64_t seed)
    : key_(philox_key(seed, "data/mixture")) {
  TERROIR_CHECK(!stages.empty() && stages.front().first_sample == 0, "the first stage begins at sample 0");
  for (const MixtureStage& stage : stages) {
    TERROIR_CHECK(stage.weights.size() == stages.front().weights.size(),
                  "stages of different numbers of sources");
    TERROIR_CHECK(stages_.empty() || stage.first_sample > stages_.back().first_sample, "stages out of order");
    Stage next;
    next.first_sample = stage.first_sample;
    next.block_size = block_size_for(stage.weights);
    next.prefix_weights.assign(1, 0);
    for (const std::int64_t weight : stage.weights)
      next.prefix_weights.push_back(next.prefix_weights.back() + weight);
    next.start_cursors =
        stages_.empty() ? std::vector<std::int64_t>(stage.weights.size(), 0) : counts(stage.first_sample);
    stages_.push_back(std::move(next));
  }
}

std::size_t Mixture::stage_of(std::int64_t sample) const {
  const auto after =
      std::upper_bound(stages_.begin(), stages_.end(), sample,
                       [](std::int64_t s, const Stage& stage) { return s < stage.first_sample; });
  return static_cast<std::size_t>(after - stages_.begin()) - 1;
}

std::vector<std::int64_t> Mixture::counts_after_blocks(const Stage& stage, std::int64_t blocks) const {
  std::vector<std::int64_t> counts;
  const std::int64_t samples = blocks * stage.block_size, sum = stage.prefix_weights.back();
  for (std::size_t s = 0; s + 1 < stage.prefix_weights.size(); ++s)
    counts.push_back(samples * stage.prefix_weights[s + 1] / sum - samples * stage.prefix_weights[s] / sum);
  return counts;
}

std::vector<int> Mixture::block_layout(std::size_t stage_index, std::int64_t block) const {
  const Stage& stage = stages_[stage_index];
  const std::vector<std::int64_t> before = counts_after_blocks(stage, block);
  const std::vector<std::int64_t> after = counts_after_blocks(stage, block + 1);
  std::vector<int> layout;
  for (std::size_t s = 0; s < before.size(); ++s)
    layout.insert(layout.end(), static_cast<std::size_t>(after[s] - before[s]), static_cast<int>(s));
  // Fisher-Yates; 32 random bits for at most 65536 places leave no bias worth naming.
  for (std::uint32_t i = static_cast<std::uint32_t>(layout.size()) - 1; i > 0; --i) {
    const PhiloxCounter random =
        philox4x32({i, static_cast<std::uint32_t>(stage_index), static_cast<std::uint32_t>(block),
                    static_cast<std::uint32_t>(block >> 32)},
                   key_);
    std::swap(layout[i], layout[(std::uint64_t{random[0]} * (i + 1)) >> 32]);
  }
  return layout;
}

void Mixture::draws(std::int64_t first, std::span<Draw> out) const {
  const auto count = static_cast<std::int64_t>(out.size());
  TERROIR_CHECK(first >= 0 && first + count <= kMaxSamples, "samples {} to {}", first, first + count);
  std::size_t done = 0;
  while (done < out.size()) {
    const std::int64_t sample = first + static_cast<std::int64_t>(done);
    const std::size_t stage_index = stage_of(sample);
    const Stage& stage = stages_[stage_index];
    const std::int64_t block = (sample - stage.first_sample) / stage.block_size;
    const std::int64_t block_start = stage.first_sample + block * stage.block_size;
    const std::int64_t stage_end =
        stage_index + 1 < stages_.size() ? stages_[stage_index + 1].first_sample : kMaxSamples;
    const std::int64_t end = std::min({block_start + stage.block_size, stage_end, first + count});

    const std::vector<int> layout = block_layout(stage_index, block);
    std::vector<std::int64_t> cursors = counts_after_blocks(stage, block);
    for (std::size_t s = 0; s < cursors.size(); ++s) cursors[s] += stage.start_cursors[s];
    for (std::int64_t i = block_start; i < end; ++i) {
      const int source = layout[static_cast<std::size_t>(i - block_start)];
      const std::int64_t index = cursors[static_cast<std::size_t>(source)]++;
      if (i >= sample) out[done++] = {source, index};
    }
  }
}

std::vector<std::int64_t> Mixture::counts(std::int64_t num_samples) const {
  TERROIR_CHECK(num_samples >= 0 && num_samples <= kMaxSamples, "{} samples", num_samples);
  const std::size_t stage_index = stage_of(std::max<std::int64_t>(num_samples - 1, 0));
  const Stage& stage = stages_[stage_index];
  const std::int64_t inside = num_samples - stage.first_sample;
  std::vector<std::int64_t> counts = counts_after_blocks(stage, inside / stage.block_size);
  for (std::size_t s = 0; s < counts.size(); ++s) counts[s] += stage.start_cursors[s];
  if (const auto rest = static_cast<std::size_t>(inside % stage.block_size); rest > 0) {
    const std::vector<int> layout = block_layout(stage_index, inside / stage.block_size);
    for (std::size_t i = 0; i < rest; ++i) ++counts[static_cast<std::size_t>(layout[i])];
  }
  return counts;
}

}  // namespace terroir
