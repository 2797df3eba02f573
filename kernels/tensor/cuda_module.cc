#include "kernels/tensor/cuda_module.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "base/error.h"
#include "kernels/op_table.h"
#include "kernels/tensor/op_context.h"

namespace terroir {
namespace {

constexpr const char* kModuleName = "libterroir_cuda.so";

std::atomic<const CudaModule*> loaded{nullptr};
void* library = nullptr;

[[noreturn]] void refuse(const std::string& reason) {
  throw SystemError("CUDA module",
                    reason + ". `device: cuda` needs this module; it is built where CMake finds nvcc");
}

// What dlopen gets: a path, or a bare name for the library path.
std::string module_file() {
  if (const char* named = std::getenv("TERROIR_CUDA_MODULE"); named != nullptr && *named != '\0')
    return named;
  std::error_code error;
  const auto beside = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / kModuleName;
  return std::filesystem::exists(beside, error) ? beside.string() : kModuleName;
}

const CudaModule& open_module() {
  const std::string file = module_file();
  library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) refuse(fmt::format("cannot load {}: {}", file, dlerror()));
  const auto entry = reinterpret_cast<decltype(&terroir_cuda_module)>(dlsym(library, "terroir_cuda_module"));
  if (entry == nullptr) refuse(fmt::format("{} is not a CUDA module of Terroir", file));
  const CudaModule* module = entry();
  if (module->build != cuda_build())
    refuse(
        fmt::format("{} is of another build ({}) than this program ({})", file, module->build, cuda_build()));
  return *module;
}

}  // namespace

std::string cuda_build() {
  return fmt::format("{} g++ {} ops {} context {} view {}", TERROIR_VERSION, __VERSION__, sizeof(OpTable),
                     sizeof(OpContext), sizeof(ConstView));
}

bool cuda_module_is_loaded() { return loaded != nullptr; }

const CudaModule& cuda_module() {
  const CudaModule* module = loaded;
  if (module == nullptr)
    throw SystemError("CUDA module", "not loaded: nothing on this run's way asked for device cuda");
  return *module;
}

const CudaModule& load_cuda_module() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (loaded == nullptr) loaded = &open_module();
  return *loaded;
}

void* cuda_module_symbol(const char* name) { return library == nullptr ? nullptr : dlsym(library, name); }

void set_cuda_module(const CudaModule& module) { loaded = &module; }

}  // namespace terroir
