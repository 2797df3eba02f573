#include "parallel/mpi_module.h"

#include <dlfcn.h>

#include <stdexcept>

#include "base/error.h"
#include "base/module.h"

namespace terroir {
namespace {

constexpr const char* kModuleName = "libterroir_mpi.so";

[[noreturn]] void refuse(const std::string& reason) {
  throw SystemError("MPI transport",
                    reason +
                        ". Training on several processes needs this module; it is built when "
                        "CMake finds an MPI library");
}

void* open_library() {
  try {
    return open_module(kModuleName, "TERROIR_MPI_MODULE");
  } catch (const std::runtime_error& error) {
    refuse(error.what());
  }
}

}  // namespace

const TerroirMpiV1& load_mpi_module() {
  void* library = open_library();
  const auto functions = reinterpret_cast<terroir_mpi_v1_function>(dlsym(library, "terroir_mpi_v1"));
  const TerroirMpiV1* module = functions == nullptr ? nullptr : functions();
  if (module == nullptr || module->version != TERROIR_MPI_VERSION ||
      module->struct_size != sizeof(TerroirMpiV1))
    refuse(fmt::format(
        "{} does not fit this program (interface version {}, wanted {}): build both from the same "
        "sources",
        kModuleName, module == nullptr ? 0 : module->version, TERROIR_MPI_VERSION));
  return *module;
}

}  // namespace terroir
