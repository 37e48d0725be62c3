"""The spent figures count what was committed, at its worst, and are rounded up."""

from decimal import Decimal
from pathlib import Path

import pytest
from palimpsest.ledger import Journal
from palimpsest.privacy.accountant import epsilon_pld, epsilon_rdp
from palimpsest.privacy.mechanisms import Mechanism
from palimpsest.receipts import spending
from palimpsest.receipts.spending import committed, spent
from unit.ledger.folder_store import (
    DATA,
    HISTOGRAM,
    LIMIT,
    ORDER,
    URI,
    FolderStore,
    subject,
    task,
    training,
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    journal = Journal(FolderStore(tmp_path), URI)
    journal.open(DATA, LIMIT, ORDER)
    return journal


def charge(journal: Journal, number: int, basis: str | None, blocks: int = 2) -> None:
    # What completes has intended all of it.
    asked = training(steps=8 * blocks) if basis == "completed" else training()
    name = journal.reserve(subject(f"g{number}"), task(number), asked, 0, 8).id
    journal.start(name, 1)
    for block in range(blocks):
        journal.intent(name, 1, block, 8)
    match basis:
        case "completed" | "disrupted" | "full":
            journal.commit(name, basis)


def test_intended_steps_count_and_in_doubt_all(journal: Journal) -> None:
    charge(journal, 1, "completed")
    charge(journal, 2, "disrupted", blocks=1)
    charge(journal, 3, "full", blocks=1)
    charge(journal, 4, None)
    charge(journal, 5, "disrupted", blocks=0)
    assert committed(journal.state) == [training(steps=16 + 8 + 40)]


def test_both_accountants_answer_and_round_up(journal: Journal) -> None:
    charge(journal, 1, "completed")
    histogram = journal.reserve(subject("set"), task(9), HISTOGRAM).id
    journal.start(histogram, 1)
    journal.intent(histogram, 1, 0, 1)
    journal.commit(histogram, "completed")
    ran: list[Mechanism] = [training(steps=16), HISTOGRAM]
    figures = spent(journal.state)
    epsilon, order = epsilon_rdp(ran, 1e-5)
    assert 0 <= Decimal(figures.epsilon_rdp) - Decimal(epsilon) < Decimal("0.0001")
    assert float(figures.order_rdp) == pytest.approx(order)
    assert figures.epsilon_pld is not None
    second = Decimal(epsilon_pld(ran, 1e-5))
    assert 0 <= Decimal(figures.epsilon_pld) - second < Decimal("0.0001")
    assert Decimal(figures.epsilon_pld) < Decimal(figures.epsilon_rdp)
    assert figures.delta == "1e-5"


def test_without_the_second_accountant_its_figure_is_null(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    charge(journal, 1, "completed")
    # A program that says what the worker says where dp-accounting is not installed.
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert spending.spent(journal.state).epsilon_pld is None
