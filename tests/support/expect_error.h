// What a call throws, as a value: the exit code and the line a user would see.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"

namespace terroir {

// Expects `call` to throw an Error with this exit code whose report contains every one of `words`.
inline void expect_error(ExitCode exit_code, const std::vector<std::string>& words,
                         const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    const std::string report = error_report(error);
    EXPECT_EQ(error.exit_code(), exit_code) << report;
    for (const std::string& word : words) EXPECT_NE(report.find(word), std::string::npos) << report;
    return;
  }
  ADD_FAILURE() << "nothing was thrown";
}

}  // namespace terroir
