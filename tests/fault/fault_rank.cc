// One rank of a job in which something goes wrong at step 3 on rank 1: fault_rank KIND TIMEOUT_S TOKEN.
// The token only marks the job's processes.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <thread>

#include "parallel/world.h"

namespace terroir {
namespace {

constexpr int kBadRank = 1, kBadStep = 3, kSteps = 1000;

void misbehave(std::string_view kind) {
  if (kind == "kill") std::raise(SIGKILL);
  if (kind == "stop") std::raise(SIGSTOP);
  if (kind == "segfault") std::raise(SIGSEGV);
  if (kind == "exit") std::_Exit(0);
  if (kind == "hang") std::this_thread::sleep_for(std::chrono::hours(1));
  if (kind == "throw" || kind == "unwind")
    throw UserError(ExitCode::kData, Place{.file = "ko-00003.h5"}, "is damaged; build it again");
}

void run(World& world, std::string_view kind) {
  std::vector<int> ranks;
  for (int rank = 0; rank < world.size(); ++rank) ranks.push_back(rank);
  const auto group = world.group(ranks, Queue::kData, "data");
  std::vector<float> gradients(50000);  // in several messages
  for (int step = 0; step < kSteps; ++step) {
    world.set_position(step, "backward");
    if (world.rank() == kBadRank && step == kBadStep) misbehave(kind);
    group->all_reduce(View(gradients.data(), DType::kF32, {50000}), ReduceOp::kSum, Stream(), "gradients")
        .wait();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

int report(const std::exception& error) {
  std::fputs(error_report(error).c_str(), stderr);
  const auto* ours = dynamic_cast<const Error*>(&error);
  return static_cast<int>(ours == nullptr ? ExitCode::kInternal : ours->exit_code());
}

int run_world(std::string_view kind, double timeout_s) {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  if (kind == "never_starts" && rank != nullptr && std::atoi(rank) == kBadRank) misbehave("hang");
  const auto world = mpi_world({.timeout_s = timeout_s});
  if (kind == "unwind") {
    run(*world, kind);
    return 0;
  }
  try {
    run(*world, kind);
  } catch (const std::exception& error) {
    world->abort(report(error));
  }
  return 0;
}

}  // namespace
}  // namespace terroir

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    return terroir::run_world(argv[1], std::atof(argv[2]));
  } catch (const std::exception& error) {
    return terroir::report(error);
  }
}
