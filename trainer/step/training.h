// A training run from configuration to last checkpoint.
#pragma once

#include "parallel/world.h"
#include "trainer/config/config.h"

namespace terroir {

struct TrainingOptions {
  bool dry_run = false;  // check everything, print the memory plan, touch nothing
  bool quiet = false;
};

// Trains, or goes on where the run's newest valid checkpoint left off. Collective over the world. Returns
// kDone, or kRequeue after a save that a signal asked for. Throws UserError for what the configuration, data
// or checkpoints get wrong, with exit 6 when loss or gradients stop being finite (the weights are then still
// good), TransportError when a peer is lost.
ExitCode train(Config config, World& world, const TrainingOptions& options);

}  // namespace terroir
