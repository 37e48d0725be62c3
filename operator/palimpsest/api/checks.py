"""Checks that a program can make of an answer, after Zhou et al. 2023 (arXiv 2311.07911).

A prompt of an evaluation carries them in its row, beside `instruction`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, TypeAdapter, model_validator

from .base import ApiModel

Text = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"\S")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=16)]
Count = Annotated[int, Field(ge=0, le=100_000)]


class Counted(ApiModel):
    """How many there may be: by bounds (both alike for exactly so many), or about a number."""

    at_least: Count | None = None
    at_most: Count | None = None
    around: Annotated[int, Field(ge=1, le=100_000)] | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        given = [each for each in (self.at_least, self.at_most) if each is not None]
        if bool(given) == (self.around is not None):
            raise ValueError("give atLeast, atMost or both, or around alone")
        if given and self.bounds[0] > self.bounds[1]:
            raise ValueError("atLeast is above atMost")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """From and to, both included; `around` is within a tenth, and at least one."""
        if self.around is not None:
            slack = max(1, self.around // 10)
            return self.around - slack, self.around + slack
        low = 0 if self.at_least is None else self.at_least
        return low, float("inf") if self.at_most is None else self.at_most


class Words(Counted):
    """Words: runs of letters and digits, which an apostrophe or a hyphen inside does not end."""

    kind: Literal["Words"] = "Words"


class Sentences(Counted):
    """Sentences: they end with . ! ? or the like before a space, or with a paragraph."""

    kind: Literal["Sentences"] = "Sentences"


class Paragraphs(Counted):
    """Paragraphs, with an empty line between them."""

    kind: Literal["Paragraphs"] = "Paragraphs"


class FirstWord(ApiModel):
    """The first word of a paragraph, counted from 1, in any case."""

    kind: Literal["FirstWord"] = "FirstWord"
    paragraph: Annotated[int, Field(ge=1, le=1000)] = 1
    word: Text


class Keywords(ApiModel):
    """Words or phrases that must all be there, whole and in any case."""

    kind: Literal["Keywords"] = "Keywords"
    include: Texts


class Forbidden(ApiModel):
    """Words or phrases none of which may be there, whole and in any case."""

    kind: Literal["Forbidden"] = "Forbidden"
    words: Texts


class Frequency(Counted):
    """How often a word or phrase is there, whole and in any case."""

    kind: Literal["Frequency"] = "Frequency"
    word: Text


class Letters(Counted):
    """How often a letter is there, in any case."""

    kind: Literal["Letters"] = "Letters"
    letter: Annotated[str, StringConstraints(min_length=1, max_length=1, pattern=r"\S")]


class Lowercase(ApiModel):
    """No capital letter."""

    kind: Literal["Lowercase"] = "Lowercase"


class Uppercase(ApiModel):
    """Capital letters only."""

    kind: Literal["Uppercase"] = "Uppercase"


class CapitalWords(Counted):
    """Words of two letters or more that are in capitals."""

    kind: Literal["CapitalWords"] = "CapitalWords"


class NoCommas(ApiModel):
    """No comma."""

    kind: Literal["NoCommas"] = "NoCommas"


class StartsWith(ApiModel):
    """The answer's first words, in any case."""

    kind: Literal["StartsWith"] = "StartsWith"
    text: Text


class EndsWith(ApiModel):
    """The answer's last words, in any case."""

    kind: Literal["EndsWith"] = "EndsWith"
    text: Text


class Json(ApiModel):
    """One JSON object or list and nothing else; a code fence around it is allowed."""

    kind: Literal["JSON"] = "JSON"


class Bullets(Counted):
    """Lines that begin with *, -, + or a bullet, and a space."""

    kind: Literal["Bullets"] = "Bullets"


class Highlights(Counted):
    """Parts between asterisks, *so* or **so**."""

    kind: Literal["Highlights"] = "Highlights"


class Placeholders(Counted):
    """Parts in square brackets, for example [address]."""

    kind: Literal["Placeholders"] = "Placeholders"


class Sections(Counted):
    """Lines that begin with the marker and a number, for example Section 1."""

    kind: Literal["Sections"] = "Sections"
    marker: Text


class Quoted(ApiModel):
    """All of it in double quotation marks."""

    kind: Literal["Quoted"] = "Quoted"


class Title(ApiModel):
    """A title in double angular brackets, for example <<On salt>>."""

    kind: Literal["Title"] = "Title"


class Postscript(ApiModel):
    """A line that begins with the marker, in any case."""

    kind: Literal["Postscript"] = "Postscript"
    marker: Text = "P.S."


class OneOf(ApiModel):
    """One of these and nothing else, in any case; quotation marks and a full stop are allowed."""

    kind: Literal["OneOf"] = "OneOf"
    options: Texts


class TwoAnswers(ApiModel):
    """Two different answers with six asterisks between them."""

    kind: Literal["TwoAnswers"] = "TwoAnswers"


Check = Annotated[
    Words
    | Sentences
    | Paragraphs
    | FirstWord
    | Keywords
    | Forbidden
    | Frequency
    | Letters
    | Lowercase
    | Uppercase
    | CapitalWords
    | NoCommas
    | StartsWith
    | EndsWith
    | Json
    | Bullets
    | Highlights
    | Placeholders
    | Sections
    | Quoted
    | Title
    | Postscript
    | OneOf
    | TwoAnswers,
    Field(discriminator="kind"),
]

CHECKS: TypeAdapter[list[Check]] = TypeAdapter(Annotated[list[Check], Field(max_length=16)])
