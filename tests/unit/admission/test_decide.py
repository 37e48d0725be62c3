"""Whatever reaches the webhook, the answer is an AdmissionReview."""

from typing import Any

import pytest
import samples
from palimpsest.admission.cluster import ApiCluster
from palimpsest.admission.fit import Budget
from palimpsest.admission.server import FAILED, decide


class Unreachable(ApiCluster):
    """An API server that does not answer."""

    def __init__(self) -> None:
        pass

    def budget(self, name: str) -> Budget | None:
        raise ConnectionError(f"secret detail about {name}")


@pytest.mark.parametrize(
    "body",
    [None, [], {}, {"request": None}, {"request": {"uid": "u", "kind": 7}}, {"request": "x"}],
)
def test_nonsense_is_denied(body: Any) -> None:
    response = decide(body, Unreachable())["response"]
    assert response["allowed"] is False
    assert response["status"]["message"] == FAILED.message


def test_a_failing_look_up_is_a_denial_with_a_fixed_message() -> None:
    request = {
        "uid": "42",
        "kind": {"kind": "PrivateGenerator"},
        "operation": "CREATE",
        "namespace": "research",
        "name": "questions",
        "object": samples.generator(),
    }
    answer = decide({"request": request}, Unreachable())
    assert answer["response"] == {
        "uid": "42",
        "allowed": False,
        "status": {"code": 403, "reason": "Forbidden", "message": FAILED.message},
    }
