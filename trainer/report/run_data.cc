#include "trainer/report/run_data.h"

#include "base/file.h"
#include "trainer/config/config_file.h"

namespace terroir {
namespace {

namespace fs = std::filesystem;

std::string text_or_empty(const Json& object, const char* key, const Place& place) {
  return object.contains(key) ? json_at<std::string>(object, key, place, ExitCode::kData) : "";
}

Sample read_sample(const Json& object, const Place& place) {
  if (!object.is_object()) throw UserError(ExitCode::kData, place, "expected a JSON object");
  Sample sample;
  sample.language = text_or_empty(object, "language", place);
  sample.prompt = text_or_empty(object, "prompt", place);
  sample.text = json_at<std::string>(object, "text", place, ExitCode::kData);
  if (sample.text.starts_with(sample.prompt)) sample.text.erase(0, sample.prompt.size());
  if (object.contains("step")) sample.step = json_at<std::int64_t>(object, "step", place, ExitCode::kData);
  return sample;
}

std::vector<Sample> read_samples(const fs::path& path) {
  std::vector<Sample> samples;
  const std::string text = read_file(path, ExitCode::kData);
  int number = 1;
  for (std::size_t begin = 0, end; begin < text.size(); begin = end + 1, ++number) {
    end = std::min(text.find('\n', begin), text.size());
    if (end == begin) continue;
    const std::string_view line(text.data() + begin, end - begin);
    samples.push_back(read_sample(parse_json(line, path.string(), ExitCode::kData, {}, number),
                                  Place{path.string(), number}));
  }
  return samples;
}

std::string folder_name(const fs::path& folder) {
  const fs::path absolute = fs::absolute(folder).lexically_normal();
  return (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string();
}

}  // namespace

RunData read_run(const fs::path& folder) {
  RunData run;
  if (!fs::exists(folder / "metrics.jsonl"))
    throw UserError(ExitCode::kData, Place{folder.string()},
                    "no metrics.jsonl here: give the folder of a run that has begun to train");
  run.metrics = read_metrics(folder / "metrics.jsonl");
  run.name = folder_name(folder);
  if (const fs::path path = folder / "config.resolved.yaml"; fs::exists(path)) {
    run.config = load_config(path);
    run.name = run.config->run.name;
  }
  if (const fs::path path = folder / "environment.json"; fs::exists(path)) {
    const std::string text = read_file(path, ExitCode::kData);
    parse_json(text, path.string(), ExitCode::kData);  // strict; the order of its keys is the parser's below
    run.environment = OrderedJson::parse(text);
  }
  if (const fs::path path = folder / "samples.jsonl"; fs::exists(path)) run.samples = read_samples(path);
  return run;
}

}  // namespace terroir
