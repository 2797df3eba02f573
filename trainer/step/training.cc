#include "trainer/step/training.h"

#include <chrono>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>

#include "base/hash.h"
#include "data/loader/loader.h"
#include "data/tokenizer/tokenizer.h"
#include "parallel/world.h"
#include "trainer/checkpoint/checkpoint.h"
#include "trainer/config/config_file.h"
#include "trainer/metrics/metrics_writer.h"
#include "trainer/step/device_choice.h"
#include "trainer/step/engine.h"
#include "trainer/step/environment.h"
#include "trainer/step/gemm_agreement.h"
#include "trainer/step/memory_plan.h"
#include "trainer/step/progress_line.h"
#include "trainer/step/run_folder.h"
#include "trainer/step/signals.h"
#include "trainer/step/throughput.h"
#include "trainer/step/validation.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}
double total(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
double bits_per_byte(double nll, double bytes) { return nll / std::numbers::ln2 / bytes; }

Tokenizer load_tokenizer(Config& config) {
  Tokenizer tokenizer = Tokenizer::load(config.tokenizer);
  if (config.vocab_size_from_tokenizer) config.model.vocab_size = tokenizer.vocab_size();
  config.vocab_size_from_tokenizer = false;
  if (config.model.vocab_size < tokenizer.vocab_size())
    throw UserError(ExitCode::kUsage, Place{.key = "model.vocab_size"},
                    fmt::format("{} is smaller than the tokenizer's {} ids: use from_tokenizer, or more",
                                config.model.vocab_size, tokenizer.vocab_size()));
  return tokenizer;
}

CorpusOptions corpus_options(const Config& config, const Tokenizer& tokenizer) {
  CorpusOptions options{.sequence_length = config.data.sequence_length,
                        .seed = config.run.seed,
                        .tokenizer_sha256 = tokenizer.sha256(),
                        .vocab_size = config.model.vocab_size};
  for (const auto& [name, source] : config.data.sources)
    options.sources.push_back({name, {source.shards}, source.language, source.license});
  for (const DataStageSection& stage : config.data.stages)
    options.stages.push_back({.weights = {stage.sources.begin(), stage.sources.end()}});
  return options;
}

Mesh make_mesh(const Config& config, World& world) {
  if (std::vector<Problem> problems = validate_for_world(config, world.size()); !problems.empty())
    throw UserError(ExitCode::kUsage, std::move(problems));
  return Mesh(world, MeshShape::with_data_filled(world.size(), config.parallel.tensor,
                                                 config.parallel.context, config.parallel.pipeline));
}

OpContext make_context(const Stream& stream, int num_threads) {
  OpContext ctx;
  ctx.stream = stream;
  ctx.num_threads = num_threads;
  return ctx;
}

// Everything between the first and the last step of one process's part in a run.
class Training {
 public:
  Training(Config config, World& world, const TrainingOptions& options)
      : config_(std::move(config)),
        options_(options),
        tokenizer_(load_tokenizer(config_)),
        device_(choose_device(config_, world)),
        device_world_(device_world(config_, world, device_.device)),
        mesh_(make_mesh(config_, device_world_ ? *device_world_ : world)),
        rank_(world.rank()),
        threads_(config_.train.threads > 0 ? static_cast<int>(config_.train.threads)
                                           : threads_per_rank(world)),
        stream_(device_.device),
        ctx_(make_context(stream_, threads_)),
        memory_(plan_memory(config_, mesh_, ctx_)),
        corpus_(corpus_options(config_, tokenizer_)),
        folder_(run_folder(config_)) {
    require_equal_on_all_ranks(to_yaml(config_), "the configuration", mesh_.control());
    require_equal_on_all_ranks(tokenizer_.sha256() + corpus_.plan_hash().hex(), "the data", mesh_.control());
  }

  ExitCode run();

 private:
  void start();
  StartPoint find_start(Logger* log);
  void check_resume(const fs::path& checkpoint) const;
  void check_weights(const fs::path& checkpoint, Logger* log) const;
  void resume(const fs::path& checkpoint);
  void measure_products();
  ExitCode steps();
  double mfu(double tokens_per_s, AttentionPairs pairs) const;
  void record_step(const StepResult& result, double step_s, double data_wait_s);
  void validate();
  void save();
  void check_finite(const StepResult& result) const;
  void describe(Logger& log) const;
  LossMetrics losses(const LossSums& sums) const;

  Config config_;
  TrainingOptions options_;
  Tokenizer tokenizer_;
  DeviceChoice device_;
  std::unique_ptr<World> device_world_;  // on CUDA
  Mesh mesh_;
  int rank_, threads_;
  OwnedStream stream_;
  OpContext ctx_;
  MemoryPlan memory_;
  Corpus corpus_;
  RunFolder folder_;
  // From here on: what start() makes.
  std::optional<FileLock> lock_;
  std::optional<Logger> log_;
  std::optional<Engine> engine_;
  std::optional<Validation> validation_;
  std::optional<MetricsWriter> metrics_;
  std::optional<ProgressLine> progress_;
  GemmChoiceList gemms_;  // on CUDA: of the checkpoint, then what all ranks use and checkpoints keep
  double peak_flops_ = 0;
  std::int64_t done_ = 0;  // steps
  std::int64_t next_sample_ = 0;
  std::int64_t saved_step_ = -1;
};

void Training::describe(Logger& log) const {
  const MeshShape& shape = mesh_.shape();
  log.info("{} ranks over {}: tensor {} x data {} x pipeline {}, {} threads a rank", mesh_.world().size(),
           mesh_.world().transport(), shape.tensor, shape.data, shape.pipeline, threads_);
  log.info("device: {}; weights and activations {}", device_.description, config_.precision.compute);
  for (const std::string& line : memory_.attention) log.info("{}", line);
  log.info("memory a rank will use, MiB:\n{}", memory_.table);
}

ExitCode Training::run() {
  refuse_used_folder(folder_, config_, rank_);
  if (options_.dry_run) {
    Logger log(rank_, {}, options_.quiet);
    describe(log);
    find_start(&log);
    log.info("dry run: configuration, data and layout are good; nothing was written");
    return ExitCode::kDone;
  }
  start();
  return steps();
}

void Training::start() {
  find_start(nullptr);  // refused before anything is written
  lock_ = open_run_folder(folder_, rank_);
  mesh_.control().barrier(ctx_.stream, "run folder");
  log_.emplace(rank_, folder_.log(rank_), options_.quiet);
  describe(*log_);
  engine_.emplace(config_, mesh_, ctx_, tokenizer_.token_bytes(), corpus_.num_sources());
  const StartPoint start = find_start(&*log_);  // again, now that no other job can save here
  if (start.resume) {
    resume(*start.resume);
  } else if (start.init_from) {
    load_checkpoint(*start.init_from, engine_->slices(false, false));
    log_->info("weights from {}", start.init_from->string());
  } else {
    engine_->initialize();
  }
  engine_->synchronize();
  if (rank_ == 0)
    write_run_description(folder_, config_, describe_environment(mesh_, device_.description, threads_));
  validation_.emplace(corpus_, config_.eval.max_samples, config_.train.micro_batch_size,
                      mesh_.coordinate(Axis::kData), mesh_.size(Axis::kData));
  measure_products();
  if (rank_ == 0) metrics_.emplace(folder_.root, config_.run.name);
  progress_.emplace(*log_, done_, config_.train.steps, rank_ == 0 && !options_.quiet);
  log_->debug("matrix multiplication peak of all ranks: {:.1f} GFLOP/s", peak_flops_ / 1e9);
}

StartPoint Training::find_start(Logger* log) {
  StartPoint start = find_start_point(folder_, config_, mesh_.control(), log);
  if (start.resume) check_resume(*start.resume);
  if (start.init_from) check_weights(*start.init_from, log);
  return start;
}

void Training::check_resume(const fs::path& checkpoint) const {
  const CheckpointMeta meta = read_checkpoint_meta(checkpoint);
  stored_gemm_choices(checkpoint);  // damage is refused here
  const auto refuse = [&](const char* what) {
    throw UserError(
        ExitCode::kUsage, Place{checkpoint.string()},
        fmt::format("was saved with {} than this configuration says: choose another run.name (with "
                    "init_from to take these weights), or restore it",
                    what));
  };
  if (!(meta.model == config_.model)) refuse("another model");
  if (meta.tokenizer_sha256 != tokenizer_.sha256()) refuse("another tokenizer");
  if (meta.plan_hash != corpus_.plan_hash().hex()) refuse("other data, or another order of it,");
  if (meta.step > config_.train.steps)
    throw UserError(
        ExitCode::kUsage, Place{.key = "train.steps"},
        fmt::format("{} is less than the {} steps that {} has taken already: give more, or choose "
                    "another run.name",
                    config_.train.steps, meta.step, checkpoint.string()));
}

void Training::check_weights(const fs::path& checkpoint, Logger* log) const {
  const CheckpointMeta meta = read_checkpoint_meta(checkpoint);
  const auto refuse = [&](const std::string& what) {
    throw UserError(ExitCode::kCheckpoint, Place{checkpoint.string(), 0, 0, "init_from"}, what);
  };
  if (!meta.tokenizer_sha256.empty() && meta.tokenizer_sha256 != tokenizer_.sha256())
    refuse("was trained with another tokenizer: use the tokenizer.json inside it");
  // What makes weights of one model useless in another; and what a person may change, knowing it.
  const ModelConfig &theirs = meta.model, &ours = config_.model;
  std::string differences;
  const auto compare = [&](const char* key, const auto& a, const auto& b) {
    if (a != b)
      differences += fmt::format("{}model.{} is {}, here {}", differences.empty() ? "" : "; ", key, a, b);
  };
  compare("model_type", theirs.model_type, ours.model_type);
  compare("vocab_size", theirs.vocab_size, ours.vocab_size);
  compare("hidden_size", theirs.hidden_size, ours.hidden_size);
  compare("intermediate_size", theirs.intermediate_size, ours.intermediate_size);
  compare("num_hidden_layers", theirs.num_hidden_layers, ours.num_hidden_layers);
  compare("num_attention_heads", theirs.num_attention_heads, ours.num_attention_heads);
  compare("num_key_value_heads", theirs.num_key_value_heads, ours.num_key_value_heads);
  compare("head_dim", theirs.head_dim, ours.head_dim);
  compare("tie_word_embeddings", theirs.tie_word_embeddings, ours.tie_word_embeddings);
  if (!differences.empty()) refuse("holds another model: " + differences);
  compare("rope_theta", theirs.rope_theta, ours.rope_theta);
  compare("rope_scaling.rope_type", theirs.rope_scaling.rope_type, ours.rope_scaling.rope_type);
  compare("rope_scaling.factor", theirs.rope_scaling.factor, ours.rope_scaling.factor);
  compare("rms_norm_eps", theirs.rms_norm_eps, ours.rms_norm_eps);
  if (log != nullptr && !differences.empty())
    log->warn("the weights of {} were trained otherwise: {}", checkpoint.string(), differences);
}

void Training::resume(const fs::path& checkpoint) {
  const CheckpointMeta meta = read_checkpoint_meta(checkpoint);
  load_checkpoint(checkpoint, engine_->slices(false, true));
  done_ = saved_step_ = meta.step;
  next_sample_ = meta.next_sample;
  if (device_.device.kind != DeviceKind::kCpu) gemms_ = stored_gemm_choices(checkpoint);
  log_->info("going on from {}", checkpoint.string());
}

// The peak that MFU refers to, and the algorithms of all steps: before the first, since other algorithms
// round otherwise.
void Training::measure_products() {
  mesh_.world().set_position(done_, "measurement of products");
  auto& choices = ctx_.cache<GemmChoices>();
  choices.num_candidates = config_.train.gemm_candidates;
  peak_flops_ = measure_peak_flops(ctx_, compute_dtype(config_), mesh_.control());
  if (device_.device.kind == DeviceKind::kCpu) return;
  choices.adopt(gemms_);  // and forget the peak's products
  engine_->rehearse();
  gemms_ = agree_on_gemm_choices(choices, gemms_, mesh_.control(), *log_);
  log_->info("matrix products: algorithms of {} kinds, {}", gemms_.choices.size(), gemms_.library);
}

ExitCode Training::steps() {
  const SaveRequest save_request(folder_.root);
  Loader loader(corpus_, {.first_step = done_,
                          .last_step = config_.train.steps,
                          .global_batch_size = config_.train.global_batch_size,
                          .micro_batch_size = config_.train.micro_batch_size,
                          .data_rank = mesh_.coordinate(Axis::kData),
                          .data_size = mesh_.size(Axis::kData),
                          .first_sample = next_sample_});
  while (done_ < config_.train.steps) {
    const auto begin = Clock::now();
    double data_wait_s = 0;
    const StepResult result = engine_->train_step(
        done_,
        [&]() -> const SampleBatch& {
          const SampleBatch& batch = loader.next();
          data_wait_s += loader.last_wait_s();
          return batch;
        },
        save_request.pending());
    check_finite(result);
    ++done_;
    next_sample_ += config_.train.global_batch_size;
    record_step(result, seconds_since(begin), data_wait_s);
    const bool last = done_ == config_.train.steps;
    if (last || (config_.eval.every > 0 && done_ % config_.eval.every == 0)) validate();
    if (last || result.signalled || (config_.checkpoint.every > 0 && done_ % config_.checkpoint.every == 0))
      save();
    if (result.signalled && !last) {
      log_->info("saved step {} on request; run the same command again to go on", done_);
      return ExitCode::kRequeue;
    }
  }
  if (saved_step_ != done_) save();
  progress_.reset();
  log_->info("done: {} steps, results in {}", done_, folder_.root.string());
  return ExitCode::kDone;
}

void Training::check_finite(const StepResult& result) const {
  if (!result.nonfinite) return;
  const std::string saved = saved_step_ < 0 ? "no checkpoint was saved yet"
                                            : fmt::format("the last checkpoint is of step {}", saved_step_);
  throw UserError(
      ExitCode::kNumerical, Place{},
      fmt::format("step {}: the loss or a gradient is not finite (loss {}, gradient norm {}); nothing was "
                  "updated, {}. A lower optimizer.lr or a longer schedule.warmup_steps is the usual remedy",
                  done_ + 1, result.loss(), result.grad_norm, saved));
}

LossMetrics Training::losses(const LossSums& sums) const {
  LossMetrics metrics{.loss = total(sums.nll) / total(sums.tokens),
                      .bits_per_byte = bits_per_byte(total(sums.nll), total(sums.bytes))};
  for (std::size_t s = 0; s < sums.tokens.size(); ++s) {
    const std::string& source = corpus_.source_name(static_cast<int>(s));
    if (sums.tokens[s] > 0) metrics.loss_by_source[source] = sums.nll[s] / sums.tokens[s];
    if (sums.bytes[s] > 0)
      metrics.bits_per_byte_by_source[source] = bits_per_byte(sums.nll[s], sums.bytes[s]);
  }
  return metrics;
}

double Training::mfu(double tokens_per_s, AttentionPairs pairs) const {
  return tokens_per_s * flops_per_token(config_.model, config_.data.sequence_length, pairs) / peak_flops_;
}

void Training::record_step(const StepResult& result, double step_s, double data_wait_s) {
  if (!metrics_) return;
  const LossSums& sums = result.sums;
  const auto tokens = static_cast<double>(config_.train.global_batch_size * config_.data.sequence_length);
  StepMetrics metrics{losses(sums)};
  metrics.step = done_;
  metrics.tokens = next_sample_ * config_.data.sequence_length;
  metrics.learning_rate = result.learning_rate;
  metrics.grad_norm = result.grad_norm;
  metrics.step_s = step_s;
  metrics.tokens_per_s = tokens / step_s;
  metrics.mfu = mfu(metrics.tokens_per_s, AttentionPairs::kCausal);
  metrics.mfu_full_attention = mfu(metrics.tokens_per_s, AttentionPairs::kAll);
  metrics.data_wait_s = data_wait_s;
  metrics.part_s = result.part_s;
  metrics.memory_bytes = {
      {"parameters", memory_.mine.parameters},     {"gradients", memory_.mine.gradients},
      {"optimizer", memory_.mine.optimizer_state}, {"activations", memory_.mine.activations},
      {"scratch", memory_.mine.scratch},           {"resident", resident_bytes()}};
  metrics_->write(metrics);
  progress_->update(done_, metrics.loss, metrics.bits_per_byte, metrics.tokens_per_s, metrics.mfu);
}

void Training::validate() {
  if (validation_->empty()) return;
  mesh_.world().set_position(done_, "evaluation");
  const LossSums sums = validation_->run(*engine_);
  if (!metrics_) return;
  const ValidationMetrics metrics{losses(sums), done_, next_sample_ * config_.data.sequence_length};
  metrics_->write(metrics);
  progress_->say(fmt::format("step {}: held-out loss {:.4f}, {:.3f} bits/byte", done_, metrics.loss,
                             metrics.bits_per_byte));
}

void Training::save() {
  mesh_.world().set_position(done_, "checkpoint");
  CheckpointMeta meta{.step = done_,
                      .next_sample = next_sample_,
                      .model = config_.model,
                      .tokenizer_sha256 = tokenizer_.sha256(),
                      .config_hash = sha256_hex(to_yaml(config_)),
                      .plan_hash = corpus_.plan_hash().hex()};
  meta.extra["environment"] = Json::parse(describe_environment(mesh_, device_.description, threads_).dump());
  meta.extra["name"] = config_.run.name;
  // For the model card of an export.
  std::set<std::string> languages, licenses;
  for (int source = 0; source < corpus_.num_sources(); ++source) {
    languages.insert(corpus_.source_language(source));
    licenses.insert(corpus_.source_license(source));
  }
  meta.extra["languages"] = languages;
  meta.extra["licenses"] = licenses;
  std::map<std::string, std::string> texts;
  if (!gemms_.choices.empty()) texts[kGemmChoicesName] = to_json(gemms_);
  save_checkpoint(folder_.checkpoints(), meta, engine_->slices(true, true), config_.tokenizer,
                  mesh_.control(), {}, texts);
  if (rank_ == 0)
    if (const auto error = keep_last(folder_.checkpoints(), config_.checkpoint.keep_last))
      log_->warn("old checkpoints stay, remove them by hand: {}", *error);
  saved_step_ = done_;
}

}  // namespace

ExitCode train(Config config, World& world, const TrainingOptions& options) {
  return Training(std::move(config), world, options).run();
}

}  // namespace terroir
