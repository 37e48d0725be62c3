"""Every command line that the documentation gives is one that the programs take."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from palimpsest.cli.main import commands
from unit.docs.pages import ALL, ROOT, blocks, inline, lines, name

# Of a line of a shell: the program, after assignments, up to what another program gets.
PROGRAM = re.compile(r"(?:^|[\w/.)] )(?:kubectl )?palimpsest (?P<arguments>[a-z][^|;&<>]*)")
INLINE = re.compile(r"^(?:kubectl )?palimpsest (?P<arguments>[a-z].*)")
# The group's own help options are its commands' too.
WHOLE = click.Context(commands, **commands.context_settings)
MAKE = re.compile(r"^make ([a-z][a-z0-9-]*)")
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that is meant, and what is left for it."""
    command: click.Command = commands
    while isinstance(command, click.Group) and arguments:
        found = command.get_command(WHOLE, arguments[0])
        assert found is not None, f"no command {arguments[0]}"
        command, arguments = found, arguments[1:]
    return command, arguments


def parse(arguments: list[str]) -> None:
    """Parse as the program would, and run nothing. Files that are named are there."""
    command, rest = command_of(arguments)
    assert not isinstance(command, click.Group), f"{arguments}: a command is missing"
    for each in rest:
        if each.startswith("./"):
            Path(each).mkdir(exist_ok=True)
        elif each.endswith(".json"):
            Path(each).touch()
    command.make_context("palimpsest", list(rest), parent=WHOLE)


def shown(page: Path) -> list[list[str]]:
    """The command lines in a page's blocks."""
    return [
        shlex.split(match["arguments"], comments=True)
        for block in blocks(page)
        if block.language in ("", "console", "sh", "bash")
        for line in lines(block)
        if (match := PROGRAM.match(line))
    ]


@pytest.mark.parametrize("page", [page for page in ALL if shown(page)], ids=name)
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in shown(page):
        try:
            parse(arguments)
        except click.UsageError as error:
            raise AssertionError(f"palimpsest {' '.join(arguments)}: {error.message}") from error


@pytest.mark.parametrize("page", ALL, ids=name)
def test_commands_in_sentences_exist(page: Path) -> None:
    """They may leave arguments out; their names and options must be known."""
    for text in inline(page):
        if match := INLINE.match(text):
            command, rest = command_of(shlex.split(match["arguments"]))
            known = {option for each in command.params for option in each.opts}
            asked = {each for each in rest if each.startswith("-")}
            assert asked <= known | {"--help"}, text


def test_there_are_commands_to_check() -> None:
    assert sum(len(shown(page)) for page in ALL) > 20


def test_a_wrong_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.UsageError):
        parse(["verify", "questions", "--fils"])
    with pytest.raises(AssertionError):
        parse(["bugdet", "questions"])


@pytest.mark.parametrize("page", ALL, ids=name)
def test_make_has_what_is_asked_of_it(page: Path) -> None:
    told = [*inline(page), *(line for block in blocks(page) for line in lines(block))]
    asked = {match[1] for text in told if (match := MAKE.match(text))}
    assert asked <= TARGETS, page
