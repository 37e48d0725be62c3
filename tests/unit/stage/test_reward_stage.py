"""The reward stage: what it learns, what loads it, a killed pod, what nothing is learnt from."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cluster.fixtures import ObjectStore
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.task import FileInput, RewardParameters, sha256_digest
from palimpsest_stage.alignment.heads import load_headed
from palimpsest_stage.alignment.preferences import Pair, read, split
from palimpsest_stage.errors import DatasetUnsuitable, InputMismatch, ModelUnsuitable, StageError
from palimpsest_stage.parts import CHECKPOINTS
from palimpsest_stage.runtime import Context
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    CLIPTextConfig,
    CLIPTextModel,
)
from unit.stage.aligned import ROWS, TEMPLATE, alignment, dpo, fetched, learning
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_classifier, tiny_folder, tiny_tokenizer

PAIRS = [
    {"instruction": row["instruction"], "chosen": "yes " * (1 + n % 3), "rejected": "no never"}
    for n, row in enumerate(ROWS)
]


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def test_it_tells_held_out_pairs_apart_and_dpo_ranks_by_it(
    ground: Ground, model_folder: Path, tmp_path: Path
) -> None:
    tie = {"instruction": "a", "chosen": "yes", "rejected": "yes"}
    long = {"instruction": "a", "chosen": "yes", "rejected": "no" * 40}
    task = learning(ground, model_folder, [*PAIRS, tie, long])
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(task.output, "reward.json"))
    assert (told["pairs"], told["ties"], told["tooLong"]) == (48, 1, 1)
    held = told["heldOut"]
    assert (held["pairs"], held["accuracy"]) == (16, 1)
    assert 0.8 < held["low"] < held["high"] == 1
    assert held["margin"] > 1
    assert len(told["loss"]) == 24
    assert told["loss"][0]["loss"] == pytest.approx(0.693, abs=0.3)
    assert told["loss"][-1]["loss"] < 0.1
    assert told["base"]["uri"] == "s3://models/model/"

    folder = fetched(ground, task, tmp_path / "published")
    assert (folder / "model.safetensors").exists()
    assert not (folder / "adapter_config.json").exists()
    loaded, said = AutoModelForSequenceClassification.from_pretrained(
        folder, output_loading_info=True
    )
    assert not said["missing_keys"]
    assert loaded.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATE

    rows = [row | {"answers": ["no never", "yes", "no no"]} for row in ROWS]
    learnt = ground.artifact(task.output)
    ranked = alignment(
        ground, model_folder, dpo(epochs=1, reward=RewardParameters()), rows, reward=learnt
    )
    ended = ground.run(ranked)
    assert ended.outcome == "Completed", ended.said
    assert json.loads(ground.read(ranked.output, "training.json"))["pairs"] == 64
    card = ground.read(ranked.output, "README.md").decode()
    assert "| preferences | ranked by a reward model that the run trained |" in card


@pytest.mark.full
def test_a_pod_that_follows_a_killed_one_ends_with_the_same_bits(
    ground: Ground, model_folder: Path
) -> None:
    task = undisturbed = learning(ground, model_folder, PAIRS, epochs=3)
    other = f"{undisturbed.output.uri.rstrip('/')}-undisturbed/"
    output = undisturbed.output.model_copy(update={"uri": other})
    undisturbed = undisturbed.model_copy(update={"output": output})
    store, kept = ground.store("root"), f"{task.output.uri}{CHECKPOINTS}"
    beside = ground.start(undisturbed)
    ground.killed_after(task, "/checkpoint.json")
    assert not store.exists(f"{task.output.uri}manifest.json")
    second = ground.run(task, attempt=2)
    assert second.outcome == "Completed", second.said
    assert "going on from step" in second.said
    assert beside.wait().outcome == "Completed"
    for name in ("model.safetensors", "reward.json"):
        assert ground.read(task.output, name) == ground.read(undisturbed.output, name)
    assert list(store.list(kept)) == []


@pytest.mark.parametrize(
    ("pairs", "parameters", "kind", "said"),
    [
        (
            [{"instruction": "a", "chosen": "yes", "rejected": "yes"}],
            {},
            DatasetUnsuitable,
            r"spec\.reward\.trained\.preferences: no pair of two different answers",
        ),
        (
            PAIRS,
            {"max_length": 16},
            DatasetUnsuitable,
            r"spec\.reward\.trained\.maxLength: no pair fits into 16 tokens: raise it",
        ),
        (
            [{"instruction": "a", "chosen": "yes", "rejected": "no"}] * 3,
            {},
            DatasetUnsuitable,
            "all pairs are of one instruction, .* add pairs of others",
        ),
        (
            [*PAIRS[:2], {"instruction": "a", "chosen": "unsaid"}],
            {},
            InputMismatch,
            r"^spec\.reward\.trained\.preferences, line 3: an object with the texts "
            "`instruction`, `chosen` and `rejected` is needed$",
        ),
        (
            [{"instruction": "a", "chosen": "\ud800", "rejected": "no"}],
            {},
            InputMismatch,
            r"preferences, line 1: an object with the texts",
        ),
    ],
)
def test_what_nothing_is_learnt_from_names_the_field_and_the_remedy(
    ground: Ground,
    model_folder: Path,
    pairs: list[dict[str, Any]],
    parameters: dict[str, Any],
    kind: type[StageError],
    said: str,
) -> None:
    from palimpsest_stage import reward  # noqa: PLC0415 - TRL, 11 s

    task = learning(ground, model_folder, pairs, **parameters)
    with pytest.raises(kind, match=said):
        reward.run(Context(task, ground.environment(task)), {})


def test_pairs_in_another_encoding_are_told_so(ground: Ground, model_folder: Path) -> None:
    task = learning(ground, model_folder, PAIRS[:1])
    given = task.inputs["preferences"]
    assert isinstance(given, FileInput)
    data = json.dumps(PAIRS[0]).encode("utf-16")
    ground.store("root").put(given.uri, data)
    other = given.model_copy(update={"digest": sha256_digest(data)})
    task = task.model_copy(update={"inputs": task.inputs | {"preferences": other}})
    with pytest.raises(InputMismatch, match=r"^dpo\.preferences: the file is not in UTF-8$"):
        read(Context(task, ground.environment(task)), "preferences", "dpo.preferences")


def test_a_model_that_can_get_no_head_is_refused_by_name(tmp_path: Path) -> None:
    def refused(folder: Path, template: str | None, said: str) -> None:
        tiny_tokenizer().save_pretrained(folder)
        with pytest.raises(ModelUnsuitable, match=rf"spec\.reward\.trained\.baseModel.*{said}"):
            load_headed(folder, template, 1)

    refused(tiny_folder(tmp_path / "plain"), None, "no chat template of its own")
    refused(tiny_classifier(tmp_path / "two", labels=2), TEMPLATE, "a classifier of 2 labels")
    headless = tmp_path / "headless"
    BertForMaskedLM(
        BertConfig(
            vocab_size=259,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
        )
    ).save_pretrained(headless)
    refused(headless, TEMPLATE, "its files lack .*pooler")
    unknown = tmp_path / "unknown"
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPTextConfig(vocab_size=259, num_attention_heads=2, **sizes)
    CLIPTextModel(config).save_pretrained(unknown)
    refused(unknown, TEMPLATE, "it makes no reward model: Unrecognized .*: take a causal language")


def test_a_classifier_goes_on_from_its_own_head(tmp_path: Path) -> None:
    folder = tiny_classifier(tmp_path / "ready")
    before = AutoModelForSequenceClassification.from_pretrained(folder).score.weight
    model, _ = load_headed(folder, TEMPLATE, 1)
    assert (model.score.weight == before.to(model.device)).all()
    base = tiny_folder(tmp_path / "base")
    first, again, other = (load_headed(base, TEMPLATE, seed)[0] for seed in (1, 1, 2))
    assert (first.score.weight == again.score.weight).all()
    assert (first.score.weight != other.score.weight).any()


PAIR = st.builds(Pair, st.text(max_size=2), st.text(max_size=2), st.text(max_size=2))


@given(st.lists(PAIR, min_size=1, max_size=40), st.sampled_from(["0.01", "0.1", "0.5", "1"]))
def test_a_split_keeps_an_instruction_on_one_side_whatever_the_order(
    pairs: list[Pair], share: str
) -> None:
    learnt, held = split(pairs, Decimal(share))
    assert sorted(map(repr, [*learnt, *held])) == sorted(map(repr, pairs))
    asked = {pair.instruction for pair in pairs}
    apart = {pair.instruction for pair in held}
    assert apart.isdisjoint(pair.instruction for pair in learnt)
    assert learnt
    if len(asked) > 1:
        assert len(apart) == min(max(1, round(Decimal(share) * len(asked))), len(asked) - 1)
    turned = split(pairs[::-1], Decimal(share))
    assert {pair.instruction for pair in turned[1]} == apart
