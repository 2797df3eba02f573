#include "parallel/reduce.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "kernels/tensor/bfloat16.h"

namespace terroir {
namespace {

// Elements accumulated at a time: stays in the first-level cache, long enough to vectorize.
constexpr std::int64_t kBlock = 1024;

template <class T>
struct Element {
  using Accumulator = T;
  static T load(T value) { return value; }
  static T store(T value) { return value; }
};

template <>
struct Element<BFloat16> {
  using Accumulator = float;
  static float load(BFloat16 value) { return to_float(value); }
  static BFloat16 store(float value) { return from_float<BFloat16>(value); }
};

struct Add {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};

struct Max {
  template <class T>
  static T apply(T a, T b) {
    return b > a || b != b ? b : a;
  }
};

template <class T, class Op>
void reduce_elements(std::span<const void* const> sources, std::int64_t n, T* out) {
  using E = Element<T>;
  typename E::Accumulator sum[kBlock];
  for (std::int64_t begin = 0; begin < n; begin += kBlock) {
    const std::int64_t count = std::min(kBlock, n - begin);
    const T* first = static_cast<const T*>(sources[0]) + begin;
    for (std::int64_t i = 0; i < count; ++i) sum[i] = E::load(first[i]);
    for (const void* source : sources.subspan(1)) {
      const T* next = static_cast<const T*>(source) + begin;
      for (std::int64_t i = 0; i < count; ++i) sum[i] = Op::apply(sum[i], E::load(next[i]));
    }
    for (std::int64_t i = 0; i < count; ++i) out[begin + i] = E::store(sum[i]);
  }
}

template <class T>
void reduce_typed(ReduceOp op, std::span<const void* const> sources, std::int64_t n, void* out) {
  if (op == ReduceOp::kSum)
    reduce_elements<T, Add>(sources, n, static_cast<T*>(out));
  else
    reduce_elements<T, Max>(sources, n, static_cast<T*>(out));
}

}  // namespace

void reduce(DType dtype, ReduceOp op, std::span<const void* const> sources, std::int64_t n, void* out) {
  if (sources.size() == 1 && sources[0] == out)
    return;  // a group of one, in place: no pass over all gradients
  switch (dtype) {
    case DType::kF32:
      return reduce_typed<float>(op, sources, n, out);
    case DType::kBF16:
      return reduce_typed<BFloat16>(op, sources, n, out);
    case DType::kF64:
      return reduce_typed<double>(op, sources, n, out);
    case DType::kI32:
      return reduce_typed<std::int32_t>(op, sources, n, out);
    case DType::kI64:
      return reduce_typed<std::int64_t>(op, sources, n, out);
    case DType::kU8:
      break;
  }
  TERROIR_CHECK(false, "{} cannot be reduced", dtype_name(dtype));
}

}  // namespace terroir
