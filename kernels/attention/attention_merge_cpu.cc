#include <algorithm>
#include <cmath>

#include "base/parallel_for.h"
#include "kernels/attention/blocks.h"
#include "kernels/tensor/bfloat16.h"

namespace terroir::cpu {
namespace {

constexpr std::int64_t kGrain = 64;  // tokens; below, a second thread costs more than it saves

// One token and head: o_a = (2 parts weighted by their share of the softmax's sum), lse_a = log of both sums.
template <class T>
void merge_row(std::int64_t head_size, float& lse_a, float lse_b, T* o_a, const T* o_b) {
  const float max = std::max(lse_a, lse_b);
  if (max == -INFINITY) return;  // neither part saw a key
  const float weight_a = std::exp(lse_a - max), weight_b = std::exp(lse_b - max), sum = weight_a + weight_b;
  for (std::int64_t i = 0; i < head_size; ++i)
    o_a[i] = from_float<T>((weight_a * to_float(o_a[i]) + weight_b * to_float(o_b[i])) / sum);
  lse_a = max + std::log(sum);
}

template <class T>
void merge(OpContext& ctx, const AttentionMergeArgs& args) {
  const std::int64_t num_tokens = args.o_a.size(1);
  parallel_for(
      ctx.num_threads, args.o_a.size(0) * num_tokens, kGrain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          const std::int64_t batch = i / num_tokens, token = i % num_tokens;
          for (std::int64_t head = 0; head < args.o_a.size(2); ++head) {
            const auto lse = [&](const auto& view) {
              return view.template data<float>() + batch * view.stride(0) + head * view.stride(1) + token;
            };
            merge_row(args.o_a.size(3), *lse(args.lse_a), *lse(args.lse_b),
                      attention::row<T>(args.o_a, batch, token, head),
                      attention::row<T>(args.o_b, batch, token, head));
          }
        }
      });
}

}  // namespace

void attention_merge(OpContext& ctx, const AttentionMergeArgs& args) {
  if (args.o_a.dtype() == DType::kBF16)
    merge<BFloat16>(ctx, args);
  else
    merge<float>(ctx, args);
}

}  // namespace terroir::cpu
