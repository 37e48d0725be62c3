"""Rewards: formulas that an echo loses by, models with the right head, and what they rank."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from palimpsest_stage.alignment.preferences import Pair, rank
from palimpsest_stage.alignment.rewards import (
    BuiltInReward,
    RewardModel,
    informative,
    on_topic,
)
from palimpsest_stage.errors import ModelUnsuitable
from transformers import AutoTokenizer
from unit.stage.aligned import TEMPLATE
from unit.stage.tiny import tiny_classifier, tiny_folder

QUESTION = "Can a red fox swim across a river?"
ANSWER = "Yes, most foxes swim well; the red fox crosses even a wide river where prey is near."


@given(st.text(max_size=60), st.text(max_size=60))
def test_formulas_are_shares_and_an_echo_gets_nothing(instruction: str, answer: str) -> None:
    for formula in (informative, on_topic):
        assert 0 <= formula(instruction, answer) <= 1
        assert formula(instruction, instruction) == 0
        assert formula(instruction, "") == 0
        assert formula(instruction, f"{instruction} {instruction}") == 0


def test_formulas_are_what_they_say() -> None:
    # 16 words and more are enough; "red", "fox", "a", "river" are the question's; all but one once.
    words = 17
    assert informative(QUESTION, ANSWER) == pytest.approx((words - 5) / words)
    # Half of the length, all new, one of eight repeated.
    assert informative(QUESTION, "yes yes they do it well at times") == pytest.approx(0.5 * 7 / 8)
    # "swim", "across", "river": two of three; of 17 different words 12 are new.
    assert on_topic(QUESTION, ANSWER) == pytest.approx(2 * (2 / 3) * (12 / 17) / (2 / 3 + 12 / 17))
    for formula in (informative, on_topic):
        assert formula(QUESTION, ANSWER) > formula(QUESTION, "A red fox can swim")


FIELD = "spec.reward.model"


def test_a_wrong_head_names_the_field_and_what_to_take(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsuitable, match=rf"{FIELD}: LlamaForCausalLM .* one output"):
        RewardModel(tiny_folder(tmp_path / "causal"), FIELD, None)
    with pytest.raises(ModelUnsuitable, match=rf"{FIELD}: a classifier of 2 labels .*num_labels 1"):
        RewardModel(tiny_classifier(tmp_path / "two", labels=2), FIELD, None)
    with pytest.raises(ModelUnsuitable, match=rf"{FIELD}: a classifier of 3 labels"):
        RewardModel(tiny_classifier(tmp_path / "three", labels=3), FIELD, None)
    headless = tiny_folder(tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    config |= {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "reward"}}
    (headless / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelUnsuitable, match=rf"{FIELD}: its files lack score\.weight"):
        RewardModel(headless, FIELD, None)


@pytest.mark.parametrize("template", [None, TEMPLATE])
def test_a_reward_is_the_same_in_any_company(tmp_path: Path, template: str | None) -> None:
    folder = tiny_classifier(tmp_path / "model")
    alone = RewardModel(folder, FIELD, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<u>"
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": 2}))
    batched = RewardModel(folder, FIELD, template)
    answers = [ANSWER, "No.", "Foxes do not."]
    found = alone([QUESTION] * 3, answers)
    assert found == pytest.approx(batched([QUESTION] * 3, answers), abs=1e-4)
    assert len({round(each, 4) for each in found}) == 3


def test_the_best_is_ranked_against_the_worst_and_ties_are_counted() -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": QUESTION, "answers": ["A fox.", ANSWER, "Yes, it swims."]},
        {"instruction": QUESTION, "answers": ["a red fox", "a river"]},
        {"instruction": QUESTION, "answers": [ANSWER, ANSWER]},
        {"instruction": QUESTION, "answer": ANSWER},
    ]
    ranked = rank(rows, BuiltInReward("Informative"))
    assert ranked.pairs == [Pair(QUESTION, ANSWER, "A fox.")]
    assert (ranked.ties, ranked.without_choice) == (1, 2)
    assert rank(rows, lambda asked, _: [float("nan")] * len(asked)).pairs == []
