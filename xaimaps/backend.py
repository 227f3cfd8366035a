"""The contract between the methods and a framework: one loaded model and a few operations on it.

A backend works on its framework's native arrays. Images are `(N, H, W, C)` and activations
`(N, *spatial, C)`: channels last and batch first, whatever the model's own layout is. Token
sequences of a transformer with a known grid are returned as `(N, rows, columns, C)`.
"""

from __future__ import annotations

import inspect
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from xaimaps._digest import digest
from xaimaps._progress import Watch
from xaimaps.errors import BackendError, LayerError, ModelLoadError, nearest
from xaimaps.graph import INPUT, Attention, Description, Ending, Layer, Operation
from xaimaps.propagation import Rules

if TYPE_CHECKING:
    from xaimaps._images.preprocess import Preprocess
    from xaimaps.targets import Target

__all__ = [
    "INPUT",
    "Backend",
    "Blocks",
    "Classifier",
    "Cut",
    "Description",
    "Device",
    "Gradients",
    "Layer",
    "ModelInfo",
    "Precision",
    "Replica",
]

Array = Any
"""An array of the backend's framework."""

Precision = Literal["float32", "tf32", "bfloat16"]
"""The precision of a model's values and products."""

Capability = Literal[
    "forward",
    "activations",
    "grad",
    "classifier",
    "split",
    "rules",
    "biases",
    "attention",
    "weights",
]

CACHE_SIZE = 64
"""The largest number of compiled programs that a backend keeps."""


class Device(NamedTuple):
    """The device that runs a model.

    Attributes:
        kind: what it is, such as "cpu" or "NVIDIA H200".
        memory: the bytes of its own memory that this process may use; None if it shares the
            memory of the machine, as a CPU does.
        peak_bytes: the most memory of it that this process has used; None if it does not count.
        reused: the bytes of the largest value whose memory later passes use again; a larger one
            takes new memory from the system each time, which is slower. None for no such limit.
    """

    kind: str = "cpu"
    memory: int | None = None
    peak_bytes: int | None = None
    reused: int | None = None


class Gradients(NamedTuple):
    """The results of one forward pass, and the gradients of the target's scores.

    Attributes:
        outputs: the model's outputs, `(N, ...)`.
        scores: the target's score of each image, `(N,)`, or `(K, N)` for K targets.
        activations: the value with respect to which the scores were differentiated,
            `(N, *spatial, C)`.
        gradients: d scores / d activations, of the shape of `activations`, after an axis of K
            for K targets.
    """

    outputs: Array
    scores: Array
    activations: Array
    gradients: Array


class Classifier(NamedTuple):
    """The end of a model that has global average pooling and then one dense layer.

    Attributes:
        layer: the name of the layer that is pooled.
        weights: `(channels, classes)`.
    """

    layer: str
    weights: Array


@dataclass(frozen=True)
class Cut:
    """A network that is cut at a layer; `Backend.cut` makes it.

    Attributes:
        backend: the backend that runs the network.
        layer: the layer's name, or the images.
        value: the layer's activations for the images, `(N, *spatial, C)`.
        forward: the rest of the network, from activations of that shape to outputs. Operations
            that do not depend on the layer, as in a skip connection, keep their values.
            Further axes in front, `(..., N, *spatial, C)`, are variants of the activations; the
            outputs have the same axes in front, `(..., N, ...)`.
    """

    backend: Backend
    layer: str
    value: Array
    forward: Callable[[Array], Array]

    def pull(self, activations: Array, target: Target) -> Gradients:
        r"""Return the gradients of the target's scores at any activations of the layer.

        $$g = \frac{\partial\, s(f(a))}{\partial a}$$

        with the rest of the network $f$ and the target's score $s$. The gradient of each image is
        that of its own score.

        Args:
            activations: a, of the shape of `value`.
            target: s.

        Raises:
            UnsupportedModelError: no gradient reaches the layer.
        """
        self.backend.network.require_gradient(self.layer)

        def scores(activations: Array) -> tuple[Array, Array]:
            outputs = self.forward(activations)
            return target.scores(self.backend.xp, outputs), outputs

        return self.backend.differentiate(scores, activations)


