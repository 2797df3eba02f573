#include <exception>
#include <thread>
#include <vector>

#include "parallel/host_world.h"
#include "parallel/threads_carrier.h"

namespace terroir {
namespace {

class ThreadsWorld : public HostWorld {
 public:
  ThreadsWorld(Carrier& carrier, const WorldOptions& options) : HostWorld(carrier, "threads", options) {}
  int local_rank() const override { return rank(); }
  int local_size() const override { return size(); }
  void abort(int exit_code) noexcept override {
    progress().fail(std::make_exception_ptr(
        TransportError("abort", fmt::format("rank {} ended the job with exit code {}", rank(), exit_code))));
  }
};

// An exception, and whether another rank's failure caused it.
struct Outcome {
  std::exception_ptr error;
  bool consequence = false;
};

Outcome run_rank(ThreadsHub& hub, int rank, const WorldOptions& options,
                 const std::function<void(World&)>& body) {
  try {
    const std::unique_ptr<Carrier> carrier = hub.carrier(rank);
    ThreadsWorld world(*carrier, options);
    body(world);
    hub.leave(rank);
    return {};
  } catch (const PeerFailure&) {
    return {std::current_exception(), true};
  } catch (const std::exception& error) {
    hub.fail(rank, error.what());
    return {std::current_exception()};
  } catch (...) {
    hub.fail(rank, "an exception of unknown type");
    return {std::current_exception()};
  }
}

}  // namespace

void run_threads(int size, const WorldOptions& options, const std::function<void(World&)>& body) {
  TERROIR_CHECK(size >= 1, "a world of {} ranks", size);
  ThreadsHub hub(size);
  std::vector<Outcome> outcomes(static_cast<std::size_t>(size));
  std::vector<std::thread> threads;
  threads.reserve(outcomes.size());
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] { outcomes[rank] = run_rank(hub, rank, options, body); });
  for (std::thread& thread : threads) thread.join();
  for (const bool consequence : {false, true})
    for (const Outcome& outcome : outcomes)
      if (outcome.error && outcome.consequence == consequence) std::rethrow_exception(outcome.error);
}

}  // namespace terroir
