// The page's style sheet. Colours c0 to c7 differ in lightness as well as in hue, so that they stay apart for
// colour-blind readers and in print.
#pragma once

namespace terroir {

inline constexpr const char* kReportStyle = R"(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #5d6778; --rule: #e3e7ee;
  --c0: #2563eb; --c1: #d97706; --c2: #0f9f6e; --c3: #dc2626; --c4: #7c3aed; --c5: #0891b2; --c6: #be185d; --c7: #4d7c0f; }
@media (prefers-color-scheme: dark) {
  :root { --page: #10141b; --card: #181e28; --text: #e4e9f1; --soft: #97a3b6; --rule: #2a3342;
    --c0: #6ea8fe; --c1: #fbbf24; --c2: #34d399; --c3: #f87171; --c4: #b197fc; --c5: #22d3ee; --c6: #f472b6; --c7: #a3e635; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
main { max-width: 1140px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 26px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 32px 0 12px; }
h3 { font-size: 15px; margin: 0; }
p { margin: 4px 0; }
.soft { color: var(--soft); font-size: 13px; }
.tiles, .plots, .samples { display: grid; gap: 12px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(max(150px, 23%), 1fr)); margin-top: 20px; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(430px, 100%), 1fr)); margin-top: 12px; }
.samples { grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 12px 14px; min-width: 0; }
.tile b { display: block; font-size: 22px; line-height: 1.3; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card > svg { display: block; width: 100%; height: auto; margin-top: 6px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 2px 14px; margin: 6px 0 0; padding: 0; font-size: 13px; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.swatch { width: 22px; height: 8px; margin-right: 5px; vertical-align: middle; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.faint { stroke-width: 1; opacity: .28; }
.dashed { stroke-dasharray: 6 4; }
.grid { stroke: var(--rule); } .axis { stroke: var(--soft); } .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
.tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); } .c6 { stroke: var(--c6); } .c7 { stroke: var(--c7); }
.dot { fill: var(--card); stroke-width: 1.6; }
.scroll { overflow-x: auto; padding: 4px 14px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px 7px 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 500; font-size: 13px; vertical-align: bottom; }
th:first-child, td:first-child, .word { text-align: left; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 12px; }
dl { display: grid; grid-template-columns: minmax(90px, auto) 1fr; gap: 3px 14px; margin: 8px 0 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
.sample { white-space: pre-wrap; overflow-wrap: anywhere; margin: 6px 0 0; font-size: 16px; line-height: 1.6; }
.sample b { font-weight: 650; }
@media print { body { background: #fff; } .card { break-inside: avoid; } }
)";

}  // namespace terroir
