// cuBLASLt: a handle, workspace, and one plan for each kind of product, with the algorithm chosen for it.
//
// Determinism. An algorithm's plain sums and split-K sums whose parts are kept as f32 in the workspace and
// added up in a separate step (CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) are allowed. Two schemes are not:
// INPLACE, where blocks add to the output one after another ("counters guarantee the sequentiality", which is
// no promise of an order) and round the sum to the output's dtype each time, and OUTPUT_TYPE, which rounds
// parts. NVIDIA's promise of equal bits at every run (cuBLAS, "Results Reproducibility") holds for equal GPUs
// and library versions, and with several streams for cublasLtMatmul with workspace of the caller's own: each
// context has its own here.
#pragma once

#include <cublasLt.h>

#include <map>
#include <vector>

#include "base/handle.h"
#include "kernels/cuda/cuda_error.h"
#include "kernels/matmul/gemm_choice.h"
#include "kernels/matmul/gemm_description.h"

namespace terroir::cuda {

// Throws SystemError("<call>", "<status> <gemm>").
void check(cublasStatus_t status, const char* call, const GemmDescription* gemm = nullptr);

struct CublasLtTraits {
  using type = cublasLtHandle_t;
  static type invalid() { return nullptr; }
  static void release(type handle) noexcept { cublasLtDestroy(handle); }
};

struct DeviceMemoryTraits {
  using type = void*;
  static type invalid() { return nullptr; }
  static void release(type memory) noexcept { cudaFree(memory); }
};
using DeviceMemory = Handle<DeviceMemoryTraits>;

struct GemmPointers {
  const void *a, *b;
  void* c;
  const void* bias;
};

class CublasLtPlans {
 public:
  static constexpr const char* kName = "cuBLASLt";
  // What NVIDIA recommends for Hopper (cuBLAS, cublasSetWorkspace).
  static constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
  // Zeros behind the workspace, for products of nothing.
  static constexpr std::size_t kZeroBytes = std::size_t{1} << 20;

  // On the calling thread's device. Allocates what is used later: 33 MiB.
  CublasLtPlans();

  // Enqueues the product. The first of its kind chooses the algorithm as `choices` says and records it there.
  void run(const GemmDescription& gemm, const GemmPointers& pointers, GemmChoices& choices,
           cudaStream_t stream);
  const void* zeros() const { return static_cast<char*>(memory_.get()) + kWorkspaceBytes; }

 private:
  struct Plan {
    cublasLtMatmulDescOpaque_t operation;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    std::size_t workspace_bytes;
    float beta;
  };
  using Candidates = std::vector<cublasLtMatmulHeuristicResult_t>;

  Plan make(const GemmDescription& gemm, const GemmPointers& pointers, GemmChoices& choices,
            cudaStream_t stream);
  bool take(const std::string& wanted, Plan& plan) const;
  Candidates candidates(const GemmDescription& gemm, Plan& plan, int count) const;
  std::vector<double> measure(const GemmDescription& gemm, const Plan& plan, const Candidates& candidates,
                              GemmPointers pointers, cudaStream_t stream) const;
  cublasStatus_t enqueue(Plan& plan, const GemmPointers& pointers, cudaStream_t stream) const;

  Handle<CublasLtTraits> handle_;
  DeviceMemory memory_;
  std::string library_;
  std::map<GemmDescription, Plan> plans_;
  int generation_ = 0;  // of the choices that plans_ follow
};

}  // namespace terroir::cuda
