// The loss, the update, and what stands between ops.
#include "kernels/adamw/adamw.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/loss_sums/loss_sums.h"
#include "kernels/squared_norm/squared_norm.h"
#include "kernels/step_scalars/step_scalars.h"
#include "kernels/tensor/elementwise.h"
#include "tests/bench/cuda_cases.h"

namespace terroir::bench {
namespace {

constexpr std::int64_t kSources = 4, kVocabularyRanks = 4;

// Products as the ceiling does them, and the passes over a chunk's logits between them: read for the
// statistics; read and replaced by the gradients.
Case cross_entropy_case(const ModelSizes& model, bool gradients) {
  return {fmt::format("linear_cross_entropy/{}/bf16/{}x{}x{}", gradients ? "gradients" : "loss",
                      model.tokens(), model.vocabulary, model.hidden),
          [=](Memory& m) -> Operation {
            const std::int64_t tokens = model.tokens(), vocabulary = model.vocabulary, hidden = model.hidden;
            const Device device = m.ctx().stream.device();
            const std::int64_t chunk = linear_cross_entropy_chunk_tokens(tokens, vocabulary, device);
            LinearCrossEntropyArgs args{.x = m.random(DType::kBF16, {tokens, hidden}),
                                        .w = m.random(DType::kBF16, {vocabulary, hidden}),
                                        .targets = m.ints(word_ids(tokens, vocabulary)),
                                        .loss = m.zeros(DType::kF32, {tokens}),
                                        .workspace = m.workspace(linear_cross_entropy_workspace_bytes(
                                            chunk, vocabulary, hidden, DType::kBF16, device)),
                                        .chunk_tokens = chunk,
                                        .grad_scale = 1e-6F};
            if (gradients) {
              args.dx = m.zeros(DType::kBF16, {tokens, hidden});
              args.dw = m.zeros(DType::kF32, {vocabulary, hidden});
            }
            const double logits = static_cast<double>(tokens * vocabulary);
            return {{.bytes = (gradients ? 6 : 2) * logits,
                     .flops = (gradients ? 6 : 2) * logits * static_cast<double>(hidden)},
                    [=](OpContext& ctx) { linear_cross_entropy(ctx, args); }};
          }};
}

Case merge_statistics_case(std::int64_t tokens) {
  return {fmt::format("merge_vocab_statistics/f32/{}x3x{}", kVocabularyRanks, tokens),
          [=](Memory& m) -> Operation {
            const View gathered = m.constant(DType::kF32, {kVocabularyRanks, 3, tokens}, 1),
                       merged = m.zeros(DType::kF32, {3, tokens});
            return {{.bytes = bytes_of({gathered, merged})},
                    [=](OpContext& ctx) { merge_vocab_statistics(ctx, gathered, merged); }};
          }};
}

Case loss_sums_case(const ModelSizes& model) {
  return {fmt::format("loss_sums/{}", model.tokens()), [=](Memory& m) -> Operation {
            const LossSumsArgs args{.loss = m.random(DType::kF32, {model.tokens()}),
                                    .targets = m.ints(word_ids(model.tokens(), model.vocabulary)),
                                    .source = m.ints(positions(model.batch, kSources)),
                                    .token_bytes = m.ints(std::vector<std::int32_t>(
                                        static_cast<std::size_t>(model.vocabulary), 4)),
                                    .sums = m.zeros(DType::kF64, {3, kSources})};
            // A token looks up its bytes: as much as a target.
            return {{.bytes = bytes_of({args.loss, args.targets, args.targets, args.source, args.sums})},
                    [=](OpContext& ctx) { loss_sums(ctx, args); }};
          }};
}

// Elements of a layer's matrices.
std::vector<std::int64_t> layer_tensors(const ModelSizes& model) {
  return {model.qkv_columns() * model.hidden, model.heads * model.head_size * model.hidden,
          2 * model.intermediate * model.hidden, model.hidden * model.intermediate};
}

View upload_scalars(Memory& m, const StepScalars& scalars) {
  return m.upload(ConstView(&scalars, DType::kU8, {static_cast<std::int64_t>(sizeof scalars)}));
}

// `kept`: dtype of master weights and gradients.
Case adamw_case(const ModelSizes& model, DType kept) {
  const std::string name = kept == DType::kF32 ? "adamw/layer_of_" : "adamw/bf16/layer_of_";
  return {name + model.name, [=](Memory& m) -> Operation {
            const View scalars = upload_scalars(m, {.learning_rate = 1e-4F});
            std::vector<AdamWArgs> list;
            double bytes = 0;
            for (const std::int64_t n : layer_tensors(model)) {
              const AdamWArgs& args = list.emplace_back(
                  AdamWArgs{.params = m.random(kept, {n}),
                            .grads = m.random(kept, {n}),
                            .exp_avg = m.random(DType::kF32, {n}),
                            .exp_avg_sq = m.constant(DType::kF32, {n}, 1),
                            .params_bf16 = kept == DType::kF32 ? m.zeros(DType::kBF16, {n}) : View(),
                            .scalars = static_cast<const StepScalars*>(scalars.raw()),
                            .options = {.weight_decay = 0.1}});
              bytes += bytes_of({args.params, args.params, args.grads, args.exp_avg, args.exp_avg,
                                 args.exp_avg_sq, args.exp_avg_sq, args.params_bf16});
            }
            return {{.bytes = bytes}, [list](OpContext& ctx) { adamw(ctx, list); }};
          }};
}

Case squared_norm_case(const ModelSizes& model, DType dtype) {
  const std::string name = dtype == DType::kF32 ? "squared_norm/layer_of_" : "squared_norm/bf16/layer_of_";
  return {name + model.name, [=](Memory& m) -> Operation {
            std::vector<ConstView> list;
            double bytes = 0;
            for (const std::int64_t n : layer_tensors(model)) {
              list.push_back(m.random(dtype, {n}));
              bytes += bytes_of({list.back()});
            }
            const View out = m.zeros(DType::kF64, {1}),
                       workspace = m.workspace(squared_norm_workspace(m.ctx().stream.device()));
            return {{.bytes = bytes}, [=](OpContext& ctx) {
                      squared_norm(ctx, {.x = list, .out = out, .nonfinite = {}, .workspace = workspace});
                    }};
          }};
}

Case step_scalars_case() {
  return {fmt::format("step_scalars/{}_sources", kSources), [](Memory& m) -> Operation {
            const View scalars = upload_scalars(m, {});
            const StepScalarsArgs args{.totals = m.zeros(DType::kF64, {3 * kSources + 1}),
                                       .num_sources = kSources,
                                       .rates = m.constant(DType::kF32, {3}, 1),
                                       .rounding_seed = m.ints({1}),
                                       .grad_clip = 1,
                                       .grad_norm = m.zeros(DType::kF64, {1}),
                                       .scalars = static_cast<StepScalars*>(scalars.raw())};
            return {{.bytes = bytes_of({args.totals, args.rates, args.grad_norm, scalars})},
                    [=](OpContext& ctx) { step_scalars(ctx, args); }};
          }};
}

}  // namespace

void add_loss_cases(const ModelSizes& model, std::vector<Case>& cases) {
  cases.push_back(cross_entropy_case(model, true));
  cases.push_back(cross_entropy_case(model, false));
  cases.push_back(merge_statistics_case(model.tokens()));
  cases.push_back(loss_sums_case(model));
}

void add_update_cases(const ModelSizes& model, std::vector<Case>& cases) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    cases.push_back(adamw_case(model, dtype));
    cases.push_back(squared_norm_case(model, dtype));
  }
}

