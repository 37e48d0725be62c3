"""The real parts in the object store, and the digests that the YAML pins them by."""

from __future__ import annotations

import json
from dataclasses import dataclass

from cluster import parts
from cluster.report import ClusterError
from cluster.store import Credentials, client

from demo.console import DemoError
from demo.ground import Store

PRIVATE_RECORDS = "s3://private/boolq/part-0000.jsonl"


@dataclass(frozen=True)
class Parts:
    """Placeholders' values, the held-out public questions, and where some private ones lie."""

    values: dict[str, str]
    held_out: list[str]
    private_uri: str


def upload(store: Store) -> Parts:
    """Make the parts if they are not cached, put into the store what it lacks. Raises DemoError."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    keys = store.keys["root"]
    try:
        root = client(store.endpoint_here, Credentials(keys.access_key, keys.secret_key))
        parts.upload(root)
    except ClusterError as error:
        raise DemoError(str(error)) from error
    except (BotoCoreError, ClientError) as error:
        raise DemoError(f"uploading to {store.endpoint_here} failed: {error}") from error
    questions = parts.questions()
    return Parts(
        values={
            "GENERATOR_DIGEST": parts.smollm2().digest,
            "EMBEDDER_DIGEST": parts.minilm().digest,
            "EVALUATION_DIGEST": questions.held_out_digest,
        },
        held_out=[
            json.loads(line)["instruction"]
            for line in questions.held_out.read_text().splitlines()
            if line
        ],
        private_uri=PRIVATE_RECORDS,
    )
