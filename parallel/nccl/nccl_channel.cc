#include "parallel/nccl/nccl_channel.h"

#include <fmt/core.h>

#include <cstdlib>
#include <thread>
#include <utility>

namespace terroir::nccl {
namespace {

// NCCL from 2.22 on connects ranks at an algorithm's first use, and the host waits for the peers' calls:
// ranks that start on different queues would wait in a circle. Set as the module is loaded, before NCCL
// looks.
const int kConnectAtStart = ::setenv("NCCL_RUNTIME_CONNECT", "0", /*overwrite=*/0);

// All calls until its end are one operation.
class GroupCall {
 public:
  GroupCall() { check(ncclGroupStart(), "ncclGroupStart"); }
  void end() {
    open_ = false;
    check(ncclGroupEnd(), "ncclGroupEnd");
  }
  ~GroupCall() {
    if (open_) ncclGroupEnd();  // which drops the group if NCCL refused one of its calls
  }
  GroupCall(const GroupCall&) = delete;
  GroupCall& operator=(const GroupCall&) = delete;

 private:
  bool open_ = true;
};

}  // namespace

void check(ncclResult_t result, const char* call) {
  if (result != ncclSuccess && result != ncclInProgress)
    throw TransportError(call, fmt::format("{} ({})", ncclGetErrorString(result), ncclGetLastError(nullptr)));
}

Channel::Channel(const ncclUniqueId& id, int size, int rank, Device device, double timeout_s)
    : stream_(device), timeout_s_(timeout_s) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  check(ncclCommInitRankConfig(&communicator_, size, id, rank, &config), "ncclCommInitRankConfig");
}

void Channel::connect(int size, const std::string& name) {
  try {
    settle("ncclCommInitRankConfig");
  } catch (const TransportError& error) {
    throw TransportError("NCCL start", fmt::format("group {} of {} ranks: {}", name, size, error.what()));
  }
}

Channel::~Channel() {
  // Whoever is still connected may have left: no handshake, which ncclCommFinalize would be. nccl_world.h
  // says what that asks of ranks that leave.
  abort();
}

void Channel::enqueue(const char* call, const Calls& calls) {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return;
    GroupCall group;
    calls(communicator_, static_cast<cudaStream_t>(stream().native()));
    group.end();
  }
  settle(call);
}

ncclResult_t Channel::state() const {
  const std::lock_guard lock(mutex_);
  if (aborted_) return ncclSuccess;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &state);
  return asked == ncclSuccess ? state : asked;
}

// The host waits until NCCL has done what it was called for: non-blocking calls return before.
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
  const std::lock_guard lock(mutex_);
  if (!std::exchange(aborted_, true) && communicator_ != nullptr) ncclCommAbort(communicator_);
}

}  // namespace terroir::nccl
