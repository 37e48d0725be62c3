"""Where models come from outside custody: a hub of our own, a claim, a store."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.outcomes import EXIT_CODES
from palimpsest.api.task import (
    SCRATCH_VARIABLE,
    AnnotateParameters,
    AnyModelInput,
    ClaimModelInput,
    HubModelInput,
    Input,
    Task,
)
from palimpsest.storage import AccessDenied, StoreUnavailable
from palimpsest_stage.annotate import chat_prompt
from palimpsest_stage.cache import sound
from palimpsest_stage.errors import InputMismatch, InvalidTask, NoRoom
from palimpsest_stage.hub import fetch
from palimpsest_stage.main import classify, parse_task
from palimpsest_stage.models import load_causal
from palimpsest_stage.runtime import Context
from palimpsest_stage.sources import claimed
from palimpsest_stage.sources import from_hub as from_hub_into
from unit.stage.ground import Ground
from unit.stage.hub import Hub
from unit.stage.test_train import lines
from unit.stage.tiny import tiny_folder
from unit.stage.training import parameters

NAME, REVISION = "acme/tiny", "c" * 40
DIGEST = "sha256:" + "1" * 64
TEMPLATE = "{% for turn in messages %}[{{ turn.role }}] {{ turn.content }}{% endfor %} "
QUESTIONS = ("is the sea salt", "is a bat a bird")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository as hubs have them: with what stages leave alone."""
    made = tiny_folder(tmp_path_factory.mktemp("hub") / "tiny")
    (made / "modeling_tiny.py").write_text("raise SystemExit('remote code ran')")
    (made / "pytorch_model.bin").write_bytes(b"a pickle")
    (made / ".gitattributes").write_text("*.safetensors filter=lfs")
    (made / "README.md").write_text("# Tiny")
    return made


