"""A conversion in a separate process, which frees TensorFlow's memory when it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from xaimaps import errors
from xaimaps._exporters import Exported
from xaimaps_tensorflow.to_onnx._request import Job


def convert_apart(job: Job, *, loud: bool = False) -> Exported:
    """Convert in a child process, and wait for it.

    Args:
        job: what to convert.
        loud: whether the libraries log to stderr.

    Raises:
        XaimapsError: an error of `xaimaps_tensorflow.convert`, or the process died.
    """
    child = subprocess.run(
        # -P: a file in the current folder must not be imported instead of a library.
        [sys.executable, "-P", "-m", "xaimaps_tensorflow.to_onnx", job.as_json()],
        stdout=subprocess.PIPE,
        stderr=None if loud else subprocess.PIPE,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    answer = _last_line(child.stdout)
    if "error" in answer:
        kind = getattr(errors, answer["kind"], errors.UnsupportedModelError)
        raise kind(answer["error"])
    if child.returncode or not answer:
        raise errors.UnsupportedModelError(_death(os.fspath(job.source), child))
    return Exported(**answer)


def is_alike_apart(model: object, options: Mapping[str, Any]) -> bool:
    """Return whether another process loads the same model with these options of `xaimaps.load`.

    It has no access to this process's random weights, custom parts or live models.
    """
    if not isinstance(model, str | os.PathLike) or options.get("custom_objects"):
        return False
    if options.get("weights", "imagenet") is None:
        return False
    import keras

    return not keras.saving.get_custom_objects()


def _last_line(output: bytes) -> dict[str, Any]:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _death(source: str, child: subprocess.CompletedProcess[bytes]) -> str:
    if child.returncode < 0:
        return (
            f"the conversion of {source!r} was killed by signal {-child.returncode}, as happens "
            "where memory runs out; convert it on a machine with more"
        )
    said = (child.stderr or b"").decode("utf-8", "replace").strip().splitlines()
    reason = f" ({said[-1][:300]})" if said else ""
    return (
        f"the conversion of {source!r} ended with status {child.returncode}{reason}; "
        "`xaimaps --debug convert` shows all of it"
    )
