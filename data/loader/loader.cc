#include "data/loader/loader.h"

#include <array>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "base/error.h"

namespace terroir {
namespace {

// Batches in memory: one with the caller, the others ahead. Three hide a read that takes two micro-batches'
// time.
constexpr std::int64_t kSlots = 4;

}  // namespace

// A ring: the thread fills slot `produced % kSlots` unless the caller still holds or awaits it.
struct Loader::Impl {
  const Corpus& corpus;
  const LoaderPlan plan;
  const std::int64_t per_rank, micro_batches_per_step, total;

  std::array<SampleBatch, kSlots> slots;
  std::mutex mutex;
  std::condition_variable changed;
  std::int64_t produced = 0,
               consumed = 0;  // consumed: batches given to the caller, the last one still in use
  bool stopping = false;
  std::exception_ptr failure;
  double last_wait_s = 0;
  std::thread thread;

  Impl(const Corpus& corpus_in, const LoaderPlan& plan_in)
      : corpus(corpus_in),
        plan(plan_in),
        per_rank(plan.global_batch_size / plan.data_size),
        micro_batches_per_step(per_rank / plan.micro_batch_size),
        total((plan.last_step - plan.first_step) * micro_batches_per_step) {
    thread = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    thread.join();
  }

  std::int64_t first_sample(std::int64_t batch) const {
    const std::int64_t step = batch / micro_batches_per_step, micro_batch = batch % micro_batches_per_step;
    return plan.first_sample + step * plan.global_batch_size + plan.data_rank * per_rank +
           micro_batch * plan.micro_batch_size;
  }

  void run() {
    try {
      for (std::int64_t batch = 0; batch < total; ++batch) {
        {
          std::unique_lock lock(mutex);
          // Slot of `batch` was last used by batch - kSlots: free once the caller has moved on from that one.
          changed.wait(lock, [&] { return stopping || batch - kSlots < consumed - 1; });
          if (stopping) return;
        }
        corpus.read(first_sample(batch), plan.micro_batch_size,
                    slots[static_cast<std::size_t>(batch % kSlots)]);
        {
          const std::lock_guard lock(mutex);
          produced = batch + 1;
        }
        changed.notify_all();
      }
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        failure = std::current_exception();
      }
      changed.notify_all();
    }
  }

  const SampleBatch& next() {
    const auto begin = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    TERROIR_CHECK(consumed < total, "the plan has {} micro-batches, all are taken", total);
    const std::int64_t batch = consumed++;
    changed.notify_all();
    changed.wait(lock, [&] { return produced > batch || failure != nullptr; });
    last_wait_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (produced <= batch) std::rethrow_exception(failure);
    return slots[static_cast<std::size_t>(batch % kSlots)];
  }
};

Loader::Loader(const Corpus& corpus, LoaderPlan plan) {
  TERROIR_CHECK(plan.data_size > 0 && plan.data_rank >= 0 && plan.data_rank < plan.data_size,
                "data rank {} of {}", plan.data_rank, plan.data_size);
  TERROIR_CHECK(plan.micro_batch_size > 0 && plan.global_batch_size > 0 &&
                    plan.global_batch_size % (plan.data_size * plan.micro_batch_size) == 0,
                "a global batch of {} in micro-batches of {} on {} ranks", plan.global_batch_size,
                plan.micro_batch_size, plan.data_size);
  TERROIR_CHECK(plan.first_step <= plan.last_step && plan.first_sample >= 0, "steps {} to {} from sample {}",
                plan.first_step, plan.last_step, plan.first_sample);
  impl_ = std::make_unique<Impl>(corpus, plan);
}

Loader::~Loader() = default;
const SampleBatch& Loader::next() { return impl_->next(); }
double Loader::last_wait_s() const { return impl_->last_wait_s; }

}  // namespace terroir
