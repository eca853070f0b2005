"""What `make bench` has measured, and what follows from it. Nothing here measures or starts anything."""

import statistics

OURS, BEFORE = "hoody-tunnel", "before"
SEVERAL = {connections: f"{OURS} x{connections}" for connections in (2, 4)}
NGINX = "two nginx"
# No tunnels of somebody else.
NO_PEERS = {"direct", OURS, BEFORE, *SEVERAL.values()}

BESIDE = "small request beside a download"


class Figures:
    """Values by metric and way, one for each round; None where a way gave none."""

    def __init__(self):
        self.values, self.units, self.less_is_better = {}, {}, set()

    def note(self, metric, way, value, unit, less_is_better=False, at=0):
        """`at` is the round, so that a way that gave nothing in an earlier one stays beside the others."""
        self.units[metric] = unit
        if less_is_better:
            self.less_is_better.add(metric)
        values = self.values.setdefault(metric, {}).setdefault(way, [])
        values += [None] * (at - len(values)) + [value]

    def median(self, metric, way):
        values = [v for v in self.values.get(metric, {}).get(way, ()) if v is not None]
        return statistics.median(values) if values else None

    def best(self, metric, ways):
        """Whichever of the ways has the best median; None when none has one."""
        there = [(self.median(metric, way), way) for way in ways if self.median(metric, way) is not None]
        if not there:
            return None
        return (min if metric in self.less_is_better else max)(there)[1]

    def ratios(self, metric, way, beside):
        """One for each round in which both have a value."""
        by_way = self.values.get(metric, {})
        return [a / b for a, b in zip(by_way.get(way, ()), by_way.get(beside, ())) if a is not None and b]

    def ratio(self, metric, way, beside):
        """(median, least, most) of the rounds' ratios; None when there is none."""
        ratios = self.ratios(metric, way, beside)
        return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None

    def peers(self, metric):
        return [way for way in self.values.get(metric, {}) if way not in NO_PEERS]

    def compared(self):
        """(metric, (median, least, most) of new to old) of each row that both builds have."""
        rows = [(metric, self.ratio(metric, OURS, BEFORE)) for metric in self.values]
        return [row for row in rows if row[1]]


