"""`palimpsest`: the commands together. kubectl finds the same program as its plugin."""

import sys
from importlib import import_module
from pathlib import Path

import click

_COMMANDS = (
    "admission",
    "audit",
    "budget",
    "model",
    "operator",
    "plan",
    "report",
    "uninstall",
    "verify",
)
_PLUGIN = "kubectl-palimpsest"


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
        command: click.Command = getattr(import_module(f"{__package__}.{cmd_name}"), cmd_name)
        return command


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="palimpsest")
def commands() -> None:
    """Differentially private synthetic instructions on Kubernetes."""


def main() -> None:
    """Run the command line, under the name that the user called it by."""
    plugin = Path(sys.argv[0]).stem == _PLUGIN
    commands(prog_name="kubectl palimpsest" if plugin else "palimpsest")
