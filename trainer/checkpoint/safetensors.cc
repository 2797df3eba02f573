#include "trainer/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <tuple>

#include "base/json.h"
#include "trainer/checkpoint/float_formats.h"

namespace terroir {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors bytes are used as they are in memory");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::uint64_t kLengthBytes = 8;

struct DTypeEntry {
  const char* name;
  std::int64_t bytes;
};
// In the order of the enumeration, which is by alignment: what the writer sorts by.
constexpr std::array<DTypeEntry, 13> kDTypes{{{"F64", 8},
                                              {"I64", 8},
                                              {"U64", 8},
                                              {"F32", 4},
                                              {"I32", 4},
                                              {"U32", 4},
                                              {"F16", 2},
                                              {"BF16", 2},
                                              {"I16", 2},
                                              {"U16", 2},
                                              {"U8", 1},
                                              {"I8", 1},
                                              {"BOOL", 1}}};

[[noreturn]] void refuse(const Place& place, const std::string& message) {
  throw UserError(ExitCode::kCheckpoint, place, message);
}

SafetensorsDType parse_dtype(const std::string& name, const Place& place) {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (name == kDTypes[i].name) return static_cast<SafetensorsDType>(i);
  refuse(place, fmt::format("dtype {} is not one this program reads", name));
}

std::vector<std::int64_t> integers_at(const Json& entry, const std::string& name, Place place) {
  const Json list = json_at<Json>(entry, name, place, ExitCode::kCheckpoint);
  if (!list.is_array()) refuse(place, name + " must be a list of integers");
  std::vector<std::int64_t> values;
  for (const Json& item : list) {
    if (!item.is_number_unsigned() || item.get<std::uint64_t>() > std::uint64_t{INT64_MAX})
      refuse(place, fmt::format("{} holds {}, integers from 0 are needed", name, item.dump()));
    values.push_back(item.get<std::int64_t>());
  }
  return values;
}

// Elements times bytes; nothing when that does not fit 64 bits.
std::optional<std::int64_t> checked_bytes(const std::vector<std::int64_t>& shape, SafetensorsDType dtype) {
  std::int64_t bytes = safetensors_bytes(dtype);
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(bytes, size, &bytes)) return std::nullopt;
  return bytes;
}

SafetensorsTensor parse_tensor(const std::string& name, const Json& entry, const Place& place) {
  SafetensorsTensor tensor;
  tensor.name = name;
  tensor.dtype = parse_dtype(json_at<std::string>(entry, "dtype", place, ExitCode::kCheckpoint), place);
  tensor.shape = integers_at(entry, "shape", place);
  const std::vector<std::int64_t> offsets = integers_at(entry, "data_offsets", place);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    refuse(place, "data_offsets must be a begin and an end that is not before it");
  const std::optional<std::int64_t> bytes = checked_bytes(tensor.shape, tensor.dtype);
  if (!bytes) refuse(place, "the number of elements in its shape does not fit 64 bits");
  if (*bytes != offsets[1] - offsets[0])
    refuse(place,
           fmt::format("holds {} bytes where its shape and dtype need {}", offsets[1] - offsets[0], *bytes));
  tensor.begin = static_cast<std::uint64_t>(offsets[0]);
  tensor.end = static_cast<std::uint64_t>(offsets[1]);
  return tensor;
}

std::map<std::string, std::string> parse_metadata(const Json& entry, const Place& place) {
  if (!entry.is_object()) refuse(place, "must be an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) refuse(place, fmt::format("the value of {} must be a string", key));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

// The JSON header's text, after the checks that need no parsing.
std::string read_header(const InputFile& file) {
  const Place place{file.path().string()};
  std::uint64_t length = 0;
  if (file.size() < kLengthBytes)
    refuse(place, fmt::format("{} bytes are too few for a safetensors file: it is truncated", file.size()));
  file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > kMaxHeaderBytes)
    refuse(place, fmt::format("its header claims {} bytes, at most {} are allowed: not a safetensors file",
                              length, kMaxHeaderBytes));
  if (length > file.size() - kLengthBytes)
    refuse(place,
           fmt::format("its header claims {} bytes, the file has {}: it is truncated", length, file.size()));
  std::string header(length, '\0');
  file.read_at(kLengthBytes, std::as_writable_bytes(std::span(header)));
  if (!header.starts_with('{')) refuse(place, "its header does not begin with '{': not a safetensors file");
  return header;
}

// Tensors, sorted by offset, must cover the `data_bytes` after the header exactly.
void check_coverage(const std::vector<SafetensorsTensor>& tensors, std::uint64_t data_bytes,
                    const std::string& file) {
  std::uint64_t position = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.begin != position)
      refuse(Place{file, 0, 0, tensor.name},
             fmt::format(
                 "begins at byte {} of the data where {} was expected: {}", tensor.begin, position,
                 tensor.begin < position ? "it overlaps another tensor" : "bytes between belong to none"));
    position = tensor.end;
  }
  if (position > data_bytes)
    refuse(Place{file}, fmt::format("its tensors need {} bytes, {} are there: the file is truncated",
                                    position, data_bytes));
  if (position < data_bytes)
    refuse(Place{file}, fmt::format("{} bytes after the last tensor belong to none", data_bytes - position));
}