@dataclass(frozen=True)
class Blocks:
    """The blocks of a transformer on a batch of images; `Backend.blocks` makes it.

    Values inside of the network are flattened to `(N, values)`.

    Attributes:
        attention: the tokens, and the sizes of the values.
        outputs: the model's outputs, `(N, ...)`.
        weights: the attention matrix of each block, `(N, heads x tokens x tokens)`.
        streams: the residual stream after each block, `(N, tokens x channels)`; empty if there is
            none.
        pull: returns the products of gradients with Jacobians, from `(end, seeds, starts)`: `seeds`
            are gradients by the outputs if `end` is None, and else by the stream after the block of
            that index. The results are gradients by the attention matrices of the blocks `starts`,
            through everything between, `(N, values)`.
        resume: returns the outputs for another value of the stream after the last block.
    """

    attention: Attention
    outputs: Array
    weights: tuple[Array, ...]
    streams: tuple[Array, ...]
    pull: Callable[[int | None, Array, tuple[int, ...]], tuple[Array, ...]]
    resume: Callable[[Array], Array]


@dataclass(frozen=True)
class Replica:
    """A copy of a model with weights of its own; `Backend.replica` makes it.

    Attributes:
        backend: the copy, which keeps its compiled programs when its weights change.
        layers: the weights of each layer by name, by layers in the order of computation; in numpy,
            in the shapes that the framework stores.
        assign: sets weights of the copy, by name.
    """

    backend: Backend
    layers: Mapping[str, Mapping[str, np.ndarray[Any, Any]]]
    assign: Callable[[Mapping[str, np.ndarray[Any, Any]]], None]


@dataclass
class ModelInfo:
    """Information about a model apart from its network and weights.

    Attributes:
        name: the name of the model in results.
        source: the file that it was loaded from, empty for a live model.
        sha256: the digest of that file.
        labels: the name of each class, if known.
        labels_name: the name of an embedded list of labels, if the file or the user names one.
        preprocess: the conversion of a picture to an input, if known; see also `pixels`.
        input_size: the height and width to use if the model takes any.
        layer: the name of the default layer, if the user has described the model.
        ending: the final activation that is bypassed, which converts scores to probabilities;
            None if the model has none.
        loading: the arguments of `load`, for manifests.
        input: the name of the explained input, if inputs have names.
        is_vector: whether that input is a vector `(N, F)`, which is taken as a signal of one
            channel `(N, F, 1)`.
        inputs: the values of the model's other inputs than the images, for manifests.
        notes: sentences about how the model is run, for users.
    """

    name: str = "model"
    source: str = ""
    sha256: str = ""
    labels: tuple[str, ...] | None = None
    labels_name: str = ""
    preprocess: Preprocess | None = None
    input_size: tuple[int, int] | None = None
    layer: str | None = None
    ending: Literal["softmax", "sigmoid"] | None = None
    loading: dict[str, Any] = field(default_factory=dict)
    input: str = ""
    is_vector: bool = False
    inputs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def pixels(self) -> Preprocess | None:
        """The preprocessing of the explained input, if it is known and the input is no vector."""
        return None if self.is_vector else self.preprocess

    @classmethod
    def of_file(cls, path: str | os.PathLike[str]) -> ModelInfo:
        """Return the name, path and digest of a file or folder."""
        return cls(name=Path(path).stem, source=os.fspath(path), sha256=digest(path))

    def note_output(self, outputs: Sequence[str]) -> None:
        """Note that the first of several outputs is explained, as nothing else was asked for."""
        if len(outputs) > 1:
            self.notes.append(
                f"the model has {len(outputs)} outputs ({', '.join(outputs)}), of which "
                f"{outputs[0]!r} is explained; choose with output=NAME, or --load output=NAME"
            )

    def note_ending(self, ending: Ending) -> None:
        """Record that scores are taken before the last activation, and which it is."""
        self.ending = ending.function if ending.is_whole else None
        part = "" if ending.is_whole else ", which makes a part of the output"
        self.notes.append(f"scores are taken before the final {ending}{part}")

    def note_step(self, operation: Operation) -> None:
        """Record that the output is made by an operation whose result jumps."""
        self.notes.append(
            f"the output is made by {operation}, so that it is an index or a step, and no score; "
            "choose a value before it with output=NAME, or --load output=NAME"
        )

    def note_random(self, operation: Operation) -> None:
        """Record that an operation draws other numbers in each run."""
        self.notes.append(
            f"the model is random: {operation} draws other numbers in each run, so that maps "
            "differ from run to run"
        )


def scan_length(xs: Any) -> int:
    """Return the length of the first axis of the arrays of a scan."""
    length: int = (xs[0] if isinstance(xs, tuple) else xs).shape[0]
    return length


