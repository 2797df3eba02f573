// The ranks of this job, and the groups made of them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"

namespace terroir {

// How bytes are cut into messages. Equal on all ranks. None of it changes a result's bits.
struct MessageLimits {
  std::int64_t message_bytes = std::int64_t{1} << 29;  // longer transfers are split: MPI counts with an int
  std::int64_t segment_bytes = std::int64_t{1}
                               << 20;  // reductions buffer this much per peer; summed while in cache
  std::int64_t small_bytes = std::int64_t{1}
                             << 16;  // all_reduce up to this size times ranks: one exchange, not two
};

struct WorldOptions {
  double timeout_s =
      600;  // an operation not complete this long after it started ends the job; also for start-up
  MessageLimits limits = {};
};

class World {
 public:
  virtual ~World() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // Ranks on this machine: this rank's place among them and their number.
  virtual int local_rank() const = 0;
  virtual int local_size() const = 0;
  virtual const std::string& transport() const = 0;  // "local", "threads", "mpi"

  // Communicator of the given world ranks (ascending, containing this rank) on a queue. Groups of one rank
  // are the identity and need no peer. Must be called by all members, in the same order for groups that share
  // a queue.
  virtual std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue,
                                              std::string name) = 0;

  // What error messages say about when they happened.
  virtual void set_position(std::int64_t step, const char* phase) = 0;

  // Throws TransportError when a transport that works beside the host has found that an operation will not
  // end. To be asked when the host has waited for a device.
  virtual void check() {}

  // Ends every rank of the job with this exit code, as soon as the transport can. Does not return for `mpi`.
  virtual void abort(int exit_code) noexcept = 0;
};

// One rank, no transport.
std::unique_ptr<World> local_world();

// The MPI transport from libterroir_mpi.so (searched beside the program, then in the library path). Throws
// SystemError that says what was looked for, where, and the loader's words.
std::unique_ptr<World> mpi_world(const WorldOptions& options);

// True when an MPI launcher or srun started this process (its environment says so) with more than one rank.
bool launched_by_mpi();

// Threads for each rank: the processors in this rank's affinity mask divided by the ranks of this machine
// that share them, at least one; OMP_NUM_THREADS, where set, wins. Collective over the world.
int threads_per_rank(World& world);

// Runs body(world) on `size` threads of this process, each a rank, and returns when all are done. The first
// exception (lowest rank whose error is not a mere consequence of another's) is rethrown here; the other
// ranks' operations fail.
void run_threads(int size, const WorldOptions& options, const std::function<void(World&)>& body);

}  // namespace terroir
