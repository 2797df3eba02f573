#include "base/module.h"

#include <dlfcn.h>
#include <fmt/core.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>

namespace terroir {
namespace {

std::filesystem::path program_folder() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
}

void* open_or_throw(const std::string& file, const std::string& sentence) {
  void* library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(fmt::format("{} ({})", sentence, dlerror()));
  return library;
}

}  // namespace

void* open_module(const std::string& name, const char* override_variable) {
  if (const char* named = std::getenv(override_variable); named != nullptr && *named != '\0')
    return open_or_throw(named, fmt::format("cannot load {}, which {} names", named, override_variable));
  const std::filesystem::path beside = program_folder() / name;
  std::error_code error;
  if (std::filesystem::exists(beside, error))
    return open_or_throw(beside.string(), fmt::format("cannot load {}", beside.string()));
  return open_or_throw(
      name, fmt::format("{} is neither in {} nor in the library path", name, program_folder().string()));
}

}  // namespace terroir
