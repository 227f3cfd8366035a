"""The TensorFlow backend: Keras models, with each method compiled to one graph."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from xaimaps_keras.messages import summary

from xaimaps import zoo
from xaimaps.backend import (
    INPUT,
    Array,
    Backend,
    Blocks,
    Gradients,
    ModelInfo,
    Replica,
)
from xaimaps.errors import BackendError, ModelLoadError
from xaimaps.propagation import Rules
from xaimaps.targets import Target
from xaimaps_tensorflow._oom import within_memory
from xaimaps_tensorflow._options import require_options

if TYPE_CHECKING:
    from xaimaps_tensorflow._program import KerasProgram

SCHEME = "keras:"


class TensorFlowBackend(Backend):
    """One Keras model in TensorFlow.

    Args:
        program: the model.
        info: its name, labels and preprocessing.
        xla: whether to compile with XLA.
    """

    name = "tensorflow"
    takes = "Keras models"
    suffixes = (".keras", ".h5", ".hdf5")
    schemes = ("keras",)
    authority = 2  # the framework of the original Keras models
    capabilities = frozenset(
        {
            *("forward", "activations", "grad", "classifier", "split"),
            *("rules", "biases", "attention", "weights"),
        }
    )

    def __init__(self, program: KerasProgram, info: ModelInfo, *, xla: bool = False) -> None:
        super().__init__(program.network, info)
        self._program = program
        self._xla = xla

    @classmethod
    def accepts(cls, model: object) -> bool:
        if not isinstance(model, str | os.PathLike):
            return _is_keras(model)
        return super().accepts(model) or Path(model) == zoo.MODELS.get("default")

    @classmethod
    def load(cls, model: Any, /, **options: Any) -> TensorFlowBackend:
        """Load a Keras file, one of Keras's applications, or wrap a live model.

        Args:
            model: a path, a name such as "keras:VGG16", or the model.
            options: `output`: the name or index of the output to explain, by default the first;
                `xla`: whether to compile with XLA; `input_size`: the height and width of the
                images, if the model takes any; `inputs`: the values of the model's other inputs by
                name. For a live model, `input_shape` (height, width,
                channels), if the model does not declare it. For a file, `allow_unsafe` and
                `custom_objects`. For a name, `weights`: "imagenet", None or a file.
        """
        require_tensorflow()
        load = cls._loader(model)
        known = [*inspect.signature(load).parameters, *inspect.signature(cls.from_model).parameters]
        unknown = options.keys() - (set(known) - {"model", "path", "name", "options", "info"})
        if unknown:
            raise ModelLoadError(
                f"there is no option {', '.join(sorted(unknown))} here; a Keras file takes "
                "`allow_unsafe` and `custom_objects`, a name `weights`, a live model "
                "`input_shape`, and all of them `output`, `input_size`, `inputs` and `xla`"
            )
        require_options(**options)
        return load(model, **options)

    @classmethod
    def _loader(cls, model: Any) -> Callable[..., TensorFlowBackend]:
        if not isinstance(model, str | os.PathLike):
            return cls.from_model
        if os.fspath(model).startswith(SCHEME):
            return cls.from_application
        is_default = Path(model) == zoo.MODELS.get("default")
        return cls.from_zoo if is_default else cls.from_file

    @classmethod
    def from_model(
        cls,
        model: Any,
        *,
        output: str | int | None = None,
        input_shape: Sequence[int | None] | None = None,
        input_size: Sequence[int] | None = None,
        inputs: Mapping[str, Any] | None = None,
        xla: bool = False,
        info: ModelInfo | None = None,
    ) -> TensorFlowBackend:
        """Wrap a live Keras model of images."""
        require_tensorflow()
        from xaimaps_tensorflow._inputs import image_input
        from xaimaps_tensorflow._program import KerasProgram

        images = image_input(model, input_shape, input_size, inputs)
        program = KerasProgram(model, images, output)
        info = info or ModelInfo(model.name)
        info.input, info.is_vector = images.name, images.is_vector
        if output is None:
            info.note_output(program.usual.trace.names)
        if (ending := program.network.ending) is not None:
            info.note_ending(ending)
        if (step := program.network.step) is not None:
            info.note_step(step)
        if (random := program.network.random) is not None:
            info.note_random(random)
        return cls(program, info, xla=xla)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        allow_unsafe: bool = False,
        custom_objects: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TensorFlowBackend:
        """Load a `.keras` or legacy `.h5` file; see `from_model` for the other options."""
        from xaimaps_keras.read import read_model

        model = read_model(Path(path), allow_unsafe=allow_unsafe, custom_objects=custom_objects)
        return cls.from_model(model, info=ModelInfo.of_file(path), **options)

    @classmethod
    def from_application(
        cls, name: str, *, weights: str | os.PathLike[str] | None = "imagenet", **options: Any
    ) -> TensorFlowBackend:
        """Build one of Keras's applications, such as "keras:VGG16"; see `from_model`."""
        from xaimaps_tensorflow._applications import build

        model, info = build(name.removeprefix(SCHEME), weights)
        return cls.from_model(model, info=info, **options)

    @classmethod
    def from_zoo(cls, path: str | os.PathLike[str], **options: Any) -> TensorFlowBackend:
        """Build the embedded model as a Keras model; see `from_model`."""
        from xaimaps_tensorflow._zoo import efficientnet_lite0

        model, info = efficientnet_lite0()
        return cls.from_model(model, info=info, **options)

    @property
    def model(self) -> Any:
        """The Keras model."""
        return self._program.model

    @classmethod
    def versions(cls) -> dict[str, str]:
        found = {}
        for name in ("tensorflow", "tensorflow-cpu", "keras"):
            try:
                found[name.removesuffix("-cpu")] = version(name)
            except PackageNotFoundError:
                continue
        return found

    @property
    def xp(self) -> Any:
        from xaimaps_tensorflow import _namespace as namespace

        return namespace

    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        def run(images: Array) -> Any:
            return self._program.activations(images, layers, rules)

        outputs, kept = self._run(("activations", layers, rules), run, images)
        return outputs, kept

    def named_outputs(self, images: Array) -> dict[str, np.ndarray[Any, Any]]:
        if len(self._program.usual.trace.names) == 1:
            return {}
        found = self._run(("outputs",), self._program.named_outputs, images)
        return {name: np.asarray(value) for name, value in found.items()}

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        if _in_graph():
            return self._program.split(images, layer, rules)

        def rest(point: Array) -> Array:
            def run(images: Array, point: Array) -> Array:
                return self._program.split(images, layer, rules)[1](point)

            return self._run(("rest", layer, rules), run, images, point)

        return self.forward_with_activations(images, (layer,))[1][layer], rest

    def differentiate(self, fn: Callable[[Array], tuple[Array, Array]], point: Array) -> Gradients:
        from xaimaps_tensorflow._gradients import differentiate

        if _in_graph():
            return differentiate(fn, point)
        return Gradients(*self.compile(lambda _, point: differentiate(fn, point), point)(point))

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rules: Rules | None = None,
    ) -> Gradients:
        def run(images: Array, *arrays: Array) -> Gradients:
            goal = target.with_arrays(arrays)
            return super(TensorFlowBackend, self).grad(images, goal, wrt=wrt, rules=rules)

        # One graph for each key. `differentiate` alone would make one in each call.
        key = ("grad", target.key, wrt, rules)
        return Gradients(*self._run(key, run, images, *target.arrays))

    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        def run(images: Array, *arrays: Array) -> Any:
            return self._program.biases(images, target.with_arrays(arrays))

        gradients, terms = self._run(("biases", target.key), run, images, *target.arrays)
        return Gradients(*gradients), tuple(terms)

    def blocks(self, images: Array) -> Blocks:
        if _in_graph():
            return self._program.blocks(images)

        def values(images: Array) -> Any:
            found = self._program.blocks(images)
            return found.outputs, found.weights, found.streams

        def pull(end: int | None, seeds: Array, starts: tuple[int, ...]) -> tuple[Array, ...]:
            def run(images: Array, seeds: Array) -> Any:
                return self._program.blocks(images).pull(end, seeds, starts)

            return tuple(self._run(("pull", end, starts), run, images, seeds))

        def resume(value: Array) -> Array:
            def run(images: Array, value: Array) -> Array:
                return self._program.blocks(images).resume(value)

            return self._run("resume", run, images, value)

        outputs, weights, streams = self._run("blocks", values, images)
        attention = self._program.attention(tuple(images.shape[1:-1]))
        return Blocks(attention, outputs, tuple(weights), tuple(streams), pull, resume)

    def weight(self, name: str) -> Array:
        return self._program.weight(name)

    def replica(self) -> Replica:
        from xaimaps_tensorflow._shadows import shadowed

        program, layers, assign = shadowed(self._program)
        return Replica(TensorFlowBackend(program, self.info, xla=self._xla), layers, assign)

    def _scan(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any
    ) -> tuple[Any, Any]:
        from xaimaps_tensorflow._loops import scan

        return scan(step, carry, xs)

    def cond(
        self, predicate: Array, fn: Callable[[Array], Array], x: Array, otherwise: Array
    ) -> Array:
        import tensorflow as tf

        return tf.cond(predicate, lambda: fn(x), lambda: otherwise)

    def _call_python(self, fn: Callable[[], None]) -> None:
        from xaimaps_tensorflow._loops import call_python

        if not self._xla:  # XLA cannot call Python
            call_python(fn)

    def _run(self, key: Any, run: Callable[..., Any], *arrays: Array) -> Any:
        """Run a part of the program in the current graph, or as its own graph."""
        native = [self.asarray(a) if isinstance(a, np.ndarray) else a for a in arrays]
        if _in_graph():
            return run(*native)
        return self.compiled(key, lambda _, *given: run(*given), *native)(*native)

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        import tensorflow as tf

        def whole(*given: Array) -> Any:
            return fn(self, *given)

        function = tf.function(whole, autograph=False, jit_compile=self._xla or None)
        concrete = function.get_concrete_function(
            *(tf.TensorSpec(array.shape, array.dtype) for array in arrays)
        )
        return within_memory()(lambda *given: concrete(*given))

    @within_memory()
    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        import tensorflow as tf

        return tf.convert_to_tensor(array)

    @within_memory()
    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        return np.asarray(array)


def require_tensorflow() -> None:
    """Import TensorFlow without its log messages, and check that Keras uses it.

    Raises:
        BackendError: TensorFlow is not installed, or Keras uses another framework or fails to
            import.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise BackendError(
            f"the backend 'tensorflow' needs TensorFlow, which does not import ({error}); "
            "pip install 'xaimaps-tensorflow[cpu]'"
        ) from error
    if (problem := _problem_of_keras()) is not None:
        raise BackendError(
            f"Keras must run on TensorFlow here, but it {problem}; set KERAS_BACKEND=tensorflow "
            "before Keras is imported"
        )


def _problem_of_keras() -> str | None:
    try:
        import keras
    except Exception as error:  # Keras's own framework may raise anything
        return f"does not import ({summary(error)})"
    used = keras.config.backend()
    return None if used == "tensorflow" else f"runs on {used!r}"


def _in_graph() -> bool:
    import tensorflow as tf

    return not tf.executing_eagerly()


def _is_keras(model: object) -> bool:
    """Return whether an object is a layer or model of Keras, without an import of Keras."""
    return any(
        kind.__name__ == "Layer" and kind.__module__.partition(".")[0] in ("keras", "tf_keras")
        for kind in type(model).__mro__
    )
