#include "base/json.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"

namespace terroir {
namespace {

Json parse(std::string_view text, JsonLimits limits = {}) {
  return parse_json(text, "f.json", ExitCode::kData, limits);
}

// Refused with exit code 3 and these words.
void expect_rejected(const std::string& text, const std::string& words, JsonLimits limits = {}) {
  SCOPED_TRACE(text);
  expect_error(ExitCode::kData, {"terroir: error: f.json", words}, [&] { parse(text, limits); });
}

TEST(Json, ReadsEveryKindOfValue) {
  const Json json = parse(R"({"a": [1, -2, 2.5, true, false, null], "b": {"c": "\u00e9\n"}})");
  EXPECT_EQ(json["a"][0], 1);
  EXPECT_EQ(json["a"][1], -2);
  EXPECT_EQ(json["a"][2], 2.5);
  EXPECT_EQ(json["a"][3], true);
  EXPECT_TRUE(json["a"][5].is_null());
  EXPECT_EQ(json["b"]["c"], "\xC3\xA9\n");
  EXPECT_EQ(parse("3"), 3);
}

TEST(Json, KeepsTheWholeRangeOf64BitIntegers) {
  EXPECT_EQ(parse("18446744073709551615").get<std::uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parse("-9223372036854775808").get<std::int64_t>(), INT64_MIN);
}

TEST(Json, RefusesIntegersThatWouldLoseDigits) {
  expect_rejected("18446744073709551616", "integer 18446744073709551616 does not fit 64 bits");
  expect_rejected(R"({"a": -9223372036854775809})", "a: integer -9223372036854775809 does not fit 64 bits");
  expect_rejected(R"({"a": [{"b": 1}, 18446744073709551616]})", "f.json: a: integer");
  EXPECT_EQ(parse("1e30"), 1e30) << "a floating-point number may be large";
}

TEST(Json, RefusesADuplicateKeyAndNamesItsPlace) {
  expect_rejected(R"({"a": 1, "a": 2})", "duplicate key \"a\"");
  expect_rejected(R"({"outer": {"b": 1, "b": 1}})", "outer: duplicate key \"b\"");
  EXPECT_NO_THROW(parse(R"([{"a": 1}, {"a": 1}])")) << "the same key in two objects is no duplicate";
}

TEST(Json, RefusesSyntaxErrorsWithLineAndColumn) {
  expect_rejected("{\n  \"a\": 1,\n  \"b\" 2\n}", "f.json:3:7: not valid JSON");
  expect_rejected("", "not valid JSON");
  expect_rejected("{\"a\": 1", "not valid JSON");
  expect_rejected("{} x", "f.json:1:4: not valid JSON");
  expect_rejected("{} {}", "not valid JSON");
  expect_rejected("{'a': 1}", "not valid JSON");
  expect_rejected("[1,]", "not valid JSON");
  expect_rejected("[NaN]", "not valid JSON");
  expect_rejected("[01]", "not valid JSON");
  expect_rejected("// comment\n1", "not valid JSON");
}

TEST(Json, RefusesInvalidUtf8) {
  expect_rejected("\"\xFF\"", "not valid JSON");
  expect_rejected("\"\xED\xA0\x80\"", "not valid JSON");  // a surrogate
  expect_rejected("\"\\ud800\"", "not valid JSON");       // half a surrogate pair
}

TEST(Json, RefusesAByteOrderMark) {
  expect_rejected("\xEF\xBB\xBF{}", "f.json:1:1: begins with a byte order mark");
}

TEST(Json, RefusesNestingBeyondTheLimit) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse(nested(64)));
  expect_rejected(nested(65), "nested deeper than 64 levels");
  expect_rejected(nested(100000), "nested deeper than 64 levels");
  expect_rejected(R"({"a": {"b": {}}})", "a.b: nested deeper than 2 levels", {.max_depth = 2});
}

TEST(Json, RefusesTextBeyondTheSizeLimit) {
  EXPECT_NO_THROW(parse("[1, 2]", {.max_bytes = 6}));
  expect_rejected("[1, 22]", "7 bytes of JSON, at most 6 are allowed here", {.max_bytes = 6});
}

TEST(Json, CountsLinesOfJsonLinesFromTheGivenOne) {
  expect_error(ExitCode::kData, {"f.jsonl:17:2: not valid JSON"},
               [] { parse_json("[", "f.jsonl", ExitCode::kData, {}, 17); });
  expect_error(ExitCode::kData, {"f.jsonl:17: duplicate key"},
               [] { parse_json(R"({"a": 1, "a": 1})", "f.jsonl", ExitCode::kData, {}, 17); });
}

class JsonAt : public testing::Test {
 protected:
  const Json object_ =
      parse(R"({"n": 3, "x": 2.5, "s": "t", "b": true, "o": {}, "big": 9223372036854775808})");
  const Place place_{"m.json", 0, 0, "outer"};

  template <class T>
  void expect_message(const std::string& name, const std::string& message) {
    expect_error(ExitCode::kCheckpoint, {"m.json: outer." + name + ": " + message},
                 [&] { json_at<T>(object_, name, place_, ExitCode::kCheckpoint); });
  }
};

TEST_F(JsonAt, ReturnsMembersOfTheRightType) {
  const auto code = ExitCode::kCheckpoint;
  EXPECT_EQ(json_at<std::int64_t>(object_, "n", place_, code), 3);
  EXPECT_EQ(json_at<double>(object_, "x", place_, code), 2.5);
  EXPECT_EQ(json_at<double>(object_, "n", place_, code), 3.0);
  EXPECT_EQ(json_at<std::string>(object_, "s", place_, code), "t");
  EXPECT_EQ(json_at<bool>(object_, "b", place_, code), true);
  EXPECT_TRUE(json_at<Json>(object_, "o", place_, code).is_object());
}

TEST_F(JsonAt, NamesWhatIsMissingOrWrong) {
  expect_message<Json>("absent", "is missing");
  expect_message<std::int64_t>("x", "must be an integer");
  expect_message<std::int64_t>("big", "must be an integer");
  expect_message<double>("s", "must be a number");
  expect_message<std::string>("n", "must be a string");
  expect_message<bool>("n", "must be true or false");
  expect_error(ExitCode::kCheckpoint, {"m.json: outer: must be an object"},
               [&] { json_at<bool>(Json(3), "b", place_, ExitCode::kCheckpoint); });
}

}  // namespace
}  // namespace terroir
