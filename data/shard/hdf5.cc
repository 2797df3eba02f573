#include "data/shard/hdf5.h"

#include <fmt/core.h>

namespace terroir {
namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;  // one, as the library's own state is
  return mutex;
}

// H5Ewalk2 goes from the innermost error outwards; the first one names the cause.
herr_t take_first(unsigned number, const H5E_error2_t* error, void* text) {
  if (number == 0)
    *static_cast<std::string*>(text) =
        fmt::format("{}: {}", error->func_name != nullptr ? error->func_name : "HDF5",
                    error->desc != nullptr && *error->desc != '\0' ? error->desc : "no reason given");
  return 0;
}

}  // namespace

Hdf5Session::Hdf5Session() : lock_(library_mutex()) {
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

std::string hdf5_error_text() {
  std::string text = "HDF5 gave no reason";
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &text);
  for (char& c : text)
    if (c == '\n') c = ' ';
  return text;
}

}  // namespace terroir
