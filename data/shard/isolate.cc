#include "data/shard/isolate.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <new>

#include "base/error.h"
#include "base/handle.h"

namespace terroir {
namespace {

// What the child writes: one of these, the exit code, the text. Nothing arrives from one that crashed.
enum class Outcome : char { kDone = 'd', kUserError = 'u', kOtherError = 'o' };

std::uint64_t address_space_now() {
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  return pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void set_limits(const IsolationLimits& limits) {
  const rlim_t memory = address_space_now() + limits.memory_bytes;
  const struct rlimit address_space = {memory, memory};
  const struct rlimit cpu = {limits.cpu_seconds, limits.cpu_seconds + 1};
  const struct rlimit core = {0, 0};
  if (::setrlimit(RLIMIT_AS, &address_space) != 0 || ::setrlimit(RLIMIT_CPU, &cpu) != 0 ||
      ::setrlimit(RLIMIT_CORE, &core) != 0)
    throw SystemError::from_errno("setrlimit", "", errno);
}

std::string message(Outcome outcome, ExitCode exit_code, const std::string& text) {
  return std::string{static_cast<char>(outcome), static_cast<char>(exit_code)} + text;
}

std::string run_child(const std::string& file, const IsolationLimits& limits,
                      const std::function<std::string()>& body) {
  try {
    set_limits(limits);
    return message(Outcome::kDone, ExitCode::kDone, body());
  } catch (const UserError& error) {
    return message(Outcome::kUserError, error.exit_code(), error.what());
  } catch (const Error& error) {
    return message(Outcome::kOtherError, error.exit_code(), error.what());
  } catch (const std::bad_alloc&) {
    return message(Outcome::kUserError, ExitCode::kData,
                   fmt::format("{}: rejected: reading it needs more than {} bytes of memory", file,
                               limits.memory_bytes));
  } catch (const std::exception& error) {
    return message(Outcome::kOtherError, ExitCode::kInternal, error.what());
  }
}

void write_to_pipe(int fd, const std::string& text) {
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t put = ::write(fd, text.data() + done, text.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return;  // the parent has gone
    done += static_cast<std::size_t>(put);
  }
}

std::string read_from_pipe(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

std::string how_it_ended(int status) {
  if (WIFEXITED(status)) return fmt::format("exit {}", WEXITSTATUS(status));
  return WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL ? "time limit"
                                                                    : ::strsignal(WTERMSIG(status));
}

}  // namespace

std::string run_isolated(const std::string& file, const IsolationLimits& limits,
                         const std::function<std::string()>& body) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw SystemError::from_errno("pipe2", "", errno);
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) throw SystemError::from_errno("fork", "", errno);
  if (child == 0) {
    write_to_pipe(write_end.get(), run_child(file, limits, body));
    ::_exit(0);  // a copy of this process: it must not unwind into the caller or run its destructors
  }
  write_end.reset();
  const std::string answer = read_from_pipe(read_end.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;

  if (answer.size() < 2 || status != 0)
    throw UserError(ExitCode::kData, Place{file},
                    fmt::format("rejected: its reader crashed ({}): get the file from another place",
                                how_it_ended(status)));
  const std::string text = answer.substr(2);
  const auto exit_code = static_cast<ExitCode>(answer[1]);
  if (answer[0] == static_cast<char>(Outcome::kUserError)) throw UserError(exit_code, Place{}, text);
  if (answer[0] == static_cast<char>(Outcome::kOtherError))
    throw SystemError("isolated reader", text, exit_code);
  return text;
}

}  // namespace terroir
