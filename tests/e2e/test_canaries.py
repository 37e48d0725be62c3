"""Nothing of the private records is left where others can look, in text, as digest or as size."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator

from demo import install
from e2e import canaries
from e2e.run import Pipeline

KINDS = "jobs,pods,configmaps,privategenerators,syntheticdatasets,alignmentruns"
LINES = "--tail=-1"


def left(run: Pipeline) -> Iterator[tuple[str, bytes]]:
    """All that the run left outside the private bucket: where, and what."""
    tools = run.ground.tools
    for what in (("events", "-A"), (KINDS, "-A"), ("privacybudgets",)):
        yield f"kubectl get {what[0]}", json.dumps(tools.get(*what), ensure_ascii=False).encode()
    for namespace in (install.CUSTODY, install.TENANT, install.SYSTEM):
        for pod in tools.get("pods", "-n", namespace)["items"]:
            name = pod["metadata"]["name"]
            answer = tools.kubectl("-n", namespace, "logs", name, "--all-containers", LINES)
            yield f"the log of {name}", answer.out.encode()
            if "palimpsest-operator" in name or "palimpsest-admission" in name:
                path = f"/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics"
                yield f"the metrics of {name}", tools.kubectl("get", "--raw", path).out.encode()
    for bucket in ("releases", "outputs"):
        for uri in run.bucket.list(f"s3://{bucket}/"):
            yield uri, uri.encode() + b"\n" + run.bucket.get(uri)


def test_nothing_of_the_records_is_left_outside(pipeline: Pipeline) -> None:
    places = dict(left(pipeline))
    assert any("palimpsest_" in data.decode(errors="replace") for data in places.values())
    assert any(place.endswith("receipt.json") for place in places)
    assert canaries.leaks(places, pipeline.specs.canaries) == []


def test_the_search_finds_what_is_planted() -> None:
    drawn = canaries.drawn()
    (data,) = drawn.files.values()
    assert all(mark.encode() in data for mark in drawn.marks)
    line = data.splitlines()[0]
    planted = {
        "text": data[20:60],
        "digest": hashlib.sha256(line).hexdigest().encode(),
        "etag": b'"' + hashlib.md5(data, usedforsecurity=False).hexdigest().encode() + b'"',
        "encoded": base64.b64encode(hashlib.sha256(data).digest()),
        "size": f'{{"bytes": {len(data)}}}'.encode(),
        "nothing": b"a message of the closed set, 256 of 400 steps",
    }
    found = canaries.leaks(planted, drawn)
    assert {each.split(":")[0] for each in found} == set(planted) - {"nothing"}
