"""From facts to the page. Whatever an artifact says is text: none of it becomes markup."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from math import isfinite
from typing import Any

from palimpsest.api.alignment import AlignmentRun
from palimpsest.api.common import StageStatus
from palimpsest.api.dataset import SyntheticDataset
from palimpsest.api.generator import PrivateGenerator

from . import STYLE, svg
from .facts import Facts, costs, told

MOST_ROWS = 20
# Cells of so many letters stay on one line; a cell with a word of so many is given room.
_SHORT, _LONG_WORD = 18, 40


def render(facts: Facts) -> str:
    """The whole HTML page."""
    sections = [
        ("Where the data went", _lineage(facts)),
        ("What it cost", _costs(facts)),
        ("The training", _training(facts)),
        ("The data set", _dataset(facts)),
        ("The aligned model", _aligned(facts)),
        ("Stages", _stages(facts)),
        ("Not told", _untold(facts)),
    ]
    body = "".join(f"<section><h2>{escape(t)}</h2>{b}</section>" for t, b in sections if b)
    return document(f"{facts.subject.kind} {facts.subject.name}", _head(facts) + body)


def document(title: str, body: str) -> str:
    """A page that stands alone."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Palimpsest: {escape(title)}</title>"
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under heads."""
    top = "".join(f"<th>{escape(head)}</th>" for head in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(text: str) -> str:
    long = any(len(word) > _LONG_WORD for word in text.split())
    style = " class=short" if len(text) <= _SHORT else " class=long" if long else ""
    return f"<td{style}>{escape(text)}</td>"


def tiles(pairs: Sequence[tuple[str, str]]) -> str:
    """Figures with what they are."""
    shown = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
        for value, label in pairs
    )
    return f"<div class=tiles>{shown}</div>"


def percent(share: float) -> str:
    """A share in words."""
    return f"{share:.1%}"


def _head(facts: Facts) -> str:
    subject, ready = facts.subject, facts.subject.ready
    state = f"{ready.reason}: {ready.message}" if ready else "No status yet."
    figures = []
    if facts.budget is not None:
        limit = facts.budget.spec.limit
        claim = f"({limit.epsilon}, {limit.delta})"
        figures.append((claim, "(epsilon, delta) that hold for everything ever released"))
    spent = [float(cost.charge.share) for cost in costs(facts)]
    if spent:
        figures.append((percent(sum(spent)), "of the budget\u2019s gate for all that is below"))
    card = told(facts.files, "card.json")
    if isinstance(card, Mapping) and isinstance(card.get("rows"), int):
        figures.append((f"{card['rows']:,}", "synthetic instructions"))
    judge = _at(told(facts.files, "evaluation.json"), "judge")
    if judge and _number(judge.get("winRate")) is not None:
        low, high = _number(judge.get("low")), _number(judge.get("high"))
        between = f" ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
        figures.append((f"{judge['winRate']:.2f}{between}", "win rate against the base model"))
    kept = _at(_at(told(facts.files, "evaluation.json"), "checks"), "promptsKept")
    before, after = (_number(_at(kept, when).get("share")) for when in ("before", "after"))
    if before is not None and after is not None:
        shares = f"{before:.2f} \u2192 {after:.2f}"
        figures.append((shares, "of public prompts answered within all their checks"))
    return (
        f"<header><h1>{escape(subject.name)}</h1>"
        f"<p>{escape(subject.kind)} of namespace {escape(facts.namespace)}. {escape(state)}</p>"
        f"{tiles(figures)}<p>{escape(facts.guarantee)}</p></header>"
    )


def _lineage(facts: Facts) -> str:
    records = facts.budget.spec.dataset.records if facts.budget else None
    details = {"records": (f"{records:,} declared" if records else "", "never leave")}
    for named in facts.chain:
        for stage in named.stages:
            cost = f"{float(stage.charge.share):.1%} of the gate" if stage.charge else ""
            details[stage.name] = (cost or "costs nothing", _took(stage))
    return (
        f'<div class="wide">{svg.lineage(details)}</div>'
        "<p>Only the stages in the upper lane open private records. What crosses the line "
        "downwards is differentially private; the rest is post-processing and costs nothing.</p>"
    )


def _took(stage: StageStatus) -> str:
    if stage.state != "Succeeded" or not (stage.start_time and stage.completion_time):
        return stage.progress if stage.state == "Running" else stage.state.lower()
    begun, ended = map(datetime.fromisoformat, (stage.start_time, stage.completion_time))
    seconds = int((ended - begun).total_seconds())
    return f"{seconds // 60}:{seconds % 60:02d} min" if seconds >= 60 else f"{seconds} s"


def _costs(facts: Facts) -> str:
    found = list(costs(facts))
    if not found:
        return ""
    rows = [
        (
            cost.resource,
            cost.stage,
            cost.charge.state,
            percent(float(cost.charge.share)),
            cost.charge.noise_multiplier,
            f"{cost.epsilon:.2f}" if cost.epsilon is not None else "",
            cost.receipt,
        )
        for cost in found
    ]
    parts = [
        (cost.stage, float(cost.charge.share), f"series-{index % 2 + 1}")
        for index, cost in enumerate(found)
    ]
    shares = facts.budget.status.shares if facts.budget and facts.budget.status else None
    if shares:
        left = float(shares.left)
        others = max(0.0, 1 - left - sum(part for _, part, _ in parts))
        parts += [("others", others, "rest"), ("left", left, "empty")]
    heads = ("resource", "stage", "charge", "share", "noise", "epsilon alone", "signed receipt")
    return (
        f'<div class="wide">{svg.shares(parts)}</div>'
        + table(heads, rows)
        + f"<p>Shares of the gate of PrivacyBudget {escape(facts.budget_name)} add up; epsilons do "
        "not. An epsilon is of the stage alone, its allowed restarts included, at the delta of the "
        "budget, by R\u00e9nyi accounting.</p>"
    )


def _training(facts: Facts) -> str:
    named = facts.find(PrivateGenerator)
    if named is None or not isinstance(named.resource, PrivateGenerator):
        return ""
    spec, status = named.resource.spec, named.resource.status
    training = spec.training
    records = facts.budget.spec.dataset.records if facts.budget else None
    rows = [
        ("base model", spec.base_model.uri),
        ("epsilon", spec.privacy.epsilon),
        ("expected batch size", f"{training.expected_batch_size:,}"),
        *([("steps", f"{training.steps_over(records):,}")] if records else []),
        ("clipping norm", training.clipping_norm),
        ("LoRA rank", str(training.lora.rank)),
        ("learning rate", training.learning_rate),
        ("precision", training.precision),
    ]
    audit = status.audit if status else None
    if audit is not None:
        bound = f"at least {audit.bound}" if audit.bound is not None else "not known yet"
        rows += [
            ("audit", f"{audit.verdict}: epsilon is {bound}, at confidence {audit.confidence}"),
            ("largest claim that the audit could refute", str(audit.largest_provable)),
        ]
    return table(("setting", "value"), rows)


def _dataset(facts: Facts) -> str:
    named, card = facts.find(SyntheticDataset), told(facts.files, "card.json")
    if named is None or not isinstance(card, Mapping):
        return ""
    rows = [(name, str(card.get(name, ""))) for name in ("rows", "duplicates")]
    for name, words in _at(card, "words").items():
        rows.append((f"words of an {name}", _lengths(words)))
    annotation = told(facts.files, "annotation.json")
    if isinstance(annotation, Mapping):
        rows += [
            (f"annotation: {name}", _short(value)) for name, value in annotation.items() if value
        ]
    grams = [
        (n, ", ".join(f"{each[0]} ({each[1]})" for each in some if len(each) == 2))
        for n, some in _at(card, "nGrams").items()
        if isinstance(some, list)
    ]
    examples = [
        (str(row.get("instruction", "")), str(row.get("answer", "")))
        for row in card.get("examples", [])[:MOST_ROWS]
        if isinstance(row, Mapping)
    ]
    plots = "".join(
        f"<h3>{escape(title)}</h3>{_picture(facts, name, title)}"
        for name, title in (
            ("clusters.svg", "Each cluster\u2019s share"),
            ("map.svg", "Map of the clusters"),
            ("lengths.svg", "Lengths"),
        )
        if ("card", name) in facts.files
    )
    return (
        table(("", ""), rows)
        + plots
        + (f"<h3>Most common n-grams</h3>{table(('n', 'n-grams'), grams)}" if grams else "")
        + (f"<h3>Rows</h3>{table(('instruction', 'answer'), examples)}" if examples else "")
    )


def _lengths(words: Any) -> str:
    try:
        low, middle, high = words["quartiles"]
        return f"{words['min']} to {words['max']}, quartiles {low:g}, {middle:g} and {high:g}"
    except (KeyError, TypeError, ValueError):
        return ""


def _picture(facts: Facts, name: str, title: str) -> str:
    """A published plot as an image: scripts in it would not run."""
    data = base64.b64encode(facts.files["card", name]).decode()
    return f'<img alt="{escape(title)}" src="data:image/svg+xml;base64,{data}">'


def _aligned(facts: Facts) -> str:
    named = facts.find(AlignmentRun)
    if named is None:
        return ""
    parts = [_learnt(told(facts.files, "reward.json"))]
    parts.append(_curves(told(facts.files, "training.json")))
    evaluation = told(facts.files, "evaluation.json")
    figures = [
        (name, _short(value))
        for name, value in (evaluation.items() if isinstance(evaluation, Mapping) else ())
        if name != "prompts"
    ]
    if figures:
        parts.append(f"<h3>On public prompts</h3>{table(('figure', 'value'), figures)}")
    failed = _at(told(facts.files, "gates.json"), "").get("failed")
    if isinstance(failed, list) and failed:
        parts.append(f"<h3>Gates that it failed</h3><p>{escape(_short(failed))}</p>")
    answers = [
        tuple(str(one.get(key, "")) for key in ("instruction", "before", "after"))
        for one in _list(evaluation, "prompts")[:MOST_ROWS]
        if isinstance(one, Mapping)
    ]
    if answers:
        parts.append(table(("prompt", "before", "after"), answers))
    return "".join(parts)


def _learnt(reward: Any) -> str:
    """What the run's own reward model was found to know."""
    figures = _at(reward, "heldOut")
    if not figures:
        return ""
    return f"<p>Its reward model, on pairs held out: {escape(_short(figures))}.</p>"


