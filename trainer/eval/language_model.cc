#include "trainer/eval/language_model.h"

#include <algorithm>
#include <numeric>

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

}  // namespace

LanguageModel::LanguageModel(const std::filesystem::path& checkpoint, int num_threads, Device device)
    : LanguageModel(Resolved{resolve_checkpoint(checkpoint)}, num_threads, device) {}

LanguageModel::LanguageModel(const Resolved& checkpoint, int num_threads, Device device)
    : stream_(device),
      config_(read_checkpoint_meta(checkpoint.path).model),
      tokenizer_(tokenizer_of(checkpoint.path)),
      world_(local_world()),
      mesh_(std::make_unique<Mesh>(*world_, MeshShape{})),
      parameters_(make_stage_parameters(config_, stage_layout(config_, 1, 0, {}), *mesh_, false, INT64_MAX,
                                        {.memory = ParameterMemory::kParameters, .device = device})),
      cache_memory_(device),
      activations_(device),
      logits_memory_(config_.vocab_size * 4, device) {
  ctx_.stream = stream_;
  ctx_.num_threads = num_threads > 0 ? num_threads : threads_per_rank(*world_);
  load(checkpoint.path);
}

// Into the parameters themselves on the CPU, through host memory elsewhere.
void LanguageModel::load(const std::filesystem::path& checkpoint) {
  ParameterTable& table = parameters_.table;
  std::vector<View> on_host;  // of each class
  std::vector<Buffer> memory;
  for (const ParamClass& c : table.classes()) {
    View params = table.flat_params(c, {0, c.numel()});
    if (!(params.device() == Device{}))
      params = memory.emplace_back(c.numel() * 4).view(DType::kF32, {c.numel()});
    on_host.push_back(params);
  }
  std::vector<StateSlice> slices;
  for (const ParamBlock& block : table.blocks())
    for (const ParamPiece& piece : block.pieces)
      slices.push_back(
          whole_slice(piece.name, "weight", piece.global_shape,
                      on_host[static_cast<std::size_t>(block.param_class)].data<float>() + piece.offset));
  load_checkpoint(checkpoint, slices);
  for (std::size_t i = 0; i < memory.size(); ++i)
    transfer(stream_, on_host[i], table.flat_params(table.classes()[i], {0, table.classes()[i].numel()}));
  synchronize(stream_);
}

LanguageModel::~LanguageModel() = default;

void LanguageModel::start(std::int64_t capacity) {
  length_ = 0;
  for (KvCache& cache : caches_) cache.length = 0;
  if (capacity <= capacity_) return;
  capacity_ = capacity;
  const Device device = stream_.stream().device();
  const Buffer rope(capacity * config_.head_dim * 4);
  rope_memory_ = Buffer(rope.bytes(), device);
  rope_table_ = rope_memory_.view(DType::kF32, {capacity, config_.head_dim});
  fill_rope_table(config_, rope.view(DType::kF32, {capacity, config_.head_dim}));
  transfer(stream_, rope.view(DType::kF32, {capacity, config_.head_dim}), rope_table_);
  synchronize(stream_);
  cache_memory_ = Arena(device);
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
  synchronize(stream_);  // the piece before is done with its ids and its activations
  SavedLayer saved;
  LayerScratch scratch;
  View residual, delta, normed, rstd, ids;
  const auto lay_out = [&] {
    activations_.reset();
    saved = allocate_saved(activations_, parameters_.shape, 1, count, count);
    scratch = allocate_scratch(activations_, parameters_.shape, 1, count, count, 0);
    const auto rows = [&] { return activations_.allocate(DType::kF32, {count, config_.hidden_size}); };
    residual = rows();
    delta = rows();
    normed = rows();
    rstd = activations_.allocate(DType::kF32, {count});
    ids = activations_.allocate(DType::kI32, {3 * count});
  };
  if (count > activation_tokens_) {
    activations_ = Arena(stream_.stream().device());
    lay_out();
    activations_.reserve();
    activation_tokens_ = count;
  }
  lay_out();

  staged_ids_.assign(static_cast<std::size_t>(3 * count), 0);  // tokens; positions; all of document 0
  std::copy(tokens.begin(), tokens.end(), staged_ids_.begin());
  std::iota(staged_ids_.begin() + count, staged_ids_.begin() + 2 * count, static_cast<std::int32_t>(length_));
  transfer(stream_, ConstView(staged_ids_.data(), DType::kI32, {3 * count}), ids);
  const View positions = ids.slice(0, count, 2 * count).reshape({1, count});
  const View documents = ids.slice(0, 2 * count, 3 * count).reshape({1, count});
  embedding_forward(ctx_, {.ids = ids.slice(0, 0, count),
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
  const View logits = logits_memory_.view(DType::kF32, {1, config_.vocab_size});
  matmul(ctx_, normed.slice(0, normed.size(0) - 1, normed.size(0)), parameters_.head_weight(), logits,
         {.transpose_b = true});
  logits_.resize(static_cast<std::size_t>(config_.vocab_size));
  transfer(stream_, logits, View(logits_.data(), DType::kF32, {1, config_.vocab_size}));
  synchronize(stream_);
  return logits_;
}

std::vector<float> LanguageModel::negative_log_likelihoods(std::span<const std::int32_t> tokens) {
  check_tokens(tokens);
  if (tokens.size() < 2) return {};
  const std::size_t count = tokens.size() - 1;
  std::vector<float> losses(count);
  start(static_cast<std::int64_t>(count));
  const Device device = stream_.stream().device();
  const std::int64_t chunk = linear_cross_entropy_chunk_tokens(kPieceTokens, config_.vocab_size, device);
  const Buffer workspace(linear_cross_entropy_workspace_bytes(chunk, config_.vocab_size, config_.hidden_size,
                                                              DType::kF32, device),
                         device);
  const auto n = static_cast<std::int64_t>(count);
  const Buffer targets(n * 4, device), nats(n * 4, device);
  transfer(stream_, ConstView(tokens.data() + 1, DType::kI32, {n}), targets.view(DType::kI32, {n}));
  for (std::int64_t begin = 0; begin < n; begin += kPieceTokens) {
    const std::int64_t rows = std::min(kPieceTokens, n - begin);
    const View normed =
        forward(tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(rows)));
    linear_cross_entropy(ctx_, {.x = normed,
                                .w = parameters_.head_weight(),
                                .targets = targets.view(DType::kI32, {rows}, begin * 4),
                                .loss = nats.view(DType::kF32, {rows}, begin * 4),
                                .workspace = workspace.view(DType::kU8, {workspace.bytes()}),
                                .chunk_tokens = chunk});
  }
  transfer(stream_, nats.view(DType::kF32, {n}), View(losses.data(), DType::kF32, {n}));
  synchronize(stream_);
  return losses;
}

}  // namespace terroir
