"""What lies among private data, however it is spelled."""

from __future__ import annotations

import pytest
import samples
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.ledger.nesting import entry
from palimpsest.terms.files import overlap_refusal, private_file_refusal

PRIVATE = {"support": "s3://private/support/", "all": "s3://everything/"}


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("s3://private/support/part-0.jsonl", True),
        ("s3://private/support", True),
        ("s3://private/other/../support/part-0.jsonl", True),
        ("s3://private/./support/part-0.jsonl", True),
        ("s3://private/../support/part-0.jsonl", True),
        ("s3://private/.palimpsest/support/reports/1.json", True),
        ("s3://everything/public.jsonl", True),
        ("s3://private/support-public/part-0.jsonl", False),
        ("s3://private/support/../public.jsonl", False),
        ("s3://privates/support/part-0.jsonl", False),
        ("s3://outputs/.palimpsest/1.json", False),
    ],
)
def test_a_file_is_private_wherever_stores_may_find_it_there(uri: str, refused: bool) -> None:
    said = private_file_refusal({"spec.evaluation.prompts": uri}, PRIVATE, "support")
    assert said.startswith(f"spec.evaluation.prompts: {uri} lies among") == refused
    assert bool(said) == refused


def test_a_journal_is_no_public_file() -> None:
    uri = entry(PRIVATE["support"], 0)
    assert private_file_refusal({"spec.evaluation.prompts": uri}, PRIVATE, "support")


@pytest.mark.parametrize(
    ("data", "releases", "refused"),
    [
        ("s3://a-bucket/d/", "s3://a-bucket/d/", True),
        ("s3://a-bucket/d/", "s3://a-bucket/d/r/", True),
        ("s3://a-bucket/r/d/", "s3://a-bucket/r/", True),
        ("s3://a-bucket/d/", "s3://a-bucket/", True),
        ("s3://a-bucket/d/", "s3://a-bucket/data/", False),
        ("s3://a-bucket/d/", "s3://another/d/", False),
    ],
)
def test_releases_go_where_no_private_data_is(data: str, releases: str, refused: bool) -> None:
    spec = samples.budget()
    spec = samples.changed(spec, "spec.dataset.uri", data)
    spec = samples.changed(spec, "spec.releases.uri", releases)
    said = overlap_refusal(PrivacyBudgetSpec.model_validate(spec["spec"]))
    assert said.startswith("spec.releases.uri") == refused
