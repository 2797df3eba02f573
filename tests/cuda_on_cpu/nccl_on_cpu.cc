// NCCL's functions between threads of one process: non-blocking communicators and grouped calls, as
// parallel/nccl uses them. A launch waits in its stream until the streams of all members have come to it.
#include <nccl.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/cuda_on_cpu/nccl_exchange.h"
#include "tests/cuda_on_cpu/nccl_on_cpu.h"

namespace cuda_on_cpu::nccl {
namespace {

// How often a communicator says ncclInProgress before it does what it was asked for: who does not ask until
// it is done misses it.
constexpr int kLooksBeforeDone = 2;

bool network_works = true;
thread_local std::string last_error;

ncclResult_t failed(ncclResult_t result, std::string why) {
  last_error = std::move(why);
  return result;
}

// The ranks that were given one id, and what some of them have called and others not yet.
struct Clique {
  using Key = std::tuple<int, int, std::size_t>;  // sender, receiver (collectives: -1, -1), which one
  int size;
  std::map<int, int> device_of;  // of the ranks that are here
  std::map<Key, std::shared_ptr<Exchange>> open;

  bool connected() const { return std::ssize(device_of) == size; }
  bool shares_a_gpu() const {
    std::set<int> devices;
    for (const auto& [rank, device] : device_of) devices.insert(device);
    return std::ssize(devices) < std::ssize(device_of);
  }
  // The exchange with this key, which one more side joins.
  std::shared_ptr<Exchange> join(const Key& key, int num_sides, int index, Side side) {
    std::shared_ptr<Exchange>& found = open[key];
    const auto& [from, to, number] = key;
    if (!found) found = std::make_shared<Exchange>(num_sides, from >= 0, number == 0);
    std::shared_ptr<Exchange> exchange = found;
    exchange->join(index, std::move(side));
    if (exchange->complete()) open.erase(key);
    return exchange;
  }
};

std::map<std::string, std::weak_ptr<Clique>> cliques;  // by id
std::vector<std::unique_ptr<ncclComm>> communicators;  // aborted ones stay, to be recognized

thread_local int group_depth = 0;
thread_local std::vector<ncclComm_t> in_group;

}  // namespace
}  // namespace cuda_on_cpu::nccl

using namespace cuda_on_cpu;
using namespace cuda_on_cpu::nccl;

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank = 0, device = 0;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);
  std::vector<Call> gathered, launching;             // of the open group; of the last one
  std::vector<std::shared_ptr<Exchange>> exchanges;  // of the last one, until it is in the stream
  std::shared_ptr<Mark> arrived;
  cudaStream_t stream = nullptr;
  int looks = kLooksBeforeDone;
  std::size_t num_collectives = 0;
  std::map<int, std::size_t> num_sent, num_received;  // by peer
  bool in_progress() const { return !launching.empty() || !exchanges.empty(); }
};

namespace cuda_on_cpu::nccl {
namespace {

std::shared_ptr<Exchange> join(ncclComm& comm, const Call& call) {
  const Side side = {call, comm.arrived, comm.aborted};
  const int me = comm.rank, peer = call.peer;
  if (call.kind == Kind::kSend) return comm.clique->join({me, peer, comm.num_sent[peer]++}, 2, 0, side);
  if (call.kind == Kind::kReceive)
    return comm.clique->join({peer, me, comm.num_received[peer]++}, 2, 1, side);
  return comm.clique->join({-1, -1, comm.num_collectives++}, comm.clique->size, me, side);
}

// The other members see the calls of a group.
void announce(ncclComm& comm) {
  comm.arrived = std::make_shared<Mark>(Mark{.stream = comm.stream});
  for (const Call& call : std::exchange(comm.launching, {})) comm.exchanges.push_back(join(comm, call));
}

bool connects_at_start() {
  const char* at_runtime = std::getenv("NCCL_RUNTIME_CONNECT");
  return at_runtime != nullptr && std::string_view(at_runtime) == "0";
}
// As NCCL does: who has not yet exchanged anything with a peer connects to it, and for that waits for its
// call.
bool connected(const ncclComm& comm) {
  return std::all_of(comm.exchanges.begin(), comm.exchanges.end(), [](const auto& exchange) {
    return exchange->complete() ||
           !(exchange->is_first() && (exchange->is_message() || !connects_at_start()));
  });
}

// A group's calls start together when the stream comes to them, and end together.
void launch(ncclComm& comm) {
  const auto exchanges = std::exchange(comm.exchanges, {});
  const auto ready = [exchanges] {
    return network_works &&
           std::all_of(exchanges.begin(), exchanges.end(), [](const auto& each) { return each->ready(); });
  };
  const auto perform = [exchanges] {
    for (const auto& exchange : exchanges) exchange->perform();
  };
  put(comm.stream, {.mark = comm.arrived});
  put(comm.stream, {.may_start = [aborted = comm.aborted, ready] { return *aborted || ready(); },
                    .work =
                        [aborted = comm.aborted, perform] {
                          if (!*aborted) perform();
                        }});
}

bool is_device_memory(const void* memory, std::size_t bytes, int device) {
  if (bytes == 0) return true;
  const Allocation* found = find(memory, bytes);
  return found != nullptr && found->device == device;
}

// Bytes of a call's two buffers that are read and written here.
std::pair<std::size_t, std::size_t> extents(const ncclComm& comm, const Call& call) {
  const std::size_t bytes = call.count * element_bytes(call.type);
  const auto size = static_cast<std::size_t>(comm.clique->size);
  const bool root = comm.rank == call.peer;
  switch (call.kind) {
    case Kind::kAllGather:
      return {bytes, bytes * size};
    case Kind::kReduceScatter:
      return {bytes * size, bytes};
    case Kind::kBroadcast:
      return {root ? bytes : 0, bytes};
    case Kind::kReduce:
      return {bytes, root ? bytes : 0};
    case Kind::kSend:
      return {bytes, 0};
    case Kind::kReceive:
      return {0, bytes};
    case Kind::kAllReduce:
      break;
  }
  return {bytes, bytes};
}

ncclResult_t add(ncclComm_t comm, cudaStream_t stream, const Call& call) {
  const Lock lock(runtime_mutex);
  if (group_depth == 0) return failed(ncclInvalidUsage, "a call outside of a group");
  if (*comm->aborted) return failed(ncclInvalidArgument, "the communicator was aborted");
  if (!comm->clique->connected() || comm->in_progress())
    return failed(ncclInvalidUsage, "the communicator is in progress with what was called before");
  if (!is_stream(stream) || stream->device != comm->device)
    return failed(ncclInvalidArgument, "the stream is not of the communicator's device");
  if (call.peer < 0 || call.peer >= comm->clique->size) return failed(ncclInvalidArgument, "no such peer");
  const auto [in_bytes, out_bytes] = extents(*comm, call);
  if (!is_device_memory(call.in, in_bytes, comm->device) ||
      !is_device_memory(call.out, out_bytes, comm->device))
    return failed(ncclInvalidArgument, "a buffer is not of the communicator's device");
  comm->stream = stream;
  comm->gathered.push_back(call);
  in_group.push_back(comm);
  return ncclSuccess;
}

ncclResult_t state_of(ncclComm& comm) {
  if (!network_works) return failed(ncclRemoteError, "the emulated network is broken");
  if (!comm.clique->connected()) return ncclInProgress;
  if (comm.clique->shares_a_gpu()) return failed(ncclInvalidUsage, "Duplicate GPU detected");
  if (comm.looks > 0) {
    --comm.looks;
    return ncclInProgress;
  }
  if (!comm.launching.empty()) announce(comm);
  if (!connected(comm)) return ncclInProgress;
  if (comm.in_progress()) launch(comm);
  return ncclSuccess;
}

}  // namespace
}  // namespace cuda_on_cpu::nccl

