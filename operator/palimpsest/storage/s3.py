"""A small client for S3 and stores that speak its protocol."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from palimpsest.api.common import Encryption
from palimpsest.storage.credentials import ASSUME_ROLE, AccessKeys, WebIdentity, session
from palimpsest.storage.errors import AccessDenied, NotFound, StoreError, StoreUnavailable
from palimpsest.storage.uri import S3Uri, parse_uri

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
READ_ATTEMPTS = 4
CONFLICT_ATTEMPTS = 8

_ABSENT = {"404", "NoSuchKey", "NoSuchBucket", "NotFound"}
_DENIED = {
    "401",
    "403",
    "AccessDenied",
    "AccountProblem",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_EXISTS = {"412", "PreconditionFailed"}
_CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """How to reach a store: `endpoint` None means AWS, `ca_bundle` is a PEM file.

    `read_timeout` is seconds without a byte of an answer, `read_attempts` is how often a read is
    asked at most before the store counts as unavailable.
    """

    endpoint: str | None
    region: str
    path_style: bool
    ca_bundle: str | None
    credentials: AccessKeys | WebIdentity
    encryption: Encryption | None = None
    read_timeout: float = READ_TIMEOUT_SECONDS
    read_attempts: int = READ_ATTEMPTS


class S3Store:
    """Objects by full `s3://bucket/key` address. Methods may be called from several threads.

    Every method raises NotFound, AccessDenied, StoreUnavailable or StoreError; ValueError for an
    address that is none.
    """

    def __init__(self, config: StoreConfig) -> None:
        self._client = _client(config, config.read_attempts)
        # A repeated conditional write meets its own first try and reads as "exists": never repeat.
        self._once = _client(config, 1)
        # Fewer threads than boto3's ten: stages run beside a model on few cores.
        self._transfer = TransferConfig(max_concurrency=4)
        self._headers = _headers(config.encryption)

    def get(self, uri: str) -> bytes:
        """The whole object."""
        at = _object(uri)

        def read() -> bytes:
            body = self._client.get_object(Bucket=at.bucket, Key=at.key)["Body"]
            with body:
                return body.read()

        return _ask(at, read)

    def put(self, uri: str, data: bytes) -> None:
        """Write the object whole, over another if there is one."""
        at = _object(uri)
        _ask(
            at,
            lambda: self._client.put_object(
                Bucket=at.bucket, Key=at.key, Body=data, **self._headers
            ),
        )

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        """Create the object; False when it exists.

        StoreUnavailable leaves open whether the object was written: read it back and compare.
        """
        at = _object(uri)
        for attempt in range(CONFLICT_ATTEMPTS):
            try:
                self._once.put_object(
                    Bucket=at.bucket, Key=at.key, Body=data, IfNoneMatch="*", **self._headers
                )
            except ClientError as error:
                code, status = _code(error)
                if code in _EXISTS or status == 412:
                    return False
                if code not in _CONFLICT and status != 409:
                    raise _translate(at, error) from error
                # Another write to the key is in flight; this one was not taken.
                time.sleep(0.02 * 2**attempt)
            except (BotoCoreError, Boto3Error) as error:
                raise _translate(at, error) from error
            else:
                return True
        raise StoreUnavailable(f"{at}: another write kept being in flight; try again")

    def exists(self, uri: str) -> bool:
        """Whether the object is there."""
        try:
            self.size(uri)
        except NotFound:
            return False
        return True

    def size(self, uri: str) -> int:
        """Length in bytes."""
        at = _object(uri)
        return _ask(at, lambda: self._client.head_object(Bucket=at.bucket, Key=at.key))[
            "ContentLength"
        ]

    def list(self, uri_prefix: str) -> Iterator[str]:
        """Addresses of all objects whose key starts with the prefix, in the store's order."""
        at = parse_uri(uri_prefix)
        pages = iter(
            self._client.get_paginator("list_objects_v2").paginate(Bucket=at.bucket, Prefix=at.key)
        )
        while (page := _ask(at, lambda: next(pages, None))) is not None:
            for entry in page.get("Contents", []):
                yield str(S3Uri(at.bucket, entry["Key"]))

    def download_file(self, uri: str, path: str | Path) -> None:
        """Copy the object to a file; in parts when it is large."""
        at = _object(uri)
        _ask(
            at,
            lambda: self._client.download_file(at.bucket, at.key, str(path), Config=self._transfer),
        )

    def upload_file(self, path: str | Path, uri: str) -> None:
        """Copy a file to the object; in parts when it is large."""
        at = _object(uri)
        _ask(
            at,
            lambda: self._client.upload_file(
                str(path), at.bucket, at.key, Config=self._transfer, ExtraArgs=dict(self._headers)
            ),
        )

    def delete(self, uri: str) -> None:
        """Remove the object; none there is no error."""
        at = _object(uri)
        _ask(at, lambda: self._client.delete_object(Bucket=at.bucket, Key=at.key))


