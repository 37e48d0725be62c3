"""Stage card: the data set as users load it, and the card that says what it is."""

import json
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from palimpsest.api.task import ArtifactInput, CardParameters, Input

from palimpsest_stage.runtime import Context, write_json, write_rows

EXAMPLES = 5


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish README.md, card.json, data.jsonl and data.parquet."""
    parameters = context.parameters(CardParameters)
    rows = context.instructions("data", "selected", "pool")
    extra = {
        # The rest of them may be deleted by now.
        name: _json(context.artifact(name, file) / file)
        for name, file in (("clusters", "clusters.json"), ("histogram", "histogram.json"))
        if name in context.task.inputs
    }
    out = context.folder("out")
    write_rows(out / "data.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), out / "data.parquet")
    card = describe(rows, parameters, extra, context.task.inputs)
    write_json(out / "card.json", card)
    (out / "README.md").write_text(render(card, rows), encoding="utf-8")
    context.publish({path.name: path for path in out.iterdir()})


def describe(
    rows: list[dict[str, Any]],
    parameters: CardParameters,
    extra: dict[str, Any],
    inputs: dict[str, Input],
) -> dict[str, Any]:
    """The card as data: computed from synthetic rows and released counts alone."""
    instructions = [row["instruction"] for row in rows]
    words = [len(text.split()) for text in instructions] or [0]
    openings = Counter(" ".join(text.lower().split()[:2]) for text in instructions)
    return {
        "name": parameters.name,
        "guarantee": parameters.guarantee,
        "rows": len(rows),
        "fields": sorted({key for row in rows for key in row}),
        "duplicates": len(instructions) - len(set(instructions)),
        "words": {
            "min": min(words),
            "median": median(words),
            "mean": round(mean(words), 2),
            "max": max(words),
        },
        "openings": openings.most_common(10),
        "resampling": {
            "clusters": extra["histogram"]["clusters"],
            "noiseMultiplier": extra["histogram"]["noiseMultiplier"],
            "noisyCounts": extra["histogram"]["noisy"],
        }
        if "histogram" in extra
        else None,
        "poolSizes": extra["clusters"]["poolSizes"] if "clusters" in extra else None,
        "sources": {
            name: {"manifest": one.uri, "digest": one.digest}
            for name, one in sorted(inputs.items())
            if isinstance(one, ArtifactInput)
        },
    }


def render(card: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The card as Markdown with Hugging Face's front matter."""
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
    words = card["words"]
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
        "## What is in it",
        "",
        "| | |",
        "|---|---|",
        f"| rows | {card['rows']} |",
        f"| fields | {', '.join(card['fields'])} |",
        f"| exact duplicates | {card['duplicates']} |",
        f"| words an instruction | {words['min']} to {words['max']}, median {words['median']} |",
        "",
        "Most common openings: "
        + ", ".join(f"“{_plain(text)}” ({count})" for text, count in card["openings"])
        + ".",
        "",
    ]
    if card["resampling"]:
        lines += [
            "## Resampling",
            "",
            f"Drawn from a larger pool so that its {card['resampling']['clusters']} clusters have "
            "the proportions of the private records, known through a histogram with discrete "
            f"Gaussian noise of standard deviation {card['resampling']['noiseMultiplier']}.",
            "",
        ]
    lines += ["## Examples", ""]
    for row in rows[:EXAMPLES]:
        lines.append(f"- {_plain(row['instruction'])}")
        if row.get("answer"):
            lines.append(f"  - {_plain(row['answer'])}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """One line of Markdown that shows the text and does nothing else."""
    flat = " ".join(text.split())[:300]
    return "".join(f"\\{c}" if c in "\\`*_[]<>|#" else c for c in flat)


def _size(rows: int) -> str:
    for limit, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K")):
        if rows < limit:
            return name
    return "100K<n<1M" if rows < 1_000_000 else "1M<n<10M"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
