"""`palimpsest operator`: the control loop, as the chart's Deployment runs it."""

from pathlib import Path

import click
from kubernetes.config import ConfigException


@click.command()
@click.option(
    "--receipt-keys",
    type=click.Path(path_type=Path),
    default=Path("/etc/palimpsest/receipts"),
    show_default=True,
    help="Directory with signing.pem and retired keys *.pub; a change is taken up at once.",
)
def operator(receipt_keys: Path) -> None:
    """Run the control loop until stopped."""
    # The control loop's imports (kopf, boto3) would slow every other command down.
    from palimpsest.main import run  # noqa: PLC0415

    try:
        run(receipt_keys)
    except (ValueError, OSError, ConfigException) as error:
        raise click.ClickException(str(error)) from error
