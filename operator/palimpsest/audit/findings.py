"""What a verification finds: codes that stay, each with its weight and its remedy."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Verdict = Literal["sound", "unsound", "unchecked"]
EXIT_CODES: dict[Verdict, int] = {"sound": 0, "unsound": 1, "unchecked": 2}

MAX_TEXT = 600

_RESTORE = "restore the journal's entries from the store's versions or a copy; spend nothing before"
_ASK = "do not use the release; ask the custodian what was signed"


class Code(Enum):
    """Every code: how much it weighs, what it says, what helps."""

    J001 = ("unsound", "a stranger among the entries", "move it out of the journal's folder")
    J002 = ("unsound", "an entry is missing", _RESTORE)
    J003 = ("unsound", "an entry cannot be read", _RESTORE)
    J004 = ("unsound", "the chain is broken", _RESTORE)
    J005 = ("unsound", "an entry breaks a rule", _RESTORE)
    J006 = ("unsound", "another data set's journal", "give the journal of these data")
    J007 = ("unsound", "shorter than it is remembered", _RESTORE)
    J008 = ("unsound", "other than it is remembered: a fork, an edit, another journal", _RESTORE)
    J009 = (
        "unchecked",
        "no journal",
        "check the address; a budget that was never opened has no journal",
    )
    J010 = (
        "unchecked",
        "the journal could not be read",
        "check address, network, keys and their right to read the journal",
    )
    A001 = (
        "unsound",
        "a cost is not what the second accountant computes",
        "treat the budget as overspent until the charge is explained",
    )
    A002 = (
        "unsound",
        "two accountants disagree",
        "treat the epsilon spent as unknown; compare the accountants' versions",
    )
    A003 = ("unsound", "the limit is exceeded", "spend nothing more: the guarantee no longer holds")
    A004 = (
        "unchecked",
        "the second accountant did not answer",
        "put it beside the program that runs: python3 -m pip install dp-accounting",
    )
    A005 = ("unchecked", "PLD left out", "rely on the Rényi figures, or charge more noise")
    S001 = (
        "unsound",
        "a status is not the journal's",
        "let the operator rewrite it from the journal; if it stays, somebody edits it",
    )
    S002 = (
        "unsound",
        "a budget's spec is not the journal's",
        "correct the PrivacyBudget: the journal's word stands",
    )
    S003 = ("unchecked", "no status yet", "wait for the operator, or see the budget's conditions")
    S004 = (
        "unchecked",
        "a resource of another version",
        "use the palimpsest program of the operator's version",
    )
    R001 = ("unsound", "a receipt's signature does not hold", _ASK)
    R002 = ("unsound", "a receipt says otherwise than journal and manifest", _ASK)
    R003 = ("unsound", "a receipt's release is gone", "restore it, or find out who removed it")
    R004 = (
        "unchecked",
        "no public keys",
        "give --keys, or --operator-namespace with the right to read its ConfigMap",
    )
    R005 = (
        "unchecked",
        "a release without a receipt",
        "wait until the operator has signed it; see the resource's conditions",
    )
    R006 = (
        "unchecked",
        "releases could not be read",
        "check address, network, keys and their right to read the releases",
    )
    M001 = ("unsound", "no sound manifest", "do not use the release; have it made again")
    M002 = ("unsound", "nobody paid", "do not use the release; find out who wrote it")
    M003 = ("unsound", "not what was paid for", "do not use the release; have it made again")
    M004 = ("unsound", "a file is not the manifest's", "do not use the release; restore its files")
    M005 = ("unchecked", "not settled yet", "verify again once the operator committed the charge")

    @property
    def verdict(self) -> Verdict:
        """What one such finding makes of the whole."""
        return "unsound" if self.value[0] == "unsound" else "unchecked"

    @property
    def title(self) -> str:
        """What it says, in a few words."""
        return self.value[1]

    @property
    def remedy(self) -> str:
        """What helps."""
        return self.value[2]


@dataclass(frozen=True)
class Finding:
    """One thing that does not hold, or could not be checked: what, and where."""

    code: Code
    place: str
    what: str

    def line(self) -> str:
        """`CODE verdict place: what; remedy`, in one line whatever was found."""
        text = f"{self.place}: {self.what}"[:MAX_TEXT]
        plain = "".join(letter if letter.isprintable() else "?" for letter in text)
        return f"{self.code.name} {self.code.verdict} {plain}; {self.code.remedy}"

    def as_json(self) -> dict[str, str]:
        """The same for machines."""
        return {
            "code": self.code.name,
            "verdict": self.code.verdict,
            "place": self.place,
            "what": self.what,
            "remedy": self.code.remedy,
        }


def verdict(findings: Iterable[Finding]) -> Verdict:
    """The worst: what is known to be wrong weighs more than what could not be checked."""
    return worst(finding.code.verdict for finding in findings)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several."""
    given = set(verdicts)
    for each in ("unsound", "unchecked"):
        if each in given:
            return "unsound" if each == "unsound" else "unchecked"
    return "sound"
