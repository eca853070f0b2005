"""What `make bench` makes of its values: ratios, marks, its report and its page; and the bounds on system calls."""

import html.parser

from tests.bench import calls, figures
from tests.bench.figures import BEFORE, BESIDE, OURS, Figures, marks
from tests.bench.page import page
from tests.bench.ways import version_in
from tests.support.tap import case, main


def some():
    f = Figures()
    for at, (ours, nginx, wstunnel, before) in enumerate([(90, 100, 60, 80), (130, 100, 65, 100), (110, 100, None, 100)]):
        for way, value in ((OURS, ours), ("two nginx", nginx), ("wstunnel", wstunnel), (BEFORE, before), ("direct", 300)):
            if value is not None:
                f.note("TCP download", way, value, "MiB/s", at=at)
                f.note(f"TCP {BESIDE}, p99", way, 1000 / value, "us", True, at=at)
    f.note("RSS idle", "kit", 9000, "KiB", True)
    return f


@case("a ratio is the median of the rounds' ratios, with their least and most; a round that one side missed is left out")
def _():
    f = some()
    assert f.ratio("TCP download", OURS, "two nginx") == (1.1, 0.9, 1.3)
    assert f.ratio("TCP download", OURS, BEFORE) == (1.125, 1.1, 1.3)
    assert f.ratios("TCP download", OURS, "wstunnel") == [1.5, 2.0]
    f.note("late", "a", 4, "s", at=2)
    f.note("late", "b", 2, "s", at=0)
    f.note("late", "b", 1, "s", at=2)
    assert f.ratios("late", "a", "b") == [4] and f.median("late", "a") == 4 and f.median("late", "c") is None


@case("the best of several ways is the largest, or the smallest where less is better")
def _():
    f = some()
    assert f.best("TCP download", ["two nginx", "wstunnel", "no such"]) == "two nginx"
    assert f.best(f"TCP {BESIDE}, p99", ["two nginx", "wstunnel"]) == "two nginx"
    assert f.best("TCP download", ["no such"]) is None and f.best("no such", [OURS]) is None
    assert f.peers("TCP download") == ["two nginx", "wstunnel"]


@case("marks name what they compare with, are met at the bound and missed above it; nothing is said of what was not measured")
def _():
    rows = {(what, wanted): (value, met) for what, value, _, wanted, met in marks(some())}
    assert rows[("PULL download / two nginx", ">= 1.0")] == (1.1, True)
    assert rows[("PULL p99 beside a download / two nginx", "<= 0.5")][1] is False
    assert rows[("RSS idle, kit (KiB)", "<= 8,192")] == (9000, False)
    assert not [what for what, _ in rows if "EXPOSE" in what or "upload" in what]
    f = Figures()
    f.note("TCP requests", OURS, 140, "1/s")
    f.note("TCP requests", "two nginx", 100, "1/s")
    assert [row[4] for row in marks(f) if row[0] == "PULL requests / two nginx"] == [True, True]


@case("the report has every way that was measured, the other build and the congestion control")
def _():
    said = figures.text(some(), {"congestion control": "cubic"})
    for wanted in ("congestion control: cubic", "wstunnel", "beside the other build", "1.12 (1.10 to 1.30)", "MISSED"):
        assert wanted in said, said
    assert figures.text(Figures(), {})


@case("a program's version is found in what it says")
def _():
    for said, version in (("rathole \nBuild Timestamp:     2026-11-29T12:26:49.1Z\nBuild Version:       0.5.0\n", "0.5.0"), ("bore-cli 0.6.0\n", "0.6.0"),
                          ("nginx version: nginx/1.22.1", "1.22.1"), ("OpenSSH_9.2p1 Debian-2", "9.2p1"), ("none", "?"), ("0.66.0\n", "0.66.0")):
        assert version_in(said) == version, said


class Outline(html.parser.HTMLParser):
    """The elements of a page; wants each to be closed, and nothing from elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.words = [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert not {"src", "href"} & {name for name, _ in attrs}, attrs
        self.seen.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.words.append(data)


@case("the page is one file that is whole: a bar for each way, the marks, the facts, and texts are escaped")
def _():
    f = some()
    f.note("TCP <b>", "a&b", 1, "s")
    f.note("TCP <b>", OURS, 0, "s")
    text = page(f, {"kernel": "6 <x>"})
    outline = Outline(text)
    assert outline.seen.count("i") == sum(len(by_way) for by_way in f.values.values())
    assert "6 <x>" in outline.words and "a&b" in outline.words and "MISSED" in outline.words
    assert "@import" not in text and "url(" not in text and "prefers-color-scheme: dark" in text


@case("every load that counts system calls has its bounds, and what is above one is named")
def _():
    bound = calls.bounds()
    assert bound.keys() == calls.LOADS.keys()
    measured = {name: {program: {**dict.fromkeys(calls.KINDS, 0), **of, "read": 1 << 30, "written": 1 << 30} for program, of in programs.items()}
                for name, programs in bound.items()}
    assert not calls.problems(measured, bound)
    kit = measured["PULL download, GiB"]["kit"]
    kit["writes"] += 1
    assert len(calls.problems(measured, bound)) == 1 and "PULL download, GiB, kit, writes" in calls.problems(measured, bound)[0]
    kit.update(writes=0, read=1)
    assert "does not see" in calls.problems(measured, bound)[0]


if __name__ == "__main__":
    main()
