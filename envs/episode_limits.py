"""What one episode may cost: the limits of a config, by scope and unit."""

from pydantic import BaseModel, ConfigDict, Field, model_validator


class EpisodeLimits(BaseModel):
    """What one episode may cost. Defaults are the field's usual ones (Search-R1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_turns: int = Field(
        default=4, ge=1, description="Actions, the answer included; a search in the last is not run."
    )
    max_searches: int | None = Field(
        default=None,
        ge=0,
        description="Searches carried out; later ones find nothing. None: no limit but the turns.",
    )
    max_opens: int | None = Field(
        default=None,
        ge=0,
        description="Documents opened, each window counted; later ones are refused. None: no limit but the turns.",
    )
    max_new_tokens_per_turn: int = Field(default=500, ge=1, description="Tokens sampled in one action.")
    max_trajectory_tokens: int = Field(default=4096, ge=2, description="Tokens of prompt, actions and observations.")
    max_observation_tokens: int = Field(default=500, ge=1, description="Tokens of one observation with its wrapper.")
    max_open_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens of an opened document that one window shows. None: what an observation has room for.",
    )
    top_k: int = Field(default=3, ge=1, description="Passages per search.")
    max_queries_per_turn: int = Field(
        default=4,
        ge=1,
        description="Calls (searches, documents to open) one action may ask for; more is an invalid action.",
    )
    max_query_chars: int = Field(
        default=8192,
        ge=1,
        description="Characters of one query; a longer one is an invalid action, over an index as over a server.",
    )

    @model_validator(mode="after")
    def _check_across_fields(self) -> "EpisodeLimits":
        if self.max_new_tokens_per_turn >= self.max_trajectory_tokens:
            raise ValueError(
                f"max_new_tokens_per_turn={self.max_new_tokens_per_turn} leaves no token for the prompt in "
                f"max_trajectory_tokens={self.max_trajectory_tokens}: raise the second or lower the first"
            )
        return self
