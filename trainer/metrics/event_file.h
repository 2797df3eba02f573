// TensorBoard event files, without protobuf or TensorFlow. `tensorboard --logdir runs` and `wandb sync` read
// them.
//
// A record is: u64 length, u32 masked CRC-32C of the length, payload, u32 masked CRC-32C of the payload (all
// little endian; TensorFlow's record_writer.h). The payload is an Event message: 1 wall_time (double), 2 step
// (int64), 3 file_version (string, first record only) or 5 summary {1 value {1 tag (string), 2 simple_value
// (float)}}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace terroir {

// CRC-32C (Castagnoli, reflected 0x82F63B78) of the bytes.
std::uint32_t crc32c(std::string_view bytes);

// One record around a payload.
std::string event_record(std::string_view payload);

using ScalarEvent = std::pair<std::string, double>;  // tag, value

// The Event message of some scalars at a step. Values are stored as float.
std::string scalar_event(double wall_time_s, std::int64_t step, const std::vector<ScalarEvent>& scalars);

// Appends events to a file of its own, which TensorBoard merges with the older ones of the folder.
class EventFile {
 public:
  // Creates folder/events.out.tfevents.<seconds>.<host>.<process id>. Throws SystemError.
  explicit EventFile(const std::filesystem::path& folder);
  // Written and flushed when it returns. Throws SystemError.
  void write(std::int64_t step, const std::vector<ScalarEvent>& scalars);
  const std::filesystem::path& path() const { return path_; }

 private:
  void append(const std::string& record);
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace terroir
