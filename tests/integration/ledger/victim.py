"""What the tests' processes do before, or until, they are killed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from integration.ledger.operations import operate
from palimpsest.ledger import Denied, Journal
from palimpsest.storage import AccessKeys, S3Store, StoreConfig
from unit.ledger.folder_store import subject, task, training

# A charge of which the budget of the tests holds seven.
NOISE, STEPS = "0.68", 34

Json = dict[str, Any]


def warm(settings: Json) -> Callable[[Json], Any]:
    """Clients for all lanes, none connected yet; the function that answers a question."""
    stores = [
        S3Store(StoreConfig(**{**one, "credentials": AccessKeys(**one["credentials"])}))
        for one in settings["lanes"]
    ]

    def answer(question: Json) -> Any:
        store = stores[question["lane"]]
        if "names" in question:
            return _race(store, question["uri"], question["names"])
        operate(question["operation"], store, question["uri"], question["again"])
        return True

    return answer


def _race(store: S3Store, uri: str, names: list[str]) -> list[str]:
    """One thread a name tries to reserve; the names that were granted."""

    def reserve(name: str) -> bool:
        try:
            Journal(store, uri).reserve(subject(name), task(), training(NOISE, STEPS))
        except Denied:
            return False
        return True

    with ThreadPoolExecutor(len(names)) as threads:
        return [
            name
            for name, granted in zip(names, threads.map(reserve, names), strict=True)
            if granted
        ]
