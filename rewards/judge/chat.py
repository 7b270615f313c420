"""One OpenAI-compatible `/v1/chat/completions`: messages in, the text of the answer out, with a deadline and retries.

Whatever goes wrong is a `ChatFailed` that says what; nobody above needs to know of HTTP. A server that refuses the form
of an answer (`response_format`) is asked in a weaker one, and the strongest that it took is remembered.
"""

import asyncio
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from retrieval.client.request import is_loopback
from rewards.judge.budget import Budget
from rewards.judge.settings import EndpointSettings, ResponseFormat

Messages = list[dict[str, str]]

_RETRIED = frozenset({408, 409, 425, 429})
_FORMAT_REFUSED = frozenset({400, 415, 422, 501})
_SAID_CHARS = 200


class ChatFailed(Exception):
    """No answer: what was tried, and what came of it last."""


class _TryAgain(Exception):
    def __init__(self, reason: str, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


class _FormRefused(Exception):
    """The server calls the request bad while it is not known whether it takes the answer's form."""


class ChatEndpoint:
    """A served model. Lives in one event loop.

    Args:
        settings: how to reach it.
        key: bearer token, or None.
        budget: what may still be sent.
    """

    def __init__(self, settings: EndpointSettings, key: str | None, budget: Budget) -> None:
        self._settings = settings
        self._key = key
        self._budget = budget
        self._url = settings.url.rstrip("/").removesuffix("/v1") + "/v1/chat/completions"
        self._jitter = random.Random(0)
        self._forms: tuple[ResponseFormat, ...] = (settings.response_format,)
        if settings.response_format == "auto":
            self._forms = ("json_schema", "json_object", "text")
        most = settings.max_concurrency
        self._slots = asyncio.Semaphore(most)
        self._client = httpx.AsyncClient(
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(settings.timeout_s),
            trust_env=not is_loopback(self._url),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
        )

    async def answer(self, messages: Messages, schema: dict[str, Any], name: str) -> str:
        """The text that the model answers.

        Raises:
            ChatFailed: no answer within the attempts, a request that the server calls bad, or no budget left.
        """
        last = ""
        pause_s = self._settings.first_pause_s
        for attempt in range(self._settings.retries + 1):
            try:
                async with self._slots:
                    return await self._in_a_form_it_takes(messages, schema, name)
            except _TryAgain as again:
                last = str(again)
                if attempt < self._settings.retries:
                    # Spread between half and the whole pause, so that requests refused together do not return together.
                    wait = again.pause_s if again.pause_s is not None else pause_s * self._jitter.uniform(0.5, 1.0)
                    await asyncio.sleep(min(wait, self._settings.most_pause_s))
                    pause_s = min(2 * pause_s, self._settings.most_pause_s)
        raise ChatFailed(self._without_key(f"{self._settings.retries + 1} attempts failed, the last with {last}"))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _in_a_form_it_takes(self, messages: Messages, schema: dict[str, Any], name: str) -> str:
        forms = self._forms
        for form in forms[:-1]:
            try:
                content = await self._send(messages, form, schema, name, may_step_down=True)
            except _FormRefused:
                continue
            self._remember(form)
            return content
        content = await self._send(messages, forms[-1], schema, name, may_step_down=False)
        self._remember(forms[-1])
        return content

    def _remember(self, form: ResponseFormat) -> None:
        """A form that worked is the one for all later requests, whatever else the server calls bad."""
        if len(self._forms) > 1:
            self._forms = (form,)

    async def _send(
        self, messages: Messages, form: ResponseFormat, schema: dict[str, Any], name: str, *, may_step_down: bool
    ) -> str:
        refusal = self._budget.take_request()
        if refusal:
            raise ChatFailed(refusal)
        body = self._body(messages, form, schema, name)
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                response = await self._client.post(self._url, json=body)
        except (TimeoutError, httpx.TimeoutException):
            raise _TryAgain(f"no answer within {self._settings.timeout_s:g} s") from None
        except httpx.RequestError as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from None
        status = response.status_code
        said = f"{status} {response.reason_phrase}: {response.text[:_SAID_CHARS]}"
        if status in _RETRIED or (status >= 500 and not (may_step_down and status in _FORMAT_REFUSED)):
            raise _TryAgain(said, _asked_pause_s(response))
        if may_step_down and status in _FORMAT_REFUSED:
            raise _FormRefused
        if status != 200:
            raise ChatFailed(self._without_key(said))
        return self._content(response, messages)

    def _body(self, messages: Messages, form: ResponseFormat, schema: dict[str, Any], name: str) -> dict[str, Any]:
        settings = self._settings
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": messages,
            "temperature": settings.temperature,
            "max_tokens": settings.max_answer_tokens,
        }
        if form == "json_schema":
            described = {"name": name, "strict": True, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        elif form == "json_object":
            body["response_format"] = {"type": "json_object"}
        body |= settings.extra_body
        return {field: value for field, value in body.items() if value is not None}

    def _content(self, response: httpx.Response, messages: Sequence[dict[str, str]]) -> str:
        """The text of the first choice; what the answer took is counted, whatever it says."""
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        choices = answer.get("choices") if isinstance(answer, dict) else None
        first = choices[0] if isinstance(choices, list) and choices else None
        message = first.get("message") if isinstance(first, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        self._budget.add_answer(
            answer.get("usage") if isinstance(answer, dict) else None,
            prompt_chars=sum(len(m["content"]) for m in messages),
            answer_chars=len(content) if isinstance(content, str) else len(response.text),
        )
        if not isinstance(content, str):
            said = json.dumps(answer)[:_SAID_CHARS] if answer is not None else response.text[:_SAID_CHARS]
            raise ChatFailed(self._without_key(f"the server answered without a message: {said}"))
        return content

    def _without_key(self, text: str) -> str:
        """Some servers repeat a key that they refuse; a reason is logged."""
        return text.replace(self._key, "***") if self._key else text


def _asked_pause_s(response: httpx.Response) -> float | None:
    """Seconds that a server asks to wait (Retry-After as a number or a date), or None."""
    stated = response.headers.get("retry-after")
    if stated is None:
        return None
    try:
        seconds = float(stated)
    except ValueError:
        try:
            until = parsedate_to_datetime(stated)
        except ValueError:
            return None
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if seconds == seconds else None
