#include "data/shard/build_shards.h"

#include <algorithm>
#include <atomic>
#include <cctype>
#include <exception>
#include <span>

#include "base/parallel_for.h"
#include "data/shard/build_folder.h"
#include "data/shard/document_buckets.h"
#include "data/shard/held_out_rule.h"
#include "data/shard/shard_series.h"

namespace terroir {
namespace {

// Encoded at a time: enough text to keep several threads busy, little beside memory_bytes.
constexpr std::uint64_t kBatchBytes = std::uint64_t{8} << 20;

bool only_has(const std::string& text, const char* also_allowed) {
  return std::all_of(text.begin(), text.end(), [also_allowed](unsigned char c) {
    return (c < 0x80 && std::isalnum(c) != 0) ||
           std::string_view(also_allowed).find(static_cast<char>(c)) != std::string_view::npos;
  });
}

// Encodes batches of documents on several threads.
class BatchEncoder {
 public:
  BatchEncoder(const Tokenizer& tokenizer, int num_threads)
      : tokenizer_(tokenizer), states_(static_cast<std::size_t>(num_threads)) {}

  void encode(const std::vector<Document>& documents, std::vector<TokenizedDocument>& encoded) {
    encoded.resize(documents.size());
    std::atomic<std::size_t> next = 0;
    const auto threads = static_cast<int>(states_.size());
    std::vector<std::exception_ptr> failures(states_.size());
    parallel_for(threads, threads, 1, [&](std::int64_t first, std::int64_t last) {
      for (auto worker = static_cast<std::size_t>(first); worker < static_cast<std::size_t>(last); ++worker) {
        try {
          for (std::size_t i = next++; i < documents.size(); i = next++)
            encode_one(documents[i], states_[worker], encoded[i]);
        } catch (...) {
          failures[worker] = std::current_exception();
        }
      }
    });
    for (const std::exception_ptr& failure : failures)
      if (failure) std::rethrow_exception(failure);
  }

 private:
  struct State {
    EncoderState encoder;
    std::vector<std::int32_t> ids;
  };

  void encode_one(const Document& document, State& state, TokenizedDocument& out) const {
    state.ids.clear();
    if (const auto bos = tokenizer_.bos_id()) state.ids.push_back(*bos);
    tokenizer_.encode(document.text, SpecialTokens::kAsText, state.encoder, state.ids);
    if (const auto eos = tokenizer_.eos_id()) state.ids.push_back(*eos);
    const auto bytes_of = [](const std::string& text) { return std::as_bytes(std::span(text)); };
    out.content = xxh3_128(bytes_of(document.text));
    out.id = document.id ? xxh3_128(bytes_of(*document.id)).low : out.content.low;
    out.text_bytes = static_cast<std::uint32_t>(document.text.size());
    out.tokens.assign(state.ids.begin(), state.ids.end());
  }

  const Tokenizer& tokenizer_;
  std::vector<State> states_;
};

// Reads all files into the buckets.
class Ingest {
 public:
  Ingest(const BuildOptions& options, const Tokenizer& tokenizer, DocumentBuckets& buckets,
         HeldOutRule& held_out)
      : options_(options), encoder_(tokenizer, options.num_threads), buckets_(buckets), held_out_(held_out) {}

  // Returns the number of documents.
  std::int64_t run() {
    for (const std::filesystem::path& file : options_.files) {
      DocumentReader reader(file, options_.reader);
      for (Document document; reader.next(document);) {
        batch_bytes_ += document.text.size();
        batch_.push_back(std::move(document));
        if (batch_bytes_ >= kBatchBytes) flush();
      }
    }
    flush();
    return progress_.documents;
  }

 private:
  void flush() {
    encoder_.encode(batch_, encoded_);
    for (const TokenizedDocument& document : encoded_) {
      held_out_.see(document.content);
      buckets_.add(document);
      progress_.documents += 1;
      progress_.tokens += static_cast<std::int64_t>(document.tokens.size());
      progress_.text_bytes += document.text_bytes;
    }
    batch_.clear();
    batch_bytes_ = 0;
    if (options_.progress) options_.progress(progress_);
  }

