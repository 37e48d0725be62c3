"""`kubectl palimpsest report`, the installed program, on a whole pipeline's resources."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from browser import looks
from cluster.fixtures import ControlPlane, ObjectStore
from integration.cli.test_cluster import Done, run
from integration.reconcile.harness import World
from integration.reconcile.test_pipeline import PIPELINE
from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.report.facts import Facts, Named
from palimpsest.report.page import render

MARKUP = "<img src=x onerror=alert(1)>"
CARD: dict[str, Any] = {
    "rows": 300,
    "duplicates": 2,
    "words": {"instruction": {"min": 1, "quartiles": [4, 6, 8], "max": 20}},
    "nGrams": {"2": [["is the", 17], [MARKUP, 3]]},
    "examples": [{"instruction": f"is it {MARKUP}", "answer": "No."}],
}
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
TRAINING = {"loss": [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.25}]}
EVALUATION = {
    "prompts": [{"instruction": "why", "before": "because", "after": MARKUP}],
    "judge": {"winRate": 0.75, "low": 0.5, "high": 0.9},
    "checks": {
        "promptsKept": {
            "before": {"share": 0.25, "low": 0.1, "high": 0.5},
            "after": {"share": 0.625, "low": 0.4, "high": 0.8},
        }
    },
}
TOLD: dict[str, dict[str, Any]] = {
    "card": {"card.json": CARD, "map.svg": SVG},
    "sft": {"training.json": TRAINING, "evaluation.json": EVALUATION},
}


@pytest.fixture(scope="module")
def finished(
    control_plane: ControlPlane,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> World:
    """A world whose pipeline ran to its end, and whose operator was then stopped."""
    world = World(control_plane, object_store, tmp_path_factory.mktemp("world"))
    world.prepare()
    world.start()
    try:
        for manifest in world.manifests():
            world.apply(manifest)
        for stage, files, blocks in PIPELINE:
            more = {
                name: told if isinstance(told, bytes) else json.dumps(told).encode()
                for name, told in TOLD.get(stage, {}).items()
            }
            world.succeed(stage, files | more, blocks)
        world.until("Ready", lambda: world.summary("align", "assistant") == "Ready")
    finally:
        world.kill()
    return world


def report(world: World, account: str, kind: str, name: str, *more: str) -> tuple[Done, str]:
    """The program's end, and the page it wrote."""
    path = world.folder / f"{kind}-{account}.html"
    path.unlink(missing_ok=True)
    arguments = ("report", kind, name, "-n", world.tenant, "-o", str(path), *more)
    done = run(world, account, *arguments, program="kubectl-palimpsest")
    assert "Traceback" not in done.stderr, done.stderr
    return done, path.read_text(encoding="utf-8") if path.exists() else ""


def test_a_page_tells_of_a_run_and_of_all_it_was_made_from(finished: World) -> None:
    done, page = report(finished, "tenant", "alignmentrun", "assistant")
    assert done.returncode == 0, done.stderr
    for shown in (
        "AlignmentRun assistant",
        "PrivateGenerator questions",
        "SyntheticDataset questions",
        "(3.4, 1e-5)",
        "differentially private",
        "0.75 (0.50 to 0.90)",
        "0.25 \u2192 0.62",
        "is the (17)",
        "receipt.json",
        "epsilon alone",
    ):
        assert shown in page
    # Both charges, and what they cost alone: the training was to cost 3 and may repeat a block.
    epsilons = re.findall(
        r"Committed</td><td[^>]*>([\d.]+)%</td><td[^>]*>[^<]+</td><td[^>]*>([\d.]+)<", page
    )
    assert [float(share) > 0 for share, _ in epsilons] == [True, True]
    assert 2.5 < float(epsilons[0][1]) <= 3.01


def test_nothing_that_an_artifact_says_becomes_markup_or_is_fetched(finished: World) -> None:
    _, page = report(finished, "tenant", "alignmentrun", "assistant")
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert sources
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    for fetched in ('href="', "@import", "url(http"):
        assert fetched not in page


def test_a_page_of_a_generator_has_its_stage_alone(finished: World) -> None:
    done, page = report(finished, "custodian", "pgen", "questions")
    assert (done.returncode, "expected batch size" in page) == (0, True)
    assert "annotate" not in page


def test_a_page_can_be_read_on_a_screen_and_on_a_phone_in_light_and_dark(finished: World) -> None:
    _, page = report(finished, "tenant", "align", "assistant")
    seen = looks(page, finished.folder)
    assert {look.paper for look in seen} == {"rgb(251, 250, 247)", "rgb(23, 22, 19)"}
    for look in seen:
        assert look.needed == look.width, "the page itself scrolls sideways"
        assert len(look.texts) > 100
        # Of WCAG 2.2, 1.4.3, for text of any size.
        assert [text for text in look.texts if text.contrast < 4.5] == []
        assert [text for text in look.texts if text.size < 9.5] == []


def test_what_the_keys_do_not_open_is_said(finished: World) -> None:
    done, page = report(finished, "tenant", "align", "assistant", "--credentials", "/nowhere")
    assert done.returncode == 0
    assert "Of the card stage" in done.stderr
    assert "Not told" in page
    assert "is the (17)" not in page


def test_a_file_that_is_not_the_published_one_is_not_shown(finished: World) -> None:
    root = finished.store("root")
    uri = next(
        uri
        for uri in root.list(f"s3://outputs/{finished.mark}/")
        if uri.endswith("/evaluation.json")
    )
    before = root.get(uri)
    try:
        root.put(uri, json.dumps({"judge": {"winRate": 1.0}}).encode())
        done, page = report(finished, "tenant", "align", "assistant")
    finally:
        root.put(uri, before)
    assert "has another digest" in done.stderr
    assert "win rate" not in page


def test_a_resource_that_is_not_there_is_named(finished: World) -> None:
    done, _ = report(finished, "tenant", "synds", "nothing")
    assert done.returncode == 2
    assert f"no SyntheticDataset nothing in namespace {finished.tenant}" in done.stderr
    assert "there is: questions" in done.stderr


@pytest.mark.parametrize("garbage", [b"[]", b"null", b"{", b'{"words": 3, "nGrams": [1]}', b"\xff"])
def test_files_of_any_shape_make_a_page(finished: World, garbage: bytes) -> None:
    """They lie in the tenant's store, where anything may be written."""
    chain = tuple(
        Named(name, kind.model_validate({"spec": raw["spec"], "status": raw["status"]}))
        for kind, name in ((SyntheticDataset, "questions"), (AlignmentRun, "assistant"))
        for raw in [finished.get(kind.kind, name, finished.tenant)]
    )
    aligned = [("sft", name) for name in ("training.json", "evaluation.json", "gates.json")]
    named = [("card", "card.json"), ("card", "map.svg"), ("reward", "reward.json"), *aligned]
    files = dict.fromkeys(named, garbage)
    assert "assistant" in render(Facts(finished.tenant, chain, "", None, files))


def test_a_run_s_own_reward_model_is_told_by_what_it_knows(finished: World) -> None:
    run = AlignmentRun.model_validate(
        {"spec": finished.get("align", "assistant", finished.tenant)["spec"]}
    )
    held = json.dumps({"heldOut": {"pairs": 16, "accuracy": 0.875}}).encode()
    files = {("reward", "reward.json"): held}
    page = render(Facts(finished.tenant, (Named("assistant", run),), "", None, files))
    assert "Its reward model, on pairs held out: pairs 16, accuracy 0.875." in page
