"""What a store is entered with: keys, or a token that a token service gives keys for."""

import functools
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import botocore.session
from botocore.credentials import (
    AssumeRoleWithWebIdentityCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
)

from palimpsest.storage.errors import AccessDenied

ASSUME_ROLE = "AssumeRoleWithWebIdentity"
# Shown in the token service's log of who asked.
_ROLE_SESSION = "palimpsest"


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """A pair of keys that do not expire. Neither shows in a repr."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """A role, and the file with the token that proves who may assume it.

    The file is read at each renewal: whoever wrote it keeps it fresh. `token_endpoint` None means
    AWS's token service of the region.
    """

    role_arn: str
    token_file: Path
    token_endpoint: str | None


def load_keys(directory: str | Path) -> AccessKeys:
    """The keys of a mounted Secret. Raises ValueError naming the missing one."""
    values = []
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        try:
            value = (Path(directory) / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{directory}: cannot read {name}; mount a Secret with that key"
            ) from error
        if not value:
            raise ValueError(f"{directory}: {name} is empty; put the key into the Secret")
        values.append(value)
    return AccessKeys(*values)


# The description of a service takes 10 MB: all sessions read it through one loader.
_loader = functools.cache(lambda: botocore.session.get_session().get_component("data_loader"))


def session(
    credentials: AccessKeys | WebIdentity, region: str, ca_bundle: str | None
) -> boto3.session.Session:
    """A session that signs with these and no others, whatever the environment holds."""
    inner = botocore.session.get_session()
    inner.register_component("data_loader", _loader())
    provider = _Provider(inner, credentials, region, ca_bundle)
    inner.register_component("credential_provider", CredentialResolver([provider]))
    return boto3.session.Session(botocore_session=inner, region_name=region)


class _Provider(CredentialProvider):
    METHOD = "palimpsest"

    def __init__(
        self,
        inner: botocore.session.Session,
        credentials: AccessKeys | WebIdentity,
        region: str,
        ca_bundle: str | None,
    ) -> None:
        super().__init__()
        self._given = credentials
        # AWS's own token service is never signed by a private store's authority.
        own = isinstance(credentials, WebIdentity) and credentials.token_endpoint is not None
        self._client = functools.partial(
            inner.create_client, region_name=region, verify=ca_bundle if own else None
        )

    def load(self) -> Credentials | DeferredRefreshableCredentials:
        given = self._given
        if isinstance(given, AccessKeys):
            return Credentials(given.access_key, given.secret_key, method=self.METHOD)
        fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
            functools.partial(self._client, endpoint_url=given.token_endpoint),
            functools.partial(_token, given.token_file),
            given.role_arn,
            extra_args={"RoleSessionName": _ROLE_SESSION},
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)


def _token(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AccessDenied(
            f"{file}: no token to assume the role with; it is projected into the pod"
        ) from error
