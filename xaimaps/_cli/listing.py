"""Commands that list layers, methods and backends, and print the shell's completion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from xaimaps._cli.completions import complete_files, complete_method
from xaimaps._cli.console import load_model, print_json, print_table
from xaimaps._cli.headings import Command
from xaimaps._cli.options import json_option, model_options

if TYPE_CHECKING:
    from xaimaps.backend import Backend
    from xaimaps.methods._row import Row


def _default(model: Backend) -> str | None:
    from xaimaps.errors import LayerError

    try:
        return model.default_layer().name
    except LayerError:
        return None


@click.command(cls=Command)
@click.argument("file", required=False, metavar="[MODEL]", shell_complete=complete_files("MODELS"))
@model_options
@click.option("--all", "unlisted", is_flag=True, help="Add views, sums and other operations.")
@json_option
@click.pass_context
def layers(
    context: click.Context,
    file: str | None,
    model: str,
    backend: str | None,
    loading: dict[str, Any],
    unlisted: bool,
    as_json: bool,
) -> None:
    """List the layers of MODEL, or of -m, in the order of computation; * marks the default."""
    if file and context.get_parameter_source("model") is ParameterSource.COMMANDLINE:
        raise click.UsageError("the model must be given once, as MODEL or by -m, got both")
    loaded = load_model(file or model, backend, loading)
    found = loaded.layers(unlisted=unlisted)
    default = _default(loaded)
    if as_json:
        print_json(
            [
                {
                    "name": layer.name,
                    "operator": layer.operator,
                    "shape": layer.shape,
                    "aliases": layer.aliases,
                    "spatial": layer.is_spatial,
                    "default": layer.name == default,
                }
                for layer in found
            ]
        )
        return
    print_table(
        f"{len(found)} layers of {loaded.info.name}",
        ("", "layer", "operator", "shape", "aliases"),
        [
            (
                "*" if layer.name == default else "",
                layer.name,
                layer.operator,
                _shape(layer.shape),
                ", ".join(layer.aliases),
            )
            for layer in found
        ],
    )


def _shape(shape: tuple[int | None, ...]) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape[1:])


@click.command(cls=Command)
@click.argument("name", required=False, shell_complete=complete_method)
@json_option
def methods(name: str | None, as_json: bool) -> None:
    """List the attribution methods, or the options of the method NAME."""
    from xaimaps.methods import METHODS, get_method

    if name is None:
        more = "methods; `xaimaps methods NAME` has the cost, the paper and the options of one"
        columns = ("name", "family", "summary")
        print_rows(list(METHODS.values()), more, columns, "cost", as_json)
    else:
        print_row(get_method(name), "cost", as_json)


def print_rows(
    rows: Sequence[Row], title: str, columns: Sequence[str], fact: str, as_json: bool
) -> None:
    """Print a table of methods or metrics; `fact` is what only one of the two has."""
    told = [_told(row, fact) for row in rows]
    if as_json:
        print_json(told)
        return
    cells = [[str(row[column]) for column in columns] for row in told]
    print_table(f"{len(rows)} {title}", columns, cells, whole="name")


def print_row(row: Row, fact: str, as_json: bool) -> None:
    """Print what a method or metric does, and its options."""
    if as_json:
        print_json([_told(row, fact)])
        return
    said = row.documented
    click.echo(f"{row.name}: {row.summary}")
    for name in (fact, "paper"):
        click.echo(f"{name}: {getattr(row, name)}")
    options = [(name, repr(default), said.get(name, "")) for name, default in row.options.items()]
    print_table("", ("option", "default", ""), options)


def _told(row: Row, fact: str) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in ("name", "family", "summary", fact)}
    return {**told, "needs": sorted(row.needs), "options": row.options, "paper": row.paper}


@click.command(cls=Command)
@json_option
def backends(as_json: bool) -> None:
    """List the installed backends and their capabilities."""
    from xaimaps._registry import installed

    rows = [_backend_row(name) for name in installed()]
    if as_json:
        print_json(rows)
        return
    print_table(
        "Installed backends" if rows else "No backend is installed; pip install 'xaimaps[jax]'",
        ("name", "distribution", "status", "capabilities"),
        [(r["name"], r["distribution"], r["status"], ", ".join(r["capabilities"])) for r in rows],
    )


def _backend_row(name: str) -> dict[str, Any]:
    from xaimaps._registry import get_backend, installed
    from xaimaps.errors import BackendError

    source = installed()[name].dist
    row: dict[str, Any] = {
        "name": name,
        "distribution": f"{source.name} {source.version}" if source else "",
        "status": "ok",
        "capabilities": [],
    }
    try:
        row["capabilities"] = sorted(get_backend(name).capabilities)
    except BackendError as error:
        row["status"] = str(error)
    return row


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes xaimaps commands in SHELL.

    For bash: xaimaps completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the shells that the argument allows"
    click.echo(kind(context.find_root().command, {}, "xaimaps", "_XAIMAPS_COMPLETE").source())
