"""Costs and totals against dp-accounting, in a process of its own."""

from dataclasses import replace
from pathlib import Path

import pytest
from palimpsest.audit import accounting
from palimpsest.audit.findings import Code
from palimpsest.audit.journal import Replay
from palimpsest.audit.reference import Answer, Epsilons, ask
from palimpsest.ledger import Journal
from palimpsest.privacy.accountant import AccountantError, epsilon_rdp
from palimpsest.privacy.mechanisms import DiscreteGaussian
from unit.audit.ground import PLACE, MemoryStore, built, folder, opened, replayed
from unit.ledger.folder_store import subject, task, training


@pytest.fixture(scope="module")
def journal() -> Replay:
    return replayed(built(28))


@pytest.fixture(scope="module")
def answer(journal: Replay) -> Answer:
    return ask(accounting.question(journal))


def test_a_sound_journal_is_borne_out(journal: Replay, answer: Answer) -> None:
    assert {len(each.mechanism.model_dump()) for each in journal.priced} == {3, 5}
    assert accounting.judge_costs(journal, answer, PLACE) == []
    assert accounting.judge_total(journal.state, answer, PLACE) == []
    spent = accounting.spending(journal.state, answer)
    assert spent.reference.pld is not None
    assert 0 < spent.reference.pld < spent.own == pytest.approx(spent.reference.rdp, rel=1e-3)


def test_any_cost_that_is_off_by_a_millionth_is_found(journal: Replay, answer: Answer) -> None:
    for index, each in enumerate(journal.priced):
        for cost in (each.cost - each.cost // 10**6, each.cost + each.cost // 10**6):
            priced = (
                *journal.priced[:index],
                replace(each, cost=cost),
                *journal.priced[index + 1 :],
            )
            found = accounting.judge_costs(replace(journal, priced=priced), answer, PLACE)
            assert [finding.code for finding in found] == [Code.A001]
            assert found[0].place.endswith(f"{each.sequence:012d}.json")


def test_accountants_that_disagree_are_found(journal: Replay, answer: Answer) -> None:
    right = answer.groups[1]
    for wrong in (
        Epsilons(right.rdp * 0.99, right.pld),
        Epsilons(right.rdp * 1.1, right.pld),
        Epsilons(right.rdp, right.rdp + 0.1),
    ):
        told = replace(answer, groups=(answer.groups[0], wrong))
        found = accounting.judge_total(journal.state, told, PLACE)
        assert [finding.code for finding in found] == [Code.A002]


def test_more_than_the_limit_is_found(journal: Replay, answer: Answer) -> None:
    tight = replace(journal.state, epsilon="0.01")
    found = accounting.judge_total(tight, answer, PLACE)
    assert {finding.code for finding in found} == {Code.A003}


def test_a_gate_filled_to_the_brim_is_within_the_limit() -> None:
    store = MemoryStore()
    journal: Journal = opened(store)
    number = 0
    while journal.state.left > journal.state.price(training("1", 40)):
        number += 1
        charge = journal.reserve(subject(), task(number), training("1", 40), 0, 40)
        journal.start(charge.id, 1)
        journal.commit(charge.id, "full")
    found = replayed(folder(store))
    assert found.state.left < 0.3 * found.state.limit_units
    answer = ask(accounting.question(found))
    assert accounting.judge_costs(found, answer, PLACE) == []
    assert accounting.judge_total(found.state, answer, PLACE) == []


def test_nothing_spent_is_nothing() -> None:
    store = MemoryStore()
    opened(store)
    found = replayed(folder(store))
    answer = ask(accounting.question(found))
    assert answer == Answer((), (Epsilons(0.0, 0.0), Epsilons(0.0, 0.0)))
    assert accounting.judge_total(found.state, answer, PLACE) == []


def test_tiny_noise_leaves_pld_out_and_says_so() -> None:
    store = MemoryStore()
    journal = opened(store, epsilon="900")
    journal.reserve(subject(), task(), DiscreteGaussian(noiseMultiplier="0.2"))
    found = replayed(folder(store))
    answer = ask(accounting.question(found))
    assert answer.groups[0].pld is None
    assert answer.groups[0].rdp == pytest.approx(
        epsilon_rdp(accounting.standing(found.state), 1e-5)[0], rel=0.02
    )
    codes = [finding.code for finding in accounting.judge_total(found.state, answer, PLACE)]
    assert codes == [Code.A005]


def test_an_accountant_that_is_not_installed_is_said_so(
    journal: Replay, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hidden = "raise ModuleNotFoundError('No module named dp_accounting')"
    (tmp_path / "dp_accounting.py").write_text(hidden)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AccountantError, match="not installed"):
        ask(accounting.question(journal))
