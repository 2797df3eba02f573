#include "tests/bench/cuda_bench.h"

#include <algorithm>
#include <bit>
#include <random>

#include "kernels/matmul/gemm_choice.h"
#include "kernels/matmul/matmul.h"
#include "kernels/tensor/elementwise.h"

namespace terroir::bench {
namespace {

constexpr std::int64_t kPatternElements = 1 << 20;
constexpr std::int64_t kMinCalls = 8, kMaxCopies = 32;
constexpr int kBlockers = 2;  // 0.3 ms on an H100, in which the host launches 32 calls

// As bf16 uniform in [-1, 1). Two of them side by side are an f32 whose upper half is one of them: in [-1, 1)
// too.
std::vector<std::uint16_t> random_bf16() {
  std::minstd_rand generator(1);
  std::vector<std::uint16_t> bits(kPatternElements);
  for (std::uint16_t& b : bits) {
    const float value = static_cast<float>(generator() % 2048) / 1024.0F - 1;
    b = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
  }
  return bits;
}

View as_bytes(const View& view) { return View(view.raw(), DType::kU8, {view.bytes()}, view.device()); }

Case copy_case(std::int64_t bytes) {
  return {fmt::format("copy_ceiling/cudaMemcpyAsync/{}MiB", bytes >> 20),
          [bytes](Memory& memory) -> Operation {
            const View from = memory.random(DType::kF32, {bytes / 4}),
                       to = memory.zeros(DType::kF32, {bytes / 4});
            return {{.bytes = bytes_of({from, to})}, [=](OpContext& ctx) { transfer(ctx.stream, from, to); }};
          }};
}

Case product_case(std::int64_t n) {
  return {fmt::format("product_ceiling/bf16/{0}x{0}x{0}", n), [n](Memory& memory) -> Operation {
            const View a = memory.random(DType::kBF16, {n, n}), b = memory.random(DType::kBF16, {n, n}),
                       c = memory.zeros(DType::kBF16, {n, n});
            return {{.flops = 2.0 * static_cast<double>(n * n * n)},
                    [=](OpContext& ctx) { matmul(ctx, a, b, c, {.transpose_b = true}); }};
          }};
}

}  // namespace

double bytes_of(std::initializer_list<ConstView> moved) {
  double bytes = 0;
  for (const ConstView& view : moved) bytes += static_cast<double>(view.bytes());
  return bytes;
}

Memory::Memory(OpContext& ctx) : ctx_(ctx), arena_(ctx.stream.device()) {}

View Memory::random(DType dtype, std::initializer_list<std::int64_t> shape) {
  const View view = arena_.allocate(dtype, shape);
  if (planning()) return view;
  if (pattern_.bytes() == 0) {
    const std::vector<std::uint16_t> bits = random_bf16();
    pattern_ = Buffer(kPatternElements * 2, ctx_.stream.device());
    transfer(ctx_.stream, ConstView(bits.data(), DType::kU8, {pattern_.bytes()}),
             pattern_.view(DType::kU8, {pattern_.bytes()}));
    synchronize(ctx_.stream);
  }
  const View bytes = as_bytes(view), pattern = pattern_.view(DType::kU8, {pattern_.bytes()});
  for (std::int64_t begin = 0; begin < bytes.numel(); begin += pattern.numel()) {
    const std::int64_t count = std::min(pattern.numel(), bytes.numel() - begin);
    transfer(ctx_.stream, pattern.slice(0, 0, count), bytes.slice(0, begin, begin + count));
  }
  return view;
}

View Memory::constant(DType dtype, std::initializer_list<std::int64_t> shape, float value) {
  const View view = arena_.allocate(dtype, shape);
  if (!planning()) fill(ctx_, view, value);
  return view;
}

View Memory::zeros(DType dtype, std::initializer_list<std::int64_t> shape) {
  return arena_.allocate(dtype, shape);  // as memory comes from Buffer
}

View Memory::ints(const std::vector<std::int32_t>& values) {
  return upload(ConstView(values.data(), DType::kI32, {static_cast<std::int64_t>(values.size())}));
}

View Memory::upload(const ConstView& host) {
  const View view = arena_.allocate(host.dtype(), {host.numel()}).reshape_like(host);
  if (planning()) return view;
  transfer(ctx_.stream, host, view);
  synchronize(ctx_.stream);
  return view;
}

Bench::Bench(Device device, const BenchOptions& options)
    : options_(options),
      stream_(device),
      begin_(Event::timed(device)),
      end_(Event::timed(device)),
      blocker_from_(options.rotated_bytes, device),
      blocker_to_(options.rotated_bytes, device),
      ceilings_{copy_case(options.ceiling_copy_bytes), product_case(options.ceiling_matrix_size)} {
  ctx_.stream = stream_.stream();
  ctx_.cache<GemmChoices>().num_candidates = 8;  // as training does by default
}

std::int64_t Bench::planned_bytes(const Case& c) {
  Memory memory(ctx_);
  c.prepare(memory);
  return memory.planned_bytes();
}

// All but a tenth: cuBLASLt's workspace and what the driver takes.
std::int64_t Bench::free_bytes() const {
  const Device device = ctx_.stream.device();
  return device_runtime(device).info(device.index).free_bytes / 10 * 9;
}

std::optional<std::string> Bench::left_out(const Case& c) {
  std::int64_t bytes = 0;
  try {
    bytes = planned_bytes(c);
  } catch (const SystemError& error) {
    return fmt::format("{} left out: {}", c.name, error.what());
  }
  const std::int64_t free = free_bytes();
  if (bytes <= free) return {};
  constexpr double kGiB = 1 << 30;
  return fmt::format("{} left out: {:.1f} GiB needed, {:.1f} free", c.name, static_cast<double>(bytes) / kGiB,
                     static_cast<double>(free) / kGiB);
}

Bench::Calls::Calls(Bench& bench, const Case& c) : bench_(bench), memory_(bench.ctx_) {
  const std::int64_t bytes = std::max<std::int64_t>(bench.planned_bytes(c), 1);
  const std::int64_t wanted = (bench.options_.rotated_bytes + bytes - 1) / bytes;
  const std::int64_t copies =
      std::clamp<std::int64_t>(std::min(wanted, bench.free_bytes() / bytes), 1, kMaxCopies);
  for (std::int64_t i = 0; i < copies; ++i) c.prepare(memory_);
  memory_.reserve();
  for (std::int64_t i = 0; i < copies; ++i) operations_.push_back(c.prepare(memory_));
  for (const Operation& operation : operations_) operation.call(bench.ctx_);  // plans, caches
  synchronize(bench.stream_);
  num_calls_ = wanted == 1 ? 1 : (kMinCalls + copies - 1) / copies * copies;
}

double Bench::Calls::run() {
  const auto all = [](const Buffer& buffer) { return buffer.view(DType::kU8, {buffer.bytes()}); };
  for (int i = 0; i < kBlockers; ++i)
    transfer(bench_.stream_, all(bench_.blocker_from_), all(bench_.blocker_to_));
  bench_.begin_.record(bench_.stream_);
  for (std::int64_t i = 0; i < num_calls_; ++i)
    operations_[static_cast<std::size_t>(i) % operations_.size()].call(bench_.ctx_);
  bench_.end_.record(bench_.stream_);
  bench_.end_.wait();
  return bench_.end_.seconds_since(bench_.begin_);
}

double Bench::share(const Work& work, double seconds) {
  return (work.bytes / copy_bytes_per_s() + work.flops / product_flops_per_s()) / seconds;
}

const Work& Bench::ceiling(std::size_t index) {
  std::optional<Work>& rate = rates_[index];
  if (rate) return *rate;
  Calls calls(*this, ceilings_[index]);
  double seconds = 0, count = 0;
  do {
    seconds += calls.run();
    count += static_cast<double>(calls.size());
  } while (seconds < options_.ceiling_seconds);
  rate = {.bytes = calls.work().bytes * count / seconds, .flops = calls.work().flops * count / seconds};
  return *rate;
}

}  // namespace terroir::bench
