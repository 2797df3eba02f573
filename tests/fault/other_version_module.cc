// A libterroir_mpi.so of another version, for mpi_module_test.cc.
#include "parallel/mpi/module.h"

const TerroirMpiV1* terroir_mpi_v1(void) {
  static const TerroirMpiV1 functions = {
      99, sizeof(TerroirMpiV1), nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
  return &functions;
}
