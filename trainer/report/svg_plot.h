// Line plots as SVG: no scripts, colours from the page's style sheet, so that one file serves light and dark.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace terroir {

struct Point {
  double x = 0;
  double y = 0;  // NaN breaks the line
};

enum class SeriesStyle {
  kLine,
  kFaintLine,    // the raw values behind a smoothed line
  kLineAndDots,  // few, separately measured values
};

struct Series {
  std::string name;  // for the legend and for hovering; empty: not in the legend
  int colour = 0;    // number in the palette; from 8 on the same colours with dashed lines
  SeriesStyle style = SeriesStyle::kLine;
  std::vector<Point> points;
};

struct Plot {
  std::string title;
  std::string unit;                                       // of y, under the title
  std::vector<Series> series;                             // drawn in this order
  bool from_zero = false;                                 // y begins at 0
  std::optional<std::pair<double, double>> x_range = {};  // x spans at least this
  std::vector<double> marks = {};    // x of vertical dashed lines: where a run was resumed
  std::optional<double> level = {};  // y of a horizontal dashed line
  std::string level_name = {};
};

inline constexpr int kNumColours = 8;

// Whether there is a finite value to draw.
bool has_values(const Plot& plot);

// An <svg> element, 480 x 270 units, scaled to its container's width. REQUIRES: has_values(plot).
std::string svg_plot(const Plot& plot);

// The legend as HTML: a swatch, the name and the last finite value of every named series; "" for fewer than
// two.
std::string legend_html(const Plot& plot);

}  // namespace terroir
