// Modules: parts of the program that are loaded when asked for, because they need libraries that a machine
// may lack.
#pragma once

#include <string>

namespace terroir {

// Opens shared library `name`: the file that environment variable `override_variable` names, if it is set,
// else the one beside the program, else the first in the library path. Returns its handle for dlsym(); it
// stays open. Throws std::runtime_error with one sentence: what was looked for, where, and the loader's
// words.
void* open_module(const std::string& name, const char* override_variable);

}  // namespace terroir
