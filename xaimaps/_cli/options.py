"""Every option of the commands, each defined once, and how its text is read."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from xaimaps.backend import Backend
    from xaimaps.targets import TargetSpec

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_METHODS = ("saliency", "cam", "grad_cam")

WORDS = {"allow_unsafe=True": "--allow-unsafe"}
"""What options are called here that errors call by their names in Python."""

TAKEN = {"model", "pictures", "images", "method", "target", "layer"}
TAKEN |= {"input_size", "max_pixels", "batch_size"}
"""What is no method's option: it has an option of its own, or none."""


def _complete_backend(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps._registry import installed

    return [name for name in installed() if name.startswith(incomplete)]


def _complete_method(context: Any, parameter: Any, incomplete: str) -> list[str]:
    from xaimaps.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")

_model_option = click.option(
    "-m", "--model", default="default", show_default=True,
    help="A model file, keras:NAME, or the name of an embedded model.",
)  # fmt: skip
_backend_option = click.option(
    "-b", "--backend", help="The backend's name, if several take the model.",
    shell_complete=_complete_backend,
)  # fmt: skip
_labels_option = click.option(
    "--labels", help="A text file with a class name in each line, or imagenet-1k."
)
preprocess_option = click.option(
    "-p", "--preprocess", help="How a picture becomes an input: unit, tf, torch, caffe, raw."
)
weights_option = click.option(
    "--weights", type=click.Path(path_type=Path),
    help="The weights' file of a keras:NAME model.  [default: ImageNet's, downloaded]",
)  # fmt: skip
unsafe_option = click.option(
    "--allow-unsafe", is_flag=True, help="Load a file that runs code of its own."
)
_load_option = click.option(
    "--load", multiple=True, metavar="NAME=VALUE",
    help="An option of the backend's load, such as output=logits.",
)  # fmt: skip


def method_option(default: str) -> Callable[[Command], Command]:
    """The option for the methods, of a command with this default."""
    return click.option(
        "-M", "--method", "methods", multiple=True, shell_complete=_complete_method,
        help="A method's name, several with commas between, or all; may be given several times.  "
        f"[default: {default}]",
    )  # fmt: skip


target_option = click.option(
    "-t", "--target", "targets", multiple=True,
    help='A class index, a label, top-K, "A vs B", region:FILE@CLASS, box:X0,Y0,X1,Y1@CLASS, '
    "output:INDEX or similarity:FILE; may be given several times.  [default: top-1]",
)  # fmt: skip
layer_option = click.option(
    "-l", "--layer", "layers", multiple=True,
    help="The layer of the CAM methods; the maps of several are fused.  "
    "[default: the last spatial one]",
)  # fmt: skip
options_option = click.option(
    "-O", "--option", "options", multiple=True, metavar="NAME=VALUE",
    help="An option of the methods that have it.",
)  # fmt: skip
size_option = click.option(
    "--input-size", type=(int, int), metavar="HEIGHT WIDTH", help="For models that take any size."
)
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
    help="A name of matplotlib's, such as hot.  [default: inferno, or RdBu_r for signed maps]",
)


def model_options(command: Command) -> Command:
    """The options that say which model, and how it is loaded."""
    return _model_option(_backend_option(load_options(command)))


def load_options(command: Command) -> Command:
    """The options that say how a model is loaded, handed on as one argument, `loading`."""

    @functools.wraps(command)
    def gathered(
        *args: Any,
        labels: str | None,
        preprocess: str | None,
        weights: Path | None,
        allow_unsafe: bool,
        load: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        own: dict[str, Any] = {} if weights is None else {"weights": weights}
        own |= {"allow_unsafe": True} if allow_unsafe else {}
        own |= parse_pairs(load)
        if reserved := own.keys() & {"model", "backend", "labels", "preprocess"}:
            raise click.UsageError(f"--load takes no {min(reserved)!r}; see --help")
        loading = {"labels": labels, "preprocess": preprocess, **own}
        with in_words(WORDS):
            return command(*args, loading=loading, **rest)

    options = (_labels_option, preprocess_option, weights_option, unsafe_option, _load_option)
    for option in reversed(options):
        gathered = option(gathered)
    return cast("Command", gathered)


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Let errors call options as they are called on the command line."""
    from xaimaps.errors import XaimapsError

    try:
        yield
    except XaimapsError as error:
        text = functools.reduce(lambda text, pair: text.replace(*pair), words.items(), str(error))
        raise type(error)(text) from error


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs; a value is a Python literal, or else text."""
    from xaimaps.errors import MethodError

    found = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise MethodError(f"an option must be NAME=VALUE, got {pair!r}")
        found[name] = _literal(text)
    return found


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read NAME=VALUE pairs as options of a method."""
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
    except (ValueError, SyntaxError, TypeError):
        return text


def parse_targets(texts: Sequence[str]) -> TargetSpec | None:
    """Read the values of `--target`, of which several are explained at once."""
    from xaimaps.targets import parse_target, several

    targets = [parse_target(text) for text in texts]
    if not targets:
        return None
    return targets[0] if len(targets) == 1 else several(*targets)


def parse_methods(texts: Sequence[str]) -> list[str]:
    """Read the values of `--method`, each of which may be names with commas between."""
    names = [name.strip() for text in texts for name in text.split(",")]
    return list(dict.fromkeys(names))


def parse_layer(names: tuple[str, ...]) -> str | tuple[str, ...] | None:
    """Read the values of `--layer`: none, one, or several to be fused."""
    return names[0] if len(names) == 1 else names or None


def able_methods(model: Backend, names: Iterable[str]) -> list[str]:
    """Those of the methods `names` that this model and backend can do."""
    from xaimaps.errors import XaimapsError
    from xaimaps.methods import METHODS

    able = [name for name in names if METHODS[name].needs <= model.capabilities]
    try:
        model.classifier()
    except XaimapsError:
        return [name for name in able if "classifier" not in METHODS[name].needs]
    return able
