// Per-rank logging. A Logger is a value handed down, not a global: several ranks may live in one process.
#pragma once

#include <fmt/core.h>

#include <filesystem>
#include <memory>
#include <string>

namespace terroir {

// Lines go to the rank's file (every level, with time and rank) and to stderr (rank 0: information and above
// unless quiet; other ranks: warnings and above). Safe from several threads.
class Logger {
 public:
  // `file` may be empty: no file. Throws SystemError when it cannot be opened.
  Logger(int rank, const std::filesystem::path& file, bool quiet);
  ~Logger();
  Logger(Logger&&) noexcept;
  Logger& operator=(Logger&&) noexcept;

  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) {
    write(0, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    write(1, fmt::format(format, std::forward<Args>(args)...));
  }
  template <class... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    write(2, fmt::format(format, std::forward<Args>(args)...));
  }
  void flush();

 private:
  void write(int level, const std::string& message);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace terroir
