#include "trainer/step/environment.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

namespace terroir {
namespace {

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

OrderedJson describe_environment(const Mesh& mesh, const std::string& device, int threads_per_rank) {
  utsname system{};
  ::uname(&system);
  const MeshShape& shape = mesh.shape();
  return {
      {"terroir", TERROIR_VERSION},
      {"compiler", __VERSION__},
      {"host", system.nodename},
      {"system", std::string(system.sysname) + " " + system.release + " " + system.machine},
      {"processor", processor_name()},
      {"cores", ::sysconf(_SC_NPROCESSORS_ONLN)},
      {"device", device},
      {"ranks", mesh.world().size()},
      {"transport", mesh.world().transport()},
      {"threads_per_rank", threads_per_rank},
      {"layout",
       {{"tensor", shape.tensor},
        {"context", shape.context},
        {"data", shape.data},
        {"pipeline", shape.pipeline}}},
  };
}

}  // namespace terroir
