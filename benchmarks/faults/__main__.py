"""Bad input, numbered: each must end in one sentence, quickly, with the right status.

    uv run --group frameworks --group ray python -m benchmarks faults [WORD ...]

numbers.txt lists the kinds of input. A kind is tried by commands, each in a process of its own with
limits of time and memory, and by the numbered tests of the suite. A WORD chooses the commands that
contain it, and leaves out the tests. Without one, benchmarks/results/faults.md is written.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.faults.commands import Case, cases
from benchmarks.faults.files import make_files
from benchmarks.faults.suite import outcomes

SECONDS = 40
MEMORY = 2**34
LONGEST = 2_100
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULTS = HERE.parent / "results" / "faults.md"
HEAD = """# Bad input

`uv run --group frameworks --group ray python -m benchmarks faults`. Each kind of input is tried by
commands, each in a process of its own, and by tests of the suite. A test is skipped where a package
or a permission that it needs is missing.

"""

TABLE = ["| number | input | commands | tests | good | skipped | bad |", "|---|---|" + "---|" * 5]


def limit_memory() -> None:
    """Limit the addresses of a child."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def fault_of(case: Case) -> str:
    """Run a case, and return what is wrong with its end; nothing if it is good."""
    command = [sys.executable, "-m", "xaimaps", *case.words]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            preexec_fn=limit_memory,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"more than {SECONDS} s"
    lines = done.stderr.strip().splitlines()
    if "Traceback" in done.stderr:
        return f"traceback: {lines[-1][:200]}"
    if done.returncode != case.status:
        return f"status {done.returncode}, not {case.status}: {lines[-1:]}"[:300]
    if case.status and (len(lines) != 1 or len(lines[0]) > LONGEST):
        return f"{len(lines)} lines of {len(done.stderr)} characters"
    return "" if case.says in done.stderr + done.stdout else f"no {case.says!r} in {lines}"[:300]


def commanded(words: list[str]) -> dict[str, Counter[str]]:
    """Run the commands that contain one of the words, and return the outcomes of each number."""
    found: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_files()
        for case in cases():
            command = " ".join(case.words)
            if words and not any(word in command for word in words):
                continue
            begin = time.perf_counter()
            fault = fault_of(case)
            found.setdefault(case.number, Counter())["failed" if fault else "passed"] += 1
            if fault:
                print(f"bad, {time.perf_counter() - begin:.0f} s: {command:.120}: {fault}")
        os.chdir(ROOT)
    return found


def row(number: str, kind: str, commands: Counter[str], tests: Counter[str]) -> str:
    """Return the row of one kind of input; what nothing tried is bad."""
    both = commands + tests
    bad = both["failed"] or int(not both["passed"])
    counts = (commands.total(), tests.total(), both["passed"], both["skipped"], bad)
    return f"| {number} | {kind} | {' | '.join(map(str, counts))} |"


def main() -> None:
    """Try all commands and tests, and write a row for each kind of input."""
    kinds = dict(
        line.split(" ", 1) for line in (HERE / "numbers.txt").read_text().strip().splitlines()
    )
    by_command = commanded(sys.argv[1:])
    if sys.argv[1:]:
        total = sum(by_command.values(), Counter())
        print(f"tried {total.total()}, good {total['passed']}, bad {total['failed']}")
        sys.exit(total["failed"] > 0)
    by_test = outcomes(kinds)
    none: Counter[str] = Counter()
    rows = [
        row(number, kind, by_command.get(number, none), by_test[number])
        for number, kind in kinds.items()
    ]
    bad = [line for line in rows if not line.endswith(" 0 |")]
    total = sum([*by_command.values(), *by_test.values()], none)
    summary = (
        f"{len(kinds)} kinds of input: tried {total.total()}, good {total['passed']}, "
        f"skipped {total['skipped']}, bad {total['failed']}; kinds with a bad end, or that nothing "
        f"tried: {len(bad)}."
    )
    table = [
        "| number | input | commands | tests | good | skipped | bad |",
        "|---|---|" + "---|" * 5,
    ]
    RESULTS.write_text("\n".join([HEAD + summary + "\n", *table, *rows]) + "\n")
    print("\n".join([*bad, summary]))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
