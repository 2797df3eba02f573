// Who computes attention in training with `device: cuda`, on the CPU that runs the same kernels, where plain
// loops play cuDNN (tests/cuda_on_cpu/plain_cudnn_graph.cc).
#include <gmock/gmock.h>

#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/device.h"
#include "parallel/staged_world.h"
#include "tests/cuda_on_cpu/plain_cudnn.h"
#include "tests/support/expect_error.h"
#include "tests/trainer/layout_case.h"
#include "trainer/model/document_starts.h"
#include "trainer/step/engine.h"
#include "trainer/step/memory_plan.h"

namespace terroir::test {
namespace {

using testing::HasSubstr;

Config on_cuda(const LayoutCase& layout, std::int64_t sequence_length) {
  Config config = make_config(layout);
  config.device = "cuda";
  config.parallel.transport = "host";
  config.precision.compute = "bf16";
  config.data.sequence_length = sequence_length;
  return config;
}

// How often the stand-in has computed.
struct Counts {
  int graphs, dense, packed, backwards, in_any_order;
  static Counts now() {
    using Function = cuda::PlainCudnnCounts* (*)();
    const auto counts = reinterpret_cast<Function>(cuda_module_symbol("terroir_plain_cudnn_counts"));
    const cuda::PlainCudnnCounts& c = *counts();
    return {c.graphs, c.dense, c.packed, c.backwards, c.in_any_order};
  }
  Counts since(const Counts& before) const {
    return {graphs - before.graphs, dense - before.dense, packed - before.packed,
            backwards - before.backwards, in_any_order - before.in_any_order};
  }
};

class AttentionTraining : public testing::Test {
 protected:
  AttentionTraining() { load_cuda_module(); }

  // What cuDNN computed of a training that equals the CPU's. (bf16's own rounding; see
  // cuda_training_test.cc.)
  static Counts train_as_on_the_cpu(const Config& config, int ranks = 1) {
    const TrainedRun reference = run_one_rank(config);
    const Counts before = Counts::now();
    const Difference most = compare_on_threads(config, ranks, reference);
    EXPECT_LT(most.loss, 2e-3);
    EXPECT_LT(most.grad_norm, 2e-2);
    EXPECT_LT(most.gradient, 0.3) << most.worst;
    EXPECT_LT(most.weight, 1e-2) << most.worst;
    return Counts::now().since(before);
  }
};

constexpr int kLayers = 5, kDirections = 2;  // of the model of layout_case.h

// Windows of 5 tokens: some are one document, others two to four; each is a micro-batch.
TEST_F(AttentionTraining, CudnnComputesRowsOfOneDocumentAndPackedDocuments) {
  const Counts counts = train_as_on_the_cpu(on_cuda({.global_batch = 8, .micro_batch = 1}, 5));
  EXPECT_GT(counts.dense, 0);
  EXPECT_GT(counts.packed, 0);
  EXPECT_EQ(counts.dense + counts.packed, kSteps * 8 * kLayers * kDirections);
  EXPECT_EQ(counts.backwards, kSteps * 8 * kLayers);
  EXPECT_EQ(counts.in_any_order, 0);
}

TEST_F(AttentionTraining, EveryRankOfALayoutTakesCudnn) {
  const Counts counts = train_as_on_the_cpu(
      on_cuda({.recompute = true, .tensor = 2, .pipeline = 2, .global_batch = 4, .micro_batch = 1}, 5), 4);
  EXPECT_EQ(counts.dense + counts.packed, kSteps * 4 * kLayers * 2 * (kDirections + 1));  // forward twice
}

// Windows of 17 tokens, of which some have more than four documents.
TEST_F(AttentionTraining, OwnKernelsComputeMoreDocumentsThanTheTableHolds) {
  const Counts counts = train_as_on_the_cpu(on_cuda({.global_batch = 8, .micro_batch = 1}, 17));
  EXPECT_GT(counts.packed, 0);
  EXPECT_LT(counts.dense + counts.packed, kSteps * 8 * kLayers * kDirections);
}

TEST_F(AttentionTraining, OwnKernelsAreTakenWhereTheyAreAskedFor) {
  Config config = on_cuda({.global_batch = 4}, 17);
  config.train.attention = "own";
  const Counts counts = train_as_on_the_cpu(config);
  EXPECT_EQ(counts.graphs + counts.dense + counts.packed, 0);
}

TEST_F(AttentionTraining, WithoutDeterminismCudnnMayAddInAnyOrder) {
  Config config = on_cuda({.global_batch = 4, .micro_batch = 1}, 5);
  config.deterministic = false;
  const Counts counts = train_as_on_the_cpu(config);
  EXPECT_EQ(counts.in_any_order, counts.backwards);
  EXPECT_GT(counts.backwards, 0);
}

// Six query heads in two groups: of three tensor ranks the second has heads of both.
TEST_F(AttentionTraining, RanksThatDifferAreLoggedApart) {
  const Config config = on_cuda({.tensor = 3, .global_batch = 4, .micro_batch = 1}, 5);
  std::vector<std::string> lines;
  run_threads(3, {.timeout_s = 60}, [&](World& world) {
    const Device device{DeviceKind::kCuda, 0};
    const auto staged = staged_world(world, device);
    Mesh mesh(*staged, MeshShape{.tensor = 3});
    const OwnedStream stream(device);
    OpContext ctx;
    ctx.stream = stream;
    const MemoryPlan plan = plan_memory(config, mesh, ctx);
    if (world.rank() == 0) lines = plan.attention;
  });
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], testing::StartsWith("attention on ranks 0, 2: cuDNN"));
  EXPECT_THAT(lines[1], testing::StartsWith("attention on rank 1: Terroir's"));
}

