#include "data/tokenizer/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "data/tokenizer/utf8.h"

namespace terroir {
namespace {

constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

utf8proc_propval_t combining_class(utf8proc_int32_t code_point) {
  return utf8proc_get_property(code_point)->combining_class;
}

void append_decomposed(std::uint32_t code_point, std::vector<utf8proc_int32_t>& out) {
  utf8proc_int32_t decomposed[32];  // the longest canonical decomposition has 4
  int boundary = 0;
  const utf8proc_ssize_t count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point), decomposed, 32, kOptions, &boundary);
  TERROIR_CHECK(count >= 0 && count <= 32, "utf8proc_decompose_char: {}", count);
  out.insert(out.end(), decomposed, decomposed + count);
}

// Puts combining marks into canonical order. The library's own function does this by insertion, which a long
// run of marks in a text made for it turns into hours.
void order_marks(std::vector<utf8proc_int32_t>& code_points) {
  for (auto run = code_points.begin(); run != code_points.end();) {
    if (combining_class(*run) == 0) {
      ++run;
      continue;
    }
    const auto end = std::find_if(run, code_points.end(), [](auto c) { return combining_class(c) == 0; });
    std::stable_sort(run, end, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    run = end;
  }
}

void append_composed(std::vector<utf8proc_int32_t>& code_points, std::string& out) {
  order_marks(code_points);
  const utf8proc_ssize_t count = utf8proc_normalize_utf32(
      code_points.data(), static_cast<utf8proc_ssize_t>(code_points.size()), kOptions);
  TERROIR_CHECK(count >= 0, "utf8proc_normalize_utf32: {}", count);
  for (utf8proc_ssize_t i = 0; i < count; ++i)
    append_utf8(static_cast<std::uint32_t>(code_points[static_cast<std::size_t>(i)]), out);
  code_points.clear();
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> code_points;  // decomposed, not yet written
  const char* const end = text.data() + text.size();
  for (const char* p = text.data(); p < end;) {
    if (const char* run_end = std::find_if(p, end, [](char c) { return (c & 0x80) != 0; }); run_end != p) {
      // Nothing composes with an ASCII character that follows it: what is pending can be written, which also
      // keeps the buffer small. A mark that follows may compose with the last one.
      append_composed(code_points, out);
      out.append(p, run_end - 1);
      code_points.push_back(run_end[-1]);
      p = run_end;
      continue;
    }
    const Utf8Char c = decode_utf8(p, end);
    if (c.code_point == kInvalidCodePoint) {
      append_composed(code_points, out);
      out.push_back(*p);
    } else {
      append_decomposed(c.code_point, code_points);
    }
    p += c.length;
  }
  append_composed(code_points, out);
  return out;
}

}  // namespace terroir
