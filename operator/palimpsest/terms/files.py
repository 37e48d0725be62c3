"""Which files a resource names to be read outside custody: none may lie among private data."""

from collections.abc import Mapping

from palimpsest.api.alignment import AlignmentRunSpec
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

    `private` has the data's URIs by their budgets' names. Only `own`, the budget that pays here, is
    named: what another is called is no tenant's business.
    """
    for field, uri in files.items():
        for budget, place in private.items():
            if uri.startswith(place):
                whose = f'PrivacyBudget "{budget}"' if budget == own else "another PrivacyBudget"
                return (
                    f"{field}: {uri} lies among the private data of {whose}; what is "
                    "read outside custody must be public: name another file"
                )
    return ""
