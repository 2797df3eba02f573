#include "data/shard/shard_writer.h"

#include <algorithm>
#include <span>

#include "base/file.h"
#include "data/shard/hdf5_memory.h"

namespace terroir {
namespace {

template <class Result>
Result checked(Result result, const char* call) {
  if (result < 0) throw SystemError(call, hdf5_error_text());
  return result;
}

// XXH3-128 of each block of tokens as stored; high word, low word.
std::vector<std::uint64_t> hash_blocks(const ShardInfo& info, const std::vector<std::uint32_t>& tokens) {
  std::vector<std::uint64_t> hashes;
  std::vector<std::uint16_t> narrow;
  for (std::size_t begin = 0; begin < tokens.size(); begin += static_cast<std::size_t>(info.block_tokens)) {
    const auto block = std::span(tokens).subspan(
        begin, std::min(static_cast<std::size_t>(info.block_tokens), tokens.size() - begin));
    narrow.assign(block.begin(), block.end());
    const Hash128 hash =
        xxh3_128(bytes_per_token(info) == 2 ? std::as_bytes(std::span(narrow)) : std::as_bytes(block));
    hashes.insert(hashes.end(), {hash.high, hash.low});
  }
  return hashes;
}

void write_attribute(hid_t file, const char* name, const std::string& value) {
  TERROIR_CHECK(value.size() <= kMaxAttributeBytes && value.find('\0') == std::string::npos,
                "attribute {}: \"{}\"", name, value);
  const Hdf5Type type(checked(H5Tcopy(H5T_C_S1), "H5Tcopy"));
  const std::size_t size = std::max<std::size_t>(value.size(), 1);
  checked(H5Tset_size(type.get(), size), "H5Tset_size");
  checked(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "H5Tset_strpad");
  checked(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset");
  const Hdf5Space space(checked(H5Screate(H5S_SCALAR), "H5Screate"));
  const Hdf5Attribute attribute(
      checked(H5Acreate2(file, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2"));
  checked(H5Awrite(attribute.get(), type.get(), value.c_str()), "H5Awrite");
}

void write_attribute(hid_t file, const char* name, std::int64_t value) {
  const Hdf5Space space(checked(H5Screate(H5S_SCALAR), "H5Screate"));
  const Hdf5Attribute attribute(
      checked(H5Acreate2(file, name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2"));
  checked(H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value), "H5Awrite");
}

// A chunked dataset with Fletcher-32; `shape` and `chunk` have `rank` entries.
void write_dataset(hid_t file, const char* name, hid_t stored, hid_t in_memory, const void* data,
                   const std::vector<hsize_t>& shape, const std::vector<hsize_t>& chunk) {
  const Hdf5Properties properties(checked(H5Pcreate(H5P_DATASET_CREATE), "H5Pcreate"));
  const int rank = static_cast<int>(shape.size());
  checked(H5Pset_chunk(properties.get(), rank, chunk.data()), "H5Pset_chunk");
  checked(H5Pset_fletcher32(properties.get()), "H5Pset_fletcher32");
  checked(H5Pset_obj_track_times(properties.get(), false), "H5Pset_obj_track_times");
  const Hdf5Space space(checked(H5Screate_simple(rank, shape.data(), nullptr), "H5Screate_simple"));
  const Hdf5Dataset dataset(checked(
      H5Dcreate2(file, name, stored, space.get(), H5P_DEFAULT, properties.get(), H5P_DEFAULT), "H5Dcreate2"));
  checked(H5Dwrite(dataset.get(), in_memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, data), "H5Dwrite");
}

Hdf5File create_file(Hdf5Memory& memory) {
  const Hdf5Properties access(checked(H5Pcreate(H5P_FILE_ACCESS), "H5Pcreate"));
  memory.attach(access.get());
  // The 1.10 format: metadata carries checksums.
  checked(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110), "H5Pset_libver_bounds");
  const Hdf5Properties creation(checked(H5Pcreate(H5P_FILE_CREATE), "H5Pcreate"));
  checked(H5Pset_obj_track_times(creation.get(), false), "H5Pset_obj_track_times");
  checked(H5Pset_attr_phase_change(creation.get(), 64, 0),
          "H5Pset_attr_phase_change");  // keep them in the header
  return Hdf5File(checked(H5Fcreate("shard", H5F_ACC_TRUNC, creation.get(), access.get()), "H5Fcreate"));
}

void write_hdf5(Hdf5Memory& memory, const ShardContent& content, const ShardInfo& info) {
  const std::vector<std::uint64_t> hashes = hash_blocks(info, content.tokens);
  const Hash128 index_hash = shard_index_hash(info, content.document_offsets, content.document_ids, hashes);
  const auto list_chunk = [](std::size_t size) { return std::min<hsize_t>(size, kDefaultBlockTokens); };

  const Hdf5Session session;
  Hdf5File file = create_file(memory);
  for_each_attribute(
      info, [&file](const char* name, const auto& value) { write_attribute(file.get(), name, value); });
  write_attribute(file.get(), "index_hash", index_hash.hex());
  write_dataset(file.get(), "tokens", bytes_per_token(info) == 2 ? H5T_STD_U16LE : H5T_STD_U32LE,
                H5T_NATIVE_UINT32, content.tokens.data(), {content.tokens.size()},
                {static_cast<hsize_t>(info.block_tokens)});
  write_dataset(file.get(), "document_offsets", H5T_STD_U64LE, H5T_NATIVE_UINT64,
                content.document_offsets.data(), {content.document_offsets.size()},
                {list_chunk(content.document_offsets.size())});
  write_dataset(file.get(), "document_ids", H5T_STD_U64LE, H5T_NATIVE_UINT64, content.document_ids.data(),
                {content.document_ids.size()}, {list_chunk(content.document_ids.size())});
  write_dataset(file.get(), "block_hashes", H5T_STD_U64LE, H5T_NATIVE_UINT64, hashes.data(),
                {hashes.size() / 2, 2}, {list_chunk(hashes.size() / 2), 2});
  checked(H5Fclose(file.release()), "H5Fclose");
}

}  // namespace

WrittenShard write_shard(const std::filesystem::path& path, const ShardContent& content,
                         std::int64_t block_tokens) {
  const std::size_t num_documents = content.document_ids.size();
  TERROIR_CHECK(num_documents > 0 && content.document_offsets.size() == num_documents + 1,
                "{} documents, {} offsets", num_documents, content.document_offsets.size());
  TERROIR_CHECK(
      content.document_offsets.back() == content.tokens.size() && content.tokens.size() <= kMaxShardTokens,
      "offsets end at {}, {} tokens", content.document_offsets.back(), content.tokens.size());
  WrittenShard written;
  written.info = content.info;
  written.info.documents = static_cast<std::int64_t>(num_documents);
  written.info.tokens = static_cast<std::int64_t>(content.tokens.size());
  written.info.block_tokens = std::min(block_tokens, written.info.tokens);

  Hdf5Memory memory;
  write_hdf5(memory, content, written.info);
  Sha256 sha;
  sha.update(memory.bytes());
  AtomicFile file(path);
  file.write(memory.bytes());
  file.commit();
  written.sha256 = sha.hex();
  written.bytes = file.bytes_written();
  return written;
}

}  // namespace terroir
