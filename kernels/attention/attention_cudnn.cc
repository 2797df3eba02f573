#include "kernels/attention/attention_cudnn.h"

#include <map>
#include <optional>

#include "kernels/attention/cudnn_graph.h"
#include "kernels/attention/cudnn_layout.h"

namespace terroir::cuda {
namespace {

constexpr std::int64_t kAlignmentBytes = 16, kAlignmentElements = kAlignmentBytes / 2;
constexpr std::int64_t kScratchAlignment = 256;

// A forward or a backward: its tensors by cuDNN's names, those it does not have of rank 0.
struct Call {
  bool backward = false;
  const AttentionInputs& inputs;
  std::array<ConstView, kNumCudnnOperands> operands;
  ConstView& operator[](CudnnOperand operand) { return operands[static_cast<std::size_t>(operand)]; }
  const ConstView& operator[](CudnnOperand operand) const {
    return operands[static_cast<std::size_t>(operand)];
  }
};

Call call_of(const AttentionInputs& inputs, bool backward) {
  Call call = {.backward = backward, .inputs = inputs, .operands = {}};
  call[CudnnOperand::kQ] = inputs.q;
  call[CudnnOperand::kK] = inputs.k;
  call[CudnnOperand::kV] = inputs.v;
  return call;
}
Call call_of(const AttentionForwardArgs& args) {
  Call call = call_of(args.inputs, false);
  call[CudnnOperand::kO] = args.o;
  call[CudnnOperand::kLse] = args.lse;
  return call;
}
Call call_of(const AttentionBackwardArgs& args) {
  Call call = call_of(args.inputs, true);
  call[CudnnOperand::kO] = args.o;
  call[CudnnOperand::kLse] = args.lse;
  call[CudnnOperand::kDout] = args.dout;
  call[CudnnOperand::kDq] = args.dq;
  call[CudnnOperand::kDk] = args.dk;
  call[CudnnOperand::kDv] = args.dv;
  return call;
}

bool is_packed(const Call& call) { return !call.inputs.known_documents.one_per_row; }

// Rows computed at once; more than one would each take the deterministic backward's workspace.
std::int64_t rows_at_once(const Call& call, const CudnnAttentionOptions& options) {
  const bool one = !is_packed(call) && call.backward && options.deterministic;
  return one ? 1 : call.inputs.q.size(0);
}

// What is asked of memory, empty if it is so.
std::string layout_problem(const Call& call, bool packed) {
  for (std::size_t i = 0; i < kNumCudnnOperands; ++i) {
    const ConstView& view = call.operands[i];
    if (view.rank() != 4) continue;
    if (view.dtype() != DType::kBF16)
      return fmt::format("cuDNN computes in bf16 here, not {}", dtype_name(view.dtype()));
    const auto address = reinterpret_cast<std::uintptr_t>(view.raw());
    if (address % kAlignmentBytes != 0 || view.stride(0) % kAlignmentElements != 0 ||
        view.stride(1) % kAlignmentElements != 0 || view.stride(2) % kAlignmentElements != 0)
      return fmt::format("cuDNN takes rows aligned to {} bytes", kAlignmentBytes);
    if (packed && view.size(0) > 1 && view.stride(0) != view.size(1) * view.stride(1))
      return "cuDNN takes packed documents only in rows that follow each other without a gap";
  }
  if (!call[CudnnOperand::kLse].is_contiguous()) return "cuDNN takes a contiguous lse";
  return "";
}

std::string problem_of(const Call& call) {
  const AttentionInputs& inputs = call.inputs;
  const ConstView& starts = inputs.known_documents.starts;
  if (inputs.q.numel() == 0) return "there is nothing to compute";
  if (is_packed(call) && starts.rank() == 0) return "where documents begin is not known to the host";
  if (is_packed(call) && (starts.rank() != 1 || starts.dtype() != DType::kI32 || starts.size(0) < 2))
    return fmt::format("document starts are {}, must be i32 [max_documents + 1]", starts.describe());
  if (inputs.q.size(1) != inputs.k.size(1)) return "keys are not the queries' own";
  const std::int64_t num_q_heads = inputs.q.size(2), num_kv_heads = inputs.k.size(2);
  const bool whole_groups =
      inputs.options.q_head_offset == 0 && num_q_heads == num_kv_heads * inputs.options.q_heads_per_kv;
  if (!whole_groups && num_kv_heads != 1)
    return "query heads do not begin and end with a group of one key/value head";
  return layout_problem(call, is_packed(call));
}

OperandStrides strides_of(const ConstView& view, bool packed) {
  return {packed ? view.size(1) * view.stride(1) : view.stride(0), view.stride(1), view.stride(2)};
}

CudnnAttentionSpec spec_of(const Call& call, const CudnnAttentionOptions& options) {
  const ConstView &q = call.inputs.q, &k = call.inputs.k;
  const bool packed = is_packed(call);
  const std::int64_t length = q.size(1), num_heads = q.size(2);
  CudnnAttentionSpec spec = {
      .backward = call.backward,
      .deterministic = options.deterministic || !call.backward,
      .packed = packed,
      .num_sequences = packed ? call.inputs.known_documents.starts.size(0) - 1 : rows_at_once(call, options),
      .length = length,
      .total_tokens = q.size(0) * length,
      .num_q_heads = num_heads,
      .num_kv_heads = k.size(2),
      .head_size = q.size(3),
      .scale = call.inputs.options.scale,
      .strides = {}};
  for (std::size_t i = 0; i < kNumCudnnOperands; ++i)
    if (call.operands[i].rank() == 4) spec.strides[i] = strides_of(call.operands[i], packed);
  spec.strides[static_cast<std::size_t>(CudnnOperand::kLse)] =
      packed ? OperandStrides{length * num_heads, num_heads, 1}
             : OperandStrides{num_heads * length, 1, length};
  return spec;
}

// Of one context.
class Plans {
 public:
  static constexpr const char* kName = "cuDNN attention";
  struct Plan {
    std::unique_ptr<CudnnGraph> graph;
    std::string problem;  // why there is none
  };
  const Plan& plan(OpContext& ctx, const CudnnAttentionSpec& spec) {
    const auto found = plans_.find(spec);
    return found != plans_.end() ? found->second : plans_.emplace(spec, make(ctx, spec)).first->second;
  }

