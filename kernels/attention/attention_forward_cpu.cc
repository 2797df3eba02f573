#include "base/parallel_for.h"
#include "kernels/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_forward_cpu.cc"
#include <hwy/foreach_target.h>

#include <cmath>

#include "kernels/attention/tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

using attention::HeadGroup;
using attention::KeyTokens;
using attention::QueryBlock;

// The running softmax of a block's queries, in powers of two: exp(s - m) is 2^(s log2(e) - max).
struct RunningSoftmax {
  alignas(64) float max[kQueries];
  alignas(64) float sum[kQueries];
  alignas(64) float correction[kQueries];  // what earlier sums are to be multiplied by, after the latest span
};

struct Scratch {
  alignas(64) float q[kAttentionMaxHeadSize * kQueries];  // [D, kQueries], scaled
  alignas(64) float scores[kKeys * kQueries];             // [kKeys, kQueries]: scores, then their powers
  alignas(64) float values[kKeys * kAttentionMaxHeadSize];
  alignas(64) float o[kQueries * kAttentionMaxHeadSize];  // [kQueries, padded D], not yet divided by the sum
  RunningSoftmax softmax;
};

// Hides from the queries what they do not see.
void mask_scores(const QueryBlock& block, const KeyTokens& keys, std::int64_t begin, std::int64_t count,
                 float* scores) {
  const FloatTag d;
  const auto hidden = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (std::int64_t key = 0; key < count; ++key)
    for (std::int64_t lane = 0; lane < kQueries; lane += hn::Lanes(d)) {
      float* at = scores + key * kQueries + lane;
      hn::Store(hn::IfThenElse(visible(block, lane, keys, begin + key), hn::Load(d, at), hidden), d, at);
    }
}

// Takes a span's scores into the softmax and turns them into 2^(score - max).
void update_softmax(std::int64_t count, float* scores, RunningSoftmax& softmax) {
  const FloatTag d;
  const auto nothing = hn::Set(d, -std::numeric_limits<float>::infinity());
  for (std::int64_t lane = 0; lane < kQueries; lane += hn::Lanes(d)) {
    const auto old_max = hn::Load(d, softmax.max + lane);
    auto max = old_max;
    for (std::int64_t key = 0; key < count; ++key)
      max = hn::Max(max, hn::Load(d, scores + key * kQueries + lane));
    const auto base = hn::IfThenZeroElse(hn::Eq(max, nothing), max);  // queries that saw nothing so far
    const auto correction = exp2(hn::Sub(old_max, base));
    auto sum = hn::Mul(correction, hn::Load(d, softmax.sum + lane));
    for (std::int64_t key = 0; key < count; ++key) {
      float* at = scores + key * kQueries + lane;
      const auto power = exp2(hn::Sub(hn::Load(d, at), base));
      sum = hn::Add(sum, power);
      hn::Store(power, d, at);
    }
    hn::Store(max, d, softmax.max + lane);
    hn::Store(sum, d, softmax.sum + lane);
    hn::Store(correction, d, softmax.correction + lane);
  }
}

// x [kQueries, width]: row i *= factors[i].
void scale_rows(const float* factors, std::int64_t width, float* x) {
  const FloatTag d;
  for (std::int64_t lane = 0; lane < kQueries; ++lane, x += width) {
    if (factors[lane] == 1) continue;
    const auto factor = hn::Set(d, factors[lane]);
    for (std::int64_t i = 0; i < width; i += hn::Lanes(d))
      hn::Store(hn::Mul(factor, hn::Load(d, x + i)), d, x + i);
  }
}

