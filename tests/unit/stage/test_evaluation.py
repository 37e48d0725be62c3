"""The evaluation's figures, their bounds, and the stage that publishes them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cluster.fixtures import ObjectStore
from hypothesis import given
from hypothesis import strategies as st
from palimpsest.api.evaluation import Gates
from palimpsest.api.task import EvaluationParameters, RewardParameters
from palimpsest_stage.alignment.card import Card, render
from palimpsest_stage.alignment.evaluation import (
    Examined,
    Prompt,
    compare,
    examine,
    failures,
    likelihood,
    read_prompts,
)
from palimpsest_stage.alignment.statistics import duel, share, wilson
from palimpsest_stage.errors import InputMismatch, ModelUnsuitable
from palimpsest_stage.models import check_positions
from palimpsest_stage.runtime import Context
from unit.stage.aligned import ROWS, TEMPLATE, alignment, public_file, sft
from unit.stage.families import family_model
from unit.stage.ground import Ground
from unit.stage.tiny import tiny_model, tiny_tokenizer

YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}


@pytest.fixture
def ground(object_store: ObjectStore, tmp_path: Path) -> Ground:
    return Ground.on(object_store, tmp_path, tmp_path.name.replace("_", "-"), 100)


def test_wilson_s_interval_is_the_textbook_s() -> None:
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1.0, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=30))
def test_a_duel_counts_each_prompt_once_and_is_fair(scores: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _ in scores], [b for _, b in scores]
    one, other = duel(ours, theirs), duel(theirs, ours)
    assert one.wins + one.losses + one.ties == len(scores)
    assert (one.wins, one.losses, one.ties) == (other.losses, other.wins, other.ties)
    assert one.rate + other.rate == pytest.approx(1)
    assert one.low - 1e-9 <= one.rate <= one.high + 1e-9


def test_a_score_that_is_no_number_wins_nothing() -> None:
    found = duel([float("nan"), 1.0, 1.0], [0.0, 1.0, 0.0])
    assert (found.wins, found.losses, found.ties, found.rate) == (1, 1, 1, 0.5)


@torch.no_grad()
def test_an_answer_s_likelihood_is_the_library_s_loss() -> None:
    model, tokenizer = tiny_model(), tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    prompt = tokenizer("u:is it</s>a:", add_special_tokens=False)["input_ids"]
    whole = [*prompt, *tokenizer("yes", add_special_tokens=False)["input_ids"], 1]
    labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
    expected = model(input_ids=torch.tensor([whole]), labels=labels).loss.item()
    assert likelihood(model, tokenizer, "is it", "yes") == pytest.approx(expected, abs=1e-5)
    # The end is the one that the template writes, if the model has it for one.
    tokenizer.chat_template = TEMPLATE.replace("{{ eos_token }}", "<u>")
    model.generation_config.eos_token_id = [1, 2]
    prompt = tokenizer("u:is it<u>a:", add_special_tokens=False)["input_ids"]
    whole = [*prompt, *tokenizer("yes", add_special_tokens=False)["input_ids"], 2]
    labels = torch.tensor([[-100] * len(prompt) + whole[len(prompt) :]])
    expected = model(input_ids=torch.tensor([whole]), labels=labels).loss.item()
    assert likelihood(model, tokenizer, "is it", "yes") == pytest.approx(expected, abs=1e-5)


def test_gates_fail_beyond_their_bounds_only() -> None:
    before = Examined(["a b", "c"], [1.0, 2.0], [0.5, 0.5])
    after = Examined(["a b c", "I cannot assist"], [1.1, 2.1], [1.0, 0.0])
    figures = compare(before, after)
    assert figures is not None
    assert figures.words == (1.5, 3.0)
    assert figures.refusals == (0.0, 0.5)
    assert figures.nll == pytest.approx((1.5, 1.6))
    kept = Gates(min_win_rate="0.5", max_nll_increase="0.11", max_refusal_share="0.5")
    assert failures(figures, kept).failed == []
    assert failures(figures, Gates()).failed == []
    broken = Gates(min_win_rate="0.51", max_nll_increase="0.09", max_refusal_share="0.4")
    found = [(one.gate, one.figure, one.bound) for one in failures(figures, broken).failed]
    assert found == [
        ("minWinRate", "0.5000", "0.51"),
        ("maxNLLIncrease", "0.1000", "0.09"),
        ("maxRefusalShare", "0.5000", "0.4"),
    ]
    unread = compare(Examined(["a"], [1.0]), Examined(["a"], [float("nan")]))
    assert [one.figure for one in failures(unread, broken).failed] == ["nan"]
    assert unread is not None
    # As JSON tells it, and the card.
    assert unread.told()["nll"] == {"before": 1.0, "after": None}
    none: Any = dict.fromkeys(("name", "method", "dataset", "guarantee", "learnt"), "")
    none |= {"base": {"uri": "", "digest": ""}, "receipts": [], "settings": {}, "losses": []}
    asked = [{"instruction": "a", "before": "a", "after": "a"}]
    card = render(Card(**none, merged=True, asked=asked, figures=unread.told()))
    assert "nats a token | 1 | no number |" in card


def test_checks_are_counted_by_prompt_and_one_by_one() -> None:
    before = Examined(["a", "b", "c"], [], kept=[[True, False], [], [False]])
    after = Examined(["a", "b", "c"], [], kept=[[True, True], [], [False]])
    figures = compare(before, after)
    assert figures is not None
    told = figures.told()["checks"]
    # A prompt without checks counts for nothing.
    assert told["promptsKept"]["before"] == share([False, False]).told()
    assert told["promptsKept"]["after"] == share([True, False]).told()
    assert told["checksKept"]["before"] == share([True, False, False]).told()
    assert told["checksKept"]["after"] == share([True, True, False]).told()
    low, high = wilson(0.5, 2)
    assert told["promptsKept"]["after"] == {"share": 0.5, "low": low, "high": high}
    assert failures(figures, Gates(min_checks_kept="0.5")).failed == []
    (failed,) = failures(figures, Gates(min_checks_kept="0.51")).failed
    assert (failed.gate, failed.figure, failed.bound) == ("minChecksKept", "0.5000", "0.51")
    without = compare(Examined(["a"], [], kept=[[]]), Examined(["a"], [], kept=[[]]))
    assert without is not None
    assert "checks" not in without.told()


def asked(**given: Any) -> EvaluationParameters:
    standard: dict[str, Any] = {
        "count": 4,
        "max_new_tokens": 12,
        "judge": RewardParameters(built_in="OnTopic"),
    }
    return EvaluationParameters(**standard | given)


def test_a_stage_publishes_figures_and_the_gates_that_failed(
    ground: Ground, model_folder: Path
) -> None:
    few: dict[str, Any] = {"kind": "Words", "atMost": 2}
    checked: list[dict[str, Any]] = [
        ROWS[0] | {"checks": [few]},
        ROWS[1] | {"checks": [few, {"kind": "Uppercase"}]},
    ]
    new = {"instruction": "is 9 more than 8", "checks": [{"kind": "StartsWith", "text": "yes"}]}
    held_out = public_file(ground, [*checked, ROWS[2], new, ROWS[7]])
    gates = Gates(min_win_rate="1", max_nll_increase="0", min_checks_kept="0.9")
    parameters = sft(evaluation=asked(gates=gates))
    task = alignment(ground, model_folder, parameters, evaluation=held_out)
    ended = ground.run(task)
    assert ended.outcome == "Completed", ended.said
    told = json.loads(ground.read(task.output, "evaluation.json"))
    assert [one["instruction"] for one in told["prompts"]] == [
        "is 0 more than -1",
        "is 1 more than 0",
        "is 2 more than 1",
        "is 9 more than 8",
    ]
    assert told["nll"]["after"] < told["nll"]["before"] - 1
    assert told["judge"]["wins"] + told["judge"]["losses"] + told["judge"]["ties"] == 4
    # The answers of one word take up no topic, so nothing is won by them.
    assert told["judge"]["winRate"] <= 0.5
    # What it has learnt to say is yes, over and over.
    assert told["prompts"][1]["checks"][0] == few | {
        "before": len(told["prompts"][1]["before"].split()) in (1, 2),
        "after": True,
    }
    assert told["prompts"][1]["checks"][1]["after"] is False
    assert told["prompts"][3]["checks"][0]["after"] is True
    assert "checks" not in told["prompts"][2]
    assert told["checks"]["promptsKept"]["after"] == share([True, False, True]).told()
    assert told["checks"]["checksKept"]["after"] == share([True, True, False, True]).told()
    assert told["checks"]["checksKept"]["before"]["share"] < 0.75
    won, kept = json.loads(ground.read(task.output, "gates.json"))["failed"]
    assert won == {
        "gate": "minWinRate",
        "figure": f"{told['judge']['winRate']:.4f}",
        "bound": "1",
    }
    assert kept == {"gate": "minChecksKept", "figure": "0.6667", "bound": "0.9"}
    card = ground.read(task.output, "README.md").decode()
    assert "| negative log-likelihood of the public answers, nats a token |" in card
    assert "By the judge the aligned model wins" in card
    assert "**It failed these gates: minWinRate, minChecksKept.**" in card
    assert "| prompts whose checks are all kept | " in card
    assert " | 0.667 (0.208 to 0.939) |" in card


def test_a_gate_without_what_it_measures_is_named(ground: Ground, model_folder: Path) -> None:
    held_out = public_file(ground, [{"instruction": "is 9 more than 8"}])
    parameters = sft(evaluation=asked(gates=Gates(max_nll_increase="0.1")))
    ended = ground.run(alignment(ground, model_folder, parameters, evaluation=held_out))
    assert ended.outcome == "InputMismatch"
    assert "evaluation.gates.maxNLLIncrease: no prompt has an `answer`" in ended.said


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        (
            [{"instruction": "a"}, {"instruction": "b", "checks": [{"kind": "Rhymes"}]}],
            {},
            r"evaluation.prompts, line 2: checks.0: .*'Words', .*; docs/alignment.md lists",
        ),
        (
            [{"instruction": "a", "checks": [{"kind": "NoCommas"}, {"kind": "Words"}]}],
            {},
            "line 1: checks.1.Words: give atLeast, atMost or both, or around alone",
        ),
        ([{"instruction": "a", "checks": "NoCommas"}], {}, "line 1: checks: .*valid list"),
        (
            [{"instruction": "a"}, {"instruction": None}],
            {},
            "evaluation.prompts, line 2: an object with a text `instruction` is needed",
        ),
        ([{"instruction": "half \ud800"}], {}, "evaluation.prompts, line 1: an object"),
        ([{"instruction": "a", "answer": "half \ud800"}], {}, "line 1: .* `answer`, if it"),
        ([{"instruction": "a", "answer": 7}], {}, "line 1: .* `answer`, if it"),
        (
            [{"instruction": "a"}],
            {"gates": Gates(min_checks_kept="0.5")},
            "evaluation.gates.minChecksKept: no prompt has `checks`: add some, or remove it",
        ),
    ],
)
def test_rows_that_cannot_be_asked_are_named_by_line(
    ground: Ground, model_folder: Path, rows: list[dict[str, Any]], given: dict[str, Any], said: str
) -> None:
    parameters = asked(**given)
    held_out = public_file(ground, rows)
    task = alignment(ground, model_folder, sft(evaluation=parameters), evaluation=held_out)
    with pytest.raises(InputMismatch, match=said):
        read_prompts(Context(task, ground.environment(task)), parameters)


@pytest.mark.parametrize(
    ("family", "more", "most"),
    [
        # Learnt positions, turned ones, and turned ones that are stretched.
        ("gpt2", {}, 256),
        ("mistral", {}, 256),
        ("mistral", {"rope_parameters": YARN}, 512),
    ],
)
def test_sequences_beyond_a_model_s_positions_name_the_field(
    family: str, more: dict[str, Any], most: int, ground: Ground, model_folder: Path
) -> None:
    model, tokenizer = family_model(family, **more), tiny_tokenizer()
    check_positions(model, most, "sft.maxLength")
    with pytest.raises(ModelUnsuitable, match=f"^sft.maxLength: .* {most + 1} .* {most} positions"):
        check_positions(model, most + 1, "sft.maxLength")
    tokenizer.chat_template = TEMPLATE
    context = Context(task := alignment(ground, model_folder, sft()), ground.environment(task))
    # Eight characters of the format, one token each.
    for prompt, field in (
        (Prompt("x" * (most - 10)), "maxNewTokens"),
        (Prompt("x", answer="x" * most), "prompts"),
    ):
        with pytest.raises(ModelUnsuitable, match=rf"^evaluation\.{field}: sequences of"):
            examine(context, asked(judge=None), [prompt], model, tokenizer)
