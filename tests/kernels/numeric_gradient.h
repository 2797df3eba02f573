// Gradients by central differences of an f64 function.
#pragma once

#include <vector>

namespace terroir::test {

// d loss / d x[i] for all i. With a step of 1e-5 the error is about 1e-10 for functions of order one:
// truncation step^2, rounding 1e-16 / step.
template <class Loss>
std::vector<double> numeric_gradient(std::vector<double> x, const Loss& loss) {
  constexpr double kStep = 1e-5;
  std::vector<double> gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    x[i] = value + kStep;
    const double above = loss(x);
    x[i] = value - kStep;
    const double below = loss(x);
    x[i] = value;
    gradient[i] = (above - below) / (2 * kStep);
  }
  return gradient;
}

// The inner product: turns an op's output and the gradient that reaches it into a scalar loss.
inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace terroir::test
