"""The aligned model measured against its base model, on public prompts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from palimpsest.api.base import faults
from palimpsest.api.checks import CHECKS, Check
from palimpsest.api.evaluation import FailedGate, GateReport, Gates
from palimpsest.api.task import (
    EndpointInput,
    EvaluationParameters,
    FileInput,
    RewardParameters,
)
from pydantic import ValidationError

from palimpsest_stage.alignment import rewards
from palimpsest_stage.alignment.rows import lines, text
from palimpsest_stage.alignment.statistics import CONFIDENCE, Duel, Share, duel, finite, share
from palimpsest_stage.alignment.verdicts import Judged
from palimpsest_stage.alignment.verifiable import keeps
from palimpsest_stage.annotate import answer, chat_prompt
from palimpsest_stage.answers.finish import refuses
from palimpsest_stage.chat import ending, ends_of
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.models import check_positions
from palimpsest_stage.runtime import Context

if TYPE_CHECKING:
    from palimpsest_stage.alignment.asked import Asked

ANSWER_BATCH = 16


@dataclass(frozen=True)
class Prompt:
    """A public instruction, with a public answer if there is one, and checks of any answer."""

    instruction: str
    answer: str | None = None
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Examined:
    """What one model made of the prompts; `nll` of those with an answer, in nats a token.

    `kept` says of each prompt which of its checks the answer keeps.
    """

    answers: list[str]
    nll: list[float]
    scores: list[float] | None = None
    kept: Sequence[Sequence[bool]] = ()


def read_prompts(context: Context, parameters: EvaluationParameters | None) -> list[Prompt]:
    """The first public prompts. Raises InputMismatch."""
    if parameters is None:
        return []
    context.input("evaluation", FileInput)
    # All are read, so that whether the file is refused does not hang on the count.
    given = list(lines(context, "evaluation", "evaluation.prompts"))
    prompts = [_prompt(place, line) for place, line in given[: parameters.count]]
    if not prompts:
        raise InputMismatch("evaluation.prompts: the file holds no prompt")
    if parameters.gates.max_nll_increase is not None and not any(one.answer for one in prompts):
        raise InputMismatch(
            "evaluation.gates.maxNLLIncrease: no prompt has an `answer`: add some, or remove it"
        )
    if parameters.gates.min_checks_kept is not None and not any(one.checks for one in prompts):
        raise InputMismatch(
            "evaluation.gates.minChecksKept: no prompt has `checks`: add some, or remove it"
        )
    return prompts


def _prompt(place: str, line: str) -> Prompt:
    """A line of the file. Raises InputMismatch."""
    try:
        row = json.loads(line)
        instruction = text(row["instruction"])
        answer = text(row["answer"]) if row.get("answer") else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputMismatch(
            f"{place}: an object with a text `instruction` is needed, and "
            "its `answer`, if it has one, must be a text"
        ) from error
    try:
        checks = CHECKS.validate_python(row.get("checks") or [])
    except ValidationError as error:
        raise InputMismatch(
            f"{place}: {faults(error, 'checks')}; docs/alignment.md "
            "lists the kinds and their fields"
        ) from error
    return Prompt(instruction, answer, tuple(checks))


def examine(
    context: Context,
    parameters: EvaluationParameters | None,
    prompts: list[Prompt],
    model: Any,
    tokenizer: Any,
) -> Examined:
    """Ask a model. The judge is loaded for as long as it takes. Raises ModelUnsuitable."""
    if parameters is None:
        return Examined([], [])
    _check_positions(parameters, prompts, model, tokenizer)
    asked = [one.instruction for one in prompts]
    answers = answer(model, tokenizer, asked, "", parameters.max_new_tokens, ANSWER_BATCH, _quiet)
    scores = None
    if parameters.judge and not _compares(context):
        scores = rewards.load(context, "judge", parameters.judge)(asked, answers)
    nll = [
        likelihood(model, tokenizer, one.instruction, one.answer) for one in prompts if one.answer
    ]
    kept = [
        [keeps(check, told) for check in one.checks]
        for one, told in zip(prompts, answers, strict=True)
    ]
    return Examined(answers, nll, scores, kept)


def _check_positions(
    parameters: EvaluationParameters, prompts: list[Prompt], model: Any, tokenizer: Any
) -> None:
    """Raises ModelUnsuitable."""
    lengths = [len(chat_prompt(tokenizer, one.instruction, "")) for one in prompts]
    longest = max(lengths) + parameters.max_new_tokens
    check_positions(model, longest, "evaluation.maxNewTokens")
    given = [
        length + len(tokenizer(one.answer, add_special_tokens=False)["input_ids"]) + 1
        for one, length in zip(prompts, lengths, strict=True)
        if one.answer
    ]
    check_positions(model, max(given, default=0), "evaluation.prompts")


def reach_judge(
    context: Context,
    parameters: EvaluationParameters | None,
    prompts: list[Prompt],
    before: Examined,
) -> None:
    """Find now, and not after the training, that an endpoint cannot be asked.

    Raises EndpointFailed.
    """
    if parameters and parameters.judge and _compares(context):
        asked = [one.instruction for one in prompts]
        _asked(context, parameters.judge).reach(asked, before.answers)


def judged(
    context: Context,
    parameters: EvaluationParameters | None,
    prompts: list[Prompt],
    before: Examined,
    after: Examined,
) -> Judged | None:
    """What an endpoint makes of both models' answers; None where none is asked.

    Raises EndpointFailed.
    """
    if parameters is None or parameters.judge is None or not _compares(context):
        return None
    asked = [one.instruction for one in prompts]
    return _asked(context, parameters.judge).compare(asked, after.answers, before.answers)


def _compares(context: Context) -> bool:
    return isinstance(context.task.inputs.get("judge"), EndpointInput)


def _asked(context: Context, parameters: RewardParameters) -> "Asked":
    # Only here: what speaks HTTP is of no use to a pod that runs a model.
    from palimpsest_stage.alignment.asked import Asked  # noqa: PLC0415

    return Asked(context, "judge", parameters, _quiet)


@torch.inference_mode()
def likelihood(model: Any, tokenizer: Any, instruction: str, told: str) -> float:
    """Mean negative log-likelihood of an answer's tokens and of the template's end, in nats."""
    start = chat_prompt(tokenizer, instruction, "")
    # A policy's template may show no answer, and so no end of one.
    end = ending(tokenizer, ends_of(model, tokenizer)) or [tokenizer.eos_token_id]
    ids = [*tokenizer(told, add_special_tokens=False)["input_ids"], *end]
    tokens = torch.tensor([[*start, *ids]], device=model.device)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(ids) + 1).logits
    found = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, len(start) :])
    return float(found)


@dataclass(frozen=True)
class Checked:
    """The shares of prompts whose checks are all kept, and of single checks."""

    prompts: Share
    checks: Share

    @classmethod
    def of(cls, kept: Sequence[Sequence[bool]]) -> "Checked | None":
        """None where no prompt has a check."""
        checked = [one for one in kept if one]
        if not checked:
            return None
        return cls(
            share([all(one) for one in checked]), share([each for one in checked for each in one])
        )


@dataclass(frozen=True)
class Figures:
    """The comparison in numbers."""

    words: tuple[float, float]
    refusals: tuple[float, float]
    nll: tuple[float, float] | None
    duel: Duel | None
    checked: tuple[Checked, Checked] | None = None

    @property
    def nll_increase(self) -> float | None:
        """How much less likely the public answers became."""
        return self.nll[1] - self.nll[0] if self.nll else None

    def told(self) -> dict[str, Any]:
        """As published."""
        found: dict[str, Any] = {
            "answerWords": _pair(self.words),
            "refusalShare": _pair(self.refusals),
        }
        if self.nll:
            found["nll"] = _pair(self.nll)
        if self.duel:
            found["judge"] = self.duel.told()
        if self.checked:
            before, after = self.checked
            found["checks"] = {
                "promptsKept": {"before": before.prompts.told(), "after": after.prompts.told()},
                "checksKept": {"before": before.checks.told(), "after": after.checks.told()},
                "confidence": CONFIDENCE,
            }
        return found


def _pair(both: tuple[float, float]) -> dict[str, float | None]:
    return {"before": finite(both[0]), "after": finite(both[1])}


def compare(before: Examined, after: Examined, by_judge: Judged | None = None) -> Figures | None:
    """The figures; None where nothing was asked. `by_judge` compared them, if it gave no scores."""
    if not before.answers:
        return None
    both = (before, after)
    words = [fmean(len(told.split()) for told in one.answers) for one in both]
    refusals = [fmean(refuses(told) for told in one.answers) for one in both]
    nll = (fmean(before.nll), fmean(after.nll)) if before.nll else None
    fought = None
    if before.scores is not None and after.scores is not None:
        fought = duel(after.scores, before.scores)
    if by_judge is not None:
        doubts = {"unparsable": by_judge.unparsable, "inconsistent": by_judge.inconsistent}
        fought = duel(by_judge.scores, [0] * len(by_judge.scores), doubts)
    old, new = Checked.of(before.kept), Checked.of(after.kept)
    checked = (old, new) if old and new else None
    return Figures((words[0], words[1]), (refusals[0], refusals[1]), nll, fought, checked)


def asked(prompts: list[Prompt], before: Examined, after: Examined) -> list[dict[str, Any]]:
    """The prompts as published: both answers, and which checks each keeps."""
    found = []
    for number, prompt in enumerate(prompts):
        row: dict[str, Any] = {
            "instruction": prompt.instruction,
            "before": before.answers[number],
            "after": after.answers[number],
        }
        if prompt.checks:
            row["checks"] = [
                {**check.model_dump(by_alias=True, exclude_none=True), "before": old, "after": new}
                for check, old, new in zip(
                    prompt.checks, before.kept[number], after.kept[number], strict=True
                )
            ]
        found.append(row)
    return found


def failures(figures: Figures | None, gates: Gates) -> GateReport:
    """The gates whose bounds the figures are beyond. A figure that is no number fails."""
    failed: list[FailedGate] = []
    if figures is None:
        return GateReport(failed=failed)
    win_rate = figures.duel.rate if figures.duel else None
    kept = figures.checked[1].prompts.rate if figures.checked else None
    for gate, figure, bound in (
        ("minWinRate", win_rate, gates.min_win_rate),
        ("minChecksKept", kept, gates.min_checks_kept),
    ):
        if bound is not None and figure is not None and not figure >= float(bound):
            failed.append(_failed(gate, figure, bound))
    for gate, figure, bound in (
        ("maxNLLIncrease", figures.nll_increase, gates.max_nll_increase),
        ("maxRefusalShare", figures.refusals[1], gates.max_refusal_share),
    ):
        if bound is not None and figure is not None and not figure <= float(bound):
            failed.append(_failed(gate, figure, bound))
    return GateReport(failed=failed)


def _failed(gate: str, figure: float, bound: str) -> FailedGate:
    return FailedGate.model_validate({"gate": gate, "figure": f"{figure:.4f}", "bound": bound})


def _quiet(_done: int, _total: int, _unit: str) -> None:
    """The stage's progress counts training steps only."""
