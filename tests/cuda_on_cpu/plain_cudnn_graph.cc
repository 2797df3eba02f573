// cuDNN's part of attention_cudnn.cc as plain loops over the memory that a graph describes: what a GPU would
// do with it.
#include <cuda_runtime.h>

#include <cmath>
#include <vector>

#include "kernels/attention/cudnn_graph.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/tensor/bfloat16.h"
#include "tests/cuda_on_cpu/plain_cudnn.h"

namespace terroir::cuda {
namespace {

// A call, with one sequence of it at a time.
struct Sequences {
  CudnnAttentionSpec spec;
  CudnnPointers pointers;

  std::int64_t length(std::int64_t s) const {
    return spec.packed ? static_cast<const std::int32_t*>(pointers.lengths)[s] : spec.length;
  }
  std::int64_t at(CudnnOperand operand, std::int64_t s, std::int64_t token, std::int64_t head) const {
    const auto i = static_cast<std::size_t>(operand);
    const OperandStrides& strides = spec.strides[i];
    const std::int64_t begin =
        spec.packed ? static_cast<const std::int64_t*>(pointers.offsets[i])[s] : s * strides.row;
    return begin + token * strides.token + head * strides.head;
  }
  BFloat16* row(CudnnOperand operand, std::int64_t s, std::int64_t token, std::int64_t head) const {
    return static_cast<BFloat16*>(pointers.operands[static_cast<std::size_t>(operand)]) +
           at(operand, s, token, head);
  }
  float& lse(std::int64_t s, std::int64_t token, std::int64_t head) const {
    return static_cast<float*>(pointers.operands[static_cast<std::size_t>(CudnnOperand::kLse)])[at(
        CudnnOperand::kLse, s, token, head)];
  }
  double dot(const BFloat16* a, const BFloat16* b) const {
    double sum = 0;
    for (std::int64_t d = 0; d < spec.head_size; ++d)
      sum += to_float(a[d]) * static_cast<double>(to_float(b[d]));
    return sum;
  }
  std::int64_t kv_head(std::int64_t head) const { return head / (spec.num_q_heads / spec.num_kv_heads); }
};

void store(BFloat16* to, const std::vector<double>& values) {
  for (std::size_t d = 0; d < values.size(); ++d) to[d] = from_float<BFloat16>(static_cast<float>(values[d]));
}

void forward(const Sequences& all, std::int64_t s, std::int64_t head) {
  const std::int64_t kv = all.kv_head(head);
  for (std::int64_t i = 0; i < all.length(s); ++i) {
    const BFloat16* q = all.row(CudnnOperand::kQ, s, i, head);
    std::vector<double> weights, o(static_cast<std::size_t>(all.spec.head_size));
    double sum = 0;
    for (std::int64_t j = 0; j <= i; ++j) {
      weights.push_back(std::exp(all.spec.scale * all.dot(q, all.row(CudnnOperand::kK, s, j, kv))));
      sum += weights.back();
    }
    for (std::int64_t j = 0; j <= i; ++j)
      for (std::size_t d = 0; d < o.size(); ++d)
        o[d] += weights[static_cast<std::size_t>(j)] / sum * to_float(all.row(CudnnOperand::kV, s, j, kv)[d]);
    store(all.row(CudnnOperand::kO, s, i, head), o);
    all.lse(s, i, head) = static_cast<float>(std::log(sum));
  }
}

void backward(const Sequences& all, std::int64_t s, std::int64_t kv) {
  const std::int64_t length = all.length(s), group = all.spec.num_q_heads / all.spec.num_kv_heads;
  const auto size = static_cast<std::size_t>(all.spec.head_size);
  std::vector<std::vector<double>> dk(static_cast<std::size_t>(length), std::vector<double>(size)), dv = dk;
  for (std::int64_t head = kv * group; head < (kv + 1) * group; ++head)
    for (std::int64_t i = 0; i < length; ++i) {
      const BFloat16 *q = all.row(CudnnOperand::kQ, s, i, head),
                     *dout = all.row(CudnnOperand::kDout, s, i, head);
      const double row_sum = all.dot(dout, all.row(CudnnOperand::kO, s, i, head));
      std::vector<double> dq(size);
      for (std::int64_t j = 0; j <= i; ++j) {
        const BFloat16 *k = all.row(CudnnOperand::kK, s, j, kv), *v = all.row(CudnnOperand::kV, s, j, kv);
        const double p = std::exp(all.spec.scale * all.dot(q, k) - static_cast<double>(all.lse(s, i, head)));
        const double ds = all.spec.scale * p * (all.dot(dout, v) - row_sum);
        for (std::size_t d = 0; d < size; ++d) {
          dq[d] += ds * to_float(k[d]);
          dk[static_cast<std::size_t>(j)][d] += ds * to_float(q[d]);
          dv[static_cast<std::size_t>(j)][d] += p * to_float(dout[d]);
        }
      }
      store(all.row(CudnnOperand::kDq, s, i, head), dq);
    }
  for (std::int64_t j = 0; j < length; ++j) {
    store(all.row(CudnnOperand::kDk, s, j, kv), dk[static_cast<std::size_t>(j)]);
    store(all.row(CudnnOperand::kDv, s, j, kv), dv[static_cast<std::size_t>(j)]);
  }
}

void compute(void* data) {
  const std::unique_ptr<Sequences> all(static_cast<Sequences*>(data));
  const CudnnAttentionSpec& spec = all->spec;
  for (std::int64_t s = 0; s < spec.num_sequences; ++s)
    for (std::int64_t head = 0; head < (spec.backward ? spec.num_kv_heads : spec.num_q_heads); ++head)
      spec.backward ? backward(*all, s, head) : forward(*all, s, head);
}

// As cuDNN's deterministic backward on Hopper: for each sequence at once.
std::int64_t backward_workspace(const CudnnAttentionSpec& spec) {
  return spec.deterministic ? spec.num_sequences * spec.num_q_heads * spec.length * spec.length * 2 : 512;
}

}  // namespace

struct CudnnGraph::Impl {
  CudnnAttentionSpec spec;
};

CudnnGraph::CudnnGraph(const CudnnAttentionSpec& spec, cudnnContext* handle)
    : impl_(std::make_unique<Impl>(Impl{spec})), handle_(handle) {
  workspace_bytes_ = spec.backward ? backward_workspace(spec) : 0;
  ++terroir_plain_cudnn_counts()->graphs;
}
CudnnGraph::~CudnnGraph() = default;

void CudnnGraph::run(const CudnnPointers& pointers, void*) const {
  const CudnnAttentionSpec& spec = impl_->spec;
  PlainCudnnCounts& counts = *terroir_plain_cudnn_counts();
  ++(spec.packed ? counts.packed : counts.dense);
  if (spec.backward) ++counts.backwards;
  if (spec.backward && !spec.deterministic) ++counts.in_any_order;
  auto all = std::make_unique<Sequences>(Sequences{spec, pointers});
  check(cudaLaunchHostFunc(reinterpret_cast<cudaStream_t>(handle_), compute, all.release()),
        "cudaLaunchHostFunc");
}

// The handle is the stream.
CudnnHandle::CudnnHandle(CUstream_st* stream) : handle_(reinterpret_cast<cudnnContext*>(stream)) {}
CudnnHandle::~CudnnHandle() = default;

std::string cudnn_version() { return "plain"; }

}  // namespace terroir::cuda

terroir::cuda::PlainCudnnCounts* terroir_plain_cudnn_counts() {
  static terroir::cuda::PlainCudnnCounts counts;
  return &counts;
}
