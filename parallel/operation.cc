#include "parallel/operation.h"

#include <algorithm>

#include "parallel/message_hash.h"
#include "parallel/progress.h"

namespace terroir {
Operation::Operation(std::shared_ptr<const Group> group, OperationLabel label)
    : group_(std::move(group)), label_(label) {}

void Operation::run_alone() {
  while (next_stage()) {
  }
}

int Operation::tag(int phase) const {
  const std::uint32_t hash = hash_number(label_.identity, static_cast<std::uint32_t>(phase));
  return static_cast<int>((hash ^ (hash >> 15)) & kMaxTag);
}

void Operation::send(int peer, int phase, const void* data, std::int64_t bytes) {
  const auto* begin = static_cast<const std::uint8_t*>(data);
  for (std::int64_t at = 0; at < bytes; at += limits().message_bytes)
    outstanding_.push_back(
        {progress_->carrier_.send(static_cast<int>(group_->queue), group_->ranks[peer], tag(phase),
                                  begin + at, std::min(limits().message_bytes, bytes - at)),
         peer});
}

void Operation::receive(int peer, int phase, void* data, std::int64_t bytes) {
  auto* begin = static_cast<std::uint8_t*>(data);
  for (std::int64_t at = 0; at < bytes; at += limits().message_bytes)
    outstanding_.push_back(
        {progress_->carrier_.receive(static_cast<int>(group_->queue), group_->ranks[peer], tag(phase),
                                     begin + at, std::min(limits().message_bytes, bytes - at)),
         peer});
}

void* Operation::scratch(std::int64_t bytes) {
  if (scratch_.bytes() < bytes) scratch_ = progress_->take_scratch(bytes);
  return scratch_.raw();
}

const MessageLimits& Operation::limits() const { return progress_->options_.limits; }

}  // namespace terroir
