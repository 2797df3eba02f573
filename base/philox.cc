#include "base/philox.h"

#include <bit>
#include <cmath>
#include <span>

#include "base/hash.h"

namespace terroir {
namespace {

// Natural logarithm of x in (0, 1), relative error below 1e-15, from IEEE basic operations only.
double portable_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffULL) | 0x3ff0000000000000ULL);  // [1, 2)
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  // log m = 2 atanh(s), s = (m-1)/(m+1), |s| < 0.172: eleven terms of the series reach 1e-18.
  const double s = (mantissa - 1) / (mantissa + 1);
  const double s2 = s * s;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
  return 2 * s * sum + exponent * 0.69314718055994530942;
}

double evaluate(std::span<const double> coefficients, double x) {  // highest power first
  double value = 0;
  for (const double c : coefficients) value = value * x + c;
  return value;
}

}  // namespace

PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

PhiloxKey philox_key(std::uint64_t seed, std::string_view stream_name) {
  const Hash128 name = xxh3_128(std::as_bytes(std::span(stream_name)));
  const PhiloxCounter mixed =
      philox4x32({static_cast<std::uint32_t>(name.low), static_cast<std::uint32_t>(name.low >> 32),
                  static_cast<std::uint32_t>(name.high), static_cast<std::uint32_t>(name.high >> 32)},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  return {mixed[0], mixed[1]};
}

std::uint64_t philox_bits(PhiloxKey key, std::uint64_t index) {
  // A block of 128 bits serves two indices.
  const std::uint64_t block = index / 2;
  const PhiloxCounter out =
      philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0}, key);
  const int half = static_cast<int>(index % 2) * 2;
  return (std::uint64_t{out[half + 1]} << 32) | out[half];
}

double philox_uniform(PhiloxKey key, std::uint64_t index) {
  return (static_cast<double>(philox_bits(key, index) >> 11) + 0.5) * 0x1p-53;
}

double philox_normal(PhiloxKey key, std::uint64_t index) {
  static constexpr double kA[] = {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
                                  4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
                                  1.3314166789178437745e2, 3.3871328727963666080e0};
  static constexpr double kB[] = {
      5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
      5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0};
  static constexpr double kC[] = {7.74545014278341407640e-4, 2.27238449892691845833e-2,
                                  2.41780725177450611770e-1, 1.27045825245236838258e0,
                                  3.64784832476320460504e0,  5.76949722146069140550e0,
                                  4.63033784615654529590e0,  1.42343711074968357734e0};
  static constexpr double kD[] = {1.05075007164441684324e-9, 5.47593808499534494600e-4,
                                  1.51986665636164571966e-2, 1.48103976427480074590e-1,
                                  6.89767334985100004550e-1, 1.67638483018380384940e0,
                                  2.05319162663775882187e0,  1.0};
  static constexpr double kE[] = {2.01033439929228813265e-7, 2.71155556874348757815e-5,
                                  1.24266094738807843860e-3, 2.65321895265761230930e-2,
                                  2.96560571828504891230e-1, 1.78482653991729133580e0,
                                  5.46378491116411436990e0,  6.65790464350110377720e0};
  static constexpr double kF[] = {2.04426310338993978564e-15, 1.42151175831644588870e-7,
                                  1.84631831751005468180e-5,  7.86869131145613259100e-4,
                                  1.48753612908506148525e-2,  1.36929880922735805310e-1,
                                  5.99832206555887937690e-1,  1.0};
  const double p = philox_uniform(key, index);
  const double q = p - 0.5;
  if (std::fabs(q) <= 0.425) {
    const double r = 0.180625 - q * q;
    return q * evaluate(kA, r) / evaluate(kB, r);
  }
  const double r = std::sqrt(-portable_log(q < 0 ? p : 1 - p));
  const double tail =
      r <= 5 ? evaluate(kC, r - 1.6) / evaluate(kD, r - 1.6) : evaluate(kE, r - 5) / evaluate(kF, r - 5);
  return q < 0 ? -tail : tail;
}

}  // namespace terroir
