"""What the chart makes for those who watch: Services, monitors, rules, and who may read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from chart.test_templates import CHART, pick, rendered, template, values
from chart.variants import VARIANTS

Json = dict[str, Any]
WATCHED = ("operator", "admission")


@pytest.mark.parametrize("component", WATCHED)
@pytest.mark.parametrize(
    ("kind", "variant", "field"),
    [
        ("ServiceMonitor", "service-monitor", "endpoints"),
        ("PodMonitor", "pod-monitor", "podMetricsEndpoints"),
    ],
)
def test_a_monitor_finds_the_pods(kind: str, variant: str, field: str, component: str) -> None:
    documents = rendered(VARIANTS[variant])
    pod = pick(documents, "Deployment", f"palimpsest-{component}")["spec"]["template"]
    service = pick(documents, "Service", f"palimpsest-{component}-metrics")
    monitor = pick(documents, kind, f"palimpsest-{component}")["spec"]
    selected = service if kind == "ServiceMonitor" else pod
    for selector, thing in (
        (service["spec"]["selector"], pod),
        (monitor["selector"]["matchLabels"], selected),
    ):
        assert selector.items() <= thing["metadata"]["labels"].items()
    (endpoint,) = monitor[field]
    # Else Prometheus takes a resource's namespace for the pod's, and calls it exported_namespace.
    assert endpoint["honorLabels"] is True
    (port,) = service["spec"]["ports"]
    (container,) = pod["spec"]["containers"]
    named = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert endpoint["port"] == port["name"] == port["targetPort"] == "metrics"
    assert named["metrics"] == port["port"] == 8080
    others = [each for each in documents if each["kind"] == "Service" and each is not service]
    for other in others:
        marks = other["metadata"]["labels"]
        assert not monitor["selector"]["matchLabels"].items() <= marks.items()


def test_nothing_of_the_prometheus_operator_is_made_unasked() -> None:
    groups = {each["apiVersion"].partition("/")[0] for each in rendered(VARIANTS["custody"])}
    assert "monitoring.coreos.com" not in groups


def test_both_monitors_would_scrape_twice() -> None:
    both = {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}
    assert "set one of them" in template(values(metrics=both)).stderr


def test_the_rules_are_the_file_with_the_runbooks_where_the_values_say() -> None:
    rule: Json = {"enabled": True, "labels": {"release": "stack"}}
    text = (CHART / "files" / "rules.yaml").read_text()
    linked = text.replace("runbook: docs/runbooks/", "runbook_url: https://wiki.example/books/")
    place = "https://wiki.example/books/"
    for base, more, wanted in (
        ("", {}, text),
        (place, {}, linked),
        (
            place,
            {"runbookSuffix": ".html"},
            linked.replace(".md\n", ".html\n"),
        ),
        (place, {"runbookSuffix": ""}, linked.replace(".md\n", "\n")),
    ):
        given = values(metrics={"prometheusRule": {**rule, "runbookBaseURL": base, **more}})
        made = pick(rendered(given), "PrometheusRule", "palimpsest")
        assert made["spec"] == yaml.safe_load(wanted)
        assert made["metadata"]["labels"]["release"] == "stack"
        alerts = [each for group in made["spec"]["groups"] for each in group["rules"]]
        links = [each["annotations"].get("runbook_url") for each in alerts if "alert" in each]
        assert links
        assert all((link is not None) == bool(base) for link in links)


def test_alerts_wait_for_as_long_as_trainings_here_take() -> None:
    def alert(name: str, **given: Any) -> Json:
        rule = {"enabled": True, **given}
        made = pick(
            rendered(values(metrics={"prometheusRule": rule})), "PrometheusRule", "palimpsest"
        )
        rules = [each for group in made["spec"]["groups"] for each in group["rules"]]
        (found,) = [each for each in rules if each.get("alert") == name]
        return dict(found)

    assert alert("PalimpsestStageStuck")["for"] == "2h"
    assert alert("PalimpsestStageStuck", stageStuckAfter="36h")["for"] == "36h"
    held = "PalimpsestReservationHeld"
    assert alert(held)["expr"].endswith("> 48 * 3600")
    assert alert(held, reservationHeldHours=500)["expr"].endswith("> 500 * 3600")


def test_metrics_are_read_by_whom_the_values_name() -> None:
    (scraper,) = VARIANTS["service-monitor"]["metrics"]["scrapers"]
    for variant, peers in (("custody", None), ("service-monitor", [scraper])):
        documents = rendered(VARIANTS[variant])
        for component in WATCHED:
            policy = pick(documents, "NetworkPolicy", f"palimpsest-{component}")["spec"]
            opened = {
                port["port"]: rule.get("from")
                for rule in policy["ingress"]
                for port in rule["ports"]
            }
            assert opened.pop("metrics") == peers
            assert set(opened.values()) == {None}, "API servers and kubelets come from anywhere"
