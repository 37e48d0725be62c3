"""Which namespaces may charge a budget, with which models."""

from collections.abc import Mapping

from palimpsest.api.budget import PrivacyBudgetSpec
from palimpsest.api.common import ModelRef


def namespace_refusal(
    spec: PrivacyBudgetSpec, budget: str, namespace: str, labels: Mapping[str, str]
) -> str:
    """Why `namespace`, which carries `labels`, may not charge the budget."""
    allowed = spec.allowed_namespaces
    if namespace == spec.custodian.namespace:
        return (
            f"metadata.namespace: {namespace} is the custodian's own namespace; tenants' resources "
            "do not go there"
        )
    if namespace in allowed.names:
        return ""
    if allowed.selector and allowed.selector.match_labels.items() <= labels.items():
        return ""
    return (
        f'metadata.namespace: PrivacyBudget "{budget}" does not allow namespace {namespace}; its '
        "custodian lists those that may charge it in spec.allowedNamespaces"
    )


def model_refusal(spec: PrivacyBudgetSpec, budget: str, field: str, model: ModelRef) -> str:
    """Why `model` may not run beside the budget's data."""
    if model in spec.allowed_models:
        return ""
    return (
        f'{field}: {model.uri} is not one of the allowedModels of PrivacyBudget "{budget}" (URI '
        "and digest must both agree)"
    )
