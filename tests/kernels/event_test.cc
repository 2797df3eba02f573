#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/kernels/on_device.h"

namespace terroir::test {
namespace {

// A megabyte, there and back.
void some_work(const Buffer& host, const Buffer& device) {
  const View here = host.view(DType::kU8, {host.bytes()}), there = device.view(DType::kU8, {host.bytes()});
  transfer(test_stream(), here, there);
  transfer(test_stream(), there, here);
}

TEST(Event, TimedOnesTellHowLongTheWorkBetweenThemTook) {
  const Buffer host = Buffer::pinned(1 << 20, test_device()), device(1 << 20, test_device());
  Event begin = Event::timed(test_device()), middle = Event::timed(test_device()),
        end = Event::timed(test_device());
  begin.record(test_stream());
  some_work(host, device);
  middle.record(test_stream());
  some_work(host, device);
  end.record(test_stream());
  end.wait();
  EXPECT_GT(middle.seconds_since(begin), 0);
  EXPECT_GT(end.seconds_since(middle), 0);
  EXPECT_NEAR(end.seconds_since(begin), middle.seconds_since(begin) + end.seconds_since(middle), 1e-5);
}

TEST(Event, RecordedAgainTellsTheLaterTime) {
  const Buffer host = Buffer::pinned(1 << 20, test_device()), device(1 << 20, test_device());
  Event begin = Event::timed(test_device()), end = Event::timed(test_device());
  begin.record(test_stream());
  end.record(test_stream());
  end.wait();
  const double before = end.seconds_since(begin);
  some_work(host, device);
  end.record(test_stream());
  end.wait();
  EXPECT_GT(end.seconds_since(begin), before);
}

TEST(Event, UntimedOnesHaveNoTime) {
  Event begin = Event::timed(test_device()), end(test_device());
  begin.record(test_stream());
  end.record(test_stream());
  end.wait();
  EXPECT_ANY_THROW(end.seconds_since(begin));
  EXPECT_ANY_THROW(begin.seconds_since(end));
}

}  // namespace
}  // namespace terroir::test
