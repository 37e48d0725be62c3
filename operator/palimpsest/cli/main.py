"""`palimpsest`: the commands together. kubectl finds the same program as its plugin."""

import sys
from importlib import import_module
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from palimpsest import __version__

_COMMANDS = (
    "admission",
    "audit",
    "budget",
    "completion",
    "get",
    "logs",
    "model",
    "operator",
    "plan",
    "report",
    "resume",
    "suspend",
    "uninstall",
    "verify",
    "watch",
)
# Two that are one module's.
_MODULES = {"suspend": "suspension", "resume": "suspension"}
_PLUGIN = "kubectl-palimpsest"
COMPLETE_VARIABLE = "_PALIMPSEST_COMPLETE"


class _Lazy(click.Group):
    """Imports a command when it is asked for: those for clusters and stores are slow to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"{__package__}.{_MODULES.get(cmd_name, cmd_name)}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands' names, and the options; what they do would take their import."""
        names = [CompletionItem(name) for name in _COMMANDS if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)  # images have no metadata of the package
def commands() -> None:
    """Differentially private synthetic instructions on Kubernetes."""


def main() -> None:
    """Run the command line, under the name that the user called it by."""
    plugin = Path(sys.argv[0]).stem == _PLUGIN
    name = "kubectl palimpsest" if plugin else "palimpsest"
    commands(prog_name=name, complete_var=COMPLETE_VARIABLE)
