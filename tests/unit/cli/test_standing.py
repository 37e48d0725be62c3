"""Where resources stand and how that is shown: pure, from manifests."""

import io
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from palimpsest.cli.errors import (
    CouldNotCheckError,
    ForbiddenError,
    GoneError,
    NotThereError,
    Request,
    missing,
    nearest,
    refusal,
)
from palimpsest.cli.standing import plain, standing
from palimpsest.cli.tables import (
    clean,
    details,
    line,
    listing,
    percent,
    plain_text,
    shares,
    span,
)
from rich.console import Console, RenderableType

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ARTIFACT = {"uri": "s3://outputs/x/manifest.json", "digest": "sha256:" + "a" * 64}


def manifest(kind: str = "SyntheticDataset", ready: str = "False", **status: Any) -> dict[str, Any]:
    """A resource that its operator has seen."""
    told = {"reason": "Running", "message": "The sample stage runs.", "lastTransitionTime": ""}
    conditions = [
        {"type": "Ready", "status": ready, **told},
        {"type": "Stalled", "status": "False", **told},
    ]
    return {
        "kind": kind,
        "metadata": {
            "namespace": "assistants",
            "name": "questions",
            "generation": 2,
            "creationTimestamp": "2026-01-01T10:30:00Z",
        },
        "spec": {},
        "status": {"observedGeneration": 2, "conditions": conditions, **status},
    }


def stage(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "state": "Running", **more}


def condition(kind: str, status: str) -> dict[str, str]:
    return {"type": kind, "status": status, "reason": "Because", "message": "Do this."}


@pytest.mark.parametrize(
    ("ready", "stalled", "state"),
    [
        ("True", "False", "Ready"),
        ("False", "False", "Reconciling"),
        ("Unknown", "False", "Reconciling"),
        ("False", "True", "Stalled"),
    ],
)
def test_states_are_those_of_kstatus(ready: str, stalled: str, state: str) -> None:
    raw = manifest(conditions=[condition("Ready", ready), condition("Stalled", stalled)])
    found = standing(raw, NOW)
    assert (found.state, found.reason, found.message) == (state, "Because", "Do this.")
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T11:00:00Z"
    assert standing(raw, NOW).state == "Terminating"


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"conditions": []}])
def test_what_no_operator_has_seen_is_not_ready(status: Any) -> None:
    raw = manifest(ready="True") | {"status": status}
    found = standing(raw, NOW)
    assert (found.state, found.reason) == ("Reconciling", "NotObserved")
    assert "see whether one runs" in found.message


def test_a_spec_that_changed_since_is_not_ready() -> None:
    raw = manifest(ready="True")
    raw["metadata"]["generation"] = 3
    assert standing(raw, NOW).state == "Reconciling"


def test_attempts_are_counted_where_they_can_be() -> None:
    private = stage("histogram", job=f"questions-histogram-{'0' * 16}-3")
    sharded, other = stage("sample", job=f"questions-sample-{'0' * 16}"), stage("select")
    raw = manifest(stages=[private, sharded, other])
    labels = [
        {"palimpsest.dev/stage": "sample", "batch.kubernetes.io/job-completion-index": index}
        for index in ("0", "1", "1")
    ]
    assert [each.attempts for each in standing(raw, NOW, labels).stages] == [3, 2, None]
    # Where pods may not be listed, or are gone, nothing is said.
    assert [each.attempts for each in standing(raw, NOW).stages] == [3, None, None]


def test_durations_go_on_until_a_stage_ends() -> None:
    begun = {"startTime": "2026-01-01T11:00:00Z"}
    ended = {**begun, "completionTime": "2026-01-01T11:08:04Z"}
    raw = manifest(stages=[stage("sample", **ended), stage("cluster", **begun), stage("select")])
    assert [each.seconds for each in standing(raw, NOW).stages] == [484, 3600, None]


def test_a_list_is_a_row_each_and_without_colours() -> None:
    raw = manifest(progress="2/6 stages", share="0.0642")
    told = plain_text(listing([standing(raw, NOW)], NOW)).splitlines()
    assert told[0].split() == [
        *("KIND", "NAMESPACE", "NAME", "PROGRESS", "SHARE", "STATUS", "AGE", "WHAT", "HELPS")
    ]
    assert re.split(" {2,}", told[1]) == [
        *("SyntheticDataset", "assistants", "questions", "2/6 stages", "6.42%", "Running"),
        *("1h30m", "The sample stage runs."),
    ]
    assert plain_text(listing([], NOW)) == "There is nothing to show."


