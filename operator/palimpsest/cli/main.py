"""`palimpsest`: the commands together."""

import click

from .admission import admission
from .operator import operator
from .plan import plan


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="palimpsest")
def main() -> None:
    """Differentially private synthetic instructions on Kubernetes."""


main.add_command(admission)
main.add_command(operator)
main.add_command(plan)
