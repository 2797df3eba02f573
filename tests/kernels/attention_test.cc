#include "kernels/attention/attention.h"

#include "tests/kernels/attention_problem.h"

namespace terroir::test {
namespace {

class AttentionOf : public testing::TestWithParam<std::tuple<Case, Format>> {
 protected:
  const Problem problem_{std::get<0>(GetParam()), std::get<1>(GetParam())};
};

TEST_P(AttentionOf, ForwardEqualsTheReference) {
  const Problem& p = problem_;
  const Tensor o = p.like_q(1), lse = p.statistics(4);
  OpContext ctx = context(2);
  attention_forward(ctx, {p.inputs(), o, lse});
  expect_close(o, p.reference.o, p.format.tolerance, "o");
  expect_close(lse, p.reference.lse, kStatisticsTolerance, "lse");
  EXPECT_TRUE(o.gaps_untouched() && lse.gaps_untouched());
}

TEST_P(AttentionOf, BackwardEqualsTheReference) {
  const Problem& p = problem_;
  OpContext ctx = context(2);
  const Tensor o = p.like_q(1), lse = p.statistics(4);
  attention_forward(ctx, {p.inputs(), o, lse});
  const Tensor dq = p.like_q(6);
  const Tensor dk = p.like_k(7), dv = p.like_k(8);
  const Workspace workspace = p.workspace(ctx.num_threads);
  attention_backward(ctx, {p.inputs(), o.view(), lse.view(), p.dout.view(), dq, dk, dv, workspace});
  expect_close(dq, p.reference.dq, 3 * p.format.tolerance, "dq");
  expect_close(dk, p.reference.dk, 3 * p.format.tolerance, "dk");
  expect_close(dv, p.reference.dv, 3 * p.format.tolerance, "dv");
  EXPECT_TRUE(dq.gaps_untouched() && dk.gaps_untouched() && dv.gaps_untouched());
}

const auto kCases = testing::Values(
    Case{"one token", {1, 1, 1, 1, 1, 1}}, Case{"odd sizes", {2, 7, 7, 3, 3, 5}},
    Case{"D 8", {1, 70, 70, 1, 1, 8}}, Case{"D 24", {1, 33, 33, 2, 2, 24}},
    Case{"D 40", {2, 70, 70, 2, 2, 40}}, Case{"D 64", {2, 130, 130, 2, 2, 64}},
    Case{"D 80", {1, 65, 65, 1, 1, 80}}, Case{"D 96", {1, 65, 65, 2, 1, 96}, Layout::kCausal, 2},
    Case{"D 128", {1, 133, 133, 2, 2, 128}}, Case{"D 136", {1, 33, 33, 1, 1, 136}},
    Case{"D 256", {1, 70, 70, 1, 1, 256}}, Case{"GQA 6/2", {2, 67, 67, 6, 2, 16}, Layout::kCausal, 3},
    Case{"GQA from the middle of a group", {1, 45, 45, 6, 3, 8}, Layout::kCausal, 3, 2},
    Case{"a key/value head without queries", {1, 20, 20, 2, 3, 8}, Layout::kCausal, 2, 2},
    Case{"one query, long cache", {2, 1, 300, 4, 2, 32}, Layout::kCausal, 2},
    Case{"few queries, long cache", {1, 5, 190, 2, 1, 24}, Layout::kCausal, 2},
    Case{"packed documents", {2, 150, 150, 2, 2, 16}, Layout::kPacked},
    Case{"packed documents, GQA", {2, 150, 150, 4, 2, 16}, Layout::kPacked, 2},
    Case{"positions in no order", {2, 140, 140, 2, 1, 16}, Layout::kShuffled, 2},
    Case{"queries that see nothing", {2, 110, 110, 2, 2, 16}, Layout::kSomeUnseen},
    Case{"zig-zag", {1, 260, 260, 1, 1, 16}, Layout::kZigZag},
    Case{"documents in many keys", {1, 5, 17000, 1, 1, 8}, Layout::kPacked},
    Case{"documents in many queries", {1, 17000, 60, 1, 1, 8}, Layout::kPacked},
    Case{"no keys", {1, 3, 0, 2, 2, 16}});
const auto kFormats = testing::Values(kFloat, kBFloat, kAlignedBFloat);
INSTANTIATE_TEST_SUITE_P(Sizes, AttentionOf, testing::Combine(kCases, kFormats), [](const auto& info) {
  return test_name(std::get<0>(info.param).name, std::get<1>(info.param));
});

TEST(Attention, ReferenceGradientsEqualCentralDifferences) {
  const Problem problem({"small", {1, 6, 6, 2, 1, 3}, Layout::kPacked, 2}, kFloat);
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

class AttentionIn : public testing::TestWithParam<Format> {};
INSTANTIATE_TEST_SUITE_P(Formats, AttentionIn, kFormats, [](const auto& info) { return info.param.name; });

TEST_P(AttentionIn, MergedHalvesEqualTheWholeForwardAndBackward) {
  const Problem p({"", {2, 90, 90, 4, 2, 24}, Layout::kPacked, 2}, GetParam());
  OpContext ctx = context(2);
  const Tensor o_a = p.like_q(1), lse_a = p.statistics(2), o_b = p.like_q(3), lse_b = p.statistics(4);
  attention_forward(ctx, {p.part(0, 33), o_a, lse_a});
  attention_forward(ctx, {p.part(33, 90), o_b, lse_b});
  attention_merge(ctx, {o_a, lse_a, o_b.view(), lse_b.view()});
  expect_close(o_a, p.reference.o, 2 * p.format.tolerance, "o");
  expect_close(lse_a, p.reference.lse, kStatisticsTolerance, "lse");

  const Tensor dq_a = p.like_q(0), dq_b = p.like_q(0);
  const Tensor dk = p.like_k(0), dv = p.like_k(0);
  const Workspace workspace = p.workspace(2);
  const auto backward = [&](std::int64_t begin, std::int64_t end, const Tensor& dq) {
    attention_backward(ctx, {p.part(begin, end), o_a.view(), lse_a.view(), p.dout.view(), dq,
                             dk.view().slice(1, begin, end), dv.view().slice(1, begin, end), workspace});
  };
  backward(0, 33, dq_a);
  backward(33, 90, dq_b);
  const std::vector<double> dq = values(dq_a), other = values(dq_b);
  for (std::size_t i = 0; i < dq.size(); ++i)
    ASSERT_NEAR(dq[i] + other[i], p.reference.dq[i], 6 * p.format.tolerance) << "dq at " << i;
  expect_close(dk, p.reference.dk, 3 * p.format.tolerance, "dk");
  expect_close(dv, p.reference.dv, 3 * p.format.tolerance, "dv");
}

TEST_P(AttentionIn, MergeOfTwoEmptyPartsStaysEmpty) {
  const Problem p({"", {1, 1, 1, 1, 1, 2}}, GetParam());
  Tensor o_a = p.like_q(1), lse_a = p.statistics(1), o_b = p.like_q(1), lse_b = p.statistics(1);
  o_a.assign({0, 0});
  o_b.assign({0, 0});
  lse_a.assign({-INFINITY});
  lse_b.assign({-INFINITY});
  OpContext ctx = context();
  attention_merge(ctx, {o_a, lse_a, o_b.view(), lse_b.view()});
  expect_close(o_a, {0, 0}, 0, "o");
  expect_close(lse_a, {-INFINITY}, 0, "lse");
}

TEST_P(AttentionIn, ReadsAndWritesPiecesOfAFusedActivation) {
  // [B x T, (Hq + 2 Hkv) x D] as a projection writes it; its pieces must give what separate tensors give.
  constexpr std::int64_t kBatch = 2, kTokens = 40, kQHeads = 4, kKvHeads = 2, kSize = 8, kHeads = 8;
  const Problem p({"", {kBatch, kTokens, kTokens, kQHeads, kKvHeads, kSize}, Layout::kCausal, 2}, GetParam());
  Tensor fused({kBatch * kTokens, kHeads * kSize}, 0, p.format.dtype);
  const Tensor gradient({kBatch * kTokens, kHeads * kSize}, 0, p.format.dtype);
  const auto piece = [&](const Tensor& of, std::int64_t first_head, std::int64_t num_heads) {
    return of.view()
        .slice(1, first_head * kSize, (first_head + num_heads) * kSize)
        .split(1, kSize)
        .split(0, kTokens);
  };
  std::vector<float> all(static_cast<std::size_t>(kBatch * kTokens * kHeads * kSize));
  const auto put = [&](std::int64_t first_head, std::int64_t num_heads, const std::vector<double>& from) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(from.size()); ++i) {
      const std::int64_t token = i / (num_heads * kSize),
                         column = first_head * kSize + i % (num_heads * kSize);
      all[static_cast<std::size_t>(token * kHeads * kSize + column)] =
          static_cast<float>(from[static_cast<std::size_t>(i)]);
    }
  };
  put(0, kQHeads, p.reference.q);
  put(kQHeads, kKvHeads, p.reference.k);
  put(kQHeads + kKvHeads, kKvHeads, p.reference.v);
  fused.assign(all);
  AttentionInputs inputs = p.inputs();
  inputs.q = piece(fused, 0, kQHeads);
  inputs.k = piece(fused, kQHeads, kKvHeads);
  inputs.v = piece(fused, kQHeads + kKvHeads, kKvHeads);
  const Tensor o = p.like_q(0), lse = p.statistics(0);
  const View dq = piece(gradient, 0, kQHeads), dk = piece(gradient, kQHeads, kKvHeads),
             dv = piece(gradient, kQHeads + kKvHeads, kKvHeads);
  OpContext ctx = context();
  attention_forward(ctx, {inputs, o, lse});
  expect_close(o, p.reference.o, p.format.tolerance, "o");
  const Workspace workspace = p.workspace();
  attention_backward(ctx, {inputs, o.view(), lse.view(), p.dout.view(), dq, dk, dv, workspace});
  expect_close(dq, p.reference.dq, 3 * p.format.tolerance, "dq");
  expect_close(dk, p.reference.dk, 3 * p.format.tolerance, "dk");
  expect_close(dv, p.reference.dv, 3 * p.format.tolerance, "dv");
}

TEST_P(AttentionIn, ScoresOfAnySizeStayFinite) {
  Problem p({"", {1, 70, 70, 1, 1, 16}}, GetParam());
  p.options.scale = 1e4F;  // scores around 1e5: exp would overflow without the running maximum
  p.reference.options.scale = 1e4F;
  p.reference.forward();
  const Tensor o = p.like_q(0), lse = p.statistics(0);
  OpContext ctx = context();
  attention_forward(ctx, {p.inputs(), o, lse});
  for (const double value : values(o)) ASSERT_TRUE(std::isfinite(value));
  expect_close(lse, p.reference.lse, 1e-6, "lse");
}

TEST_P(AttentionIn, VeryLowScoresGiveFiniteGradients) {
  // lse is -640 and less: exp(0 - lse), of a key that is not there, would be infinite.
  Problem p({"", {1, 70, 70, 1, 1, 16}}, GetParam());
  p.q.assign(std::vector<float>(70 * 16, 4));
  p.k.assign(std::vector<float>(70 * 16, -40));
  p.reference.q = values(p.q);
  p.reference.k = values(p.k);
  p.reference.forward();
  p.reference.backward(values(p.dout));
  const Tensor o = p.like_q(0), lse = p.statistics(0), dq = p.like_q(0);
  const Tensor dk = p.like_k(0), dv = p.like_k(0);
  OpContext ctx = context();
  attention_forward(ctx, {p.inputs(), o, lse});
  attention_backward(ctx, {p.inputs(), o.view(), lse.view(), p.dout.view(), dq, dk, dv, p.workspace()});
  expect_close(lse, p.reference.lse, kStatisticsTolerance, "lse");
  for (const Tensor* gradient : {&dq, &dk, &dv})
    for (const double value : values(*gradient)) ASSERT_TRUE(std::isfinite(value));
  // 1e-4: an lse of 640 is known to 2^-15.
  expect_close(dv, p.reference.dv, 1e-4 + 3 * p.format.tolerance, "dv");
}

TEST_P(AttentionIn, NanInAVisibleKeyReachesExactlyTheQueriesThatSeeIt) {
  Problem p({"", {1, 70, 70, 1, 1, 16}}, GetParam());
  std::vector<float> keys(p.reference.k.begin(), p.reference.k.end());
  keys[66 * 16 + 3] = NAN;
  p.k.assign(keys);
  const Tensor o = p.like_q(0), lse = p.statistics(0);
  OpContext ctx = context();
  attention_forward(ctx, {p.inputs(), o, lse});
  const std::vector<double> o_values = values(o), lse_values = values(lse);
  for (std::size_t i = 0; i < 70; ++i) EXPECT_EQ(std::isnan(lse_values[i]), i >= 66) << i;
  for (std::size_t i = 0; i < 70 * 16; ++i) EXPECT_EQ(std::isnan(o_values[i]), i >= 66 * 16) << i;
}

struct Results {
  Tensor o, lse, dq, dk, dv;
};
Results results(const Problem& p, int num_threads) {
  Results r = {p.like_q(0), p.statistics(0), p.like_q(0), p.like_k(0), p.like_k(0)};
  OpContext ctx = context(num_threads);
  const Workspace workspace = p.workspace(num_threads);
  attention_forward(ctx, {p.inputs(), r.o, r.lse});
  attention_backward(ctx, {p.inputs(), r.o.view(), r.lse.view(), p.dout.view(), r.dq, r.dk, r.dv, workspace});
  return r;
}
void expect_same_results(const Results& a, const Results& b) {
  expect_same_bits(a.o, b.o, "o");
  expect_same_bits(a.lse, b.lse, "lse");
  expect_same_bits(a.dq, b.dq, "dq");
  expect_same_bits(a.dk, b.dk, "dk");
  expect_same_bits(a.dv, b.dv, "dv");
}

TEST_P(AttentionIn, ResultsDoNotDependOnTheNumberOfThreads) {
  TERROIR_CPU_ONLY();
  const Problem p({"", {2, 150, 150, 6, 3, 20}, Layout::kPacked, 2}, GetParam());
  const Results one = results(p, 1);
  for (const int num_threads : {2, 3, 5}) expect_same_results(one, results(p, num_threads));
}

TEST(Attention, RefusesWrongArgumentsAndWritesNothing) {
  const Problem problem({"", {1, 4, 4, 4, 2, 8}, Layout::kCausal, 2}, kFloat);
  const Problem half({"", {1, 4, 4, 4, 2, 8}, Layout::kCausal, 2}, kBFloat);
  const Tensor o = problem.like_q(0), lse = problem.statistics(0);
  OpContext ctx = context();
  const auto refused = [&](const std::function<void(AttentionForwardArgs&)>& spoil) {
    AttentionForwardArgs args = {problem.inputs(), o, lse};
    spoil(args);
    EXPECT_THROW(attention_forward(ctx, args), ContractError);
    for (const double value : values(o)) EXPECT_TRUE(std::isnan(value));
  };
  const Tensor long_head({1, 4, 4, 257}), long_keys({1, 4, 2, 257});
  refused([&](auto& args) { args.inputs.q = half.q.view(); });
  refused([&](auto& args) { args.inputs.q = args.lse.split(2, 1); });
  refused([&](auto& args) {
    args.inputs.q = ConstView(lse.view().raw(), DType::kF64, {1, 4, 4, 8}, test_device());
  });
  refused([&](auto& args) { args.inputs.v = half.v.view(); });
  refused([&](auto& args) { args.o = half.like_q(0).view(); });
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

  const Tensor dq = problem.like_q(0), dk = problem.like_k(0), dv = problem.like_k(0);
  const Workspace small(problem.workspace_bytes() - 1);
  EXPECT_THROW(attention_backward(
                   ctx, {problem.inputs(), o.view(), lse.view(), problem.dout.view(), dq, dk, dv, small}),
               ContractError);
  const Tensor half_dk = half.like_k(0);
  EXPECT_THROW(attention_backward(ctx, {problem.inputs(), o.view(), lse.view(), problem.dout.view(), dq,
                                        half_dk, dv, problem.workspace()}),
               ContractError);
  const Tensor lse_short({1, 4, 3}), half_o = half.like_q(0);
  EXPECT_THROW(attention_merge(ctx, {o, lse_short, o.view(), lse.view()}), ContractError);
  EXPECT_THROW(attention_merge(ctx, {o, lse, half_o.view(), lse.view()}), ContractError);
}

}  // namespace
}  // namespace terroir::test
