#include "trainer/report/svg_plot.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "trainer/report/html.h"
#include "trainer/report/ticks.h"

namespace terroir {
namespace {

constexpr double kWidth = 480, kHeight = 270;
constexpr double kLeft = 46, kRight = 12, kTop = 22, kBottom = 30;  // margins for the labels

struct Bounds {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void include(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

bool is_drawn(const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

std::string colour_class(int colour) {
  return fmt::format("c{}{}", colour % kNumColours, colour >= kNumColours ? " dashed" : "");
}

class PlotWriter {
 public:
  explicit PlotWriter(const Plot& plot) : plot_(plot) {
    Bounds x, y;
    for (const Series& series : plot.series) {
      for (const Point& point : series.points) {
        if (!is_drawn(point)) continue;
        x.include(point.x);
        y.include(point.y);
      }
    }
    if (plot.x_range) {
      x.include(plot.x_range->first);
      x.include(plot.x_range->second);
    }
    TERROIR_CHECK(!y.empty(), "plot \"{}\" has no values", plot.title);
    if (plot.from_zero) y.include(0);
    if (plot.level) y.include(*plot.level);
    x_ = make_axis(x.low, x.high, 6, true);
    // The x axis ends where the run ends: there is no need of a round last step.
    x_.min = x.low;
    x_.max = std::max(x.high, x.low + 1);
    y_ = make_axis(y.low, y.high, 5);
  }

  std::string write() {
    text_ = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n", kWidth, kHeight,
                        escape_html(plot_.title));
    write_y_axis();
    write_x_axis();
    write_marks();
    for (const Series& series : plot_.series) write_series(series);
    return std::move(text_) + "</svg>\n";
  }

 private:
  double x(double value) const {
    return kLeft + (value - x_.min) / (x_.max - x_.min) * (kWidth - kLeft - kRight);
  }
  double y(double value) const {
    return kHeight - kBottom - (value - y_.min) / (y_.max - y_.min) * (kHeight - kTop - kBottom);
  }

  void write_line(const char* css_class, double x1, double y1, double x2, double y2,
                  const std::string& hover = "") {
    text_ +=
        fmt::format("<line class=\"{}\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\">{}</line>\n",
                    css_class, x1, y1, x2, y2, hover.empty() ? "" : "<title>" + hover + "</title>");
  }
  // `anchor`: which part of the text lies at x: start, middle or end.
  void write_label(double at_x, double at_y, const char* anchor, const std::string& markup) {
    text_ += fmt::format("<text class=\"tick\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n",
                         at_x, at_y, anchor, markup);
  }

  void write_y_axis() {
    for (std::size_t i = 0; i < y_.ticks.size(); ++i) {
      const double at = y(y_.ticks[i]);
      write_line("grid", kLeft, at, kWidth - kRight, at);
      write_label(kLeft - 6, at + 4, "end", y_.labels[i]);
    }
    if (y_.exponent != 0)
      write_label(2, 10, "start", fmt::format("×10<tspan dy=\"-4\">{}</tspan>", y_.exponent));
  }

  void write_x_axis() {
    const double bottom = kHeight - kBottom;
    for (const double tick : x_.ticks) {
      if (tick < x_.min || tick > x_.max) continue;
      const double at = x(tick);
      const bool at_the_edge = at > kWidth - kRight - 16;  // half a label's width
      write_line("axis", at, bottom, at, bottom + 4);
      write_label(at_the_edge ? kWidth - 1 : at, bottom + 18, at_the_edge ? "end" : "middle",
                  human_count(tick));
    }
    write_label(2, bottom + 18, "start", "step");
    write_line("axis", kLeft, bottom, kWidth - kRight, bottom);
  }

  void write_marks() {
    for (const double mark : plot_.marks)
      if (mark >= x_.min && mark <= x_.max)
        write_line("mark", x(mark), kTop, x(mark), kHeight - kBottom,
                   fmt::format("resumed at step {:.0f}", mark));
    if (!plot_.level) return;
    write_line("mark", kLeft, y(*plot_.level), kWidth - kRight, y(*plot_.level));
    write_label(kWidth - kRight, y(*plot_.level) - 4, "end", escape_html(plot_.level_name));
  }

  void write_series(const Series& series) {
    std::string path;
    bool pen_down = false;
    for (const Point& point : series.points) {
      if (is_drawn(point))
        path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", x(point.x), y(point.y));
      pen_down = is_drawn(point);
    }
    const char* style = series.style == SeriesStyle::kFaintLine ? " faint" : "";
    text_ += fmt::format("<path class=\"line {}{}\" d=\"{}\"><title>{}</title></path>\n",
                         colour_class(series.colour), style, path, escape_html(series.name));
    if (series.style == SeriesStyle::kLineAndDots) write_dots(series);
  }

  void write_dots(const Series& series) {
    for (const Point& point : series.points) {
      if (!is_drawn(point)) continue;
      text_ += fmt::format(
          "<circle class=\"dot {}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"2.5\"><title>{}, step {:.0f}: "
          "{:.4g}</title>"
          "</circle>\n",
          colour_class(series.colour), x(point.x), y(point.y), escape_html(series.name), point.x, point.y);
    }
  }

  const Plot& plot_;
  Axis x_, y_;
  std::string text_;
};

double last_value(const Series& series) {
  const auto last = std::find_if(series.points.rbegin(), series.points.rend(), is_drawn);
  return last == series.points.rend() ? std::numeric_limits<double>::quiet_NaN() : last->y;
}

}  // namespace

bool has_values(const Plot& plot) {
  return std::any_of(plot.series.begin(), plot.series.end(), [](const Series& series) {
    return std::any_of(series.points.begin(), series.points.end(), is_drawn);
  });
}

std::string svg_plot(const Plot& plot) { return PlotWriter(plot).write(); }

std::string legend_html(const Plot& plot) {
  std::string items;
  int num_items = 0;
  for (const Series& series : plot.series) {
    if (series.name.empty()) continue;
    ++num_items;
    items += fmt::format(
        "<li><svg class=\"swatch\" viewBox=\"0 0 22 8\"><path class=\"line {}\" d=\"M1 4L21 4\"/></svg>{} "
        "<b>{}</b></li>\n",
        colour_class(series.colour), escape_html(series.name), human_number(last_value(series), 3));
  }
  return num_items < 2 ? "" : "<ul class=\"legend\">\n" + items + "</ul>\n";
}

}  // namespace terroir
