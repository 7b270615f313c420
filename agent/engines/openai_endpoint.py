"""One OpenAI-compatible server: requests with a deadline and retries, from any event loop, and what it can do.

A server is asked once, when the engine opens, for one token. vLLM's own fields in that request and its answer tell
whether token ids come back, and whether logprobs are those of the distribution that was sampled from.
"""

import asyncio
import time
from typing import Any
from weakref import WeakKeyDictionary

import httpx

from agent.engine import EngineError
from agent.engines.openai_settings import OpenAISettings
from retrieval.client.request import is_loopback

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_PAUSE_S = 0.25
_MOST_PAUSE_S = 8.0
_IMPOSSIBLE = -1000.0


class Endpoint:
    """A server. `model` and `context_window` are what it serves.

    Raises:
        ValueError: the server lists other models, or several and none was named, or no window is known.
        EngineError: it does not answer.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self.settings = settings
        self._url = settings.url.rstrip("/").removesuffix("/v1") + "/v1"
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = WeakKeyDictionary()
        self._closed = False
        listed = {entry["id"]: entry for entry in self.ask("GET", "/models", None).get("data", [])}
        if settings.model is None and len(listed) != 1:
            raise ValueError(f"{self._url} serves {', '.join(listed) or 'no model'}; say which one is meant: model")
        self.model = settings.model or next(iter(listed))
        if listed and self.model not in listed:
            raise ValueError(f"{self._url} has no model {self.model!r}; it serves {', '.join(listed)}")
        window = settings.context_window or listed.get(self.model, {}).get("max_model_len")
        if window is None:
            raise ValueError(f"{self._url} does not say how long a context {self.model} takes; set context_window")
        self.context_window = int(window)
        self._find_out()

    def _find_out(self) -> None:
        """Ask for one token of the likeliest alone: with processed logprobs every other is impossible."""
        wanted = {"model": self.model, "prompt": [0], "max_tokens": 1, "temperature": 1.0, "seed": 0}
        own = {"top_k": 1, "logprobs": 2, "return_token_ids": True, "include_stop_str_in_output": True}
        self.gives_ids = self.processed = False
        try:
            choice = first_choice(self.ask("POST", "/completions", {**wanted, **own}), self._url)
        except Refused:
            return
        self.gives_ids = bool(choice.get("token_ids")) and bool(choice.get("logprobs"))
        if self.gives_ids:
            [candidates] = choice["logprobs"].get("top_logprobs") or [{}]
            others = sorted(candidates.values())[:-1]
            self.processed = (
                max(others) < _IMPOSSIBLE if others else abs(choice["logprobs"]["token_logprobs"][0]) < 1e-6
            )

    def ask(self, method: str, path: str, body: Any) -> Any:
        """One request and its JSON, waited for in this thread.

        Raises:
            Refused: the server calls it a bad request.
            EngineError: no answer within the deadline and retries.
        """
        attempts = _Attempts(self.settings, f"{method} {self._url}{path}")
        options: dict[str, Any] = {"timeout": self.settings.timeout_s, "trust_env": not is_loopback(self._url)}
        with httpx.Client(headers=self._headers(), **options) as client:
            while True:
                try:
                    return attempts.read(client.request(method, self._url + path, json=body))
                except httpx.RequestError as error:
                    attempts.broken(error)
                time.sleep(attempts.pause_s)

    async def complete(self, body: dict[str, Any]) -> Any:
        """The first choice of a completion.

        Raises:
            EngineError: the server refuses, or no answer comes within the deadline and retries.
        """
        if self._closed:
            raise EngineError("the engine is closed")
        path = f"{self._url}/completions"
        attempts = _Attempts(self.settings, f"POST {path}")
        while True:
            try:
                async with asyncio.timeout(attempts.left_s()):
                    response = await self._client().post(path, json=body)
                return first_choice(attempts.read(response), path)
            except (httpx.RequestError, TimeoutError) as error:
                if self._closed:
                    raise EngineError("the engine is closed") from error
                attempts.broken(error)
            except RuntimeError as error:  # httpx says so where its client was closed under a request
                raise EngineError(f"{path}: {error}") from error
            await asyncio.sleep(attempts.pause_s)

    async def close(self) -> None:
        """Close this loop's connections; those of other loops go with them."""
        self._closed = True
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            most = self.settings.max_connections
            self._clients[loop] = httpx.AsyncClient(
                headers=self._headers(),
                timeout=httpx.Timeout(self.settings.timeout_s),
                trust_env=not is_loopback(self._url),
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=most),
            )
        return self._clients[loop]

    def _headers(self) -> dict[str, str]:
        key = self.settings.api_key
        return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


def first_choice(answer: Any, url: str) -> dict[str, Any]:
    """The first choice of a completion.

    Raises:
        EngineError: the answer has none; some servers say what went wrong under the status 200.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise EngineError(f"{url} answered without a completion: {str(answer)[:300]}")
    choice: dict[str, Any] = choices[0]
    return choice


class Refused(EngineError):
    """The server calls a request bad; another attempt would only repeat that."""


class _Attempts:
    """Counts the attempts of one request, and how long to pause before the next."""

    def __init__(self, settings: OpenAISettings, what: str) -> None:
        self._what = what
        self._left = settings.retries
        self._until = time.monotonic() + settings.timeout_s
        self.pause_s = _FIRST_PAUSE_S / 2

    def left_s(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def read(self, response: httpx.Response) -> Any:
        """The JSON of a good answer; a passing fault is counted and comes back as an `httpx.RequestError`."""
        said = f"{response.status_code} {response.reason_phrase}: {response.text[:300]}"
        if response.status_code in _RETRIED:
            raise httpx.ReadError(said)
        if response.status_code != 200:
            raise Refused(f"{self._what}: {said}")
        try:
            return response.json()
        except ValueError:
            raise EngineError(
                f"{self._what} answered with something that is no JSON: {response.text[:100]!r}"
            ) from None

    def broken(self, error: Exception) -> None:
        """Count an attempt that failed; raises EngineError after the last one."""
        self.pause_s = min(_MOST_PAUSE_S, self.pause_s * 2)
        self._left -= 1
        if self._left < 0 or self.left_s() <= self.pause_s:
            raise EngineError(f"{self._what} failed: {type(error).__name__}: {error}") from error
