"""tests/hardening.yaml names a test for every case, and each of them is there."""

from tests.hardening import CASES, load, problems, row_problems
from tests.support.tap import case, main


@case("every case has its tests, every test is in the tree, and every edit fits the source")
def _():
    found = problems(load())
    assert not found, "\n".join(found)


@case("the check sees a missing case, a missing test and an edit that fits nowhere")
def _():
    cases = load()
    assert problems(cases[1:]) and problems(cases[:CASES - 1]) and problems(cases + cases[:1])
    row = {"test": "tests/gen/test_hardening.py::no such", "without": "x"}
    assert row_problems(row) and row_problems({**row, "test": "tests/none.c::x"}) and row_problems({"test": "x"})
    good = next(r for c in cases for r in c["tests"] if "edit" in r)
    assert not row_problems(good)
    assert row_problems({**good, "edit": {**good["edit"], "from": "no such text"}})


if __name__ == "__main__":
    main()