def _curves(training: Any) -> str:
    """A chart of each figure that is told by step, under whatever names."""
    drawn = []
    for values in training.values() if isinstance(training, Mapping) else ():
        steps = (
            [one for one in values if isinstance(one, Mapping)] if isinstance(values, list) else []
        )
        for name in steps[0] if steps else ():
            curve = [_point(place, one, name) for place, one in enumerate(steps, 1)]
            if name != "step" and sum(value is not None for _, value in curve) > 1:
                chart = svg.line(curve, f"{name} at each step", "steps", "")
                drawn.append(f"<div><h3>{escape(name)}</h3>{chart}</div>")
    return f"<div class=grid>{''.join(drawn)}</div>" if drawn else ""


def _point(place: int, told: Mapping[str, Any], name: str) -> tuple[float, float | None]:
    """(its step, or else its place; the figure)."""
    step = _number(told.get("step"))
    return float(place) if step is None else step, _number(told.get(name))


def _stages(facts: Facts) -> str:
    rows = [
        (
            f"{named.kind} {named.name}",
            stage.name,
            stage.state,
            _took(stage),
            stage.message,
            "\n".join(f"{each.uri} {each.digest}" for each in stage.artifacts[:3]),
        )
        for named in facts.chain
        for stage in named.stages
    ]
    return table(("resource", "stage", "state", "took", "message", "artifact"), rows)


def _untold(facts: Facts) -> str:
    return "".join(f"<p>{escape(each)}</p>" for each in facts.untold)


def _at(value: Any, name: str) -> Mapping[str, Any]:
    """What lies under a name (the value itself under none); empty if that is no object."""
    found = value.get(name) if name and isinstance(value, Mapping) else value
    return found if isinstance(found, Mapping) else {}


def _list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _short(value: Any) -> str:
    """A figure, or a handful of them, in words."""
    if isinstance(value, Mapping) and value.keys() == {"before", "after"}:
        return f"{_short(value['before'])} \u2192 {_short(value['after'])}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "; ".join(_short(one) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
