#include "data/loader/corpus.h"

#include <fmt/format.h>
#include <glob.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "data/loader/token_stream.h"
#include "data/mixture/mixture.h"
#include "data/mixture/window_order.h"

namespace terroir {
namespace {

constexpr std::int64_t kDefaultCellTokens = 65536;

std::string source_key(const SourceConfig& source, const char* field) {
  return fmt::format("data.sources.{}.{}", source.name, field);
}

UserError usage_error(const std::string& key, const std::string& message) {
  return UserError(ExitCode::kUsage, Place{"", 0, 0, key}, message);
}

// Paths that match, sorted, each once.
std::vector<std::string> matching_files(const SourceConfig& source) {
  std::vector<std::string> paths;
  for (const std::string& pattern : source.shards) {
    glob_t found = {};
    const int result = ::glob(pattern.c_str(), GLOB_NOSORT, nullptr, &found);
    paths.insert(paths.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (result == GLOB_NOMATCH)
      throw usage_error(source_key(source, "shards"),
                        fmt::format("no file matches {}: build shards with `terroir data build`", pattern));
    if (result != 0) throw SystemError("glob", fmt::format("cannot read the folders of {}", pattern));
  }
  if (paths.empty()) throw usage_error(source_key(source, "shards"), "names no file");
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  return paths;
}

void check_shard(const ShardReader& shard, const SourceConfig& source, const CorpusOptions& options) {
  const ShardInfo& info = shard.info();
  const Place place{shard.path().string()};
  if (info.tokenizer_sha256 != options.tokenizer_sha256)
    throw UserError(
        ExitCode::kData, place,
        fmt::format("was built with another tokenizer: SHA-256 {}, this run uses {}; build the shards again",
                    info.tokenizer_sha256, options.tokenizer_sha256));
  if (info.vocab_size > options.vocab_size)
    throw UserError(ExitCode::kData, place,
                    fmt::format("uses a vocabulary of {}, the model has {}: raise model.vocab_size",
                                info.vocab_size, options.vocab_size));
  if (!source.language.empty() && source.language != info.language)
    throw usage_error(source_key(source, "language"), fmt::format("is {}, but {} says {}", source.language,
                                                                  shard.path().string(), info.language));
  if (!source.license.empty() && source.license != info.license)
    throw usage_error(source_key(source, "license"), fmt::format("is {}, but {} says {}", source.license,
                                                                 shard.path().string(), info.license));
}

struct Source {
  TokenStream train, validation;
  std::string language, license;
  std::optional<WindowOrder> order;  // none: too few training tokens for one window
};

Source open_source(const SourceConfig& config, const CorpusOptions& options) {
  Source source;
  for (const std::string& path : matching_files(config)) {
    auto shard = std::make_unique<ShardReader>(path);
    check_shard(*shard, config, options);
    if (source.language.empty()) source.language = shard->info().language;
    if (source.license.empty()) source.license = shard->info().license;
    (shard->info().split == kTrainSplit ? source.train : source.validation).append(std::move(shard));
  }
  if (source.train.num_tokens() >= options.sequence_length)
    source.order.emplace(options.seed, config.name, source.train.num_tokens(), options.cell_tokens,
                         options.sequence_length);
  return source;
}

// The stage's weights in the order of the sources; 0 for sources it does not name.
MixtureStage resolve_stage(const CorpusOptions& options, std::size_t index) {
  const StageConfig& stage = options.stages[index];
  std::vector<double> weights(options.sources.size(), 0);
  std::vector<bool> named(options.sources.size(), false);
  const auto key = [index](const std::string& name) {
    return fmt::format("data.stages[{}].sources{}{}", index, name.empty() ? "" : ".", name);
  };
  for (const auto& [name, weight] : stage.weights) {
    const auto found =
        std::find_if(options.sources.begin(), options.sources.end(),
                     [&name = name](const SourceConfig& source) { return source.name == name; });
    if (found == options.sources.end())
      throw usage_error(key(name), "is no source: data.sources does not name it");
    const auto source = static_cast<std::size_t>(found - options.sources.begin());
    if (named[source]) throw usage_error(key(name), "is named twice");
    if (!std::isfinite(weight) || weight < 0)
      throw usage_error(key(name), fmt::format("weight {} must be a number >= 0", weight));
    named[source] = true;
    weights[source] = weight;
  }
  double sum = 0;
  for (const double weight : weights) sum += weight;
  if (!(sum > 0) || !std::isfinite(sum)) throw usage_error(key(""), "weights must have a positive sum");
  MixtureStage resolved{stage.first_sample, integer_weights(weights)};
  std::int64_t total = 0;
  for (const std::int64_t weight : resolved.weights) total += weight;
  for (std::size_t s = 0; s < weights.size(); ++s)
    if (resolved.weights[s] > 0 && resolved.weights[s] * Mixture::kMaxBlock < total)
      throw usage_error(
          key(options.sources[s].name),
          fmt::format("weight {} is less than 1/{} of the sum {}: raise it or leave the source out",
                      weights[s], Mixture::kMaxBlock, sum));
  return resolved;
}

std::vector<MixtureStage> resolve_stages(const CorpusOptions& options) {
  if (options.stages.empty()) throw usage_error("data.stages", "needs at least one stage");
  std::vector<MixtureStage> stages;
  for (std::size_t i = 0; i < options.stages.size(); ++i) {
    stages.push_back(resolve_stage(options, i));
    const bool in_order =
        i == 0 ? stages[0].first_sample == 0 : stages[i].first_sample > stages[i - 1].first_sample;
    if (!in_order)
      throw usage_error(
          fmt::format("data.stages[{}].first_sample", i),
          i == 0 ? "must be 0: training begins with the first stage" : "must be after the stage before");
  }
  return stages;
}

CorpusOptions complete(CorpusOptions options) {
  TERROIR_CHECK(options.sequence_length > 0 && options.vocab_size > 0 && !options.tokenizer_sha256.empty(),
                "sequence_length {}, vocab_size {}, tokenizer \"{}\"", options.sequence_length,
                options.vocab_size, options.tokenizer_sha256);
  if (options.sources.empty()) throw usage_error("data.sources", "needs at least one source");
  if (options.cell_tokens == 0)
    options.cell_tokens = (kDefaultCellTokens + options.sequence_length - 1) / options.sequence_length *
                          options.sequence_length;
  if (options.cell_tokens < 0 || options.cell_tokens % options.sequence_length != 0)
    throw usage_error("data.cell_tokens", fmt::format("{} is not a multiple of data.sequence_length {}",
                                                      options.cell_tokens, options.sequence_length));
  return options;
}

void resize(SampleBatch& batch, std::int64_t count, std::int64_t sequence_length) {
  batch.count = count;
  batch.sequence_length = sequence_length;
  for (auto* array : {&batch.tokens, &batch.targets, &batch.positions, &batch.documents})
    array->resize(static_cast<std::size_t>(count * sequence_length));
  batch.source.resize(static_cast<std::size_t>(count));
}

WindowRow row_of(SampleBatch& batch, std::int64_t sample) {
  const auto length = static_cast<std::size_t>(batch.sequence_length);
  const auto row = [&](std::vector<std::int32_t>& array) {
    return std::span(array).subspan(static_cast<std::size_t>(sample) * length, length);
  };
  return {row(batch.tokens), row(batch.targets), row(batch.positions), row(batch.documents)};
}

}  // namespace

struct Corpus::Impl {
  CorpusOptions options;
  std::vector<Source> sources;
  std::vector<MixtureStage> stages;
  Mixture mixture;

