#include "trainer/checkpoint/slice.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace terroir {
namespace {

std::int64_t product(const std::vector<std::int64_t>& sizes) {
  std::int64_t result = 1;
  for (const std::int64_t size : sizes) result *= size;
  return result;
}

// Rows of dimension 0, in the tensor's coordinates, that the slice's range touches.
struct Rows {
  std::int64_t begin, end;
};
Rows rows_of(const StateSlice& slice) {
  const std::int64_t row =
      std::max<std::int64_t>(slice.box.numel() / std::max<std::int64_t>(slice.box.shape[0], 1), 1);
  return {slice.box.start[0] + slice.begin / row, slice.box.start[0] + (slice.end + row - 1) / row};
}

bool meet(std::int64_t a_begin, std::int64_t a_end, std::int64_t b_begin, std::int64_t b_end) {
  return std::max(a_begin, b_begin) < std::min(a_end, b_end);
}

// Place of a point of the tensor in the box's row-major order.
std::int64_t offset_in(const Box& box, const std::vector<std::int64_t>& point) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < point.size(); ++d) offset = offset * box.shape[d] + (point[d] - box.start[d]);
  return offset;
}

// Copies what both ranges hold of `length` elements that begin at `point` and run along the last dimension.
void copy_run(const StateSlice& from, const StateSlice& to, const std::vector<std::int64_t>& point,
              std::int64_t length, std::vector<bool>& covered) {
  const std::int64_t from_offset = offset_in(from.box, point), to_offset = offset_in(to.box, point);
  const std::int64_t first = std::max({std::int64_t{0}, from.begin - from_offset, to.begin - to_offset});
  const std::int64_t last = std::min({length, from.end - from_offset, to.end - to_offset});
  if (first >= last) return;
  const std::int64_t target = to_offset + first - to.begin;
  std::memcpy(to.data + target, from.data + (from_offset + first - from.begin),
              static_cast<std::size_t>(last - first) * sizeof(float));
  std::fill_n(covered.begin() + target, last - first, true);
}

}  // namespace

std::int64_t Box::numel() const { return product(shape); }

Box whole_box(const std::vector<std::int64_t>& shape) {
  return {std::vector<std::int64_t>(shape.size(), 0), shape};
}

StateSlice whole_slice(std::string tensor, std::string state, const std::vector<std::int64_t>& shape,
                       float* data) {
  return {std::move(tensor), std::move(state), shape, whole_box(shape), 0, product(shape), data};
}

void check_slice(const StateSlice& slice) {
  const std::size_t rank = slice.global_shape.size();
  TERROIR_CHECK(rank >= 1 && slice.box.start.size() == rank && slice.box.shape.size() == rank,
                "{}: box of {} dimensions, tensor of {}", slice.tensor, slice.box.shape.size(), rank);
  for (std::size_t d = 0; d < rank; ++d)
    TERROIR_CHECK(slice.box.start[d] >= 0 && slice.box.shape[d] >= 0 &&
                      slice.box.start[d] + slice.box.shape[d] <= slice.global_shape[d],
                  "{}: box [{}, +{}) in dimension {} of size {}", slice.tensor, slice.box.start[d],
                  slice.box.shape[d], d, slice.global_shape[d]);
  TERROIR_CHECK(0 <= slice.begin && slice.begin <= slice.end && slice.end <= slice.box.numel(),
                "{}: range [{}, {}) of a box of {}", slice.tensor, slice.begin, slice.end, slice.box.numel());
}

bool may_overlap(const StateSlice& a, const StateSlice& b) {
  if (a.begin == a.end || b.begin == b.end) return false;
  if (a.box == b.box) return a.begin < b.end && b.begin < a.end;
  for (std::size_t d = 1; d < a.box.shape.size(); ++d)
    if (!meet(a.box.start[d], a.box.start[d] + a.box.shape[d], b.box.start[d],
              b.box.start[d] + b.box.shape[d]))
      return false;
  const Rows a_rows = rows_of(a), b_rows = rows_of(b);
  return meet(a_rows.begin, a_rows.end, b_rows.begin, b_rows.end);
}

void copy_overlap(const StateSlice& from, const StateSlice& to, std::vector<bool>& covered) {
  if (!may_overlap(from, to)) return;
  const std::size_t rank = from.global_shape.size();
  std::vector<std::int64_t> low(rank), high(rank);  // the region both boxes hold
  for (std::size_t d = 0; d < rank; ++d) {
    low[d] = std::max(from.box.start[d], to.box.start[d]);
    high[d] = std::min(from.box.start[d] + from.box.shape[d], to.box.start[d] + to.box.shape[d]);
  }
  // Only the rows that both ranges touch: a chunk of a large tensor must not cost a walk over all of it.
  low[0] = std::max({low[0], rows_of(from).begin, rows_of(to).begin});
  high[0] = std::min({high[0], rows_of(from).end, rows_of(to).end});
  const std::int64_t length = high[rank - 1] - low[rank - 1];
  std::vector<std::int64_t> point = low;
  for (;;) {
    copy_run(from, to, point, length, covered);
    std::size_t d = rank - 1;  // next run: count up all dimensions but the last
    while (d > 0 && ++point[d - 1] == high[d - 1]) {
      point[d - 1] = low[d - 1];
      --d;
    }
    if (d == 0) return;
  }
}

}  // namespace terroir
