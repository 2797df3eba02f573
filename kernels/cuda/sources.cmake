# Device code, compiled by nvcc for the CUDA module and by the host compiler for the tests that run it on a CPU. Paths
# from the repository root.
set(TERROIR_CUDA_KERNEL_SOURCES
  kernels/adamw/adamw_cuda.cu
  kernels/attention/attention_merge_cuda.cu
  kernels/attention/attention_mma_backward_cuda.cu
  kernels/attention/attention_mma_forward_cuda.cu
  kernels/attention/attention_simt_backward_cuda.cu
  kernels/attention/attention_simt_forward_cuda.cu
  kernels/attention/cudnn_layout_cuda.cu
  kernels/cuda/elementwise_cuda.cu
  kernels/embedding/embedding_backward_cuda.cu
  kernels/embedding/embedding_cuda.cu
  kernels/linear_cross_entropy/linear_cross_entropy_cuda.cu
  kernels/linear_cross_entropy/merge_statistics_cuda.cu
  kernels/loss_sums/loss_sums_cuda.cu
  kernels/qk_norm_rope/qk_norm_rope_backward_cuda.cu
  kernels/qk_norm_rope/qk_norm_rope_forward_cuda.cu
  kernels/rms_norm/rms_norm_backward_cuda.cu
  kernels/rms_norm/rms_norm_forward_cuda.cu
  kernels/rms_norm/sum_parts_cuda.cu
  kernels/rope/rope_cuda.cu
  kernels/squared_norm/squared_norm_cuda.cu
  kernels/step_scalars/step_scalars_cuda.cu
  kernels/swiglu/swiglu_cuda.cu)
# Host code of the module that needs no library but the CUDA runtime.
set(TERROIR_CUDA_HOST_SOURCES
  kernels/attention/attention_cuda.cc
  kernels/cuda/cuda_error.cc
  kernels/cuda/module.cc
  kernels/cuda/runtime.cc)
# Host code that calls CUDA's libraries.
set(TERROIR_CUDA_LIBRARY_SOURCES
  kernels/matmul/cublaslt_plans.cc
  kernels/matmul/matmul_cublaslt.cc)
# cudnn_graph.cc is a target of its own, which a test shares.
set(TERROIR_CUDNN_SOURCES
  kernels/attention/attention_cudnn.cc)
set(TERROIR_NO_CUDNN_SOURCES
  kernels/attention/attention_no_cudnn.cc)
# Host code that calls NCCL.
set(TERROIR_NCCL_SOURCES
  parallel/nccl/nccl_channel.cc
  parallel/nccl/nccl_communicator.cc
  parallel/nccl/nccl_world.cc
  parallel/nccl/watch.cc)
