// How the CPU backend cuts attention into blocks: which queries go together, and which keys they may see.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention/attention.h"

namespace terroir::attention {

// Queries of a block and keys of a span. 32 queries are two AVX-512 vectors: small enough that the causal
// diagonal wastes little, large enough to reuse each key 32 times from registers. Tuned on AVX-512.
constexpr std::int64_t kQueries = 32;
constexpr std::int64_t kKeys = 64;
// Rows of scratch are padded to the longest vector in use (AVX-512).
constexpr std::int64_t kLanes = 16;
constexpr std::int64_t padded(std::int64_t head_size) { return (head_size + kLanes - 1) / kLanes * kLanes; }

// Exponentials are computed as powers of two: exp(x) = 2^(kLog2E x).
constexpr float kLog2E = 1.44269504F;

// The query heads of one batch item that share one key/value head. Their queries are numbered token-major, so
// that a block holds neighbouring tokens of all heads: query n is head first_head + n % num_heads of token n
// / num_heads.
struct HeadGroup {
  std::int64_t batch, kv_head;
  std::int64_t first_head, num_heads;
  std::int64_t num_queries;  // tokens x heads

  std::int64_t num_blocks() const { return (num_queries + kQueries - 1) / kQueries; }
};

inline HeadGroup head_group(const AttentionInputs& inputs, std::int64_t index) {
  const std::int64_t kv_head = index % inputs.k.size(2), per_kv = inputs.options.q_heads_per_kv;
  const std::int64_t first = kv_head * per_kv - inputs.options.q_head_offset;
  const std::int64_t begin = std::clamp<std::int64_t>(first, 0, inputs.q.size(2));
  const std::int64_t end = std::clamp<std::int64_t>(first + per_kv, 0, inputs.q.size(2));
  return {index / inputs.k.size(2), kv_head, begin, end - begin, inputs.q.size(1) * (end - begin)};
}

inline std::int64_t num_head_groups(const AttentionInputs& inputs) {
  return inputs.k.size(0) * inputs.k.size(2);
}

// Smallest and largest position and document of some tokens.
struct Extent {
  std::int32_t min_position = std::numeric_limits<std::int32_t>::max();
  std::int32_t max_position = std::numeric_limits<std::int32_t>::min();
  std::int32_t min_document = std::numeric_limits<std::int32_t>::max();
  std::int32_t max_document = std::numeric_limits<std::int32_t>::min();

  void include(std::int32_t position, std::int32_t document) {
    min_position = std::min(min_position, position);
    max_position = std::max(max_position, position);
    min_document = std::min(min_document, document);
    max_document = std::max(max_document, document);
  }
};

enum class Sight { kNone, kSome, kAll };

// Whether queries within `queries` see keys within `keys`: none of them, perhaps some, all.
inline Sight sight(const Extent& queries, const Extent& keys) {
  if (keys.min_position > queries.max_position || keys.min_document > queries.max_document ||
      keys.max_document < queries.min_document)
    return Sight::kNone;
  const bool one_document = queries.min_document == queries.max_document &&
                            keys.min_document == keys.max_document &&
                            keys.min_document == queries.min_document;
  return one_document && keys.max_position <= queries.min_position ? Sight::kAll : Sight::kSome;
}

// Up to kQueries queries of a group. Lanes beyond `count` repeat the last query, so that no lane needs
// special care until results are written.
struct QueryBlock {
  std::int64_t count;
  std::int64_t token[kQueries], head[kQueries];
  alignas(64) std::int32_t position[kQueries];
  alignas(64) std::int32_t document[kQueries];
  Extent extent;
};

inline QueryBlock query_block(const AttentionInputs& inputs, const HeadGroup& group, std::int64_t index) {
  const std::int32_t* positions =
      inputs.positions_q.data<std::int32_t>() + group.batch * inputs.positions_q.stride(0);
  const std::int32_t* documents =
      inputs.documents_q.data<std::int32_t>() + group.batch * inputs.documents_q.stride(0);
  QueryBlock block;
  const std::int64_t first = index * kQueries;
  block.count = std::min(kQueries, group.num_queries - first);
  for (std::int64_t lane = 0; lane < kQueries; ++lane) {
    const std::int64_t query = first + std::min(lane, block.count - 1);
    block.token[lane] = query / group.num_heads;
    block.head[lane] = group.first_head + query % group.num_heads;
    block.position[lane] = positions[block.token[lane]];
    block.document[lane] = documents[block.token[lane]];
    block.extent.include(block.position[lane], block.document[lane]);
  }
  return block;
}

// Positions and documents of one batch item's keys.
struct KeyTokens {
  const std::int32_t* position;
  const std::int32_t* document;
  std::int64_t count;

  Extent extent(std::int64_t begin, std::int64_t end) const {
    Extent extent;
    for (std::int64_t key = begin; key < end; ++key) extent.include(position[key], document[key]);
    return extent;
  }
};

inline KeyTokens key_tokens(const AttentionInputs& inputs, std::int64_t batch) {
  return {inputs.positions_k.data<std::int32_t>() + batch * inputs.positions_k.stride(0),
          inputs.documents_k.data<std::int32_t>() + batch * inputs.documents_k.stride(0), inputs.k.size(1)};
}

// Calls body(begin, count, masked) for the spans of at most kKeys keys that `queries` may see. Keys nobody
// sees are cut off a span's ends; `masked`: some query may not see some key of it.
template <class Body>
void for_each_key_span(const Extent& queries, const KeyTokens& keys, Body&& body) {
  for (std::int64_t begin = 0; begin < keys.count; begin += kKeys) {
    std::int64_t first = begin, last = std::min(begin + kKeys, keys.count);
    const Sight seen = sight(queries, keys.extent(first, last));
    if (seen == Sight::kNone) continue;
    if (seen == Sight::kSome) {
      while (first < last && sight(queries, keys.extent(first, first + 1)) == Sight::kNone) ++first;
      while (first < last && sight(queries, keys.extent(last - 1, last)) == Sight::kNone) --last;
    }
    if (first < last) body(first, last - first, seen == Sight::kSome);
  }
}

// The row [D] of one head of one token.
template <class T = float>
const T* row(const ConstView& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return x.data<T>() + batch * x.stride(0) + token * x.stride(1) + head * x.stride(2);
}
template <class T = float>
T* row(const View& x, std::int64_t batch, std::int64_t token, std::int64_t head) {
  return x.data<T>() + batch * x.stride(0) + token * x.stride(1) + head * x.stride(2);
}

}  // namespace terroir::attention
