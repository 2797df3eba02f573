#include "base/parallel_for.h"
#include "kernels/attention/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_backward_cpu.cc"
#include <hwy/foreach_target.h>

#include "kernels/attention/tiles-inl.h"

HWY_BEFORE_NAMESPACE();
namespace terroir::HWY_NAMESPACE {
namespace {

using attention::HeadGroup;
using attention::KeyTokens;
using attention::QueryBlock;

constexpr std::int64_t kRows = kQueries * kAttentionMaxHeadSize;

struct Scratch {
  alignas(64) float q_scaled[kRows];         // [D, kQueries], times scale * log2(e)
  alignas(64) float dout_transposed[kRows];  // [D, kQueries]
  alignas(64) float q[kRows];                // [kQueries, padded D], times scale
  alignas(64) float dout[kRows];             // [kQueries, padded D]
  alignas(64) float dq[kRows];               // [kQueries, padded D], to be multiplied by scale
  alignas(64) float p[kKeys * kQueries];     // [kKeys, kQueries]: scores, then probabilities
  alignas(64) float ds[kKeys * kQueries];    // [kKeys, kQueries]: d loss / d p, then d loss / d score
  alignas(64) float keys[kKeys * kAttentionMaxHeadSize];
  alignas(64) float lse[kQueries];    // of scores in powers of two
  alignas(64) float delta[kQueries];  // <o, dout>
};

template <class T>
float inner_product(const T* a, const float* b, std::int64_t n) {
  auto sum = hn::Zero(FloatTag());
  for_each_vector(n, [&](auto at) HWY_ATTR { sum = hn::MulAdd(load(at, a), load(at, b), sum); });
  return sum_of_lanes(sum);
}

template <class T>
void pack_block(const AttentionBackwardArgs& args, const HeadGroup& group, const QueryBlock& block,
                std::int64_t width, Scratch& scratch) {
  const AttentionInputs& inputs = args.inputs;
  pack_queries<T>(inputs.q, group.batch, block, inputs.options.scale, width, scratch.q);
  transpose(scratch.q, width, attention::kLog2E, scratch.q_scaled);
  pack_queries<T>(args.dout, group.batch, block, 1, width, scratch.dout);
  transpose(scratch.dout, width, 1, scratch.dout_transposed);
  std::fill_n(scratch.dq, kQueries * width, 0.0F);
  for (std::int64_t lane = 0; lane < kQueries; ++lane) {
    const std::int64_t token = block.token[lane], head = block.head[lane];
    scratch.delta[lane] = inner_product(attention::row<T>(args.o, group.batch, token, head),
                                        scratch.dout + lane * width, args.o.size(3));
    scratch.lse[lane] =
        attention::kLog2E *
        args.lse.data<float>()[group.batch * args.lse.stride(0) + head * args.lse.stride(1) + token];
  }
}

// p: scores -> 2^(score - lse), 0 where hidden.  ds: dp -> p (dp - delta).
template <bool kMasked>
void differentiate_softmax(const QueryBlock& block, const KeyTokens& keys, std::int64_t begin,
                           std::int64_t count, Scratch& scratch) {
  const FloatTag d;
  for (std::int64_t lane = 0; lane < kQueries; lane += hn::Lanes(d)) {
    const auto lse = hn::Load(d, scratch.lse + lane), delta = hn::Load(d, scratch.delta + lane);
    for (std::int64_t key = 0; key < count; ++key) {
      float* p_at = scratch.p + key * kQueries + lane;
      float* ds_at = scratch.ds + key * kQueries + lane;
      auto p = exp2(hn::Sub(hn::Load(d, p_at), lse));
      auto ds = hn::Mul(p, hn::Sub(hn::Load(d, ds_at), delta));
      if constexpr (kMasked) {
        const auto seen = visible(block, lane, keys, begin + key);
        p = hn::IfThenElseZero(seen, p);
        ds = hn::IfThenElseZero(seen, ds);
      }
      hn::Store(p, d, p_at);
      hn::Store(ds, d, ds_at);
    }
  }
}

// Adds a block's part to dk and dv, [Tk, width] each, and writes its dq.
template <class T>
void backward_block(const AttentionBackwardArgs& args, const HeadGroup& group, std::int64_t index, float* dk,
                    float* dv) {
  const AttentionInputs& inputs = args.inputs;
  const std::int64_t head_size = inputs.q.size(3), width = attention::padded(head_size);
  const KeyTokens keys = attention::key_tokens(inputs, group.batch);
  const QueryBlock block = attention::query_block(inputs, group, index);
  Scratch scratch;
  pack_block<T>(args, group, block, width, scratch);
  attention::for_each_key_span(
      block.extent, keys, [&](std::int64_t begin, std::int64_t count, bool masked) HWY_ATTR {
        const LeftRows k = left_rows<T>(inputs.k, group, begin, count, width, scratch.keys);
        multiply<Left::kRowMajor>({count, kQueries, head_size, k.data, k.stride, scratch.q_scaled, kQueries,
                                   scratch.p, kQueries, false});
        const LeftRows v = left_rows<T>(inputs.v, group, begin, count, width, scratch.keys);
        multiply<Left::kRowMajor>({count, kQueries, head_size, v.data, v.stride, scratch.dout_transposed,
                                   kQueries, scratch.ds, kQueries, false});
        if (masked) {
          differentiate_softmax<true>(block, keys, begin, count, scratch);
        } else {
          differentiate_softmax<false>(block, keys, begin, count, scratch);
        }
        multiply<Left::kRowMajor>({count, width, kQueries, scratch.p, kQueries, scratch.dout, width,
                                   dv + begin * width, width, true});
        multiply<Left::kRowMajor>({count, width, kQueries, scratch.ds, kQueries, scratch.q, width,
                                   dk + begin * width, width, true});
        pack_keys<T>(inputs.k, group, begin, count, width, scratch.keys);
        multiply<Left::kDepthMajor>(
            {kQueries, width, count, scratch.ds, kQueries, scratch.keys, width, scratch.dq, width, true});
      });
  for (std::int64_t lane = 0; lane < block.count; ++lane) {
    T* dq = attention::row<T>(args.dq, group.batch, block.token[lane], block.head[lane]);
    copy_padded(scratch.dq + lane * width, head_size, inputs.options.scale, head_size, dq);
  }
}

// to[key] = from[key] for one key/value head; from [Tk, width].
template <class T>
void store_key_gradient(const float* from, std::int64_t width, const HeadGroup& group, const View& to) {
  for (std::int64_t key = 0; key < to.size(1); ++key, from += width) {
    T* row = attention::row<T>(to, group.batch, key, group.kv_head);
    for_each_vector(to.size(3), [&](auto at) HWY_ATTR { store(at, load(at, from), row); });
  }
}

// `sums`: [2, Tk, padded D], this thread's.
template <class T>
void group_of(const AttentionBackwardArgs& args, const HeadGroup& group, float* sums) {
  const std::int64_t width = attention::padded(args.inputs.k.size(3)), size = args.inputs.k.size(1) * width;
  std::fill_n(sums, 2 * size, 0.0F);
  for (std::int64_t index = 0; index < group.num_blocks(); ++index)
    backward_block<T>(args, group, index, sums, sums + size);
  store_key_gradient<T>(sums, width, group, args.dk);
  store_key_gradient<T>(sums + size, width, group, args.dv);
}

}  // namespace

void backward_group(const AttentionBackwardArgs& args, const HeadGroup& group, float* sums) {
  group_of<float>(args, group, sums);
}
void backward_group_bf16(const AttentionBackwardArgs& args, const HeadGroup& group, float* sums) {
  group_of<BFloat16>(args, group, sums);
}

}  // namespace terroir::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace terroir {
namespace {

HWY_EXPORT(backward_group);
HWY_EXPORT(backward_group_bf16);

// What one thread needs: dk and dv of one head.
std::int64_t workspace_floats(std::int64_t num_keys, std::int64_t head_size) {
  return 2 * num_keys * attention::padded(head_size);
}

}  // namespace

