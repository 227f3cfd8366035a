"""The command line of xaimaps, with one file for each kind of command."""

from __future__ import annotations

import sys
import traceback

import click

from xaimaps._cli.batch import batch
from xaimaps._cli.bench import bench
from xaimaps._cli.compare import compare
from xaimaps._cli.console import INTERRUPTED, WRONG_USE, fail
from xaimaps._cli.convert import convert
from xaimaps._cli.describe import describe
from xaimaps._cli.evaluate import evaluate, metrics
from xaimaps._cli.explain import demo, explain
from xaimaps._cli.export import export
from xaimaps._cli.listing import backends, completion, layers, methods
from xaimaps._cli.parity import parity
from xaimaps._cli.reproduce import reproduce
from xaimaps._cli.targets import targets
from xaimaps._cli.view import view
from xaimaps._memory import keep_memory


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xaimaps")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Attribution maps of image models in any framework.

    Exit status: 0 done; 1 some pictures failed, or maps differ; 2 wrong use.
    """


COMMANDS = (
    demo,
    explain,
    view,
    batch,
    compare,
    evaluate,
    reproduce,
    parity,
    convert,
    export,
    describe,
)
LISTS = (layers, targets, methods, metrics, backends, bench, completion)

for command in (*COMMANDS, *LISTS):
    cli.add_command(command)


def start() -> None:
    """Run the command line in a process of its own."""
    keep_memory()
    main()


def main() -> None:
    """Run the command line; an expected error ends in one sentence and exit status 2."""
    from xaimaps.errors import XaimapsError

    try:
        sys.exit(cli.main(prog_name="xaimaps", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(WRONG_USE)
    except click.ClickException as error:
        fail(error.format_message())
    except click.Abort:
        sys.exit(INTERRUPTED)
    except XaimapsError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        fail(str(error))
