"""PromQL held against the declared metrics: names, labels and the values of closed sets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from palimpsest.telemetry.catalogue import Metric
from palimpsest.telemetry.reference import declared

# What a scrape's target adds.
TARGET = {"job", "instance", "pod", "namespace", "service", "container", "endpoint", "le"}
# Shown by the client library and the kernel.
PROCESS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
}
_SELECTOR = re.compile(r"\b((?:palimpsest|process)[a-zA-Z0-9_:]+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_METRICS = {metric.name: metric for metric in declared()}


def series() -> set[str]:
    """The names under which samples are shown."""
    return {name for metric in _METRICS.values() for name in _names(metric)}


def _names(metric: Metric) -> Iterator[str]:
    if metric.type == "histogram":
        yield from (f"{metric.name}_{suffix}" for suffix in ("bucket", "count", "sum"))
    else:
        yield metric.name


def check_selectors(expression: str, recorded: Collection[str] = ()) -> None:
    """Fail for a metric that nothing shows, a label that it lacks, a value that it never has."""
    found = _SELECTOR.findall(expression)
    assert found, f"{expression}: asks for nothing of ours"
    for name, matchers in found:
        if name in recorded or name in PROCESS:
            continue
        assert name in series(), f"{expression}: nothing shows {name}"
        metric = _METRICS.get(name) or _METRICS[name.rpartition("_")[0]]
        for label, operator, value in _MATCHER.findall(matchers):
            assert label in {*metric.labels, *TARGET}, f"{expression}: {name} has no label {label}"
            values = metric.labels.get(label, "")
            if operator in ("=", "!=") and isinstance(values, tuple):
                assert value in values, f"{expression}: {label} of {name} is never {value}"
