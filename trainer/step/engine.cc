#include "trainer/step/engine.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <numeric>

#include "base/philox.h"
#include "kernels/step_scalars/step_scalars.h"
#include "kernels/tensor/device.h"

namespace terroir {
namespace {

DType dtype_of(const std::string& name) { return name == "bf16" ? DType::kBF16 : DType::kF32; }

StageOptions stage_options(const Config& config, const Mesh& mesh, const Schedule& schedule,
                           int num_sources) {
  const double targets = static_cast<double>(config.train.global_batch_size * config.data.sequence_length);
  return {.micro_batch_size = config.train.micro_batch_size,
          .sequence_length = config.data.sequence_length,
          .num_slots = schedule.num_slots[static_cast<std::size_t>(mesh.coordinate(Axis::kPipeline))],
          .num_micro_batches = schedule.num_micro_batches,
          .recompute = config.train.recompute == "full",
          .sequence_parallel = config.parallel.sequence_parallel,
          .bucket_bytes = static_cast<std::int64_t>(config.parallel.bucket_mib * 1048576),
          .dtypes = {.compute = compute_dtype(config),
                     .master = dtype_of(config.precision.master),
                     .gradients = dtype_of(config.precision.gradients),
                     .reduction = dtype_of(config.precision.reduction)},
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

// Various tokens, so that no product is of equal rows; each window one document.
SampleBatch made_up_batch(const Config& config) {
  const std::int64_t count = config.train.micro_batch_size, length = config.data.sequence_length;
  SampleBatch batch{.count = count, .sequence_length = length};
  for (std::int64_t i = 0; i < count * length; ++i) {
    batch.tokens.push_back(static_cast<std::int32_t>(i % config.model.vocab_size));
    batch.targets.push_back(static_cast<std::int32_t>((i + 1) % config.model.vocab_size));
    batch.positions.push_back(static_cast<std::int32_t>(i % length));
  }
  batch.documents.assign(batch.tokens.size(), 0);
  batch.source.assign(static_cast<std::size_t>(count), 0);
  return batch;
}

// What ops may choose.
void configure(OpContext& ctx, const Config& config) {
  using Kernels = AttentionPolicy::Kernels;
  ctx.deterministic = config.deterministic;
  ctx.cache<AttentionPolicy>().kernels = config.train.attention == "cudnn" ? Kernels::kCudnn
                                         : config.train.attention == "own" ? Kernels::kOwn
                                                                           : Kernels::kAuto;
}

double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

DType compute_dtype(const Config& config) { return dtype_of(config.precision.compute); }

double StepResult::loss() const { return total(sums.nll) / total(sums.tokens); }

Engine::Engine(const Config& config, Mesh& mesh, OpContext& ctx, std::span<const std::uint16_t> token_bytes,
               int num_sources)
    : config_(config),
      mesh_(mesh),
      ctx_(ctx),
      num_sources_(num_sources),
      num_micro_batches_(micro_batches(config, mesh)),
      schedule_(make_schedule(config.parallel.schedule, mesh.size(Axis::kPipeline), num_micro_batches_)),
      times_(ctx.stream) {
  configure(ctx, config);
  model_ = std::make_unique<StageModel>(config.model, layout_of(config, mesh),
                                        stage_options(config, mesh, schedule_, num_sources), mesh, ctx,
                                        token_bytes);
  model_->times = &times_;
  optimizer_ = std::make_unique<ZeroAdamW>(model_->parameters().table, config.optimizer, ctx);
  const Device device = ctx.stream.device();
  const std::int64_t bytes = (3 * num_sources + 2) * 8;
  totals_ = {.device = Buffer(bytes, device),
             .host = Buffer::pinned(bytes + 8, device),
             .rates_host = Buffer::pinned(4 * 4, device),
             .rates = Buffer(4 * 4, device),
             .grad_norm = Buffer(8, device),
             .scalars = Buffer(sizeof(StepScalars), device)};
}

Engine::~Engine() {
  if (std::uncaught_exceptions() > 0) return;  // then operations are cancelled, not waited for
  try {
    model_->parameters().table.wait_for_all();
  } catch (const Error&) {  // who goes on after a lost peer hears of it at the next operation
  }
}

StageMemory Engine::plan(const Config& config, Mesh& mesh, OpContext& ctx) {
  configure(ctx, config);
  const Schedule schedule =
      make_schedule(config.parallel.schedule, mesh.size(Axis::kPipeline), micro_batches(config, mesh));
  return StageModel::plan(config.model, layout_of(config, mesh), stage_options(config, mesh, schedule, 1),
                          mesh, ctx);
}

void Engine::initialize() {
  const std::vector<StateSlice> weights = slices(false, false);
  initialize_weights(weights, config_.run.seed, config_.model.initializer_range, ctx_.num_threads);
}

double Engine::loss_scale() const {
  return 1.0 / static_cast<double>(config_.train.global_batch_size * config_.data.sequence_length);
}

StepResult Engine::train_step(std::int64_t step, const std::function<const SampleBatch&()>& next_batch,
                              bool signalled, const std::function<void()>& before_update) {
  StepResult result{.learning_rate =
                        learning_rate(config_.schedule, config_.optimizer.lr, step, config_.train.steps)};
  times_.begin(StepPart::kUpdate);
  clear_totals(signalled);
  set_rates(step, result.learning_rate);
  GradientReducer reducer(model_->parameters().table, ctx_);
  model_->begin(true, num_micro_batches_, loss_block(), next_batch, [&](int block) { reducer.ready(block); });
  model_->on_reduce_grads = [&] { reducer.finish(); };
  mesh_.world().set_position(step, "forward and backward");
  times_.enter(StepPart::kCommunication);
  run_schedule(schedule_, *model_, mesh_.group({Axis::kPipeline}, Queue::kPipelineForward),
               mesh_.group({Axis::kPipeline}, Queue::kPipelineBackward), ctx_.stream);
  mesh_.world().set_position(step, "update");
  if (before_update) before_update();
  update_parameters();
  times_.end();
  read_totals(result);
  // Nobody goes on from here: no rank may find that another has left in the middle of a gather.
  if (result.nonfinite) model_->parameters().table.wait_for_all();
  result.part_s = times_.seconds();
  return result;
}

// Enqueued; the host waits only for what a transport's waits need.
void Engine::update_parameters() {
  times_.enter(StepPart::kUpdate);
  const std::int64_t squared = 3 * num_sources_;
  optimizer_->add_squared_norm(totals(totals_.device).slice(0, squared, squared + 1));
  times_.enter(StepPart::kCommunication);
  reduce_totals();
  times_.enter(StepPart::kUpdate);
  auto* scalars = static_cast<StepScalars*>(totals_.scalars.raw());
  step_scalars(ctx_, {.totals = totals(totals_.device),
                      .num_sources = num_sources_,
                      .rates = totals_.rates.view(DType::kF32, {3}),
                      .rounding_seed = totals_.rates.view(DType::kI32, {1}, 3 * 4),
                      .loss_scale = loss_scale(),
                      .grad_clip = config_.optimizer.grad_clip,
                      .grad_norm = totals_.grad_norm.view(DType::kF64, {1}),
                      .scalars = scalars});
  optimizer_->step(scalars);
}

LossSums Engine::evaluate(int num_micro_batches, const std::function<const SampleBatch&()>& next_batch) {
  const int num_stages = mesh_.size(Axis::kPipeline);
  const int max_slots = *std::min_element(schedule_.num_slots.begin(), schedule_.num_slots.end());
  clear_totals(false);
  model_->begin(false, num_micro_batches, loss_block(), next_batch, {});
  run_schedule(forward_only_schedule(num_stages, num_micro_batches, max_slots), *model_,
               mesh_.group({Axis::kPipeline}, Queue::kPipelineForward),
               mesh_.group({Axis::kPipeline}, Queue::kPipelineBackward), ctx_.stream);
  reduce_totals();
  StepResult result;
  read_totals(result);
  return std::move(result.sums);
}

void Engine::rehearse() {
  const SampleBatch batch = made_up_batch(config_);
  const auto next_batch = [&]() -> const SampleBatch& { return batch; };
  const int num_stages = mesh_.size(Axis::kPipeline);
  const int count = std::min(num_micro_batches_, num_stages);  // no more slots than a step has
  model_->begin(true, count, loss_block(), next_batch, {});
  model_->on_reduce_grads = {};
  run_schedule(make_schedule(config_.parallel.schedule, num_stages, count), *model_,
               mesh_.group({Axis::kPipeline}, Queue::kPipelineForward),
               mesh_.group({Axis::kPipeline}, Queue::kPipelineBackward), ctx_.stream);
  evaluate(1, next_batch);
}

View Engine::totals(const Buffer& buffer) const { return buffer.view(DType::kF64, {3 * num_sources_ + 2}); }

View Engine::loss_block() const { return totals_.device.view(DType::kF64, {3, num_sources_}); }

// The read-out of the step before has waited for all that used this memory.
void Engine::clear_totals(bool signalled) {
  const View host = totals(totals_.host);
  std::fill_n(host.data<double>(), host.numel(), 0.0);
  host.data<double>()[host.numel() - 1] = signalled ? 1 : 0;
  transfer(ctx_.stream, host, totals(totals_.device));
}

void Engine::set_rates(std::int64_t step, double learning_rate) {
  const auto t = static_cast<double>(step + 1);
  const View host = totals_.rates_host.view(DType::kF32, {4});
  host.data<float>()[0] = static_cast<float>(learning_rate);
  host.data<float>()[1] = static_cast<float>(1 - std::pow(config_.optimizer.beta1, t));
  host.data<float>()[2] = static_cast<float>(1 - std::pow(config_.optimizer.beta2, t));
  const auto seed = static_cast<std::uint32_t>(
      philox_bits(philox_key(config_.run.seed, "rounding"), static_cast<std::uint64_t>(step)));
  std::memcpy(host.data<float>() + 3, &seed, sizeof(seed));
  transfer(ctx_.stream, host, totals_.rates.view(DType::kF32, {4}));
}

// One f64 all-reduce of everything the host wants to know and the update depends on.
void Engine::reduce_totals() {
  mesh_.control()
      .all_reduce(totals(totals_.device), ReduceOp::kSum, ctx_.stream, "loss and gradient norm")
      .wait();
}

// The only place where the host waits for the device.
void Engine::read_totals(StepResult& result) {
  const View host = totals(totals_.host);
  const View grad_norm = totals_.host.view(DType::kF64, {1}, host.bytes());
  transfer(ctx_.stream, totals(totals_.device), host);
  transfer(ctx_.stream, totals_.grad_norm.view(DType::kF64, {1}), grad_norm);
  terroir::synchronize(ctx_.stream);
  mesh_.world().check();
  const double* values = host.data<double>();
  const auto n = static_cast<std::size_t>(num_sources_);
  const auto part = [&](std::size_t i) { return std::vector<double>(values + i * n, values + (i + 1) * n); };
  result.sums = {.nll = part(0), .tokens = part(1), .bytes = part(2)};
  result.grad_norm = *grad_norm.data<double>();
  result.nonfinite = !std::isfinite(values[3 * n]) || !std::isfinite(total(result.sums.nll));
  result.signalled = values[3 * n + 1] > 0;
}

std::vector<StateSlice> Engine::slices_of(const std::vector<ZeroAdamW::Array>& arrays,
                                          bool owned_only) const {
  std::vector<StateSlice> slices;
  const ParameterTable& table = model_->parameters().table;
  for (const ZeroAdamW::Array& array : arrays) {
    if (owned_only && !table.classes()[static_cast<std::size_t>(array.param_class)].counted) continue;
    for (const ParamBlock& block : table.blocks()) {
      if (block.param_class != array.param_class) continue;
      for (const ParamPiece& piece : block.pieces) {
        const std::int64_t begin = std::max(piece.offset, array.range.begin);
        const std::int64_t end = std::min(piece.offset + piece.box.numel(), array.range.end);
        if (begin < end)
          slices.push_back({piece.name, array.state, piece.global_shape, piece.box, begin - piece.offset,
                            end - piece.offset, array.data + (begin - array.range.begin)});
      }
    }
  }
  return slices;
}

std::vector<StateSlice> Engine::slices(bool owned_only, bool with_optimizer_state) {
  const std::vector<ZeroAdamW::Array> arrays = optimizer_->arrays(with_optimizer_state);
  mesh_.world().check();  // nobody stores what an operation that was given up has left
  return slices_of(arrays, owned_only);
}

std::vector<StateSlice> Engine::gradient_slices() { return slices_of(optimizer_->gradient_arrays(), true); }

}  // namespace terroir
