// The execution of a kernel's blocks on the CPU: threads of a block are fibers, switched at barriers and warp
// operations only. What the shim headers in include/ are made of.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

namespace cuda_on_cpu {

constexpr int kWarpSize = 32;

// What device code knows of itself while it runs.
struct Coordinates {
  uint3 thread{}, block{};
  dim3 block_size, grid_size;
};
extern thread_local Coordinates coordinates;

// TERROIR_EMULATOR_SCHEDULE says (execution.cc) in which order a launch runs its blocks and the runnable
// threads of a block. The same kernel must give the same bits under all of them.
struct Schedule {
  enum class Start { kAscending, kDescending, kShuffled } start = Start::kAscending;  // of threads and blocks
  enum class Pick { kFirst, kLast, kRandom } pick = Pick::kFirst;  // among runnable threads
  std::uint32_t seed = 1;
};

struct Launch {
  std::string kernel;  // for messages
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  std::function<void()> thread;  // the kernel with its arguments
};
// Runs all blocks. Throws KernelError for what a GPU would hang on or leave undefined.
void run(const Launch& launch);
class KernelError : public std::exception {
 public:
  explicit KernelError(std::string message) : message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// What the first kernel that failed said, or nothing; the device, which was lost, works again.
std::string take_failure();

// --- called by device code ---

// The block's dynamic shared memory: exactly as large as the launch said, 0xff in every byte at the block's
// start.
void* dynamic_shared();

// Returns when every thread of the block that has not ended is at this barrier.
void block_barrier(const std::source_location& where);
// As above; the number of them whose `vote` is not 0.
int block_barrier_count(int vote, const std::source_location& where);

// What the lanes of a warp bring to an operation, [lane][byte].
struct WarpValues {
  static constexpr std::size_t kMaxBytes = 32;
  alignas(16) unsigned char bytes[kWarpSize][kMaxBytes];
};
// Returns when every lane of `mask` has called it from the same place; then all see what each brought: valid
// until this thread's next warp operation or barrier.
const WarpValues& warp_exchange(unsigned mask, const void* value, std::size_t bytes,
                                const std::source_location& where);
// As a barrier among the lanes of `mask`, which also orders their memory accesses.
void warp_barrier(unsigned mask, const std::source_location& where);
int lane();
unsigned warp_mask();  // lanes of this warp that exist
unsigned active_mask();

// cp.async: the copy is made at the wait (or when the thread ends), not before.
void async_copy(void* shared, const void* global, std::size_t bytes, bool valid);
void async_commit();
void async_wait(int pending_groups);

}  // namespace cuda_on_cpu
