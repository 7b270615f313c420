"""How a served model is reached."""

from pydantic import BaseModel, ConfigDict, Field

from retrieval.bearer_token import BearerToken


class OpenAISettings(BaseModel):
    """Settings of `OpenAIEngine`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern=r"^https?://")
    """Where `/v1/completions` is found, `http://host:port` or `http://host:port/v1`."""
    model: str | None = None
    """Name of the served model; None takes the only one that the server lists."""
    api_key: BearerToken | None = Field(default=None, exclude=True)
    """Bearer token, where the server wants one; it is never written back."""
    context_window: int | None = Field(default=None, ge=2)
    """Most tokens of prompt and completion; None takes what the server says of its model."""
    timeout_s: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    """Deadline of one request in seconds, retries included."""
    retries: int = Field(default=5, ge=0)
    """How often a request that broke on the way, or that the server was too busy for, is sent again."""
    max_connections: int = Field(default=256, ge=1)
    """Most requests at the server at a time; the others wait in order."""
