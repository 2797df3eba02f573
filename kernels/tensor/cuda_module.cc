#include "kernels/tensor/cuda_module.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>
#include <stdexcept>

#include "base/error.h"
#include "base/module.h"
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

void* open_library() {
  try {
    return open_module(kModuleName, "TERROIR_CUDA_MODULE");
  } catch (const std::runtime_error& error) {
    refuse(error.what());
  }
}

const CudaModule& open() {
  library = open_library();
  const auto entry = reinterpret_cast<decltype(&terroir_cuda_module)>(dlsym(library, "terroir_cuda_module"));
  if (entry == nullptr) refuse("what was loaded is not a CUDA module of Terroir");
  const CudaModule* module = entry();
  if (module->build != cuda_build())
    refuse(fmt::format("the module is of another build ({}) than this program ({})", module->build,
                       cuda_build()));
  return *module;
}

}  // namespace

std::string cuda_build() {
  return fmt::format("{} g++ {} ops {} context {} view {}", TERROIR_VERSION, __VERSION__, sizeof(OpTable),
                     sizeof(OpContext), sizeof(ConstView));
}

const CudaModule& cuda_module() {
  const CudaModule* module = loaded;
  if (module == nullptr)
    throw SystemError("CUDA module", "not loaded: nothing on this run's way asked for device cuda");
  return *module;
}

const CudaModule& load_cuda_module() {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (loaded == nullptr) loaded = &open();
  return *loaded;
}

void* cuda_module_symbol(const char* name) { return library == nullptr ? nullptr : dlsym(library, name); }

void set_cuda_module(const CudaModule& module) { loaded = &module; }

}  // namespace terroir
