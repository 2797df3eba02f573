// The test program that mpirun starts once per rank. "tiny" as argument: with kTinyLimits.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "tests/parallel/worlds.h"

namespace terroir::test {
namespace {

World* the_world = nullptr;

// Rank 0 reports everything; the others only what failed.
class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", the_world->rank(),
                 result.file_name() ? result.file_name() : "?", result.line_number(), result.message());
  }
};

}  // namespace

void on_every_world(const std::function<void(World&)>& body) { body(*the_world); }

}  // namespace terroir::test

int main(int argc, char** argv) {
  using namespace terroir;
  testing::InitGoogleTest(&argc, argv);
  const bool tiny = argc > 1 && std::string_view(argv[1]) == "tiny";
  const auto world = mpi_world({.timeout_s = 30, .limits = tiny ? test::kTinyLimits : MessageLimits{}});
  test::the_world = world.get();
  if (world->rank() > 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new test::FailurePrinter);
  }
  if (RUN_ALL_TESTS() != 0) world->abort(1);
  return 0;
}
