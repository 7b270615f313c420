"""The only door to rollouts: `next_units(step, rank, world_size)`.

Which questions a step asks, and with which seeds, follows from (seed, step) alone, so a resumed run asks what the
killed one would have asked, and nothing about data order has to be saved. This is the one-process form: many episodes
on one event loop against an engine in the process.
"""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from agent.engine import Engine
from agent.protocol import AgentProtocol
from agent.trajectory import Trajectory, Unit
from envs.actor import EngineActor, stable_seed
from envs.episode import EpisodeSpec, Search, run_episodes
from envs.question import Question
from envs.search_env import EpisodeLimits
from train.config import RolloutConfig


class QuestionOrder:
    """Questions of each step: every epoch is a fresh seeded permutation, and steps cut it into equal pieces."""

    def __init__(self, questions: Sequence[Question], *, questions_per_step: int, seed: int) -> None:
        if not questions:
            raise ValueError("there is no question to train on")
        self._questions = questions
        self._per_step = questions_per_step
        self._seed = seed

    def of_step(self, step: int) -> list[Question]:
        """The questions of a step, counted from 0."""
        n = len(self._questions)
        positions = range(step * self._per_step, (step + 1) * self._per_step)
        epochs = {e: np.random.default_rng([self._seed, e]).permutation(n) for e in {p // n for p in positions}}
        return [self._questions[int(epochs[p // n][p % n])] for p in positions]


class LocalRollouts:
    """Samples groups in this process. Trajectory ids follow from (step, question, sample) alone."""

    def __init__(
        self,
        *,
        order: QuestionOrder,
        engine: Engine,
        tokenizer: PreTrainedTokenizerBase,
        protocol: AgentProtocol,
        limits: EpisodeLimits,
        search: Search,
        config: RolloutConfig,
        seed: int,
    ) -> None:
        self._order = order
        self._engine = engine
        self._tokenizer = tokenizer
        self._protocol = protocol
        self._limits = limits
        self._search = search
        self._config = config
        self._seed = seed

    def specs(self, step: int, rank: int = 0, world_size: int = 1) -> list[EpisodeSpec]:
        """The episodes of a step that belong to a rank; units are dealt whole."""
        specs: list[EpisodeSpec] = []
        for i, question in enumerate(self._order.of_step(step)):
            if i % world_size != rank:
                continue
            unit_id = f"step{step:06d}-unit{i:03d}"
            specs.extend(
                EpisodeSpec(
                    id=f"{unit_id}-sample{sample:02d}",
                    question=question,
                    view=0,
                    unit_id=unit_id,
                    group_id=unit_id,
                    sample=sample,
                    seed=stable_seed(self._seed, step, i, sample),
                )
                for sample in range(self._config.samples_per_question)
            )
        return specs

    async def next_units(self, step: int, rank: int = 0, world_size: int = 1) -> list[Unit]:
        """Run a step's episodes and return its units, in order."""
        specs = self.specs(step, rank, world_size)
        trajectories = await run_episodes(
            specs,
            actor=EngineActor(self._engine, temperature=self._config.temperature),
            search=self._search,
            protocol=self._protocol,
            tokenizer=self._tokenizer,
            limits=self._limits,
            max_concurrent=self._config.max_concurrent_episodes,
        )
        return units_of(trajectories)


def units_of(trajectories: Sequence[Trajectory]) -> list[Unit]:
    """Gather trajectories by unit id, in the order in which the units first appear."""
    by_unit: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        by_unit.setdefault(trajectory.unit_id, []).append(trajectory)
    return [Unit(kind="group", trajectories=tuple(members)) for members in by_unit.values()]
