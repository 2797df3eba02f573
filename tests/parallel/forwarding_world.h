// A world that is another one but for its groups: base of those that tests put around a transport.
#pragma once

#include "parallel/world.h"

namespace terroir::test {

class ForwardingWorld : public World {
 public:
  explicit ForwardingWorld(World& world) : world_(world) {}
  int rank() const override { return world_.rank(); }
  int size() const override { return world_.size(); }
  int local_rank() const override { return world_.local_rank(); }
  int local_size() const override { return world_.local_size(); }
  const std::string& transport() const override { return world_.transport(); }
  void set_position(std::int64_t step, const char* phase) override { world_.set_position(step, phase); }
  void check() override { world_.check(); }
  void abort(int exit_code) noexcept override { world_.abort(exit_code); }

 protected:
  World& world_;
};

}  // namespace terroir::test
