#include "parallel/mesh.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace terroir {
namespace {

constexpr const char* kAxisNames[kNumAxes] = {"tensor", "context", "data", "pipeline"};

void check_degree(const char* key, int degree) {
  if (degree < 1)
    throw UserError(ExitCode::kUsage, Place{.key = key}, fmt::format("is {}; it must be at least 1", degree));
}

}  // namespace

int MeshShape::size(Axis axis) const {
  const std::array<int, kNumAxes> sizes = {tensor, context, data, pipeline};
  return sizes[static_cast<std::size_t>(axis)];
}

MeshShape MeshShape::with_data_filled(int world_size, int tensor, int context, int pipeline) {
  check_degree("parallel.tensor", tensor);
  check_degree("parallel.context", context);
  check_degree("parallel.pipeline", pipeline);
  const std::int64_t product = std::int64_t{tensor} * context * pipeline;
  if (world_size % product != 0)
    throw UserError(
        ExitCode::kUsage, Place{.key = "parallel"},
        fmt::format("parallel.tensor {} x parallel.context {} x parallel.pipeline {} = {} does not divide "
                    "the {} ranks of this job; start a multiple of {} ranks, or change the degrees",
                    tensor, context, pipeline, product, world_size, product));
  return {tensor, context, static_cast<int>(world_size / product), pipeline};
}

Mesh::Mesh(World& world, MeshShape shape) : world_(world), shape_(shape) {
  std::int64_t product = 1;
  for (int axis = 0; axis < kNumAxes; ++axis) product *= shape.size(static_cast<Axis>(axis));
  const bool positive = std::min({shape.tensor, shape.context, shape.data, shape.pipeline}) >= 1;
  if (!positive || product != world.size())
    throw UserError(
        ExitCode::kUsage, Place{.key = "parallel"},
        fmt::format("tensor {} x context {} x data {} x pipeline {} = {} ranks, but this job has {}",
                    shape.tensor, shape.context, shape.data, shape.pipeline, product, world.size()));
  int rest = world.rank();
  for (int axis = 0; axis < kNumAxes; ++axis) {
    coordinates_[axis] = rest % shape.size(static_cast<Axis>(axis));
    rest /= shape.size(static_cast<Axis>(axis));
  }
}

int Mesh::rank_at(std::array<int, kNumAxes> coordinates) const {
  int rank = 0;
  for (int axis = kNumAxes - 1; axis >= 0; --axis) {
    const int size = shape_.size(static_cast<Axis>(axis));
    TERROIR_CHECK(coordinates[axis] >= 0 && coordinates[axis] < size, "{} coordinate {} of {}",
                  kAxisNames[axis], coordinates[axis], size);
    rank = rank * size + coordinates[axis];
  }
  return rank;
}

Communicator& Mesh::group(std::initializer_list<Axis> axes, Queue queue) {
  const auto along = [&](int axis) {
    return std::find(axes.begin(), axes.end(), static_cast<Axis>(axis)) != axes.end();
  };
  std::vector<std::string_view> names;
  for (int axis = 0; axis < kNumAxes; ++axis)
    if (along(axis)) names.emplace_back(kAxisNames[axis]);

  std::vector<int> ranks;
  for (int rank = 0; rank < world_.size(); ++rank) {
    int rest = rank;
    bool member = true;
    for (int axis = 0; axis < kNumAxes; ++axis) {
      const int size = shape_.size(static_cast<Axis>(axis));
      member = member && (along(axis) || rest % size == coordinates_[axis]);
      rest /= size;
    }
    if (member) ranks.push_back(rank);
  }
  return group_of(ranks, queue, fmt::format("{}", fmt::join(names, "+")));
}

Communicator& Mesh::group_of(const std::vector<int>& ranks, Queue queue, const std::string& name) {
  std::unique_ptr<Communicator>& group = groups_[{queue, ranks}];
  if (!group) group = world_.group(ranks, queue, name);
  return *group;
}

}  // namespace terroir
