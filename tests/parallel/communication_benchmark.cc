// Time of one all_reduce and of one message there and back. By hand (docs/decisions/host-communication.md has
// figures):
//   bench_communication 4                   four threads
//   mpirun -np 4 bench_communication mpi
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/parallel/rank_data.h"
#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

double seconds_per_call(Communicator& control, int repeats, const std::function<void()>& call) {
  for (int i = 0; i < repeats / 10 + 1; ++i) call();
  control.barrier(Stream(), "start");
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

void measure(World& world) {
  const auto group = world.group(all_ranks(world), Queue::kData, "data");
  const auto control = world.group(all_ranks(world), Queue::kControl, "control");
  const auto report = [&](const char* what, double bytes, double seconds) {
    if (world.rank() == 0)
      std::printf("%-8s %d ranks  %-12s %10.0f bytes  %9.1f us\n", world.transport().c_str(), world.size(),
                  what, bytes, seconds * 1e6);
  };
  for (const std::int64_t bytes : {4, 4 << 10, 64 << 10, 4 << 20}) {
    std::vector<float> values = rank_values<float>(world.rank(), bytes / 4);
    const int repeats = bytes > (1 << 20) ? 20 : 2000;
    const double seconds = seconds_per_call(*control, repeats, [&] {
      group->all_reduce(view_of(values), ReduceOp::kMax, Stream(), "values").wait();
    });
    report("all_reduce", static_cast<double>(bytes), seconds);
  }
  if (world.size() < 2) return;
  std::vector<float> ball(256);
  const double seconds = seconds_per_call(*control, 1000, [&] {
    if (world.rank() == 0) group->send(view_of(ball), 1, Stream(), "ball").wait();
    if (world.rank() < 2) group->recv(view_of(ball), 1 - world.rank(), Stream(), "ball").wait();
    if (world.rank() == 1) group->send(view_of(ball), 0, Stream(), "ball").wait();
  });
  report("there+back", 1024, seconds);
}

}  // namespace
}  // namespace terroir::test

int main(int argc, char** argv) {
  using namespace terroir;
  const std::string_view transport = argc > 1 ? argv[1] : "2";
  if (transport == "mpi")
    test::measure(*mpi_world({.timeout_s = 30}));
  else
    run_threads(std::atoi(argv[1]), {.timeout_s = 30}, test::measure);
}
