#include <gtest/gtest.h>

#include "tests/parallel/worlds.h"

namespace terroir::test {

void on_every_world(const std::function<void(World&)>& body) {
  for (int size = 1; size <= 4; ++size)
    for (const MessageLimits& limits : {MessageLimits{}, kTinyLimits}) {
      SCOPED_TRACE(fmt::format("{} threads, messages of {} bytes", size, limits.message_bytes));
      run_threads(size, {.timeout_s = 60, .limits = limits}, body);
    }
}

}  // namespace terroir::test