template <class T>
void write_results(const AttentionForwardArgs& args, const HeadGroup& group, const QueryBlock& block,
                   std::int64_t width, Scratch& scratch) {
  float inverse[kQueries];
  for (std::int64_t lane = 0; lane < kQueries; ++lane)
    inverse[lane] = scratch.softmax.sum[lane] == 0 ? 0 : 1 / scratch.softmax.sum[lane];
  scale_rows(inverse, width, scratch.o);
  for (std::int64_t lane = 0; lane < block.count; ++lane) {
    const std::int64_t token = block.token[lane], head = block.head[lane];
    T* row = attention::row<T>(args.o, group.batch, token, head);
    for_each_vector(args.o.size(3),
                    [&](auto at) HWY_ATTR { store(at, load(at, scratch.o + lane * width), row); });
    args.lse.data<float>()[group.batch * args.lse.stride(0) + head * args.lse.stride(1) + token] =
        (scratch.softmax.max[lane] + std::log2(scratch.softmax.sum[lane])) / attention::kLog2E;
  }
}

template <class T>
void block_of(const AttentionForwardArgs& args, const HeadGroup& group, std::int64_t index) {
  const AttentionInputs& inputs = args.inputs;
  const std::int64_t head_size = inputs.q.size(3), width = attention::padded(head_size);
  const KeyTokens keys = attention::key_tokens(inputs, group.batch);
  const QueryBlock block = attention::query_block(inputs, group, index);
  Scratch scratch;
  pack_queries<T>(inputs.q, group.batch, block, 1, width, scratch.o);  // where the results are not yet
  transpose(scratch.o, width, inputs.options.scale * attention::kLog2E, scratch.q);
  std::fill_n(scratch.softmax.max, kQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.softmax.sum, kQueries, 0.0F);
  std::fill_n(scratch.o, kQueries * width, 0.0F);
  attention::for_each_key_span(
      block.extent, keys, [&](std::int64_t begin, std::int64_t count, bool masked) HWY_ATTR {
        const LeftRows k = left_rows<T>(inputs.k, group, begin, count, width, scratch.values);
        multiply<Left::kRowMajor>({count, kQueries, head_size, k.data, k.stride, scratch.q, kQueries,
                                   scratch.scores, kQueries, false});
        if (masked) mask_scores(block, keys, begin, count, scratch.scores);
        update_softmax(count, scratch.scores, scratch.softmax);
        scale_rows(scratch.softmax.correction, width, scratch.o);
        pack_keys<T>(inputs.v, group, begin, count, width, scratch.values);
        multiply<Left::kDepthMajor>({kQueries, width, count, scratch.scores, kQueries, scratch.values, width,
                                     scratch.o, width, true});
      });
  write_results<T>(args, group, block, width, scratch);
}

}  // namespace

void forward_block(const AttentionForwardArgs& args, const HeadGroup& group, std::int64_t index) {
  block_of<float>(args, group, index);
}
void forward_block_bf16(const AttentionForwardArgs& args, const HeadGroup& group, std::int64_t index) {
  block_of<BFloat16>(args, group, index);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {
HWY_EXPORT(forward_block);
HWY_EXPORT(forward_block_bf16);
}  // namespace

namespace cpu {

void attention_forward(OpContext& ctx, const AttentionForwardArgs& args) {
  const AttentionInputs& inputs = args.inputs;
  const auto forward_block = inputs.q.dtype() == DType::kBF16 ? HWY_DYNAMIC_DISPATCH(forward_block_bf16)
                                                              : HWY_DYNAMIC_DISPATCH(forward_block);
  const std::int64_t max_queries =
      inputs.q.size(1) * std::min(inputs.options.q_heads_per_kv, inputs.q.size(2));
  const std::int64_t num_blocks = (max_queries + attention::kQueries - 1) / attention::kQueries;
  parallel_for(ctx.num_threads, attention::num_head_groups(inputs) * num_blocks, 1,
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t item = begin; item < end; ++item) {
                   const attention::HeadGroup group = attention::head_group(inputs, item / num_blocks);
                   // Early and late blocks in turn: late ones see more keys, and threads get equal shares.
                   const std::int64_t turn = item % num_blocks;
                   const std::int64_t index = turn % 2 == 0 ? turn / 2 : num_blocks - 1 - turn / 2;
                   if (index < group.num_blocks()) forward_block(args, group, index);
                 }
               });
}

}  // namespace cpu
}  // namespace terroir
#endif