class Backend(ABC):
    """One model, loaded in one framework.

    A subclass sets `name` and `capabilities`, passes a `Description` of its network to `__init__`,
    and implements the abstract methods and those that its capabilities name: `split` for "split",
    `differentiate` for "grad", `weight` for "classifier", `biases` for "biases", `blocks` for
    "attention", `replica` for "weights". The base class
    derives everything else from these. Every method that computes must be traceable by `compile`.
    The defaults suit a framework whose arrays are numpy's and that compiles nothing.

    Args:
        network: the description of the network.
        info: the name, labels and preprocessing of the model.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    takes: ClassVar[str] = "other models"
    """The models that it loads, in a few words for messages, such as "Keras models"."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """The suffixes of the files that it reads, such as ".onnx"."""
    schemes: ClassVar[tuple[str, ...]] = ()
    """The schemes of its model names, such as "keras" in `keras:VGG16`. Each also has an entry
    point in the group `xaimaps.schemes`."""

    precisions: ClassVar[tuple[Precision, ...]] = ("float32",)
    """The precisions in which it can run a model."""

    authority: ClassVar[int] = 0
    """A comparison takes the backend with the highest authority as the reference."""

    def __init__(self, network: Description, info: ModelInfo) -> None:
        self.network = network
        self.info = info
        self.watch = Watch()
        self.reload: Callable[..., Backend] | None = None
        """Load the model again, with other arguments of `load`; None without `load`."""
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def __repr__(self) -> str:
        shape = " x ".join("any" if size is None else str(size) for size in self.input_shape)
        classes = f", {len(self.info.labels)} classes" if self.info.labels else ""
        return f"<{self.info.name} in {self.name}: {shape}{classes}>"

    # Loading

    @classmethod
    def accepts(cls, model: object) -> bool:
        """Return whether this backend can load `model`, without loading anything.

        This default accepts a path with one of `suffixes`, or `scheme:name` with one of `schemes`.
        """
        if not isinstance(model, str | os.PathLike):
            return False
        scheme, colon, _ = os.fspath(model).partition(":")
        return Path(model).suffix.lower() in cls.suffixes or bool(colon and scheme in cls.schemes)

    @classmethod
    @abstractmethod
    def load(cls, model: Any, /, **options: Any) -> Backend:
        """Load a file, or wrap a live model of the framework."""

    @staticmethod
    def require_options(loader: Callable[..., Any], options: Mapping[str, Any], known: str) -> None:
        """Refuse options that the signature of a loader does not accept.

        Args:
            loader: a function of a model and options.
            options: the options by name.
            known: which options fit which model, for the message.

        Raises:
            ModelLoadError: the loader does not accept the options.
        """
        try:
            inspect.signature(loader).bind(None, **options)
        except TypeError as error:
            raise ModelLoadError(f"the options do not fit ({error}); {known}") from None

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Return the versions of the framework's packages, which results record."""
        return {}

    # Arrays and programs

    @property
    @abstractmethod
    def xp(self) -> Any:
        """The namespace of functions for this backend's arrays, with Array API names."""

    def asarray(self, array: np.ndarray[Any, Any]) -> Array:
        """Convert a numpy array to one of the framework."""
        return array

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Convert an array of the framework to numpy."""
        result: np.ndarray[Any, Any] = array
        return result

    def arguments(
        self, images: np.ndarray[Any, Any], *arrays: np.ndarray[Any, Any]
    ) -> tuple[Array, ...]:
        """Return a batch of images and further arrays as arguments of a compiled program.

        They may stay in numpy, if the programs take it. A backend of several devices divides the
        images among them.
        """
        return tuple(map(self.asarray, (images, *arrays)))

    def on_devices(self, count: int | None) -> Backend:
        """Return this model on several local devices, to which each batch is divided.

        Args:
            count: the number of devices; None for all that the backend can use together.

        Raises:
            BackendError: there are not so many. This default uses one.
        """
        if count in (None, 1):
            return self
        raise BackendError(
            f"`devices` must be 1 for {self.name}, which divides no batch, got {count}; use the "
            "JAX backend, or one process for each device, with `shard`"
        )

    @property
    def devices(self) -> int:
        """The number of devices to which a batch is divided."""
        return 1

    @property
    def device(self) -> Device:
        """The first device that runs the model."""
        return Device()

    @property
    def precision(self) -> Precision:
        """The precision of the model's values and products."""
        return "float32"

    def with_precision(self, precision: Precision) -> Backend:
        """Return this model in another precision; maps are float32 in all.

        Args:
            precision: "float32"; "tf32", in which a GPU rounds the inputs of products; "bfloat16",
                in which values are stored and multiplied in bfloat16, and summed in float32.

        Raises:
            BackendError: the backend has no such precision.
        """
        if precision == self.precision:
            return self
        raise BackendError(
            f"`precision` must be {' or '.join(self.precisions)} for {self.name}, got "
            f"{precision!r}; use the JAX backend for others"
        )

    def require_values(self, *arguments: Any) -> None:  # noqa: B027
        """Refuse arrays without values, such as those of a program that is being traced.

        This default accepts all, which suits a framework that traces nothing.

        Args:
            arguments: those of `attribute` or `explain`, which compute a result in numpy.

        Raises:
            BackendError: an array has no values.
        """

    def compile(self, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        """Compile `fn(backend, *arrays)` into a function of arrays of the same shapes.

        The first argument of `fn` may be a copy of this backend with traced parameters. Therefore
        `fn` must use its argument and not the original.
        """
        return lambda *arrays: fn(self, *arrays)

    def compiled(self, key: Hashable, fn: Callable[..., Any], *arrays: Array) -> Callable[..., Any]:
        """Return `compile(fn, *arrays)`, compiled once for each key and set of shapes."""
        whole = (
            key,
            self.watch.is_on,
            *((tuple(array.shape), str(array.dtype)) for array in arrays),
        )
        if whole not in self._compiled:
            # drop the oldest program, because each new lambda as a target makes a new key
            if len(self._compiled) >= CACHE_SIZE:
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
            step: the function of one turn. It is traced once, so the shapes and types of the
                carry must not change.
            carry: an array, or a tuple of arrays.
            xs: an array, or a tuple of arrays of equal length.

        Returns:
            The last carry, and the stacked ys; None instead of the ys if the step returns None.
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

    def cond(
        self, predicate: Array, fn: Callable[[Array], Array], x: Array, otherwise: Array
    ) -> Array:
        """Return `fn(x)` if the predicate is true; else `otherwise`, without a run of `fn`.

        Args:
            predicate: a boolean array of shape `()`.
            fn: takes `x`, and returns an array of the shape and type of `otherwise`.
            x: the only argument of `fn`.
            otherwise: the result if the predicate is false.
        """
        return fn(x) if bool(predicate) else otherwise

    def _call_python(self, fn: Callable[[], None]) -> None:
        """Call a Python function in each turn of a loop, even if the loop is compiled."""
        fn()

    # The network

    @abstractmethod
    def forward_with_activations(
        self, images: Array, layers: tuple[str, ...], rules: Rules | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Return the outputs `(N, ...)`, and the value of each of `layers` by name.

        Args:
            images: `(N, H, W, C)`.
            layers: the names of the layers to keep.
            rules: rules that replace the derivatives of operations; None for the true
                derivatives, which are all that a backend without the capability "rules" has to
                support.
        """

    def forward(self, images: Array) -> Array:
        """Return the outputs `(N, ...)`: logits, if the model ends in a softmax or sigmoid."""
        return self.forward_with_activations(images, ())[0]

    def named_outputs(self, images: Array) -> dict[str, np.ndarray[Any, Any]]:
        """Return all outputs of a model that has several, by name and as they are, in numpy.

        Args:
            images: `(N, H, W, C)`, in numpy.
        """
        return {}

    def cut(self, images: Array, layer: str = INPUT, rules: Rules | None = None) -> Cut:
        """Cut the network at a layer, or at the images.

        Args:
            images: `(N, H, W, C)`.
            layer: the layer's name, or `INPUT` for the images.
            rules: as for `forward_with_activations`.

        Raises:
            BackendError: the backend lacks the capability "split".
        """
        if layer != INPUT:
            return Cut(self, layer, *self.split(images, layer, rules))

        def forward(images: Array) -> Array:
            return self.forward_with_activations(images, (), rules)[0]

        return Cut(self, layer, images, forward)

    def split(
        self, images: Array, layer: str, rules: Rules | None = None
    ) -> tuple[Array, Callable[[Array], Array]]:
        """Return `value` and `forward` of the `Cut` at a layer.

        Raises:
            BackendError: the backend lacks the capability "split".
        """
        raise self._lacking("split")

    def differentiate(self, fn: Callable[[Array], tuple[Array, Array]], point: Array) -> Gradients:
        """Differentiate `fn(point) -> (scores, outputs)` by the point, image by image.

        Every array that `fn` reads apart from its argument counts as a constant, even if it was
        computed from the point. `fn` may itself call `differentiate`.

        Args:
            fn: returns scores `(N,)` or `(K, N)`, each of which depends on one image only, and
                an array.
            point: `(N, ...)`.

        Raises:
            BackendError: the backend lacks the capability "grad".
        """
        raise self._lacking("grad")

    def weight(self, name: str) -> Array:
        """Return a weight as a matrix: that of the dense layer in `network.head()`.

        Raises:
            BackendError: the backend lacks the capability "classifier".
        """
        raise self._lacking("classifier")

    def biases(self, images: Array, target: Target) -> tuple[Gradients, tuple[Array, ...]]:
        """Split the scores into a part of the images and one part for each bias.

        The bias of a layer is `h - J x`, the constant term of its linear approximation, for its
        value h at the input x and its Jacobian J at x. Each score is then the sum of
        images x gradient and of all bias terms.

        Returns:
            The gradients by the images; and for every layer with a bias, bias x gradient at its
            output, `(N, ..., C)`, or `(K, N, ..., C)` for K targets.

        Raises:
            BackendError: the backend lacks the capability "biases".
        """
        raise self._lacking("biases")

    def blocks(self, images: Array) -> Blocks:
        """Run a transformer, and return what its attention methods read.

        Raises:
            BackendError: the backend lacks the capability "attention".
            UnsupportedModelError: the model has no attention between the tokens of one grid.
        """
        raise self._lacking("attention")

    def replica(self) -> Replica:
        """Return a copy of this model whose weights can be set; this model is not changed.

        Raises:
            BackendError: the backend lacks the capability "weights".
            UnsupportedModelError: the weights of the model cannot be set.
        """
        raise self._lacking("weights")

    # Derived operations

    def grad(
        self,
        images: Array,
        target: Target,
        *,
        wrt: str = INPUT,
        rules: Rules | None = None,
    ) -> Gradients:
        """Differentiate the target's scores by the images, or by a layer.

        The gradient of each image is that of its own score. If `wrt` is a layer, the part
        of the network before it is not differentiated.

        Args:
            images: `(N, H, W, C)`.
            target: the scores to differentiate.
            wrt: a layer's name, or `INPUT` for the images.
            rules: as for `forward_with_activations`.

        Raises:
            BackendError: the backend lacks the capability "grad".
            UnsupportedModelError: no gradient reaches the layer.
        """
        self.require(frozenset({"grad"}), "a gradient")
        cut = self.cut(images, wrt, rules)
        return cut.pull(cut.value, target)

    def classifier(self) -> Classifier:
        """Return the pooled layer and the weights of the dense layer, for `cam`.

        Raises:
            LayerError: the model does not end in global average pooling and one dense layer.
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
        """`(height, width, channels)` of an image, None for a size that varies."""
        return self.network.input_shape

    def layers(self, *, unlisted: bool = False) -> tuple[Layer, ...]:
        """Return the layers that a user can name, in the order of computation.

        Args:
            unlisted: whether to add the values that are no layers of their own, such as views,
                sums, and the operations inside of a JAX model's modules.
        """
        return self.network.all_layers() if unlisted else self.network.layers()

    def default_layer(self) -> Layer:
        """Return the layer that the model's description names.

        Otherwise it is the last layer with a spatial extent before pooling or flattening.

        Raises:
            LayerError: no layer has a spatial extent, or has the name.
        """
        if self.info.layer is not None:
            return self.find_layer(self.info.layer)
        return self.network.default_layer()

    def require(self, needs: frozenset[Capability], purpose: str) -> None:
        """Refuse a purpose that needs capabilities which this backend lacks.

        Raises:
            BackendError: a capability is missing.
        """
        missing = sorted(needs - self.capabilities)
        if missing:
            raise self._lacking(", ".join(missing), purpose)

    def _lacking(self, missing: str, purpose: str = "this") -> BackendError:
        return BackendError(
            f"{purpose} needs a backend that can do {missing}, but {self.name!r} cannot; `xaimaps "
            "backends` lists those that can"
        )

    def find_layer(self, name: str | None) -> Layer:
        """Return the layer with a name or an alias; None is the default layer.

        Raises:
            LayerError: no layer has this name, or several do.
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
            raise LayerError(
                f"the layer name {name!r} is that of several layers; use one of {names}"
            )
        known = [alias for layer in layers for alias in (layer.name, *layer.aliases)]
        raise LayerError(
            f"`layer` must be one of the model's {len(layers)} layers, got {name!r}"
            f"{nearest(name, known)}; `xaimaps layers` lists them all"
        )

    def find_map_layer(self, name: str | None) -> Layer:
        """Return `find_layer(name)`, or refuse a layer without a spatial extent.

        Raises:
            LayerError: the layer is a vector, or has only one spatial position.
        """
        layer = self.find_layer(name)
        if not layer.is_spatial:
            others = [one.name for one in self.layers() if one.is_spatial]
            near = f", such as {others[-1]!r}" if others else ""
            raise LayerError(
                f"a map needs a layer with spatial extent, but {layer.name!r} has shape "
                f"{layer.shape}; use one before the pooling{near}"
            )
        return layer
