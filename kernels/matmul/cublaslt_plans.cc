#include "kernels/matmul/cublaslt_plans.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace terroir::cuda {
namespace {

constexpr std::uint32_t kReductions =
    CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;  // and none, which is always allowed
// Timed runs of a candidate: the best of kRounds means over kRunsPerRound.
constexpr int kRounds = 3, kRunsPerRound = 3;

cudaDataType_t data_type(DType dtype) { return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F; }

struct EventTraits {
  using type = cudaEvent_t;
  static type invalid() { return nullptr; }
  static void release(type event) noexcept { cudaEventDestroy(event); }
};

Handle<EventTraits> make_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  return Handle<EventTraits>(event);
}

// Times what is enqueued on a stream; the host waits for it.
class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {}
  template <class Work>
  double microseconds(const Work& enqueue) const {
    check(cudaEventRecord(begin_.get(), stream_), "cudaEventRecord");
    enqueue();
    check(cudaEventRecord(end_.get(), stream_), "cudaEventRecord");
    check(cudaEventSynchronize(end_.get()), "cudaEventSynchronize");
    float ms = 0;
    check(cudaEventElapsedTime(&ms, begin_.get(), end_.get()), "cudaEventElapsedTime");
    return 1e3 * ms;
  }

 private:
  cudaStream_t stream_;
  Handle<EventTraits> begin_ = make_event(), end_ = make_event();
};

template <class T>
void set(cublasLtMatmulDescOpaque_t& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}

template <class T>
void set(cublasLtMatmulPreferenceOpaque_t& preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

cublasLtMatrixLayoutOpaque_t layout(const GemmOperand& matrix) {
  cublasLtMatrixLayoutOpaque_t layout{};
  check(cublasLtMatrixLayoutInit(&layout, data_type(matrix.dtype), static_cast<std::uint64_t>(matrix.rows),
                                 static_cast<std::uint64_t>(matrix.columns), matrix.leading_dimension),
        "cublasLtMatrixLayoutInit");
  return layout;
}

cublasLtMatmulDescOpaque_t operation(const GemmDescription& gemm, const void* bias) {
  cublasLtMatmulDescOpaque_t operation{};
  // f32 products of f32 are true f32, not TF32; bf16 products are exact in the f32 they are summed in.
  check(cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescInit");
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, gemm.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, gemm.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (gemm.has_bias) {
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  return operation;
}

cublasLtMatmulPreferenceOpaque_t preference(const GemmDescription& gemm) {
  cublasLtMatmulPreferenceOpaque_t preference{};
  check(cublasLtMatmulPreferenceInit(&preference), "cublasLtMatmulPreferenceInit");
  const std::uint64_t workspace = CublasLtPlans::kWorkspaceBytes;
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, kReductions);
  const auto alignment = [](const GemmOperand& matrix) {
    return static_cast<std::uint32_t>(matrix.alignment_bytes);
  };
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(gemm.a));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(gemm.b));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(gemm.c));
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(gemm.c));
  return preference;
}

bool is_deterministic(const cublasLtMatmulAlgo_t& algorithm) {
  std::uint32_t scheme = 0;
  std::size_t written = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoConfigGetAttribute(
      &algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &written);
  return status == CUBLAS_STATUS_SUCCESS && (scheme & ~kReductions) == 0;
}

std::string words_of(const cublasLtMatmulAlgo_t& algorithm) {
  AlgorithmWords words{};
  static_assert(sizeof words == sizeof algorithm.data);
  std::memcpy(words.data(), algorithm.data, sizeof words);
  return to_hex(words);
}

// The version of the library and what a choice depends on of the device.
std::string identity() {
  int device = 0;
  cudaDeviceProp properties;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return fmt::format("cuBLASLt {} on {} (sm_{}{}, {} SMs)", cublasLtGetVersion(), properties.name,
                     properties.major, properties.minor, properties.multiProcessorCount);
}

// Empty where memory is short.
DeviceMemory allocate_if_possible(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t code = cudaMalloc(&memory, bytes);
  if (code == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // else it would be the next launch's
    return {};
  }
  check(code, "cudaMalloc");
  return DeviceMemory(memory);
}

DeviceMemory allocate(std::size_t bytes) {
  DeviceMemory memory = allocate_if_possible(bytes);
  if (!memory) throw SystemError("cudaMalloc", fmt::format("no {} MiB left for cuBLASLt", bytes >> 20));
  return memory;
}

std::size_t bytes_spanned(const GemmOperand& matrix) {
  const std::int64_t elements = (matrix.columns - 1) * matrix.leading_dimension + matrix.rows;
  return static_cast<std::size_t>(elements * dtype_bytes(matrix.dtype));
}

}  // namespace

void check(cublasStatus_t status, const char* call, const GemmDescription* gemm) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw SystemError(call, fmt::format("{}{}{}", cublasLtGetStatusName(status), gemm == nullptr ? "" : " for ",
                                      gemm == nullptr ? "" : describe(*gemm)));
}

CublasLtPlans::CublasLtPlans() : memory_(allocate(kWorkspaceBytes + kZeroBytes)), library_(identity()) {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  handle_ = Handle<CublasLtTraits>(handle);
  check(cudaMemset(static_cast<char*>(memory_.get()) + kWorkspaceBytes, 0, kZeroBytes), "cudaMemset");
  check(cudaDeviceSynchronize(),
        "cudaDeviceSynchronize");  // streams do not wait for what cudaMemset enqueues
}

