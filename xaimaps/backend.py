"""The contract between the methods and a framework: one loaded model behind a few operations.

A backend works on its framework's native arrays. Images are `(N, H, W, C)`, activations
`(N, *spatial, C)`: channels last and batch first, whatever the model's own layout is. Token
sequences of a transformer with a known grid are handed out as `(N, rows, columns, C)`.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from xaimaps._progress import Watch
from xaimaps.errors import BackendError, LayerError, ModelLoadError, nearest
from xaimaps.graph import INPUT, Description, Ending, Layer

if TYPE_CHECKING:
    from xaimaps._images.preprocess import Preprocess
    from xaimaps.targets import Target

__all__ = [
    "INPUT",
    "Backend",
    "Classifier",
    "Cut",
    "Description",
    "Gradients",
    "Layer",
    "ModelInfo",
    "RectifierRule",
]

Array = Any
"""An array of the backend's framework."""

Capability = Literal[
    "forward", "activations", "grad", "classifier", "split", "rectifier_rules", "biases"
]

RectifierRule = Literal["guided", "deconvnet"]
"""How gradients pass rectifiers: where they and the inputs are positive, or where they are."""

CACHE_SIZE = 64
"""How many compiled programs a backend keeps."""


class Gradients(NamedTuple):
    """One forward pass and the gradients of the target's scores.

    Attributes:
        outputs: the model's outputs, `(N, ...)`.
        scores: the target's score of each image, `(N,)`, or `(K, N)` for K targets.
        activations: the value that was differentiated by, `(N, *spatial, C)`.
        gradients: d scores / d activations, the shape of `activations`, behind K if there is a K.
    """

    outputs: Array
    scores: Array
    activations: Array
    gradients: Array


class Classifier(NamedTuple):
    """A model's end, where it is global average pooling and one dense layer.

    Attributes:
        layer: the name of the layer that is pooled.
        weights: `(channels, classes)`.
    """

    layer: str
    weights: Array


@dataclass(frozen=True)
class Cut:
    """A network cut at a layer; made by `Backend.cut`.

    Attributes:
        backend: runs it.
        value: the layer's activations for the images, `(N, *spatial, C)`.
        forward: the rest of the network, from activations of that shape to outputs. Operations
            that do not depend on the layer, as in a skip connection, keep their values.
            Activations with further axes in front, `(..., N, *spatial, C)`, are as many variants,
            and give outputs `(..., N, ...)`.
    """

    backend: Backend
    value: Array
    forward: Callable[[Array], Array]

    def pull(self, activations: Array, target: Target) -> Gradients:
        r"""The gradients of the target's scores at any activations of the layer.

        $$g = \frac{\partial\, s(f(a))}{\partial a}$$

        with the rest of the network $f$ and the target's score $s$. Each image has the gradient of
        its own score.

        Args:
            activations: a, of the shape of `value`.
            target: s.
        """

        def scores(activations: Array) -> tuple[Array, Array]:
            outputs = self.forward(activations)
            return target.scores(self.backend.xp, outputs), outputs

        return self.backend.differentiate(scores, activations)


@dataclass
class ModelInfo:
    """What is known of a model beside its numbers.

    Attributes:
        name: how results call it.
        source: the file it came from, empty for a live model.
        sha256: of that file.
        labels: the name of each class, if known.
        labels_name: the name of an embedded list of labels, where the file names one.
        preprocess: how a picture becomes an input, if known.
        ending: the activation that makes probabilities of the scores.
        loading: the arguments that `load` was given, for manifests.
        notes: what a user should know about how the model is run, a sentence each.
    """

    name: str = "model"
    source: str = ""
    sha256: str = ""
    labels: tuple[str, ...] | None = None
    labels_name: str = ""
    preprocess: Preprocess | None = None
    ending: Literal["softmax", "sigmoid"] = "softmax"
    loading: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> ModelInfo:
        """What a file's name and bytes say."""
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(name=Path(path).stem, source=os.fspath(path), sha256=digest)

    def note_output(self, outputs: Sequence[str]) -> None:
        """Note that the first of several outputs is explained, as nothing else was asked for."""
        if len(outputs) > 1:
            self.notes.append(
                f"the model has {len(outputs)} outputs ({', '.join(outputs)}), of which "
                f"{outputs[0]!r} is explained; choose with output="
            )

    def note_ending(self, ending: Ending) -> None:
        """Note that scores are taken before a last activation, and which probabilities it makes."""
        self.ending = ending.function
        self.notes.append(f"scores are taken before the final {ending}")


