"""Custom resources as the API server shows them, as models."""

from typing import Any, TypeVar

from pydantic import ValidationError

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator

Model = TypeVar("Model", PrivacyBudget, PrivateGenerator, SyntheticDataset, AlignmentRun)


def parse(model: type[Model], current: dict[str, Any]) -> Model:
    """The resource; a status of another version is a cache to be written anew.

    But for a budget's head: it is what remembers how long the journal was, so it outlives a status
    that cannot be read. Raises ValidationError for the spec.
    """
    spec, status = current["spec"], current.get("status")
    for kept in (status, _head(status)):
        try:
            return model.model_validate({"spec": spec, "status": kept})
        except ValidationError:
            continue
    return model.model_validate({"spec": spec})


def _head(status: Any) -> dict[str, Any] | None:
    return {"head": status["head"]} if isinstance(status, dict) and "head" in status else None
