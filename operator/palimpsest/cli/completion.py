"""`palimpsest completion`, and the program that kubectl asks what completes its plugin."""

import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from .main import COMPLETE_VARIABLE, commands

# What the shell does after kubectl's answer, as Cobra's completion understands it.
_FILES, _NO_FILES, _FOLDERS = 0, 4, 16


@click.command(
    epilog="Example: palimpsest completion bash > ~/.local/share/bash-completion/completions/"
    "palimpsest"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Write the script by which SHELL completes palimpsest.

    kubectl (1.26 or newer) completes `kubectl palimpsest` by itself, where
    kubectl_complete-palimpsest lies on the PATH beside kubectl-palimpsest.
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.ClickException(f"there is no completion for {shell}")
    click.echo(made(commands, {}, "palimpsest", COMPLETE_VARIABLE).source())


def answer(words: Sequence[str]) -> str:
    """What completes the last of these words: a candidate a line, then what else the shell does."""
    *before, incomplete = words or [""]
    asked = ShellComplete(commands, {}, "kubectl palimpsest", COMPLETE_VARIABLE)
    found = asked.get_completions(list(before), incomplete)
    plain = [each for each in found if each.type == "plain"]
    lines = [_line(each) for each in plain]
    return "\n".join([*lines, f":{_directive(found)}"])


def kubectl() -> None:
    """`kubectl_complete-palimpsest WORD...`: silent where nothing can be completed."""
    click.echo(answer(sys.argv[1:]))


def _directive(found: Sequence[CompletionItem]) -> int:
    kinds = {each.type for each in found}
    if "file" in kinds:
        return _FILES
    return _FOLDERS if "dir" in kinds else _NO_FILES


def _line(item: CompletionItem) -> str:
    return f"{item.value}\t{item.help}" if item.help else str(item.value)
