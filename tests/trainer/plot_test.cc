#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "tests/trainer/well_formed.h"
#include "trainer/report/html.h"
#include "trainer/report/run_plots.h"
#include "trainer/report/svg_plot.h"
#include "trainer/report/ticks.h"

namespace terroir {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

TEST(Ticks, StandAtRoundNumbersAroundTheValues) {
  const Axis axis = make_axis(1.3, 7.2, 6);
  EXPECT_EQ(axis.ticks, (std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(axis.labels.front(), "1");
  EXPECT_EQ(axis.min, 1);
  EXPECT_EQ(axis.max, 8);
  EXPECT_EQ(make_axis(0.12, 0.31, 5).labels,
            (std::vector<std::string>{"0.10", "0.15", "0.20", "0.25", "0.30", "0.35"}));
}

TEST(Ticks, ThousandsAndThousandthsAreSharedByTheLabels) {
  const Axis small = make_axis(0, 1e-3, 5);
  EXPECT_EQ(small.exponent, -3);
  EXPECT_EQ(small.labels, (std::vector<std::string>{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  const Axis large = make_axis(0, 40000, 5);
  EXPECT_EQ(large.exponent, 3);
  EXPECT_EQ(large.labels.back(), "40");
}

TEST(Ticks, EqualBoundsAreWidenedAndWholeAxesHaveWholeTicks) {
  EXPECT_LT(make_axis(3, 3, 5).min, 3);
  EXPECT_GT(make_axis(3, 3, 5).max, 3);
  EXPECT_LT(make_axis(0, 0, 5).min, 0);
  for (const double tick : make_axis(1, 3, 6, true).ticks) EXPECT_EQ(tick, std::floor(tick));
}

TEST(Ticks, AnyRangeHasAFewTicksThatCoverIt) {
  for (const double low : {-1e6, -3.0, 0.0, 1e-9, 2.5, 1e12}) {
    for (const double length : {1e-7, 0.03, 1.0, 999.0, 1e9}) {
      if (low + length == low || length / std::abs(low) < 1e-9) continue;
      const Axis axis = make_axis(low, low + length, 5);
      EXPECT_LE(axis.min, low + length * 1e-6);
      EXPECT_GE(axis.max, low + length * (1 - 1e-6));
      EXPECT_GE(axis.ticks.size(), 2u);
      EXPECT_LE(axis.ticks.size(), 8u);
      EXPECT_EQ(axis.ticks.size(), axis.labels.size());
    }
  }
}

TEST(HumanNumbers, AreShort) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(1234), "1,234");
  EXPECT_EQ(human_count(12345), "12.3k");
  EXPECT_EQ(human_count(2457600), "2.46M");
  EXPECT_EQ(human_count(999999999), "1.00G");
  EXPECT_EQ(human_duration(0.25), "0.25 s");
  EXPECT_EQ(human_duration(252), "4 min 12 s");
  EXPECT_EQ(human_duration(11100), "3 h 05 min");
  EXPECT_EQ(human_duration(187200), "2 d 4 h");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(1536.0 * 1024), "1.5 MiB");
  for (const std::string& text : {human_count(kNan), human_duration(kNan), human_number(kNan, 2)})
    EXPECT_EQ(text, "–");
}

TEST(Html, MarkupControlCharactersAndInvalidUtf8AreEscaped) {
  EXPECT_EQ(escape_html("<b a=\"1\">&한"), "&lt;b a=&quot;1&quot;&gt;&amp;한");
  EXPECT_EQ(escape_html(std::string("a\0b\x1B\n", 5)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD\n");
  EXPECT_EQ(escape_html("a\xFFz"), "a\xEF\xBF\xBDz");
}

TEST(Html, TheseTestsSeeFaults) {
  EXPECT_EQ(markup_fault("<a x=\"1\"><b/>t &amp; u</a>"), "");
  for (const char* text :
       {"<a>", "</a>", "<a></b>", "<a x=1/>", "<a x=\"&\"/>", "a & b", "a > b", "<a", "<a<b/>"})
    EXPECT_NE(markup_fault(text), "") << text;
}

Plot two_points() {
  Plot plot{.title = "t", .unit = "u", .series = {}};
  plot.series = {{"a", 0, SeriesStyle::kLine, {{0, 0}, {10, 10}}}};
  return plot;
}

TEST(SvgPlot, PointsLieWhereTheAxesSay) {
  // 480 x 270 with margins 46 left, 12 right, 22 top, 30 bottom: (0, 0) is (46, 240), (10, 10) is (468, 22).
  const std::string svg = svg_plot(two_points());
  EXPECT_NE(svg.find("d=\"M46.0 240.0L468.0 22.0\""), std::string::npos) << svg;
  EXPECT_EQ(markup_fault(svg), "");
}

TEST(SvgPlot, LineIsBrokenAtNaN) {
  Plot plot = two_points();
  plot.series[0].points = {{0, 0}, {5, 10}, {6, kNan}, {8, 0}, {10, 10}};
  const std::string svg = svg_plot(plot);
  EXPECT_NE(svg.find("d=\"M46.0 240.0L257.0 22.0M383.6 240.0L468.0 22.0\""), std::string::npos) << svg;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(SvgPlot, WithoutFiniteValuesThereIsNothingToDraw) {
  Plot plot = two_points();
  EXPECT_TRUE(has_values(plot));
  plot.series[0].points = {{1, kNan}, {2, std::numeric_limits<double>::infinity()}};
  EXPECT_FALSE(has_values(plot));
  plot.series.clear();
  EXPECT_FALSE(has_values(plot));
}

TEST(SvgPlot, OnePointMakesAPlot) {
  Plot plot = two_points();
  plot.series[0] = {"a", 0, SeriesStyle::kLineAndDots, {{1, 2.5}}};
  const std::string svg = svg_plot(plot);
  EXPECT_NE(svg.find("<title>a, step 1: 2.5</title>"), std::string::npos) << svg;
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(SvgPlot, ResumesAndTheLevelAreMarked) {
  Plot plot = two_points();
  plot.marks = {5, 99};  // 99 lies outside
  plot.level = 5;
  plot.level_name = "limit <1>";
  const std::string svg = svg_plot(plot);
  EXPECT_NE(svg.find("x1=\"257.0\" y1=\"22.0\" x2=\"257.0\" y2=\"240.0\"><title>resumed at step 5</title>"),
            std::string::npos)
      << svg;
  EXPECT_EQ(svg.find("resumed at step 99"), std::string::npos);
  EXPECT_NE(svg.find("limit &lt;1&gt;"), std::string::npos);
  EXPECT_EQ(markup_fault(svg), "");
}

TEST(SvgPlot, LegendNamesEverySeriesWithItsLastValue) {
  Plot plot = two_points();
  EXPECT_EQ(legend_html(plot), "");
  plot.series.push_back({"<b>", 9, SeriesStyle::kLine, {{0, 1}, {1, 2.5}, {2, kNan}}});
  const std::string legend = legend_html(plot);
  EXPECT_NE(legend.find("&lt;b&gt; <b>2.500</b>"), std::string::npos) << legend;
  EXPECT_NE(legend.find("class=\"line c1 dashed\""),
            std::string::npos);  // the tenth series: second round of colours
  EXPECT_EQ(markup_fault(legend), "");
}

std::vector<Point> ramp(std::size_t size) {
  std::vector<Point> points(size);
  for (std::size_t i = 0; i < size; ++i) points[i] = {static_cast<double>(i), static_cast<double>(i)};
  return points;
}

TEST(WindowMeans, ShortenALineToMeans) {
  EXPECT_EQ(window_means(ramp(5), 5).size(), 5u);
  const std::vector<Point> means = window_means(ramp(1000), 10);
  ASSERT_EQ(means.size(), 10u);
  EXPECT_EQ(means[0].y, 49.5);  // mean of 0 .. 99
  EXPECT_EQ(means[0].x, 49.5);
}

TEST(WindowMeans, WindowOfNaNIsAGapAndSingleNaNsAreSkipped) {
  std::vector<Point> points = ramp(40);
  for (int i = 0; i < 10; ++i) points[i].y = kNan;
  points[10].y = kNan;
  const std::vector<Point> means = window_means(points, 4);
  EXPECT_TRUE(std::isnan(means[0].y));
  EXPECT_EQ(means[1].y, 15);  // mean of 11 .. 19
}

TEST(WindowExtremes, KeepSpikes) {
  std::vector<Point> points = ramp(10000);
  for (Point& point : points) point.y = 1;
  points[1234].y = 50;
  points[5678].y = -50;
  points[17].y = kNan;
  const std::vector<Point> kept = window_extremes(points, 100);
  EXPECT_LE(kept.size(), 100u);
  const auto has = [&](double y) {
    return std::any_of(kept.begin(), kept.end(), [&](const Point& point) { return point.y == y; });
  };
  EXPECT_TRUE(has(50));
  EXPECT_TRUE(has(-50));
  for (std::size_t i = 1; i < kept.size(); ++i) EXPECT_LT(kept[i - 1].x, kept[i].x);
}

}  // namespace
}  // namespace terroir
