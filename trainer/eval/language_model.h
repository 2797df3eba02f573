// A trained model in one process, on the CPU or a GPU, for evaluation and generation: weights from a
// checkpoint, a key/value cache, all in f32.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "data/tokenizer/tokenizer.h"
#include "kernels/tensor/device.h"
#include "trainer/model/stage_model.h"

namespace terroir {

class LanguageModel {
 public:
  // Reads weights and tokenizer of a checkpoint (a step folder or a run folder). UserError, exit 4, when it
  // is damaged or holds no tokenizer. `num_threads` 0: as many as the process may use.
  explicit LanguageModel(const std::filesystem::path& checkpoint, int num_threads = 0, Device device = {});
  ~LanguageModel();

  const Tokenizer& tokenizer() const { return tokenizer_; }
  const ModelConfig& config() const { return config_; }

  // Empties the cache and makes room for `capacity` tokens.
  void start(std::int64_t capacity);
  // Appends tokens and returns the logits after the last of them, [vocab_size], valid until the next call.
  // REQUIRES: there is room, and at least one token.
  std::span<const float> append(std::span<const std::int32_t> tokens);
  std::int64_t length() const { return length_; }

  // Negative log-likelihood, in nats, of tokens[i + 1] given tokens[0..i], for every i. Reads the tokens in
  // pieces of bounded size, each token attending to all before it.
  std::vector<float> negative_log_likelihoods(std::span<const std::int32_t> tokens);

 private:
  struct Resolved {
    std::filesystem::path path;
  };
  LanguageModel(const Resolved& checkpoint, int num_threads, Device device);
  void load(const std::filesystem::path& checkpoint);
  // UserError, exit 4, for a token that the model has no row for.
  void check_tokens(std::span<const std::int32_t> tokens) const;
  // Runs the layers over tokens appended to the cache; returns the final norm's output [T, H]. Enqueued.
  View forward(std::span<const std::int32_t> tokens);

  OwnedStream stream_;
  OpContext ctx_;
  ModelConfig config_;
  Tokenizer tokenizer_;
  std::unique_ptr<World> world_;
  std::unique_ptr<Mesh> mesh_;
  StageParameters parameters_;
  Arena cache_memory_, activations_;
  Buffer rope_memory_;
  std::vector<KvCache> caches_;
  View rope_table_;
  Buffer logits_memory_;
  std::vector<float> logits_;
  std::vector<std::int32_t> staged_ids_;  // that a forward's ids are copied from
  std::int64_t capacity_ = 0, length_ = 0;
  std::int64_t activation_tokens_ = 0;  // that the activations' memory is for
};

}  // namespace terroir
