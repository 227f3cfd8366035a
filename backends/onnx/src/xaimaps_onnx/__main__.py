"""One conversion in a process of its own, which gives TensorFlow's memory back when it ends.

`python -m xaimaps_onnx JOB` takes a job as JSON and writes what came of it as the last line.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from xaimaps.errors import XaimapsError
from xaimaps.files import write_atomic
from xaimaps.preprocess import get_preprocess

FAILED = 2


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Convert as the job says, and tell how it went."""
    from xaimaps_onnx.converting import converted
    from xaimaps_onnx.sources import open_source
    from xaimaps_onnx.subjects import subject_of

    start = time.perf_counter()
    model, info = open_source(
        job["source"], weights=job["weights"], allow_unsafe=job["allow_unsafe"]
    )
    info.labels_name = job["labels"] or info.labels_name
    info.preprocess = get_preprocess(job["preprocess"]) if job["preprocess"] else info.preprocess
    subject = subject_of(model, output=job["output"])
    conversion = converted(subject, job["layers"], job["opset"], info)
    file = Path(job["file"])
    write_atomic(file, lambda part: conversion.write(part) and None)
    return {
        "bytes": file.stat().st_size,
        "layers": len(conversion.layers),
        "of": len(conversion.layers) + len(conversion.lost),
        "lost": list(conversion.lost),
        "difference": conversion.difference,
        "seconds": time.perf_counter() - start,
        "peak_bytes": _peak_bytes(),
    }


def _peak_bytes() -> int | None:
    """The most memory that this process has held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    try:
        answer = main(json.loads(sys.argv[1]))
    except XaimapsError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.exit(FAILED if "error" in answer else 0)
