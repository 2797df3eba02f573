#include "trainer/step/engine.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace terroir {
namespace {

StageOptions stage_options(const Config& config, const Mesh& mesh, const Schedule& schedule,
                           int num_sources) {
  const double targets = static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  return {.micro_batch_size = config.train.micro_batch_size,
          .sequence_length = config.data.sequence_length,
          .num_slots = schedule.num_slots[static_cast<std::size_t>(mesh.coordinate(Axis::kPipeline))],
          .recompute = config.train.recompute == "full",
          .sequence_parallel = config.parallel.sequence_parallel,
          .bucket_bytes = static_cast<std::int64_t>(config.parallel.bucket_mib * 1048576),
          .loss_scale = static_cast<float>(1 / targets),
          .num_sources = num_sources};
}

StageLayout layout_of(const Config& config, const Mesh& mesh) {
  return stage_layout(config.model, mesh.size(Axis::kPipeline), mesh.coordinate(Axis::kPipeline),
                      config.parallel.layers_per_stage);
}

int micro_batches(const Config& config, const Mesh& mesh) {
  const std::int64_t per_step = mesh.size(Axis::kData) * config.train.micro_batch_size;
  if (config.train.global_batch_size % per_step != 0)
    throw UserError(
        ExitCode::kUsage, Place{.key = "train.global_batch_size"},
        fmt::format("{} is not a multiple of {} data ranks x train.micro_batch_size {}",
                    config.train.global_batch_size, mesh.size(Axis::kData), config.train.micro_batch_size));
  return static_cast<int>(config.train.global_batch_size / per_step);
}

// Every stage passes micro-batches on; two slots let a send overlap the next forward.
Schedule forward_only_schedule(int num_ranks, int num_micro_batches, int max_slots) {
  Schedule schedule{.name = "forward only", .num_ranks = num_ranks, .num_micro_batches = num_micro_batches};
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<Action> actions;
    const int slots = std::min(2, max_slots);
    for (int m = 0; m < num_micro_batches; ++m) {
      const auto act = [&](ActionKind kind) {
        actions.push_back({.kind = kind, .micro_batch = m, .slot = m % slots});
      };
      if (rank > 0) act(ActionKind::kRecvActivation);
      act(ActionKind::kForward);
      if (rank < num_ranks - 1) act(ActionKind::kSendActivation);
    }
    schedule.actions.push_back(std::move(actions));
    schedule.num_slots.push_back(slots);
  }
  return schedule;
}

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

double StepResult::loss() const { return total(sums.nll) / total(sums.tokens); }

Engine::Engine(const Config& config, Mesh& mesh, OpContext& ctx, std::span<const std::uint16_t> token_bytes,
               int num_sources)
    : config_(config),
      mesh_(mesh),
      ctx_(ctx),
      num_sources_(num_sources),
      num_micro_batches_(micro_batches(config, mesh)),
      schedule_(make_schedule(config.parallel.schedule, mesh.size(Axis::kPipeline), num_micro_batches_)) {
  model_ = std::make_unique<StageModel>(config.model, layout_of(config, mesh),
                                        stage_options(config, mesh, schedule_, num_sources), mesh, ctx,
                                        token_bytes);
  optimizer_ = std::make_unique<ZeroAdamW>(model_->parameters().table, config.optimizer, ctx);
}

StageMemory Engine::plan(const Config& config, Mesh& mesh, int num_threads) {
  const Schedule schedule =
      make_schedule(config.parallel.schedule, mesh.size(Axis::kPipeline), micro_batches(config, mesh));
  return StageModel::plan(config.model, layout_of(config, mesh), stage_options(config, mesh, schedule, 1),
                          mesh, num_threads);
}

void Engine::initialize() {
  initialize_parameters(model_->parameters().table, config_.run.seed, config_.model.initializer_range,
                        ctx_.num_threads);
}

double Engine::loss_scale() const {
  return 1.0 / static_cast<double>(config_.train.global_batch_size * config_.data.sequence_length);
}

StepResult Engine::train_step(std::int64_t step, const std::function<const SampleBatch&()>& next_batch,
                              bool signalled, const std::function<void()>& before_update) {
  GradientReducer reducer(model_->parameters().table, ctx_.stream);
  model_->begin(true, num_micro_batches_, next_batch, [&](int block) { reducer.ready(block); });
  model_->on_reduce_grads = [&] { reducer.finish(); };
  mesh_.world().set_position(step, "forward and backward");
  run_schedule(schedule_, *model_, mesh_.group({Axis::kPipeline}, Queue::kPipelineForward),
               mesh_.group({Axis::kPipeline}, Queue::kPipelineBackward), ctx_.stream);
  mesh_.world().set_position(step, "update");
  if (before_update) before_update();

  const ZeroAdamW::GradientNorm norm = optimizer_->gradient_norm();
  double extra[] = {norm.squared, norm.nonfinite ? 1.0 : 0.0, signalled ? 1.0 : 0.0};
  StepResult result{.sums = all_reduce(model_->loss_sums(), extra)};
  result.signalled = extra[2] > 0;
  const double targets = total(result.sums.tokens);
  // Backward ran with a constant scale; the mean is over the targets there really were.
  const double to_mean = targets > 0 ? 1 / (targets * loss_scale()) : 0;
  result.grad_norm = std::sqrt(extra[0]) * to_mean;
  result.learning_rate = learning_rate(config_.schedule, config_.optimizer.lr, step, config_.train.steps);
  result.nonfinite = extra[1] > 0 || !std::isfinite(extra[0]) || !std::isfinite(total(result.sums.nll));

  const double clip = config_.optimizer.grad_clip;
  const double clip_factor = clip > 0 && result.grad_norm > clip ? clip / result.grad_norm : 1;
  const auto t = static_cast<double>(step + 1);
  optimizer_->step({.learning_rate = static_cast<float>(result.learning_rate),
                    .bias_correction1 = static_cast<float>(1 - std::pow(config_.optimizer.beta1, t)),
                    .bias_correction2 = static_cast<float>(1 - std::pow(config_.optimizer.beta2, t)),
                    .grad_scale = static_cast<float>(to_mean * clip_factor),
                    .skip = result.nonfinite || targets == 0 ? 1 : 0});
  return result;
}

