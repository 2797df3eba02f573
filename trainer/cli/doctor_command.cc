// terroir doctor
#include <fmt/core.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/json.h"
#include "kernels/tensor/cuda_module.h"
#include "kernels/tensor/device.h"
#include "parallel/mpi_module.h"
#include "trainer/cli/command.h"

namespace terroir {
namespace {

struct Finding {
  std::string what, state;
};

double gib(std::int64_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024 * 1024); }

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

std::string mpi_state() {
  try {
    load_mpi_module();
    return "loaded";
  } catch (const Error& error) {
    return error.what();
  }
}

std::string cuda_state() {
  try {
    const CudaModule& module = load_cuda_module();
    std::string state = "loaded";
    for (int device = 0; device < module.runtime->num_devices(); ++device) {
      const DeviceInfo info = module.runtime->info(device);
      state += fmt::format("; cuda:{} {} at {}, {:.1f} of {:.1f} GiB free", device, info.name, info.address,
                           gib(info.free_bytes), gib(info.total_bytes));
    }
    return state;
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<Finding> examine() {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  return {
      {"terroir", TERROIR_VERSION},
      {"cores", fmt::format("{} usable of {}", usable_cores(), ::sysconf(_SC_NPROCESSORS_ONLN))},
      {"memory", fmt::format("{:.1f} GiB", gib(::sysconf(_SC_PHYS_PAGES) * ::sysconf(_SC_PAGESIZE)))},
      {"open files", fmt::format("at most {}", files.rlim_cur)},
      {"MPI transport", mpi_state()},
      {"CUDA backend", cuda_state()},
  };
}

}  // namespace

void add_doctor_command(CLI::App& app, CommandRunner& runner) {
  CLI::App* command = app.add_subcommand("doctor", "Say what this machine offers and what is missing");
  auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "As one JSON object");
  command->footer("Example:\n  terroir doctor");
  command->callback([json, &runner] {
    runner.run = [json] {
      OrderedJson object;
      for (const auto& [what, state] : examine()) {
        object[what] = state;
        if (!*json) fmt::print("{:<14} {}\n", what, state);
      }
      if (*json) fmt::print("{}\n", object.dump());
      return static_cast<int>(ExitCode::kDone);
    };
  });
}

}  // namespace terroir
