// Legend: T tokens, N heads, D head_dim, P positions of the table.
#include "kernels/qk_norm_rope/qk_norm_rope.h"

#include <tuple>

#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/tensor/elementwise.h"
#include "tests/kernels/expect_refused.h"
#include "tests/kernels/numeric_gradient.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

constexpr double kTheta = 10000;
constexpr float kEps = 1e-5F;
constexpr std::int64_t kPositions = 50;
using Values = std::vector<double>;
using Ids = std::vector<std::int32_t>;

Values angles(std::int64_t head_dim) { return rope_inverse_frequencies(kTheta, head_dim, {}); }

Tensor make_table(std::int64_t head_dim) {
  std::vector<float> host(static_cast<std::size_t>(kPositions * head_dim));
  rope_table(angles(head_dim), View(host.data(), DType::kF32, {kPositions, head_dim}));
  Tensor table({kPositions, head_dim});
  table.assign(host);
  return table;
}

// The rounding of one result on top of the f32 arithmetic's error.
double tolerance(DType dtype, double f32_error) {
  return dtype == DType::kBF16 ? 0x1p-8 + f32_error : f32_error;
}

// head [D] turned by the angles of `position`, or back by them.
Values rotated(const Values& head, double position, bool inverse) {
  const std::size_t half = head.size() / 2;
  const Values frequencies = angles(static_cast<std::int64_t>(head.size()));
  Values result(head.size());
  for (std::size_t i = 0; i < half; ++i) {
    const double angle = (inverse ? -1 : 1) * position * frequencies[i];
    result[i] = head[i] * std::cos(angle) - head[half + i] * std::sin(angle);
    result[half + i] = head[half + i] * std::cos(angle) + head[i] * std::sin(angle);
  }
  return result;
}

double rstd_of(const Values& head) {
  return 1 / std::sqrt(dot(head, head) / static_cast<double>(head.size()) + kEps);
}

Values normed_and_rotated(Values head, const Values& weight, double position) {
  const double rstd = rstd_of(head);
  for (std::size_t i = 0; i < head.size(); ++i) head[i] *= weight[i] * rstd;
  return rotated(head, position, false);
}

// Head `row` of rows of D.
Values row_of(const Values& rows, std::size_t row, std::int64_t head_dim) {
  const auto begin = rows.begin() + static_cast<std::int64_t>(row) * head_dim;
  return {begin, begin + head_dim};
}

// A fused projection of T tokens: `heads` heads to norm and turn, then as many columns again that must stay.
struct Problem {
  std::int64_t query_heads, key_heads, head_dim;
  DType dtype;
  Ids ids;
  std::int64_t tokens = static_cast<std::int64_t>(ids.size()), heads = query_heads + key_heads;
  Tensor fused{{tokens, 2 * heads*head_dim}, 0, dtype}, dfused{{tokens, 2 * heads*head_dim}, 0, dtype};
  Tensor q_weight{{head_dim}, 0, dtype}, k_weight{{head_dim}, 0, dtype};
  Tensor before{{tokens, heads*head_dim}, 0, dtype}, rstd{{tokens, heads}}, table = make_table(head_dim);
  Tensor dq_weight{{head_dim}}, dk_weight{{head_dim}};
  IntTensor positions{{tokens}, ids};
  Workspace workspace{qk_norm_rope_backward_workspace(head_dim)};

  Problem& randomize() {
    fused.randomize(1);
    dfused.randomize(2);
    q_weight.randomize(3);
    k_weight.randomize(4);
    dq_weight.randomize(5);
    dk_weight.randomize(6);
    return *this;
  }
  View in_heads(const View& activation) const {
    return activation.slice(1, 0, heads * head_dim).split(1, head_dim);
  }
  View x() const { return in_heads(fused); }
  View dx() const { return in_heads(dfused); }
  QkNormRopeForwardArgs forward() const {
    return {.x = x(),
            .query_heads = query_heads,
            .q_weight = q_weight.view(),
            .k_weight = k_weight.view(),
            .positions = positions,
            .table = table.view(),
            .eps = kEps,
            .before = in_heads(before),
            .rstd = rstd};
  }
  QkNormRopeBackwardArgs backward() const {
    return {.dx = dx(),
            .query_heads = query_heads,
            .q_weight = q_weight.view(),
            .k_weight = k_weight.view(),
            .positions = positions,
            .table = table.view(),
            .before = in_heads(before),
            .rstd = rstd.view(),
            .dq_weight = dq_weight,
            .dk_weight = dk_weight,
            .workspace = workspace};
  }
  // Of head h of all tokens' heads in row-major order.
  bool is_query(std::size_t row) const { return static_cast<std::int64_t>(row) % heads < query_heads; }
  double position(std::size_t row) const { return ids[row / static_cast<std::size_t>(heads)]; }
};

