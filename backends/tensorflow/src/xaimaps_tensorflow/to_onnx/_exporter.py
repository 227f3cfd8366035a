"""The converter as the core finds it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xaimaps._exporters import Exported
from xaimaps.errors import BackendError

NEEDED = ("xaimaps_onnx", "tf2onnx", "tensorflow")

LOADING = ("weights", "allow_unsafe")
"""What is said to both processes that load a model."""


class OnnxExporter:
    """Keras models as ONNX files."""

    backend = "tensorflow"
    suffix = ".onnx"

    def require(self) -> None:
        """See that all is there that converting needs, without importing it.

        Raises:
            BackendError: something is missing.
        """
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise BackendError(
                f"converting a Keras model needs {missing[0].replace('_', '-')}, which is not "
                "installed; pip install 'xaimaps[convert]'"
            )

    def export(self, source: str, file: Path, *, loud: bool, **options: Any) -> Exported:
        """Convert in another process."""
        from xaimaps_tensorflow.to_onnx._request import Job
        from xaimaps_tensorflow.to_onnx._subprocess import convert_apart

        return convert_apart(Job(source=source, file=file, **options), loud=loud)

    def export_loaded(
        self, model: Any, native: Any, file: Path, options: Mapping[str, Any]
    ) -> None:
        """Convert in another process where that can load the same model; else in this one."""
        from xaimaps_tensorflow.to_onnx._subprocess import is_alike_apart

        output = options.get("output")
        chosen: dict[str, Any] = {
            "output": 0 if output is None else output,  # as backends choose
            "input_shape": options.get("input_shape"),
        }
        if is_alike_apart(model, options):
            own = {name: options[name] for name in LOADING if options.get(name) is not None}
            self.export(model, file, loud=False, **chosen, **own)
            return
        from xaimaps_tensorflow.to_onnx._convert import conversion_of

        conversion_of(native.model, **chosen).save(file)
