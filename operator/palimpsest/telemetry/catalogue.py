"""Each metric is declared once, with its unit and what its labels may be: the source of its page.

Counters and histograms have labels from closed sets alone. An object's name is a label of gauges
that end with the object (see `table`), and nothing here depends on a private record.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal, get_args

from prometheus_client import Counter, Gauge, Histogram

from palimpsest.api.crd import RESOURCES
from palimpsest.api.task import Parameters

Process = Literal["operator", "admission"]
# A closed set, or in words what the value names.
Values = tuple[str, ...] | str
Labels = Mapping[str, Values]

OPERATOR: tuple[Process, ...] = ("operator",)
ADMISSION: tuple[Process, ...] = ("admission",)
BOTH: tuple[Process, ...] = ("operator", "admission")

KINDS = tuple(resource.kind for resource in RESOURCES)
# In a pipeline's order.
STAGES = tuple(
    str(each.model_fields["stage"].default) for each in get_args(get_args(Parameters)[0])
)


@dataclass(frozen=True)
class Metric:
    """A family as it is exposed; `buckets` are a histogram's bounds."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    unit: str
    help: str
    labels: Labels = field(default_factory=dict)
    by: tuple[Process, ...] = OPERATOR
    buckets: tuple[float, ...] = ()


CATALOGUE: dict[str, Metric] = {}


def declare(metric: Metric) -> Metric:
    """Enter a metric. Raises ValueError if its name is taken."""
    if metric.name in CATALOGUE:
        raise ValueError(f"{metric.name} is declared twice")
    CATALOGUE[metric.name] = metric
    return metric


def counter(
    name: str,
    unit: str,
    text: str,
    labels: Labels | None = None,
    by: tuple[Process, ...] = OPERATOR,
) -> Counter:
    """A counter; `name` ends in `_total`."""
    made = declare(Metric(name, "counter", unit, text, labels or {}, by))
    # The client library appends `_total`.
    return Counter(name.removesuffix("_total"), text, list(made.labels))


def gauge(
    name: str,
    unit: str,
    text: str,
    labels: Labels | None = None,
    by: tuple[Process, ...] = OPERATOR,
) -> Gauge:
    """A gauge of the process itself."""
    made = declare(Metric(name, "gauge", unit, text, labels or {}, by))
    return Gauge(name, text, list(made.labels))


def histogram(
    name: str,
    text: str,
    labels: Labels,
    buckets: tuple[float, ...],
    by: tuple[Process, ...] = OPERATOR,
) -> Histogram:
    """A histogram of seconds."""
    made = declare(Metric(name, "histogram", "seconds", text, labels, by, buckets))
    return Histogram(name, text, list(made.labels), buckets=buckets)


def start_at_zero(metric: Counter | Gauge | Histogram, *values: Iterable[str]) -> None:
    """Show the series of all combinations from the start: the first event is an increase then."""
    for combination in product(*values):
        metric.labels(*combination)
