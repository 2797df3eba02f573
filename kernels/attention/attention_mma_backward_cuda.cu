// Attention backward on tensor cores. With P = exp(scale q k^T - lse), dP = dout v^T, delta = <o, dout>:
//   dS = P (dP - delta)     dq = scale dS k     dk = scale dS^T q     dv = P^T dout
// One kernel template, of which a block owns what it writes: a tile of keys (dk, dv), while the tiles of
// queries that see them pass by, or a tile of queries (dq) and the keys pass by. Both compute scores and dP:
// seven products instead of five, and no sum depends on the order of blocks. What a warp's rows of the own
// tile give with a passing tile is at once the left factor of the next products, in registers.
#include <cmath>

#include "kernels/attention/attention_mma_backward.cuh"
#include "kernels/attention/attention_own.h"

namespace terroir::cuda {
namespace attention::mma {
namespace {

// A lane has 16 bytes of a row at a time, 16 lanes have a row.
constexpr int kDeltaThreads = 256, kDeltaLanes = 16;

__global__ void __launch_bounds__(kDeltaThreads, 4)
    delta_kernel(const BackwardProblem p, const HeadRows<const BFloat> o, std::int64_t num_rows) {
  const std::int64_t index = (std::int64_t{blockIdx.x} * kDeltaThreads + threadIdx.x) / kDeltaLanes;
  const std::int64_t row = min(index, num_rows - 1);  // whole warps work
  const std::int64_t token = row / p.in.num_heads % p.in.num_queries;
  const std::int64_t batch = row / p.in.num_heads / p.in.num_queries, head = row % p.in.num_heads;
  const BFloat *o_row = o.row(batch, token, head), *dout_row = p.dout.row(batch, token, head);
  float sum = 0;
  for (int column = static_cast<int>(threadIdx.x) % kDeltaLanes * 8; column < p.in.head_size;
       column += kDeltaLanes * 8) {
    const auto a = load_vector(o_row + column), b = load_vector(dout_row + column);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum = fmaf(to_float(a.v[i]), to_float(b.v[i]), sum);
  }
#pragma unroll
  for (int offset = kDeltaLanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
  if (index < num_rows && threadIdx.x % kDeltaLanes == 0)
    p.deltas[(batch * p.in.num_heads + head) * p.in.num_queries + token] = sum;
}

template <int kThreads, class T>
__device__ __forceinline__ void copy_queries(const BackwardProblem& p, const QueryTile& tile, BFloat* q,
                                             BFloat* dout) {
  const int batch = static_cast<int>(blockIdx.z);
  const auto copy = [&](const HeadRows<const BFloat>& x, BFloat* to) {
    copy_rows<kThreads>(T{to}, p.in.head_size, tile.count, [&](int row) {
      const int2 query = tile.at(row);
      return x.row(batch, query.x, query.y);
    });
  };
  copy(p.in.q, q);
  copy(p.dout, dout);
}

__device__ __forceinline__ QueryStatistics statistics_at(const BackwardProblem& p, const QueryTile& tile,
                                                         int row) {
  const std::int64_t batch = blockIdx.z;
  const int2 query = tile.at(row);
  if (row >= tile.count) return {INFINITY, 0};  // 2^(s - lse) is 0
  return {kLog2E * p.lse[batch * p.lse_batch_stride + query.y * p.lse_head_stride + query.x],
          p.deltas[(batch * p.in.num_heads + query.y) * p.in.num_queries + query.x]};
}

// Tiles of queries or keys, as own or as passing ones.
template <class C>
class Block {
 public:
  __device__ __forceinline__ Block(const BackwardProblem& p, BackwardShared<C>& shared)
      : p_(p), shared_(shared), group_(group_of_block(p.in)) {}

  __device__ __forceinline__ void run() {
    const int part = C::kParts == 1 ? 0 : static_cast<int>(blockIdx.x) % C::kParts;
    const int block = static_cast<int>(blockIdx.x) / C::kParts,
              num_blocks = static_cast<int>(gridDim.x) / C::kParts;
    // Late queries see most, early keys are seen by most: these first.
    const int first = (C::kQueriesOwn ? num_blocks - 1 - block : block) * C::kOwn;
    if (first >= (C::kQueriesOwn ? group_.num_queries : num_keys())) return;
    load_own(first);
    Accumulator<C> accumulator;
    pass_tiles(accumulator, part * C::kColumns);
    if constexpr (C::kQueriesOwn) {
      write_queries(accumulator, first);
    } else {
      write_keys(accumulator, first, part * C::kColumns);
    }
  }

 private:
  static constexpr unsigned kWarpRows = 16;
  using KeyTile = std::conditional_t<C::kQueriesOwn, typename C::Passing, typename C::Own>;
  using QueryRows = std::conditional_t<C::kQueriesOwn, typename C::Own, typename C::Passing>;

  __device__ __forceinline__ int num_keys() const { return static_cast<int>(p_.in.num_keys); }
  __device__ __forceinline__ static unsigned row() { return threadIdx.x / kWarpSize * kWarpRows; }

  __device__ __forceinline__ void copy_keys(int first, BFloat* k, BFloat* v) const {
    const KeyCopy<C::kThreads, KeyTile> k_copy(p_.in.k, group_.batch, group_.kv_head),
        v_copy(p_.in.v, group_.batch, group_.kv_head);
    k_copy.start({k}, p_.in.k, first, num_keys(), p_.in.head_size);
    v_copy.start({v}, p_.in.v, first, num_keys(), p_.in.head_size);
  }

  // The own tile, and what is known of it.
  __device__ __forceinline__ void load_own(int first) {
    Extent extent;
    if constexpr (C::kQueriesOwn) {
      const QueryTile tile(group_, first, C::kOwn);
      copy_queries<C::kThreads, QueryRows>(p_, tile, shared_.own[0], shared_.own[1]);
      for (int i = threadIdx.x; i < C::kOwn; i += C::kThreads) {
        shared_.own_ids[i] = ids_at(p_.in.queries, group_.batch, tile.at(i).x);
        shared_.statistics[i] = statistics_at(p_, tile, i);
      }
      extent = extent_of(p_.in.queries, group_.batch, tile.first_token, tile.at(C::kOwn).x + 1);
    } else {
      copy_keys(first, shared_.own[0], shared_.own[1]);
      for (int i = threadIdx.x; i < C::kOwn; i += C::kThreads)
        shared_.own_ids[i] = ids_at(p_.in.keys, group_.batch, min(first + i, num_keys() - 1));
      extent = extent_of(p_.in.keys, group_.batch, first, min(first + C::kOwn, num_keys()));
    }
    if (threadIdx.x == 0) shared_.walk.own = extent;
  }

  // Ids and statistics of a passing tile's row, on their way from memory to shared memory.
  struct Ahead {
    int2 ids;
    QueryStatistics statistics;
  };
  // Starts the copies of a passing tile; each of the first threads gets one row's ids and statistics.
  __device__ __forceinline__ Ahead fetch(int tile, int stage) const {
    const int first = tile * C::kPassing, thread = static_cast<int>(threadIdx.x);
    Ahead ahead = {};
    if constexpr (C::kQueriesOwn) {
      copy_keys(first, shared_.passing[stage][0], shared_.passing[stage][1]);
      if (thread < C::kPassing)
        ahead.ids = ids_at(p_.in.keys, group_.batch, min(first + thread, num_keys() - 1));
    } else {
      const QueryTile queries(group_, first, C::kPassing);
      copy_queries<C::kThreads, QueryRows>(p_, queries, shared_.passing[stage][0], shared_.passing[stage][1]);
      if (thread < C::kPassing) {
        ahead.ids = ids_at(p_.in.queries, group_.batch, queries.at(thread).x);
        ahead.statistics = statistics_at(p_, queries, thread);
      }
    }
    cp_async_commit();
    return ahead;
  }
  __device__ __forceinline__ void store(const Ahead& ahead, int stage) const {
    if (threadIdx.x >= C::kPassing) return;
    shared_.passing_ids[stage][threadIdx.x] = ahead.ids;
    if constexpr (!C::kQueriesOwn)
      shared_.statistics[stage * C::kPassing + static_cast<int>(threadIdx.x)] = ahead.statistics;
  }

  // While one stage is worked on, the other arrives.
  __device__ __forceinline__ void pass_tiles(Accumulator<C>& accumulator, int first_column) {
    Walk<C::kOwner, C::kPassing> walk(C::kQueriesOwn ? p_.in.keys : p_.in.queries,
                                      C::kQueriesOwn ? num_keys() : group_.num_queries, group_, shared_.walk);
    int stage = 0;
    Ahead ahead = {};
    Visit visit = walk.next(0);
    if (visit.tile >= 0) ahead = fetch(visit.tile, stage);
    while (visit.tile >= 0) {
      store(ahead, stage);
      cp_async_wait<0>();
      __syncthreads();  // this stage has arrived; the other has been read
      const Visit next = walk.next(visit.tile + 1);
      if (next.tile >= 0) ahead = fetch(next.tile, 1 - stage);
      accumulator.add(shared_, stage, row(), first_column, p_.in.scale, visit.sight == kSeesSome,
                      num_keys() - visit.tile * C::kPassing);
      stage = 1 - stage;
      visit = next;
    }
  }

  __device__ __forceinline__ void write_queries(const Accumulator<C>& accumulator, int first) const {
    const QueryTile tile(group_, first, C::kOwn);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int r = static_cast<int>(row() + fragment_row()) + 8 * h;
      if (r >= tile.count) continue;
      const int2 query = tile.at(r);
      put_row(p_.dq.row(group_.batch, query.x, query.y), accumulator.sums, h, 0, p_.in.head_size,
              p_.in.scale);
    }
  }
  __device__ __forceinline__ void write_keys(const Accumulator<C>& accumulator, int first,
                                             int first_column) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int key = first + static_cast<int>(row() + fragment_row()) + 8 * h;
      if (key >= num_keys()) continue;
      put_row(p_.dk.row(group_.batch, key, group_.kv_head), accumulator.sums, h, first_column,
              p_.in.head_size, p_.in.scale);
      put_row(p_.dv.row(group_.batch, key, group_.kv_head), accumulator.dv, h, first_column, p_.in.head_size,
              1);
    }
  }

