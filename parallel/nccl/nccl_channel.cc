#include "parallel/nccl/nccl_channel.h"

#include <fmt/core.h>

#include <thread>

namespace terroir::nccl {

void check(ncclResult_t result, const char* call) {
  if (result != ncclSuccess && result != ncclInProgress)
    throw TransportError(call, fmt::format("{} ({})", ncclGetErrorString(result), ncclGetLastError(nullptr)));
}

Channel::Channel(const ncclUniqueId& id, int size, int rank, Device device, double timeout_s,
                 const std::string& name)
    : stream_(device), timeout_s_(timeout_s) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommInitRankConfig(&communicator_, size, id, rank, &config), "ncclCommInitRankConfig");
  try {
    settle("ncclCommInitRankConfig");
  } catch (const TransportError& error) {
    abort();
    throw TransportError("NCCL start", fmt::format("group {} of {} ranks: {}", name, size, error.what()));
  }
}

Channel::~Channel() {
  // Whoever is still connected may have left: no handshake.
  abort();
}

ncclResult_t Channel::state() const {
  if (aborted_) return ncclSuccess;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
  return asked == ncclSuccess ? state : asked;
}

void Channel::settle(const char* call) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(timeout_s_);
  ncclResult_t now = state();
  while (now == ncclInProgress) {
    if (Clock::now() > deadline)
      throw TransportError(call, fmt::format("not complete after {:g} s: a rank is missing, or the network "
                                             "between the GPUs does not work",
                                             timeout_s_));
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    now = state();
  }
  check(now, call);
}

void Channel::abort() noexcept {
  if (!aborted_.exchange(true) && communicator_ != nullptr) ncclCommAbort(communicator_);
}

}  // namespace terroir::nccl
