#include <algorithm>
#include <cmath>

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace terroir::cpu {

void merge_vocab_statistics(OpContext&, const MergeVocabStatisticsArgs& args) {
  const std::int64_t num_ranks = args.gathered.size(0), count = args.merged.size(1);
  const float* all = args.gathered.data<float>();
  float* out = args.merged.data<float>();
  for (std::int64_t i = 0; i < count; ++i) {
    float max = -INFINITY, target = -INFINITY, sum = 0;
    for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
      max = std::max(max, all[(rank * 3 + 0) * count + i]);
      target = std::max(target, all[(rank * 3 + 2) * count + i]);
    }
    for (std::int64_t rank = 0; rank < num_ranks; ++rank)
      sum += all[(rank * 3 + 1) * count + i] * std::exp(all[(rank * 3 + 0) * count + i] - max);
    out[i] = max;
    out[count + i] = sum;
    out[2 * count + i] = target;
  }
}

}  // namespace terroir::cpu