  const BackwardProblem& p_;
  BackwardShared<C>& shared_;
  const Group group_;
};

template <class C>
__global__ void __launch_bounds__(C::kThreads, C::kBlocks) backward_kernel(const BackwardProblem p) {
  DYNAMIC_SHARED(unsigned char, memory);
  Block<C>(p, *reinterpret_cast<BackwardShared<C>*>(memory)).run();
}

template <class C>
void run(OpContext& ctx, const AttentionInputs& inputs, const BackwardProblem& p) {
  const dim3 grid = C::kQueriesOwn ? query_grid(inputs, C::kOwn) : key_grid(inputs, C::kOwn, C::kParts);
  allow_shared_memory(backward_kernel<C>, sizeof(BackwardShared<C>));
  launch(backward_kernel<C>, grid, C::kThreads, sizeof(BackwardShared<C>), native_stream(ctx), p);
}

// Calls body(BackwardConfig(), BackwardConfig()) for keys and for queries with the smallest instances that a
// head fits.
//   D up to   shared memory   registers (sm_90), keys / queries   warps of an SM of 65,536 registers
//   64        51 KB           220 / 168                           2 x 4 / 3 x 4
//   96        75 KB           254 / 212                           2 x 4 / 2 x 4
//   128       99 KB           246 / 198                           8 / 8
//   256       130 KB          245 / 246                           4 / 4
// 99 KB are what compute capability 8.6 and 8.9 have. With D = 256, dk and dv of all columns would take 256
// registers: two blocks share a tile of keys, and both compute its scores.
template <class Body>
auto for_head_size(std::int64_t head_size, Body&& body) {
  constexpr Owner kKeys = Owner::kKeys, kQueries = Owner::kQueries;
  if (head_size <= 64)
    return body(BackwardConfig<kKeys, 64, 4, 64, 64, 2>(), BackwardConfig<kQueries, 64, 4, 64, 64, 3>());
  if (head_size <= 96)
    return body(BackwardConfig<kKeys, 96, 4, 64, 96, 2>(), BackwardConfig<kQueries, 96, 4, 64, 96, 2>());
  if (head_size <= 128)
    return body(BackwardConfig<kKeys, 128, 8, 32, 128, 1>(), BackwardConfig<kQueries, 128, 8, 32, 128, 1>());
  return body(BackwardConfig<kKeys, 256, 4, 32, 128, 1>(), BackwardConfig<kQueries, 256, 4, 32, 256, 1>());
}

}  // namespace
}  // namespace attention::mma

