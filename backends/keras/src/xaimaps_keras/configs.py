"""The check of all names in a model's configuration, before Keras resolves and builds them.

Keras builds whatever a configuration names. Here a name is accepted only if it is one of Keras's
own parts and already in memory, or if the user passed it. No module is imported for the check.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from xaimaps.errors import ModelLoadError, UnsupportedModelError
from xaimaps_keras.operations import OPERATIONS

Config = dict[str, Any]

RUNS_CODE = frozenset(
    {"Lambda", "__lambda__", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
)
"""Parts that contain code, or load it from elsewhere."""

PARTS = tuple(
    "activations constraints dtype_policies initializers layers losses metrics mixed_precision "
    "models ops optimizers quantizers random regularizers".split()
)
"""The modules of Keras with the parts of models."""

FUNCTIONS = ("activations", "initializers", "losses", "metrics", "ops", "regularizers")
"""The modules of Keras whose functions a configuration may name."""

PLAIN = frozenset(
    "__tuple__ __keras_tensor__ __tensor__ __numpy__ __bytes__ __ellipsis__ __slice__ "
    "TensorShape TFOpLambda".split()
)
"""Names that represent values, and names of Keras 2 that are replaced."""

WIDTHS = ("units", "filters", "kernel_size", "input_dim", "output_dim", "num_heads", "key_dim")
"""Options whose value is a lower bound on the number of a layer's weights."""

CALLS = frozenset("TFOpLambda SlicingOpLambda ClassMethod InstanceMethod InstanceProperty".split())
"""The layers that Keras 2 made of calls of functions."""

KERAS_2 = frozenset(
    f"{package}.engine.{name}"
    for package in ("keras", "keras.src", "tf_keras", "tf_keras.src")
    for name in ("functional", "sequential", "training")
)
"""The modules that defined models in Keras 2."""

CONVNEXT = "keras.src.applications.convnext"
"""The module with the layers of ConvNeXt, which Keras does not export."""

INITIALIZERS = "tensorflow.python.ops.init_ops_v2"
"""TensorFlow's module of initialisers, which Keras 2 also wrote. Those of Keras have the same
names."""

OPERATOR_MODULES = tuple(
    f"keras.src.ops.{name}" for name in ("core", "image", "linalg", "math", "nn", "numpy")
)
"""The modules of operators that Keras writes without a layer, as `keras.ops.relu(x)`."""


@dataclass
class Checks:
    """The checks of one file's configuration.

    Attributes:
        name: the model's name in messages.
        custom_objects: the user's own parts by name.
        allow_unsafe: whether the file may run code.
        most: the largest number of weights that the file can hold.
    """

    name: str
    custom_objects: Mapping[str, Any] = field(default_factory=dict)
    allow_unsafe: bool = False
    most: float = math.inf

    def check(self, config: Any) -> None:
        """Refuse a configuration that names anything except parts of Keras or of the user.

        Raises:
            ModelLoadError: it contains code, or names an unknown part.
            UnsupportedModelError: an operation of Keras 2 in it has no translation.
        """
        for part, is_layer in _parts(config):
            self._check_part(part, is_layer)

    def _check_part(self, part: Config, is_layer: bool) -> None:
        name = part["class_name"]
        if not isinstance(name, str):
            raise ModelLoadError(f"{self.name} has a part without a name; save the model again")
        self._check_code(part, name)
        self._check_width(part, name)
        if name in PLAIN or self._is_custom(part, name):
            return
        module = part.get("module")
        if name == "function":
            self._require(known_function(module, part.get("config")), part.get("config"), module)
        elif module is not None or is_layer:
            self._require(find_class(module, name) is not None, name, module)

    def _check_code(self, part: Config, name: str) -> None:
        _check_operation(part, name, self.name)
        if self.allow_unsafe:
            return
        if name.rpartition(">")[2] in RUNS_CODE or _reads_file(part):
            raise ModelLoadError(
                f"{self.name} has {_title(part, name)}, which runs code or reads files when it is "
                f"loaded; if you trust the file, load it with allow_unsafe=True{_conversion(part)}"
            )

    def _check_width(self, part: Config, name: str) -> None:
        """Refuse a layer with more weights than the file, as Keras would allocate them."""
        config = part.get("config")
        options = config if isinstance(config, dict) else {}
        for key in WIDTHS:
            value = options.get(key)
            sizes = value if isinstance(value, list) else [value]
            if math.prod(size for size in sizes if isinstance(size, int)) > self.most:
                raise ModelLoadError(
                    f"{self.name} has {_title(part, name)} with {key}={str(value)[:80]}, more than "
                    "the whole file can hold; save the model again, or copy it again"
                )

    def _is_custom(self, part: Config, name: str) -> bool:
        """Return whether the user passed the part, or registered it with Keras."""
        names = [part.get("registered_name"), name]
        names += [part["config"]] if isinstance(part.get("config"), str) else []
        found = (keras.saving.get_registered_object(n, self.custom_objects) for n in names if n)
        return any(item is not None for item in found)

    def _require(self, known: bool, name: object, module: object) -> None:
        if known:
            return
        where = f" of the module {module!r}" if module else ""
        raise ModelLoadError(
            f"{self.name} needs {name!r}{where}, which is no part of Keras {keras.__version__}; "
            f"if it is your own, load it with custom_objects={{{name!r}: ...}}, or --custom "
            "MODULE:CLASS"
        )


