// report.html: one self-contained page; no script, no other file, readable on a phone, light or dark as the
// reader's system is.
#pragma once

#include <string>

#include "trainer/report/run_data.h"

namespace terroir {

std::string report_page(const RunData& run);

}  // namespace terroir
