#include "trainer/model/layer_attention.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/tensor/elementwise.h"

namespace terroir {
namespace {

// Columns [begin, begin + heads * D) of an activation [T, C] as [B, S, heads, D].
View as_sequences(View activation, std::int64_t begin, std::int64_t heads, std::int64_t head_dim,
                  std::int64_t sequence) {
  return activation.slice(1, begin, begin + heads * head_dim).split(1, head_dim).split(0, sequence);
}

struct QkvViews {
  View q, k, v;  // [B, S, heads, D]
};
QkvViews split_qkv(const LayerShape& shape, View qkv, std::int64_t sequence) {
  const std::int64_t k_begin = shape.query_columns(), v_begin = k_begin + shape.kv_columns();
  return {as_sequences(qkv, 0, shape.heads, shape.head_dim, sequence),
          as_sequences(qkv, k_begin, shape.kv_heads, shape.head_dim, sequence),
          as_sequences(qkv, v_begin, shape.kv_heads, shape.head_dim, sequence)};
}

// Which document a token is of, and where in it.
struct Places {
  ConstView positions, documents;  // i32 [B, S]
  AttentionDocuments known;
};

AttentionInputs inputs_of(const LayerShape& shape, const SavedLayer& saved, const Places& places) {
  const QkvViews qkv = split_qkv(shape, saved.qkv, places.positions.size(1));
  return {.q = qkv.q,
          .k = qkv.k,
          .v = qkv.v,
          .positions_q = places.positions,
          .positions_k = places.positions,
          .documents_q = places.documents,
          .documents_k = places.documents,
          .options = {.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
                      .q_heads_per_kv = shape.heads_per_kv,
                      .q_head_offset = shape.head_offset},
          .known_documents = places.known};
}

void append(const LayerEnvironment& env, KvCache& cache, AttentionInputs& inputs) {
  const std::int64_t begin = cache.length, end = begin + env.positions.size(1);
  copy(env.ctx, inputs.k, cache.keys.slice(1, begin, end));
  copy(env.ctx, inputs.v, cache.values.slice(1, begin, end));
  copy(env.ctx, env.positions, cache.positions.slice(1, begin, end));
  copy(env.ctx, env.documents, cache.documents.slice(1, begin, end));
  cache.length = end;
  inputs.k = cache.keys.slice(1, 0, end);
  inputs.v = cache.values.slice(1, 0, end);
  inputs.positions_k = cache.positions.slice(1, 0, end);
  inputs.documents_k = cache.documents.slice(1, 0, end);
  inputs.known_documents = {};
}

AttentionForwardArgs forward_args(const LayerShape& shape, const SavedLayer& saved, const Places& places) {
  const std::int64_t sequence = places.positions.size(1);
  return {.inputs = inputs_of(shape, saved, places),
          .o = as_sequences(saved.attention_out, 0, shape.heads, shape.head_dim, sequence),
          .lse = saved.lse};
}

AttentionBackwardArgs backward_args(const LayerShape& shape, const SavedLayer& saved, const Places& places,
                                    View dout, View dqkv) {
  const std::int64_t sequence = places.positions.size(1);
  const QkvViews d = split_qkv(shape, dqkv, sequence);
  return {.inputs = inputs_of(shape, saved, places),
          .o = as_sequences(saved.attention_out, 0, shape.heads, shape.head_dim, sequence),
          .lse = saved.lse,
          .dout = as_sequences(dout, 0, shape.heads, shape.head_dim, sequence),
          .dq = d.q,
          .dk = d.k,
          .dv = d.v,
          .workspace = {}};
}

// A kind of micro-batch in one direction.
struct Case {
  std::string name;
  AttentionKernels kernels;
};

// "cuDNN 9.19.0: rows of one document forward and backward; Terroir's ...: packed documents forward ...".
std::string describe(const std::vector<Case>& cases) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto like_this = [&](const Case& other) {
      return other.kernels.name == cases[i].kernels.name && other.kernels.reason == cases[i].kernels.reason;
    };
    if (std::any_of(cases.begin(), cases.begin() + static_cast<std::ptrdiff_t>(i), like_this)) continue;
    std::vector<std::string> names;
    for (const Case& other : cases)
      if (like_this(other)) names.push_back(other.name);
    const AttentionKernels& kernels = cases[i].kernels;
    const std::string reason = kernels.reason.empty() ? "" : fmt::format(" ({})", kernels.reason);
    const std::string what =
        names.size() == cases.size() ? "" : fmt::format(" for {}", fmt::join(names, ", "));
    parts.push_back(kernels.name + what + reason);
  }
  return fmt::format("{}", fmt::join(parts, "; "));
}

}  // namespace

void layer_attention_forward(const LayerEnvironment& env, const SavedLayer& saved, KvCache* cache) {
  AttentionForwardArgs args =
      forward_args(env.shape, saved, {env.positions, env.documents, env.known_documents});
  args.workspace = env.scratch.workspace;
  if (cache != nullptr) append(env, *cache, args.inputs);
  attention_forward(env.ctx, args);
}

void layer_attention_backward(const LayerEnvironment& env, const SavedLayer& saved, View dout, View dqkv) {
  AttentionBackwardArgs args =
      backward_args(env.shape, saved, {env.positions, env.documents, env.known_documents}, dout, dqkv);
  args.workspace = env.scratch.workspace;
  attention_backward(env.ctx, args);
}

AttentionPlan plan_attention(OpContext& ctx, const LayerShape& shape, std::int64_t batch,
                             std::int64_t sequence, std::int64_t max_documents) {
  Arena shapes(ctx.stream.device());  // without memory
  const std::int64_t tokens = batch * sequence;
  const SavedLayer saved = allocate_saved(shapes, shape, batch, sequence, tokens);
  const LayerScratch scratch = allocate_scratch(shapes, shape, batch, sequence, tokens, 0);
  const auto i32 = [&](std::initializer_list<std::int64_t> dims) {
    return shapes.allocate(DType::kI32, dims);
  };
  Places places = {i32({batch, sequence}), i32({batch, sequence}), {}};
  AttentionPlan plan;
  std::vector<Case> cases;
  const auto ask = [&](const std::string& name, const auto& args) {
    Case& asked = cases.emplace_back(Case{name, {}});
    plan.workspace_bytes =
        std::max(plan.workspace_bytes, attention_workspace_bytes(ctx, args, &asked.kernels));
  };
  const auto ask_both_ways = [&](const std::string& name, const AttentionDocuments& known) {
    places.known = known;
    ask(name + " forward", forward_args(shape, saved, places));
    ask(name + " backward", backward_args(shape, saved, places, scratch.narrow(shape.query_columns()),
                                          scratch.wide(shape.qkv_columns())));
  };
  ask_both_ways("rows of one document", {.one_per_row = true, .starts = {}});
  const bool rows = cases[0].kernels.cudnn && cases[1].kernels.cudnn;
  ask_both_ways("packed documents", {.one_per_row = false, .starts = i32({max_documents + 1})});
  if (ctx.stream.device().kind != DeviceKind::kCpu)
    plan.description = fmt::format("{}; {:.1f} MiB of workspace{}", describe(cases),
                                   static_cast<double>(plan.workspace_bytes) / 1048576,
                                   ctx.deterministic ? "" : ", other bits at every run");
  if (ctx.cache<AttentionPolicy>().kernels == AttentionPolicy::Kernels::kCudnn && !rows)
    plan.refusal = fmt::format("cuDNN cannot compute it here: {}", describe(cases));
  return plan;
}

}  // namespace terroir
