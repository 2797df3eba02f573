#include "tests/cuda_on_cpu/nccl_exchange.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace cuda_on_cpu::nccl {
namespace {

template <class T>
T maximum(T a, T b) {
  return std::max(a, b);
}
float maximum(float a, float b) { return std::fmax(a, b); }
double maximum(double a, double b) { return std::fmax(a, b); }

float load(__nv_bfloat16 value) { return __bfloat162float(value); }
template <class T>
T load(T value) {
  return value;
}
void store(__nv_bfloat16& to, float value) { to = __float2bfloat16(value); }
template <class T>
void store(T& to, T value) {
  to = value;
}

template <class T>
void reduce(const std::vector<const void*>& inputs, std::size_t count, ncclRedOp_t op, char* result) {
  for (std::size_t i = 0; i < count; ++i) {
    auto total = load(static_cast<const T*>(inputs[0])[i]);
    for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
      const auto value = load(static_cast<const T*>(inputs[rank])[i]);
      total = op == ncclSum ? total + value : maximum(total, value);
    }
    store(reinterpret_cast<T*>(result)[i], total);
  }
}

std::vector<char> bytes_of(const Call& call) {
  const char* begin = static_cast<const char*>(call.in);
  return {begin, begin + call.count * element_bytes(call.type)};
}

void write(const Call& call, const std::vector<char>& bytes, std::size_t begin, std::size_t length) {
  if (length > 0) std::memcpy(call.out, bytes.data() + begin, length);
}
void write(const Call& call, const std::vector<char>& bytes) { write(call, bytes, 0, bytes.size()); }

}  // namespace

std::size_t element_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclFloat64:
      return 8;
  }
  throw std::runtime_error("no such ncclDataType_t");
}

void Exchange::join(int index, Side side) {
  Member& member = sides_[static_cast<std::size_t>(index)];
  member = {std::move(side), true};
  ++num_joined_;
}

bool Exchange::ready() const {
  if (done_) return true;
  return complete() && std::all_of(sides_.begin(), sides_.end(), [](const Member& member) {
           return !*member.side.aborted && reach(*member.side.arrived);
         });
}

void Exchange::check_alike() const {
  const Call& first = sides_[0].side.call;
  for (const Member& member : sides_) {
    const Call& call = member.side.call;
    const bool alike =
        message_ || (call.kind == first.kind && call.op == first.op && call.peer == first.peer);
    if (!alike || call.count != first.count || call.type != first.type)
      throw std::runtime_error("NCCL: the members of a group have called different collectives");
  }
}

std::vector<char> Exchange::reduced(std::size_t count) const {
  const Call& first = sides_[0].side.call;
  std::vector<const void*> inputs;
  for (const Member& member : sides_) inputs.push_back(member.side.call.in);
  std::vector<char> result(count * element_bytes(first.type));
  switch (first.type) {
    case ncclFloat32:
      reduce<float>(inputs, count, first.op, result.data());
      break;
    case ncclFloat64:
      reduce<double>(inputs, count, first.op, result.data());
      break;
    case ncclBfloat16:
      reduce<__nv_bfloat16>(inputs, count, first.op, result.data());
      break;
    case ncclInt32:
      reduce<std::int32_t>(inputs, count, first.op, result.data());
      break;
    case ncclInt64:
      reduce<std::int64_t>(inputs, count, first.op, result.data());
      break;
    case ncclUint8:
      reduce<std::uint8_t>(inputs, count, first.op, result.data());
      break;
  }
  return result;
}

// Results are made apart before any is written: outputs may be inputs.
void Exchange::perform() {
  if (done_) return;
  check_alike();
  done_ = true;
  const Call& first = sides_[0].side.call;
  const std::size_t bytes = first.count * element_bytes(first.type);
  switch (first.kind) {
    case Kind::kAllReduce: {
      const std::vector<char> result = reduced(first.count);
      for (const Member& member : sides_) write(member.side.call, result);
      break;
    }
    case Kind::kAllGather: {
      std::vector<char> all;
      for (const Member& member : sides_) {
        const std::vector<char> part = bytes_of(member.side.call);
        all.insert(all.end(), part.begin(), part.end());
      }
      for (const Member& member : sides_) write(member.side.call, all);
      break;
    }
    case Kind::kReduceScatter: {
      const std::vector<char> result = reduced(first.count * sides_.size());
      for (std::size_t rank = 0; rank < sides_.size(); ++rank)
        write(sides_[rank].side.call, result, rank * bytes, bytes);
      break;
    }
    case Kind::kBroadcast: {
      const std::vector<char> value = bytes_of(sides_[static_cast<std::size_t>(first.peer)].side.call);
      for (const Member& member : sides_) write(member.side.call, value);
      break;
    }
    case Kind::kReduce:
      write(sides_[static_cast<std::size_t>(first.peer)].side.call, reduced(first.count));
      break;
    case Kind::kSend:
      write(sides_[1].side.call, bytes_of(first));
      break;
    case Kind::kReceive:  // side 1
      break;
  }
}

}  // namespace cuda_on_cpu::nccl
