#include "kernels/attention/cudnn_graph.h"

#include <cudnn_frontend.h>
#include <fmt/core.h>

#include <unordered_map>

#include "base/error.h"

namespace terroir::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;

// Numbers by which a graph's tensors are given their memory.
constexpr std::int64_t kLengthsId = 1, kOperandIds = 10, kOffsetIds = 30;
constexpr std::array<const char*, kNumCudnnOperands> kNames = {"q",    "k",  "v",  "o", "lse",
                                                               "dout", "dq", "dk", "dv"};

bool is_kv(CudnnOperand operand) {
  return operand == CudnnOperand::kK || operand == CudnnOperand::kV || operand == CudnnOperand::kDk ||
         operand == CudnnOperand::kDv;
}

void check(fe::error_t status, const char* call) {
  if (status.is_bad()) throw SystemError(call, status.get_message());
}

void check(cudnnStatus_t status, const char* call) {
  if (status != CUDNN_STATUS_SUCCESS) throw SystemError(call, cudnnGetErrorString(status));
}

class Builder {
 public:
  // `sm`: 0 for the current device's.
  Builder(const CudnnAttentionSpec& spec, int sm)
      : spec_(spec), graph_(std::make_shared<fe::graph::Graph>()) {
    graph_->set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (sm != 0) graph_->set_sm_version(sm);  // before nodes are added
    if (spec.packed)
      lengths_ = graph_->tensor(
          index_tensor("lengths", spec.num_sequences, fe::DataType_t::INT32).set_uid(kLengthsId));
    if (spec.backward) {
      add_backward();
    } else {
      add_forward();
    }
  }
  std::shared_ptr<fe::graph::Graph> graph() const { return graph_; }

 private:
  static fe::graph::Tensor_attributes index_tensor(const std::string& name, std::int64_t size,
                                                   fe::DataType_t type) {
    return fe::graph::Tensor_attributes()
        .set_name(name)
        .set_dim({size, 1, 1, 1})
        .set_stride({1, 1, 1, 1})
        .set_data_type(type);
  }

  // cuDNN's dimensions are sequence, head, token, element.
  void describe(CudnnOperand operand, fe::graph::Tensor_attributes& tensor) {
    const auto i = static_cast<std::size_t>(operand);
    const OperandStrides& strides = spec_.strides[i];
    const bool lse = operand == CudnnOperand::kLse;
    tensor.set_name(kNames[i])
        .set_dim({spec_.num_sequences, is_kv(operand) ? spec_.num_kv_heads : spec_.num_q_heads, spec_.length,
                  lse ? 1 : spec_.head_size})
        .set_stride({strides.row, strides.head, strides.token, 1})
        .set_uid(kOperandIds + static_cast<std::int64_t>(i));
    if (lse) tensor.set_data_type(fe::DataType_t::FLOAT);
    if (spec_.packed)
      tensor.set_ragged_offset(graph_->tensor(
          index_tensor(fmt::format("{} offsets", kNames[i]), spec_.num_sequences + 1, fe::DataType_t::INT64)
              .set_uid(kOffsetIds + static_cast<std::int64_t>(i))));
  }
  Tensor input(CudnnOperand operand) {
    fe::graph::Tensor_attributes tensor;
    describe(operand, tensor);
    return graph_->tensor(tensor);
  }
  void output(CudnnOperand operand, const Tensor& tensor) {
    describe(operand, *tensor);
    tensor->set_output(true);
  }

  template <class Attributes>
  void set_mask(Attributes& attributes) {
    attributes.set_attn_scale(spec_.scale)
        .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
        .set_diagonal_band_right_bound(0);
    if (spec_.packed) attributes.set_padding_mask(true).set_seq_len_q(lengths_).set_seq_len_kv(lengths_);
  }

  void add_forward() {
    auto attributes = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
    set_mask(attributes);
    const auto [o, lse] =
        graph_->sdpa(input(CudnnOperand::kQ), input(CudnnOperand::kK), input(CudnnOperand::kV), attributes);
    output(CudnnOperand::kO, o);
    output(CudnnOperand::kLse, lse);
  }

  void add_backward() {
    auto attributes = fe::graph::SDPA_backward_attributes().set_name("attention backward");
    attributes.set_deterministic_algorithm(spec_.deterministic);
    set_mask(attributes);
    if (spec_.packed)  // else intermediate sums would have num_sequences x length rows
      attributes.set_max_total_seq_len_q(spec_.total_tokens).set_max_total_seq_len_kv(spec_.total_tokens);
    const auto [dq, dk, dv] = graph_->sdpa_backward(
        input(CudnnOperand::kQ), input(CudnnOperand::kK), input(CudnnOperand::kV), input(CudnnOperand::kO),
        input(CudnnOperand::kDout), input(CudnnOperand::kLse), attributes);
    output(CudnnOperand::kDq, dq);
    output(CudnnOperand::kDk, dk);
    output(CudnnOperand::kDv, dv);
  }

  const CudnnAttentionSpec& spec_;
  std::shared_ptr<fe::graph::Graph> graph_;
  Tensor lengths_;
};

}  // namespace

std::string cudnn_graph_problem(const CudnnAttentionSpec& spec, int sm) {
  const auto graph = Builder(spec, sm).graph();
  fe::error_t status = graph->validate();
  if (status.is_good()) status = graph->build_operation_graph(nullptr);
  return status.is_good() ? "" : status.get_message();
}

struct CudnnGraph::Impl {
  std::shared_ptr<fe::graph::Graph> graph;
  CudnnAttentionSpec spec;
};

CudnnGraph::CudnnGraph(const CudnnAttentionSpec& spec, cudnnContext* handle)
    : impl_(std::make_unique<Impl>(Impl{Builder(spec, 0).graph(), spec})), handle_(handle) {
  fe::graph::Graph& graph = *impl_->graph;
  check(graph.validate(), "cudnn_frontend validate");
  check(graph.build_operation_graph(handle), "cudnn_frontend build_operation_graph");
  check(graph.create_execution_plans({fe::HeurMode_t::A}), "cudnn_frontend create_execution_plans");
  check(graph.check_support(), "cudnn_frontend check_support");
  check(graph.build_plans(), "cudnn_frontend build_plans");
  check(graph.get_workspace_size(workspace_bytes_), "cudnn_frontend get_workspace_size");
}

CudnnGraph::~CudnnGraph() = default;

void CudnnGraph::run(const CudnnPointers& pointers, void* workspace) const {
  std::unordered_map<std::int64_t, void*> memory;
  for (std::size_t i = 0; i < kNumCudnnOperands; ++i) {
    if (pointers.operands[i] == nullptr) continue;
    memory[kOperandIds + static_cast<std::int64_t>(i)] = pointers.operands[i];
    if (impl_->spec.packed) memory[kOffsetIds + static_cast<std::int64_t>(i)] = pointers.offsets[i];
  }
  if (impl_->spec.packed) memory[kLengthsId] = pointers.lengths;
  check(impl_->graph->execute(handle_, memory, workspace), "cudnn_frontend execute");
}

CudnnHandle::CudnnHandle(CUstream_st* stream) {
  check(cudnnCreate(&handle_), "cudnnCreate");
  const cudnnStatus_t status = cudnnSetStream(handle_, stream);
  if (status == CUDNN_STATUS_SUCCESS) return;
  cudnnDestroy(handle_);
  check(status, "cudnnSetStream");
}

CudnnHandle::~CudnnHandle() { cudnnDestroy(handle_); }

std::string cudnn_version() {
  const std::size_t version = cudnnGetVersion();  // 91900 for 9.19.0
  return fmt::format("{}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace terroir::cuda
