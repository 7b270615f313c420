"""A pool of scripted episodes in which units are sampled, and scorers that a test writes down."""

from collections.abc import Callable, Sequence

import numpy as np

from agent.trajectory import Trajectory, Unit
from envs.actor import EngineActor
from envs.episode import EpisodeSpec, Search
from envs.episode_pool import EpisodePool
from envs.search_env import EpisodeLimits
from envs.units import UnitSampler, UnitTask, play_round
from tests.envs.fake_engine import TOKENIZER, WAYMARK, FakeEngine, found
from tests.envs.small_world import BRIDGE

LIMITS = EpisodeLimits(max_trajectory_tokens=6000, top_k=2, max_turns=4)
TASK = UnitTask(id="u0", question=BRIDGE, key=(1, 2, 3))
Say = Callable[[str, int], str | Exception]


class Watched:
    """Episodes that are played, and what was submitted in which round."""

    def __init__(self, say: Say, search: Search = found) -> None:
        self.engine = FakeEngine(say)
        self.queries: list[str] = []
        self.rounds: list[list[EpisodeSpec]] = []

        async def watched(query: str, k: int):
            self.queries.append(query)
            return await search(query, k)

        self.pool = EpisodePool(
            actor=EngineActor(self.engine), search=watched, protocol=WAYMARK, tokenizer=TOKENIZER, limits=LIMITS
        )

    @property
    def specs(self) -> list[EpisodeSpec]:
        return [spec for specs in self.rounds for spec in specs]

    def submit(self, specs: Sequence[EpisodeSpec]):
        self.rounds.append(list(specs))
        return self.pool.submit(specs)


class Scored:
    """Scores trajectories as the test says; NaN by default."""

    def __init__(self, advantage: Callable[[Trajectory], float] = lambda t: np.nan, turns=None) -> None:
        self._advantage = advantage
        self._turns = turns or (lambda t: [np.nan] * t.num_turns)

    async def advantages(self, unit: Unit) -> np.ndarray:
        return np.array([self._advantage(t) for t in unit.trajectories])

    async def turn_scores(self, unit: Unit, component: str) -> list[np.ndarray]:
        assert component == "query_quality"
        return [np.array(self._turns(t), dtype=float) for t in unit.trajectories]


async def sample(sampler: UnitSampler, episodes: Watched, task: UnitTask = TASK) -> Unit:
    opened = await play_round(episodes, sampler.opening(task))
    return await sampler.complete(task, opened, episodes)


def by_id(unit: Unit) -> dict[str, Trajectory]:
    return {t.id: t for t in unit.trajectories}


def shares_its_prefix(unit: Unit) -> None:
    """See that every branch has its parent's turns, equal to the bit, up to its fork."""
    known = by_id(unit)
    for t in unit.trajectories:
        if t.parent_id is not None:
            assert t.turns[: t.fork_turn] == known[t.parent_id].turns[: t.fork_turn]
            assert all(turn.observation_ids for turn in t.turns[: t.fork_turn])
