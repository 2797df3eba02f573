#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "base/error.h"

namespace terroir {

struct Logger::Impl {
  spdlog::logger logger;
};

Logger::Logger(int rank, const std::filesystem::path& file, bool quiet) {
  auto terminal = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  terminal->set_level(rank == 0 && !quiet ? spdlog::level::info : spdlog::level::warn);
  terminal->set_pattern(rank == 0 ? "%v" : fmt::format("[rank {}] %v", rank));
  std::vector<spdlog::sink_ptr> sinks{terminal};
  if (!file.empty()) {
    try {
      auto to_file = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string());
      to_file->set_level(spdlog::level::debug);
      to_file->set_pattern(fmt::format("%Y-%m-%dT%H:%M:%S.%e [%l] rank {}: %v", rank));
      sinks.push_back(to_file);
    } catch (const spdlog::spdlog_ex& error) {
      throw SystemError("open log file", error.what());
    }
  }
  impl_ = std::make_unique<Impl>(Impl{spdlog::logger("terroir", sinks.begin(), sinks.end())});
  impl_->logger.set_level(spdlog::level::debug);
  impl_->logger.flush_on(spdlog::level::info);
}
Logger::~Logger() = default;
Logger::Logger(Logger&&) noexcept = default;
Logger& Logger::operator=(Logger&&) noexcept = default;

void Logger::write(int level, const std::string& message) {
  static constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                          spdlog::level::warn};
  impl_->logger.log(kLevels[level], message);
}

void Logger::flush() { impl_->logger.flush(); }

}  // namespace terroir
