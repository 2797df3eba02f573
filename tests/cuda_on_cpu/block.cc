#include "tests/cuda_on_cpu/block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>

namespace cuda_on_cpu {
namespace {

// Unwinds the thread that fails.
struct Failure {};

}  // namespace

Coordinates coordinates;
Block* the_block = nullptr;

std::string place(const Where& where) {
  return std::string(where.file_name()) + ":" + std::to_string(where.line()) + ":" +
         std::to_string(where.column());
}

bool same_place(const Where& a, const Where& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

Thread& Block::RunQueue::pick(Schedule::Pick how, std::mt19937& random) {
  if (how == Schedule::Pick::kFirst) {
    Thread* first = at(0);
    first_ = (first_ + 1) % ring_.size();
    --size_;
    return *first;
  }
  if (how == Schedule::Pick::kRandom) std::swap(at(random() % size_), at(size_ - 1));
  return *at(--size_);
}

Block::Block(const Launch& launch, uint3 index, const Schedule& schedule, std::mt19937& random)
    : launch_(launch), index_(index), schedule_(schedule), random_(random), shared_(nullptr, std::free) {
  const std::size_t count = std::size_t{launch.block.x} * launch.block.y * launch.block.z;
  threads_.resize(count);
  exchanges_.resize((count + kWarpSize - 1) / kWarpSize);
  runnable_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    threads_[i].index = i;
    order_.push_back(i);
  }
  if (launch.shared_bytes == 0) return;
  // malloc: with AddressSanitizer its redzones begin right behind the last byte.
  shared_.reset(static_cast<unsigned char*>(std::malloc(launch.shared_bytes)));
  std::memset(shared_.get(), 0xFF, launch.shared_bytes);
}

void Block::run() {
  if (schedule_.start == Schedule::Start::kDescending) std::reverse(order_.begin(), order_.end());
  if (schedule_.start == Schedule::Start::kShuffled) std::shuffle(order_.begin(), order_.end(), random_);
  for (const std::size_t i : order_) runnable_.push(threads_[i]);
  coordinates = {{}, index_, launch_.block, launch_.grid};
  the_block = this;
  fibers_.begin(threads_.size(), thread_main);
  fibers_.run(next());
  if (error_.empty() && num_ended_ < threads_.size())
    error_ = prefix() + "its threads wait for each other" + describe_waiting();
  fibers_.join(!error_.empty());
  the_block = nullptr;
  if (!error_.empty()) throw KernelError(error_);
}

// What a fiber runs.
void Block::thread_main() {
  Block& block = *the_block;
  std::size_t to = Fibers::kHost;
  try {
    block.fibers_.enter_device_code();
    block.launch_.thread();
    block.fibers_.leave_device_code();
    block.end_thread();
    to = block.next();
  } catch (const Failure&) {  // no fiber of a failed block goes on
    block.fibers_.leave_device_code();
  }
  block.fibers_.end(to);
}

void Block::end_thread() {
  current_->state = Thread::State::kEnded;
  ++num_ended_;
  if (first_ended_ == nullptr) first_ended_ = current_;
  if (first_at_barrier_ != nullptr)
    fail("divergent barrier: this thread has ended, others wait at " + place(first_at_barrier_->where));
  check_no_lane_waits_for(*current_);
}

std::size_t Block::next() {
  if (runnable_.empty()) return Fibers::kHost;
  current_ = &runnable_.pick(schedule_.pick, random_);
  const auto i = static_cast<unsigned>(current_->index);
  const dim3& size = launch_.block;
  coordinates.thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
  return current_->index;
}

void Block::suspend() {
  const Thread* me = current_;
  const std::size_t to = next();
  if (current_ != me || to == Fibers::kHost) fibers_.go(to);
}

void Block::make_runnable(Thread& thread) {
  thread.state = Thread::State::kRunnable;
  runnable_.push(thread);
}

std::string Block::prefix() const {
  std::ostringstream text;
  text << launch_.kernel << ", block (" << index_.x << ", " << index_.y << ", " << index_.z << "): ";
  return text.str();
}

void Block::fail(const std::string& message) {
  error_ = prefix() + "thread " + std::to_string(current_->index) + ": " + message;
  throw Failure{};
}

// One thread for each place where some wait.
std::string Block::describe_waiting() const {
  std::ostringstream text;
  std::vector<std::string> told;
  for (const Thread& thread : threads_) {
    if (thread.state == Thread::State::kEnded) continue;
    const std::string at = place(thread.where);
    if (std::find(told.begin(), told.end(), at) != told.end()) continue;
    told.push_back(at);
    text << "; thread " << thread.index << " at "
         << (thread.state == Thread::State::kAtBarrier ? "the barrier " : "the warp operation ") << at;
  }
  return text.str();
}

void Block::check_barrier(const Where& where) {
  if (first_ended_ != nullptr)
    fail("divergent barrier at " + place(where) + ": thread " + std::to_string(first_ended_->index) +
         " has ended without it");
  if (first_at_barrier_ == nullptr) return;
  const Where& other = first_at_barrier_->where;
  if (!same_place(other, where))
    fail("divergent barrier: this thread is at " + place(where) + ", thread " +
         std::to_string(first_at_barrier_->index) + " waits at " + place(other));
}

int Block::barrier(int vote, const Where& where) {
  check_barrier(where);
  Thread& me = *current_;
  me.where = where;
  me.state = Thread::State::kAtBarrier;
  if (first_at_barrier_ == nullptr) first_at_barrier_ = &me;
  ++num_at_barrier_;
  votes_ += vote != 0 ? 1 : 0;
  // Two in turn: a thread that is slow to leave this barrier learns nothing of what is before the next.
  const char* generation = &generations_[generation_ % 2];
  fibers_.publish(generation);
  if (num_at_barrier_ == threads_.size()) finish_barrier();
  suspend();
  fibers_.observe(generation);
  return last_votes_;
}

void Block::finish_barrier() {
  for (const std::size_t i : order_) make_runnable(threads_[i]);
  last_votes_ = votes_;
  votes_ = 0;
  num_at_barrier_ = 0;
  first_at_barrier_ = nullptr;
  ++generation_;
}

}  // namespace cuda_on_cpu
