#include "trainer/metrics/event_file.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>

#include "base/error.h"

namespace terroir {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

// A CRC of data that holds CRCs is weak, so TFRecord stores a rotated and shifted one.
std::uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u; }

template <class Unsigned>
void append_little_endian(Unsigned value, std::string& out) {
  for (std::size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

void append_varint(std::uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7F) | 0x80);
  out += static_cast<char>(value);
}

// Protocol buffer wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
void append_tag(int field, int wire_type, std::string& out) {
  out += static_cast<char>(field << 3 | wire_type);
}

void append_bytes(int field, std::string_view bytes, std::string& out) {
  append_tag(field, 2, out);
  append_varint(bytes.size(), out);
  out += bytes;
}

std::string event_head(double wall_time_s, std::int64_t step) {
  std::string event;
  append_tag(1, 1, event);
  append_little_endian(std::bit_cast<std::uint64_t>(wall_time_s), event);
  append_tag(2, 0, event);
  append_varint(static_cast<std::uint64_t>(step), event);
  return event;
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const unsigned char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ byte) & 0xFF];
  return ~crc;
}

std::string event_record(std::string_view payload) {
  std::string record;
  append_little_endian(static_cast<std::uint64_t>(payload.size()), record);
  append_little_endian(masked_crc(record), record);
  record += payload;
  append_little_endian(masked_crc(payload), record);
  return record;
}

std::string scalar_event(double wall_time_s, std::int64_t step, const std::vector<ScalarEvent>& scalars) {
  std::string summary;
  for (const auto& [tag, scalar] : scalars) {
    std::string value;
    append_bytes(1, tag, value);
    append_tag(2, 5, value);
    append_little_endian(std::bit_cast<std::uint32_t>(static_cast<float>(scalar)), value);
    append_bytes(1, value, summary);
  }
  std::string event = event_head(wall_time_s, step);
  append_bytes(5, summary, event);
  return event;
}

EventFile::EventFile(const std::filesystem::path& folder) {
  char host[256] = "localhost";
  ::gethostname(host, sizeof host - 1);
  path_ = folder / fmt::format("events.out.tfevents.{:.0f}.{}.{}", now_s(), host, ::getpid());
  file_.open(path_, std::ios::binary | std::ios::app);
  std::string version = event_head(now_s(), 0);
  append_bytes(3, "brain.Event:2", version);
  append(event_record(version));
}

void EventFile::write(std::int64_t step, const std::vector<ScalarEvent>& scalars) {
  append(event_record(scalar_event(now_s(), step, scalars)));
}

void EventFile::append(const std::string& record) {
  file_.write(record.data(), static_cast<std::streamsize>(record.size()));
  file_.flush();
  if (!file_) throw SystemError::from_errno("write", path_.string(), errno);
}

}  // namespace terroir
