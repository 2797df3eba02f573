#include "trainer/interop/export_hf.h"

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "trainer/checkpoint/float_formats.h"
#include "trainer/checkpoint/reader.h"
#include "trainer/checkpoint/safetensors.h"
#include "trainer/interop/hf_files.h"
#include "trainer/interop/staged_folder.h"

namespace terroir {
namespace fs = std::filesystem;
namespace {

SafetensorsDType file_dtype(ExportDType dtype) {
  return dtype == ExportDType::kBF16 ? SafetensorsDType::kBF16 : SafetensorsDType::kF32;
}

ExportDType choose_dtype(const ExportHfOptions& options, const CheckpointMeta& meta) {
  if (options.dtype) return *options.dtype;
  const Json imported = meta.extra.value("imported", Json::object());
  return imported.value("dtype", "") == "bf16" ? ExportDType::kBF16 : ExportDType::kF32;
}

// transformers refuses to load such a model, so an export would be of no use.
void check_loadable(const ModelConfig& model, const fs::path& checkpoint) {
  if (model.model_type == "llama" && model.hidden_size % model.num_attention_heads != 0)
    throw UserError(
        ExitCode::kCheckpoint, Place{checkpoint.string()},
        fmt::format("hidden_size {} is not a multiple of num_attention_heads {}: transformers does not load "
                    "such a Llama",
                    model.hidden_size, model.num_attention_heads));
}

// transformers 5 (tokenization_auto.py, MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS) takes its own class for
// every qwen2 model, whatever tokenizer_config.json names. An imported model brings a tokenizer made for that
// class.
void warn_of_replaced_tokenizer(const CheckpointReader& checkpoint, ExportHfReport& report) {
  if (checkpoint.manifest().meta.model.model_type != "qwen2") return;
  if (!checkpoint.read_file("tokenizer.json")) return;
  if (checkpoint.read_file(std::string(kKeptFolder) + "tokenizer_config.json")) return;
  report.warnings.push_back(
      "model_type qwen2: AutoTokenizer of transformers 5 replaces this tokenizer by its own Qwen2Tokenizer, "
      "which gives other ids; load it with PreTrainedTokenizerFast.from_pretrained (qwen3 and llama models "
      "are "
      "not affected)");
}

struct Shard {
  std::string name;
  std::vector<SafetensorsTensor> tensors;
};

std::int64_t bytes_of(const NamedShape& tensor, SafetensorsDType dtype) {
  return num_parameters({tensor}) * safetensors_bytes(dtype);
}

// Tensors in order of use, a new shard whenever the next one would go beyond the limit.
std::vector<Shard> plan_shards(const std::vector<NamedShape>& tensors, SafetensorsDType dtype,
                               std::int64_t max_bytes) {
  std::vector<Shard> shards(1);
  std::int64_t bytes = 0;
  for (const NamedShape& tensor : tensors) {
    const std::int64_t next = bytes_of(tensor, dtype);
    if (bytes > 0 && bytes + next > max_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    shards.back().tensors.push_back({tensor.name, dtype, tensor.shape});
    bytes += next;
  }
  for (std::size_t i = 0; i < shards.size(); ++i)
    shards[i].name = shards.size() == 1
                         ? "model.safetensors"
                         : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  return shards;
}

void write_shard(const fs::path& folder, const Shard& shard, CheckpointReader& checkpoint) {
  SafetensorsWriter writer(folder / shard.name, shard.tensors);
  std::vector<float> values;
  std::vector<std::uint16_t> narrow;
  for (const SafetensorsTensor& tensor : writer.tensors()) {
    values.resize(static_cast<std::size_t>(tensor.numel()));
    checkpoint.load({{whole_slice(tensor.name, "weight", tensor.shape, values.data())}});
    if (tensor.dtype == SafetensorsDType::kBF16) {
      narrow.resize(values.size());
      std::transform(values.begin(), values.end(), narrow.begin(),
                     [](float value) { return bf16_from_float(value); });
      writer.append(std::as_bytes(std::span(narrow)));
    } else {
      writer.append(std::as_bytes(std::span(values)));
    }
  }
  writer.commit();
}

std::string index_text(const std::vector<Shard>& shards, std::int64_t total_bytes) {
  Json index{{"metadata", {{"total_size", total_bytes}}}, {"weight_map", Json::object()}};
  for (const Shard& shard : shards)
    for (const SafetensorsTensor& tensor : shard.tensors) index["weight_map"][tensor.name] = shard.name;
  return index.dump(2) + "\n";
}

}  // namespace

const char* export_dtype_name(ExportDType dtype) { return dtype == ExportDType::kBF16 ? "bf16" : "f32"; }

ExportHfReport export_hf(const ExportHfOptions& options) {
  CheckpointReader checkpoint(options.checkpoint);
  const CheckpointMeta& meta = checkpoint.manifest().meta;
  check_loadable(meta.model, options.checkpoint);
  ExportHfReport report;
  report.dtype = choose_dtype(options, meta);
  warn_of_replaced_tokenizer(checkpoint, report);
  std::map<std::string, std::string> files =
      hf_small_files(checkpoint, report.dtype == ExportDType::kBF16 ? "bfloat16" : "float32");

  const std::vector<NamedShape> tensors = hf_tensors(meta.model);
  const std::vector<Shard> shards = plan_shards(tensors, file_dtype(report.dtype), options.max_shard_bytes);
  report.num_tensors = static_cast<std::int64_t>(tensors.size());
  report.num_parameters = num_parameters(tensors);
  report.total_bytes = report.num_parameters * safetensors_bytes(file_dtype(report.dtype));
  if (shards.size() > 1) files["model.safetensors.index.json"] = index_text(shards, report.total_bytes);

  StagedFolder staged(options.folder, options.overwrite, "config.json");
  for (const Shard& shard : shards) {
    write_shard(staged.path(), shard, checkpoint);
    report.files.push_back(shard.name);
  }
  for (const auto& [name, text] : files) {
    write_file_atomically(staged.path() / name, text);
    report.files.push_back(name);
  }
  staged.publish();
  return report;
}

std::int64_t parse_size(const std::string& text) {
  struct Unit {
    const char* name;
    std::int64_t bytes;
  };
  constexpr Unit kUnits[] = {{"", 1},          {"KB", 1'000},    {"MB", 1'000'000}, {"GB", 1'000'000'000},
                             {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
  std::int64_t number = 0, bytes = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && number > 0)
    for (const Unit& unit : kUnits)
      if (std::string_view(rest) == unit.name && !__builtin_mul_overflow(number, unit.bytes, &bytes))
        return bytes;
  throw UserError(ExitCode::kUsage, Place{},
                  fmt::format("\"{}\" is not a size: write 5GB, 200MB, 1GiB or a number of bytes", text));
}

}  // namespace terroir
