"""What `waymark ask` is asked for: a policy, an index, a question; and what the policy's run says about the rest.

A policy that lies in a run's folder is asked as it was trained: with the protocol, the limits and the precision of the
run's `config.yaml`. What is given beside it goes first.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from agent.engines.opening import AnySpec, Precision
from envs.datasets import read_questions
from envs.question import Question
from envs.search_env import EpisodeLimits
from evaluation.evaluated_policy import SCRIPTED, engine_spec
from retrieval.setting_words import in_words

RUN_CONFIG = "config.yaml"
_LEVELS = 3
"""Folders above a model in which its run's config may lie: RUN/checkpoints/step-000010/model."""
_SECTIONS = frozenset({"policy", "data", "rewards"})
"""Sections that tell a run's config from other YAML files of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskSettings:
    """How the question is asked, after run and options were read. `run_config` is the file that was read, or None."""

    policy: str
    protocol: str
    protocol_overrides: dict[str, Any]
    limits: EpisodeLimits
    dtype: Precision
    trust_remote_code: bool
    run_config: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AskJob:
    """What is asked for.

    Attributes:
        policy: a run's folder, a checkpoint, a model's folder or hub id, or `scripted:NAME`.
        index: what is searched; see `retrieval.spec`.
        question: the text; with `questions` also the id of one of them.
        questions: a file in which the question stands with its answers and annotations.
        protocol, dtype: None: the run's, else waymark and float32.
        limits: fields of EpisodeLimits that go before the run's.
        temperature: 0 is greedy.
        engine, engine_settings: what samples the policy.
    """

    policy: str
    index: Any
    question: str
    questions: Path | None = None
    protocol: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 0.0
    seed: int = 0
    engine: str = "transformers"
    engine_settings: Mapping[str, Any] = field(default_factory=dict)
    dtype: Precision | None = None
    trust_remote_code: bool = False

    def settings(self) -> AskSettings:
        """Read the run that the policy lies in, if it does.

        Raises:
            ValueError: a folder without a policy, a run's config that cannot be read, or limits that cannot be.
        """
        if not self.question.strip():
            raise ValueError("the question is empty; put it in quotes behind the index")
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        policy = model_folder(self.policy)
        found = run_config_of(Path(policy)) if Path(policy).is_dir() else None
        run = _read_run(found) if found else {}
        protocol = run.get("protocol") or {}
        fields = {**(run.get("limits") or {}), **self.limits}
        try:
            limits = EpisodeLimits(**fields)
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {in_words(e)}" for e in error.errors())
            raise ValueError(f"limits{f' of {found} with the options given' if found else ''}: {told}") from error
        is_bf16 = (run.get("learner") or {}).get("precision") == "bf16"
        return AskSettings(
            policy=policy,
            protocol=self.protocol or protocol.get("name", "waymark"),
            protocol_overrides={} if self.protocol else dict(protocol.get("overrides") or {}),
            limits=limits,
            dtype=self.dtype or ("bfloat16" if is_bf16 else "float32"),
            trust_remote_code=self.trust_remote_code or bool((run.get("policy") or {}).get("trust_remote_code")),
            run_config=found,
        )

    def spec(self, settings: AskSettings) -> AnySpec:
        """The engine; raises ValueError where it does not have these settings."""
        return engine_spec(
            self.engine,
            self.engine_settings,
            max_batch=1,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
        )


def model_folder(policy: str) -> str:
    """The model of a run (the trained one, else that of its newest checkpoint) or checkpoint; other names stay.

    Raises:
        ValueError: a folder in which no policy lies, or answers that were written down (they search nothing).
    """
    if policy.startswith("predictions:"):
        raise ValueError(
            f"{policy} is a file of answers, which no question can be put to; give a model or {SCRIPTED}NAME"
        )
    folder = Path(policy)
    if policy.startswith(SCRIPTED) or not folder.is_dir():
        return policy
    checkpoints = sorted((folder / "checkpoints").glob("step-*"), reverse=True)
    for place in (folder, folder / "model", *(checkpoint / "model" for checkpoint in checkpoints)):
        if (place / "config.json").is_file():
            return str(place)
    raise ValueError(
        f"{folder} holds no policy: give a model's folder (with config.json), a run's folder with model/ or "
        "checkpoints/, or one of its checkpoints"
    )


def run_config_of(folder: Path) -> Path | None:
    """The config of the run that a folder is, or lies in, or None; ValueError where a run's cannot be read."""
    folder = folder.resolve()
    for place in (folder, *folder.parents[:_LEVELS]):
        path = place / RUN_CONFIG
        try:
            if path.is_file() and _read_run(path).keys() >= _SECTIONS:
                return path
        except ValueError:
            if (place / "metrics.jsonl").exists():
                raise
    return None


def asked_question(job: AskJob) -> Question:
    """The question, with its annotations where a file has them.

    Raises:
        ValueError: the file does not have it (the message names the nearest), or a scripted policy needs annotations.
    """
    if job.questions is None:
        if job.policy in (f"{SCRIPTED}expert", f"{SCRIPTED}noisy", f"{SCRIPTED}closed_book"):
            raise ValueError(
                f"{job.policy} reads what is annotated about a question: name the file with that with --questions"
            )
        return Question(id="ask", text=job.question.strip(), golden_answers=())
    known = read_questions(job.questions)
    wanted = job.question.strip()
    for question in known:
        if wanted in (question.id, question.text.strip()):
            return question
    near = difflib.get_close_matches(wanted, [question.text for question in known], n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"its first is {known[0].text!r}" if known else "it is empty"
    raise ValueError(f"{job.questions} has no question with this text or id {wanted[:80]!r}; {hint}")


def _read_run(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a run's config: {error}") from error
    found = data if isinstance(data, dict) else {}
    for section in ("policy", "protocol", "limits", "learner"):
        if not isinstance(found.get(section) or {}, dict):
            raise ValueError(
                f"{path} cannot be read as a run's config: {section} is {found[section]!r:.60}, no section"
            )
    return found
