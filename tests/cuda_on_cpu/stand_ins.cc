// What no CPU can run, done by the CPU backend in the order of the stream: cuBLASLt's matrix products.
#include <cuda_runtime.h>

#include <algorithm>
#include <memory>

#include "kernels/cuda/cuda_error.h"
#include "kernels/matmul/matmul.h"

namespace terroir::cuda {
namespace {

// The same matrix as host memory: the emulated device's is.
template <class AnyView>
View on_host(const AnyView& m) {
  if (m.rank() < 2)
    return m ? View(const_cast<void*>(static_cast<const void*>(m.raw())), m.dtype(), {m.numel()}) : View();
  const std::int64_t stride = std::max(m.stride(0), m.size(1));
  const View rows(const_cast<void*>(static_cast<const void*>(m.raw())), m.dtype(), {m.size(0), stride});
  return rows.slice(1, 0, m.size(1));
}

struct Product {
  MatmulArgs args;
  static void run(void* data) {
    const std::unique_ptr<Product> product(static_cast<Product*>(data));
    static thread_local OpContext ctx;
    cpu::matmul(ctx, product->args);
  }
};

}  // namespace

void matmul(OpContext& ctx, const MatmulArgs& args) {
  auto product = std::make_unique<Product>(Product{args});
  product->args.a = on_host(args.a);
  product->args.b = on_host(args.b);
  product->args.c = on_host(args.c);
  product->args.bias = on_host(args.bias);
  check(cudaLaunchHostFunc(static_cast<cudaStream_t>(ctx.stream.native()), Product::run, product.release()),
        "cudaLaunchHostFunc");
}

}  // namespace terroir::cuda