void add_elementwise_cases(const BenchSizes& sizes, std::vector<Case>& cases) {
  const std::int64_t n = sizes.elements;
  const auto add_case = [&](const std::string& name, std::function<Operation(Memory&)> prepare) {
    cases.push_back({fmt::format("{}/{}", name, n), std::move(prepare)});
  };
  const auto from_to = [n](auto op, DType from_dtype, DType to_dtype) {
    return [=](Memory& m) -> Operation {
      const View from = m.random(from_dtype, {n}), to = m.zeros(to_dtype, {n});
      return {{.bytes = bytes_of({from, to})}, [=](OpContext& ctx) { op(ctx, from, to); }};
    };
  };
  add_case("copy/bf16", from_to(copy, DType::kBF16, DType::kBF16));
  add_case("cast/f32_to_bf16", from_to(cast, DType::kF32, DType::kBF16));
  add_case("cast/bf16_to_f32", from_to(cast, DType::kBF16, DType::kF32));
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    add_case(fmt::format("add/{}", dtype_name(dtype)), [=](Memory& m) -> Operation {
      const View a = m.random(dtype, {n}), b = m.random(dtype, {n}), out = m.zeros(dtype, {n});
      return {{.bytes = bytes_of({a, b, out})}, [=](OpContext& ctx) { add(ctx, a, b, out); }};
    });
    add_case(fmt::format("fill/{}", dtype_name(dtype)), [=](Memory& m) -> Operation {
      const View out = m.zeros(dtype, {n});
      return {{.bytes = bytes_of({out})}, [=](OpContext& ctx) { fill(ctx, out, 1); }};
    });
  }
  add_case("scale/f32", [=](Memory& m) -> Operation {
    const View x = m.random(DType::kF32, {n});
    return {{.bytes = bytes_of({x, x})}, [=](OpContext& ctx) { scale(ctx, x, -1); }};
  });
  cases.push_back(step_scalars_case());
}

}  // namespace terroir::bench
