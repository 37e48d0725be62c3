"""One run of the whole pipeline with a tiny model on a real node, with faults on the way."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from cluster import parts, store
from demo import denial, install, own_cluster, watch
from demo.ground import Ground
from demo.kubectl import Tools
from e2e.run import Pipeline, bucket_as
from e2e.specs import BLOCK, PAIRS, Specs
from prometheus import Prometheus, of_pods, scraping

# Nothing here is timed: a busy machine may take this long.
PATIENCE_SECONDS = 900


@pytest.fixture(scope="session")
def ground() -> Ground:
    """The cluster of this checkout with the product installed; it stays up."""
    found = own_cluster.start()
    install.install(found)
    return found


@pytest.fixture(scope="session")
def specs(ground: Ground) -> Specs:
    return fresh_specs(ground, "e2e")


def fresh_specs(ground: Ground, kind: str) -> Specs:
    """Resources of one run alone: their records lie in a prefix that no journal knows yet."""
    keys = ground.store.keys["root"]
    root = store.client(
        ground.store.endpoint_here, store.Credentials(keys.access_key, keys.secret_key)
    )
    parts.upload(root)
    name = f"{kind}-{secrets.token_hex(3)}"
    for path in sorted(parts.questions().small.iterdir()):
        root.upload_file(str(path), "private", f"{name}/{path.name}")
    made = Specs(name, ground.store, parts.tiny(), parts.minilm())
    for file, data in made.canaries.files.items():
        root.put_object(Bucket="private", Key=f"{name}/{file}", Body=data)
    root.put_object(Bucket="outputs", Key=made.pairs_key, Body=PAIRS)
    return made


@pytest.fixture(scope="session")
def prometheus(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes the operator's and admission's pods from before the pipeline on."""
    folder = tmp_path_factory.mktemp("scraped")
    with (
        of_pods(ground.tools, install.SYSTEM, folder) as targets,
        scraping(folder / "prometheus", targets) as found,
    ):
        await_(found.up, "the first scrapes")
        yield found


@pytest.fixture(scope="session")
def pipeline(
    ground: Ground,
    specs: Specs,
    prometheus: Prometheus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pipeline]:
    """Run it: the training's Job is deleted in mid-run, the operator's pod while sampling."""
    run = Pipeline(ground, specs, bucket_as(ground, "root"))
    tools = ground.tools
    try:
        # The budget last: what refers to it waits for it.
        runs = ("alignment", "preference", "reinforcement")
        tools.apply(specs.yaml("generator", "dataset", *runs, "budget"), "the pipeline")
        run.deleted_job = _delete_training(run)
        overspend = tmp_path_factory.mktemp("denied") / "generator.yaml"
        overspend.write_text(specs.yaml("overspend"))
        run.refused = denial.attempt(tools, overspend, specs.denied)
        await_(lambda: state(run, "sample") in ("Running", "Succeeded"), "the sample stage")
        run.operator_before = _operators(run)
        selector = ("-l", "app.kubernetes.io/name=palimpsest,app.kubernetes.io/component=operator")
        tools.kubectl("-n", install.SYSTEM, "delete", "pod", *selector, "--wait=false")
        run.resources = watch.until_ready(tools, specs.every_method, PATIENCE_SECONDS)
        run.operator_after = _operators(run)
        yield run
    finally:
        clean(run)


def _delete_training(run: Pipeline) -> str:
    """Delete the training's Job once it has declared two blocks; its name."""

    await_(lambda: training(run, blocks=2), "two blocks of training")
    jobs = run.ground.tools.get("jobs", "-n", install.CUSTODY)["items"]
    (name,) = (
        job["metadata"]["name"]
        for job in jobs
        if job["metadata"]["name"].startswith(f"{run.specs.name}-train-")
    )
    run.ground.tools.kubectl("-n", install.CUSTODY, "delete", "job", name, "--wait=false")
    return str(name)


def state(run: Pipeline, stage: str) -> str:
    """A stage's state, "" before it has one."""
    for resource in watch.fetch(run.ground.tools):
        if resource["metadata"]["name"] == run.specs.name:
            for found in watch.stages(resource):
                if found.name == stage:
                    return found.state
    return ""


def _operators(run: Pipeline) -> set[str]:
    selector = "app.kubernetes.io/name=palimpsest,app.kubernetes.io/component=operator"
    items = run.ground.tools.get("pods", "-n", install.SYSTEM, "-l", selector)["items"]
    return {item["metadata"]["uid"] for item in items}


def await_(happened: Callable[[], bool], what: str) -> None:
    """Poll until it has happened."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not seen in {PATIENCE_SECONDS} s"
        time.sleep(0.5)


def clean(run: Pipeline) -> None:
    """Delete its resources."""
    tools, name = run.ground.tools, run.specs.name
    delete(tools, ("alignmentrun", *run.specs.runs.values()))
    delete(tools, ("syntheticdataset", name), ("privategenerator", name))
    tools.kubectl("annotate", "privacybudget", name, "palimpsest.dev/confirm-delete=true")
    tools.kubectl("delete", "privacybudget", name, "--ignore-not-found", "--timeout=60s")


def delete(tools: Tools, *each: tuple[str, ...]) -> None:
    """Delete the tenant's resources: a kind, and names of it."""
    for kind_and_names in each:
        gone = ("delete", *kind_and_names, "--ignore-not-found", "--timeout=60s")
        tools.kubectl("-n", install.TENANT, *gone)


def reason(run: Pipeline, kind: str) -> str:
    """The reason of Ready of the run's resource of that kind."""
    for resource in watch.fetch(run.ground.tools):
        if (resource["kind"], resource["metadata"]["name"]) == (kind, run.specs.name):
            return str(watch.condition(resource, "Ready").get("reason", ""))
    return ""


def training(run: Pipeline, blocks: int = 1) -> bool:
    """Whether its training has declared so many blocks."""
    with suppress(Exception):
        return any(charge.steps >= blocks * BLOCK for charge in run.replay().charges.values())
    return False