class QkNormRopeOf : public testing::TestWithParam<std::tuple<std::int64_t, std::int64_t, DType>> {};
INSTANTIATE_TEST_SUITE_P(HeadsAndHeadDims, QkNormRopeOf,
                         testing::Combine(testing::Values(1, 2, 5),
                                          testing::Values(2, 6, 16, 64, 80, 128, 130, 256, 600),
                                          testing::Values(DType::kF32, DType::kBF16)));

TEST_P(QkNormRopeOf, ForwardNormsAndTurnsHeadsOfAFusedProjection) {
  const auto& [key_heads, head_dim, dtype] = GetParam();
  Problem p{2 * key_heads, key_heads, head_dim, dtype, {0, 1, 2, 49, 0, 1, 7}};
  p.randomize();
  const Values x = values(p.x()), q_weight = values(p.q_weight), k_weight = values(p.k_weight);
  const Values others = values(p.fused.view().slice(1, p.heads * head_dim, 2 * p.heads * head_dim));
  OpContext ctx = context();
  qk_norm_rope_forward(ctx, p.forward());
  Values y, rstd;
  for (std::size_t row = 0; row < x.size() / static_cast<std::size_t>(head_dim); ++row) {
    const Values head = row_of(x, row, head_dim);
    rstd.push_back(rstd_of(head));
    const Values out = normed_and_rotated(head, p.is_query(row) ? q_weight : k_weight, p.position(row));
    y.insert(y.end(), out.begin(), out.end());
  }
  expect_close(p.rstd, rstd, 1e-6, "rstd");
  expect_close(p.x(), y, tolerance(dtype, 2e-6), "y");
  expect_close(p.in_heads(p.before), x, 0, "before");
  expect_close(p.fused.view().slice(1, p.heads * head_dim, 2 * p.heads * head_dim), others, 0,
               "other columns");
}

TEST_P(QkNormRopeOf, BackwardEqualsTheFormula) {
  const auto& [key_heads, head_dim, dtype] = GetParam();
  Problem p{2 * key_heads, key_heads, head_dim, dtype, {3, 49, 0, 1, 2}};
  p.randomize();
  OpContext ctx = context();
  qk_norm_rope_forward(ctx, p.forward());
  const Values before = values(p.in_heads(p.before)), rstd = values(p.rstd), dy = values(p.dx());
  const Values weights[] = {values(p.k_weight), values(p.q_weight)};
  Values dweights[] = {values(p.dk_weight), values(p.dq_weight)}, dx;
  for (std::size_t row = 0; row < rstd.size(); ++row) {
    const Values gradient = rotated(row_of(dy, row, head_dim), p.position(row), true);
    Values normalized = row_of(before, row, head_dim);
    for (double& value : normalized) value *= rstd[row];
    const Values& weight = weights[p.is_query(row)];
    double mean = 0;
    for (std::size_t i = 0; i < weight.size(); ++i) {
      mean += gradient[i] * weight[i] * normalized[i] / static_cast<double>(head_dim);
      dweights[p.is_query(row)][i] += gradient[i] * normalized[i];
    }
    for (std::size_t i = 0; i < weight.size(); ++i)
      dx.push_back(rstd[row] * (gradient[i] * weight[i] - normalized[i] * mean));
  }
  qk_norm_rope_backward(ctx, p.backward());
  expect_close(p.dx(), dx, tolerance(dtype, 5e-6), "dx");
  expect_close(p.dq_weight, dweights[1], 5e-6, "dq_weight");
  expect_close(p.dk_weight, dweights[0], 5e-6, "dk_weight");
}

