#include "trainer/report/run_plots.h"

#include <algorithm>
#include <cmath>

#include "trainer/report/summary.h"

namespace terroir {
namespace {

constexpr std::size_t kSmoothPoints = 60;  // of a smoothed line

template <class Metrics, class Value>
std::vector<Point> points_of(const std::vector<Metrics>& lines, Value value) {
  std::vector<Point> points;
  for (const Metrics& line : lines) {
    const double y = value(line);
    points.push_back({static_cast<double>(line.step), y});
  }
  return points;
}

double of_source(const LossMetrics& losses, const std::string& name) {
  const auto found = losses.bits_per_byte_by_source.find(name);
  return found == losses.bits_per_byte_by_source.end() ? kNotMeasured : found->second;
}

// A step without tokens of a source is no gap in its line.
std::vector<Point> without_gaps(std::vector<Point> points) {
  std::erase_if(points, [](const Point& point) { return !std::isfinite(point.y); });
  return points;
}

// The raw values faintly, their windows' means on top.
void add_smoothed(const std::string& name, int colour, const std::vector<Point>& points,
                  std::vector<Series>& series) {
  if (points.size() <= kSmoothPoints) {
    series.push_back({name, colour, SeriesStyle::kLine, points});
    return;
  }
  series.push_back({"", colour, SeriesStyle::kFaintLine, window_extremes(points, kMaxLinePoints)});
  series.push_back({name, colour, SeriesStyle::kLine, window_means(points, kSmoothPoints)});
}

Plot loss_plot(const RunData& run) {
  Plot plot{.title = "Loss", .unit = "nats per token", .series = {}};
  add_smoothed("training", 0, points_of(run.metrics.steps, [](const StepMetrics& step) { return step.loss; }),
               plot.series);
  plot.series.push_back(
      {"held-out", 1, SeriesStyle::kLineAndDots,
       points_of(run.metrics.validation, [](const ValidationMetrics& line) { return line.loss; })});
  if (run.metrics.validation.empty()) plot.series.pop_back();
  return plot;
}

Plot held_out_plot(const RunData& run, const std::vector<std::string>& sources) {
  Plot plot{.title = "Held-out bits per byte, by source", .unit = "bits per byte", .series = {}};
  for (std::size_t i = 0; i < sources.size(); ++i)
    plot.series.push_back({sources[i], static_cast<int>(i), SeriesStyle::kLineAndDots,
                           without_gaps(points_of(run.metrics.validation, [&](const ValidationMetrics& line) {
                             return of_source(line, sources[i]);
                           }))});
  return plot;
}

Plot training_plot(const RunData& run, const std::vector<std::string>& sources) {
  Plot plot{.title = "Training bits per byte, by source", .unit = "bits per byte, smoothed", .series = {}};
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const std::vector<Point> points = without_gaps(
        points_of(run.metrics.steps, [&](const StepMetrics& step) { return of_source(step, sources[i]); }));
    plot.series.push_back(
        {sources[i], static_cast<int>(i), SeriesStyle::kLine, window_means(points, kSmoothPoints)});
  }
  return plot;
}

// One line of the steps, raw.
template <class Value>
Plot single_plot(const RunData& run, const char* title, const char* unit, int colour, Value value) {
  Plot plot{.title = title, .unit = unit, .series = {}, .from_zero = true};
  plot.series.push_back({title, colour, SeriesStyle::kLine,
                         window_extremes(points_of(run.metrics.steps, value), kMaxLinePoints)});
  return plot;
}

template <class Value>
Plot smoothed_plot(const RunData& run, const char* title, const char* unit, int colour, Value value) {
  Plot plot{.title = title, .unit = unit, .series = {}, .from_zero = true};
  add_smoothed(title, colour, points_of(run.metrics.steps, value), plot.series);
  return plot;
}

// begin and end of window `i` of `num_windows` over `size` points.
std::pair<std::size_t, std::size_t> window(std::size_t size, std::size_t i, std::size_t num_windows) {
  return {size * i / num_windows, size * (i + 1) / num_windows};
}

}  // namespace

std::vector<Point> window_means(const std::vector<Point>& points, std::size_t max_points) {
  if (points.size() <= max_points) return points;
  std::vector<Point> means;
  for (std::size_t i = 0; i < max_points; ++i) {
    const auto [begin, end] = window(points.size(), i, max_points);
    Point mean;
    double count = 0;
    for (std::size_t p = begin; p < end; ++p) {
      if (!std::isfinite(points[p].y)) continue;
      mean.x += points[p].x;
      mean.y += points[p].y;
      ++count;
    }
    means.push_back(
        {count > 0 ? mean.x / count : points[begin].x, count > 0 ? mean.y / count : kNotMeasured});
  }
  return means;
}

std::vector<Point> window_extremes(const std::vector<Point>& points, std::size_t max_points) {
  if (points.size() <= max_points) return points;
  std::vector<Point> extremes;
  for (std::size_t i = 0; i < max_points / 2; ++i) {
    const auto [begin, end] = window(points.size(), i, max_points / 2);
    // NaN compares as neither lower nor higher, so a window of only NaN keeps its first point: a gap.
    std::size_t low = begin, high = begin;
    for (std::size_t p = begin; p < end; ++p) {
      if (!(points[low].y <= points[p].y) && !std::isnan(points[p].y)) low = p;
      if (!(points[high].y >= points[p].y) && !std::isnan(points[p].y)) high = p;
    }
    extremes.push_back(points[std::min(low, high)]);
    if (low != high) extremes.push_back(points[std::max(low, high)]);
  }
  return extremes;
}

std::vector<Plot> plots_of(const RunData& run) {
  std::vector<std::string> sources;
  for (const SourceSummary& source : summarize(run).sources) sources.push_back(source.name);
  std::vector<Plot> plots = {loss_plot(run), held_out_plot(run, sources), training_plot(run, sources)};
  plots.push_back(
      single_plot(run, "Learning rate", "", 4, [](const StepMetrics& s) { return s.learning_rate; }));
  plots.push_back(smoothed_plot(run, "Gradient norm", "before clipping", 2,
                                [](const StepMetrics& s) { return s.grad_norm; }));
  if (run.config && run.config->optimizer.grad_clip > 0) {
    plots.back().level = run.config->optimizer.grad_clip;
    plots.back().level_name = "clipped to this";
  }
  plots.push_back(smoothed_plot(run, "Throughput", "tokens per second, all ranks", 5,
                                [](const StepMetrics& s) { return s.tokens_per_s; }));
  plots.push_back(smoothed_plot(run, "Waiting for data", "% of the step", 3,
                                [](const StepMetrics& s) { return 100 * s.data_wait_s / s.step_s; }));
  std::erase_if(plots, [](const Plot& plot) { return !has_values(plot); });
  for (Plot& plot : plots) {
    plot.marks.assign(run.metrics.resumed_at.begin(), run.metrics.resumed_at.end());
    if (!run.metrics.steps.empty())  // the same for all, so that one can compare down the page
      plot.x_range = {static_cast<double>(run.metrics.steps.front().step),
                      static_cast<double>(run.metrics.steps.back().step)};
  }
  return plots;
}

}  // namespace terroir
