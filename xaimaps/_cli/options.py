"""The options of the commands, each defined once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from xaimaps._cli.completions import (
    complete_backend,
    complete_colormap,
    complete_files,
    complete_layer,
    complete_method,
    complete_target,
)
from xaimaps._cli.headings import option
from xaimaps._cli.parsing import import_class, in_words, parse_pairs

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_METHODS = ("saliency", "cam", "grad_cam")

MAX_PIXELS = 64_000_000

WORDS = {"allow_unsafe=True": "--allow-unsafe"}
"""The command line's names of options that errors call by their Python names."""

_model = functools.partial(option, "Model")
_pictures = functools.partial(option, "Pictures")
_explanation = functools.partial(option, "Explanation")
_output = functools.partial(option, "Output")

json_option = _output("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
quiet_option = _output("-q", "--quiet", is_flag=True, help="Print only notes and failures.")

_model_option = _model(
    "-m", "--model", default="default", show_default=True,
    help="A model file, keras:NAME, the name of an embedded model, or MODULE:FUNCTION for a "
    "function that returns a model (with --allow-unsafe).",
    shell_complete=complete_files("MODELS"),
)  # fmt: skip
backend_option = _model(
    "-b", "--backend", help="The backend, if several can run the model.",
    shell_complete=complete_backend,
)  # fmt: skip
backends_option = _model(
    "-b", "--backend", "backends", multiple=True, shell_complete=complete_backend,
    help="Only this backend; may be given several times.  [default: all that can run the model]",
)  # fmt: skip
_labels_option = _model(
    "--labels", help="A file of class names (lines or JSON), or imagenet-1k.",
    shell_complete=complete_files("LABELS"),
)  # fmt: skip
preprocess_option = _pictures(
    "-p", "--preprocess", help="The preprocessing of pictures.",
    type=click.Choice(["unit", "tf", "torch", "imagenet", "caffe", "raw", "native"]),
)  # fmt: skip
_fit_option = _pictures(
    "--fit", type=click.Choice(["crop", "pad", "stretch"]),
    help="How the aspect ratio of a picture is changed.  [default: as the preprocessing says]",
)  # fmt: skip
_size_option = _model(
    "--input-size", type=(int, int), metavar="HEIGHT WIDTH",
    help="The size of the input, for models that take images of any size.",
)  # fmt: skip
_depth_option = _model(
    "--input-depth", type=int, metavar="DEPTH",
    help="The slices of a volume or the frames of a clip, for models that take any number of them; "
    "with --input-size.",
)  # fmt: skip
_window_option = _pictures(
    "--window", type=(float, float), metavar="LOW HIGH",
    help="The values of a picture that are black and white.  [default: as each picture says]",
)  # fmt: skip
_custom_option = _model(
    "--custom", multiple=True, metavar="MODULE:CLASS",
    help="A class of a Keras model's own, which is imported; may be given several times.",
)  # fmt: skip
weights_option = _model(
    "--weights", type=click.Path(path_type=Path),
    help="The weights of a keras:NAME model or of MODULE:FUNCTION: a file, or a folder of Orbax.  "
    "[default: ImageNet's, downloaded, or those that the function returns]",
)  # fmt: skip
unsafe_option = _model(
    "--allow-unsafe", is_flag=True, help="Load a model that contains code, and run it."
)
_PRECISIONS = click.Choice(["float32", "tf32", "bfloat16"])
_precision_option = _model(
    "--precision", default="float32", show_default=True, type=_PRECISIONS,
    help="The precision of values and products, in the JAX backend; tf32 is for GPUs.",
)  # fmt: skip
precisions_option = _model(
    "--precision", multiple=True, default=("float32",), show_default=True, type=_PRECISIONS,
    help="A precision of values and products; may be given several times.",
)  # fmt: skip
_input_option = _model(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE",
    help="The value of another input of the model than the images: numbers, a .npy file or "
    "a picture; may be given several times.",
)  # fmt: skip
each_option = _explanation(
    "--each", "each", multiple=True, metavar="NAME=FILES",
    help="The values of another input that differ from picture to picture: a folder or pattern of "
    "files, or a .npy file with one for each; may be given several times.",
)  # fmt: skip
explained_option = _explanation(
    "--explained", multiple=True, metavar="NAME",
    help="Explain this input of --input or --each, too: a picture by a map, a vector by numbers; "
    "may be given several times.",
)  # fmt: skip
_load_option = _model(
    "--load", multiple=True, metavar="NAME=VALUE",
    help="A loading option of the backend, such as output=logits.",
)  # fmt: skip


def method_option(default: str) -> Callable[[Command], Command]:
    """Make the option for the methods, with a command's own default."""
    return _explanation(
        "-M", "--method", "methods", multiple=True, shell_complete=complete_method,
        help="A method, a comma-separated list, or all; may be given several times.  "
        f"[default: {default}]",
    )  # fmt: skip


target_option = _explanation(
    "-t", "--target", "targets", multiple=True, shell_complete=complete_target,
    help='A class index, a label, top-K, "A vs B", region:FILE@CLASS, class:CLASS, '
    "box:X0,Y0,X1,Y1@CLASS, output:INDEX, similarity:FILE or text:POSITION; may be given several "
    "times.  "
    "[default: top-1]",
)  # fmt: skip
layer_option = _explanation(
    "-l", "--layer", "layers", multiple=True, shell_complete=complete_layer,
    help="The layer of the CAM methods by name, or from the end as -1; the maps of several layers "
    "are fused.  "
    "[default: the last spatial layer]",
)  # fmt: skip
options_option = _explanation(
    "-O", "--option", "options", multiple=True, metavar="NAME=VALUE",
    help="An option for the methods that have it.",
)  # fmt: skip
folder_option = _output(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("xaimaps-output"),
    show_default=True, help="The folder to write to.",
)  # fmt: skip
format_option = _output(
    "--format", default="png", show_default=True, type=click.Choice(["png", "jpg", "webp"]),
    help="The format of overlays and heat maps.",
)  # fmt: skip
colormap_option = _output(
    "--colormap",
    shell_complete=complete_colormap,
    help="A matplotlib colour map, such as hot.  [default: inferno, or RdBu_r for signed maps]",
)

alpha_option = _output(
    "--alpha", default=0.5, show_default=True, type=click.FloatRange(0, 1),
    help="The weight of the map in overlays.",
)  # fmt: skip

batch_size_option = _pictures(
    "--batch-size", default=8, show_default=True, type=click.IntRange(1),
    help="The number of pictures to run at a time.",
)  # fmt: skip
max_pixels_option = _pictures(
    "--max-pixels", default=MAX_PIXELS, show_default=True, help="The largest picture to read."
)
symlinks_option = _pictures(
    "--follow-symlinks", is_flag=True, help="Accept links that point out of a folder of pictures."
)


def _whole_size(depth: int | None, size: tuple[int, int] | None) -> dict[str, tuple[int, ...]]:
    """Return the loading option that two options of the command line give."""
    if size is None and depth is not None:
        raise click.UsageError("--input-depth needs --input-size, the height and width")
    return {} if size is None else {"input_size": size if depth is None else (depth, *size)}


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
        input_depth: int | None,
        window: tuple[float, float] | None,
        custom: tuple[str, ...],
        inputs: tuple[str, ...],
        precision: str | tuple[str, ...],
        load: tuple[str, ...],
        **rest: Any,
    ) -> Any:
        own: dict[str, Any] = {} if weights is None else {"weights": weights}
        own |= {"allow_unsafe": True} if allow_unsafe else {}
        own |= _whole_size(input_depth, input_size)
        own |= {"custom_objects": dict(map(import_class, custom))} if custom else {}
        own |= {"inputs": parse_pairs(inputs)} if inputs else {}
        own |= parse_pairs(load)
        told: dict[str, Any] = {"labels": labels, "preprocess": preprocess, "fit": fit}
        told |= {"window": window, "precision": precision}
        if reserved := own.keys() & {"model", "backend", *told}:
            raise click.UsageError(f"--load takes no {min(reserved)!r}; see --help")
        with in_words(WORDS):
            return command(*args, loading=told | own, **rest)

    pictures = (preprocess_option, _fit_option, _window_option)
    files = (
        _labels_option,
        weights_option,
        _size_option,
        _depth_option,
        unsafe_option,
        _custom_option,
        _input_option,
    )
    for add in reversed((*files, precision_option, _load_option, *pictures)):
        gathered = add(gathered)
    return cast("Command", gathered)
