"""What an evaluation is asked for, checked before anything is loaded, and the folder that it writes.

A folder whose evaluation was killed holds `evaluation.state.json` and no `evaluation.json`: the same evaluation goes on
there, from the trajectories that are stored; another one is refused.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from agent.engines.opening import AnySpec, Precision
from envs.search_env import EpisodeLimits
from evaluation.consistency import DEFAULT_WORDINGS
from evaluation.evaluated_policy import SCRIPTED, engine_spec
from evaluation.predictions import PREFIX
from retrieval.spec import retriever_spec

STATE = "evaluation.state.json"
_PATH_CHARS = 4096
WRITTEN = frozenset(
    {
        "evaluation.json",
        STATE,
        "trajectories",
        "conditions",
        "report.html",
        "report.json",
        "report.csv",
        "evaluation.json.new",
        "evaluation.state.json.new",
    }
)
"""What an evaluation leaves in its folder."""

READS_GOLD: frozenset[str] = frozenset({f"{SCRIPTED}expert", f"{SCRIPTED}noisy"})

_MACHINE = ("packages", "python", "hardware", "commit")
"""Entries of the comparability block that may change between a kill and going on."""

_REQUEST = "request"
_HOW = frozenset(
    {
        *("out", "overwrite", "engine_settings", "max_batch", "dtype", "trust_remote_code", "skip_impossible_controls"),
        *("outage_retries", "outage_pause_s", "ray_address", "ray_workers", "ray_engines", "ray_engine_gpus"),
    }
)
"""Fields of a job that say how and where it is played, not what is asked; the engine's stand together, as `engine`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationJob:
    """What is evaluated, on what, and how.

    Attributes:
        policy: a Hugging Face folder or id, `scripted:NAME` (a name of `envs.policies`, or `module:object`), or
            `predictions:FILE` (answers of another system).
        index: what is searched: an index folder, `http://host:port` of a server, a mapping or a file of one; see
            `retrieval.spec`.
        corpus_index: an index folder over the same corpus, for what reads passages where `index` is a server.
        questions: file of questions, or a data set of the hub; those that fit `where`, of them the first `limit`, of
            them a stratified sample of `budget` (None: all), `samples` times each.
        out: folder to write; refused where it holds an evaluation, unless `overwrite`.
        protocol: name of the protocol, or `module:object`.
        preset: name of the published setting that protocol, limits and decoding are those of; see `evaluation.presets`.
        limits: of one episode.
        controls: whether the controls are run too; with `skip_impossible_controls` without those that need a corpus on
            this machine where it is on a server, otherwise that is an error.
        consistency: whether each question is asked in its other wordings too, in `wordings` of them at most.
        robustness: whether the questions are asked again with the first query changed in one word.
        noise: share of the policy's searches that find nothing which helps (`envs.noise`); the controls have none.
        noise_curve: shares of noise under which the questions are asked again.
        temperature: 0 is greedy.
        answers_from: questions whose answers `scripted:closed_book` guesses from; None: the questions asked.
        max_batch: episodes in flight, and rows that the engine `transformers` decodes together.
        engine: what samples the policy, `engine_settings` its settings; of a served model (`openai`) the policy's
            folder or id gives the tokenizer alone.
        outage_retries: how often an episode that an outage ended is asked again, after `outage_pause_s` and twice as
            long each time.
        ray_address: a Ray cluster that episodes are sharded over (`local`: a Ray of this machine); None: this process.
            `ray_workers` play them, `ray_engines` sample, with so many GPUs each.
    """

    policy: str
    index: Any
    questions: str | Path
    out: Path
    corpus_index: Path | None = None
    protocol: str = "waymark"
    preset: str | None = None
    question_format: str | None = None
    limits: EpisodeLimits = field(default_factory=EpisodeLimits)
    controls: bool = False
    skip_impossible_controls: bool = False
    consistency: bool = False
    wordings: int = DEFAULT_WORDINGS
    robustness: bool = False
    noise: float = 0.0
    noise_curve: tuple[float, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    budget: int | None = None
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
    outage_retries: int = 2
    outage_pause_s: float = 5.0
    ray_address: str | None = None
    ray_workers: int = 2
    ray_engines: int = 1
    ray_engine_gpus: float = 0.0

    def spec(self) -> AnySpec:
        """The engine with its settings; raises ValueError where it does not have them."""
        return engine_spec(
            self.engine,
            self.engine_settings,
            max_batch=self.max_batch,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            in_step=self.ray_address is None,
        )

    @property
    def is_scripted(self) -> bool:
        """True if the policy is a program."""
        return self.policy.startswith(SCRIPTED)

    @property
    def is_predictions(self) -> bool:
        """True if the policy is a file of answers."""
        return self.policy.startswith(PREFIX)


def check_job(job: EvaluationJob) -> None:
    """Raises ValueError where something asked for cannot be; nothing has been loaded."""
    retriever_spec(job.index)
    at_least_one = (
        ("limit", job.limit),
        ("budget", job.budget),
        ("samples", job.samples),
        ("max_batch", job.max_batch),
    )
    for name, value in (*at_least_one, ("ray_workers", job.ray_workers), ("ray_engines", job.ray_engines)):
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
    if job.consistency and job.wordings < 2:
        raise ValueError(f"wordings is {job.wordings}; consistency compares at least 2")
    for share in (job.noise, *job.noise_curve):
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"noise is {share}; it is a share of the searches and must be in [0, 1]")
    if job.outage_retries < 0 or job.outage_pause_s < 0:
        raise ValueError(
            f"outage_retries is {job.outage_retries} and outage_pause_s {job.outage_pause_s}; neither is below 0"
        )
    if job.temperature < 0:
        raise ValueError(f"temperature is {job.temperature}; it must be 0 (greedy) or more")
    if job.temperature == 0 and job.samples > 1 and not job.is_scripted:
        raise ValueError(
            f"samples is {job.samples} at temperature 0, where every sample is the same; raise the temperature"
        )
    if job.dtype not in get_args(Precision):
        raise ValueError(f"dtype is {job.dtype!r}; allowed: {', '.join(get_args(Precision))}")
    _check_predictions(job)
    job.spec()
    if job.out.exists() and not job.out.is_dir():
        raise ValueError(f"{job.out} is a file; name a folder to write")
    if (job.out / "evaluation.json").exists():
        if not job.overwrite:
            raise ValueError(f"{job.out} already holds an evaluation; give another --out, or --overwrite to replace it")
    elif others := sorted({path.name for path in job.out.glob("*")} - WRITTEN):
        # A run's folder has trajectories too, and they would be replaced.
        raise ValueError(f"{job.out} holds other files ({', '.join(others[:3])}); give --out a folder of its own")


