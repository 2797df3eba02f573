// The execution of a kernel's blocks on the CPU: threads of a block are fibers, switched at barriers and warp
// operations only. What the shim headers in include/ are made of.
//
// Blocks run one after another, and all launches of a process too (one lock): device code's state needs no
// thread_local.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
  constexpr operator uint3() const { return {x, y, z}; }
};

namespace cuda_on_cpu {

constexpr int kWarpSize = 32;
using Where = std::source_location;

// What device code knows of itself while it runs.
struct Coordinates {
  uint3 thread{}, block{};
  dim3 block_size, grid_size;
};
__attribute__((visibility("hidden"))) extern Coordinates coordinates;

struct Launch {
  std::string kernel;  // for messages
  dim3 grid, block;
  std::size_t shared_bytes = 0;
  std::function<void()> thread;  // the kernel with its arguments
};
// What a GPU would hang on or leave undefined.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};
// Runs all blocks in the order of the schedule (schedule.h) that the environment asks for. Throws KernelError
// with kernel, block, thread and the places in the source; the rest of the launch does not run.
void run(const Launch& launch);

// What the first kernel that failed said, or nothing; the device, which was lost, works again.
std::string take_failure();

// --- called by device code ---

// The block's dynamic shared memory: exactly as large as the launch said, 0xff in every byte at the block's
// start.
void* dynamic_shared();

// Returns when every thread of the block is at this barrier; the number of them whose `vote` is not 0. A
// thread that has ended or waits elsewhere is an error.
int block_barrier(int vote, const Where& where);

// Warp operations return when every lane of `mask` has called the same one from the same place. Only
// warp_barrier orders the lanes' memory accesses.
constexpr std::size_t kMaxWarpBytes = 32;
void warp_barrier(unsigned mask, const Where& where);
// result = the value of lane `source`; 0xff bytes if that lane is not in the mask.
void warp_shuffle(unsigned mask, const void* value, void* result, std::size_t bytes, int source,
                  const Where& where);
unsigned warp_ballot(unsigned mask, bool vote, const Where& where);
// all = the values of lanes 0..31, `bytes` apart; those of lanes that are not in the mask stay as they are.
void warp_gather(unsigned mask, const void* value, void* all, std::size_t bytes, const Where& where);
// d += a b, fragments as in device_world.h.
void warp_mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                            const Where& where);
// Fails where ldmatrix would: a row that is not 16-byte aligned.
void check_ldmatrix_row(const void* row, const Where& where);

int lane();
unsigned existing_mask();  // lanes of this warp that there are in the block
unsigned active_mask();    // those that have not ended

// What this thread wrote before its fence is visible to whoever passes a fence later.
void memory_fence();

// cp.async. The destination is 0xff from the start of the copy, which is made at the wait for its group, and
// never if nobody waits.
void async_copy(void* shared, const void* global, bool valid, const Where& where);
void async_commit();
void async_wait(int pending_groups);

}  // namespace cuda_on_cpu