std::string header_text(const std::vector<SafetensorsTensor>& tensors) {
  OrderedJson header;
  header["__metadata__"]["format"] = "pt";
  for (const SafetensorsTensor& tensor : tensors) {
    OrderedJson& entry = header[tensor.name];
    entry["dtype"] = safetensors_name(tensor.dtype);
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.begin, tensor.end};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data begins aligned
  return text;
}

// Sorts into file order and places each tensor after the one before; returns the header. Offsets count from
// the start of the data while the header is made, from the start of the file afterwards.
std::string lay_out(std::vector<SafetensorsTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    const std::int64_t a_bytes = safetensors_bytes(a.dtype), b_bytes = safetensors_bytes(b.dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a.name < b.name;
  });
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    SafetensorsTensor& tensor = tensors[i];
    TERROIR_CHECK(i == 0 || tensors[i - 1].name != tensor.name, "tensor {} is listed twice", tensor.name);
    const std::optional<std::int64_t> bytes = checked_bytes(tensor.shape, tensor.dtype);
    TERROIR_CHECK(bytes.has_value(), "tensor {} is too large", tensor.name);
    tensor.begin = position;
    tensor.end = position + static_cast<std::uint64_t>(*bytes);
    position = tensor.end;
  }
  std::string header = header_text(tensors);
  for (SafetensorsTensor& tensor : tensors) {
    tensor.begin += kLengthBytes + header.size();
    tensor.end += kLengthBytes + header.size();
  }
  return header;
}

}  // namespace

const char* safetensors_name(SafetensorsDType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].name; }
std::int64_t safetensors_bytes(SafetensorsDType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].bytes;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path, ExitCode::kCheckpoint) {
  const std::string name = path.string();
  const std::string text = read_header(file_);
  const Json header =
      parse_json(text, name, ExitCode::kCheckpoint, {.max_bytes = kMaxHeaderBytes, .max_depth = 4});
  for (const auto& [key, entry] : header.items()) {
    const Place place{name, 0, 0, key};
    if (key == "__metadata__") {
      metadata_ = parse_metadata(entry, place);
    } else {
      tensors_.push_back(parse_tensor(key, entry, place));
    }
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::tuple(a.begin, a.end) < std::tuple(b.begin, b.end);
  });
  const std::uint64_t data_begin = kLengthBytes + text.size();
  check_coverage(tensors_, file_.size() - data_begin, name);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    tensors_[i].begin += data_begin;
    tensors_[i].end += data_begin;
    index_[tensors_[i].name] = i;
  }
}

const SafetensorsTensor* SafetensorsFile::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::uint64_t offset,
                           std::span<std::byte> out) const {
  TERROIR_CHECK(offset + out.size() <= tensor.end - tensor.begin, "{}: bytes [{}, +{}) of {}", tensor.name,
                offset, out.size(), tensor.end - tensor.begin);
  file_.read_at(tensor.begin + offset, out);
}

void SafetensorsFile::read_f32(const SafetensorsTensor& tensor, std::int64_t first,
                               std::span<float> out) const {
  if (tensor.dtype == SafetensorsDType::kF32) {
    read(tensor, static_cast<std::uint64_t>(first) * 4, std::as_writable_bytes(out));
    return;
  }
  if (tensor.dtype != SafetensorsDType::kBF16 && tensor.dtype != SafetensorsDType::kF16)
    refuse(Place{path().string(), 0, 0, tensor.name},
           fmt::format("dtype {} where F32, BF16 or F16 is needed", safetensors_name(tensor.dtype)));
  std::vector<std::uint16_t> stored(out.size());
  read(tensor, static_cast<std::uint64_t>(first) * 2, std::as_writable_bytes(std::span(stored)));
  if (tensor.dtype == SafetensorsDType::kBF16) {
    std::transform(stored.begin(), stored.end(), out.begin(),
                   [](std::uint16_t bits) { return float_from_bf16(bits); });
  } else {
    std::transform(stored.begin(), stored.end(), out.begin(),
                   [](std::uint16_t bits) { return float_from_f16(bits); });
  }
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<SafetensorsTensor> tensors)
    : file_(path), tensors_(std::move(tensors)) {
  const std::string header = lay_out(tensors_);
  const std::uint64_t length = header.size();
  TERROIR_CHECK(length <= kMaxHeaderBytes, "{} tensors make a header of {} bytes", tensors_.size(), length);
  append(std::as_bytes(std::span(&length, 1)));
  append(std::as_bytes(std::span(header)));
}

void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  file_.write(bytes);
  hash_.update(bytes);
}

void SafetensorsWriter::commit() {
  const std::uint64_t expected = tensors_.empty() ? file_.bytes_written() : tensors_.back().end;
  TERROIR_CHECK(file_.bytes_written() == expected, "{} of {} bytes were appended", file_.bytes_written(),
                expected);
  file_.commit();
}

}  // namespace terroir
