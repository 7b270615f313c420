"""Where honest and cheating policies are played: real episodes on a fictional world, each question in several wordings.

Every policy answers the same questions, as units of kind `paraphrase_set`, because some rewards compare wordings; the
others score each trajectory of such a unit as they would in a plain group.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from agent.protocol import AgentProtocol
from agent.trajectory import Unit
from envs.actor import Actor, ScriptedActor, ScriptedPolicy
from envs.datasets import read_questions
from envs.episode_limits import EpisodeLimits
from envs.episode_pool import run_episodes
from envs.policies.demonstrations import direct_search
from envs.policies.registry import noisy
from envs.question import Question
from envs.units import ParaphraseSetSampler, UnitTask
from envs.world import WorldSettings, make_world
from retrieval.corpus import read_corpus
from retrieval.index import Index, build_index, open_index
from rewards.combine import GATED_PRODUCT, trajectory_totals
from rewards.compose import Composition
from rewards.gates import is_correct
from rewards.reward import RewardContext
from rewards.score import Scores

HONEST_RATES: dict[str, float] = {
    "wrong_query": 0.2,
    "repeated_query": 0.1,
    "early_answer": 0.02,
    "endless_search": 0.1,
    "wrong_answer": 0.15,
    "skipped_citation": 0.05,
    "wrong_citation": 0.05,
    "malformed_tag": 0.01,
    "empty_thought": 0.05,
    "wrong_statement": 0.15,
}
"""How often the honest expert errs: about what a cold start leaves for RL to repair."""

LIMITS = EpisodeLimits(
    max_turns=8,
    top_k=3,
    max_new_tokens_per_turn=4000,
    max_observation_tokens=2000,
    max_trajectory_tokens=32_000,
)
"""Room enough for an answer that copies every passage, in tokens of one byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """Episodes of one policy: units, and of each trajectory in their order its turns and whether it was right.

    num_turns, is_correct: `[num_trajectories]`.
    """

    units: tuple[Unit, ...]
    num_turns: NDArray[np.int64]
    is_correct: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Questions, what is searched, and how episodes run. Close the index when done."""

    questions: tuple[Question, ...]
    index: Index
    context: RewardContext
    protocol: AgentProtocol
    tokenizer: PreTrainedTokenizerBase
    limits: EpisodeLimits = LIMITS
    wordings: int = 3

    def honest(self) -> ScriptedPolicy:
        """The expert with faults at `HONEST_RATES`."""
        return noisy(self.protocol, rates=HONEST_RATES, thought="full")

    def play(self, policy: ScriptedPolicy, *, samples: int = 1) -> Played:
        """Each question in `wordings` wordings, `samples` times each. Equal policies give equal episodes."""
        return asyncio.run(self.play_actor(ScriptedActor(policy, self.tokenizer), samples=samples))

    async def play_actor(self, actor: Actor, *, samples: int) -> Played:
        """The same, played by anybody: an engine with a trained policy, for example."""
        sampler = ParaphraseSetSampler(wordings=self.wordings, samples=samples)
        openings = [
            sampler.opening(UnitTask(id=question.id, question=question, key=(question.id,)))
            for question in self.questions
        ]
        played = await run_episodes(
            [spec for specs in openings for spec in specs],
            actor=actor,
            search=direct_search(self.index),
            protocol=self.protocol,
            tokenizer=self.tokenizer,
            limits=self.limits,
        )
        episodes = iter(played)
        by_id = {question.id: question for question in self.questions}
        return Played(
            units=tuple(
                Unit(kind="paraphrase_set", trajectories=tuple(next(episodes) for _ in specs)) for specs in openings
            ),
            num_turns=np.array([t.num_turns for t in played]),
            is_correct=np.array([is_correct(t, by_id[t.question_id]) == 1.0 for t in played]),
        )

    def with_limits(self, limits: EpisodeLimits) -> "Arena":
        """The same arena under other limits; both share the index."""
        return replace(self, limits=limits)

    def scored(self, composition: Composition, played: Played) -> list[dict[str, Scores]]:
        """What credit gets of each unit, by component."""
        questions = {question.id: question for question in self.questions}
        return [composition.score(unit, questions) for unit in played.units]

    def earned(self, composition: Composition, played: Played) -> dict[str, NDArray[np.float64]]:
        """What each component pays in all: outcome plus turns, behind gates, without weights: `[num_trajectories]`."""
        scored = self.scored(composition, played)
        return {name: np.concatenate([trajectory_totals(scores[name]) for scores in scored]) for name in scored[0]}

    def earned_together(self, composition: Composition, played: Played) -> NDArray[np.float64]:
        """The weighted sum of a composition, or its product; what does not apply adds nothing: `[num_trajectories]`."""
        earned = self.earned(composition, played)
        if composition.rule:
            return np.nan_to_num(earned[GATED_PRODUCT])
        weights = composition.weights
        return np.sum([weights[name] * np.nan_to_num(values) for name, values in earned.items()], axis=0)


def open_arena(
    folder: Path,
    *,
    protocol: AgentProtocol,
    tokenizer: PreTrainedTokenizerBase,
    num_questions: int,
    world: Mapping[str, Any] | None = None,
    wordings: int = 3,
    limits: EpisodeLimits = LIMITS,
) -> Arena:
    """Open a world and its index in a folder (that of a testbed, for example), made first where `world` is given.

    `world` are fields of `WorldSettings` over the preset tiny. The questions are the first ones of the test split.
    """
    if world is not None:
        make_world(WorldSettings.preset("tiny", **world), folder / "world")
        build_index(folder / "world" / "corpus.jsonl", folder / "index")
    passages = {passage.id: passage for passage in read_corpus(folder / "world" / "corpus.jsonl")}
    questions: Sequence[Question] = read_questions(folder / "world" / "questions.test.jsonl")
    return Arena(
        questions=tuple(questions[:num_questions]),
        index=open_index(folder / "index"),
        context=RewardContext(passage=passages.__getitem__, corpus=lambda: list(passages.values())),
        protocol=protocol,
        tokenizer=tokenizer,
        wordings=wordings,
        limits=limits,
    )
