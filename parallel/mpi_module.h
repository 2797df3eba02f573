// Finds and loads libterroir_mpi.so.
#pragma once

#include "parallel/mpi/module.h"

namespace terroir {

// Looks beside the program, then in the library path. Throws SystemError when it is absent, cannot be loaded
// or was built from other sources. Never unloaded: MPI libraries do not survive it.
const TerroirMpiV1& load_mpi_module();

}  // namespace terroir
