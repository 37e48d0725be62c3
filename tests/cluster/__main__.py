"""python3 -m cluster up | down | status | setup | images | kubeconfig | parts ..."""

from __future__ import annotations

import argparse
import os
import sys

from cluster import lifecycle, parts, state, store
from cluster.report import ClusterError, say, step


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="cluster", description="A real Kubernetes on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", "bring everything up; a no-op when it is"),
        ("down", "take everything down"),
        ("status", "say what runs"),
        ("setup", "fetch and build what `up` needs"),
        ("images", "build the product's images and bring them into the running cluster"),
        ("kubeconfig", "print the path of the kubeconfig"),
        ("parts", "make the models and questions and put them into the running store"),
    ):
        commands.add_parser(name, help=text)
    given = parser.parse_args(arguments)
    try:
        return _act(given.command)
    except ClusterError as error:
        say(f"error: {error}")
        return 1
    except OSError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: `make down` cleans up")
        return 130


def _act(command: str) -> int:
    if command in {"up", "images"} and _foreign_kubeconfig():
        say(f"KUBECONFIG={os.environ['KUBECONFIG']} is another cluster: nothing starts here")
        return 0
    if command == "status":
        print(lifecycle.status())
    elif command == "kubeconfig":
        print(state.folder() / "kubeconfig")
    elif command == "parts":
        parts.build()
        cluster = state.load()
        if cluster is None or lifecycle.running(cluster) is None:
            raise ClusterError("the parts are made, the cluster is down: `make up`, then run again")
        root = store.credentials(cluster.credentials)["root"]
        with step("upload the parts"):
            parts.upload(store.client(cluster.store_endpoint, root))
    elif command == "setup":
        lifecycle.setup()
    else:
        lifecycle.require_root()
        with state.command_lock():
            if command == "down":
                lifecycle.down()
            else:
                lifecycle.up()
    return 0


def _foreign_kubeconfig() -> bool:
    given = os.environ.get("KUBECONFIG")
    return bool(given) and given != str(state.folder() / "kubeconfig")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
