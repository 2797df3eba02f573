#include "trainer/checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"
#include "trainer/checkpoint/float_formats.h"

namespace terroir {
namespace {

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string length_bytes(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

// A file with this header and as many data bytes, whatever the header says of them.
std::string file_with(const std::string& header, std::size_t data_bytes) {
  return length_bytes(header.size()) + header + std::string(data_bytes, 'x');
}

std::string read_back(const std::filesystem::path& path) { return read_file(path, ExitCode::kCheckpoint); }

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST(SafetensorsWriter, WritesTheBytesOfTheFormat) {
  TemporaryFolder folder;
  // f32 before bf16 (larger elements first), then by name.
  SafetensorsWriter writer(folder / "a.safetensors", {{"half", SafetensorsDType::kBF16, {1}},
                                                      {"b", SafetensorsDType::kF32, {1}},
                                                      {"a", SafetensorsDType::kF32, {1, 2}}});
  EXPECT_EQ(writer.tensors()[0].name, "a");
  writer.append(bytes_of(std::vector<float>{1, 2}));
  writer.append(bytes_of(std::vector<float>{3}));
  writer.append(bytes_of(std::vector<std::uint16_t>{0x3f80}));
  writer.commit();
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"half":{"dtype":"BF16","shape":[1],"data_offsets":[12,14]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\x80\x3f", 14);
  EXPECT_EQ(read_back(folder / "a.safetensors"), length_bytes(padded.size()) + padded + data);
  const std::string all = read_back(folder / "a.safetensors");
  EXPECT_EQ(writer.hash(), xxh3_128(std::as_bytes(std::span(all))));
}

TEST(SafetensorsWriter, LeavesNothingWithoutCommit) {
  TemporaryFolder folder;
  { SafetensorsWriter writer(folder / "a.safetensors", {{"a", SafetensorsDType::kF32, {4}}}); }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(SafetensorsWriter, RefusesToCommitMissingBytesAndRepeatedNames) {
  TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a.safetensors", {{"a", SafetensorsDType::kF32, {4}}});
  EXPECT_THROW(writer.commit(), ContractError);
  const std::vector<SafetensorsTensor> twice{{"a", SafetensorsDType::kF32, {4}},
                                             {"a", SafetensorsDType::kF32, {4}}};
  EXPECT_THROW(SafetensorsWriter(folder / "b.safetensors", twice), ContractError);
}

TEST(SafetensorsFile, ReadsEveryFloatDtypeAsF32) {
  TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a.safetensors", {{"f32", SafetensorsDType::kF32, {2}},
                                                      {"bf16", SafetensorsDType::kBF16, {2}},
                                                      {"f16", SafetensorsDType::kF16, {2}}});
  writer.append(bytes_of(std::vector<float>{0.1f, -2}));
  writer.append(bytes_of(std::vector<std::uint16_t>{0x3fc0, 0xc000}));  // bf16: 1.5, -2
  writer.append(bytes_of(std::vector<std::uint16_t>{0x3e00, 0x0001}));  // f16: 1.5, 2^-24
  writer.commit();
  const SafetensorsFile file(folder / "a.safetensors");
  const std::map<std::string, std::vector<float>> expected{
      {"f32", {0.1f, -2}}, {"bf16", {1.5f, -2}}, {"f16", {1.5f, 0x1p-24f}}};
  for (const auto& [name, values] : expected) {
    std::vector<float> got(2);
    file.read_f32(*file.find(name), 0, got);
    EXPECT_EQ(got, values) << name;
    file.read_f32(*file.find(name), 1, std::span(got).first(1));
    EXPECT_EQ(got[0], values[1]) << name;
  }
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.find("other"), nullptr);
}

TEST(SafetensorsFile, RefusesToReadIntegersAsFloats) {
  TemporaryFolder folder;
  SafetensorsWriter writer(folder / "a.safetensors", {{"ids", SafetensorsDType::kI64, {1}}});
  writer.append(bytes_of(std::vector<std::int64_t>{7}));
  writer.commit();
  const SafetensorsFile file(folder / "a.safetensors");
  std::vector<float> out(1);
  expect_error(ExitCode::kCheckpoint, {"ids: dtype I64"}, [&] { file.read_f32(file.tensors()[0], 0, out); });
}

TEST(SafetensorsFile, AcceptsEmptyFilesScalarsZeroSizesAndAnyOrder) {
  TemporaryFolder folder;
  write_bytes(folder / "empty", file_with("{}", 0));
  EXPECT_TRUE(SafetensorsFile(folder / "empty").tensors().empty());
  write_bytes(folder / "odd", file_with(R"({"z":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                                        R"("a":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
                                        R"("b":{"dtype":"I8","shape":[2],"data_offsets":[4,6]}}    )",
                                        6));
  const SafetensorsFile file(folder / "odd");
  EXPECT_EQ(file.tensors()[0].name, "z");
  EXPECT_EQ(file.find("z")->numel(), 1);
  EXPECT_EQ(file.find("a")->numel(), 0);
  EXPECT_EQ(file.find("b")->numel(), 2);
}

struct Malformed {
  const char* name;
  std::string bytes;
  const char* words;
};

std::vector<Malformed> malformed_files() {
  const std::string one = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const auto entry = [](const std::string& body) { return R"({"t":)" + body + "}"; };
  const auto two = [](const char* a, const char* b) {
    return fmt::format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":{}}},)"
                       R"("b":{{"dtype":"U8","shape":[4],"data_offsets":{}}}}})",
                       a, b);
  };
  return {
      {"empty file", "", "truncated"},
      {"seven bytes", "1234567", "truncated"},
      {"length beyond the format's limit", length_bytes(100'000'001) + one, "not a safetensors file"},
      {"length with the highest bit", length_bytes(~std::uint64_t{0}) + one, "not a safetensors file"},
      {"length beyond the file", length_bytes(one.size() + 1) + one, "truncated"},
      {"length of zero", length_bytes(0), "does not begin with '{'"},
      {"leading space", file_with(" " + one, 8), "does not begin with '{'"},
      {"header is a list", file_with("[]", 0), "does not begin with '{'"},
      {"invalid UTF-8", file_with("{\"\xff\":1}", 0), "not valid JSON"},
      {"JSON cut off", file_with(one.substr(0, one.size() - 1), 8), "not valid JSON"},
      {"text after the JSON", file_with(one + "x", 8), "not valid JSON"},
      {"duplicate tensor", file_with(one.substr(0, one.size() - 1) + "," + one.substr(1), 8),
       "duplicate key \"t\""},
      {"duplicate member",
       file_with(entry(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"), 8),
       "duplicate key \"dtype\""},
      {"deep nesting", file_with(entry("[[[[[[]]]]]]"), 0), "nested deeper"},
      {"entry is no object", file_with(entry("7"), 0), "t: must be an object"},
      {"dtype missing", file_with(entry(R"({"shape":[2],"data_offsets":[0,8]})"), 8), "t.dtype: is missing"},
      {"shape missing", file_with(entry(R"({"dtype":"F32","data_offsets":[0,8]})"), 8),
       "t.shape: is missing"},
      {"offsets missing", file_with(entry(R"({"dtype":"F32","shape":[2]})"), 8),
       "t.data_offsets: is missing"},
      {"unknown dtype", file_with(entry(R"({"dtype":"F4","shape":[2],"data_offsets":[0,8]})"), 8),
       "t: dtype F4"},
      {"negative size", file_with(entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), 8),
       "t: shape holds -2"},
      {"fractional size", file_with(entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), 8),
       "t: shape holds 2.0"},
      {"size beyond 64 bits",
       file_with(entry(R"({"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,8]})"), 8),
       "does not fit 64 bits"},
      {"product beyond 64 bits",
       file_with(entry(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"), 8),
       "t: the number of elements"},
      {"bytes beyond 64 bits",
       file_with(entry(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,8]})"), 8),
       "t: the number of elements"},
      {"one offset", file_with(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), 8),
       "t: data_offsets"},
      {"end before begin", file_with(entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), 8),
       "t: data_offsets"},
      {"fewer bytes than the shape",
       file_with(entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), 8),
       "t: holds 8 bytes where its shape and dtype need 12"},
      {"data cut off", file_with(one, 7), "its tensors need 8 bytes, 7 are there"},
      {"bytes after the last tensor", file_with(one, 9), "1 bytes after the last tensor"},
      {"bytes without any tensor", file_with("{}", 1), "1 bytes after the last tensor"},
      {"hole at the start", file_with(two("[1,5]", "[5,9]"), 9), "a: begins at byte 1"},
      {"hole between", file_with(two("[0,4]", "[5,9]"), 9),
       "b: begins at byte 5 of the data where 4 was expected"},
      {"overlap", file_with(two("[0,4]", "[3,7]"), 7),
       "b: begins at byte 3 of the data where 4 was expected: it overlaps"},
      {"same bytes twice", file_with(two("[0,4]", "[0,4]"), 4), "it overlaps another tensor"},
      {"metadata is no object", file_with(R"({"__metadata__":[]})", 0), "__metadata__: must be an object"},
      {"metadata value is no string", file_with(R"({"__metadata__":{"format":1}})", 0),
       "the value of format"},
  };
}

