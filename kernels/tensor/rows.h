// Strided views of one shape as rows of contiguous elements: what elementwise backends loop over.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/tensor/view.h"

namespace terroir {

// The common shape of N views with neighbouring dimensions merged wherever all of them allow it, innermost
// last. So a contiguous view is one row, and a slice of columns is as many rows as the tensor has.
template <std::size_t N>
class Rows {
 public:
  // REQUIRES: all views have the shape of the first.
  explicit Rows(const std::array<ConstView, N>& views) : views_(views) {
    const ConstView& first = views[0];
    for (int dim = 0; dim < first.rank(); ++dim) {
      if (first.size(dim) == 1) continue;
      if (rank_ > 0 && can_merge(dim)) {
        shape_[rank_ - 1] *= first.size(dim);
      } else {
        shape_[rank_++] = first.size(dim);
      }
      for (std::size_t v = 0; v < N; ++v) strides_[v][rank_ - 1] = views[v].stride(dim);
    }
    // Where the innermost dimension has size 1, what is innermost now may not be contiguous: rows of one
    // element.
    bool contiguous = true;
    for (std::size_t v = 0; v < N; ++v)
      contiguous = contiguous && (rank_ == 0 || strides_[v][rank_ - 1] == 1);
    outer_rank_ = contiguous && rank_ > 0 ? rank_ - 1 : rank_;
  }

  std::int64_t numel() const { return views_[0].numel(); }
  // The dimensions that number rows: at most 3, since a fourth is innermost and contiguous.
  int outer_rank() const { return outer_rank_; }
  std::int64_t outer_size(int dim) const { return shape_[dim]; }
  std::int64_t outer_stride(std::size_t view, int dim) const { return strides_[view][dim]; }
  std::int64_t row_length() const { return outer_rank_ < rank_ ? shape_[rank_ - 1] : 1; }
  // Where row `row` of view `view` begins, in elements.
  std::int64_t offset(std::size_t view, std::int64_t row) const {
    std::int64_t offset = 0;
    for (int dim = outer_rank_ - 1; dim >= 0; --dim) {
      offset += row % shape_[dim] * strides_[view][dim];
      row /= shape_[dim];
    }
    return offset;
  }

 private:
  bool can_merge(int dim) const {
    for (std::size_t v = 0; v < N; ++v)
      if (strides_[v][rank_ - 1] != views_[v].size(dim) * views_[v].stride(dim)) return false;
    return true;
  }

  std::array<ConstView, N> views_;
  std::array<std::int64_t, ConstView::kMaxRank> shape_{};
  std::array<std::array<std::int64_t, ConstView::kMaxRank>, N> strides_{};
  int rank_ = 0, outer_rank_ = 0;
};

}  // namespace terroir
