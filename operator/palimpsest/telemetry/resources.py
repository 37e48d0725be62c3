"""Where each resource stands, and how far its running stages are."""

from collections.abc import Mapping
from typing import NamedTuple

from palimpsest.api.common import FIGURES

from .catalogue import KINDS, STAGES, Labels, Metric
from .table import Sample, Table

STANDINGS = ("Ready", "Reconciling", "Stalled", "Terminating")
_OBJECT: Labels = {"kind": KINDS, "namespace": "the object's", "name": "the object's"}

_STANDING = Metric(
    "palimpsest_resource_standing",
    "gauge",
    "1",
    "1, with where the resource stands (docs/conditions.md); it has one series at a time.",
    {**_OBJECT, "standing": STANDINGS},
)
_PROGRESS = Metric(
    "palimpsest_stage_progress_ratio",
    "gauge",
    "ratio",
    "How much of its work a stage whose pod runs has done, 0 before its first report. Of a private "
    "stage: steps intended in the journal, of all.",
    {**_OBJECT, "stage": STAGES},
)

_FIGURE = Metric(
    "palimpsest_alignment_figure",
    "gauge",
    "as in training.json",
    "A figure of an alignment's last step, while its pod runs (docs/alignment.md).",
    {**_OBJECT, "stage": STAGES, "figure": FIGURES},
)


class Object(NamedTuple):
    """A resource by kind, namespace ("" if it has none) and name."""

    kind: str
    namespace: str
    name: str


_table: Table[Object] = Table(_STANDING, _PROGRESS, _FIGURE)


def observe(
    thing: Object,
    standing: str,
    progress: Mapping[str, float],
    figures: Mapping[tuple[str, str], float],
) -> None:
    """Where it stands; `progress` of each stage that runs, and its figures by stage and name."""
    samples = [Sample(_STANDING.name, (*thing, standing), 1)]
    samples += [Sample(_PROGRESS.name, (*thing, stage), ratio) for stage, ratio in progress.items()]
    samples += [Sample(_FIGURE.name, (*thing, *of), value) for of, value in figures.items()]
    _table.put(thing, samples)


def forget(thing: Object) -> None:
    """It is gone; its series end."""
    _table.forget(thing)


def known() -> list[Object]:
    """What has series."""
    return _table.keys()
