"""A live view of resources: lists them, watches for changes, and begins again where that breaks."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from palimpsest.api.crd import Resource

from .connection import Connection, Json
from .errors import CouldNotCheckError, ForbiddenError, GoneError, NotThereError
from .kinds import Wanted
from .reading import Scope
from .standing import Standing

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


@dataclass(frozen=True)
class Listed:
    """All resources of a kind as they are now."""

    kind: Resource
    items: Sequence[Json]


@dataclass(frozen=True)
class Changed:
    """One resource as it is now, or as it was when it went."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    item: Json


@dataclass(frozen=True)
class Lost:
    """No answer from the API server; it is asked again."""

    why: str


@dataclass(frozen=True)
class Failed:
    """Nothing more can be seen of a kind."""

    kind: Resource
    error: CouldNotCheckError


News = Listed | Changed | Lost | Failed


@dataclass
class View:
    """The resources that are wanted, as the news tells of them."""

    wanted: Sequence[Wanted]
    resources: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def take(self, news: Listed | Changed) -> None:
        """Bring the view up to date."""
        if isinstance(news, Listed):
            kind = news.kind.kind
            self.resources = {key: raw for key, raw in self.resources.items() if key[0] != kind}
            self.resources |= {_key(each): each for each in news.items if self._wants(each)}
            self.seen.add(kind)
        elif news.type == "DELETED":
            self.resources.pop(_key(news.item), None)
        elif self._wants(news.item):
            self.resources[_key(news.item)] = news.item

    def give_up(self, kind: Resource) -> None:
        """Wait no longer for a kind that cannot be seen."""
        self.seen.add(kind.kind)

    @property
    def complete(self) -> bool:
        """Whether every kind was listed once."""
        return all(each.kind.kind in self.seen for each in self.wanted)

    def absent(self) -> list[str]:
        """Those that are named and not there, as KIND/NAME."""
        there = {(kind, name) for kind, _, name in self.resources}
        return [
            f"{each.kind.kind}/{name}"
            for each in self.wanted
            for name in each.names
            if (each.kind.kind, name) not in there
        ]

    def _wants(self, raw: Json) -> bool:
        return any(
            each.kind.kind == raw["kind"]
            and (not each.names or raw["metadata"]["name"] in each.names)
            for each in self.wanted
        )


def ended(standings: Sequence[Standing]) -> Literal["Ready", "Stalled", ""]:
    """How waiting for these ends: all are Ready, or one is Stalled; "" where it goes on."""
    if any(each.state == "Stalled" for each in standings):
        return "Stalled"
    return "Ready" if all(each.state == "Ready" for each in standings) else ""


def news(place: Scope, wanted: Sequence[Wanted]) -> Iterator[News | None]:
    """What happens, for ever; None at least once a second."""
    told: queue.SimpleQueue[News] = queue.SimpleQueue()
    for each in wanted:
        arguments = (place.connection, each.kind, place.namespace, told)
        threading.Thread(target=_follow, args=arguments, daemon=True).start()
    while True:
        try:
            yield told.get(timeout=1)
        except queue.Empty:
            yield None


def _follow(
    connection: Connection, kind: Resource, namespace: str, told: "queue.SimpleQueue[News]"
) -> None:
    pause = _FIRST_PAUSE
    while True:
        try:
            listed = connection.listed(kind, namespace)
            told.put(Listed(kind, listed["items"]))
            pause = _FIRST_PAUSE
            version = listed["metadata"]["resourceVersion"]
            while True:
                for event in connection.events(kind, namespace, version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        told.put(Changed(event["type"], event["object"]))
        except GoneError:
            # The list begins anew; a server that says so at once is not asked without a pause.
            time.sleep(_FIRST_PAUSE)
        except (ForbiddenError, NotThereError) as error:
            told.put(Failed(kind, error))
            return
        except CouldNotCheckError as error:
            told.put(Lost(error.format_message()))
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


def _key(raw: Json) -> tuple[str, str, str]:
    metadata = raw["metadata"]
    return raw["kind"], metadata.get("namespace", ""), metadata["name"]
