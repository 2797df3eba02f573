#include <unistd.h>

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "parallel/host_world.h"
#include "parallel/mpi_carrier.h"
#include "parallel/mpi_module.h"

namespace terroir {
namespace {

// From MPI_Init to MPI_Finalize, which one thread must call. It is a thread of its own because either may
// never return, when another rank is missing.
class MpiSession {
 public:
  explicit MpiSession(const WorldOptions& options)
      : module_(load_mpi_module()), timeout_(options.timeout_s), state_(std::make_shared<State>()) {
    std::thread([&module = module_, state = state_] { live(module, *state); }).detach();
    std::unique_lock lock(state_->mutex);
    if (!state_->changed.wait_for(lock, timeout_, [&] { return state_->phase != kStarting; }))
      throw TransportError("MPI start",
                           fmt::format("not complete after {:g} s: a rank is missing, or the network "
                                       "between the machines does not work",
                                       options.timeout_s));
    if (state_->error) std::rethrow_exception(state_->error);
    carrier_ = std::make_unique<MpiCarrier>(module_, state_->job);
  }
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;
  ~MpiSession() {
    std::unique_lock lock(state_->mutex);
    if (state_->phase != kRunning) return;
    state_->phase = leave_unfinished_ ? kLeft : kFinishing;
    state_->changed.notify_all();
    state_->changed.wait_for(lock, timeout_,
                             [&] { return state_->phase == kFinished || state_->phase == kLeft; });
  }

  const TerroirMpiV1& module() const { return module_; }
  const TerroirMpiJob& job() const { return state_->job; }
  MpiCarrier& carrier() { return *carrier_; }
  // MPI_Finalize would wait for ranks that do not come.
  void leave_unfinished() { leave_unfinished_ = true; }

 private:
  enum Phase { kStarting, kRunning, kFinishing, kFinished, kLeft };
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    Phase phase = kStarting;
    TerroirMpiJob job{};
    std::exception_ptr error;
  };

  static void live(const TerroirMpiV1& module, State& state) noexcept;

  const TerroirMpiV1& module_;
  std::chrono::duration<double> timeout_;
  std::shared_ptr<State> state_;
  std::unique_ptr<MpiCarrier> carrier_;
  bool leave_unfinished_ = false;
};

void MpiSession::live(const TerroirMpiV1& module, State& state) noexcept {
  TerroirMpiJob job{};
  std::exception_ptr error;
  try {
    call_mpi(module.start, std::int32_t{kNumChannels}, &job);
  } catch (...) {
    error = std::current_exception();
  }
  std::unique_lock lock(state.mutex);
  state.job = job;
  state.error = error;
  state.phase = error ? kLeft : kRunning;
  state.changed.notify_all();
  state.changed.wait(lock, [&] { return state.phase != kRunning; });
  if (state.phase == kLeft) return;
  lock.unlock();
  char ignored[TERROIR_MPI_ERROR_BYTES];  // the work is done, and nobody is left to tell
  module.finish(ignored);
  lock.lock();
  state.phase = kFinished;
  state.changed.notify_all();
}

class MpiWorld : private MpiSession, public HostWorld {
 public:
  explicit MpiWorld(const WorldOptions& options)
      : MpiSession(options), HostWorld(carrier(), "mpi", options), exceptions_(std::uncaught_exceptions()) {}
  ~MpiWorld() override {
    if (std::uncaught_exceptions() > exceptions_ || progress().failed()) leave_unfinished();
  }

  int local_rank() const override { return job().local_rank; }
  int local_size() const override { return job().local_size; }

  void abort(int exit_code) noexcept override {
    // The launcher ends the others also when a process just disappears: the way out when MPI itself hangs.
    constexpr auto kPatience = std::chrono::seconds(5);
    try {
      std::thread([=] {
        std::this_thread::sleep_for(kPatience);
        _exit(exit_code);
      }).detach();
      progress().with_carrier(kPatience, [&] { module().abort(exit_code); });
    } catch (...) {
    }
    _exit(exit_code);
  }

 private:
  int exceptions_;
};

}  // namespace

std::unique_ptr<World> mpi_world(const WorldOptions& options) { return std::make_unique<MpiWorld>(options); }

}  // namespace terroir
