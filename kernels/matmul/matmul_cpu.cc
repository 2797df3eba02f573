#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/matmul/matmul.h"

namespace terroir::cpu {
namespace {

// oneDNN takes as many threads as OpenMP would, a setting of the calling thread: ranks that are threads of
// one process do not disturb each other.
class OmpThreads {
 public:
  explicit OmpThreads(int num_threads) : before_(omp_get_max_threads()) { omp_set_num_threads(num_threads); }
  ~OmpThreads() { omp_set_num_threads(before_); }
  OmpThreads(const OmpThreads&) = delete;
  OmpThreads& operator=(const OmpThreads&) = delete;

 private:
  int before_;
};

// Elements from one row to the next. A single row may have any stride, but BLAS wants one that could hold the
// row.
std::int64_t leading_dimension(const ConstView& view) {
  return std::max({view.stride(0), view.size(1), std::int64_t{1}});
}

void clear(const View& c) {
  for (std::int64_t row = 0; row < c.size(0); ++row)
    std::memset(c.data<float>() + row * c.stride(0), 0, static_cast<std::size_t>(c.size(1)) * sizeof(float));
}

}  // namespace

void matmul(OpContext& ctx, const MatmulArgs& args) {
  const auto& [a, b, c, options] = args;
  const std::int64_t m = c.size(0), n = c.size(1), k = a.size(options.transpose_a ? 0 : 1);
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (!options.accumulate) clear(c);
    return;
  }
  const OmpThreads threads(ctx.num_threads);
  const dnnl_status_t status =
      dnnl_sgemm(options.transpose_a ? 'T' : 'N', options.transpose_b ? 'T' : 'N', m, n, k, 1.0F,
                 a.data<float>(), leading_dimension(a), b.data<float>(), leading_dimension(b),
                 options.accumulate ? 1.0F : 0.0F, c.data<float>(), leading_dimension(c));
  if (status != dnnl_success)
    throw SystemError("dnnl_sgemm",
                      fmt::format("status {} for a product of {}x{}x{}", static_cast<int>(status), m, n, k));
}

}  // namespace terroir::cpu