// A context of one rank on the device, and the mesh of that rank.
struct OneRank {
  explicit OneRank(Device device = {DeviceKind::kCuda, 0})
      : host(local_world()), world(staged_world(*host, device)), stream(device), mesh(*world, MeshShape{}) {
    ctx.stream = stream;
  }
  std::unique_ptr<World> host, world;
  OwnedStream stream;
  Mesh mesh;
  OpContext ctx;
};

TEST_F(AttentionTraining, CudnnPlansAreMadeBeforeTheFirstStepAndOnce) {
  const Config config = on_cuda({.global_batch = 4, .micro_batch = 1}, 5);
  OneRank rank;
  const Counts before = Counts::now();
  const StageMemory planned = Engine::plan(config, rank.mesh, rank.ctx);
  EXPECT_EQ(Counts::now().since(before).graphs, 4);  // rows and packed documents, forward and backward
  Engine engine(config, rank.mesh, rank.ctx, {}, 1);
  engine.initialize();
  engine.synchronize();
  const std::int64_t free_bytes = device_runtime(rank.stream.stream().device()).info(0).free_bytes;
  SampleBatch batch;
  for (int step = 0; step < 2; ++step) {
    std::int64_t next = 0;
    engine.train_step(step, [&]() -> const SampleBatch& { return batch = make_samples(next++, 1, config); });
  }
  EXPECT_EQ(Counts::now().since(before).graphs, 4);
  EXPECT_EQ(device_runtime(rank.stream.stream().device()).info(0).free_bytes, free_bytes);
  // Tables of 4 documents and their lse, and the stand-in's backward of 4 sequences at once.
  EXPECT_GE(planned.attention.workspace_bytes, 4 * 6 * 5 * 5 * 2);
  EXPECT_GE(planned.scratch, planned.attention.workspace_bytes);
  EXPECT_THAT(planned.attention.description, testing::StartsWith("cuDNN plain; "));
}

