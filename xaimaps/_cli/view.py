"""`xaimaps view`: a page in the browser that shows the maps of models."""

from __future__ import annotations

import contextlib
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xaimaps._cli.completions import complete_files
from xaimaps._cli.console import load_model
from xaimaps._cli.headings import Command
from xaimaps._cli.options import backend_option, load_options, max_pixels_option, symlinks_option
from xaimaps._cli.others import distinct_names, shared, with_option

if TYPE_CHECKING:
    from xaimaps.backend import Backend


@click.command(cls=Command)
@click.argument("model", default="default", shell_complete=complete_files("MODELS"))
@click.argument("pictures", nargs=-1, type=click.Path(path_type=Path))
@with_option("Another model, to show side by side with MODEL; may be given several times.")
@backend_option
@load_options
@click.option("--port", default=0, type=click.IntRange(0, 65535),
              help="The port of this machine.  [default: any that is free]")  # fmt: skip
@click.option("--browser/--no-browser", default=True, show_default=True,
              help="Open the page in the browser.")  # fmt: skip
@max_pixels_option
@symlinks_option
def view(
    model: str,
    pictures: tuple[Path, ...],
    others: tuple[str, ...],
    backend: str | None,
    loading: dict[str, Any],
    port: int,
    browser: bool,
    max_pixels: int,
    follow_symlinks: bool,
) -> None:
    """Show the maps of MODEL on PICTURES in the browser, to this machine only.

    The page takes other pictures too. Ctrl-C ends it.
    """
    from xaimaps._images.find import find_pictures, has_picture_name
    from xaimaps._registry import import_extra
    from xaimaps._view.session import Session

    server = import_extra("xaimaps._view.server", "view", "`xaimaps view`")
    if has_picture_name(model):
        raise click.UsageError(
            f"MODEL must be a model, got the picture {model!r}; give the model before the "
            "pictures, such as default for the embedded one"
        )
    found = find_pictures(pictures, follow_symlinks=follow_symlinks)
    models = _models([model, *others], backend, loading)
    session = Session(models, found, max_pixels)

    def announce(address: str) -> None:
        click.echo(f"{address}\nCtrl-C ends it.")
        if browser:
            webbrowser.open(address)

    with contextlib.suppress(KeyboardInterrupt):
        server.serve(session, port, announce)


def _models(files: list[str], backend: str | None, loading: dict[str, Any]) -> dict[str, Backend]:
    """Load models by their own names, or by those of their files where the own are not unique."""
    names = distinct_names(files)
    first, *others = files
    load = load_model if not others else _load_one
    models = [load(first, backend, loading)]
    models += [load(other, backend, shared(loading)) for other in others]
    own = [model.info.name for model in models]
    return dict(zip(names if len(set(own)) < len(own) else own, models, strict=True))


def _load_one(model: str, backend: str | None, loading: dict[str, Any]) -> Backend:
    """Load one of several models: what it records replaces the options that are for the others."""
    asked = [name for name in ("labels", "preprocess") if loading[name] is not None]
    if not asked:
        return load_model(model, backend, loading)
    untold = dict.fromkeys(("labels", "preprocess", "fit", "window"))
    recorded = load_model(model, backend, loading | untold).info
    own = dict.fromkeys(name for name in asked if getattr(recorded, name) is not None)
    return load_model(model, backend, loading | own)
