#include "trainer/optimizer/zero_adamw.h"

#include <cmath>
#include <numbers>

#include "kernels/squared_norm/squared_norm.h"
#include "kernels/tensor/device.h"
#include "kernels/tensor/elementwise.h"

namespace terroir {
namespace {

// For stochastic rounding. Ranks that hold copies of a parameter must round it alike: the size of other
// classes, which differs between tensor ranks, has no part in it.
std::uint32_t first_element_number(std::size_t class_index, std::int64_t offset) {
  return static_cast<std::uint32_t>(class_index) * 0x9E3779B1U + static_cast<std::uint32_t>(offset);
}

}  // namespace

// visit(class index, class, bucket, state of the bucket)
template <class Visit>
void ZeroAdamW::for_each_bucket(Visit visit) const {
  for (std::size_t i = 0; i < table_.classes().size(); ++i) {
    const ParamClass& c = table_.classes()[i];
    for (std::size_t b = 0; b < c.buckets.size(); ++b) visit(i, c, c.buckets[b], buckets_[i][b]);
  }
}

ZeroAdamW::ZeroAdamW(ParameterTable& table, const OptimizerSection& options, OpContext& ctx)
    : table_(table), options_(options), ctx_(ctx) {
  const ParameterDTypes& dtypes = table.storage().dtypes;
  const bool own_master = dtypes.master != dtypes.compute;
  const std::int64_t arrays = own_master ? 3 : 2;
  std::int64_t elements = 0;
  for (const ParamClass& c : table.classes())
    for (const ParamBucket& bucket : c.buckets) elements += c.shard(bucket).size();
  norm_workspace_ = Buffer(squared_norm_workspace(device()), device());
  state_ = Buffer(arrays * elements * 4, device());
  std::int64_t used = 0;
  const auto take = [&](std::int64_t n) {
    used += n;
    return state_.view(DType::kF32, {n}, (used - n) * 4);
  };
  for (const ParamClass& c : table.classes()) {
    buckets_.emplace_back();
    for (const ParamBucket& bucket : c.buckets) {
      const Range shard = c.shard(bucket);
      const View params = table.flat_params(c, shard);
      BucketState state{.exp_avg = take(shard.size()), .exp_avg_sq = take(shard.size())};
      state.master = own_master ? take(shard.size()) : params;
      if (own_master) state.params_bf16 = params;
      buckets_.back().push_back(state);
    }
  }
  list_operands();
}

void ZeroAdamW::list_operands() {
  for_each_bucket(
      [&](std::size_t i, const ParamClass& c, const ParamBucket& bucket, const BucketState& state) {
        const Range shard = c.shard(bucket);
        const View grads = table_.flat_grads(c, shard);
        if (c.counted) counted_grads_.push_back(grads);
        updates_.push_back({.params = state.master,
                            .grads = grads,
                            .exp_avg = state.exp_avg,
                            .exp_avg_sq = state.exp_avg_sq,
                            .params_bf16 = state.params_bf16,
                            .options = {.beta1 = options_.beta1,
                                        .beta2 = options_.beta2,
                                        .eps = options_.eps,
                                        .weight_decay = c.weight_decay ? options_.weight_decay : 0},
                            .first_element = first_element_number(i, shard.begin)});
      });
}

void ZeroAdamW::add_squared_norm(View squared) {
  squared_norm(ctx_, {.x = counted_grads_,
                      .out = squared,
                      .workspace = norm_workspace_.view(DType::kU8, {norm_workspace_.bytes()})});
}

void ZeroAdamW::step(const StepScalars* scalars) {
  for (AdamWArgs& update : updates_) update.scalars = scalars;
  table_.wait_for_all();  // they may lie in buckets that are still on their way
  adamw(ctx_, updates_);
  table_.gather(ctx_.stream);
}

std::vector<ZeroAdamW::Array> ZeroAdamW::arrays(bool with_moments) {
  table_.wait_for_all();  // weights may be the parameters themselves
  std::vector<std::pair<Array, View>> arrays;
  for_each_bucket(
      [&](std::size_t i, const ParamClass& c, const ParamBucket& bucket, const BucketState& state) {
        const auto add = [&](const char* name, const View& view) {
          arrays.push_back({{static_cast<int>(i), c.shard(bucket), name, nullptr}, view});
        };
        add("weight", state.master);
        if (!with_moments) return;
        add("exp_avg", state.exp_avg);
        add("exp_avg_sq", state.exp_avg_sq);
      });
  return on_host(std::move(arrays));
}

std::vector<ZeroAdamW::Array> ZeroAdamW::gradient_arrays() {
  std::vector<std::pair<Array, View>> arrays;
  for_each_bucket([&](std::size_t i, const ParamClass& c, const ParamBucket& bucket, const BucketState&) {
    const Range shard = c.shard(bucket);
    arrays.push_back({{static_cast<int>(i), shard, "gradient", nullptr}, table_.flat_grads(c, shard)});
  });
  return on_host(std::move(arrays));
}

// Fills in `data`: the view's own memory, or a copy of it.
std::vector<ZeroAdamW::Array> ZeroAdamW::on_host(std::vector<std::pair<Array, View>> arrays) {
  host_copies_.clear();
  const auto is_bf16 = [](const View& view) { return view.dtype() == DType::kBF16; };
  const auto is_copied = [&](const View& view) { return !(view.device() == Device{}) || is_bf16(view); };
  std::int64_t elements = 0, elements_bf16 = 0;
  for (const auto& [array, view] : arrays) {
    if (is_copied(view)) elements += view.numel();
    if (is_bf16(view)) elements_bf16 += view.numel();
  }
  if (host_memory_.bytes() < elements * 4) host_memory_ = Buffer(elements * 4);
  if (host_memory_bf16_.bytes() < elements_bf16 * 2) host_memory_bf16_ = Buffer(elements_bf16 * 2);
  std::vector<Array> result;
  std::int64_t used = 0, used_bf16 = 0;
  for (auto& [array, view] : arrays) {
    View host = view;
    if (is_copied(view)) {
      HostCopy copy{.state = view, .host = host_memory_.view(DType::kF32, {view.numel()}, used * 4)};
      used += view.numel();
      host = copy.host;
      if (is_bf16(view)) {
        copy.host_bf16 = host_memory_bf16_.view(DType::kBF16, {view.numel()}, used_bf16 * 2);
        used_bf16 += view.numel();
      }
      transfer(ctx_.stream, view, copy.host_bf16 ? copy.host_bf16 : copy.host);
      host_copies_.push_back(copy);
    }
    array.data = host.data<float>();
    result.push_back(array);
  }
  synchronize(ctx_.stream);
  OpContext on_cpu;
  on_cpu.num_threads = ctx_.num_threads;
  for (const HostCopy& copy : host_copies_)
    if (copy.host_bf16) cast(on_cpu, copy.host_bf16, copy.host);
  return result;
}

void ZeroAdamW::load_arrays() {
  OpContext on_cpu;
  on_cpu.num_threads = ctx_.num_threads;
  for (const HostCopy& copy : host_copies_) {
    if (copy.host_bf16) cast(on_cpu, copy.host, copy.host_bf16);
    transfer(ctx_.stream, copy.host_bf16 ? copy.host_bf16 : copy.host, copy.state);
  }
  for_each_bucket([&](std::size_t, const ParamClass&, const ParamBucket&, const BucketState& state) {
    if (state.params_bf16) cast(ctx_, state.master, state.params_bf16);
  });
  table_.gather(ctx_.stream);
  table_.wait_for_all();
  synchronize(ctx_.stream);
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
