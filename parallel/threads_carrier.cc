#include "parallel/threads_carrier.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

namespace terroir {

// Counts events of one rank, so that it can sleep without missing one. A rank that is awake costs the others
// no lock.
struct ThreadsHub::Doorbell {
  std::atomic<std::uint64_t> rings = 0;
  std::atomic<int> sleepers = 0;
  std::atomic<bool> left = false;
  std::mutex mutex;
  std::condition_variable condition;

  void ring() {
    ++rings;
    if (sleepers == 0) return;
    const std::lock_guard lock(mutex);
    condition.notify_all();
  }
  void wait(std::uint64_t seen, Clock::time_point until) {
    std::unique_lock lock(mutex);
    ++sleepers;  // before rings is read: see ring()
    condition.wait_until(lock, until, [&] { return rings != seen; });
    --sleepers;
  }
};

enum class TransferState { kPosted, kCopying, kDone, kWrongSize };

struct ThreadsTransfer : Carrier::Transfer {
  bool sending;
  int tag;
  int peer;
  void* data;  // only read when sending
  std::int64_t bytes;
  std::int64_t other_bytes = 0;
  ThreadsHub::Mailbox* mailbox;
  std::atomic<TransferState> state = TransferState::kPosted;
};

struct ThreadsHub::Mailbox {
  std::mutex mutex;
  std::vector<ThreadsTransfer*> posted;  // per tag either sends or receives: a pair is matched at once

  // The first posted transfer that is the other half of `transfer`, taken out; or null, and `transfer` is
  // posted.
  ThreadsTransfer* match_or_post(ThreadsTransfer* transfer) {
    const std::lock_guard lock(mutex);
    const auto other = std::find_if(posted.begin(), posted.end(), [&](const ThreadsTransfer* candidate) {
      return candidate->tag == transfer->tag && candidate->sending != transfer->sending;
    });
    if (other == posted.end()) {
      posted.push_back(transfer);
      return nullptr;
    }
    ThreadsTransfer* match = *other;
    posted.erase(other);
    match->state = TransferState::kCopying;
    return match;
  }
  bool withdraw(ThreadsTransfer* transfer) {
    const std::lock_guard lock(mutex);
    return std::erase(posted, transfer) > 0;
  }
};

struct ThreadsHub::Failure {
  std::mutex mutex;
  std::atomic<bool> happened = false;
  int rank = -1;
  std::string reason;
};

class ThreadsCarrier : public Carrier {
 public:
  ThreadsCarrier(ThreadsHub& hub, int rank) : hub_(hub), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return hub_.size(); }
  Transfer* send(int channel, int peer, int tag, const void* data, std::int64_t bytes) override {
    return post(hub_.mailbox(channel, rank_, peer), true, peer, tag, const_cast<void*>(data), bytes);
  }
  Transfer* receive(int channel, int peer, int tag, void* data, std::int64_t bytes) override {
    return post(hub_.mailbox(channel, peer, rank_), false, peer, tag, data, bytes);
  }

  bool test(Transfer* base) override {
    auto* transfer = static_cast<ThreadsTransfer*>(base);
    switch (transfer->state.load(std::memory_order_acquire)) {
      case TransferState::kDone:
        release(transfer);
        return true;
      case TransferState::kWrongSize:
        throw ContractError(fmt::format(
            "{} {} bytes, but rank {} {} {}", transfer->sending ? "sends" : "expects", transfer->bytes,
            transfer->peer, transfer->sending ? "expects" : "sends", transfer->other_bytes));
      case TransferState::kPosted:
        check_peer(*transfer);
        return false;
      case TransferState::kCopying:
        return false;
    }
    return false;
  }

  void cancel(Transfer* base) noexcept override {
    auto* transfer = static_cast<ThreadsTransfer*>(base);
    if (!transfer->mailbox->withdraw(transfer))
      while (transfer->state < TransferState::kDone) std::this_thread::yield();  // a copy is being made
    release(transfer);
  }

