"""Accounts, buckets and policies of a versitygw that answers already."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cluster import cache, policies
from cluster.commands import run
from cluster.report import ClusterError

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

REGION = "us-east-1"


@dataclass(frozen=True)
class Credentials:
    access_key: str
    secret_key: str


def credentials(file: Path) -> dict[str, Credentials]:
    """Keys of `root` and policies.ACCOUNTS by name: read from the file, else drawn and written."""
    if file.exists():
        return {name: Credentials(**pair) for name, pair in json.loads(file.read_text()).items()}
    drawn = {
        name: Credentials(f"{name}-{secrets.token_hex(4)}", secrets.token_urlsafe(30))
        for name in ("root", *policies.ACCOUNTS)
    }
    document = {name: asdict(pair) for name, pair in drawn.items()}
    cache.write_atomic(file, json.dumps(document, indent=1), 0o600)
    return drawn


def client(endpoint: str, pair: Credentials) -> S3Client:
    import boto3  # noqa: PLC0415 - the rest of the package runs without it
    from botocore.config import Config  # noqa: PLC0415

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=pair.access_key,
        aws_secret_access_key=pair.secret_key,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}),
    )


def arrange(gateway: Path, endpoint: str, keys: dict[str, Credentials]) -> None:
    """Creates what is missing of the accounts and buckets and sets every bucket's policy."""
    root = client(endpoint, keys["root"])
    _wait(root)
    admin: list[str | Path] = [gateway / "versitygw", "admin"]
    admin += ["--access", keys["root"].access_key, "--secret", keys["root"].secret_key]
    admin += ["--endpoint-url", endpoint]
    known = run([*admin, "list-users"], what="listing the store's accounts")
    for account in policies.ACCOUNTS:
        pair = keys[account]
        if pair.access_key not in known:
            user = ["--access", pair.access_key, "--secret", pair.secret_key, "--role", "user"]
            run([*admin, "create-user", *user], what=f"creating the store's account {account}")
    ids = {name: pair.access_key for name, pair in keys.items()}
    make_buckets(endpoint, keys["root"])
    for bucket in policies.BUCKETS:
        root.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policies.policy(bucket, ids)))


def make_buckets(endpoint: str, root: Credentials) -> None:
    """Waits for the store and creates what is missing of the buckets."""
    from botocore.exceptions import ClientError  # noqa: PLC0415

    store = client(endpoint, root)
    _wait(store)
    for bucket in policies.BUCKETS:
        try:
            store.head_bucket(Bucket=bucket)
        except ClientError:
            store.create_bucket(Bucket=bucket)


def _wait(root: S3Client, seconds: float = 60) -> None:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    deadline = time.monotonic() + seconds
    while True:
        try:
            root.list_buckets()
            return
        except (BotoCoreError, ClientError) as refused:
            if time.monotonic() > deadline:
                raise ClusterError(f"the object store does not answer: {refused}") from refused
            time.sleep(0.2)
