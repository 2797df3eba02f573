// Chunks of tokens, and their scratch where the logits' gradients take the place of the logits: on CUDA, and
// with bf16 on the CPU. Legend: n tokens of a chunk, V rows of w, H hidden size, T the dtype of x.
#pragma once

#include <algorithm>

#include "kernels/linear_cross_entropy/linear_cross_entropy.h"

namespace terroir::loss {

struct Chunk {
  View logits;      // T [n, V], rows 128 bytes aligned: logits, then the gradients of the loss by them
  View counted_x;   // T [n, H]: x, zero where the target is ignored: 0 times a NaN would be a NaN
  View statistics;  // f32 [3, n], see VocabExchange
};

// The arguments restricted to tokens [begin, end).
inline LinearCrossEntropyArgs tokens_of(LinearCrossEntropyArgs args, std::int64_t begin, std::int64_t end) {
  args.x = args.x.slice(0, begin, end);
  args.targets = args.targets.slice(0, begin, end);
  args.loss = args.loss.slice(0, begin, end);
  if (args.dx) args.dx = args.dx.slice(0, begin, end);
  return args;
}

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
// Elements from one row of logits to the next.
inline std::int64_t logits_stride(std::int64_t vocab_size) { return round_up(vocab_size, 64); }

struct ChunkBytes {
  ChunkBytes(std::int64_t tokens, std::int64_t vocab_size, std::int64_t hidden_size, DType dtype)
      : logits(round_up(tokens * logits_stride(vocab_size) * dtype_bytes(dtype), 256)),
        counted_x(round_up(tokens * hidden_size * dtype_bytes(dtype), 256)),
        statistics(tokens * 3 * 4) {}
  std::int64_t total() const { return logits + counted_x + statistics; }
  std::int64_t logits, counted_x, statistics;
};

inline Chunk make_chunk(const LinearCrossEntropyArgs& args) {
  const std::int64_t tokens = args.x.size(0), vocab_size = args.w.size(0), hidden_size = args.x.size(1);
  const std::int64_t stride = logits_stride(vocab_size);
  const DType dtype = args.x.dtype();
  const ChunkBytes bytes(tokens, vocab_size, hidden_size, dtype);
  auto* memory = static_cast<std::uint8_t*>(args.workspace.raw());
  const Device device = args.workspace.device();
  return {View(memory, dtype, {tokens, stride}, device).slice(1, 0, vocab_size),
          View(memory + bytes.logits, dtype, {tokens, hidden_size}, device),
          View(memory + bytes.logits + bytes.counted_x, DType::kF32, {3, tokens}, device)};
}

// The chunks one after another: call(arguments of the chunk's tokens, scratch).
template <class Call>
void for_each_chunk(const LinearCrossEntropyArgs& all, Call call) {
  const std::int64_t num_tokens = all.x.size(0);
  for (std::int64_t begin = 0; begin < num_tokens; begin += all.chunk_tokens) {
    const LinearCrossEntropyArgs args = tokens_of(all, begin, std::min(begin + all.chunk_tokens, num_tokens));
    call(args, make_chunk(args));
  }
}

}  // namespace terroir::loss
