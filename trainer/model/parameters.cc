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

// What messages call the bucket: its first and last tensor.
void add_to_bucket(ParamBucket& bucket, const ParamBlock& block) {
  const std::string& last = block.pieces.back().name;
  static constexpr std::string_view kGradients = "gradients of ";
  std::string first = block.pieces.front().name;
  if (bucket.num_blocks > 0)
    first = bucket.gradients.substr(kGradients.size(), bucket.gradients.find(" to ") - kGradients.size());
  const std::string names = first == last ? first : first + " to " + last;
  bucket.gradients = std::string(kGradients) + names;
  bucket.parameters = "parameters of " + names;
  ++bucket.num_blocks;
}

}  // namespace

Range ParamClass::shard(const ParamBucket& bucket) const {
  const Range part = split_range(bucket.end - bucket.begin, group->size(), group->rank());
  return {bucket.begin + part.begin, bucket.begin + part.end};
}

int ParameterTable::add(ReduceScope scope, bool weight_decay, std::vector<ParamPiece> pieces,
                        DType gradients) {
  const auto same = [&](const ParamClass& c) {
    return c.scope == scope && c.weight_decay == weight_decay && c.gradients == gradients;
  };
  auto found = std::find_if(classes_.begin(), classes_.end(), same);
  if (found == classes_.end()) {
    classes_.push_back(ParamClass{.scope = scope, .weight_decay = weight_decay, .gradients = gradients});
    found = classes_.end() - 1;
  }
  ParamBlock block{.param_class = static_cast<int>(found - classes_.begin()), .pieces = std::move(pieces)};
  for (const ParamPiece& piece : block.pieces) block.numel += piece.box.numel();
  blocks_.push_back(std::move(block));
  return static_cast<int>(blocks_.size()) - 1;
}

void ParameterTable::finish(Mesh& mesh, std::int64_t bucket_bytes, const ParameterStorage& storage) {
  storage_ = storage;
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
      const bool full =
          !c.buckets.empty() && (used - c.buckets.back().begin) * dtype_bytes(c.gradients) >= bucket_bytes;
      if (c.buckets.empty() || full) {
        used = round_up(used, multiple);
        if (!c.buckets.empty()) c.buckets.back().end = used;
        c.buckets.push_back(ParamBucket{.begin = used, .end = used});
      }
      block.offset = used;
      block.bucket = static_cast<int>(c.buckets.size()) - 1;
      add_to_bucket(c.buckets.back(), block);
      std::int64_t offset = used;
      for (ParamPiece& piece : block.pieces) {
        piece.offset = offset;
        offset += piece.box.numel();
      }
      used = round_up(offset, kCutElements);
    }
    const std::int64_t last_begin = c.buckets.back().begin;
    c.buckets.back().end = last_begin + round_up(used - last_begin, multiple);
    Memory& memory = memory_.emplace_back();
    if (storage.memory != ParameterMemory::kNone)
      memory.params = Buffer(c.numel() * dtype_bytes(storage.dtypes.compute), storage.device);
    if (storage.memory == ParameterMemory::kParametersAndGradients)
      memory.grads = Buffer(c.numel() * dtype_bytes(c.gradients), storage.device);
  }
  order_gathers();
  if (storage.memory == ParameterMemory::kParametersAndGradients)
    reduction_scratch_ = Buffer(reduction_scratch_bytes(), storage.device);
}

// By first use in forward. Tied embeddings come before all: the first stage begins with them, and since their
// group spans two stages, both must have them at the same place.
void ParameterTable::order_gathers() {
  gather_order_.clear();
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    const BucketIndex index{static_cast<std::size_t>(block->param_class),
                            static_cast<std::size_t>(block->bucket)};
    const auto same = [&](const BucketIndex& other) {
      return other.param_class == index.param_class && other.bucket == index.bucket;
    };
    if (std::none_of(gather_order_.begin(), gather_order_.end(), same)) gather_order_.push_back(index);
  }
  const auto tied = [&](const BucketIndex& i) { return classes_[i.param_class].scope == ReduceScope::kTied; };
  std::stable_partition(gather_order_.begin(), gather_order_.end(), tied);
}

