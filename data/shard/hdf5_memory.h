// An HDF5 file that exists only in memory until its bytes are taken.
#pragma once

#include <cstddef>
#include <span>

#include "data/shard/hdf5.h"

namespace terroir {

// H5Fget_file_image() would be the plain way, but for files of the 1.10 format it changes the superblock
// without its checksum (HDF5 1.10.8), and such an image cannot be opened. So the memory is ours, through the
// core driver's image callbacks, and outlives the file: after H5Fclose it holds the closed file.
class Hdf5Memory {
 public:
  Hdf5Memory() = default;
  ~Hdf5Memory();
  Hdf5Memory(const Hdf5Memory&) = delete;
  Hdf5Memory& operator=(const Hdf5Memory&) = delete;

  // Makes files created with `file_access` lie here. REQUIRES: one file only, closed before this is
  // destroyed.
  void attach(hid_t file_access);
  // The file. REQUIRES: closed.
  std::span<const std::byte> bytes() const;

 private:
  static void* resize(void* old, std::size_t size, H5FD_file_image_op_t, void* self);
  static herr_t release(void* memory, H5FD_file_image_op_t, void* self);

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace terroir
