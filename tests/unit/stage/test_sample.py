"""The sample stage as a program: parts, kills, shards, and what it says of its draws."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.generator import Lora
from palimpsest.api.task import ArtifactInput, ModelInput, Output, SampleParameters, Task
from palimpsest_stage import lora
from palimpsest_stage.errors import InputMismatch, ModelUnsuitable
from palimpsest_stage.parts import PART, PARTS, part_sizes
from palimpsest_stage.runtime import Context
from palimpsest_stage.sample import REDRAWS, Drawn, draw, run, share, stop_tokens
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_model, tiny_tokenizer

COUNT = 2 * PART + 200


@given(st.integers(0, 20_000), st.integers(1, 16))
def test_shares_and_parts_are_the_whole(count: int, shards: int) -> None:
    shares = [share(count, shards, shard) for shard in range(shards)]
    assert sum(shares) == count
    assert max(shares) - min(shares) <= 1
    sizes = part_sizes(count)
    assert sum(sizes) == count
    assert all(0 < size <= PART for size in sizes)


def test_what_has_no_text_is_drawn_anew_and_a_generator_of_nothing_ends() -> None:
    asked = []

    def some(rows: int) -> Drawn:
        asked.append(rows)
        # Every other row is empty.
        return Drawn(["text"] * -(-rows // 2), 3 * rows, rows // 2)

    drawn = draw(10, some)
    assert len(drawn.texts) == 10
    assert drawn.tokens == 3 * sum(asked)
    assert drawn.empty == sum(asked) - 10
    assert asked == [10, 5, 2, 1]
    nothing = draw(10, lambda rows: Drawn([], rows, rows))
    assert (nothing.texts, nothing.empty) == ([], 10 * REDRAWS)


def test_a_stop_token_is_one_token() -> None:
    tokenizer = tiny_tokenizer()
    (newline,) = tokenizer("\n")["input_ids"]
    assert stop_tokens(tokenizer, ["\n"]) == {newline}
    with pytest.raises(ModelUnsuitable, match="stopTokens: 'ab' is 2 tokens"):
        stop_tokens(tokenizer, ["ab"])


@pytest.fixture(scope="module")
def generator_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("generator")
    lora.Adapters(tiny_model(), Lora(rank=2)).save(folder)
    (folder / "generator.json").write_text(json.dumps({"prompt": "Q:", "maxLength": 48}))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sampling(
    ground: Ground, folder: Path, files: dict[str, bytes], count: int = COUNT, shards: int = 1
) -> Task:
    base: ModelInput = ground.push_model(folder, "s3://models/tiny/")
    generator: ArtifactInput = ground.push_artifact(files)
    asked = SampleParameters(
        count=count, shards=shards, batch_size=64, temperature="1.0", top_p="0.95", max_length=8
    )
    return ground.task(asked, {"base": base, "generator": generator}, "outputs")


def first_shard(task: Task) -> Output:
    return task.output.model_copy(update={"uri": f"{task.output.uri}shards/0/"})


def kept(ground: Ground, task: Task) -> list[str]:
    return sorted(ground.store("root").list(f"{first_shard(task).uri}{PARTS}"))


def rows(ground: Ground, task: Task) -> list[dict[str, str]]:
    text = ground.read(first_shard(task), "instructions.jsonl")
    return [json.loads(line) for line in text.splitlines()]


def test_a_killed_shard_goes_on_where_it_was_and_draws_the_same(
    ground: Ground, model_folder: Path, generator_files: dict[str, bytes]
) -> None:
    task = sampling(ground, model_folder, generator_files)
    ground.killed_after(task, PARTS)
    drawn = {uri: ground.store("root").get(uri) for uri in kept(ground, task)}
    assert len(drawn) == 1 < len(part_sizes(COUNT))
    # What an attempt kept is what the next one publishes: a mark in it shows.
    place = min(drawn)
    marked = json.loads(drawn[place])
    marked["texts"][0] = "of the first attempt"
    ground.store("root").put(place, json.dumps(marked).encode())

    assert ground.run(task, attempt=2).code == 0
    found = rows(ground, task)
    assert [row["id"] for row in found] == [f"0-{index}" for index in range(COUNT)]
    assert all(row["instruction"] for row in found)
    assert found[0]["instruction"] == "of the first attempt"
    assert kept(ground, task) == []
    summary = json.loads(ground.read(first_shard(task), "sampling.json"))
    texts = [row["instruction"] for row in found]
    assert summary["instructions"] == COUNT
    assert summary["exactDuplicates"] == COUNT - len(set(texts))
    assert COUNT <= summary["tokens"] <= 8 * (COUNT + summary["emptyDrawnAnew"])
    assert json.loads(ground.store("root").get(f"{first_shard(task).uri}progress.json")) == {
        "done": COUNT,
        "total": COUNT,
        "unit": "instructions",
        "tokens": summary["tokens"],
    }

    # Without the kill the same instructions are drawn.
    elsewhere = task.output.model_copy(update={"uri": f"{task.output.uri}again/"})
    again = task.model_copy(update={"output": elsewhere})
    assert ground.run(again).code == 0
    assert [row["instruction"] for row in rows(ground, again)][1:] == texts[1:]


def test_a_part_that_cannot_be_read_is_drawn_again(
    ground: Ground, model_folder: Path, generator_files: dict[str, bytes]
) -> None:
    task = sampling(ground, model_folder, generator_files, count=100)
    ground.store("root").put(f"{first_shard(task).uri}{PARTS}000000.json", b'{"texts": [')
    assert ground.run(task).code == 0
    assert len(rows(ground, task)) == 100


def test_what_does_not_fit_the_models_positions_is_refused(
    ground: Ground, model_folder: Path, generator_files: dict[str, bytes]
) -> None:
    task = sampling(ground, model_folder, generator_files, count=1)
    asked = task.parameters.model_copy(update={"max_length": 255})
    context = Context(task.model_copy(update={"parameters": asked}), ground.environment(task))
    with pytest.raises(ModelUnsuitable, match=r"^sampling\.maxLength: sequences of 257 tokens"):
        run(context, {})


def test_a_generator_that_is_damaged_is_told(
    ground: Ground, model_folder: Path, generator_files: dict[str, bytes]
) -> None:
    damaged = generator_files | {"generator.json": b'["Q:"]'}
    task = sampling(ground, model_folder, damaged, count=1)
    with pytest.raises(InputMismatch, match=r"^generator: generator\.json cannot be read"):
        run(Context(task, ground.environment(task)), {})
