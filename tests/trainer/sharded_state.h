// A small model's state, cut into slices as tensor-parallel ranks with ZeRO would, in a random layout.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "trainer/checkpoint/checkpoint.h"

namespace terroir::test {

inline const std::map<std::string, std::vector<std::int64_t>>& small_tensors() {
  static const std::map<std::string, std::vector<std::int64_t>> shapes{
      {"model.embed_tokens.weight", {11, 6}},
      {"model.layers.0.mlp.down_proj.weight", {6, 9}},
      {"model.layers.0.self_attn.q_proj.bias", {8}},
      {"model.norm.weight", {6}}};
  return shapes;
}
inline const std::vector<std::string> kStates{"weight", "exp_avg", "exp_avg_sq"};

// The element's value: different for every element of every state of every tensor.
inline float value_of(const std::string& tensor, const std::string& state, std::int64_t element) {
  return static_cast<float>(element) + 1000.0f * static_cast<float>(tensor.size()) +
         0.25f * static_cast<float>(state.size());
}

// Global row-major index of element `i` of a box, by counting dimension by dimension.
inline std::int64_t global_index(const Box& box, const std::vector<std::int64_t>& shape, std::int64_t i) {
  std::int64_t index = 0, stride = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    index += (box.start[d] + i % box.shape[d]) * stride;
    i /= box.shape[d];
    stride *= shape[d];
  }
  return index;
}

// One rank's slices and the memory they point to.
class RankState {
 public:
  void add(StateSlice slice) {
    memory_.push_back(std::make_unique<std::vector<float>>(slice.end - slice.begin, -1.0f));
    slice.data = memory_.back()->data();
    slices_.push_back(std::move(slice));
  }
  const std::vector<StateSlice>& slices() const { return slices_; }

  void fill() {
    for_each([](float& value, float expected) { value = expected; });
  }
  // Elements that do not hold what fill() would have put there.
  std::int64_t num_wrong() const {
    std::int64_t wrong = 0;
    for_each([&](float& value, float expected) { wrong += value != expected; });
    return wrong;
  }

 private:
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (const StateSlice& slice : slices_)
      for (std::int64_t i = slice.begin; i < slice.end; ++i)
        visit(slice.data[i - slice.begin],
              value_of(slice.tensor, slice.state, global_index(slice.box, slice.global_shape, i)));
  }
  std::vector<StateSlice> slices_;
  std::vector<std::unique_ptr<std::vector<float>>> memory_;
};

// `parts` ascending cuts of [0, n] at random places; some parts are empty.
inline std::vector<std::int64_t> random_cuts(std::int64_t n, int parts, std::mt19937& random) {
  std::vector<std::int64_t> cuts{0, n};
  for (int i = 1; i < parts; ++i) cuts.push_back(std::uniform_int_distribution<std::int64_t>(0, n)(random));
  std::sort(cuts.begin(), cuts.end());
  return cuts;
}

// Every element of every state on exactly one of `ranks` ranks: each tensor cut into boxes along a random
// dimension, each box into ranges, each range given to a random rank.
inline std::vector<RankState> random_layout(int ranks, std::uint32_t seed,
                                            const std::vector<std::string>& states = kStates) {
  std::mt19937 random(seed);
  std::vector<RankState> layout(static_cast<std::size_t>(ranks));
  const auto pick = [&](std::size_t n) {
    return std::uniform_int_distribution<std::size_t>(0, n - 1)(random);
  };
  for (const auto& [tensor, shape] : small_tensors()) {
    const std::size_t dim = pick(shape.size());
    const std::vector<std::int64_t> cuts = random_cuts(shape[dim], ranks, random);
    for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
      Box box = whole_box(shape);
      box.start[dim] = cuts[c];
      box.shape[dim] = cuts[c + 1] - cuts[c];
      const std::vector<std::int64_t> ranges = random_cuts(box.numel(), 3, random);
      for (std::size_t r = 0; r + 1 < ranges.size(); ++r)
        for (const std::string& state : states)
          layout[pick(layout.size())].add({tensor, state, shape, box, ranges[r], ranges[r + 1], nullptr});
    }
  }
  return layout;
}

}  // namespace terroir::test
