// Shards: written whole, read only when intact.
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "data/shard/hdf5.h"
#include "data/shard/shard_reader.h"
#include "tests/data/small_shards.h"
#include "tests/support/expect_error.h"
#include "tests/support/temporary_folder.h"

// HDF5 1.10.8 leaks on its own error paths, which the damaged files below take thousands of times.
extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }

namespace terroir {
namespace {

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<std::int32_t> all_tokens(const ShardReader& shard) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(shard.info().tokens));
  shard.read_tokens(0, tokens);
  return tokens;
}

TEST(Shard, ComesBackAsWritten) {
  TemporaryFolder folder;
  for (const std::int64_t vocab_size : {1000, 65536, 65537}) {
    ShardContent content = shard_content({{5, 6, 7}, {999}, {0, 1, 2, 3}}, kValidationSplit, vocab_size);
    content.info.bos_id = 5;
    content.info.text_bytes = 77;
    content.info.seed = -3;
    const WrittenShard written = write_shard(folder / "s.h5", content, 3);
    EXPECT_EQ(written.bytes, std::filesystem::file_size(folder / "s.h5"));
    EXPECT_EQ(written.sha256, sha256_hex(read_file(folder / "s.h5")));
    const ShardReader shard(folder / "s.h5");
    EXPECT_EQ(to_json(shard.info()), to_json(written.info));
    EXPECT_EQ(shard.info().origin, "made up");
    EXPECT_EQ(shard.info().documents, 3);
    EXPECT_EQ(shard.info().block_tokens, 3);
    EXPECT_EQ(all_tokens(shard), (std::vector<std::int32_t>{5, 6, 7, 999, 0, 1, 2, 3}));
    EXPECT_EQ(std::vector<std::uint32_t>(shard.document_offsets().begin(), shard.document_offsets().end()),
              (std::vector<std::uint32_t>{0, 3, 4, 8}));
    EXPECT_EQ(std::vector<std::uint64_t>(shard.document_ids().begin(), shard.document_ids().end()),
              (std::vector<std::uint64_t>{0, 1, 2}));
    shard.verify_all_blocks();
  }
}

// docs/formats/shard.md; index_hash fixes the order and spelling of every attribute.
TEST(Shard, IsTheDocumentsExample) {
  TemporaryFolder folder;
  ShardContent content = shard_content({{0, 5, 6, 1}, {0, 7, 1}}, kTrainSplit, 258);
  content.info.bos_id = 0;
  content.info.eos_id = 1;
  content.info.text_bytes = 3;
  write_shard(folder / "s.h5", content, 4);
  EXPECT_EQ(ShardReader(folder / "s.h5").index_hash().hex(), "12ebc8114d0574506f00559e50285682");
  const std::vector<std::uint16_t> first = {0, 5, 6, 1}, last = {0, 7, 1};
  EXPECT_EQ(xxh3_128(std::as_bytes(std::span(first))).hex(), "a83a73afd305bb9a7886cab9a01289c8");
  EXPECT_EQ(xxh3_128(std::as_bytes(std::span(last))).hex(), "93bca695d8721a8642d2a5de883ad348");
}

TEST(Shard, TheSameContentGivesTheSameBytes) {
  TemporaryFolder folder;
  write_shard(folder / "a.h5", counting_content(1000, 30));
  write_shard(folder / "b.h5", counting_content(1000, 30));
  EXPECT_EQ(read_file(folder / "a.h5"), read_file(folder / "b.h5"));
}

TEST(Shard, AnyRangeCanBeRead) {
  TemporaryFolder folder;
  write_shard(folder / "s.h5", counting_content(500, 30), 64);
  const ShardReader shard(folder / "s.h5");
  for (std::int64_t first = 0; first < 500; first += 37)
    for (const std::int64_t count :
         {std::int64_t{1}, std::int64_t{63}, std::int64_t{64}, std::int64_t{200}}) {
      if (first + count > 500) continue;
      std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
      shard.read_tokens(first, tokens);
      for (std::int64_t i = 0; i < count; ++i) ASSERT_EQ(tokens[static_cast<std::size_t>(i)], first + i);
    }
}