def parse(text: bytes | str, what: str) -> Config:
    """Return the JSON object of a configuration.

    Raises:
        ModelLoadError: the text is not a JSON object with the configuration of a model.
    """
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(
            f"the configuration in {what} is not valid JSON ({error}); save the model again"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict | list):
        raise ModelLoadError(f"the configuration in {what} is no model; save the model again")
    return config


def find_class(module: Any, name: str) -> type | None:
    """Return one of Keras's own classes from the modules that are loaded, or None."""
    if module is None:
        places = [*(f"keras.{part}" for part in PARTS), *OPERATOR_MODULES, CONVNEXT]
    elif is_ours(module):
        places = [module]
    elif module in KERAS_2:
        places = []
    elif module == INITIALIZERS:
        places = ["keras.initializers"]
    else:
        return None
    return _class_in(places, name) or _model_class(name)


def find_operator(name: str) -> type | None:
    """Return the class of an operator of Keras 3, or None."""
    return _class_in(OPERATOR_MODULES, name)


def _class_in(places: Iterable[str], name: str) -> type | None:
    modules = (sys.modules[place] for place in places if place in sys.modules)
    found = (vars(module).get(name) for module in modules)
    return next((item for item in found if inspect.isclass(item)), None)


def _model_class(name: str) -> type | None:
    """Return a model's class, if its module no longer exports the name."""
    return {"Functional": keras.Model, "Model": keras.Model, "Sequential": keras.Sequential}.get(
        name
    )


def is_ours(module: Any) -> bool:
    """Return whether a module is one of Keras's modules with parts of models."""
    if not isinstance(module, str):
        return False
    package = module.removeprefix("keras.src.").removeprefix("keras.").partition(".")[0]
    is_part = module.startswith("keras.") and package in PARTS
    return is_part or module in ("keras", CONVNEXT)


def known_function(module: Any, name: Any) -> bool:
    """Return whether a name is that of a function in one of Keras's modules in `FUNCTIONS`."""
    if not isinstance(name, str) or not (module is None or module == "builtins" or is_ours(module)):
        return False
    return any(inspect.isroutine(getattr(getattr(keras, m), name, None)) for m in FUNCTIONS)


def _parts(config: Any, is_layer: bool = True) -> Iterator[tuple[Config, bool]]:
    """Yield every described object, and whether it is at the position of a layer."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config, is_layer
        for key, value in config.items():
            # Before Keras 2.2.3, the configuration of a Sequential was the list of its layers.
            old = key == "config" and isinstance(value, list)
            yield from _parts(value, old or key in ("layers", "layer"))
    elif isinstance(config, list):
        for item in config:
            yield from _parts(item, is_layer)


def _check_operation(part: Config, name: str, model: str) -> None:
    """Refuse an unknown operation of Keras 2; tf_keras would call any function of TensorFlow."""
    config = part.get("config")
    if name not in CALLS:
        return
    function = config.get("function") if isinstance(config, dict) else None
    if name != "TFOpLambda" or function not in OPERATIONS:
        raise UnsupportedModelError(
            f"{model} has the operation {function or name!r} of Keras 2, which has no translation "
            f"here; use a layer in its place, or one of {', '.join(OPERATIONS)}"
        )


def _reads_file(part: Config) -> bool:
    config = part.get("config")
    return isinstance(config, dict) and isinstance(config.get("vocabulary"), str)


def _conversion(part: Config) -> str:
    """Return how to convert the SavedModel in a TFSMLayer, or an empty text for other parts."""
    config = part.get("config")
    folder = config.get("filepath") if isinstance(config, dict) else None
    if folder is None or part["class_name"] != "TFSMLayer":
        return ""
    command = f"python -m tf2onnx.convert --saved-model {folder} --output model.onnx"
    return f", or convert the SavedModel in it by `{command}`"


def _title(part: Config, name: str) -> str:
    config = part.get("config")
    own = config.get("name") if isinstance(config, dict) else None
    return f"the {name} layer {own!r}" if own else f"a {name.strip('_')}"
