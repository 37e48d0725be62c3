"""Options that the commands about journals share."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import completing

if TYPE_CHECKING:
    from .sources import Access

F = TypeVar("F", bound=Callable[..., Any])

# What `where` offers beside a cluster.
OFFLINE = "--journal to work without a cluster"
_FILE = click.Path(path_type=Path)


def cluster(command: F) -> F:
    """The cluster to ask."""
    for option in reversed(
        (
            click.option("--kubeconfig", type=_FILE, help="Default: $KUBECONFIG, ~/.kube/config."),
            click.option(
                "--context",
                metavar="NAME",
                help="Context of the kubeconfig.",
                shell_complete=completing.contexts,
            ),
        )
    ):
        command = option(command)
    return command


def namespace(command: F) -> F:
    """A namespace of the cluster."""
    return click.option(
        *("-n", "--namespace"),
        metavar="NAME",
        help="Default: the context's.",
        shell_complete=completing.namespaces,
    )(command)


def everywhere(command: F) -> F:
    """All namespaces of the cluster."""
    return click.option(
        *("-A", "--all-namespaces", "everywhere"), is_flag=True, help="Of all namespaces."
    )(command)


def resources(command: F) -> F:
    """Resources of a namespace, of all, or some by kind and name."""
    for option in reversed(
        (
            click.argument(
                "targets",
                nargs=-1,
                metavar="[KIND [NAME]... | KIND/NAME...]",
                shell_complete=completing.targets,
            ),
            namespace,
            everywhere,
            cluster,
        )
    ):
        command = option(command)
    return command


def where(command: F) -> F:
    """The cluster to ask, or the journal to read without one."""
    for option in reversed(
        (
            cluster,
            click.option(
                "--journal",
                metavar="URI|FOLDER",
                help="Work without a cluster: the private data's URI, its journal's, or a folder "
                "with a copy of the journal's objects.",
            ),
            click.option(
                "--budget-file",
                type=_FILE,
                help="With --journal: a PrivacyBudget as kubectl get -o yaml shows it.",
            ),
        )
    ):
        command = option(command)
    return command


def stores(command: F) -> F:
    """How to reach the stores."""
    for option in reversed(
        (
            click.option(
                "--endpoint",
                metavar="URL",
                help="The store's address, where the budget's own is not yours.",
            ),
            click.option("--region", metavar="NAME"),
            click.option(
                "--virtual-hosts/--path-style",
                default=None,
                help="Buckets as host names (AWS) or as paths.",
            ),
            click.option("--ca-bundle", type=_FILE, help="PEM file of the store's authority."),
            click.option(
                "--credentials",
                type=_FILE,
                metavar="FOLDER",
                help="Folder with files AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; default: "
                "the variables of these names.",
            ),
        )
    ):
        command = option(command)
    return command


def access(options: dict[str, Any]) -> "Access":
    """Takes the stores' options out of a command's. Raises click.BadParameter."""
    from .sources import Access  # noqa: PLC0415 - slow, and not needed for a cluster alone

    endpoint = options.pop("endpoint")
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise click.BadParameter("write it as https://host", param_hint="--endpoint")
    return Access(
        endpoint,
        options.pop("region"),
        options.pop("virtual_hosts"),
        options.pop("ca_bundle"),
        options.pop("credentials"),
    )
