// Launches, and what device code calls that is not a warp operation.
#include <algorithm>
#include <cstring>
#include <mutex>
#include <numeric>

#include "tests/cuda_on_cpu/block.h"

namespace cuda_on_cpu {
namespace {

std::mutex one_launch_at_a_time;

// The address at which fences meet, for ThreadSanitizer.
constexpr char kFence = 0;

// Not known to the compiler: memcpy and memset of it are calls, which ThreadSanitizer sees where it does not
// see the emulator's own accesses.
const volatile std::size_t kAsyncBytes = 16;

bool misaligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 != 0; }

}  // namespace

void run(const Launch& launch) {
  const std::lock_guard lock(one_launch_at_a_time);
  const Schedule schedule = schedule_of_environment();
  std::mt19937 random(schedule.seed);
  std::vector<std::uint64_t> order(std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z);
  std::iota(order.begin(), order.end(), 0);
  if (schedule.start == Schedule::Start::kDescending) std::reverse(order.begin(), order.end());
  if (schedule.start == Schedule::Start::kShuffled) std::shuffle(order.begin(), order.end(), random);
  for (const std::uint64_t i : order) {
    const std::uint64_t x = launch.grid.x, y = launch.grid.y;
    const uint3 index = {static_cast<unsigned>(i % x), static_cast<unsigned>(i / x % y),
                         static_cast<unsigned>(i / x / y)};
    Block(launch, index, schedule, random).run();
  }
}

void* dynamic_shared() { return the_block->shared(); }

int block_barrier(int vote, const Where& where) {
  const InEmulator scope;
  return the_block->barrier(vote, where);
}

void memory_fence() {
  const InEmulator scope;
  the_block->fibers().publish(&kFence);
  the_block->fibers().observe(&kFence);
}

void check_ldmatrix_row(const void* row, const Where& where) {
  const InEmulator scope;
  if (misaligned(row)) the_block->fail("ldmatrix of a misaligned row, at " + place(where));
}

void async_copy(void* shared, const void* global, bool valid, const Where& where) {
  {
    const InEmulator scope;
    if (misaligned(shared) || (valid && misaligned(global)))
      the_block->fail("cp.async of a misaligned address, at " + place(where));
    the_block->current().copies.push_back({shared, global, valid});
  }
  std::memset(shared, 0xFF, kAsyncBytes);  // by the thread itself: sanitizers see the access
}

void async_commit() {
  const InEmulator scope;
  Thread& me = the_block->current();
  const std::size_t earlier = std::accumulate(me.groups.begin(), me.groups.end(), std::size_t{0});
  me.groups.push_back(me.copies.size() - earlier);
}

void async_wait(int pending_groups) {
  Thread& me = the_block->current();
  const auto pending = static_cast<std::size_t>(pending_groups);
  if (me.groups.size() <= pending) return;
  const auto last = me.groups.end() - static_cast<std::ptrdiff_t>(pending);
  const std::size_t count = std::accumulate(me.groups.begin(), last, std::size_t{0});
  for (std::size_t i = 0; i < count; ++i) {  // by the thread itself
    const AsyncCopy& copy = me.copies[i];
    if (copy.valid)
      std::memcpy(copy.to, copy.from, kAsyncBytes);
    else
      std::memset(copy.to, 0, kAsyncBytes);
  }
  const InEmulator scope;
  me.groups.erase(me.groups.begin(), last);
  me.copies.erase(me.copies.begin(), me.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

}  // namespace cuda_on_cpu
