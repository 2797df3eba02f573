#include "trainer/eval/language_model.h"

#include <algorithm>

#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/matmul/matmul.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/tensor/elementwise.h"
#include "parallel/world.h"
#include "trainer/checkpoint/checkpoint.h"

namespace terroir {
namespace {

constexpr std::int64_t kPieceTokens = 256;  // of a long text at a time: bounds activation memory

Tokenizer tokenizer_of(const std::filesystem::path& checkpoint) {
  const auto text = read_checkpoint_file(checkpoint, "tokenizer.json");
  if (!text)
    throw UserError(ExitCode::kCheckpoint, Place{checkpoint.string()},
                    "holds no tokenizer.json: it was made from a model without one");
  return Tokenizer::parse(*text, (checkpoint / "tokenizer.json").string());
}

std::vector<StateSlice> whole_weights(StageParameters& parameters) {
  std::vector<StateSlice> slices;
  ParameterTable& table = parameters.table;
  for (const ParamBlock& block : table.blocks()) {
    const ParamClass& c = table.classes()[static_cast<std::size_t>(block.param_class)];
    auto* params = table.flat_params(c, {0, c.numel()}).data<float>();
    for (const ParamPiece& piece : block.pieces)
      slices.push_back(whole_slice(piece.name, "weight", piece.global_shape, params + piece.offset));
  }
  return slices;
}

}  // namespace

LanguageModel::LanguageModel(const std::filesystem::path& checkpoint, int num_threads)
    : LanguageModel(Resolved{resolve_checkpoint(checkpoint)}, num_threads) {}

LanguageModel::LanguageModel(const Resolved& checkpoint, int num_threads)
    : config_(read_checkpoint_meta(checkpoint.path).model),
      tokenizer_(tokenizer_of(checkpoint.path)),
      world_(local_world()),
      mesh_(std::make_unique<Mesh>(*world_, MeshShape{})),
      parameters_(make_stage_parameters(config_, stage_layout(config_, 1, 0, {}), *mesh_, false, INT64_MAX,
                                        {.memory = ParameterMemory::kParameters})) {
  ctx_.num_threads = num_threads > 0 ? num_threads : threads_per_rank(*world_);
  const std::vector<StateSlice> slices = whole_weights(parameters_);
  load_checkpoint(checkpoint.path, slices);
}

LanguageModel::~LanguageModel() = default;

void LanguageModel::start(std::int64_t capacity) {
  length_ = 0;
  for (KvCache& cache : caches_) cache.length = 0;
  if (capacity <= capacity_) return;
  capacity_ = capacity;
  rope_memory_ = Buffer(capacity * config_.head_dim * 4);
  rope_table_ = rope_memory_.view(DType::kF32, {capacity, config_.head_dim});
  fill_rope_table(config_, rope_table_);
  cache_memory_ = Arena();
  const auto lay_out = [&] {
    caches_.clear();
    for (std::int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      const auto heads = [&] {
        return cache_memory_.allocate(DType::kF32,
                                      {1, capacity, config_.num_key_value_heads, config_.head_dim});
      };
      const auto ids = [&] { return cache_memory_.allocate(DType::kI32, {1, capacity}); };
      caches_.push_back({heads(), heads(), ids(), ids()});
    }
  };
  lay_out();
  cache_memory_.reserve();
  lay_out();
}

// An imported tokenizer may have tokens that were added without rows for them in the model.
void LanguageModel::check_tokens(std::span<const std::int32_t> tokens) const {
  for (const std::int32_t token : tokens)
    if (token < 0 || token >= config_.vocab_size)
      throw UserError(
          ExitCode::kCheckpoint, Place{},
          fmt::format("token {} of the checkpoint's tokenizer is beyond the model's vocabulary of {}: "
                      "the text cannot be read by this model",
                      token, config_.vocab_size));
}

View LanguageModel::forward(std::span<const std::int32_t> tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  TERROIR_CHECK(count > 0 && length_ + count <= capacity_, "{} tokens after {} in a cache for {}", count,
                length_, capacity_);
  SavedLayer saved;
  LayerScratch scratch;
  View residual, delta, normed, rstd, positions, documents;
  const auto lay_out = [&] {
    activations_.reset();
    saved = allocate_saved(activations_, parameters_.shape, 1, count, count);
    scratch = allocate_scratch(activations_, parameters_.shape, 1, count, count, 0);
    const auto rows = [&] { return activations_.allocate(DType::kF32, {count, config_.hidden_size}); };
    residual = rows();
    delta = rows();
    normed = rows();
    rstd = activations_.allocate(DType::kF32, {count});
    positions = activations_.allocate(DType::kI32, {1, count});
    documents = activations_.allocate(DType::kI32, {1, count});
  };
  if (count > activation_tokens_) {
    activations_ = Arena();
    lay_out();
    activations_.reserve();
    activation_tokens_ = count;
  }
  lay_out();

  for (std::int64_t i = 0; i < count; ++i) {
    positions.data<std::int32_t>()[i] = static_cast<std::int32_t>(length_ + i);
    documents.data<std::int32_t>()[i] = 0;
  }
  embedding_forward(ctx_, {.ids = ConstView(tokens.data(), DType::kI32, {count}),
                           .table = parameters_.embedding_weight(),
                           .vocab_begin = 0,
                           .out = residual});
  const TensorRegion region(mesh_->group({Axis::kTensor}, Queue::kTensor), false, count);
  const LayerEnvironment env{ctx_, parameters_.shape, region, scratch, rope_table_, positions, documents};
  for (std::size_t layer = 0; layer < parameters_.num_layers(); ++layer) {
    decoder_forward(env, parameters_.layer_weights(layer), residual, View(), delta, saved, &caches_[layer]);
    add(ctx_, saved.residual2, delta, residual);
  }
  length_ += count;
  rms_norm_forward(ctx_, {.x = residual,
                          .delta = {},
                          .weight = parameters_.final_norm_weight(),
                          .eps = parameters_.shape.eps,
                          .residual_out = {},
                          .y = normed,
                          .rstd = rstd});
  return normed;
}

std::span<const float> LanguageModel::append(std::span<const std::int32_t> tokens) {
  check_tokens(tokens);
  View normed;
  for (std::size_t begin = 0; begin < tokens.size(); begin += kPieceTokens)
    normed = forward(tokens.subspan(begin, std::min<std::size_t>(kPieceTokens, tokens.size() - begin)));
  logits_.resize(static_cast<std::size_t>(config_.vocab_size));
  matmul(ctx_, normed.slice(0, normed.size(0) - 1, normed.size(0)), parameters_.head_weight(),
         View(logits_.data(), DType::kF32, {1, config_.vocab_size}), {.transpose_b = true});
  return logits_;
}

std::vector<float> LanguageModel::negative_log_likelihoods(std::span<const std::int32_t> tokens) {
  check_tokens(tokens);
  if (tokens.size() < 2) return {};
  const std::size_t count = tokens.size() - 1;
  std::vector<float> losses(count);
  start(static_cast<std::int64_t>(count));
  const std::int64_t chunk = linear_cross_entropy_chunk_tokens(kPieceTokens, config_.vocab_size);
  const Buffer workspace(
      linear_cross_entropy_workspace_bytes(chunk, config_.vocab_size, config_.hidden_size));
  for (std::size_t begin = 0; begin < count; begin += kPieceTokens) {
    const std::size_t piece = std::min<std::size_t>(kPieceTokens, count - begin);
    const auto rows = static_cast<std::int64_t>(piece);
    const View normed = forward(tokens.subspan(begin, piece));
    linear_cross_entropy(ctx_, {.x = normed,
                                .w = parameters_.head_weight(),
                                .targets = ConstView(tokens.data() + begin + 1, DType::kI32, {rows}),
                                .loss = View(losses.data() + begin, DType::kF32, {rows}),
                                .workspace = workspace.view(DType::kU8, {workspace.bytes()}),
                                .chunk_tokens = chunk});
  }
  return losses;
}

}  // namespace terroir
