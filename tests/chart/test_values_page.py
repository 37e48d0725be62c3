"""The page of the chart's values, and the schema that it is made from."""

from __future__ import annotations

from collections.abc import Iterator
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


def defaults() -> Iterator[str]:
    """The paths of all values that values.yaml sets, into objects whose fields are known."""
    known = {path: field for path, _, field in fields(values_page.schema())}

    def within(values: dict[str, Any], path: str) -> Iterator[str]:
        for name, value in values.items():
            here = f"{path}{name}"
            yield here
            if isinstance(value, dict) and "properties" in known.get(here, {}):
                yield from within(value, f"{here}.")

    yield from within(yaml.safe_load((values_page.CHART / "values.yaml").read_text()), "")


def test_no_value_with_a_default_may_be_missing() -> None:
    """None is, but where helm is told to take all values of a version before."""
    required = {path for path, required, _ in fields(values_page.schema()) if required}
    assert [path for path in defaults() if path not in required] == []


def test_every_default_is_of_a_value_that_the_page_has() -> None:
    known = {path for path, _, _ in fields(values_page.schema())}
    assert [path for path in defaults() if path not in known] == []
