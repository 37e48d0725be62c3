"""Resources whose status another version wrote."""

from typing import Any

import pytest
import samples
from palimpsest.api.budget import PrivacyBudget
from palimpsest.api.generator import PrivateGenerator
from palimpsest.reconcile.adapter.resources import parse
from pydantic import ValidationError

HEAD = {"sequence": 7, "digest": "sha256:" + "a" * 64}


def budget(status: Any) -> PrivacyBudget:
    spec = samples.budget()["spec"]
    return parse(PrivacyBudget, {"spec": spec, "status": status})


def test_a_status_is_read() -> None:
    found = budget({"head": HEAD, "summary": "Ready"}).status
    assert found is not None
    assert (found.summary, found.head is not None and found.head.sequence) == ("Ready", 7)


@pytest.mark.parametrize("other", [{"flavour": "new"}, {"shares": 3}, {"conditions": [{}]}])
def test_the_head_outlives_a_status_of_another_version(other: dict[str, Any]) -> None:
    found = budget({"head": HEAD, **other}).status
    assert found is not None
    assert found.head is not None
    assert found.head.model_dump() == HEAD


@pytest.mark.parametrize("status", [None, {}, {"flavour": "new"}, {"head": {"sequence": "x"}}])
def test_without_a_head_nothing_is_remembered(status: Any) -> None:
    found = budget(status).status
    assert found is None or found.head is None


def test_other_kinds_are_written_anew() -> None:
    spec = samples.generator()["spec"]
    assert parse(PrivateGenerator, {"spec": spec, "status": {"flavour": "new"}}).status is None


def test_a_wrong_spec_is_an_error() -> None:
    with pytest.raises(ValidationError):
        parse(PrivacyBudget, {"spec": {}, "status": {"head": HEAD}})
