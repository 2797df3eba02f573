#include "trainer/step/memory_plan.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <functional>
#include <numeric>

#include "base/hash.h"
#include "kernels/tensor/device.h"
#include "parallel/text.h"
#include "trainer/step/engine.h"

namespace terroir {
namespace {

constexpr int kNumKinds = 5;
constexpr const char* kKinds[kNumKinds] = {"parameters", "gradients", "optimizer", "activations", "scratch"};

std::array<std::int64_t, kNumKinds> by_kind(const StageMemory& memory) {
  return {memory.parameters, memory.gradients, memory.optimizer_state, memory.activations, memory.scratch};
}

double mib(std::int64_t bytes) { return static_cast<double>(bytes) / 1048576; }

// "activations with 512 MiB, optimizer with 96 MiB, parameters with 32 MiB"
std::string largest_parts(const std::array<std::int64_t, kNumKinds>& bytes) {
  std::array<int, kNumKinds> order{};
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater(),
                           [&](int kind) { return bytes[static_cast<std::size_t>(kind)]; });
  std::string text;
  for (int i = 0; i < 3; ++i) {
    const auto kind = static_cast<std::size_t>(order[static_cast<std::size_t>(i)]);
    text += fmt::format("{}{} with {:.0f} MiB", i == 0 ? "" : ", ", kKinds[kind], mib(bytes[kind]));
  }
  return text;
}

// Of this machine: MemAvailable, or what the control group still allows if that is less.
std::int64_t available_host_bytes() {
  std::int64_t available = INT64_MAX;
  std::ifstream info("/proc/meminfo");
  for (std::string word; info >> word;)
    if (word == "MemAvailable:" && info >> available) available *= 1024;
  std::int64_t limit = 0, used = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit &&
      std::ifstream("/sys/fs/cgroup/memory.current") >> used) {
    // The page cache counts as used, but gives way.
    std::ifstream stat("/sys/fs/cgroup/memory.stat");
    std::int64_t bytes = 0;
    for (std::string word; stat >> word >> bytes;)
      if (word == "active_file" || word == "inactive_file") used -= bytes;
    available = std::min(available, limit - used);
  }
  return available;
}

// The same for ranks that share memory: a machine's, in containers too, or a GPU's.
std::int64_t memory_identity(Device device) {
  std::string identity;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> identity;
  if (device.kind == DeviceKind::kCuda) identity += device_runtime(device).info(device.index).address;
  return static_cast<std::int64_t>(xxh3_128(std::as_bytes(std::span(identity))).low);
}

// What CUDA takes when it is first used: cuBLASLt's workspace, the matrices of the peak's measurement (384
// MiB at most), kernels that are loaded at their first launch.
constexpr std::int64_t kLibraryBytes = std::int64_t{512} << 20;

std::int64_t available_bytes(Device device) {
  return device.kind == DeviceKind::kCuda
             ? device_runtime(device).info(device.index).free_bytes - kLibraryBytes
             : available_host_bytes();
}

// Ranks may differ: cuDNN needs whole groups of query heads, which a tensor split need not give to all.
std::vector<std::string> attention_lines(const std::vector<std::string>& of_ranks) {
  std::vector<std::string> texts, lines;
  for (const std::string& text : of_ranks)
    if (!text.empty() && std::ranges::find(texts, text) == texts.end()) texts.push_back(text);
  for (const std::string& text : texts) {
    std::vector<std::size_t> ranks;
    for (std::size_t rank = 0; rank < of_ranks.size(); ++rank)
      if (of_ranks[rank] == text) ranks.push_back(rank);
    lines.push_back(texts.size() == 1
                        ? fmt::format("attention: {}", text)
                        : fmt::format("attention on rank{} {}: {}", ranks.size() == 1 ? "" : "s",
                                      fmt::join(ranks, ", "), text));
  }
  return lines;
}

}  // namespace

MemoryPlan plan_memory(const Config& config, Mesh& mesh, OpContext& ctx) {
  const Device device = ctx.stream.device();
  MemoryPlan plan{.mine = Engine::plan(config, mesh, ctx)};
  const int ranks = mesh.world().size();
  constexpr int kIdentity = kNumKinds, kRefused = kNumKinds + 1, kColumns = kNumKinds + 2;
  std::vector<std::int64_t> all(static_cast<std::size_t>(ranks) * kColumns);
  const auto kinds = by_kind(plan.mine);
  std::array<std::int64_t, kColumns> mine{};
  std::copy(kinds.begin(), kinds.end(), mine.begin());
  mine[kIdentity] = memory_identity(device);
  mine[kRefused] = plan.mine.attention.refusal.empty() ? 0 : 1;
  std::int64_t needed = 0;  // by the ranks that share this memory
  int ranks_here = 0;
  mesh.control()
      .all_gather(View(mine.data(), DType::kI64, {1, kColumns}),
                  View(all.data(), DType::kI64, {ranks, kColumns}), Stream(), "memory plan")
      .wait();
  for (int rank = 0; rank < ranks; ++rank)
    if (all[static_cast<std::size_t>(rank * kColumns + kRefused)] != 0)
      throw UserError(ExitCode::kUsage, Place{.key = "train.attention"},
                      mine[kRefused] != 0 ? plan.mine.attention.refusal
                                          : fmt::format("rank {} cannot compute it so", rank));
  plan.attention =
      attention_lines(gather_texts(plan.mine.attention.description, mesh.control(), "attention kernels"));
  plan.table = fmt::format("{:>6}", "rank");
  for (const char* kind : kKinds) plan.table += fmt::format("{:>14}", kind);
  plan.table += fmt::format("{:>14}\n", "total MiB");
  for (int rank = 0; rank < ranks; ++rank) {
    plan.table += fmt::format("{:>6}", rank);
    std::int64_t total = 0;
    for (int kind = 0; kind < kNumKinds; ++kind) {
      const std::int64_t bytes = all[static_cast<std::size_t>(rank * kColumns + kind)];
      plan.table += fmt::format("{:>14.1f}", mib(bytes));
      total += bytes;
    }
    plan.table += fmt::format("{:>14.1f}\n", mib(total));
    if (all[static_cast<std::size_t>(rank * kColumns + kIdentity)] != mine[kIdentity]) continue;
    needed += total;
    ++ranks_here;
  }
  const std::int64_t available = available_bytes(device);
  if (needed > available)
    throw UserError(ExitCode::kUsage, Place{},
                    fmt::format("the run does not fit: {} ranks on this {} need {:.0f} MiB, {:.0f} MiB are "
                                "available; the largest parts of a rank are {}. Use more machines or "
                                "parallel ranks, a smaller train.micro_batch_size, or train.recompute=full",
                                ranks_here, device.kind == DeviceKind::kCuda ? "GPU" : "machine", mib(needed),
                                mib(available), largest_parts(kinds)));
  return plan;
}

std::int64_t resident_bytes() {
  std::int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

}  // namespace terroir
