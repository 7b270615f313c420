"""How noisy retrieval is while a policy trains, step by step (ZeroSearch's curriculum)."""

from pydantic import Field, model_validator

from train.config_file import Section


class NoiseConfig(Section):
    """The share of searches that find nothing which helps; see `envs.noise`."""

    start: float = Field(0.0, ge=0, le=1, description="Share of noisy searches at the first step.")
    end: float = Field(0.5, ge=0, le=1, description="Share at `steps` and after it; .5 is ZeroSearch's.")
    base: float = Field(4.0, gt=0, description="How late the share rises: 4 is ZeroSearch's, 1 is linear.")
    steps: int | None = Field(None, ge=1, description="Steps from start to end; None: those of the run.")
    evaluation: float = Field(0.0, ge=0, le=1, description="Share of noisy searches in the evaluations on dev.")

    @model_validator(mode="after")
    def _check(self) -> "NoiseConfig":
        if self.start == self.end == self.evaluation == 0:
            raise ValueError("start, end and evaluation are all 0: leave rollout.noise out for clean retrieval")
        return self

    def share(self, step: int, total_steps: int) -> float:
        """`p_s + (b^(i/m) - 1) / (b - 1) (p_e - p_s)` at step i of m, and p_e from m on; linear for b = 1.

        >>> [round(NoiseConfig(start=0.0, end=0.5).share(step, 100), 3) for step in (0, 50, 100, 200)]
        [0.0, 0.167, 0.5, 0.5]
        """
        last = self.steps or total_steps
        part = min(step / last, 1.0)
        risen = part if self.base == 1.0 else (self.base**part - 1) / (self.base - 1)
        return self.start + risen * (self.end - self.start)
