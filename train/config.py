"""What a training run is: one YAML file, checked whole before a model, an index or a process is touched.

`load_config` reads the file, applies dotted overrides (`learner.learning_rate=1e-4`; values are YAML) and validates.
Unknown fields are refused with the nearest known name; rules that concern several fields are in `TrainConfig`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from agent.engines.opening import EngineSettings, OpenAISpec, TransformersSpec, VLLMSpec
from envs.policies.expert import ExpertSettings
from envs.policies.noisy import NoiseRates
from envs.search_env import EpisodeLimits
from retrieval.spec import RetrieverSetting
from rewards.compose import RewardTerm
from train.composition_config import CompositionConfig, composition_problems
from train.config_file import Section, check_fields, read_mapping
from train.learner_config import LearnerConfig
from train.noise_config import NoiseConfig
from train.runtime_config import LocalSettings, RaySettings, RuntimeSettings
from train.unit_config import GroupUnit, ParaphraseSetUnit, UnitSettings, unit_problems
from train.watch_config import WatchConfig

PER_TURN = frozenset({"turn", "turn_normalised", "renorm", "step_tokens", "state", "tree"})
"""Built-in credit estimators whose advantages differ inside a trajectory."""


class PolicyConfig(Section):
    """The model that is trained."""

    model: str = Field(description="Hugging Face folder or id of a causal language model with its tokenizer.")
    trust_remote_code: bool = Field(False, description="Run code from the model's folder; off, because it is code.")


class DataConfig(Section):
    """Where questions and passages come from."""

    index: RetrieverSetting = Field(
        description="Folder of build-index, http://host:port of serve-index, or {hybrid: [...]} or {rerank: ...}."
    )
    corpus_index: Path | None = Field(
        None, description="Index folder over the same corpus for rewards that read it, where `index` is a server."
    )
    train_questions: Path = Field(description="Questions to train on.")
    dev_questions: Path | None = Field(None, description="Questions to evaluate on while training; never trained on.")
    dev_limit: int = Field(200, ge=1, description="First so many dev questions: enough for an interval of about .07.")
    format: str | None = Field(None, description="Question format or module:object; None finds it out.")


class ProtocolConfig(Section):
    """How the policy says what it wants."""

    name: str = Field("waymark", description="search_r1, waymark, or module:object.")
    overrides: dict[str, Any] = Field(default_factory=dict, description="Fields of the protocol's table to replace.")


class RetrievalConfig(Section):
    """How searches of many episodes are batched, and how long one may take."""

    window_s: float = Field(0.0, ge=0, description="Seconds a query waits for company; 0 means until the loop is idle.")
    max_batch: int = Field(256, ge=1, description="Queries per search call.")
    timeout_s: float = Field(30.0, gt=0, description="Seconds before one attempt counts as failed.")
    retries: int = Field(2, ge=0, description="Further attempts, with backoff, before the episode ends as an outage.")


class RolloutConfig(Section):
    """How trajectories are sampled."""

    questions_per_step: int = Field(12, ge=1, description="Questions (groups) a step; 12 x 8 suits two cores.")
    samples_per_question: int = Field(
        8, ge=1, description="Trajectories of a plain group, which share a baseline (num_generations)."
    )
    unit: UnitSettings = Field(
        default_factory=GroupUnit,
        description="What is sampled for a question: group, paraphrase_set, branch, refine or tree, with its settings.",
    )
    temperature: float = Field(1.0, description="Sampling temperature; 1 keeps the policy's own distribution.")
    top_p: float = Field(1.0, description="Must be 1: truncated sampling biases the gradient.")
    top_k: int = Field(0, description="Must be 0, for the same reason.")
    noise: NoiseConfig | None = Field(None, description="Searches that find nothing which helps, on a curriculum.")
    max_staleness: int = Field(
        0, ge=0, description="Policy versions that a trajectory may be older than its step; 0 is the synchronous loop."
    )
    zero_variance: Literal["keep", "drop", "resample"] = Field(
        "keep",
        description="Groups whose advantages are all 0: counted in the step's mean; left out of it; or made to "
        "give way to other questions (DAPO's dynamic sampling).",
    )
    max_resampled: int = Field(
        10, ge=1, description="With resample: a step that refuses so many times its questions ends the run."
    )
    max_outage_share: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="Above this share of trajectories lost to outages the run pauses; no step is spent.",
    )
    outage_patience_s: float = Field(600.0, gt=0, description="Seconds that a paused run waits for the retriever.")
    max_concurrent_episodes: int = Field(1024, ge=1, description="Episodes in flight.")


class CreditConfig(Section):
    """How scores become advantages."""

    estimator: str = Field("turn", description="A name of train.credit.ESTIMATORS, or module:object.")
    params: dict[str, Any] = Field(default_factory=dict, description="Arguments of the estimator.")


class ColdStartPhase(Section):
    """One supervised phase: demonstrations made with these fault rates, imitated for some steps."""

    demonstrations: int = Field(3000, ge=1, description="Episodes of the scripted policy on training questions.")
    rates: NoiseRates = Field(default_factory=NoiseRates, description="How often the demonstrator makes each fault.")
    max_turns: int | None = Field(
        None, ge=1, description="Imitate only so many first actions, and cut the episode there; None: all."
    )
    context_weight: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Weight of prompt and observation tokens in the loss; their repetitions teach how to copy.",
    )
    steps: int = Field(150, ge=1, description="Optimiser steps.")
    batch_size: int = Field(16, ge=1, description="Demonstrations per optimiser step.")
    learning_rate: float = Field(3e-3, gt=0, description="AdamW's peak; 3e-3 suits a model of about 1 M parameters.")
    schedule: Literal["constant_with_warmup", "cosine"] = Field(
        "constant_with_warmup", description="Learning rate after a warm-up over the first twentieth of the steps."
    )


class ColdStartConfig(Section):
    """Supervised start on demonstrations of a scripted policy, before reinforcement learning."""

    phases: tuple[ColdStartPhase, ...] = Field(
        (ColdStartPhase(),), min_length=1, description="Phases in order; each goes on with the weights of the last."
    )
    muon_scale: float = Field(
        3.0, gt=0, description="Muon's learning rate (matrices) as a multiple of AdamW's (embeddings, norms)."
    )
    style: ExpertSettings = Field(default_factory=ExpertSettings, description="How the demonstrator words its actions.")


class TrainConfig(Section):
    """One training run."""

    seed: int = Field(0, ge=0, description="Seeds data order, sampling and initialisation.")
    steps: int = Field(60, ge=1, description="Optimiser steps; one batch of fresh trajectories each.")
    max_trajectories: int | None = Field(
        None,
        ge=1,
        description="Sampled trajectories, in whole episodes, after which the run ends with its step; None: no bound.",
    )
    policy: PolicyConfig
    data: DataConfig
    runtime: RuntimeSettings = Field(default_factory=LocalSettings)
    engine: EngineSettings = Field(default_factory=TransformersSpec)
    protocol: ProtocolConfig = Field(default_factory=ProtocolConfig)
    limits: EpisodeLimits = Field(default_factory=EpisodeLimits)
    retrieval: RetrievalConfig = Field(default_factory=RetrievalConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    rewards: dict[str, RewardTerm] = Field(description="Rewards by name; each component is logged apart.")
    composition: CompositionConfig = Field(default_factory=CompositionConfig)
    credit: CreditConfig = Field(default_factory=CreditConfig)
    learner: LearnerConfig = Field(default_factory=LearnerConfig)
    cold_start: ColdStartConfig | None = Field(None, description="None starts RL from the model as it is.")
    evaluate_every: int = Field(10, ge=0, description="Steps between greedy evaluations on dev; 0 never.")
    evaluate_wordings: int = Field(
        0, ge=0, description="Wordings in which each evaluation asks a dev question, to compare the answers; 0: one."
    )
    checkpoint_every: int = Field(10, ge=0, description="Steps between checkpoints; 0 only at the end.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept; older ones are deleted.")
    watch: WatchConfig = Field(default_factory=WatchConfig, description="What to do when a policy falls apart.")
    save_trajectories: bool = Field(True, description="Write every trajectory with its scores to the run folder.")
    trajectories_gb: float | None = Field(
        10.0, gt=0, description="Disk that the saved trajectories may use; the oldest are deleted. None: no bound."
    )
    tracker: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        "none", description="Logger beside metrics.jsonl; needs the extra `tracking`."
    )

    @model_validator(mode="after")
    def _check_across_fields(self) -> "TrainConfig":
        problems = []
        if self.rollout.temperature <= 0:
            problems.append(
                f"rollout.temperature is {self.rollout.temperature}: GRPO learns from differences between samples, "
                "so it must be above 0 (1.0 is usual)"
            )
        if self.rollout.top_p != 1.0 or self.rollout.top_k != 0:
            problems.append(
                f"rollout.top_p={self.rollout.top_p}, top_k={self.rollout.top_k}: training needs the full distribution "
                "(top_p 1.0, top_k 0), or the learner's ratios are wrong"
            )
        if isinstance(self.rollout.unit, GroupUnit) and self.rollout.samples_per_question < 2:
            problems.append(
                "rollout.samples_per_question is 1: a group of one has no baseline and every advantage is 0; use 2 or "
                "more (8 is usual)"
            )
        problems += unit_problems(
            self.rollout.unit,
            estimator=self.credit.estimator,
            rewards={name: term.use or name for name, term in self.rewards.items()},
        )
        too_few = self.max_trajectories is not None and self.max_trajectories < self.trajectories_per_step
        if too_few and self._has_units_of_one_size:
            problems.append(
                f"max_trajectories is {self.max_trajectories}, less than one step of {self.trajectories_per_step}: "
                "give at least that, or set rollout.questions_per_step lower"
            )
        problems += self._engine_problems()
        if self.rollout.max_staleness and self.learner.importance_weight_cap is None:
            problems.append(
                f"rollout.max_staleness is {self.rollout.max_staleness}, so older versions sample what is learnt from: "
                "set learner.importance_weight_cap (2.0 is usual), which weighs their tokens"
            )
        if not self.rewards:
            problems.append("rewards is empty: name at least one, for example `exact_match: {weight: 1.0}`")
        problems += composition_problems(
            self.composition,
            self.rewards,
            self.credit.estimator,
            self.credit.params.get("discount", 1.0),
            self.planned_steps,
            unit_kind=self.rollout.unit.kind,
        )
        if self.learner.seed not in (0, self.seed):
            problems.append(
                f"learner.seed is {self.learner.seed}, but seed is {self.seed}: a run has one seed; set `seed` and "
                "leave learner.seed out"
            )
        if self.learner.importance_sampling_level == "sequence" and self.credit.estimator in PER_TURN:
            problems.append(
                f"learner.importance_sampling_level is sequence, one ratio for a whole trajectory, but "
                f"credit.estimator {self.credit.estimator} gives each turn an advantage of its own: use outcome or "
                "outcome_mean, or importance_sampling_level: token"
            )
        if self.evaluate_wordings == 1:
            problems.append("evaluate_wordings is 1, and there is nothing to compare: use 0, or 2 or more (6 is usual)")
        if self.evaluate_every and self.data.dev_questions is None:
            problems.append(
                f"evaluate_every is {self.evaluate_every}, but data.dev_questions is not set: set it, or set 0"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _engine_problems(self) -> list[str]:
        problems = []
        engine, runtime = self.engine, self.runtime
        if isinstance(engine, OpenAISpec):
            problems.append(
                "engine is openai, a server whose weights cannot be updated from here: train with transformers or "
                "vllm; `waymark evaluate` asks servers"
            )
        if isinstance(engine, TransformersSpec) and engine.schedule == "deterministic" and not self.in_step:
            why = (
                "runtime is ray" if runtime.kind == "ray" else f"rollout.max_staleness is {self.rollout.max_staleness}"
            )
            problems.append(
                f"engine.schedule is deterministic, but {why}: only one process whose episodes wait for each version "
                "has batches that depend on ids alone; set engine.schedule: auto, or runtime: local and "
                "rollout.max_staleness: 0"
            )
        if isinstance(engine, VLLMSpec) and engine.sleep and self.rollout.max_staleness:
            problems.append(
                f"engine.sleep is true and rollout.max_staleness {self.rollout.max_staleness}: an engine that sleeps "
                "while the learner steps cannot run ahead of it; set max_staleness: 0, or engine.sleep: false"
            )
        if isinstance(runtime, RaySettings) and runtime.layout == "colocated":
            if self.rollout.max_staleness:
                problems.append(
                    f"runtime.layout is colocated and rollout.max_staleness {self.rollout.max_staleness}: engines "
                    "that sleep while the learner steps cannot run ahead of it; set max_staleness: 0, or layout: "
                    "disaggregated"
                )
            if not isinstance(engine, VLLMSpec):
                problems.append(
                    f"runtime.layout is colocated and engine {engine.kind}: only vllm can sleep; set engine: vllm, or "
                    "layout: disaggregated"
                )
        return problems

    @property
    def in_step(self) -> bool:
        """True if episodes, engine and learner are one process and every episode waits for each policy version."""
        return self.runtime.kind == "local" and self.rollout.max_staleness == 0

    @property
    def engine_sleeps(self) -> bool:
        """True if the engine gives its GPU's memory to the learner while it steps."""
        shares = isinstance(self.runtime, RaySettings) and self.runtime.layout == "colocated"
        return isinstance(self.engine, VLLMSpec) and (self.engine.sleep or shares)

    @property
    def engine_opened(self) -> OpenAISpec | TransformersSpec | VLLMSpec:
        """The engine with what the layout asks of it."""
        return self.engine.model_copy(update={"sleep": True}) if self.engine_sleeps else self.engine

    @property
    def engine_dtype(self) -> Literal["float32", "bfloat16"]:
        """The engine samples in the precision that the learner computes in, so that their logprobs agree."""
        return "bfloat16" if self.learner.precision == "bf16" else "float32"

    @property
    def trajectories_per_step(self) -> int:
        """Most trajectories of one step; candidates of a branch count one by one."""
        return self.rollout.questions_per_step * self.trajectories_per_unit

    @property
    def planned_steps(self) -> int:
        """Steps after which schedules of rewards count the run as over: `steps`, or where `max_trajectories` ends a run
        of groups or paraphrase sets sooner, those that it pays for. What branches cost, and sets of which some may
        have fewer wordings, is not known beforehand.
        """
        if self.max_trajectories is None or not self._has_units_of_one_size:
            return self.steps
        return min(self.steps, -(-self.max_trajectories // self.trajectories_per_step))

    @property
    def _has_units_of_one_size(self) -> bool:
        unit = self.rollout.unit
        return isinstance(unit, GroupUnit) or (isinstance(unit, ParaphraseSetUnit) and not unit.allow_fewer)

    @property
    def trajectories_per_unit(self) -> int:
        """Most trajectories of one unit."""
        return self.rollout.unit.most_trajectories(self.rollout.samples_per_question, self.limits.max_turns)


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML config, apply dotted overrides `a.b=c`, and check it.

    Raises:
        ConfigError: no such file, not YAML, an override without `=`, or a config that does not validate.
    """
    return check_config(read_mapping(Path(path), overrides), source=str(path))


def check_config(data: dict[str, Any], source: str = "config") -> TrainConfig:
    """Validate a mapping as a training run; see `check_fields`."""
    return check_fields(TrainConfig, data, source)


def dump_config(config: TrainConfig, path: Path) -> None:
    """Write the resolved config as YAML."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
