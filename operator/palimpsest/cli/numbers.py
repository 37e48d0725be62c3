"""Types of the options that take numbers."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import click


class WholeNumber(click.IntRange):
    """An option's type: digits and nothing else, where Python's int takes `1_000` and `١٢`, too."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. Raises click.BadParameter."""
        if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,4000}", value, re.ASCII):
            self.fail(f"{value[:40]!r} is no whole number such as 180000", param, ctx)
        return super().convert(value, param, ctx)


def plain_decimal(
    below: Decimal | None = None, least: Decimal | None = None, most: Decimal | None = None
) -> Callable[[str], Decimal]:
    """An option's type: a positive decimal such as 3, 0.5 or 1e-6, kept exact."""

    def decimal(text: str) -> Decimal:
        if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,20})?(e-[0-9]{1,2})?", text, re.ASCII):
            raise click.BadParameter(f"{text[:40]!r} is no plain decimal such as 3, 0.5 or 1e-6")
        number = Decimal(text)
        if number <= 0:
            raise click.BadParameter("must be above zero")
        if below is not None and number >= below:
            raise click.BadParameter(f"must be below {below}")
        if least is not None and number < least:
            raise click.BadParameter(f"must be at least {least}")
        if most is not None and number > most:
            raise click.BadParameter(f"must be at most {most}")
        return number

    return decimal