def scan_length(xs: Any) -> int:
    """The length of the first axis of what is scanned."""
    length: int = (xs[0] if isinstance(xs, tuple) else xs).shape[0]
    return length


class Backend(ABC):
    """One model, loaded in one framework.

    A subclass sets `name` and `capabilities`, passes a `Description` of its network to `__init__`,
    and implements the abstract methods and those that its capabilities name: `split` for "split",
    `differentiate` for "grad", `weight` for "classifier", `biases` for "biases". Everything else
    follows. All that computes must be traceable by `compile`. The defaults serve a framework whose
    arrays are numpy's and that compiles nothing.

    Args:
        network: what the network is.
        info: what else is known of the model.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    takes: ClassVar[str] = "other models"
    """What it loads, in a few words for messages, as "Keras models"."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Of the files that it reads, as ".onnx"."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """Of the names that it knows models by, as "keras" of `keras:VGG16`; each has an entry point in
    the group `xaimaps.schemes` too."""

    authority: ClassVar[int] = 0
    """In a comparison, the backend of the highest authority is the reference."""

    def __init__(self, network: Description, info: ModelInfo) -> None:
        self.network = network
        self.info = info
        self.watch = Watch()
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    # Loading

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Tell, without loading anything, whether this backend can load `model`.

        Here: a path with one of its suffixes, or `scheme:name` with one of its schemes.
        """
        if not isinstance(model, str | os.PathLike):
            return False
        scheme, colon, _ = os.fspath(model).partition(":")
        return Path(model).suffix.lower() in cls.suffixes or bool(colon and scheme in cls.schemes)

    @classmethod
    @abstractmethod
    def load(cls, model: Any, **options: Any) -> Backend:
        """Load a file, or wrap a live model of the framework."""

    @staticmethod
    def require_options(loader: Callable[..., Any], options: Mapping[str, Any], known: str) -> None:
        """Refuse options that a function of a model and options does not take.

        Args:
            loader: the function.
            options: by name.
            known: which options fit which model, for the message.

        Raises:
            ModelLoadError: they do not fit.
        """
        try:
            inspect.signature(loader).bind(None, **options)
        except TypeError as error:
            raise ModelLoadError(f"the options do not fit ({error}); {known}") from None

    @classmethod
    def versions(cls) -> dict[str, str]:
        """The versions of the framework's packages, which results record."""
        return {}

    # Arrays and programs

    @property
    @abstractmethod
    def xp(self) -> Any:
        """The namespace of array functions (Array API names) for this backend's arrays."""

    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        """Convert a numpy array to one of the framework."""
        return array

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert an array of the framework to numpy."""
        result: np.ndarray[Any, Any] = array
        return result

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        """Compile `fn(backend, *arrays)` into a function of arrays shaped like these.

        The backend that `fn` is given may be a copy of this one with traced parameters, so `fn`
        must use its argument and not the original.
        """
        return lambda *arrays: fn(self, *arrays)

    def compiled(self, key: Hashable, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        """Return `compile(fn, *arrays)`, made once for each `key` and each set of shapes."""
        whole = (
            key,
            self.watch.is_on,
            *((tuple(array.shape), str(array.dtype)) for array in arrays),
        )
        if whole not in self._compiled:
            if len(self._compiled) >= CACHE_SIZE:  # a new lambda as the target is a new key
                del self._compiled[next(iter(self._compiled))]
            self._compiled[whole] = self.compile(fn, *arrays)
        return self._compiled[whole]

    def scan(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any
    ) -> tuple[Any, Any]:
        """Fold `step(carry, x) -> (carry, y)` over the first axis of `xs`, one x at a time.

        Long loops report their progress to `watch`. A backend overrides `_scan`, and
        `_call_python` if its loops are compiled.

        Args:
            step: traced once, so shapes and types of the carry must not change.
            carry: an array, or a tuple of them.
            xs: an array, or a tuple of arrays of equal length.

        Returns:
            The last carry, and the ys stacked; None in place of the ys if the step returns None.
        """
        length = (xs[0] if isinstance(xs, tuple) else xs).shape[0]
        return self._scan(self.watch.telling(step, length, self._call_python), carry, xs)

    def _scan(
        self, step: Callable[[Any, Any], tuple[Any, Any]], carry: Any, xs: Any
    ) -> tuple[Any, Any]:
        ys = []
        for x in zip(*xs, strict=True) if isinstance(xs, tuple) else xs:
            carry, y = step(carry, x)
            ys.append(y)
        if not ys or ys[0] is None:
            return carry, None
        if isinstance(ys[0], tuple):
            return carry, tuple(self.xp.stack(part) for part in zip(*ys, strict=True))
        return carry, self.xp.stack(ys)

    def _call_python(self, fn: Callable[[], None]) -> None:
        """Call a Python function in each turn of a loop, also where the loop is compiled."""
        fn()

    # The network

    @abstractmethod
    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rectifier: RectifierRule | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """The outputs `(N, ...)`, and the value of each of `layers` by name.

        Args:
            images: `(N, H, W, C)`.
            layers: the names of the layers to keep.
            rectifier: another derivative for every rectifier; None for the true one. A backend
                without the capability "rectifier_rules" is never given one.
        """

    def forward(self, images: Array) -> Array:
        """The model's outputs `(N, ...)`: logits, where the model ends in a softmax."""
        return self.forward_with_activations(images, ())[0]

    def cut(self, images: Array, layer: str = INPUT, rectifier: RectifierRule | None = None) -> Cut:
        """Cut the network at a layer, or before its first one.

        Args:
            images: `(N, H, W, C)`.
            layer: the layer's name, or the images.
            rectifier: as for `forward_with_activations`.

        Raises:
            BackendError: the backend lacks the capability "split".
        """
        if layer == INPUT:
            return Cut(
                self, images, lambda images: self.forward_with_activations(images, (), rectifier)[0]
            )
        return Cut(self, *self.split(images, layer, rectifier))

    def split(
        self, images: Array, layer: str, rectifier: RectifierRule | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        """The `value` and the `forward` of the `Cut` at a layer.

        Raises:
            BackendError: the backend lacks the capability "split".
        """
        raise self._lacking("split")

    def differentiate(self, fn: Callable[[Array], tuple[Array, Array]], point: Array) -> Gradients:
        """Differentiate `fn(point) -> (scores, outputs)` by the point, image by image.

        What `fn` reads beside its argument is constant, also where it was computed from the
        point. `fn` may differentiate in turn.

        Args:
            fn: returns scores `(N,)`, or `(K, N)`, each of its own image alone, and an array.
            point: `(N, ...)`.

        Raises:
            BackendError: the backend lacks the capability "grad".
        """
        raise self._lacking("grad")

    def weight(self, name: str) -> Array:
        """The weights of the dense layer that `network.head()` names, on two axes.

        Raises:
            BackendError: the backend lacks the capability "classifier".
        """
        raise self._lacking("classifier")

    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        """Split the scores into what comes from the images and what comes from biases.

        A layer's bias is what it would add were it linear: `h - J x` for its value h at the
        input x, with the Jacobian J there. Then each score is the sum of images x gradient
        and of all the terms.

        Returns:
            The gradients by the images; and for every layer with a bias, bias x gradient at its
            output, `(N, ..., C)`, or `(K, N, ..., C)` for K targets.

        Raises:
            BackendError: the backend lacks the capability "biases".
        """
        raise self._lacking("biases")

    # What follows

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rectifier: RectifierRule | None = None,
    ) -> Gradients:
        """Differentiate the target's scores by the images, or by a layer.

        The gradient of each image is that of its own score. With `wrt` a layer, the part
        of the network before it is not differentiated.

        Args:
            images: `(N, H, W, C)`.
            target: what is differentiated.
            wrt: a layer's name, or the images.
            rectifier: as for `forward_with_activations`.

        Raises:
            BackendError: the backend lacks the capability "grad".
            UnsupportedModelError: no gradient reaches the layer.
        """
        self.require(frozenset({"grad"}), "a gradient")
        self.network.require_gradient(wrt)
        cut = self.cut(images, wrt, rectifier)
        return cut.pull(cut.value, target)

    def classifier(self) -> Classifier:
        """The pooling and dense head, for `cam`.

        Raises:
            LayerError: the model does not end so.
            BackendError: the backend lacks the capability "classifier".
        """
        self.require(frozenset({"classifier"}), "CAM")
        head = self.network.head()
        if head.dense is None:  # the pooled channels are the classes
            classes = self.find_layer(head.pooled).shape[-1]
            assert classes is not None, "a network fixes the number of classes"
            return Classifier(head.pooled, self.asarray(np.eye(classes, dtype=np.float32)))
        return Classifier(head.pooled, head.dense.matrix(self.xp, self.weight(head.dense.weights)))

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(height, width, channels)` of an image, None where any size will do."""
        return self.network.input_shape

    def layers(self) -> tuple[Layer, ...]:
        """The layers that a user may want to name, in the order of computation."""
        return self.network.layers()

    def default_layer(self) -> Layer:
        """The last layer with a spatial extent before pooling or flattening.

        Raises:
            LayerError: there is none.
        """
        return self.network.default_layer()

    def require(self, needs: frozenset[Capability], purpose: str) -> None:
        """Raise a BackendError unless this backend can do all that `purpose` needs."""
        missing = sorted(needs - self.capabilities)
        if missing:
            raise self._lacking(", ".join(missing), purpose)

    def _lacking(self, missing: str, purpose: str = "this") -> BackendError:
        return BackendError(
            f"{purpose} needs a backend that can do {missing}, but {self.name!r} cannot; `xaimaps "
            "backends` lists those that can"
        )

    def find_layer(self, name: str | None) -> Layer:
        """Return the layer that a user means by `name`; None means the default one.

        Raises:
            LayerError: there is none, or the name stands for several.
        """
        if name is None:
            return self.default_layer()
        layers = self.layers()
        exact = [layer for layer in layers if layer.name == name]
        found = exact or [layer for layer in layers if name in layer.aliases]
        if len(found) == 1:
            return found[0]
        if (unlisted := self.network.unlisted(name)) is not None:
            return unlisted
        if found:
            names = ", ".join(repr(layer.name) for layer in found)
            raise LayerError(f"the layer name {name!r} stands for several; use one of {names}")
        known = [alias for layer in layers for alias in (layer.name, *layer.aliases)]
        raise LayerError(
            f"`layer` must be one of the model's {len(layers)} layers, got {name!r}"
            f"{nearest(name, known)}; `xaimaps layers` lists them all"
        )

    def find_map_layer(self, name: str | None) -> Layer:
        """Return `find_layer(name)`, if it has spatial positions.

        Raises:
            LayerError: the layer is a vector, or has one spatial position.
        """
        layer = self.find_layer(name)
        if not layer.is_spatial:
            raise LayerError(
                f"a map needs a layer with spatial extent, but {layer.name!r} has shape "
                f"{layer.shape}; use one before the pooling, such as "
                f"{self.default_layer().name!r}"
            )
        return layer
