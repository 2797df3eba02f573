// Times ops on the GPU, by the GPU's own clock, as shares of what the same GPU was measured to do.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"
#include "kernels/tensor/op_context.h"

namespace terroir::bench {

// What an op cannot do without: every byte of its tensors read or written once, and its products.
struct Work {
  double bytes = 0;
  double flops = 0;
};
// A view counts as often as it is named: what is read and written stands twice.
double bytes_of(std::initializer_list<ConstView> moved);

// Device memory of one call. Plans first, like Arena: while planning(), views have shapes but no data.
class Memory {
 public:
  explicit Memory(OpContext& ctx);
  OpContext& ctx() const { return ctx_; }
  bool planning() const { return arena_.planning(); }
  std::int64_t planned_bytes() const { return arena_.peak_bytes(); }
  void reserve() { arena_.reserve(); }

  // Uniform in [-1, 1): a GPU that multiplies zeros draws less power and runs faster than in training.
  View random(DType dtype, std::initializer_list<std::int64_t> shape);
  View constant(DType dtype, std::initializer_list<std::int64_t> shape, float value);  // f32 or bf16
  View zeros(DType dtype, std::initializer_list<std::int64_t> shape);
  View workspace(std::int64_t bytes) { return zeros(DType::kU8, {bytes}); }
  View ints(const std::vector<std::int32_t>& values);
  View upload(const ConstView& host);  // contiguous

 private:
  OpContext& ctx_;
  Arena arena_;
  Buffer pattern_;  // random numbers, on the device
};

struct Operation {
  Work work;
  std::function<void(OpContext&)> call;  // enqueues it once
};
struct Case {
  std::string name;  // op/variant/dtype/sizes
  // Tensors of one call; may enqueue what comes before it. SystemError: the device cannot compute it.
  std::function<Operation(Memory&)> prepare;
};

struct BenchOptions {
  // Calls take turns on as many copies of their tensors as it takes to hold this many bytes, so that no call
  // finds in a cache what one before it left: twice the largest L2 of today (B200: 126 MB).
  std::int64_t rotated_bytes = std::int64_t{256} << 20;
  std::int64_t ceiling_copy_bytes = std::int64_t{1} << 30;
  std::int64_t ceiling_matrix_size = 8192;
  double ceiling_seconds = 0.5;
};

class Bench {
 public:
  Bench(Device device, const BenchOptions& options);

  // The first two cases are the ceilings themselves.
  const std::vector<Case>& ceilings() const { return ceilings_; }
  // Why it cannot run on this device, or nothing.
  std::optional<std::string> left_out(const Case& c);

  // Tensors of a case, as many copies as rotate.
  class Calls {
   public:
    Calls(Bench& bench, const Case& c);
    std::int64_t size() const { return num_calls_; }
    const Work& work() const { return operations_.front().work; }
    // Enqueues size() calls, waits, and returns the seconds from the first one's start to the last one's end
    // on the device. They start with cold caches, when all are enqueued: the host's launches are not in it.
    double run();

   private:
    Bench& bench_;
    Memory memory_;
    std::vector<Operation> operations_;
    std::int64_t num_calls_ = 0;
  };

  // Share of the ceilings that `work` in `seconds` reaches: 1 would be copies and products at the measured
  // rates, one after the other.
  double share(const Work& work, double seconds);
  // Measured on first use.
  double copy_bytes_per_s() { return ceiling(0).bytes; }
  double product_flops_per_s() { return ceiling(1).flops; }

 private:
  const Work& ceiling(std::size_t index);
  std::int64_t planned_bytes(const Case& c);
  std::int64_t free_bytes() const;

  BenchOptions options_;
  OwnedStream stream_;
  OpContext ctx_;
  Event begin_, end_;
  Buffer blocker_from_, blocker_to_;
  std::vector<Case> ceilings_;
  std::optional<Work> rates_[2];  // per second
};

}  // namespace terroir::bench
