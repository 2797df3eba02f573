#include "data/shard/shard_structure.h"

#include <algorithm>
#include <string>

#include "data/shard/hdf5.h"

namespace terroir {
namespace {

// One shard being opened: every failure becomes a line that names the file.
class StructureReader {
 public:
  StructureReader(const std::filesystem::path& path, std::uint64_t file_bytes)
      : place_{path.string()}, file_bytes_(file_bytes) {
    const Hdf5Properties access(checked(H5Pcreate(H5P_FILE_ACCESS), "properties"));
    // Shards are written once: locks help nobody, and read-only network file systems have none.
    checked(H5Pset_file_locking(access.get(), false, true), "properties");
    file_ = Hdf5File(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()));
    if (!file_)
      refuse(fmt::format("cannot be opened as HDF5 ({}): build the shard again", hdf5_error_text()));
  }

  ShardStructure read() {
    ShardStructure shard;
    for_each_attribute(shard.info, [this](const char* name, auto& value) { read_attribute(name, value); });
    check_info(shard.info);
    const auto documents = static_cast<hsize_t>(shard.info.documents);
    const auto blocks = static_cast<hsize_t>(num_blocks(shard.info));
    shard.document_offsets = read_words("document_offsets", {documents + 1});
    shard.document_ids = read_words("document_ids", {documents});
    shard.block_hashes = read_words("block_hashes", {blocks, 2});
    shard.block_addresses = token_addresses(shard.info);
    check_offsets(shard);

    std::string stored;
    read_attribute("index_hash", stored);
    shard.index_hash =
        shard_index_hash(shard.info, shard.document_offsets, shard.document_ids, shard.block_hashes);
    if (shard.index_hash.hex() != stored)
      refuse("the index does not match its hash: the file is damaged, build or copy the shard again");
    return shard;
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    throw UserError(ExitCode::kData, place_, message);
  }

  template <class Result>
  Result checked(Result result, const char* what) const {
    if (result < 0) refuse(fmt::format("{} cannot be read ({})", what, hdf5_error_text()));
    return result;
  }

  Hdf5Attribute open_attribute(const char* name) const {
    if (checked(H5Aexists(file_.get(), name), name) == 0)
      refuse(fmt::format("has no attribute \"{}\": it is not a Terroir shard", name));
    Hdf5Attribute attribute(checked(H5Aopen(file_.get(), name, H5P_DEFAULT), name));
    const Hdf5Space space(checked(H5Aget_space(attribute.get()), name));
    if (H5Sget_simple_extent_type(space.get()) != H5S_SCALAR)
      refuse(fmt::format("attribute {} must be scalar", name));
    return attribute;
  }

  void read_attribute(const char* name, std::int64_t& value) const {
    const Hdf5Attribute attribute = open_attribute(name);
    const Hdf5Type type(checked(H5Aget_type(attribute.get()), name));
    if (H5Tequal(type.get(), H5T_STD_I64LE) <= 0)
      refuse(fmt::format("attribute {} must be a little-endian 64-bit integer", name));
    checked(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), name);
  }

  void read_attribute(const char* name, std::string& value) const {
    const Hdf5Attribute attribute = open_attribute(name);
    const Hdf5Type type(checked(H5Aget_type(attribute.get()), name));
    const std::size_t size = H5Tget_size(type.get());
    if (H5Tget_class(type.get()) != H5T_STRING || H5Tis_variable_str(type.get()) != 0 || size == 0 ||
        size > kMaxAttributeBytes)
      refuse(fmt::format("attribute {} must be text of fixed length, at most {} bytes", name,
                         kMaxAttributeBytes));
    value.assign(size, '\0');
    checked(H5Aread(attribute.get(), type.get(), value.data()), name);
    value.erase(std::find(value.begin(), value.end(), '\0'), value.end());
  }

  void check_info(const ShardInfo& info) const {
    if (info.format != kShardFormat)
      refuse(fmt::format("format is \"{}\", not \"{}\"", info.format, kShardFormat));
    if (info.format_version != kShardFormatVersion)
      refuse(fmt::format("shard format version {}, this program reads version {}", info.format_version,
                         kShardFormatVersion));
    if (info.split != kTrainSplit && info.split != kValidationSplit)
      refuse(fmt::format("split is \"{}\", must be \"train\" or \"validation\"", info.split));
    const auto in_range = [this](const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
      if (value < low || value > high)
        refuse(fmt::format("{} is {}, must be {} to {}", name, value, low, high));
    };
    in_range("vocab_size", info.vocab_size, 1, INT32_MAX);
    in_range("bos_id", info.bos_id, -1, info.vocab_size - 1);
    in_range("eos_id", info.eos_id, -1, info.vocab_size - 1);
    in_range("tokens", info.tokens, 1, kMaxShardTokens);
    in_range("documents", info.documents, 1, info.tokens);
    in_range("block_tokens", info.block_tokens, 1, info.tokens);
    in_range("text_bytes", info.text_bytes, 0, INT64_MAX);
  }

