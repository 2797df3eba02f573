#include "parallel/host_communicator.h"
#include "parallel/world.h"

namespace terroir {
namespace {

class LocalWorld : public World {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  const std::string& transport() const override { return transport_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    return std::make_unique<HostCommunicator>(make_group(ranks, 0, 1, queue, std::move(name)), nullptr,
                                              MessageLimits{});
  }
  void set_position(std::int64_t, const char*) override {}  // nothing here can fail
  void abort(int) noexcept override {}                      // there is no other rank

 private:
  std::string transport_ = "local";
};

}  // namespace

std::unique_ptr<World> local_world() { return std::make_unique<LocalWorld>(); }

}  // namespace terroir
