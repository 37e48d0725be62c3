"""What a user reads who applied something wrong: the field, and what to do."""

from __future__ import annotations

import pytest
from integration.admission.ground import World
from integration.admission.wrong import Server, Wrong
from integration.admission.wrong_manifests import WRONG


@pytest.fixture(scope="module")
def server(world: World) -> Server:
    made = Server(world)
    made.settle(world)
    return made


def _named(case: Wrong) -> str:
    return f"{'later-' if case.later else ''}{case.kind}-{'-'.join(case.changes)}"


@pytest.mark.parametrize("case", WRONG, ids=_named)
def test_the_api_server_says_what_is_wrong(server: Server, case: Wrong) -> None:
    assert server.put_to(case) == case.message


def test_every_message_names_a_field_that_was_changed() -> None:
    for case in WRONG:
        fields = {part for path in case.changes for part in path.split(".")[1:]} or {"spec"}
        assert any(field in case.message for field in fields), case


def test_a_budget_is_not_deleted_without_its_custodians_word(server: Server) -> None:
    assert server.delete_budget() == (
        'admission webhook "validate.palimpsest.dev" denied the request: PrivacyBudget '
        '"wrong-terms" is not deleted without its custodian\'s word; what is spent stays spent in '
        "the journal either way. To confirm: kubectl annotate privacybudget wrong-terms "
        "palimpsest.dev/confirm-delete=true"
    )
