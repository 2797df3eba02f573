#include "base/json.h"

#include <algorithm>
#include <set>
#include <vector>

namespace terroir {
namespace {

Place place_of(std::string_view text, const std::string& file, std::size_t position, int first_line) {
  position = std::min(position, text.size());
  const std::string_view before = text.substr(0, position);
  const auto newlines = static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  const std::size_t line_start = before.rfind('\n') == std::string_view::npos ? 0 : before.rfind('\n') + 1;
  return Place{file, first_line + newlines, static_cast<int>(position - line_start) + 1};
}

// Builds the tree and refuses what the parser's own builder lets through.
class StrictHandler : public nlohmann::json_sax<Json> {
 public:
  StrictHandler(std::string_view text, const std::string& file, ExitCode exit_code, JsonLimits limits,
                int first_line)
      : text_(text), file_(file), exit_code_(exit_code), limits_(limits), first_line_(first_line) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& source) override {
    if (source.find_first_of(".eE") == string_t::npos) fail("integer " + source + " does not fit 64 bits");
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { fail("binary values are not JSON"); }
  bool start_object(std::size_t) override { return push(Json::object()); }
  bool start_array(std::size_t) override { return push(Json::array()); }
  bool end_object() override { return pop(); }
  bool end_array() override { return pop(); }
  bool key(string_t& name) override {
    key_.clear();
    if (stack_.back()->contains(name)) fail("duplicate key \"" + name + "\"");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const Json::exception& error) override {
    std::string reason =
        error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: REASON"
    const std::size_t colon = reason.find(": ");
    if (colon != std::string::npos) reason = reason.substr(colon + 2);
    throw UserError(exit_code_, place_of(text_, file_, position == 0 ? 0 : position - 1, first_line_),
                    "not valid JSON: " + reason);
  }

 private:
  [[noreturn]] void fail(const std::string& message) {
    std::string path;
    for (const std::string& part : path_)
      if (!part.empty()) path += part + '.';
    path += key_;  // the member whose value is being read; empty inside an array and at a key
    if (path.ends_with('.')) path.pop_back();
    throw UserError(exit_code_, Place{file_, first_line_ > 1 ? first_line_ : 0, 0, path}, message);
  }
  bool add(Json value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (stack_.back()->is_array()) {
      stack_.back()->push_back(std::move(value));
    } else {
      (*stack_.back())[key_] = std::move(value);
    }
    return true;
  }
  bool push(Json container) {
    if (static_cast<int>(stack_.size()) >= limits_.max_depth)
      fail(fmt::format("nested deeper than {} levels", limits_.max_depth));
    add(std::move(container));
    if (stack_.empty()) {
      stack_.push_back(&root_);
    } else if (stack_.back()->is_array()) {
      stack_.push_back(&stack_.back()->back());
    } else {
      stack_.push_back(&(*stack_.back())[key_]);
    }
    path_.push_back(std::move(key_));
    key_.clear();
    return true;
  }
  bool pop() {
    stack_.pop_back();
    path_.pop_back();
    key_.clear();
    return true;
  }

  std::string_view text_;
  const std::string& file_;
  ExitCode exit_code_;
  JsonLimits limits_;
  int first_line_;
  Json root_;
  std::vector<Json*> stack_;
  std::vector<std::string> path_;
  std::string key_;
};

}  // namespace

Json parse_json(std::string_view text, const std::string& file, ExitCode exit_code, JsonLimits limits,
                int first_line) {
  if (text.size() > limits.max_bytes)
    throw UserError(
        exit_code, Place{file},
        fmt::format("{} bytes of JSON, at most {} are allowed here", text.size(), limits.max_bytes));
  if (text.starts_with("\xEF\xBB\xBF"))
    throw UserError(exit_code, Place{file, first_line, 1}, "begins with a byte order mark: remove it");
  StrictHandler handler(text, file, exit_code, limits, first_line);
  Json::sax_parse(text, &handler);
  return handler.take();
}

template <class T>
T json_at(const Json& object, const std::string& name, const Place& place, ExitCode exit_code) {
  Place at = place;
  at.key += (at.key.empty() ? "" : ".") + name;
  if (!object.is_object()) throw UserError(exit_code, place, "must be an object");
  const auto found = object.find(name);
  if (found == object.end()) throw UserError(exit_code, at, "is missing");
  if constexpr (std::is_same_v<T, Json>) {
    return *found;
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!found->is_boolean()) throw UserError(exit_code, at, "must be true or false");
    return found->get<bool>();
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    if (!found->is_number_integer() ||
        (found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{INT64_MAX}))
      throw UserError(exit_code, at, "must be an integer");
    return found->get<std::int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (!found->is_number()) throw UserError(exit_code, at, "must be a number");
    return found->get<double>();
  } else {
    if (!found->is_string()) throw UserError(exit_code, at, "must be a string");
    return found->get<std::string>();
  }
}

template Json json_at<Json>(const Json&, const std::string&, const Place&, ExitCode);
template bool json_at<bool>(const Json&, const std::string&, const Place&, ExitCode);
template std::int64_t json_at<std::int64_t>(const Json&, const std::string&, const Place&, ExitCode);
template double json_at<double>(const Json&, const std::string&, const Place&, ExitCode);
template std::string json_at<std::string>(const Json&, const std::string&, const Place&, ExitCode);

}  // namespace terroir
