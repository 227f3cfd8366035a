"""Memory and time of converting Keras's applications to ONNX, each in a process of its own.

`python -m benchmarks convert [NAME...]` prints a table in Markdown. The weights are seeded,
and of a kind that lets pictures have different answers: untouched initial weights prove nothing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from xaimaps_tensorflow.testing.models import APPLICATIONS

COLUMNS = (
    *("model", "weights MB", "conversion s", "whole process s", "peak MB"),
    *("layers by name", "largest difference"),
)


def convert_one(name: str) -> dict[str, Any]:
    """In the child: build, convert and save."""
    import keras
    from xaimaps_tensorflow.testing.models import seeded
    from xaimaps_tensorflow.to_onnx._convert import converted
    from xaimaps_tensorflow.to_onnx._model import subject_of

    from xaimaps.backend import ModelInfo

    model = getattr(keras.applications, name)(weights=None, classifier_activation=None)
    seeded(model)
    weights = 4 * model.count_params()
    start = time.perf_counter()
    conversion = converted(subject_of(model), (), 18, ModelInfo(name))
    seconds = time.perf_counter() - start
    with tempfile.TemporaryFile() as file:
        conversion.write(file)
    return {
        "weights": weights / 1e6,
        "seconds": seconds,
        "layers": f"{len(conversion.layers)} of {len(conversion.layers) + len(conversion.lost)}",
        "difference": conversion.difference,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }


def row(name: str) -> str:
    """One line of the table, measured in a child process."""
    start = time.perf_counter()
    child = subprocess.run(
        [sys.executable, str(Path(__file__)), "--child", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
    )
    whole = time.perf_counter() - start
    found = json.loads(child.stdout.splitlines()[-1])
    return (
        f"| {name} | {found['weights']:.0f} | {found['seconds']:.1f} | {whole:.0f} "
        f"| {found['peak']:.0f} | {found['layers']} | {found['difference']:.0e} |"
    )


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(convert_one(sys.argv[2])))
        return
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for name in sys.argv[1:] or APPLICATIONS:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
