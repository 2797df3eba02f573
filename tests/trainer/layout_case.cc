#include "tests/trainer/layout_case.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/hash.h"
#include "base/philox.h"
#include "tests/trainer/running_engine.h"

namespace terroir::test {
namespace {

// Takes kSteps steps; visit(slices, step) sees the gradients of each step, then the weights as step -1.
template <class Visit>
void take_steps(const Config& config, World& world, TrainedRun& run, Visit visit) {
  RunningEngine running(config, world);
  Engine& engine = running.engine;
  const std::int64_t per_rank = config.train.global_batch_size / running.mesh.size(Axis::kData);
  for (int step = 0; step < kSteps; ++step) {
    std::int64_t next =
        running.mesh.coordinate(Axis::kData) * per_rank;  // the same samples each step: they are learnt
    SampleBatch batch;
    const auto next_batch = [&]() -> const SampleBatch& {
      batch = make_samples(next, config.train.micro_batch_size, config);
      next += config.train.micro_batch_size;
      return batch;
    };
    const StepResult result =
        engine.train_step(step, next_batch, false, [&] { visit(engine.gradient_slices(), step); });
    run.losses.push_back(result.loss());
    run.grad_norms.push_back(result.grad_norm);
  }
  visit(engine.slices(true, false), -1);
}

// The element of the logical tensor that a slice's element `index` is.
std::size_t logical_index(const StateSlice& slice, std::int64_t index) {
  if (slice.global_shape.size() == 1) return static_cast<std::size_t>(slice.box.start[0] + index);
  const std::int64_t columns = slice.box.shape[1];
  const std::int64_t row = slice.box.start[0] + index / columns,
                     column = slice.box.start[1] + index % columns;
  return static_cast<std::size_t>(row * slice.global_shape[1] + column);
}

double largest(const std::vector<float>& values) {
  float most = 0;
  for (const float value : values) most = std::max(most, std::fabs(value));
  return most;
}

double relative(double a, double b) { return std::fabs(a - b) / std::max(std::fabs(b), 1e-30); }

}  // namespace

Config make_config(const LayoutCase& layout) {
  Config config;
  config.run.name = "layout";
  config.model = {.model_type = layout.model_type,
                  .vocab_size = 101,
                  .hidden_size = 48,
                  .intermediate_size = 58,
                  .num_hidden_layers = 5,
                  .num_attention_heads = layout.heads,
                  .num_key_value_heads = layout.kv_heads,
                  .head_dim = 8,
                  .rope_theta = 10000,
                  .max_position_embeddings = 17,
                  .tie_word_embeddings = layout.tied,
                  .initializer_range = 0.1};
  config.data.sequence_length = 17;
  config.parallel.tensor = layout.tensor;
  config.parallel.pipeline = layout.pipeline;
  config.parallel.schedule = layout.schedule;
  config.parallel.sequence_parallel = layout.sequence_parallel;
  config.parallel.bucket_mib = 0.02;  // several buckets
  config.train.steps = kSteps;
  config.train.global_batch_size = layout.global_batch;
  config.train.micro_batch_size = layout.micro_batch;
  config.train.recompute = layout.recompute ? "full" : "none";
  // A large epsilon keeps AdamW's step smooth in the gradient, so that rounding stays rounding.
  config.optimizer.eps = 1e-2;
  config.optimizer.lr = 1e-2;
  config.optimizer.grad_clip = 0.5;
  config.schedule.name = "constant";
  return config;
}

SampleBatch make_samples(std::int64_t first, std::int64_t count, const Config& config) {
  const std::int64_t sequence = config.data.sequence_length;
  SampleBatch batch{.count = count, .sequence_length = sequence};
  const PhiloxKey key = philox_key(7, "layout samples");
  for (std::int64_t sample = first; sample < first + count; ++sample) {
    const auto bits = [&](std::int64_t t) {
      return philox_bits(key, static_cast<std::uint64_t>(sample * (sequence + 1) + t));
    };
    const auto token = [&](std::int64_t t) {
      return static_cast<std::int32_t>(bits(t) % static_cast<std::uint64_t>(config.model.vocab_size));
    };
    const auto starts = [&](std::int64_t t) { return t > 0 && bits(t) % 7 == 0; };  // of a document
    std::int32_t position = 0, document = 0;
    for (std::int64_t t = 0; t < sequence; ++t) {
      if (starts(t)) {
        position = 0;
        ++document;
      }
      batch.tokens.push_back(token(t));
      batch.targets.push_back(starts(t + 1) ? -1 : token(t + 1));
      batch.positions.push_back(position++);
      batch.documents.push_back(document);
    }
    batch.source.push_back(0);
  }
  return batch;
}

TrainedRun run_one_rank(const Config& config) {
  const auto world = local_world();
  Config one = config;
  one.device = "cpu";
  one.parallel.tensor = one.parallel.pipeline = 1;
  one.train.recompute = "none";
  TrainedRun run;
  run.gradients.resize(kSteps);
  take_steps(one, *world, run, [&](const std::vector<StateSlice>& slices, int step) {
    Tensors& tensors = step < 0 ? run.weights : run.gradients[static_cast<std::size_t>(step)];
    for (const StateSlice& slice : slices) {
      std::int64_t numel = 1;
      for (const std::int64_t extent : slice.global_shape) numel *= extent;
      std::vector<float>& tensor = tensors[slice.tensor];
      tensor.resize(static_cast<std::size_t>(numel));
      for (std::int64_t i = slice.begin; i < slice.end; ++i)
        tensor[logical_index(slice, i)] = slice.data[i - slice.begin];
    }
  });
  return run;
}

Difference compare_with_one_rank(const Config& config, World& world, const TrainedRun& reference) {
  Difference difference;
  TrainedRun run;
  Xxh3 bits;
  take_steps(config, world, run, [&](const std::vector<StateSlice>& slices, int step) {
    const Tensors& expected =
        step < 0 ? reference.weights : reference.gradients[static_cast<std::size_t>(step)];
    double& worst = step < 0 ? difference.weight : difference.gradient;
    for (const StateSlice& slice : slices) {
      const std::vector<float>& tensor = expected.at(slice.tensor);
      const double size = std::max(largest(tensor), 1e-12);
      for (std::int64_t i = slice.begin; i < slice.end; ++i) {
        const double error = std::fabs(slice.data[i - slice.begin] - tensor[logical_index(slice, i)]) / size;
        if (!(error <= worst)) {
          worst = error;
          difference.worst = slice.tensor;
        }
      }
      if (step >= 0) difference.elements_checked += slice.end - slice.begin;
      bits.update(std::as_bytes(std::span(slice.data, static_cast<std::size_t>(slice.end - slice.begin))));
    }
  });
  for (std::size_t step = 0; step < kSteps; ++step) {
    difference.loss = std::max(difference.loss, relative(run.losses[step], reference.losses[step]));
    difference.grad_norm =
        std::max(difference.grad_norm, relative(run.grad_norms[step], reference.grad_norms[step]));
  }
  bits.update(std::as_bytes(std::span(run.losses)));
  difference.bits = bits.digest().hex();
  return difference;
}

Difference compare_on_threads(const Config& config, int num_ranks, const TrainedRun& reference) {
  std::mutex mutex;
  Difference most;
  run_threads(num_ranks, {.timeout_s = 60}, [&](World& world) {
    const Difference difference = compare_with_one_rank(config, world, reference);
    const std::lock_guard lock(mutex);
    most.loss = std::max(most.loss, difference.loss);
    most.grad_norm = std::max(most.grad_norm, difference.grad_norm);
    if (difference.gradient > most.gradient) most.worst = difference.worst;
    most.gradient = std::max(most.gradient, difference.gradient);
    most.weight = std::max(most.weight, difference.weight);
    most.elements_checked += difference.elements_checked;
    if (world.rank() == 0) most.bits = difference.bits;
  });
  return most;
}

}  // namespace terroir::test
