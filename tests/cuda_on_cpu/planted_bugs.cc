// planted_bugs NAME [schedules]: runs one kernel, once or under every schedule. Exit status 0 if its result
// is always the same and no sanitizer objects.
#include "tests/cuda_on_cpu/planted_bugs.h"

#include <cstdio>
#include <exception>

#include "tests/cuda_on_cpu/schedule.h"

namespace cuda_on_cpu {
namespace {

int run(const std::string& name, bool under_all_schedules) {
  const auto kernel = planted_bugs().at(name);
  if (!under_all_schedules) {
    kernel();
    return 0;
  }
  const auto differing = schedules_that_differ(kernel);
  std::printf("%zu schedules differ\n", differing.size());
  return differing.empty() ? 0 : 1;
}

}  // namespace
}  // namespace cuda_on_cpu

int main(int count, char** arguments) {
  if (count < 2) return 2;
  try {
    return cuda_on_cpu::run(arguments[1], count > 2);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 2;
  }
}