void attention_backward_mma(OpContext& ctx, const AttentionBackwardArgs& args) {
  using namespace attention;
  const AttentionInputs& inputs = args.inputs;
  const mma::BackwardProblem p = {kernel_inputs<mma::BFloat>(inputs),
                                  head_rows<const mma::BFloat>(args.dout),
                                  head_rows<mma::BFloat>(args.dq),
                                  head_rows<mma::BFloat>(args.dk),
                                  head_rows<mma::BFloat>(args.dv),
                                  static_cast<const float*>(args.lse.raw()),
                                  args.lse.stride(0),
                                  args.lse.stride(1),
                                  static_cast<float*>(args.workspace.raw())};
  const std::int64_t num_rows = inputs.q.size(0) * inputs.q.size(1) * inputs.q.size(2);
  const auto delta_blocks = static_cast<unsigned>(ceil_div(num_rows, mma::kDeltaThreads / mma::kDeltaLanes));
  launch(mma::delta_kernel, dim3(delta_blocks), mma::kDeltaThreads, 0, native_stream(ctx), p,
         head_rows<const mma::BFloat>(args.o), num_rows);
  mma::for_head_size(inputs.q.size(3), [&](auto keys, auto queries) {
    mma::run<decltype(keys)>(ctx, inputs, p);
    mma::run<decltype(queries)>(ctx, inputs, p);
  });
}

std::int64_t attention_backward_mma_shared_bytes(std::int64_t head_size) {
  using namespace attention;
  return mma::for_head_size(head_size, [](auto keys, auto queries) {
    return static_cast<std::int64_t>(std::max(sizeof(mma::BackwardShared<decltype(keys)>),
                                              sizeof(mma::BackwardShared<decltype(queries)>)));
  });
}

}  // namespace terroir::cuda
