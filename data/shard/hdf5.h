// HDF5's C interface, owned and serialized: handles that release themselves, failures as one line.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>

#include "base/handle.h"

namespace terroir {

// Held around every use of HDF5 in this process: the library may be built without thread safety. Also
// silences its printed error stacks on this thread and forbids filter plugins (code from a folder named by
// the environment).
class Hdf5Session {
 public:
  Hdf5Session();

 private:
  std::unique_lock<std::recursive_mutex> lock_;
};

// The library's account of the last failure on this thread, innermost cause first: "H5F_open: file signature
// not found".
std::string hdf5_error_text();

template <herr_t (*kClose)(hid_t)>
struct Hdf5Traits {
  using type = hid_t;
  static type invalid() { return H5I_INVALID_HID; }
  static void release(type id) noexcept {
    const Hdf5Session session;
    kClose(id);
  }
};
using Hdf5File = Handle<Hdf5Traits<H5Fclose>>;
using Hdf5Dataset = Handle<Hdf5Traits<H5Dclose>>;
using Hdf5Space = Handle<Hdf5Traits<H5Sclose>>;
using Hdf5Type = Handle<Hdf5Traits<H5Tclose>>;
using Hdf5Attribute = Handle<Hdf5Traits<H5Aclose>>;
using Hdf5Properties = Handle<Hdf5Traits<H5Pclose>>;

}  // namespace terroir
