"""The look of the pages: one style sheet for light, dark and paper. Every status has a sign beside its colour."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --panel: #f5f6f8; --ink: #1b1f24; --soft: #59636e;
  --line: #d5dae0; --grid: #e6e9ed; --PASS: #12703f; --FAIL: #b3261e; --UNVERIFIED: #8a5a00; --NOT: #59636e;
  --path: #2b5fa8; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --panel: #1d2126; --ink: #e8eaed; --soft: #a0a8b2;
  --line: #39404a; --grid: #2a3037; --PASS: #5fd39a; --FAIL: #ff8a80; --UNVERIFIED: #f2b84b; --NOT: #a0a8b2;
  --path: #8ab4f8; } }
* { box-sizing: border-box; }
html { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
body { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere; }
h1 { font-size: 1.25rem; line-height: 1.3; margin: .75rem 0 .25rem; }
h2 { font-size: 1.05rem; margin: 2.25rem 0 .75rem; }
h3 { font-size: .95rem; margin: 0 0 .25rem; }
p { margin: .35rem 0; }
.soft, figcaption, th { color: var(--soft); }
.PASS { --tone: var(--PASS); } .FAIL { --tone: var(--FAIL); }
.UNVERIFIED { --tone: var(--UNVERIFIED); } .NOT { --tone: var(--NOT); }
.status { color: var(--tone); font-weight: 650; white-space: nowrap; }
.status i { display: inline-block; font-style: normal; width: 1.25em; text-align: center; }
.banner { border: 1px solid var(--line); border-left: .5rem solid var(--tone); border-radius: .5rem;
  padding: 1rem 1.25rem; background: var(--panel); }
.banner .status { font-size: 1.9rem; line-height: 1.2; }
.banner .status i { width: auto; margin-right: .35em; }
.banner dl { margin: .75rem 0 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem .45rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; font-size: .8rem; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td ul { margin: .25rem 0 0; padding-left: 1.1rem; color: var(--soft); font-size: .9rem; overflow-wrap: anywhere; }
abbr { text-decoration: none; border-bottom: 1px dotted var(--soft); cursor: help; }
.charts { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
figure { margin: 0; padding: .9rem .9rem .5rem; border: 1px solid var(--line); border-radius: .5rem; min-width: 0; }
figcaption { font-size: .85rem; margin-bottom: .25rem; }
svg { display: block; width: 100%; height: auto; max-width: 44rem; font-family: inherit; }
svg text { fill: var(--ink); font-size: 12px; } svg .small { fill: var(--soft); font-size: 11.5px; }
svg .strong { font-weight: 650; }
svg .grid { stroke: var(--grid); } svg .rule { stroke: var(--soft); } svg .bar { stroke: var(--line); stroke-width: 3; }
svg .budget { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg .first { stroke: var(--FAIL); stroke-width: 1.5; stroke-dasharray: 2 3; }
svg .path { fill: none; stroke: var(--path); stroke-width: 2; } svg .thin { fill: none; stroke: var(--line); }
svg .within { fill: var(--paper); stroke: var(--path); stroke-width: 1.75; }
svg .over { fill: var(--FAIL); stroke: var(--paper); stroke-width: .75; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; }
details { margin: .75rem 0; } summary { cursor: pointer; font-weight: 600; }
td details { margin: .2rem 0 0; } td summary { font-weight: 400; font-size: .9rem; color: var(--soft); }
details > dl, details > .scroll { margin-top: .75rem; }
code { font: .85em ui-monospace, "DejaVu Sans Mono", monospace; }
@media (min-width: 40rem) { td:first-child { white-space: nowrap; } }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; }
  .wide { display: none; } body { padding-top: 1rem; } thead { display: none; }
  tr { display: grid; grid-template-columns: 1fr auto auto; gap: 0 1rem; padding: .5rem 0;
    border-bottom: 1px solid var(--line); } td { border: 0; padding: .1rem 0; } td.said { grid-column: 1 / -1; }
  svg text, svg .small { font-size: 13.5px; } svg .name { font-size: 12px; } }
@media print { :root { color-scheme: light; --paper: #fff; --panel: #fff; --ink: #000; --soft: #444; --line: #bbb;
  --grid: #ddd; --PASS: #0b5a31; --FAIL: #8f1a13; --UNVERIFIED: #6b4500; --NOT: #444; --path: #234f8e; }
  body { max-width: none; padding: 0; } figure, .banner { break-inside: avoid; } .filters { display: none; }
  details::details-content { content-visibility: visible; display: block; } }
"""