def number(value):
    """A figure as it is printed: three digits that count, and none behind the point of a large one."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


class Marks:
    """What must hold. .rows has (what, value, (least, most) or None, what is wanted, whether it is met)."""

    def __init__(self, figures):
        self.figures, self.rows = figures, []

    def _row(self, what, value, spread, at_least=None, at_most=None):
        wanted = f">= {at_least:,}" if at_least is not None else f"<= {at_most:,}"
        met = value >= at_least if at_least is not None else value <= at_most
        self.rows.append((what, value, spread, wanted, met))

    def ratio(self, what, metric, beside, **wanted):
        """`beside` is a way, or several: then the best of them is meant, and is named."""
        ways = [beside] if isinstance(beside, str) else beside
        best = self.figures.best(metric, ways)
        ratio = best and self.figures.ratio(metric, OURS, best)
        if ratio:
            self._row(f"{what} / {best}", ratio[0], ratio[1:], **wanted)

    def bound(self, what, metric, way, at_most):
        value = self.figures.median(metric, way)
        if value is not None:
            self._row(f"{what} ({self.figures.units[metric]})", value, None, at_most=at_most)


def marks(figures):
    m = Marks(figures)
    for direction in ("download", "upload"):
        m.ratio(f"PULL {direction}", f"TCP {direction}", [NGINX, "wstunnel"], at_least=1.0)
        m.ratio(f"PULL {direction}, CPU", f"TCP {direction} CPU", [NGINX, "wstunnel"], at_most=1.05)
    for kind, name in (("TCP", "PULL"), ("HTTP", "EXPOSE")):
        m.ratio(f"{name} 64 parallel downloads", f"{kind} 64 parallel downloads", NGINX, at_least=1.0)
    m.ratio("EXPOSE requests", "HTTP requests", NGINX, at_least=2.0)
    m.ratio("PULL requests", "TCP requests", NGINX, at_least=1.4)
    for kind, name in (("TCP", "PULL"), ("HTTP", "EXPOSE")):
        metric = f"{kind} {BESIDE}, p99"
        m.ratio(f"{name} p99 beside a download", metric, figures.peers(metric), at_most=0.5)
    for kind, name in (("TCP", "PULL"), ("HTTP", "EXPOSE")):
        m.ratio(f"{name} download, 40 ms", f"{kind} 40 ms, download", "direct", at_least=0.8)
        m.bound(f"{name} p50 beside a download, 40 ms and 40 Mbit/s", f"{kind} 40 ms, 40 Mbit/s, {BESIDE}, p50", OURS, 100000)
    # The first marks.
    for direction in ("download", "upload"):
        m.ratio(f"PULL {direction}", f"TCP {direction}", NGINX, at_least=0.85)
        m.ratio(f"PULL {direction}, CPU", f"TCP {direction} CPU", NGINX, at_most=1.35)
    m.ratio("EXPOSE requests", "HTTP requests", NGINX, at_least=1.0)
    m.ratio("PULL requests", "TCP requests", NGINX, at_least=1.2)
    m.ratio("EXPOSE p99 beside a download", f"HTTP {BESIDE}, p99", "direct", at_most=2)
    m.ratio("PULL p99 beside a download", f"TCP {BESIDE}, p99", "direct", at_most=2)
    for name in ("kit", "expose driver", "pull driver"):
        m.bound(f"RSS idle, {name}", "RSS idle", name, 8192)
    m.bound("RSS for an idle visitor, kit", "RSS for an idle expose visitor", "kit", 8)
    return m.rows


def columns(ways, first):
    """Ways in the order of a table: those of `first` that are there, then the others, ours at the end."""
    known = [w for w in first if w in ways]
    return known + [w for w in ways if w not in known and w not in NO_PEERS] + [w for w in (OURS,) if w in ways]


def table(title, metrics, ways, figures, extra=None):
    """Lines: a row for each metric, a column for each way. `extra`: (title, text of a metric) of one more column."""
    width = max([len(m) + len(figures.units[m]) + 3 for m in metrics] + [len(title)])
    head = f"{title:{width}}" + "".join(f"{w:>{max(11, len(w) + 2)}}" for w in ways) + (f"   {extra[0]}" if extra else "")
    lines = [head]
    for metric in metrics:
        cells = "".join(f"{number(figures.median(metric, w)):>{max(11, len(w) + 2)}}" for w in ways)
        lines.append(f"{metric + ' (' + figures.units[metric] + ')':{width}}{cells}{'   ' + extra[1](metric) if extra else ''}".rstrip())
    return lines


def spread(ratio):
    return f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f})"


def of_one_kind(figures):
    """Metrics whose ways are ways from the load to a service, and the others, which say something of single programs."""
    ways, others = [], []
    for metric, by_way in figures.values.items():
        (ways if {"direct", OURS} & set(by_way) else others).append(metric)
    return ways, others


def text(figures, facts):
    """The whole report, as it is printed."""
    lines = [f"{name}: {value}" for name, value in facts.items()] + [""]
    compared, others = of_one_kind(figures)
    there = list(dict.fromkeys(w for m in compared for w in figures.values[m]))
    if compared:
        lines += table("", compared, columns(there, ["direct", NGINX, "ssh -R"]), figures) + [""]
    several = [m for m in compared if set(SEVERAL.values()) & set(figures.values[m])]
    if several:
        lines += table("several connections", several, [OURS, *(w for w in SEVERAL.values() if w in there)], figures) + [""]
    if figures.compared():
        lines += table("beside the other build", [m for m, _ in figures.compared()], [BEFORE, OURS], figures,
                       ("ratio", lambda m: spread(figures.ratio(m, OURS, BEFORE)))) + [""]
    lines += [f"{metric + ', ' + w + ' (' + figures.units[metric] + ')':60}{number(figures.median(metric, w)):>11}"
              for metric in others for w in figures.values[metric]] + [""]
    for what, value, between, wanted, met in marks(figures):
        said = f" ({between[0]:.2f} to {between[1]:.2f})" if between else ""
        lines.append(f"{'met   ' if met else 'MISSED'}  {what:66}{number(value) + said:>24}   wanted {wanted}")
    return "\n".join(lines)
