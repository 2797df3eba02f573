// Messages between processes, through libterroir_mpi.so.
#pragma once

#include <memory>
#include <vector>

#include "parallel/mpi/module.h"
#include "parallel/transport.h"

namespace terroir {

class MpiCarrier : public Carrier {
 public:
  // REQUIRES: module.start() has returned `job`.
  MpiCarrier(const TerroirMpiV1& module, const TerroirMpiJob& job);
  ~MpiCarrier() override;

  int rank() const override { return job_.rank; }
  int size() const override { return job_.size; }
  Transfer* send(int channel, int peer, int tag, const void* data, std::int64_t bytes) override;
  Transfer* receive(int channel, int peer, int tag, void* data, std::int64_t bytes) override;
  bool test(Transfer* transfer) override;
  // MPI cannot take a send back. Nothing calls MPI after a failure except abort, so that no memory is
  // touched.
  void cancel(Transfer*) noexcept override {}

  std::uint64_t events() const override { return 0; }
  void idle(std::uint64_t seen, int round, Clock::time_point until) override;
  void wake() noexcept override {}  // idle() is short
  std::chrono::microseconds patrol_interval() const override { return std::chrono::microseconds(200); }
  void announce_failure(const char*) noexcept override {}  // the program ends the job: World::abort

 private:
  struct Message;
  Message* take(std::int64_t expected_bytes);
  const TerroirMpiV1& module_;
  TerroirMpiJob job_;
  std::vector<std::unique_ptr<Message>> all_;
  std::vector<Message*> free_;
};

// Throws SystemError when a call of the module's failed.
template <class... Args, class... Values>
void call_mpi(int (*function)(Args...), Values... values) {
  char error[TERROIR_MPI_ERROR_BYTES] = "";
  if (function(values..., error) != 0) throw SystemError("MPI", error);
}

}  // namespace terroir
