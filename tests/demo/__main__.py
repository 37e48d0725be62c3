"""python -m demo: the whole pipeline on a real cluster, from set-up to report."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from demo import (
    denial,
    install,
    parts,
    quickstart,
    report_files,
    rewarded,
    summary,
    verification,
    watch,
)
from demo.console import DemoError, Phases, say
from demo.ground import Ground, given
from demo.parts import Parts

BUILD = Path(__file__).parents[2] / "build" / "demo"
TIMEOUT_SECONDS = float(os.environ.get("PALIMPSEST_DEMO_TIMEOUT", "2400"))
BUDGET = "search-questions"
GENERATOR = (install.TENANT, "questions")
DATASET = (install.TENANT, "questions")
RUN = (install.TENANT, "assistant")
EXPECTED = {
    ("PrivacyBudget", BUDGET),
    ("PrivateGenerator", GENERATOR[1]),
    ("SyntheticDataset", DATASET[1]),
    ("AlignmentRun", RUN[1]),
    *((("AlignmentRun", rewarded.NAME),) if rewarded.wanted() else ()),
}


def main() -> int:
    """Exit status: 0, 1 after an error that was told, 130 after an interrupt."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        demo()
    except DemoError as error:
        say(f"\nerror: {error}")
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted: `make demo` goes on where it stopped, `make down` removes everything")
        return 130
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def demo() -> None:
    """Every phase. Raises DemoError."""
    phases = Phases()
    with phases.phase("cluster", "A Kubernetes cluster with an object store"):
        ground = _ground()
    with phases.phase("parts", "Real parts: models, 15,000 private and 942 public questions"):
        real = parts.upload(ground.store)
    with phases.phase("install", "Palimpsest, installed by helm"):
        install.install(ground)
    with phases.phase("pipeline", "Private questions in, an aligned model out"):
        resources = _pipeline(ground, real)
    with phases.phase("denial", "A second generator that overspends"):
        refused = denial.attempt(ground.tools, BUILD / "quickstart" / "denied" / "generator.yaml")
        say(f"   {refused.text}")
        say("   denied: it has no Job and no pod")
    with phases.phase("check", "Everything computed again from the buckets"):
        told = _check(ground, real, resources, refused)
        for line in verification.run(BUDGET, ground).splitlines():
            say(f"   {line}")
    told["phases"] = phases.seconds
    told["seconds"] = phases.total
    BUILD.mkdir(parents=True, exist_ok=True)
    report_files.write(told, BUILD)
    summary.show(told, ground, BUILD)


def _ground() -> Ground:
    named = os.environ.get("KUBECONFIG")
    from demo import own_cluster  # noqa: PLC0415 - a cluster of the user's needs none of it

    if named and Path(named) != own_cluster.kubeconfig():
        say(f"   KUBECONFIG={named}: using that cluster")
        return given(Path(named))
    return own_cluster.start()


def _pipeline(ground: Ground, real: Parts) -> list[dict[str, Any]]:
    files = quickstart.write(
        {**quickstart.store_values(ground.store), **real.values}, BUILD / "quickstart"
    )
    folders = [BUILD / "quickstart"]
    if rewarded.wanted():
        folders.append(BUILD / "quickstart" / "rlhf")
    top = [path for path in files if path.parent in folders]
    say(f"   kubectl apply -f {BUILD / 'quickstart'}")
    text = "\n---\n".join(path.read_text() for path in top)
    for line in ground.tools.apply(text, "examples/quickstart").splitlines():
        say(f"   {line}")
    return watch.until_ready(ground.tools, EXPECTED, TIMEOUT_SECONDS)


def _check(
    ground: Ground, real: Parts, resources: list[dict[str, Any]], refused: denial.Denial
) -> dict[str, Any]:
    from demo.checker import check  # noqa: PLC0415 - brings torch
    from demo.checker.bucket import Access, CheckError  # noqa: PLC0415

    store = ground.store

    def access(role: str) -> Access:
        keys = store.keys[role]
        return Access(store.endpoint_here, store.region, keys.access_key, keys.secret_key)

    budget = next(r for r in resources if r["kind"] == "PrivacyBudget")
    more = [rewarded.OUTPUT] if rewarded.wanted() else []
    try:
        reinforced = rewarded.figures(access("root")) if rewarded.wanted() else None
        found = check.check(
            check.Question(
                access=access("root"),
                tenant=access("tenant"),
                budget=budget,
                releases=budget["spec"]["releases"]["uri"],
                outputs=["s3://outputs/questions/", "s3://outputs/assistant/", *more],
                generator=GENERATOR,
                dataset=DATASET,
                run=RUN,
                receipt_keys=install.receipt_keys(ground.tools),
                held_out=real.held_out,
                private_record=real.private_uri,
                scratch=BUILD / "scratch",
            )
        )
    except CheckError as error:
        raise DemoError(f"the checker found: {error}") from error
    return {
        **found,
        "rlhf": reinforced,
        **summary.from_cluster(ground.tools, resources, refused),
    }


if __name__ == "__main__":
    sys.exit(main())