  // The dataset, after a look at everything that could lead outside the file or outside the format.
  Hdf5Dataset open_dataset(const char* name, hid_t type, const std::vector<hsize_t>& shape) const {
    H5L_info_t link;
    if (checked(H5Lexists(file_.get(), name, H5P_DEFAULT), name) == 0)
      refuse(fmt::format("has no dataset \"{}\": it is not a Terroir shard", name));
    checked(H5Lget_info(file_.get(), name, &link, H5P_DEFAULT), name);
    if (link.type != H5L_TYPE_HARD)
      refuse(fmt::format("dataset {} is a link, it must lie in the file itself", name));
    Hdf5Dataset dataset(checked(H5Dopen2(file_.get(), name, H5P_DEFAULT), name));
    const Hdf5Type stored(checked(H5Dget_type(dataset.get()), name));
    if (H5Tequal(stored.get(), type) <= 0)
      refuse(fmt::format("dataset {} has another type than the format's", name));
    check_shape(name, dataset, shape, H5Tget_size(type));
    check_storage(name, dataset);
    return dataset;
  }

  void check_shape(const char* name, const Hdf5Dataset& dataset, const std::vector<hsize_t>& shape,
                   std::size_t bytes_per_item) const {
    const Hdf5Space space(checked(H5Dget_space(dataset.get()), name));
    if (H5Sget_simple_extent_ndims(space.get()) != static_cast<int>(shape.size()))
      refuse(fmt::format("dataset {} has another rank than {}", name, shape.size()));
    std::vector<hsize_t> stored(shape.size());
    checked(H5Sget_simple_extent_dims(space.get(), stored.data(), nullptr), name);
    if (stored != shape)
      refuse(fmt::format("dataset {} has {} rows, the attributes say {}", name, stored[0], shape[0]));
    hsize_t bytes = bytes_per_item;
    for (const hsize_t extent : shape) bytes *= extent;  // no overflow: extents were checked to be below 2^33
    if (bytes > file_bytes_)
      refuse(fmt::format("dataset {} needs {} bytes, the file has {}: it is truncated", name, bytes,
                         file_bytes_));
  }

  void check_storage(const char* name, const Hdf5Dataset& dataset) const {
    const Hdf5Properties properties(checked(H5Dget_create_plist(dataset.get()), name));
    if (H5Pget_layout(properties.get()) != H5D_CHUNKED || H5Pget_external_count(properties.get()) != 0 ||
        H5Pget_nfilters(properties.get()) != 1)
      refuse(
          fmt::format("dataset {} must be chunked, inside the file, with the Fletcher-32 filter only", name));
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    if (H5Pget_filter2(properties.get(), 0, &flags, &values, nullptr, 0, nullptr, &config) !=
        H5Z_FILTER_FLETCHER32)
      refuse(fmt::format("dataset {} has a filter other than Fletcher-32", name));
  }

  std::vector<std::uint64_t> read_words(const char* name, const std::vector<hsize_t>& shape) const {
    const Hdf5Dataset dataset = open_dataset(name, H5T_STD_U64LE, shape);
    hsize_t items = 1;
    for (const hsize_t extent : shape) items *= extent;
    std::vector<std::uint64_t> words(items);
    checked(H5Dread(dataset.get(), H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, words.data()), name);
    return words;
  }

  // Where each chunk (= block) of tokens lies in the file.
  std::vector<std::uint64_t> token_addresses(const ShardInfo& info) const {
    const std::int64_t width = bytes_per_token(info);
    const Hdf5Dataset tokens = open_dataset("tokens", width == 2 ? H5T_STD_U16LE : H5T_STD_U32LE,
                                            {static_cast<hsize_t>(info.tokens)});
    const Hdf5Properties properties(checked(H5Dget_create_plist(tokens.get()), "tokens"));
    hsize_t chunk = 0;
    checked(H5Pget_chunk(properties.get(), 1, &chunk), "tokens");
    if (chunk != static_cast<hsize_t>(info.block_tokens))
      refuse(fmt::format("tokens are chunked by {}, block_tokens is {}", chunk, info.block_tokens));
    std::vector<std::uint64_t> addresses;
    for (std::int64_t block = 0; block < num_blocks(info); ++block) {
      const auto first = static_cast<hsize_t>(block * info.block_tokens);
      unsigned skipped_filters = 0;
      haddr_t address = HADDR_UNDEF;
      hsize_t bytes = 0;
      checked(H5Dget_chunk_info_by_coord(tokens.get(), &first, &skipped_filters, &address, &bytes), "tokens");
      constexpr hsize_t kFletcherBytes = 4;
      if (address == HADDR_UNDEF || skipped_filters != 0 ||
          bytes != static_cast<hsize_t>(info.block_tokens * width) + kFletcherBytes)
        refuse(fmt::format("block {} of tokens is not stored as the format says", block));
      addresses.push_back(address);
    }
    return addresses;
  }

  void check_offsets(const ShardStructure& shard) const {
    const std::vector<std::uint64_t>& offsets = shard.document_offsets;
    const bool increasing =
        std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<>()) == offsets.end();
    if (offsets.front() != 0 || !increasing ||
        offsets.back() != static_cast<std::uint64_t>(shard.info.tokens))
      refuse("document_offsets must increase from 0 to the number of tokens");
  }

  Place place_;
  std::uint64_t file_bytes_;
  Hdf5File file_;
};

}  // namespace

ShardStructure read_shard_structure(const std::filesystem::path& path, std::uint64_t file_bytes) {
  const Hdf5Session session;
  return StructureReader(path, file_bytes).read();
}

}  // namespace terroir
