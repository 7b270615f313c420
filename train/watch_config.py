"""When a run counts as collapsing: what the watch does then, and how far each signal may go before it says so.

A limit of None switches its signal off. `docs/watch.md` says on which runs the defaults were set and how they did on
others.
"""

from typing import Literal

from pydantic import Field

from train.config_file import Section


class WatchLimits(Section):
    """How far each signal of collapse may go; a deviation of twice as much counts twice."""

    likelihood_fall: float | None = Field(
        0.25, gt=0, description="Nats a token that right answers' sampled tokens may lose against their best step."
    )
    confidence_fall: float | None = Field(
        0.15,
        gt=0,
        description="The same of all trajectories' tokens, which also speaks where no answer is right any more.",
    )
    valid_action_fall: float | None = Field(
        0.7, gt=0, lt=1, description="Share of the best step's valid actions that must be kept."
    )
    thinking_shrink: float | None = Field(
        0.4, gt=0, lt=1, description="Share of its words at the start that a thought must keep."
    )
    thinking_growth: float | None = Field(
        3.0, gt=1, description="Multiple of its words at the start that a thought may reach."
    )
    thought_repetition_rise: float | None = Field(
        0.15, gt=0, lt=1, description="Rise of the share of repeated 4-grams in a thought over the start's."
    )
    action_repetition_rise: float | None = Field(
        0.15, gt=0, lt=1, description="The same of sampled tokens, which also sees what is no thought any more."
    )
    duplicate_query_rise: float | None = Field(
        0.3, gt=0, lt=1, description="Rise of the share of searches that repeat a query of their trajectory."
    )
    answer_rate_fall: float | None = Field(
        0.5, gt=0, lt=1, description="Share of the best step's answer rate that must be kept."
    )
    ratio_tail: float | None = Field(
        0.05, gt=0, lt=1, description="Share of tokens that the learner thinks half or twice as likely as the engine."
    )
    update_tail: float | None = Field(
        0.1,
        gt=0,
        lt=1,
        description="Share of tokens that a single update makes half or twice as likely; at twice the share `stop` "
        "keeps the update from the engines.",
    )
    entropy_rise: float | None = Field(3.0, gt=1, description="Multiple of the entropy at the start.")
    entropy_fall: float | None = Field(
        0.005,
        gt=0,
        lt=1,
        description="Share of the entropy at the start that must be left; low, for learning lowers it.",
    )
    held_out_em_fall: float | None = Field(
        0.8,
        gt=0,
        lt=1,
        description="Share of the best EM on dev questions that must be kept; lost only where the interval of the EM "
        "does not reach the best one any more.",
    )
    reward_without_em: float | None = Field(
        0.9, gt=0, lt=1, description="The same while the reward is above what it was at that best EM: it is hacked."
    )
    grad_norm_rise: float | None = Field(
        10.0, gt=1, description="Multiple of the median gradient norm of the last 20 steps, before clipping."
    )


class WatchConfig(Section):
    """The collapse watch: what it does, and when."""

    action: Literal["warn", "stop", "off"] = Field(
        "warn", description="warn tells and records; stop also ends the run, its batch and a checkpoint kept; off."
    )
    reference_steps: int = Field(
        5, ge=1, description="Steps at the start whose mean is what later ones are compared with."
    )
    patience: float = Field(
        2.0,
        ge=1,
        description="Deviations, in limits and summed over consecutive steps beyond them, that raise an alarm: 2 is "
        "two steps at the limit, or one far beyond it.",
    )
    stop_signals: int = Field(
        2, ge=1, description="Signals that must stand in alarm together before `stop` ends the run."
    )
    min_correct: int = Field(
        4, ge=1, description="Right answers of a step below which their likelihood is not judged: it is noise."
    )
    min_dev_em: float = Field(
        0.1, ge=0, lt=1, description="Best dev EM below which its loss is not judged: there is nothing to lose."
    )
    max_batches: int = Field(
        8, ge=0, description="Batches kept in watch/ under `warn`, one an alarm; the one of a stop is always kept."
    )
    limits: WatchLimits = Field(default_factory=WatchLimits, description="How far each signal may go.")

    @property
    def probes(self) -> bool:
        """True if each update is followed by a forward pass that tells how far it went."""
        return self.action != "off" and self.limits.update_tail is not None
