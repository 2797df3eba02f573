// Page-locked host memory that operations on device tensors borrow.
#pragma once

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "kernels/tensor/device.h"

namespace terroir {

// Used by one thread.
class StagingPool {
 public:
  explicit StagingPool(Device device) : device_(device) {}

  // A block on loan, given back by its destructor: to be used again once `last_use` is complete.
  class Block {
   public:
    Block() = default;
    Block(StagingPool* pool, std::size_t index) : pool_(pool), index_(index) {}
    ~Block() {
      if (pool_ != nullptr) pool_->blocks_[index_].free = true;
    }
    Block(Block&& other) noexcept : pool_(std::exchange(other.pool_, nullptr)), index_(other.index_) {}
    Block& operator=(Block&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(index_, other.index_);
      return *this;
    }
    void* bytes() const { return pool_->blocks_[index_].memory.raw(); }
    // Host memory for a tensor of this dtype and shape.
    View like(const ConstView& tensor) const { return view_at(bytes(), tensor); }
    // Enqueued last on this memory.
    Event& last_use() { return pool_->blocks_[index_].last_use; }

   private:
    StagingPool* pool_ = nullptr;
    std::size_t index_ = 0;
  };

  // Memory as a contiguous host tensor of this dtype and shape.
  static View view_at(void* memory, const ConstView& like) {
    return View(memory, like.dtype(), {like.numel()}).reshape_like(like);
  }

  // A free block for `bytes`, or a new one.
  Block take(std::int64_t bytes) {
    const auto capacity = static_cast<std::int64_t>(
        std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 256))));
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      if (blocks_[i].free && blocks_[i].memory.bytes() == capacity) return lend(i);
    blocks_.push_back({Buffer::pinned(capacity, device_), Event(device_), true});
    return lend(blocks_.size() - 1);
  }

 private:
  struct Entry {
    Buffer memory;
    Event last_use;
    bool free = true;
  };
  Block lend(std::size_t index) {
    blocks_[index].last_use.wait();
    blocks_[index].free = false;
    return {this, index};
  }

  Device device_;
  std::vector<Entry> blocks_;
};

}  // namespace terroir
