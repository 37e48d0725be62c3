"""Gauges of objects: a row an object, a few hundred bytes each, and no series once it is gone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from .catalogue import Metric, declare

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Sample:
    """A series' value; `labels` in the metric's order."""

    metric: str
    labels: tuple[str, ...]
    value: float


class Table(Collector, Generic[Key]):
    """What was put last of each object. Rows are replaced whole, so that a scrape needs no lock."""

    def __init__(self, *metrics: Metric) -> None:
        self._metrics = tuple(declare(metric) for metric in metrics)
        self._rows: dict[Key, tuple[Sample, ...]] = {}
        REGISTRY.register(self)

    def put(self, key: Key, samples: Sequence[Sample]) -> None:
        """All series of an object; those it had before end."""
        self._rows[key] = tuple(samples)

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._rows.pop(key, None)

    def keys(self) -> list[Key]:
        """The objects that have a row."""
        return list(self._rows)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The families, without samples."""
        return self._families().values()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The families as they are now."""
        families = self._families()
        for row in list(self._rows.values()):
            for sample in row:
                families[sample.metric].add_metric(sample.labels, sample.value)
        return families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        return {
            each.name: GaugeMetricFamily(each.name, each.help, labels=list(each.labels))
            for each in self._metrics
        }
