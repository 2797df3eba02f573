// What the worlds of all host transports with more than one process or thread share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "parallel/host_communicator.h"

namespace terroir {

class HostWorld : public World {
 public:
  // `carrier` must outlive this.
  HostWorld(Carrier& carrier, std::string transport, const WorldOptions& options)
      : carrier_(carrier),
        transport_(std::move(transport)),
        limits_(options.limits),
        progress_(carrier, options) {}

  int rank() const override { return carrier_.rank(); }
  int size() const override { return carrier_.size(); }
  const std::string& transport() const override { return transport_; }
  std::unique_ptr<Communicator> group(const std::vector<int>& ranks, Queue queue, std::string name) override {
    return std::make_unique<HostCommunicator>(make_group(ranks, rank(), size(), queue, std::move(name)),
                                              &progress_, limits_);
  }
  void set_position(std::int64_t step, const char* phase) override { progress_.set_position(step, phase); }

 protected:
  Progress& progress() { return progress_; }

 private:
  Carrier& carrier_;
  std::string transport_;
  MessageLimits limits_;
  Progress progress_;
};

}  // namespace terroir
