"""The model's card: Markdown with Hugging Face's front matter."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from palimpsest.api.task import (
    ArtifactInput,
    ClaimModelInput,
    EndpointInput,
    HubModelInput,
    ModelInput,
    RewardParameters,
)

from palimpsest_stage.alignment import tuning
from palimpsest_stage.markdown import plain
from palimpsest_stage.runtime import Context

EXAMPLES = 8


@dataclass(frozen=True)
class Card:
    """What is told of an aligned model. `learnt` is a sentence, `settings` a table."""

    name: str
    method: str
    base: dict[str, str]
    dataset: str
    guarantee: str
    receipts: list[str]
    learnt: str
    settings: dict[str, str]
    losses: list[float]
    merged: bool
    asked: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def render(card: Card) -> str:
    """The card's text."""
    front: dict[str, Any] = {
        "library_name": "transformers" if card.merged else "peft",
        "pipeline_tag": "text-generation",
        "base_model": card.base["uri"],
        "datasets": [card.dataset],
        "tags": ["synthetic-data", "differential-privacy", card.method.lower()],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        f"# {card.name}",
        "",
        f"{card.learnt} No private record was seen in this step: the model inherits the data "
        "set's guarantee.",
        "",
        "## Privacy",
        "",
        card.guarantee,
        "",
    ]
    if card.receipts:
        lines += ["Signed receipts of the releases that the data set was made of:", ""]
        lines += [*(f"- `{uri}`" for uri in card.receipts), ""]
    lines += ["## Training", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in (*_origin(card), *card.settings.items())]
    lines += ["", *_curve(card.losses)]
    if card.asked:
        lines += ["## Before and after", "", *_figures(card)]
    for one in card.asked[:EXAMPLES]:
        lines += [
            f"- **{plain(one['instruction'])}**",
            f"  - before: {plain(one['before'])}",
            f"  - after: {plain(one['after'])}",
        ]
    return "\n".join(lines) + "\n"


def reward(context: Context, parameters: RewardParameters) -> str:
    """What a card calls the built-in reward, or the input called so."""
    given = context.task.inputs.get("reward")
    if isinstance(given, ModelInput | HubModelInput | ClaimModelInput):
        return f"the reward model {pinned(tuning.reference(given))}"
    if isinstance(given, EndpointInput):
        return f"{given.model} at an endpoint"
    if isinstance(given, ArtifactInput):
        return "a reward model that the run trained"
    return str(parameters.built_in)


def pinned(told: Mapping[str, str]) -> str:
    """Where something given lies, and what pins it."""
    revision = f" at {told['revision']}" if "revision" in told else ""
    return f"`{told['uri']}`{revision}, `{told['digest']}`"


def _origin(card: Card) -> list[tuple[str, str]]:
    return [
        ("base model", pinned(card.base)),
        ("data set", f"`{card.dataset}`"),
        ("method", card.method),
    ]


def _curve(losses: list[float]) -> list[str]:
    """The loss in words: means over the first and the last tenth of the steps, and the least."""
    if not losses:
        return []
    part = max(1, len(losses) // 10)
    first, last = sum(losses[:part]) / part, sum(losses[-part:]) / part
    return [
        f"Loss over {len(losses)} steps: {first:.4g} at first, {last:.4g} at last (means over a "
        f"tenth of the steps), {min(losses):.4g} at least.",
        "",
    ]


def _figures(card: Card) -> list[str]:
    """The evaluation's figures."""
    names = {
        "answerWords": "words an answer",
        "refusalShare": "share of refusals",
        "nll": "negative log-likelihood of the public answers, nats a token",
    }
    lines = [f"{len(card.asked)} public prompts.", "", "| | before | after |", "|---|---|---|"]
    for key, name in names.items():
        if key in card.figures:
            told = (card.figures[key][when] for when in ("before", "after"))
            both = ("no number" if one is None else f"{one:.4g}" for one in told)
            lines.append(f"| {name} | {' | '.join(both)} |")
    lines.append("")
    judge = card.figures.get("judge")
    if judge:
        lines += [
            f"By the judge the aligned model wins {judge['wins']}, loses {judge['losses']} and "
            f"ties {judge['ties']}: a win rate of {judge['winRate']:.3f}, between "
            f"{judge['low']:.3f} and {judge['high']:.3f} at {judge['confidence']:.0%} confidence.",
            *_doubts(judge),
            "",
        ]
    checks = card.figures.get("checks")
    if checks:
        lines += [
            f"| at {checks['confidence']:.0%} confidence | before | after |",
            "|---|---|---|",
            _shares("prompts whose checks are all kept", checks["promptsKept"]),
            _shares("single checks kept", checks["checksKept"]),
            "",
        ]
    if card.failed:
        lines += [f"**It failed these gates: {', '.join(card.failed)}.**", ""]
    return lines


def _shares(name: str, both: dict[str, dict[str, float]]) -> str:
    """A row of two shares with their intervals."""
    cells = [
        f"{one['share']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        for one in (both["before"], both["after"])
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _doubts(judge: dict[str, Any]) -> list[str]:
    """What a judge left open that was asked in both orders."""
    if "inconsistent" not in judge:
        return []
    return [
        f"Asked in both orders it contradicted itself on {judge['inconsistent']} prompts, and "
        f"{judge['unparsable']} of its verdicts could not be read: these are ties."
    ]
