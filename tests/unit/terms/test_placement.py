"""Where a tenant may place private pods: what the custodian lists, and nothing else."""

from __future__ import annotations

import pytest
from palimpsest.api.budget import CustodyCompute
from palimpsest.api.common import PrivateCompute
from palimpsest.terms.placement import placed, placement_refusal

ALLOWED = CustodyCompute.model_validate(
    {
        "nodeSelector": {"custody": "yes"},
        "nodeLabels": [{"key": "gpu", "values": ["a100", "h100"]}],
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassNames": ["batch"],
        "runtimeClassNames": ["sandbox", "native"],
        "maxResources": {"memory": "16Gi", "cpu": "4", "nvidia.com/gpu": "1"},
    }
)


def wanted(**fields: object) -> PrivateCompute:
    return PrivateCompute.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"nodeSelector": {"gpu": "t4"}}, "gpu=t4 is not among the node labels"),
        ({"nodeSelector": {"zone": "a"}}, "none of it"),
        ({"tolerations": [{"operator": "Exists"}]}, "a toleration of every taint"),
        ({"tolerations": [{"key": "gpu", "operator": "Exists"}]}, "a toleration of gpu"),
        ({"priorityClassName": "system-node-critical"}, "priorityClassName"),
        ({"runtimeClassName": "kata"}, "(sandbox, native;"),
        ({"resources": {"requests": {"memory": "16385Mi"}}}, "cap of 16Gi"),
        ({"resources": {"limits": {"cpu": "4001m"}}}, "limits: 4001m of cpu"),
        ({"resources": {"limits": {"nvidia.com/gpu": "8"}}}, "cap of 1 "),
    ],
)
def test_what_the_custodian_does_not_list_is_refused_by_field(
    fields: dict[str, object], named: str
) -> None:
    message = placement_refusal(ALLOWED, wanted(**fields), "spec.compute")
    assert message.startswith("spec.compute.")
    assert named in message
    assert "custodian.compute." in message


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"nodeSelector": {"gpu": "h100"}, "priorityClassName": "batch"},
        {"tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]},
        {"resources": {"requests": {"memory": "16384Mi", "cpu": "4000m"}}},
        {"resources": {"limits": {"example.com/tpu": "8"}}},
    ],
)
def test_what_the_custodian_lists_is_let_through(fields: dict[str, object]) -> None:
    assert placement_refusal(ALLOWED, wanted(**fields), "spec.compute") == ""


def test_a_custodian_who_lists_nothing_lets_nothing_be_chosen() -> None:
    nothing = CustodyCompute()
    for fields in (
        {"nodeSelector": {"a": "b"}},
        {"tolerations": [{"key": "a"}]},
        {"priorityClassName": "a"},
        {"runtimeClassName": "a"},
    ):
        assert placement_refusal(nothing, wanted(**fields), "spec.compute")


def test_the_custodians_choice_completes_and_outranks_the_tenants() -> None:
    got = placed(ALLOWED, wanted(nodeSelector={"gpu": "h100", "custody": "no"}))
    assert got.node_selector == {"gpu": "h100", "custody": "yes"}
    assert got.runtime_class_name == "sandbox"
    # A container without a limit would have the whole node.
    assert got.resources.limits == {"memory": "16Gi", "cpu": "4"}
    assert placed(ALLOWED, wanted(runtimeClassName="native")).runtime_class_name == "native"


def test_no_limit_of_a_tenant_s_can_feel_for_the_size_of_the_private_data() -> None:
    caps = {"memory": "16Gi", "ephemeral-storage": "100Gi", "cpu": "4"}
    allowed = CustodyCompute.model_validate({"maxResources": caps, "scratch": "64Gi"})
    small = {"memory": "700Mi", "ephemeral-storage": "123457k", "cpu": "1"}
    alone = {"requests": {}, "limits": small}
    got = placed(allowed, wanted(resources=alone, scratch="9Gi"))
    assert got.resources.limits == {**caps, "cpu": "1"}
    # The scheduler finds room for as much as before.
    assert got.resources.requests == {key: small[key] for key in ("memory", "ephemeral-storage")}
    assert got.scratch == "64Gi"
    asked = {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    assert placed(allowed, wanted(resources=asked)).resources.requests == {"memory": "1Gi"}
    assert placed(allowed, wanted(scratch="65Gi")).scratch == "65Gi"
    assert placed(CustodyCompute(), wanted(scratch="9Gi")).scratch == "9Gi"
