"""`palimpsest operator`: the control loop, as the chart's Deployment runs it."""

import click
from kubernetes.config import ConfigException


@click.command()
def operator() -> None:
    """Run the control loop until stopped."""
    # The control loop's imports (kopf, boto3) would slow every other command down.
    from palimpsest.main import run  # noqa: PLC0415

    try:
        run()
    except (ValueError, OSError, ConfigException) as error:
        raise click.ClickException(str(error)) from error
