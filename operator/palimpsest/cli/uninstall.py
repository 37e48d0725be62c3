"""`palimpsest uninstall`: what is left to do once the operator is gone."""

import os

import click
from kubernetes.config import ConfigException


@click.command()
@click.option(
    "--namespace",
    default=lambda: os.environ.get("POD_NAMESPACE", "palimpsest-system"),
    show_default="palimpsest-system",
    help="The namespace that the operator ran in.",
)
def uninstall(namespace: str) -> None:
    """Let resources be deleted that would wait for an operator that is gone.

    The chart runs it last of all when it is uninstalled. It waits until no operator works any more,
    then takes the finalizer palimpsest.dev/charges off every resource. Nothing is deleted and
    nothing given back: what was reserved stays reserved in the journals, and an operator that is
    installed later goes on from there.
    """
    # Not needed by the offline commands, and slow to import.
    from kubernetes.client import ApiClient, ApiException  # noqa: PLC0415
    from kubernetes.config import load_config  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    from palimpsest.reconcile.adapter.cluster import Cluster, ConflictError  # noqa: PLC0415
    from palimpsest.reconcile.adapter.lease import Lease  # noqa: PLC0415
    from palimpsest.reconcile.adapter.leaving import let_go  # noqa: PLC0415
    from palimpsest.telemetry import logs  # noqa: PLC0415

    logs.configure()
    try:
        load_config()
        cluster = Cluster(ApiClient())
        lease = Lease(cluster.coordination(), namespace, f"uninstall-{os.uname().nodename}")
        lease.acquire()
        try:
            found = let_go(cluster)
        finally:
            lease.release()
    except (ConfigException, ApiException, HTTPError, ConflictError, OSError) as error:
        raise click.ClickException(
            f"resources may still wait for an operator: {' '.join(str(error).split())[:300]}; run "
            "this again, or see docs/uninstall.md"
        ) from error
    click.echo(f"{found} resources wait for no operator any more")
