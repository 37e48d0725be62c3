"""A thousand resources: the operator's memory, its growth, and its writes when all is quiet."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from integration.scale import crowd

from bench import standing
from bench.harness import Reading, Survey


def _take(held: ExitStack) -> Sequence[Reading]:
    plane, store, folder = standing.without_a_node(held)
    made = held.enter_context(crowd.gathered(plane, store, folder))
    quiet = made.quiet()
    growth = made.growth()
    return [
        Reading(
            "memory",
            growth.peak,
            "MB",
            crowd.MOST_MEGABYTES,
            f"the most that the operator's process ever had resident, with {crowd.RESOURCES:,} "
            f"resources of all kinds, their journal of {crowd.ENTRIES:,} entries, and "
            f"{growth.reconciles:,} reconciles by its own count",
        ),
        Reading(
            "memory-slope",
            growth.slope,
            "MB per 1,000 reconciles",
            crowd.MOST_SLOPE,
            f"least squares over rounds of all resources: from {growth.first:.1f} MB to "
            f"{growth.last:.1f} MB",
        ),
        Reading(
            "idle-writes",
            float(sum(quiet.others.values())) if quiet.renewed else float("nan"),
            "writes",
            0,
            f"all writes that the API server saw in {quiet.seconds:.0f} s, a relist of everything "
            f"included, but the {quiet.leases} of Leases, the operator's among them",
        ),
        Reading(
            "idle-processor",
            quiet.millis,
            "m",
            crowd.MOST_MILLIS,
            "thousandths of a processor that the operator took meanwhile; the chart requests "
            f"{crowd.MOST_MILLIS}m. A reconcile takes {growth.milliseconds:.1f} ms of one",
        ),
    ]


SURVEY = Survey(
    "scale",
    f"the installed operator with {crowd.RESOURCES:,} resources, real API server and store, "
    "no node",
    _take,
)
