"""Several rewards side by side: built from a config, checked before a run, scored apart.

The composition never adds components up. It hands the credit estimator one `Scores` per name, and the weights beside
them, because estimators differ in where they add: before or after normalising. What it adds itself is care: NaN for
outages even where a user's reward forgets it, shapes checked, and a count of what a reward could not score.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from agent.trajectory import Unit
from envs.question import Question
from retrieval.retriever import CorpusElsewhere
from rewards.annotation import QUESTION_FIELDS, MissingAnnotation, find_lacks, is_scorable, missing_fields, question_of
from rewards.registry import load_reward
from rewards.reward import Questions, Reward, RewardContext, StatefulReward
from rewards.score import Scores

_FACTORY = (
    "a reward is named by its factory, which takes (context, **params) and returns an object with `name`, `needs` (a "
    "frozenset of Question fields) and a call (unit, questions) -> Scores"
)


class RewardTerm(BaseModel):
    """One component of the reward, as a config states it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    use: str | None = Field(
        default=None, description="A built-in reward's name or `module:object`; default: the component's own name."
    )
    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="Factor of the component; 0 logs it without training on it."
    )
    params: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of the reward.")
    allow_missing: bool = Field(
        default=False, description="Accept questions without the annotation that the reward needs; they score NaN."
    )


class Composition:
    """Named rewards with their weights.

    `missing[name]` counts the trajectories of which the reward said nothing at all, outages left out: their question
    lacks an annotation, or the reward itself found that it does not apply.
    """

    def __init__(self, rewards: Mapping[str, Reward], terms: Mapping[str, RewardTerm]) -> None:
        self.rewards = dict(rewards)
        self.weights = {name: terms[name].weight for name in self.rewards}
        self.missing = dict.fromkeys(self.rewards, 0)
        self._allow_missing = frozenset(name for name in self.rewards if terms[name].allow_missing)

    def check(self, questions: Iterable[Question]) -> None:
        """Refuse questions that lack what a reward needs; costs one pass, before anything is spent.

        With `allow_missing` a component is refused only where not a single question has what it needs.

        Raises:
            MissingAnnotation: names each reward, the dataset field, how many questions lack it, and the ways out.
        """
        questions = list(questions)
        problems: list[str] = []
        for name, reward in self.rewards.items():
            for lack in find_lacks(questions, reward.needs):
                if name not in self._allow_missing:
                    problems.append(
                        f"reward {name!r} needs the {lack}. Annotate them, leave the reward out, or set "
                        f"rewards.{name}.allow_missing: true to score them NaN."
                    )
                elif lack.count == lack.num_questions:
                    problems.append(f"reward {name!r} needs the {lack}: it would score nothing; leave it out.")
        if problems:
            raise MissingAnnotation("\n".join(problems))

    def score(self, unit: Unit, questions: Questions) -> dict[str, Scores]:
        """Every component's scores of one unit, kept apart by name.

        Raises:
            ValueError: a reward returned scores that do not fit the unit. What a reward raises passes through, with a
                note that names the reward and the unit.
        """
        scores: dict[str, Scores] = {}
        for name, reward in self.rewards.items():
            try:
                raw = reward(unit, questions)
            except Exception as error:
                error.add_note(f"while reward {name!r} scored unit {unit.id!r}")
                raise
            scores[name] = _without_outages(name, raw, unit)
            self.missing[name] += self._count_missing(reward, scores[name], unit, questions)
        return scores

    @property
    def is_stateful(self) -> bool:
        """True if a reward keeps a state: what it says then depends on what it has scored before."""
        return any(isinstance(reward, StatefulReward) for reward in self.rewards.values())

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the state of each reward that has one, as JSON values."""
        stateful = {name: r.state_dict() for name, r in self.rewards.items() if isinstance(r, StatefulReward)}
        return {"missing": dict(self.missing), "rewards": stateful}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned.

        Raises:
            ValueError: the state is of other rewards.
        """
        stateful = {name: r for name, r in self.rewards.items() if isinstance(r, StatefulReward)}
        if set(state["missing"]) != set(self.rewards) or set(state["rewards"]) != set(stateful):
            raise ValueError(
                f"the checkpoint holds the rewards {sorted(state['missing'])}, of them with state "
                f"{sorted(state['rewards'])}; this config has {sorted(self.rewards)}, with state {sorted(stateful)}. "
                "Resume with the config that the run was started with"
            )
        self.missing = {name: int(state["missing"][name]) for name in self.rewards}
        for name, reward in stateful.items():
            reward.load_state_dict(state["rewards"][name])

    @staticmethod
    def _count_missing(reward: Reward, scores: Scores, unit: Unit, questions: Questions) -> int:
        count = 0
        for trajectory, turns, outcome in zip(unit.trajectories, scores.turn, scores.outcome, strict=True):
            if not is_scorable(trajectory) or not np.isnan(outcome) or not np.isnan(turns).all():
                continue
            if len(turns) or missing_fields(question_of(trajectory, questions), reward.needs):
                count += 1
        return count


def build_rewards(terms: Mapping[str, RewardTerm], context: RewardContext) -> Composition:
    """Build every component of a config's `rewards` section.

    Raises:
        ValueError: no components, an unknown name, or parameters that the reward does not take.
    """
    if not terms:
        raise ValueError("the config names no rewards; give at least one, for example rewards: {exact_match: {}}")
    return Composition({name: _build(name, term, context) for name, term in terms.items()}, terms)


def _build(name: str, term: RewardTerm, context: RewardContext) -> Reward:
    reference = term.use or name
    factory = load_reward(reference)
    if not callable(factory):
        raise ValueError(f"rewards.{name}: {reference} is a {type(factory).__name__}; {_FACTORY}")
    signature = inspect.signature(factory)
    try:
        signature.bind(context, **term.params)
    except TypeError as error:
        takes = list(signature.parameters)[1:]
        raise ValueError(
            f"rewards.{name}.params: {error}; {reference} takes {', '.join(takes) or 'no parameters'}"
        ) from None
    try:
        reward = factory(context, **term.params)
    except CorpusElsewhere as error:
        raise CorpusElsewhere(f"rewards.{name} reads the whole corpus. {error}") from error
    if not callable(reward) or not isinstance(getattr(reward, "needs", None), frozenset | set):
        raise ValueError(f"rewards.{name}: {reference} made a {type(reward).__name__}, which is no reward; {_FACTORY}")
    unknown = sorted(reward.needs - QUESTION_FIELDS)
    if unknown:
        raise ValueError(f"rewards.{name}: {reference} needs {unknown}; a Question has {sorted(QUESTION_FIELDS)}")
    return reward


def _without_outages(name: str, scores: Scores, unit: Unit) -> Scores:
    """The same scores, checked against the unit's shape, with NaN for episodes that are not the policy's fault."""
    if not isinstance(scores, Scores):
        raise ValueError(f"reward {name!r} returned a {type(scores).__name__}; it has to return Scores")
    shape = [len(turns) for turns in scores.turn]
    wanted = [trajectory.num_turns for trajectory in unit.trajectories]
    if shape != wanted:
        raise ValueError(f"reward {name!r} scored turns {shape} of unit {unit.id!r}, whose trajectories have {wanted}")
    lost = np.array([not is_scorable(trajectory) for trajectory in unit.trajectories], dtype=bool)
    if not lost.any():
        return scores
    return Scores(
        turn=tuple(
            np.full_like(turns, np.nan) if gone else turns for turns, gone in zip(scores.turn, lost, strict=True)
        ),
        outcome=np.where(lost, np.nan, scores.outcome),
    )
