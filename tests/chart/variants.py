"""The values under which the chart is held against other people's judgement."""

from __future__ import annotations

from typing import Any

from chart.test_templates import OPERATOR, PEM, STAGE, values

Json = dict[str, Any]

VARIANTS: dict[str, Json] = {
    "custody": values(),
    "least": {
        "images": {"operator": OPERATOR, "stage": STAGE},
        "stores": [{"endpoint": "https://s3.example.com", "secretName": "store"}],
    },
    "cert-manager": values(admission={"tls": {"mode": "certManager"}}),
    "issuer": values(
        admission={
            "tls": {
                "mode": "certManager",
                "issuerRef": {"kind": "ClusterIssuer", "name": "corporate"},
            }
        }
    ),
    "service-monitor": values(
        metrics={
            "serviceMonitor": {"enabled": True, "labels": {"release": "stack"}},
            "prometheusRule": {"enabled": True, "labels": {"release": "stack"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Palimpsest"}},
            "scrapers": [{"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}],
        }
    ),
    "tracing": values(
        tracing={
            "endpoint": "https://collector.monitoring:4318",
            "samplingRatio": 0.25,
            "headersSecret": "collector",
            "caBundle": PEM,
        }
    ),
    "pod-monitor": values(metrics={"podMonitor": {"enabled": True, "interval": "1m"}}),
    "secret": values(
        admission={"tls": {"mode": "secret", "secretName": "mine", "caBundle": "Y2E="}}
    ),
    "tenants": values(
        tenants={"namespaces": ["research"]},
        receipts={"signingKeySecret": "own-key"},
        crds={"keep": False},
        custody={"namespaces": [{"name": "custody", "cacheClaim": "models"}]},
        hub={"endpoint": "https://hub.example.com"},
    ),
}
