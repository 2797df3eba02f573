// The ops a device offers, as a table of plain function pointers: what an op's public function calls after its checks.
//
// To add an op `foo`: declare `FooArgs`, `foo()` and `cpu::foo()` in kernels/foo/foo.h, add one pointer here and one
// line in op_table.cc. A backend function gets checked arguments and must not check them again.
#pragma once

#include "kernels/tensor/view.h"

namespace terroir {

struct OpContext;
struct AddArgs;
struct CopyArgs;
struct FillArgs;
struct MatmulArgs;
struct ScaleArgs;

template <class Args>
using OpFunction = void (*)(OpContext&, const Args&);

struct OpTable {
  OpFunction<CopyArgs> copy;
  OpFunction<CopyArgs> cast;
  OpFunction<AddArgs> add;
  OpFunction<ScaleArgs> scale;
  OpFunction<FillArgs> fill;
  OpFunction<MatmulArgs> matmul;
};

// The backend of `device`. Throws SystemError if it is a CUDA device and no CUDA module is loaded.
const OpTable& op_table(Device device);

}  // namespace terroir
