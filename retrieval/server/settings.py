"""What can be set about a retrieval server: where it listens, how it batches, and what it refuses."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrieval.bearer_token import BearerToken


class ServerSettings(BaseModel):
    """Settings of `create_app` and `serve`. Each limit is there so that no request can hold up the others."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` is every network that the machine is in, and wants a token."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one and says which."""
    token: BearerToken | None = None
    """What `Authorization: Bearer` must carry; None lets everybody in. `/health` and `/healthz` are always open."""
    replicas: int = Field(default=1, ge=1, le=256)
    """Processes that share the port; the index is mapped into memory once for all of them."""

    window_s: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    """How long a query waits for others to share its batch, in seconds; 0 merges what is there at the same moment."""
    max_batch: int = Field(default=256, ge=1)
    """Most queries in one batch."""
    max_in_flight: int = Field(default=2, ge=1)
    """Batches searched at the same time; what arrives meanwhile becomes the next batch."""
    timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """Longest time from a query to its answer in seconds, its wait for a place included; then it gets 503."""
    max_hanging: int = Field(default=16, ge=1)
    """Searches that may still run after they were given up on; beyond it every search is answered 503 with Retry-After,
    until one of them ends. As many openings of documents may, which are counted apart: beyond it `/access` is 503.
    """

    default_k: int = Field(default=3, ge=1)
    """Hits of a query that does not say how many (Search-R1 shows 3)."""
    max_k: int = Field(default=1000, ge=1)
    """Most hits a query may ask for; never more than the corpus has passages."""
    max_queries: int = Field(default=1024, ge=1)
    """Most queries (or ids, titles, urls) in one request."""
    max_hits: int = Field(default=100_000, ge=1)
    """Most hits a request may ask for, queries times k: it bounds the size of an answer."""
    max_query_chars: int = Field(default=8192, ge=1)
    """Longest query in characters."""
    max_body_bytes: int = Field(default=4 << 20, ge=1)
    """Largest request body in bytes, whether its length is announced or not."""
    body_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Longest time in which a request's body must arrive, in seconds."""
    max_body_bytes_in_all: int = Field(default=256 << 20, ge=1)
    """Bytes of bodies that a process holds at the same moment; a request whose body goes beyond it is answered 503 with
    Retry-After, once the rest of the body has been read and thrown away, for a few seconds at most.
    """
    header_timeout_s: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    """Longest time in which a request's headers must arrive, in seconds; then the connection is closed."""
    max_waiting: int = Field(default=4096, ge=1)
    """Queries that may wait for a search, and names that may wait to be opened; what comes on top is answered 503 with
    Retry-After.
    """
    retry_after_s: int = Field(default=1, ge=1)
    """Seconds that a 503 asks the client to stay away."""
    shutdown_timeout_s: int = Field(default=30, ge=1)
    """How long a server that is told to stop goes on with the requests it has taken, in seconds."""
    document_urls: bool = False
    """Add `url` (the passage's id, which `/access` opens) to every document: ASearcher's client reads it."""

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if self.default_k > self.max_k:
            raise ValueError(f"default_k is {self.default_k}, above max_k {self.max_k}; lower it, or raise max_k")
        if self.max_body_bytes_in_all < self.max_body_bytes:
            raise ValueError(
                f"max_body_bytes_in_all is {self.max_body_bytes_in_all}, below max_body_bytes {self.max_body_bytes}: "
                "the largest body could never be taken; raise max_body_bytes_in_all"
            )
        if self.max_waiting < self.max_queries:
            raise ValueError(
                f"max_waiting is {self.max_waiting}, below max_queries {self.max_queries}: the largest request could "
                "never be taken; raise max_waiting"
            )
        return self
