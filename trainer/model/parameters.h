// The parameters of one rank: which pieces of which logical tensors it holds, where they lie in flat buffers,
// and over which ranks their gradients are summed. Checkpoints, the optimizer and export read this table and
// nothing else.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/tensor/buffer.h"
#include "parallel/mesh.h"
#include "trainer/checkpoint/slice.h"

namespace terroir {

// Which ranks hold the same parameters, and therefore sum their gradients and share the optimizer state
// (ZeRO-1).
enum class ReduceScope : std::uint8_t {
  kData,           // split over tensor ranks: sum over data
  kReplicated,     // every tensor rank holds it and computes the same gradient: sum over data
  kTensorAndData,  // every tensor rank holds it, each with a partial gradient
  kTied,           // embeddings shared by the first and last stage: sum over both and over data
};

// A piece of a logical tensor that this rank holds, in the box's row-major order without gaps.
struct ParamPiece {
  std::string name;
  std::vector<std::int64_t> global_shape;
  Box box;
  std::int64_t offset = 0;  // elements from the start of its class's flat buffer
};

// Pieces of one class laid end to end, so that q, k and v (or gate and up) are one matrix to a GEMM.
struct ParamBlock {
  int param_class = 0;
  int bucket = 0;
  std::int64_t offset = 0;
  std::int64_t numel = 0;
  std::vector<ParamPiece> pieces;
};

// A contiguous part of a class's buffer that is reduced, updated and gathered as one message.
struct ParamBucket {
  std::int64_t begin = 0, end = 0;  // elements; the size is a multiple of 64 x the group's size
  int num_blocks = 0;
  std::string gradients, parameters;  // what messages call it: "gradients of NAME to NAME"
  Work gathered;                      // its parameters, after an update
};

struct ParamClass {
  ReduceScope scope;
  bool weight_decay = false;
  DType gradients = DType::kF32;
  bool counted = true;  // false: another rank owns the same values; norms and checkpoints skip this copy
  Communicator* group = nullptr;
  std::vector<ParamBucket> buckets;
  std::int64_t numel() const { return buckets.empty() ? 0 : buckets.back().end; }
  // This rank's shard of a bucket: what its optimizer updates.
  Range shard(const ParamBucket& bucket) const;
};

// Each f32 or bf16.
struct ParameterDTypes {
  DType compute = DType::kF32;  // of parameters as layers see them
  DType master = DType::kF32;   // of what the optimizer updates; that of `compute`: the parameters themselves
  DType gradients = DType::kF32;  // of the gradients of layers' matrices; all others are f32
  DType reduction = DType::kF32;  // of gradients as ranks exchange them; bf16 where they are kept so
};

// How much of a table gets memory: nothing (planning), parameters only (inference), or gradients too.
enum class ParameterMemory : std::uint8_t { kNone, kParameters, kParametersAndGradients };
struct ParameterStorage {
  ParameterMemory memory = ParameterMemory::kNone;
  ParameterDTypes dtypes = {};
  Device device = {};
};

// Built in reverse order of use, so that backward completes buckets from the front.
class ParameterTable {
 public:
  // A block of `pieces` (name, global_shape, box filled in), its gradient in that dtype. Returns its index.
  int add(ReduceScope scope, bool weight_decay, std::vector<ParamPiece> pieces,
          DType gradients = DType::kF32);
  // Places blocks in buckets of about `bucket_bytes`, makes the groups and allocates. Collective over the
  // mesh.
  void finish(Mesh& mesh, std::int64_t bucket_bytes, const ParameterStorage& storage);

  const std::vector<ParamBlock>& blocks() const { return blocks_; }
  std::vector<ParamClass>& classes() { return classes_; }
  const std::vector<ParamClass>& classes() const { return classes_; }
  const ParameterStorage& storage() const { return storage_; }

  // Enqueues what gives every rank the parameters that their shards' owners have updated, bucket by bucket in
  // the order in which forward uses them, so that forward may begin before the last ones are there.
  // Collective over the groups of all classes.
  void gather(const Stream& stream);
  // What is enqueued on that stream from now on finds the block's parameters complete; all parameters. Who
  // keeps views over an update calls these; the functions below that hand out parameters wait themselves.
  // Throws what befell the gather (TransportError).
  void wait_for(int block);
  void wait_for_all();

  // Elements [range) of a class's buffers, as one row. Parameters: what layers compute with (where master has
  // the same dtype also the master copy, which otherwise the optimizer holds, of its shards only). Gradients:
  // in the class's dtype.
  View flat_params(const ParamClass& c, Range range);
  View flat_grads(const ParamClass& c, Range range) const;

  // For f32 gradients that are reduced in bf16. A bucket's n, as what else fits in their memory: bf16 [2n].
  // And memory for half of the largest bucket in bf16: of those that several ranks share, 0 where there are
  // none.
  View grads_as_bf16(const ParamClass& c, const ParamBucket& bucket) const;
  View reduction_scratch() const;
  std::int64_t reduction_scratch_bytes() const;
  bool rounds_for_reduction(const ParamClass& c) const;

  // The block's memory as [rows, columns], or [rows] when columns is 0.
  View param(int block, std::int64_t columns);
  View grad(int block, std::int64_t columns) const;

 private:
  struct BucketIndex {
    std::size_t param_class, bucket;
  };
  struct Memory {
    Buffer params, grads;
  };
  std::size_t index_of(const ParamClass& c) const { return static_cast<std::size_t>(&c - classes_.data()); }
  View raw_params(const ParamClass& c, Range range) const;
  void order_gathers();
  ParamBucket& at(const BucketIndex& index) { return classes_[index.param_class].buckets[index.bucket]; }
  View view_of(const Buffer& buffer, DType dtype, int block, std::int64_t columns) const;
  ParameterStorage storage_;
  // Before classes_, whose gathers on their way must be cancelled before their memory goes.
  std::vector<Memory> memory_;  // of each class
  Buffer reduction_scratch_;
  std::vector<BucketIndex> gather_order_;
  std::vector<ParamBlock> blocks_;
  std::vector<ParamClass> classes_;
};

// Fills slices of weights (host memory): N(0, std) for matrices, 1 for norm weights, 0 for biases. A pure
// function of (seed, tensor name, element): the same bits for every layout, machine and number of threads.
void initialize_weights(std::span<const StateSlice> weights, std::uint64_t seed, double std, int num_threads);

}  // namespace terroir
