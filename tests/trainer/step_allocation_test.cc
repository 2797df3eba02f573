// What a training step takes from the heap: no tensor, no scratch. (oneDNN's sgemm packs its operands into
// memory of its own, which comes from malloc and is not seen here.)
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

#include "tests/trainer/layout_case.h"
#include "trainer/step/engine.h"

namespace {

std::atomic<bool> watching{false};
std::atomic<std::size_t> largest{0};

void* take(std::size_t bytes, std::size_t alignment) {
  if (watching) {
    std::size_t seen = largest;
    while (bytes > seen && !largest.compare_exchange_weak(seen, bytes)) {
    }
  }
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded > 0 ? rounded : alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

// Not inlined: g++ would warn that free() gets what operator new returned.
[[gnu::noinline]] void* operator new(std::size_t bytes) { return take(bytes, alignof(std::max_align_t)); }
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

namespace terroir::test {
namespace {

// Bytes of the largest block that any rank takes in steps after the first.
std::size_t largest_allocation(const Config& config, int num_ranks) {
  largest = 0;
  run_threads(num_ranks, {.timeout_s = 60}, [&](World& world) {
    Mesh mesh(world, MeshShape::with_data_filled(world.size(), config.parallel.tensor,
                                                 config.parallel.context, config.parallel.pipeline));
    OpContext ctx;
    Engine engine(config, mesh, ctx, {}, 1);
    engine.initialize();
    engine.synchronize();
    const SampleBatch batch = make_samples(0, config.train.micro_batch_size, config);
    for (int step = 0; step < 3; ++step) {
      mesh.control().barrier(ctx.stream, "step");
      if (step == 1 && world.rank() == 0) watching = true;
      engine.train_step(step, [&]() -> const SampleBatch& { return batch; });
    }
    mesh.control().barrier(ctx.stream, "end");
    if (world.rank() == 0) watching = false;
  });
  return largest;
}

TEST(StepAllocation, TheCountingSeesWhatItShould) {
  largest = 0;
  watching = true;
  ::operator delete(::operator new(12345));  // a call, which no compiler may leave out
  watching = false;
  EXPECT_EQ(largest, 12345u);
}

// An activation of a micro-batch is 34 tokens x 48 x 4 = 6528 bytes, a gradient bucket 20 KiB; what
// coordinates ranks (an operation's record, a list of blocks) is smaller.
TEST(StepAllocation, NothingAsLargeAsATensorIsTakenInAStep) {
  struct Layout {
    int ranks, tensor, pipeline;
    bool recompute;
  };
  for (const Layout& layout : {Layout{1, 1, 1, false}, Layout{1, 1, 1, true}, Layout{2, 2, 1, false},
                               Layout{2, 1, 2, false}, Layout{2, 1, 1, false}, Layout{4, 2, 2, true}}) {
    const Config config =
        make_config({.recompute = layout.recompute, .tensor = layout.tensor, .pipeline = layout.pipeline});
    EXPECT_LT(largest_allocation(config, layout.ranks), 2048u)
        << layout.ranks << " ranks, tensor " << layout.tensor << ", pipeline " << layout.pipeline;
  }
}

}  // namespace
}  // namespace terroir::test
