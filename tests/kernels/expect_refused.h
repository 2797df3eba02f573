// Arguments an op must refuse.
#pragma once

#include <functional>
#include <string>

#include "tests/support/expect_error.h"

namespace terroir::test {

// `call` must throw an error of ours (a broken contract, exit 1) that says `words`.
inline void expect_refused(const std::function<void()>& call, const std::string& words) {
  expect_error(ExitCode::kInternal, {words}, call);
}

}  // namespace terroir::test
