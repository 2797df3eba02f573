// Attention problems for tests: tensors for the op, and the same problem in f64.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "tests/kernels/reference_attention.h"
#include "tests/kernels/test_tensor.h"

namespace terroir::test {

// How positions and documents of a batch item's tokens are laid out.
enum class Layout {
  kCausal,      // one document, positions 0, 1, ...; queries are the last tokens
  kPacked,      // several documents, positions restart in each; queries = keys
  kShuffled,    // positions in no order, two documents interleaved
  kSomeUnseen,  // documents of queries that no key belongs to
  kZigZag,      // early and late tokens of a long sequence, as in context parallelism; queries = keys
};

struct Case {
  std::string name;
  AttentionSizes sizes;
  Layout layout = Layout::kCausal;
  std::int64_t q_heads_per_kv = 1;
  std::int64_t q_head_offset = 0;
};

// What the tensors are made of, and whether their rows are aligned for 16-byte accesses.
struct Format {
  const char* name;
  DType dtype;
  bool aligned;
  double tolerance;  // of o; a little more for gradients
};
// bf16: o and the gradients are rounded once (2^-9 of the value); on tensor cores the weights are too, each
// for itself; and the gradients start from an o that was rounded.
constexpr Format kFloat = {"f32", DType::kF32, false, 3e-6};
constexpr Format kBFloat = {"bf16", DType::kBF16, false, 4e-3};
constexpr Format kAlignedBFloat = {"bf16_aligned", DType::kBF16, true, 4e-3};
constexpr double kStatisticsTolerance = 3e-6;  // of lse, which is f32 always

// A problem as tensors for the op, and the same problem in f64.
struct Problem {
  AttentionSizes sizes;
  Format format;
  AttentionOptions options;
  // Each with a gap of its own between heads, so that no stride is mistaken for another's.
  Tensor q, k, v, dout;
  std::unique_ptr<IntTensor> positions_q, positions_k, documents_q, documents_k;
  ReferenceAttention reference;

  Problem(const Case& c, const Format& format_)
      : sizes(c.sizes),
        format(format_),
        options{1 / std::sqrt(static_cast<float>(c.sizes.head_size)), c.q_heads_per_kv, c.q_head_offset},
        q(like_q(3)),
        k(like_k(5)),
        v(like_k(1)),
        dout(like_q(2)) {
    q.randomize(1, 3);
    k.randomize(2, 3);
    v.randomize(3);
    dout.randomize(4);
    reference.sizes = sizes;
    reference.options = options;
    reference.q = values(q);
    reference.k = values(k);
    reference.v = values(v);
    lay_out(c.layout);
    const Shape queries = {sizes.batch, sizes.num_queries}, keys = {sizes.batch, sizes.num_keys};
    positions_q = std::make_unique<IntTensor>(queries, reference.positions_q);
    documents_q = std::make_unique<IntTensor>(queries, reference.documents_q);
    positions_k = std::make_unique<IntTensor>(keys, reference.positions_k);
    documents_k = std::make_unique<IntTensor>(keys, reference.documents_k);
    reference.forward();
    reference.backward(values(dout));
  }

  AttentionInputs inputs() const {
    return {q.view(), k.view(), v.view(), *positions_q, *positions_k, *documents_q, *documents_k, options};
  }
  // The keys [begin, end) only.
  AttentionInputs part(std::int64_t begin, std::int64_t end) const {
    AttentionInputs part = inputs();
    for (ConstView* view : {&part.k, &part.v, &part.positions_k, &part.documents_k})
      *view = view->slice(1, begin, end);
    return part;
  }

  Tensor like_q(std::int64_t gap) const {
    return Tensor({sizes.batch, sizes.num_queries, sizes.num_q_heads, sizes.head_size}, padding(gap),
                  format.dtype);
  }
  Tensor like_k(std::int64_t gap) const {
    return Tensor({sizes.batch, sizes.num_keys, sizes.num_kv_heads, sizes.head_size}, padding(gap),
                  format.dtype);
  }
  Tensor statistics(std::int64_t gap) const {
    return Tensor({sizes.batch, sizes.num_q_heads, sizes.num_queries}, gap);
  }
  Workspace workspace(int num_threads = 1) const { return Workspace(workspace_bytes(num_threads)); }
  std::int64_t workspace_bytes(int num_threads = 1) const {
    return attention_backward_workspace_bytes({.batch = sizes.batch,
                                               .num_queries = sizes.num_queries,
                                               .num_heads = sizes.num_q_heads,
                                               .num_keys = sizes.num_keys,
                                               .head_size = sizes.head_size},
                                              num_threads);
  }

 private:
  std::int64_t padding(std::int64_t gap) const { return format.aligned ? 8 * gap : gap; }

  void lay_out(Layout layout) {
    using Index = std::int64_t;
    if (layout == Layout::kCausal)
      fill([](Index, Index i) { return i; }, [](Index, Index) { return Index{0}; });
    if (layout == Layout::kPacked)
      fill([](Index b, Index i) { return i % (37 + b); }, [](Index b, Index i) { return i / (37 + b); });
    if (layout == Layout::kShuffled)
      fill([=](Index b, Index i) { return (i * 7 + b) % 101; }, [](Index, Index i) { return i % 2; });
    if (layout == Layout::kSomeUnseen) {
      fill([](Index, Index i) { return i; }, [](Index, Index i) { return i / 50; });
      for (std::size_t i = 0; i < reference.documents_q.size(); i += 3) reference.documents_q[i] = 1000;
    }
    if (layout == Layout::kZigZag) {
      const std::int64_t half = sizes.num_keys / 2;
      fill([=](Index, Index i) { return i < half ? i : 3 * half + i; },
           [](Index, Index) { return Index{0}; });
    }
  }
  template <class Position, class Document>
  void fill(Position position, Document document) {
    // Queries are the last tokens of the key sequence.
    const std::int64_t batch = sizes.batch, nq = sizes.num_queries, nk = sizes.num_keys;
    const auto tokens = [&](std::int64_t count, auto value) {
      std::vector<std::int32_t> result;
      for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t i = nk - count; i < nk; ++i)
          result.push_back(static_cast<std::int32_t>(value(b, i)));
      return result;
    };
    reference.positions_k = tokens(nk, position);
    reference.documents_k = tokens(nk, document);
    reference.positions_q = tokens(nq, position);
    reference.documents_q = tokens(nq, document);
  }
};

// "GQA 6/2" with kFloat -> GQA_6_2_f32: names of tests.
inline std::string test_name(const std::string& words, const Format& format) {
  std::string name = words + "_" + format.name;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}

}  // namespace terroir::test