void CublasLtPlans::run(const GemmDescription& gemm, const GemmPointers& pointers, GemmChoices& choices,
                        cudaStream_t stream) {
  if (generation_ != choices.generation()) {
    plans_.clear();
    generation_ = choices.generation();
  }
  auto found = plans_.find(gemm);
  if (found == plans_.end()) found = plans_.emplace(gemm, make(gemm, pointers, choices, stream)).first;
  Plan& plan = found->second;
  if (gemm.has_bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, pointers.bias);
  check(enqueue(plan, pointers, stream), "cublasLtMatmul", &gemm);
}

CublasLtPlans::Plan CublasLtPlans::make(const GemmDescription& gemm, const GemmPointers& pointers,
                                        GemmChoices& choices, cudaStream_t stream) {
  Plan plan = {.operation = operation(gemm, pointers.bias),
               .a = layout(gemm.a),
               .b = layout(gemm.b),
               .c = layout(gemm.c),
               .algorithm = {},
               .workspace_bytes = 0,
               .beta = gemm.accumulate ? 1.0F : 0.0F};
  GemmChoice choice = {.key = describe(gemm), .algorithm = {}};
  const std::optional<GemmChoice> wanted = choices.wanted(library_, choice.key);
  if (wanted && take(wanted->algorithm, plan)) {
    choice.us = wanted->us;
  } else {
    const Candidates found = candidates(gemm, plan, std::max(choices.num_candidates, 1));
    std::vector<double> us;
    if (found.size() > 1) us = measure(gemm, plan, found, pointers, stream);
    const std::size_t best = us.empty() ? 0 : fastest(us);
    if (!us.empty()) choice.us = us[best];
    plan.algorithm = found[best].algo;
    plan.workspace_bytes = found[best].workspaceSize;
  }
  choice.algorithm = words_of(plan.algorithm);
  choices.made.library = library_;
  choices.made.choices.push_back(std::move(choice));
  return plan;
}

bool CublasLtPlans::take(const std::string& wanted, Plan& plan) const {
  const std::optional<AlgorithmWords> words = algorithm_from_hex(wanted);
  if (!words) return false;
  cublasLtMatmulAlgo_t algorithm;
  std::memcpy(algorithm.data, words->data(), sizeof algorithm.data);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(handle_.get(), &plan.operation, &plan.a, &plan.b,
                                                        &plan.c, &plan.c, &algorithm, &result);
  if (status != CUBLAS_STATUS_SUCCESS || result.workspaceSize > kWorkspaceBytes ||
      !is_deterministic(algorithm))
    return false;
  plan.algorithm = algorithm;
  plan.workspace_bytes = result.workspaceSize;
  return true;
}

CublasLtPlans::Candidates CublasLtPlans::candidates(const GemmDescription& gemm, Plan& plan,
                                                    int count) const {
  cublasLtMatmulPreferenceOpaque_t wishes = preference(gemm);
  Candidates found(static_cast<std::size_t>(count));
  int num_found = 0;
  check(cublasLtMatmulAlgoGetHeuristic(handle_.get(), &plan.operation, &plan.a, &plan.b, &plan.c, &plan.c,
                                       &wishes, count, found.data(), &num_found),
        "cublasLtMatmulAlgoGetHeuristic", &gemm);
  found.resize(static_cast<std::size_t>(num_found));
  std::erase_if(found, [](const cublasLtMatmulHeuristicResult_t& result) {
    return result.state != CUBLAS_STATUS_SUCCESS || result.workspaceSize > kWorkspaceBytes ||
           !is_deterministic(result.algo);
  });
  if (found.empty())
    throw SystemError("cublasLtMatmulAlgoGetHeuristic", "no deterministic algorithm for " + describe(gemm));
  return found;
}

// Microseconds each; empty where memory is too short for a copy. What accumulates is measured on a copy of c;
// other products may be computed into c many times, since the last one counts.
std::vector<double> CublasLtPlans::measure(const GemmDescription& gemm, const Plan& plan,
                                           const Candidates& candidates, GemmPointers pointers,
                                           cudaStream_t stream) const {
  DeviceMemory copy;
  if (gemm.accumulate) {
    copy = allocate_if_possible(bytes_spanned(gemm.c));
    if (!copy) return {};
    pointers.c = copy.get();
    check(cudaMemsetAsync(copy.get(), 0, bytes_spanned(gemm.c), stream), "cudaMemsetAsync");
  }
  const Stopwatch watch(stream);
  std::vector<double> us;
  for (const cublasLtMatmulHeuristicResult_t& candidate : candidates) {
    Plan tried = plan;
    tried.algorithm = candidate.algo;
    tried.workspace_bytes = candidate.workspaceSize;
    us.push_back(std::numeric_limits<double>::infinity());
    if (enqueue(tried, pointers, stream) != CUBLAS_STATUS_SUCCESS) continue;  // this run loads its code, too
    for (int round = 0; round < kRounds; ++round)
      us.back() = std::min(us.back(), watch.microseconds([&] {
        for (int i = 0; i < kRunsPerRound; ++i)
          check(enqueue(tried, pointers, stream), "cublasLtMatmul", &gemm);
      }) / kRunsPerRound);
  }
  if (std::ranges::all_of(us, [](double time) { return std::isinf(time); }))
    throw SystemError("cublasLtMatmul", "none of the library's algorithms runs for " + describe(gemm));
  return us;
}

cublasStatus_t CublasLtPlans::enqueue(Plan& plan, const GemmPointers& pointers, cudaStream_t stream) const {
  const float alpha = 1;
  return cublasLtMatmul(handle_.get(), &plan.operation, &alpha, pointers.a, &plan.a, pointers.b, &plan.b,
                        &plan.beta, pointers.c, &plan.c, pointers.c, &plan.c, &plan.algorithm, memory_.get(),
                        plan.workspace_bytes, stream);
}

}  // namespace terroir::cuda
