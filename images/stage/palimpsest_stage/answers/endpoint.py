"""One question to an endpoint that speaks OpenAI's protocol. Bodies and keys are never logged."""

import json
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from palimpsest.api.outcomes import Outcome
from palimpsest.api.task import ENDPOINT_KEY, EndpointAccess, EndpointInput

from palimpsest_stage.answers.finish import Finish, finish_of
from palimpsest_stage.answers.policy import PASSING, retry_after, status_outcome
from palimpsest_stage.errors import EndpointFailed

# No answer of 32,768 tokens comes near it, and a server that never ends must.
LONGEST_BODY = 4 * 2**20
# The older name, which all servers know, and the one that newer models of OpenAI's insist on.
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")


class PassingError(Exception):
    """A request failed, and may succeed later; `pause` is how long the endpoint asks to wait."""

    def __init__(self, outcome: Outcome, pause: float | None = None) -> None:
        super().__init__(outcome.value)
        self.outcome, self.pause = outcome, pause


@dataclass(frozen=True)
class Reply:
    """What an endpoint said. Tokens are None where it did not count them."""

    text: str
    finish: Finish
    tokens_in: int | None = None
    tokens_out: int | None = None


REJECTED = Reply("", Finish.REJECTED)
FAILED = Reply("", Finish.FAILED)


@dataclass(frozen=True)
class Manner:
    """How everything is asked; without a temperature for the likeliest tokens."""

    system_prompt: str
    max_new_tokens: int
    temperature: str | None = None
    top_p: str = "1"


class Endpoint:
    """Asks for chat completions; to be entered before it is asked."""

    def __init__(
        self,
        asked: EndpointInput,
        access: EndpointAccess,
        manner: Manner,
        credentials: Path,
    ) -> None:
        """`credentials` is where Secrets are mounted. Raises EndpointFailed without the key."""
        self._url = f"{asked.base_url.rstrip('/')}/chat/completions"
        self._model, self._access, self._manner = asked.model, access, manner
        self._limit = TOKEN_LIMITS[0]
        self._headers = {}
        if access.secret:
            self._headers["Authorization"] = f"Bearer {read_key(credentials / access.secret)}"

    async def __aenter__(self) -> "Endpoint":
        access = self._access
        context = ssl.create_default_context(cadata=access.ca_bundle)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=access.concurrency, ssl=context),
            timeout=aiohttp.ClientTimeout(total=access.timeout_seconds),
            headers=self._headers,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def ask(self, instruction: str) -> Reply:
        """The answer, REJECTED if this instruction is not taken.

        Raises PassingError, and EndpointFailed where asking again would be in vain.
        """
        limit = self._limit
        status, pause, data = await self._post(self._body(instruction, limit))
        if status == 200:
            reply = parse_reply(data)
            if reply is None:
                raise PassingError(Outcome.ENDPOINT_GARBLED)
            return reply
        outcome = status_outcome(status)
        if outcome is None:
            if limit == TOKEN_LIMITS[0] and wrong_parameter(data) == limit:
                self._limit = TOKEN_LIMITS[1]
                return await self.ask(instruction)
            return REJECTED
        if outcome in PASSING:
            raise PassingError(outcome, pause)
        raise EndpointFailed(outcome, f"status {status}")

    def _body(self, instruction: str, limit: str) -> dict[str, Any]:
        asked = self._manner
        messages = [{"role": "user", "content": instruction}]
        if asked.system_prompt:
            messages.insert(0, {"role": "system", "content": asked.system_prompt})
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            limit: asked.max_new_tokens,
            "temperature": float(asked.temperature or 0),
        }
        if asked.temperature:
            body["top_p"] = float(asked.top_p)
        return body

    async def _post(self, body: dict[str, Any]) -> tuple[int, float | None, bytes]:
        """Status, the pause that is asked for, and the body. Raises PassingError."""
        try:
            # A redirect would carry the key, and the instruction, to who knows where.
            async with self._session.post(self._url, json=body, allow_redirects=False) as response:
                pause = retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
                return response.status, pause, await _read(response)
        except TimeoutError as error:
            raise PassingError(Outcome.ENDPOINT_TIMED_OUT) from error
        except aiohttp.ClientConnectorError as error:
            raise PassingError(Outcome.ENDPOINT_UNREACHABLE) from error
        except (aiohttp.ClientError, ValueError) as error:
            # Cut off in the middle, or not HTTP.
            raise PassingError(Outcome.ENDPOINT_GARBLED) from error


def read_key(secret: Path) -> str:
    """The key of a mounted Secret. Raises EndpointFailed without one."""
    try:
        key = (secret / ENDPOINT_KEY).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointFailed(
            Outcome.ENDPOINT_ACCESS_DENIED, f"the Secret has no key {ENDPOINT_KEY}"
        ) from error
    if not key or not key.isascii() or not key.isprintable():
        raise EndpointFailed(
            Outcome.ENDPOINT_ACCESS_DENIED, f"the Secret's {ENDPOINT_KEY} is no key"
        )
    return key


def parse_reply(data: bytes) -> Reply | None:
    """The first choice of a chat completion; None if the body is none."""
    try:
        document = json.loads(data)
        choice = document["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(text, str | None) or not isinstance(refusal, str | None):
        return None
    said = _encodable(text or refusal or "").strip()
    finish = finish_of(said, ended == "length", bool(refusal) or ended == "content_filter")
    usage = document.get("usage")
    counted = usage if isinstance(usage, dict) else {}
    return Reply(
        said, finish, _count(counted.get("prompt_tokens")), _count(counted.get("completion_tokens"))
    )


def wrong_parameter(data: bytes) -> str | None:
    """The parameter that a refusal names; None if it names none."""
    try:
        name = json.loads(data)["error"]["param"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name if isinstance(name, str) else None


def _encodable(text: str) -> str:
    """JSON may hold halves of characters, which UTF-8 has no bytes for."""
    return text.encode("utf-8", "replace").decode()


def _count(value: Any) -> int | None:
    sound = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
    return value if sound else None


async def _read(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > LONGEST_BODY:
            raise PassingError(Outcome.ENDPOINT_GARBLED)
    return bytes(data)
