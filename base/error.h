// Errors. Three kinds, each knows the process's exit code; only `main` prints one and leaves.
//
//   ContractError  our own bug: a caller broke a function's REQUIRES.             exit 1
//   SystemError    a call outside us failed (file, MPI, HDF5, CUDA).              exit 1, 5 (no space) or 7
//   (peer) UserError      input we refuse; names the place and says what to do.          exit 2, 3, 4 or 6
//
// An expected outcome is a value (std::optional), never an exception.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace terroir {

// The process exit codes scripts rely on. They pass through mpirun unchanged.
enum class ExitCode : int {
  kDone = 0,
  kInternal = 1,
  kUsage = 2,
  kData = 3,
  kCheckpoint = 4,
  kNoSpace = 5,
  kNumerical = 6,
  kTransport = 7,
  kRequeue = 75,
  kNoProgress = 93,
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}
  ExitCode exit_code() const { return exit_code_; }

 private:
  ExitCode exit_code_;
};

class ContractError : public Error {
 public:
  explicit ContractError(const std::string& message) : Error(ExitCode::kInternal, message) {}
};

class SystemError : public Error {
 public:
  // `call` names what failed ("fsync", "MPI_Isend"), `text` is the library's own explanation.
  SystemError(std::string_view call, std::string_view text, ExitCode exit_code = ExitCode::kInternal)
      : Error(exit_code, fmt::format("{}: {}", call, text)) {}
  // From errno. Exit code 5 for ENOSPC, EDQUOT and EFBIG; 2 for a path that does not exist or may not be
  // used.
  static SystemError from_errno(std::string_view call, std::string_view path, int error_number);
};

// Where in the user's input a problem is. Empty or zero fields are unknown and left out.
struct Place {
  std::string file;
  int line = 0;          // 1-based
  int column = 0;        // 1-based
  std::string key = {};  // configuration path such as "train.steps", or a tensor or document name
};
// "file:line:column: key: "; empty for an empty place.
std::string to_string(const Place& place);

struct Problem {
  Place place;
  std::string message;  // what is wrong and what to do, one line
};

class UserError : public Error {
 public:
  UserError(ExitCode exit_code, const Place& place, const std::string& message)
      : UserError(exit_code, std::vector<Problem>{{place, message}}) {}
  // REQUIRES: problems is not empty.
  UserError(ExitCode exit_code, std::vector<Problem> problems);
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  std::vector<Problem> problems_;
};

// What `main` prints for an exception: one "terroir: error: ..." line per problem, ending in a newline.
std::string error_report(const std::exception& error);

namespace detail {
[[noreturn]] void contract_failure(const char* file, int line, const char* condition,
                                   const std::string& message);
}

// Always on. TERROIR_CHECK(rank < size, "rank {} of {}", rank, size) throws ContractError.
#define TERROIR_CHECK(condition, ...)                                                                  \
  do {                                                                                                 \
    if (!(condition)) [[unlikely]]                                                                     \
      ::terroir::detail::contract_failure(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

}  // namespace terroir
