// Matrix products of a layer, and attention: bound by arithmetic.
#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/matmul/matmul.h"
#include "tests/bench/cuda_cases.h"

namespace terroir::bench {
namespace {

// c [m, n] of products of length k.
Case matmul_case(const std::string& name, std::int64_t m, std::int64_t n, std::int64_t k,
                 MatmulOptions options, DType in, DType out) {
  return {fmt::format("matmul/{}/{}x{}x{}", name, m, n, k), [=](Memory& memory) -> Operation {
            const View a = options.transpose_a ? memory.random(in, {k, m}) : memory.random(in, {m, k});
            const View b = options.transpose_b ? memory.random(in, {n, k}) : memory.random(in, {k, n});
            const View c = memory.zeros(out, {m, n});
            return {{.flops = 2.0 * static_cast<double>(m * n * k)},
                    [=](OpContext& ctx) { matmul(ctx, a, b, c, options); }};
          }};
}

// The three products of a linear layer: y = x w^T; dx = dy w; dw += dy^T x, in f32.
void add_linear_cases(const std::string& name, std::int64_t tokens, std::int64_t in, std::int64_t out,
                      std::vector<Case>& cases) {
  constexpr DType kBF16 = DType::kBF16;
  cases.push_back(matmul_case("forward/" + name, tokens, out, in, {.transpose_b = true}, kBF16, kBF16));
  cases.push_back(matmul_case("input_gradient/" + name, tokens, in, out, {}, kBF16, kBF16));
  cases.push_back(matmul_case("weight_gradient/" + name, out, in, tokens,
                              {.transpose_a = true, .accumulate = true}, kBF16, DType::kF32));
}

// Tensors of one call, q, k and v as pieces of a fused activation as in the model.
struct Attention {
  AttentionShape shape;
  View fused, o, lse;
  AttentionInputs inputs;

