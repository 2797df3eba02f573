#include "trainer/model/parameters.h"

#include <algorithm>

#include "base/parallel_for.h"
#include "base/philox.h"

namespace terroir {
namespace {

// ZeRO cuts on multiples of this many elements: 256 bytes of f32.
constexpr std::int64_t kCutElements = 64;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

Communicator& group_for(Mesh& mesh, ReduceScope scope) {
  switch (scope) {
    case ReduceScope::kData:
    case ReduceScope::kReplicated:
      return mesh.group({Axis::kContext, Axis::kData}, Queue::kData);
    case ReduceScope::kTensorAndData:
      return mesh.group({Axis::kTensor, Axis::kContext, Axis::kData}, Queue::kData);
    case ReduceScope::kTied: {
      std::vector<int> ranks;
      for (const int stage : {0, mesh.size(Axis::kPipeline) - 1})
        for (int data = 0; data < mesh.size(Axis::kData); ++data)
          for (int context = 0; context < mesh.size(Axis::kContext); ++context)
            ranks.push_back(mesh.rank_at({mesh.coordinate(Axis::kTensor), context, data, stage}));
      std::sort(ranks.begin(), ranks.end());
      return mesh.group_of(ranks, Queue::kData, "tied embeddings");
    }
  }
  TERROIR_CHECK(false, "unknown reduce scope");
}

}  // namespace

Range ParamClass::shard(const ParamBucket& bucket) const {
  const Range part = split_range(bucket.end - bucket.begin, group->size(), group->rank());
  return {bucket.begin + part.begin, bucket.begin + part.end};
}

int ParameterTable::add(ReduceScope scope, bool weight_decay, std::vector<ParamPiece> pieces) {
  const auto same = [&](const ParamClass& c) { return c.scope == scope && c.weight_decay == weight_decay; };
  auto found = std::find_if(classes_.begin(), classes_.end(), same);
  if (found == classes_.end()) {
    classes_.push_back(ParamClass{.scope = scope, .weight_decay = weight_decay});
    found = classes_.end() - 1;
  }
  ParamBlock block{.param_class = static_cast<int>(found - classes_.begin()), .pieces = std::move(pieces)};
  for (const ParamPiece& piece : block.pieces) block.numel += piece.box.numel();
  blocks_.push_back(std::move(block));
  return static_cast<int>(blocks_.size()) - 1;
}

void ParameterTable::finish(Mesh& mesh, std::int64_t bucket_bytes, ParameterMemory memory) {
  // Groups that span stages come last, in the same order on every rank that makes them.
  std::vector<ParamClass*> order;
  for (ParamClass& c : classes_) order.push_back(&c);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->scope < b->scope; });
  for (ParamClass* c : order) c->group = &group_for(mesh, c->scope);

  for (std::size_t index = 0; index < classes_.size(); ++index) {
    ParamClass& c = classes_[index];
    c.counted = c.scope != ReduceScope::kReplicated || mesh.coordinate(Axis::kTensor) == 0;
    const std::int64_t multiple = kCutElements * c.group->size();
    std::int64_t used = 0;
    for (ParamBlock& block : blocks_) {
      if (block.param_class != static_cast<int>(index)) continue;
      const bool full = !c.buckets.empty() && (used - c.buckets.back().begin) * 4 >= bucket_bytes;
      if (c.buckets.empty() || full) {
        used = round_up(used, multiple);
        if (!c.buckets.empty()) c.buckets.back().end = used;
        c.buckets.push_back(ParamBucket{.begin = used, .end = used});
      }
      block.offset = used;
      block.bucket = static_cast<int>(c.buckets.size()) - 1;
      ++c.buckets.back().num_blocks;
      std::int64_t offset = used;
      for (ParamPiece& piece : block.pieces) {
        piece.offset = offset;
        offset += piece.box.numel();
      }
      used = round_up(offset, kCutElements);
    }
    const std::int64_t last_begin = c.buckets.back().begin;
    c.buckets.back().end = last_begin + round_up(used - last_begin, multiple);
    if (memory != ParameterMemory::kNone) c.params = Buffer(c.numel() * 4);
    if (memory == ParameterMemory::kParametersAndGradients) c.grads = Buffer(c.numel() * 4);
  }
}

View ParameterTable::view_of(const Buffer& buffer, int block, std::int64_t columns) const {
  const ParamBlock& b = blocks_[block];
  if (columns == 0) return buffer.view(DType::kF32, {b.numel}, b.offset * 4);
  return buffer.view(DType::kF32, {b.numel / columns, columns}, b.offset * 4);
}
View ParameterTable::param(int block, std::int64_t columns) const {
  return view_of(classes_[blocks_[block].param_class].params, block, columns);
}
View ParameterTable::grad(int block, std::int64_t columns) const {
  return view_of(classes_[blocks_[block].param_class].grads, block, columns);
}

void initialize_parameters(ParameterTable& table, std::uint64_t seed, double std, int num_threads) {
  for (const ParamBlock& block : table.blocks()) {
    for (const ParamPiece& piece : block.pieces) {
      float* out = static_cast<float*>(table.classes()[block.param_class].params.raw()) + piece.offset;
      const std::int64_t columns = piece.box.shape.back();
      const std::int64_t rows = piece.box.numel() / std::max<std::int64_t>(columns, 1);
      if (piece.global_shape.size() == 1) {
        std::fill_n(out, columns, piece.name.ends_with("bias") ? 0.0f : 1.0f);
        continue;
      }
      const PhiloxKey key = philox_key(seed, piece.name);
      parallel_for(num_threads, rows, 1, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
          const std::int64_t first = (piece.box.start[0] + row) * piece.global_shape[1] + piece.box.start[1];
          for (std::int64_t column = 0; column < columns; ++column)
            out[row * columns + column] =
                static_cast<float>(std * philox_normal(key, static_cast<std::uint64_t>(first + column)));
        }
      });
    }
  }
}

}  // namespace terroir