# Making clients of a session is not safe from several threads, using them is.
_making = threading.Lock()


class _Headers(TypedDict, total=False):
    ServerSideEncryption: Literal["AES256", "aws:kms"]
    SSEKMSKeyId: str


def _headers(encryption: Encryption | None) -> _Headers:
    if encryption is None:
        return {}
    if encryption.type == "KMS":
        return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encryption.key_id or ""}
    return {"ServerSideEncryption": "AES256"}


def _client(config: StoreConfig, attempts: int) -> "S3Client":
    try:
        with _making:
            return _new_client(config, attempts)
    except (ValueError, BotoCoreError) as error:
        raise StoreError(
            f"endpoint {config.endpoint!r}, region {config.region!r}: {error}"
        ) from error


def _new_client(config: StoreConfig, attempts: int) -> "S3Client":
    return session(config.credentials, config.region, config.ca_bundle).client(
        "s3",
        endpoint_url=config.endpoint,
        region_name=config.region,
        verify=config.ca_bundle,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if config.path_style else "virtual"},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=config.read_timeout,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            max_pool_connections=32,
            # Checksums beyond MD5 are asked for only where the protocol demands them: not
            # every store knows the newer ones.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _object(uri: str) -> S3Uri:
    at = parse_uri(uri)
    if not at.key:
        raise ValueError(f"uri {uri!r}: name an object, not a bucket")
    return at


def _ask(at: S3Uri, call: Callable[[], T]) -> T:
    try:
        return call()
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise _translate(at, error) from error


def _code(error: ClientError) -> tuple[str, int]:
    code = str(error.response.get("Error", {}).get("Code", ""))
    return code, int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _translate(at: S3Uri, error: Exception) -> StoreError:
    """Our error for boto's. An unknown one counts as unavailable: whether it wrote is unknown."""
    cause = error if isinstance(error, ClientError) else error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        code, status = _code(cause)
        if cause.operation_name == ASSUME_ROLE and 400 <= status < 500 and status != 429:
            return AccessDenied(
                f"{at}: the token service refused the role ({code}); check auth.roleArn and "
                "audience, and that the role trusts this cluster's issuer and the pods' service "
                "account"
            )
        if code in _ABSENT or status == 404:
            what = "the bucket does not exist" if code == "NoSuchBucket" else "no such object"
            return NotFound(f"{at}: {what}")
        if code in _DENIED or status in (401, 403):
            return AccessDenied(
                f"{at}: the store denied access ({code}); check the keys, their rights on bucket "
                f"{at.bucket}, and that they may list it (without that an absent object is denied "
                "too)"
            )
        if 400 <= status < 500 and status not in (408, 429):
            return StoreError(f"{at}: the store refused the request ({code or status})")
        return StoreUnavailable(f"{at}: the store answered {code or status}; try again")
    return StoreUnavailable(
        f"{at}: no answer from the store ({type(error).__name__}); check its endpoint and network"
    )