def _check_predictions(job: EvaluationJob) -> None:
    if not job.is_predictions:
        return
    asked = {
        "--consistency": job.consistency,
        "--robustness": job.robustness,
        "--noise": job.noise,
        "--noise-curve": job.noise_curve,
        "--samples": job.samples > 1,
        "--ray-address": job.ray_address,
    }
    if wrong := [name for name, value in asked.items() if value]:
        raise ValueError(
            f"{job.policy} are answers that are written down: nothing can be asked again, so no {wrong[0]}"
        )


def request_of(job: EvaluationJob) -> dict[str, Any]:
    """What a job asks for, as JSON types: two jobs with one request would write the same folder, inputs unchanged."""
    asked = {field.name: getattr(job, field.name) for field in fields(job) if field.name not in _HOW}
    asked["engine"] = None if job.is_scripted or job.is_predictions else job.spec().model_dump(mode="json")
    asked["limits"] = job.limits.model_dump(mode="json")
    for name in ("policy", "index", "corpus_index", "questions", "answers_from"):
        given = asked[name]
        is_here = (
            isinstance(given, (str, Path)) and str(given) and len(str(given)) < _PATH_CHARS and Path(given).exists()
        )
        asked[name] = str(Path(given).resolve()) if is_here else None if given is None else str(given)
    result: dict[str, Any] = json.loads(json.dumps(asked, default=str))
    return result


def read_request(folder: Path) -> dict[str, Any] | None:
    """The request that an evaluation in a folder answers; None where the folder does not say it."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    request = state.get(_REQUEST) if isinstance(state, dict) else None
    return request if isinstance(request, dict) else None


def _inputs_of(job: EvaluationJob) -> dict[str, str | None]:
    """Hashes of the files that answers come from, which no other entry of the block has."""
    files = {"answers_from": job.answers_from, "predictions": None}
    if job.is_predictions:
        files["predictions"] = Path(job.policy.removeprefix(PREFIX))
    return {name: None if path is None else _file_hash(path) for name, path in files.items()}


def _file_hash(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def prepare_folder(job: EvaluationJob, block: Mapping[str, Any]) -> bool:
    """Make the folder, and take an earlier evaluation out of it; True if a killed one of the same kind goes on there.

    `block` is the comparability block: what it says besides the machine must be as it was.

    Raises:
        ValueError: a killed evaluation of another kind is there, and `overwrite` was not asked for.
    """
    job.out.mkdir(parents=True, exist_ok=True)
    state = {name: value for name, value in block.items() if name not in _MACHINE} | {"inputs": _inputs_of(job)}
    path = job.out / STATE
    if path.is_file() and not (job.out / "evaluation.json").exists() and not job.overwrite:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        names = {*before, *state} - {_REQUEST}  # more may be asked for: a control, a study
        different = sorted(name for name in names if before.get(name) != state.get(name))
        if different:
            raise ValueError(
                f"{job.out} holds an interrupted evaluation that differs in {', '.join(different)}: ask for the same "
                "to go on with it, give another --out, or --overwrite to replace it"
            )
        _write_state(path, job, state)
        return True
    for name in ("evaluation.json", STATE):
        with suppress(FileNotFoundError):
            (job.out / name).unlink()
    for name in ("trajectories", "conditions"):
        if (job.out / name).is_dir():
            shutil.rmtree(job.out / name)
    _write_state(path, job, state)
    return False


def _write_state(path: Path, job: EvaluationJob, state: Mapping[str, Any]) -> None:
    unfinished = path.with_name(f"{STATE}.new")
    text = json.dumps({**state, _REQUEST: request_of(job)}, indent=1, sort_keys=True)
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)
