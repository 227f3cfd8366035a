"""The converter as an exporter of the core."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xaimaps._exporters import Exported
from xaimaps.errors import BackendError

NEEDED = ("xaimaps_onnx", "tf2onnx", "tensorflow")

LOADING = ("weights", "allow_unsafe")
"""Options of loading that also apply to the process that converts."""


class OnnxExporter:
    """The export of Keras models as ONNX files."""

    backend = "tensorflow"
    suffix = ".onnx"

    def require(self) -> None:
        """Refuse to convert if a needed package is not installed; none is imported.

        Raises:
            BackendError: a package is missing.
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
        """Convert in another process if that can load the same model, otherwise in this one."""
        from xaimaps_tensorflow.to_onnx._subprocess import is_alike_apart

        output = options.get("output")
        chosen: dict[str, Any] = {
            "output": 0 if output is None else output,  # the default of backends
            "input_shape": native.input_shape,
        }
        if is_alike_apart(model, options):
            own = {name: options[name] for name in LOADING if options.get(name) is not None}
            self.export(model, file, loud=False, **chosen, **own)
            return
        from xaimaps_tensorflow.to_onnx._convert import conversion_of

        conversion_of(native.model, **chosen).save(file)
