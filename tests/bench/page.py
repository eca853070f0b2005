"""build/bench.html: what `make bench` has measured, as one page that needs nothing else. Bars stand side by side for each row."""

import html

from tests.bench.figures import BEFORE, OURS, SEVERAL, marks, number, of_one_kind, spread

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1d21; --soft: #5a626c; --line: #d9dde2; --bar: #a9b4c0; --ours: #0b62c4;
  --kin: #7fb0e8; --met: #14692f; --missed: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --ink: #e6e9ec; --soft: #a3acb6; --line: #33393f; --bar: #566270;
  --ours: #5aa2f5; --kin: #35608f; --met: #6fce8b; --missed: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
h3 { font-size: .95rem; margin: 0 0 .4rem; } h3 small { color: var(--soft); font-weight: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; color: var(--soft); }
dd { margin: 0; color: var(--ink); overflow-wrap: anywhere; }
.rows { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); gap: 1.2rem 2rem; }
section { min-width: 0; }
.way { display: grid; grid-template-columns: 7.5rem 1fr 4.5rem; gap: .5rem; align-items: center; font-size: .85rem; line-height: 1.5; }
.way b { font-weight: normal; overflow-wrap: anywhere; } .way.ours b { font-weight: 600; }
.way i { display: block; height: .7rem; min-width: 1px; border-radius: 2px; background: var(--bar); }
.ours i { background: var(--ours); } .kin i { background: var(--kin); }
.way span { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-top: 1px solid var(--line); vertical-align: top; }
td + td + td { font-variant-numeric: tabular-nums; white-space: nowrap; } td small, th small { color: var(--soft); font-weight: normal; }
@media (max-width: 32rem) { td small, th small { display: block; } } .met { color: var(--met); } .missed { color: var(--missed); font-weight: 600; }
"""


def bars(metric, figures):
    """A row of the bench: a bar for each way, as long as its median."""
    medians = [(way, figures.median(metric, way)) for way in figures.values[metric]]
    most = max((value for _, value in medians if value is not None), default=0) or 1
    lines = [f"<section><h3>{html.escape(metric)} <small>{html.escape(figures.units[metric])}, "
             f"{'less' if metric in figures.less_is_better else 'more'} is better</small></h3>"]
    for way, value in medians:
        of = "ours" if way == OURS else "kin" if way in (BEFORE, *SEVERAL.values()) else ""
        lines.append(f'<div class="way {of}"><b>{html.escape(way)}</b><i style="width:{max(0, value or 0) / most * 100:.1f}%"></i>'
                     f"<span>{number(value)}</span></div>")
    return "\n".join(lines + ["</section>"])


def table(head, rows):
    """`rows` are lists of HTML."""
    cells = "".join(f"<th>{h}</th>" for h in head)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{cells}</tr>\n{body}\n</table></div>'


def page(figures, facts):
    ways, others = of_one_kind(figures)
    parts = ["<h1>hoody-tunnel: make bench</h1>",
             "<dl>" + "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd>" for k, v in facts.items()) + "</dl>"]
    if ways:
        parts += ["<h2>Side by side</h2>", '<div class="rows">', *(bars(m, figures) for m in ways), "</div>"]
    judged = [[f'<span class="{"met" if met else "missed"}">{"met" if met else "MISSED"}</span>', html.escape(what), html.escape(wanted),
               number(value) + (f" <small>({between[0]:.2f} to {between[1]:.2f})</small>" if between else "")]
              for what, value, between, wanted, met in marks(figures)]
    if judged:
        parts += ["<h2>Marks</h2>", table(["", "ours to the others", "wanted", "median <small>(rounds)</small>"], judged)]
    if figures.compared():
        parts += ["<h2>This build to the other one</h2>",
                  table(["", BEFORE, "now", "ratio <small>(rounds)</small>"],
                        [[html.escape(m), number(figures.median(m, BEFORE)), number(figures.median(m, OURS)),
                          spread(ratio).replace("(", "<small>(") + "</small>"] for m, ratio in figures.compared()])]
    if others:
        parts += ["<h2>Programs of ours</h2>", '<div class="rows">', *(bars(m, figures) for m in others), "</div>"]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>hoody-tunnel: make bench</title>\n<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")
