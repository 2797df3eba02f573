// libterroir_cuda.so: the CUDA backend as a module that is loaded when a configuration asks for it, so that
// the program itself starts on machines without CUDA. It must be of the same build as the program.
#pragma once

#include <cstdint>
#include <string>

namespace terroir {

class DeviceRuntime;
struct OpTable;

struct CudaModule {
  std::string build;  // cuda_build()
  const OpTable* ops = nullptr;
  DeviceRuntime* runtime = nullptr;
};

// What program and module must agree on: version, compiler and the sizes of what they exchange.
std::string cuda_build();

// The loaded module. Throws SystemError where none is.
const CudaModule& cuda_module();

// Loads it, once: the file named by TERROIR_CUDA_MODULE if set, else libterroir_cuda.so beside the program,
// else from the library path. Throws SystemError with what was looked for, where, and the loader's words.
const CudaModule& load_cuda_module();
// A function that the loaded module exports besides: nullptr if there is no such symbol.
void* cuda_module_symbol(const char* name);

// For the module itself, whose copy of this code is another than the program's.
void set_cuda_module(const CudaModule& module);

}  // namespace terroir

// The one symbol looked up: `const terroir::CudaModule* terroir_cuda_module()`. Throws SystemError.
extern "C" [[gnu::visibility("default")]] const terroir::CudaModule* terroir_cuda_module();