TEST(QkNormRope, BackwardEqualsCentralDifferences) {
  Problem p{2, 1, 8, DType::kF32, {3, 49}};
  p.randomize();
  OpContext ctx = context();
  fill(ctx, p.dq_weight, 0);
  fill(ctx, p.dk_weight, 0);
  const Values x = values(p.x()), q_weight = values(p.q_weight), k_weight = values(p.k_weight);
  const Values dy = values(p.dx());
  const auto loss = [&](const Values& heads, const Values& of_queries, const Values& of_keys) {
    double sum = 0;
    for (std::size_t row = 0; row < 6; ++row)
      sum += dot(
          normed_and_rotated(row_of(heads, row, 8), p.is_query(row) ? of_queries : of_keys, p.position(row)),
          row_of(dy, row, 8));
    return sum;
  };
  qk_norm_rope_forward(ctx, p.forward());
  qk_norm_rope_backward(ctx, p.backward());
  expect_close(p.dx(),
               numeric_gradient(x, [&](const Values& moved) { return loss(moved, q_weight, k_weight); }),
               1e-5, "dx");
  expect_close(p.dq_weight,
               numeric_gradient(q_weight, [&](const Values& moved) { return loss(x, moved, k_weight); }),
               1e-5, "dq_weight");
  expect_close(p.dk_weight,
               numeric_gradient(k_weight, [&](const Values& moved) { return loss(x, q_weight, moved); }),
               1e-5, "dk_weight");
}

// Enough that every block of a GPU goes through several heads, and their number divides nothing.
TEST(QkNormRope, EqualsNormThenRotationOverManyTokens) {
  constexpr std::int64_t kTokens = 1237, kHeadDim = 32;
  Ids ids;
  for (int t = 0; t < kTokens; ++t) ids.push_back(t * 7 % static_cast<int>(kPositions));
  Problem p{3, 1, kHeadDim, DType::kF32, ids};
  p.randomize();
  OpContext ctx = context(2);
  fill(ctx, p.dq_weight, 0);
  fill(ctx, p.dk_weight, 0);
  Tensor x({kTokens, 4, kHeadDim}), dx({kTokens, 4, kHeadDim}), y({kTokens, 4, kHeadDim});
  copy(ctx, p.x(), x);
  copy(ctx, p.dx(), dx);
  qk_norm_rope_forward(ctx, p.forward());
  qk_norm_rope_backward(ctx, p.backward());

  rope_apply(ctx, {.x = dx, .positions = p.positions, .table = p.table.view(), .inverse = true});
  for (const bool query : {true, false}) {
    const std::int64_t begin = query ? 0 : 3, end = query ? 3 : 4;
    const View heads = x.view().slice(1, begin, end), gradient = dx.view().slice(1, begin, end);
    const View weight = query ? p.q_weight : p.k_weight;
    Tensor rstd({kTokens, end - begin}), dweight({kHeadDim});
    const Workspace workspace(rms_norm_backward_workspace(kTokens * (end - begin), kHeadDim));
    fill(ctx, dweight, 0);
    rms_norm_forward(ctx, {heads, {}, weight, kEps, {}, y.view().slice(1, begin, end), rstd});
    rms_norm_backward(ctx, {gradient, {}, heads, weight, rstd, gradient, dweight, workspace});
    expect_close(query ? p.dq_weight : p.dk_weight, values(dweight), 1e-5, "dweight");
  }
  rope_apply(ctx, {.x = y, .positions = p.positions, .table = p.table.view()});
  expect_close(p.x(), values(y), 5e-7, "y");
  expect_close(p.dx(), values(dx), 5e-6, "dx");
}

TEST(QkNormRope, ForwardNeedNotKeepWhatWasBefore) {
  for (const std::int64_t head_dim : {6, 64}) {
    Problem kept{2, 1, head_dim, DType::kF32, {5, 6}}, lost{2, 1, head_dim, DType::kF32, {5, 6}};
    kept.randomize();
    lost.randomize();
    QkNormRopeForwardArgs args = lost.forward();
    args.before = {};
    OpContext ctx = context();
    qk_norm_rope_forward(ctx, kept.forward());
    qk_norm_rope_forward(ctx, args);
    expect_same_bits(lost.fused, kept.fused, "y");
  }
}

TEST(QkNormRope, GivesTheSameBitsForAnyNumberOfThreads) {
  TERROIR_CPU_ONLY();
  Ids ids;
  for (int t = 0; t < 100; ++t) ids.push_back(t % static_cast<int>(kPositions));
  const auto run = [&](int threads) {
    Problem p{4, 2, 66, DType::kF32, ids};
    p.randomize();
    OpContext ctx = context(threads);
    qk_norm_rope_forward(ctx, p.forward());
    qk_norm_rope_backward(ctx, p.backward());
    return p;
  };
  const Problem one = run(1);
  for (const int threads : {2, 3}) {
    const Problem several = run(threads);
    expect_same_bits(several.fused, one.fused, "y");
    expect_same_bits(several.dfused, one.dfused, "dx");
    expect_same_bits(several.dq_weight, one.dq_weight, "dq_weight");
    expect_same_bits(several.dk_weight, one.dk_weight, "dk_weight");
  }
}

