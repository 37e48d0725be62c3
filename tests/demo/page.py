"""From the summary to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from palimpsest.report import svg
from palimpsest.report.page import document, percent, table, tiles


def render(summary: Mapping[str, Any]) -> str:
    """The whole HTML page."""
    sections = [
        _head(summary),
        _section("Where the data went", _lineage(summary)),
        _section("What it cost", _budget(summary)),
        _section("Do the questions look like the private ones?", _quality(summary)),
        _section("Synthetic questions", _samples(summary)),
        _section("The aligned model", _answers(summary)),
        *([_section("Learnt from a reward", _rewarded(told))] if (told := summary["rlhf"]) else []),
        _section("How it was checked", _checks(summary)),
    ]
    return document(summary["budget"]["name"], "".join(sections))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"


def _head(summary: Mapping[str, Any]) -> str:
    quality, journal, budget = summary["quality"], summary["journal"], summary["budget"]
    spent = journal["shareCommitted"] + journal["shareReserved"]
    cards = [
        (
            f"({budget['epsilon']}, {budget['delta']})",
            "(epsilon, delta) that hold for everything ever released",
        ),
        (percent(spent), "of the budget\u2019s gate is spent"),
        (
            f"{quality['nll']['base']:.2f} \u2192 {quality['nll']['generator']:.2f}",
            "nats a token on held-out public questions, before and after DP-SGD",
        ),
        (
            f"{quality['totalVariation']['pool']:.2f} \u2192 "
            f"{quality['totalVariation']['selected']:.2f}",
            "total variation to held-out public questions, before and after resampling",
        ),
        (
            _minutes(summary["pipelineSeconds"]),
            "from the first Job\u2019s start to the last\u2019s end",
        ),
    ]
    return (
        "<header><h1>Palimpsest</h1><p>Private instructions in; differentially private synthetic "
        "instructions out; a model aligned on those alone.</p>"
        f"{tiles(cards)}</header>"
    )


def _lineage(summary: Mapping[str, Any]) -> str:
    details: dict[str, tuple[str, ...]] = {
        "records": (f"{summary['budget']['records']:,} declared", "never leave")
    }
    charged = {charge["stage"]: charge["share"] for charge in summary["journal"]["charges"]}
    for stage in summary["stages"]:
        name = stage["name"]
        seconds = stage["seconds"]
        took = f"{seconds:.0f} s" if seconds is not None else ""
        cost = f"{charged[name]:.1%} of the gate" if name in charged else "costs nothing"
        details[name] = (cost, took)
    return (
        f'<div class="wide">{svg.lineage(details)}</div>'
        "<p>Only the two stages in the upper lane open private records, each after its own "
        "<code>start</code> was accepted by the journal. What crosses the line downwards is "
        "differentially private; the rest is post-processing and costs nothing.</p>"
    )


def _budget(summary: Mapping[str, Any]) -> str:
    journal, budget = summary["journal"], summary["budget"]
    parts = [
        (charge["stage"], charge["share"], f"series-{index % 2 + 1}")
        for index, charge in enumerate(journal["charges"])
    ]
    left = max(0.0, 1 - sum(part for _, part, _ in parts))
    rows = [
        (
            charge["subject"],
            charge["stage"],
            charge["mechanism"],
            charge["state"],
            str(charge["steps"]),
            percent(charge["share"]),
        )
        for charge in journal["charges"]
    ]
    charges = table(("resource", "stage", "mechanism", "state", "steps", "share"), rows)
    return (
        svg.shares([*parts, ("left", left, "rest")])
        + charges
        + f"<p>{escape(budget['guarantee'])} The gate is a R\u00e9nyi filter at order "
        f"{journal['order']}: shares add up, epsilons do not. Spent so far, if the charges\u2019 "
        "parameters were chosen without seeing earlier releases: epsilon "
        f"{journal['epsilonSpentRenyi']:.2f} by R\u00e9nyi accounting, "
        f"{journal['epsilonSpentPld']:.2f} by privacy loss distributions.</p>"
        "<p>A second generator of epsilon 3 was denied, and no Job or pod of it ever existed:</p>"
        f"<pre>{escape(summary['denial']['text'])}</pre>"
    )


def _quality(summary: Mapping[str, Any]) -> str:
    quality = summary["quality"]
    yes, nll, apart = quality["yesNo"], quality["nll"], quality["totalVariation"]
    clusters = quality["clusters"]
    order = sorted(range(len(clusters["heldOut"])), key=lambda i: -clusters["heldOut"][i])
    forms = svg.bars(
        [
            ("held-out public questions", yes["heldOut"], "rest"),
            ("model before training", yes["base"], "series-2"),
            ("synthetic pool", yes["pool"], "series-1"),
            ("selected", yes["selected"], "series-1"),
        ],
        "%",
        1.0,
    )
    likelihood = svg.bars(
        [
            ("before training", nll["base"], "series-2"),
            ("after DP-SGD", nll["generator"], "series-1"),
        ],
        "nats a token",
    )
    columns = svg.histogram(
        [
            ("held out", clusters["heldOut"], "rest"),
            (f"pool ({apart['pool']:.2f} away)", clusters["pool"], "series-2"),
            (f"selected ({apart['selected']:.2f} away)", clusters["selected"], "series-1"),
        ],
        order,
    )
    return (
        "<p>Every figure here is computed on public questions that were held out, never on the "
        "private ones, and by a program that shares no code with the pipeline.</p>"
        f"<div class=grid><div><h3>Questions of yes/no form</h3>{forms}</div>"
        f"<div><h3>Negative log-likelihood, {nll['questions']} held-out questions</h3>"
        f"{likelihood}</div></div><h3>Clusters before and after resampling</h3>"
        f'<div class="wide">{columns}</div>'
        "<p>By chance alone, two samples of this size from one distribution are "
        f"{apart['floor']:.2f} apart (median).</p>"
    )


def _samples(summary: Mapping[str, Any]) -> str:
    samples = summary["quality"]["samples"]
    columns = [
        ("The model before training", samples["base"]),
        ("The pool: after DP-SGD", samples["pool"]),
        ("Selected: after resampling", samples["selected"]),
    ]
    lists = "".join(
        f"<div><h3>{escape(title)}</h3><ul>"
        + "".join(f"<li>{escape(text)}</li>" for text in texts)
        + "</ul></div>"
        for title, texts in columns
    )
    return f"<div class=grid>{lists}</div>"


def _answers(summary: Mapping[str, Any]) -> str:
    quality = summary["quality"]
    rows = [(a["instruction"], a["before"], a["after"]) for a in quality["answers"]]
    curve = quality["loss"]
    up = "loss of an answer\u2019s token, nats"
    drawn = svg.line(list(enumerate(curve, 1)), up, "steps", up) if curve else ""
    return table(("question", "before", "after"), rows) + (
        f"<h3>Fine-tuning on the synthetic answers</h3>{drawn}" if drawn else ""
    )


def _curve(steps: Sequence[Mapping[str, Any]], name: str, title: str) -> str:
    return svg.line(
        [(place, step[name]) for place, step in enumerate(steps, 1)], title, "steps", ""
    )


def _rewarded(told: Mapping[str, Any]) -> str:
    judge, steps = told["judge"], told["steps"]
    drawn = "".join(
        f"<div><h3>{title}</h3>{_curve(steps, name, title)}</div>"
        for name, title in (
            ("reward", "Reward"),
            ("kl", "KL from the base model, nats a token"),
            ("completionTokens", "Tokens of a completion"),
        )
    )
    return (
        f"<div class=grid>{drawn}</div><p>Another measure judged its answers to public questions "
        f"against the base model\u2019s: a win rate of {judge['winRate']:.2f}, between "
        f"{judge['low']:.2f} and {judge['high']:.2f} at {judge['confidence']:.0%} confidence.</p>"
    )


def _checks(summary: Mapping[str, Any]) -> str:
    journal, artifacts = summary["journal"], summary["artifacts"]
    facts = [
        f"The journal\u2019s {journal['entries']} entries form one unbroken hash chain.",
        "Every charge\u2019s cost was computed again with dp-accounting and is not above what the "
        "journal reserved.",
        f"{len(summary['receipts'])} signed receipts name what was released, by digest, and what "
        "paid for it; their signatures, and the entries that they name, were checked.",
        f"{artifacts['files']} files of {artifacts['count']} artifacts have the digests that their "
        "manifests state; so has every public input.",
        f"Private stages ran in {', '.join(summary['custody']['privateNamespaces'])} only.",
        "The tenant\u2019s keys were refused by the private bucket.",
    ]
    rows = [(name, _minutes(seconds)) for name, seconds in summary["phases"].items()]
    return (
        "<ul>"
        + "".join(f"<li>{escape(fact)}</li>" for fact in facts)
        + "</ul>"
        + table(("phase", "time"), rows)
    )
