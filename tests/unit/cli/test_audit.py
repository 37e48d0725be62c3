"""`palimpsest audit`: the largest bound that can be proved, claims beyond it, published figures."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from palimpsest.api.audit import AuditParameters
from palimpsest.cli.main import commands
from palimpsest.privacy.audits import judge

TRAINING = ["--records", "15000", "--batch-size", "256", "--steps", "24", "--delta", "1e-5"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["audit", *arguments])


def power(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = run("power", *TRAINING, *arguments, "-o", "json")
    figures: dict[str, Any] = json.loads(done.stdout)
    return done.exit_code, figures


def test_without_a_number_it_takes_the_canaries_that_the_claim_needs() -> None:
    code, figures = power("--claim", "3")
    assert (code, figures["power"]) == (0, True)
    assert figures["canaries"] == figures["canariesNeeded"] == 525
    assert figures["errorlessGuessesNeeded"] == 62
    assert figures["includedGuesses"] == 63
    assert float(figures["largestProvable"]) >= 3
    assert power("--claim", "8")[1]["errorlessGuessesNeeded"] == 8932


def test_a_claim_beyond_the_largest_bound_is_refused_with_what_would_do() -> None:
    done = run("power", *TRAINING, "--claim", "3", "--canaries", "524")
    assert done.exit_code == 1
    assert "power                   no" in done.output
    assert "a claim of 3 is beyond what 524 canaries can refute: take 525" in done.output
    done = run("power", *TRAINING, "--claim", "12")
    assert done.exit_code == 1
    assert "no 100000 do at this rate and delta" in done.output


def test_a_higher_confidence_needs_more_canaries() -> None:
    _, usual = power("--claim", "2")
    _, sure = power("--claim", "2", "--confidence", "0.999")
    assert sure["canariesNeeded"] > usual["canariesNeeded"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--claim", "3", "--confidence", "0.5"], "at least 0.8"),
        (["--claim", "3", "--confidence", "1"], "below 1"),
        (["--claim", "NaN"], "no plain decimal"),
        (["--claim", "3", "--canaries", "100001"], "100000"),
        (["--claim", "3", "--batch-size", "15001"], "must not exceed --records"),
        ([], "--claim"),
    ],
)
def test_figures_out_of_bounds_are_said(arguments: list[str], said: str) -> None:
    done = run("power", *TRAINING, *arguments)
    assert done.exit_code == 2
    assert said in done.output


def published(folder: Path, **changes: Any) -> Path:
    audit = AuditParameters(
        canaries=525,
        included_guesses=63,
        excluded_guesses=0,
        epsilon="3",
        delta="1e-5",
        confidence="0.95",
    )
    result = judge(audit, 50).model_dump(by_alias=True) | changes
    path = folder / "audit.json"
    path.write_text(json.dumps(result))
    return path


def test_a_published_audit_is_computed_again(tmp_path: Path) -> None:
    done = run("check", str(published(tmp_path)), "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["verdict"] == "Passed"


@pytest.mark.parametrize(
    "change", [{"bound": "0.1"}, {"correct": 51}, {"largestProvable": "9"}, {"confidence": "0.99"}]
)
def test_edited_figures_are_found(tmp_path: Path, change: dict[str, Any]) -> None:
    done = run("check", str(published(tmp_path, **change)))
    assert done.exit_code == 1
    assert "do not follow" in done.output


@pytest.mark.parametrize("change", [{"correct": 99}, {"version": 2}, {"canaries": "many"}])
def test_what_is_no_audit_is_said(tmp_path: Path, change: dict[str, Any]) -> None:
    done = run("check", str(published(tmp_path, **change)))
    assert done.exit_code == 2
    assert "no audit.json of this version" in done.output


def test_help_teaches() -> None:
    for arguments in ([], ["power"], ["check"]):
        done = run(*arguments, "-h")
        assert done.exit_code == 0
        assert "audit" in done.output.lower()
