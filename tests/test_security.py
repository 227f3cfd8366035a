"""Each promise of SECURITY.md names the tests that try it, and they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECURITY = ROOT / "SECURITY.md"

pytestmark = pytest.mark.skipif(not SECURITY.is_file(), reason="needs the repository")


def promises():
    """The list of promises and the sentence after it, each with its comment."""
    promised = SECURITY.read_text().split("## What is ")[1]
    *listed, last = re.split(r"\n- ", promised)[1:]
    return [*listed, *last.split("\n\n")]


def named_tests(promise):
    (named,) = re.findall(r"<!-- tests: (.+) -->", promise)
    return [name.split("::") for name in named.split()]


def test_every_promise_is_tested():
    found = [one for one in promises() if one.strip()]
    assert len(found) == 6
    for path, name in (test for one in found for test in named_tests(one)):
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"
