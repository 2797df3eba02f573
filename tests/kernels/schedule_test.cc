// Every CUDA kernel gives the same bits in whatever order the threads of a block, its warps and the blocks
// run: what a missing barrier or a sum in the order of arrival breaks. On a GPU, where nobody chooses the
// order, the runs differ by chance only.
#include <cstdlib>
#include <functional>

#include "kernels/adamw/adamw.h"
#include "kernels/attention/attention.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear_cross_entropy/linear_cross_entropy.h"
#include "kernels/qk_norm_rope/qk_norm_rope.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/squared_norm/squared_norm.h"
#include "kernels/swiglu/swiglu.h"
#include "kernels/tensor/elementwise.h"
#include "tests/kernels/on_device.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {
namespace {

using Results = std::vector<double>;

void append(Results& results, const ConstView& view) {
  const std::vector<double> more = values(view);
  results.insert(results.end(), more.begin(), more.end());
}

struct Kernel {
  const char* name;
  std::function<Results(DType)> run;
};

Tensor random(Shape shape, std::uint32_t seed, DType dtype = DType::kF32) {
  Tensor tensor(shape, 0, dtype);
  tensor.randomize(seed);
  return tensor;
}

Results rms_norm(DType dtype) {
  OpContext ctx = context();
  const Tensor x = random({37, 1160}, 1, dtype), delta = random({37, 1160}, 2, dtype);
  const Tensor weight = random({1160}, 3, dtype), dy = random({37, 1160}, 4, dtype);
  const Tensor residual({37, 1160}, 0, dtype), y({37, 1160}, 0, dtype), rstd({37}), dx({37, 1160}, 0, dtype);
  const Tensor dweight = random({1160}, 5);
  const Workspace workspace(rms_norm_backward_workspace(37, 1160));
  rms_norm_forward(ctx, {x, delta, weight, 1e-5F, residual, y, rstd});
  rms_norm_backward(ctx, {dy, {}, residual, weight, rstd, dx, dweight, workspace});
  Results results;
  for (const Tensor* tensor : {&residual, &y, &rstd, &dx, &dweight}) append(results, *tensor);
  return results;
}

// Head sizes that a GPU takes 16 bytes and one element at a time.
Results qk_norm_rope(DType dtype) {
  OpContext ctx = context();
  Results results;
  for (const std::int64_t head_dim : {32, 10}) {
    const Tensor x = random({90, 5, head_dim}, 1, dtype), dx = random({90, 5, head_dim}, 2, dtype);
    const Tensor q_weight = random({head_dim}, 3, dtype), k_weight = random({head_dim}, 4, dtype);
    const Tensor before({90, 5, head_dim}, 0, dtype), rstd({90, 5}), angles = random({90, head_dim}, 5);
    const Tensor dq_weight = random({head_dim}, 6), dk_weight = random({head_dim}, 7);
    std::vector<std::int32_t> ids(90);
    for (std::size_t t = 0; t < ids.size(); ++t) ids[t] = static_cast<std::int32_t>(t * 7 % 90);
    const IntTensor positions({90}, ids);
    const Workspace workspace(qk_norm_rope_backward_workspace(head_dim));
    qk_norm_rope_forward(ctx, {x, 3, q_weight, k_weight, positions, angles, 1e-5F, before, rstd});
    qk_norm_rope_backward(
        ctx, {dx, 3, q_weight, k_weight, positions, angles, before, rstd, dq_weight, dk_weight, workspace});
    for (const Tensor* tensor : {&x, &before, &rstd, &dx, &dq_weight, &dk_weight}) append(results, *tensor);
  }
  return results;
}

Results attention(DType dtype) {
  OpContext ctx = context();
  constexpr std::int64_t kTokens = 71, kHeads = 4, kKvHeads = 2, kHeadSize = 64;
  const Tensor q = random({1, kTokens, kHeads, kHeadSize}, 1, dtype);
  const Tensor k = random({1, kTokens, kKvHeads, kHeadSize}, 2, dtype);
  const Tensor v = random({1, kTokens, kKvHeads, kHeadSize}, 3, dtype);
  const Tensor dout = random({1, kTokens, kHeads, kHeadSize}, 4, dtype);
  std::vector<std::int32_t> positions, documents;
  for (std::int32_t t = 0; t < kTokens; ++t) {
    positions.push_back(t % 40);
    documents.push_back(t / 40);
  }
  const IntTensor position({1, kTokens}, positions), document({1, kTokens}, documents);
  const AttentionInputs inputs = {q.view(), k.view(), v.view(), position,
                                  position, document, document, {.scale = 0.125F, .q_heads_per_kv = 2}};
  const Tensor o({1, kTokens, kHeads, kHeadSize}, 0, dtype), lse({1, kHeads, kTokens});
  const Tensor dq({1, kTokens, kHeads, kHeadSize}, 0, dtype);
  const Tensor dk = random({1, kTokens, kKvHeads, kHeadSize}, 5, dtype);
  const Tensor dv = random({1, kTokens, kKvHeads, kHeadSize}, 6, dtype);
  const Workspace workspace(
      attention_backward_workspace_bytes({1, kTokens, kHeads, kTokens, kHeadSize}, ctx.num_threads));
  attention_forward(ctx, {inputs, o, lse});
  attention_backward(ctx, {inputs, o.view(), lse.view(), dout.view(), dq, dk, dv, workspace});
  Results results;
  for (const Tensor* tensor : {&o, &lse, &dq, &dk, &dv}) append(results, *tensor);
  return results;
}

Results linear_cross_entropy(DType dtype) {
  OpContext ctx = context();
  const Tensor x = random({9, 24}, 1, dtype), w = random({301, 24}, 2, dtype), dw = random({301, 24}, 3);
  const IntTensor targets({9}, {3, 300, -1, 0, 7, 7, 150, 299, 12});
  const Tensor loss({9}), dx({9, 24}, 0, dtype);
  const Workspace workspace(linear_cross_entropy_workspace_bytes(4, 301, 24, dtype, test_device()));
  terroir::linear_cross_entropy(ctx, {.x = x,
                                      .w = w,
                                      .targets = targets,
                                      .loss = loss,
                                      .dx = dx,
                                      .dw = dw,
                                      .workspace = workspace,
                                      .chunk_tokens = 4,
                                      .grad_scale = 0.1F});
  Results results;
  for (const Tensor* tensor : {&loss, &dx, &dw}) append(results, *tensor);
  return results;
}

Results embedding(DType dtype) {
  OpContext ctx = context();
  const IntTensor ids({12}, {4, 1, 4, 4, 0, 7, 1, 4, 2, 9, 4, 0});
  const Tensor table = random({10, 72}, 1, dtype), dout = random({12, 72}, 2, dtype),
               dtable = random({10, 72}, 3);
  const Tensor out({12, 72}, 0, dtype);
  embedding_forward(ctx, {.ids = ids, .table = table, .vocab_begin = 0, .out = out});
  embedding_backward(ctx, {.ids = ids, .dout = dout, .vocab_begin = 0, .dtable = dtable});
  Results results;
  append(results, out);
  append(results, dtable);
  return results;
}

Results elementwise(DType dtype) {
  OpContext ctx = context();
  const Tensor gate = random({19, 136}, 1, dtype), up = random({19, 136}, 2, dtype),
               dout = random({19, 136}, 3, dtype);
  const Tensor out({19, 136}, 0, dtype), dgate({19, 136}, 0, dtype), dup({19, 136}, 0, dtype),
      sum({19, 136}, 0, dtype);
  swiglu_forward(ctx, {gate, up, out});
  swiglu_backward(ctx, {dout, gate, up, dgate, dup});
  add(ctx, gate, up, sum);
  const Tensor x = random({19, 4, 32}, 4, dtype), angles = random({64, 32}, 5);
  const IntTensor positions({19}, {0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 63, 3, 4, 5, 6, 7, 8, 9, 10});
  rope_apply(ctx, {.x = x, .positions = positions, .table = angles, .inverse = false});
  Results results;
  for (const Tensor* tensor : {&out, &dgate, &dup, &sum, &x}) append(results, *tensor);
  return results;
}

Results optimizer(DType) {
  OpContext ctx = context();
  const Tensor params = random({9001}, 1), grads = random({9001}, 2), m = random({9001}, 3);
  Tensor squares({9001});
  squares.assign(std::vector<float>(9001, 0.25F));
  const Tensor rounded({9001}, 0, DType::kBF16);
  const OnDevice<StepScalars> scalars({StepScalars{.learning_rate = 0.1F}});
  adamw(ctx, {.params = params,
              .grads = grads,
              .exp_avg = m,
              .exp_avg_sq = squares,
              .params_bf16 = rounded,
              .scalars = scalars.data(),
              .options = {}});
  const OnDevice<double> norm({1.5});
  const ConstView list[] = {grads.view(), params.view()};
  const Workspace workspace(squared_norm_workspace(test_device()));
  squared_norm(ctx, {.x = list, .out = norm.view(), .nonfinite = {}, .workspace = workspace});
  Results results;
  for (const Tensor* tensor : {&params, &m, &rounded}) append(results, *tensor);
  append(results, squares);
  append(results, norm.view());
  return results;
}

class Schedules : public testing::TestWithParam<Kernel> {};

// ThreadSanitizer sees a race under any one schedule.
std::vector<std::string> schedules() {
#if defined(__SANITIZE_THREAD__)
  return {};
#else
  std::vector<std::string> all;
  for (const char* start : {"ascending", "descending", "shuffled"})
    for (const char* pick : {"first", "last", "random"})
      for (const char* seed : {"1", "2"}) all.push_back(fmt::format("{} {} {}", start, pick, seed));
  return all;
#endif
}

TEST_P(Schedules, DoNotChangeABit) {
  if (!on_cuda()) GTEST_SKIP() << "of CUDA kernels only";
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Results first = GetParam().run(dtype);
    for (const std::string& schedule : schedules()) {
      ::setenv("TERROIR_EMULATOR_SCHEDULE", schedule.c_str(), 1);
      const Results again = GetParam().run(dtype);
      ::unsetenv("TERROIR_EMULATOR_SCHEDULE");
      ASSERT_EQ(again.size(), first.size());
      for (std::size_t i = 0; i < first.size(); ++i)
        ASSERT_EQ(again[i], first[i]) << dtype_name(dtype) << ", " << schedule << ", element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, Schedules,
                         testing::Values(Kernel{"rms_norm", rms_norm}, Kernel{"qk_norm_rope", qk_norm_rope},
                                         Kernel{"attention", attention},
                                         Kernel{"linear_cross_entropy", linear_cross_entropy},
                                         Kernel{"embedding", embedding}, Kernel{"elementwise", elementwise},
                                         Kernel{"optimizer", optimizer}),
                         [](const testing::TestParamInfo<Kernel>& info) {
                           return std::string(info.param.name);
                         });

}  // namespace
}  // namespace terroir::test
