#include "data/shard/document_buckets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.h"

namespace terroir {
namespace {

// A record: content hash (4 words), id (2), bytes of text, number of tokens, tokens.
constexpr std::size_t kHeaderWords = 8;

void push_u64(std::vector<std::uint32_t>& words, std::uint64_t value) {
  words.push_back(static_cast<std::uint32_t>(value));
  words.push_back(static_cast<std::uint32_t>(value >> 32));
}

std::uint64_t u64_at(const std::uint32_t* words) { return words[0] | std::uint64_t{words[1]} << 32; }

void write_record(std::vector<std::uint32_t>& words, const TokenizedDocument& document) {
  push_u64(words, document.content.high);
  push_u64(words, document.content.low);
  push_u64(words, document.id);
  words.push_back(document.text_bytes);
  words.push_back(static_cast<std::uint32_t>(document.tokens.size()));
  words.insert(words.end(), document.tokens.begin(), document.tokens.end());
}

TokenizedDocument read_record(const std::uint32_t* words) {
  return {{u64_at(words), u64_at(words + 2)},
          u64_at(words + 4),
          words[6],
          std::vector<std::uint32_t>(words + kHeaderWords, words + kHeaderWords + words[7])};
}

void write_all(int fd, std::span<const std::byte> bytes, const std::filesystem::path& folder) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) throw SystemError::from_errno("write of a temporary file in", folder.string(), errno);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void read_all(int fd, std::uint64_t offset, std::span<std::byte> out, const std::filesystem::path& folder) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw SystemError::from_errno("read of a temporary file in", folder.string(), got < 0 ? errno : EIO);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

FileDescriptor create_unnamed_file(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "spill";
  FileDescriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) throw SystemError::from_errno("create", path.string(), errno);
  if (::unlink(path.c_str()) != 0) throw SystemError::from_errno("unlink", path.string(), errno);
  return fd;
}

}  // namespace

DocumentBuckets::DocumentBuckets(std::uint64_t seed, std::filesystem::path folder, std::uint64_t memory_bytes)
    : key_(philox_key(seed, "data/build/order")), folder_(std::move(folder)), memory_bytes_(memory_bytes) {}

PhiloxCounter DocumentBuckets::order_key(const Hash128& content) const {
  // Philox is a bijection of its counter: different contents have different keys.
  return philox4x32(
      {static_cast<std::uint32_t>(content.low), static_cast<std::uint32_t>(content.low >> 32),
       static_cast<std::uint32_t>(content.high), static_cast<std::uint32_t>(content.high >> 32)},
      key_);
}

void DocumentBuckets::add(const TokenizedDocument& document) {
  static_assert(kNumBuckets == 256);
  write_record(buckets_[order_key(document.content)[0] >> 24].words, document);
  buffered_words_ += kHeaderWords + document.tokens.size();
  if (buffered_words_ * sizeof(std::uint32_t) > memory_bytes_) spill();
}

void DocumentBuckets::spill() {
  if (!spill_file_) spill_file_ = create_unnamed_file(folder_);
  for (Bucket& bucket : buckets_) {
    if (bucket.words.empty()) continue;
    const auto bytes = std::as_bytes(std::span(bucket.words));
    write_all(spill_file_.get(), bytes, folder_);
    bucket.spilled.push_back({spill_bytes_, bucket.words.size()});
    spill_bytes_ += bytes.size();
    bucket.words.clear();
  }
  buffered_words_ = 0;
}

std::vector<std::uint32_t> DocumentBuckets::records(Bucket& bucket) const {
  std::uint64_t num_words = bucket.words.size();
  for (const Extent& extent : bucket.spilled) num_words += extent.num_words;
  std::vector<std::uint32_t> words(num_words);
  auto rest = std::span(words);
  for (const Extent& extent : bucket.spilled) {
    read_all(spill_file_.get(), extent.offset, std::as_writable_bytes(rest.first(extent.num_words)), folder_);
    rest = rest.subspan(extent.num_words);
  }
  std::copy(bucket.words.begin(), bucket.words.end(), rest.begin());
  bucket = {};
  return words;
}

std::vector<TokenizedDocument> DocumentBuckets::take(int bucket) {
  const std::vector<std::uint32_t> words = records(buckets_.at(static_cast<std::size_t>(bucket)));
  std::vector<std::pair<PhiloxCounter, const std::uint32_t*>> order;
  for (const std::uint32_t* at = words.data(); at != words.data() + words.size(); at += kHeaderWords + at[7])
    order.emplace_back(order_key({u64_at(at), u64_at(at + 2)}), at);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  const auto last = std::unique(order.begin(), order.end(),
                                [](const auto& a, const auto& b) { return a.first == b.first; });
  duplicates_ += order.end() - last;

  std::vector<TokenizedDocument> documents;
  documents.reserve(static_cast<std::size_t>(last - order.begin()));
  for (auto entry = order.begin(); entry != last; ++entry) documents.push_back(read_record(entry->second));
  return documents;
}

}  // namespace terroir
