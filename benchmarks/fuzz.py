"""Run all fuzzers with other seeds each time, until the minutes are over or there is a find.

    uv run --group frameworks python -m benchmarks fuzz --minutes 60 [--seed 1000]

A find is reported with its seed; `XAIMAPS_FUZZ_SEED=SEED pytest TEST` runs it again. The tests run
the same fuzzers with one seed and few cases.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

TESTS = (
    "tests/test_fuzz.py",
    "backends/jax/tests/test_fuzz.py",
    "backends/tensorflow/tests/files/test_fuzz.py",
)


def main() -> None:
    """Run the tests with one seed after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1000, help="the first seed")
    parser.add_argument("--count", type=int, default=2000, help="cases of each fuzzer and seed")
    given = parser.parse_args()
    end, seed = time.monotonic() + 60 * given.minutes, given.seed
    while time.monotonic() < end:
        chosen = {"XAIMAPS_FUZZ": str(given.count), "XAIMAPS_FUZZ_SEED": str(seed)}
        print(f"seed {seed}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-x", *TESTS]
        if status := subprocess.run(command, env=os.environ | chosen, check=False).returncode:
            sys.exit(status)
        seed += 1


if __name__ == "__main__":
    main()
