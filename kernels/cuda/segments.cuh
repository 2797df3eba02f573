// Many tensors in one launch: what an elementwise op over lists of tensors passes to its kernel by value, so
// that no list has to be copied to the device.
#pragma once

#include "kernels/cuda/device.cuh"

namespace terroir::cuda {

// Tensors cut into chunks that are numbered through; a block works on one chunk at a time. Segment is plain
// data with `std::int64_t n`, its number of elements, and `unsigned first_chunk`.
template <class Segment>
struct Segments {
  // All of a kernel's parameters must fit into 4 KiB; 64 bytes are for the others.
  static constexpr int kCapacity = (4096 - 64) / static_cast<int>(sizeof(Segment));

  Segment all[kCapacity];
  int count = 0;
  unsigned num_chunks = 0;

  // Which segment a chunk belongs to.
  __device__ __forceinline__ int index_of(unsigned chunk) const {
    int low = 0, high = count;  // all[low].first_chunk <= chunk < all[high].first_chunk
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (all[middle].first_chunk <= chunk ? low : high) = middle;
    }
    return low;
  }
};

// Calls launch_list(segments) for as many full lists as it takes; empty segments are left out. `make(i)`
// returns the i-th of `count` segments.
template <class Segment, class Make, class LaunchList>
void for_each_list(std::size_t count, std::int64_t chunk_elements, Make make, LaunchList launch_list) {
  Segments<Segment> list;
  for (std::size_t i = 0; i < count; ++i) {
    Segment segment = make(i);
    if (segment.n == 0) continue;
    segment.first_chunk = list.num_chunks;
    list.num_chunks += static_cast<unsigned>(ceil_div(segment.n, chunk_elements));
    list.all[list.count++] = segment;
    if (list.count < Segments<Segment>::kCapacity) continue;
    launch_list(list);
    list.count = 0;
    list.num_chunks = 0;
  }
  if (list.count > 0) launch_list(list);
}

}  // namespace terroir::cuda
