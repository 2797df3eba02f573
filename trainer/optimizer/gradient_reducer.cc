#include "trainer/optimizer/gradient_reducer.h"

namespace terroir {

GradientReducer::GradientReducer(ParameterTable& table, const Stream& stream)
    : table_(table), stream_(stream) {
  for (const ParamClass& c : table.classes()) {
    buckets_.emplace_back();
    for (const ParamBucket& bucket : c.buckets)
      buckets_.back().push_back({.blocks_missing = bucket.num_blocks});
  }
}

void GradientReducer::ready(int block) {
  const ParamBlock& b = table_.blocks()[static_cast<std::size_t>(block)];
  Bucket& bucket = buckets_[static_cast<std::size_t>(b.param_class)][static_cast<std::size_t>(b.bucket)];
  TERROIR_CHECK(bucket.blocks_missing > 0, "gradient of {} is complete twice", b.pieces[0].name);
  --bucket.blocks_missing;
  const bool tied = table_.classes()[static_cast<std::size_t>(b.param_class)].scope == ReduceScope::kTied;
  if (bucket.blocks_missing == 0 && !tied) enqueue(b.param_class, b.bucket);
}

void GradientReducer::enqueue(int param_class, int bucket) {
  const ParamClass& c = table_.classes()[static_cast<std::size_t>(param_class)];
  const ParamBucket& range = c.buckets[static_cast<std::size_t>(bucket)];
  const Range shard = c.shard(range);
  Bucket& state = buckets_[static_cast<std::size_t>(param_class)][static_cast<std::size_t>(bucket)];
  state.enqueued = true;
  state.work = c.group->reduce_scatter(table_.flat_grads(c, {range.begin, range.end}),
                                       table_.flat_grads(c, shard), stream_, range.gradients);
}

void GradientReducer::finish() {
  for (std::size_t c = 0; c < buckets_.size(); ++c)
    for (std::size_t b = 0; b < buckets_[c].size(); ++b) {
      TERROIR_CHECK(buckets_[c][b].blocks_missing == 0, "a gradient bucket is reduced before it is complete");
      if (!buckets_[c][b].enqueued) enqueue(static_cast<int>(c), static_cast<int>(b));
    }
  for (auto& of_class : buckets_)
    for (Bucket& bucket : of_class) bucket.work.wait();
}

}  // namespace terroir
