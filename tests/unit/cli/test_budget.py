"""`palimpsest budget` on what was saved: who spent what, what is left, what would fit."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from palimpsest.api.budget import PrivacyBudget
from palimpsest.audit.journal import replay
from palimpsest.audit.spending import of_journal, of_status
from palimpsest.cli.main import commands
from palimpsest.ledger import Journal
from palimpsest.privacy.calibration import calibrate_noise
from palimpsest.privacy.mechanisms import PoissonSubsampledGaussian
from unit.audit.ground import (
    PLACE,
    MemoryStore,
    budget,
    built,
    folder,
    opened,
    replayed,
    resource,
)
from unit.cli.ground import Saved, save
from unit.ledger.folder_store import URI, subject, task, training


@pytest.fixture
def saved(tmp_path: Path) -> Saved:
    return save(tmp_path)


def show(*arguments: object) -> Result:
    keys = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    return CliRunner(env=keys).invoke(commands, ["budget", *map(str, arguments)])


def test_the_table_says_who_spent_what_and_what_is_left(saved: Saved) -> None:
    done = show(f"--journal={saved.journal}", "--width=60")
    assert done.exit_code == 0
    state = saved.made.state
    share = f"{state.committed / state.limit_units:.2%}"
    assert f"committed {share}   reserved 0.00%   left " in done.stdout
    row = next(each for each in done.stdout.splitlines() if each.startswith("PrivateGenerator"))
    assert row.split()[0] == "PrivateGenerator/team-a/generator"
    assert "DP-SGD, batch 256, 32 steps, noise 1 " in row
    assert row.split()[-2:] == ["Committed", share]
    assert "Would still fit: a training of epsilon " in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "│" in line) <= 60


def test_the_plot_ends_at_the_latest_time_whatever_the_last_entry_tells(tmp_path: Path) -> None:
    store = MemoryStore()
    charge = opened(store).reserve(subject(), task(), training())
    Journal(store, URI, lambda: datetime(2025, 12, 31, 23, tzinfo=UTC)).start(charge.id, 1)
    for name, data in folder(store).items():
        (tmp_path / name).write_bytes(data)
    drawn = show(f"--journal={tmp_path}", "--width=60").stdout
    assert drawn.split()[-2:] == ["2026-01-01T00:01", "2026-01-01T00:02"]


def test_for_machines(saved: Saved) -> None:
    told = json.loads(show(f"--journal={saved.journal}", "-o", "json").stdout)
    assert told == yaml.safe_load(show(f"--journal={saved.journal}", "-o", "yaml").stdout)
    assert told["order"] == saved.made.state.order
    assert [each["state"] for each in told["charges"]] == ["Committed"]
    assert len(told["history"]) == len(saved.made.objects)
    assert told["wouldFit"]["batchSize"] == 256
    assert told["notes"] == []


def test_what_would_fit_is_granted(saved: Saved) -> None:
    state = saved.made.state
    fit = of_journal("chat", replay(saved.made.objects, PLACE), budget(state)).fit
    assert fit.epsilon is not None
    records = 15_000
    noise = calibrate_noise(fit.epsilon, state.delta, records, fit.batch, fit.steps)
    training = PoissonSubsampledGaussian(
        batch=fit.batch, records=records, noiseMultiplier=noise, steps=fit.steps
    )
    assert state.price(training) <= state.left


def test_the_status_alone_says_nearly_the_same() -> None:
    whole = replayed(built(80))
    raw: Any = resource(whole.state)
    raw["spec"]["plan"] = {"trainings": [{"epsilon": "3", "batchSize": 256, "steps": 40}]}
    known = PrivacyBudget.model_validate({"spec": raw["spec"], "status": raw["status"]})
    journal, status = of_journal("chat", whole, known), of_status("chat", known)
    assert status is not None
    assert status.history == ()
    assert status.committed == pytest.approx(journal.committed, abs=1e-4)
    assert status.left == pytest.approx(journal.left, abs=1e-4)
    assert [each.subject for each in status.charges] == [
        each.subject for each in journal.charges[-len(status.charges) :]
    ]
    assert (
        (status.fit.batch, status.fit.steps) == (journal.fit.batch, journal.fit.steps) == (256, 40)
    )
    assert status.fit.epsilon is not None
    assert journal.fit.epsilon is not None
    assert float(status.fit.epsilon) == pytest.approx(float(journal.fit.epsilon), abs=0.02)


def test_a_budget_without_figures_has_no_account() -> None:
    known = budget(replayed(built(80)).state, shares=None)
    assert of_status("chat", known) is None


def test_a_journal_that_breaks_is_shown_up_to_there(saved: Saved) -> None:
    (saved.journal / "000000000003.json").write_bytes(b"{}")
    done = show(f"--journal={saved.journal}")
    assert done.exit_code == 0
    assert "The journal is not sound" in done.stdout
    assert "J003" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--journal=/does/not/exist"], "/does/not/exist"),
        (["--journal=s3://private/"], "--journal"),
        (["--journal=s3://private/chat/"], "no keys"),
        (["--journal=x", "chat"], "not both"),
        (["--budget-file=x"], "--journal"),
        (["--kubeconfig=/does/not/exist"], "no cluster"),
        (["--kubeconfig=/does/not/exist"], "or --journal to work without a cluster"),
        (["--journal=x", "--width=0"], "--width"),
        (["--journal=x", "--endpoint=x"], "--endpoint"),
    ],
)
def test_bad_options_are_named_and_never_a_traceback(arguments: list[str], named: str) -> None:
    done = show(*arguments)
    assert done.exit_code == 2
    assert named in done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_an_empty_folder_is_no_journal(tmp_path: Path) -> None:
    done = show(f"--journal={tmp_path}")
    assert done.exit_code == 2
    assert "there is no journal" in done.output
