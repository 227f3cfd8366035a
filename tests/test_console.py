"""What the commands make of the words that they are given."""

import re

import pytest
from click.testing import CliRunner

from xaimaps._cli import COMMANDS, LISTS, cli
from xaimaps._cli.console import print_table, printable
from xaimaps._cli.headings import HEADINGS
from xaimaps._cli.parsing import in_words, parse_methods, parse_options, parse_targets
from xaimaps.errors import MethodError, ModelLoadError
from xaimaps.targets import as_spec, contrast, several


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-1.5", -1.5), ("true", True), ("False", False), ("none", None), ("max", "max"),
        ("'max'", "max"), ("(1, 2)", (1, 2)), ("a=b", "a=b"), ("", ""), ("{[]: 1}", "{[]: 1}"),
    ],
)  # fmt: skip
def test_option_values(text, value):
    found = parse_options([f"name={text}"])
    assert found == {"name": value}
    assert type(found["name"]) is type(value)


def test_options_without_a_value():
    with pytest.raises(MethodError, match="NAME=VALUE"):
        parse_options(["name"])


@pytest.mark.parametrize(
    ("texts", "target"),
    [
        (["3"], 3), (["-1"], -1), (["cat"], "cat"), (["top-3"], "top-3"), (["-"], "-"),
        (["²"], "²"), (["3", "cat"], several(3, "cat")), (["3; cat"], several(3, "cat")),
        (["a vs b"], contrast("a", "b")),
    ],
)  # fmt: skip
def test_targets(texts, target):
    assert parse_targets(texts) == as_spec(target)
    assert parse_targets([]) is None


def test_methods_come_with_commas_or_one_by_one():
    assert parse_methods(["cam,grad_cam", "saliency", " cam"]) == ["cam", "grad_cam", "saliency"]
    assert parse_methods([]) == []


@pytest.mark.parametrize("name", ["target", "layer", "model", "batch_size"])
def test_what_has_an_option_of_its_own_is_no_methods_option(name):
    with pytest.raises(MethodError, match=f"one of a method, got {name!r}"):
        parse_options([f"{name}=1"])


def test_tables_in_a_pipe_cut_nothing(capsys):
    print_table("[red]title", ("a", "b"), [("[bold]x[/]", "y" * 300)])
    out = capsys.readouterr().out
    assert out.startswith("[red]title\n")
    assert ["[bold]x[/]", "y" * 300] in [line.split() for line in out.splitlines()]


def test_undecodable_names_are_printed_as_escapes():
    assert printable("caf\udce9") == "caf\\udce9"
    assert printable("café 猫") == "café 猫"


def test_errors_call_options_as_the_command_line_does():
    with (
        pytest.raises(ModelLoadError, match=r"^pass --trust or --size 3$"),
        in_words({"trust=True": "--trust", "`size`": "--size"}),
    ):
        raise ModelLoadError("pass trust=True or `size` 3")


@pytest.mark.parametrize("name", [one.name for one in (*COMMANDS, *LISTS)])
def test_the_help_lists_each_option_once_under_its_heading(name):
    command = cli.commands[name]
    shown = CliRunner().invoke(command, ["--help"], terminal_width=200).output
    headings = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert headings == [heading for heading in HEADINGS if heading in headings]
    listed = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown, re.MULTILINE)
    longest = [max(option.opts, key=len) for option in command.params if option.opts[0][0] == "-"]
    assert sorted(listed) == sorted([*longest, "--help"])
