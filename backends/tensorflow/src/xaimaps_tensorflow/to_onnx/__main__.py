"""The child process of `_subprocess.py`.

`python -m xaimaps_tensorflow.to_onnx JOB` takes a request as JSON, and writes the result as the
last line.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from pathlib import Path

from xaimaps._exporters import Exported
from xaimaps._images.preprocess import get_preprocess
from xaimaps.errors import XaimapsError
from xaimaps_tensorflow.to_onnx._request import Job

FAILED = 2
STATUS = Path("/proc/self/status")


def main(job: Job) -> Exported:
    """Convert as the job requests, and return the measurements."""
    from xaimaps_tensorflow.to_onnx._convert import conversion_of
    from xaimaps_tensorflow.to_onnx._open import open_source

    start = time.perf_counter()
    model, info = open_source(job.source, weights=job.weights, allow_unsafe=job.allow_unsafe)
    info.labels_name = job.labels or info.labels_name
    info.preprocess = get_preprocess(job.preprocess) if job.preprocess else info.preprocess
    conversion = conversion_of(
        model, job.layers, job.opset, output=job.output, input_shape=job.input_shape, info=info
    )
    conversion.save(Path(job.file))
    return Exported(
        bytes=Path(job.file).stat().st_size,
        layers=len(conversion.layers),
        of=len(conversion.layers) + len(conversion.lost),
        lost=conversion.lost,
        difference=conversion.difference,
        seconds=time.perf_counter() - start,
        peak_bytes=peak_bytes(),
    )


def peak_bytes() -> int | None:
    """Return the peak memory of this process, or None if the system does not report it."""
    # The usual measure, ru_maxrss, includes the parent's peak, which a child inherits.
    found = re.search(r"VmHWM:\s*(\d+) kB", STATUS.read_text()) if STATUS.exists() else None
    return int(found[1]) * 1024 if found else _peak_with_parent()


def _peak_with_parent() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    try:
        answer = dataclasses.asdict(main(Job(**json.loads(sys.argv[1]))))
    except XaimapsError as error:
        answer = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
    sys.exit(FAILED if "error" in answer else 0)
