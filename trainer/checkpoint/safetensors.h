// safetensors files: an 8-byte little-endian header length, a JSON header, and the tensors' bytes without
// gaps. https://github.com/huggingface/safetensors#format
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/hash.h"

namespace terroir {

enum class SafetensorsDType : std::uint8_t {
  kF64,
  kI64,
  kU64,
  kF32,
  kI32,
  kU32,
  kF16,
  kBF16,
  kI16,
  kU16,
  kU8,
  kI8,
  kBool
};
const char* safetensors_name(SafetensorsDType dtype);    // "F32", as in the file
std::int64_t safetensors_bytes(SafetensorsDType dtype);  // of one element

struct SafetensorsTensor {
  std::string name;
  SafetensorsDType dtype = SafetensorsDType::kF32;
  std::vector<std::int64_t> shape;   // row-major; may be empty (a scalar) or hold zeros
  std::uint64_t begin = 0, end = 0;  // bytes, from the start of the file
  std::int64_t numel() const { return static_cast<std::int64_t>(end - begin) / safetensors_bytes(dtype); }
};

// Reads a file that may be hostile. The constructor checks the whole header: memory stays in proportion to
// the file's size, tensors cover it without gap or overlap, sizes match shapes. Problems are UserErrors, exit
// 4, that name the file and the tensor. Const members are safe from several threads.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_.path(); }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }  // in file order
  const SafetensorsTensor* find(const std::string& name) const;               // nullptr: no such tensor

  // Bytes of `tensor` from its byte `offset`. REQUIRES: they lie inside it.
  void read(const SafetensorsTensor& tensor, std::uint64_t offset, std::span<std::byte> out) const;
  // Elements [first, first + out.size()) as f32: F32 as they are, BF16 and F16 converted exactly, others
  // refused.
  void read_f32(const SafetensorsTensor& tensor, std::int64_t first, std::span<float> out) const;

 private:
  InputFile file_;
  std::map<std::string, std::string> metadata_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, std::size_t> index_;
};

// Writes a file front to back, so that memory does not grow with it. The file appears at commit().
class SafetensorsWriter {
 public:
  // `tensors`: names (unique), dtypes and shapes; offsets are computed here. Metadata is {"format": "pt"},
  // without which transformers refuses a file.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<SafetensorsTensor> tensors);

  // In file order: larger elements first, then by name. Data must be appended in this order, without padding.
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }
  void append(std::span<const std::byte> bytes);
  // REQUIRES: every tensor was appended in full. Durable when it returns.
  void commit();

  std::uint64_t bytes_written() const { return file_.bytes_written(); }
  Hash128 hash() const { return hash_.digest(); }  // of all bytes so far

 private:
  AtomicFile file_;
  std::vector<SafetensorsTensor> tensors_;
  Xxh3 hash_;
};

}  // namespace terroir