@pytest.fixture(scope="module")
def digest(folder: Path) -> str:
    """What users pin: as the command line says it of a copy of theirs."""
    program = Path(sys.executable).parent / "palimpsest"
    done = subprocess.run(
        [program, "model", "digest", folder], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Iterator[Hub]:
    here = shutil.copytree(folder, tmp_path / "repository")
    with Hub(NAME, REVISION, here).serving() as serving:
        yield serving


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def annotation(ground: Ground, model: AnyModelInput, template: str | None = TEMPLATE) -> Task:
    # Work of this test alone: what another one published would count as done.
    rows = [{"id": f"{ground.folder}/{text}", "instruction": text} for text in QUESTIONS]
    selected = ground.push_rows("selected.jsonl", rows)
    asked = AnnotateParameters(
        system_prompt="", chat_template=template, max_new_tokens=3, batch_size=2
    )
    return ground.task(asked, {"model": model, "selected": selected}, "outputs")


def from_hub(digest: str, **changes: Any) -> HubModelInput:
    return HubModelInput(repository=NAME, revision=REVISION, digest=digest, **changes)


def fits(_folder: Path, _weights: int) -> None:
    """Any model does."""


def answers(ground: Ground, task: Task) -> list[str]:
    text = ground.read(task.output, "annotated.jsonl").decode()
    return [json.loads(line)["answer"] for line in text.splitlines()]


def test_a_model_of_a_hub_does_what_the_same_of_a_store_does_and_is_fetched_once(
    ground: Ground, hub: Hub, folder: Path, digest: str, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    environment = {"HF_ENDPOINT": hub.endpoint, "PALIMPSEST_CACHE": str(cache)}
    stored = annotation(ground, ground.push_model(folder, "s3://models/tiny-sources/"))
    ended = ground.start(stored, more=environment).wait()
    assert ended.outcome == "Completed", ended.said
    hubs = annotation(ground, from_hub(digest))
    ended = ground.start(hubs, more=environment).wait()
    assert ended.outcome == "Completed", ended.said
    assert answers(ground, hubs) == answers(ground, stored)
    # Neither code nor pickles were even fetched, and nothing of the hub client's stays.
    assert hub.asked
    assert not [name for name in hub.asked if name.endswith((".py", ".bin"))]
    cached = cache / digest.removeprefix("sha256:")
    assert sound(cached, digest)
    assert not [path for path in cached.rglob("*") if path.name.startswith(".")]
    hub.asked.clear()
    again = annotation(ground, from_hub(digest), TEMPLATE + " ")
    ended = ground.start(again, more=environment).wait()
    assert ended.outcome == "Completed", ended.said
    assert hub.asked == []


def test_a_model_on_a_claim_is_used_where_it_lies(
    ground: Ground, folder: Path, digest: str, tmp_path: Path
) -> None:
    claims = tmp_path / "claims"
    place = claims / "shared" / "models" / "tiny"
    shutil.copytree(folder, place)
    model = ClaimModelInput(claim="shared", path="models/tiny/", digest=digest)
    before = sorted(place.rglob("*"))
    more = {"PALIMPSEST_CLAIMS": str(claims)}
    ended = ground.start(annotation(ground, model), more=more).wait()
    assert ended.outcome == "Completed", ended.said
    assert sorted(place.rglob("*")) == before
    # A file more can change what is loaded, so it is another model.
    (place / "adapter_config.json").write_text("{}")
    with pytest.raises(InputMismatch, match="not the declared one"):
        claimed(model, fits, claims)
    with pytest.raises(InputMismatch, match="holds no config"):
        claimed(model.model_copy(update={"path": "models/other/"}), fits, claims)


def test_a_model_without_a_template_is_given_one_or_unsuitable(
    ground: Ground, folder: Path
) -> None:
    model = ground.push_model(folder, "s3://models/tiny-sources/")
    ended = ground.run(annotation(ground, model, None))
    assert ended.outcome == "ModelUnsuitable", ended.said
    _, tokenizer = load_causal(folder, "float32", TEMPLATE)
    assert tokenizer.decode(chat_prompt(tokenizer, "is it?", "")) == "[user] is it? "


def test_another_model_under_the_same_name_is_refused(
    hub: Hub, digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    path = hub.folder / "config.json"
    path.write_text(path.read_text().replace("}", "} ", 1))
    target = tmp_path / "model"
    target.mkdir()
    with pytest.raises(InputMismatch, match="not the declared one"):
        from_hub_into(from_hub(digest), None, fits, target, math.inf)
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(401, AccessDenied), (403, AccessDenied), (404, InputMismatch)],
)
def test_a_hub_that_refuses_is_told_apart_from_one_that_is_away(
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    error: type[Exception],
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    hub.status = status
    with pytest.raises(error, match=f"hf://{NAME} at {REVISION}: "):
        fetch(from_hub(DIGEST), None, tmp_path / "model")


def test_a_hub_that_is_not_there_is_worth_another_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable) as caught:
        fetch(from_hub(DIGEST), None, tmp_path / "model")
    assert EXIT_CODES[classify(caught.value)] == 75


def test_a_gated_model_is_entered_with_the_secrets_token_alone(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    # Whoever else has a token in the environment does not lend it.
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    hub.token = "hf_mine"
    with pytest.raises(AccessDenied):
        fetch(from_hub(DIGEST), None, tmp_path / "first")
    secret = tmp_path / "secret"
    secret.mkdir()
    with pytest.raises(AccessDenied, match="no key HF_TOKEN"):
        fetch(from_hub(DIGEST), secret, tmp_path / "second")
    (secret / "HF_TOKEN").write_text("hf_mine\n")
    fetch(from_hub(DIGEST), secret, tmp_path / "third")
    assert (tmp_path / "third" / "config.json").exists()


@pytest.mark.parametrize(
    "model",
    [
        from_hub("sha256:" + "1" * 64),
        ClaimModelInput(claim="c", path="", digest="sha256:" + "1" * 64),
    ],
)
def test_beside_private_data_no_model_comes_from_elsewhere(
    ground: Ground, model: AnyModelInput
) -> None:
    """Whatever admission let through: the stage does not even try."""
    task = ground.task(
        parameters(), {"base": model, "private": ground.push_records(lines())}, "releases"
    )
    with pytest.raises(InvalidTask, match="no model comes from a hub or a claim"):
        parse_task(task.model_dump_json(by_alias=True))


def test_a_private_stage_takes_its_model_from_the_cache_and_loads_a_copy(
    ground: Ground, folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    model = ground.push_model(folder, "s3://models/tiny-cached/")
    inputs: dict[str, Input] = {"base": model, "private": ground.push_records(lines())}
    task = ground.task(parameters(), inputs, "releases")
    context = Context(task, ground.environment(task) | {"PALIMPSEST_CACHE": str(cache)})
    loaded = context.model("base")
    # What others write to the cache after the check is never loaded.
    assert loaded.is_relative_to(context.scratch)
    assert sound(cache / model.digest.removeprefix("sha256:"), model.digest)
    for uri in list(ground.store("root").list(model.uri)):
        ground.store("root").delete(uri)
    again = Context(task, ground.environment(task) | {"PALIMPSEST_CACHE": str(cache)})
    assert sound(again.model("base"), model.digest)
    # Too large for scratch costs nothing here either.
    small = {"PALIMPSEST_CACHE": str(cache), SCRATCH_VARIABLE: "10000"}
    with pytest.raises(NoRoom, match="larger than the volume"):
        Context(task, ground.environment(task) | small).model("base")
