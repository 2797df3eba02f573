#include "trainer/optimizer/zero_adamw.h"

#include <cmath>
#include <numbers>

#include "kernels/adamw/adamw.h"
#include "kernels/squared_norm/squared_norm.h"

namespace terroir {
namespace {

// Elements [range) of a flat f32 buffer.
View flat(const Buffer& buffer, Range range) {
  return buffer.view(DType::kF32, {range.size()}, range.begin * 4);
}

}  // namespace

ZeroAdamW::ZeroAdamW(ParameterTable& table, const OptimizerSection& options, OpContext& ctx)
    : table_(table), options_(options), ctx_(ctx) {
  std::int64_t elements = 0;
  for (const ParamClass& c : table.classes())
    for (const ParamBucket& bucket : c.buckets) elements += c.shard(bucket).size();
  state_ = Buffer(2 * elements * 4);
  std::int64_t used = 0;
  for (const ParamClass& c : table.classes()) {
    buckets_.emplace_back();
    for (const ParamBucket& bucket : c.buckets) {
      const std::int64_t n = c.shard(bucket).size();
      buckets_.back().push_back({flat(state_, {used, used + n}), flat(state_, {used + n, used + 2 * n})});
      used += 2 * n;
    }
  }
}

ZeroAdamW::GradientNorm ZeroAdamW::gradient_norm() {
  double squared = 0;
  std::int32_t nonfinite = 0;
  for (const ParamClass& c : table_.classes()) {
    if (!c.counted) continue;
    for (const ParamBucket& bucket : c.buckets)
      squared_norm(ctx_, {.x = flat(c.grads, c.shard(bucket)),
                          .out = View(&squared, DType::kF64, {1}),
                          .nonfinite = View(&nonfinite, DType::kI32, {1})});
  }
  return {squared, nonfinite != 0};
}

void ZeroAdamW::step(const StepScalars& scalars) {
  for (std::size_t i = 0; i < table_.classes().size(); ++i) {
    const ParamClass& c = table_.classes()[i];
    for (std::size_t b = 0; b < c.buckets.size(); ++b) {
      const Range shard = c.shard(c.buckets[b]);
      adamw(ctx_, {.params = flat(c.params, shard),
                   .grads = flat(c.grads, shard),
                   .exp_avg = buckets_[i][b].exp_avg,
                   .exp_avg_sq = buckets_[i][b].exp_avg_sq,
                   .params_bf16 = {},
                   .scalars = &scalars,
                   .options = {.beta1 = options_.beta1,
                               .beta2 = options_.beta2,
                               .eps = options_.eps,
                               .weight_decay = c.weight_decay ? options_.weight_decay : 0}});
    }
  }
  gather_parameters();
}

void ZeroAdamW::gather_parameters() {
  std::vector<Work> gathers;
  // Tied embeddings last, as in the reduction: their group spans two stages.
  for (const bool tied : {false, true})
    for (const ParamClass& c : table_.classes()) {
      if ((c.scope == ReduceScope::kTied) != tied) continue;
      for (const ParamBucket& bucket : c.buckets)
        gathers.push_back(c.group->all_gather(flat(c.params, c.shard(bucket)),
                                              flat(c.params, {bucket.begin, bucket.end}), ctx_.stream,
                                              "parameters"));
    }
  for (Work& work : gathers) work.wait();
}

std::vector<ZeroAdamW::Shard> ZeroAdamW::shards() {
  std::vector<Shard> shards;
  for (std::size_t i = 0; i < table_.classes().size(); ++i) {
    const ParamClass& c = table_.classes()[i];
    for (std::size_t b = 0; b < c.buckets.size(); ++b) {
      const Range range = c.shard(c.buckets[b]);
      shards.push_back({static_cast<int>(i), range, flat(c.params, range).data<float>(),
                        buckets_[i][b].exp_avg.data<float>(), buckets_[i][b].exp_avg_sq.data<float>()});
    }
  }
  return shards;
}

double learning_rate(const ScheduleSection& schedule, double lr, std::int64_t step,
                     std::int64_t total_steps) {
  const auto now = static_cast<double>(step + 1);
  if (step < schedule.warmup_steps) return lr * now / static_cast<double>(schedule.warmup_steps);
  const double final_lr = lr * schedule.final_lr;
  if (schedule.name == "cosine") {
    const auto decay = static_cast<double>(total_steps - schedule.warmup_steps);
    const double progress = (now - static_cast<double>(schedule.warmup_steps)) / decay;
    return final_lr + (lr - final_lr) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
  }
  const std::int64_t decay_begin = total_steps - schedule.decay_steps;
  if (schedule.name == "wsd" && step >= decay_begin) {
    const double progress =
        (now - static_cast<double>(decay_begin)) / static_cast<double>(schedule.decay_steps);
    return lr + (final_lr - lr) * progress;
  }
  return lr;
}

}  // namespace terroir
