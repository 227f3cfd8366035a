"""`xaimaps convert`: a Keras model as an ONNX file, made in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from xaimaps.cli.console import json_option, print_json, printable

NEEDED = ("xaimaps_onnx", "xaimaps_tensorflow", "tf2onnx", "tensorflow")


@click.command()
@click.argument("source", metavar="IN")
@click.argument("file", metavar="OUT", type=click.Path(path_type=Path, dir_okay=False))
@click.option("-l", "--layer", "layers", multiple=True,
              help="A layer that the file must know; may be given several times.  [default: all "
              "that its graph has anyway]")  # fmt: skip
@click.option("--opset", default=18, show_default=True, type=click.IntRange(13, 18),
              help="The version of ONNX's operators.")  # fmt: skip
@click.option("--output", help="The name of one of several outputs.")
@click.option("--labels", help="The name of the embedded list of labels: imagenet-1k.")
@click.option("-p", "--preprocess",
              help="How a picture becomes an input: unit, tf, torch, caffe, raw.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path),
              help="The weights' file of a keras:NAME model.  [default: ImageNet's, downloaded]"
              )  # fmt: skip
@click.option("--allow-unsafe", is_flag=True, help="Load a file that runs code of its own.")
@json_option
def convert(source: str, file: Path, as_json: bool, **options: Any) -> None:
    """Convert the Keras model IN to the ONNX file OUT.

    IN is a .keras or .h5 file, keras:NAME, or default. Layers keep their names, weights their bits,
    and OUT is only written if it answers as IN does.
    """
    from xaimaps.files import prepare_folder

    _require_installed()
    _require_sense(file, options["labels"])
    folder = prepare_folder(file.parent)
    job = {"source": source, **options, "weights": options["weights"] and str(options["weights"])}
    with tempfile.TemporaryDirectory(prefix=".xaimaps-", dir=folder) as place:
        part = Path(place) / "model.onnx"
        answer = _converted({**job, "file": str(part)}, source)
        _put(part, file)
    if as_json:
        print_json({"file": str(file), **answer})
    else:
        click.echo(printable("\n".join(_lines(file, answer))))


def _require_installed() -> None:
    from xaimaps.errors import BackendError

    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendError(
            f"converting needs {missing[0].replace('_', '-')}, which is not installed; pip install "
            "'xaimaps[convert]'"
        )


def _require_sense(file: Path, labels: str | None) -> None:
    from xaimaps import zoo
    from xaimaps.errors import ModelLoadError, OutputError

    if file.suffix.lower() != ".onnx":
        raise OutputError(f"OUT must be a name that ends in .onnx, got {str(file)!r}")
    if labels is not None and labels not in zoo.LABELS:
        raise ModelLoadError(
            f"a file can name an embedded list of labels only ({', '.join(zoo.LABELS)}), got "
            f"{labels!r}; give your own list to the commands that explain"
        )


def _converted(job: dict[str, Any], source: str) -> dict[str, Any]:
    """Run the job in a child process, so that its memory is bounded by its life."""
    from xaimaps import errors

    child = subprocess.run(
        [sys.executable, "-m", "xaimaps_onnx", json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=None if "--debug" in sys.argv else subprocess.PIPE,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=False,
    )
    answer = _last_line(child.stdout)
    if "error" in answer:
        kind = getattr(errors, answer["kind"], errors.UnsupportedModelError)
        raise kind(answer["error"])
    if child.returncode or not answer:
        raise errors.UnsupportedModelError(_death(source, child))
    return answer


def _last_line(output: bytes) -> dict[str, Any]:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _death(source: str, child: subprocess.CompletedProcess[bytes]) -> str:
    if child.returncode < 0:
        return (
            f"the conversion of {source!r} was killed by signal {-child.returncode}, as happens "
            "where memory runs out; convert it on a machine with more"
        )
    said = (child.stderr or b"").decode("utf-8", "replace").strip().splitlines()
    reason = f" ({said[-1][:300]})" if said else ""
    return (
        f"the conversion of {source!r} ended with status {child.returncode}{reason}; "
        "`xaimaps --debug convert` shows all of it"
    )


def _put(part: Path, file: Path) -> None:
    from xaimaps.errors import OutputError

    try:
        part.replace(file)
    except OSError as error:
        raise OutputError(
            f"cannot write {str(file)!r} ({error.strerror}); choose another name"
        ) from None


def _lines(file: Path, answer: dict[str, Any]) -> list[str]:
    peak = answer["peak_bytes"]
    memory = "" if peak is None else f", {peak / 1e9:.1f} GB of memory at most"
    lines = [
        f"{file}: {answer['bytes'] / 1e6:.1f} MB, {answer['layers']} of {answer['of']} layers by "
        "name",
        f"its answers differ from Keras's by {answer['difference']:.1e} of the largest",
        f"{answer['seconds']:.0f} s{memory}",
    ]
    if answer["lost"]:
        lost = ", ".join(answer["lost"][:8]) + (" ..." if len(answer["lost"]) > 8 else "")
        lines.append(f"not in the graph by themselves: {lost}; --layer NAME keeps one")
    return lines
