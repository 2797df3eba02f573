#include "data/shard/hdf5_memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace terroir {
namespace {

constexpr std::size_t kGrowthBytes = 4096;

void* allocate(std::size_t size, H5FD_file_image_op_t, void*) { return std::malloc(size); }
void* copy(void* to, const void* from, std::size_t size, H5FD_file_image_op_t, void*) {
  return std::memcpy(to, from, size);
}
// The library keeps several references to the one owner and destroys none.
void* share_owner(void* owner) { return owner; }
herr_t drop_owner(void*) { return 0; }

}  // namespace

Hdf5Memory::~Hdf5Memory() { std::free(data_); }

void* Hdf5Memory::resize(void* old, std::size_t size, H5FD_file_image_op_t, void* self) {
  void* grown = std::realloc(old, size);
  if (grown == nullptr) return nullptr;
  static_cast<Hdf5Memory*>(self)->data_ = static_cast<std::byte*>(grown);
  static_cast<Hdf5Memory*>(self)->size_ = size;
  return grown;
}

herr_t Hdf5Memory::release(void* memory, H5FD_file_image_op_t, void* self) {
  if (memory != static_cast<Hdf5Memory*>(self)->data_) std::free(memory);
  return 0;
}

std::span<const std::byte> Hdf5Memory::bytes() const {
  // The memory grows in steps; where the file ends, its superblock says (version 3: eight bytes at byte 28).
  constexpr std::size_t kVersionAt = 8, kEndOfFileAt = 28;
  std::uint64_t end = 0;
  TERROIR_CHECK(size_ > kEndOfFileAt + sizeof(end) && data_[kVersionAt] == std::byte{3},
                "superblock of {} bytes", size_);
  std::memcpy(&end, data_ + kEndOfFileAt, sizeof(end));
  TERROIR_CHECK(end <= size_, "the superblock says {} bytes, {} are there", end, size_);
  return {data_, static_cast<std::size_t>(end)};
}

void Hdf5Memory::attach(hid_t file_access) {
  H5FD_file_image_callbacks_t callbacks = {allocate, copy, resize, release, share_owner, drop_owner, this};
  if (H5Pset_fapl_core(file_access, kGrowthBytes, /*backing_store=*/false) < 0 ||
      H5Pset_file_image_callbacks(file_access, &callbacks) < 0)
    throw SystemError("H5Pset_file_image_callbacks", hdf5_error_text());
}

}  // namespace terroir
