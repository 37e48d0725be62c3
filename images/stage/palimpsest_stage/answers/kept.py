"""Answers so far: one for each place, kept from attempt to attempt, and what they add up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from palimpsest.api.annotation import TokenPrices
from pydantic import TypeAdapter, ValidationError

from palimpsest_stage.answers.finish import UNTAKEN, Finish
from palimpsest_stage.parts import Parts

# Answers in a part: what is written anew with each that joins them.
FULL = 256
MILLION = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where an answer goes: the instruction's row, and which of its answers this is."""

    row: int
    number: int


@dataclass(frozen=True)
class Answer:
    """What came for a place. Tokens are None where nobody counted them."""

    row: int
    number: int
    text: str
    finish: Finish
    tokens_in: int | None = None
    tokens_out: int | None = None

    @property
    def place(self) -> Place:
        """Where it goes."""
        return Place(self.row, self.number)


@dataclass
class Part:
    """Answers that are kept together, with the requests that they took, repeated ones by why."""

    answers: list[Answer] = field(default_factory=list)
    requests: int = 0
    retries: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Any) -> "Part":
        """The part that was kept; an empty one if it cannot be read: its answers come again."""
        try:
            return _PART.validate_python(document)
        except ValidationError:
            return cls()

    def add(self, other: "Part") -> None:
        """Take in what another one holds."""
        self.answers += other.answers
        self.requests += other.requests
        self.retries = dict(Counter(self.retries) + Counter(other.retries))

    @property
    def document(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


_PART = TypeAdapter(Part)


class Answered:
    """The answers to `rows` instructions, `each` to one; the first for a place is the one."""

    def __init__(self, rows: int, each: int) -> None:
        self._rows, self._each = rows, each
        self._found: dict[Place, Answer] = {}
        self._requests, self._tokens = 0, 0
        self._retries = Counter[str]()

    def add(self, part: Part) -> None:
        """Take in what was answered."""
        for answer in part.answers:
            known = 0 <= answer.row < self._rows and 0 <= answer.number < self._each
            if known and answer.place not in self._found:
                self._found[answer.place] = answer
                self._tokens += answer.tokens_out or 0
        self._requests += part.requests
        self._retries.update(part.retries)

    @property
    def done(self) -> int:
        """How many there are."""
        return len(self._found)

    @property
    def wanted(self) -> int:
        """How many there shall be."""
        return self._rows * self._each

    @property
    def tokens(self) -> int:
        """Of all answers, as far as they were counted."""
        return self._tokens

    @property
    def any_taken(self) -> bool:
        """Whether any instruction was taken."""
        return any(answer.finish not in UNTAKEN for answer in self._found.values())

    def missing(self, rows: range | None = None) -> list[Place]:
        """The places without an answer, of all rows or of some."""
        some = range(self._rows) if rows is None else rows
        places = (Place(row, number) for row in some for number in range(self._each))
        return [place for place in places if place not in self._found]

    def rows(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The instructions with their answers. Raises KeyError where one is missing."""
        numbers, several = range(self._each), self._each > 1
        return [
            row | told([_ended(self._found[Place(index, n)]) for n in numbers], several)
            for index, row in enumerate(rows)
        ]

    def texts(self) -> list[list[str]]:
        """What was answered, by row. Raises KeyError where an answer is missing."""
        numbers = range(self._each)
        return [[self._found[Place(row, n)].text for n in numbers] for row in range(self._rows)]

    def report(self, prices: TokenPrices | None) -> dict[str, Any]:
        """What annotation.json says. Counts are of answers."""
        answers = self._found.values()
        spent = [sum(counts) for counts in zip(*map(_tokens, answers), strict=True)] or [0, 0]
        return {
            "answers": len(answers),
            "finish": dict(sorted(Counter(answer.finish.value for answer in answers).items())),
            "tokens": {"in": spent[0], "out": spent[1]},
            "answersWithoutTokenCount": sum(
                answer.tokens_out is None and answer.finish not in UNTAKEN for answer in answers
            ),
            "requests": self._requests,
            "retries": sum(self._retries.values()),
            "retriesByCause": dict(sorted(self._retries.items())),
            "cost": cost(spent[0], spent[1], prices) if prices else None,
        }


def cost(tokens_in: int, tokens_out: int, prices: TokenPrices) -> str:
    """What so many tokens cost, exactly, as a decimal."""
    of_input = tokens_in * Decimal(prices.input)
    of_output = tokens_out * Decimal(prices.output)
    return f"{(of_input + of_output) / MILLION:f}"


class Keeper:
    """Keeps answers as they come: a part is written anew, whole, until it is full."""

    def __init__(self, parts: Parts, attempt: str, answered: Answered) -> None:
        """`attempt` names this attempt's parts: two that overlap do not overwrite each other's."""
        self._parts, self._attempt, self._answered = parts, attempt, answered
        self._part, self._number = Part(), 0
        # By name what no write has returned from yet: it may be there or not.
        self._unwritten: dict[str, Part] = {}

    def keep(self, part: Part) -> None:
        """Keep them; when this returns, a pod may be killed and they are not lost."""
        self.take(part)
        self.write()

    def take(self, part: Part) -> None:
        """Take them in, for the next write."""
        if len(self._part.answers) >= FULL:
            self._part, self._number = Part(), self._number + 1
        self._unwritten[f"{self._attempt}-{self._number:06d}"] = self._part
        self._part.add(part)
        self._answered.add(part)

    def write(self) -> None:
        """Write what was taken in, and again what an earlier write did not return from."""
        for name in list(self._unwritten):
            self._parts.write(name, self._unwritten[name].document)
            del self._unwritten[name]


def recall(parts: Parts, answered: Answered) -> None:
    """Take in what earlier attempts kept."""
    for name in parts.names():
        answered.add(Part.parse(parts.read(name)))


def told(answers: Sequence[tuple[str, Finish]], several: bool) -> dict[str, Any]:
    """Answers and how they ended as a row has them: the first, and all where there are several."""
    text, finish = answers[0]
    row: dict[str, Any] = {"answer": text, "finish": finish.value}
    if several:
        row["answers"] = [text for text, _ in answers]
        row["finishes"] = [finish.value for _, finish in answers]
    return row


def _ended(answer: Answer) -> tuple[str, Finish]:
    return answer.text, answer.finish


def _tokens(answer: Answer) -> tuple[int, int]:
    return answer.tokens_in or 0, answer.tokens_out or 0