namespace cpu {

std::int64_t attention_backward_workspace_bytes(const AttentionSizes& sizes, int num_threads) {
  return workspace_floats(sizes.num_keys, sizes.head_size) * num_threads *
         static_cast<std::int64_t>(sizeof(float));
}

void attention_backward(OpContext& ctx, const AttentionBackwardArgs& args) {
  const AttentionInputs& inputs = args.inputs;
  const auto backward_group = inputs.q.dtype() == DType::kBF16 ? HWY_DYNAMIC_DISPATCH(backward_group_bf16)
                                                               : HWY_DYNAMIC_DISPATCH(backward_group);
  const std::int64_t num_groups = attention::num_head_groups(inputs);
  const std::int64_t shares = std::min<std::int64_t>(ctx.num_threads, num_groups);
  const std::int64_t floats = workspace_floats(inputs.k.size(1), inputs.k.size(3));
  float* workspace = reinterpret_cast<float*>(args.workspace.raw());
  parallel_for(ctx.num_threads, shares, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t share = first; share < last; ++share)
      for (std::int64_t group = num_groups * share / shares; group < num_groups * (share + 1) / shares;
           ++group)
        backward_group(args, attention::head_group(inputs, group), workspace + share * floats);
  });
}

}  // namespace cpu
}  // namespace terroir
#endif
