"""The card as Markdown, for Hugging Face's hub and for a reader."""

from collections.abc import Mapping
from typing import Any

import yaml

from palimpsest_stage.card.charts import Plot
from palimpsest_stage.markdown import plain

# A system prompt is longer than a cell of a table should be.
_LONGEST_SETTING = 120


def render(card: dict[str, Any], drawn: Mapping[str, Plot]) -> str:
    """With Hugging Face's front matter; the plots lie beside it."""
    front = {
        "pretty_name": card["name"],
        "tags": ["synthetic", "differential-privacy"],
        "size_categories": [_size(card["rows"])],
        # One format only: with both, a row would be loaded twice.
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "**/data.parquet"}],
            }
        ],
    }
    lines = [
        "---",
        yaml.safe_dump(front, sort_keys=False).strip(),
        "---",
        "",
        f"# {card['name']}",
        "",
        "Synthetic instructions: every one was sampled from a language model that was trained on "
        "private instructions with differential privacy. No row is a private record.",
        "",
        "## Privacy",
        "",
        card["guarantee"],
        "",
        *_receipts(card["stages"]),
        "## What is in it",
        "",
        "| | |",
        "|---|---|",
        f"| rows | {card['rows']:,} |",
        f"| fields | {', '.join(card['fields'])} |",
        f"| exact duplicates | {card['duplicates']:,} |",
    ]
    for name, words in card["words"].items():
        low, middle, high = words["quartiles"]
        lines.append(
            f"| words of an {name} | {words['min']} to {words['max']}, quartiles {low:g}, "
            f"{middle:g} and {high:g} |"
        )
    lines += ["", *_plot("lengths.svg", drawn)]
    lines += ["| words in a row | most common, with the instructions that hold them |", "|---|---|"]
    for n, n_grams in card["nGrams"].items():
        told = ", ".join(f"{plain(words)} ({count:,})" for words, count in n_grams)
        lines.append(f"| {n} | {told} |")
    lines.append("")
    if card["resampling"]:
        lines += [
            "## Resampling",
            "",
            f"Drawn from a larger pool so that its {card['resampling']['clusters']} clusters have "
            "the proportions of the private records, known through a histogram with discrete "
            f"Gaussian noise of standard deviation {card['resampling']['noiseMultiplier']}.",
            "",
            *_plot("clusters.svg", drawn),
            *_plot("map.svg", drawn),
        ]
    if card["stages"]:
        lines += ["## How it was made", "", "| stage | settings |", "|---|---|"]
        lines += [f"| {one['stage']} | {_settings(one['settings'])} |" for one in card["stages"]]
        lines.append("")
    lines += ["## Examples", ""]
    for row in card["examples"]:
        lines.append(f"- {plain(row['instruction'])}")
        if row.get("answer"):
            lines.append(f"  - {plain(row['answer'])}")
    return "\n".join(lines) + "\n"


def _receipts(stages: list[dict[str, Any]]) -> list[str]:
    """Where what was charged is signed for."""
    rows = [f"| {one['stage']} | `{uri}` |" for one in stages for uri in one["receipts"]]
    if not rows:
        return []
    told = "Each release that it was made from has a signed receipt, which anyone may check:"
    return [told, "", "| release of | receipt |", "|---|---|", *rows, ""]


def _plot(name: str, drawn: Mapping[str, Plot]) -> list[str]:
    if name not in drawn:
        return []
    return [f"![{drawn[name].caption}]({name})", "", f"*{drawn[name].caption}*", ""]


def _settings(settings: Mapping[str, Any], of: str = "") -> str:
    told = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            told.append(_settings(value, f"{of}{name}."))
        elif value not in ("", []):
            told.append(f"{of}{name} {plain(str(value))[:_LONGEST_SETTING]}")
    return ", ".join(each for each in told if each)


def _size(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if rows < limit:
            return name
    return "100K<n<1M" if rows < 1_000_000 else "1M<n<10M"