  explicit Impl(CorpusOptions given)
      : options(complete(std::move(given))), stages(resolve_stages(options)), mixture(stages, options.seed) {
    for (const SourceConfig& config : options.sources) sources.push_back(open_source(config, options));
    for (std::size_t s = 0; s < sources.size(); ++s) {
      const bool drawn = std::any_of(stages.begin(), stages.end(),
                                     [s](const MixtureStage& stage) { return stage.weights[s] > 0; });
      if (drawn && !sources[s].order)
        throw UserError(
            ExitCode::kData, Place{"", 0, 0, source_key(options.sources[s], "shards")},
            fmt::format("{} training tokens, fewer than one window of data.sequence_length {}: add text",
                        sources[s].train.num_tokens(), options.sequence_length));
    }
  }

  const Source& source(int index) const {
    TERROIR_CHECK(index >= 0 && static_cast<std::size_t>(index) < sources.size(), "source {} of {}", index,
                  sources.size());
    return sources[static_cast<std::size_t>(index)];
  }
};

Corpus::Corpus(CorpusOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Corpus::~Corpus() = default;
Corpus::Corpus(Corpus&&) noexcept = default;
Corpus& Corpus::operator=(Corpus&&) noexcept = default;

const CorpusOptions& Corpus::options() const { return impl_->options; }
int Corpus::num_sources() const { return static_cast<int>(impl_->sources.size()); }
const std::string& Corpus::source_name(int source) const {
  TERROIR_CHECK(source >= 0 && source < num_sources(), "source {} of {}", source, num_sources());
  return impl_->options.sources[static_cast<std::size_t>(source)].name;
}
const std::string& Corpus::source_language(int source) const { return impl_->source(source).language; }
const std::string& Corpus::source_license(int source) const { return impl_->source(source).license; }
std::int64_t Corpus::num_tokens(int source) const { return impl_->source(source).train.num_tokens(); }
std::int64_t Corpus::num_validation_tokens(int source) const {
  return impl_->source(source).validation.num_tokens();
}
std::int64_t Corpus::windows_per_epoch(int source) const {
  const Source& s = impl_->source(source);
  return s.order ? s.order->windows_per_epoch() : 0;
}
std::int64_t Corpus::windows_drawn(int source, std::int64_t num_samples) const {
  TERROIR_CHECK(source >= 0 && source < num_sources(), "source {} of {}", source, num_sources());
  return impl_->mixture.counts(num_samples)[static_cast<std::size_t>(source)];
}

void Corpus::read(std::int64_t first_sample, std::int64_t count, SampleBatch& out) const {
  TERROIR_CHECK(first_sample >= 0 && count >= 0, "samples {}, {} of them", first_sample, count);
  resize(out, count, impl_->options.sequence_length);
  std::vector<Draw> draws(static_cast<std::size_t>(count));
  impl_->mixture.draws(first_sample, draws);
  for (std::int64_t i = 0; i < count; ++i) {
    const Draw draw = draws[static_cast<std::size_t>(i)];
    const Source& source = impl_->source(draw.source);
    source.train.read_window(source.order->window_start(draw.index), row_of(out, i));
    out.source[static_cast<std::size_t>(i)] = draw.source;
  }
}

std::int64_t Corpus::num_validation_samples(int source) const {
  const std::int64_t length = impl_->options.sequence_length;
  return (impl_->source(source).validation.num_tokens() + length - 1) / length;
}

void Corpus::read_validation(int source, std::int64_t first, std::int64_t count, SampleBatch& out) const {
  TERROIR_CHECK(first >= 0 && count >= 0 && first + count <= num_validation_samples(source),
                "held-out windows {} to {} of {}", first, first + count, num_validation_samples(source));
  resize(out, count, impl_->options.sequence_length);
  for (std::int64_t i = 0; i < count; ++i) {
    impl_->source(source).validation.read_window((first + i) * impl_->options.sequence_length,
                                                 row_of(out, i));
    out.source[static_cast<std::size_t>(i)] = source;
  }
}

Hash128 Corpus::plan_hash() const {
  const CorpusOptions& options = impl_->options;
  std::string plan = fmt::format("terroir-order 1\nseed {}\nsequence_length {}\ncell_tokens {}\n",
                                 options.seed, options.sequence_length, options.cell_tokens);
  for (const MixtureStage& stage : impl_->stages)
    plan += fmt::format("stage {} weights {}\n", stage.first_sample, fmt::join(stage.weights, " "));
  for (int s = 0; s < num_sources(); ++s) {
    plan += fmt::format("source {}\n", source_name(s));
    for (const auto& shard : impl_->source(s).train.shards())
      plan += fmt::format("shard {}\n", shard->index_hash().hex());
  }
  return xxh3_128(std::as_bytes(std::span(plan)));
}

}  // namespace terroir
