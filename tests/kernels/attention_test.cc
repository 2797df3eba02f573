#include "kernels/attention/attention.h"

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "tests/kernels/reference_attention.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

constexpr double kTolerance = 3e-6;

// How positions and documents of a batch item's tokens are laid out.
enum class Layout {
  kCausal,      // one document, positions 0, 1, ...; queries are the last tokens
  kPacked,      // several documents, positions restart in each; queries = keys
  kShuffled,    // positions in no order, two documents interleaved
  kSomeUnseen,  // documents of queries that no key belongs to
};

struct Case {
  std::string name;
  AttentionSizes sizes;
  Layout layout = Layout::kCausal;
  std::int64_t q_heads_per_kv = 1;
  std::int64_t q_head_offset = 0;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

std::vector<std::int32_t> tokens(std::int64_t batch, std::int64_t count,
                                 const std::function<std::int64_t(std::int64_t, std::int64_t)>& value) {
  std::vector<std::int32_t> result;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t i = 0; i < count; ++i) result.push_back(static_cast<std::int32_t>(value(b, i)));
  return result;
}

// A problem as tensors for the op, and the same problem in f64.
struct Problem {
  AttentionSizes sizes;
  AttentionOptions options;
  // Each with a gap of its own between heads, so that no stride is mistaken for another's.
  Tensor q, k, v, dout;
  std::unique_ptr<IntTensor> positions_q, positions_k, documents_q, documents_k;
  ReferenceAttention reference;