 private:
  Plan make(OpContext& ctx, const CudnnAttentionSpec& spec) {
    try {
      if (!handle_) handle_.emplace(static_cast<CUstream_st*>(ctx.stream.native()));
      return {std::make_unique<CudnnGraph>(spec, handle_->get()), ""};
    } catch (const SystemError& error) {
      return {nullptr, fmt::format("cuDNN {}: {}", cudnn_version(), error.what())};
    }
  }
  std::optional<CudnnHandle> handle_;
  std::map<CudnnAttentionSpec, Plan> plans_;  // destroyed before the handle
};

// Workspace, cut into what packed documents need and what is left for cuDNN. Without memory it tells sizes.
struct Scratch {
  explicit Scratch(std::byte* memory, const CudnnAttentionSpec& spec) : next(memory) {
    if (!spec.packed) return;
    lengths = take(spec.num_sequences * 4);
    for (void*& table : offsets) table = take((spec.num_sequences + 1) * 8);
    lse = take(spec.total_tokens * spec.num_q_heads * 4);
  }
  void* take(std::int64_t bytes) {
    const std::int64_t aligned = (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
    void* taken = next;
    size += aligned;
    if (next != nullptr) next += aligned;
    return taken;
  }
  std::byte* next;  // cuDNN's
  std::int64_t size = 0;
  void* lengths = nullptr;
  std::array<void*, kNumCudnnOperands> offsets{};
  void* lse = nullptr;  // [token, head]
};

std::int64_t workspace_bytes(const CudnnAttentionSpec& spec, const CudnnGraph& graph) {
  return Scratch(nullptr, spec).size + graph.workspace_bytes();
}

bool supports(OpContext& ctx, const Call& call, const CudnnAttentionOptions& options, std::string* reason) {
  *reason = problem_of(call);
  if (!reason->empty()) return false;
  const CudnnAttentionSpec spec = spec_of(call, options);
  const Plans::Plan& plan = ctx.cache<Plans>().plan(ctx, spec);
  *reason = plan.problem;
  if (!reason->empty()) return false;
  const std::int64_t bytes = workspace_bytes(spec, *plan.graph);
  if (bytes > options.max_workspace_bytes)
    *reason = fmt::format("cuDNN would need {} MiB of workspace, more than {}", bytes >> 20,
                          options.max_workspace_bytes >> 20);
  return reason->empty();
}

const CudnnGraph& graph_of(OpContext& ctx, const CudnnAttentionSpec& spec) {
  const Plans::Plan& plan = ctx.cache<Plans>().plan(ctx, spec);
  TERROIR_CHECK(plan.graph != nullptr, "{}", plan.problem);
  return *plan.graph;
}

// cuDNN takes every tensor's memory as void*; what is an input it only reads.
CudnnPointers pointers_from(const Call& call, std::int64_t row) {
  CudnnPointers pointers;
  for (std::size_t i = 0; i < kNumCudnnOperands; ++i)
    if (const ConstView& view = call.operands[i]; view)
      pointers.operands[i] = const_cast<void*>(view.slice(0, row, view.size(0)).raw());
  return pointers;
}

void run_packed(OpContext& ctx, const Call& call, const CudnnAttentionSpec& spec, const CudnnGraph& graph,
                const Scratch& scratch) {
  const ConstView& starts = call.inputs.known_documents.starts;
  SequenceTables tables = {.starts = static_cast<const std::int32_t*>(starts.raw()),
                           .num_sequences = spec.num_sequences,
                           .lengths = static_cast<std::int32_t*>(scratch.lengths)};
  static_assert(SequenceTables::kMaxTables == kNumCudnnOperands);
  CudnnPointers pointers = pointers_from(call, 0);
  pointers.lengths = scratch.lengths;
  pointers.offsets = scratch.offsets;
  for (std::size_t i = 0; i < kNumCudnnOperands; ++i) {
    if (pointers.operands[i] != nullptr) tables.offsets[i] = static_cast<std::int64_t*>(scratch.offsets[i]);
    tables.token_strides[i] = spec.strides[i].token;
  }
  write_sequence_tables(ctx, tables);
  const ConstView& lse = call[CudnnOperand::kLse];
  void*& lse_memory = pointers.operands[static_cast<std::size_t>(CudnnOperand::kLse)];
  const auto by_head = static_cast<float*>(lse_memory), by_token = static_cast<float*>(scratch.lse);
  const std::int64_t batch = lse.size(0), num_heads = lse.size(1), length = lse.size(2);
  lse_memory = by_token;
  if (call.backward) transpose(ctx, by_head, by_token, batch, num_heads, length);
  graph.run(pointers, scratch.next);
  if (!call.backward) transpose(ctx, by_token, by_head, batch, length, num_heads);
}

void run(OpContext& ctx, const Call& call, const CudnnAttentionOptions& options, const View& workspace) {
  const CudnnAttentionSpec spec = spec_of(call, options);
  const CudnnGraph& graph = graph_of(ctx, spec);
  TERROIR_CHECK(workspace.bytes() >= workspace_bytes(spec, graph), "workspace of {} bytes, must be {}",
                workspace.bytes(), workspace_bytes(spec, graph));
  const Scratch scratch(static_cast<std::byte*>(workspace.raw()), spec);
  if (spec.packed) return run_packed(ctx, call, spec, graph, scratch);
  for (std::int64_t row = 0; row < call.inputs.q.size(0); row += spec.num_sequences)
    graph.run(pointers_from(call, row), scratch.next);
}

}  // namespace

bool cudnn_attention_supports(OpContext& ctx, const AttentionForwardArgs& args,
                              const CudnnAttentionOptions& options, std::string* reason) {
  return supports(ctx, call_of(args), options, reason);
}
bool cudnn_attention_supports(OpContext& ctx, const AttentionBackwardArgs& args,
                              const CudnnAttentionOptions& options, std::string* reason) {
  return supports(ctx, call_of(args), options, reason);
}

std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionForwardArgs& args,
                                             const CudnnAttentionOptions& options) {
  const CudnnAttentionSpec spec = spec_of(call_of(args), options);
  return workspace_bytes(spec, graph_of(ctx, spec));
}
std::int64_t cudnn_attention_workspace_bytes(OpContext& ctx, const AttentionBackwardArgs& args,
                                             const CudnnAttentionOptions& options) {
  const CudnnAttentionSpec spec = spec_of(call_of(args), options);
  return workspace_bytes(spec, graph_of(ctx, spec));
}

void attention_forward_cudnn(OpContext& ctx, const AttentionForwardArgs& args,
                             const CudnnAttentionOptions& options) {
  run(ctx, call_of(args), options, args.workspace);
}
void attention_backward_cudnn(OpContext& ctx, const AttentionBackwardArgs& args,
                              const CudnnAttentionOptions& options) {
  run(ctx, call_of(args), options, args.workspace);
}

std::string cudnn_attention_name() { return "cuDNN " + cudnn_version(); }

}  // namespace terroir::cuda
