"""The operator's configuration file, as the chart mounts it."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from .base import ApiModel, Duration, ObjectName, duration, faults
from .common import Encryption, Endpoint, RoleArn, ShortText

CONFIG_VARIABLE = "PALIMPSEST_CONFIG"
DEFAULT_CONFIG = "/etc/palimpsest/config.yaml"


class StoreIdentity(ApiModel):
    """The operator's own identity at one store: reads manifests and journals, never records."""

    endpoint: Endpoint
    region: ShortText = "us-east-1"
    path_style: bool = True
    credentials: str | None = Field(
        None, description="Directory of the mounted Secret with the access keys."
    )
    role_arn: RoleArn | None = Field(None, description="Role to assume, in place of access keys.")
    token_file: str | None = Field(None, description="File with the token to assume it with.")
    token_endpoint: Endpoint | None = None
    ca_bundle: str | None = Field(None, description="PEM file, where the store's CA is private.")
    sse: Encryption | None = Field(None, description="Encryption to ask for what is written.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        role = self.role_arn is not None and self.token_file is not None
        if role == (self.credentials is not None):
            raise ValueError("give credentials, or roleArn and tokenFile")
        return self


class LeaseConfig(ApiModel):
    """The Lease that lets one replica reconcile."""

    namespace: ObjectName


class AdmissionCertificates(ApiModel):
    """The admission webhook's certificates, where the operator keeps them."""

    names: list[Annotated[str, StringConstraints(min_length=1, max_length=253)]] = Field(
        min_length=1, description="DNS names and IP addresses that API servers call."
    )
    ca_lifetime: Duration = "87600h"
    leaf_lifetime: Duration = "2160h"
    renew_after_percent: int = Field(66, ge=10, le=90, description="Part of a life, in percent.")
    trust_wait: Duration = Field("60s", description="From publishing a CA to using it.")
    retire_wait: Duration = Field(
        "1h", description="From the last leaf of a CA to trusting it no longer."
    )

    @model_validator(mode="after")
    def _lives_outlast_waits(self) -> Self:
        left = 1 - self.renew_after_percent / 100
        authority, leaf = duration(self.ca_lifetime), duration(self.leaf_lifetime)
        trust, retire = duration(self.trust_wait), duration(self.retire_wait)
        if leaf > authority * left:
            raise ValueError(
                f"leafLifetime: must be at most {100 - self.renew_after_percent}% of caLifetime, "
                "which a CA still lives when it is replaced"
            )
        if trust >= leaf * left:
            raise ValueError(
                f"trustWait: must be below {100 - self.renew_after_percent}% of leafLifetime, "
                "which a leaf still lives when it is renewed"
            )
        if trust + retire >= authority * left:
            raise ValueError(
                f"retireWait: with trustWait it must be below {100 - self.renew_after_percent}% "
                "of caLifetime"
            )
        return self


class OperatorConfig(ApiModel):
    """What the chart's values tell the operator."""

    stage_image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="Image of every stage, by digest."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    cluster: ShortText = Field(
        "", description="This cluster's name in journals; empty: the UID of namespace kube-system."
    )
    hub_endpoint: Annotated[str, StringConstraints(max_length=253)] = Field(
        "", description="URL of the model hub for stages outside custody; empty: huggingface.co."
    )
    lease: LeaseConfig
    stores: list[StoreIdentity] = Field(min_length=1)
    admission_certificates: AdmissionCertificates | None = Field(
        None, description="Absent: somebody else keeps the admission webhook's certificates."
    )

    def store(self, endpoint: str) -> StoreIdentity | None:
        """The operator's identity at `endpoint`, if the chart gave it one."""
        wanted = endpoint.rstrip("/")
        return next((each for each in self.stores if each.endpoint == wanted), None)


def parse_config(text: str, source: str) -> OperatorConfig:
    """The configuration in a YAML text. Raises ValueError naming `source` and every wrong field."""
    try:
        return OperatorConfig.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ValueError(f"{source}: {faults(error)}; correct the chart's values") from error


def load_config(path: str | Path) -> OperatorConfig:
    """The configuration in a file. Raises ValueError naming file and fields."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({type(error).__name__}); set {CONFIG_VARIABLE} to the "
            "operator's configuration file"
        ) from error
    return parse_config(text, str(path))
