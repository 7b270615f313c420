"""How much a judge may still ask: requests, tokens and money, counted in this process."""

import threading
from typing import Any

from rewards.judge.settings import EndpointSettings

_CHARS_PER_TOKEN = 4


class Budget:
    """Counts what was sent and used. Requests are counted before they go out, so that limit is exact.

    Tokens and money are known when an answer comes: requests on their way by then, at most `max_concurrency`, may still
    go over those limits. A server that does not say what it used is counted at four characters a token, and an attempt
    that brought no answer at nothing.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._requests = self._tokens = 0
        self._cost = 0.0

    @property
    def requests(self) -> int:
        """Requests sent, retries included."""
        return self._requests

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self._tokens

    @property
    def cost(self) -> float:
        """Money, by the prices of the settings."""
        return self._cost

    def take_request(self) -> str | None:
        """Count one request that is about to be sent; or, where it may not be, say which limit is reached."""
        settings = self._settings
        with self._lock:
            for name, spent, most in (
                ("max_requests", self._requests, settings.max_requests),
                ("max_tokens", self._tokens, settings.max_tokens),
                ("max_cost", self._cost, settings.max_cost),
            ):
                if most is not None and spent >= most:
                    return f"the judge's budget is exhausted: {name} is {most:g}"
            self._requests += 1
        return None

    def add_answer(self, usage: Any, *, prompt_chars: int, answer_chars: int) -> None:
        """Count what an answer took; `usage` is what the server says of it."""
        stated = usage if isinstance(usage, dict) else {}
        prompt = _count(stated.get("prompt_tokens"), prompt_chars)
        answer = _count(stated.get("completion_tokens"), answer_chars)
        money = (
            prompt * self._settings.price_per_million_prompt_tokens
            + answer * self._settings.price_per_million_answer_tokens
        ) / 1_000_000
        with self._lock:
            self._tokens += prompt + answer
            self._cost += money


def _count(stated: Any, chars: int) -> int:
    is_count = isinstance(stated, int) and not isinstance(stated, bool) and stated >= 0
    return stated if is_count else -(-chars // _CHARS_PER_TOKEN)
