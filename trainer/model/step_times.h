// Where a step's time goes, by the clock of the device that does its work.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kernels/tensor/device.h"

namespace terroir {

enum class StepPart : std::uint8_t {
  kForward,        // of the layers; waiting for data and for updated parameters included
  kLoss,           // the last stage's: logits, cross-entropy, the gradients of both
  kBackward,       // recomputation included
  kCommunication,  // between these: neighbouring stages, sums of gradients and losses
  kUpdate,         // zeroing gradients, their norm, AdamW
};
constexpr int kNumStepParts = 5;
const char* step_part_name(StepPart part);  // "forward"

// Marks in a stream's work, each the begin of a part and the end of the one before; read when the step is
// over and the stream idle, so that nobody waits for them. Tensor parallelism's exchanges happen inside the
// passes and count there. Marks are kept from step to step: no allocation after the first.
class StepTimes {
 public:
  explicit StepTimes(const Stream& stream) : stream_(stream) {}

  // A step begins, with this part; the marks of the step before are forgotten.
  void begin(StepPart part);
  // What is enqueued from now on is of this part. Outside a step: nothing.
  void enter(StepPart part);
  void end();
  // By part, all of them; their sum is the time from begin() to end(). REQUIRES: the work enqueued before
  // end() is complete.
  std::map<std::string, double> seconds() const;

 private:
  struct Mark {
    Event event;
    StepPart part;
  };
  void mark(StepPart part);

  Stream stream_;
  bool in_step_ = false;
  std::vector<Mark> marks_;
  std::size_t num_marks_ = 0;  // of this step; the last one ends it
};

}  // namespace terroir