  Attention(Memory& m, const AttentionShape& s, DType dtype) : shape(s) {
    fused = m.random(dtype, {s.batch * s.sequence, (s.heads + 2 * s.kv_heads) * s.head_size});
    o = m.zeros(dtype, {s.batch, s.sequence, s.heads, s.head_size});
    lse = m.zeros(DType::kF32, {s.batch, s.heads, s.sequence});
    const std::int64_t document = s.sequence / s.documents;
    std::vector<std::int32_t> place = positions(s.batch * s.sequence, document), number = place;
    for (std::size_t t = 0; t < number.size(); ++t) number[t] = static_cast<std::int32_t>(t) - place[t];
    const View position = m.ints(place).reshape({s.batch, s.sequence}),
               documents = m.ints(number).reshape({s.batch, s.sequence});
    inputs = {.q = heads_of(fused, 0, s.heads),
              .k = heads_of(fused, s.heads, s.kv_heads),
              .v = heads_of(fused, s.heads + s.kv_heads, s.kv_heads),
              .positions_q = position,
              .positions_k = position,
              .documents_q = documents,
              .documents_k = documents,
              .options = {.scale = 1 / std::sqrt(static_cast<float>(s.head_size)),
                          .q_heads_per_kv = s.heads / s.kv_heads}};
  }
  // [B, S, heads, D] of an activation [B S, (N + 2 K) D].
  View heads_of(const View& activation, std::int64_t begin, std::int64_t count) const {
    return activation.slice(1, begin * shape.head_size, (begin + count) * shape.head_size)
        .split(1, shape.head_size)
        .split(0, shape.sequence);
  }
};

// Of `products` matrix products over the pairs of tokens that a causal query sees.
double attention_flops(const AttentionShape& s, double products) {
  const double document = static_cast<double>(s.sequence / s.documents);
  const double pairs = static_cast<double>(s.batch * s.documents) * document * (document + 1) / 2;
  return products * 2 * static_cast<double>(s.heads * s.head_size) * pairs;
}

std::string attention_name(const AttentionShape& s, DType dtype) {
  return fmt::format("{}/{}x{}/heads:{}:{}x{}{}", dtype_name(dtype), s.batch, s.sequence, s.heads, s.kv_heads,
                     s.head_size, s.documents > 1 ? fmt::format("/documents:{}", s.documents) : "");
}

// Whose kernels: our own, or what attention takes where the host knows the documents.
enum class Whose { kOwn, kCudnn };

AttentionDocuments known_documents(Memory& m, const AttentionShape& s, Whose whose) {
  if (whose == Whose::kOwn) return {};
  if (s.documents == 1) return {.one_per_row = true, .starts = {}};
  std::vector<std::int32_t> starts;
  for (std::int64_t i = 0; i <= s.batch * s.documents; ++i)
    starts.push_back(static_cast<std::int32_t>(i * (s.sequence / s.documents)));
  return {.one_per_row = false, .starts = m.ints(starts)};
}

// Throws SystemError where cuDNN is wanted and does not compute it.
template <class Args>
void add_workspace(Memory& m, Whose whose, Args& args) {
  AttentionKernels kernels;
  const std::int64_t bytes = attention_workspace_bytes(m.ctx(), args, &kernels);
  if (whose == Whose::kCudnn && !kernels.cudnn) throw SystemError("attention through cuDNN", kernels.reason);
  args.workspace = m.workspace(bytes);
}

AttentionForwardArgs forward_args(Memory& m, const Attention& a, Whose whose) {
  AttentionForwardArgs args{.inputs = a.inputs, .o = a.o, .lse = a.lse};
  args.inputs.known_documents = known_documents(m, a.shape, whose);
  add_workspace(m, whose, args);
  return args;
}

std::string attention_name(const char* op, Whose whose, const AttentionShape& shape, DType dtype) {
  return fmt::format("{}/{}{}", op, whose == Whose::kCudnn ? "cudnn/" : "", attention_name(shape, dtype));
}

Case attention_forward_case(const AttentionShape& shape, DType dtype, Whose whose) {
  return {
      attention_name("attention_forward", whose, shape, dtype), [=](Memory& m) -> Operation {
        const AttentionForwardArgs args = forward_args(m, Attention(m, shape, dtype), whose);
        return {{.flops = attention_flops(shape, 2)}, [=](OpContext& ctx) { attention_forward(ctx, args); }};
      }};
}

Case attention_backward_case(const AttentionShape& shape, DType dtype, Whose whose) {
  return {
      attention_name("attention_backward", whose, shape, dtype), [=](Memory& m) -> Operation {
        const Attention a(m, shape, dtype);
        const View gradients = m.zeros(dtype, {shape.batch * shape.sequence, a.fused.size(1)});
        const AttentionForwardArgs forward = forward_args(m, a, whose);
        AttentionBackwardArgs args{
            .inputs = forward.inputs,
            .o = a.o,
            .lse = a.lse,
            .dout = m.random(dtype, {shape.batch, shape.sequence, shape.heads, shape.head_size}),
            .dq = a.heads_of(gradients, 0, shape.heads),
            .dk = a.heads_of(gradients, shape.heads, shape.kv_heads),
            .dv = a.heads_of(gradients, shape.heads + shape.kv_heads, shape.kv_heads),
            .workspace = {}};
        add_workspace(m, whose, args);
        if (!m.planning()) attention_forward(m.ctx(), forward);
        return {{.flops = attention_flops(shape, 5)}, [=](OpContext& ctx) { attention_backward(ctx, args); }};
      }};
}

Case attention_merge_case(const AttentionShape& s) {
  return {"attention_merge/" + attention_name(s, DType::kBF16), [=](Memory& m) -> Operation {
            const auto o = [&] {
              return m.random(DType::kBF16, {s.batch, s.sequence, s.heads, s.head_size});
            };
            const auto lse = [&] { return m.random(DType::kF32, {s.batch, s.heads, s.sequence}); };
            const AttentionMergeArgs args{.o_a = o(), .lse_a = lse(), .o_b = o(), .lse_b = lse()};
            return {{.bytes = bytes_of({args.o_a, args.o_a, args.lse_a, args.lse_a, args.o_b, args.lse_b})},
                    [=](OpContext& ctx) { attention_merge(ctx, args); }};
          }};
}

}  // namespace

void add_matmul_cases(const BenchSizes& sizes, std::vector<Case>& cases) {
  for (const ModelSizes& model : sizes.models) {
    const std::int64_t tokens = model.tokens(), queries = model.heads * model.head_size;
    add_linear_cases(model.name + "_qkv", tokens, model.hidden, model.qkv_columns(), cases);
    add_linear_cases(model.name + "_o", tokens, queries, model.hidden, cases);
    add_linear_cases(model.name + "_gate_up", tokens, model.hidden, 2 * model.intermediate, cases);
    add_linear_cases(model.name + "_down", tokens, model.intermediate, model.hidden, cases);
  }
  const std::int64_t n = sizes.f32_matrix_size;
  cases.push_back(matmul_case("f32", n, n, n, {.transpose_b = true}, DType::kF32, DType::kF32));
}

void add_attention_cases(const BenchSizes& sizes, std::vector<Case>& cases) {
  for (const AttentionShape& shape : sizes.attention) {
    for (const Whose whose : {Whose::kOwn, Whose::kCudnn}) {
      cases.push_back(attention_forward_case(shape, DType::kBF16, whose));
      cases.push_back(attention_backward_case(shape, DType::kBF16, whose));
    }
  }
  cases.push_back(attention_forward_case(sizes.attention_f32, DType::kF32, Whose::kOwn));
  cases.push_back(attention_backward_case(sizes.attention_f32, DType::kF32, Whose::kOwn));
  cases.push_back(attention_merge_case(sizes.attention.back()));
}

}  // namespace terroir::bench
