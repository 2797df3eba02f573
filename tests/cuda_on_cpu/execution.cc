#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <sstream>

#include "tests/cuda_on_cpu/emulator.h"
#include "tests/cuda_on_cpu/fiber.h"

namespace cuda_on_cpu {

thread_local Coordinates coordinates;

namespace {

// From TERROIR_EMULATOR_SCHEDULE: "<ascending|descending|shuffled> <first|last|random> <seed>", asked at
// every launch.
Schedule schedule_of_environment() {
  Schedule schedule;
  const char* text = std::getenv("TERROIR_EMULATOR_SCHEDULE");
  if (text == nullptr) return schedule;
  std::istringstream words(text);
  std::string start, pick;
  words >> start >> pick >> schedule.seed;
  schedule.start = start == "descending" ? Schedule::Start::kDescending
                   : start == "shuffled" ? Schedule::Start::kShuffled
                                         : Schedule::Start::kAscending;
  schedule.pick = pick == "last"     ? Schedule::Pick::kLast
                  : pick == "random" ? Schedule::Pick::kRandom
                                     : Schedule::Pick::kFirst;
  return schedule;
}
thread_local Schedule the_schedule;

std::string place(const std::source_location& where) {
  std::ostringstream text;
  text << where.file_name() << ":" << where.line() << ":" << where.column();
  return text.str();
}
bool same_place(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

struct AsyncCopy {
  void* to;
  const void* from;
  std::size_t bytes;
  bool valid;
};

// A warp operation that some of its lanes have reached.
struct Exchange {
  unsigned mask = 0, arrived = 0, unread = 0;
  bool complete = false;
  std::source_location where;
  WarpValues values;
};

struct Thread {
  Fiber fiber;
  int index = 0;
  bool ended = false;
  bool at_barrier = false;
  const Exchange* waits_for = nullptr;
  std::source_location where;
  std::vector<AsyncCopy> uncommitted;
  std::deque<std::vector<AsyncCopy>> groups;
};

struct Warp {
  std::deque<Exchange> exchanges;  // those with an empty mask are free
};

class Block {
 public:
  Block(const Launch& launch, uint3 index, std::mt19937& random);
  ~Block() { std::free(shared_); }
  void run();

  void* shared() { return shared_; }
  int barrier(int vote, const std::source_location& where);
  const WarpValues& exchange(unsigned mask, const void* value, std::size_t bytes, bool orders_memory,
                             const std::source_location& where);
  Thread& current() { return *current_; }
  unsigned existing(int warp) const;
  unsigned alive(int warp) const;
  [[noreturn]] void fail(const std::string& message);
  void thread_main();

 private:
  void make_runnable(Thread& thread) { runnable_.push_back(&thread); }
  Thread& pick();
  void suspend();
  void finish_barrier_if_all_arrived();
  void check_not_stuck() const;
  int num_threads() const { return static_cast<int>(threads_.size()); }
  int warp_of(const Thread& thread) const { return thread.index / kWarpSize; }

  const Launch& launch_;
  uint3 index_;
  std::mt19937& random_;
  void* shared_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::deque<Thread*> runnable_;
  Thread* current_ = nullptr;
  Thread* first_at_barrier_ = nullptr;
  int alive_ = 0, arrived_ = 0, votes_ = 0, last_votes_ = 0;
  std::uint64_t num_barriers_ = 0;
  char generations_[2] = {};
  FiberScheduler scheduler_;
  std::string error_;
};

thread_local Block* the_block = nullptr;

// Shuffles order no memory, so that their own must stay out of ThreadSanitizer's sight: it watches memcpy.
void copy_unseen(void* to, const void* from, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) {
    static_cast<volatile unsigned char*>(to)[i] = static_cast<const volatile unsigned char*>(from)[i];
  }
}

void complete(AsyncCopy& copy) {
  if (copy.valid)
    std::memcpy(copy.to, copy.from, copy.bytes);
  else
    std::memset(copy.to, 0, copy.bytes);
}
void complete(std::vector<AsyncCopy>& group) {
  for (AsyncCopy& copy : group) complete(copy);
}

Block::Block(const Launch& launch, uint3 index, std::mt19937& random)
    : launch_(launch), index_(index), random_(random) {
  const std::size_t count = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  threads_ = std::vector<Thread>(count);
  warps_.resize((count + kWarpSize - 1) / kWarpSize);
  if (launch.shared_bytes > 0) {
    shared_ = std::malloc(launch.shared_bytes);
    std::memset(shared_, 0xFF, launch.shared_bytes);
  }
  for (std::size_t i = 0; i < count; ++i) threads_[i].index = static_cast<int>(i);
  alive_ = static_cast<int>(count);
}

void Block::run() {
  std::vector<int> order;
  for (int i = 0; i < num_threads(); ++i) order.push_back(i);
  if (the_schedule.start == Schedule::Start::kDescending) std::reverse(order.begin(), order.end());
  if (the_schedule.start == Schedule::Start::kShuffled) std::shuffle(order.begin(), order.end(), random_);
  for (const int i : order) make_runnable(threads_[static_cast<std::size_t>(i)]);

  the_block = this;
  scheduler_.publish(&threads_);
  scheduler_.begin(threads_.size(), [] { the_block->thread_main(); });
  while (alive_ > 0 && error_.empty()) {
    if (runnable_.empty()) {
      check_not_stuck();
      break;
    }
    current_ = &pick();
    const auto i = static_cast<unsigned>(current_->index);
    const dim3& size = launch_.block;
    coordinates = {{i % size.x, i / size.x % size.y, i / size.x / size.y}, index_, size, launch_.grid};
    scheduler_.resume(current_->fiber, static_cast<std::size_t>(current_->index));
  }
  scheduler_.observe(&runnable_);  // all that its threads have done
  the_block = nullptr;
  if (!error_.empty()) throw KernelError(error_);
}

// The first thing a fiber runs.
void Block::thread_main() {
  scheduler_.observe(&threads_);  // what was before the block
  launch_.thread();
  Thread& me = *current_;
  complete(me.uncommitted);
  for (auto& group : me.groups) complete(group);
  me.ended = true;
  --alive_;
  finish_barrier_if_all_arrived();
  const unsigned bit = 1U << (me.index % kWarpSize);
  for (const Exchange& waiting : warps_[static_cast<std::size_t>(warp_of(me))].exchanges)
    if ((waiting.mask & bit) != 0 && !waiting.complete && error_.empty())
      fail("a thread has ended that is in the mask of the warp operation at " + place(waiting.where));
  scheduler_.publish(&runnable_);
  scheduler_.leave(me.fiber);
}

Thread& Block::pick() {
  std::size_t at = 0;
  if (the_schedule.pick == Schedule::Pick::kLast) at = runnable_.size() - 1;
  if (the_schedule.pick == Schedule::Pick::kRandom) at = random_() % runnable_.size();
  Thread* thread = runnable_[at];
  runnable_.erase(runnable_.begin() + static_cast<std::ptrdiff_t>(at));
  return *thread;
}

void Block::suspend() {
  Thread& me = *current_;
  scheduler_.yield(me.fiber);
}

void Block::fail(const std::string& message) {
  std::ostringstream text;
  text << launch_.kernel << ", block (" << index_.x << ", " << index_.y << ", " << index_.z << "), thread "
       << (current_ != nullptr ? current_->index : -1) << ": " << message;
  if (error_.empty()) error_ = text.str();
  scheduler_.leave(current_->fiber);  // a fiber of a failed block is never resumed
}

void Block::check_not_stuck() const {
  std::ostringstream text;
  text << launch_.kernel << ", block (" << index_.x << ", " << index_.y << ", " << index_.z
       << "): its threads wait for each other";
  for (const Thread& thread : threads_) {
    if (thread.ended) continue;
    text << "; thread " << thread.index << " at " << place(thread.where);
    break;
  }
  for (const Thread& thread : threads_)
    if (!thread.ended && first_at_barrier_ != nullptr && !thread.at_barrier) {
      text << ", thread " << thread.index << " at " << place(thread.where);
      break;
    }
  throw KernelError(text.str());
}

int Block::barrier(int vote, const std::source_location& where) {
  Thread& me = *current_;
  if (first_at_barrier_ != nullptr && !same_place(first_at_barrier_->where, where))
    fail("divergent barrier: this thread is at " + place(where) + ", another waits at " +
         place(first_at_barrier_->where));
  if (first_at_barrier_ == nullptr) first_at_barrier_ = &me;
  me.where = where;
  me.at_barrier = true;
  ++arrived_;
  votes_ += vote != 0 ? 1 : 0;
  // Two addresses in turn: a thread that is slow to leave this barrier learns nothing of the next one.
  const char* generation = &generations_[num_barriers_ % 2];
  scheduler_.publish(generation);
  finish_barrier_if_all_arrived();
  suspend();
  scheduler_.observe(generation);
  return last_votes_;
}

void Block::finish_barrier_if_all_arrived() {
  if (arrived_ == 0 || arrived_ < alive_) return;
  for (Thread& thread : threads_)
    if (thread.at_barrier) {
      thread.at_barrier = false;
      make_runnable(thread);
    }
  last_votes_ = votes_;
  ++num_barriers_;
  arrived_ = votes_ = 0;
  first_at_barrier_ = nullptr;
}

unsigned Block::existing(int warp) const {
  const int lanes = std::min(kWarpSize, num_threads() - warp * kWarpSize);
  return lanes == kWarpSize ? ~0U : (1U << lanes) - 1;
}
unsigned Block::alive(int warp) const {
  unsigned mask = 0;
  for (int l = 0; l < kWarpSize && warp * kWarpSize + l < num_threads(); ++l)
    if (!threads_[static_cast<std::size_t>(warp * kWarpSize + l)].ended) mask |= 1U << l;
  return mask;
}

const WarpValues& Block::exchange(unsigned mask, const void* value, std::size_t bytes, bool orders_memory,
                                  const std::source_location& where) {
  Thread& me = *current_;
  const int lane = me.index % kWarpSize, warp = warp_of(me);
  const unsigned bit = 1U << lane;
  me.where = where;
  if ((mask & bit) == 0) fail("a lane that is not in the mask it gives, at " + place(where));
  if ((mask & ~existing(warp)) != 0) fail("the mask names lanes that do not exist, at " + place(where));
  if ((mask & ~alive(warp)) != 0) fail("the mask names lanes that have ended, at " + place(where));
  std::deque<Exchange>& all = warps_[static_cast<std::size_t>(warp)].exchanges;
  Exchange *mine = nullptr, *free = nullptr;
  for (Exchange& other : all) {
    if (other.mask == 0) free = &other;
    if (other.complete || (other.mask & mask) == 0) continue;
    if (other.mask != mask || !same_place(other.where, where))
      fail("divergent warp operation: this lane is at " + place(where) + ", lanes of its mask wait at " +
           place(other.where));
    mine = &other;
  }
  if (mine == nullptr) {
    if (free == nullptr) free = &all.emplace_back();
    mine = free;
    mine->mask = mask;
    mine->arrived = 0;
    mine->complete = false;
    mine->where = where;
  }
  copy_unseen(mine->values.bytes[lane], value, bytes);
  mine->arrived |= bit;
  if (orders_memory) scheduler_.publish(mine);
  if (mine->arrived == mask) {
    mine->complete = true;
    mine->unread = mask;
    for (int other = 0; other < kWarpSize; ++other)
      if ((mask & (1U << other)) != 0 && other != lane)
        make_runnable(threads_[static_cast<std::size_t>(warp * kWarpSize + other)]);
    make_runnable(me);
  }
  me.waits_for = mine;
  suspend();
  me.waits_for = nullptr;
  if (orders_memory) scheduler_.observe(mine);
  mine->unread &= ~bit;
  if (mine->unread == 0) mine->mask = 0;  // free; its values stay until another operation takes it
  return mine->values;
}

}  // namespace

void run(const Launch& launch) {
  the_schedule = schedule_of_environment();
  std::mt19937 random(the_schedule.seed);
  const std::uint64_t count = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::vector<std::uint64_t> order(count);
  for (std::uint64_t i = 0; i < count; ++i) order[i] = i;
  if (the_schedule.start == Schedule::Start::kDescending) std::reverse(order.begin(), order.end());
  if (the_schedule.start == Schedule::Start::kShuffled) std::shuffle(order.begin(), order.end(), random);
  for (const std::uint64_t i : order) {
    const auto x = static_cast<unsigned>(i % launch.grid.x),
               y = static_cast<unsigned>(i / launch.grid.x % launch.grid.y),
               z = static_cast<unsigned>(i / launch.grid.x / launch.grid.y);
    Block(launch, {x, y, z}, random).run();
  }
}

void* dynamic_shared() { return the_block->shared(); }

void block_barrier(const std::source_location& where) { the_block->barrier(0, where); }
int block_barrier_count(int vote, const std::source_location& where) {
  return the_block->barrier(vote, where);
}

const WarpValues& warp_exchange(unsigned mask, const void* value, std::size_t bytes,
                                const std::source_location& where) {
  return the_block->exchange(mask, value, bytes, false, where);
}
void warp_barrier(unsigned mask, const std::source_location& where) {
  const char nothing = 0;
  the_block->exchange(mask, &nothing, 1, true, where);
}
int lane() { return the_block->current().index % kWarpSize; }
unsigned warp_mask() { return the_block->existing(the_block->current().index / kWarpSize); }
unsigned active_mask() { return the_block->alive(the_block->current().index / kWarpSize); }

void async_copy(void* shared, const void* global, std::size_t bytes, bool valid) {
  const auto misaligned = [&](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % bytes != 0; };
  if (misaligned(shared) || (valid && misaligned(global)))
    the_block->fail("cp.async of a misaligned address");
  the_block->current().uncommitted.push_back({shared, global, bytes, valid});
}
void async_commit() {
  Thread& me = the_block->current();
  me.groups.push_back(std::move(me.uncommitted));
  me.uncommitted.clear();
}
void async_wait(int pending_groups) {
  Thread& me = the_block->current();
  while (static_cast<int>(me.groups.size()) > pending_groups) {
    complete(me.groups.front());
    me.groups.pop_front();
  }
}

}  // namespace cuda_on_cpu
