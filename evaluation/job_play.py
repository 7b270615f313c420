"""The episodes of an evaluation job, condition after condition, through one door that writes them down.

First the evaluation itself, then the controls, then what was asked for beside: changed queries, shares of noise, other
wordings. Every condition's episodes are stored as they end, so whatever part a kill interrupts goes on where it was.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory
from envs.actor import Actor, EngineActor, ScriptedActor
from envs.episode import EpisodeSpec
from envs.perturbation import PERTURBATIONS
from envs.question import Question
from envs.units import is_lost
from evaluation.conditions import MAIN, ConditionPools, TimedActor
from evaluation.consistency import Consistency, evaluate_consistency
from evaluation.controls import CONTROLS, check_controls
from evaluation.evaluated_policy import EvaluatedPolicy
from evaluation.job_settings import EvaluationJob
from evaluation.metrics import Evaluation, evaluate_trajectories
from evaluation.outages import play_all, validity
from evaluation.pinned_controls import PINNED_CONTROLS, Found, PinnedControl
from evaluation.run import evaluation_specs
from evaluation.stored_episodes import StoredEpisodes
from evaluation.studies import knowledge_boundary, noise_name, noise_row, outcomes, perturbed_specs, robustness
from retrieval.retriever import CorpusElsewhere, OpenRetriever, RetrievalError
from rewards.answer import exact_match, f1

Progress = Callable[[str, int, int], None]
"""Called as `(stage, done, total)`."""


@dataclass(kw_only=True)
class Played:
    """What a job's episodes came to.

    Attributes:
        evaluation, trajectories: of the evaluation itself, in the order of the questions.
        controls: summary of each control; one that needs what no question has says so in `needs`.
        figures: of the studies beside it: `boundary_...`, `robustness`, `noise_curve`.
        consistency: None where it was not asked for.
        sampling_s: seconds that episodes waited for the policy, by id, as far as they were played in this process.
        resumed, corrupt: episodes of the evaluation that were stored already, and records that could not be read.
        warnings: what a reader of the figures should know.
    """

    evaluation: Evaluation
    trajectories: list[Trajectory]
    controls: dict[str, dict[str, Any]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    consistency: Consistency | None = None
    sampling_s: dict[str, float] = field(default_factory=dict)
    resumed: int = 0
    corrupt: int = 0
    warnings: list[str] = field(default_factory=list)


def controls_of(job: EvaluationJob, index: OpenRetriever) -> tuple[list[str], list[str]]:
    """The controls that a job runs over this retriever, and warnings about those that it leaves out.

    Raises:
        CorpusElsewhere: a control reads a corpus that is on a server, and none may be left out.
    """
    if not job.controls or job.is_predictions:
        return [], []
    names = list(CONTROLS)
    try:
        check_controls(index, names)
    except CorpusElsewhere as error:
        if not job.skip_impossible_controls:
            raise
        names = [name for name in names if not CONTROLS[name].reads_corpus]
        return [*names, *PINNED_CONTROLS], [str(error)]
    return [*names, *PINNED_CONTROLS], []


class JobPlay:
    """Plays a job. Use from one event loop."""

    def __init__(
        self,
        job: EvaluationJob,
        *,
        protocol: AgentProtocol,
        questions: Sequence[Question],
        index: OpenRetriever,
        policy: EvaluatedPolicy,
        controls: Sequence[str],
        progress: Progress,
    ) -> None:
        self._job = job
        self._protocol = protocol
        self._questions = list(questions)
        self._by_id = {question.id: question for question in questions}
        self._index = index
        self._policy = policy
        self._controls = list(controls)
        self._progress = progress
        self._timed: TimedActor | None = None

    async def play(self) -> Played:
        """Everything that the job asks for."""
        limits_of = {
            name: control.limits_of(self._job.limits, self._questions) for name, control in _pinned(self._controls)
        }
        door: Any
        if self._job.ray_address is None:
            self._timed = TimedActor(_actor(self._policy, self._job.temperature))
            door = ConditionPools(
                actor=self._timed,
                protocol=self._protocol,
                tokenizer=self._policy.tokenizer,
                index=self._index,
                limits=self._job.limits,
                limits_of=limits_of,
                seed=self._job.seed,
                max_concurrent=self._job.max_batch,
            )
        else:
            from evaluation.ray_shards import RayShards  # imports ray, which an evaluation in one process does without

            door = await RayShards.open(self._job, self._policy, limits_of)
        try:
            with (
                StoredEpisodes(door, self._job.out / "trajectories", describe=self._described) as own,
                StoredEpisodes(door, self._job.out / "conditions", describe=self._described) as beside,
            ):
                played = await self._main(own)
                await self._beside(beside, played)
                own.keep([trajectory for trajectory in played.trajectories if is_lost(trajectory)])  # asked no more
        finally:
            await door.close()
            if self._policy.engine is not None:
                await self._policy.engine.close()
        played.sampling_s = {
            id_: seconds
            for id_, beside_it in own.beside.items()
            if isinstance(seconds := beside_it.get("sampling_s"), (int, float))
        } | (self._timed.seconds if self._timed else {})
        return played

    async def _main(self, own: StoredEpisodes) -> Played:
        job = self._job
        specs = self._specs(MAIN, noise=job.noise)
        trajectories = await self._ask(own, "evaluating", specs)
        evaluation = self._scored(trajectories)
        played = Played(
            evaluation=evaluation, trajectories=trajectories, resumed=own.num_stored, corrupt=own.num_corrupt
        )
        if own.num_corrupt:
            played.warnings.append(f"{own.num_corrupt} stored trajectories could not be read and were played again")
        return played

    async def _beside(self, beside: StoredEpisodes, played: Played) -> None:
        job = self._job
        for name in self._controls:
            played.controls[name], trajectories = await self._control(beside, name, played)
            if name == "closed_book":
                played.figures |= knowledge_boundary(played.trajectories, trajectories, self._by_id)
            del trajectories  # of one condition at a time: those of 100,000 questions are gigabytes
        if job.robustness:
            changed = {}
            for name in PERTURBATIONS:
                specs = perturbed_specs(self._questions, name, samples=job.samples, seed=job.seed)
                specs = [replace(spec, noise=job.noise) for spec in specs]
                changed[name] = outcomes(await self._ask(beside, f"one word: {name}", specs), self._by_id)
            before = outcomes(played.trajectories, self._by_id)
            played.figures["robustness"] = robustness(before, changed, seed=job.seed)
        if job.noise_curve:
            rows = []
            for share in sorted({job.noise, *job.noise_curve}):
                trajectories = played.trajectories
                if share != job.noise:
                    name = noise_name(share)
                    trajectories = await self._ask(beside, f"noise {share:g}", self._specs(name, noise=share))
                citations = self._protocol.citations
                rows.append(noise_row(share, trajectories, self._by_id, citations=citations, seed=job.seed))
            played.figures["noise_curve"] = rows
        if job.consistency:
            played.consistency = await self._consistency(beside)

    async def _control(
        self, beside: StoredEpisodes, name: str, played: Played
    ) -> tuple[dict[str, Any], list[Trajectory]]:
        specs = self._specs(name)
        missing = 0
        if name in PINNED_CONTROLS:
            control = PINNED_CONTROLS[name]
            try:
                pinned = await self._pinned(control)
            except RetrievalError as error:
                played.warnings.append(
                    f"the control {name} is missing, because its searches were not answered: {error}"
                )
                return {"n": 0, "not_annotated": 0, "needs": "a retriever that answers"}, []
            found: dict[str, Found | None] = {q.id: hits for q, hits in zip(self._questions, pinned, strict=True)}
            missing = sum(hits is None for hits in pinned)
            if missing == len(self._questions):
                return {"n": 0, "not_annotated": missing, "needs": control.needs}, []
            specs = [replace(s, pinned=found[s.question.id]) for s in specs if found[s.question.id] is not None]
        trajectories = await self._ask(beside, name, specs)
        summary = self._scored(trajectories).summary
        if told := validity(summary)["invalid_because"]:
            played.warnings.append(f"the control {name} is invalid: {told}")
        return {**summary, "not_annotated": missing} if name in PINNED_CONTROLS else summary, trajectories

    async def _pinned(self, control: PinnedControl) -> list[Found | None]:
        """What a control's searches find; an outage is asked again, as an episode's is."""
        for attempt in range(self._job.outage_retries):
            with suppress(RetrievalError):
                return await asyncio.to_thread(control.pinned, self._index, self._questions, self._job.limits.top_k)
            await asyncio.sleep(self._job.outage_pause_s * 2**attempt)
        return await asyncio.to_thread(control.pinned, self._index, self._questions, self._job.limits.top_k)

    async def _consistency(self, beside: StoredEpisodes) -> Consistency:
        job = self._job
        asked = [question for question in self._questions if question.paraphrases]
        total = sum(2 * min(job.wordings, 1 + len(question.paraphrases)) - 1 for question in asked)
        count = _Counter("consistency", total, self._progress)
        return await evaluate_consistency(
            self._questions, beside, wordings=job.wordings, seed=job.seed, noise=job.noise, on_finish=count
        )

    async def _ask(self, episodes: StoredEpisodes, stage: str, specs: Sequence[EpisodeSpec]) -> list[Trajectory]:
        job = self._job
        count = _Counter(stage, len(specs), self._progress, done=episodes.count(specs))
        return await play_all(episodes, specs, on_finish=count, retries=job.outage_retries, pause_s=job.outage_pause_s)

    def _specs(self, name: str, *, noise: float = 0.0) -> list[EpisodeSpec]:
        return evaluation_specs(self._questions, samples=self._job.samples, seed=self._job.seed, noise=noise, name=name)

    def _scored(self, trajectories: Sequence[Trajectory]) -> Evaluation:
        return evaluate_trajectories(trajectories, self._by_id, citations=self._protocol.citations, seed=self._job.seed)

    def _described(self, trajectory: Trajectory) -> Mapping[str, Any]:
        golds = self._by_id[trajectory.question_id].golden_answers
        figures = {"em": exact_match(trajectory.final_answer, golds), "f1": f1(trajectory.final_answer, golds)}
        seconds = self._timed.seconds.get(trajectory.id) if self._timed else None
        return figures if seconds is None else {**figures, "sampling_s": seconds}


class _Counter:
    """Counts what has ended, and says so; stored episodes are there from the start."""

    def __init__(self, stage: str, total: int, progress: Progress, *, done: int = 0) -> None:
        self._stage, self._total, self._progress = stage, total, progress
        self._stored = self._done = done
        progress(stage, done, total)

    def __call__(self, trajectory: Trajectory) -> None:
        del trajectory
        if self._stored:
            self._stored -= 1  # it was counted before it was told
            return
        self._done += 1
        self._progress(self._stage, self._done, self._total)


def _pinned(names: Sequence[str]) -> list[tuple[str, Any]]:
    return [(name, PINNED_CONTROLS[name]) for name in names if name in PINNED_CONTROLS]


def _actor(policy: EvaluatedPolicy, temperature: float) -> Actor:
    if policy.engine is not None:
        return EngineActor(policy.engine, temperature=temperature)
    assert policy.scripted is not None
    return ScriptedActor(policy.scripted, policy.tokenizer)
