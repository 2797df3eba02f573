#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

#include <algorithm>

#include "kernels/linear_cross_entropy/chunk.h"
#include "kernels/op_table.h"
#include "kernels/tensor/argument_check.h"

namespace terroir {

// Equal chunks of at most 2^25 logits on the CPU: at T 1024, H 768, V 50304 on two AVX-512 cores, chunks of
// 128, 256, 512 and 1024 tokens took 1.33, 1.09, 1.03 and 1 units of time, since each chunk reads and writes
// all of dw. On CUDA 2^28 (512 MiB of bf16): a chunk of n tokens moves 8 bytes for 6 n operations, which at
// 200 operations a byte is 240 / n of its time.
std::int64_t linear_cross_entropy_chunk_tokens(std::int64_t num_tokens, std::int64_t vocab_size,
                                               Device device) {
  constexpr std::int64_t kMinTokens = 64;
  const std::int64_t max_logits = std::int64_t{1} << (device.kind == DeviceKind::kCuda ? 28 : 25);
  const std::int64_t limit = std::max(max_logits / std::max<std::int64_t>(vocab_size, 1), kMinTokens);
  const std::int64_t num_chunks = std::max<std::int64_t>((num_tokens + limit - 1) / limit, 1);
  return std::max<std::int64_t>((num_tokens + num_chunks - 1) / num_chunks, 1);
}

std::int64_t linear_cross_entropy_workspace_bytes(std::int64_t chunk_tokens, std::int64_t vocab_size,
                                                  std::int64_t hidden_size, DType dtype, Device device) {
  if (dtype == DType::kF32 && device.kind == DeviceKind::kCpu)
    return cpu::linear_cross_entropy_f32_workspace_bytes(chunk_tokens, vocab_size, hidden_size);
  return loss::ChunkBytes(chunk_tokens, vocab_size, hidden_size, dtype).total();
}

void linear_cross_entropy(OpContext& ctx, const LinearCrossEntropyArgs& args) {
  const ArgumentCheck check("linear_cross_entropy", ctx);
  const DType dtype = args.x.dtype();
  check.compute_dtype("x", args.x);
  check.tensor("x", args.x, dtype, {kAnySize, kAnySize});
  const std::int64_t num_tokens = args.x.size(0), hidden_size = args.x.size(1);
  check.tensor("w", args.w, dtype, {kAnySize, hidden_size});
  const std::int64_t vocab_size = args.w.size(0);
  check.tensor("targets", args.targets, DType::kI32, {num_tokens});
  check.tensor("loss", args.loss, DType::kF32, {num_tokens});
  check.require(vocab_size >= 1, "w is {}: no vocabulary", args.w);
  check.require(args.chunk_tokens >= 1, "chunks of {} tokens", args.chunk_tokens);
  check.require(args.vocab_begin >= 0, "a vocabulary that begins at {}", args.vocab_begin);
  check.require(static_cast<bool>(args.dx) == static_cast<bool>(args.dw), "dx and dw: both or neither");
  if (args.dx) {
    check.same_shape("dx", args.dx, dtype, args.x);
    check.same_shape("dw", args.dw, DType::kF32, args.w);
  }
  check.workspace(args.workspace,
                  linear_cross_entropy_workspace_bytes(std::min(args.chunk_tokens, num_tokens), vocab_size,
                                                       hidden_size, dtype, ctx.stream.device()));
  op_table(ctx.stream.device()).linear_cross_entropy(ctx, args);
}

void merge_vocab_statistics(OpContext& ctx, const ConstView& gathered, const View& merged) {
  const ArgumentCheck check("merge_vocab_statistics", ctx);
  check.tensor("merged", merged, DType::kF32, {3, kAnySize});
  check.tensor("gathered", gathered, DType::kF32, {kAnySize, 3, merged.size(1)});
  check.require(gathered.is_contiguous() && merged.is_contiguous(), "statistics must be contiguous");
  op_table(ctx.stream.device()).merge_vocab_statistics(ctx, {gathered, merged});
}

}  // namespace terroir
