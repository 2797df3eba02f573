// The plots of a run.
#pragma once

#include <vector>

#include "trainer/report/run_data.h"
#include "trainer/report/svg_plot.h"

namespace terroir {

// Loss; bits per byte by source, held-out and training; learning rate; gradient norm; tokens/s; waiting for
// data. Plots without a value are left out. However long the run, a line has at most kMaxLinePoints points.
std::vector<Plot> plots_of(const RunData& run);

inline constexpr std::size_t kMaxLinePoints = 480;  // a plot is 480 units wide

// `points` in at most `max_points` windows of equal length, each the mean of its finite values at their mean
// x.
std::vector<Point> window_means(const std::vector<Point>& points, std::size_t max_points);

// `points`, or for more than `max_points` the lowest and highest of each window, in order: spikes stay
// visible.
std::vector<Point> window_extremes(const std::vector<Point>& points, std::size_t max_points);

}  // namespace terroir
