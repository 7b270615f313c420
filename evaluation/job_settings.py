"""What an evaluation is asked for, checked before anything is loaded, and the folder that it writes."""

import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from agent.engines.opening import AnySpec, Precision
from envs.search_env import EpisodeLimits
from evaluation.consistency import DEFAULT_WORDINGS
from evaluation.evaluated_policy import SCRIPTED, engine_spec
from retrieval.spec import retriever_spec

WRITTEN = frozenset({"evaluation.json", "trajectories", "report.html", "report.json"})
"""What an evaluation leaves in its folder."""

READS_GOLD: frozenset[str] = frozenset({f"{SCRIPTED}expert", f"{SCRIPTED}noisy"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationJob:
    """What is evaluated, on what, and how.

    Attributes:
        policy: a Hugging Face folder or id, or `scripted:NAME` (a name of `envs.policies`, or `module:object`).
        index: what is searched: an index folder, `http://host:port` of a server, a mapping or a file of one; see
            `retrieval.spec`.
        corpus_index: an index folder over the same corpus, for what reads passages where `index` is a server.
        questions: file of questions; the first `limit` of them are asked (None: all), `samples` times each.
        out: folder to write; refused where it holds an evaluation, unless `overwrite`.
        protocol: name of the protocol, or `module:object`.
        limits: of one episode.
        controls: whether the controls are run too.
        consistency: whether each question is asked in its other wordings too, in `wordings` of them at most.
        noise: share of the policy's searches that find nothing which helps (`envs.noise`); the controls have none.
        temperature: 0 is greedy.
        answers_from: questions whose answers `scripted:closed_book` guesses from; None: the questions asked.
        max_batch: episodes in flight, and rows that the engine `transformers` decodes together.
        engine: what samples the policy, `engine_settings` its settings; of a served model (`openai`) the policy's
            folder or id gives the tokenizer alone.
    """

    policy: str
    index: Any
    questions: Path
    out: Path
    corpus_index: Path | None = None
    protocol: str = "waymark"
    question_format: str | None = None
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)
    controls: bool = False
    consistency: bool = False
    wordings: int = DEFAULT_WORDINGS
    noise: float = 0.0
    limit: int | None = None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    answers_from: Path | None = None
    max_batch: int = 64
    engine: str = "transformers"
    engine_settings: dict[str, Any] = field(default_factory=dict)
    dtype: Precision = "float32"
    trust_remote_code: bool = False
    overwrite: bool = False

    def spec(self) -> AnySpec:
        """The engine with its settings; raises ValueError where it does not have them."""
        return engine_spec(
            self.engine,
            self.engine_settings,
            max_batch=self.max_batch,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
        )


def check_job(job: EvaluationJob) -> None:
    """Raises ValueError where something asked for cannot be; nothing has been loaded."""
    retriever_spec(job.index)
    for name, value in (("limit", job.limit), ("samples", job.samples), ("max_batch", job.max_batch)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if job.consistency and job.wordings < 2:
        raise ValueError(f"wordings is {job.wordings}; consistency compares at least 2")
    if not 0.0 <= job.noise <= 1.0:
        raise ValueError(f"noise is {job.noise}; it is a share of the searches and must be in [0, 1]")
    if job.temperature < 0:
        raise ValueError(f"temperature is {job.temperature}; it must be 0 (greedy) or more")
    if job.temperature == 0 and job.samples > 1 and not job.policy.startswith(SCRIPTED):
        raise ValueError(
            f"samples is {job.samples} at temperature 0, where every sample is the same; raise the temperature"
        )
    if job.dtype not in get_args(Precision):
        raise ValueError(f"dtype is {job.dtype!r}; allowed: {', '.join(get_args(Precision))}")
    job.spec()
    if job.out.exists() and not job.out.is_dir():
        raise ValueError(f"{job.out} is a file; name a folder to write")
    if (job.out / "evaluation.json").exists():
        if not job.overwrite:
            raise ValueError(f"{job.out} already holds an evaluation; give another --out, or --overwrite to replace it")
    elif others := sorted({path.name for path in job.out.glob("*")} - WRITTEN):
        # A run's folder has trajectories too, and they would be replaced.
        raise ValueError(f"{job.out} holds other files ({', '.join(others[:3])}); give --out a folder of its own")


def prepare_folder(job: EvaluationJob) -> None:
    """Make the folder, and take an earlier evaluation out of it."""
    job.out.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        (job.out / "evaluation.json").unlink()
    if (job.out / "trajectories").is_dir():
        shutil.rmtree(job.out / "trajectories")
