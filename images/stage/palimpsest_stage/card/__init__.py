"""Stage card: the data set as users load it, and the card that says what it is and came from."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from palimpsest.api.task import CardParameters

from palimpsest_stage.card.charts import plots
from palimpsest_stage.card.describe import describe
from palimpsest_stage.card.render import render
from palimpsest_stage.lineage import generator_of, lineage
from palimpsest_stage.runtime import Context, write_json, write_rows


def run(context: Context, _report: dict[str, Any]) -> None:
    """Publish README.md and its plots, card.json, data.jsonl and data.parquet."""
    parameters = context.parameters(CardParameters)
    rows = context.instructions("data", "selected", "pool")
    made = lineage(context)
    generator = generator_of(made)
    if generator is not None:
        rows = [row | {"generator": generator} for row in rows]
    extra = {
        # The rest of them may be deleted by now.
        name: _json(context.artifact(name, file) / file)
        for name, file in (("clusters", "clusters.json"), ("histogram", "histogram.json"))
        if name in context.task.inputs
    }
    out = context.folder("out")
    write_rows(out / "data.jsonl", rows)
    pq.write_table(pa.Table.from_pylist(rows), out / "data.parquet")
    card = describe(rows, parameters, extra, made)
    write_json(out / "card.json", card)
    drawn = plots(card)
    for name, plot in drawn.items():
        (out / name).write_text(plot.svg, encoding="utf-8")
    (out / "README.md").write_text(render(card, drawn), encoding="utf-8")
    context.publish({path.name: path for path in out.iterdir()})


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
