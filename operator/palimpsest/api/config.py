"""The operator's configuration file, as the chart mounts it."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError

from .base import ApiModel, ObjectName
from .common import ShortText

CONFIG_VARIABLE = "PALIMPSEST_CONFIG"
DEFAULT_CONFIG = "/etc/palimpsest/config.yaml"


class StoreIdentity(ApiModel):
    """The operator's own identity at one store: reads manifests and journals, never records."""

    endpoint: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+$", max_length=253)]
    region: ShortText = "us-east-1"
    path_style: bool = True
    credentials: str = Field(description="Directory of the mounted Secret with the access keys.")
    ca_bundle: str | None = Field(None, description="PEM file, where the store's CA is private.")


class LeaseConfig(ApiModel):
    """The Lease that lets one replica reconcile."""

    namespace: ObjectName


class OperatorConfig(ApiModel):
    """What the chart's values tell the operator."""

    stage_image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="Image of every stage, by digest."
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    cluster: ShortText = Field(
        "", description="This cluster's name in journals; empty: the UID of namespace kube-system."
    )
    lease: LeaseConfig
    stores: list[StoreIdentity] = Field(min_length=1)

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
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in each['loc']) or 'document'}: {each['msg']}"
            for each in error.errors()
        )
        raise ValueError(f"{source}: {wrong}; correct the chart's values") from error


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
