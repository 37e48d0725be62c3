"""Reading an S3-compatible store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


class CheckError(Exception):
    """What was found wrong, in one line."""


def sha256(data: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Access:
    """One set of keys for one store."""

    endpoint: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


class Bucket:
    """Objects by `s3://bucket/key`."""

    def __init__(self, access: Access) -> None:
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=access.endpoint,
            region_name=access.region,
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                connect_timeout=5,
                read_timeout=60,
                retries={"total_max_attempts": 3},
                response_checksum_validation="when_required",
            ),
        )

    def get(self, uri: str) -> bytes:
        """The object. Raises CheckError."""
        bucket, key = split(uri)
        try:
            data: bytes = self._s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as error:
            raise CheckError(f"{uri}: {error}") from error
        return data

    def may_read(self, uri: str) -> bool:
        """Whether these keys open the object. Raises CheckError if the store does not say."""
        bucket, key = split(uri)
        try:
            self._s3.get_object(Bucket=bucket, Key=key)["Body"].close()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (401, 403):
                return False
            raise CheckError(f"{uri}: {error}") from error
        except BotoCoreError as error:
            raise CheckError(f"{uri}: {error}") from error
        return True

    def list(self, uri: str) -> Iterator[str]:
        """Every object below a prefix."""
        bucket, prefix = split(uri)
        try:
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            ):
                for entry in page.get("Contents", []):
                    yield f"s3://{bucket}/{entry['Key']}"
        except (ClientError, BotoCoreError) as error:
            raise CheckError(f"{uri}: {error}") from error

    def download(self, uri: str, digest: str, target: Path) -> Path:
        """The object as a file whose digest is checked; kept if it is there already."""
        if not (target.is_file() and sha256(target.read_bytes()) == digest):
            data = self.get(uri)
            if sha256(data) != digest:
                raise CheckError(f"{uri}: its digest is not {digest}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return target


def split(uri: str) -> tuple[str, str]:
    """(bucket, key)."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
