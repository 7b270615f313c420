"""A served model as a judge: many requests at once, each answered from the cache, by the model, or with NaN.

    requests -> rendered -> same ones asked once -> cache -> budget -> server -> checked -> cache -> verdicts

Requests run in an event loop on a thread of the judge's own, so `ask` may be called from any thread, and from inside a
loop, and the bound on concurrency holds over all callers. Thread and connections begin with the first request that is
not in the cache.
"""

import asyncio
import hashlib
import json
import math
import os
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from pydantic import SecretStr

from retrieval.bearer_token import checked_token
from rewards.judge.answer_scale import failed
from rewards.judge.budget import Budget
from rewards.judge.chat import ChatEndpoint, ChatFailed
from rewards.judge.counts import JudgeCounts
from rewards.judge.judge import JudgeRequest, Verdict
from rewards.judge.prompt import Prompt, prompt_for
from rewards.judge.settings import EndpointSettings
from rewards.judge.verdict_cache import VerdictCache

_FORMAT = 1
"""Of the key: raised when verdicts are read or kept differently."""
_PROBE = JudgeRequest(
    criterion="answer",
    fields={"question": "What is the capital of France?", "answer": "Paris", "golds": ("Paris",)},
)
"""What a server is asked to see that it judges."""
Result = TypeVar("Result")


class EndpointJudge(JudgeCounts):
    """Asks an OpenAI-compatible server; implements `rewards.judge.judge.Judge`.

    A verdict is NaN, with the reason, where the server did not answer in time, refused, answered something that is not
    JSON of the criterion's schema, or where the budget is exhausted. Such a verdict is counted in `failed`, never kept.

    Raises:
        ValueError: `api_key_env` names no variable with a token, or the cache cannot be opened.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        super().__init__()
        self.settings = settings
        self.name = f"{settings.model} at {settings.url}"
        self._key = _token(settings.api_key_env)
        self._budget = Budget(settings)
        self._cache = VerdictCache(settings.cache)
        self._loop = _LoopThread()
        self._endpoint: tuple[asyncio.AbstractEventLoop, ChatEndpoint] | None = None

    @property
    def cost(self) -> float:
        """Money spent in this process, by the prices of the settings; 0 without prices."""
        return self._budget.cost

    @property
    def requests(self) -> int:
        """Requests sent in this process, retries included."""
        return self._budget.requests

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers in this process."""
        return self._budget.tokens

    @property
    def cache_faults(self) -> int:
        """Reads and writes of the cache that did not work."""
        return self._cache.faults

    def ask(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """One verdict for each request, in order; equal requests are asked once."""
        rendered = [prompt_for(request) for request in requests]
        keys = [self.key(prompt, messages) for prompt, messages in rendered]
        by_key = dict(zip(keys, rendered, strict=True))
        verdicts = self._cache.get({key: prompt.scale for key, (prompt, _) in by_key.items()})
        waiting = {key: by_key[key] for key in by_key if key not in verdicts}
        num_asked_of_the_model = 0
        if waiting:
            judged = self._loop.run(self._judge_all(waiting))
            num_asked_of_the_model = sum(not math.isnan(verdict.score) for verdict in judged.values())
            verdicts |= judged
        answers = [verdicts[key] for key in keys]
        reasons = [verdict.reason for verdict in answers if math.isnan(verdict.score)]
        num_failed = len(reasons)
        if reasons:
            self.last_failure = reasons[-1]
        known = len(answers) - num_failed - num_asked_of_the_model
        self.count(asked=len(answers), failed=num_failed, cached=known)
        return answers

    def probe(self) -> str | None:
        """Ask one question, past the cache and the counters: None if it was judged, else what went wrong."""
        prompt, messages = prompt_for(_PROBE)
        try:
            content = self._loop.run(self._asked_directly(messages, prompt))
        except ChatFailed as error:
            return str(error)
        verdict = prompt.scale.read(content)
        return (verdict.reason or "no verdict") if math.isnan(verdict.score) else None

    def key(self, prompt: Prompt, messages: list[dict[str, str]]) -> str:
        """What a verdict is kept under: all that the model's answer depends on, as far as it can be known."""
        settings = self.settings
        parts = {
            "format": _FORMAT,
            "url": settings.url.rstrip("/").removesuffix("/v1"),
            "model": settings.model,
            "criterion": prompt.criterion,
            "version": prompt.version,
            "messages": messages,
            "response_format": settings.response_format,
            "temperature": settings.temperature,
            "max_answer_tokens": settings.max_answer_tokens,
            "extra_body": settings.extra_body,
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode("ascii")).hexdigest()

    def close(self) -> None:
        """Close connections, thread and cache. A second call does nothing."""
        opened, self._endpoint = self._endpoint, None
        if opened is not None and self._loop.is_running:
            self._loop.run(opened[1].close())
        self._loop.close()
        self._cache.close()

    async def _judge_all(self, waiting: dict[str, tuple[Prompt, list[dict[str, str]]]]) -> dict[str, Verdict]:
        judged = await asyncio.gather(*(self._judge(key, *rendered) for key, rendered in waiting.items()))
        return dict(zip(waiting, judged, strict=True))

    async def _judge(self, key: str, prompt: Prompt, messages: list[dict[str, str]]) -> Verdict:
        size = sum(len(message["content"]) for message in messages)
        if size > self.settings.max_request_chars:
            return failed(f"the request has {size} characters; max_request_chars is {self.settings.max_request_chars}")
        try:
            content = await self._connected().answer(messages, prompt.scale.schema(), prompt.criterion)
        except ChatFailed as error:
            return failed(str(error))
        verdict = prompt.scale.read(content)
        if not math.isnan(verdict.score):
            await asyncio.to_thread(self._cache.put, key, verdict)
        return verdict

    async def _asked_directly(self, messages: list[dict[str, str]], prompt: Prompt) -> str:
        return await self._connected().answer(messages, prompt.scale.schema(), prompt.criterion)

    def _connected(self) -> ChatEndpoint:
        """The connections of the running loop."""
        loop = asyncio.get_running_loop()
        if self._endpoint is None or self._endpoint[0] is not loop:
            key = self._key.get_secret_value() if self._key else None
            self._endpoint = (loop, ChatEndpoint(self.settings, key, self._budget))
        return self._endpoint[1]


class _LoopThread:
    """An event loop on a daemon thread, started by the first coroutine that it is given, and again after a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """True if the thread is there: it is not after a fork."""
        return self._thread is not None and self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What a coroutine returns; it is cancelled where the wait for it is interrupted."""
        with self._lock:
            if self._loop is None or not self.is_running:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Stop the loop and end the thread."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None and thread.is_alive():
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _token(variable: str | None) -> SecretStr | None:
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"judge: api_key_env is {variable}, and no such environment variable is set; export it")
    try:
        return SecretStr(checked_token(value))
    except ValueError as error:
        raise ValueError(f"judge: the environment variable {variable} holds no key: {error}") from None
