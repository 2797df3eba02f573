#include "parallel/mpi_carrier.h"

#include <algorithm>
#include <thread>

namespace terroir {

struct MpiCarrier::Message : Transfer {
  void* request = nullptr;
  std::int64_t expected_bytes = 0;  // of a receive; -1 for a send
};

MpiCarrier::MpiCarrier(const TerroirMpiV1& module, const TerroirMpiJob& job) : module_(module), job_(job) {}
MpiCarrier::~MpiCarrier() = default;

MpiCarrier::Message* MpiCarrier::take(std::int64_t expected_bytes) {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Message>());
    free_.push_back(all_.back().get());
  }
  Message* message = free_.back();
  free_.pop_back();
  message->expected_bytes = expected_bytes;
  return message;
}

Carrier::Transfer* MpiCarrier::send(int channel, int peer, int tag, const void* data, std::int64_t bytes) {
  Message* message = take(-1);
  call_mpi(module_.send, channel, peer, tag, data, bytes, &message->request);
  return message;
}

Carrier::Transfer* MpiCarrier::receive(int channel, int peer, int tag, void* data, std::int64_t bytes) {
  Message* message = take(bytes);
  call_mpi(module_.receive, channel, peer, tag, data, bytes, &message->request);
  return message;
}

bool MpiCarrier::test(Transfer* transfer) {
  auto* message = static_cast<Message*>(transfer);
  std::int32_t done = 0;
  std::int64_t received = 0;
  call_mpi(module_.test, message->request, &done, &received);
  if (done == 0) return false;
  if (message->expected_bytes >= 0 && received != message->expected_bytes)
    throw ContractError(fmt::format("expects {} bytes, but {} arrived", message->expected_bytes, received));
  free_.push_back(message);
  return true;
}

// Polling is the only way to wait in MPI. With more ranks than processors the others must get to run: so a
// few tries at once, then giving way, then ever longer naps.
void MpiCarrier::idle(std::uint64_t, int round, Clock::time_point until) {
  constexpr int kTries = 20, kYields = 200;
  if (round < kTries) return;
  if (round < kYields) return std::this_thread::yield();
  const Clock::duration nap = std::chrono::microseconds(std::min(20 + (round - kYields) / 4, 200));
  std::this_thread::sleep_for(std::min(nap, until - Clock::now()));
}

}  // namespace terroir
