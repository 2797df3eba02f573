// Sums gradients over the ranks that hold the same parameters, bucket by bucket, while backward still runs.
#pragma once

#include <vector>

#include "kernels/tensor/op_context.h"
#include "trainer/model/parameters.h"

namespace terroir {

// After finish(), each rank's shard of every bucket (ParamClass::shard) holds the sum; the rest of the
// gradient buffer is unspecified (ZeRO-1). With f32 gradients and a reduction in bf16 (ParameterDTypes) a
// bucket that several ranks share is rounded to bf16, reduced, and the sum made f32 again, all within the
// bucket's own memory.
class GradientReducer {
 public:
  GradientReducer(ParameterTable& table, OpContext& ctx);

  // A block's gradient is complete on this rank. The bucket that it completes is enqueued at once; buckets of
  // tied embeddings wait for finish(), since the other stage may be far behind. Collective over the bucket's
  // group: every member completes its buckets in the same order.
  void ready(int block);
  // Enqueues what is left and waits for all. Must follow ready() of every block.
  void finish();

 private:
  struct Bucket {
    int blocks_missing = 0;
    bool enqueued = false;
    Work work;
    View rounded_sum;  // bf16 reductions: of this rank's shard
  };
  void enqueue(int param_class, int bucket);
  View round_in_place(const ParamClass& c, const ParamBucket& bucket);

  ParameterTable& table_;
  OpContext& ctx_;
  std::vector<std::vector<Bucket>> buckets_;  // [class][bucket]
};

}  // namespace terroir
