"""The card: where the data come from, what they are, and that common tools read it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from cluster.fixtures import ObjectStore
from palimpsest.api.task import (
    AnnotateParameters,
    ArtifactInput,
    CardParameters,
    ClusterParameters,
    HistogramParameters,
    Input,
    Output,
    SampleParameters,
    SelectParameters,
    Task,
)
from palimpsest_stage.card.describe import describe
from palimpsest_stage.card.render import render
from unit.stage.ground import Ground
from unit.stage.tiny import WORDS, tiny_encoder
from unit.stage.training import parameters

CLUSTERS, SIZE = 4, 40
GUARANTEE = "(3, 1e-5)-differential privacy"
PROMPT = "You answer | briefly."


@pytest.fixture(scope="module")
def ground(object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground.on(object_store, tmp_path_factory.mktemp("card"), "card", 100)


def pool(ground: Ground) -> dict[str, Input]:
    """Two shards of a generator whose training was charged."""
    generator = ground.push_artifact(
        {"generator.json": str(ground.folder).encode()}, parameters(), charge="charge-of-training"
    )
    sampling = SampleParameters(
        count=120, shards=2, batch_size=8, temperature="0.9", top_p="0.95", max_length=24
    )
    words = WORDS[:6], WORDS[10:15], WORDS[20:24]
    texts = [f"{one} <b>{two}</b> | {three} is" for one, two, three in product(*words)]
    lines = [
        json.dumps({"id": f"{number // 60}-{number % 60}", "instruction": text}).encode()
        for number, text in enumerate(texts)
    ]
    return {
        f"pool-{shard}": ground.push_artifact(
            {"instructions.jsonl": b"\n".join(lines[60 * shard : 60 * shard + 60]) + b"\n"},
            sampling,
            {"generator": generator},
        )
        for shard in range(2)
    }


def done(ground: Ground, task: Task) -> Output:
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    return task.output


@pytest.fixture(scope="module")
def made(ground: Ground) -> tuple[Output, Output, dict[str, Input]]:
    """(the selection, the card of its annotated rows, the pool) by the stages themselves."""
    drawn = pool(ground)
    encoder = tiny_encoder(ground.folder / "encoder")
    embedder = ground.push_model(encoder, f"s3://models/{ground.folder.name}/")
    clustering = ground.task(
        ClusterParameters(clusters=CLUSTERS), drawn | {"embedder": embedder}, "outputs"
    )
    clustered = done(ground, clustering)
    clusters = ground.artifact(clustered)
    # Almost all of the smallest cluster, which has not so many: seeds follow the run's addresses.
    sizes = json.loads(ground.read(clustered, "clusters.json"))["poolSizes"]
    counts = [-3, 5, 20]
    counts.insert(sizes.index(min(sizes)), 1000)
    noisy = {"noisy": counts, "noiseMultiplier": "10", "clusters": CLUSTERS}
    histogram = ground.push_artifact(
        {"histogram.json": json.dumps(noisy).encode()},
        HistogramParameters(records=1000, noise_multiplier="10", restarts=0),
        {"embedder": embedder},
        charge="charge-of-histogram",
    )
    counted: dict[str, Input] = {"clusters": clusters, "histogram": histogram}
    selection = done(ground, ground.task(SelectParameters(size=SIZE), drawn | counted, "outputs"))
    rows = [json.loads(line) for line in ground.read(selection, "selected.jsonl").splitlines()]
    answered = b"".join(json.dumps(row | {"answer": "Yes."}).encode() + b"\n" for row in rows)
    annotated = ground.push_artifact(
        {"annotated.jsonl": answered},
        AnnotateParameters(system_prompt=PROMPT, max_new_tokens=8, batch_size=8),
        {"selected": ground.artifact(selection)},
    )
    task = ground.task(
        CardParameters(name="quick", guarantee=GUARANTEE), counted | {"data": annotated}, "outputs"
    )
    return selection, done(ground, task), drawn


def test_a_card_tells_what_the_rows_are_and_what_they_were_made_by(
    ground: Ground, made: tuple[Output, Output, dict[str, Input]]
) -> None:
    selection, output, drawn = made
    figures = ground.manifest(selection).figures
    assert figures["poolShortfall"] > 0
    assert figures["poolThatWouldDo"] > 120
    card = json.loads(ground.read(output, "card.json"))
    text = ground.read(output, "README.md").decode()

    stages = {one["stage"]: one for one in card["stages"]}
    order = ["train", "sample", "cluster", "histogram", "select", "annotate"]
    assert sorted(stages, key=order.index) == order
    assert card["stages"][0]["stage"] == "train"
    assert card["stages"][-1]["stage"] in ("annotate", "histogram")
    assert len(stages["sample"]["manifests"]) == 2
    first = drawn["pool-0"]
    assert isinstance(first, ArtifactInput)
    generator = ground.store("root").get(first.uri)
    named = json.loads(generator)["inputs"]["generator"]
    assert stages["train"]["manifests"] == [{"uri": named["uri"], "digest": named["digest"]}]
    receipt = named["uri"].replace("manifest.json", "receipt.json")
    assert stages["train"]["receipts"] == [receipt]
    assert len(stages["histogram"]["receipts"]) == 1
    assert stages["sample"]["receipts"] == []

    assert GUARANTEE in text
    assert receipt in text
    for told in ("temperature 0.9", "topP 0.95", "noiseMultiplier 10", "clusters 4"):
        assert told in text
    assert "You answer \\| briefly." in text
    assert "<b>" not in text.replace("\\<b\\>", "")

    resampling = card["resampling"]
    shares = resampling["shares"]
    assert all(sum(some) == pytest.approx(1, abs=1e-5) for some in shares.values())
    # The negative count is none, and what it adds is taken from the others alike.
    assert sorted(shares["private"]) == pytest.approx([0, 0.0039, 0.0186, 0.9766], abs=1e-3)
    assert len(resampling["places"]) == CLUSTERS
    assert dict(card["nGrams"]["1"])["is"] == SIZE
    rows = [json.loads(line) for line in ground.read(output, "data.jsonl").splitlines()]
    assert {row["generator"] for row in rows} == {named["digest"]}
    assert {row["cluster"] for row in rows} <= set(range(CLUSTERS))
    for name in ("lengths.svg", "clusters.svg", "map.svg"):
        assert f"]({name})" in text
        ElementTree.fromstring(ground.read(output, name))


def test_the_data_set_loads_with_its_card(
    ground: Ground, made: tuple[Output, Output, dict[str, Input]], tmp_path: Path
) -> None:
    from datasets import load_dataset  # noqa: PLC0415 - 3 s

    _, output, _ = made
    folder = tmp_path / "published"
    folder.mkdir()
    for file in ground.manifest(output).files:
        name = file.path.rsplit("/", 1)[-1]
        (folder / name).write_bytes(ground.read(output, name))
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    assert len(rows) == SIZE
    cache = str(tmp_path / "cache")
    assert load_dataset(str(folder), split="train", cache_dir=cache).to_list() == rows
    path = str(folder / "data.jsonl")
    lines = load_dataset("json", data_files=path, split="train", cache_dir=cache)
    assert lines.to_list() == rows


def test_a_card_of_rows_that_were_neither_resampled_nor_answered() -> None:
    rows = [{"id": "0-0", "instruction": "is it"}]
    card = describe(rows, CardParameters(name="tiny", guarantee=GUARANTEE), {}, [])
    assert card["resampling"] is None
    assert card["words"]["instruction"]["quartiles"] == [2, 2, 2]
    text = render(card, {})
    assert GUARANTEE in text
    assert "Resampling" not in text
