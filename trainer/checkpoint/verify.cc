#include "trainer/checkpoint/verify.h"

#include <bit>
#include <cmath>
#include <set>
#include <utility>

#include "base/file.h"
#include "base/hash.h"
#include "trainer/checkpoint/reader.h"

namespace terroir {
namespace {

std::string hash_of(const InputFile& file) {
  std::vector<std::byte> chunk(1 << 20);
  Xxh3 hash;
  for (std::uint64_t offset = 0; offset < file.size(); offset += chunk.size()) {
    const auto bytes = std::span(chunk).first(std::min<std::uint64_t>(chunk.size(), file.size() - offset));
    file.read_at(offset, bytes);
    hash.update(bytes);
  }
  return hash.digest().hex();
}

// Runs `check`; a UserError becomes problems.
template <class Check>
void collect(std::vector<Problem>& problems, const Check& check) {
  try {
    check();
  } catch (const UserError& error) {
    problems.insert(problems.end(), error.problems().begin(), error.problems().end());
  }
}

void verify_file(const std::filesystem::path& path, const StoredFile& stored) {
  const InputFile file(path, ExitCode::kCheckpoint);
  const Place place{path.string()};
  if (file.size() != stored.bytes)
    throw UserError(ExitCode::kCheckpoint, place,
                    fmt::format("has {} bytes where the manifest says {}", file.size(), stored.bytes));
  if (hash_of(file) != stored.hash)
    throw UserError(ExitCode::kCheckpoint, place,
                    "does not match its hash in the manifest: the file is damaged");
}

std::vector<float> load_whole(CheckpointReader& reader, const std::string& tensor, const std::string& state) {
  const std::vector<std::int64_t>& shape = reader.manifest().tensors.at(tensor).shape;
  std::vector<float> values(static_cast<std::size_t>(whole_box(shape).numel()));
  reader.load({{whole_slice(tensor, state, shape, values.data())}});
  return values;
}

using StateName = std::pair<std::string, std::string>;  // tensor, state
std::set<StateName> state_names(const CheckpointManifest& manifest) {
  std::set<StateName> names;
  for (const auto& [name, tensor] : manifest.tensors)
    for (const auto& [state, slices] : tensor.states) names.emplace(name, state);
  return names;
}

void compare_values(const std::vector<float>& a, const std::vector<float>& b, StateDifference& difference) {
  difference.num_elements = static_cast<std::int64_t>(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(a[i]) == std::bit_cast<std::uint32_t>(b[i])) continue;
    ++difference.num_different;
    const double distance = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    // Written so that a NaN, once there, stays: it compares false with everything.
    if (!(distance <= difference.max_difference))
      difference.max_difference =
          std::isnan(difference.max_difference) ? difference.max_difference : distance;
  }
}

StateDifference compare_state(CheckpointReader& a, CheckpointReader& b, const StateName& name) {
  StateDifference difference{name.first, name.second, ""};
  const auto has = [&](const CheckpointReader& reader) {
    const auto found = reader.manifest().tensors.find(name.first);
    return found != reader.manifest().tensors.end() && found->second.states.contains(name.second);
  };
  if (!has(a) || !has(b)) {
    difference.kind = has(a) ? "only_in_a" : "only_in_b";
  } else if (a.manifest().tensors.at(name.first).shape != b.manifest().tensors.at(name.first).shape) {
    difference.kind = "shape";
  } else {
    compare_values(load_whole(a, name.first, name.second), load_whole(b, name.first, name.second),
                   difference);
    if (difference.num_different > 0) difference.kind = "values";
  }
  return difference;
}

}  // namespace

std::vector<Problem> verify_checkpoint(const std::filesystem::path& checkpoint) {
  std::vector<Problem> problems;
  collect(problems, [&] {
    CheckpointReader reader(checkpoint);
    for (const StoredFile& file : reader.manifest().files)
      collect(problems, [&] { verify_file(checkpoint / file.name, file); });
    if (!problems.empty()) return;  // what the slices would say follows from it
    for (const auto& [tensor, state] : state_names(reader.manifest()))
      collect(problems, [&] { load_whole(reader, tensor, state); });
  });
  return problems;
}

std::vector<StateDifference> compare_checkpoints(const std::filesystem::path& a,
                                                 const std::filesystem::path& b) {
  CheckpointReader reader_a(a), reader_b(b);
  std::set<StateName> names = state_names(reader_a.manifest());
  names.merge(state_names(reader_b.manifest()));
  std::vector<StateDifference> differences;
  for (const StateName& name : names)
    if (StateDifference difference = compare_state(reader_a, reader_b, name); !difference.kind.empty())
      differences.push_back(std::move(difference));
  return differences;
}

}  // namespace terroir
