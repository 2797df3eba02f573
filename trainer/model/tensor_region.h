// The borders of a tensor-parallel region: between layers each tensor rank holds some tokens (sequence
// parallelism, Korthikanti et al. 2022) or all of them; inside a layer it holds all tokens and a part of the
// heads or columns.
#pragma once

#include <string_view>

#include "kernels/tensor/view.h"
#include "parallel/communicator.h"

namespace terroir {

// Legend: T tokens of a micro-batch, L of them local to this rank (L = T without sequence parallelism), H
// hidden. Gathering into a region and reducing out of it are each other's backward.
class TensorRegion {
 public:
  TensorRegion(Communicator& tensor, bool sequence_parallel, std::int64_t num_tokens)
      : tensor_(tensor), num_tokens_(num_tokens), splits_(sequence_parallel && tensor.size() > 1) {}

  int rank() const { return tensor_.rank(); }
  int size() const { return tensor_.size(); }
  Communicator& group() const { return tensor_; }
  std::int64_t num_tokens() const { return num_tokens_; }
  Range local_tokens() const {
    return splits_ ? split_range(num_tokens_, tensor_.size(), tensor_.rank()) : Range{0, num_tokens_};
  }

  // local [L, H] -> all tokens [T, H]: `local` itself where nothing is split, else `scratch`, filled.
  // Collective over the tensor group; complete on return.
  View gather(View local, View scratch, const Stream& stream, std::string_view what) const {
    if (!splits_) return local;
    tensor_.all_gather(local, scratch, stream, what).wait();
    return scratch;
  }
  // Where each rank writes its summand [T, H] of a result that reduce() then sums: `local` itself if that has
  // room.
  View partial(View local, View scratch) const { return splits_ ? scratch : local; }
  // Sums what partial() returned over the tensor ranks into local [L, H]. Collective; complete on return.
  void reduce(View partial, View local, const Stream& stream, std::string_view what) const {
    if (splits_) {
      tensor_.reduce_scatter(partial, local, stream, what).wait();
    } else if (tensor_.size() > 1) {
      tensor_.all_reduce(local, ReduceOp::kSum, stream, what).wait();
    }
  }

 private:
  Communicator& tensor_;
  std::int64_t num_tokens_;
  bool splits_;
};

}  // namespace terroir