void ParameterTable::gather(const Stream& stream) {
  for (const BucketIndex& index : gather_order_) {
    const ParamClass& c = classes_[index.param_class];
    ParamBucket& bucket = at(index);
    bucket.gathered = c.group->all_gather(
        raw_params(c, c.shard(bucket)), raw_params(c, {bucket.begin, bucket.end}), stream, bucket.parameters);
  }
}

void ParameterTable::wait_for(int block) {
  const ParamBlock& b = blocks_[static_cast<std::size_t>(block)];
  classes_[static_cast<std::size_t>(b.param_class)]
      .buckets[static_cast<std::size_t>(b.bucket)]
      .gathered.wait();
}

void ParameterTable::wait_for_all() {
  for (const BucketIndex& index : gather_order_) at(index).gathered.wait();
}

View ParameterTable::view_of(const Buffer& buffer, DType dtype, int block, std::int64_t columns) const {
  const ParamBlock& b = blocks_[block];
  const std::int64_t offset = b.offset * dtype_bytes(dtype);
  if (columns == 0) return buffer.view(dtype, {b.numel}, offset);
  return buffer.view(dtype, {b.numel / columns, columns}, offset);
}
View ParameterTable::param(int block, std::int64_t columns) {
  wait_for(block);
  return view_of(memory_[blocks_[block].param_class].params, storage_.dtypes.compute, block, columns);
}
View ParameterTable::grad(int block, std::int64_t columns) const {
  const int index = blocks_[block].param_class;
  return view_of(memory_[index].grads, classes_[index].gradients, block, columns);
}
View ParameterTable::flat_params(const ParamClass& c, Range range) {
  for (ParamBucket& bucket : classes_[index_of(c)].buckets)
    if (bucket.begin < range.end && range.begin < bucket.end) bucket.gathered.wait();
  return raw_params(c, range);
}
View ParameterTable::raw_params(const ParamClass& c, Range range) const {
  return memory_[index_of(c)].params.view(storage_.dtypes.compute, {range.size()},
                                          range.begin * dtype_bytes(storage_.dtypes.compute));
}
View ParameterTable::flat_grads(const ParamClass& c, Range range) const {
  return memory_[index_of(c)].grads.view(c.gradients, {range.size()}, range.begin * dtype_bytes(c.gradients));
}
View ParameterTable::grads_as_bf16(const ParamClass& c, const ParamBucket& bucket) const {
  return memory_[index_of(c)].grads.view(DType::kBF16, {2 * (bucket.end - bucket.begin)}, bucket.begin * 4);
}
bool ParameterTable::rounds_for_reduction(const ParamClass& c) const {
  return c.gradients != storage_.dtypes.reduction && c.group->size() > 1;
}
std::int64_t ParameterTable::reduction_scratch_bytes() const {
  std::int64_t most = 0;
  for (const ParamClass& c : classes_)
    if (rounds_for_reduction(c))
      for (const ParamBucket& bucket : c.buckets) most = std::max(most, bucket.end - bucket.begin);
  return most / 2 * dtype_bytes(storage_.dtypes.reduction);
}
View ParameterTable::reduction_scratch() const {
  return reduction_scratch_.view(DType::kBF16, {reduction_scratch_.bytes() / 2});
}

void initialize_weights(std::span<const StateSlice> weights, std::uint64_t seed, double std,
                        int num_threads) {
  for (const StateSlice& slice : weights) {
    const std::int64_t count = slice.end - slice.begin;
    if (slice.global_shape.size() == 1) {
      std::fill_n(slice.data, count, slice.tensor.ends_with("bias") ? 0.0f : 1.0f);
      continue;
    }
    const PhiloxKey key = philox_key(seed, slice.tensor);
    const std::int64_t columns = slice.box.shape[1];
    parallel_for(num_threads, count, columns, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t row = slice.box.start[0] + (slice.begin + i) / columns;
        const std::int64_t column = slice.box.start[1] + (slice.begin + i) % columns;
        const auto element = static_cast<std::uint64_t>(row * slice.global_shape[1] + column);
        slice.data[i] = static_cast<float>(std * philox_normal(key, element));
      }
    });
  }
}

}  // namespace terroir
