"""The page of the chart's values, and the schema that it is made from."""

from __future__ import annotations

from typing import Any

import yaml
from chart import values_page
from palimpsest.api.reference import fields

PAGE = values_page.CHART.parents[1] / "docs" / "values.md"


def test_the_checked_in_page_is_the_generated_one() -> None:
    assert PAGE.read_text() == values_page.render(), "run `make crds`"


def test_every_value_says_what_it_means() -> None:
    silent = [
        path for path, _, field in fields(values_page.schema()) if not field.get("description")
    ]
    assert silent == []


def test_no_value_with_a_default_may_be_missing() -> None:
    """None is, but where helm is told to take all values of a version before."""

    def lacking(schema: dict[str, Any], defaults: dict[str, Any], path: str = "") -> list[str]:
        found = []
        for name, value in defaults.items():
            here, inner = f"{path}{name}", schema["properties"][name]
            if name not in schema.get("required", []):
                found.append(here)
            if isinstance(value, dict) and "properties" in inner:
                found += lacking(inner, value, f"{here}.")
        return found

    defaults = yaml.safe_load((values_page.CHART / "values.yaml").read_text())
    assert lacking(values_page.schema(), defaults) == []


def test_every_default_is_of_a_value_that_the_page_has() -> None:
    known = {path: field for path, _, field in fields(values_page.schema())}

    def unknown(values: dict[str, Any], path: str = "") -> list[str]:
        found = []
        for name, value in values.items():
            here = f"{path}.{name}" if path else name
            if here not in known:
                found.append(here)
            elif isinstance(value, dict) and "properties" in known[here]:
                found += unknown(value, here)
        return found

    assert unknown(yaml.safe_load((values_page.CHART / "values.yaml").read_text())) == []
