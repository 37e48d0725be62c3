"""Whether an answer keeps a check. Pure; what each check means is said where it is declared.

After Zhou et al. 2023 (arXiv 2311.07911). Packages that have these checks bring benchmarks with
them and ask for word lists and language models from the net, which a stage's pod cannot have.
"""

import json
import re
from functools import singledispatch
from typing import NoReturn

from palimpsest.api import checks
from palimpsest.api.checks import Check, Counted

_WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?\u2026])[\"'\u2019\u201d)\]]*\s+|(?<=[\u3002\uff01\uff1f])|\n\s*\n"
)
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_LETTER = re.compile(r"[^\W\d_]")
_BULLET = re.compile(r"^[^\S\n]*[*+\u2022-][^\S\n]+\S", re.MULTILINE)
_HIGHLIGHT = re.compile(r"(?<!\*)(\*\*?)(?=[^\s*])[^*\n]*(?<=[^\s*])\1(?!\*)")
_PLACEHOLDER = re.compile(r"\[([^\[\]\n]+)\]")
_TITLE = re.compile(r"<<([^<>\n]+)>>")
_ANSWERS_END = re.compile(r"(?<!\*)\*{6}(?!\*)")
_QUOTES = '"\u201c\u201d'


def keeps(check: Check, answer: str) -> bool:
    """Whether it does. An empty answer keeps nothing, whatever it leaves undone."""
    stripped = answer.strip()
    return bool(stripped) and _kept(check, stripped)


@singledispatch
def _kept(check: object, _answer: str) -> bool:
    raise TypeError(f"{type(check).__name__} is no check")


def _within(check: Counted, count: int) -> bool:
    low, high = check.bounds
    return low <= count <= high


def _paragraphs(answer: str) -> list[str]:
    return [part for part in _PARAGRAPH_END.split(answer) if part.strip()]


def _times(phrase: str, answer: str) -> int:
    """How often a phrase is there, whole, in any case and with any space between its words."""
    words = r"\s+".join(map(re.escape, phrase.split()))
    return len(re.findall(rf"(?<!\w){words}(?!\w)", answer, re.IGNORECASE))


@_kept.register
def _words(check: checks.Words, answer: str) -> bool:
    return _within(check, len(_WORD.findall(answer)))


@_kept.register
def _sentences(check: checks.Sentences, answer: str) -> bool:
    parts = _SENTENCE_END.split(answer)
    return _within(check, sum(_LETTER.search(part) is not None for part in parts))


@_kept.register
def _paragraph_count(check: checks.Paragraphs, answer: str) -> bool:
    return _within(check, len(_paragraphs(answer)))


@_kept.register
def _first_word(check: checks.FirstWord, answer: str) -> bool:
    paragraphs = _paragraphs(answer)
    if check.paragraph > len(paragraphs):
        return False
    first = _WORD.search(paragraphs[check.paragraph - 1])
    return first is not None and first[0].casefold() == check.word.strip().casefold()


@_kept.register
def _keywords(check: checks.Keywords, answer: str) -> bool:
    return all(_times(word, answer) for word in check.include)


@_kept.register
def _forbidden(check: checks.Forbidden, answer: str) -> bool:
    return not any(_times(word, answer) for word in check.words)


@_kept.register
def _frequency(check: checks.Frequency, answer: str) -> bool:
    return _within(check, _times(check.word, answer))


@_kept.register
def _letters(check: checks.Letters, answer: str) -> bool:
    return _within(check, answer.casefold().count(check.letter.casefold()))


@_kept.register
def _lowercase(_check: checks.Lowercase, answer: str) -> bool:
    return answer.islower()


@_kept.register
def _uppercase(_check: checks.Uppercase, answer: str) -> bool:
    return answer.isupper()


@_kept.register
def _capital_words(check: checks.CapitalWords, answer: str) -> bool:
    return _within(check, sum(len(w) > 1 and w.isupper() for w in _WORD.findall(answer)))


@_kept.register
def _no_commas(_check: checks.NoCommas, answer: str) -> bool:
    return "," not in answer


@_kept.register
def _starts_with(check: checks.StartsWith, answer: str) -> bool:
    return answer.casefold().startswith(check.text.strip().casefold())


@_kept.register
def _ends_with(check: checks.EndsWith, answer: str) -> bool:
    return answer.casefold().endswith(check.text.strip().casefold())


@_kept.register
def _json(_check: checks.Json, answer: str) -> bool:
    first, *inside = answer.splitlines()
    if first.strip().lower() in ("```", "```json") and inside and inside[-1].strip() == "```":
        answer = "\n".join(inside[:-1])
    try:
        value = json.loads(answer, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


@_kept.register
def _bullets(check: checks.Bullets, answer: str) -> bool:
    return _within(check, len(_BULLET.findall(answer)))


@_kept.register
def _highlights(check: checks.Highlights, answer: str) -> bool:
    return _within(check, len(_HIGHLIGHT.findall(answer)))


@_kept.register
def _placeholders(check: checks.Placeholders, answer: str) -> bool:
    return _within(check, sum(bool(part.strip()) for part in _PLACEHOLDER.findall(answer)))


@_kept.register
def _sections(check: checks.Sections, answer: str) -> bool:
    marker = re.escape(check.marker.strip())
    lines = re.findall(rf"^[^\w\n]*{marker}[^\S\n]+\d", answer, re.IGNORECASE | re.MULTILINE)
    return _within(check, len(lines))


@_kept.register
def _quoted(_check: checks.Quoted, answer: str) -> bool:
    return len(answer) > 1 and answer[0] in _QUOTES and answer[-1] in _QUOTES


@_kept.register
def _title(_check: checks.Title, answer: str) -> bool:
    return any(title.strip() for title in _TITLE.findall(answer))


@_kept.register
def _postscript(check: checks.Postscript, answer: str) -> bool:
    marker = check.marker.strip().casefold()
    return any(line.strip().casefold().startswith(marker) for line in answer.splitlines())


@_kept.register
def _one_of(check: checks.OneOf, answer: str) -> bool:
    def bare(text: str) -> str:
        return text.strip().strip(_QUOTES).removesuffix(".").strip(_QUOTES).strip().casefold()

    return bare(answer) in map(bare, check.options)


@_kept.register
def _two_answers(_check: checks.TwoAnswers, answer: str) -> bool:
    parts = [part.strip() for part in _ANSWERS_END.split(answer)]
    return len(parts) == 2 and all(parts) and parts[0] != parts[1]
