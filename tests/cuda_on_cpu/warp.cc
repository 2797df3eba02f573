// Operations of a warp: each lane brings a value, the last to arrive completes the operation for all.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/cuda_on_cpu/block.h"

namespace cuda_on_cpu {
namespace {

// Not memcpy, which ThreadSanitizer watches: a lane's value is read by other lanes on the emulator's account.
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  auto* target = static_cast<volatile unsigned char*>(to);
  const auto* source = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < bytes; ++i) target[i] = source[i];
}
void copy_value(void* to, const void* from, std::size_t bytes) {
  if (bytes == 4)
    __builtin_memcpy(to, from, 4);
  else if (bytes == 8)
    __builtin_memcpy(to, from, 8);
  else
    copy_bytes(to, from, bytes);
}

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

float bf16(unsigned packed, int half) {
  const unsigned bits = half == 0 ? packed << 16 : packed & 0xFFFF0000U;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

struct Fragments {
  unsigned a[4], b[2];
};

// The 16x16 by 16x8 product from all lanes' fragments.
void multiply(Exchange& exchange) {
  float a[16][16], b[16][8];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    Fragments fragments;
    __builtin_memcpy(&fragments, exchange.values[lane], sizeof(fragments));
    const int group = lane / 4, pair = lane % 4;
    for (int half = 0; half < 2; ++half) {
      const int k = 2 * pair + half;
      for (int i = 0; i < 4; ++i) a[group + i % 2 * 8][k + i / 2 * 8] = bf16(fragments.a[i], half);
      for (int i = 0; i < 2; ++i) b[k + i * 8][group] = bf16(fragments.b[i], half);
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      float sum = 0;
      for (int k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      exchange.products[row][column] = sum;
    }
}

}  // namespace

unsigned Block::existing_mask() const {
  const std::size_t lanes = std::min<std::size_t>(kWarpSize, threads_.size() - first_of_warp());
  return lanes == kWarpSize ? ~0U : (1U << lanes) - 1;
}

unsigned Block::active_mask() const {
  unsigned mask = existing_mask();
  if (num_ended_ == 0) return mask;
  for (std::size_t i = 0; i < kWarpSize && first_of_warp() + i < threads_.size(); ++i)
    if (threads_[first_of_warp() + i].state == Thread::State::kEnded) mask &= ~(1U << i);
  return mask;
}

// The operation that lanes of this mask wait in, or a new one.
Exchange& Block::slot(unsigned mask, const Where& where) {
  auto& all = exchanges_[current_->index / kWarpSize];
  Exchange* unused = nullptr;
  for (const auto& other : all) {
    if (other->mask == 0) unused = other.get();
    if (other->complete || (other->mask & mask) == 0) continue;
    if (!same_place(other->where, where))
      fail("divergent warp operation: this lane is at " + place(where) + ", lanes of its mask wait at " +
           place(other->where));
    if (other->mask != mask)
      fail("lanes give different masks, " + hex(mask) + " and " + hex(other->mask) + ", at " + place(where));
    return *other;
  }
  if (unused == nullptr) unused = all.emplace_back(std::make_unique<Exchange>()).get();
  unused->mask = mask;
  unused->arrived = 0;
  unused->complete = false;
  unused->where = where;
  return *unused;
}

Exchange& Block::exchange(unsigned mask, const void* value, std::size_t bytes, bool orders_memory,
                          void (*finish)(Exchange&), const Where& where) {
  Thread& me = *current_;
  const unsigned bit = 1U << lane();
  if ((mask & bit) == 0) fail("a lane that is not in the mask it gives, at " + place(where));
  if ((mask & ~existing_mask()) != 0) fail("the mask names lanes that do not exist, at " + place(where));
  if ((mask & ~active_mask()) != 0) fail("the mask names lanes that have ended, at " + place(where));
  me.where = where;
  Exchange& exchange = slot(mask, where);
  copy_value(exchange.values[lane()], value, bytes);
  exchange.arrived |= bit;
  if (orders_memory) fibers_.publish(&exchange);
  me.state = Thread::State::kInWarp;
  if (exchange.arrived == mask) {
    if (finish != nullptr) finish(exchange);
    exchange.complete = true;
    exchange.unread = mask;
    for (unsigned i = 0; i < kWarpSize; ++i)
      if ((mask & ~bit & (1U << i)) != 0) make_runnable(threads_[first_of_warp() + i]);
    make_runnable(me);
  }
  suspend();
  if (orders_memory) fibers_.observe(&exchange);
  return exchange;
}

void Block::done(Exchange& exchange) {
  exchange.unread &= ~(1U << lane());
  if (exchange.unread != 0) return;
  exchange.mask = 0;
  exchange.complete = false;
}

void Block::check_no_lane_waits_for(const Thread& ended) {
  const unsigned bit = 1U << (ended.index % kWarpSize);
  for (const auto& waiting : exchanges_[ended.index / kWarpSize])
    if (!waiting->complete && (waiting->mask & bit) != 0)
      fail("this lane has ended and is in the mask of the warp operation at " + place(waiting->where));
}

void warp_barrier(unsigned mask, const Where& where) {
  const InEmulator scope;
  // The mask of a whole warp is the default, also where the block's last warp is not whole.
  if (mask == ~0U) mask = the_block->existing_mask();
  the_block->done(the_block->exchange(mask, nullptr, 0, true, nullptr, where));
}

void warp_shuffle(unsigned mask, const void* value, void* result, std::size_t bytes, int source,
                  const Where& where) {
  static constexpr unsigned char kPoison[kMaxWarpBytes] = {
      0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
      0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
  const InEmulator scope;
  Exchange& all = the_block->exchange(mask, value, bytes, false, nullptr, where);
  copy_value(result, (mask >> source & 1U) != 0 ? all.values[source] : kPoison, bytes);
  the_block->done(all);
}

unsigned warp_ballot(unsigned mask, bool vote, const Where& where) {
  const InEmulator scope;
  const unsigned char mine = vote ? 1 : 0;
  Exchange& all = the_block->exchange(mask, &mine, 1, false, nullptr, where);
  unsigned votes = 0;
  for (int i = 0; i < kWarpSize; ++i)
    if ((mask >> i & 1U) != 0 && all.values[i][0] != 0) votes |= 1U << i;
  the_block->done(all);
  return votes;
}

void warp_gather(unsigned mask, const void* value, void* to, std::size_t bytes, const Where& where) {
  const InEmulator scope;
  Exchange& all = the_block->exchange(mask, value, bytes, false, nullptr, where);
  for (std::size_t i = 0; i < kWarpSize; ++i)
    if ((mask >> i & 1U) != 0) copy_value(static_cast<char*>(to) + i * bytes, all.values[i], bytes);
  the_block->done(all);
}

void warp_mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                            const Where& where) {
  const InEmulator scope;
  const Fragments mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  Exchange& all = the_block->exchange(~0U, &mine, sizeof(mine), false, multiply, where);
  const int group = the_block->lane() / 4, pair = the_block->lane() % 4;
  for (int i = 0; i < 4; ++i) d[i] += all.products[group + i / 2 * 8][2 * pair + i % 2];
  the_block->done(all);
}

int lane() { return the_block->lane(); }
unsigned existing_mask() { return the_block->existing_mask(); }
unsigned active_mask() { return the_block->active_mask(); }

}  // namespace cuda_on_cpu
