#include "trainer/model/step_times.h"

namespace terroir {
namespace {

constexpr std::array<const char*, kNumStepParts> kNames = {"forward", "loss", "backward", "communication",
                                                           "update"};

}  // namespace

const char* step_part_name(StepPart part) { return kNames[static_cast<std::size_t>(part)]; }

void StepTimes::begin(StepPart part) {
  in_step_ = true;
  num_marks_ = 0;
  mark(part);
}

void StepTimes::enter(StepPart part) {
  if (in_step_ && marks_[num_marks_ - 1].part != part) mark(part);
}

void StepTimes::end() {
  mark(marks_[num_marks_ - 1].part);
  in_step_ = false;
}

void StepTimes::mark(StepPart part) {
  if (num_marks_ == marks_.size()) marks_.push_back({Event::timed(stream_.device()), part});
  Mark& mark = marks_[num_marks_++];
  mark.part = part;
  mark.event.record(stream_);
}

std::map<std::string, double> StepTimes::seconds() const {
  std::map<std::string, double> seconds;
  for (const char* name : kNames) seconds[name] = 0;
  for (std::size_t i = 0; i + 1 < num_marks_; ++i)
    seconds[step_part_name(marks_[i].part)] += marks_[i + 1].event.seconds_since(marks_[i].event);
  return seconds;
}

}  // namespace terroir
