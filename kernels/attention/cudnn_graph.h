// One attention as a graph of cuDNN, behind an interface without cuDNN's names: its C++ headers take a minute
// to compile and are included by cudnn_graph.cc alone.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

struct cudnnContext;
struct CUstream_st;

namespace terroir::cuda {

// bf16, except kLse (f32).
enum class CudnnOperand : std::uint8_t { kQ, kK, kV, kO, kLse, kDout, kDq, kDk, kDv };
constexpr std::size_t kNumCudnnOperands = 9;

struct OperandStrides {
  std::int64_t row = 0, token = 0, head = 0;  // elements
  auto operator<=>(const OperandStrides&) const = default;
};

// Causal attention of each sequence to itself, scores scaled, natural-logarithm LSE.
struct CudnnAttentionSpec {
  bool backward = false;
  bool deterministic = true;  // backward: the same bits at every run
  // Dense: `num_sequences` rows of `length` tokens. Packed: up to that many documents of up to `length`
  // tokens, one after another among `total_tokens` tokens.
  bool packed = false;
  std::int64_t num_sequences = 0, length = 0, total_tokens = 0;
  std::int64_t num_q_heads = 0, num_kv_heads = 0, head_size = 0;
  float scale = 1;
  // Of kLse: [sequence, head, token] if dense, [token, head] if packed.
  std::array<OperandStrides, kNumCudnnOperands> strides{};
  auto operator<=>(const CudnnAttentionSpec&) const = default;
};

struct CudnnPointers {
  std::array<void*, kNumCudnnOperands> operands{};
  // Packed: lengths i32 [num_sequences], and for each operand where its sequences begin, in its elements, i64
  // [num_sequences + 1].
  void* lengths = nullptr;
  std::array<void*, kNumCudnnOperands> offsets{};
};

// What cuDNN has against such a graph on a GPU of compute capability `sm` (90); empty: nothing. Needs no GPU,
// and does not tell whether there is a kernel for it.
std::string cudnn_graph_problem(const CudnnAttentionSpec& spec, int sm);

// A graph with its plan.
class CudnnGraph {
 public:
  // Throws SystemError with cuDNN's words if it has no kernel for `spec` on the handle's GPU.
  CudnnGraph(const CudnnAttentionSpec& spec, cudnnContext* handle);
  ~CudnnGraph();
  CudnnGraph(const CudnnGraph&) = delete;
  CudnnGraph& operator=(const CudnnGraph&) = delete;

  std::int64_t workspace_bytes() const { return workspace_bytes_; }
  // Enqueues it on the handle's stream.
  void run(const CudnnPointers& pointers, void* workspace) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  cudnnContext* handle_;
  std::int64_t workspace_bytes_ = 0;
};

// Owner of a cudnnHandle_t. On the calling thread's device.
class CudnnHandle {
 public:
  explicit CudnnHandle(CUstream_st* stream);
  ~CudnnHandle();
  CudnnHandle(const CudnnHandle&) = delete;
  CudnnHandle& operator=(const CudnnHandle&) = delete;
  cudnnContext* get() const { return handle_; }

 private:
  cudnnContext* handle_ = nullptr;
};

// "9.19.0", of the library that was loaded.
std::string cudnn_version();

}  // namespace terroir::cuda
