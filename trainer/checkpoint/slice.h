// Pieces of logical tensors: the one language in which a rank says what it owns, a checkpoint what it stores,
// and a loader what it wants. None of them knows a mesh.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace terroir {

// Slices go to and from files in chunks of 1 MiB, which stay in the cache between being hashed and being
// written or copied, so that memory does not grow with the slice.
inline constexpr std::int64_t kChunkElements = 1 << 18;

// A rectangle of a logical (unsharded, Hugging Face named) tensor: one entry per dimension.
struct Box {
  std::vector<std::int64_t> start, shape;
  std::int64_t numel() const;
  bool operator==(const Box&) const = default;
};

// The box that is the whole tensor.
Box whole_box(const std::vector<std::int64_t>& shape);

// Elements [begin, end) of the box's row-major order, of one state of one tensor, and where they lie in
// memory. This expresses a ZeRO shard (the range) of a tensor-parallel shard (the box).
struct StateSlice {
  std::string tensor;                      // "model.layers.3.self_attn.q_proj.weight"
  std::string state;                       // "weight" (f32 master), "exp_avg", "exp_avg_sq"
  std::vector<std::int64_t> global_shape;  // of the logical tensor, rank >= 1
  Box box;
  std::int64_t begin = 0, end = 0;
  float* data = nullptr;  // end - begin elements; read by save_checkpoint, written by load_checkpoint
};

// The whole of one state of a tensor.
StateSlice whole_slice(std::string tensor, std::string state, const std::vector<std::int64_t>& shape,
                       float* data);

// Throws ContractError unless the box lies inside the tensor and 0 <= begin <= end <= box.numel().
void check_slice(const StateSlice& slice);

// Copies to `to` the elements of `from` (same tensor and state, so equal global_shape) that both hold.
// Elements written are marked in `covered` (to.end - to.begin entries).
void copy_overlap(const StateSlice& from, const StateSlice& to, std::vector<bool>& covered);

// False when copy_overlap would surely copy nothing: what a loader need not read. Not exact the other way.
bool may_overlap(const StateSlice& a, const StateSlice& b);

}  // namespace terroir
