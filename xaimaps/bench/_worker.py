"""The process that measures the cases of one model in one backend.

It reads an order as JSON from its standard input, and writes one line of JSON for each case.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TextIO

from xaimaps._memory import keep_memory


def main() -> None:
    """Measure the cases of the order, one after the other."""
    results = _standard_output()
    order = json.load(sys.stdin)
    keep_memory()

    from xaimaps.bench._measure import measured

    for found in measured(order):
        print(json.dumps(found), file=results, flush=True)


def _standard_output() -> TextIO:
    """Return the standard output for the results alone; what frameworks print goes to errors."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return results


if __name__ == "__main__":
    main()