LossSums Engine::evaluate(int num_micro_batches, const std::function<const SampleBatch&()>& next_batch) {
  const int num_stages = mesh_.size(Axis::kPipeline);
  const int max_slots = *std::min_element(schedule_.num_slots.begin(), schedule_.num_slots.end());
  model_->begin(false, num_micro_batches, next_batch, {});
  run_schedule(forward_only_schedule(num_stages, num_micro_batches, max_slots), *model_,
               mesh_.group({Axis::kPipeline}, Queue::kPipelineForward),
               mesh_.group({Axis::kPipeline}, Queue::kPipelineBackward), ctx_.stream);
  return all_reduce(model_->loss_sums(), {});
}

// One f64 all-reduce of everything the host wants to know. The last stage's first tensor rank speaks for the
// losses.
LossSums Engine::all_reduce(const LossSums& mine, std::span<double> extra) {
  const auto n = static_cast<std::size_t>(num_sources_);
  std::vector<double> values(3 * n + extra.size(), 0);
  if (model_->parameters().layout.has_head && mesh_.coordinate(Axis::kTensor) == 0) {
    std::copy(mine.nll.begin(), mine.nll.end(), values.begin());
    std::copy(mine.tokens.begin(), mine.tokens.end(), values.begin() + static_cast<std::ptrdiff_t>(n));
    std::copy(mine.bytes.begin(), mine.bytes.end(), values.begin() + static_cast<std::ptrdiff_t>(2 * n));
  }
  std::copy(extra.begin(), extra.end(), values.end() - static_cast<std::ptrdiff_t>(extra.size()));
  mesh_.control()
      .all_reduce(View(values.data(), DType::kF64, {static_cast<std::int64_t>(values.size())}),
                  ReduceOp::kSum, ctx_.stream, "loss and gradient norm")
      .wait();
  const auto part = [&](std::size_t i) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(i * n);
    return std::vector<double>(begin, begin + static_cast<std::ptrdiff_t>(n));
  };
  std::copy_n(values.end() - static_cast<std::ptrdiff_t>(extra.size()), extra.size(), extra.begin());
  return {.nll = part(0), .tokens = part(1), .bytes = part(2)};
}

// emit(piece, range in the piece's row-major order, shard, offset of the range in the shard)
template <class Emit>
void Engine::for_each_owned_piece(bool owned_only, Emit emit) {
  const ParameterTable& table = model_->parameters().table;
  for (const ZeroAdamW::Shard& shard : optimizer_->shards()) {
    if (owned_only && !table.classes()[static_cast<std::size_t>(shard.param_class)].counted) continue;
    for (const ParamBlock& block : table.blocks()) {
      if (block.param_class != shard.param_class) continue;
      for (const ParamPiece& piece : block.pieces) {
        const std::int64_t begin = std::max(piece.offset, shard.range.begin);
        const std::int64_t end = std::min(piece.offset + piece.box.numel(), shard.range.end);
        if (begin < end)
          emit(piece, Range{begin - piece.offset, end - piece.offset}, shard, begin - shard.range.begin);
      }
    }
  }
}

std::vector<StateSlice> Engine::slices(bool owned_only, bool with_optimizer_state) {
  std::vector<StateSlice> slices;
  for_each_owned_piece(owned_only, [&](const ParamPiece& piece, Range range, const ZeroAdamW::Shard& shard,
                                       std::int64_t offset) {
    const auto add = [&](const char* state, float* data) {
      slices.push_back(
          {piece.name, state, piece.global_shape, piece.box, range.begin, range.end, data + offset});
    };
    add("weight", shard.weight);
    if (!with_optimizer_state) return;
    add("exp_avg", shard.exp_avg);
    add("exp_avg_sq", shard.exp_avg_sq);
  });
  return slices;
}

std::vector<StateSlice> Engine::gradient_slices() {
  std::vector<StateSlice> slices;
  ParameterTable& table = model_->parameters().table;
  for_each_owned_piece(
      true, [&](const ParamPiece& piece, Range range, const ZeroAdamW::Shard& shard, std::int64_t) {
        auto* grads =
            static_cast<float*>(table.classes()[static_cast<std::size_t>(shard.param_class)].grads.raw());
        slices.push_back({piece.name, "gradient", piece.global_shape, piece.box, range.begin, range.end,
                          grads + piece.offset + range.begin});
      });
  return slices;
}

}  // namespace terroir