TEST(Shard, RefusesTokensOutsideTheVocabulary) {
  TemporaryFolder folder;
  for (const std::uint32_t vocab_size : {1000u, 100000u}) {
    write_shard(folder / "s.h5", shard_content({{5, 6}, {7, vocab_size}}, kTrainSplit, vocab_size));
    const ShardReader shard(folder / "s.h5");
    expect_error(ExitCode::kData, {"s.h5", "token 3", std::to_string(vocab_size)},
                 [&] { all_tokens(shard); });
  }
}

// Fletcher-32 takes 0x0000 for 0xFFFF; the block hash does not.
TEST(Shard, NoticesTokenZeroTurned65535) {
  TemporaryFolder folder;
  write_shard(folder / "s.h5", shard_content({{4660, 0, 22136}}, kTrainSplit, 65536));
  std::string bytes = read_file(folder / "s.h5");
  const std::size_t at = bytes.find(std::string("\x34\x12\x00\x00\x78\x56", 6));
  ASSERT_NE(at, std::string::npos);
  bytes[at + 2] = bytes[at + 3] = '\xff';
  write_bytes(folder / "s.h5", bytes);
  expect_error(ExitCode::kData, {"s.h5", "hash"}, [&] { all_tokens(ShardReader(folder / "s.h5")); });
}

TEST(Shard, EveryFlippedByteIsRefusedOrHarmless) {
  TemporaryFolder folder;
  const ShardContent content = shard_content({{5, 6, 7}, {999}, {0, 1, 2, 3}});
  write_shard(folder / "good.h5", content, 3);
  const ShardReader good(folder / "good.h5");
  const std::string bytes = read_file(folder / "good.h5");
  write_bytes(folder / "bad.h5", bytes);
  std::fstream file(folder / "bad.h5", std::ios::in | std::ios::out | std::ios::binary);
  const auto put = [&file](std::size_t at, char byte) {
    file.seekp(static_cast<long>(at)).put(byte).flush();
  };
  int refused = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    put(at, static_cast<char>(bytes[at] ^ (1 << (at % 8))));
    try {
      const ShardReader shard(folder / "bad.h5");
      EXPECT_EQ(all_tokens(shard), all_tokens(good)) << at;
      EXPECT_EQ(to_json(shard.info()), to_json(good.info())) << at;
      EXPECT_EQ(shard.index_hash(), good.index_hash()) << at;
    } catch (const UserError& error) {
      EXPECT_EQ(error.exit_code(), ExitCode::kData);
      EXPECT_NE(std::string(error.what()).find("bad.h5"), std::string::npos);
      ++refused;
    }
    put(at, bytes[at]);
  }
  // The rest is padding of chunks and of free space.
  EXPECT_GT(refused, static_cast<int>(bytes.size() / 2));
}

TEST(Shard, EveryTruncationIsRefused) {
  TemporaryFolder folder;
  write_shard(folder / "s.h5", shard_content({{5, 6, 7}, {999}, {0, 1, 2, 3}}, kTrainSplit), 3);
  const std::string bytes = read_file(folder / "s.h5");
  for (std::size_t size = 0; size < bytes.size(); size += 13) {
    write_bytes(folder / "s.h5", bytes.substr(0, size));
    expect_error(ExitCode::kData, {"s.h5"}, [&] { all_tokens(ShardReader(folder / "s.h5")); });
  }
}

