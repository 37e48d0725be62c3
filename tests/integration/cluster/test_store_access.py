"""Who may touch what, asked of a real gateway under the policies that the demo applies."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError
from cluster import policies
from cluster.fixtures import ObjectStore

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

RECORD = "boolq/part-0000.jsonl"
ENTRY = ".palimpsest/boolq/ledger/00000000.json"
CHECKPOINT = ".palimpsest/boolq/checkpoints/0001.safetensors"
RECEIPT = "boolq/generator/train/receipt.json"

Verdict = str
ACTIONS: dict[str, Callable[[S3Client, str], object]] = {
    "list": lambda s3, bucket: s3.list_objects_v2(Bucket=bucket),
    "read": lambda s3, bucket: s3.get_object(Bucket=bucket, Key=RECORD),
    "head": lambda s3, bucket: s3.head_object(Bucket=bucket, Key=RECORD),
    "write": lambda s3, bucket: s3.put_object(Bucket=bucket, Key=f"{RECORD}.new", Body=b"-"),
    "delete": lambda s3, bucket: s3.delete_object(Bucket=bucket, Key=f"{RECORD}.gone"),
    "policy": lambda s3, bucket: s3.put_bucket_policy(Bucket=bucket, Policy="{}"),
    "read entry": lambda s3, bucket: s3.get_object(Bucket=bucket, Key=ENTRY),
    "write entry": lambda s3, bucket: s3.put_object(Bucket=bucket, Key=f"{ENTRY}.new", Body=b"-"),
    "delete entry": lambda s3, bucket: s3.delete_object(Bucket=bucket, Key=ENTRY),
    "read checkpoint": lambda s3, bucket: s3.get_object(Bucket=bucket, Key=CHECKPOINT),
    "write checkpoint": lambda s3, bucket: s3.put_object(Bucket=bucket, Key=CHECKPOINT, Body=b"-"),
    "write receipt": lambda s3, bucket: s3.put_object(Bucket=bucket, Key=RECEIPT, Body=b"-"),
}
READS = {"list", "read", "head", "read entry", "read checkpoint"}
WRITES = {
    "write",
    "delete",
    "write entry",
    "delete entry",
    "write checkpoint",
    "write receipt",
}
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("custodian", "private"): {*READS, "write entry", "write checkpoint"},
    ("custodian", "releases"): READS | WRITES,
    ("custodian", "models"): READS,
    ("custodian", "outputs"): set(),
    ("operator", "private"): {"read entry", "write entry"},
    ("operator", "releases"): {*READS, "write receipt"},
    ("operator", "models"): READS,
    ("operator", "outputs"): READS,
    ("tenant", "private"): set(),
    ("tenant", "releases"): READS,
    ("tenant", "models"): READS,
    ("tenant", "outputs"): READS | WRITES,
}


@pytest.fixture(scope="module")
def filled(object_store: ObjectStore) -> ObjectStore:
    root = object_store.client("root")
    for bucket in policies.BUCKETS:
        root.put_object(Bucket=bucket, Key=RECORD, Body=b"{}")
        root.put_object(Bucket=bucket, Key=ENTRY, Body=b"{}")
        root.put_object(Bucket=bucket, Key=CHECKPOINT, Body=b"-")
    return object_store


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("account", "bucket"), ALLOWED)
def test_access_is_the_table(filled: ObjectStore, account: str, bucket: str, action: str) -> None:
    root = filled.client("root")
    root.put_object(Bucket=bucket, Key=f"{RECORD}.gone", Body=b"{}")
    root.put_object(Bucket=bucket, Key=ENTRY, Body=b"{}")
    expected = "granted" if action in ALLOWED[account, bucket] else "denied"
    assert _attempt(filled.client(account), action, bucket) == expected


def _attempt(client: S3Client, action: str, bucket: str) -> Verdict:
    try:
        ACTIONS[action](client, bucket)
    except ClientError as refused:
        status = refused.response["ResponseMetadata"]["HTTPStatusCode"]
        return "denied" if status == 403 else f"failed with {status}"
    return "granted"


@pytest.mark.parametrize("account", ["operator", "custodian"])
def test_the_end_of_the_journal_reads_404_not_403(filled: ObjectStore, account: str) -> None:
    """The head is found by reading on until an entry is missing, without leave to list."""
    with pytest.raises(ClientError) as refused:
        filled.client(account).get_object(Bucket="private", Key=f"{ENTRY}.missing")
    assert refused.value.response["Error"]["Code"] == "NoSuchKey"


def test_wrong_secret_is_refused(filled: ObjectStore) -> None:
    forged = ObjectStore(
        filled.endpoint,
        {
            "custodian": type(filled.credentials["custodian"])(
                filled.credentials["custodian"].access_key, "wrong"
            )
        },
    )
    assert _attempt(forged.client("custodian"), "read", "private") == "denied"


def test_one_of_many_conditional_writers_wins(filled: ObjectStore) -> None:
    winners: list[int] = []
    losses: list[int] = []
    clients = [filled.client(("operator", "custodian")[n % 2]) for n in range(8)]
    start = threading.Barrier(len(clients))

    def write(number: int) -> None:
        start.wait()
        try:
            clients[number].put_object(
                Bucket="private", Key=f"{ENTRY}.race", Body=str(number).encode(), IfNoneMatch="*"
            )
        except ClientError as lost:
            losses.append(lost.response["ResponseMetadata"]["HTTPStatusCode"])
        else:
            winners.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = filled.client("operator").get_object(Bucket="private", Key=f"{ENTRY}.race")
    assert set(losses) <= {409, 412}
    assert [str(number) for number in winners] == [written["Body"].read().decode()]
