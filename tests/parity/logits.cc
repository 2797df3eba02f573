// Writes the logits of texts, for comparison with transformers:
//   parity_logits CHECKPOINT IDS OUT
// IDS: a JSON array of token ids on each line. OUT: f32 [tokens of all lines, vocabulary], each token's
// logits given the tokens of its line before it.
#include <cstdio>
#include <fstream>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "trainer/eval/language_model.h"

namespace terroir {
namespace {

void write_logits(const char* checkpoint, const char* ids_file, const char* out_file) {
  LanguageModel model(checkpoint);
  std::ifstream lines(ids_file);
  std::ofstream out(out_file, std::ios::binary);
  for (std::string line; std::getline(lines, line);) {
    const auto ids = Json::parse(line).get<std::vector<std::int32_t>>();
    model.start(static_cast<std::int64_t>(ids.size()));
    for (const std::int32_t id : ids) {
      const std::span<const float> logits = model.append(std::span(&id, 1));
      out.write(reinterpret_cast<const char*>(logits.data()),
                static_cast<std::streamsize>(logits.size_bytes()));
    }
  }
  if (!lines.eof() || !out.flush()) throw SystemError("parity_logits", "a file cannot be read or written");
}

}  // namespace
}  // namespace terroir

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  try {
    terroir::write_logits(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    std::fputs(terroir::error_report(error).c_str(), stderr);
    return 1;
  }
  return 0;
}
