"""How a judge is described in a config: by rules, or by the endpoint of a served model.

judge: rules
judge: {kind: rules, encoder: sentence-transformers/all-MiniLM-L6-v2}
judge: {kind: endpoint, url: "http://127.0.0.1:8000", model: Qwen3-32B, cache: runs/judge.sqlite}
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ResponseFormat = Literal["auto", "json_schema", "json_object", "text"]
OWN_FIELDS = frozenset({"model", "messages", "response_format", "stream", "n"})
"""Fields of a request that `extra_body` may not set: without them the answer would not be the one that is read."""


class RulesSettings(BaseModel):
    """Settings of `RulesJudge`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["rules"] = "rules"
    """The judge."""
    encoder: str | None = None
    """Name or folder of a sentence-transformers model that rates relevance beside the words; None uses words alone."""


class EndpointSettings(BaseModel):
    """Settings of `EndpointJudge`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["endpoint"]
    """The judge."""
    url: str = Field(pattern=r"^https?://[^/\s]+")
    """Where `/v1/chat/completions` is found: `http://host:port` or `http://host:port/v1`."""
    model: str = Field(min_length=1)
    """Name under which the server knows the model."""
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable that holds the bearer token; the token itself is never part of a config."""
    response_format: ResponseFormat = "auto"
    """How the server is told the form of an answer; `auto` begins with json_schema and steps down, to json_object and
    to the words of the prompt alone, where the server refuses it."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    """Sampling temperature; 0 repeats itself best."""
    max_answer_tokens: int = Field(default=512, ge=1)
    """Most tokens of one answer; an answer cut there is no JSON and fails. Reasoning models need more."""
    extra_body: dict[str, Any] = Field(default_factory=dict)
    """Further fields of a request, `{chat_template_kwargs: {enable_thinking: false}}`; null takes a field out."""
    timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """Deadline of one attempt, in seconds from sending to the last byte."""
    retries: int = Field(default=4, ge=0)
    """Further attempts after 408, 429, 5xx, a time-out or a broken connection."""
    first_pause_s: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """Pause before the second attempt; it doubles each time up to `most_pause_s`. A server's Retry-After is kept to."""
    most_pause_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """Longest pause, that of Retry-After included."""
    max_concurrency: int = Field(default=16, ge=1)
    """Most requests on their way at a time, over all threads."""
    max_request_chars: int = Field(default=100_000, ge=1)
    """Longer requests are not sent and fail: a policy can write as much as its budget allows."""
    max_requests: int | None = Field(default=None, ge=1)
    """Most requests sent in this process, retries included."""
    max_tokens: int | None = Field(default=None, ge=1)
    """No request is sent once prompts and answers together have come to this many tokens."""
    price_per_million_prompt_tokens: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Money for 1,000,000 tokens of prompt."""
    price_per_million_answer_tokens: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Money for 1,000,000 tokens of answer."""
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """No request is sent once this much money is spent."""
    cache: Path | None = None
    """File of verdicts, shared by processes and runs; None remembers them in this process alone."""

    @field_validator("url")
    @classmethod
    def _no_secrets_in_the_url(cls, url: str) -> str:
        if re.match(r"https?://[^/]*@", url):
            raise ValueError("the url holds a user name or password, which would be logged; use api_key_env")
        return url

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _a_name_is_not_the_key(cls, name: Any) -> Any:
        if isinstance(name, str) and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            # pydantic would show the input, and this may well be the key itself.
            raise ValueError("api_key_env is the NAME of an environment variable, such as JUDGE_API_KEY, not the key")
        return name

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        taken = sorted(OWN_FIELDS & self.extra_body.keys())
        if taken:
            raise ValueError(f"extra_body sets {', '.join(taken)}, which the judge sets itself; leave it out")
        priced = self.price_per_million_prompt_tokens or self.price_per_million_answer_tokens
        if self.max_cost is not None and not priced:
            raise ValueError(
                "max_cost needs a price: price_per_million_prompt_tokens, price_per_million_answer_tokens or both; "
                "without prices use max_tokens or max_requests"
            )
        return self
