#include "parallel/communicator.h"

namespace terroir {

void Work::wait() {
  if (!pending_) return;
  pending_->wait();
  pending_.reset();
}

void Communicator::barrier(const Stream& stream, std::string_view what) {
  std::int32_t token = 0;
  all_reduce(View(&token, DType::kI32, {1}), ReduceOp::kMax, stream, what).wait();
}

}  // namespace terroir
