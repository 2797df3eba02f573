// The only place that knows which rank is where.
#pragma once

#include <array>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "parallel/world.h"

namespace terroir {

// Fastest first: neighbouring world ranks are tensor peers.
enum class Axis : int { kTensor = 0, kContext = 1, kData = 2, kPipeline = 3 };
inline constexpr int kNumAxes = 4;

struct MeshShape {
  int tensor = 1, context = 1, data = 1, pipeline = 1;
  int size(Axis axis) const;
  // The data degree that fills `world_size`. Throws UserError (exit 2) with every number when the other
  // degrees do not divide it, naming the configuration keys parallel.tensor, parallel.context,
  // parallel.pipeline.
  static MeshShape with_data_filled(int world_size, int tensor, int context, int pipeline);
};

class Mesh {
 public:
  // Throws UserError with all degrees and their product when it is not the world's size.
  Mesh(World& world, MeshShape shape);

  World& world() const { return world_; }
  const MeshShape& shape() const { return shape_; }
  int size(Axis axis) const { return shape_.size(axis); }
  int coordinate(Axis axis) const { return coordinates_[static_cast<int>(axis)]; }
  // The world rank at given coordinates (tensor, context, data, pipeline).
  int rank_at(std::array<int, kNumAxes> coordinates) const;

  // The group of this rank along any set of axes, e.g. {Axis::kData, Axis::kContext}; made on first use, and
  // then kept. Collective over the group's members on first use (same order on all ranks).
  Communicator& group(std::initializer_list<Axis> axes, Queue queue);
  // A group given by world ranks, e.g. the first and last stage that share tied embeddings.
  Communicator& group_of(const std::vector<int>& ranks, Queue queue, const std::string& name);
  // Everyone, on the control queue.
  Communicator& control() {
    return group({Axis::kTensor, Axis::kContext, Axis::kData, Axis::kPipeline}, Queue::kControl);
  }

 private:
  World& world_;
  MeshShape shape_;
  std::array<int, kNumAxes> coordinates_{};
  std::map<std::pair<Queue, std::vector<int>>, std::unique_ptr<Communicator>> groups_;
};

}  // namespace terroir
