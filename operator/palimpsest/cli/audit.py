"""`palimpsest audit`: which claims an audit can refute, and what a published one says. Offline."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from palimpsest.api.audit import AuditParameters, AuditResult
from palimpsest.privacy.audits import judge
from palimpsest.privacy.one_run import (
    MAX_CANARIES,
    canaries_for,
    errorless_guesses,
    guesses_for,
    has_power,
    largest_bound,
)

from .numbers import WholeNumber, plain_decimal
from .output import output_option, written
from .training import training_options

_CONFIDENCE = plain_decimal(below=Decimal(1), least=Decimal("0.8"))


class _RefusedError(click.ClickException):
    """The claim is beyond the audit, or the figures are not the audit's; exit code 1."""


@click.group()
def audit() -> None:
    """Lower bounds on epsilon from canaries in a training: what they can prove and did prove."""


@audit.command(
    epilog="Example: palimpsest audit power --claim 3 --records 15000 --batch-size 256 --steps 24 "
    "--delta 1e-5"
)
@click.option(
    "--claim", type=plain_decimal(), metavar="DECIMAL", required=True, help="Epsilon to refute."
)
@training_options
@click.option(
    "--delta",
    type=plain_decimal(below=Decimal(1)),
    metavar="DECIMAL",
    required=True,
    help="Delta that the claim is stated at, such as 1e-6.",
)
@click.option(
    "--canaries",
    type=WholeNumber(1, MAX_CANARIES),
    help="How many canaries; left out: as many as the claim takes.",
)
@click.option(
    "--confidence",
    type=_CONFIDENCE,
    metavar="DECIMAL",
    default="0.95",
    show_default=True,
    help="Of the bound; at least 0.8.",
)
@output_option
def power(
    claim: Decimal,
    records: int,
    batch_size: int,
    steps: int,
    delta: Decimal,
    canaries: int | None,
    confidence: Decimal,
    output: str,
) -> None:
    """The largest bound that an audit could prove; exit code 1 for a claim beyond it."""
    training = batch_size, records, steps
    needed = canaries_for(*training, claim, delta, confidence)
    taken = canaries or needed or MAX_CANARIES
    guesses = guesses_for(taken, *training)
    powerful = has_power(guesses.total, taken, claim, delta, confidence)
    figures: dict[str, Any] = {
        "claim": f"{claim:f}",
        "delta": f"{delta:f}",
        "confidence": f"{confidence:f}",
        "canaries": taken,
        "includedGuesses": guesses.included,
        "excludedGuesses": guesses.excluded,
        "largestProvable": f"{largest_bound(guesses.total, taken, delta, confidence):f}",
        "power": powerful,
        "canariesNeeded": needed,
        "errorlessGuessesNeeded": errorless_guesses(claim, confidence),
    }
    click.echo(_text(figures) if output == "text" else written(figures, output))
    if not powerful:
        raise _RefusedError(
            f"a claim of {claim:f} is beyond what {taken} canaries can refute: "
            + (f"take {needed}" if needed else f"no {MAX_CANARIES} do at this rate and delta")
        )


@audit.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@output_option
def check(file: Path, output: str) -> None:
    """Compute the bound in a release's audit.json again; exit code 1 if it is another.

    The file's place is named in the release's manifest.
    """
    try:
        told = AuditResult.model_validate_json(file.read_bytes())
        asked = told.model_dump(include=set(AuditParameters.model_fields))
        found = judge(AuditParameters.model_validate(asked), told.correct)
    except ValueError as error:
        raise click.UsageError(f"{file}: no audit.json of this version") from error
    figures = found.model_dump(by_alias=True)
    click.echo(_text(figures) if output == "text" else written(figures, output))
    if found != told:
        raise _RefusedError(f"{file} says otherwise: its figures do not follow from its guesses")


def _text(figures: dict[str, Any]) -> str:
    width = max(map(len, figures))
    return "\n".join(f"{name:<{width}}  {_shown(value)}" for name, value in figures.items())


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
