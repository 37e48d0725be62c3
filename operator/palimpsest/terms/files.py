"""What is named outside custody, to be read there or released to: never where private data is."""

from collections.abc import Mapping
from posixpath import normpath

from palimpsest.api.alignment import AlignmentRunSpec
from palimpsest.api.base import JOURNAL_ROOT
from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.dataset import SyntheticDatasetSpec


def files_of_dataset(spec: SyntheticDatasetSpec) -> dict[str, str]:
    """URIs by their fields."""
    human = spec.annotation.human if spec.annotation else None
    if human is None or human.answers is None:
        return {}
    return {"spec.annotation.human.answers.uri": human.answers.uri}


def files_of_run(spec: AlignmentRunSpec) -> dict[str, str]:
    """URIs by their fields."""
    files = {}
    if spec.evaluation:
        files["spec.evaluation.prompts"] = spec.evaluation.prompts
    if spec.dpo and spec.dpo.preferences:
        files["spec.dpo.preferences.uri"] = spec.dpo.preferences.uri
    if spec.reward and spec.reward.trained:
        files["spec.reward.trained.preferences.uri"] = spec.reward.trained.preferences.uri
    return files


def private_file_refusal(files: Mapping[str, str], private: Mapping[str, str], own: str) -> str:
    """Why one of the `files` may not be read, if it lies among any budget's private data.

    `private` has the data's URIs by their budgets' names. Beside the records the journals' folder
    of their bucket counts. Only `own`, the budget that pays here, is named: what another is called
    is no tenant's business. URIs alone are compared, whatever endpoint leads to them.
    """
    for field, uri in files.items():
        for budget, data in private.items():
            journals = f"s3://{_place(data)[0]}/{JOURNAL_ROOT}/"
            if _within(uri, data) or _within(uri, journals):
                whose = f'PrivacyBudget "{budget}"' if budget == own else "another PrivacyBudget"
                return (
                    f"{field}: {uri} lies among the private data of {whose}; what is "
                    "read outside custody must be public: name another file"
                )
    return ""


def overlap_refusal(spec: PrivacyBudgetSpec) -> str:
    """Why a budget may not release where its private data lies, or around it, if it would."""
    data, releases = spec.dataset.uri, spec.releases.uri
    if _within(data, releases) or _within(releases, data):
        return (
            "spec.releases.uri: must not overlap spec.dataset.uri; releases leave custody, "
            "private data never does"
        )
    return ""


def _within(uri: str, place: str) -> bool:
    """Whether one lies in the other, by detours (`.`, `..`) too, which some stores take."""
    (bucket, path), (held, prefix) = _place(uri), _place(place)
    return bucket == held and path.startswith(prefix)


def _place(uri: str) -> tuple[str, str]:
    """(bucket, `/path/`), the path without detours; "/" is all of the bucket."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    path = normpath(f"/{key}").strip("/")
    return bucket, f"/{path}/" if path else "/"
