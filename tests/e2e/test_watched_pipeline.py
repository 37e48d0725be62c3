"""What an SRE sees of the pipeline: every panel of every dashboard, by a real Prometheus.

That those which tell of trouble show it when there is some is seen where the alerts fire.
"""

from __future__ import annotations

import pytest
from chart.dashboards import BOARDS, filled, queries
from e2e.run import Pipeline
from prometheus import Prometheus

SECONDS = 1800
# A tiny model's run may be over between two looks; test_every_method watches a real one's.
BRIEF = "palimpsest_alignment_figure"
QUERIES = sorted(
    {query for board in BOARDS.values() for query in queries(board) if BRIEF not in query}
)
# Terms that nobody changes, and counts of programs that all run.
STEADY = (
    "palimpsest_build_info",
    "palimpsest_privacybudget_limit_",
)
# Nothing of the kind happens here.
TROUBLES = (
    "palimpsest_budget_ledger_verified",
    "palimpsest:objectstore_errors:",
    "palimpsest:reconcile_errors:",
    "palimpsest_stage_failures_total",
    "palimpsest_ledger_conflicts_total",
    "palimpsest_workqueue_retries_total",
    'standing="Stalled"',
)


@pytest.mark.parametrize("query", QUERIES)
def test_a_panel_follows_the_pipeline(
    pipeline: Pipeline, prometheus: Prometheus, query: str
) -> None:
    told = prometheus.series(filled(query), SECONDS)
    assert any(told), "no figure"
    if not any(part in query for part in (*STEADY, *TROUBLES)):
        others = any(len(set(series)) > 1 for series in told)
        assert others or len({len(series) for series in told}) > 1, "never anything else"
