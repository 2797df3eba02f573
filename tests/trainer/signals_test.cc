#include "trainer/step/signals.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <vector>

#include "kernels/matmul/matmul.h"
#include "tests/support/temporary_folder.h"

namespace terroir {
namespace {

using std::chrono::milliseconds;

bool comes_true(const auto& condition) {
  for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(milliseconds(5));
  return condition();
}

TEST(Signals, EitherSignalAsksToSave) {
  const TemporaryFolder folder;
  for (const int number : {SIGUSR1, SIGTERM}) {
    const SignalThread signal_thread;
    const SaveRequest request(folder.path());
    EXPECT_FALSE(request.pending());
    kill(getpid(), number);
    EXPECT_TRUE(comes_true([&] { return request.pending(); })) << "signal " << number;
  }
}

TEST(Signals, FileStopAsksToSave) {
  const TemporaryFolder folder;
  const SaveRequest request(folder.path());
  EXPECT_FALSE(request.pending());
  std::ofstream(folder / "STOP") << "";
  EXPECT_TRUE(request.pending());
}

TEST(Signals, SecondSigtermEndsTheProcess) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const SignalThread signal_thread;
    kill(getpid(), SIGTERM);
    while (!SignalThread::received()) std::this_thread::sleep_for(milliseconds(1));
    kill(getpid(), SIGTERM);
    std::this_thread::sleep_for(std::chrono::seconds(20));
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

// A matrix product of generated code once had its operands overwritten by the frame of a handler that a
// computing thread ran.
TEST(Signals, DoNotDisturbMatrixProducts) {
  const SignalThread signal_thread;
  constexpr std::int64_t kM = 512, kN = 704, kK = 256;
  const std::vector<float> a(kM * kK, 1.0f), b(kN * kK, 2.0f);
  std::vector<float> c(kM * kN);
  std::atomic<bool> done = false;
  std::thread sender([&] {
    while (!done) {
      kill(getpid(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  OpContext context;
  context.num_threads = 2;
  bool all_equal = true;
  for (int i = 0; i < 200; ++i) {
    matmul(context, ConstView(a.data(), DType::kF32, {kM, kK}), ConstView(b.data(), DType::kF32, {kN, kK}),
           View(c.data(), DType::kF32, {kM, kN}), {.transpose_b = true});
    for (const float value : c) all_equal = all_equal && value == 2.0f * kK;
  }
  done = true;
  sender.join();
  EXPECT_TRUE(all_equal);
  EXPECT_TRUE(SignalThread::received());
}

}  // namespace
}  // namespace terroir