  std::uint64_t events() const override { return bell(rank_).rings; }
  void idle(std::uint64_t seen, int, Clock::time_point until) override { bell(rank_).wait(seen, until); }
  void wake() noexcept override { bell(rank_).ring(); }
  std::chrono::microseconds patrol_interval() const override { return std::chrono::microseconds(500); }
  void announce_failure(const char* reason) noexcept override { hub_.fail(rank_, reason); }

 private:
  ThreadsHub::Doorbell& bell(int rank) const { return *hub_.doorbells_[static_cast<std::size_t>(rank)]; }

  Transfer* post(ThreadsHub::Mailbox& mailbox, bool sending, int peer, int tag, void* data,
                 std::int64_t bytes) {
    ThreadsTransfer* transfer = take();
    transfer->sending = sending;
    transfer->tag = tag;
    transfer->peer = peer;
    transfer->data = data;
    transfer->bytes = bytes;
    transfer->mailbox = &mailbox;
    transfer->state = TransferState::kPosted;
    if (ThreadsTransfer* other = mailbox.match_or_post(transfer)) complete(*transfer, *other);
    return transfer;
  }

  void complete(ThreadsTransfer& mine, ThreadsTransfer& theirs) {
    const int peer = mine.peer;
    const bool fits = mine.bytes == theirs.bytes;
    if (fits && mine.sending) std::memcpy(theirs.data, mine.data, static_cast<std::size_t>(mine.bytes));
    if (fits && !mine.sending) std::memcpy(mine.data, theirs.data, static_cast<std::size_t>(mine.bytes));
    mine.other_bytes = theirs.bytes;
    theirs.other_bytes = mine.bytes;
    const TransferState state = fits ? TransferState::kDone : TransferState::kWrongSize;
    mine.state = state;
    theirs.state = state;  // from here on `theirs` belongs to the peer again
    bell(peer).ring();
  }

  void check_peer(const ThreadsTransfer& transfer) const {
    if (hub_.failure_->happened && hub_.failure_->rank != rank_)
      throw PeerFailure(fmt::format("rank {} has failed", hub_.failure_->rank), hub_.failure_->reason);
    if (bell(transfer.peer).left && transfer.state == TransferState::kPosted)
      throw SystemError(fmt::format("rank {}", transfer.peer), "has already left");
  }

  ThreadsTransfer* take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<ThreadsTransfer>());
      return all_.back().get();
    }
    ThreadsTransfer* transfer = free_.back();
    free_.pop_back();
    return transfer;
  }
  void release(ThreadsTransfer* transfer) { free_.push_back(transfer); }

  ThreadsHub& hub_;
  int rank_;
  std::vector<std::unique_ptr<ThreadsTransfer>> all_;
  std::vector<ThreadsTransfer*> free_;
};

ThreadsHub::ThreadsHub(int size) : size_(size), failure_(std::make_unique<Failure>()) {
  for (int rank = 0; rank < size; ++rank) doorbells_.push_back(std::make_unique<Doorbell>());
  for (int box = 0; box < kNumChannels * size * size; ++box)
    mailboxes_.push_back(std::make_unique<Mailbox>());
}
ThreadsHub::~ThreadsHub() = default;

std::unique_ptr<Carrier> ThreadsHub::carrier(int rank) {
  return std::make_unique<ThreadsCarrier>(*this, rank);
}

ThreadsHub::Mailbox& ThreadsHub::mailbox(int channel, int from, int to) {
  const std::size_t size = doorbells_.size();
  return *mailboxes_[(static_cast<std::size_t>(channel) * size + static_cast<std::size_t>(from)) * size +
                     static_cast<std::size_t>(to)];
}

void ThreadsHub::fail(int rank, const char* reason) {
  {
    const std::lock_guard lock(failure_->mutex);
    if (failure_->happened) return;
    failure_->rank = rank;
    failure_->reason = reason;
    failure_->happened = true;
  }
  ring_all();
}

void ThreadsHub::leave(int rank) {
  doorbells_[static_cast<std::size_t>(rank)]->left = true;
  ring_all();
}

void ThreadsHub::ring_all() {
  for (const std::unique_ptr<Doorbell>& bell : doorbells_) bell->ring();
}

}  // namespace terroir
