"""`palimpsest admission`: the webhook server, as the chart's Deployment runs it."""

import asyncio
from pathlib import Path

import click

_Port = click.IntRange(1, 65535)


@click.command()
@click.option(
    "--certificates",
    type=click.Path(path_type=Path),
    default=Path("/etc/palimpsest/certificates"),
    show_default=True,
    help="Directory with tls.crt and tls.key; a change is taken up within seconds.",
)
@click.option("--host", default="", help="Address to listen on; all if empty.")
@click.option("--port", type=_Port, default=9443, show_default=True, help="Webhook (TLS).")
@click.option("--probes-port", type=_Port, default=8081, show_default=True)
@click.option("--metrics-port", type=_Port, default=8080, show_default=True)
def admission(
    certificates: Path, host: str, port: int, probes_port: int, metrics_port: int
) -> None:
    """Serve the validating admission webhook until stopped."""
    # Not needed by the offline commands, and slow to import.
    from kubernetes.client import Configuration  # noqa: PLC0415
    from kubernetes.config import ConfigException, load_config  # noqa: PLC0415

    from palimpsest.admission.cluster import ApiCluster  # noqa: PLC0415
    from palimpsest.admission.server import Options, serve  # noqa: PLC0415
    from palimpsest.telemetry import logs, traces  # noqa: PLC0415

    try:
        logs.configure()
        traces.configure("admission")
        load_config()
        options = Options(certificates, port, probes_port, metrics_port, host)
        asyncio.run(serve(options, ApiCluster(Configuration.get_default_copy())))
    except (ValueError, OSError, ConfigException) as error:
        raise click.ClickException(str(error)) from error