TEST(QkNormRope, TakesNoTokensAndOneKindOfHeads) {
  Problem none{2, 1, 8, DType::kF32, {}};
  OpContext ctx = context(2);
  const Values before = values(none.randomize().dq_weight);
  EXPECT_NO_THROW(qk_norm_rope_forward(ctx, none.forward()));
  EXPECT_NO_THROW(qk_norm_rope_backward(ctx, none.backward()));
  expect_close(none.dq_weight, before, 0, "dq_weight");
  for (const std::int64_t queries : {0, 2}) {
    Problem p{queries, 2 - queries, 8, DType::kF32, {1, 2, 3}};
    p.randomize();
    const View untouched = queries == 0 ? p.dq_weight : p.dk_weight;
    const Values kept = values(untouched);
    qk_norm_rope_forward(ctx, p.forward());
    qk_norm_rope_backward(ctx, p.backward());
    expect_close(untouched, kept, 0, "the weight without heads");
  }
}

TEST(QkNormRope, RefusesWrongArgumentsAndWritesNothing) {
  Problem p{1, 1, 4, DType::kF32, {0, 3}}, odd{1, 1, 4, DType::kBF16, {0, 3}};
  p.randomize();
  const Values before = values(p.fused), gradient = values(p.dfused);
  OpContext ctx = context();
  const auto forward_refused = [&](const auto& change, const std::string& words) {
    QkNormRopeForwardArgs args = p.forward();
    change(args);
    expect_refused([&] { qk_norm_rope_forward(ctx, args); }, "qk_norm_rope_forward: " + words);
  };
  using Forward = QkNormRopeForwardArgs;
  const Tensor three({2, 2, 3}), wrong({3});
  forward_refused([&](Forward& a) { a.x = three; }, "x is f32[2, 2, 3], its last dimension must be even");
  forward_refused([&](Forward& a) { a.x = p.fused; }, "x is f32[2, 16], must be f32[*, *, *]");
  forward_refused([&](Forward& a) { a.query_heads = 3; }, "3 query heads of 2");
  forward_refused([&](Forward& a) { a.q_weight = wrong.view(); }, "q_weight is f32[3], must be f32[4]");
  forward_refused([&](Forward& a) { a.k_weight = odd.k_weight.view(); },
                  "k_weight is bf16[4], its dtype must be f32");
  forward_refused([&](Forward& a) { a.positions = IntTensor({1}, {0}); },
                  "positions is i32[1], must be i32[2]");
  forward_refused([&](Forward& a) { a.table = wrong.view(); }, "table is f32[3], must be f32[*, 4]");
  forward_refused([&](Forward& a) { a.before = three; }, "before is f32[2, 2, 3]");
  forward_refused([&](Forward& a) { a.rstd = wrong; }, "rstd is f32[3], must be f32[2, 2]");
  if (!on_cuda()) {
    const IntTensor beyond({2}, {0, 50});
    forward_refused([&](Forward& a) { a.positions = beyond; },
                    "position 50 of token 1 is outside the table of 50");
  }
  expect_close(p.fused, before, 0, "x");

  const auto backward_refused = [&](const auto& change, const std::string& words) {
    QkNormRopeBackwardArgs args = p.backward();
    change(args);
    expect_refused([&] { qk_norm_rope_backward(ctx, args); }, "qk_norm_rope_backward: " + words);
  };
  using Backward = QkNormRopeBackwardArgs;
  const Workspace small(qk_norm_rope_backward_workspace(4) - 1);
  p.rstd.randomize(1);
  p.before.randomize(2);
  backward_refused([&](Backward& a) { a.dx = three; }, "dx is f32[2, 2, 3], its last dimension must be even");
  backward_refused([&](Backward& a) { a.before = three.view(); }, "before is f32[2, 2, 3]");
  backward_refused([&](Backward& a) { a.dq_weight = wrong; }, "dq_weight is f32[3], must be f32[4]");
  backward_refused([&](Backward& a) { a.dk_weight = odd.k_weight; },
                   "dk_weight is bf16[4], its dtype must be f32");
  backward_refused([&](Backward& a) { a.workspace = small; },
                   "workspace is u8[6335], must be u8[6336] or longer");
  expect_close(p.dfused, gradient, 0, "dx");
}

}  // namespace
}  // namespace terroir::test
