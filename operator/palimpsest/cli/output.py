"""The option -o of the commands that answer with figures, and what it writes."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click
import yaml

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Give a command `output`: text, json or yaml."""
    return click.option(
        *("-o", "--output"),
        type=click.Choice(["text", "json", "yaml"]),
        default="text",
        show_default=True,
        help="For people, or for programs.",
    )(command)


def written(figures: Any, output: str, indent: int | None = 2) -> str:
    """Plain figures as JSON or YAML; the last line is not ended."""
    if output == "json":
        return json.dumps(figures, indent=indent)
    return yaml.safe_dump(figures, sort_keys=False, allow_unicode=True).rstrip()
