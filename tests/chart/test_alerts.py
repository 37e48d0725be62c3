"""Each alert fires when it must, is silent when all is well, and ends: promtool on our rules.

promtool gets the rules without annotations, which `promtool check` parses; that these speak of
labels that the alert has is looked at here.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart.queries import check_selectors
from chart.test_templates import CHART
from cluster import packages

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
RULES = yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]
# As annotations name it.
LABEL = re.compile(r"\{\{ \$labels\.(\w+) \}\}")
Json = dict[str, Any]
Series = dict[str, str]


def by_alert() -> dict[str, list[Json]]:
    """The alerts' rules: one, or one for each severity, the mildest first."""
    found: dict[str, list[Json]] = {}
    for group in RULES:
        for rule in group["rules"]:
            if "alert" in rule:
                found.setdefault(rule["alert"], []).append(rule)
    return found


ALERTS = by_alert()


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, a sample an `interval`: `bad` ones fire at `at` with `labels`
    and are well again at `after`; `good` ones are silent at `at`. Those `severities` fire; empty:
    all that the alert has."""

    bad: Series
    at: str
    after: str
    good: Series
    labels: Json = field(default_factory=dict)
    interval: str = "1m"
    severities: tuple[str, ...] = ()


LEFT = 'palimpsest_privacybudget_share{privacybudget="b",state="left"}'
OLDEST = 'palimpsest_privacybudget_oldest_reservation_timestamp_seconds{privacybudget="b"}'
EXPIRY = 'palimpsest_admission_certificate_expiry_timestamp_seconds{certificate="leaf"}'
DECISIONS = 'palimpsest_admission_decisions_total{kind="PrivacyBudget",operation="CREATE",'
FAILED = DECISIONS + 'outcome="failed",reason="Failed"}'
ALLOWED = DECISIONS + 'outcome="allowed",reason="Allowed"}'
STARTED = 'process_start_time_seconds{job="palimpsest",instance="a:8080"}'
BUILT = 'palimpsest_build_info{job="palimpsest",instance="a:8080",component="operator"}'
LEADER = 'palimpsest_leader_election_master_status{name="palimpsest-operator",pod="%s"}'
ERRORS = 'palimpsest_controller_reconcile_errors_total{controller="PrivateGenerator"}'
RECONCILES = 'palimpsest_controller_reconcile_total{controller="PrivateGenerator",result="success"}'
LONGEST = "palimpsest_workqueue_longest_running_processor_seconds"
DEPTH = "palimpsest_workqueue_depth"
COMMITS = 'palimpsest_charge_commits_total{mechanism="poisson-subsampled-gaussian",basis="%s"}'
FAILURES = 'palimpsest_stage_failures_total{stage="%s",reason="%s"}'
STORE_ERRORS = 'palimpsest_objectstore_errors_total{operation="get",class="Unavailable"}'
STORE_CALLS = 'palimpsest_objectstore_operations_total{operation="get"}'
PROGRESS = (
    'palimpsest_stage_progress_ratio{kind="SyntheticDataset",namespace="n",name="d",stage="sample"}'
)
CONFLICTS = "palimpsest_ledger_conflicts_total"


def took(bound: str) -> str:
    return f'palimpsest_admission_time_seconds_bucket{{kind="PrivacyBudget",le="{bound}"}}'


CASES: dict[str, tuple[Case, ...]] = {
    "PalimpsestOperatorAbsent": (
        Case(
            bad={'palimpsest_build_info{component="operator"}': "_x30 1x60"},
            at="15m",
            after="40m",
            good={'palimpsest_build_info{component="operator"}': "1x60"},
            labels={"component": "operator"},
        ),
    ),
    "PalimpsestOperatorRestarting": (
        Case(  # Scraped for a minute, away for five, over and over.
            bad={
                STARTED: " ".join(f"{start}x1 stale _x4" for start in range(6)) + " 6x150",
                BUILT: "1x1 stale _x4 " * 6 + "1x150",
            },
            at="40m",
            after="150m",
            good={
                # Two pods of a rollout, and one that ended twice; admission is no operator.
                STARTED: "1x10 2x10 3x80",
                BUILT: "1x100",
                STARTED.replace("a:8080", "b:8080"): "4x100",
                BUILT.replace("a:8080", "b:8080"): "1x100",
                STARTED.replace("a:8080", "c:8080"): "0+1x100",
                BUILT.replace("a:8080", "c:8080").replace("operator", "admission", 1): "1x100",
            },
            labels={"job": "palimpsest", "instance": "a:8080"},
        ),
        Case(  # Up for nine minutes each time, so hardly ever absent for ten.
            bad={
                STARTED: " ".join(f"{start}x9 stale _x4" for start in range(8)),
                BUILT: "1x9 stale _x4 " * 8,
            },
            at="70m",
            after="200m",
            good={STARTED: "1x100", BUILT: "1x100"},
            labels={"job": "palimpsest", "instance": "a:8080"},
        ),
    ),
    "PalimpsestOperatorNotLeading": (
        Case(
            bad={LEADER % "a": "0x30 1x30", LEADER % "b": "0x60"},
            at="10m",
            after="45m",
            good={LEADER % "a": "1x60", LEADER % "b": "0x60"},
        ),
    ),
    "PalimpsestReconcileErrors": (
        Case(
            bad={ERRORS: "0+5x60 300x60", RECONCILES: "0+10x120"},
            at="30m",
            after="90m",
            good={ERRORS: "0+0.5x120", RECONCILES: "0+10x120"},
            labels={"controller": "PrivateGenerator"},
        ),
    ),
    "PalimpsestQueueStuck": (
        Case(
            bad={DEPTH: "5x40 0x60", RECONCILES: "10x120"},
            at="20m",
            after="60m",
            good={DEPTH: "5x120", RECONCILES: "0+1x120"},
        ),
        Case(
            bad={LONGEST: "0+60x40 0x60"},
            at="35m",
            after="60m",
            good={LONGEST: "0+20x120"},
        ),
    ),
    "PalimpsestAdmissionAbsent": (
        Case(
            bad={'palimpsest_build_info{component="admission"}': "_x30 1x60"},
            at="15m",
            after="40m",
            good={'palimpsest_build_info{component="admission"}': "1x60"},
            labels={"component": "admission"},
        ),
    ),
    "PalimpsestAdmissionFailing": (
        Case(
            bad={FAILED: "0x5 3x60"},
            at="15m",
            after="60m",
            good={
                FAILED: "3x60",
                ALLOWED: "0+1x60",
                # Whoever reaches the port: API servers ask about our kinds alone.
                FAILED.replace("PrivacyBudget", "other"): "0+1x60",
            },
        ),
    ),
    "PalimpsestAdmissionSlow": (
        Case(
            bad={
                took("1"): "0x60 0+10x120",
                took("5"): "0+10x180",
                took("+Inf"): "0+10x180",
            },
            at="30m",
            after="120m",
            good={took("1"): "0+10x180", took("5"): "0+10x180", took("+Inf"): "0+10x180"},
        ),
    ),
    "PalimpsestCertificateExpiring": (
        Case(
            bad={EXPIRY: "600000x120 9000000x120"},
            at="70m",
            after="180m",
            good={EXPIRY: "9000000x240"},
            labels={"certificate": "leaf"},
            severities=("ticket",),
        ),
        Case(  # More than a day: nobody is woken.
            bad={EXPIRY: "95000x120 9000000x120"},
            at="70m",
            after="180m",
            good={EXPIRY: "610000x240"},
            labels={"certificate": "leaf"},
            severities=("ticket",),
        ),
        Case(
            bad={EXPIRY: "86000x120 9000000x120"},
            at="70m",
            after="180m",
            good={EXPIRY: "610000x240"},
            labels={"certificate": "leaf"},
        ),
    ),
    "PalimpsestBudgetNearlySpent": (
        Case(
            bad={LEFT: "0.05x30 0.5x30"},
            at="20m",
            after="45m",
            good={LEFT: "0.1x60", LEFT.replace("left", "committed"): "0.01x60"},
            labels={"privacybudget": "b", "state": "left"},
        ),
    ),
    "PalimpsestBudgetSpentSoon": (
        Case(
            bad={LEFT: "1-0.005x100 0.5x200"},
            at="100h",
            after="299h",
            good={LEFT: "1-0.0001x300"},
            labels={"privacybudget": "b", "state": "left"},
            interval="1h",
        ),
    ),
    "PalimpsestLedgerNotVerified": (
        Case(
            bad={'palimpsest_budget_ledger_verified{privacybudget="b"}': "1x5 0x10 1x20"},
            at="10m",
            after="30m",
            good={'palimpsest_budget_ledger_verified{privacybudget="b"}': "1x40"},
            labels={"privacybudget": "b"},
        ),
    ),
    "PalimpsestLedgerConflictsHigh": (
        Case(
            bad={CONFLICTS: "0+1x90 90x120"}, at="90m", after="200m", good={CONFLICTS: "0+0.2x200"}
        ),
    ),
    "PalimpsestChargeWithoutRelease": (
        Case(
            bad={COMMITS % "full": "0x5 1x120"},
            at="10m",
            after="110m",
            good={COMMITS % "completed": "0+1x120", COMMITS % "full": "1x120"},
            labels={"mechanism": "poisson-subsampled-gaussian", "basis": "full"},
        ),
    ),
    "PalimpsestReservationHeld": (
        Case(
            bad={OLDEST: "0x60 200000x60"},
            at="55h",
            after="70h",
            good={OLDEST: "100000x60"},
            labels={"privacybudget": "b"},
            interval="1h",
        ),
        Case(  # It ends with what was held, too.
            bad={OLDEST: "0x60 stale"},
            at="55h",
            after="70h",
            good={},
            labels={"privacybudget": "b"},
            interval="1h",
        ),
    ),
    "PalimpsestObjectStoreErrors": (
        Case(
            bad={STORE_ERRORS: "0+5x60 300x60", STORE_CALLS: "0+10x120"},
            at="30m",
            after="100m",
            good={STORE_ERRORS: "0+0.1x120", STORE_CALLS: "0+10x120"},
            labels={"class": "Unavailable"},
        ),
    ),
    "PalimpsestStageFailing": (
        Case(
            bad={FAILURES % ("sample", "Interrupted"): "0 1 1 2 2 3x120"},
            at="10m",
            after="110m",
            good={FAILURES % ("sample", "Interrupted"): "0x5 1x120"},
            labels={"stage": "sample", "reason": "Interrupted"},
        ),
    ),
    "PalimpsestAuditFailed": (
        Case(
            bad={FAILURES % ("train", "AuditFailed"): "0x5 1x120"},
            at="10m",
            after="110m",
            good={
                FAILURES % ("train", "AuditFailed"): "1x120",
                FAILURES % ("train", "Interrupted"): "0x5 1x120",
            },
        ),
    ),
    "PalimpsestStageStuck": (
        Case(
            bad={PROGRESS: "0.5x200 0.6+0.001x100"},
            at="170m",
            after="260m",
            good={PROGRESS: "0+0.002x300"},
            labels={
                "kind": "SyntheticDataset",
                "namespace": "n",
                "name": "d",
                "stage": "sample",
            },
        ),
    ),
}


def groups(alert: str, case: Case) -> list[Json]:
    """promtool's: it fires, it ends, it is silent."""
    severities = [rule["labels"]["severity"] for rule in ALERTS[alert]]
    firing = [
        {"exp_labels": {**case.labels, "severity": each}}
        for each in severities
        if each in (case.severities or severities)
    ]

    def group(what: str, series: Series, moment: str, expected: list[Json]) -> Json:
        return {
            "name": f"{alert} {what}",
            "interval": case.interval,
            "input_series": [{"series": name, "values": told} for name, told in series.items()],
            "alert_rule_test": [{"eval_time": moment, "alertname": alert, "exp_alerts": expected}],
        }

    return [
        group("fires", case.bad, case.at, firing),
        group("ends", case.bad, case.after, []),
        group("is silent", case.good, case.at, []),
    ]


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        [packages.prometheus() / "promtool", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_alert_has_its_cases() -> None:
    assert set(CASES) == set(ALERTS)


def test_every_alert_fires_is_silent_and_ends(tmp_path: Path) -> None:
    bare = [
        {
            **group,
            "rules": [
                {key: value for key, value in rule.items() if key != "annotations"}
                for rule in group["rules"]
            ],
        }
        for group in RULES
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": bare}))
    files = []
    for interval in sorted({case.interval for cases in CASES.values() for case in cases}):
        tests = [
            group
            for alert, cases in CASES.items()
            for case in cases
            if case.interval == interval
            for group in groups(alert, case)
        ]
        files.append(tmp_path / f"{interval}.yaml")
        head = {"rule_files": ["rules.yaml"], "evaluation_interval": interval}
        files[-1].write_text(yaml.safe_dump({**head, "tests": tests}))
    promtool("test", "rules", *files)


def test_the_rules_are_sound() -> None:
    promtool("check", "rules", "--lint-fatal", CHART / "files" / "rules.yaml")


@pytest.mark.parametrize("group", RULES, ids=lambda group: group["name"])
def test_rules_ask_for_metrics_that_there_are(group: Json) -> None:
    for rule in group["rules"]:
        check_selectors(rule["expr"], recorded={each["record"] for each in RULES[0]["rules"]})


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_means_and_what_to_do(alert: str) -> None:
    severities = [rule["labels"]["severity"] for rule in ALERTS[alert]]
    assert severities in (["page"], ["ticket"], ["ticket", "page"])
    assert all(set(rule["labels"]) == {"severity"} for rule in ALERTS[alert])
    known = set(CASES[alert][0].labels)
    for said in (rule["annotations"] for rule in ALERTS[alert]):
        assert set(said) == {"summary", "description", "runbook"}
        assert said["runbook"] == f"docs/runbooks/{alert}.md"
        assert set(re.findall(r"\$labels\.(\w+)", str(said))) <= known
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert text.startswith(f"# {alert}\n")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert heads == ["Meaning", "Impact", "Diagnosis", "Mitigation"]
    assert "kubectl" in text.split("## Diagnosis")[1]


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == {*ALERTS, "index"}


def test_the_runbooks_first_page_lists_every_alert_as_it_is() -> None:
    rows = re.findall(r"^\| \[.*$", (RUNBOOKS / "index.md").read_text(), re.MULTILINE)
    for row, (alert, rules) in zip(rows, ALERTS.items(), strict=True):
        severities = ", ".join(rule["labels"]["severity"] for rule in rules)
        (said,) = {LABEL.sub(r"*\1*", rule["annotations"]["summary"]) for rule in rules}
        assert row == f"| [{alert}]({alert}.md) | {severities} | {said} |"