// 16 heads of 4,096 tokens: 512 MiB for a row, and for each of the 16 documents that a table holds.
TEST_F(AttentionTraining, SaysWhoComputesWhatAndWhy) {
  const LayerShape shape = {.hidden = 64,
                            .heads = 16,
                            .kv_heads = 4,
                            .head_dim = 128,
                            .intermediate = 64,
                            .heads_per_kv = 4,
                            .dtype = DType::kBF16};
  const auto plan = [&](bool deterministic, AttentionPolicy::Kernels kernels, DType dtype = DType::kBF16) {
    OneRank rank;
    rank.ctx.deterministic = deterministic;
    rank.ctx.cache<AttentionPolicy>().kernels = kernels;
    LayerShape of = shape;
    of.dtype = dtype;
    return plan_attention(rank.ctx, of, 1, 4096, max_documents(1, 4096));
  };
  using Kernels = AttentionPolicy::Kernels;
  EXPECT_EQ(plan(true, Kernels::kAuto).description,
            "cuDNN plain for rows of one document forward, rows of one document backward, packed documents "
            "forward; Terroir's tensor-core kernels for packed documents backward (cuDNN would need 8192 MiB "
            "of workspace, more than 1024); 512.0 MiB of workspace");
  const AttentionPlan any_order = plan(false, Kernels::kAuto);
  EXPECT_THAT(any_order.description, HasSubstr("cuDNN plain; "));
  EXPECT_THAT(any_order.description, HasSubstr("other bits at every run"));
  EXPECT_LT(any_order.workspace_bytes, 16 << 20);
  EXPECT_GT(plan(true, Kernels::kCudnn).workspace_bytes, std::int64_t{8} << 30);
  EXPECT_THAT(plan(true, Kernels::kOwn).description,
              HasSubstr("Terroir's tensor-core kernels (they are asked for)"));
  EXPECT_THAT(plan(true, Kernels::kAuto, DType::kF32).description,
              HasSubstr("Terroir's kernels without tensor cores (cuDNN computes in bf16 here, not f32)"));
}

TEST_F(AttentionTraining, RefusesCudnnWhereItCannotCompute) {
  Config config = on_cuda({.global_batch = 4}, 17);
  config.train.attention = "cudnn";
  OneRank gpu, cpu{Device{}};
  EXPECT_EQ(plan_memory(config, gpu.mesh, gpu.ctx).mine.attention.refusal, "");
  config.precision.compute = "f32";
  expect_error(ExitCode::kUsage, {"train.attention: cuDNN cannot compute it here", "bf16"},
               [&] { plan_memory(config, gpu.mesh, gpu.ctx); });
  expect_error(ExitCode::kUsage, {"train.attention: cuDNN cannot compute it here: the CPU's kernels"},
               [&] { plan_memory(config, cpu.mesh, cpu.ctx); });
}

SampleBatch batch_of(std::int64_t length, std::vector<std::int32_t> documents,
                     std::vector<std::int32_t> positions) {
  SampleBatch batch{.count = static_cast<std::int64_t>(documents.size()) / length, .sequence_length = length};
  batch.documents = std::move(documents);
  batch.positions = std::move(positions);
  return batch;
}

TEST(DocumentStarts, AreFoundInEveryRow) {
  std::vector<std::int32_t> starts(5);
  EXPECT_EQ(find_documents(batch_of(3, {0, 0, 1, 0, 0, 0}, {0, 1, 0, 0, 1, 2}), starts),
            DocumentLayout::kPacked);
  EXPECT_EQ(starts, (std::vector<std::int32_t>{0, 2, 3, 6, 6}));
  EXPECT_EQ(find_documents(batch_of(3, {0, 0, 0, 0, 0, 0}, {0, 1, 2, 0, 1, 2}), starts),
            DocumentLayout::kOnePerRow);
}

TEST(DocumentStarts, AreNotSaidOfWhatATableCannotDescribe) {
  std::vector<std::int32_t> starts(3);
  EXPECT_EQ(find_documents(batch_of(3, {0, 1, 2}, {0, 0, 0}), starts), DocumentLayout::kOther);  // three
  EXPECT_EQ(find_documents(batch_of(3, {1, 1, 0}, {0, 1, 0}), starts), DocumentLayout::kOther);  // may recur
  EXPECT_EQ(find_documents(batch_of(3, {0, 0, 0}, {0, 2, 1}), starts), DocumentLayout::kOther);  // disorder
}

TEST(DocumentStarts, TheTableHoldsDocumentsOf256TokensAndFourARow) {
  EXPECT_EQ(max_documents(2, 4096), 32);
  EXPECT_EQ(max_documents(3, 100), 12);
}

}  // namespace
}  // namespace terroir::test
