// Philox4x32-10: a counter-based random generator (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2,
// 3", SC'11). Every draw is a pure function of (key, counter), so any rank of any layout computes any
// element, and the bits depend neither on the machine nor on the number of threads.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace terroir {

using PhiloxCounter = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

// One block of ten rounds.
PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key);

// A key for a named stream of draws: XXH3 of the name, mixed with the seed.
PhiloxKey philox_key(std::uint64_t seed, std::string_view stream_name);

// 64 random bits number `index` of the stream.
std::uint64_t philox_bits(PhiloxKey key, std::uint64_t index);

// Uniform double in the open interval (0, 1), a multiple of 2^-53 plus 2^-54.
double philox_uniform(PhiloxKey key, std::uint64_t index);

// Standard normal draw by inversion (Wichura, algorithm AS 241). Uses only + - * / and sqrt, never libm,
// whose last bits differ between machines.
double philox_normal(PhiloxKey key, std::uint64_t index);

}  // namespace terroir