  explicit Problem(const Case& c)
      : sizes(c.sizes),
        options{1 / std::sqrt(static_cast<float>(c.sizes.head_size)), c.q_heads_per_kv, c.q_head_offset},
        q({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, 3),
        k({sizes.batch, sizes.num_keys, sizes.num_kv_heads, sizes.head_size}, 5),
        v({sizes.batch, sizes.num_keys, sizes.num_kv_heads, sizes.head_size}, 1),
        dout({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, 2) {
    q.randomize(1, 3);
    k.randomize(2, 3);
    v.randomize(3);
    dout.randomize(4);
    reference.sizes = sizes;
    reference.options = options;
    reference.q = values(q);
    reference.k = values(k);
    reference.v = values(v);
    lay_out(c.layout);
    const Shape queries = {sizes.batch, sizes.num_queries}, keys = {sizes.batch, sizes.num_keys};
    positions_q = std::make_unique<IntTensor>(queries, reference.positions_q);
    documents_q = std::make_unique<IntTensor>(queries, reference.documents_q);
    positions_k = std::make_unique<IntTensor>(keys, reference.positions_k);
    documents_k = std::make_unique<IntTensor>(keys, reference.documents_k);
    reference.forward();
    reference.backward(values(dout));
  }

  AttentionInputs inputs() const {
    return {q.view(), k.view(), v.view(), *positions_q, *positions_k, *documents_q, *documents_k, options};
  }

 private:
  void lay_out(Layout layout) {
    const std::int64_t batch = sizes.batch, nq = sizes.num_queries, nk = sizes.num_keys;
    const auto fill = [&](auto position, auto document) {
      // Queries are the last tokens of the key sequence.
      reference.positions_k = tokens(batch, nk, position);
      reference.documents_k = tokens(batch, nk, document);
      const auto shifted = [&](auto f) {
        return [=](std::int64_t b, std::int64_t i) { return f(b, i + nk - nq); };
      };
      reference.positions_q = tokens(batch, nq, shifted(position));
      reference.documents_q = tokens(batch, nq, shifted(document));
    };
    using Index = std::int64_t;
    if (layout == Layout::kCausal)
      fill([](Index, Index i) { return i; }, [](Index, Index) { return Index{0}; });
    if (layout == Layout::kPacked)
      fill([](Index b, Index i) { return i % (37 + b); }, [](Index b, Index i) { return i / (37 + b); });
    if (layout == Layout::kShuffled)
      fill([=](Index b, Index i) { return (i * 7 + b) % 101; }, [](Index, Index i) { return i % 2; });
    if (layout == Layout::kSomeUnseen) {
      fill([](Index, Index i) { return i; }, [](Index, Index i) { return i / 50; });
      for (std::size_t i = 0; i < reference.documents_q.size(); i += 3) reference.documents_q[i] = 1000;
    }
  }
};

class AttentionOf : public testing::TestWithParam<Case> {};

TEST_P(AttentionOf, ForwardEqualsTheReference) {
  const Problem problem(GetParam());
  const AttentionSizes& sizes = problem.sizes;
  Tensor o({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, 1);
  Tensor lse({sizes.batch, sizes.num_q_heads, sizes.num_queries}, 4);
  OpContext ctx = context(2);
  attention_forward(ctx, {problem.inputs(), o, lse});
  expect_close(o, problem.reference.o, kTolerance, "o");
  expect_close(lse, problem.reference.lse, kTolerance, "lse");
  EXPECT_TRUE(o.gaps_untouched() && lse.gaps_untouched());
}

TEST_P(AttentionOf, BackwardEqualsTheReferenceAndAddsToKeyGradients) {
  const Problem problem(GetParam());
  const AttentionSizes& sizes = problem.sizes;
  OpContext ctx = context(2);
  Tensor o({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, 1);
  Tensor lse({sizes.batch, sizes.num_q_heads, sizes.num_queries}, 4);
  attention_forward(ctx, {problem.inputs(), o, lse});
  Tensor dq({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, 6);
  Tensor dk({sizes.batch, sizes.num_keys, sizes.num_kv_heads, sizes.head_size}, 7);
  Tensor dv({sizes.batch, sizes.num_keys, sizes.num_kv_heads, sizes.head_size}, 8);
  std::vector<double> want_dk = values(dk.randomize(5)), want_dv = values(dv.randomize(6));
  for (std::size_t i = 0; i < want_dk.size(); ++i) {
    want_dk[i] += problem.reference.dk[i];
    want_dv[i] += problem.reference.dv[i];
  }
  const Workspace workspace(attention_backward_workspace_bytes(
      {sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.num_keys, sizes.head_size}, ctx.num_threads));
  attention_backward(ctx,
                     {problem.inputs(), o.view(), lse.view(), problem.dout.view(), dq, dk, dv, workspace});
  expect_close(dq, problem.reference.dq, 3 * kTolerance, "dq");
  expect_close(dk, want_dk, 3 * kTolerance, "dk");
  expect_close(dv, want_dv, 3 * kTolerance, "dv");
  EXPECT_TRUE(dq.gaps_untouched() && dk.gaps_untouched() && dv.gaps_untouched());
}

INSTANTIATE_TEST_SUITE_P(
    Sizes, AttentionOf,
    testing::Values(Case{"one token", {1, 1, 1, 1, 1, 1}}, Case{"odd sizes", {2, 7, 7, 3, 3, 5}},
                    Case{"D 24", {1, 33, 33, 2, 2, 24}}, Case{"D 40", {2, 70, 70, 2, 2, 40}},
                    Case{"D 64", {2, 130, 130, 2, 2, 64}}, Case{"D 128", {1, 65, 65, 2, 2, 128}},
                    Case{"D 256", {1, 40, 40, 1, 1, 256}},
                    Case{"GQA 6/2", {2, 67, 67, 6, 2, 16}, Layout::kCausal, 3},
                    Case{"GQA from the middle of a group", {1, 45, 45, 6, 3, 8}, Layout::kCausal, 3, 2},
                    Case{"a key/value head without queries", {1, 20, 20, 2, 3, 8}, Layout::kCausal, 2, 2},
                    Case{"one query, long cache", {2, 1, 300, 4, 2, 32}, Layout::kCausal, 2},
                    Case{"few queries, long cache", {1, 5, 190, 2, 1, 20}, Layout::kCausal, 2},
                    Case{"packed documents", {2, 150, 150, 2, 2, 16}, Layout::kPacked},
                    Case{"packed documents, GQA", {2, 150, 150, 4, 2, 16}, Layout::kPacked, 2},
                    Case{"positions in no order", {2, 140, 140, 2, 1, 12}, Layout::kShuffled, 2},
                    Case{"queries that see nothing", {2, 110, 110, 2, 2, 16}, Layout::kSomeUnseen},
                    Case{"no keys", {1, 3, 0, 2, 2, 16}}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name)
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      return name;
    });

TEST(Attention, ReferenceGradientsEqualCentralDifferences) {
  Problem problem({"small", {1, 6, 6, 2, 1, 3}, Layout::kPacked, 2});
  const std::vector<double> dout = values(problem.dout);
  const auto loss = [&](ReferenceAttention reference) {
    reference.forward();
    double sum = 0;
    for (std::size_t i = 0; i < dout.size(); ++i) sum += reference.o[i] * dout[i];
    return sum;
  };
  const auto check = [&](std::vector<double> ReferenceAttention::*input,
                         const std::vector<double>& gradient) {
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      ReferenceAttention plus = problem.reference, minus = problem.reference;
      (plus.*input)[i] += 1e-5;
      (minus.*input)[i] -= 1e-5;
      EXPECT_NEAR((loss(plus) - loss(minus)) / 2e-5, gradient[i], 1e-8);
    }
  };
  check(&ReferenceAttention::q, problem.reference.dq);
  check(&ReferenceAttention::k, problem.reference.dk);
  check(&ReferenceAttention::v, problem.reference.dv);
}

TEST(Attention, MergedHalvesEqualTheWholeForwardAndBackward) {
  const Problem problem({"", {2, 90, 90, 4, 2, 24}, Layout::kPacked, 2});
  const AttentionSizes& sizes = problem.sizes;
  const Shape o_shape = {sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size};
  const Shape lse_shape = {sizes.batch, sizes.num_q_heads, sizes.num_queries};
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    AttentionInputs inputs = problem.inputs();
    for (ConstView* view : {&inputs.k, &inputs.v, &inputs.positions_k, &inputs.documents_k})
      *view = view->slice(1, begin, end);
    return inputs;
  };
  OpContext ctx = context(2);
  Tensor o_a(o_shape, 1), lse_a(lse_shape, 2), o_b(o_shape, 3), lse_b(lse_shape, 4);
  attention_forward(ctx, {part(0, 33), o_a, lse_a});
  attention_forward(ctx, {part(33, 90), o_b, lse_b});
  attention_merge(ctx, {o_a, lse_a, o_b.view(), lse_b.view()});
  expect_close(o_a, problem.reference.o, kTolerance, "o");
  expect_close(lse_a, problem.reference.lse, kTolerance, "lse");

  Tensor dq_a(o_shape), dq_b(o_shape);
  Tensor dk({2, 90, 2, 24}), dv({2, 90, 2, 24});
  dk.randomize(1, 0);
  dv.randomize(1, 0);
  const Workspace workspace(attention_backward_workspace_bytes({2, 90, 4, 90, 24}, 2));
  const auto backward = [&](std::int64_t begin, std::int64_t end, const Tensor& dq) {
    attention_backward(ctx, {part(begin, end), o_a.view(), lse_a.view(), problem.dout.view(), dq,
                             dk.view().slice(1, begin, end), dv.view().slice(1, begin, end), workspace});
  };
  backward(0, 33, dq_a);
  backward(33, 90, dq_b);
  const std::vector<double> dq = values(dq_a), other = values(dq_b);
  for (std::size_t i = 0; i < dq.size(); ++i)
    ASSERT_NEAR(dq[i] + other[i], problem.reference.dq[i], 1e-5) << "dq at " << i;
  expect_close(dk, problem.reference.dk, 3 * kTolerance, "dk");
  expect_close(dv, problem.reference.dv, 3 * kTolerance, "dv");
}

TEST(Attention, MergeOfTwoEmptyPartsStaysEmpty) {
  TERROIR_CPU_ONLY();
  Tensor o_a({1, 1, 1, 2}), lse_a({1, 1, 1}), o_b({1, 1, 1, 2}), lse_b({1, 1, 1});
  o_a.randomize(1, 0);
  o_b.randomize(1, 0);
  *lse_a.view().data<float>() = *lse_b.view().data<float>() = -INFINITY;
  OpContext ctx = context();
  attention_merge(ctx, {o_a, lse_a, o_b.view(), lse_b.view()});
  expect_close(o_a, {0, 0}, 0, "o");
  expect_close(lse_a, {-INFINITY}, 0, "lse");
}

TEST(Attention, ReadsPiecesOfAFusedActivation) {
  TERROIR_CPU_ONLY();
  // [B x T, (Hq + 2 Hkv) x D] as a projection writes it; its pieces must give what separate tensors give.
  constexpr std::int64_t kBatch = 2, kTokens = 40, kQHeads = 4, kKvHeads = 2, kSize = 8;
  const Case sizes = {"", {kBatch, kTokens, kTokens, kQHeads, kKvHeads, kSize}, Layout::kCausal, 2};
  const Problem problem(sizes);
  Tensor fused({kBatch * kTokens, (kQHeads + 2 * kKvHeads) * kSize});
  const auto piece = [&](std::int64_t first_head, std::int64_t num_heads) {
    return fused.view()
        .slice(1, first_head * kSize, (first_head + num_heads) * kSize)
        .split(1, kSize)
        .split(0, kTokens);
  };
  const auto assign = [](const View& to, const ConstView& from) {
    const std::vector<double> source = values(from);
    const std::vector<std::int64_t> at = offsets(to);
    for (std::size_t i = 0; i < at.size(); ++i) to.data<float>()[at[i]] = static_cast<float>(source[i]);
  };
  AttentionInputs inputs = problem.inputs();
  inputs.q = piece(0, kQHeads);
  inputs.k = piece(kQHeads, kKvHeads);
  inputs.v = piece(kQHeads + kKvHeads, kKvHeads);
  assign(piece(0, kQHeads), problem.q.view());
  assign(piece(kQHeads, kKvHeads), problem.k.view());
  assign(piece(kQHeads + kKvHeads, kKvHeads), problem.v.view());
  Tensor o({kBatch, kTokens, kQHeads, kSize}), lse({kBatch, kQHeads, kTokens});
  OpContext ctx = context();
  attention_forward(ctx, {inputs, o, lse});
  expect_close(o, problem.reference.o, kTolerance, "o");
}

TEST(Attention, ResultsDoNotDependOnTheNumberOfThreads) {
  const Problem problem({"", {2, 150, 150, 6, 3, 20}, Layout::kPacked, 2});
  const Shape q_shape = {2, 150, 6, 20}, k_shape = {2, 150, 3, 20};
  struct Results {
    Tensor o, lse, dq, dk, dv;
  };
  const auto run = [&](int num_threads) {
    Results r = {Tensor(q_shape), Tensor({2, 6, 150}), Tensor(q_shape), Tensor(k_shape), Tensor(k_shape)};
    r.dk.randomize(1);
    r.dv.randomize(2);
    OpContext ctx = context(num_threads);
    const Workspace workspace(attention_backward_workspace_bytes({2, 150, 6, 150, 20}, num_threads));
    attention_forward(ctx, {problem.inputs(), r.o, r.lse});
    attention_backward(
        ctx, {problem.inputs(), r.o.view(), r.lse.view(), problem.dout.view(), r.dq, r.dk, r.dv, workspace});
    return r;
  };
  const Results one = run(1);
  for (const int num_threads : {2, 3, 5}) {
    const Results many = run(num_threads);
    expect_same_bits(one.o, many.o, "o");
    expect_same_bits(one.lse, many.lse, "lse");
    expect_same_bits(one.dq, many.dq, "dq");
    expect_same_bits(one.dk, many.dk, "dk");
    expect_same_bits(one.dv, many.dv, "dv");
  }
}

TEST(Attention, ScoresOfAnySizeStayFinite) {
  Problem problem({"", {1, 70, 70, 1, 1, 16}});
  problem.options.scale = 1e4F;  // scores around 1e5: exp would overflow without the running maximum
  problem.reference.options.scale = 1e4F;
  problem.reference.forward();
  Tensor o({1, 70, 1, 16}), lse({1, 1, 70});
  OpContext ctx = context();
  attention_forward(ctx, {problem.inputs(), o, lse});
  for (const double value : values(o)) ASSERT_TRUE(std::isfinite(value));
  expect_close(lse, problem.reference.lse, 1e-6, "lse");
}

TEST(Attention, NanInAVisibleKeyReachesExactlyTheQueriesThatSeeIt) {
  TERROIR_CPU_ONLY();
  const Problem problem({"", {1, 70, 70, 1, 1, 16}});
  problem.k.view().slice(1, 66, 67).data<float>()[3] = NAN;
  Tensor o({1, 70, 1, 16}), lse({1, 1, 70});
  OpContext ctx = context();
  attention_forward(ctx, {problem.inputs(), o, lse});
  for (std::int64_t i = 0; i < 70; ++i) EXPECT_EQ(std::isnan(lse.view().data<float>()[i]), i >= 66) << i;
  for (std::int64_t i = 0; i < 70 * 16; ++i)
    EXPECT_EQ(std::isnan(o.view().data<float>()[i]), i >= 66 * 16) << i;
}

TEST(Attention, RefusesWrongArgumentsAndWritesNothing) {
  const Problem problem({"", {1, 4, 4, 4, 2, 8}, Layout::kCausal, 2});
  Tensor o({1, 4, 4, 8}), lse({1, 4, 4});
  OpContext ctx = context();
  const auto refused = [&](const std::function<void(AttentionForwardArgs&)>& spoil) {
    AttentionForwardArgs args = {problem.inputs(), o, lse};
    spoil(args);
    EXPECT_THROW(attention_forward(ctx, args), ContractError);
    for (const double value : values(o)) EXPECT_TRUE(std::isnan(value));
  };
  Buffer half(1024);
  Tensor long_head({1, 4, 4, 257}), long_keys({1, 4, 2, 257});
  refused([&](auto& args) { args.inputs.q = half.view(DType::kBF16, {1, 4, 4, 8}); });
  refused([&](auto& args) { args.inputs.v = args.inputs.v.slice(1, 0, 3); });
  refused([&](auto& args) { args.inputs.positions_k = args.inputs.positions_k.slice(1, 0, 3); });
  refused([&](auto& args) { args.inputs.documents_q = args.inputs.q.slice(3, 0, 1); });
  refused([&](auto& args) {
    args.inputs.options.q_head_offset = 1;
  });  // heads 1 .. 4 need a third key/value head
  refused([&](auto& args) { args.inputs.options.q_heads_per_kv = 0; });
  refused([&](auto& args) { args.lse = args.lse.slice(2, 0, 3); });
  refused([&](auto& args) {
    args.inputs.q = long_head.view(), args.o = long_head, args.inputs.k = args.inputs.v = long_keys.view();
  });

  Tensor dq({1, 4, 4, 8}), dk({1, 4, 2, 8}), dv({1, 4, 2, 8});
  const Workspace small(attention_backward_workspace_bytes({1, 4, 4, 4, 8}, 1) - 1);
  EXPECT_THROW(attention_backward(
                   ctx, {problem.inputs(), o.view(), lse.view(), problem.dout.view(), dq, dk, dv, small}),
               ContractError);
  Tensor lse_short({1, 4, 3});
  EXPECT_THROW(attention_merge(ctx, {o, lse_short, o.view(), lse.view()}), ContractError);
}

}  // namespace
}  // namespace terroir::test
