// What a training step takes from the heap: no tensor, no scratch, neither here nor in a library. glibc lets
// a program replace malloc and its kin; operator new, ours and every library's, comes by here too. (Memory
// mapped without malloc, such as the stack of a new thread, does not.)
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <new>
#include <utility>
#include <vector>

#include "tests/trainer/layout_case.h"
#include "trainer/step/engine.h"

namespace {

std::atomic<bool> watching{false};
std::atomic<std::size_t> largest{0};

void see(std::size_t bytes) {
  if (!watching) return;
  std::size_t seen = largest;
  while (bytes > seen && !largest.compare_exchange_weak(seen, bytes)) {
  }
}

}  // namespace

extern "C" {

// glibc's own, under their second names.
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) noexcept {
  see(bytes);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  see(count * bytes);
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  see(bytes);
  return __libc_realloc(memory, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  see(bytes);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept { return memalign(alignment, bytes); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  *memory = memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}

}  // extern "C"

namespace terroir::test {
namespace {

struct Layout {
  int ranks = 1, threads = 1, tensor = 1, pipeline = 1;
  bool recompute = false;
};

// Bytes of the largest block that any rank takes in steps after the first; `in_step` is called in each.
std::size_t largest_allocation(
    const Config& config, const Layout& layout, const std::function<void(int)>& in_step = [](int) {}) {
  largest = 0;
  run_threads(layout.ranks, {.timeout_s = 60}, [&](World& world) {
    Mesh mesh(world, MeshShape::with_data_filled(world.size(), config.parallel.tensor,
                                                 config.parallel.context, config.parallel.pipeline));
    OpContext ctx;
    ctx.num_threads = layout.threads;
    Engine engine(config, mesh, ctx, {}, 1);
    engine.initialize();
    engine.synchronize();
    const SampleBatch batch = make_samples(0, config.train.micro_batch_size, config);
    for (int step = 0; step < 3; ++step) {
      mesh.control().barrier(ctx.stream, "step");
      if (step == 1 && world.rank() == 0) watching = true;
      engine.train_step(step, [&]() -> const SampleBatch& { return batch; });
      in_step(step);
    }
    mesh.control().barrier(ctx.stream, "end");
    if (world.rank() == 0) watching = false;
  });
  return largest;
}

TEST(StepAllocation, TheCountingSeesWhateverTakesMemory) {
  const std::vector<std::pair<const char*, std::function<void*()>>> ways = {
      {"malloc", [] { return std::malloc(12345); }},
      {"calloc", [] { return std::calloc(3, 4115); }},
      {"realloc", [] { return std::realloc(nullptr, 12345); }},
      {"aligned_alloc", [] { return std::aligned_alloc(64, 12345); }},
      {"posix_memalign",
       [] {
         void* memory = nullptr;
         return posix_memalign(&memory, 64, 12345) == 0 ? memory : nullptr;
       }},
      {"operator new", [] { return ::operator new(12345); }}};
  for (const auto& [name, take] : ways) {
    largest = 0;
    watching = true;
    void* const memory = take();
    watching = false;
    EXPECT_EQ(largest, 12345u) << name;
    std::free(memory);
  }
}

// Where a step takes memory, the test of it fails: an op's scratch, first used in a later step, say.
TEST(StepAllocation, MemoryTakenInAStepIsFound) {
  const Config config = make_config({});
  const auto planted = [](int step) {
    if (step == 2) std::free(std::realloc(std::malloc(1), 5000));
  };
  EXPECT_GE(largest_allocation(config, {.ranks = 1}, planted), 5000u);
}

// An activation of a micro-batch is 34 tokens x 48 x 4 = 6528 bytes, a gradient bucket 20 KiB; what
// coordinates ranks (an operation's record, a list of blocks) is smaller.
TEST(StepAllocation, NothingAsLargeAsATensorIsTakenInAStep) {
  for (const Layout& layout :
       {Layout{}, Layout{.threads = 2}, Layout{.recompute = true}, Layout{.ranks = 2, .tensor = 2},
        Layout{.ranks = 2, .pipeline = 2}, Layout{.ranks = 2}, Layout{.ranks = 2, .threads = 2},
        Layout{.ranks = 4, .tensor = 2, .pipeline = 2, .recompute = true}}) {
    const Config config =
        make_config({.recompute = layout.recompute, .tensor = layout.tensor, .pipeline = layout.pipeline});
    EXPECT_LT(largest_allocation(config, layout), 2048u)
        << layout.ranks << " ranks, " << layout.threads << " threads, tensor " << layout.tensor
        << ", pipeline " << layout.pipeline;
  }
}

}  // namespace
}  // namespace terroir::test
