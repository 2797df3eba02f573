// What this process's surroundings say: who started it, and which processors it may use.
#include <sched.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <numeric>
#include <optional>
#include <vector>

#include "base/hash.h"
#include "parallel/world.h"

namespace terroir {
namespace {

std::optional<long long> number_from_environment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const long long number = std::strtoll(text, &end, 10);
  if (*end != '\0') return std::nullopt;
  return number;
}

// What ranks tell each other. Plain bytes, exchanged between processes of one program.
struct Seat {
  Hash128 machine;
  cpu_set_t processors;
};

Seat this_seat() {
  Seat seat{};
  // One kernel, one number: containers of one machine share it.
  std::ifstream file("/proc/sys/kernel/random/boot_id", std::ios::binary);
  const std::string boot_id{std::istreambuf_iterator<char>(file), {}};
  seat.machine = xxh3_128(std::as_bytes(std::span(boot_id)));
  if (sched_getaffinity(0, sizeof(seat.processors), &seat.processors) != 0)
    throw SystemError::from_errno("sched_getaffinity", "this process", errno);
  return seat;
}

bool shares_processors(const Seat& a, const Seat& b) {
  cpu_set_t both;
  CPU_AND(&both, &a.processors, &b.processors);
  return a.machine == b.machine && CPU_COUNT(&both) > 0;
}

}  // namespace

bool launched_by_mpi() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const auto size = number_from_environment(name)) return *size > 1;
  constexpr long long kFirstSpecialStep = 0xfffffff0;
  const auto step = number_from_environment("SLURM_STEP_ID");
  const auto tasks = number_from_environment("SLURM_STEP_NUM_TASKS");
  if (step && tasks && std::getenv("SLURM_PROCID") != nullptr) return *step<kFirstSpecialStep&& * tasks> 1;
  return std::getenv("PMIX_RANK") != nullptr;
}

int threads_per_rank(World& world) {
  std::vector<int> ranks(static_cast<std::size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  std::vector<Seat> seats(ranks.size());
  const Seat mine = this_seat();
  const auto bytes = static_cast<std::int64_t>(sizeof(Seat));
  const ConstView in(&mine, DType::kU8, {1, bytes});
  const View out(seats.data(), DType::kU8, {world.size(), bytes});
  world.group(ranks, Queue::kControl, "world")
      ->all_gather(in, out, Stream(), "processors of each rank")
      .wait();

  if (const auto wanted = number_from_environment("OMP_NUM_THREADS"); wanted && *wanted > 0)
    return static_cast<int>(*wanted);
  int sharing = 0;
  for (const Seat& seat : seats) sharing += shares_processors(mine, seat);
  return std::max(1, CPU_COUNT(&mine.processors) / std::max(1, sharing));
}

}  // namespace terroir
