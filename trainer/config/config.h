// Everything an experiment can say, as plain structs with defaults: one per section of the YAML file. What
// each key accepts is said once, in trainer/config/schema.cc; docs/configuration.md is generated from there.
// A Config that load_config() returned is valid and resolved: no field holds a placeholder except
// model.vocab_size.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/config/model_config.h"

namespace terroir {

struct RunSection {
  std::string name;  // required; the run folder is dir/name
  std::string dir = "runs";
  std::uint64_t seed = 1234;
  bool operator==(const RunSection&) const = default;
};

struct DataSourceSection {
  std::string shards;    // glob of .h5 files
  std::string language;  // optional: recorded in reports
  std::string license;
  bool operator==(const DataSourceSection&) const = default;
};

struct DataStageSection {
  std::map<std::string, double> sources;  // name -> weight, normalized over the stage
  bool operator==(const DataStageSection&) const = default;
};

struct DataSection {
  std::int64_t sequence_length = 256;
  std::vector<DataStageSection> stages;  // one for now
  std::map<std::string, DataSourceSection> sources;
  bool operator==(const DataSection&) const = default;
};

struct ParallelSection {
  int tensor = 1, pipeline = 1, context = 1;  // data: what is left of the world
  std::string schedule = "1f1b";
  int zero = 1;
  bool sequence_parallel = true;
  std::string transport = "auto";              // auto | nccl | host: between GPUs
  double timeout_s = 600;                      // of one collective; then every rank ends with exit 7
  double bucket_mib = 25;                      // gradients are reduced in buckets of about this size
  std::vector<std::int64_t> layers_per_stage;  // empty: as even as possible
  bool operator==(const ParallelSection&) const = default;
};

struct TrainSection {
  std::int64_t steps = 0;               // required
  std::int64_t global_batch_size = 32;  // sequences
  std::int64_t micro_batch_size = 4;
  std::string recompute = "none";  // none | full
  std::string attention = "auto";  // auto | cudnn | own: its kernels on CUDA
  std::int64_t threads = 0;        // per rank; 0: affinity mask / ranks that share it
  int gemm_candidates = 8;         // algorithms measured for each matrix product on CUDA; 1: none is
  bool operator==(const TrainSection&) const = default;
};

// What is rounded to what. A section of its own, since it changes results and memory, not the model.
struct PrecisionSection {
  std::string compute =
      "auto";  // auto | f32 | bf16: weights and activations; auto: bf16 on CUDA, f32 on the CPU
  std::string master = "f32";     // f32 | bf16: weights as the optimizer keeps them
  std::string gradients = "f32";  // f32 | bf16: of the layers' matrices, summed over micro-batches
  std::string reduction = "f32";  // f32 | bf16: gradients on their way between ranks
  bool operator==(const PrecisionSection&) const = default;
};

struct OptimizerSection {
  std::string name = "adamw";
  double lr = 1e-3;
  double beta1 = 0.9, beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double grad_clip = 1.0;  // global norm; 0: off
  bool operator==(const OptimizerSection&) const = default;
};

struct ScheduleSection {
  std::string name = "wsd";  // constant | cosine | wsd
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;  // wsd: the last steps; cosine: decays over all steps after the warm-up
  double final_lr = 0.1;         // as a share of lr
  bool operator==(const ScheduleSection&) const = default;
};

struct CheckpointSection {
  std::int64_t every = 100;     // steps; 0: only at the end
  std::int64_t keep_last = 2;   // 0: all
  std::string resume = "auto";  // auto | never
  bool operator==(const CheckpointSection&) const = default;
};

struct EvalSection {
  std::int64_t every = 0;         // steps; 0: only at the end
  std::int64_t max_samples = 64;  // held-out windows per source
  bool operator==(const EvalSection&) const = default;
};

struct Config {
  RunSection run;
  std::string device = "auto";  // auto | cpu | cuda
  bool deterministic = true;    // the same bits at every run
  ModelConfig model;
  std::string tokenizer;  // path of tokenizer.json
  std::string init_from;  // checkpoint folder to take the first weights from
  DataSection data;
  ParallelSection parallel;
  TrainSection train;
  PrecisionSection precision;
  OptimizerSection optimizer;
  ScheduleSection schedule;
  CheckpointSection checkpoint;
  EvalSection eval;
  // model.vocab_size: from_tokenizer. Who opens the tokenizer sets model.vocab_size and clears this.
  bool vocab_size_from_tokenizer = true;
  bool operator==(const Config&) const = default;
};

}  // namespace terroir
