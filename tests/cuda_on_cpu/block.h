// One block of a launch while it runs.
#pragma once

#include <memory>
#include <random>
#include <vector>

#include "tests/cuda_on_cpu/emulator.h"
#include "tests/cuda_on_cpu/fiber.h"
#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {

std::string place(const Where& where);  // "file:line:column"
bool same_place(const Where& a, const Where& b);

struct AsyncCopy {
  void* to;
  const void* from;
  bool valid;
};

// A warp operation that some of its lanes have reached.
struct Exchange {
  unsigned mask = 0;     // 0: not in use
  unsigned arrived = 0;  // lanes
  unsigned unread = 0;   // lanes that have not taken the result, once complete
  bool complete = false;
  Where where;
  alignas(16) unsigned char values[kWarpSize][kMaxWarpBytes];
  float products[16][8];  // of mma
};

struct Thread {
  enum class State { kRunnable, kAtBarrier, kInWarp, kEnded } state = State::kRunnable;
  std::size_t index = 0;
  Where where;  // of the barrier or warp operation
  std::vector<AsyncCopy> copies;
  std::vector<std::size_t> groups;  // committed and not waited for: how many of `copies` each has
};

class Block {
 public:
  Block(const Launch& launch, uint3 index, const Schedule& schedule, std::mt19937& random);
  void run();  // throws KernelError

  // For the thread that runs, between leave_device_code and enter_device_code.
  int barrier(int vote, const Where& where);
  // Returns when all lanes of the mask have brought their value. `finish` is called once, when the last has.
  // To be followed by done(), before this thread gives way again.
  Exchange& exchange(unsigned mask, const void* value, std::size_t bytes, bool orders_memory,
                     void (*finish)(Exchange&), const Where& where);
  void done(Exchange& exchange);
  [[noreturn]] void fail(const std::string& message);

  Thread& current() { return *current_; }
  int lane() const { return static_cast<int>(current_->index % kWarpSize); }
  unsigned existing_mask() const;
  unsigned active_mask() const;
  void* shared() { return shared_.get(); }
  Fibers& fibers() { return fibers_; }

 private:
  // Threads that can go on; each is in it at most once.
  class RunQueue {
   public:
    void reserve(std::size_t count) { ring_.resize(count); }
    bool empty() const { return size_ == 0; }
    void push(Thread& thread) { at(size_++) = &thread; }
    Thread& pick(Schedule::Pick how, std::mt19937& random);

   private:
    Thread*& at(std::size_t i) { return ring_[(first_ + i) % ring_.size()]; }
    std::vector<Thread*> ring_;
    std::size_t first_ = 0, size_ = 0;
  };

  static void thread_main();
  void end_thread();
  std::size_t next();  // makes a thread the running one; kHost if there is none
  void suspend();
  void make_runnable(Thread& thread);
  void check_barrier(const Where& where);
  void finish_barrier();
  void check_no_lane_waits_for(const Thread& ended);
  std::string describe_waiting() const;
  std::string prefix() const;
  std::size_t first_of_warp() const { return current_->index / kWarpSize * kWarpSize; }
  Exchange& slot(unsigned mask, const Where& where);

  const Launch& launch_;
  uint3 index_;
  const Schedule& schedule_;
  std::mt19937& random_;
  std::unique_ptr<unsigned char, void (*)(void*)> shared_;
  std::vector<Thread> threads_;
  std::vector<std::size_t> order_;                                 // in which threads become runnable
  std::vector<std::vector<std::unique_ptr<Exchange>>> exchanges_;  // [warp]
  RunQueue runnable_;
  Fibers fibers_;
  Thread* current_ = nullptr;
  const Thread* first_at_barrier_ = nullptr;
  const Thread* first_ended_ = nullptr;
  std::size_t num_ended_ = 0, num_at_barrier_ = 0;
  int votes_ = 0, last_votes_ = 0;
  char generations_[2] = {};  // of the barrier, in turn
  unsigned generation_ = 0;
  std::string error_;
};

// The block that runs.
extern Block* the_block;

// In what device code calls: while it lives, the emulator works and not the kernel's thread.
class InEmulator {
 public:
  InEmulator() { the_block->fibers().leave_device_code(); }
  ~InEmulator() { the_block->fibers().enter_device_code(); }
  InEmulator(const InEmulator&) = delete;
  InEmulator& operator=(const InEmulator&) = delete;
};

}  // namespace cuda_on_cpu
