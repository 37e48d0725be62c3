"""Which namespaces may charge a budget."""

from __future__ import annotations

from typing import Any

import pytest
import samples
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ModelRef
from palimpsest.terms.tenants import model_refusal, namespace_refusal


def terms(**allowed: Any) -> PrivacyBudgetSpec:
    return PrivacyBudgetSpec.model_validate(samples.budget(allowedNamespaces=allowed)["spec"])


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "let_in"),
    [
        ({"names": ["research"]}, "research", {}, True),
        ({"names": ["research"]}, "other", {}, False),
        ({}, "research", {"team": "nlp"}, False),
        ({"selector": {"matchLabels": {"team": "nlp"}}}, "any", {"team": "nlp", "a": "b"}, True),
        ({"selector": {"matchLabels": {"team": "nlp"}}}, "any", {"team": "hr"}, False),
        ({"selector": {"matchLabels": {"a": "1", "b": "2"}}}, "any", {"a": "1"}, False),
        # Tenants' resources beside the private data's Secret: never.
        ({"names": ["custody"]}, "custody", {}, False),
        ({"selector": {"matchLabels": {"team": "nlp"}}}, "custody", {"team": "nlp"}, False),
    ],
)
def test_a_namespace_is_let_in_by_name_or_by_all_labels(
    allowed: dict[str, Any], namespace: str, labels: dict[str, str], let_in: bool
) -> None:
    message = namespace_refusal(terms(**allowed), "chat", namespace, labels)
    assert (message == "") == let_in
    if not let_in:
        assert message.startswith("metadata.namespace:")


def test_a_model_must_agree_in_uri_and_digest() -> None:
    known = ModelRef.model_validate(samples.MODEL)
    other = known.model_copy(update={"digest": "sha256:" + "b" * 64})
    assert model_refusal(terms(), "chat", "spec.baseModel", known) == ""
    assert model_refusal(terms(), "chat", "spec.baseModel", other).startswith("spec.baseModel: ")