def on_terminal(renderable: RenderableType, width: int) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=True, color_system=None).print(renderable)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def test_a_narrow_terminal_says_what_helps_beneath_the_table() -> None:
    raw = manifest(progress="2/6 stages")
    told = on_terminal(listing([standing(raw, NOW)], NOW), 80)
    assert re.split(" {2,}", told[1]) == [
        *("SyntheticDataset", "questions", "2/6 stages", "Running", "1h30m")
    ]
    assert told[2:] == ["SyntheticDataset/assistants/questions: The sample stage runs."]
    other = {**raw, "metadata": {**raw["metadata"], "namespace": "elsewhere"}}
    several = on_terminal(listing([standing(raw, NOW), standing(other, NOW)], NOW), 80)
    assert [line.split()[1] for line in several[:3]] == ["NAMESPACE", "assistants", "elsewhere"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_width_cuts_a_name_or_a_digest(width: int) -> None:
    raw = manifest(stages=[stage("sample", artifacts=[ARTIFACT])])
    raw["metadata"]["name"] = "questions-of-a-very-long-name-that-people-do-give"
    shown = "".join("".join(on_terminal(details(standing(raw, NOW), NOW), width)).split())
    assert "…" not in shown
    assert shown.count("a") >= 64


def test_a_ready_one_needs_no_help() -> None:
    found = standing(manifest(ready="True"), NOW)
    assert "The sample stage runs." not in plain_text(listing([found], NOW))


def test_details_name_stages_artifacts_and_the_guarantee() -> None:
    charge = {"state": "Committed", "share": "0.064"}
    stages = [stage("histogram", charge=charge, artifacts=[ARTIFACT]), stage("select")]
    raw = manifest(stages=stages, guarantee="(3.4, 1e-5)-DP.")
    told = plain_text(details(standing(raw, NOW), NOW)).splitlines()
    assert "histogram  Running" in "\n".join(told)
    assert "6.4%   Committed" in "\n".join(told)
    assert f"histogram  {ARTIFACT['uri']}  {ARTIFACT['digest']}" in told
    assert told[-1] == "(3.4, 1e-5)-DP."


def test_a_budget_shows_what_is_spent_and_what_is_held() -> None:
    held = {"committed": "0.467", "reserved": "0.064", "left": "0.469"}
    assert shares(standing(manifest("PrivacyBudget", shares=held), NOW)) == "46.7% + 6.4%"
    spent = {"committed": "0.467", "reserved": "0"}
    assert shares(standing(manifest("PrivacyBudget", shares=spent), NOW)) == "46.7%"


def test_markup_and_escapes_of_a_message_stay_text() -> None:
    raw = manifest(stages=[stage("sample", message="[bold]x[/bold] \x1b[2J\ny")])
    told = plain_text(details(standing(raw, NOW), NOW))
    assert "[bold]x[/bold]  [2J y" in told


def test_a_change_is_one_line() -> None:
    raw = manifest(progress="2/6 stages")
    raw["spec"]["suspend"] = True
    assert line(standing(raw, NOW)) == (
        "SyntheticDataset/assistants/questions  Running, suspended  2/6 stages  "
        "The sample stage runs."
    )


def test_for_machines_empty_figures_are_left_out() -> None:
    told = plain(standing(manifest(stages=[stage("sample")]), NOW))
    assert told["stages"] == [{"name": "sample", "state": "Running"}]
    assert "guarantee" not in told
    assert told["suspended"] is False


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0s"), (59.9, "59s"), (60, "1m00s"), (484, "8m04s"), (3661, "1h01m"), (90_000, "1d01h")],
)
def test_durations_are_short(seconds: float, told: str) -> None:
    assert span(seconds) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [("", ""), ("0", "0%"), ("0.467", "46.7%"), ("0.0001", "0.01%"), ("1", "100%"), ("?", "?")],
)
def test_shares_are_percent(share: str, told: str) -> None:
    assert percent(share) == told


def test_nothing_steers_the_terminal() -> None:
    assert clean("a\x1b[31m\r\nb\u202ec\u009bd") == "a [31m  b c d"


@pytest.mark.parametrize(
    ("status", "name", "kind", "told"),
    [
        (401, "", ForbiddenError, "renew them"),
        (403, "", ForbiddenError, "you may not list things.palimpsest.dev in namespace a"),
        (404, "", NotThereError, "is Palimpsest installed there"),
        (404, "x", NotThereError, "no things.palimpsest.dev x in namespace a"),
        (410, "", GoneError, "cannot list"),
        (500, "x", CouldNotCheckError, "cannot list things.palimpsest.dev x in namespace a: 500"),
    ],
)
def test_refusals_say_what_is_missing(
    status: int, name: str, kind: type[CouldNotCheckError], told: str
) -> None:
    found = refusal(Request("list", "things.palimpsest.dev", "a", name), status, "Reason")
    assert type(found) is kind
    assert told in found.format_message()
    assert found.exit_code == 2


def test_the_nearest_names_come_first() -> None:
    assert nearest("questoin", ["answers", "questions", "quests"])[0] == "questions"
    assert missing("SyntheticDataset", ["x"], []) == "no SyntheticDataset x; there is: none"
