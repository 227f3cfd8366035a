"""The options of the commands, each defined once, and their parsers."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from xaimaps._attribute import Layers
    from xaimaps.targets import TargetSpec

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_METHODS = ("saliency", "cam", "grad_cam")

MAX_PIXELS = 64_000_000

WORDS = {"allow_unsafe=True": "--allow-unsafe"}
"""The command line's names of options that errors call by their Python names."""

TAKEN = {"model", "pictures", "images", "method", "target", "layer"}
TAKEN |= {"input_size", "max_pixels", "batch_size"}
"""Names that are not options of a method: they have their own command-line option, or none."""


def _complete_backend(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps._registry import installed

    return [name for name in installed() if name.startswith(incomplete)]


def complete_method(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


def _complete_colormap(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from matplotlib import colormaps

    return [name for name in colormaps if name.startswith(incomplete)]


def _complete_target(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """Complete class names, as far as they are known without loading a model."""
    from xaimaps import zoo
    from xaimaps._labels import read_labels
    from xaimaps._sidecar import read_sidecar
    from xaimaps.errors import ModelLoadError

    model = context.params.get("model") or "default"
    embedded = "imagenet-1k" if model in zoo.MODELS else ()
    try:
        labels = context.params.get("labels") or read_sidecar(Path(model)).labels or embedded
        names = read_labels(labels)
    except ModelLoadError:
        return []
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def _complete_layer(context: Any, parameter: Any, incomplete: str) -> list[str]:
    """Complete the spatial layers of an ONNX file, which ONNX Runtime reads in a second or two.

    They have the same names in JAX, which takes longer to import, as TensorFlow does.
    """
    from xaimaps._load import load
    from xaimaps.errors import XaimapsError

    model = context.params.get("model") or "default"
    with suppress(XaimapsError):
        given = parse_pairs(context.params.get("inputs") or ())
        loaded = load(model, backend="onnxruntime", inputs=given or None)
        names = [layer.name for layer in loaded.layers() if layer.is_spatial]
        return [name for name in names if name.startswith(incomplete)]
    return []


def complete_files(table: str) -> Callable[..., list[CompletionItem]]:
    """Complete files, and the names in a table of the embedded models or labels."""

    def complete(context: Any, parameter: Any, incomplete: str) -> list[CompletionItem]:
        from xaimaps import zoo

        names = [name for name in getattr(zoo, table) if name.startswith(incomplete)]
        return [*map(CompletionItem, names), CompletionItem(incomplete, type="file")]

    return complete


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")

_model_option = click.option(
    "-m", "--model", default="default", show_default=True,
    help="A model file, keras:NAME, the name of an embedded model, or MODULE:FUNCTION for a "
    "function that returns a model (with --allow-unsafe).",
    shell_complete=complete_files("MODELS"),
)  # fmt: skip
backend_option = click.option(
    "-b", "--backend", help="The backend, if several can run the model.",
    shell_complete=_complete_backend,
)  # fmt: skip
backends_option = click.option(
    "-b", "--backend", "backends", multiple=True, shell_complete=_complete_backend,
    help="Only this backend; may be given several times.  [default: all that can run the model]",
)  # fmt: skip
_labels_option = click.option(
    "--labels", help="A file of class names (lines or JSON), or imagenet-1k.",
    shell_complete=complete_files("LABELS"),
)  # fmt: skip
preprocess_option = click.option(
    "-p", "--preprocess", help="The preprocessing of pictures.",
    type=click.Choice(["unit", "tf", "torch", "imagenet", "caffe", "raw", "native"]),
)  # fmt: skip
_fit_option = click.option(
    "--fit", type=click.Choice(["crop", "pad", "stretch"]),
    help="How the aspect ratio of a picture is changed.  [default: as the preprocessing says]",
)  # fmt: skip
_size_option = click.option(
    "--input-size", type=(int, int), metavar="HEIGHT WIDTH",
    help="The size of the input, for models that take images of any size.",
)  # fmt: skip
_window_option = click.option(
    "--window", type=(float, float), metavar="LOW HIGH",
    help="The values of a picture that are black and white.  [default: as each picture says]",
)  # fmt: skip
_custom_option = click.option(
    "--custom", multiple=True, metavar="MODULE:CLASS",
    help="A class of a Keras model's own, which is imported; may be given several times.",
)  # fmt: skip
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path),
    help="The weights of a keras:NAME model or of MODULE:FUNCTION: a file, or a folder of Orbax.  "
    "[default: ImageNet's, downloaded, or those that the function returns]",
)  # fmt: skip
unsafe_option = click.option(
    "--allow-unsafe", is_flag=True, help="Load a model that contains code, and run it."
)
_PRECISIONS = click.Choice(["float32", "tf32", "bfloat16"])
_precision_option = click.option(
    "--precision", default="float32", show_default=True, type=_PRECISIONS,
    help="The precision of values and products, in the JAX backend; tf32 is for GPUs.",
)  # fmt: skip
precisions_option = click.option(
    "--precision", multiple=True, default=("float32",), show_default=True, type=_PRECISIONS,
    help="A precision of values and products; may be given several times.",
)  # fmt: skip
_input_option = click.option(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE",
    help="The value of another input of the model than the images: numbers, a .npy file or "
    "a picture; may be given several times.",
)  # fmt: skip
each_option = click.option(
    "--each", "each", multiple=True, metavar="NAME=FILES",
    help="The values of another input that differ from picture to picture: a folder or pattern of "
    "files, or a .npy file with one for each; may be given several times.",
)  # fmt: skip
explained_option = click.option(
    "--explained", multiple=True, metavar="NAME",
    help="Explain this input of --input or --each, too: a picture by a map, a vector by numbers; "
    "may be given several times.",
)  # fmt: skip
_load_option = click.option(
    "--load", multiple=True, metavar="NAME=VALUE",
    help="A loading option of the backend, such as output=logits.",
)  # fmt: skip


def method_option(default: str) -> Callable[[Command], Command]:
    """Make the option for the methods, with a command's own default."""
    return click.option(
        "-M", "--method", "methods", multiple=True, shell_complete=complete_method,
        help="A method, a comma-separated list, or all; may be given several times.  "
        f"[default: {default}]",
    )  # fmt: skip


target_option = click.option(
    "-t", "--target", "targets", multiple=True, shell_complete=_complete_target,
    help='A class index, a label, top-K, "A vs B", region:FILE@CLASS, class:CLASS, '
    "box:X0,Y0,X1,Y1@CLASS, output:INDEX, similarity:FILE or text:POSITION; may be given several "
    "times.  "
    "[default: top-1]",
)  # fmt: skip
layer_option = click.option(
    "-l", "--layer", "layers", multiple=True, shell_complete=_complete_layer,
    help="The layer of the CAM methods by name, or from the end as -1; the maps of several layers "
    "are fused.  "
    "[default: the last spatial layer]",
)  # fmt: skip
options_option = click.option(
    "-O", "--option", "options", multiple=True, metavar="NAME=VALUE",
    help="An option for the methods that have it.",
)  # fmt: skip
folder_option = click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("xaimaps-output"),
    show_default=True, help="The folder to write to.",
)  # fmt: skip
format_option = click.option(
    "--format", default="png", show_default=True, type=click.Choice(["png", "jpg", "webp"]),
    help="The format of overlays and heat maps.",
)  # fmt: skip
colormap_option = click.option(
    "--colormap",
    shell_complete=_complete_colormap,
    help="A matplotlib colour map, such as hot.  [default: inferno, or RdBu_r for signed maps]",
)

alpha_option = click.option(
    "--alpha", default=0.5, show_default=True, type=click.FloatRange(0, 1),
    help="The weight of the map in overlays.",
)  # fmt: skip

batch_size_option = click.option(
    "--batch-size", default=8, show_default=True, type=click.IntRange(1),
    help="The number of pictures to run at a time.",
)  # fmt: skip
max_pixels_option = click.option(
    "--max-pixels", default=MAX_PIXELS, show_default=True, help="The largest picture to read."
)
symlinks_option = click.option(
    "--follow-symlinks", is_flag=True, help="Accept links that point out of a folder of pictures."
)


def model_options(command: Command) -> Command:
    """Add the options that choose the model and its loading."""
    return _model_option(backend_option(load_options(command)))


def load_options(
    command: Command, precision_option: Callable[[Any], Any] = _precision_option
) -> Command:
    """Add the options for loading a model, which become one argument, `loading`."""

    @functools.wraps(command)
    def gathered(
        *args: Any,
        labels: str | None,
        preprocess: str | None,
        weights: Path | None,
        allow_unsafe: bool,
        fit: str | None,
        input_size: tuple[int, int] | None,
        window: tuple[float, float] | None,
        custom: tuple[str, ...],
        inputs: tuple[str, ...],
        precision: str | tuple[str, ...],
        load: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        own: dict[str, Any] = {} if weights is None else {"weights": weights}
        own |= {"allow_unsafe": True} if allow_unsafe else {}
        own |= {} if input_size is None else {"input_size": input_size}
        own |= {"custom_objects": dict(map(import_class, custom))} if custom else {}
        own |= {"inputs": parse_pairs(inputs)} if inputs else {}
        own |= parse_pairs(load)
        told: dict[str, Any] = {"labels": labels, "preprocess": preprocess, "fit": fit}
        told |= {"window": window, "precision": precision}
        if reserved := own.keys() & {"model", "backend", *told}:
            raise click.UsageError(f"--load takes no {min(reserved)!r}; see --help")
        with in_words(WORDS):
            return command(*args, loading=told | own, **rest)

    pictures = (_labels_option, preprocess_option, _fit_option, _window_option, _size_option)
    files = (weights_option, unsafe_option, _custom_option, _input_option)
    for option in reversed((*pictures, *files, precision_option, _load_option)):
        gathered = option(gathered)
    return cast("Command", gathered)


def import_class(text: str) -> tuple[str, type]:
    """Import MODULE:CLASS, also from the current folder, and return its name and itself."""
    from xaimaps._references import imported
    from xaimaps.errors import ModelLoadError

    wanted = "--custom must be MODULE:CLASS"
    found = imported(text, wanted)
    if not isinstance(found, type):
        raise ModelLoadError(f"{wanted}, got {text!r}, which is no class")
    return text.rpartition(":")[2], found


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Replace Python names of options in errors by those of the command line."""
    from xaimaps.errors import XaimapsError

    try:
        yield
    except XaimapsError as error:
        text = functools.reduce(lambda text, pair: text.replace(*pair), words.items(), str(error))
        raise type(error)(text) from error


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs; a value is a Python literal, otherwise text."""
    from xaimaps.errors import MethodError

    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise MethodError(f"an option must be NAME=VALUE, got {pair!r}")
        found[name] = _literal(text)
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs as options of a method."""
    from xaimaps.errors import MethodError

    found = parse_pairs(pairs)
    for name in found:
        if name in TAKEN:
            raise MethodError(
                f"an option must be one of a method, got {name!r}; see `xaimaps explain --help`"
            )
    return found


def _literal(text: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # deeply nested
        return text


def parse_targets(texts: Sequence[str]) -> TargetSpec | None:
    """Parse the values of `--target`; several become one target."""
    from xaimaps.targets import parse_target, several

    targets = [parse_target(text) for text in texts]
    if not targets:
        return None
    return targets[0] if len(targets) == 1 else several(*targets)


def parse_methods(texts: Sequence[str]) -> list[str]:
    """Parse the values of `--method`, each a comma-separated list."""
    names = [name.strip() for text in texts for name in text.split(",")]
    return list(dict.fromkeys(names))


def parse_layer(names: tuple[str, ...]) -> Layers:
    """Parse the values of `--layer`: none, one, or several to fuse.

    Negative numbers count from the last layer; others are names, as in many ONNX files.
    """
    layers = tuple(int(name) if re.fullmatch(r"-\d{1,9}", name) else name for name in names)
    return layers[0] if len(layers) == 1 else layers or None
