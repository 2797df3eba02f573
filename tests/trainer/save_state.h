// Saving a sharded state from one thread per rank.
#pragma once

#include <filesystem>
#include <vector>

#include "parallel/world.h"
#include "tests/trainer/sharded_state.h"

namespace terroir::test {

inline CheckpointMeta meta_at(std::int64_t step) {
  CheckpointMeta meta;
  meta.step = step;
  return meta;
}

inline std::vector<RankState> filled(std::vector<RankState> layout) {
  for (RankState& rank : layout) rank.fill();
  return layout;
}

inline void save(const std::filesystem::path& checkpoints_dir, const CheckpointMeta& meta,
                 const std::vector<RankState>& layout, const std::filesystem::path& tokenizer = {},
                 const SaveProbe& probe = {}) {
  std::vector<int> ranks;
  for (int rank = 0; rank < static_cast<int>(layout.size()); ++rank) ranks.push_back(rank);
  run_threads(static_cast<int>(layout.size()), {}, [&](World& world) {
    const auto control = world.group(ranks, Queue::kControl, "control");
    save_checkpoint(checkpoints_dir, meta, layout[static_cast<std::size_t>(world.rank())].slices(), tokenizer,
                    *control, probe);
  });
}

}  // namespace terroir::test
