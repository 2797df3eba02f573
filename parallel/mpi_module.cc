#include "parallel/mpi_module.h"

#include <dlfcn.h>

#include <filesystem>

#include "base/error.h"

namespace terroir {
namespace {

constexpr const char* kModuleName = "libterroir_mpi.so";

std::filesystem::path program_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

[[noreturn]] void refuse(const std::string& reason) {
  throw SystemError("MPI transport",
                    reason +
                        ". Training on several processes needs this module; it is built when "
                        "CMake finds an MPI library");
}

}  // namespace

const TerroirMpiV1& load_mpi_module() {
  const std::filesystem::path beside = program_folder() / kModuleName;
  const bool is_beside = std::filesystem::exists(beside);
  void* library = dlopen(is_beside ? beside.c_str() : kModuleName, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const std::string words = dlerror();
    refuse(is_beside ? fmt::format("cannot load {}: {}", beside.string(), words)
                     : fmt::format("{} is neither in {} nor in the library path ({})", kModuleName,
                                   program_folder().string(), words));
  }
  const auto functions = reinterpret_cast<terroir_mpi_v1_function>(dlsym(library, "terroir_mpi_v1"));
  const TerroirMpiV1* module = functions == nullptr ? nullptr : functions();
  if (module == nullptr || module->version != TERROIR_MPI_VERSION ||
      module->struct_size != sizeof(TerroirMpiV1))
    refuse(fmt::format(
        "{} does not fit this program (interface version {}, wanted {}): build both from the same "
        "sources",
        is_beside ? beside.string() : kModuleName, module == nullptr ? 0 : module->version,
        TERROIR_MPI_VERSION));
  return *module;
}

}  // namespace terroir
