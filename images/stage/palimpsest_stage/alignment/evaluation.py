"""The aligned model measured against its base model, on public prompts."""

import json
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from palimpsest.api.evaluation import FailedGate, GateReport, Gates
from palimpsest.api.task import EvaluationParameters, FileInput

from palimpsest_stage.alignment import rewards
from palimpsest_stage.alignment.statistics import Duel, duel
from palimpsest_stage.annotate import answer, chat_prompt
from palimpsest_stage.answers.finish import refuses
from palimpsest_stage.errors import InputMismatch
from palimpsest_stage.runtime import Context

ANSWER_BATCH = 16


@dataclass(frozen=True)
class Prompt:
    """A public instruction, with a public answer if there is one."""

    instruction: str
    answer: str | None = None


@dataclass(frozen=True)
class Examined:
    """What one model made of the prompts; `nll` of those with an answer, in nats a token."""

    answers: list[str]
    nll: list[float]
    scores: list[float] | None = None


def read_prompts(context: Context, parameters: EvaluationParameters | None) -> list[Prompt]:
    """The first public prompts. Raises InputMismatch."""
    if parameters is None:
        return []
    context.input("evaluation", FileInput)
    try:
        with context.file("evaluation").open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()][: parameters.count]
            prompts = [
                Prompt(str(row["instruction"]), str(row["answer"]) if row.get("answer") else None)
                for row in rows
            ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputMismatch("evaluation: JSONL with a field `instruction` is needed") from error
    if not prompts:
        raise InputMismatch("evaluation.prompts: the file holds no prompt")
    if parameters.gates.max_nll_increase is not None and not any(one.answer for one in prompts):
        raise InputMismatch(
            "evaluation.gates.maxNLLIncrease: no prompt has an `answer`: add some, or remove it"
        )
    return prompts


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
    asked = [one.instruction for one in prompts]
    answers = answer(model, tokenizer, asked, "", parameters.max_new_tokens, ANSWER_BATCH, _quiet)
    scores = None
    if parameters.judge:
        scores = rewards.load(context, "judge", parameters.judge)(asked, answers)
    nll = [
        likelihood(model, tokenizer, one.instruction, one.answer) for one in prompts if one.answer
    ]
    return Examined(answers, nll, scores)


@torch.inference_mode()
def likelihood(model: Any, tokenizer: Any, instruction: str, told: str) -> float:
    """Mean negative log-likelihood of an answer's tokens, its end included, in nats."""
    start = chat_prompt(tokenizer, instruction, "")
    ids = [*tokenizer(told, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    tokens = torch.tensor([[*start, *ids]], device=model.device)
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=len(ids) + 1).logits
    found = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[0, len(start) :])
    return float(found)


@dataclass(frozen=True)
class Figures:
    """The comparison in numbers."""

    words: tuple[float, float]
    refusals: tuple[float, float]
    nll: tuple[float, float] | None
    duel: Duel | None

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
        return found


def _pair(both: tuple[float, float]) -> dict[str, float]:
    return {"before": both[0], "after": both[1]}


def compare(before: Examined, after: Examined) -> Figures | None:
    """The figures; None where nothing was asked."""
    if not before.answers:
        return None
    both = (before, after)
    words = [fmean(len(text.split()) for text in one.answers) for one in both]
    refusals = [fmean(refuses(text) for text in one.answers) for one in both]
    nll = (fmean(before.nll), fmean(after.nll)) if before.nll else None
    fought = None
    if before.scores is not None and after.scores is not None:
        fought = duel(after.scores, before.scores)
    return Figures((words[0], words[1]), (refusals[0], refusals[1]), nll, fought)


def failures(figures: Figures | None, gates: Gates) -> GateReport:
    """The gates whose bounds the figures are beyond. A figure that is no number fails."""
    failed: list[FailedGate] = []
    if figures is None:
        return GateReport(failed=failed)
    win_rate = figures.duel.rate if figures.duel else None
    if gates.min_win_rate and win_rate is not None and not win_rate >= float(gates.min_win_rate):
        failed.append(_failed("minWinRate", win_rate, gates.min_win_rate))
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
