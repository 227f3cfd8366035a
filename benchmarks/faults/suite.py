"""The tests of the suite that try numbered inputs, and how they ended.

A test has a number by the mark `fault`, or by a parameter whose name begins with one, as
`test_x[I01 empty]`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

NUMBER = re.compile(r"(?<=[\[\- ])[A-Z]\d\d(?=[ \]\-])")


class Recorder:
    """A pytest plugin that keeps the numbered tests, and counts their outcomes."""

    def __init__(self, known: Iterable[str]) -> None:
        self.known = set(known)
        self.numbers: dict[str, set[str]] = {}
        self.outcomes: dict[str, Counter[str]] = {number: Counter() for number in self.known}

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out the tests that have no number."""
        for item in items:
            marked = {number for mark in item.iter_markers("fault") for number in mark.args}
            self.numbers[item.nodeid] = marked | self.known & set(NUMBER.findall(item.nodeid))
        config.hook.pytest_deselected(items=[one for one in items if not self.numbers[one.nodeid]])
        items[:] = [one for one in items if self.numbers[one.nodeid]]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by a set-up that skipped or failed."""
        if report.when == "call" or report.outcome != "passed":
            for number in self.numbers[report.nodeid]:
                self.outcomes[number][report.outcome] += 1


def outcomes(known: Iterable[str]) -> dict[str, Counter[str]]:
    """Run the numbered tests of the suite, and return the outcomes of each number."""
    recorder = Recorder(known)
    pytest.main(["-q", "--no-header"], [recorder])
    return recorder.outcomes
