// Updated parameters are gathered while the next forward already runs: every layer waits for its own, and
// nobody reads what is not there yet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <stdexcept>

#include "tests/parallel/forwarding_world.h"
#include "tests/trainer/layout_case.h"
#include "trainer/step/engine.h"

namespace terroir::test {
namespace {

using Events = std::vector<std::string>;

// A gather of parameters that does nothing before it is waited for: as late as a network may be.
class LateGather : public PendingOperation {
 public:
  LateGather(std::function<Work()> begin, Events& events) : begin_(std::move(begin)), events_(events) {}
  void wait() override {
    begin_().wait();
    events_.push_back("gathered");
  }
  bool done() const override { return false; }

 private:
  std::function<Work()> begin_;
  Events& events_;
};

// What a rank's gathers of parameters do.
struct Behaviour {
  bool late = true;
  std::function<void(std::string_view what)> before = [](std::string_view) {};
  Events events;  // everything this rank communicates
};

class LateGroup : public Communicator {
 public:
  LateGroup(std::unique_ptr<Communicator> group, Behaviour& behaviour)
      : group_(std::move(group)), behaviour_(behaviour) {}
  int rank() const override { return group_->rank(); }
  int size() const override { return group_->size(); }
  const std::string& name() const override { return group_->name(); }

  Work all_gather(ConstView in, View out, const Stream& stream, std::string_view what) override {
    if (!what.starts_with("parameters")) return noted(what).all_gather(in, out, stream, what);
    behaviour_.events.push_back("updated");
    behaviour_.before(what);
    if (!behaviour_.late) return group_->all_gather(in, out, stream, what);
    const auto begin = [this, in, out, stream, what] { return group_->all_gather(in, out, stream, what); };
    return Work(std::make_shared<LateGather>(begin, behaviour_.events));
  }
  Work all_reduce(View inout, ReduceOp op, const Stream& stream, std::string_view what) override {
    return noted(what).all_reduce(inout, op, stream, what);
  }
  Work reduce_scatter(ConstView in, View out, const Stream& stream, std::string_view what) override {
    return noted(what).reduce_scatter(in, out, stream, what);
  }
  Work broadcast(View inout, int root, const Stream& stream, std::string_view what) override {
    return noted(what).broadcast(inout, root, stream, what);
  }
  Work all_to_all(ConstView in, View out, std::span<const std::int64_t> send_rows,
                  std::span<const std::int64_t> recv_rows, const Stream& stream,
                  std::string_view what) override {
    return noted(what).all_to_all(in, out, send_rows, recv_rows, stream, what);
  }
  Work send(ConstView in, int peer, const Stream& stream, std::string_view what) override {
    return noted(what).send(in, peer, stream, what);
  }
  Work recv(View out, int peer, const Stream& stream, std::string_view what) override {
    return noted(what).recv(out, peer, stream, what);
  }

 private:
  Communicator& noted(std::string_view what) {
    behaviour_.events.emplace_back(what);
    return *group_;
  }
  std::unique_ptr<Communicator> group_;
  Behaviour& behaviour_;
};

class LateWorld : public ForwardingWorld {
 public:
  using ForwardingWorld::ForwardingWorld;
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    return std::make_unique<LateGroup>(world_.group(ranks, queue, std::move(name)), behaviour);
  }

  Behaviour behaviour;
};

struct Late {
  std::vector<std::string> bits;  // of each rank
  Events events;                  // rank 0's
};
Late train_late(const LayoutCase& layout, int ranks, bool late) {
  const Config config = make_config(layout);
  const TrainedRun reference = run_one_rank(config);
  Late result{.bits = std::vector<std::string>(static_cast<std::size_t>(ranks))};
  run_threads(ranks, {.timeout_s = 60}, [&](World& world) {
    LateWorld wrapped(world);
    World& used = late ? static_cast<World&>(wrapped) : world;
    result.bits[static_cast<std::size_t>(world.rank())] = compare_with_one_rank(config, used, reference).bits;
    if (world.rank() == 0) result.events = wrapped.behaviour.events;
  });
  return result;
}

// Not tied over stages: there the last stage waits for the first's activations before it waits for the
// embedding's gather, and a gather that begins only then would never end.
TEST(GatherOverlap, NothingReadsParametersThatAreNotThere) {
  for (const LayoutCase& layout :
       {LayoutCase{}, LayoutCase{.recompute = true}, LayoutCase{.model_type = "qwen3", .tensor = 2},
        LayoutCase{.model_type = "qwen2", .tied = false, .pipeline = 2}})
    EXPECT_EQ(train_late(layout, 4, true).bits, train_late(layout, 4, false).bits);
}

TEST(GatherOverlap, ForwardBeginsBeforeTheLastParametersAreGathered) {
  const Events events = train_late({.tensor = 2}, 4, true).events;
  const auto count = [](auto begin, auto end, const char* event) { return std::count(begin, end, event); };
  // The gathers of the first update, and the first use of what they bring.
  const auto first_step = std::find(events.begin(), events.end(), "loss and gradient norm");
  const auto updated = std::find(first_step, events.end(), "updated");
  const auto forward = std::find(updated, events.end(), "embeddings");
  const auto gathers = count(updated, forward, "updated");
  EXPECT_GT(gathers, 3);
  EXPECT_EQ(count(updated, forward, "gathered"), 1);  // the embedding's
  // Layer by layer: some are waited for only after the first layer has computed.
  const auto second_layer =
      std::find(std::find(forward, events.end(), "mlp output"), events.end(), "gathered");
  const auto backward = std::find(forward, events.end(), "gradient of final norm");
  EXPECT_LT(second_layer, backward);
  EXPECT_EQ(count(updated, backward, "gathered"), gathers);  // forward has waited for all
}

// Rank 1 is lost in the middle of its gathers, when rank 0 has ended that step and is in the next one: the
// layer that needs the bucket says what it is about.
TEST(GatherOverlap, ALostPeerIsReportedWithTheStepAndTheTensorsOfTheGather) {
  const Config config = make_config({});
  std::atomic<bool> in_next_step = false;
  std::string error = "no error";
  const auto train = [&](World& world) {
    LateWorld wrapped(world);
    wrapped.behaviour.late = false;
    Mesh mesh(wrapped, MeshShape{.data = 2});
    OpContext ctx;
    Engine engine(config, mesh, ctx, {}, 1);
    engine.initialize();
    engine.synchronize();
    if (world.rank() == 1)
      wrapped.behaviour.before = [&](std::string_view what) {
        if (!what.starts_with("parameters of model.layers.4.mlp.down_proj.weight")) return;
        in_next_step.wait(false);
        throw std::runtime_error("out of cheese");
      };
    const SampleBatch batch = make_samples(0, config.train.micro_batch_size, config);
    for (int step = 7; step < 9; ++step)
      engine.train_step(step, [&]() -> const SampleBatch& {
        if (world.rank() == 0 && step == 8) {
          in_next_step = true;
          in_next_step.notify_all();
        }
        return batch;
      });
  };
  const auto body = [&](World& world) {
    try {
      train(world);
    } catch (const TransportError& caught) {
      if (world.rank() == 0) error = caught.what();
      throw;
    }
  };
  EXPECT_ANY_THROW(run_threads(2, {.timeout_s = 60}, body));
  EXPECT_THAT(error, testing::HasSubstr("rank 0, step 7 (update): all_gather of 'parameters of model."));
  EXPECT_THAT(error, testing::HasSubstr("rank 1 has failed"));
}

}  // namespace
}  // namespace terroir::test
