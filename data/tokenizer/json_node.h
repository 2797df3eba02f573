// Reading a parsed JSON file of a user's with a place for every complaint.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "data/tokenizer/utf8.h"

namespace terroir {

// Text from the file for a message: at most a line's worth of it.
inline std::string shortened(const std::string& text) {
  constexpr std::size_t kMaxBytes = 60;
  if (text.size() <= kMaxBytes) return text;
  const std::string beginning = text.substr(0, kMaxBytes);
  return beginning.substr(0, kMaxBytes - incomplete_utf8_suffix(beginning)) + "...";
}

// A value, its path ("model.merges[17]"), and how to complain about it: every refusal is a UserError (exit 3)
// with file and path. The JSON must outlive the node.
class JsonNode {
 public:
  JsonNode(const Json& json, Place place) : json_(&json), place_(std::move(place)) {}

  [[noreturn]] void fail(const std::string& message) const {
    throw UserError(ExitCode::kData, place_, message);
  }

  const Json& json() const { return *json_; }
  bool is_null() const { return json_->is_null(); }
  bool has(const char* name) const { return json_->is_object() && json_->contains(name); }
  JsonNode at(const std::string& name) const {
    JsonNode child = member(name);
    if (child.json_ == nullptr) child.fail("is missing");
    return child;
  }
  // Absent and null are the same: JSON null.
  JsonNode get(const std::string& name) const {
    static const Json null;
    JsonNode child = member(name);
    if (child.json_ == nullptr) child.json_ = &null;
    return child;
  }
  JsonNode item(std::size_t index) const {
    JsonNode child = *this;
    child.json_ = &(*json_)[index];
    child.place_.key += fmt::format("[{}]", index);
    return child;
  }
  std::size_t array_size() const {
    if (!json_->is_array()) fail("must be an array");
    return json_->size();
  }
  const std::string& string() const {
    if (!json_->is_string()) fail("must be a string");
    return json_->get_ref<const std::string&>();
  }
  bool boolean(bool when_absent) const {
    if (is_null()) return when_absent;
    if (!json_->is_boolean()) fail("must be true or false");
    return json_->get<bool>();
  }
  std::int32_t id(std::size_t num_ids) const {
    if (!json_->is_number_integer()) fail("must be an integer");
    const auto value = json_->get<std::int64_t>();
    if (value < 0 || static_cast<std::uint64_t>(value) >= num_ids)
      fail(fmt::format(
          "id {} is outside 0..{}: the ids of the vocabulary and the added tokens must have no gaps",
          json_->dump(), static_cast<std::int64_t>(num_ids) - 1));
    return static_cast<std::int32_t>(value);
  }

 private:
  JsonNode member(const std::string& name) const {
    if (!json_->is_object()) fail("must be an object");
    JsonNode child = *this;
    child.place_.key += (place_.key.empty() ? "" : ".") + shortened(name);
    const auto found = json_->find(name);
    child.json_ = found == json_->end() ? nullptr : &*found;
    return child;
  }

  const Json* json_;
  Place place_;
};

}  // namespace terroir
