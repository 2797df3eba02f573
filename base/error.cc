#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace terroir {
namespace {

std::string join(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& problem : problems) {
    if (!text.empty()) text += '\n';
    text += to_string(problem.place) + problem.message;
  }
  return text;
}

ExitCode exit_code_of(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ExitCode::kNoSpace;
    // A path that cannot be what was meant, or that this user may not use.
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
    case EACCES:
    case EPERM:
    case EROFS:
      return ExitCode::kUsage;
    default:
      return ExitCode::kInternal;
  }
}

}  // namespace

SystemError SystemError::from_errno(std::string_view call, std::string_view path, int error_number) {
  return SystemError(fmt::format("{} {}", call, path), std::strerror(error_number),
                     exit_code_of(error_number));
}

std::string to_string(const Place& place) {
  std::string text;
  if (!place.file.empty()) {
    text += place.file + ":";
    if (place.line > 0) text += fmt::format("{}:", place.line);
    if (place.line > 0 && place.column > 0) text += fmt::format("{}:", place.column);
    text += ' ';
  }
  if (!place.key.empty()) text += place.key + ": ";
  return text;
}

UserError::UserError(ExitCode exit_code, std::vector<Problem> problems)
    : Error(exit_code, join(problems)), problems_(std::move(problems)) {
  TERROIR_CHECK(!problems_.empty(), "a UserError needs at least one problem");
}

std::string error_report(const std::exception& error) {
  std::string report;
  if (const auto* user = dynamic_cast<const UserError*>(&error)) {
    for (const Problem& problem : user->problems())
      report += "terroir: error: " + to_string(problem.place) + problem.message + '\n';
  } else if (dynamic_cast<const SystemError*>(&error) != nullptr) {
    report = fmt::format("terroir: error: {}\n", error.what());
  } else {
    report = fmt::format("terroir: internal error: {} (please report this)\n", error.what());
  }
  return report;
}

namespace detail {
void contract_failure(const char* file, int line, const char* condition, const std::string& message) {
  throw ContractError(fmt::format("{}:{}: {} [{}]", file, line, message, condition));
}
}  // namespace detail

}  // namespace terroir
