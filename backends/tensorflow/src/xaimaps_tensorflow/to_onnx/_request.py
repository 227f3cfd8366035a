"""The request for a conversion in another process.

Invalid settings are refused here, before any large library is imported.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xaimaps import zoo
from xaimaps._images.preprocess import get_preprocess
from xaimaps._load import located
from xaimaps.errors import ModelLoadError, UnsupportedModelError

OPSETS = range(13, 19)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One conversion; JSON can hold all of it.

    Attributes:
        source: the path of a `.keras` or `.h5` file, a name such as "keras:VGG16", or "default".
        file: the path of the ONNX file to write.
        layers: as in `xaimaps_tensorflow.convert`, as are `output`, `opset`, `input_shape`,
            `weights` and `allow_unsafe`.
        labels: the name of an embedded list of labels to write into the file.
        preprocess: the name of a preset to write into the file.

    Raises:
        XaimapsError: a setting is invalid for every model.
    """

    source: str | os.PathLike[str]
    file: str | os.PathLike[str]
    layers: Sequence[str] = ()
    output: str | int | None = None
    opset: int = OPSETS[-1]
    input_shape: Sequence[int | None] | None = None
    weights: str | os.PathLike[str] | None = None
    allow_unsafe: bool = False
    labels: str | None = None
    preprocess: str | None = None

    def __post_init__(self) -> None:
        require_source(self.source)
        require_opset(self.opset)
        if self.labels is not None and self.labels not in zoo.LABELS:
            raise ModelLoadError(
                f"a file can name an embedded list of labels only ({', '.join(zoo.LABELS)}), got "
                f"{self.labels!r}; give your own list to the commands that explain"
            )
        if self.preprocess is not None:
            get_preprocess(self.preprocess)

    def as_json(self) -> str:
        """Return the job as JSON."""
        return json.dumps(dataclasses.asdict(self), default=os.fspath)


def require_source(source: str | os.PathLike[str]) -> None:
    """Refuse a file that is missing, or that is an ONNX file."""
    located(source)
    name = os.fspath(source)
    if name not in zoo.MODELS and Path(name).suffix.lower() == ".onnx":
        raise ModelLoadError(
            f"a Keras model is converted, but {name!r} is ONNX already; use it as it is"
        )


def require_opset(opset: int) -> None:
    """Refuse an opset that tf2onnx does not write."""
    if opset not in OPSETS:
        raise UnsupportedModelError(
            f"`opset` must be from {OPSETS[0]} to {OPSETS[-1]}, which tf2onnx writes, got {opset}"
        )