void nccl_on_cpu_break_network(bool broken) {
  const Lock lock(runtime_mutex);
  network_works = !broken;
  wake_hosts();
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}
const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int made = 0;
  const Lock lock(runtime_mutex);
  const std::string text = "emulated NCCL " + std::to_string(++made);
  *id = {};
  text.copy(id->internal, sizeof(id->internal) - 1);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  const Lock lock(runtime_mutex);
  if (config->blocking != 0) return failed(ncclInvalidArgument, "only non-blocking communicators here");
  std::weak_ptr<Clique>& known = cliques[id.internal];
  std::shared_ptr<Clique> clique = known.lock();
  if (!clique) known = clique = std::make_shared<Clique>(Clique{.size = size, .device_of = {}, .open = {}});
  if (clique->size != size || rank < 0 || rank >= size || clique->device_of.count(rank) > 0)
    return failed(ncclInvalidArgument, "another size, or a rank that is there already");
  clique->device_of[rank] = current_device;
  communicators.push_back(std::make_unique<ncclComm>());
  *comm = communicators.back().get();
  (*comm)->clique = std::move(clique);
  (*comm)->rank = rank;
  (*comm)->device = current_device;
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  const Lock lock(runtime_mutex);
  if (*comm->aborted) return failed(ncclInvalidArgument, "the communicator was aborted");
  *state = state_of(*comm);
  return ncclSuccess;
}

// What waits in this member's stream ends with whatever is in memory; the other members go on waiting.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const Lock lock(runtime_mutex);
  if (*comm->aborted) return failed(ncclInvalidArgument, "the communicator was aborted");
  *comm->aborted = true;
  comm->launching.clear();
  comm->exchanges.clear();
  wake_hosts();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group_depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  const Lock lock(runtime_mutex);
  if (group_depth == 0) return failed(ncclInvalidUsage, "no group to end");
  if (--group_depth > 0) return ncclSuccess;
  for (ncclComm_t comm : std::exchange(in_group, {})) {
    if (comm->gathered.empty()) continue;
    comm->launching = std::exchange(comm->gathered, {});
    comm->looks = kLooksBeforeDone;
  }
  return ncclInProgress;
}

ncclResult_t ncclAllReduce(const void* in, void* out, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return add(comm, stream, {Kind::kAllReduce, in, out, count, type, op});
}
ncclResult_t ncclAllGather(const void* in, void* out, std::size_t in_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return add(comm, stream, {Kind::kAllGather, in, out, in_count, type});
}
ncclResult_t ncclReduceScatter(const void* in, void* out, std::size_t out_count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return add(comm, stream, {Kind::kReduceScatter, in, out, out_count, type, op});
}
ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return add(comm, stream, {Kind::kBroadcast, in, out, count, type, ncclSum, root});
}
ncclResult_t ncclReduce(const void* in, void* out, std::size_t count, ncclDataType_t type, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  return add(comm, stream, {Kind::kReduce, in, out, count, type, op, root});
}
ncclResult_t ncclSend(const void* in, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add(comm, stream, {Kind::kSend, in, nullptr, count, type, ncclSum, peer});
}
ncclResult_t ncclRecv(void* out, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return add(comm, stream, {Kind::kReceive, nullptr, out, count, type, ncclSum, peer});
}
