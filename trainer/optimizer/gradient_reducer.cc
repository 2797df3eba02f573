#include "trainer/optimizer/gradient_reducer.h"

#include "kernels/tensor/elementwise.h"

namespace terroir {

GradientReducer::GradientReducer(ParameterTable& table, OpContext& ctx) : table_(table), ctx_(ctx) {
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
  if (!table_.rounds_for_reduction(c)) {
    state.work = c.group->reduce_scatter(table_.flat_grads(c, {range.begin, range.end}),
                                         table_.flat_grads(c, shard), ctx_.stream, range.gradients);
    return;
  }
  // The sum must not lie where its f32 values will: for all ranks but the first its own place does not.
  const View rounded = round_in_place(c, range);
  const std::int64_t at = c.group->rank() == 0 ? rounded.size(0) : shard.begin - range.begin;
  state.rounded_sum = table_.grads_as_bf16(c, range).slice(0, at, at + shard.size());
  state.work = c.group->reduce_scatter(rounded, state.rounded_sum, ctx_.stream, range.gradients);
}

// The bucket's n gradients as bf16 [n], in the first half of its memory: their second half goes to its place
// when the first, which was there, is in the scratch.
View GradientReducer::round_in_place(const ParamClass& c, const ParamBucket& bucket) {
  const View exact = table_.flat_grads(c, {bucket.begin, bucket.end});
  const std::int64_t n = exact.size(0), half = n / 2;  // n is even: a multiple of 64
  const View rounded = table_.grads_as_bf16(c, bucket).slice(0, 0, n);
  const View scratch = table_.reduction_scratch().slice(0, 0, half);
  cast(ctx_, exact.slice(0, 0, half), scratch);
  cast(ctx_, exact.slice(0, half, n), rounded.slice(0, half, n));
  copy(ctx_, scratch, rounded.slice(0, 0, half));
  return rounded;
}

void GradientReducer::finish() {
  for (std::size_t c = 0; c < buckets_.size(); ++c)
    for (std::size_t b = 0; b < buckets_[c].size(); ++b) {
      TERROIR_CHECK(buckets_[c][b].blocks_missing == 0, "a gradient bucket is reduced before it is complete");
      if (!buckets_[c][b].enqueued) enqueue(static_cast<int>(c), static_cast<int>(b));
    }
  for (std::size_t c = 0; c < buckets_.size(); ++c)
    for (std::size_t b = 0; b < buckets_[c].size(); ++b) {
      Bucket& bucket = buckets_[c][b];
      bucket.work.wait();
      const ParamClass& param_class = table_.classes()[c];
      if (bucket.rounded_sum)
        cast(ctx_, bucket.rounded_sum,
             table_.flat_grads(param_class, param_class.shard(param_class.buckets[b])));
    }
}

}  // namespace terroir
