"""What a training run is: one YAML file, checked whole before a model, an index or a process is touched.

`load_config(path, overrides)` reads the file, applies dotted overrides (`learner.learning_rate=1e-4`; values are
YAML) and validates. Every field says its unit and why its default is what it is. Unknown fields are refused with the
nearest known name; rules that concern several fields are checked in `TrainConfig`.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from envs.policies.expert import ExpertSettings
from envs.policies.noisy import NoiseRates
from envs.search_env import EpisodeLimits
from retrieval.setting_words import in_words
from retrieval.spec import RetrieverSetting
from rewards.compose import RewardTerm
from train.learner_config import LearnerConfig

PER_TURN = frozenset({"turn", "turn_normalised"})
"""Built-in credit estimators whose advantages differ inside a trajectory."""


class Section(BaseModel):
    """A part of the config: frozen, and closed to fields that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


SectionKind = TypeVar("SectionKind", bound=Section)


class ConfigError(ValueError):
    """A config that cannot be run; the message names the field, what was given and what is allowed."""


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
    samples_per_question: int = Field(8, ge=1, description="Trajectories that share a baseline (num_generations).")
    temperature: float = Field(1.0, description="Sampling temperature; 1 keeps the policy's own distribution.")
    top_p: float = Field(1.0, description="Must be 1: truncated sampling biases the gradient.")
    top_k: int = Field(0, description="Must be 0, for the same reason.")
    schedule: Literal["deterministic", "eager"] = Field(
        "deterministic", description="deterministic: batches depend on ids and turn alone; eager: on arrival."
    )
    max_batch: int = Field(256, ge=1, description="Rows that the engine decodes together.")
    max_concurrent_episodes: int = Field(1024, ge=1, description="Episodes in flight on the event loop.")


class CreditConfig(Section):
    """How scores become advantages."""

    estimator: str = Field("turn", description="outcome, outcome_mean, turn, turn_normalised, or module:object.")
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
    policy: PolicyConfig
    data: DataConfig
    protocol: ProtocolConfig = Field(default_factory=ProtocolConfig)
    limits: EpisodeLimits = Field(default_factory=EpisodeLimits)
    retrieval: RetrievalConfig = Field(default_factory=RetrievalConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    rewards: dict[str, RewardTerm] = Field(description="Rewards by name; each component is logged apart.")
    credit: CreditConfig = Field(default_factory=CreditConfig)
    learner: LearnerConfig = Field(default_factory=LearnerConfig)
    cold_start: ColdStartConfig | None = Field(None, description="None starts RL from the model as it is.")
    evaluate_every: int = Field(10, ge=0, description="Steps between greedy evaluations on dev; 0 never.")
    checkpoint_every: int = Field(10, ge=0, description="Steps between checkpoints; 0 only at the end.")
    keep_checkpoints: int = Field(2, ge=1, description="Newest checkpoints kept; older ones are deleted.")
    save_trajectories: bool = Field(True, description="Write every trajectory with its scores to the run folder.")
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
        if self.rollout.samples_per_question < 2:
            problems.append(
                "rollout.samples_per_question is 1: a group of one has no baseline and every advantage is 0; use 2 or "
                "more (8 is usual)"
            )
        if not self.rewards:
            problems.append("rewards is empty: name at least one, for example `exact_match: {weight: 1.0}`")
        elif all(term.weight == 0 for term in self.rewards.values()):
            problems.append("every reward has weight 0: nothing would be learned")
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
        if self.evaluate_every and self.data.dev_questions is None:
            problems.append(
                f"evaluate_every is {self.evaluate_every}, but data.dev_questions is not set: set it, or set 0"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def engine_dtype(self) -> Literal["float32", "bfloat16"]:
        """The engine samples in the precision that the learner computes in, so that their logprobs agree."""
        return "bfloat16" if self.learner.precision == "bf16" else "float32"

    @property
    def trajectories_per_step(self) -> int:
        """Trajectories sampled in one step."""
        return self.rollout.questions_per_step * self.rollout.samples_per_question


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML config, apply dotted overrides `a.b=c`, and check it.

    Raises:
        ConfigError: no such file, not YAML, an override without `=`, or a config that does not validate.
    """
    return check_config(read_mapping(Path(path), overrides), source=str(path))


def read_mapping(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a YAML file with dotted overrides applied, not yet checked.

    Raises:
        ConfigError: no such file, not YAML, a field that stands twice, or an override that cannot be applied.
    """
    if not path.is_file():
        raise ConfigError(f"no config at {path}: give a YAML file, for example one from configs/")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}; a config is a mapping of fields")
    for override in overrides:
        apply_override(data, override)
    return data


def check_config(data: dict[str, Any], source: str = "config") -> TrainConfig:
    """Validate a mapping as a training run; see `check_fields`."""
    return check_fields(TrainConfig, data, source)


def check_fields(kind: type[SectionKind], data: dict[str, Any], source: str) -> SectionKind:
    """Validate a mapping; every problem is listed in one ConfigError with its dotted field name."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        problems = error.errors()
        lines = [_explain(kind, problem) for problem in problems if not _only_follows(problem, problems)]
        raise ConfigError("\n  ".join([f"{source}:", *lines])) from error


def dump_config(config: TrainConfig, path: Path) -> None:
    """Write the resolved config as YAML."""
    path.write_text(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one dotted field of a nested mapping, `a.b=value`; missing sections are made.

    Raises:
        ConfigError: no `=`, a value that is not YAML, or a field on the way that holds a value instead of a section.
    """
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form field.subfield=value")
    node = data
    *parents, last = key.split(".")
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {override!r}: {parent!r} holds a value, not a section")
        node = child
    node[last] = _scalar(value, override)


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a field stands once; the plain loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {key!r} stands twice; keep one of them", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _scalar(text: str, override: str) -> Any:
    """A YAML value; `1e-4`, which YAML 1.1 reads as a string, becomes the float that was meant."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: {text!r} is not a YAML value: {error}") from error
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _only_follows(problem: Any, problems: Sequence[Any]) -> bool:
    """True if a list counts as too short only because something is wrong inside its entries."""
    place = problem["loc"]
    return problem["type"] == "too_short" and any(
        len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems
    )


def _explain(kind: type[Section], problem: Any) -> str:
    location = ".".join(str(part) for part in problem["loc"]) or "config"
    if problem["type"] == "extra_forbidden":
        known = _fields_at(kind, problem["loc"][:-1])
        near = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        return f"{location}: unknown field; {hint}"
    if problem["type"] in ("model_type", "model_attributes_type"):
        known = _fields_at(kind, problem["loc"])
        return f"{location}: must be a section with fields ({', '.join(known)}), not {problem['input']!r}"
    return f"{location}: {in_words(problem)}"


def _fields_at(kind: type[Section], location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section at a place; a name in a mapping or a number in a list is passed through."""
    annotation: Any = kind
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            annotation = _without_none(annotation.model_fields[str(part)].annotation)
        else:
            annotation = next(a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel))
    return list(annotation.model_fields)


def _without_none(annotation: Any) -> Any:
    """What an optional field holds where it is set."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) and len(kinds) == 1 else annotation