  const BuildOptions& options_;
  BatchEncoder encoder_;
  DocumentBuckets& buckets_;
  HeldOutRule& held_out_;
  std::vector<Document> batch_;
  std::uint64_t batch_bytes_ = 0;
  std::vector<TokenizedDocument> encoded_;
  BuildProgress progress_ = {"reading"};
};

ShardInfo info_for(const BuildOptions& options, const Tokenizer& tokenizer, const char* split) {
  ShardInfo info;
  info.source = options.source;
  info.language = options.language;
  info.license = options.license;
  info.origin = options.origin;
  info.split = split;
  info.tokenizer_sha256 = tokenizer.sha256();
  info.vocab_size = tokenizer.vocab_size();
  info.bos_id = tokenizer.bos_id().value_or(-1);
  info.eos_id = tokenizer.eos_id().value_or(-1);
  info.seed = static_cast<std::int64_t>(options.seed);
  return info;
}

// Takes the documents out of the buckets, in order, into shards of both splits.
std::vector<ManifestShard> write_shards(const BuildOptions& options, const Tokenizer& tokenizer,
                                        DocumentBuckets& buckets, const HeldOutRule& held_out,
                                        const std::filesystem::path& folder) {
  ShardSeries train(folder, info_for(options, tokenizer, kTrainSplit), options.shard_tokens);
  ShardSeries validation(folder, info_for(options, tokenizer, kValidationSplit), options.shard_tokens);
  BuildProgress progress = {"writing"};
  for (int bucket = 0; bucket < DocumentBuckets::kNumBuckets; ++bucket) {
    for (const TokenizedDocument& document : buckets.take(bucket)) {
      (held_out.holds_out(document.content) ? validation : train).add(document);
      progress.documents += 1;
      progress.tokens += static_cast<std::int64_t>(document.tokens.size());
      progress.text_bytes += document.text_bytes;
    }
    if (options.progress) options.progress(progress);
  }
  train.finish();
  validation.finish();
  if (train.shards().empty())
    throw UserError(ExitCode::kData, Place{}, "every document was held out: lower --validation-fraction");
  std::vector<ManifestShard> shards = train.shards();
  shards.insert(shards.end(), validation.shards().begin(), validation.shards().end());
  return shards;
}

Manifest manifest_for(const BuildOptions& options, const Tokenizer& tokenizer) {
  Manifest manifest;
  manifest.source = options.source;
  manifest.language = options.language;
  manifest.license = options.license;
  manifest.origin = options.origin;
  manifest.tokenizer_sha256 = tokenizer.sha256();
  manifest.vocab_size = tokenizer.vocab_size();
  OrderedJson files = OrderedJson::array();
  for (const std::filesystem::path& file : options.files) files.push_back(file.string());
  manifest.build = {
      {"seed", options.seed},
      {"validation_fraction", options.validation_fraction},
      {"shard_tokens", options.shard_tokens},
      {"text_key", options.reader.text_key},
      {"invalid_utf8", options.reader.invalid_utf8 == InvalidUtf8::kRefuse ? "refuse" : "replace"},
      {"files", files}};
  return manifest;
}

}  // namespace

std::vector<Problem> validate(const BuildOptions& options) {
  std::vector<Problem> problems;
  const auto require = [&problems](bool good, const char* key, const std::string& message) {
    if (!good) problems.push_back({Place{"", 0, 0, key}, message});
  };
  require(!options.source.empty() && options.source.front() != '.' && only_has(options.source, "._-") &&
              !options.source.ends_with("-validation") && options.source.size() <= 128,
          "--source",
          "must be letters, digits, '.', '_' and '-', and not end in -validation: it names files");
  require(!options.language.empty() && only_has(options.language, "-") && options.language.size() <= 64,
          "--language", "must be a language tag such as ko or zh-Hant");
  require(!options.license.empty() && only_has(options.license, ".-+:() ") && options.license.size() <= 1024,
          "--license",
          "must be an SPDX expression such as CC-BY-SA-4.0; LicenseRef-NAME for one of your own");
  require(options.origin.size() <= kMaxAttributeBytes && options.origin.find('\0') == std::string::npos,
          "--origin", fmt::format("must have at most {} bytes", kMaxAttributeBytes));
  require(options.validation_fraction >= 0 && options.validation_fraction <= 0.5, "--validation-fraction",
          "must be 0 to 0.5");
  require(options.shard_tokens >= 1 && options.shard_tokens <= kMaxShardTokens / 2, "--shard-tokens",
          fmt::format("must be 1 to {}", kMaxShardTokens / 2));
  require(options.num_threads >= 1, "--threads", "must be at least 1");
  require(!options.files.empty(), "FILE", "at least one file is needed");
  return problems;
}

Manifest build_shards(const BuildOptions& options, const Tokenizer& tokenizer) {
  if (std::vector<Problem> problems = validate(options); !problems.empty())
    throw UserError(ExitCode::kUsage, std::move(problems));
  const std::filesystem::path final_manifest = manifest_path(options.out_folder, options.source);
  if (std::filesystem::exists(final_manifest) && !options.overwrite)
    throw UserError(
        ExitCode::kUsage, Place{final_manifest.string()},
        fmt::format("source {} is already built here: pass --overwrite to build it again", options.source));

  terroir::create_directories(options.out_folder);
  const BuildFolder folder(options.out_folder, options.source);
  DocumentBuckets buckets(options.seed, folder.path(), options.memory_bytes);
  HeldOutRule held_out(options.validation_fraction);
  Manifest manifest = manifest_for(options, tokenizer);
  manifest.documents_read = Ingest(options, tokenizer, buckets, held_out).run();
  if (manifest.documents_read == 0)
    throw UserError(ExitCode::kData, Place{options.files.front().string()},
                    "no document in the input: it is empty");
  manifest.shards = write_shards(options, tokenizer, buckets, held_out, folder.path());
  manifest.duplicates = buckets.duplicates();
  folder.publish(manifest);
  return manifest;
}

}  // namespace terroir
