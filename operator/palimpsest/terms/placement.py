"""Where private pods run: what a tenant may choose, and what comes of it."""

from decimal import Decimal

from kubernetes.utils.quantity import parse_quantity

from palimpsest.api.budget import CustodyCompute
from palimpsest.api.common import PrivateCompute, ResourceRequirements, TrainingCompute

# Without a limit a container may take all of its node, whatever the custodian's cap.
_ALWAYS_LIMITED = ("cpu", "memory")
# A pod that goes beyond them ends with an outcome of its own, which a tenant who chose the limit
# could read as the size of the private data.
_TELLING = ("memory", "ephemeral-storage")


def placement_refusal(allowed: CustodyCompute, wanted: PrivateCompute, field: str) -> str:
    """Why `wanted`, found in the spec at `field`, goes beyond what the custodian lists."""
    return (
        _replicas(allowed, wanted, f"{field}.replicas")
        or _resources(allowed, wanted.resources, f"{field}.resources")
        or _labels(allowed, wanted, f"{field}.nodeSelector")
        or _others(allowed, wanted, field)
    )


def placed(allowed: CustodyCompute, wanted: PrivateCompute) -> PrivateCompute:
    """What a private pod gets: the tenant's choice completed by the custodian's."""
    limits, requests = dict(wanted.resources.limits), dict(wanted.resources.requests)
    for name in _TELLING:
        if name in limits and name in allowed.max_resources:
            # A limit that stands alone is what is asked for, too.
            requests.setdefault(name, limits[name])
            limits[name] = allowed.max_resources[name]
    for name in _ALWAYS_LIMITED:
        if name in allowed.max_resources:
            limits.setdefault(name, allowed.max_resources[name])
    runtime = wanted.runtime_class_name or next(iter(allowed.runtime_class_names), None)
    return wanted.model_copy(
        update={
            "resources": ResourceRequirements(requests=requests, limits=limits),
            "scratch": max(wanted.scratch, allowed.scratch or wanted.scratch, key=_amount),
            "node_selector": {**wanted.node_selector, **allowed.node_selector},
            "runtime_class_name": runtime,
        }
    )


def _replicas(allowed: CustodyCompute, wanted: PrivateCompute, field: str) -> str:
    if isinstance(wanted, TrainingCompute) and wanted.replicas > allowed.max_replicas:
        return (
            f"{field}: {wanted.replicas} is above the custodian's cap of {allowed.max_replicas} "
            "(custodian.compute.maxReplicas of the budget)"
        )
    return ""


def _resources(allowed: CustodyCompute, wanted: ResourceRequirements, field: str) -> str:
    for part, amounts in (("requests", wanted.requests), ("limits", wanted.limits)):
        for name, amount in amounts.items():
            cap = allowed.max_resources.get(name)
            if cap is not None and _amount(amount) > _amount(cap):
                return (
                    f"{field}.{part}: {amount} of {name} is above the custodian's cap of {cap} "
                    "(custodian.compute.maxResources of the budget)"
                )
    return ""


def _amount(quantity: str) -> Decimal:
    return Decimal(parse_quantity(quantity))


def _labels(allowed: CustodyCompute, wanted: PrivateCompute, field: str) -> str:
    choices = {label.key: label.values for label in allowed.node_labels}
    for key, value in wanted.node_selector.items():
        if value not in choices.get(key, ()):
            listed = ", ".join(f"{key}={each}" for each in choices.get(key, ())) or "none of it"
            return (
                f"{field}: {key}={value} is not among the node labels that the custodian lists "
                f"({listed}; custodian.compute.nodeLabels of the budget)"
            )
    return ""


def _others(allowed: CustodyCompute, wanted: PrivateCompute, field: str) -> str:
    for toleration in wanted.tolerations:
        if toleration not in allowed.tolerations:
            return (
                f"{field}.tolerations: a toleration of {toleration.key or 'every taint'} is not "
                "among those that the custodian lists (custodian.compute.tolerations of the budget)"
            )
    for name, value, values in (
        ("priorityClassName", wanted.priority_class_name, allowed.priority_class_names),
        ("runtimeClassName", wanted.runtime_class_name, allowed.runtime_class_names),
    ):
        if value is not None and value not in values:
            listed = ", ".join(values) or "none"
            return (
                f"{field}.{name}: {value} is not among those that the custodian lists ({listed}; "
                f"custodian.compute.{name}s of the budget)"
            )
    return ""