TEST(Shard, RefusesFilesThatAreNoShards) {
  TemporaryFolder folder;
  write_bytes(folder / "text.h5", "once upon a time");
  expect_error(ExitCode::kData, {"text.h5", "cannot be opened as HDF5"},
               [&] { ShardReader(folder / "text.h5"); });
  expect_error(ExitCode::kData, {"missing.h5", "No such file"}, [&] { ShardReader(folder / "missing.h5"); });
  {
    const Hdf5Session session;
    const Hdf5File file(H5Fcreate((folder / "empty.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  }
  expect_error(ExitCode::kData, {"empty.h5", "format", "not a Terroir shard"},
               [&] { ShardReader(folder / "empty.h5"); });
}

// A good shard whose dataset `name` is replaced by what `make` creates.
void replace_dataset(const std::filesystem::path& path, const char* name,
                     const std::function<void(hid_t)>& make) {
  write_shard(path, shard_content({{5, 6, 7}, {999}, {0, 1, 2, 3}}), 3);
  const Hdf5Session session;
  const Hdf5File file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
  ASSERT_GE(H5Ldelete(file.get(), name, H5P_DEFAULT), 0);
  make(file.get());
}

Hdf5Dataset create(hid_t file, const char* name, hid_t type, hsize_t size, hid_t properties) {
  const Hdf5Space space(H5Screate_simple(1, &size, nullptr));
  return Hdf5Dataset(H5Dcreate2(file, name, type, space.get(), H5P_DEFAULT, properties, H5P_DEFAULT));
}

TEST(Shard, RefusesWhatTheFormatDoesNotAllow) {
  TemporaryFolder folder;
  const auto refuses = [&](const char* name, const std::string& word,
                           const std::function<void(hid_t)>& make) {
    const std::filesystem::path path = folder / "s.h5";
    replace_dataset(path, name, make);
    expect_error(ExitCode::kData, {"s.h5", name, word}, [&] { ShardReader shard(path); });
  };
  refuses("tokens", "has no dataset", [](hid_t) {});
  refuses("tokens", "must lie in the file itself", [](hid_t file) {
    H5Lcreate_external("/etc/other.h5", "/tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
  });
  refuses("tokens", "must lie in the file itself",
          [](hid_t file) { H5Lcreate_soft("/document_ids", file, "tokens", H5P_DEFAULT, H5P_DEFAULT); });
  refuses("tokens", "another type",
          [](hid_t file) { create(file, "tokens", H5T_IEEE_F64LE, 8, H5P_DEFAULT); });
  refuses("document_ids", "another type",
          [](hid_t file) { create(file, "document_ids", H5T_STD_U64BE, 3, H5P_DEFAULT); });
  refuses("document_ids", "rows",
          [](hid_t file) { create(file, "document_ids", H5T_STD_U64LE, 4, H5P_DEFAULT); });
  refuses("block_hashes", "rank",
          [](hid_t file) { create(file, "block_hashes", H5T_STD_U64LE, 6, H5P_DEFAULT); });
  refuses("tokens", "chunked", [](hid_t file) { create(file, "tokens", H5T_STD_U16LE, 8, H5P_DEFAULT); });
  refuses("tokens", "chunked", [](hid_t file) {
    const Hdf5Properties properties(H5Pcreate(H5P_DATASET_CREATE));
    H5Pset_external(properties.get(), "/etc/passwd", 0, 16);
    create(file, "tokens", H5T_STD_U16LE, 8, properties.get());
  });
  refuses("tokens", "filter", [](hid_t file) {
    const Hdf5Properties properties(H5Pcreate(H5P_DATASET_CREATE));
    const hsize_t chunk = 3;
    H5Pset_chunk(properties.get(), 1, &chunk);
    H5Pset_deflate(properties.get(), 1);
    create(file, "tokens", H5T_STD_U16LE, 8, properties.get());
  });
  refuses("tokens", "not stored", [](hid_t file) {
    const Hdf5Properties properties(H5Pcreate(H5P_DATASET_CREATE));
    const hsize_t chunk = 3;
    H5Pset_chunk(properties.get(), 1, &chunk);
    H5Pset_fletcher32(properties.get());
    create(file, "tokens", H5T_STD_U16LE, 8, properties.get());  // no chunk was ever written
  });
}

TEST(Shard, RefusesExtentsThatTheFileCannotHold) {
  TemporaryFolder folder;
  ShardContent content = shard_content({{5, 6, 7}});
  write_shard(folder / "s.h5", content);
  {
    const Hdf5Session session;
    const Hdf5File file(H5Fopen((folder / "s.h5").c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    const std::int64_t huge = 4000000000;
    for (const char* name : {"tokens", "documents"}) {
      const Hdf5Attribute attribute(H5Aopen(file.get(), name, H5P_DEFAULT));
      H5Awrite(attribute.get(), H5T_NATIVE_INT64, &huge);
    }
    H5Ldelete(file.get(), "document_offsets", H5P_DEFAULT);
    create(file.get(), "document_offsets", H5T_STD_U64LE, 4000000001, H5P_DEFAULT);
  }
  expect_error(ExitCode::kData, {"s.h5", "document_offsets", "32000000008 bytes"},
               [&] { ShardReader(folder / "s.h5"); });
}

TEST(Shard, AFailedWriteLeavesNothing) {
  TemporaryFolder folder;
  EXPECT_THROW(write_shard(folder / "absent" / "s.h5", shard_content({{1}})), SystemError);
  EXPECT_THROW(write_shard(folder / "s.h5", shard_content({})), ContractError);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace terroir