TEST(SafetensorsFile, RefusesMalformedFilesAndNamesThem) {
  TemporaryFolder folder;
  for (const Malformed& item : malformed_files()) {
    SCOPED_TRACE(item.name);
    const std::filesystem::path path = folder / "bad.safetensors";
    write_bytes(path, item.bytes);
    expect_error(ExitCode::kCheckpoint, {item.words}, [&] { SafetensorsFile file(path); });
    expect_error(ExitCode::kCheckpoint, {path.string() + ":"}, [&] { SafetensorsFile file(path); });
  }
  expect_error(ExitCode::kCheckpoint, {"cannot open"}, [&] { SafetensorsFile file(folder / "none"); });
}

TEST(FloatFormats, WideningAndNarrowingGiveEveryBf16BitPatternBack) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits)
    ASSERT_EQ(bf16_from_float(float_from_bf16(static_cast<std::uint16_t>(bits))), bits);
}

TEST(FloatFormats, NarrowingRoundsToNearestEven) {
  EXPECT_EQ(bf16_from_float(0x1.01p0f), 0x3f80);  // half way between 1 and 1 + 2^-7: to even
  EXPECT_EQ(bf16_from_float(0x1.03p0f), 0x3f82);  // half way between 1 + 2^-7 and 1 + 2^-6: to even
  EXPECT_EQ(bf16_from_float(0x1.010002p0f), 0x3f81);
  EXPECT_EQ(bf16_from_float(std::numeric_limits<float>::max()), 0x7f80);  // beyond the largest bf16: infinity
  EXPECT_TRUE(std::isnan(float_from_bf16(bf16_from_float(std::bit_cast<float>(0x7f800001u)))));
}

TEST(FloatFormats, F16WidensExactly) {
  EXPECT_EQ(float_from_f16(0x3c00), 1.0f);
  EXPECT_EQ(float_from_f16(0xfbff), -65504.0f);
  EXPECT_EQ(float_from_f16(0x0400), 0x1p-14f);
  EXPECT_EQ(float_from_f16(0x03ff), 1023 * 0x1p-24f);
  EXPECT_EQ(std::bit_cast<std::uint32_t>(float_from_f16(0x8000)), 0x80000000u);
  EXPECT_EQ(float_from_f16(0xfc00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(float_from_f16(0x7e00)));
}

}  // namespace
}  // namespace terroir
